//! Xet, in the builds that have it: against the store that its makers test with, the Python client and faults of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use hubferry_core::digest::Oid;
use serde_json::json;

use crate::harness::{ALICE, Ran, Seen, World, XetHub, bytes, files_below, full};

const MIB: usize = 1 << 20;

/// A folder with one large file of `size` bytes, a large one that compresses, and a small one.
fn folder(world: &World, size: usize) -> BTreeMap<String, Vec<u8>> {
    let text = "all work and no play makes a dull model\n".repeat(3 * MIB / 40);
    let files = [("w.safetensors", bytes(7, size)), ("text.bin", text.into_bytes()), ("config.json", b"{}\n".to_vec())];
    let listed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    world.tree("folder", &listed);
    files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect()
}

/// A hub to which the Python client published a folder by Xet, and a world to read it from.
fn published(size: usize) -> (XetHub, World, BTreeMap<String, Vec<u8>>) {
    let hub = XetHub::start();
    let world = hub.world();
    let files = folder(&world, size);
    hub.publish("alice/m", &world.work().join("folder"));
    assert!(hub.has(&Oid::of(&files["w.safetensors"]).to_string()), "the Python client did not use the store");
    (hub, world, files)
}

fn copied(world: &World, more: &[&str]) -> Ran {
    world.run(&[&["copy", "hf:alice/m", "./back"], more].concat()).ok()
}

#[track_caller]
fn agrees(world: &World, files: &BTreeMap<String, Vec<u8>>, ran: &Ran) {
    let mut back = files_below(&world.work().join("back"));
    back.remove(".gitattributes");
    assert!(back == *files, "other files or bytes came back: {:?}\n{}", back.keys(), ran.shown());
}

/// Whether a request came from hubferry, and not from the Python client.
fn is_ours(one: &Seen) -> bool {
    one.headers["user-agent"].as_str().is_some_and(|agent| agent.starts_with("hubferry/"))
}

/// Answers with file bytes that the store gave.
fn fetched(hub: &XetHub) -> usize {
    hub.seen("store").iter().filter(|one| one.method == "GET" && one.path.contains("fetch_term")).count()
}

#[test]
fn what_the_python_client_stored_comes_back_by_xet() {
    let (hub, world, files) = published(40 * MIB);
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert!(fetched(&hub) > 0, "{}", ran.shown());
    let resolved = |name: &str| hub.seen("hub").iter().any(|one| one.path.contains("/resolve/") && one.path.ends_with(name));
    assert!(!resolved("w.safetensors") && !resolved("text.bin"), "a large file went by plain HTTP\n{}", ran.shown());
    assert!(!ran.stderr.contains("Xet"), "{}", ran.shown());
    let parts = hub.seen("store").iter().filter(|one| one.path.contains("/reconstructions/") && !one.headers["range"].is_null()).count();
    assert!(parts > 2, "40 MiB were asked for in {parts} ranges");
}

#[test]
fn what_hubferry_stored_by_xet_comes_back_to_the_python_client() {
    let hub = XetHub::start();
    let world = hub.world();
    let files = folder(&world, 30 * MIB);
    let ran = world.run(&["copy", "./folder", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    for name in ["w.safetensors", "text.bin"] {
        assert!(hub.has(&Oid::of(&files[name]).to_string()), "{name} is not in the store\n{}", ran.shown());
    }
    let before = fetched(&hub);
    hub.python("read_hf.py", &["model", "alice/m", world.work().join("python").to_str().unwrap()]);
    let read = |name: &str| std::fs::read(world.work().join("python").join(name)).unwrap();
    assert!(files.iter().all(|(name, content)| read(name) == *content));
    assert!(fetched(&hub) > before, "the Python client did not read by Xet");
    // Once more moves nothing, and what is new of a file that is there in part is little.
    let ran = world.run(&["copy", "./folder", "hf:alice/m", "--max-memory", "288MiB", "--json"]).ok();
    assert_eq!(ran.json()["files"]["moved"].as_u64().unwrap_or(0), 0, "{}", ran.shown());
    assert!(world.run(&["verify", "hf:alice/m"]).ok().code == 0);
}

#[test]
fn each_token_stays_where_it_belongs_and_nothing_is_reported() {
    let (hub, world, files) = published(4 * MIB);
    agrees(&world, &files, &copied(&world, &[]));
    world.tree("more", &[("more.bin", &bytes(9, 3 * MIB))]);
    world.run(&["copy", "./more", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    let (store, at_hub) = (hub.seen("store"), hub.seen("hub"));
    let at_store: Vec<_> = store.iter().filter(|one| is_ours(one)).collect();
    assert!(at_store.iter().any(|one| one.path.contains("/shards")) && at_store.iter().any(|one| one.path.contains("fetch_term")));
    for one in &at_store {
        assert!(!one.headers.to_string().contains(ALICE), "the hub's token went to the store: {one:?}");
        assert!(!one.path.contains("telemetry"), "{one:?}");
    }
    for one in at_hub.iter().filter(|one| is_ours(one)) {
        assert!(!one.headers.to_string().contains("cas-"), "the store's token went to the hub: {one:?}");
    }
}

#[test]
fn a_flipped_byte_is_caught_and_the_file_healed_by_plain_http() {
    let (hub, world, files) = published(20 * MIB);
    hub.faults(&json!({"flip": true}));
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert!(ran.stderr.contains("goes by plain HTTP instead of Xet: wrong bytes arrived"), "{}", ran.shown());
}

#[test]
fn a_store_that_falls_silent_costs_one_stall_timeout() {
    let (hub, world, files) = published(20 * MIB);
    hub.faults(&json!({"stall": true}));
    let ran = copied(&world, &["--stall-timeout", "4"]);
    agrees(&world, &files, &ran);
    assert!(ran.took < Duration::from_secs(12), "{:?}\n{}", ran.took, ran.shown());
    assert!(ran.stderr.contains("goes by plain HTTP instead of Xet"), "{}", ran.shown());
}

#[test]
fn a_store_that_dies_in_the_middle_is_replaced_by_plain_http() {
    let (hub, world, files) = published(60 * MIB);
    let started = world.start(&["copy", "hf:alice/m", "./back", "--stall-timeout", "4", "--bwlimit", "20M"]);
    let begun = std::time::Instant::now();
    while fetched(&hub) < 2 {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing was fetched");
        std::thread::sleep(Duration::from_millis(20));
    }
    hub.faults(&json!({"dead": true}));
    let ran = started.wait().ok();
    agrees(&world, &files, &ran);
    assert!(ran.stderr.contains("goes by plain HTTP instead of Xet"), "{}", ran.shown());
}

#[test]
fn an_answer_that_makes_the_library_panic_is_an_error_like_any_other() {
    let (hub, world, files) = published(8 * MIB);
    hub.faults(&json!({"lie": true}));
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert!(ran.stderr.contains("goes by plain HTTP instead of Xet"), "{}", ran.shown());
}

#[test]
fn a_busy_store_is_asked_again() {
    let (hub, world, files) = published(8 * MIB);
    hub.faults(&json!({"busy": 2}));
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert!(!ran.stderr.contains("instead of Xet"), "{}", ran.shown());
}

#[test]
fn tokens_that_end_are_renewed() {
    let (hub, world, files) = published(20 * MIB);
    // The library renews half a minute before the end: these are at their end when they come.
    hub.faults(&json!({"life": 31}));
    let ran = copied(&world, &["--bwlimit", "8M"]);
    agrees(&world, &files, &ran);
    assert!(!ran.stderr.contains("instead of Xet"), "{}", ran.shown());
    let renewed = hub.seen("hub").iter().filter(|one| one.path.contains("xet-read-token")).count();
    assert!(renewed > 1, "{renewed} tokens");
}

#[test]
fn xet_can_be_switched_off() {
    let (hub, world, files) = published(4 * MIB);
    let world = world.with("HF_HUB_DISABLE_XET", "1");
    let (before, doctor) = (hub.seen("store").len(), world.run(&["doctor", "hf"]));
    assert!(doctor.stdout.contains("switched off by HF_HUB_DISABLE_XET"), "{}", doctor.shown());
    agrees(&world, &files, &copied(&world, &[]));
    world.tree("more", &[("more.bin", &bytes(9, 3 * MIB))]);
    world.run(&["copy", "./more", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    assert_eq!(hub.seen("store").len(), before);
    assert!(!hub.seen("hub").iter().any(|one| one.path.contains("xet-read-token") && is_ours(one)));
}

#[test]
fn a_hub_cannot_lead_the_library_to_folders_of_this_machine() {
    let (hub, world, files) = published(4 * MIB);
    let trap = world.home().join("trap");
    hub.faults(&json!({"store": format!("local://{}", trap.display())}));
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert!(ran.stderr.contains("instead of Xet"), "{}", ran.shown());
    world.tree("more", &[("more.bin", &bytes(9, 3 * MIB))]);
    world.run(&["copy", "./more", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    assert!(!trap.exists());
}

#[test]
fn a_hub_without_tokens_is_read_and_written_as_before() {
    let (hub, world, files) = published(4 * MIB);
    hub.faults(&json!({"no_token": true}));
    let ran = copied(&world, &[]);
    agrees(&world, &files, &ran);
    assert_eq!(ran.stderr.matches("instead of Xet").count(), 1, "{}", ran.shown());
    let more = bytes(9, 3 * MIB);
    world.tree("more", &[("more.bin", &more)]);
    let ran = world.run(&["copy", "./more", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    assert!(!hub.has(&Oid::of(&more).to_string()) && !ran.stderr.contains("Xet"), "{}", ran.shown());
}

#[test]
fn uploads_that_fail_by_xet_go_by_lfs() {
    let hub = XetHub::start();
    let world = hub.world();
    let files = folder(&world, 20 * MIB);
    for (fault, id) in [(json!({"dead": true}), "alice/dead"), (json!({"silent": true}), "alice/silent")] {
        hub.faults(&fault);
        let ran = world.run(&["copy", "./folder", &format!("hf:{id}"), "--max-memory", "288MiB", "--stall-timeout", "4"]).ok();
        assert!(ran.stderr.contains("goes by Git LFS instead of Xet"), "{}", ran.shown());
        assert!(ran.took < Duration::from_mins(1), "{:?}", ran.took);
        hub.faults(&json!({}));
        let back = world.run(&["copy", &format!("hf:{id}"), "./back"]).ok();
        agrees(&world, &files, &back);
        std::fs::remove_dir_all(world.work().join("back")).unwrap();
    }
}

#[test]
fn the_store_is_asked_about_chunks_of_public_repositories_only() {
    let hub = XetHub::start();
    let world = hub.world();
    folder(&world, 4 * MIB);
    let asked = || hub.seen("store").iter().filter(|one| one.path.contains("/v1/chunks/")).count();
    world.run(&["copy", "./folder", "hf:alice/closed", "--visibility", "private", "--max-memory", "288MiB"]).ok();
    assert!(hub.seen("store").iter().any(|one| one.path.contains("/shards")));
    assert_eq!(asked(), 0);
    world.tree("other", &[("o.bin", &bytes(11, 4 * MIB))]);
    world.run(&["copy", "./other", "hf:alice/open", "--visibility", "public", "--max-memory", "288MiB"]).ok();
    assert!(asked() > 0);
}

#[test]
fn memory_stays_within_its_limit() {
    let size = if full() { 300 } else { 120 } * MIB;
    let hub = XetHub::start();
    let world = hub.world();
    let content = bytes(5, size);
    world.tree("folder", &[("w.safetensors", &content)]);
    let up = world.run(&["copy", "./folder", "hf:alice/m", "--max-memory", "288MiB"]).ok();
    assert!(hub.has(&Oid::of(&content).to_string()), "{}", up.shown());
    let down = copied(&world, &[]);
    assert!(fetched(&hub) > 0 && !down.stderr.contains("instead of Xet"), "{}", down.shown());
    assert!(std::fs::read(world.work().join("back/w.safetensors")).unwrap() == content);
    let peaks = [up.peak, down.peak].map(|peak| peak >> 20);
    println!("{} MiB by Xet: {} MiB of memory up, {} MiB down", size / MIB, peaks[0], peaks[1]);
    assert!(peaks[0] <= 288 && peaks[1] <= 72, "{peaks:?}");
}

#[test]
fn without_the_memory_uploads_go_by_lfs() {
    let hub = XetHub::start();
    let world = hub.world();
    let files = folder(&world, 4 * MIB);
    world.run(&["copy", "./folder", "hf:alice/m"]).ok();
    assert!(!hub.has(&Oid::of(&files["w.safetensors"]).to_string()));
}
