//! What the tool that this one replaces for publishers did wrong, one test for each: none of it may come back.
//!
//! Larger forms of some of these stand elsewhere; `docs/coming-from-hf2ms.md` names them.

use std::collections::BTreeMap;
use std::time::Duration;

use hubferry_server::testing::{Fault, Method, Rule};
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, RITA, World, bytes, files_below, get};

const OBJECTS: &str = "/-/objects";

/// Two hubs, and a world that reads `hf:` from the first and `ms:` from the second.
fn hubs() -> (Hub, Hub, World) {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    (a, b, world)
}

fn commits(report: &Value) -> usize {
    report["commits"].as_array().unwrap().len()
}

#[test]
fn h01_a_batch_that_dies_before_any_result_is_a_failure() {
    // Nobody listens at either hub.
    let world = World::new().with("HF_TOKEN", ALICE).with("MODELSCOPE_API_TOKEN", ALICE);
    let report = world.run(&["copy", "hf:alice/one", "hf:alice/two", "ms:mirror/", "--json", "-q"]).exits(7).json();
    assert_eq!((&report["summary"]["copied"], &report["summary"]["failed"]), (&json!(0), &json!(2)), "{report}");
    assert!(report["results"].as_array().unwrap().iter().all(|one| one["status"] == "failed"), "{report}");
}

#[test]
fn h02_a_failed_verification_fails_the_run_and_offers_a_repair() {
    let (a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}"), ("model.bin", b"weights")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "hf:alice/model", "ms:alice/model", "-q"]).ok();
    // Somebody changes the copy; its size stays.
    world.tree("bad", &[("model.bin", b"WEIGHTS")]);
    world.run(&["copy", "./bad", "ms:alice/model", "-q"]).ok();
    let verify = ["verify", "ms:alice/model", "--against", "hf:alice/model"];
    let said = world.run(&[&verify[..], &["--json"]].concat()).exits(4).json();
    assert_eq!((&said["ok"], &said["summary"]["mismatched"]), (&json!(false), &json!(1)), "{said}");
    let shown = world.run(&verify).exits(4);
    assert!(shown.stdout.contains("mismatched  model.bin") && shown.stdout.contains("FAILED"), "{}", shown.shown());
    assert!(shown.stderr.contains("--repair"), "{}", shown.shown());
    world.run(&[&verify[..], &["--repair", "-q"]].concat()).ok();
    assert_eq!(world.run(&["cat", "ms:alice/model/model.bin"]).ok().stdout, "weights");
    // And a copy whose bytes come out wrong is no copy.
    world.tree("new", &[("new.bin", b"content")]);
    world.run(&["copy", "./new", "hf:alice/model", "-q"]).ok();
    a.script.add(Rule::once(Method::GET, "new.bin", Fault::Answer(200, Vec::new(), "CONTENT".into())).always());
    world.run(&["copy", "hf:alice/model", "ms:alice/other", "-q"]).exits(4);
    world.run(&["cat", "ms:alice/other/model.bin"]).exits(6);
}

#[test]
fn h03_exit_codes_tell_what_happened() {
    let (a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}")]);
    world.tree("other", &[("config.json", b"[]")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let reader = World::new().with("HF_ENDPOINT", &a.hf).with("HF_TOKEN", RITA);
    reader.tree("other", &[("config.json", b"[]")]);
    let nowhere = World::new();
    for (code, ran) in [
        (2, world.run(&["copy", "hf:alice/model"])),
        (2, world.run(&["copy", "alice/model", "--to", "gc"])),
        (3, world.run(&["copy", "hf:alice/model", "hf:alice/none", "ms:mirror/", "-q"])),
        (4, world.run(&["verify", "hf:alice/model", "--against", "./other", "-q"])),
        (5, reader.run(&["copy", "./other", "hf:alice/model", "-q"])),
        (6, world.run(&["copy", "hf:alice/none", "ms:alice/none", "-q"])),
        (7, nowhere.run(&["ls", "hf:alice/model", "-q"])),
        (8, world.run(&["diff", "./other", "hf:alice/model", "-q"])),
    ] {
        ran.exits(code);
    }
}

#[test]
fn h04_what_is_half_done_is_completed_and_what_cannot_begin_leaves_nothing() {
    let (a, b, world) = hubs();
    world.tree("model", &[("a.txt", b"a"), ("b.txt", b"b"), ("model.bin", b"weights")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    // Half of it is there, as an interrupted run of another tool leaves it.
    world.tree("half", &[("a.txt", b"a"), ("b.txt", b"old")]);
    world.run(&["copy", "./half", "ms:mirror/model", "-q"]).ok();
    let report = world.run(&["copy", "hf:alice/*", "ms:mirror/", "--json", "-q"]).ok().json();
    assert_eq!(report["results"][0]["status"], "copied", "what exists is compared, not skipped: {report}");
    world.run(&["diff", "hf:alice/model", "ms:mirror/model", "-q", "--exclude", "/README.md"]).ok();
    // A source whose files cannot be read, by Git neither: nothing is created for it.
    a.script.add(Rule::once(Method::GET, "/info/refs", Fault::Answer(403, Vec::new(), String::new())).always());
    a.script.add(Rule::once(Method::GET, "/api/models/alice/model/tree", Fault::Answer(403, Vec::new(), String::new())).always());
    world.run(&["copy", "hf:alice/model", "ms:mirror/fresh", "-q"]).exits(5);
    assert_eq!(get(&format!("{}/api/v1/models/mirror/fresh", b.ms), ALICE).0, 404);
}

#[test]
fn h05_files_of_git_and_of_forges_travel() {
    let (_a, _b, world) = hubs();
    let files: [(&str, &[u8]); 4] = [
        (".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.ours filter=lfs diff=lfs merge=lfs -text\n"),
        (".gitignore", b"*.tmp\n"),
        (".github/workflows/test.yml", b"on: push\n"),
        ("config.json", b"{}"),
    ];
    world.tree("model", &files);
    for (from, to) in [("./model", "hf:alice/model"), ("hf:alice/model", "ms:alice/model"), ("ms:alice/model", "./back")] {
        world.run(&["copy", from, to, "-q"]).ok();
    }
    let back = files_below(&world.work().join("back"));
    for (path, content) in files {
        assert_eq!(back.get(path).map(Vec::as_slice), Some(content), "{path}");
    }
}

#[test]
fn h06_thousands_of_names_and_any_character_in_them() {
    let (_a, _b, world) = hubs();
    let mut files: Vec<(String, Vec<u8>)> =
        (0..4000).map(|n| (format!("{}/a,long,name,of,a,file,{n:05}.txt", n % 4), vec![b'x'; n % 7])).collect();
    files.extend(["a,b.bin", "x/a,b.bin", "[w]*.bin", "sp ace 'q' $(id) \u{fc}.txt"].map(|name| (name.to_owned(), name.into())));
    let tree: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    world.tree("model", &tree);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "hf:alice/model", "./back", "-q"]).ok();
    let mut back = files_below(&world.work().join("back"));
    back.remove(".gitattributes");
    assert!(back == files.iter().cloned().collect::<BTreeMap<_, _>>(), "{} files came back", back.len());
    // A name is a name: a glob is anchored when it says so, and its special characters can be quoted.
    world.run(&["copy", "hf:alice/model", "./few", "-q", "--include", "/a,b.bin", "--include", r"/\[w\]\*.bin"]).ok();
    let few = files_below(&world.work().join("few"));
    assert_eq!(few.keys().collect::<Vec<_>>(), ["[w]*.bin", "a,b.bin"]);
}

#[test]
fn h07_nothing_is_put_on_a_disk_in_between() {
    let (_a, _b, world) = hubs();
    world.tree("model", &[("model.safetensors", &bytes(7, 24 << 20))]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    std::fs::remove_dir_all(world.work().join("model")).unwrap();
    for (from, to) in [("hf:alice/model", "ms:alice/model"), ("ms:alice/model", "hf:alice/back")] {
        let ran = world.run(&["copy", from, to, "-q"]).ok();
        assert!(ran.disk < 1 << 20, "{from}: {} bytes went to a disk", ran.disk);
        let kept: usize = files_below(world.home()).values().map(Vec::len).sum();
        assert!(kept < 1 << 20, "{from}: {kept} bytes are left");
    }
}

#[test]
fn h08_a_second_run_moves_only_what_differs() {
    let (_a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}"), ("model.bin", &bytes(8, 1 << 20))]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let copy = ["copy", "hf:alice/model", "ms:alice/model", "--json", "-q"];
    world.run(&copy).ok();
    let again = world.run(&copy).ok().json();
    assert_eq!((&again["moved_bytes"], commits(&again)), (&json!(0), 0), "{again}");
    world.tree("model", &[("config.json", b"{\"a\": 1}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let changed = world.run(&copy).ok().json();
    assert_eq!((&changed["moved_bytes"], commits(&changed)), (&json!(8), 1), "{changed}");
}

#[test]
fn h09_an_interrupted_run_goes_on() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let content = bytes(9, 96 << 20);
    world.tree("model", &[("model.safetensors", &content)]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    hub.script.reset();
    let mut run = world.start(&["copy", "hf:alice/model", "./copy", "-q", "--bwlimit", "40M"]);
    let sent = || hub.script.sent(&Method::GET, OBJECTS) as f64 / content.len() as f64;
    while sent() < 0.8 && run.is_running() {
        std::thread::sleep(Duration::from_millis(10));
    }
    run.kill();
    run.wait();
    assert!(!world.work().join("copy/model.safetensors").exists(), "half a file is never shown");
    let report = world.run(&["copy", "hf:alice/model", "./copy", "--json", "-q"]).ok().json();
    assert!(std::fs::read(world.work().join("copy/model.safetensors")).unwrap() == content);
    // What was sent and not read yet when it was killed is lost; what it had is not asked for again.
    let again = report["wire"]["received"].as_f64().unwrap() / content.len() as f64;
    assert!(again < 0.8, "{again:.2} of the file travelled again");
}

#[test]
fn h10_what_may_pass_is_tried_again_on_both_sides() {
    let (a, b, world) = hubs();
    world.tree("model", &[("model.bin", &bytes(10, 300_000))]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    a.script.add(Rule { nth: 1..=2, ..Rule::once(Method::GET, OBJECTS, Fault::Answer(503, Vec::new(), String::new())) });
    b.script.add(Rule { nth: 1..=2, ..Rule::once(Method::PUT, "/blobs/", Fault::Answer(502, Vec::new(), String::new())) });
    b.script.add(Rule::once(Method::POST, "/commit/", Fault::LoseAnswer));
    let report = world.run(&["copy", "hf:alice/model", "ms:alice/model", "--json", "-q"]).ok().json();
    assert_eq!(commits(&report), 1, "{report}");
    assert!(a.script.played() >= 1 && b.script.played() == 3, "{} and {} faults", a.script.played(), b.script.played());
    world.run(&["verify", "ms:alice/model", "--against", "hf:alice/model", "-q"]).ok();
    // Ours and the one that the hub makes.
    assert_eq!(b.commits("alice/model").len(), 2, "a lost answer made no second commit");
}

#[test]
fn h11_readers_never_see_half_of_a_repository() {
    let (_a, b, world) = hubs();
    let weights: Vec<Vec<u8>> = (0..5).map(|n| bytes(n + 1, 200_000)).collect();
    let names: Vec<String> = (0..5).map(|n| format!("model-{n}.safetensors")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(weights.iter().map(Vec::as_slice)).collect();
    files.extend([("config.json", &b"{}"[..]), ("model.safetensors.index.json", b"{}")]);
    world.tree("model", &files);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    // It fails at the last moment: nothing of it is there.
    b.script.add(Rule::once(Method::POST, "/commit/", Fault::Answer(403, Vec::new(), "{}".into())));
    world.run(&["copy", "hf:alice/model", "ms:alice/model", "-q"]).exits_any();
    let listed = world.run(&["ls", "ms:alice/model"]).ok().stdout;
    assert!(!listed.contains("model-") && !listed.contains("config.json"), "{listed}");
    let report = world.run(&["copy", "hf:alice/model", "ms:alice/model", "--json", "-q"]).ok().json();
    assert_eq!((commits(&report), &report["reused_blobs"]), (1, &json!(5)), "one commit, of what waited there: {report}");
}

#[test]
fn h12_a_refusal_is_not_tried_again() {
    let (a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    for status in [401, 403] {
        a.script.reset();
        a.script.add(Rule::once(Method::POST, "/commit/", Fault::Answer(status, Vec::new(), "{}".into())).always());
        world.tree("next", &[("config.json", status.to_string().as_bytes())]);
        world.run(&["copy", "./next", "hf:alice/model", "-q"]).exits(5);
        assert_eq!(a.script.count(&Method::POST, "/commit/"), 1, "{status}");
    }
}

#[test]
fn h13_small_files_are_verified_too() {
    let (a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{\"layers\": 12}"), ("model.bin", b"weights")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "hf:alice/model", "ms:alice/model", "-q"]).ok();
    let verified = world.run(&["verify", "ms:alice/model", "--against", "hf:alice/model", "--json"]).ok().json();
    assert_eq!(verified["summary"]["unverifiable"], 0, "{verified}");
    assert!(verified["files"].as_array().unwrap().iter().any(|file| file["path"] == "config.json" && file["verdict"] == "matched"));
    // One byte of it turns on the way, its size stays: it is known by its Git id only.
    a.script.add(Rule::once(Method::GET, "config.json", Fault::Answer(200, Vec::new(), "{\"layers\": 13}".into())).always());
    world.run(&["copy", "hf:alice/model", "ms:alice/other", "-q"]).exits(4);
    world.run(&["cat", "ms:alice/other/config.json"]).exits(6);
}

/// Publishes a card on ModelScope and gives what Hugging Face has after a copy.
fn card_on_the_other_hub(world: &World, number: usize, card: &str) -> String {
    let (source, destination) = (format!("ms:alice/card-{number}"), format!("hf:alice/card-{number}"));
    world.tree(&format!("card-{number}"), &[("README.md", card.as_bytes())]);
    world.run(&["copy", &format!("./card-{number}"), &source, "-q"]).ok();
    world.run(&["copy", &source, &destination, "-q"]).ok();
    world.run(&["cat", &format!("{destination}/README.md")]).ok().stdout
}

#[test]
fn h14_a_licence_that_is_a_list_or_empty_breaks_no_card() {
    let (_a, _b, world) = hubs();
    let list = "---\nlicense:\n- apache-2.0\n- mit\n---\n# Card\n";
    assert_eq!(card_on_the_other_hub(&world, 1, list), list);
    let empty = "---\nlicense:\nlanguage: en\n---\n# Card\n";
    assert_eq!(card_on_the_other_hub(&world, 2, empty), empty);
}

#[test]
fn h15_licences_are_mapped_and_what_has_no_word_keeps_its_name() {
    let (_a, _b, world) = hubs();
    let card = |license: &str| format!("---\r\nlicense: {license}\r\ntags: [a]\r\n---\r\n# Card\r\n");
    assert_eq!(card_on_the_other_hub(&world, 1, &card("Apache License 2.0")), card("apache-2.0"));
    for (number, license) in [(2, "gemma"), (3, "llama3.1")] {
        assert_eq!(card_on_the_other_hub(&world, number, &card(license)), card(license), "the hub has that word");
    }
    let got = card_on_the_other_hub(&world, 4, &card("Our Own License 1.0"));
    assert!(got.contains("license: other\r\n") && got.contains("license_name: our-own-license-1.0\r\n"), "{got}");
    assert!(got.ends_with("tags: [a]\r\n---\r\n# Card\r\n") && !got.replace("\r\n", "").contains('\n'), "{got:?}");
}

#[test]
fn h16_private_sources_work_both_ways() {
    let (a, b, world) = hubs();
    world.tree("model", &[("config.json", b"{}"), ("model.bin", b"weights")]);
    for (from, to) in [("hf:alice/model", "ms:alice/model"), ("ms:alice/closed", "hf:alice/closed")] {
        world.run(&["copy", "./model", from, "-q", "--visibility", "private"]).ok();
        let stranger = World::new().at(&a.hf, &b.ms, "");
        stranger.run(&["ls", from]).exits(6);
        world.run(&["copy", from, to, "-q"]).ok();
        assert_eq!(world.run(&["cat", &format!("{to}/model.bin")]).ok().stdout, "weights");
        stranger.run(&["ls", to]).exits(6);
    }
}

#[test]
fn h17_visibility_is_kept_and_checked() {
    let (_a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}")]);
    for (number, visibility) in ["public", "private"].into_iter().enumerate() {
        let (ms, hf, back) = (format!("ms:alice/v{number}"), format!("hf:alice/v{number}"), format!("ms:alice/back{number}"));
        world.run(&["copy", "./model", &ms, "-q", "--visibility", visibility]).ok();
        world.run(&["copy", &ms, &hf, "-q"]).ok();
        world.run(&["copy", &hf, &back, "-q"]).ok();
        for place in [&ms, &hf, &back] {
            assert_eq!(world.run(&["info", place, "--json"]).ok().json()["visibility"], visibility, "{place}");
        }
    }
    // Nobody says of a directory who may read it.
    world.run(&["copy", "./model", "hf:alice/unsaid", "-q"]).ok();
    assert_eq!(world.run(&["info", "hf:alice/unsaid", "--json"]).ok().json()["visibility"], "private");
    // What is closed does not become open by a slip.
    world.run(&["copy", "ms:alice/v1", "hf:alice/opened", "-q", "--visibility", "public"]).exits(5);
    world.run(&["ls", "hf:alice/opened"]).exits(6);
}

#[test]
fn h20_filters_dry_runs_limits_and_json_are_there() {
    let (_a, b, world) = hubs();
    world.tree("model", &[("config.json", b"{}"), ("model.safetensors", b"weights"), ("model.bin", b"the same again")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let copy = ["copy", "hf:alice/model", "ms:alice/model", "--json", "-q", "--exclude", "*.bin", "--bwlimit", "50M", "--transfers", "2"];
    let planned = world.run(&[&copy[..], &["--dry-run"]].concat()).ok().json();
    assert_eq!((&planned["dry_run"], &planned["plan"]["left_out"]["files"]), (&json!(true), &json!(1)), "{planned}");
    assert_eq!(get(&format!("{}/api/v1/models/alice/model", b.ms), ALICE).0, 404, "a dry run writes nothing");
    let done = world.run(&copy).ok().json();
    let paths =
        |report: &Value| -> Vec<Value> { report["plan"]["steps"].as_array().unwrap().iter().map(|step| step["path"].clone()).collect() };
    assert_eq!(paths(&done), paths(&planned), "and says what will happen");
    assert!(!world.run(&["ls", "ms:alice/model"]).ok().stdout.contains("model.bin"));
}

#[test]
fn h21_a_batch_takes_any_kind_to_any_name() {
    let (_a, _b, world) = hubs();
    world.tree("model", &[("config.json", b"{}")]);
    for place in ["hf:alice/model", "hf:datasets/alice/data"] {
        world.run(&["copy", "./model", place, "-q"]).ok();
    }
    world.run(&["copy", "hf:alice/*", "ms:new/{kind}-{name}", "-q"]).ok();
    world.run(&["ls", "ms:models/new/model-model"]).ok();
    world.run(&["ls", "ms:datasets/new/dataset-data"]).ok();
}

#[test]
fn h22_one_large_file_is_shared_by_several_streams() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("model", &[("model.safetensors", &bytes(22, 48 << 20))]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    hub.script.reset();
    world.run(&["copy", "hf:alice/model", "./copy", "-q", "--transfers", "4"]).ok();
    let seen = hub.script.seen();
    let ranges = seen.iter().filter(|seen| seen.path.contains(OBJECTS) && seen.range.is_some());
    let connections: std::collections::BTreeSet<u64> = ranges.map(|seen| seen.connection).collect();
    assert!(connections.len() > 1, "{connections:?}");
}

#[test]
fn h23_it_runs_here_and_needs_nobodys_account() {
    let world = World::new();
    let ran = world.run(&["demo", "-q"]).ok();
    assert!(ran.stderr.is_empty(), "{}", ran.shown());
    assert!(files_below(&world.tmp()).is_empty(), "it leaves nothing behind");
}

#[test]
fn h24_a_listing_that_may_be_cut_short_verifies_nothing() {
    let (a, b, world) = hubs();
    let files: Vec<(String, Vec<u8>)> = (0..1200).map(|n| (format!("{}/{n}.txt", n % 3), n.to_string().into_bytes())).collect();
    let tree: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    world.tree("data", &tree);
    world.run(&["copy", "./data", "hf:datasets/alice/data", "-q"]).ok();
    world.run(&["copy", "hf:datasets/alice/data", "ms:datasets/alice/data", "-q"]).ok();
    let verify = ["verify", "ms:datasets/alice/data", "--against", "hf:datasets/alice/data", "-q", "--include", "/0/1*"];
    world.run(&verify).ok();
    // The second page of either side is refused, or is none.
    // Answers that are no answers are played in hostile.rs.
    let broken = [Fault::Answer(404, Vec::new(), "{}".into()), Fault::Shorten(50)];
    for fault in broken {
        for (hub, page) in [(&a, "cursor="), (&b, "PageNumber=2")] {
            hub.script.reset();
            hub.script.add(Rule::once(Method::GET, page, fault.clone()).always());
            let ran = world.run(&verify).exits_any();
            assert!(ran.code != 0 && hub.script.played() > 0, "{fault:?} at {page}: {}", ran.shown());
            hub.script.reset();
        }
    }
}
