//! Cards on their way from one hub to another: the licence in the words of the hub, every other byte as it was.

use crate::harness::{ALICE, Hub, World, python};

#[test]
fn a_licence_is_put_into_the_words_of_the_hub() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let card = "---\r\n# chosen by us\r\nlanguage:\r\n- en\r\nlicense:\r\n- Apache License 2.0\r\n- gemma-x 3\r\ntags: [a, 'b']\r\n---\r\n# Text\r\nlicense: none\r\n";
    world.tree(
        "model",
        &[("README.md", card.as_bytes()), ("model.bin", b"weights"), ("onnx/README.md", b"---\nlicense: Apache License 2.0\n---\n")],
    );
    // From a directory it goes as it is.
    world.run(&["copy", "./model", "ms:alice/model", "-q"]).ok();
    assert_eq!(world.run(&["cat", "ms:alice/model/README.md"]).ok().stdout, card);
    let copy = ["copy", "ms:alice/model", "hf:alice/model", "--json", "-q"];
    let report = world.run(&copy).ok().json();
    let want = card.replace("Apache License 2.0", "apache-2.0").replace("- gemma-x 3", "- other");
    let got = world.run(&["cat", "hf:alice/model/README.md"]).ok().stdout;
    assert!(got.contains("license_name: gemma-x-3\r\n"), "{got}");
    assert_eq!(got.replace("license_name: gemma-x-3\r\n", ""), want);
    assert_eq!(world.run(&["cat", "hf:alice/model/onnx/README.md"]).ok().stdout, "---\nlicense: Apache License 2.0\n---\n");
    let changes = report["transformed"][0]["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change.as_str().unwrap().contains("apache-2.0")), "{report}");
    // The client of the hub reads the same.
    let folder = world.work().join("read");
    python(&world, "hf", "read_hf.py", &["model", "alice/model", folder.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read(folder.join("README.md")).unwrap(), got.as_bytes());
    // Again, and looked at: the two are the same.
    let again = world.run(&copy).ok().json();
    assert_eq!((&again["moved_bytes"], again["commits"].as_array().unwrap().len()), (&0.into(), 0), "{again}");
    world.run(&["diff", "ms:alice/model", "hf:alice/model", "-q"]).ok();
    let verified = world.run(&["verify", "hf:alice/model", "--against", "ms:alice/model"]).ok().stdout;
    assert!(verified.contains("transformed  README.md  license:") && verified.contains("verified"), "{verified}");
    // Unless nothing is to be changed.
    world.run(&["diff", "ms:alice/model", "hf:alice/model", "-q", "--raw"]).exits(8);
    world.run(&["copy", "ms:alice/model", "hf:alice/model", "-q", "--raw"]).ok();
    assert_eq!(world.run(&["cat", "hf:alice/model/README.md"]).ok().stdout, card);
    // What ModelScope shows for an id of Hugging Face is that id: nothing changes on the way back.
    world.tree("plain", &[("README.md", b"---\nlicense: mit\n---\n")]);
    world.run(&["copy", "./plain", "hf:alice/plain", "-q"]).ok();
    let report = world.run(&["copy", "hf:alice/plain", "ms:alice/plain", "--json", "-q"]).ok().json();
    assert!(report["transformed"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn a_card_that_cannot_be_understood_is_copied_as_it_is() {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let card = "---\nlicense: Apache License 2.0\nlicense: mit\n---\n";
    world.tree("model", &[("README.md", card.as_bytes())]);
    world.run(&["copy", "./model", "ms:alice/model", "-q"]).ok();
    let ran = world.run(&["copy", "ms:alice/model", "hf:alice/model"]).ok();
    assert!(ran.stderr.contains("README.md is copied as it is: the key"), "{}", ran.shown());
    assert_eq!(world.run(&["cat", "hf:alice/model/README.md"]).ok().stdout, card);
}
