//! What reading by Git must never do: show the token to anybody, run what somebody else configured, hang, or leave something behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hubferry_server::testing::{Fault, Method, Rule};

use crate::git_way::{left_in, publish, same, tidy};
use crate::harness::{ALICE, Hub, Started, World};

/// The forms in which the token travels: as it is, and as Git would send it with either user name.
const FORMS: [&str; 3] = [ALICE, "dXNlcjpoZl9BbGljZU1heVdyaXRlMDEyMzQ1Njc4OQ==", "b2F1dGgyOmhmX0FsaWNlTWF5V3JpdGUwMTIzNDU2Nzg5"];

fn cache(world: &World) -> PathBuf {
    world.home().join(".cache/hubferry/git")
}

/// Waits until the hub has been asked for refs.
fn until_asked(hub: &Hub) {
    let begun = Instant::now();
    while hub.script.count(&Method::GET, "/info/refs") == 0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "git was not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Arguments and environment of every process that works in a repository below `folder`.
fn processes(folder: &str) -> BTreeMap<String, String> {
    let read = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = read(entry.path().join("environ"));
        if environment.contains(&format!("GIT_DIR={folder}")) {
            let id = entry.file_name().into_string().unwrap();
            found.insert(id, format!("{}\n{environment}", read(entry.path().join("cmdline"))));
        }
    }
    found
}

#[test]
fn h18_no_token_in_arguments_urls_or_config() {
    for place in ["hf:models/alice/m", "ms:models/alice/m"] {
        let hub = Hub::start();
        let world = hub.world(ALICE).with("RUST_LOG", "trace").with("GIT_TRACE_CURL", "1").with("GIT_CURL_VERBOSE", "1");
        publish(&world, "hf:alice/m", &["--visibility", "private"]);
        hub.script.reset();
        let go = world.home().join("go");
        hub.script.add(Rule::once(Method::GET, "/info/refs", Fault::Until(go.clone())));
        let copy = world.start(&["copy", place, "./out", "--via", "git", "-vv", "--json"]);
        until_asked(&hub);
        let folder = cache(&world);
        let running = processes(folder.to_str().unwrap());
        assert!(running.len() >= 2, "git and its helper for HTTP: {running:?}");
        let files: Vec<PathBuf> = left_in(&folder).iter().flat_map(|run| files(&folder.join(run))).collect();
        assert!(files.iter().any(|file| file.ends_with("config")), "{files:?}");
        for form in FORMS {
            for (id, text) in &running {
                assert!(!text.contains(form), "process {id} knows the token: {text:?}");
            }
            for file in &files {
                let content = std::fs::read(file).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&content).contains(form), "{} has the token", file.display());
            }
        }
        std::fs::write(&go, "").unwrap();
        let ran = copy.wait().ok();
        same(&world, "out");
        for form in FORMS {
            assert!(!ran.stdout.contains(form) && !ran.stderr.contains(form), "the token was printed\n{}", ran.shown());
        }
        assert!(hub.script.seen().iter().all(|seen| FORMS.iter().all(|form| !seen.target().contains(form))));
        assert!(hub.script.seen().iter().filter(|seen| seen.path.contains("/info/refs")).all(|seen| seen.authorization));
        tidy(&world);
    }
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
fn h18_the_token_does_not_follow_a_redirect() {
    let (hub, other) = (Hub::start(), Hub::start());
    let (world, there) = (hub.world(ALICE), other.world(ALICE));
    publish(&world, "hf:alice/m", &[]);
    publish(&there, "hf:alice/moved", &["--visibility", "public"]);
    // Renamed at the same hub: followed, with the token.
    let to = vec![("location", "/alice/m.git/info/refs?service=git-upload-pack".to_owned())];
    hub.script.add(Rule::once(Method::GET, "/alice/old.git/info/refs", Fault::Answer(301, to, String::new())).always());
    world.run(&["copy", "hf:models/alice/old", "./renamed", "--via", "git", "-q"]).ok();
    same(&world, "renamed");
    // Gone elsewhere: followed without it.
    other.script.reset();
    let to = vec![("location", format!("{}/alice/moved.git/info/refs?service=git-upload-pack", other.hf))];
    hub.script.add(Rule::once(Method::GET, "/alice/away.git/info/refs", Fault::Answer(302, to, String::new())).always());
    world.run(&["ls", "hf:models/alice/away", "--via", "git", "-q"]);
    let seen = other.script.seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| !seen.authorization && !seen.cookie), "{seen:?}");
    tidy(&world);
}

#[test]
fn what_others_configured_is_not_used() {
    let hub = Hub::start();
    let trap = |name: &str| format!("!touch {name}");
    let world = hub.world(ALICE).with("GIT_CONFIG_PARAMETERS", "'http.proxy=http://127.0.0.1:9'").with("GIT_SSL_NO_VERIFY", "1");
    let sprung = world.home().join("sprung");
    let config = format!(
        "[url \"http://127.0.0.1:9/\"]\n insteadOf = http://127.0.0.1\n[http]\n proxy = http://127.0.0.1:9\n\
         [credential]\n helper = \"{helper}\"\n[core]\n askPass = {sprung}\n fsmonitor = {sprung}\n pager = {sprung}\n",
        helper = trap(sprung.to_str().unwrap()),
        sprung = sprung.display(),
    );
    std::fs::write(world.home().join(".gitconfig"), &config).unwrap();
    publish(&world, "hf:alice/m", &[]);
    // A refusal is where helpers would be asked.
    hub.world("hf_Wrong0123456789").run(&["ls", "hf:models/alice/m", "--via", "git"]).exits(5);
    world.run(&["copy", "hf:alice/m", "./out", "--via", "git", "-q"]).ok();
    same(&world, "out");
    assert!(!sprung.exists());
    tidy(&world);
}

#[test]
fn the_relay_answers_nobody_without_its_pass() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &["--visibility", "private"]);
    let go = world.home().join("go");
    hub.script.reset();
    hub.script.add(Rule::once(Method::GET, "/info/refs", Fault::Until(go.clone())));
    let list = world.start(&["ls", "hf:models/alice/m", "--via", "git", "-q"]);
    until_asked(&hub);
    let run = left_in(&cache(&world)).pop().unwrap();
    let config = std::fs::read_to_string(cache(&world).join(run).join("config")).unwrap();
    let url = config.lines().find_map(|line| line.trim().strip_prefix("url = ")).unwrap().to_owned();
    let (status, _) = crate::harness::get(&format!("{url}/info/refs?service=git-upload-pack"), ALICE);
    assert_eq!(status, 403);
    std::fs::write(&go, "").unwrap();
    list.wait().ok();
}

#[test]
fn a_hub_that_falls_silent_is_asked_again() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    hub.script.reset();
    // The second pack request is the pack itself: it stops in the middle.
    let silent = Fault::Stall(20_000, Duration::from_mins(5));
    hub.script.add(Rule { nth: 2..=2, ..Rule::once(Method::POST, "/git-upload-pack", silent) });
    let ran = world.run(&["copy", "hf:models/alice/m", "./out", "--via", "git", "--stall-timeout", "2"]).ok();
    assert!(ran.took < Duration::from_mins(1), "{:?}", ran.took);
    same(&world, "out");
    // Broken and garbled ones as well.
    for (folder, fault) in
        [("./cut", Fault::Cut(30_000)), ("./flipped", Fault::Flip(30_000)), ("./busy", Fault::Answer(503, vec![], String::new()))]
    {
        hub.script.reset();
        hub.script.add(Rule { nth: 2..=2, ..Rule::once(Method::POST, "/git-upload-pack", fault) });
        world.run(&["copy", "hf:models/alice/m", folder, "--via", "git", "-q"]).ok();
        assert_eq!(hub.script.played(), 1);
        same(&world, folder);
    }
    tidy(&world);
}

#[test]
fn links_that_end_are_asked_for_again() {
    let hub = Hub::with_cdn();
    let world = hub.world(ALICE);
    publish(&world, "hf:alice/m", &[]);
    hub.script.reset();
    hub.script.add(Rule::once(Method::GET, "/objects/", Fault::ExpireLink));
    world.run(&["copy", "hf:models/alice/m", "./out", "--via", "git", "-q"]).ok();
    assert_eq!(hub.script.played(), 1);
    same(&world, "out");
}

/// A copy whose pack is on its way, slowly.
fn begun(hub: &Hub, world: &World) -> Started {
    publish(world, "hf:alice/m", &[]);
    hub.script.reset();
    hub.script.add(Rule { nth: 2..=2, ..Rule::once(Method::POST, "/git-upload-pack", Fault::Slow(20_000)) });
    let copy = world.start(&["copy", "hf:models/alice/m", "./out", "--via", "git", "-q"]);
    let begun = Instant::now();
    while hub.script.count(&Method::POST, "/git-upload-pack") < 2 {
        assert!(begun.elapsed() < Duration::from_mins(1), "no pack was asked for");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    copy
}

#[test]
fn a_kill_in_the_middle_shows_nothing_and_the_next_run_tidies_up() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let mut copy = begun(&hub, &world);
    copy.kill();
    copy.wait();
    assert!(!world.work().join("out/config.json").exists());
    assert_eq!(left_in(&cache(&world)).len(), 1, "a killed process cannot tidy up");
    world.run(&["copy", "hf:models/alice/m", "./out", "--via", "git", "-q"]).ok();
    same(&world, "out");
    tidy(&world);
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let copy = begun(&hub, &world);
    assert!(std::process::Command::new("kill").args(["-INT", &copy.id().to_string()]).status().unwrap().success());
    copy.wait().exits(130);
    assert!(!world.work().join("out/config.json").exists());
    tidy(&world);
}
