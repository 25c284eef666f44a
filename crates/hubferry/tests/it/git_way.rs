//! Reading by Git: where the API refuses, and where it is asked for. The bytes are the same, whichever way they come.

use std::path::Path;
use std::time::{Duration, Instant};

use hubferry_server::testing::{Fault, Method, Rule};

use crate::harness::{ALICE, Canned, Hub, RITA, Ran, Reply, World, bytes, files_below, full, send};

/// Every request of any method whose path and query contain `path` is refused.
pub(crate) fn refuse(hub: &Hub, path: &'static str) {
    let words = r#"{"error":"Forbidden: storage is locked"}"#.to_owned();
    let headers = vec![("content-type", "application/json".to_owned())];
    hub.script.add(Rule { method: None, path, byte: None, nth: 1..=u64::MAX, fault: Fault::Answer(403, headers, words) });
}

/// How often Git asked for refs: once to look, and once for each fetch.
fn fetches(hub: &Hub) -> usize {
    hub.script.count(&Method::GET, "/info/refs")
}

/// Names that shells, globs and lists stumble over, small and large files, and files that tools like to leave out.
fn tree() -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<String> = (0..60_000).map(|n| format!("token {n}")).collect();
    vec![
        (".gitignore", b"*.tmp\n".to_vec()),
        (".github/workflows/test.yml", b"on: push\n".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", bytes(1, 700_000)),
        ("onnx/a, b.bin", bytes(2, 150_000)),
        ("odd/-rf; 'x' \"y\" `z` $(w).txt", b"shell".to_vec()),
        ("odd/*?[a-z]{b}.txt", b"glob".to_vec()),
        ("odd/ü/日本語 #1%20.txt", b"unicode".to_vec()),
        ("empty", Vec::new()),
        // Looks like a pointer and is none.
        ("pointer.txt", format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3", "a".repeat(64)).into_bytes()),
        ("vocab.txt", lines.join("\n").into_bytes()),
    ]
}

pub(crate) fn publish(world: &World, address: &str, more: &[&str]) {
    let files = tree();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    world.tree("model", &files);
    world.run(&[&["copy", "./model", address, "-q"], more].concat()).ok();
}

/// Fails unless `folder` has exactly the files of the published tree, and what the hub adds by itself.
#[track_caller]
pub(crate) fn same(world: &World, folder: &str) {
    let (expected, mut found) = (files_below(&world.work().join("model")), files_below(&world.work().join(folder)));
    found.retain(|path, _| expected.contains_key(path) || !matches!(path.as_str(), ".gitattributes" | "README.md" | "dataset_infos.json"));
    assert!(expected.keys().eq(found.keys()), "{:?} / {:?}", expected.keys(), found.keys());
    assert!(expected == found, "{folder} has other bytes");
}

/// Nothing of Git is left in the cache.
#[track_caller]
pub(crate) fn tidy(world: &World) {
    let left = left_in(&world.home().join(".cache/hubferry/git"));
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn left_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn came_by_git(ran: &Ran) {
    assert_eq!(ran.json()["via"], "git", "{}", ran.shown());
}

#[test]
fn a_refused_listing_comes_by_git() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    assert_eq!(world.run(&["ls", "hf:alice/m", "--json"]).ok().json()["via"], "api");
    assert_eq!(fetches(&hub), 0, "git is not asked while the API answers");
    let head = hub.commits("alice/m")[0].0.clone();
    refuse(&hub, "/api/models/");
    refuse(&hub, "/resolve/");
    for command in ["copy", "sync"] {
        let folder = format!("./out-{command}");
        let before = fetches(&hub);
        let ran = world.run(&[command, "hf:alice/m", &folder, "--json"]).ok();
        came_by_git(&ran);
        assert_eq!(ran.json()["source_revision"], head.as_str());
        assert_eq!(ran.json()["created"], "private", "nobody says who may see it");
        assert_eq!(ran.stderr.matches("the API refuses").count(), 1, "said once\n{}", ran.shown());
        assert_eq!(fetches(&hub) - before, 3, "one fetch, which finds the kind, and a look whether that is still the head");
        same(&world, &folder);
    }
    let verified = world.run(&["verify", "hf:alice/m", "--json"]).ok();
    came_by_git(&verified);
    assert_eq!(world.run(&["cat", "hf:alice/m/config.json", "-q"]).ok().stdout, "{}");
    world.run(&["diff", "hf:alice/m", "./out-copy"]).ok();
    tidy(&world);
}

#[test]
fn refused_files_come_by_git_at_the_revision_that_was_listed() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    let head = hub.commits("alice/m")[0].0.clone();
    refuse(&hub, "/resolve/");
    let go = world.home().join("go");
    hub.script.add(Rule::once(Method::GET, "/info/refs", Fault::Until(go.clone())));
    let copy = world.start(&["copy", "hf:alice/m", "./out", "--json"]);
    let begun = Instant::now();
    while fetches(&hub) == 0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "git was not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The branch moves between the listing and the fetch.
    let other = hub.world(ALICE);
    other.tree("new", &[("config.json", b"{\"new\":1}"), ("model.safetensors", &bytes(9, 700_000))]);
    other.run(&["copy", "./new", "hf:alice/m", "-q"]).ok();
    assert_ne!(hub.commits("alice/m")[0].0, head);
    std::fs::write(&go, "").unwrap();
    let ran = copy.wait().ok();
    came_by_git(&ran);
    assert_eq!(ran.json()["source_revision"], head.as_str());
    assert_eq!(fetches(&hub), 1, "the commit itself is asked for, once");
    same(&world, "out");
    tidy(&world);
}

#[test]
fn a_refusal_behind_a_redirect_counts() {
    let (hub, locked) = (Hub::start(), Canned::start(|_| Reply::new(403, "locked")));
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    for (folder, to) in [("./here", "/blocked/file".to_owned()), ("./elsewhere", format!("{}/file", locked.url))] {
        hub.script.reset();
        refuse(&hub, "/blocked/");
        let away = Fault::Answer(302, vec![("location", to)], String::new());
        hub.script.add(Rule::once(Method::GET, "/resolve/", away).always());
        let ran = world.run(&["copy", "hf:alice/m", folder, "--json"]).ok();
        came_by_git(&ran);
        assert!(fetches(&hub) <= 2, "one fetch");
        same(&world, folder);
    }
    assert!(locked.seen().iter().all(|asked| asked.header("authorization").is_none()));
    tidy(&world);
}

#[test]
fn refusals_on_modelscope_come_by_git_too() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "ms:alice/m", &[]);
    for (folder, path) in [("./files", "FilePath="), ("./listing", "/repo/files"), ("./all", "/api/v1/models/")] {
        hub.script.reset();
        refuse(&hub, path);
        let ran = world.run(&["copy", "ms:models/alice/m", folder, "--json"]).ok();
        came_by_git(&ran);
        same(&world, folder);
    }
    tidy(&world);
}

#[test]
fn gated_missing_and_unknown_are_not_cloned_around() {
    let hub = Hub::start();
    let (alice, rita) = (hub.world(ALICE), hub.world(RITA));
    publish(&alice, "hf:alice/gated", &["--visibility", "public"]);
    let (status, said) = send("PUT", &format!("{}/api/models/alice/gated/settings", hub.hf), ALICE, Some(r#"{"gated":"manual"}"#));
    assert_eq!(status, 200, "{said}");
    rita.run(&["copy", "hf:alice/gated", "./out"]).exits(5);
    // A hub that does not say why: it is still gated.
    refuse(&hub, "/resolve/");
    rita.run(&["copy", "hf:alice/gated", "./out"]).exits(5);
    alice.run(&["ls", "hf:alice/none"]).exits(6);
    alice.run(&["ls", "hf:alice/gated@none"]).exits(6);
    hub.world("hf_NobodyHasThisToken").run(&["ls", "hf:alice/gated"]).exits(5);
    assert_eq!(fetches(&hub), 0);
    // Nor is a gate passed by whoever asks Git by name.
    let ran = rita.run(&["copy", "hf:alice/gated", "./out", "--via", "git"]).exits(5);
    assert!(ran.stderr.contains("gated"), "{}", ran.shown());
    assert!(!rita.work().join("out").exists());
    tidy(&rita);
}

#[test]
fn the_api_alone_is_obeyed_and_so_is_a_refusal_by_both() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    refuse(&hub, "/api/models/");
    world.run(&["ls", "hf:alice/m", "--via", "api"]).exits(5);
    assert_eq!(fetches(&hub), 0);
    refuse(&hub, "/info/refs");
    let ran = world.run(&["ls", "hf:models/alice/m"]).exits(5);
    assert!(ran.stderr.contains("storage is locked") && ran.stderr.contains("by git"), "{}", ran.shown());
    let nowhere = hub.world(ALICE).with("PATH", "/nonexistent");
    let ran = nowhere.run(&["ls", "hf:models/alice/m"]).exits(5);
    assert!(ran.stderr.contains("storage is locked") && ran.stderr.contains("git"), "{}", ran.shown());
    let ran = nowhere.run(&["ls", "hf:models/alice/m", "--via", "git"]).exits(1);
    assert!(ran.stderr.contains("hint: install git"), "{}", ran.shown());
}

#[test]
fn h19_any_branch_tag_commit_and_kind_on_both_hubs() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    let first = hub.commits("alice/m")[0].0.clone();
    let (status, said) = send("POST", &format!("{}/api/models/alice/m/tag/main", hub.hf), ALICE, Some(r#"{"tag": "v1.0"}"#));
    assert_eq!(status, 200, "{said}");
    let (status, said) = send("POST", &format!("{}/api/models/alice/m/branch/feature%2Fx", hub.hf), ALICE, Some("{}"));
    assert_eq!(status, 200, "{said}");
    world.tree("next", &[("config.json", b"{\"next\":1}")]);
    world.run(&["copy", "./next", "hf:alice/m@feature%2Fx", "-q"]).ok();
    world.run(&["copy", "./next", "hf:alice/m", "-q"]).ok();
    publish(&world, "hf:datasets/alice/d", &[]);
    publish(&world, "ms:datasets/alice/e", &[]);
    // One store is behind both faces: what was written by one is read by the other.
    hub.script.reset();
    for path in ["/api/", "/resolve/"] {
        refuse(&hub, path);
    }
    let cat = |address: &str| world.run(&["cat", address, "--via", "git", "-q"]).ok().stdout;
    for hub in ["hf", "ms"] {
        assert_eq!(cat(&format!("{hub}:models/alice/m@v1.0/config.json")), "{}");
        assert_eq!(cat(&format!("{hub}:models/alice/m@{first}/config.json")), "{}");
        assert_eq!(cat(&format!("{hub}:models/alice/m@feature%2Fx/config.json")), "{\"next\":1}");
        assert_eq!(cat(&format!("{hub}:models/alice/m/config.json")), "{\"next\":1}");
        world.run(&["ls", &format!("{hub}:models/alice/m@nope"), "--via", "git"]).exits(6);
        world.run(&["ls", &format!("{hub}:models/alice/m@{}", "0".repeat(39) + "1"), "--via", "git"]).exits(6);
        world.run(&["ls", &format!("{hub}:alice/none"), "--via", "git"]).exits(6);
        // The kind is found where the address does not say it.
        let folder = format!("./data-{hub}");
        let ran = world.run(&["copy", &format!("{hub}:alice/d"), &folder, "--via", "git", "--json"]).ok();
        came_by_git(&ran);
        same(&world, &folder);
        let folder = format!("./more-{hub}");
        world.run(&["copy", &format!("{hub}:datasets/alice/e"), &folder, "--use-git", "-q"]).ok();
        same(&world, &folder);
    }
    tidy(&world);
}

#[test]
fn h16_private_sources_are_read_by_git_with_the_token() {
    let hub = Hub::with_cdn();
    let owner = hub.world(ALICE);
    publish(&owner, "hf:alice/m", &["--visibility", "private"]);
    hub.script.reset();
    for place in ["hf:models/alice/m", "ms:models/alice/m"] {
        let folder = format!("./{}", &place[..2]);
        owner.run(&["copy", place, &folder, "--via", "git", "-q"]).ok();
        same(&owner, &folder);
        // Hidden: whoever shows no token is asked for one, others are told that nothing is there.
        hub.world("").run(&["ls", place, "--via", "git"]).exits(5);
        hub.world(RITA).run(&["ls", place, "--via", "git"]).exits(6);
    }
    let seen = hub.script.seen();
    let stored: Vec<_> = seen.iter().filter(|seen| seen.face == hubferry_server::testing::Face::Cdn).collect();
    assert!(!stored.is_empty() && stored.iter().all(|seen| !seen.authorization && !seen.cookie), "{stored:?}");
}

#[test]
fn h6_thousands_of_files_with_any_name() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let count = if full() { 20_000 } else { 3_200 };
    let names: Vec<String> = (0..count).map(|n| format!("part {}/a,{n} 'b' [*] é.txt", n % 40)).collect();
    let contents: Vec<String> = (0..count).map(|n| format!("file {n}\n")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().zip(&contents).map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let large: Vec<(String, Vec<u8>)> = (0..250).map(|n| (format!("weights/{n}.bin"), bytes(n, 2000))).collect();
    files.extend(large.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
    world.tree("model", &files);
    world.run(&["copy", "./model", "hf:alice/many", "-q"]).ok();
    hub.script.reset();
    let ran = world.run(&["copy", "hf:alice/many", "./out", "--via", "git", "--json"]).ok();
    same(&world, "out");
    // Not one request per small file, nor a question per large one.
    let requests = ran.json()["wire"]["requests"].as_u64().unwrap();
    assert!(requests < 250 + 30, "{requests} requests");
    assert!(hub.script.count(&Method::POST, "/objects/batch") <= 20);
    tidy(&world);
}

#[test]
fn h7_large_files_pass_from_hub_to_hub_without_a_disk() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let size = if full() { 512 << 20 } else { 48 << 20 };
    world.tree("model", &[("model.safetensors", &bytes(3, size)), ("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/m", "-q"]).ok();
    let mut copy = world.start(&["copy", "hf:alice/m", "ms:alice/m", "--via", "git", "--json"]);
    let mut most = 0;
    while copy.is_running() {
        // Files come and go while they are counted.
        let sizes = walk(&world.home().join(".cache"));
        most = most.max(sizes);
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = copy.wait().ok();
    came_by_git(&ran);
    assert!(most < 1 << 20, "{most} bytes were on the disk");
    world.run(&["verify", "ms:alice/m", "--against", "hf:alice/m", "--include", "model.safetensors", "-q"]).ok();
    let again = world.run(&["copy", "hf:alice/m", "ms:alice/m", "--via", "git", "--json"]).ok();
    assert_eq!(again.json()["moved_bytes"], 0, "the second run moves nothing");
    tidy(&world);
}

/// Bytes of all files below a folder that changes meanwhile.
fn walk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { entry.metadata().map_or(0, |about| about.len()) }).sum()
}
