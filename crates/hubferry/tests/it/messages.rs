//! What people and scripts are told when something is wrong: exit code, output and hint of whole commands.

use hubferry_server::testing::{Fault, Method, Rule};

use crate::harness::{ALICE, Hub, RITA, Started, World, bytes, snapshot};

const SMALL: &[(&str, &[u8])] = &[("README.md", b"---\nlicense: mit\n---\n# Small\n"), ("config.json", b"{\"hidden_size\": 8}\n")];

/// A hub that holds `alice/small` (public, main only), and a world of alice's.
fn small_hub() -> (Hub, World) {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("small", SMALL);
    world.run(&["copy", "./small", "hf:alice/small", "--visibility", "public", "-q"]).ok();
    (hub, world)
}

#[test]
fn what_is_not_there() {
    let (_hub, world) = small_hub();
    let unknown = ["hf:alice/none", "ms:alice/none", "hf:datasets/alice/small", "ms:datasets/alice/small", "./none"];
    let mut runs: Vec<_> = unknown.iter().map(|place| world.run(&["ls", place])).collect();
    runs.push(world.run(&["copy", "hf:alice/none", "ms:alice/copy"]));
    snapshot("unknown_repository", &world, &runs);

    let unknown = ["hf:alice/small@v9", "ms:alice/small@v9", "hf:alice/small/none.txt", "ms:alice/small/none.txt"];
    let mut runs: Vec<_> = unknown.iter().map(|place| world.run(&["ls", place])).collect();
    runs.push(world.run(&["cat", "hf:alice/small/none.txt"]));
    runs.push(world.run(&["cat", "./small/none.txt"]));
    runs.push(world.run(&["ls", &format!("hf:alice/small@{}", "0".repeat(40))]));
    snapshot("unknown_revision_or_file", &world, &runs);

    let runs = [
        world.run(&["copy", "--kind", "gadget", "hf:alice/small", "ms:alice/copy"]),
        world.run(&["ls", "hf:gadgets/alice/small"]),
        world.run(&["copy", "hf:alice/small", "ms:spaces/alice/copy"]),
    ];
    snapshot("unknown_kind", &world, &runs);
}

#[test]
fn who_may_not() {
    let (hub, alice) = small_hub();
    alice.run(&["copy", "./small", "hf:alice/closed", "--visibility", "private", "-q"]).ok();
    let nobody = hub.world("");
    nobody.tree("small", SMALL);
    let runs = [
        nobody.run(&["copy", "./small", "hf:alice/new"]),
        nobody.run(&["copy", "./small", "ms:alice/new"]),
        nobody.run(&["copy", "./small", "hf:alice/small"]),
    ];
    snapshot("missing_token", &nobody, &runs);

    let rita = hub.world(RITA);
    rita.tree("small", &[("README.md", b"changed\n")]);
    let runs: Vec<_> = ["hf:alice/new", "ms:alice/new", "hf:alice/small", "ms:alice/small"]
        .iter()
        .map(|place| rita.run(&["copy", "./small", place]))
        .collect();
    snapshot("read_only_token", &rita, &runs);

    let wrong = hub.world("hf_NobodyKnowsThisOne");
    wrong.tree("small", SMALL);
    let runs = [
        wrong.run(&["ls", "hf:alice/closed"]),
        wrong.run(&["ls", "ms:alice/closed"]),
        wrong.run(&["copy", "./small", "hf:alice/new"]),
        wrong.run(&["copy", "./small", "ms:alice/new"]),
    ];
    snapshot("wrong_token", &wrong, &runs);

    let runs: Vec<_> =
        [&nobody, &rita].iter().flat_map(|world| ["hf:alice/closed", "ms:alice/closed"].map(|place| world.run(&["ls", place]))).collect();
    snapshot("private_repository", &nobody, &runs);
}

#[test]
fn gated_and_closed_sources() {
    let (hub, alice) = small_hub();
    for (id, body) in [("gated", r#"{"gated": "manual"}"#), ("closed", r#"{"visibility": "private"}"#)] {
        alice.run(&["copy", "./small", &format!("hf:alice/{id}"), "--visibility", "public", "-q"]).ok();
        let (status, answer) = crate::harness::send("PUT", &format!("{}/api/models/alice/{id}/settings", hub.hf), ALICE, Some(body));
        assert_eq!(status, 200, "{answer}");
    }
    let (nobody, rita) = (hub.world(""), hub.world(RITA));
    let runs = [
        nobody.run(&["copy", "hf:alice/gated", "./copy", "--include", "config.json"]),
        rita.run(&["copy", "hf:alice/gated", "./copy", "--include", "config.json"]),
        nobody.run(&["cat", "hf:alice/gated/config.json"]),
    ];
    snapshot("gated_repository", &nobody, &runs);
    // What is closed is not opened by accident.
    let runs = [
        alice.run(&["copy", "hf:alice/gated", "ms:alice/open", "--visibility", "public"]),
        alice.run(&["copy", "hf:alice/closed", "ms:alice/open", "--visibility", "public"]),
    ];
    snapshot("closed_source_to_public_copy", &alice, &runs);
    for (source, copy) in [("gated", "copy-1"), ("closed", "copy-2")] {
        let report = alice.run(&["copy", &format!("hf:alice/{source}"), &format!("ms:alice/{copy}"), "--json", "-q"]).ok().json();
        assert_eq!(report["created"], "private", "{report}");
        nobody.run(&["ls", &format!("ms:alice/{copy}")]).exits(6);
    }
    let open = ["copy", "hf:alice/gated", "ms:alice/open", "--visibility", "public", "--allow-public", "-q"];
    alice.run(&open).ok();
    nobody.run(&["ls", "ms:alice/open"]).ok();
}

#[test]
fn addresses_and_arguments() {
    let world = World::new();
    world.tree("small", SMALL);
    let bad = [
        "nowhere:alice/small",
        "hf:",
        "hf:a/b/../c",
        "hf:alice/../etc",
        "hf:al ice/small",
        "hf:alice/small@",
        "ms:small",
        "hf:alice/",
        "https://example.org/alice/small",
        "hf:alice/small@a..b/c d\u{7}",
        "",
    ];
    let runs: Vec<_> = bad.iter().map(|place| world.run(&["ls", place])).collect();
    snapshot("bad_addresses", &world, &runs);

    let wrong: &[&[&str]] = &[
        &[],
        &["launch"],
        &["copy", "./small"],
        &["ls", "./small", "--depth", "3"],
        &["copy", "./small", "./copy", "--transfers", "0"],
        &["copy", "./small", "./copy", "--bwlimit", "fast"],
        &["copy", "./small", "./copy", "--bwlimit", "08:00,20M 25:00,off"],
        &["copy", "./small", "./copy", "--max-memory", "16M"],
        &["copy", "./small", "./copy", "--include", "a[b"],
        &["copy", "./small", "hf:alice/a", "ms:alice/b"],
        &["copy", "./small", "hf:alice/"],
        &["verify", "./small"],
        &["verify", "./small", "--repair"],
        &["cat", "./small/config.json", "--json"],
        &["cat", "hf:alice/small"],
        &["serve", "--data", "./data", "--user", "alice"],
        &["doctor", "nowhere"],
        &["demo", "--model", "./none"],
        &["ls", "./small", "-q", "-v"],
        &["ls", "./small", "--stall-timeout", "0"],
    ];
    let runs: Vec<_> = wrong.iter().map(|args| world.run(args)).collect();
    snapshot("usage", &world, &runs);
}

#[test]
fn mistakes_in_the_configuration() {
    let world = World::new();
    let config = |name: &str, text: &str| {
        std::fs::write(world.work().join(name), text).unwrap();
        world.run(&["ls", "team:alice/small", "--config", name])
    };
    let team = "[remotes.team]\nprotocol = \"hf\"\n";
    let runs = [
        config("key.toml", &format!("[defaults]\ntransfers = 4\n\n{team}endpiont = \"http://127.0.0.1:9\"\n")),
        config("syntax.toml", "[remotes.team\n"),
        config("protocol.toml", "[remotes.team]\nprotocol = \"ftp\"\nendpoint = \"http://127.0.0.1:9\"\n"),
        config("endpoint.toml", &format!("{team}endpoint = \"ftp://127.0.0.1\"\n")),
        config("name.toml", "[remotes.hf]\nprotocol = \"hf\"\nendpoint = \"http://127.0.0.1:9\"\n"),
        config("token.toml", &format!("{team}endpoint = \"http://127.0.0.1:9\"\ntoken_env = \"A\"\ntoken_file = \"b\"\n")),
        config("file.toml", &format!("{team}endpoint = \"http://127.0.0.1:9\"\ntoken_file = \"none\"\n")),
        world.run(&["ls", "team:alice/small", "--config", "none.toml"]),
    ];
    snapshot("configuration", &world, &runs);
    let world = World::new().with("HF_ENDPOINT", "not a url").with("HUBFERRY_TRANSFERS", "many");
    snapshot("environment", &world, &[world.run(&["ls", "hf:alice/small"])]);
    let world = World::new().with("HF_ENDPOINT", "not a url");
    snapshot("environment_endpoint", &world, &[world.run(&["ls", "hf:alice/small"])]);
    let world = World::new().with("HF_HUB_OFFLINE", "1");
    snapshot("environment_offline", &world, &[world.run(&["ls", "hf:alice/small"])]);
}

#[test]
fn an_endpoint_where_nobody_listens() {
    let world = World::new();
    world.tree("small", SMALL);
    let commands: [&[&str]; 4] =
        [&["ls", "hf:alice/small"], &["ls", "ms:alice/small"], &["copy", "./small", "ms:alice/small"], &["ls", "hf:alice/small", "--json"]];
    // Each is patient for some seconds: side by side they are patient once.
    let started: Vec<_> = commands.iter().map(|args| world.start(args)).collect();
    let runs: Vec<_> = started.into_iter().map(|started| started.wait().exits(7)).collect();
    let mut runs = runs;
    for run in &mut runs {
        // How long it waits between its tries is chance.
        run.stderr = run.stderr.split_inclusive('\n').filter(|line| !line.starts_with("retry:")).collect();
    }
    snapshot("unreachable", &world, &runs);
}

#[test]
fn errors_as_json() {
    let (_hub, world) = small_hub();
    let runs = [
        world.run(&["ls", "hf:alice/none", "--json"]),
        world.run(&["copy", "hf:alice/small@v9", "ms:alice/copy", "--json"]),
        world.run(&["ls", "nowhere:alice/small", "--json"]),
        world.run(&["copy", "hf:alice/small", "hf:alice/none", "ms:alice/", "--json"]),
    ];
    for run in &runs {
        run.json();
    }
    snapshot("errors_as_json", &world, &runs);
}

#[test]
fn a_plan_says_why() {
    let (hub, world) = small_hub();
    world.tree("next", &[("README.md", b"---\nlicense: mit\n---\n# SMALL\n"), ("config.json", b"{}\n"), ("new.txt", b"new\n")]);
    let before = hub.commits("alice/small");
    let runs = [
        world.run(&["copy", "./next", "hf:alice/small", "--dry-run"]),
        world.run(&["sync", "./next", "hf:alice/small", "--dry-run", "--json"]),
        world.run(&["sync", "./small", "ms:alice/fresh", "--dry-run", "--json", "--exclude", "config.json"]),
        world.run(&["sync", "./next", "hf:alice/small", "--max-delete", "0", "--raw"]),
    ];
    snapshot("plan", &world, &runs);
    assert_eq!(hub.commits("alice/small"), before, "a plan changes nothing");
    let writes = |method: &str| hub.script.seen().iter().filter(|seen| seen.method.as_str() == method).count();
    hub.script.reset();
    world.run(&["copy", "./next", "ms:alice/small", "--dry-run"]).ok();
    world.run(&["copy", "./next", "hf:alice/small", "--dry-run"]).ok();
    assert_eq!(["POST", "PUT", "PATCH", "DELETE"].map(writes), [0; 4], "a dry run asks and never tells: {:?}", hub.script.seen());
    world.run(&["ls", "ms:alice/fresh"]).exits(6);
}

#[test]
fn results_for_people() {
    let (_hub, world) = small_hub();
    let commands: &[&[&str]] = &[
        // One at a time, so that the lines come in one order.
        &["copy", "hf:alice/small", "ms:alice/copy", "--transfers", "1"],
        &["copy", "hf:alice/small", "ms:alice/copy"],
        &["ls", "ms:alice/copy"],
        &["ls", "-l", "hf:alice/small"],
        &["info", "hf:alice/small"],
        &["du", "ms:alice/copy"],
        &["cat", "ms:alice/copy/config.json"],
        &["diff", "hf:alice/small", "ms:alice/copy"],
        &["verify", "ms:alice/copy", "--against", "hf:alice/small", "--transfers", "1"],
        &["completions", "elvish"],
    ];
    let runs: Vec<_> = commands.iter().map(|args| world.run(args).ok()).collect();
    assert!(runs.last().unwrap().stdout.contains("edit:completion"));
    snapshot("results", &world, &runs[..runs.len() - 1]);
    for args in [&["ls", "hf:alice/small"][..], &["info", "ms:alice/copy"], &["du", "./small"], &["diff", "./small", "hf:alice/small"]] {
        let mut args = args.to_vec();
        args.push("--json");
        world.run(&args).json();
    }
    let doctor = world.run(&["doctor", "--read", "hf:alice/small", "--write", ".", "--json"]).ok().json();
    assert_eq!(doctor["ok"], true, "{doctor}");
}

#[test]
fn what_the_doctor_finds() {
    let (hub, alice) = small_hub();
    // Certificates, proxies, programs and free space are those of the machine.
    let doctor = |world: &World, args: &[&str]| {
        let mut ran = world.run(&[&["doctor"], args].concat());
        let surroundings =
            ["certificates: ", "disk: ", "proxy: ", "version: ", "temporary files: ", "cache: ", "git: ", "hint: install git"];
        ran.stdout = ran.stdout.split_inclusive('\n').filter(|line| !surroundings.iter().any(|about| line.contains(about))).collect();
        ran
    };
    let (rita, wrong, nobody) = (hub.world(RITA), hub.world("hf_NobodyKnowsThisOne"), hub.world(""));
    let unreachable = World::new();
    let runs = [
        doctor(&alice, &["--read", "hf:alice/small", "--write", "."]),
        doctor(&rita, &["hf", "ms:"]),
        doctor(&wrong, &[]),
        doctor(&nobody, &["--read", "ms:alice/none"]),
        doctor(&unreachable, &["--write", "/proc"]),
    ];
    snapshot("doctor", &alice, &runs);
    assert_eq!(runs.map(|run| run.code), [0, 0, 5, 6, 7]);
}

#[test]
fn progress_as_json_lines() {
    let (_hub, world) = small_hub();
    world.tree("large", &[("model.bin", &bytes(18, 3_000_000))]);
    let ran = world.run(&["copy", "./large", "ms:alice/large", "--progress", "json", "--json"]).ok();
    ran.json();
    let events: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    for name in ["phase", "planned", "started", "progress", "finished"] {
        assert!(names.contains(&name), "{name}\n{}", ran.shown());
    }
    // Before the plan the directory was read as well, to hash it.
    let planned = names.iter().rposition(|name| *name == "planned").unwrap();
    let moved: u64 =
        events[planned..].iter().filter(|event| event["event"] == "progress").map(|event| event["bytes"].as_u64().unwrap()).sum();
    assert_eq!(moved, 3_000_000, "every byte is told once");
    let quiet = world.run(&["copy", "./large", "ms:alice/large-2", "-q"]).ok();
    assert!(quiet.stderr.is_empty(), "{}", quiet.shown());
    let none = world.run(&["copy", "./large", "ms:alice/large-3", "--progress", "none"]).ok();
    assert!(none.stderr.is_empty(), "{}", none.shown());
}

#[test]
fn cat_checks_what_it_writes() {
    let (hub, world) = small_hub();
    let large = bytes(19, 9 << 20);
    world.tree("large", &[("large.bin", &large), ("small.bin", &large[..100_000])]);
    world.run(&["copy", "./large", "hf:alice/large", "-q"]).ok();
    let cat = |file: &str| {
        let output = world.command(&["cat", file]).output().unwrap();
        (output.status.code().unwrap(), output.stdout)
    };
    assert!(cat("hf:alice/large/large.bin") == (0, large.clone()));
    assert!(cat("ms:alice/large/small.bin") == (0, large[..100_000].to_vec()));
    // A source that lies: nothing of a small file is shown, and a large one ends in exit 4.
    let rule = Rule::once(Method::GET, "/-/objects", Fault::Flip(5));
    hub.script.add(Rule { nth: 1..=u64::MAX, ..rule });
    assert!(cat("hf:alice/large/small.bin") == (4, Vec::new()));
    assert_eq!(cat("ms:alice/large/large.bin").0, 4);
    // A reader that has seen enough is no failure worth a panic.
    hub.script.reset();
    let line = format!("'{}' cat hf:alice/large/large.bin | head -c 10 | wc -c", env!("CARGO_BIN_EXE_hubferry"));
    let ran = Started::new(line.clone(), world.dress(std::process::Command::new("sh"), &["-c", &line])).wait().ok();
    assert_eq!(ran.stdout.trim(), "10", "{}", ran.shown());
    assert!(!ran.stderr.contains("panicked"), "{}", ran.shown());
}
