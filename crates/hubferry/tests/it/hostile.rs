//! Hubs that lie: unsafe paths, sizes that are not true, listings without end, answers that are no answers. Each ends in a clear
//! error with the right exit code, soon, and nothing is written outside of the destination or shows in it.

use std::sync::Arc;
use std::time::Duration;

use hubferry_core::digest::Oid;
use serde_json::{Value, json};

use crate::harness::{Asked, Canned, Ran, Reply, World, files_below, full};

/// Longer than any of these may take, in a debug build on a busy machine.
const SOON: Duration = Duration::from_mins(1);

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One line of a listing: a path and a size as the hub claims them, and the bytes it really has.
#[derive(Clone)]
struct Line {
    path: Value,
    size: Value,
    content: Vec<u8>,
}

fn line(path: &str) -> Line {
    sized(path, json!(7), b"content")
}

fn sized(path: &str, size: Value, content: &[u8]) -> Line {
    Line { path: json!(path), size, content: content.to_vec() }
}

/// A hub that speaks both APIs and lists these lines in the model `org/model`.
fn hub(lines: Vec<Line>) -> Canned {
    let lines = Arc::new(lines);
    Canned::start(move |asked| answer(asked, &lines))
}

fn answer(asked: &Asked, lines: &[Line]) -> Reply {
    let data = |data: Value| Reply::json(&json!({"Code": 200, "Success": true, "Message": "success", "Data": data}));
    match asked.path() {
        path if path.starts_with("/api/models/org/model/tree/") => Reply::json(&lines.iter().map(hf_line).collect()),
        path if path.starts_with("/api/models/org/model") => {
            Reply::json(&json!({"id": "org/model", "sha": COMMIT, "private": false, "gated": false}))
        }
        path if path.starts_with("/org/model/resolve/") => content(asked, lines),
        "/api/v1/models/org/model" => data(json!({"Id": 1, "Visibility": 5, "Path": "org", "Name": "model"})),
        "/api/v1/models/org/model/commits" => data(json!({"Commit": [{"Id": COMMIT}], "TotalCount": 1})),
        "/api/v1/models/org/model/revisions" => data(json!({"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": []}})),
        "/api/v1/models/org/model/repo/files" => data(json!({"Files": lines.iter().map(ms_line).collect::<Value>()})),
        "/api/v1/models/org/model/repo" => content(asked, lines),
        _ => Reply::new(404, "{\"error\": \"not here\"}").with("x-error-code", "RepoNotFound"),
    }
}

fn hf_line(line: &Line) -> Value {
    let oid = Oid::of(&line.content);
    json!({"type": "file", "path": line.path, "size": line.size, "oid": "a".repeat(40), "lfs": {"oid": oid, "size": line.size, "pointerSize": 130}})
}

fn ms_line(line: &Line) -> Value {
    json!({"Path": line.path, "Name": line.path, "Type": "blob", "Size": line.size, "Sha256": Oid::of(&line.content), "IsLFS": true})
}

/// The bytes of the first line whose path fits; ranges are honoured.
fn content(asked: &Asked, lines: &[Line]) -> Reply {
    let target = asked.target.replace("%2F", "/");
    let fits = |line: &&Line| line.path.as_str().is_some_and(|path| target.contains(path));
    let Some(line) = lines.iter().find(fits) else { return Reply::new(404, "{}") };
    let range = asked.header("range").and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'));
    let Some((start, end)) =
        range.and_then(|(start, end)| Some((start.parse::<usize>().ok()?, end.parse::<usize>().unwrap_or(usize::MAX))))
    else {
        return Reply::new(200, line.content.clone());
    };
    let total = line.content.len();
    if start >= total {
        return Reply::new(416, "").with("content-range", &format!("bytes */{total}"));
    }
    let end = end.min(total - 1);
    Reply::new(206, &line.content[start..=end]).with("content-range", &format!("bytes {start}-{end}/{total}"))
}

/// Runs commands at once against a hub; afterwards nothing outside of the destinations has changed.
fn against(hub: &Canned, commands: &[&[&str]], check: impl Fn(&Ran)) {
    let world = World::new().at(&hub.url, &hub.url, "");
    world.tree("before/destination", &[("kept.txt", b"kept")]);
    let before = files_below(world.home());
    let started: Vec<_> = commands.iter().map(|args| world.start(args)).collect();
    for run in started {
        let ran = run.wait_within(SOON).exits_any();
        check(&ran);
        assert!(ran.peak < 256 << 20, "{} bytes of memory\n{}", ran.peak, ran.shown());
    }
    let mut after = files_below(world.home());
    // What the program knows of files it saw, in the place for such things; and what waits for the next run.
    after.retain(|path, _| !path.starts_with(".cache/hubferry/") && !path.contains("/.hubferry/"));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "something was written");
    assert_eq!(after, before);
    assert!(!world.home().parent().unwrap().join("escaped.txt").exists());
}

/// Copies into a new and into an existing directory and plans, from both APIs.
const COMMANDS: &[&[&str]] = &[
    &["copy", "hf:models/org/model", "./before/destination"],
    &["copy", "ms:models/org/model", "./before/destination"],
    &["copy", "hf:models/org/model", "./before/destination", "--dry-run", "--json"],
    &["copy", "ms:models/org/model", "./before/destination", "--dry-run"],
    &["sync", "hf:models/org/model", "./before/destination"],
    &["ls", "ms:models/org/model"],
    &["download", "hf:models/org/model"],
    &["download", "hf:models/org/model", "--local-dir", "./before/destination"],
    &["copy", "ms:models/org/model", "hfcache:org/model"],
    &["copy", "ms:models/org/model", "mscache:org/model"],
];

#[test]
fn the_hub_itself_is_not_the_trouble() {
    let hub = hub(vec![line("good.txt"), line("folder/good.bin")]);
    let world = World::new().at(&hub.url, &hub.url, "");
    for source in ["hf:models/org/model", "ms:models/org/model"] {
        let target = format!("./{}", &source[..2]);
        world.run(&["copy", source, &target, "-q"]).ok();
        assert_eq!(files_below(&world.work().join(&target))["folder/good.bin"], b"content");
    }
}

#[test]
fn unsafe_paths() {
    let long = "n".repeat(300);
    let deep = "d/".repeat(3000) + "x";
    let paths = [
        "../escaped.txt",
        "a/../../escaped.txt",
        "/etc/escaped.txt",
        "a/./b",
        "a//b",
        "a\\..\\..\\escaped.txt",
        "a\0b",
        "line\nbreak",
        "\u{1b}[31mred",
        "C:escaped.txt",
        ".git/hooks/post-checkout",
        "sub/.GIT/config",
        "",
        ".",
        "..",
        &long,
        &deep,
    ];
    for path in paths {
        let hub = hub(vec![line("good.txt"), line(path)]);
        against(&hub, COMMANDS, |ran| {
            assert_eq!(ran.code, 1, "{path:?}\n{}", ran.shown());
            assert!(ran.stderr.contains("unsafe path") && ran.stderr.contains("hint: "), "{path:?}\n{}", ran.shown());
            assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\0') && ran.stderr.len() < 4000, "{path:?}\n{}", ran.shown());
        });
    }
}

#[test]
fn paths_that_cannot_stand_beside_each_other() {
    for (what, lines, said) in [
        ("the same path twice", vec![line("same.txt"), sized("same.txt", json!(5), b"other")], "same.txt"),
        ("a file that is a folder", vec![line("a"), line("a/b.txt")], "\"a\""),
        ("letter case", vec![line("Model.bin"), line("model.bin")], "letter case"),
    ] {
        let hub = hub(lines);
        against(&hub, &COMMANDS[..5], |ran| {
            assert_eq!(ran.code, 1, "{what}\n{}", ran.shown());
            assert!(ran.stderr.contains(said), "{what}\n{}", ran.shown());
        });
    }
    // Where the user takes it, both arrive.
    let hub = hub(vec![line("Model.bin"), line("model.bin")]);
    let world = World::new().at(&hub.url, &hub.url, "");
    world.run(&["copy", "hf:models/org/model", "./both", "--allow-case-collisions", "-q"]).ok();
    assert_eq!(files_below(&world.work().join("both")).len(), 2);
}

/// Where Windows, or a disk that comes from there, will read the files.
#[test]
fn names_that_windows_keeps_for_itself() {
    for path in ["CON", "aux.txt", "a/NUL.json", "com1", "LPT9.bin", "dot.", "space ", "file:stream", "what?.txt", "a<b"] {
        let hub = hub(vec![line("good.txt"), line(path)]);
        against(&hub, &[&["copy", "hf:models/org/model", "./before/destination", "--windows-names"]], |ran| {
            assert_eq!(ran.code, 1, "{path:?}\n{}", ran.shown());
            assert!(ran.stderr.contains("Windows") && ran.stderr.contains("hint: "), "{path:?}\n{}", ran.shown());
        });
    }
}

#[test]
fn folders_that_are_links_lead_nobody_out() {
    let hub = hub(vec![line("sub/deep/file.txt"), line("good.txt")]);
    for command in [
        ["copy", "hf:models/org/model", "./place", "-q"].as_slice(),
        &["sync", "hf:models/org/model", "./place", "--yes", "-q"],
        &["download", "hf:models/org/model", "--local-dir", "./place", "-q"],
    ] {
        let world = World::new().at(&hub.url, &hub.url, "");
        let outside = world.tree("outside", &[("deep/file.txt", b"precious")]);
        let place = world.tree("place", &[("own.txt", b"own")]);
        std::os::unix::fs::symlink("../outside", place.join("sub")).unwrap();
        let ran = world.start(command).wait_within(SOON).exits_any();
        assert_eq!(files_below(&outside), [("deep/file.txt".to_owned(), b"precious".to_vec())].into(), "{}", ran.shown());
        // Either it says that it cannot, or the files are really there, in folders of their own.
        assert_eq!(ran.code == 0, std::fs::read(place.join("sub/deep/file.txt")).unwrap() == b"content", "{}", ran.shown());
    }
}

#[test]
fn sizes_that_lie() {
    let large = vec![7; 100_000];
    let copies = &COMMANDS[..2];
    for (what, lines, codes) in [
        ("more bytes than said", vec![sized("lie.bin", json!(1000), &large)], &[4, 7][..]),
        ("fewer bytes than said", vec![sized("lie.bin", json!(200_000), &large)], &[1, 4, 7]),
        ("far fewer bytes than said", vec![sized("lie.bin", json!(1_u64 << 50), &large)], &[1, 4, 7]),
        ("no bytes said", vec![sized("lie.bin", json!(0), &large)], &[1, 4, 7]),
    ] {
        let hub = hub(lines);
        against(&hub, copies, |ran| assert!(codes.contains(&ran.code), "{what}\n{}", ran.shown()));
    }
    for size in
        [json!(-1), json!(1.5), json!(1e300), json!("many"), json!(null), json!([]), json!(18_446_744_073_709_551_615_u64), json!({})]
    {
        let hub = hub(vec![line("good.txt"), sized("lie.bin", size.clone(), b"content")]);
        against(&hub, COMMANDS, |ran| {
            // The largest number is a size: only the planning of it succeeds, and listing it.
            let plans = size.is_u64() && (ran.line.contains("dry-run") || ran.line.contains(" ls "));
            assert!([1, 4, 7].contains(&ran.code) || (plans && ran.code == 0), "{size}\n{}", ran.shown());
        });
    }
}

#[test]
fn hashes_that_lie() {
    let mut wrong = line("lie.bin");
    wrong.content = b"CONTENT".to_vec();
    let lines = vec![line("good.txt"), wrong];
    let hub = Canned::start(move |asked| {
        let lied = answer(asked, &lines);
        // What is listed with the hash of one content is delivered with another.
        if asked.target.contains("lie.bin") { Reply::new(200, "cOnTeNt") } else { lied }
    });
    against(&hub, &COMMANDS[..2], |ran| {
        assert_eq!(ran.code, 4, "{}", ran.shown());
        assert!(ran.stderr.contains("hash") && ran.stderr.contains("lie.bin"), "{}", ran.shown());
    });
}

/// How the pages of an endless listing go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Always with one more, always with something new.
    New,
    /// Always with one more, and the same on it.
    Repeated,
    /// Always with one more, and nothing on it.
    Empty,
    /// In a circle.
    Circle,
    /// On another server.
    Elsewhere,
}

/// Both APIs with a listing that does not end: the model of one, the dataset of the other.
fn endless(next: Next) -> Canned {
    Canned::start(move |asked| {
        let path = asked.path();
        let number = |name: &str| asked.target.split(name).nth(1).and_then(|rest| rest.split('&').next()?.parse::<u64>().ok());
        let lines = |page: u64, count: u64| {
            let page = if next == Next::New { page } else { 1 };
            (0..if next == Next::Empty { 0 } else { count }).map(move |n| line(&format!("{page}-{n}.txt")))
        };
        if path.contains("/tree/") {
            let number = number("cursor=").unwrap_or(0);
            let host = asked.header("host").unwrap_or_default();
            let url = match next {
                Next::Circle => format!("http://{host}{path}?cursor={}", (number + 1) % 3),
                Next::Elsewhere => format!("http://127.0.0.2:9{path}?cursor=1"),
                _ => format!("http://{host}{path}?cursor={}", number + 1),
            };
            let count = if next == Next::New { 1 } else { 100 };
            return Reply::json(&lines(number, count).map(|line| hf_line(&line)).collect()).with("link", &format!("<{url}>; rel=\"next\""));
        }
        if path.ends_with("/repo/tree") {
            let rows: Value = lines(number("PageNumber=").unwrap_or(1), 200).map(|line| ms_line(&line)).collect();
            return Reply::json(&json!({"Code": 200, "Success": true, "Data": {"Files": rows}}));
        }
        answer(&Asked { target: asked.target.replace("/datasets/", "/models/"), ..asked.clone() }, &[])
    })
}

#[test]
fn listings_without_end() {
    for next in [Next::New, Next::Repeated, Next::Empty, Next::Circle, Next::Elsewhere] {
        let hub = endless(next);
        let world = World::new().at(&hub.url, &hub.url, "");
        let ran = world.start(&["copy", "hf:models/org/model", "./got", "-q"]).wait_within(SOON).exits(1);
        assert!(ran.stderr.contains("listing"), "{next:?}\n{}", ran.shown());
        assert!(ran.peak < 256 << 20, "{next:?}: {} bytes of memory", ran.peak);
        let mut run = world.start(&["copy", "ms:datasets/org/model", "./got", "-q"]);
        if next == Next::New {
            // Ten thousand full pages are an honest dataset of two million files: the end comes, but not soon.
            std::thread::sleep(Duration::from_secs(3));
            assert!(run.is_running() && crate::harness::peak_memory(run.id()) < 256 << 20);
            run.kill();
            run.wait();
        } else if next != Next::Empty {
            run.wait_within(SOON).exits(1);
        }
        assert!(!world.work().join("got").exists(), "{next:?}: nothing is written before the listing is whole");
    }
}

/// A hub whose model has so many files of a few bytes, a thousand on each page of the listing. They have the same bytes, because this
/// is about listings, plans and folders.
fn crowded(files: u64) -> Canned {
    Canned::start(move |asked| {
        let path = asked.path();
        if path.starts_with("/org/model/resolve/") {
            return content(asked, &[line(".txt")]);
        }
        if !path.contains("/tree/") {
            return answer(asked, &[]);
        }
        let page = asked.target.split("cursor=").nth(1).and_then(|rest| rest.split('&').next()?.parse::<u64>().ok()).unwrap_or(0);
        let rows =
            (page * 1000..((page + 1) * 1000).min(files)).map(|n| hf_line(&line(&format!("data/{:04}/{:03}.txt", n / 1000, n % 1000))));
        let reply = Reply::json(&rows.collect());
        let next = format!("<http://{}{path}?cursor={}>; rel=\"next\"", asked.header("host").unwrap_or_default(), page + 1);
        if (page + 1) * 1000 < files { reply.with("link", &next) } else { reply }
    })
}

#[test]
fn a_great_many_tiny_files() {
    let files = if full() { 1_000_000 } else { 20_000 };
    let hub = crowded(files);
    let world = World::new().at(&hub.url, &hub.url, "");
    for command in
        [["download", "hf:models/org/model", "--json", "-q"].as_slice(), &["copy", "hf:models/org/model", "./got", "--json", "-q"]]
    {
        let ran = world.start(command).wait_within(Duration::from_hours(1)).ok();
        println!("{command:?}: {} MiB for {files} files", ran.peak >> 20);
        assert!(ran.peak < (64 << 20) + files * 2560, "{command:?}: {} bytes of memory", ran.peak);
        let before = hub.seen().len();
        let again = world.start(command).wait_within(Duration::from_hours(1)).ok();
        assert!(again.peak < (64 << 20) + files * 2560, "{command:?}: {} bytes of memory", again.peak);
        assert!(!hub.seen()[before..].iter().any(|asked| asked.target.contains("/resolve/")));
    }
    assert_eq!(walk(&world.work().join("got/data")), files);
    let snapshot = world.home().join(".cache/huggingface/hub/models--org--model/snapshots").join(COMMIT);
    assert_eq!(walk(&snapshot.join("data")), files);
}

/// How many files there are.
fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[test]
fn answers_that_are_no_answers() {
    let deep = "[".repeat(200_000);
    let page = "<!DOCTYPE html><html><body>Please log in to the \u{1b}[31mnetwork</body></html>";
    let bodies: [(&str, Reply, &[i32]); 9] = [
        ("a page", Reply::new(200, page).with("content-type", "text/html"), &[7]),
        ("a page that claims to be JSON", Reply::new(200, page).with("content-type", "application/json"), &[1, 7]),
        ("nothing", Reply::new(200, "").with("content-type", "application/json"), &[1, 7]),
        ("no content", Reply::new(204, ""), &[1, 7]),
        ("half an answer", Reply::new(200, "{\"id\": \"org/mo").with("content-type", "application/json"), &[1, 7]),
        ("a deep answer", Reply::new(200, deep).with("content-type", "application/json"), &[1, 7]),
        ("a number", Reply::new(200, "42").with("content-type", "application/json"), &[1, 6, 7]),
        ("binary", Reply::new(200, vec![0xff; 5000]).with("content-type", "application/json"), &[1, 7]),
        ("a redirect to itself", Reply::new(302, "").with("location", "/again"), &[1, 7]),
    ];
    // Most are taken for a gateway that fails now and then, and asked again for some seconds: all at once.
    std::thread::scope(|scope| {
        for (what, reply, codes) in bodies {
            scope.spawn(move || {
                let hub = Canned::start(move |_| reply.clone());
                against(&hub, &COMMANDS[..4], |ran| {
                    assert!(codes.contains(&ran.code), "{what}\n{}", ran.shown());
                    assert!(!ran.stderr.contains('\u{1b}') && ran.stderr.len() < 20_000, "{what}\n{}", ran.shown());
                });
            });
        }
    });
}

#[test]
fn an_answer_that_is_too_large() {
    let filler = " ".repeat(1 << 20).into_bytes();
    for only_listing in [false, true] {
        let filler = filler.clone();
        let hub = Canned::start(move |asked| {
            let listing = asked.path().contains("/tree/") || asked.path().ends_with("/repo/files");
            if only_listing && !listing {
                return answer(asked, &[]);
            }
            Reply::new(200, filler.clone()).with("content-type", "application/json").times(200)
        });
        against(&hub, &COMMANDS[..4], |ran| {
            assert_eq!(ran.code, 1, "{}", ran.shown());
            assert!(ran.stderr.contains("larger") || ran.stderr.contains("MiB") || ran.stderr.contains("bytes"), "{}", ran.shown());
        });
    }
}
