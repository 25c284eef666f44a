//! The cache of ModelScope's clients, shared with both of them.

use std::collections::BTreeMap;

use hubferry_server::testing::{Method, Seen};
use serde_json::Value;

use crate::harness::{ALICE, Hub, World, bytes, python};

#[track_caller]
fn ask(world: &World, client: &str, args: &[&str]) -> Value {
    let environment = if client == "new" { "ms" } else { "ms-classic" };
    let ran = python(world, environment, "cache_ms.py", &[&[client], args].concat()).ok();
    // The classic client prints its banner as well.
    serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap()
}

/// Where the clients of the tests have their cache.
fn world(hub: &Hub) -> World {
    let world = hub.world(ALICE);
    let cache = world.home().join("ms-cache");
    world.with("MODELSCOPE_CACHE", cache.to_str().unwrap())
}

fn files(answer: &Value) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = serde_json::from_value(answer["files"].clone()).unwrap();
    // The others are the hub's own.
    files.retain(|name, _| name == "configuration.json" || name.starts_with("deep/"));
    files
}

fn hashes(files: &[(&str, &[u8])]) -> BTreeMap<String, String> {
    files.iter().map(|(path, content)| ((*path).to_owned(), hubferry_core::digest::Oid::of(content).to_string())).collect()
}

fn publish<'a>(world: &World, id: &str, large: &'a [u8]) -> Vec<(&'a str, &'a [u8])> {
    let files: Vec<(&str, &[u8])> = vec![("configuration.json", b"{\"task\": \"x\"}"), ("deep/er/model.bin", large)];
    world.tree("src", &files);
    // The classic client asks for branches without its session.
    world.run(&["sync", "./src", id, "--visibility", "public", "-q"]).ok();
    files
}

fn fetched(hub: &Hub, name: &str) -> usize {
    hub.script.seen().iter().filter(|seen: &&Seen| seen.method == Method::GET && seen.target().contains(name)).count()
}

#[test]
fn what_we_bring_the_client_takes_for_its_own_online_and_off() {
    let hub = Hub::start();
    let world = world(&hub);
    let large = bytes(1, 900_000);
    for (kind, place, id) in [("model", "ms:alice/m-1.5", "alice/m-1.5"), ("dataset", "ms:datasets/alice/d", "alice/d")] {
        let published = publish(&world, place, &large);
        let cached = place.replace("ms:", "mscache:");
        world.run(&["copy", place, &cached, "-q"]).ok();
        let again = world.run(&["copy", place, &cached, "--json"]).ok().json();
        assert_eq!(again["moved_bytes"], 0);
        hub.script.reset();
        let answer = ask(&world, "new", &[kind, id]);
        assert_eq!(files(&answer), hashes(&published), "{kind}");
        assert_eq!(fetched(&hub, "model.bin"), 0, "{:?}", hub.script.seen());
        let answer = ask(&world, "new", &[kind, id, "offline"]);
        assert_eq!(files(&answer), hashes(&published));
        assert!(answer["path"].as_str().unwrap().ends_with("snapshots/master"), "{answer}");
    }
}

#[test]
fn what_either_client_brought_we_use() {
    for client in ["new", "classic"] {
        let hub = Hub::start();
        let world = world(&hub);
        let large = bytes(2, 900_000);
        let published = publish(&world, "ms:alice/m-1.5", &large);
        ask(&world, client, &["model", "alice/m-1.5"]);
        world.run(&["diff", "ms:alice/m-1.5", "mscache:alice/m-1.5", "--exclude", ".gitattributes"]).ok();
        hub.script.reset();
        world.run(&["copy", "mscache:alice/m-1.5", "./out", "-q"]).ok();
        for (path, content) in &published {
            assert_eq!(std::fs::read(world.work().join("out").join(path)).unwrap(), *content, "{client}: {path}");
        }
        assert_eq!(hub.script.seen().len(), 0, "{client}: the cache is of this machine");
        let more = world.run(&["copy", "ms:alice/m-1.5", "mscache:alice/m-1.5", "--json"]).ok().json();
        assert!(more["moved_bytes"].as_u64().unwrap() < 10_000, "{client}: {more}");
        assert_eq!(files(&ask(&world, client, &["model", "alice/m-1.5", "offline"])), hashes(&published), "{client}");
    }
}
