//! Plans in files: made, shown, carried out, and refused when anything is no longer as it was. Receipts of what was done.

use std::collections::BTreeMap;
use std::path::Path;

use hubferry_server::testing::Method;
use serde_json::{Value, json};

use crate::harness::{ALICE, Asked, Canned, Hub, Ran, Reply, World, bytes, files_below, get, python, send};

type Change = fn(&mut Value);

/// A hub with `hf:alice/src`, and a world at it.
fn published() -> (Hub, World) {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let weights = bytes(7, 300_000);
    world.tree("src", &[("model.safetensors", &weights), ("config.json", b"{}"), ("sub/notes.txt", b"one"), ("empty.txt", b"")]);
    world.run(&["copy", "./src", "hf:alice/src", "-q", "--visibility", "public"]).ok();
    (hub, world)
}

fn file(world: &World, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(world.work().join(name)).unwrap()).unwrap()
}

/// Changes a plan file as somebody with an editor would.
fn edit(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut plan = file(world, name);
    change(&mut plan);
    std::fs::write(world.work().join(name), plan.to_string()).unwrap();
}

#[track_caller]
fn refused(ran: &Ran, code: i32, why: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.shown());
    for word in why {
        assert!(ran.stderr.contains(word), "{word:?} is not said\n{}", ran.shown());
    }
    assert!(ran.stderr.contains("hint:"), "{}", ran.shown());
}

/// What is done with each file, and why. What one run learns of a file's hashes the next one knows.
fn steps(report: &Value) -> Vec<String> {
    let text = |step: &Value| format!("{} {} {} {}", step["action"], step["path"], step["reason"], step["size"]);
    report["plan"]["steps"].as_array().unwrap().iter().map(text).collect()
}

/// Requests that could change anything. Questions about what is missing count as well; a plan asks none.
fn writes(hub: &Hub) -> usize {
    hub.script.seen().iter().filter(|seen| seen.method != Method::GET && seen.method != Method::HEAD).count()
}

#[test]
fn a_plan_that_is_applied_does_what_a_copy_does() {
    let (hub, world) = published();
    for kind in ["ms", "hf"] {
        let (direct, later) = (format!("{kind}:alice/direct-{kind}"), format!("{kind}:alice/later-{kind}"));
        let done = world.run(&["copy", "hf:alice/src@main", &direct, "--json", "-q", "-m", "Mirror", "--exclude", "sub/"]).ok().json();
        hub.script.reset();
        let made = ["copy", "hf:alice/src@main", &later, "-m", "Mirror", "--exclude", "sub/", "--plan", "plan.json"];
        let planned = world.run(&[&made[..], &["--json", "-q"]].concat()).ok().json();
        assert_eq!((writes(&hub), &planned["dry_run"], &planned["plan_file"]), (0, &json!(true), &json!("plan.json")));
        world.run(&["ls", &later]).exits(6);
        let shown = world.run(&["apply", "plan.json", "--dry-run"]).ok();
        assert!(shown.stdout.contains("would create") && shown.stdout.contains("would move 4 files"), "{}", shown.shown());
        world.run(&["ls", &later]).exits(6);

        let applied = world.run(&["apply", "plan.json", "--json", "-q"]).ok().json();
        for key in ["source", "source_revision", "created", "transformed"] {
            assert_eq!(applied[key], done[key], "{key}: {applied}");
        }
        assert_eq!(steps(&applied), steps(&done));
        // The card that ModelScope makes of nothing has the name of the repository in it.
        world.run(&["diff", &direct, &later, "--exclude", "/README.md"]).ok();
        let id = |address: &str| address.split_once(':').unwrap().1.to_owned();
        let message = |address: &str| hub.commits(&id(address)).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(message(&later), message(&direct));
        let newest = &message(&later)[0];
        let revision = format!("Source-Revision: {}", done["source_revision"].as_str().unwrap());
        for line in ["Mirror", "Source: hf:alice/src", &revision, concat!("Tool: hubferry/", env!("CARGO_PKG_VERSION"))] {
            assert!(newest.lines().any(|found| found == line), "{line:?} is not in {newest:?}");
        }

        // Again: what was planned is there, so there is nothing to do, and nobody is troubled.
        let commits = hub.commits(&id(&later));
        let again = world.run(&["apply", "plan.json", "--json", "-q"]).ok().json();
        assert_eq!((&again["moved_bytes"], &again["commits"]), (&json!(0), &json!([])), "{again}");
        assert_eq!(hub.commits(&id(&later)), commits);
    }
}

#[test]
fn deletions_are_planned_and_their_number_is_judged_then() {
    let (_hub, world) = published();
    world.run(&["sync", "hf:alice/src", "ms:alice/dst", "-q"]).ok();
    world.tree("extra", &[("old-1.txt", b"1"), ("old-2.txt", b"2")]);
    world.run(&["copy", "./extra", "ms:alice/dst", "-q"]).ok();
    let sync = ["sync", "hf:alice/src", "ms:alice/dst", "--plan", "sync.json", "-q", "--max-delete"];
    refused(&world.run(&[&sync[..], &["1"]].concat()), 1, &["plan deletes: 2", "--max-delete 1"]);
    assert!(!world.work().join("sync.json").exists());
    world.run(&[&sync[..], &["2"]].concat()).ok();
    let actions: Vec<_> = file(&world, "sync.json")["copies"][0]["steps"].as_array().unwrap().clone();
    assert!(actions.iter().all(|step| step["action"] == "delete") && actions.len() == 2, "{actions:?}");
    let shown = world.run(&["apply", "sync.json", "-n"]).ok();
    assert!(shown.stdout.contains("delete 2"), "{}", shown.shown());
    assert!(world.run(&["ls", "ms:alice/dst"]).ok().stdout.contains("old-1.txt"));
    world.run(&["apply", "sync.json", "-q"]).ok();
    assert!(!world.run(&["ls", "ms:alice/dst"]).ok().stdout.contains("old-"));
}

#[test]
fn a_side_that_changed_is_named_and_nothing_is_written() {
    let (hub, world) = published();
    world.tree("one", &[("a.txt", b"1")]);
    world.tree("two", &[("b.txt", b"2")]);
    let plan = |destination: &str, name: &str| world.run(&["copy", "hf:alice/src", destination, "--plan", name, "-q"]).ok();
    world.run(&["copy", "./one", "ms:alice/there", "-q"]).ok();
    plan("ms:alice/there", "there.json");
    plan("ms:alice/absent", "absent.json");

    // The destination got a commit; the destination appeared.
    let planned = hub.commits("alice/there")[0].0.clone();
    world.run(&["copy", "./two", "ms:alice/there", "-q"]).ok();
    world.run(&["copy", "./two", "ms:alice/absent", "-q"]).ok();
    let now = hub.commits("alice/there")[0].0.clone();
    let before = (hub.commits("alice/there"), hub.commits("alice/absent"));
    for dry in [&["--dry-run"][..], &[]] {
        hub.script.reset();
        let ran = world.run(&[&["apply", "there.json"], dry].concat());
        refused(&ran, 8, &["the destination changed", &now[..12], &planned[..12], "ms:alice/there", "plan anew"]);
        refused(&world.run(&[&["apply", "absent.json"], dry].concat()), 8, &["the destination exists now", "plan anew"]);
        assert_eq!(writes(&hub), 0);
    }
    assert_eq!((hub.commits("alice/there"), hub.commits("alice/absent")), before);

    // The destination is gone.
    plan("./folder/copy", "gone.json");
    world.run(&["apply", "gone.json", "-q"]).ok();
    world.tree("folder/copy", &[("mine.txt", b"mine")]);
    plan("./folder/copy", "gone.json");
    std::fs::remove_dir_all(world.work().join("folder")).unwrap();
    refused(&world.run(&["apply", "gone.json"]), 8, &["the destination is gone"]);

    // The source got a commit.
    plan("ms:alice/there", "there.json");
    let planned = hub.commits("alice/src")[0].0.clone();
    world.run(&["copy", "./two", "hf:alice/src", "-q"]).ok();
    let now = hub.commits("alice/src")[0].0.clone();
    hub.script.reset();
    let ran = world.run(&["apply", "there.json"]);
    refused(&ran, 8, &["the source changed", &now[..12], &planned[..12], "hf:alice/src", "plan anew"]);
    let described = world.run(&["apply", "there.json", "--json", "-q"]).exits(8).json();
    assert_eq!((&described["error"]["kind"], &described["exit"]), (&json!("conflict"), &json!(8)), "{described}");
    assert_eq!(writes(&hub), 0);

    // A revision does not move.
    world.run(&["copy", &format!("hf:alice/src@{planned}"), "ms:alice/there", "--plan", "fixed.json", "-q"]).ok();
    world.run(&["apply", "fixed.json", "-q"]).ok();
    // The source is less open than it was: what is made of it would be, too.
    plan("ms:alice/closed", "closed.json");
    let (status, said) = send("PUT", &format!("{}/api/models/alice/src/settings", hub.hf), ALICE, Some(r#"{"private":true}"#));
    assert_eq!(status, 200, "{said}");
    refused(&world.run(&["apply", "closed.json"]), 8, &["would be private, and public was planned"]);
    world.run(&["ls", "ms:alice/closed"]).exits(6);
    // Another hub by the same name.
    let other = Hub::start();
    let moved = World::new().at(&other.hf, &other.ms, ALICE);
    std::fs::copy(world.work().join("there.json"), moved.work().join("there.json")).unwrap();
    refused(&moved.run(&["apply", "there.json"]), 8, &["the plan was made for", &hub.hf]);
    assert!(other.script.seen().is_empty());
}

#[test]
fn a_plan_file_from_a_stranger_is_checked_before_anybody_is_asked() {
    let (hub, world) = published();
    let make = || world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "plan.json", "-q"]).ok();
    let changes: [(&str, Change); 9] = [
        ("dot segment", |v| v["copies"][0]["steps"][0]["path"] = json!("../../.ssh/authorized_keys")),
        ("hexadecimal digits", |v| v["copies"][0]["steps"][0]["sha256"] = json!("zz")),
        ("format 99", |v| v["hubferry_plan"] = json!(99)),
        ("unknown field", |v| v["copies"][0]["run"] = json!("rm -rf /")),
        ("unknown remote", |v| v["copies"][0]["source"]["address"] = json!("evil:a/b")),
        ("unknown variant", |v| v["copies"][0]["kind"] = json!("disk")),
        ("is not a glob", |v| v["copies"][0]["settings"]["include"] = json!(["{"])),
        ("is not a revision", |v| v["copies"][0]["source"]["revision"] = json!("\u{1b}[31m")),
        ("may be many repositories", |v| v["copies"][0]["destination"]["address"] = json!("ms:alice/*")),
    ];
    for (why, change) in changes {
        make();
        hub.script.reset();
        edit(&world, "plan.json", change);
        refused(&world.run(&["apply", "plan.json"]), 2, &[why]);
        let asked = hub.script.seen();
        assert!(asked.iter().all(|seen| seen.method == Method::GET), "{why}: {asked:?}");
    }
    // What can only be noticed beside what is there: another file, a file less, a deletion nobody planned.
    let forgeries: [(&str, Change); 4] = [
        ("what was planned", |v| v["copies"][0]["steps"][1]["size"] = json!(999)),
        ("what was planned", |v| v["copies"][0]["steps"][1]["sha256"] = json!("00".repeat(32))),
        ("what was planned", |v| drop(v["copies"][0]["steps"].as_array_mut().unwrap().pop())),
        ("what was planned", |v| v["copies"][0]["settings"]["exclude"] = json!(["config.json"])),
    ];
    for (why, change) in forgeries {
        make();
        edit(&world, "plan.json", change);
        hub.script.reset();
        refused(&world.run(&["apply", "plan.json"]), 8, &[why]);
        assert_eq!(writes(&hub), 0);
    }
    make();
    let text = std::fs::read(world.work().join("plan.json")).unwrap();
    for length in [0, 1, text.len() / 2, text.len() - 3] {
        std::fs::write(world.work().join("cut.json"), &text[..length]).unwrap();
        refused(&world.run(&["apply", "cut.json"]), 2, &["not a plan of hubferry"]);
    }
    std::fs::File::create(world.work().join("huge.json")).unwrap().set_len(1 << 30).unwrap();
    let ran = world.run(&["apply", "huge.json"]);
    refused(&ran, 2, &["256 MiB at most"]);
    assert!(ran.peak < 64 << 20 && ran.took.as_secs() < 10, "{} bytes, {:?}", ran.peak, ran.took);
    refused(&world.run(&["apply", "."]), 2, &["a plan is a file"]);
    refused(&world.run(&["apply", "/dev/zero"]), 2, &["a plan is a file"]);
    refused(&world.run(&["apply", "none.json"]), 1, &["cannot read"]);
    world.run(&["ls", "ms:alice/dst"]).exits(6);
}

#[test]
fn a_plan_holds_no_token_and_appears_whole_or_not_at_all() {
    let (_hub, world) = published();
    let ran = world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "plan.json", "-m", &format!("by {ALICE}")]);
    refused(&ran, 1, &["would hold one of your tokens"]);
    assert!(!world.work().join("plan.json").exists());
    world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "plan.json", "-q"]).ok();
    let text = std::fs::read_to_string(world.work().join("plan.json")).unwrap();
    assert!(!text.contains(ALICE), "{text}");
    refused(&world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "none/plan.json"]), 1, &["cannot write"]);
    // Nothing was left beside it, and a source that cannot be planned leaves the old one as it was.
    world.run(&["copy", "hf:alice/none", "ms:alice/dst", "--plan", "plan.json", "-q"]).exits(6);
    assert_eq!(std::fs::read_to_string(world.work().join("plan.json")).unwrap(), text);
    let names: Vec<_> = files_below(&world.work()).into_keys().filter(|name| name.contains("plan")).collect();
    assert_eq!(names, ["plan.json"]);
    world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "p.json", "--dry-run"]).exits(2);
    world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--plan", "p.json", "--receipt", "r.json"]).exits(2);
}

/// What was allowed when planning is allowed when the plan is carried out, and nothing else.
#[test]
fn secrets_become_public_only_where_the_plan_says_so() {
    let (_hub, world) = published();
    let leak = format!("token = {}\n", concat!("hf_", "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"));
    world.tree("leaky", &[("notes.txt", leak.as_bytes())]);
    for (more, code) in [(&[][..], None), (&["--allow-secrets"], Some(0))] {
        let made = ["copy", "./leaky", "hf:alice/leaky", "--visibility", "public", "--plan", "plan.json", "-q"];
        world.run(&[&made[..], more].concat()).ok();
        let ran = world.run(&["apply", "plan.json", "-q"]);
        assert_eq!(ran.code == 0, code == Some(0), "{}", ran.shown());
        assert_eq!(world.run(&["cat", "hf:alice/leaky/notes.txt"]).code == 0, code == Some(0));
    }
}

#[test]
fn directories_are_found_from_anywhere() {
    let (_hub, world) = published();
    world.run(&["copy", "./src", "./copy", "--plan", "plan.json", "-q"]).ok();
    let place = world.work().join("elsewhere");
    std::fs::create_dir(&place).unwrap();
    let out = world.command(&["apply", "../plan.json", "-q"]).current_dir(&place).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(files_below(&world.work().join("copy")), files_below(&world.work().join("src")));
    world.tree("src", &[("late.txt", b"late")]);
    world.run(&["copy", "./src", "./again", "--plan", "plan.json", "-q"]).ok();
    world.tree("src", &[("later.txt", b"later")]);
    refused(&world.run(&["apply", "plan.json"]), 8, &["the source changed"]);
}

#[test]
fn many_repositories_are_one_plan_and_fail_one_by_one() {
    let (hub, world) = published();
    for name in ["one", "two", "three"] {
        world.tree(name, &[("name.txt", name.as_bytes())]);
        world.run(&["copy", &format!("./{name}"), &format!("hf:org/{name}"), "-q"]).ok();
    }
    let made = world.run(&["copy", "hf:org/*", "hf:org/none", "ms:mirror/", "--plan", "all.json", "--json", "-q"]).exits(3).json();
    assert_eq!((&made["summary"]["planned"], &made["summary"]["failed"], &made["plan_file"]), (&json!(3), &json!(1), &json!("all.json")));
    let plan = file(&world, "all.json");
    let places: Vec<_> = plan["copies"].as_array().unwrap().iter().map(|copy| copy["destination"]["address"].as_str().unwrap()).collect();
    assert_eq!(places, ["ms:models/mirror/one", "ms:models/mirror/three", "ms:models/mirror/two"]);
    world.tree("more", &[("more.txt", b"more")]);
    world.run(&["copy", "./more", "hf:org/two", "-q"]).ok();
    let report = world.run(&["apply", "all.json", "--json", "-q", "--receipt", "done.jsonl"]).exits(3).json();
    let results: BTreeMap<_, _> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["source"].as_str().unwrap(), (result["status"].as_str().unwrap(), result["exit"].as_u64())))
        .collect();
    let want =
        [("hf:models/org/one", ("copied", None)), ("hf:models/org/three", ("copied", None)), ("hf:models/org/two", ("failed", Some(8)))];
    assert_eq!(results, BTreeMap::from(want), "{report}");
    world.run(&["ls", "ms:mirror/two"]).exits(6);
    // What was done has its receipt, a line for each; what was not has none.
    let text = std::fs::read_to_string(world.work().join("done.jsonl")).unwrap();
    let names: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["predicate"]["source"]["address"].clone()).collect();
    assert_eq!(names, [json!("hf:models/org/one"), json!("hf:models/org/three")]);
    // Again: two are there already, the third is still refused.
    let again = world.run(&["apply", "all.json", "--json", "-q"]).exits(3).json();
    assert_eq!((&again["summary"]["up_to_date"], &again["summary"]["failed"]), (&json!(2), &json!(1)), "{again}");
    assert_eq!(hub.commits("mirror/one").len(), hub.commits("mirror/three").len());
}

#[test]
fn a_receipt_is_believed_by_a_stranger_who_reads_the_files() {
    let (hub, world) = published();
    world.tree("card", &[("README.md", b"---\nlicense: Apache License 2.0\n---\n# Model\n"), ("own.txt", b"own")]);
    world.run(&["copy", "./card", "ms:alice/card", "-q", "--visibility", "public"]).ok();
    let mut folders = Vec::new();
    for (source, id) in [("hf:alice/src", "alice/plain"), ("ms:alice/card", "alice/card-there")] {
        let to = format!("hf:{id}");
        let receipt = format!("{}.json", id.replace('/', "-"));
        let report = world.run(&["copy", source, &to, "--receipt", &receipt, "--json", "-q", "--exclude", "sub/"]).ok().json();
        assert_eq!(report["receipt_file"], receipt.as_str());
        let folder = world.work().join(id.replace('/', "-"));
        python(&world, "hf", "read_hf.py", &["model", id, folder.to_str().unwrap()]).ok();
        let at = world.work().join(&receipt);
        let ran = python(&world, "in-toto", "check_receipt.py", &[at.to_str().unwrap(), folder.to_str().unwrap()]).ok();
        let said = file(&world, &receipt);
        let names: Vec<_> =
            said["subject"].as_array().unwrap().iter().map(|subject| subject["name"].as_str().unwrap().to_owned()).collect();
        let mut there = files_below(&folder);
        there.retain(|path, _| !path.starts_with(".cache/"));
        assert_eq!(names, there.into_keys().collect::<Vec<_>>(), "every file that a stranger finds is in it");
        assert_eq!(ran.stdout, format!("{} proven\n", names.len()));
        let predicate = &said["predicate"];
        assert_eq!((&predicate["source"]["address"], &predicate["destination"]["address"]), (&json!(source), &json!(to)));
        assert_eq!(
            (&predicate["source"]["revision"], &predicate["destination"]["revision"]),
            (&report["source_revision"], &report["destination_revision"])
        );
        assert_eq!(predicate["destination"]["revision"], hub.commits(id)[0].0.as_str());
        assert_eq!(predicate["commits"], report["commits"]);
        assert_eq!(predicate["tool"], json!({"name": "hubferry", "version": env!("CARGO_PKG_VERSION")}));
        folders.push(predicate["files"].clone());
    }
    let line = |files: &Value, path: &str| files.as_array().unwrap().iter().find(|file| file["path"] == path).unwrap().clone();
    let weights = line(&folders[0], "model.safetensors");
    assert_eq!((&weights["verdict"], &weights["written"], &weights["size"]), (&json!("same"), &json!(true), &json!(300_000)));
    assert_eq!(weights["source"]["sha256"], weights["destination"]["sha256"]);
    let card = line(&folders[1], "README.md");
    assert_eq!(card["verdict"], "transformed");
    assert_ne!(card["source"]["sha256"], card["destination"]["sha256"]);
    assert!(card["changes"][0].as_str().unwrap().contains("apache-2.0"), "{card}");
    assert_eq!(
        file(&world, "alice-plain.json")["predicate"]["leftOut"],
        json!({"files": 1, "bytes": 3, "include": [], "exclude": ["sub/"]})
    );

    // What was equal already is in it as well, and what somebody else put there is not.
    world.run(&["copy", "./card", "hf:alice/plain", "-q"]).ok();
    world.run(&["copy", "hf:alice/src", "hf:alice/plain", "--receipt", "again.json", "-q"]).ok();
    let again = file(&world, "again.json");
    let files = &again["predicate"]["files"];
    assert_eq!((&line(files, "model.safetensors")["written"], &line(files, "sub/notes.txt")["written"]), (&json!(false), &json!(true)));
    assert!(files.as_array().unwrap().iter().all(|file| file["path"] != "own.txt"), "{again}");
}

#[test]
fn there_is_no_receipt_without_success_and_no_copy_without_a_place_for_it() {
    let (hub, world) = published();
    hub.script.reset();
    for place in ["none/receipt.json", ".", "/dev/null"] {
        refused(&world.run(&["copy", "hf:alice/src", "ms:alice/dst", "--receipt", place]), 1, &["cannot write"]);
    }
    assert!(hub.script.seen().is_empty(), "found out before anybody is asked");
    world.run(&["copy", "hf:alice/none", "ms:alice/dst", "--receipt", "receipt.json", "-q"]).exits(6);
    assert!(!files_below(&world.work()).keys().any(|name| name.contains("receipt")));
    world.run(&["sync", "hf:alice/src", "./dst", "--receipt", "receipt.json", "-q"]).ok();
    let said = file(&world, "receipt.json");
    let there = files_below(&world.work().join("dst"));
    assert_eq!(said["subject"].as_array().unwrap().len(), there.len());
    check(&world.work().join("dst"), &said);
}

/// Every subject against the bytes on the disk.
fn check(folder: &Path, statement: &Value) {
    for subject in statement["subject"].as_array().unwrap() {
        let content = std::fs::read(folder.join(subject["name"].as_str().unwrap())).unwrap();
        assert_eq!(subject["digest"]["sha256"], hubferry_core::digest::Oid::of(&content).to_string(), "{subject}");
    }
}

#[test]
fn a_plan_says_what_it_takes_and_does_not_invent_a_time() {
    let (hub, world) = published();
    let large = bytes(9, 9 << 20);
    world.tree("large", &[("a.bin", &large[..5 << 20]), ("b.bin", &large[5 << 20..])]);
    let texts: Vec<(String, Vec<u8>)> = (0..40).map(|n| (format!("t/{n}.txt"), format!("text {n}").into_bytes())).collect();
    let files: Vec<(&str, &[u8])> = texts.iter().map(|(path, text)| (path.as_str(), text.as_slice())).collect();
    world.tree("small", &files);
    let cases = [
        ("./large", "hf:alice/l1"),
        ("./small", "ms:alice/s1"),
        ("hf:alice/l1", "ms:alice/l2"),
        ("ms:alice/s1", "hf:alice/s2"),
        ("hf:alice/l1", "./l3"),
        ("ms:alice/s1", "./s3"),
    ];
    for (source, destination) in cases {
        let planned = world.run(&["copy", source, destination, "--json", "-q", "--dry-run"]).ok().json();
        let (expected, allowances) = (planned["forecast"]["requests"].as_u64().unwrap(), planned["forecast"]["allowances"].clone());
        assert_eq!(planned["forecast"]["seconds"], Value::Null, "nothing was measured yet: {planned}");
        let is_hub = source.starts_with("hf") || destination.starts_with("hf");
        assert_eq!(allowances.as_array().unwrap().iter().any(|allowance| allowance["quota"] == 1_000_000), is_hub, "{planned}");
        let text = world.run(&["copy", source, destination, "--dry-run"]).ok().stdout;
        assert!(text.contains(&format!("about {expected} request")) && text.contains("time unknown"), "{text}");
        let done = world.run(&["copy", source, destination, "--json", "-q"]).ok().json();
        let took = done["wire"]["requests"].as_u64().unwrap();
        // How large the pieces are in which a file is read into its place is found by measuring, and small where there is no distance.
        let is_whole = destination == "./l3" || took <= 2 * expected;
        assert!(expected <= 2 * took && is_whole, "{source} -> {destination}: {expected} expected, {took} were made");
    }
    // What was measured is known the next time, for the same places and the same sort of files only.
    let again = world.run(&["copy", "./large", "hf:alice/l4", "--json", "-q", "--dry-run"]).ok().json();
    assert!(again["forecast"]["seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{again}");
    let again = world.run(&["copy", "./small", "hf:alice/s4", "--json", "-q", "--dry-run"]).ok().json();
    assert_eq!(again["forecast"]["seconds"], Value::Null, "large files say nothing of small ones: {again}");
    let text = world.run(&["copy", "./large", "hf:alice/l4", "--dry-run"]).ok().stdout;
    assert!(text.contains("at the speed of earlier runs"), "{text}");
    drop(hub);
}

#[test]
fn requests_that_are_nearly_used_up_are_told() {
    let (hub, world) = published();
    let truth = hub.hf.clone();
    // The same hub, but with few requests left.
    let front = Canned::start(move |asked: &Asked| {
        let (status, body) = get(&format!("{truth}{}", asked.target), ALICE);
        let reply = Reply::new(status, body).with("content-type", "application/json");
        reply.with("ratelimit", "\"api\";r=9;t=100").with("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300")
    });
    let near = World::new().at(&front.url, &hub.ms, ALICE);
    let ran = near.run(&["copy", "hf:alice/src", "./copy", "--dry-run"]).ok();
    assert!(ran.stdout.contains(" of 500 more requests (api) within 1 min"), "{}", ran.shown());
    drop(world);
}
