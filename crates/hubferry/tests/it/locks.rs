//! Lock files: what is pinned stays what it was, wherever it comes from.

use serde_json::json;

use crate::harness::{ALICE, Hub, World, files_below, gguf, snapshot};

fn publish(world: &World, id: &str, files: &[(&str, &[u8])]) {
    let folder = world.work().join("publish");
    let _ = std::fs::remove_dir_all(&folder);
    world.tree("publish", files);
    world.run(&["sync", "./publish", id, "--yes", "-q"]).ok();
}

fn read(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.work().join(file)).unwrap()
}

fn names(world: &World, folder: &str) -> Vec<String> {
    files_below(&world.work().join(folder)).into_keys().filter(|name| !name.starts_with(".hubferry") && name != ".gitattributes").collect()
}

const FIRST: [(&str, &[u8]); 3] = [("README.md", b"---\nlicense: mit\n---\n"), ("config.json", b"{}"), ("model.bin", &[1; 20_000])];
const SECOND: [(&str, &[u8]); 3] = [("README.md", b"---\nlicense: other\n---\n"), ("model.bin", &[2; 20_000]), ("new.txt", b"new")];

#[test]
fn what_is_pinned_is_told_in_the_same_words_each_time() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/a", &FIRST);
    publish(&world, "ms:datasets/alice/b", &[("data.csv", b"1,2")]);
    let places = ["lock", "ms:datasets/alice/b", "hf:alice/a@main", "--exclude", ".gitattributes"];
    let runs =
        [world.run(&places), world.run(&[&places[..], &["-o", "models.lock"]].concat()), world.run(&["lock", "--check", "models.lock"])];
    assert_eq!(runs[0].stdout, read(&world, "models.lock"), "on stdout and in a file alike");
    assert_eq!(world.run(&["lock", "hf:alice/a@main", "ms:datasets/alice/b", "--exclude", ".gitattributes"]).ok().stdout, runs[0].stdout);
    publish(&world, "hf:alice/a", &SECOND);
    let checked = world.run(&["lock", "--check", "models.lock", "--json"]).exits(8).json();
    let changes = &checked["repositories"][0]["changes"];
    assert_eq!((&changes["added"], &changes["removed"]), (&json!(["new.txt"]), &json!(["config.json"])), "{checked}");
    assert_eq!(changes["changed"], json!(["README.md", "model.bin"]));
    assert_eq!((&changes["license"], &checked["repositories"][1]["changes"]["changed"]), (&json!(["mit", "other"]), &json!([])));
    let [first, second, third] = runs;
    let all = [
        first,
        second,
        third,
        world.run(&["lock", "--check", "models.lock"]),
        world.run(&["lock", "./publish"]),
        world.run(&["lock", "hf:alice/a", "hf:alice/a"]),
        world.run(&["lock", "hf:alice/none"]),
        world.run(&["lock", "--check", "publish/README.md"]),
        world.run(&["copy", "--locked", "models.lock", "./one-place"]),
    ];
    snapshot("lock", &world, &all);
}

#[test]
fn pinned_bytes_come_although_the_branch_went_on() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/a", &FIRST);
    publish(&world, "hf:alice/g", &[("m-Q4_K_M.gguf", &gguf(1)), ("m-Q8_0.gguf", &gguf(2))]);
    world.run(&["lock", "hf:alice/a", "-o", "a.lock", "-q"]).ok();
    world.run(&["lock", "hf:alice/g", "--quant", "Q8_0", "-o", "g.lock", "-q"]).ok();
    publish(&world, "hf:alice/a", &SECOND);
    world.run(&["copy", "--locked", "a.lock", "./dst", "-q"]).ok();
    assert_eq!(std::fs::read(world.work().join("dst/model.bin")).unwrap(), FIRST[2].1);
    assert_eq!(names(&world, "dst"), ["README.md", "config.json", "model.bin"]);
    let again = world.run(&["copy", "--locked", "a.lock", "./dst", "--json"]).ok().json();
    assert_eq!(again["moved_bytes"], 0, "{again}");
    // What was chosen is part of what is pinned.
    world.run(&["copy", "--locked", "g.lock", "./g", "-q"]).ok();
    assert_eq!(names(&world, "g"), ["m-Q8_0.gguf"]);
    // Several go to a place of their own each.
    let both = format!("{}{}", read(&world, "a.lock"), read(&world, "g.lock").split_once("version = 1\n").unwrap().1);
    std::fs::write(world.work().join("both.lock"), both).unwrap();
    world.run(&["copy", "--locked", "both.lock", "./all/{name}", "-q"]).ok();
    assert_eq!(names(&world, "all/a").len() + names(&world, "all/g").len(), 4);
}

#[test]
fn what_differs_from_the_lock_is_refused_and_a_mirror_stands_in() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/a", &FIRST);
    publish(&world, "ms:alice/mirror", &FIRST);
    publish(&world, "ms:alice/other", &SECOND);
    world.run(&["lock", "hf:alice/a", "--exclude", ".gitattributes", "-o", "a.lock", "-q"]).ok();
    let lock = read(&world, "a.lock");
    let write = |name: &str, text: String| std::fs::write(world.work().join(name), text).unwrap();
    // A hash that the hub publishes, one that it does not, and a size.
    let config = hubferry_core::digest::Oid::of(b"{}").to_string();
    let model = hubferry_core::digest::Oid::of(FIRST[2].1).to_string();
    for (from, to) in [(config.as_str(), "1".repeat(64)), (model.as_str(), "2".repeat(64)), ("size = 20000", "size = 20001".to_owned())] {
        assert!(lock.contains(from), "{lock}");
        write("wrong.lock", lock.replace(from, &to));
        let ran = world.run(&["copy", "--locked", "wrong.lock", "./wrong"]).exits(4);
        assert!(ran.stderr.contains("hint:"), "{}", ran.shown());
        assert!(names(&world, "wrong").is_empty(), "{}", ran.shown());
    }
    // Gone where it was: the same bytes from somewhere else, by any of two ways to say it.
    write("gone.lock", lock.replace("hf:alice/a", "hf:alice/gone"));
    world.run(&["copy", "--locked", "gone.lock", "./gone"]).exits(6);
    world.run(&["copy", "--locked", "gone.lock", "./also", "--also", "ms:alice/mirror", "-q"]).ok();
    world.run(&["copy", "--locked", "gone.lock", "ms:alice/mirror", "./from", "-q"]).ok();
    for folder in ["also", "from"] {
        assert_eq!(std::fs::read(world.work().join(folder).join("model.bin")).unwrap(), FIRST[2].1);
    }
    let ran = world.run(&["copy", "--locked", "gone.lock", "ms:alice/other", "./no"]).exits(4);
    assert!(ran.stderr.contains("is not what was pinned"), "{}", ran.shown());
    // A stranger's file is no way out of the destination.
    write("hostile.lock", lock.replace("path = \"config.json\"", "path = \"../config.json\""));
    world.run(&["copy", "--locked", "hostile.lock", "./x"]).exits(2);
    world.run(&["lock", "--check", "hostile.lock"]).exits(2);
}

#[test]
fn what_is_pinned_comes_into_the_cache_under_the_name_it_was_pinned_by() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/a", &FIRST);
    publish(&world, "hf:alice/b", &SECOND);
    world.run(&["lock", "hf:alice/a", "hf:alice/b@main", "-o", "models.lock", "-q"]).ok();
    let pinned = world.run(&["ls", "hf:alice/a", "--json"]).ok().json()["revision"].as_str().unwrap().to_owned();
    publish(&world, "hf:alice/a", &SECOND);
    let cache = world.home().join(".cache/huggingface/hub");
    let ran = world.run(&["download", "--locked", "models.lock"]).ok();
    let first = cache.join("models--alice--a/snapshots").join(&pinned);
    assert_eq!(ran.stdout.lines().next(), first.to_str(), "{}", ran.shown());
    assert_eq!(ran.stdout.lines().count(), 2);
    assert_eq!(std::fs::read(first.join("model.bin")).unwrap(), FIRST[2].1);
    assert_eq!(std::fs::read_to_string(cache.join("models--alice--a/refs/main")).unwrap(), pinned);
    let again = world.run(&["download", "--locked", "models.lock", "alice/a", "--json"]).ok().json();
    assert_eq!((&again["repositories"][0]["moved_bytes"], again["repositories"].as_array().unwrap().len()), (&json!(0), 1), "{again}");
    // Without a network the cache has to hold exactly that, byte for byte.
    let offline = world.with("HF_HUB_OFFLINE", "1");
    offline.run(&["download", "--locked", "models.lock"]).ok();
    std::fs::write(first.join("model.bin"), vec![3; 20_000]).unwrap();
    let lock = read(&offline, "models.lock");
    let model = hubferry_core::digest::Oid::of(FIRST[2].1).to_string();
    std::fs::write(offline.work().join("models.lock"), lock.replace(&model, &"4".repeat(64))).unwrap();
    let refused = offline.run(&["download", "--locked", "models.lock", "alice/a"]).exits(4);
    assert!(refused.stderr.contains("model.bin"), "{}", refused.shown());
    offline.run(&["download", "--locked", "models.lock", "alice/none"]).exits(6);
    offline.run(&["download"]).exits(2);
}
