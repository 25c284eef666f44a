//! Tokens in text files do not become public: found wherever the bytes come from, named without being shown.

use hubferry_server::testing::{Face, Fault, Method, Rule, Seen};
use serde_json::Value;

use crate::harness::{ALICE, Hub, Ran, World, bytes, minilm};

/// Put together here, so that no scanner stops over this file.
fn token(letter: char) -> String {
    format!("{}{letter}{}", "hf_", "QwErTyUiOpAsDfGhJkLzXcVbNmPoIuYtR")
}

/// Neither the token nor half of it is anywhere in what was printed.
fn hides(ran: &Ran, token: &str) {
    for part in [token, &token[..20], &token[17..]] {
        assert!(!ran.stdout.contains(part) && !ran.stderr.contains(part), "{part}\n{}", ran.shown());
    }
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}\n{}", ran.shown()))
}

fn is_there(hub: &Hub, id: &str) -> bool {
    hub.world(ALICE).run(&["info", &format!("hf:{id}")]).code == 0
}

/// What hubs put into a new repository themselves.
const TEMPLATES: [&str; 2] = [".gitattributes", "README.md"];

fn files(world: &World, place: &str) -> Vec<String> {
    let listed = world.run(&["ls", place]).ok();
    listed.stdout.lines().map(str::to_owned).filter(|line| !TEMPLATES.contains(&line.as_str())).collect()
}

const OPEN: [&str; 2] = ["--visibility", "public"];

fn copy<'a>(from: &'a str, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["copy", from, to], &OPEN[..], more].concat()
}

#[test]
fn a_token_in_a_directory_stops_the_copy_before_anything_is_made() {
    let (hub, secret) = (Hub::start(), token('a'));
    let world = hub.world(ALICE);
    let script = format!("import os\r\nos.environ[\"HF_TOKEN\"] = \"{secret}\"\r\n");
    world.tree("model", &[("train.py", script.as_bytes()), ("sub/README.md", b"# fine\n"), ("model.bin", &bytes(1, 20_000))]);
    for (place, id) in [("hf:alice/one", "alice/one"), ("ms:alice/two", "alice/two")] {
        let ran = world.run(&copy("./model", place, &[])).exits(1);
        hides(&ran, &secret);
        assert!(ran.stderr.contains("train.py:2:27: huggingface-token, hf_*** (37 characters)"), "{}", ran.shown());
        assert_eq!(ran.stderr.matches("hint:").count(), 1, "{}", ran.shown());
        assert!(!is_there(&hub, id), "nothing was made");
        let told = world.run(&copy("./model", place, &["--json", "-vv"])).exits(1);
        hides(&told, &secret);
        let found = &json(&told)["error"];
        assert_eq!((found["kind"].as_str(), found["secrets"][0]["line"].as_u64()), (Some("leak"), Some(2)), "{found}");
        assert_eq!(found["secrets"][0]["rule"], "huggingface-token");
        world.run(&copy("./model", place, &["--exclude", "train.py", "-q"])).ok();
        assert!(is_there(&hub, id));
    }
}

#[test]
fn what_is_allowed_passes_and_is_told() {
    let (hub, secret) = (Hub::start(), token('b'));
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", format!("{{\"key\": \"{secret}\"}}\n").as_bytes())]);
    let ran = world.run(&copy("./model", "hf:alice/model", &["--allow-secrets", "--json"])).ok();
    hides(&ran, &secret);
    assert!(ran.stderr.contains("a secret goes public: config.json:1:10"), "{}", ran.shown());
    assert_eq!(json(&ran)["secrets"][0]["path"], "config.json");
    assert_eq!(files(&world, "hf:alice/model"), ["config.json"]);
}

#[test]
fn nobody_is_asked_where_strangers_cannot_read() {
    let (hub, secret) = (Hub::start(), token('c'));
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", secret.as_bytes())]);
    for place in ["hf:alice/closed", "ms:alice/shut"] {
        let ran = world.run(&["copy", "./model", place, "--visibility", "private", "--json"]).ok();
        assert_eq!(json(&ran)["secrets"], serde_json::json!([]));
        assert!(!ran.stderr.contains("secret"), "{}", ran.shown());
        // Neither a later copy into it, nor what is taken from it.
        world.tree("model", &[("more.json", format!("{place} {secret}").as_bytes())]);
        world.run(&["copy", "./model", place, "-q"]).ok();
    }
    world.run(&["copy", "hf:alice/closed", "./back", "-q"]).ok();
    assert_eq!(std::fs::read(world.work().join("back/config.json")).unwrap(), secret.as_bytes());
    // Whoever can sign in can read what is internal, and everybody can sign in.
    world.run(&["copy", "./model", "ms:alice/inside", "--visibility", "internal"]).exits(1);
}

#[test]
fn from_hub_to_hub_the_bytes_are_looked_through_on_their_way() {
    let (a, b, secret) = (Hub::start(), Hub::start(), token('d'));
    let publisher = a.world(ALICE);
    publisher.tree(
        "model",
        &[("config.json", format!("{{\"a\":\n\"{secret}\"}}").as_bytes()), ("b.txt", b"fine"), ("m.bin", &bytes(2, 30_000_000))],
    );
    publisher.run(&["copy", "./model", "hf:alice/model", "--visibility", "private", "-q"]).ok();
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let taken = a.script.seen().len();
    let ran = world.run(&copy("hf:alice/model", "ms:alice/model", &["--allow-public"])).exits(1);
    hides(&ran, &secret);
    assert!(ran.stderr.contains("config.json:2:2: huggingface-token"), "{}", ran.shown());
    assert!(ran.stderr.contains("was created by this run and holds none of the files"), "{}", ran.shown());
    assert_eq!(files(&b.world(ALICE), "ms:alice/model"), Vec::<String>::new());
    // Weights wait until the text was looked through: none of theirs travelled.
    let weights: u64 = a.script.seen()[taken..].iter().map(Seen::sent).sum();
    assert!(weights < 1_000_000, "{weights} bytes were read for nothing");
    world.run(&copy("hf:alice/model", "ms:alice/model", &["--allow-public", "--allow-secrets", "-q"])).ok();
    // Now it is there and public: a later change is held back as well.
    publisher.tree("model", &[("notes.md", format!("{secret}\n").as_bytes())]);
    publisher.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let again = world.run(&["sync", "hf:alice/model", "ms:alice/model"]).exits(1);
    assert!(again.stderr.contains("notes.md:1:1:") && !again.stderr.contains("config.json"), "{}", again.shown());
    assert_eq!(files(&world, "ms:alice/model"), ["b.txt", "config.json", "m.bin"]);
    // And it does not cost a second reading: every file is asked for once.
    let before = a.script.seen().len();
    world.run(&copy("hf:alice/model", "ms:alice/copy", &["--allow-public", "--allow-secrets", "-q"])).ok();
    let seen = a.script.seen();
    let reads = seen[before..].iter().filter(|seen| seen.path.ends_with("/config.json") && seen.method == Method::GET).count();
    assert_eq!(reads, 1);
}

#[test]
fn what_the_hub_stores_already_is_looked_through_too() {
    let (hub, secret) = (Hub::start(), token('e'));
    let world = hub.world(ALICE);
    // So large that it goes through the hub's large storage, where the second copy finds it.
    let line = "{\"text\": \"some words of a data set\", \"n\": 1}\n";
    let mut data = line.repeat(260_000);
    data.insert_str(line.len() * 200_000, &format!("{secret}\n"));
    world.tree("data", &[("data.jsonl", data.as_bytes())]);
    world.run(&["copy", "./data", "hf:alice/closed", "--visibility", "private", "-q"]).ok();
    world.run(&["copy", "hf:alice/closed", "hf:alice/open", "--visibility", "public", "--allow-public"]).exits(1);
    hub.script.add(Rule { nth: 1..=u64::MAX, ..Rule::once(Method::PUT, "", Fault::Answer(500, Vec::new(), String::new())) });
    // Even when no byte is sent: the hub says that it has the blob.
    let ran = world.run(&["copy", "hf:alice/closed", "hf:alice/open", "--allow-public"]).exits(1);
    hides(&ran, &secret);
    assert!(ran.stderr.contains("data.jsonl:200001:1: huggingface-token"), "{}", ran.shown());
    assert!(!hub.script.seen().iter().any(|seen| seen.face == Face::Hf && seen.path.contains("/commit/") && seen.path.contains("/open/")));
}

#[test]
fn large_files_are_passed_over_and_that_is_told_to_those_who_ask() {
    let (hub, secret) = (Hub::start(), token('f'));
    let world = hub.world(ALICE);
    let data = "words and words\n".repeat(1 << 20) + &secret;
    world.tree("data", &[("data.txt", data.as_bytes()), ("a.txt", b"fine")]);
    let ran = world.run(&copy("./data", "ms:alice/data", &["-v"])).ok();
    assert!(ran.stderr.contains("files over 16 MiB are not looked through for secrets: 1 of them"), "{}", ran.shown());
    let quiet = world.run(&copy("./data", "ms:alice/other", &[])).ok();
    assert!(!quiet.stderr.contains("not looked through"), "{}", quiet.shown());
}

#[test]
fn of_many_repositories_only_those_with_secrets_fail() {
    let (a, b, secret) = (Hub::start(), Hub::start(), token('g'));
    let publisher = a.world(ALICE);
    for (name, content) in [("good", "{}"), ("bad", secret.as_str())] {
        publisher.tree(name, &[("config.json", content.as_bytes())]);
        publisher.run(&["copy", &format!("./{name}"), &format!("hf:alice/{name}"), "--visibility", "private", "-q"]).ok();
    }
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let ran =
        world.run(&["copy", "hf:alice/good", "hf:alice/bad", "ms:alice/", "--visibility", "public", "--allow-public", "--json"]).exits(3);
    hides(&ran, &secret);
    let results = json(&ran)["results"].clone();
    assert_eq!((results[0]["status"].as_str(), results[1]["status"].as_str()), (Some("copied"), Some("failed")), "{results}");
    assert_eq!(results[1]["secrets"][0]["rule"], "huggingface-token");
    assert!(ran.stderr.contains("\n  config.json:1:1: huggingface-token"), "{}", ran.shown());
}

#[test]
fn a_connection_that_breaks_hides_nothing() {
    let (a, b, secret) = (Hub::start(), Hub::start(), token('h'));
    let publisher = a.world(ALICE);
    let line = "a line of words\n";
    let mut text = line.repeat(40_000);
    let at = line.len() * 20_000;
    text.insert_str(at, &format!("{secret}\n"));
    publisher.tree("model", &[("log.txt", text.as_bytes())]);
    publisher.run(&["copy", "./model", "hf:alice/model", "--visibility", "private", "-q"]).ok();
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    for cut in [at as u64 + 1, at as u64 + 20, at as u64 + 36] {
        a.script.add(Rule::once(Method::GET, "/log.txt", Fault::Cut(cut)));
        let ran = world.run(&copy("hf:alice/model", "ms:alice/model", &["--allow-public"])).exits(1);
        assert!(ran.stderr.contains("log.txt:20001:1: huggingface-token"), "{}", ran.shown());
    }
}

#[test]
fn a_real_model_has_no_secrets() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let model = minilm();
    let ran = world.run(&copy(model.to_str().unwrap(), "hf:alice/minilm", &["--json"])).ok();
    assert_eq!(json(&ran)["secrets"], serde_json::json!([]));
}
