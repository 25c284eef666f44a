//! Hosts that are reached by SSH, with a real sshd: what arrives, what travels, what is refused, and what happens when either side dies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{ALICE, Hub, Ran, Started, World, bytes, files_below};
use crate::sshd::{Manner, Sshd};

const MIB: usize = 1 << 20;

/// A model whose names a shell would stumble over.
fn model(world: &World) -> PathBuf {
    let weights = bytes(21, 12 * MIB);
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("model.safetensors", &weights),
        ("empty", b""),
        ("it's a \"name\" $(touch pwned) `id`;&.txt", b"odd"),
        ("-rf", b"a dash"),
        ("a b/ünï/*.txt", b"deep"),
    ];
    world.tree("model", &files)
}

fn sent(ran: &Ran) -> u64 {
    ran.json()["wire"]["sent"].as_u64().unwrap()
}

/// Waits until this many bytes of an unfinished file are on the host.
fn until_sent(folder: &Path, wanted: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let parts = fs::read_dir(folder.join(".hubferry")).into_iter().flatten().flatten();
        let most = parts.filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap_or_default();
        if most >= wanted {
            return most;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing arrives in {}", folder.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn d14_only_the_difference_travels_and_a_dry_run_writes_nothing() {
    let (hub, sshd) = (Hub::start(), Sshd::start(Manner::default()));
    let world = hub.world(ALICE);
    let source = model(&world);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let to = sshd.address("models/here");
    let planned = world.run(&["copy", "hf:alice/model", &to, "--dry-run", "--json", "-q"]).ok();
    assert_eq!(planned.json()["plan"]["files"], 7, "{}", planned.shown());
    assert_eq!(files_below(&sshd.folder()).len(), 0);
    assert!(!sshd.folder().join("models").exists(), "a dry run makes no folder");

    let first = world.run(&["copy", "hf:alice/model", &to, "--json", "-q"]).ok();
    assert_eq!(sent(&first), first.json()["moved_bytes"].as_u64().unwrap(), "each byte goes once");
    assert_eq!(first.json()["unverified"], serde_json::json!([]));
    assert!(first.disk < 2 * MIB as u64, "{} bytes were written to a disk here", first.disk);
    let mut there = files_below(&sshd.folder().join("models/here"));
    assert!(there.remove(".gitattributes").is_some());
    assert_eq!(there, files_below(&source));
    assert!(!sshd.folder().join("models/here/.hubferry").exists(), "nothing is left behind");

    let second = world.run(&["copy", "hf:alice/model", &to, "--json", "-q"]).ok();
    assert_eq!((sent(&second), &second.json()["commits"]), (0, &serde_json::json!([])));
    // Without what was remembered, the host hashes.
    fs::remove_dir_all(world.home().join(".cache")).unwrap();
    let third = world.run(&["copy", "hf:alice/model", &to, "--json", "-q"]).ok();
    assert_eq!(sent(&third), 0, "{}", third.shown());
    fs::write(source.join("config.json"), "{\"a\":1}").unwrap();
    let fourth = world.run(&["sync", "./model", &to, "--json", "-q", "-y"]).ok();
    assert_eq!((sent(&fourth), &fourth.json()["plan"]["files"]), (7, &serde_json::json!(1)));
}

#[test]
fn d15_odd_paths_are_safe_and_host_keys_are_checked() {
    let sshd = Sshd::start(Manner::default());
    let world = World::new();
    let source = model(&world);
    let odd = "it's `id` $(touch pwned)";
    world.run(&["copy", "./model", &sshd.pasted(&odd.replace('\'', "'\"'\"'")), "-q"]).ok();
    assert_eq!(files_below(&sshd.folder().join(odd)), files_below(&source));
    let addressed = sshd.address("a%20b%27s%20%22x%22");
    let said = world.run(&["copy", "./model", &addressed, "--json"]).ok();
    assert_eq!(files_below(&sshd.folder().join("a b's \"x\"")), files_below(&source));
    assert!(said.json()["destination"].as_str().unwrap().contains("/a%20b%27s%20%22x%22"), "{}", said.shown());
    assert!(files_below(world.home()).keys().all(|path| !path.ends_with("/pwned")));
    assert!(!std::env::home_dir().unwrap().join("pwned").exists());
    assert_eq!(fs::read_dir(sshd.folder()).unwrap().count(), 2, "no name was run");

    let known = fs::read_to_string(sshd.file("known")).unwrap();
    sshd.forget("");
    let ran = world.run(&["ls", &sshd.address("a%20b%27s%20%22x%22")]).exits(5);
    assert!(ran.stderr.contains("host key") && ran.stderr.contains("accept-new"), "{}", ran.shown());
    let other = fs::read_to_string(sshd.file("key.pub")).unwrap();
    sshd.forget(&format!("[127.0.0.1]:{} {other}", sshd.port()));
    let ran = world.run(&["copy", "./model", &sshd.address("new"), "-q"]).exits(5);
    assert!(ran.stderr.contains("another host key") && ran.stderr.contains("ssh-keygen -R"), "{}", ran.shown());
    assert!(!sshd.folder().join("new").exists());
    // A configuration that checks nothing is not obeyed in that.
    let config = fs::read_to_string(sshd.file("client")).unwrap();
    fs::write(sshd.file("client"), format!("{config}  StrictHostKeyChecking no\n")).unwrap();
    world.run(&["ls", &sshd.address("")]).exits(5);
    sshd.forget("");
    world.run(&["ls", &sshd.address("")]).exits(5);
    let trusting = format!("{}&o=StrictHostKeyChecking=accept-new", sshd.address("a%20b%27s%20%22x%22"));
    fs::write(sshd.file("client"), config).unwrap();
    world.run(&["ls", &trusting]).ok();
    let key = |known: &str| known.split_whitespace().nth(2).map(str::to_owned);
    assert_eq!(key(&fs::read_to_string(sshd.file("known")).unwrap()), key(&known));
}

#[test]
fn a_pasted_command_line_is_taken_and_what_it_has_besides_is_named() {
    let (hub, sshd) = (Hub::start(), Sshd::start(Manner::default()));
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let ran = world.run(&["copy", "hf:alice/model", &sshd.pasted("{owner}/{name}")]).ok();
    assert!(ran.stderr.contains("-L 8080:localhost:8080 is left out"), "{}", ran.shown());
    assert!(sshd.folder().join("alice/model/config.json").exists());
    let ran = world.run(&["copy", "./model", "ssh -oProxyCommand=touch$IFS/tmp/x root@h /x"]).exits(2);
    assert!(ran.stderr.contains("-o ProxyCommand is no option"), "{}", ran.shown());
    world.run(&["copy", "./model", &sshd.pasted("").replace(&format!(" '{}/'", sshd.seen()), "")]).exits(2);
}

#[test]
fn a_host_is_a_source_like_any_other() {
    let (hub, sshd) = (Hub::start(), Sshd::start(Manner::default()));
    let world = hub.world(ALICE);
    let source = model(&world);
    let at = sshd.address("m");
    world.run(&["copy", "./model", &at, "-q"]).ok();
    world.run(&["copy", &at, "./back", "-q"]).ok();
    assert_eq!(files_below(&world.work().join("back")), files_below(&source));
    world.run(&["copy", &at, "hf:alice/model", "-q"]).ok();
    world.run(&["verify", "hf:alice/model", "--against", "./model"]).ok();
    world.run(&["diff", &at, "hf:alice/model", "--exclude", ".gitattributes"]).ok();
    assert_eq!(world.run(&["cat", &sshd.address("m/config.json")]).ok().stdout, "{}");
    assert!(world.run(&["ls", "-l", &at]).ok().stdout.contains("model.safetensors"));
    // A flipped byte that keeps size and time is found by reading.
    let file = sshd.folder().join("m/model.safetensors");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let mut bad = fs::read(&file).unwrap();
    bad[7 * MIB] ^= 1;
    fs::write(&file, &bad).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    world.run(&["verify", &at, "--against", "./model", "-q"]).exits(4);
    world.run(&["verify", &at, "--against", "./model", "--repair", "-q"]).ok();
    assert_eq!(files_below(&sshd.folder().join("m")), files_below(&source));
    world.run(&["ls", &sshd.address("none")]).exits(6);
}

#[test]
fn a_renamed_file_is_renamed_there_and_a_doubled_one_is_copied_there() {
    for manner in [Manner::default(), Manner { sftp_only: true, ..Manner::default() }] {
        let sshd = Sshd::start(manner);
        let world = World::new();
        let source = model(&world);
        world.run(&["copy", "./model", &sshd.address("m"), "-q"]).ok();
        fs::create_dir(source.join("sub")).unwrap();
        fs::rename(source.join("model.safetensors"), source.join("sub/weights.safetensors")).unwrap();
        let ran = world.run(&["sync", "./model", &sshd.address("m"), "--json", "-q", "-y"]).ok();
        assert_eq!((sent(&ran), &ran.json()["reused_blobs"]), (0, &serde_json::json!(1)), "{}", ran.shown());
        fs::copy(source.join("sub/weights.safetensors"), source.join("again.safetensors")).unwrap();
        let ran = world.run(&["copy", "./model", &sshd.address("m"), "--json", "-q"]).ok();
        assert_eq!(sent(&ran), 0, "{}", ran.shown());
        assert_eq!(files_below(&sshd.folder().join("m")), files_below(&source));
    }
}

#[test]
fn with_sftp_alone_everything_arrives_and_what_nobody_could_check_is_named() {
    for chroot in [false, true] {
        let sshd = Sshd::start(Manner { sftp_only: true, chroot, disk: None });
        let world = World::new();
        let source = model(&world);
        fs::write(source.join("large.bin"), bytes(5, 65 * MIB)).unwrap();
        let ran = world.run(&["copy", "./model", &sshd.address("m"), "--json"]).ok();
        assert_eq!(ran.json()["unverified"], serde_json::json!(["large.bin"]), "{}", ran.shown());
        assert!(ran.stderr.contains("runs no commands") && ran.stderr.contains("large.bin"), "{}", ran.shown());
        assert_eq!(files_below(&sshd.folder().join("m")), files_below(&source));
        let again = world.run(&["copy", "./model", &sshd.address("m"), "--json"]).ok();
        assert_eq!((sent(&again), &again.json()["wire"]["received"]), (0, &serde_json::json!(0)), "{}", again.shown());
    }
}

/// Publishes nothing; a large file in a folder, and how it is sent slowly.
fn slow(world: &World, mebibytes: usize) -> u64 {
    world.tree("large", &[("weights.bin", &bytes(9, mebibytes * MIB)), ("config.json", b"{}")]);
    (mebibytes * MIB) as u64
}

fn start_slow(world: &World, to: &str, rate: &str) -> Started {
    world.start(&["copy", "./large", to, "--bwlimit", rate, "--json", "-q", "--stall-timeout", "3"])
}

#[test]
fn a_host_that_dies_in_the_middle_costs_little() {
    let sshd = Sshd::start(Manner::default());
    let world = World::new();
    let size = slow(&world, 64);
    let run = start_slow(&world, &sshd.address("m"), "24M");
    let folder = sshd.folder().join("m");
    for part in [1, 2] {
        until_sent(&folder, size * part / 3);
        assert!(sshd.cut() > 0, "nobody was logged in");
        // Until it is there again.
        std::thread::sleep(Duration::from_millis(700));
    }
    let ran = run.wait().ok();
    assert_eq!(files_below(&folder), files_below(&world.work().join("large")));
    let again = sent(&ran) - size;
    assert!(again <= 2 * 16 * MIB as u64, "{again} bytes were sent twice");
}

#[test]
fn a_host_that_falls_silent_is_noticed() {
    let sshd = Sshd::start(Manner::default());
    let world = World::new();
    let size = slow(&world, 40);
    let run = start_slow(&world, &sshd.address("m"), "16M");
    until_sent(&sshd.folder().join("m"), size / 3);
    sshd.hold();
    let ran = run.wait_within(Duration::from_mins(1)).ok();
    assert_eq!(files_below(&sshd.folder().join("m")), files_below(&world.work().join("large")));
    assert!(sent(&ran) - size <= 16 * MIB as u64, "{}", ran.shown());
}

#[test]
fn a_killed_run_goes_on_and_nothing_was_visible_meanwhile() {
    for manner in [Manner::default(), Manner { sftp_only: true, ..Manner::default() }] {
        let sshd = Sshd::start(manner);
        let world = World::new();
        let size = slow(&world, 64);
        let folder = sshd.folder().join("m");
        let mut run = start_slow(&world, &sshd.address("m"), "24M");
        let arrived = until_sent(&folder, size / 2);
        run.kill();
        assert_eq!(run.wait().code, -1);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "only what readers do not see");
        let ran = world.run(&["copy", "./large", &sshd.address("m"), "--json", "-q"]).ok();
        assert_eq!(files_below(&folder), files_below(&world.work().join("large")));
        assert!(sent(&ran) <= size - arrived + 16 * MIB as u64, "{} bytes were sent again\n{}", sent(&ran), ran.shown());
    }
}

#[test]
fn what_a_host_lost_meanwhile_is_not_believed() {
    let sshd = Sshd::start(Manner::default());
    let world = World::new();
    let size = slow(&world, 40);
    let folder = sshd.folder().join("m");
    let mut run = start_slow(&world, &sshd.address("m"), "16M");
    until_sent(&folder, size / 2);
    run.kill();
    run.wait();
    let part = fs::read_dir(folder.join(".hubferry")).unwrap().flatten().max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    let mut content = fs::read(part.path()).unwrap();
    content[MIB] ^= 1;
    fs::write(part.path(), content).unwrap();
    let ran = world.run(&["copy", "./large", &sshd.address("m"), "--json", "-q"]).ok();
    assert_eq!(files_below(&folder), files_below(&world.work().join("large")));
    assert!(sent(&ran) >= size, "{}", ran.shown());
}

#[test]
fn a_full_disk_is_told_before_bytes_travel_and_in_the_middle() {
    let sshd = Sshd::start(Manner { disk: Some(64 << 20), ..Manner::default() });
    let world = World::new();
    slow(&world, 80);
    let ran = world.run(&["copy", "./large", &sshd.address("m"), "--json", "-q"]).exits(1);
    assert!(ran.stderr.contains("has room for") && ran.stderr.contains("hint: free "), "{}", ran.shown());
    slow(&world, 40);
    let run = start_slow(&world, &sshd.address("m"), "16M");
    until_sent(&sshd.folder().join("m"), 8 << 20);
    let junk = sshd.folder().join("junk");
    fs::write(&junk, vec![1; 36 << 20]).unwrap();
    let ran = run.wait().exits(1);
    assert!(ran.stderr.contains("has room for") && ran.stderr.contains("hint: free "), "{}", ran.shown());
    assert!(files_below(&sshd.folder().join("m")).keys().all(|path| path.starts_with(".hubferry/")), "nothing half-written is visible");
    fs::remove_file(junk).unwrap();
    world.run(&["copy", "./large", &sshd.address("m"), "-q"]).ok();
    assert_eq!(files_below(&sshd.folder().join("m")), files_below(&world.work().join("large")));
}

#[test]
fn no_token_reaches_the_program_and_it_is_started_with_every_check() {
    let (hub, sshd) = (Hub::start(), Sshd::start(Manner::default()));
    let world = hub.world(ALICE);
    let source = model(&world);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let (bin, log) = (world.home().join("bin"), world.home().join("log"));
    fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let script =
        format!("#!/bin/sh\n{{ echo \"$@\"; cat /proc/$$/environ | tr '\\0' '\\n'; }} >> {}\nPATH={path} exec ssh \"$@\"\n", log.display());
    fs::write(bin.join("ssh"), script).unwrap();
    fs::set_permissions(bin.join("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let world = world.with("PATH", &format!("{}:{path}", bin.display()));
    world.run(&["copy", "hf:alice/model", &sshd.address("m"), "-q"]).ok();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("-s -- 127.0.0.1 sftp") && !log.contains(ALICE) && !log.contains("HF_TOKEN"), "{log}");
    for line in log.lines().filter(|line| line.contains(" -- ")) {
        assert!(line.contains("BatchMode=yes") && line.contains("ForwardAgent=no") && !line.contains("StrictHostKeyChecking=no"), "{line}");
    }
    assert_eq!(log.lines().filter(|line| line.contains("-s -- ")).count(), 1, "one connection\n{log}");
    // `ssh` itself removes its socket when it ends, and it ends a moment after the program.
    let begun = Instant::now();
    while fs::read_dir(world.tmp()).unwrap().count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "a socket stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(source);
}

#[test]
fn the_doctor_looks_at_a_host() {
    let world = World::new();
    let sshd = Sshd::start(Manner::default());
    let ran = world.run(&["doctor", &sshd.address("x")]).ok();
    assert!(
        ran.stdout.contains("runs commands") && ran.stdout.contains("is not there yet") && ran.stdout.contains(" free"),
        "{}",
        ran.shown()
    );
    let bare = Sshd::start(Manner { sftp_only: true, ..Manner::default() });
    let ran = world.run(&["doctor", &bare.address(""), "--json"]).ok();
    assert!(ran.stdout.contains("by SFTP only"), "{}", ran.shown());
    fs::write(bare.file("authorized"), "").unwrap();
    let ran = world.run(&["doctor", &bare.address("")]).exits(5);
    assert!(ran.stdout.contains("lets nobody in") && ran.stdout.contains("ssh-add"), "{}", ran.shown());
    let ran = world.run(&["doctor", "ssh://127.0.0.1:9/x"]).exits(7);
    assert!(ran.stdout.contains("refused"), "{}", ran.shown());
}

#[test]
fn a_host_pulls_by_itself_and_is_told_no_token_but_by_a_pipe() {
    let (hub, sshd) = (Hub::start(), Sshd::start(Manner::default()));
    let world = hub.world(ALICE);
    let source = model(&world);
    world.run(&["copy", "./model", "hf:alice/model", "--visibility", "private", "-q"]).ok();
    let pull = |more: &[&str]| {
        let to = sshd.address("pulled");
        world.run(&[&["copy", "hf:alice/model", &to, "--via", "host", "--exclude", ".gitattributes"], more].concat())
    };
    // The program that the tests make is large and has no other home than that of the login.
    let cache = std::env::home_dir().unwrap().join(".cache/hubferry/bin");
    let before = files_in(&cache);
    let planned = pull(&["--dry-run", "--json"]).ok();
    assert_eq!((planned.json()["dry_run"].as_bool(), sshd.folder().join("pulled").exists()), (Some(true), false));
    let ran = pull(&["--json", "--progress", "json"]).ok();
    let made: Vec<PathBuf> = files_in(&cache).into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!((ran.json()["via"].as_str(), ran.json()["moved_blobs"].as_u64()), (Some("host"), Some(6)), "{}", ran.shown());
    assert_eq!(ran.json()["destination"], sshd.address("pulled"));
    assert!(ran.stderr.contains(r#""event":"finished""#) && ran.stderr.contains("model.safetensors"), "{}", ran.shown());
    assert_eq!(files_below(&sshd.folder().join("pulled")), files_below(&source));
    assert!(pull(&[]).ok().stdout.contains("0 B moved"));
    let ran = world.run(&["copy", "hf:alice/none", &sshd.address("x"), "--via", "host"]).exits(6);
    assert!(ran.stderr.contains("on the host: "), "{}", ran.shown());
    world.run(&["copy", "./model", &sshd.address("x"), "--via", "host"]).exits(2);
    world.run(&["ls", "hf:alice/model", "--via", "host"]).exits(2);
    let bare = Sshd::start(Manner { sftp_only: true, ..Manner::default() });
    let ran = world.run(&["copy", "hf:alice/model", &bare.address("x"), "--via", "host"]).exits(1);
    assert!(ran.stderr.contains("runs no commands") && ran.stderr.contains("leave out --via host"), "{}", ran.shown());

    // While it works, nobody who looks at the processes of the host sees a token.
    let mut run = world.start(&["copy", "hf:alice/model", &sshd.address("watched"), "--via", "host", "-q"]);
    let mut seen = 0;
    while run.is_running() {
        for pid in sshd.pids() {
            let look = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            for what in [look("cmdline"), look("environ")] {
                let text = String::from_utf8_lossy(&what).into_owned();
                seen += usize::from(text.contains("--given"));
                assert!(!text.contains(ALICE), "{text}");
            }
        }
    }
    run.wait().ok();
    assert!(seen > 0, "nobody looked in time");
    for file in made {
        fs::remove_file(file).unwrap();
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
