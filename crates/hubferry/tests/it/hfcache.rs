//! The cache of `huggingface_hub`, shared with that client in two versions: what one of us brings the other takes, online and off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hubferry_server::testing::Method;
use serde_json::Value;

use crate::harness::{ALICE, Hub, World, bytes, files_below, python};

/// The clients that testify.
const CLIENTS: [&str; 2] = ["hf", "hf1"];

fn cache(world: &World) -> PathBuf {
    world.home().join(".cache/huggingface/hub")
}

/// What the Python client says.
#[track_caller]
fn ask(world: &World, client: &str, args: &[&str]) -> Value {
    python(world, client, "cache_hf.py", args).ok().json()
}

/// Files by path with their contents, as the Python client hashes them.
fn hashes(files: &[(&str, &[u8])]) -> BTreeMap<String, String> {
    let hash = |content: &[u8]| hubferry_core::digest::Oid::of(content).to_string();
    files.iter().map(|(path, content)| ((*path).to_owned(), hash(content))).collect()
}

fn found(answer: &Value) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = serde_json::from_value(answer["files"].clone()).unwrap();
    files.remove(".gitattributes");
    files
}

#[track_caller]
fn nothing_is_wrong(world: &World) {
    for client in CLIENTS {
        let scan = ask(world, client, &["scan"]);
        assert_eq!(scan["warnings"].as_array().unwrap().len(), 0, "{client}: {scan}");
        assert_eq!(scan["incomplete"], 0, "{client}: {scan}");
    }
}

struct Sample {
    large: Vec<u8>,
    deep: Vec<u8>,
}

impl Sample {
    fn new(seed: u64) -> Self {
        Self { large: bytes(seed, 3_000_000), deep: bytes(seed + 1, 200_000) }
    }

    fn files(&self) -> Vec<(&str, &[u8])> {
        vec![("config.json", b"{\"a\": 1}\n"), ("model.safetensors", &self.large), ("onnx/deep/model.bin", &self.deep), ("e m p t y", b"")]
    }
}

/// A hub with a repository; gives its commit.
fn publish(world: &World, hub: &Hub, place: &str, files: &[(&str, &[u8])]) -> String {
    let folder = world.home().join("published");
    let _ = std::fs::remove_dir_all(&folder);
    for (path, content) in files {
        let at = folder.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
    }
    let done = world.run(&["sync", folder.to_str().unwrap(), place, "--json", "-q"]).ok().json();
    hub.script.reset();
    done["destination_revision"].as_str().unwrap().to_owned()
}

fn requests(hub: &Hub) -> usize {
    hub.script.seen().len()
}

#[test]
fn what_we_bring_the_python_client_takes_for_its_own() {
    for (client, kind, place, id) in [("hf", "model", "hf:alice/m", "alice/m"), ("hf1", "dataset", "hf:datasets/alice/d", "alice/d")] {
        let hub = Hub::start();
        let world = hub.world(ALICE);
        let sample = Sample::new(1);
        let commit = publish(&world, &hub, place, &sample.files());
        let ran = world.run(&["download", place]).ok();
        let snapshot = cache(&world).join(format!("{kind}s--{}/snapshots/{commit}", id.replace('/', "--")));
        assert_eq!(ran.stdout, format!("{}\n", snapshot.display()));
        hub.script.reset();
        let answer = ask(&world, client, &["snapshot", kind, id]);
        assert_eq!((answer["path"].as_str(), found(&answer)), (snapshot.to_str(), hashes(&sample.files())), "{client}");
        let seen: Vec<String> = hub.script.seen().iter().map(hubferry_server::testing::Seen::target).collect();
        if client == "hf" {
            assert_eq!(seen.len(), 1, "its listing is there, and it asks for the branch alone: {seen:?}");
        }
        assert!(!seen.iter().any(|path| path.contains("/resolve/") && path.contains("model.safetensors")), "{seen:?}");
        let verified = ask(&world, client, &["verify", kind, id]);
        assert_eq!((&verified["bad"], verified["missing"].as_array().unwrap().len()), (&Value::from(0), 0), "{verified}");
        assert!(verified["checked"].as_u64().unwrap() >= 4);
        nothing_is_wrong(&world);
        drop(hub);
        let offline = world.with("HF_HUB_OFFLINE", "1");
        assert_eq!(found(&ask(&offline, client, &["snapshot", kind, id])), hashes(&sample.files()), "{client}");
        assert_eq!(found(&ask(&offline, client, &["snapshot", kind, id, &commit])), hashes(&sample.files()), "{client}");
    }
}

#[test]
fn what_the_python_client_brings_we_take_for_ours() {
    for client in CLIENTS {
        let hub = Hub::start();
        let world = hub.world(ALICE);
        let sample = Sample::new(3);
        let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
        let theirs = ask(&world, client, &["snapshot", "model", "alice/m"]);
        hub.script.reset();
        let ours = world.run(&["download", "alice/m", "--json"]).ok().json();
        assert_eq!((&ours["path"], &ours["moved_bytes"]), (&theirs["path"], &Value::from(0)), "{client}");
        assert_eq!(hub.script.count(&Method::GET, "/resolve/"), 0, "{client}");
        if client == "hf" {
            assert_eq!(requests(&hub), 1, "its listing serves us as well");
        }
        let listed = world.run(&["ls", "hfcache:alice/m", "--json"]).ok().json();
        assert_eq!(listed["revision"], commit.as_str());
        world.run(&["verify", "hfcache:alice/m"]).ok();
        world.run(&["diff", "hf:alice/m", "hfcache:alice/m"]).ok();
        world.run(&["copy", "hfcache:alice/m", "./out", "-q"]).ok();
        let mut out = files_below(&world.work().join("out"));
        out.remove(".gitattributes");
        let expected: BTreeMap<String, Vec<u8>> = sample.files().into_iter().map(|(path, c)| (path.to_owned(), c.to_vec())).collect();
        assert_eq!(out, expected, "{client}");
        world.run(&["copy", "hfcache:alice/m", "hf:alice/back", "-q"]).ok();
        world.run(&["diff", "hf:alice/m", "hf:alice/back"]).ok();
    }
}

#[test]
fn revisions_share_blobs_and_removing_one_leaves_the_other() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let (one, mut two) = (Sample::new(5), Sample::new(5));
    let first = publish(&world, &hub, "hf:alice/m", &one.files());
    world.run(&["download", "alice/m", "-q"]).ok();
    two.deep = bytes(99, 100_000);
    let second = publish(&world, &hub, "hf:alice/m", &two.files());
    let moved = world.run(&["download", "alice/m", "--json"]).ok().json();
    assert_eq!(moved["moved_bytes"], 100_000, "only what is new travels: {moved}");
    world.run(&["download", "alice/m", "--revision", &first, "-q"]).ok();
    let scan = ask(&world, "hf", &["scan"]);
    let repo = &scan["repos"]["model/alice/m"];
    assert_eq!(repo[&second]["refs"], serde_json::json!(["main"]));
    assert_eq!(repo[&first]["refs"], serde_json::json!([]));
    nothing_is_wrong(&world);
    ask(&world, "hf", &["remove", &second]);
    hub.script.reset();
    world.run(&["download", "alice/m", "--revision", &first, "-q"]).ok();
    assert_eq!(requests(&hub), 0, "a commit that is there needs nobody");
    assert_eq!(found(&ask(&world, "hf", &["snapshot", "model", "alice/m", &first])), hashes(&one.files()));
    nothing_is_wrong(&world);
}

#[test]
fn a_branch_that_has_not_moved_costs_one_request_and_none_without_a_network() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(7);
    let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
    let path = world.run(&["download", "alice/m"]).ok().stdout;
    hub.script.reset();
    assert_eq!(world.run(&["download", "alice/m"]).ok().stdout, path);
    assert_eq!(requests(&hub), 1);
    let file = world.run(&["download", "alice/m", "onnx/deep/model.bin"]).ok().stdout;
    assert_eq!(std::fs::read(file.trim_end()).unwrap(), sample.deep);
    assert_eq!(requests(&hub), 2);
    drop(hub);
    // The hub is gone: the cache answers, and says why.
    let ran = world.run(&["download", "alice/m"]).ok();
    assert!(ran.stdout == path && ran.stderr.contains("the cache answers"), "{}", ran.shown());
    let offline = world.with("HF_HUB_OFFLINE", "1");
    assert_eq!(offline.run(&["download", "alice/m", "--revision", &commit]).ok().stdout, path);
    assert_eq!(offline.run(&["download", "alice/m"]).ok().stdout, path);
    offline.run(&["download", "alice/other"]).exits(6);
    offline.run(&["download", "alice/m", "nothing.txt"]).exits(6);
    std::fs::remove_file(Path::new(path.trim_end()).join("config.json")).unwrap();
    let ran = offline.run(&["download", "alice/m"]).exits(4);
    assert!(ran.stderr.contains("lacks config.json"), "{}", ran.shown());
    offline.run(&["download", "alice/m", "model.safetensors"]).ok();
    offline.run(&["copy", "hfcache:alice/m", "./out"]).exits(4);
    offline.run(&["copy", "hfcache:alice/m/onnx", "./out"]).ok();
    assert!(offline.run(&["ls", "hfcache:alice/m"]).ok().stderr.contains("incomplete"));
    let ran = offline.run(&["verify", "hfcache:alice/m", "--json"]).exits(4).json();
    assert_eq!(ran["summary"]["missing"], 1);
}

#[test]
fn a_file_that_does_not_exist_is_remembered() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, &hub, "hf:alice/m", &Sample::new(9).files());
    world.run(&["download", "alice/m", "-q"]).ok();
    let ran = world.run(&["download", "alice/m", "adapter_config.json"]).exits(6);
    assert!(ran.stderr.contains("has no file \"adapter_config.json\""), "{}", ran.shown());
    for client in CLIENTS {
        assert_eq!(ask(&world, client, &["known", "model", "alice/m", "adapter_config.json"]), "absent", "{client}");
        assert_eq!(ask(&world, client, &["known", "model", "alice/m", "other.json"]), Value::Null, "{client}");
    }
    nothing_is_wrong(&world);
}

#[test]
fn some_files_come_by_name_and_the_rest_later() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(11);
    let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
    let file = world.run(&["download", "alice/m", "config.json"]).ok().stdout;
    assert_eq!(std::fs::read(file.trim_end()).unwrap(), b"{\"a\": 1}\n");
    let trees = cache(&world).join(format!("models--alice--m/trees/{commit}.json"));
    assert!(!trees.exists(), "a listing says that all of it is there");
    let more = world.run(&["download", "alice/m", "onnx", "--include", "*.safetensors", "--json"]).ok().json();
    assert_eq!(more["moved_bytes"], 3_200_000);
    assert_eq!(found(&ask(&world, "hf", &["snapshot", "model", "alice/m"])), hashes(&sample.files()));
    nothing_is_wrong(&world);
    let planned = hub.world(ALICE);
    let ran = planned.run(&["download", "alice/m", "--dry-run"]).ok();
    assert!(ran.stdout.contains("model.safetensors") && !cache(&planned).exists(), "{}", ran.shown());
}

#[test]
fn a_directory_becomes_a_repository_of_one_name_that_python_reads_offline() {
    let world = World::new().with("HF_HUB_OFFLINE", "1");
    let sample = Sample::new(13);
    world.tree("m", &sample.files());
    let (hidden, shown) = (world.home().join("elsewhere"), cache(&world));
    world.run(&["copy", "./m", "hfcache:gpt2", "-q"]).ok();
    for client in CLIENTS {
        assert_eq!(found(&ask(&world, client, &["snapshot", "model", "gpt2"])), hashes(&sample.files()), "{client}");
    }
    nothing_is_wrong(&world);
    assert!(shown.join("models--gpt2/refs/main").is_file() && shown.join("CACHEDIR.TAG").is_file());
    let twice = world.run(&["copy", "./m", "hfcache:gpt2", "--json"]).ok().json();
    assert_eq!(twice["moved_bytes"], 0);
    let config = format!("[remotes.team]\nprotocol = \"hfcache\"\npath = \"{}\"\n", hidden.display());
    std::fs::write(world.work().join("hubferry.toml"), config).unwrap();
    world.run(&["copy", "hfcache:gpt2", "team:datasets/o/d", "--as", "dataset", "-q"]).ok();
    assert!(hidden.join("datasets--o--d/refs/main").is_file());
    world.run(&["diff", "hfcache:gpt2", "team:datasets/o/d"]).ok();
    world.run(&["ls", "team:datasets/o/"]).exits(2);
}

#[test]
fn damage_is_found_and_mended() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(15);
    publish(&world, &hub, "hf:alice/m", &sample.files());
    let path = PathBuf::from(world.run(&["download", "alice/m"]).ok().stdout.trim_end());
    let blob = path.join("model.safetensors").canonicalize().unwrap();
    let mut wrong = sample.large.clone();
    wrong[1_000_000] ^= 1;
    std::fs::write(&blob, &wrong).unwrap();
    world.run(&["verify", "hfcache:alice/m"]).exits(4);
    world.run(&["verify", "hfcache:alice/m", "--against", "hf:alice/m", "--repair"]).ok();
    assert!(std::fs::read(&blob).unwrap() == sample.large);
    std::fs::write(&blob, &wrong).unwrap();
    let ran = world.run(&["download", "alice/m", "--force"]).ok();
    assert!(ran.stderr.contains("1 file damaged, brought again"), "{}", ran.shown());
    assert!(std::fs::read(&blob).unwrap() == sample.large);
    std::fs::remove_file(&blob).unwrap();
    world.run(&["download", "alice/m"]).ok();
    assert!(std::fs::read(&blob).unwrap() == sample.large);
    nothing_is_wrong(&world);
}

/// Bytes on the disk below a folder.
fn stored(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let inside = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    inside.map(|at| if at.is_dir() { stored(&at) } else { at.metadata().map_or(0, |data| data.blocks() * 512) }).sum()
}

#[test]
fn a_killed_download_goes_on_and_nobody_sees_half_of_it() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let large = bytes(17, 24_000_000);
    let files: Vec<(&str, &[u8])> = vec![("model.safetensors", &large), ("config.json", b"{}")];
    publish(&world, &hub, "hf:alice/m", &files);
    let mut run = world.start(&["download", "alice/m", "-q", "--bwlimit", "4M"]);
    let begun = Instant::now();
    while stored(&cache(&world).join("models--alice--m/.hubferry")) < 6_000_000 {
        assert!(run.is_running() && begun.elapsed() < Duration::from_mins(1), "it stores what comes");
        std::thread::sleep(Duration::from_millis(20));
    }
    run.kill();
    run.wait();
    for client in CLIENTS {
        let scan = python(&world, client, "cache_hf.py", &["scan"]);
        assert!(scan.code != 0 || scan.json()["repos"].as_object().unwrap().values().all(|repo| repo.as_object().unwrap().is_empty()));
    }
    hub.script.reset();
    world.run(&["download", "alice/m", "-q"]).ok();
    let sent: u64 = hub.script.seen().iter().map(hubferry_server::testing::Seen::sent).sum();
    assert!(sent < 21_000_000, "what was there is not sent again: {sent}");
    assert_eq!(found(&ask(&world, "hf", &["snapshot", "model", "alice/m"])), hashes(&files));
    assert!(!cache(&world).join("models--alice--m/.hubferry").exists());
    nothing_is_wrong(&world);
}

#[test]
fn programs_of_both_kinds_at_once_end_right() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(19);
    publish(&world, &hub, "hf:alice/m", &sample.files());
    for _ in 0..3 {
        let _ = std::fs::remove_dir_all(cache(&world));
        let runs: Vec<_> = (0..3).map(|_| world.start(&["download", "alice/m"])).collect();
        let paths: Vec<Value> = std::thread::scope(|scope| {
            let asked = CLIENTS.map(|client| scope.spawn(|| ask(&world, client, &["snapshot", "model", "alice/m"])));
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for run in runs {
            assert_eq!(run.wait().ok().stdout.trim_end(), paths[0]["path"].as_str().unwrap());
        }
        for answer in &paths {
            assert_eq!(found(answer), hashes(&sample.files()));
        }
        world.run(&["verify", "hfcache:alice/m"]).ok();
        nothing_is_wrong(&world);
    }
}

#[test]
fn without_symbolic_links_the_files_are_there_all_the_same() {
    let hub = Hub::start();
    let world = hub.world(ALICE).with("HF_HUB_DISABLE_SYMLINKS", "1");
    let sample = Sample::new(21);
    publish(&world, &hub, "hf:alice/m", &sample.files());
    let path = PathBuf::from(world.run(&["download", "alice/m"]).ok().stdout.trim_end());
    assert!(path.join("model.safetensors").symlink_metadata().unwrap().is_file());
    for client in CLIENTS {
        assert_eq!(found(&ask(&world, client, &["snapshot", "model", "alice/m"])), hashes(&sample.files()), "{client}");
    }
    nothing_is_wrong(&world);
    world.run(&["diff", "hf:alice/m", "hfcache:alice/m"]).ok();
}

#[test]
fn a_hostile_cache_is_neither_read_nor_written_through() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(23);
    let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
    world.run(&["download", "alice/m", "-q"]).ok();
    let secret = world.home().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    let file = cache(&world).join(format!("models--alice--m/snapshots/{commit}/config.json"));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    let ran = world.run(&["cat", "hfcache:alice/m/config.json"]).exits(5);
    assert!(!ran.stdout.contains("secret"), "{}", ran.shown());
    world.run(&["download", "alice/m", "-q"]).ok();
    assert_eq!((std::fs::read(&secret).unwrap(), std::fs::read(&file).unwrap()), (b"secret".to_vec(), b"{\"a\": 1}\n".to_vec()));
}

#[test]
fn both_tools_agree_on_what_is_up_to_date_in_a_directory() {
    for client in CLIENTS {
        let hub = Hub::start();
        let world = hub.world(ALICE);
        let sample = Sample::new(25);
        publish(&world, &hub, "hf:alice/m", &sample.files());
        let (ours, theirs) = (world.work().join("ours"), world.work().join("theirs"));
        let ran = world.run(&["download", "alice/m", "--local-dir", "ours"]).ok();
        assert_eq!(ran.stdout, format!("{}\n", ours.canonicalize().unwrap().display()));
        hub.script.reset();
        let answer = ask(&world, client, &["local", "model", "alice/m", ours.to_str().unwrap()]);
        assert_eq!(found(&answer), hashes(&sample.files()), "{client}");
        assert_eq!(hub.script.count(&Method::GET, "/resolve/"), 0, "{client} fetches nothing");
        ask(&world, client, &["local", "model", "alice/m", theirs.to_str().unwrap()]);
        hub.script.reset();
        let again = world.run(&["download", "alice/m", "--local-dir", "theirs", "--json"]).ok().json();
        assert_eq!(again["moved_bytes"], 0, "{client}");
        assert_eq!(hub.script.count(&Method::GET, "/resolve/"), 0, "we fetch nothing after {client}");
        hub.script.reset();
        world.run(&["download", "alice/m", "--local-dir", "ours"]).ok();
        assert_eq!(requests(&hub), 1);
    }
}

#[test]
fn a_file_that_was_edited_in_a_directory_is_replaced_and_that_is_said() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(27);
    let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
    world.run(&["download", "alice/m", "--local-dir", "out"]).ok();
    let file = world.work().join("out/config.json");
    std::fs::write(&file, b"mine").unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    std::fs::write(world.work().join("out/notes.txt"), b"mine").unwrap();
    let ran = world.run(&["download", "alice/m", "--local-dir", "out"]).ok();
    assert!(ran.stderr.contains("config.json had been changed here"), "{}", ran.shown());
    assert_eq!(std::fs::read(&file).unwrap(), b"{\"a\": 1}\n");
    assert_eq!(std::fs::read(world.work().join("out/notes.txt")).unwrap(), b"mine", "what is not the repository's stays");
    let offline = world.with("HF_HUB_OFFLINE", "1");
    offline.run(&["download", "alice/m", "--local-dir", "out", "--revision", &commit]).ok();
    offline.run(&["download", "alice/m", "--local-dir", "other"]).exits(6);
}

#[test]
fn a_mirror_and_the_other_hub_fill_the_cache_as_well() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(29);
    publish(&world, &hub, "hf:alice/m", &sample.files());
    world.run(&["copy", "hf:alice/m", "ms:alice/m", "-q"]).ok();
    let path = world.run(&["download", "ms:alice/m"]).ok().stdout;
    assert_eq!(std::fs::read(Path::new(path.trim_end()).join("model.safetensors")).unwrap(), sample.large);
    nothing_is_wrong(&world);
    let other = hub.world(ALICE);
    other.run(&["download", "hf:alice/m", "--also", "ms:alice/m", "-q"]).ok();
    world.run(&["download", "hf:alice/m@main", "--revision", "main"]).exits(2);
    world.run(&["download", "./somewhere"]).exits(2);
}

#[test]
fn blobs_in_the_shared_store_are_used_and_left_as_they_are() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let mut sample = Sample::new(31);
    let first = publish(&world, &hub, "hf:alice/m", &sample.files());
    let path = PathBuf::from(world.run(&["download", "alice/m"]).ok().stdout.trim_end());
    let file = path.join("model.safetensors");
    let blob = path.join(std::fs::read_link(&file).unwrap());
    assert_eq!(ask(&world, "hf", &["share", file.to_str().unwrap(), &"ab".repeat(32)]), true);
    let link = std::fs::read_link(&blob).unwrap();
    world.run(&["verify", "hfcache:alice/m"]).ok();
    sample.deep = bytes(32, 1000);
    publish(&world, &hub, "hf:alice/m", &sample.files());
    let next = world.run(&["download", "alice/m", "--json"]).ok().json();
    assert_eq!(next["moved_bytes"], 1000);
    assert_eq!(std::fs::read_link(&blob).unwrap(), link, "still a link into the store");
    assert_eq!(found(&ask(&world, "hf", &["snapshot", "model", "alice/m"])), hashes(&sample.files()));
    world.run(&["copy", "hfcache:alice/m", "./out", "-q"]).ok();
    nothing_is_wrong(&world);
    ask(&world, "hf", &["remove", &first]);
    world.run(&["verify", "hfcache:alice/m"]).ok();
}

#[test]
fn a_folder_of_a_repository_is_a_part_of_its_snapshot() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let sample = Sample::new(33);
    let commit = publish(&world, &hub, "hf:alice/m", &sample.files());
    world.run(&["copy", "hf:alice/m/onnx", "hfcache:alice/m/onnx", "-q"]).ok();
    let snapshot = cache(&world).join("models--alice--m/snapshots").join(&commit);
    assert_eq!(std::fs::read(snapshot.join("onnx/deep/model.bin")).unwrap(), sample.deep);
    world.run(&["download", "alice/m", "-q"]).ok();
    assert_eq!(found(&ask(&world, "hf1", &["snapshot", "model", "alice/m"])), hashes(&sample.files()));
    let planned = world.run(&["copy", "hf:alice/m", "hfcache:alice/m", "--json"]).ok().json();
    assert_eq!((&planned["plan"]["files"], &planned["destination_revision"]), (&Value::from(0), &Value::from(commit.as_str())));
    world.run(&["copy", "hf:alice/m", &format!("hfcache:alice/m@{}", "0".repeat(40))]).exits(1);
    nothing_is_wrong(&world);
}

#[test]
fn the_doctor_looks_at_the_cache() {
    let world = World::new().with("HF_HUB_CACHE", "~/my-cache");
    let ran = world.run(&["doctor", "hfcache", "--json"]);
    let findings = ran.json()["findings"].clone();
    let about = |finding: &&Value| finding["about"] == "hfcache";
    let texts: Vec<&str> = findings.as_array().unwrap().iter().filter(about).filter_map(|finding| finding["text"].as_str()).collect();
    assert!(texts[0].contains("my-cache (from HF_HUB_CACHE), made by the first download"), "{texts:?}");
    assert!(texts[1].contains("can be written") && texts[1].contains("symbolic links work"), "{texts:?}");
    assert!(!world.home().join("my-cache").exists(), "looking makes nothing");
}
