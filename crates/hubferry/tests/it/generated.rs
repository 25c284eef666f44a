//! Files that a hub wrote by itself: they stay where they are, take nobody's place, and are told apart from the rest.

use crate::harness::{ALICE, Hub, World, files_below, python};

const OURS: &[u8] = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.ours filter=lfs diff=lfs merge=lfs -text\n";

#[test]
fn what_a_hub_generated_does_not_take_the_place_of_what_somebody_wrote() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    // Here the rules are the hub's; there the rules and the card are ours.
    world.tree("model", &[("config.json", b"{}"), ("model.bin", b"weights")]);
    world.tree("there", &[(".gitattributes", OURS), ("README.md", b"# Ours\n")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "./there", "ms:alice/model", "-q"]).ok();
    let copy = ["copy", "hf:alice/model", "ms:alice/model", "--json", "-q"];
    let report = world.run(&copy).ok().json();
    assert_eq!(report["generated"], serde_json::json!([".gitattributes"]), "{report}");
    let cat = |place: &str| world.run(&["cat", place]).ok().stdout;
    assert_eq!(cat("ms:alice/model/.gitattributes").as_bytes(), OURS);
    assert_eq!(cat("ms:alice/model/README.md"), "# Ours\n");
    // The client of the hub finds what is ours and what came.
    let folder = world.work().join("read");
    python(&world, "ms", "read_ms.py", &["new", "model", "alice/model", folder.to_str().unwrap()]).ok();
    let read = files_below(&folder);
    let want: [(&str, &[u8]); 4] =
        [(".gitattributes", OURS), ("README.md", b"# Ours\n"), ("config.json", b"{}"), ("model.bin", b"weights")];
    assert!(want.iter().all(|(path, content)| read.get(*path).is_some_and(|bytes| bytes == content)), "{:?}", read.keys());
    let again = world.run(&copy).ok().json();
    assert!(again["commits"].as_array().unwrap().is_empty(), "{again}");
    let verified = world.run(&["verify", "ms:alice/model", "--against", "hf:alice/model", "--json"]).ok().json();
    assert_eq!(
        (&verified["summary"]["generated"], &verified["summary"]["matched"], &verified["summary"]["extra"]),
        (&1.into(), &2.into(), &1.into()),
        "{verified}"
    );
    // Told to change nothing, a copy takes every file for a file.
    let raw = world.run(&["copy", "hf:alice/model", "ms:alice/model", "--json", "-q", "--raw"]).ok().json();
    assert_eq!(raw["plan"]["steps"][0]["path"], ".gitattributes", "{raw}");
    assert_ne!(cat("ms:alice/model/.gitattributes").as_bytes(), OURS);
}

#[test]
fn a_card_that_says_only_that_there_is_none_stays_at_its_hub() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    world.tree("model", &[("config.json", b"{}")]);
    world.tree("card", &[("README.md", b"---\nlicense: mit\n---\n# Ours\n")]);
    world.run(&["copy", "./model", "ms:alice/model", "-q"]).ok();
    assert!(world.run(&["cat", "ms:alice/model/README.md"]).ok().stdout.contains("default Readme template"));
    // To a new repository, shown first: the plan is what happens.
    let planned = world.run(&["copy", "ms:alice/model", "hf:alice/model", "--json", "-n"]).ok().json();
    let report = world.run(&["copy", "ms:alice/model", "hf:alice/model", "--json", "-q"]).ok().json();
    for said in [&planned, &report] {
        assert_eq!(said["generated"], serde_json::json!(["README.md"]), "{said}");
        assert_eq!(said["transformed"], serde_json::json!([]), "{said}");
    }
    world.run(&["cat", "hf:alice/model/README.md"]).exits(6);
    let verified = world.run(&["verify", "hf:alice/model", "--against", "ms:alice/model"]).ok().stdout;
    assert!(verified.contains("generated  README.md") && verified.contains("1 generated, 0 findings"), "{verified}");
    // A real one, written there since, is not lost to it.
    world.run(&["copy", "./card", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "ms:alice/model", "hf:alice/model", "-q"]).ok();
    assert!(world.run(&["cat", "hf:alice/model/README.md"]).ok().stdout.contains("# Ours"));
    let shown = world.run(&["diff", "ms:alice/model", "hf:alice/model"]).ok().stdout;
    assert!(shown.contains("generated  README.md"), "{shown}");
    // And it does go where the card without content stands.
    world.run(&["copy", "hf:alice/model", "ms:alice/model", "-q"]).ok();
    assert!(world.run(&["cat", "ms:alice/model/README.md"]).ok().stdout.contains("# Ours"));
}

#[test]
fn sync_deletes_what_somebody_left_there_and_not_what_the_hub_wrote() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("old", &[("config.json", b"{}"), ("old.bin", b"weights")]);
    world.tree("new", &[("config.json", b"{}")]);
    for place in ["ms:alice/model", "hf:alice/other"] {
        world.run(&["copy", "./old", place, "-q"]).ok();
        let report = world.run(&["sync", "./new", place, "--json", "-q"]).ok().json();
        let steps: Vec<_> = report["plan"]["steps"].as_array().unwrap().iter().map(|step| step["path"].as_str().unwrap()).collect();
        assert_eq!(steps, ["old.bin"], "{report}");
        assert!(world.run(&["ls", place]).ok().stdout.contains(".gitattributes"));
        let raw = world.run(&["sync", "./new", place, "--json", "-n", "--raw"]).ok().json();
        assert!(raw["plan"]["steps"].as_array().unwrap().iter().any(|step| step["path"] == ".gitattributes"), "{raw}");
    }
}
