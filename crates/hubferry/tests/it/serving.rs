//! `serve` as a program: what it prints, what it writes for whoever waits, and how it refuses to start.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{ALICE, RITA, Served, Started, World, get, send, snapshot};

/// Starts a hub with these arguments more and waits until it listens.
fn serving(world: &World, more: &[&str]) -> (Started, Value) {
    let ready = world.home().join("ready.json");
    let users = [format!("alice:{ALICE}"), format!("rita:{RITA}:read")];
    let mut args = vec!["serve", "--data", "./data", "--user", &users[0], "--user", &users[1], "--ready-file", ready.to_str().unwrap()];
    args.extend(more);
    let started = world.start(&args);
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    // The file comes whole or not at all, so that it can be read at once.
    let said = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    (started, said)
}

fn stop(hub: &Started) {
    assert!(std::process::Command::new("kill").args(["-INT", &hub.id().to_string()]).status().unwrap().success());
}

#[test]
fn it_says_where_it_listens() {
    let world = World::new();
    let (hub, said) = serving(&world, &[]);
    assert_eq!(said.as_object().unwrap().keys().collect::<Vec<_>>(), ["hf", "ms", "pid"]);
    assert_eq!(said["pid"], hub.id());
    for face in ["hf", "ms"] {
        assert!(said[face].as_str().unwrap().starts_with("http://127.0.0.1:"), "loopback unless told otherwise: {said}");
    }
    // The lines a user pastes are enough for a client.
    let (hf, ms) = (said["hf"].as_str().unwrap(), said["ms"].as_str().unwrap());
    stop(&hub);
    let ran = hub.wait().ok();
    assert!(ran.stdout.contains(&format!("export HF_ENDPOINT={hf}")) && ran.stdout.contains(&format!("MODELSCOPE_ENDPOINT={ms}")));
    assert!(!world.home().join("ready.json").exists(), "nobody must find the file of a hub that is gone");

    let (hub, said) = serving(&world, &["--json"]);
    stop(&hub);
    let ran = hub.wait().ok();
    assert_eq!(ran.json()["hf"], said["hf"]);
}

#[test]
fn it_refuses_to_start_where_it_cannot() {
    let world = World::new();
    let (hub, said) = serving(&world, &[]);
    let taken = said["hf"].as_str().unwrap().trim_start_matches("http://").to_owned();
    world.tree("not-a-folder", &[("file", b"")]);
    let runs = [
        world.run(&["serve", "--data", "./other", "--hf", &taken]),
        world.run(&["serve", "--data", "./data"]),
        world.run(&["serve", "--data", "./not-a-folder/file"]),
        world.run(&["serve", "--data", "/proc/none"]),
        world.run(&["serve", "--data", "./other", "--hf", "nowhere"]),
        world.run(&["serve", "--data", "./other", "--user", &format!("alice:{ALICE}"), "--user", &format!("alice:{RITA}")]),
        world.run(&["serve", "--data", "./other", "--user", "alice:@./none"]),
        world.run(&["serve", "--data", "./other", "--ready-file", "./none/ready"]),
    ];
    snapshot("serve", &world, &runs);
    stop(&hub);
    hub.wait().ok();
}

#[test]
fn what_one_face_takes_the_other_shows_after_a_restart() {
    let mut hub = Served::start();
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", b"{}"), ("model.bin", &crate::harness::bytes(20, 200_000))]);
    world.run(&["copy", "./model", "hf:alice/first", "-q"]).ok();
    world.run(&["copy", "./model", "ms:datasets/alice/second", "-q"]).ok();
    let (status, answer) = send("POST", &format!("{}/api/models/alice/first/tag/main", hub.hf), ALICE, Some(r#"{"tag": "v1"}"#));
    assert_eq!(status, 200, "{answer}");
    hub.kill();
    hub.restart();
    for place in [
        "hf:alice/first",
        "ms:alice/first",
        "hf:alice/first@v1",
        "ms:alice/first@v1",
        "hf:datasets/alice/second",
        "ms:datasets/alice/second",
    ] {
        let own = ["--include", "config.json", "--include", "model.bin"];
        world.run(&[&["verify", place, "--against", "./model", "-q"][..], &own].concat()).ok();
    }
    // Private unless somebody said otherwise, for both, before and after.
    for url in [format!("{}/api/models/alice/first", hub.hf), format!("{}/api/v1/datasets/alice/second", hub.ms)] {
        let (status, _) = get(&url, "");
        assert!((401..=404).contains(&status), "{url}: {status}");
    }
}

#[test]
fn a_hub_for_readers_only() {
    let world = World::new();
    let ready = world.home().join("ready.json");
    let hub = world.start(&["serve", "--data", "./data", "--ready-file", ready.to_str().unwrap()]);
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let client = World::new().at(said["hf"].as_str().unwrap(), said["ms"].as_str().unwrap(), "");
    client.tree("model", &[("config.json", b"{}")]);
    for place in ["hf:alice/model", "ms:alice/model"] {
        client.run(&["copy", "./model", place, "-q"]).exits(5);
    }
    stop(&hub);
    let ran = hub.wait().ok();
    assert!(ran.stderr.contains("nobody may write"), "{}", ran.shown());
}
