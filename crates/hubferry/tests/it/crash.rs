//! `kill -9` at any moment, of the client and of the hub: readers see the old or the new, and the same command again ends right.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::harness::{ALICE, Hub, Served, World, bytes, files_below};

/// Some time below `most`.
fn random(most: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 1000;
    most * u32::try_from(chance).unwrap() / 1000
}

/// Version `number` of a model: some files of it are always the same, some change.
fn version(number: u64) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("model.safetensors".to_owned(), bytes(1000 + number, 2_000_000)),
        ("same.safetensors".to_owned(), bytes(1, 1_000_000)),
        ("config.json".to_owned(), format!("{{\"version\": {number}}}\n").into_bytes()),
        ("README.md".to_owned(), format!("# Version {number}\n").into_bytes()),
        (format!("only-in-{number}.txt"), b"x".to_vec()),
    ];
    files.extend((0..20).map(|n| (format!("shards/{n}.bin"), bytes(number * 100 + n, 20_000))));
    files
}

fn write(world: &World, number: u64) -> String {
    let files = version(number);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    let folder = format!("./version-{number}");
    world.tree(&folder, &files);
    folder
}

/// What a reader of a place is shown, by path: sizes stand for contents here, names for the rest.
fn shown(world: &World, place: &str) -> Option<BTreeMap<String, u64>> {
    let ran = world.run(&["ls", place, "--json", "-q"]);
    if ran.code == 6 {
        return None;
    }
    let listed = ran.ok().json();
    let file = |file: &serde_json::Value| (file["path"].as_str().unwrap().to_owned(), file["size"].as_u64().unwrap());
    let mut files: BTreeMap<_, _> = listed["files"].as_array().unwrap().iter().map(file).collect();
    files.remove(".gitattributes");
    Some(files)
}

fn expected(number: u64) -> BTreeMap<String, u64> {
    version(number).into_iter().map(|(path, content)| (path, content.len() as u64)).collect()
}

/// Fails unless the place shows one version and nothing of another; gives its number.
#[track_caller]
fn one_of(world: &World, place: &str, numbers: [u64; 2]) -> u64 {
    let files = shown(world, place).unwrap_or_default();
    let found = numbers.into_iter().find(|number| files == expected(*number));
    found.unwrap_or_else(|| panic!("{place} shows neither of {numbers:?} but {files:?}"))
}

#[test]
fn a_killed_copy_is_finished_by_the_next_one() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    write(&world, 0);
    for destination in ["ms:alice/copy", "hf:alice/copy"] {
        world.run(&["sync", "./version-0", destination, "-q"]).ok();
    }
    for round in 1..=5 {
        let source = write(&world, round);
        world.run(&["sync", &source, "hf:alice/source", "-q"]).ok();
        for (source, destination) in [("hf:alice/source", "ms:alice/copy"), (&source, "hf:alice/copy")] {
            // At this rate the whole takes about a second.
            let command = ["sync", source, destination, "-q", "--bwlimit", "3M"];
            let moment = random(Duration::from_millis(1400));
            let mut run = world.start(&command);
            std::thread::sleep(moment);
            run.kill();
            run.wait();
            one_of(&world, destination, [round - 1, round]);
            let report = world.run(&["sync", source, destination, "-q", "--json"]).ok().json();
            assert_eq!(one_of(&world, destination, [round, round]), round, "{moment:?}");
            assert!(report["commits"].as_array().unwrap().len() <= 1, "{report}");
            world.run(&["verify", destination, "--against", &format!("./version-{round}"), "-q", "--exclude", "/.gitattributes"]).ok();
        }
    }
    // One commit per version, however often it was tried.
    for hub in [&a, &b] {
        let commits = hub.commits("alice/copy");
        let copies = commits.iter().filter(|(_, message)| message.contains("Source-Revision: ")).count();
        assert_eq!(copies, 6, "{commits:?}");
    }
    assert_eq!(std::fs::read_dir(world.tmp()).unwrap().count(), 0);
}

#[test]
fn a_killed_copy_into_a_directory_is_finished_by_the_next_one() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    write(&world, 0);
    world.run(&["sync", "./version-0", "./copy", "-q"]).ok();
    for round in 1..=6 {
        let folder = write(&world, round);
        world.run(&["sync", &folder, "hf:alice/source", "-q"]).ok();
        let moment = random(Duration::from_millis(1400));
        let mut run = world.start(&["sync", "hf:alice/source", "./copy", "-q", "--bwlimit", "3M", "--exclude", ".gitattributes"]);
        std::thread::sleep(moment);
        run.kill();
        run.wait();
        // A directory cannot change all at once; but no file in it is ever half of something.
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (version(round - 1).into_iter().collect(), version(round).into_iter().collect());
        for (path, content) in files_below(&world.work().join("copy")) {
            if path.starts_with(".hubferry/") {
                continue;
            }
            assert!(old.get(&path) == Some(&content) || new.get(&path) == Some(&content), "{path} is neither old nor new ({moment:?})");
        }
        world.run(&["sync", "hf:alice/source", "./copy", "-q", "--exclude", ".gitattributes"]).ok();
        assert_eq!(files_below(&world.work().join("copy")), new, "everything is there and nothing else ({moment:?})");
    }
}

#[test]
fn a_killed_hub_is_whole_when_it_comes_back() {
    for face in ["hf", "ms"] {
        let mut hub = Served::start();
        let world = hub.world(ALICE);
        let place = format!("{face}:alice/model");
        write(&world, 0);
        world.run(&["sync", "./version-0", &place, "-q"]).ok();
        for round in 1..=4 {
            let folder = write(&world, round);
            let moment = random(Duration::from_millis(1200));
            let run = world.start(&["sync", &folder, &place, "-q", "--json", "--bwlimit", "4M"]);
            std::thread::sleep(moment);
            hub.kill();
            hub.restart();
            one_of(&world, &place, [round - 1, round]);
            // The client has seen a hub vanish and return: it ends right, or says that it could not.
            let ran = run.wait();
            assert!(ran.code == 0 || ran.code == 7, "{face} {moment:?}\n{}", ran.shown());
            world.run(&["sync", &folder, &place, "-q"]).ok();
            one_of(&world, &place, [round, round]);
            world.run(&["verify", &place, "--against", &folder, "-q", "--exclude", "/.gitattributes"]).ok();
        }
        let commits = hub.commits("alice/model");
        let copies = commits.iter().filter(|(_, message)| message.contains("Source-Revision: ")).count();
        assert_eq!(copies, 5, "{face}: one commit per version: {commits:?}");
        // Nothing half is left in the store that a later start would not find and clean.
        hub.kill();
        hub.restart();
        one_of(&world, &place, [4, 4]);
    }
}

#[test]
fn a_hub_that_is_told_to_stop_finishes_what_is_on_its_way() {
    let world = World::new();
    let ready = world.home().join("ready.json");
    let user = format!("alice:{ALICE}");
    let args = ["serve", "--data", "./data", "--user", &user, "--ready-file", ready.to_str().unwrap(), "-q"];
    let hub = world.start(&args);
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let client = World::new().at(said["hf"].as_str().unwrap(), said["ms"].as_str().unwrap(), ALICE);
    client.tree("model", &[("model.safetensors", &bytes(16, 4_000_000))]);
    client.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let reading = client.start(&["copy", "hf:alice/model", "./copy", "-q", "--bwlimit", "2M"]);
    std::thread::sleep(Duration::from_millis(700));
    assert!(std::process::Command::new("kill").args(["-TERM", &hub.id().to_string()]).status().unwrap().success());
    hub.wait_within(Duration::from_secs(30)).ok();
    assert!(!ready.exists());
    let ran = reading.wait();
    assert!(ran.code == 0 || ran.code == 7, "{}", ran.shown());
}

#[test]
fn an_interrupted_copy_says_how_to_go_on() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("model", &[("model.safetensors", &bytes(17, 3_000_000))]);
    for signal in ["-INT", "-TERM"] {
        let run = world.start(&["copy", "./model", "hf:alice/model", "--bwlimit", "1M", "--json"]);
        std::thread::sleep(Duration::from_millis(900));
        assert!(std::process::Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap().success());
        let ran = run.wait_within(Duration::from_secs(10)).exits(130);
        assert_eq!(ran.json()["error"]["kind"], "interrupted");
        assert!(ran.stderr.contains("hint: run the same command again"), "{}", ran.shown());
        let visible = world.run(&["ls", "hf:alice/model"]);
        assert!(visible.code == 6 || !visible.stdout.contains("model.safetensors"), "{}", visible.shown());
    }
}
