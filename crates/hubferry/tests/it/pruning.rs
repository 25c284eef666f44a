//! What a tool before this one got wrong when it made room in a cache, each mistake as a test that bears its number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{ALICE, Hub, World, bytes, files_below, python};

const MIB: u64 = 1 << 20;

fn cache(world: &World) -> PathBuf {
    world.home().join(".cache/huggingface/hub")
}

/// What the files below a folder take on the disk, each once.
fn du(at: &Path) -> u64 {
    let out = Command::new("du").args(["-s", "-B1"]).arg(at).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Publishes a revision and brings it into the cache; gives its commit.
fn bring(world: &World, place: &str, files: &[(&str, &[u8])]) -> String {
    let folder = world.work().join("published");
    drop(std::fs::remove_dir_all(&folder));
    world.tree("published", files);
    let done = world.run(&["sync", "./published", place, "--json", "-q"]).ok().json();
    world.run(&["download", place, "-q"]).ok();
    done["destination_revision"].as_str().unwrap().to_owned()
}

/// Lets something look as if it had been made, or used, so many days ago.
fn age(at: &Path, days: u64) {
    let status = Command::new("find").arg(at).args(["-exec", "touch", "-h", "-d", &format!("{days} days ago"), "{}", "+"]).status();
    assert!(status.unwrap().success());
}

fn commits(world: &World) -> Vec<String> {
    let answer = world.run(&["cache", "list", "--revisions", "--json"]).ok().json();
    let revisions = answer["revisions"].as_array().unwrap();
    let mut found: Vec<String> = revisions.iter().map(|rev| rev["commit"].as_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn c03_unfinished_files_locks_and_running_downloads_are_spared() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    bring(&world, "hf:alice/m", &[("model.bin", &bytes(1, 300_000))]);
    let folder = cache(&world).join("models--alice--m");
    age(&cache(&world), 40);
    let unfinished = folder.join("blobs").join(format!("{}.01234567.incomplete", "a".repeat(64)));
    let temporary = folder.join(".hubferry/run-x/part");
    std::fs::create_dir_all(temporary.parent().unwrap()).unwrap();
    for at in [&unfinished, &temporary] {
        std::fs::write(at, bytes(2, 50_000)).unwrap();
    }
    let lock = cache(&world).join(".locks/models--alice--m").join(format!("{}.lock", "a".repeat(64)));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, b"").unwrap();
    let before: BTreeMap<String, Vec<u8>> = files_below(&cache(&world));
    // Under the budget, over it, and by every rule at once.
    world.run(&["cache", "prune", "--max-size", "1GB"]).ok();
    world.run(&["cache", "prune", "--unused"]).ok();
    world.run(&["cache", "prune", "--max-size", "1k", "--unused", "--older-than", "1d", "--refs"]).exits(3);
    assert_eq!(files_below(&cache(&world)), before);
}

#[test]
fn c04_after_a_prune_the_cache_fits_although_revisions_share_bytes() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let shared = bytes(3, 2 << 20);
    let revisions: Vec<String> =
        (0..3).map(|n| bring(&world, "hf:alice/m", &[("shared.bin", &shared), ("own.bin", &bytes(10 + n, 1 << 20))])).collect();
    bring(&world, "hf:alice/other", &[("other.bin", &bytes(20, 1 << 20))]);
    let blobs = |name: &str| du(&cache(&world).join(name).join("blobs"));
    let held = || blobs("models--alice--m") + blobs("models--alice--other");
    assert!(held() >= 6 * MIB);
    // If the shared bytes of a revision counted as freed, one revision would seem to be enough.
    let budget = 4 * MIB + MIB / 2;
    let before = du(&cache(&world));
    let done = world.run(&["cache", "prune", "--max-size", &budget.to_string(), "--json"]).ok().json();
    assert!(held() <= budget, "{} bytes stay: {done}", held());
    assert_eq!(before - du(&cache(&world)), done["freed"].as_u64().unwrap());
    assert_eq!(done["revisions"].as_array().unwrap().len(), 2, "{done}");
    assert!(commits(&world).contains(&revisions[2]), "what main names stays");
    world.run(&["cache", "verify"]).ok();
    // It cannot fit: the exit code says so, and nothing that is named is gone.
    world.run(&["cache", "prune", "--max-size", "1M"]).exits(3);
    assert_eq!(commits(&world).len(), 2);
}

#[test]
fn c05_equal_bytes_in_two_repositories_count_as_often_as_they_lie_on_the_disk() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let same = bytes(5, 1 << 20);
    bring(&world, "hf:alice/one", &[("model.bin", &same)]);
    bring(&world, "hf:alice/two", &[("model.bin", &same)]);
    let listed = world.run(&["cache", "list", "--json"]).ok().json();
    let sizes: Vec<u64> = listed["repositories"].as_array().unwrap().iter().map(|repo| repo["bytes"].as_u64().unwrap()).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|bytes| *bytes >= MIB), "{listed}");
    // Both are over the budget, although their contents are the same bytes once.
    let before = du(&cache(&world));
    let budget = (MIB + MIB / 2).to_string();
    let done = world.run(&["cache", "prune", "--max-size", &budget, "--refs", "--json"]).ok().json();
    assert_eq!(done["repositories"].as_array().unwrap().len(), 1, "{done}");
    let freed = before - du(&cache(&world));
    assert!(freed >= MIB && freed == done["freed"].as_u64().unwrap(), "{freed}: {done}");
}

#[test]
fn c18_what_was_used_is_known_without_access_times() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    for (name, seed) in [("older", 30), ("newer", 31)] {
        bring(&world, &format!("hf:alice/{name}"), &[("model.bin", &bytes(seed, 300_000))]);
    }
    age(&cache(&world), 40);
    world.run(&["download", "alice/older", "-q"]).ok();
    // A backup reads everything of the other one just now: its times say the opposite.
    let other = cache(&world).join("models--alice--newer");
    age(&cache(&world).join("models--alice--older/blobs"), 60);
    for entry in std::fs::read_dir(other.join("blobs")).unwrap() {
        let status = Command::new("touch").args(["-a", "-d", "20 days ago"]).arg(entry.unwrap().path()).status().unwrap();
        assert!(status.success());
    }
    let done = world.run(&["cache", "prune", "--max-size", "400k", "--refs", "--json"]).ok().json();
    assert_eq!(done["repositories"], serde_json::json!(["models--alice--newer"]), "{done}");
    // Bytes that a new revision shares with an old one do not make the old one used.
    let shared = bytes(33, 300_000);
    let old = bring(&world, "hf:alice/m", &[("shared.bin", &shared), ("own.bin", &bytes(34, 200_000))]);
    age(&cache(&world).join("models--alice--m"), 40);
    let new = bring(&world, "hf:alice/m", &[("shared.bin", &shared), ("own.bin", &bytes(35, 200_000))]);
    let done = world.run(&["cache", "prune", "--older-than", "30d", "--json"]).ok().json();
    let gone: Vec<&str> = done["revisions"].as_array().unwrap().iter().map(|rev| rev["commit"].as_str().unwrap()).collect();
    assert!(gone == [old.as_str()] && commits(&world).contains(&new), "{done}");
}

#[test]
fn c27_a_model_and_a_dataset_of_one_name_have_sizes_of_their_own() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    bring(&world, "hf:alice/x", &[("model.bin", &bytes(40, 2 << 20))]);
    bring(&world, "hf:datasets/alice/x", &[("data.bin", &bytes(41, 300_000))]);
    let listed = world.run(&["cache", "list", "--json"]).ok().json();
    let size = |kind: &str| -> u64 {
        let repos = listed["repositories"].as_array().unwrap();
        repos.iter().find(|repo| repo["kind"] == kind).and_then(|repo| repo["bytes"].as_u64()).unwrap_or_else(|| panic!("{listed}"))
    };
    assert!(size("model") >= 2 * MIB && (300_000..MIB).contains(&size("dataset")), "{listed}");
    age(&cache(&world).join("models--alice--x"), 40);
    let before = du(&cache(&world));
    let done = world.run(&["cache", "prune", "--max-size", "1M", "--refs", "--json"]).ok().json();
    assert_eq!(done["repositories"], serde_json::json!(["models--alice--x"]));
    assert_eq!(before - du(&cache(&world)), done["freed"].as_u64().unwrap());
    let scan: Value = python(&world, "hf", "cache_hf.py", &["scan"]).ok().json();
    assert_eq!(scan["repos"].as_object().unwrap().keys().collect::<Vec<_>>(), ["dataset/alice/x"]);
}
