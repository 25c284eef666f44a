//! `cache`: what is listed, pruned, pinned and verified in a cache that the Python client shares.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{ALICE, Hub, World, bytes, python};

fn cache(world: &World) -> PathBuf {
    world.home().join(".cache/huggingface/hub")
}

fn du(at: &Path) -> u64 {
    let out = Command::new("du").args(["-s", "-B1"]).arg(at).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[track_caller]
fn ask(world: &World, args: &[&str]) -> Value {
    python(world, "hf", "cache_hf.py", args).ok().json()
}

/// Publishes a model of one large and one small file, and brings it into the cache with the Python client.
fn publish(world: &World, name: &str, seed: u64) -> String {
    let folder = world.tree(
        &format!("src-{name}-{seed}"),
        &[("config.json", format!("{{\"a\": {seed}}}").as_bytes()), ("model.safetensors", &bytes(seed, 400_000))],
    );
    let done = world.run(&["sync", folder.to_str().unwrap(), &format!("hf:alice/{name}"), "--json", "-q"]).ok().json();
    ask(world, &["snapshot", "model", &format!("alice/{name}")]);
    done["destination_revision"].as_str().unwrap().to_owned()
}

/// As if everything in a repository had been made and used so long ago.
fn age(world: &World, name: &str, days: u64) {
    let then = SystemTime::now() - Duration::from_hours(24 * days);
    let mut folders = vec![cache(world).join(format!("models--alice--{name}"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let status = Command::new("touch").args(["-h", "-d", &format!("{days} days ago")]).arg(entry.path()).status().unwrap();
            assert!(status.success());
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
        std::fs::File::open(&folder).unwrap().set_modified(then).unwrap();
    }
}

fn listed(world: &World, args: &[&str]) -> Vec<String> {
    let answer = world.run(&[&["cache", "list", "--json"], args].concat()).ok().json();
    answer["repositories"].as_array().unwrap().iter().map(|repo| repo["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_the_python_client_brought_is_listed_pruned_and_stays_whole_for_it() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let first = publish(&world, "m", 1);
    let second = publish(&world, "m", 2);
    publish(&world, "other", 3);
    age(&world, "other", 40);

    assert_eq!(listed(&world, &[]), ["alice/m", "alice/other"]);
    assert_eq!(listed(&world, &["--filter", "used>30d"]), ["alice/other"]);
    assert_eq!(listed(&world, &["--sort", "size", "--limit", "1"]), ["alice/m"]);
    let shown = world.run(&["cache", "list", "--revisions"]).ok().stdout;
    assert!(shown.contains(&first[..12]) && shown.contains(&second[..12]), "{shown}");

    // The first revision is named by nothing any more.
    let before = du(&cache(&world));
    let planned = world.run(&["cache", "prune", "--unused", "--dry-run", "--json"]).ok().json();
    assert_eq!(du(&cache(&world)), before);
    let done = world.run(&["cache", "prune", "--unused", "--json"]).ok().json();
    assert_eq!(done["revisions"][0]["commit"], first.as_str());
    assert_eq!((done["revisions"].as_array().unwrap().len(), &done["freed"]), (1, &planned["freed"]));
    assert_eq!(before - du(&cache(&world)), done["freed"].as_u64().unwrap());
    let scan = ask(&world, &["scan"]);
    assert_eq!(scan["warnings"].as_array().unwrap().len(), 0, "{scan}");
    assert_eq!(scan["repos"]["model/alice/m"].as_object().unwrap().keys().collect::<Vec<_>>(), [&second]);
    assert_eq!(ask(&world, &["verify", "model", "alice/m"])["bad"], 0);

    // Names hold what they name, and the exit code tells that it does not fit.
    let stays = world.run(&["cache", "prune", "--max-size", "1k"]).exits(3);
    assert!(stays.stderr.contains("--refs"), "{}", stays.stderr);
    world.run(&["cache", "pin", "alice/m@main"]).ok();
    let done = world.run(&["cache", "prune", "--max-size", "1k", "--refs", "--json"]).exits(3).json();
    assert_eq!(done["repositories"], serde_json::json!(["models--alice--other"]));
    assert_eq!(listed(&world, &["--filter", "pinned=yes"]), ["alice/m"]);
    world.run(&["cache", "remove", "alice/m"]).exits(1);
    world.run(&["cache", "unpin", "alice/m@main"]).ok();
    world.run(&["cache", "remove", "model/alice/m"]).ok();
    assert_eq!(listed(&world, &[]), [""; 0]);
    let again = world.run(&["download", "alice/m", "--json"]).ok().json();
    assert_eq!(again["commit"].as_str().or(again["revision"].as_str()), Some(second.as_str()), "{again}");
}

#[test]
fn a_download_in_flight_is_spared_whatever_the_budget() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "m", 5);
    age(&world, "m", 40);
    let folder = cache(&world).join("models--alice--m");
    let incomplete = folder.blobs_of("0123456789abcdef");
    std::fs::write(&incomplete, bytes(9, 70_000)).unwrap();
    world.run(&["cache", "prune", "--max-size", "1k", "--refs", "--unused", "--older-than", "1d"]).exits(3);
    assert!(incomplete.exists() && folder.join("snapshots").exists());
    let shown = world.run(&["cache", "list"]).ok().stdout;
    assert!(shown.contains("in use"), "{shown}");
    world.run(&["cache", "remove", "alice/m"]).exits(7);
}

trait Blobs {
    fn blobs_of(&self, name: &str) -> PathBuf;
}

impl Blobs for PathBuf {
    fn blobs_of(&self, name: &str) -> PathBuf {
        self.join("blobs").join(format!("{name:0<64}.0a1b2c3d.incomplete"))
    }
}

#[test]
fn a_flipped_byte_is_found_by_verify_and_mended_from_the_hub() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "m", 7);
    world.run(&["cache", "verify"]).ok();
    let blobs = cache(&world).join("models--alice--m/blobs");
    let large =
        std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).max_by_key(|at| at.metadata().unwrap().len()).unwrap();
    let mut content = std::fs::read(&large).unwrap();
    content[1234] ^= 1;
    std::fs::write(&large, content).unwrap();
    let found = world.run(&["cache", "verify", "alice/m", "--json"]).exits(4).json();
    let faults = found["faults"].as_array().unwrap();
    assert!(faults.len() == 1 && faults[0]["path"].as_str().unwrap().ends_with("model.safetensors"), "{found}");
    world.run(&["verify", "hfcache:alice/m", "--against", "hf:alice/m", "--repair"]).ok();
    world.run(&["cache", "verify"]).ok();
    assert_eq!(ask(&world, &["verify", "model", "alice/m"])["bad"], 0);
}

/// Flips a byte of the blob that a file of a snapshot leads to.
fn flip(at: &Path) {
    let blob = at.canonicalize().unwrap();
    let mut content = std::fs::read(&blob).unwrap();
    content[5] ^= 1;
    std::fs::write(&blob, content).unwrap();
}

#[test]
fn verify_repairs_every_revision_from_its_own_commit_and_asks_for_nothing_else() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let (old, new) = (publish(&world, "m", 11), publish(&world, "m", 12));
    publish(&world, "other", 13);
    let snapshots = cache(&world).join("models--alice--m/snapshots");
    flip(&snapshots.join(&old).join("model.safetensors"));
    flip(&snapshots.join(&new).join("config.json"));
    let lost = snapshots.join(&new).join("model.safetensors");
    std::fs::remove_file(lost.canonicalize().unwrap()).unwrap();
    hub.script.reset();

    let ran = world.run(&["cache", "verify"]).exits(4);
    assert!(ran.stderr.contains("--repair"), "{}", ran.shown());
    assert_eq!(hub.script.seen().len(), 0, "looking needs no hub");
    let mended = world.run(&["cache", "verify", "--repair", "--json"]).ok().json();
    assert_eq!((&mended["repaired"], mended["faults"].as_array().unwrap().len()), (&Value::from(3), 3), "{mended}");
    let asked: Vec<String> = hub.script.seen().iter().map(hubferry_server::testing::Seen::target).collect();
    assert!(!asked.iter().any(|path| path.contains("alice/other")), "{asked:?}");
    world.run(&["cache", "verify"]).ok();
    for commit in [&old, &new] {
        assert_eq!(ask(&world, &["verify", "model", "alice/m", commit])["bad"], 0);
    }

    // What the hub no longer has cannot be mended, and what it has is mended all the same.
    flip(&snapshots.join(&new).join("config.json"));
    let foreign = snapshots.join("f".repeat(40));
    std::fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::symlink("../../blobs/nothing", foreign.join("gone.bin")).unwrap();
    let ran = world.run(&["cache", "verify", "--repair"]).exits(4);
    assert!(ran.stdout.contains("not repaired") && ran.stdout.contains("1 file repaired"), "{}", ran.shown());
    std::fs::remove_dir_all(foreign).unwrap();
    world.run(&["cache", "verify"]).ok();

    flip(&snapshots.join(&new).join("config.json"));
    drop(hub);
    let ran = world.run(&["cache", "verify", "--repair"]).exits(7);
    assert!(ran.stderr.contains("hint:"), "{}", ran.shown());
    world.run(&["cache", "verify", "--repair", "--from", "./folder"]).exits(2);
}

#[test]
fn what_is_typed_wrong_is_explained() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.run(&["cache", "list"]).exits(6);
    publish(&world, "m", 8);
    for (args, code, part) in [
        (&["cache", "prune"][..], 2, "--max-size"),
        (&["cache", "prune", "--max-size", "lots"], 2, "is not a size"),
        (&["cache", "prune", "--older-than", "soon"], 2, "is not a time"),
        (&["cache", "list", "--filter", "colour=red"], 2, "size>1GB"),
        (&["cache", "list", "--sort", "colour"], 2, "size, used or name"),
        (&["cache", "remove", "alice/nothing"], 6, "cache list"),
        (&["cache", "remove", "alice/m@v9"], 6, "v9"),
        (&["cache", "pin", "alice/m@v9"], 6, "v9"),
        (&["cache", "unpin", "alice/m"], 6, "not pinned"),
    ] {
        let ran = world.run(args).exits(code);
        assert!(ran.stderr.contains(part), "{args:?}: {}", ran.stderr);
    }
}
