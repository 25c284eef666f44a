//! The main job on a real model: published by one stranger, copied by the binary, read back by another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubferry_server::testing::Method;

use crate::harness::{ALICE, Hub, World, bytes, files_below, get, minilm, python};

/// The model as it is published: without the mark that its installation was finished.
fn model() -> BTreeMap<String, Vec<u8>> {
    let mut files = files_below(&minilm());
    files.remove(".done");
    files
}

/// What a client downloaded, without what it keeps beside the files for itself and what the hubs write by themselves.
fn downloaded(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_below(folder);
    let other = [".msc", ".mv", ".mdl", ".gitattributes", "dataset_infos.json"];
    files.retain(|path, _| !path.starts_with(".cache/") && !other.contains(&path.as_str()));
    files
}

/// Both without what a hub writes by itself and some clients do not download.
#[track_caller]
fn same(got: &BTreeMap<String, Vec<u8>>, want: &BTreeMap<String, Vec<u8>>, what: &str) {
    let mut want = want.clone();
    want.remove(".gitattributes");
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(got), names(&want), "{what}");
    for (path, content) in &want {
        assert!(got[path] == *content, "{what}: {path} differs");
    }
}

/// Hub A as the Hugging Face of the world, hub B as its ModelScope.
fn two_hubs() -> (Hub, Hub, World) {
    let (a, b) = (Hub::with_cdn(), Hub::with_cdn());
    let world = World::new().at(&a.hf, &b.ms, ALICE);
    (a, b, world)
}

/// Asks for the file list again and again, as a reader would, and keeps every answer that differs from the one before.
struct Reader {
    stop: Arc<AtomicBool>,
    lists: Arc<Mutex<Vec<BTreeSet<String>>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reader {
    fn of(ms: &str, id: &str) -> Self {
        let url = format!("{ms}/api/v1/models/{id}/repo/files?Revision=master&Recursive=True");
        let (stop, lists) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (told, seen) = (stop.clone(), lists.clone());
        let thread = std::thread::spawn(move || {
            loop {
                let last = told.load(Ordering::Relaxed);
                let (status, body) = get(&url, ALICE);
                let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                let rows = answer["Data"]["Files"].as_array().cloned().unwrap_or_default();
                let files = rows.iter().filter(|row| row["Type"] == "blob").filter_map(|row| row["Path"].as_str().map(str::to_owned));
                let files: BTreeSet<String> = if status == 200 { files.collect() } else { BTreeSet::new() };
                let mut seen: std::sync::MutexGuard<'_, Vec<BTreeSet<String>>> = seen.lock().unwrap();
                if seen.last() != Some(&files) {
                    seen.push(files);
                }
                drop(seen);
                if last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, lists, thread: Some(thread) }
    }

    /// Every list it was shown, in order.
    fn finish(mut self) -> Vec<BTreeSet<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.lists.lock().unwrap().clone()
    }
}

#[test]
fn a_real_model_goes_over_and_back() {
    let model = model();
    let (a, b, world) = two_hubs();
    let published = python(&world, "hf", "publish_hf.py", &["model", "alice/minilm", minilm().to_str().unwrap()]).ok();
    let head = published.stdout.trim().to_owned();

    // Over. The destination exists already, so that a reader has something to look at all the time.
    world.tree("seed", &[("seed.txt", b"before\n")]);
    world.run(&["copy", "./seed", "ms:alice/minilm", "-q", "--visibility", "public"]).ok();
    let before = b.commits("alice/minilm");
    let reader = Reader::of(&b.ms, "alice/minilm");
    let report = world.run(&["copy", "hf:alice/minilm", "ms:alice/minilm", "--json", "-q", "--bwlimit", "60M"]).ok().json();
    let lists = reader.finish();
    let after = b.commits("alice/minilm");
    assert_eq!(report["source_revision"], head.as_str());
    assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(after.len(), before.len() + 1, "exactly one new commit: {after:?}");
    assert_eq!(report["commits"][0], after[0].0.as_str());
    for trailer in ["Source: hf:alice/minilm", &format!("Source-Revision: {head}")] {
        assert!(after[0].1.lines().any(|line| line == trailer), "{trailer} is not in {:?}", after[0].1);
    }
    let listed: BTreeSet<String> = model.keys().cloned().chain([".gitattributes".to_owned(), "seed.txt".to_owned()]).collect();
    assert_eq!(lists.len(), 2, "a reader sees what was there before, then everything: {lists:?}");
    assert_eq!(lists[1], listed);

    // Read back by both generations of the ModelScope client.
    let mut expected = model.clone();
    expected.insert("seed.txt".into(), b"before\n".to_vec());
    for (environment, generation) in [("ms", "new"), ("ms-classic", "classic")] {
        let folder = world.work().join(generation);
        python(&world, environment, "read_ms.py", &[generation, "model", "alice/minilm", folder.to_str().unwrap()]).ok();
        same(&downloaded(&folder), &expected, generation);
    }

    // Again: nothing moves, nothing is committed, nothing is even asked to be written.
    b.script.reset();
    let again = world.run(&["copy", "hf:alice/minilm", "ms:alice/minilm", "--json", "-q"]).ok().json();
    assert_eq!((&again["moved_bytes"], &again["wire"]["sent"]), (&0.into(), &0.into()), "{again}");
    assert_eq!(again["commits"], serde_json::json!([]));
    assert!(again["wire"]["received"].as_u64().unwrap() == 0, "what was learnt spares even the comparison of small files: {again}");
    let seen = b.script.seen();
    assert!(seen.iter().all(|seen| seen.method == Method::GET), "{seen:?}");
    assert_eq!(b.commits("alice/minilm"), after);

    // And back, into a new repository.
    let back = world.run(&["copy", "ms:alice/minilm", "hf:alice/minilm-back", "--json", "-q", "--exclude", "seed.txt"]).ok().json();
    assert_eq!((back["commits"].as_array().unwrap().len(), &back["created"]), (1, &"public".into()), "{back}");
    let newest = a.commits("alice/minilm-back").remove(0);
    assert!(newest.1.contains("Source: ms:alice/minilm") && newest.1.contains(&format!("Source-Revision: {}", after[0].0)), "{newest:?}");
    let folder = world.work().join("back");
    python(&world, "hf", "read_hf.py", &["model", "alice/minilm-back", folder.to_str().unwrap()]).ok();
    same(&downloaded(&folder), &model, "back");
    let outcome = world.run(&["diff", "hf:alice/minilm", "hf:alice/minilm-back", "--json", "-q"]).ok().json();
    assert_eq!(outcome["differences"], serde_json::json!([]), "{outcome}");
}

#[test]
fn a_dataset_goes_over_and_back() {
    let (_a, b, world) = two_hubs();
    let table = bytes(1, 3_000_000);
    let small = bytes(2, 90_000);
    let files: &[(&str, &[u8])] = &[
        ("README.md", b"---\nlicense: cc-by-4.0\n---\n# Data\n"),
        ("data/train-00000-of-00001.parquet", &table),
        ("data/test #1 100%.csv", b"a,b\n1,2\n"),
        ("audio/\u{fc}ml\u{e4}ut.wav", &small),
        ("empty.jsonl", b""),
    ];
    let folder = world.tree("data", files);
    let want = files_below(&folder);
    python(&world, "hf-xet", "publish_hf.py", &["dataset", "alice/data", folder.to_str().unwrap()]).ok();
    // The kind is found by asking.
    let report = world.run(&["copy", "hf:alice/data", "ms:datasets/alice/data", "--json", "-q"]).ok().json();
    assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{report}");
    for (environment, generation) in [("ms", "new"), ("ms-classic", "classic")] {
        let folder = world.work().join(generation);
        python(&world, environment, "read_ms.py", &[generation, "dataset", "alice/data", folder.to_str().unwrap()]).ok();
        same(&downloaded(&folder), &want, generation);
    }
    let again = world.run(&["copy", "hf:datasets/alice/data", "ms:datasets/alice/data", "--json", "-q"]).ok().json();
    assert_eq!((&again["moved_bytes"], &again["wire"]["sent"]), (&0.into(), &0.into()), "{again}");
    world.run(&["copy", "ms:datasets/alice/data", "hf:datasets/alice/data-back", "-q"]).ok();
    let folder = world.work().join("back");
    python(&world, "hf-xet", "read_hf.py", &["dataset", "alice/data-back", folder.to_str().unwrap()]).ok();
    same(&downloaded(&folder), &want, "back");
    world.run(&["ls", "ms:models/alice/data"]).exits(6);
    drop(b);
}

#[test]
fn what_the_modelscope_client_publishes_is_read() {
    let (_a, _b, world) = two_hubs();
    let weights = bytes(3, 2_000_000);
    let folder = world.tree(
        "model",
        &[
            ("model.safetensors", &weights),
            ("README.md", b"# Model\n"),
            ("configuration.json", b"{\"framework\": \"pytorch\"}"),
            ("sub/empty.bin", b""),
        ],
    );
    let want = files_below(&folder);
    python(&world, "ms", "publish_ms.py", &["model", "alice/model", folder.to_str().unwrap()]).ok();
    world.run(&["copy", "ms:alice/model", "hf:alice/model", "-q"]).ok();
    let got = world.work().join("got");
    python(&world, "hf", "read_hf.py", &["model", "alice/model", got.to_str().unwrap()]).ok();
    same(&downloaded(&got), &want, "through both");
}
