//! `--atomic`: readers of a directory see one revision or the other, whatever happens.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{ALICE, Hub, Started, World, bytes, files_below, full};

/// Every file of a version says which one it is.
fn version(world: &World, number: u64) -> BTreeMap<String, Vec<u8>> {
    let own = |n: u64| (format!("{n}.bin"), format!("version {number} ").into_bytes().into_iter().chain(bytes(n, 20_000)).collect());
    let mut files: BTreeMap<String, Vec<u8>> = (0..8).map(own).collect();
    files.insert("same/model.bin".to_owned(), bytes(99, 300_000));
    let list: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    world.tree(&format!("v{number}"), &list);
    files
}

fn snapshots(world: &World, name: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(world.work().join(name)).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn inode(at: &Path) -> u64 {
    at.metadata().unwrap().ino()
}

#[test]
fn each_change_is_a_snapshot_and_the_last_ones_are_kept() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let versions: Vec<_> = (1..=4).map(|number| version(&world, number)).collect();
    let link = world.work().join("live");
    let mut seen = Vec::new();
    for (number, files) in versions.iter().enumerate() {
        let source = format!("./v{}", number + 1);
        let from = if number == 2 { "hf:alice/model" } else { &source };
        world.run(&["copy", &source, "hf:alice/model", "-q"]).ok();
        let report = world.run(&["sync", from, "./live/", "--atomic", "--keep", "2", "--json", "-q", "--yes"]).ok().json();
        let mut there = files_below(&link);
        // The hub's own.
        there.remove(".gitattributes");
        assert!(there == *files, "{:?} {report}", there.keys());
        if number > 0 {
            assert_eq!(report["plan"]["kept_bytes"], 300_000, "what is the same did not travel: {report}");
            let before: &PathBuf = seen.last().unwrap();
            assert_eq!(inode(&before.join("same/model.bin")), inode(&link.join("same/model.bin")), "and is stored once");
        }
        seen.push(link.canonicalize().unwrap());
        // What somebody else keeps there is nobody's to remove.
        world.tree("live.snapshots/mine", &[("note", b"mine")]);
    }
    let left = snapshots(&world, "live.snapshots");
    assert_eq!(left, [seen[2].clone(), seen[3].clone(), world.work().join("live.snapshots/mine").canonicalize().unwrap()]);
    // Nothing to do is nothing done.
    let again = world.run(&["sync", "./v4", "./live", "--atomic", "--keep", "2", "-q", "--yes"]).ok();
    assert!(again.stdout.contains("is up to date"), "{}", again.shown());
    assert_eq!(link.canonicalize().unwrap(), seen[3]);
    world.run(&["diff", "./v4", "./live", "-q"]).ok();
    world.run(&["verify", "./live", "--against", "./v4", "-q"]).ok();
    let rest: Vec<String> = files_below(&world.work().join("live.snapshots")).into_keys().filter(|name| name.starts_with('.')).collect();
    assert_eq!(rest.len(), 2, "two marks and nothing else: {rest:?}");
}

#[test]
fn what_is_not_ours_to_switch_is_refused() {
    let world = World::new();
    version(&world, 1);
    let real = world.tree("real", &[("precious", b"x")]);
    let said = world.run(&["copy", "./v1", "./real", "--atomic"]).exits(1).stderr;
    assert!(said.contains("is not a link") && said.contains("hint:"), "{said}");
    symlink("real", world.work().join("foreign")).unwrap();
    let said = world.run(&["copy", "./v1", "./foreign", "--atomic"]).exits(1).stderr;
    assert!(said.contains("which no run with --atomic made"), "{said}");
    assert_eq!(files_below(&real).keys().collect::<Vec<_>>(), ["precious"]);
    world.run(&["copy", "./v1", "./live", "--atomic", "-q"]).ok();
    let before = files_below(&world.work().join("live"));
    // Without the flag nothing is written into a snapshot: its files may be those of another one.
    world.tree("more", &[("more", b"more")]);
    let said = world.run(&["copy", "./more", "./live"]).exits(1).stderr;
    assert!(said.contains("add --atomic"), "{said}");
    assert!(files_below(&world.work().join("live")) == before);
    world.run(&["copy", "./more", "./live", "--atomic", "-q"]).ok();
    assert_eq!(files_below(&world.work().join("live")).len(), before.len() + 1);
    world.run(&["copy", "./v1", "hf:alice/model", "--atomic"]).exits(2);
    world.run(&["copy", "./v1", "./.", "--atomic"]).exits(2);
    world.run(&["copy", "./v1", "./live", "--keep", "2"]).exits(2);
}

/// Opens the folder once, as a loader does that resolves its path, and reads everything in it, again and again.
const READER: &str = r#"
import os, sys, time
link, stop = sys.argv[1:]
looks, seen = 0, set()
while not os.path.exists(stop):
    try:
        folder = os.open(link, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        if looks:
            sys.exit("the folder was not there for an instant")
        continue
    names = sorted(name for name in os.listdir(folder) if name.endswith(".bin"))
    versions = set()
    for name in names:
        with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
            content = file.read()
            assert len(content) == 20010, (name, len(content))
            versions.add(content[:9])
    os.close(folder)
    assert len(names) == 8 and len(versions) == 1, (names, versions)
    seen |= versions
    looks += 1
print(looks, len(seen))
"#;

#[test]
fn readers_never_see_a_mixture() {
    let world = World::new();
    for number in [1, 2] {
        version(&world, number);
    }
    world.run(&["sync", "./v1", "./live", "--atomic", "-q", "--yes"]).ok();
    let stop = world.work().join("stop");
    let mut readers: Vec<Started> = (0..2)
        .map(|_| {
            let command = world.dress(Command::new("python3"), &["-c", READER, "live", stop.to_str().unwrap()]);
            Started::new("a reader".into(), command)
        })
        .collect();
    for round in 0..if full() { 60 } else { 12 } {
        world.run(&["sync", &format!("./v{}", 2 - round % 2), "./live", "--atomic", "-q", "--yes"]).ok();
        assert!(readers.iter_mut().all(Started::is_running), "a reader saw what it must not");
    }
    std::fs::write(stop, b"").unwrap();
    for reader in readers {
        let ran = reader.wait().ok();
        let numbers: Vec<u64> = ran.stdout.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(numbers[0] >= 20 && numbers[1] == 2, "it looked often and saw both: {}", ran.shown());
    }
}

#[test]
fn a_killed_run_leaves_the_old_or_the_new() {
    let world = World::new();
    let versions: Vec<_> = [1, 2].map(|number| version(&world, number)).into();
    let link = world.work().join("live");
    let took = world.run(&["sync", "./v1", "./live", "--atomic", "-q", "--yes"]).ok().took;
    for round in 0..if full() { 200 } else { 25 } {
        let source = format!("./v{}", round % 2 + 1);
        let mut run = world.start(&["sync", &source, "./live", "--atomic", "--keep", "2", "-q", "--yes"]);
        std::thread::sleep(took.mul_f64(f64::from(round * 7 % 25) / 25.0).max(Duration::from_millis(1)));
        run.kill();
        run.wait();
        let there = files_below(&link);
        assert!(versions.contains(&there), "round {round}: {:?}", there.keys());
        assert!(link.is_symlink());
    }
    for number in [1, 2] {
        world.run(&["sync", &format!("./v{number}"), "./live", "--atomic", "--keep", "1", "-q", "--yes"]).ok();
        assert!(files_below(&link) == versions[number - 1]);
    }
    assert_eq!(snapshots(&world, "live.snapshots"), [link.canonicalize().unwrap()], "and nothing else is left");
}

#[test]
fn names_that_windows_cannot_hold_are_refused_before_anything_is_written() {
    let world = World::new();
    world.tree("model", &[("fine", b"x"), ("aux.json", b"{}")]);
    let said = world.run(&["copy", "./model", "./copy", "--windows-names"]).exits(1).stderr;
    assert!(said.contains("AUX is a device on Windows") && said.contains("--exclude"), "{said}");
    assert!(files_below(&world.work().join("copy")).is_empty());
    world.run(&["copy", "./model", "./copy", "--windows-names", "--exclude", "aux.json", "-q"]).ok();
    world.run(&["copy", "./model", "./other", "-q"]).ok();
}
