//! Any revision as source, all branches and tags, and history: between the two hubs, read back by strangers.

use std::collections::{BTreeMap, BTreeSet};

use hubferry_server::testing::{Fault, Method, Rule};
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, Served, World, bytes, files_below, get, git, python, send};

const README: &[u8] = b"---\nlicense: mit\n---\n# Model\n";
/// Every repository on a hub has this file.
const ATTRIBUTES: &[u8] = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n";

/// Hub A as the Hugging Face of the world, hub B as its ModelScope.
fn two_hubs() -> (Hub, Hub, World) {
    let (a, b) = (Hub::start(), Hub::start());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    (a, b, world)
}

/// Makes the branch hold exactly these files.
fn commit(world: &World, to: &str, files: &[(&str, &[u8])], message: &str) {
    let _ = std::fs::remove_dir_all(world.work().join("seed"));
    world.tree("seed", files);
    world.tree("seed", &[(".gitattributes", ATTRIBUTES)]);
    world.run(&["sync", "./seed", to, "-q", "--visibility", "public", "-m", message]).ok();
}

fn head(hf: &str, id: &str, rev: &str) -> String {
    let (status, body) = get(&format!("{hf}/api/models/{id}/revision/{}", rev.replace('/', "%2F")), ALICE);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["sha"].as_str().unwrap().to_owned()
}

fn post(hf: &str, path: &str, body: &Value) {
    let (status, said) = send("POST", &format!("{hf}/api/models/{path}"), ALICE, Some(&body.to_string()));
    assert_eq!(status, 200, "{path}: {said}");
}

/// Branches and tags as a stranger lists them.
fn listed(world: &World, id: &str) -> Value {
    serde_json::from_str(python(world, "hf", "refs_hf.py", &["model", id]).ok().stdout.trim()).unwrap()
}

fn names(listed: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect();
    (keys(&listed["branches"]), keys(&listed["tags"]))
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a client downloaded, without what it keeps beside the files for itself.
fn downloaded(world: &World, folder: &str) -> Files {
    let mut files = files_below(&world.work().join(folder));
    files.retain(|path, _| {
        !path.starts_with(".cache/") && !path.starts_with(".git/") && ![".msc", ".mv", ".mdl", ".gitattributes"].contains(&path.as_str())
    });
    files
}

fn owned(files: &[(&str, &[u8])]) -> Files {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}

/// Name and status of each part of a report.
fn statuses(report: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let parts = report["refs"].as_array().unwrap().iter();
    parts.map(|part| (format!("{} {}", text(&part["kind"]), text(&part["destination"])), text(&part["status"]))).collect()
}

/// Contents by path.
type Files = BTreeMap<String, Vec<u8>>;

/// What the branches and tags of the model that most tests use hold.
struct Model {
    refs: Vec<(&'static str, Files)>,
}

/// `alice/model` at the Hugging Face of `hub`: `main` with four commits, `dev` and `feature/x` beside it, tags on the head of a branch, on
/// an earlier commit and on one that no branch has.
fn publish(hub: &Hub) -> Model {
    let world = hub.world(ALICE);
    let (first, second, extra) = (bytes(1, 300_000), bytes(2, 300_000), bytes(3, 150_000));
    let one: &[(&str, &[u8])] = &[("README.md", README), ("config.json", b"{\"v\": 1}"), ("model.safetensors", &first)];
    let two: &[(&str, &[u8])] = &[("README.md", README), ("config.json", b"{\"v\": 2}"), ("model.safetensors", &second)];
    let three: &[(&str, &[u8])] = &[("README.md", README), ("model.safetensors", &second), ("sub/notes.txt", b"third\n")];
    let dev: &[(&str, &[u8])] =
        &[("README.md", README), ("config.json", b"{\"v\": 1}"), ("model.safetensors", &first), ("extra.bin", &extra)];
    let lost: &[(&str, &[u8])] = &[("README.md", README), ("lost.txt", b"on no branch\n")];
    let id = "alice/model";
    commit(&world, "hf:alice/model", one, "First\n\nwith more to say");
    let at = head(&hub.hf, id, "main");
    post(&hub.hf, &format!("{id}/tag/{at}"), &json!({"tag": "v1"}));
    for branch in ["dev", "feature%2Fx", "passing"] {
        post(&hub.hf, &format!("{id}/branch/{branch}"), &json!({"startingPoint": at}));
    }
    commit(&world, "hf:alice/model@dev", dev, "In the making");
    commit(&world, "hf:alice/model@passing", lost, "Lost");
    let passing = head(&hub.hf, id, "passing");
    post(&hub.hf, &format!("{id}/tag/{passing}"), &json!({"tag": "lost"}));
    let (status, said) = send("DELETE", &format!("{}/api/models/{id}/branch/passing", hub.hf), ALICE, None);
    assert_eq!(status, 200, "{said}");
    commit(&world, "hf:alice/model", two, "Second");
    commit(&world, "hf:alice/model", three, "Third");
    post(&hub.hf, &format!("{id}/tag/main"), &json!({"tag": "v3"}));
    Model {
        refs: vec![
            ("main", owned(three)),
            ("dev", owned(dev)),
            ("feature/x", owned(one)),
            ("v1", owned(one)),
            ("v3", owned(three)),
            ("lost", owned(lost)),
        ],
    }
}

#[test]
fn h19_any_revision_branch_or_tag_and_an_explicit_branch_map() {
    let hub = Hub::start();
    let (model, world) = (publish(&hub), hub.world(ALICE));
    let (tag, dev) = (head(&hub.hf, "alice/model", "v1"), head(&hub.hf, "alice/model", "dev"));
    hub.point("alice/model", "refs/pr/1", &dev);
    let of = |name: &str| model.refs.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let mut number = 0;
    for remote in ["hf", "ms"] {
        let default = if remote == "hf" { "main" } else { "master" };
        let revisions = [
            (default.to_owned(), "main"),
            (format!("refs/heads/{default}"), "main"),
            ("dev".into(), "dev"),
            ("feature%2Fx".into(), "feature/x"),
            ("refs%2Fheads%2Ffeature%2Fx".into(), "feature/x"),
            ("v1".into(), "v1"),
            ("refs/tags/v1".into(), "v1"),
            ("lost".into(), "lost"),
            (tag.clone(), "v1"),
            (tag[..12].to_owned(), "v1"),
            ("refs%2Fpr%2F1".into(), "dev"),
            ("refs/pr/1".into(), "dev"),
        ];
        for (rev, want) in &revisions {
            number += 1;
            let (place, folder) = (format!("{remote}:models/alice/model@{rev}"), format!("out-{number}"));
            let want = of(want);
            let report = world.run(&["copy", &place, &format!("./{folder}"), "--json", "-q"]).ok().json();
            assert_eq!(report["source_revision"].as_str().unwrap().len(), 40, "{place}: {report}");
            assert_eq!(downloaded(&world, &folder), want, "{place}");
            let paths: Vec<String> = world.run(&["ls", &place]).ok().stdout.lines().map(str::to_owned).collect();
            assert!(want.keys().all(|path| paths.contains(path)) && paths.len() == want.len() + 1, "{place}: {paths:?}");
            world.run(&["verify", &place, "-q"]).ok();
            world.run(&["diff", &place, &format!("./{folder}"), "-q"]).ok();
        }
        world.run(&["ls", &format!("{remote}:models/alice/model@nothing")]).exits(6);
    }
    // Everything at once, with names of their own, from either face to the other.
    for (from, to, dev) in [("hf:alice/model", "ms:alice/over", "entwicklung"), ("ms:alice/model", "hf:alice/back", "develop")] {
        let map = format!("dev={dev}");
        world.run(&["copy", from, to, "--all-refs", "--branch-map", &map, "-q"]).ok();
        let (branches, tags) = names(&listed(&world, to.split_once(':').unwrap().1));
        assert_eq!((branches, tags), (set(&["main", dev, "feature/x"]), set(&["v1", "v3", "lost"])), "{to}");
    }
    for wrong in [&["--branch-map", "dev"][..], &["--branch-map", "dev=master"], &["--branch-map", "none=x"]] {
        let ran = world.run(&[&["copy", "hf:alice/model", "ms:alice/over", "--all-refs"], wrong].concat());
        assert!(ran.code != 0 && ran.stderr.contains("hint:"), "{}", ran.shown());
    }
    world.run(&["copy", "hf:alice/model", "ms:alice/over", "--branch-map", "a=b"]).exits(2);
}

/// Every branch and tag of `model` as the clients of the destination read it.
fn read_back(world: &World, model: &Model, to: &str, id: &str, url: &str) {
    for (number, (name, want)) in model.refs.iter().enumerate() {
        let folder = format!("read-{number}");
        let _ = std::fs::remove_dir_all(world.work().join(&folder));
        let at = world.work().join(&folder);
        let name = if *name == "main" && to == "ms" { "master" } else { name };
        match to {
            "hf" => drop(python(world, "hf", "read_hf.py", &["model", id, at.to_str().unwrap(), name]).ok()),
            _ => drop(python(world, "ms", "read_ms.py", &["new", "model", id, at.to_str().unwrap(), name]).ok()),
        }
        assert_eq!(downloaded(world, &folder), *want, "{to}: {name}");
    }
    let _ = std::fs::remove_dir_all(world.work().join("clone"));
    git(world, &format!("clone -q --branch dev {}/{id}.git clone", url.replace("http://", &format!("http://alice:{ALICE}@")))).ok();
    assert_eq!(downloaded(world, "clone"), model.refs[1].1, "{to}: by Git");
}

/// All branches and tags from one place to another, three times: planned, done, and done again.
#[track_caller]
fn mirrored(world: &World, model: &Model, from: &str, to: &str, more: &[&str], destination: &Hub) -> Value {
    let args = |last: &[&str]| world.run(&[&["copy", from, to, "--all-refs", "--json", "-q"], more, last].concat()).ok().json();
    let planned = args(&["--dry-run"]);
    destination.script.reset();
    let report = args(&[]);
    assert_eq!(statuses(&planned), statuses(&report));
    let (id, default) = (to.split_once(':').unwrap().1, if to.starts_with("ms") { "master" } else { "main" });
    let (branches, tags) = names(&listed(&World::new().at(&destination.hf, &destination.ms, ALICE), id));
    assert_eq!((branches, tags), (set(&["main", "dev", "feature/x"]), set(&["v1", "v3", "lost"])));
    assert_eq!(statuses(&report)[&format!("branch {default}")], "copied");
    assert!(["branch dev", "tag v1", "tag lost"].iter().all(|part| statuses(&report)[*part] == "created"), "{report}");
    let large: BTreeSet<_> = model.refs.iter().flat_map(|(_, files)| files.values()).filter(|content| content.len() > 100_000).collect();
    let moved: u64 = large.iter().map(|content| content.len() as u64).sum();
    for bytes in [&planned["plan"]["bytes"], &report["moved_bytes"]] {
        assert!((moved..moved + 10_000).contains(&bytes.as_u64().unwrap()), "what one branch moves is not moved for the next: {report}");
    }
    destination.script.reset();
    let again = args(&[]);
    assert!(statuses(&again).values().all(|status| status == "up_to_date"), "{again}");
    assert_eq!((&again["moved_bytes"], &again["wire"]["sent"], &again["summary"]["commits"]), (&0.into(), &0.into(), &0.into()));
    let written: Vec<_> = destination.script.seen().into_iter().filter(|seen| seen.method != Method::GET).collect();
    assert!(written.is_empty(), "{written:?}");
    report
}

#[test]
fn all_refs_go_from_hugging_face_to_modelscope() {
    let (a, b, world) = two_hubs();
    let model = publish(&a);
    mirrored(&world, &model, "hf:alice/model", "ms:alice/copy", &[], &b);
    read_back(&world, &model, "ms", "alice/copy", &b.ms);
    let classic = world.work().join("classic");
    python(&world, "ms-classic", "read_ms.py", &["classic", "model", "alice/copy", classic.to_str().unwrap(), "v1"]).ok();
    assert_eq!(downloaded(&world, "classic"), model.refs[3].1);
}

#[test]
fn all_refs_go_from_modelscope_to_hugging_face() {
    let (a, b) = (Hub::start(), Hub::start());
    let model = publish(&a);
    let world = World::new().at(&b.hf, &a.ms, ALICE);
    mirrored(&world, &model, "ms:alice/model", "hf:alice/copy", &[], &b);
    read_back(&world, &model, "hf", "alice/copy", &b.hf);
}

#[test]
fn all_refs_go_from_one_hugging_face_to_another() {
    let a = Hub::start();
    let (model, world) = (publish(&a), a.world(ALICE));
    let report = mirrored(&world, &model, "hf:alice/model", "hf:alice/copy", &["--history"], &a);
    read_back(&world, &model, "hf", "alice/copy", &a.hf);
    // The tag of an earlier commit lies on its replay, not on a commit of its own.
    let old: Vec<String> = a.commits("alice/copy").into_iter().map(|(id, _)| id).collect();
    assert!(old.contains(&head(&a.hf, "alice/copy", "v1")), "{report}");
}

#[test]
fn history_is_replayed_and_a_killed_run_goes_on() {
    let (a, b) = (Hub::start(), Served::start());
    let model = publish(&a);
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    let args = ["copy", "hf:alice/model", "ms:alice/line", "--all-refs", "--history", "--json", "-q"];
    // A kill every now and then; each run gets a little further.
    for pause in [150, 400, 700, 900] {
        let mut run = world.start(&args);
        std::thread::sleep(std::time::Duration::from_millis(pause));
        run.kill();
        run.wait();
    }
    world.run(&args).ok();
    let source = a.commits("alice/model");
    let line: Vec<String> = b.commits("alice/line").into_iter().map(|(_, message)| message).collect();
    let sources: Vec<&String> = source.iter().map(|(id, _)| id).collect();
    let origins: Vec<String> = line
        .iter()
        .filter_map(|message| message.lines().rev().find_map(|line| line.strip_prefix("Source-Revision: ")).map(str::to_owned))
        .collect();
    let mut unique = origins.clone();
    unique.dedup();
    assert_eq!(unique, origins, "no commit is replayed twice");
    let places: Vec<usize> = origins.iter().map(|id| sources.iter().position(|source| *source == id).unwrap()).collect();
    assert!(places.is_sorted() && places.first() == Some(&0) && places.len() >= 3, "{places:?}");
    let first = line.iter().find(|message| message.starts_with("First")).unwrap();
    assert!(
        first.starts_with("First\n\nwith more to say\n")
            && first.contains("\nAuthor: alice\nDate: ")
            && first.contains("\nSource: hf:alice/model\n"),
        "{first}"
    );
    assert!(listed(&World::new().at(&b.hf, &b.ms, ALICE), "alice/line")["branches"].as_object().unwrap().len() == 3);
    read_back(&world, &model, "ms", "alice/line", &b.ms);
    let again = world.run(&args).ok().json();
    assert_eq!((&again["summary"]["commits"], &again["summary"]["up_to_date"]), (&0.into(), &6.into()), "{again}");
}

#[test]
fn one_branch_with_its_history() {
    let (a, b, world) = two_hubs();
    publish(&a);
    let report = world.run(&["copy", "hf:alice/model", "ms:alice/line", "--history", "--dry-run", "--json", "-q"]).ok().json();
    assert_eq!(world.run(&["ls", "ms:alice/line"]).code, 6, "a dry run makes nothing");
    let titles: Vec<_> =
        report["refs"][0]["made"].as_array().unwrap().iter().map(|made| made["title"].as_str().unwrap().to_owned()).collect();
    assert_eq!(titles[titles.len() - 3..], ["First", "Second", "Third"]);
    world.run(&["copy", "hf:alice/model", "ms:alice/line", "--history", "-q"]).ok();
    assert!(b.commits("alice/line")[0].1.starts_with("Third\n"));
    let shown = world.run(&["copy", "hf:alice/model", "ms:alice/line", "--history"]).ok();
    assert!(shown.stdout.contains("up to date"), "{}", shown.shown());
    world.run(&["diff", "hf:alice/model", "ms:alice/line", "-q"]).ok();
}

#[test]
fn what_cannot_be_done_is_said() {
    let (a, b, world) = two_hubs();
    publish(&a);
    world.tree("local", &[("a.txt", b"a")]);
    for (args, why) in [
        (&["hf:alice/model", "./out", "--all-refs"][..], "a directory has no branches"),
        (&["./local", "hf:alice/x", "--all-refs"], "a directory has no branches"),
        (&["hf:alice/model", "./out", "--history"], "a directory has no branches"),
        (&["hf:alice/model/sub", "ms:alice/x", "--all-refs"], "a part of a repository"),
        (&["hf:alice/model", "ms:alice/x/sub", "--history"], "a part of a repository"),
        (&["hf:alice/model@dev", "ms:alice/x", "--all-refs"], "names one revision"),
    ] {
        let ran = world.run(&[&["copy"], args].concat()).exits(2);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("hint:"), "{}", ran.shown());
    }
    // A hub that takes no refs by Git: what needs none is done, and the rest says what is to be done by hand.
    let refusal = Fault::Answer(403, Vec::new(), "no pushes today\n".into());
    b.script.add(Rule::once(Method::GET, "service=git-receive-pack", refusal).always());
    let ran = world.run(&["copy", "hf:alice/model", "ms:alice/copy", "--all-refs", "--json", "-q"]).exits(3);
    let (report, found) = (ran.json(), statuses(&ran.json()));
    assert_eq!((found["branch master"].as_str(), found["branch dev"].as_str(), found["tag v3"].as_str()), ("copied", "failed", "created"));
    assert!(ran.stderr.contains("no pushes today") && ran.stderr.contains("make the branch dev by hand"), "{}", ran.shown());
    assert!(!ran.stderr.contains(ALICE) && !ran.stdout.contains(ALICE));
    assert_eq!(report["summary"]["failed"], 4, "{report}");
    // As said: made by hand, it is copied like any other.
    b.script.reset();
    let url = format!("{}/alice/copy.git", b.ms.replace("http://", &format!("http://alice:{ALICE}@")));
    git(&world, &format!("clone -q {url} by-hand")).ok();
    git(&world, "-C by-hand push -q origin HEAD:refs/heads/dev").ok();
    let report = world.run(&["copy", "hf:alice/model", "ms:alice/copy", "--all-refs", "--json", "-q"]).ok().json();
    assert_eq!(statuses(&report)["branch dev"], "copied");
}

#[test]
fn tags_move_by_force_and_sync_deletes_under_guards() {
    for to in ["ms:alice/copy", "hf:alice/copy"] {
        let (a, b) = (Hub::start(), Hub::start());
        let world = if to.starts_with("ms") { World::new().at(&a.hf, &b.ms, ALICE) } else { World::new().at(&b.hf, &a.ms, ALICE) };
        let from = if to.starts_with("ms") { "hf:alice/model" } else { "ms:alice/model" };
        publish(&a);
        let there = World::new().at(&b.hf, &b.ms, ALICE);
        world.run(&["copy", from, to, "--all-refs", "-q"]).ok();
        let dev = head(&a.hf, "alice/model", "dev");
        assert_eq!(send("DELETE", &format!("{}/api/models/alice/model/tag/v1", a.hf), ALICE, None).0, 200);
        post(&a.hf, &format!("alice/model/tag/{dev}"), &json!({"tag": "v1"}));
        assert_eq!(send("DELETE", &format!("{}/api/models/alice/model/branch/feature%2Fx", a.hf), ALICE, None).0, 200);
        assert_eq!(send("DELETE", &format!("{}/api/models/alice/model/tag/lost", a.hf), ALICE, None).0, 200);
        let before = listed(&there, "alice/copy");
        let ran = world.run(&["copy", from, to, "--all-refs"]).exits(3);
        assert!(ran.stdout.contains("--force-tags moves it"), "{}", ran.shown());
        assert_eq!(listed(&there, "alice/copy"), before);
        let ran = world.run(&["sync", from, to, "--all-refs", "--force-tags", "--max-delete", "1"]).exits(1);
        assert!(ran.stderr.contains("2 branches and tags would be deleted"), "{}", ran.shown());
        let planned = world.run(&["sync", from, to, "--all-refs", "--force-tags", "--dry-run", "--json", "-q"]).ok().json();
        assert_eq!(listed(&there, "alice/copy"), before);
        let report = world.run(&["sync", from, to, "--all-refs", "--force-tags", "--json", "-q"]).ok().json();
        assert_eq!(statuses(&planned), statuses(&report));
        let found = statuses(&report);
        assert_eq!(
            (found["tag v1"].as_str(), found["tag lost"].as_str(), found["branch feature/x"].as_str()),
            ("moved", "deleted", "deleted")
        );
        let now = listed(&there, "alice/copy");
        assert_eq!(names(&now), (set(&["main", "dev"]), set(&["v1", "v3"])));
        assert_eq!(now["tags"]["v1"], now["branches"]["dev"]);
    }
}

#[test]
fn many_whole_repositories_have_one_report() {
    let (a, _b, world) = two_hubs();
    publish(&a);
    commit(&a.world(ALICE), "hf:alice/other", &[("a.txt", b"a")], "One");
    let report = world.run(&["copy", "hf:models/alice/*", "ms:mirror/", "--all-refs", "--json", "-q"]).ok().json();
    assert_eq!((&report["summary"]["copied"], &report["summary"]["failed"]), (&2.into(), &0.into()), "{report}");
    let report = world.run(&["copy", "hf:models/alice/*", "ms:mirror/", "--all-refs", "--json", "-q"]).ok().json();
    assert_eq!((&report["summary"]["up_to_date"], &report["summary"]["moved_bytes"]), (&2.into(), &0.into()), "{report}");
}

/// Where the API lists branches and refuses their files, they come by Git.
#[test]
fn branches_whose_files_the_api_refuses_come_by_git() {
    let (a, b, world) = two_hubs();
    let model = publish(&a);
    let refusal = Fault::Answer(403, Vec::new(), "{\"error\": \"not by this way\"}".into());
    a.script.add(Rule::once(Method::GET, "/api/models/alice/model/tree/", refusal).always());
    world.run(&["copy", "hf:alice/model", "ms:alice/copy", "--all-refs", "-q"]).ok();
    assert!(a.script.count(&Method::POST, "git-upload-pack") > 0, "nothing came by Git");
    read_back(&world, &model, "ms", "alice/copy", &b.ms);
}
