//! The same edits on a tree of 2000 files, brought over by hubferry and by the real rsync: what moves, what is missed, what is left.
//! The table in `docs/directories.md` is what was found; `INSTA_UPDATE=always` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, FileTimes};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Ran, Started, World, bytes, tool};

const FILES: usize = 2000;
/// Files of each kind of edit.
const EACH: usize = 20;
const PAGE: &str = "../../docs/directories.md";
const BEGIN: &str = "<!-- written by the test rsync:: -->\n";
const END: &str = "<!-- end -->\n";

/// A kind of edit: the folder that its files lie in, and what the page calls it.
const KINDS: [(&str, &str); 13] = [
    ("size", "other size"),
    ("bytes", "same size, other bytes"),
    ("hidden", "same size and time, other bytes"),
    ("touched", "touched only"),
    ("mode", "made executable"),
    ("renamed", "renamed"),
    ("copied", "copied to a second name"),
    ("deleted", "deleted"),
    ("new", "new"),
    ("emptied", "emptied"),
    ("links", "symbolic link to another file"),
    ("odd", "unusual names, other size"),
    ("same", "not changed"),
];

/// How they are brought over, as the page heads it; for hubferry what stands behind `sync`, for rsync behind its name.
const WAYS: [(&str, &[&str]); 6] = [
    ("hubferry sync", &[]),
    ("hubferry sync --compare mtime", &["--compare", "mtime"]),
    ("hubferry sync --compare size", &["--compare", "size"]),
    ("rsync -rLtE --delete", &[]),
    ("rsync -rLtE --delete --checksum", &["--checksum"]),
    ("rsync -rLtE --delete --size-only", &["--size-only"]),
];

fn name(kind: &str, number: usize) -> String {
    let odd = ["ü{}", "with space {}", "-dash{}", "{}#1?100%25", "'quote\"{}", "[{}]*", "$HOME {}", "~{}", " {}", "{}…"];
    if kind == "odd" {
        format!("odd/{}", odd[number % odd.len()].replace("{}", &number.to_string()))
    } else {
        format!("{kind}/{number:04}")
    }
}

/// The tree before the edits; every file has a content of its own.
fn build(root: &Path) {
    let mut seed = 0;
    for (kind, _) in KINDS {
        std::fs::create_dir_all(root.join(kind)).unwrap();
        let files = if kind == "same" { FILES - EACH * (KINDS.len() - 2) } else { EACH };
        for number in (0..files).filter(|_| kind != "new") {
            seed += 1;
            let at = root.join(name(kind, number));
            if kind == "links" {
                symlink(format!("../same/{number:04}"), at).unwrap();
                continue;
            }
            std::fs::write(&at, bytes(seed, 200 + usize::try_from(seed).unwrap() % 1500)).unwrap();
            set_time(&at, 1_000_000_000 + seed);
        }
    }
}

fn set_time(at: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 500);
    File::open(at).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn edit(root: &Path) {
    for number in 0..EACH {
        let at = |kind: &str| root.join(name(kind, number));
        let read = |kind: &str| std::fs::read(at(kind)).unwrap();
        let seed = 10_000 + u64::try_from(number).unwrap();
        std::fs::write(at("size"), [read("size"), b"more".to_vec()].concat()).unwrap();
        std::fs::write(at("odd"), [read("odd"), b"more".to_vec()].concat()).unwrap();
        std::fs::write(at("bytes"), bytes(seed, read("bytes").len())).unwrap();
        let time = at("hidden").metadata().unwrap().modified().unwrap();
        std::fs::write(at("hidden"), bytes(seed + 100, read("hidden").len())).unwrap();
        File::open(at("hidden")).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        set_time(&at("touched"), 1_200_000_000);
        std::fs::set_permissions(at("mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(at("renamed"), root.join(format!("renamed/to-{number}"))).unwrap();
        std::fs::copy(at("copied"), root.join(format!("copied/second-{number}"))).unwrap();
        std::fs::remove_file(at("deleted")).unwrap();
        std::fs::write(at("new"), bytes(seed + 200, 700)).unwrap();
        std::fs::write(at("emptied"), b"").unwrap();
        std::fs::remove_file(at("links")).unwrap();
        symlink(format!("../same/{:04}", number + 500), at("links")).unwrap();
    }
    std::fs::create_dir(root.join("empty")).unwrap();
}

/// Of every file, links followed: bytes, time, whether it can be run.
fn look(root: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime, bool)> {
    let mut found = BTreeMap::new();
    for folder in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let data = std::fs::metadata(&file).unwrap();
            let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(path, (std::fs::read(&file).unwrap(), data.modified().unwrap(), data.permissions().mode() & 0o100 != 0));
        }
    }
    found
}

/// Which files one run moved, and which it took over from others of the destination.
struct Told {
    moved: BTreeSet<String>,
    taken: BTreeSet<String>,
}

fn run(world: &World, way: usize, to: &str) -> Told {
    let (head, flags) = WAYS[way];
    if head.starts_with("rsync") {
        let to = format!("{to}/");
        let args = [&["rsync", "-rLtE", "--delete", "--out-format=%i %n"][..], flags, &["source/", &to]].concat();
        return told_by_rsync(&tool(world, &args).ok());
    }
    let to = format!("./{to}");
    let args = [&["sync", "./source", &to][..], flags, &["--progress", "json", "--yes"]].concat();
    // What one way learns of a file is not told to the others.
    let mut command = world.command(&args);
    command.env("XDG_CACHE_HOME", world.home().join(format!("cache-{way}")));
    told_by_us(&Started::new(args.join(" "), command).wait().ok())
}

fn told_by_us(ran: &Ran) -> Told {
    let events: Vec<Value> = ran.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let finished = |moved: bool| {
        let chosen = events.iter().filter(move |event| event["event"] == "finished" && event["moved"] == moved);
        chosen.map(|event| event["path"].as_str().unwrap().to_owned()).collect()
    };
    Told { moved: finished(true), taken: finished(false) }
}

/// `>f` begins the lines of files whose bytes were sent: <https://download.samba.org/pub/rsync/rsync.1> under `--itemize-changes`.
fn told_by_rsync(ran: &Ran) -> Told {
    let moved = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with(">f"))
        .map(|line| unescape(line.split_once(' ').unwrap().1.trim_start_matches("  ")));
    Told { moved: moved.collect(), taken: BTreeSet::new() }
}

/// What it does not print is written as `\#ooo`.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if rest.starts_with(b"\\#") && rest.len() >= 5 {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[2..5]).unwrap(), 8).unwrap());
            rest = &rest[5..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What became of the files of one kind.
fn cell(kind: &str, told: &Told, before: &Path, now: &Path, wanted: &Path) -> String {
    let of =
        |root: &Path| -> BTreeMap<String, _> { look(root).into_iter().filter(|(path, _)| path.starts_with(&format!("{kind}/"))).collect() };
    let (before, now, wanted) = (of(before), of(now), of(wanted));
    let count = |set: &BTreeSet<String>| set.iter().filter(|path| path.starts_with(&format!("{kind}/"))).count();
    let stamped = now.iter().filter(|(path, (_, time, run))| {
        before.get(*path).is_some_and(|(_, t, r)| (t, r) != (time, run)) && !told.moved.contains(*path) && !told.taken.contains(*path)
    });
    let missed = wanted.iter().filter(|(path, (bytes, ..))| now.get(*path).is_none_or(|(there, ..)| there != bytes)).count();
    let parts = [
        (count(&told.moved), "moved"),
        (count(&told.taken), "taken over"),
        (stamped.count(), "stamped"),
        (before.keys().filter(|path| !now.contains_key(*path)).count(), "deleted"),
        (missed, "**missed**"),
    ];
    let said: Vec<String> = parts.iter().filter(|(files, _)| *files > 0).map(|(files, what)| format!("{files} {what}")).collect();
    let extra = now.keys().filter(|path| !wanted.contains_key(*path)).count();
    assert_eq!(extra, 0, "{kind}: something was left that the source does not have");
    if said.is_empty() { "–".to_owned() } else { said.join(", ") }
}

#[test]
fn the_same_files_move_as_with_rsync() {
    let world = World::new();
    let source = world.work().join("source");
    build(&source);
    let mut columns: Vec<Vec<String>> = Vec::new();
    let places: Vec<String> = (0..WAYS.len()).map(|way| format!("to-{way}")).collect();
    for (way, place) in places.iter().enumerate() {
        run(&world, way, place);
        assert_eq!(look(&world.work().join(place)), look(&source), "{} begins with an equal tree, times and all", WAYS[way].0);
    }
    let before = world.work().join("before");
    assert!(std::process::Command::new("cp").args(["-rLp"]).args([&source, &before]).status().unwrap().success());
    edit(&source);
    for (way, place) in places.iter().enumerate() {
        let at = world.work().join(place);
        let told = run(&world, way, place);
        let mut cells: Vec<String> = KINDS.iter().map(|(kind, _)| cell(kind, &told, &before, &at, &source)).collect();
        cells.push(if at.join("empty").is_dir() { "made" } else { "not made" }.to_owned());
        columns.push(cells);
        let shown = look(&at);
        let again = run(&world, way, place);
        assert!(again.moved.is_empty() && again.taken.is_empty() && look(&at) == shown, "{}: a second run does nothing", WAYS[way].0);
    }
    let row = |kind: &str| KINDS.iter().position(|(name, _)| *name == kind).unwrap();
    for (ours, theirs) in [(0, 4), (1, 3), (2, 5)] {
        // Where the two differ, and nowhere else: the page says why.
        let differ: Vec<&str> =
            KINDS.iter().map(|(kind, _)| *kind).filter(|kind| columns[ours][row(kind)] != columns[theirs][row(kind)]).collect();
        let expected: &[&str] = match ours {
            0 => &["renamed", "copied", "links"],
            1 => &["touched", "renamed", "copied", "links"],
            _ => &["bytes", "touched", "renamed", "copied", "links"],
        };
        assert_eq!(differ, expected, "{} and {}\n{:#?}\n{:#?}", WAYS[ours].0, WAYS[theirs].0, columns[ours], columns[theirs]);
    }
    page(&columns);
}

fn page(columns: &[Vec<String>]) {
    let heads: Vec<String> = WAYS.iter().map(|(head, _)| format!("`{head}`")).collect();
    let mut text = format!("| edit, {EACH} files each | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(WAYS.len()));
    for (number, what) in KINDS.iter().map(|(_, what)| *what).chain(["empty folder"]).enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[number].as_str()).collect();
        let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let kept = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = kept.split_once(BEGIN).expect("the page has a place for the table");
    let (there, tail) = rest.split_once(END).expect("the place has an end");
    if there == text {
        return;
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        std::fs::write(&path, format!("{head}{BEGIN}{text}{END}{tail}")).unwrap();
        return;
    }
    panic!("docs/directories.md is not what was found; INSTA_UPDATE=always writes it\n--- found\n{text}");
}
