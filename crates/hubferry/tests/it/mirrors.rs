//! Keeping places in step: round trips, awkward names, deletions, branches and tags.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{ALICE, Hub, World, bytes, files_below, send};

/// A folder without what hubs add by themselves.
fn own(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_below(folder);
    files.remove(".gitattributes");
    files
}

#[test]
fn awkward_names_survive_a_round_trip() {
    let hub = Hub::with_cdn();
    let world = hub.world(ALICE);
    let long = format!("{}.txt", "n".repeat(251));
    let (large, larger) = (bytes(4, 70_000), bytes(5, 11 << 20));
    let names = [
        "with space.txt",
        "#1 100%.txt",
        "100%25.txt",
        "a+b&c=d;e?.txt",
        "quote'\"`.txt",
        "$HOME ~ * [x] {y}.txt",
        "-dash",
        ".hidden/.file",
        "\u{fc}ml\u{e4}ut/\u{65e5}\u{672c}\u{8a9e}.txt",
        "u\u{308}ml/decomposed.txt",
        "crab \u{1f980}.txt",
        "deep/er/and/deep/er/still.txt",
        "trailing dot.",
        "ab:cd.txt",
        "@at@.txt",
        "resolve/main/tree.json",
        "commas, (and) !more.txt",
        "%2e%2e%2fescape.txt",
        long.as_str(),
    ];
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, name.as_bytes())).collect();
    files.extend([("empty", &b""[..]), ("weights #2.bin", &large), ("also/weights #2 copy.bin", &large), ("larger.safetensors", &larger)]);
    let folder = world.tree("awkward", &files);
    let want = own(&folder);
    for kind in ["", "datasets/"] {
        let (hf, ms) = (format!("hf:{kind}alice/awkward"), format!("ms:{kind}alice/other"));
        world.run(&["copy", "./awkward", &hf, "-q"]).ok();
        world.run(&["copy", &hf, &ms, "-q"]).ok();
        for (number, place) in [&hf, &ms].into_iter().enumerate() {
            let back = format!("back-{number}-{}", kind.len());
            world.run(&["copy", place, &format!("./{back}"), "-q", "--exclude", "/README.md", "--exclude", "/dataset_infos.json"]).ok();
            assert_eq!(own(&world.work().join(&back)), want, "{place}");
            world
                .run(&[
                    "verify",
                    place,
                    "--against",
                    "./awkward",
                    "-q",
                    "--exclude",
                    "/.gitattributes",
                    "--exclude",
                    "/README.md",
                    "--exclude",
                    "/dataset_infos.json",
                ])
                .ok();
            let again = world.run(&["copy", "./awkward", place, "-q", "--json"]).ok().json();
            assert_eq!((&again["moved_bytes"], &again["plan"]["steps"]), (&0.into(), &serde_json::json!([])), "{again}");
        }
    }
    assert_eq!(world.run(&["cat", "hf:alice/awkward/#1 100%.txt"]).ok().stdout, "#1 100%.txt");
    assert_eq!(world.run(&["cat", "ms:alice/other/\u{fc}ml\u{e4}ut/\u{65e5}\u{672c}\u{8a9e}.txt"]).ok().stdout, names[8]);
}

#[test]
fn sync_makes_equal_and_guards_what_it_deletes() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("one", &[("keep.txt", b"keep"), ("change.txt", b"one"), ("gone/a.txt", b"a"), ("gone/b.txt", b"b")]);
    let two = world.tree("two", &[("keep.txt", b"keep"), ("change.txt", b"two"), ("new.txt", b"new"), ("gone", b"now a file")]);
    world.tree("empty", &[]);
    for place in ["hf:alice/mirror", "ms:alice/mirror-2", "./mirror"] {
        world.run(&["sync", "./one", place, "-q", "--visibility", "public"]).ok();
        world.run(&["sync", "./two", place, "-q", "--max-delete", "1"]).exits(1);
        world.run(&["sync", "./empty", place, "-q"]).exits(1);
        world.run(&["diff", "./one", place, "-q"]).ok();
        let plan = world.run(&["sync", "./two", place, "-q", "--dry-run", "--json"]).ok().json();
        let report = world.run(&["sync", "./two", place, "-q", "--json"]).ok().json();
        assert_eq!(plan["plan"], report["plan"], "{place}: what was planned is what was done");
        assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{place}");
        world.run(&["diff", "./two", place, "-q"]).ok();
        let again = world.run(&["sync", "./two", place, "-q", "--json"]).ok().json();
        assert_eq!((&again["commits"], &again["wire"]["sent"]), (&serde_json::json!([]), &0.into()), "{place}: {again}");
    }
    assert_eq!(files_below(&world.work().join("mirror")), files_below(&two));
    // A copy adds and updates, and leaves the rest alone.
    world.run(&["copy", "./one", "./mirror", "-q", "--exclude", "gone/"]).ok();
    let mirror = files_below(&world.work().join("mirror"));
    assert_eq!((&mirror["change.txt"][..], mirror.contains_key("new.txt")), (&b"one"[..], true));
    // What a filter leaves out is not deleted, unless that is asked for.
    world.run(&["sync", "./one", "hf:alice/mirror", "-q", "--include", "keep.txt"]).ok();
    let left = world.run(&["ls", "hf:alice/mirror"]).ok().stdout;
    assert!(left.contains("keep.txt") && left.contains("change.txt") && left.contains("new.txt"), "{left}");
    world.run(&["sync", "./one", "hf:alice/mirror", "-q", "--include", "keep.txt", "--delete-excluded"]).ok();
    let left = world.run(&["ls", "hf:alice/mirror"]).ok().stdout;
    assert_eq!(left, ".gitattributes\nkeep.txt\n");
}

#[test]
fn branches_and_tags() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("one", &[("version.txt", b"one")]);
    world.tree("two", &[("version.txt", b"two")]);
    world.run(&["copy", "./one", "hf:alice/refs", "-q", "--visibility", "public"]).ok();
    for (path, body) in [("tag/main", r#"{"tag": "v1.0"}"#), ("branch/feature%2Fx", "{}")] {
        let (status, answer) = send("POST", &format!("{}/api/models/alice/refs/{path}", hub.hf), ALICE, Some(body));
        assert!(status < 300, "{status} {answer}");
    }
    let first = hub.commits("alice/refs").remove(0).0;
    world.run(&["copy", "./two", "hf:alice/refs@feature%2Fx", "-q"]).ok();
    let cat = |place: &str| world.run(&["cat", place]).ok().stdout;
    for (place, content) in [
        ("hf:alice/refs/version.txt", "one"),
        ("hf:alice/refs@main/version.txt", "one"),
        ("hf:alice/refs@v1.0/version.txt", "one"),
        ("ms:alice/refs@v1.0/version.txt", "one"),
        ("hf:alice/refs@feature%2Fx/version.txt", "two"),
        (&format!("hf:alice/refs@{first}/version.txt"), "one"),
        (&format!("ms:alice/refs@{first}/version.txt"), "one"),
        (&format!("{}/alice/refs/resolve/v1.0/version.txt", hub.hf), "one"),
    ] {
        assert_eq!(cat(place), content, "{place}");
    }
    world.run(&["copy", "./two", "hf:alice/refs", "-q"]).ok();
    let report = world.run(&["copy", "hf:alice/refs@v1.0", "ms:alice/release", "--json", "-q"]).ok().json();
    assert_eq!(report["source_revision"], first.as_str());
    assert_eq!(cat("ms:alice/release/version.txt"), "one");
    // A branch of the destination that is not there yet is not made by accident.
    let ran = world.run(&["copy", "./two", "hf:alice/refs@next", "-q"]).exits(6);
    assert!(ran.stderr.contains("create the branch"), "{}", ran.shown());
    // A tag and a commit cannot be written to.
    for place in ["hf:alice/refs@v1.0", "ms:alice/refs@v1.0", &format!("hf:alice/refs@{first}")] {
        let ran = world.run(&["copy", "./two", place, "-q"]);
        assert!((1..=7).contains(&ran.code) && ran.stderr.contains("branch"), "{}", ran.shown());
        assert_eq!(cat("hf:alice/refs@v1.0/version.txt"), "one");
    }
}

#[test]
fn folders_and_files_of_a_repository() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", b"{}"), ("onnx/model.onnx", b"onnx"), ("onnx/sub/data.bin", b"data")]);
    world.run(&["copy", "./model", "hf:alice/parts", "-q"]).ok();
    world.run(&["copy", "hf:alice/parts/onnx", "./onnx", "-q"]).ok();
    let onnx: BTreeMap<_, _> =
        [("model.onnx".to_owned(), b"onnx".to_vec()), ("sub/data.bin".to_owned(), b"data".to_vec())].into_iter().collect();
    assert_eq!(files_below(&world.work().join("onnx")), onnx);
    world.run(&["copy", "./onnx", "ms:alice/collected/weights", "-q"]).ok();
    assert_eq!(world.run(&["cat", "ms:alice/collected/weights/sub/data.bin"]).ok().stdout, "data");
    // A sync of a folder leaves the rest of the repository alone.
    world.run(&["sync", "./onnx", "hf:alice/parts/other", "-q"]).ok();
    let listed = world.run(&["ls", "hf:alice/parts", "--json"]).ok().json();
    assert_eq!(listed["files"].as_array().unwrap().len(), 3 + 2 + 1, "{listed}");
}

#[test]
fn several_sources_go_to_a_namespace() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    for name in ["first", "second"] {
        world.tree(name, &[("name.txt", name.as_bytes())]);
        world.run(&["copy", &format!("./{name}"), &format!("hf:alice/{name}"), "-q"]).ok();
    }
    let report = world.run(&["copy", "hf:alice/first", "hf:alice/none", "hf:alice/second", "ms:alice/", "--json", "-q"]).exits(3).json();
    let exits: Vec<_> = report["results"].as_array().unwrap().iter().map(|result| result["exit"].as_u64()).collect();
    assert_eq!(exits, [None, Some(6), None], "{report}");
    for name in ["first", "second"] {
        assert_eq!(world.run(&["cat", &format!("ms:alice/{name}/name.txt")]).ok().stdout, name);
    }
}

#[test]
fn several_copies_at_once_to_one_place() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("seed", &[("seed.txt", b"seed")]);
    let names = ["a", "b", "c", "d"];
    for name in names {
        let large = bytes(name.len() as u64 + u64::from(name.as_bytes()[0]), 300_000);
        world.tree(name, &[(&format!("{name}.bin"), &large), (&format!("{name}.txt"), name.as_bytes()), ("shared.txt", name.as_bytes())]);
    }
    for place in ["hf:alice/shared", "ms:alice/shared-2", "./shared"] {
        world.run(&["copy", "./seed", place, "-q"]).ok();
        let started: Vec<_> = names.iter().map(|name| world.start(&["copy", &format!("./{name}"), place, "-q", "--json"])).collect();
        for run in started {
            let report = run.wait().ok().json();
            assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{place}: {report}");
        }
        let listed = world.run(&["ls", place]).ok().stdout;
        for name in names {
            assert!(listed.contains(&format!("{name}.bin")) && listed.contains(&format!("{name}.txt")), "{place}: {listed}");
            world.run(&["verify", place, "--against", &format!("./{name}"), "--include", &format!("{name}.*"), "-q"]).ok();
        }
        assert!(listed.contains("seed.txt") && listed.contains("shared.txt"), "{place}: {listed}");
    }
}

#[test]
fn a_source_that_changes_while_it_is_read() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    for place in ["hf:alice/moving", "ms:alice/moving-2", "./moving"] {
        let (first, second) = (bytes(30, 1_500_000), bytes(31, 400_000));
        let folder = world.tree("source", &[("a-large.bin", &first), ("b-small.bin", &second), ("config.json", b"{}")]);
        let run = world.start(&["copy", "./source", place, "-q", "--transfers", "1", "--bwlimit", "1M"]);
        std::thread::sleep(std::time::Duration::from_millis(700));
        // Written over in place, as an editor or a training run would.
        std::fs::write(folder.join("b-small.bin"), bytes(32, 400_000)).unwrap();
        let ran = run.wait();
        assert!(matches!(ran.code, 0 | 4 | 7), "{place}\n{}", ran.shown());
        if ran.code != 0 {
            assert!(ran.stderr.contains("hint: "), "{}", ran.shown());
            let listed = world.run(&["ls", place]);
            assert!(!listed.stdout.contains("b-small.bin"), "{place}: {}", listed.shown());
        }
        world.run(&["copy", "./source", place, "-q"]).ok();
        world.run(&["verify", place, "--against", "./source", "-q", "--exclude", "/.gitattributes", "--exclude", "/README.md"]).ok();
    }
}

#[test]
fn a_repository_onto_itself_and_back_and_forth() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    world.tree("model", &[("model.bin", &bytes(33, 100_000)), ("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let itself = world.run(&["sync", "hf:alice/model", "hf:alice/model", "-q", "--json"]).ok().json();
    assert_eq!(itself["commits"], serde_json::json!([]));
    world.run(&["sync", "hf:alice/model", "ms:alice/model", "-q"]).ok();
    // Equal on both sides now: neither direction finds anything to do.
    for (source, destination) in [("hf:alice/model", "ms:alice/model"), ("ms:alice/model", "hf:alice/model")] {
        let report = world.run(&["sync", source, destination, "-q", "--json"]).ok().json();
        assert_eq!((&report["commits"], &report["wire"]["sent"]), (&serde_json::json!([]), &0.into()), "{report}");
        world.run(&["diff", source, destination, "-q"]).ok();
    }
}
