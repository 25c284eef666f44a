//! `adopt`: files that other programs brought become part of the cache, without a copy and without a doubt.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hubferry_server::testing::Method;
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, World, bytes, files_below, python};

/// A model on a hub; the folder that it came from, and its commit.
fn publish(world: &World, hub: &Hub, files: &[(&str, &[u8])]) -> (PathBuf, String) {
    let folder = world.tree("published", files);
    let done = world.run(&["sync", folder.to_str().unwrap(), "hf:alice/m", "--json", "-q"]).ok().json();
    hub.script.reset();
    (folder, done["destination_revision"].as_str().unwrap().to_owned())
}

fn brought(hub: &Hub) -> usize {
    hub.script.count(&Method::GET, "/resolve/")
}

fn inode(at: &Path) -> u64 {
    at.metadata().unwrap().ino()
}

#[test]
fn what_another_tool_downloaded_is_linked_into_the_cache_and_python_finds_it() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let (large, other) = (bytes(1, 3_000_000), bytes(2, 3_000_000));
    let (folder, commit) = publish(
        &world,
        &hub,
        &[("config.json", b"{}\n"), ("a/model.safetensors", &large), ("b/model.safetensors", &other), ("empty", b"")],
    );
    // As somebody keeps them: other names, other folders, other files beside them.
    let mine = world.work().join("mine");
    std::fs::create_dir_all(mine.join("x")).unwrap();
    std::fs::copy(folder.join("config.json"), mine.join("config.json")).unwrap();
    std::fs::copy(folder.join("a/model.safetensors"), mine.join("x/weights (1).bin")).unwrap();
    std::fs::copy(folder.join("b/model.safetensors"), mine.join("x/weights (2).bin")).unwrap();
    std::fs::write(mine.join("x/notes.txt"), b"mine").unwrap();
    std::fs::write(mine.join("empty"), b"").unwrap();

    let planned = world.run(&["adopt", "mine", "alice/m", "-n", "--json"]).ok().json();
    assert_eq!((&planned["bytes"], &planned["path"]), (&json!(6_000_003), &Value::Null));
    assert!(!world.home().join(".cache/huggingface/hub").exists(), "a dry run writes nothing");

    let ran = world.run(&["adopt", "mine", "alice/m"]).ok();
    let snapshot = PathBuf::from(ran.stdout.trim_end());
    assert!(snapshot.ends_with(format!("snapshots/{commit}")), "{}", ran.shown());
    // The hub adds this one by itself; nobody has it.
    assert!(ran.stderr.contains("4 files adopted") && ran.stderr.contains("not found in mine: .gitattributes"), "{}", ran.shown());
    assert_eq!(brought(&hub), 0);
    assert_eq!(inode(&snapshot.join("a/model.safetensors")), inode(&mine.join("x/weights (1).bin")), "the same file, not a copy");

    world.run(&["download", "alice/m", "-q"]).ok();
    assert_eq!(brought(&hub), 1, "only what was not there: {:?}", hub.script.seen());
    let verified: Value = python(&world, "hf", "cache_hf.py", &["verify", "model", "alice/m"]).ok().json();
    assert_eq!((&verified["bad"], verified["missing"].as_array().unwrap().len()), (&json!(0), 0), "{verified}");
    drop(hub);
    let offline = world.with("HF_HUB_OFFLINE", "1");
    let found: Value = python(&offline, "hf", "cache_hf.py", &["snapshot", "model", "alice/m"]).ok().json();
    assert_eq!(found["path"], snapshot.to_str().unwrap());
    assert_eq!(std::fs::read(snapshot.join("b/model.safetensors")).unwrap(), other);
    let files: BTreeMap<String, Vec<u8>> = files_below(&mine);
    assert_eq!(files.len(), 5, "nothing was taken away: {:?}", files.keys());
}

#[test]
fn a_damaged_file_is_not_adopted_and_comes_from_the_hub_when_that_is_asked_for() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let large = bytes(3, 2_000_000);
    let (folder, _) = publish(&world, &hub, &[("config.json", b"{}\n"), ("model.safetensors", &large), ("second.bin", &bytes(4, 100_000))]);
    let mut wrong = large.clone();
    wrong[1_000_000] ^= 1;
    std::fs::write(folder.join("model.safetensors"), &wrong).unwrap();

    let found = world.run(&["adopt", folder.to_str().unwrap(), "alice/m", "--json"]).ok().json();
    assert_eq!(found["different"], json!(["model.safetensors"]));
    assert_eq!(found["adopted"].as_array().unwrap().iter().map(|file| &file["path"]).collect::<Vec<_>>(), ["config.json", "second.bin"]);
    let snapshot = PathBuf::from(found["path"].as_str().unwrap());
    assert!(!snapshot.join("model.safetensors").exists());
    world.run(&["cache", "verify", "alice/m"]).ok();

    let whole = world.run(&["adopt", folder.to_str().unwrap(), "alice/m", "--complete", "--json"]).ok().json();
    assert_eq!((&whole["there"], &whole["different"]), (&json!(["config.json", "second.bin"]), &json!(["model.safetensors"])));
    assert!(whole["moved_bytes"].as_u64().unwrap() >= 2_000_000);
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), large);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), wrong, "what is somebody's own stays as it is");
    world.run(&["cache", "verify"]).ok();
}

#[test]
fn nothing_found_is_an_error_and_copies_are_independent() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let (folder, _) = publish(&world, &hub, &[("config.json", b"{}\n"), ("model.safetensors", &bytes(5, 300_000))]);
    world.tree("other", &[("model.safetensors", &bytes(6, 300_000))]);
    let ran = world.run(&["adopt", "other", "alice/m"]).exits(6);
    assert!(ran.stderr.contains("nothing in other is a file of hf:alice/m") && ran.stderr.contains("hint:"), "{}", ran.shown());
    world.run(&["adopt", "absent", "alice/m"]).exits(6);
    world.run(&["adopt", "other", "alice/none"]).exits(6);

    // Without a name it goes by the name of the folder, and says so.
    let named = world.work().join("alice/m");
    std::fs::create_dir_all(named.parent().unwrap()).unwrap();
    std::fs::rename(&folder, &named).unwrap();
    let ran = world.run(&["adopt", "alice/m", "--copy"]).ok();
    assert!(ran.stderr.contains("is taken for hf:alice/m"), "{}", ran.shown());
    let snapshot = PathBuf::from(ran.stdout.trim_end());
    std::fs::write(named.join("model.safetensors"), b"changed").unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), bytes(5, 300_000));
    world.run(&["cache", "verify"]).ok();
    world.with("HF_HUB_OFFLINE", "1").run(&["adopt", "alice/m"]).exits(7);
}
