//! A token goes to the origin it belongs to and nowhere else: not to storage, not along a redirect, not into anything printed.

use hubferry_server::testing::Face;
use serde_json::json;

use crate::harness::{ALICE, Asked, Canned, Hub, Ran, Reply, World, bytes};

/// Fails when any part of the token was printed.
#[track_caller]
fn silent(ran: &Ran, token: &str) {
    assert!(!ran.stdout.contains(token) && !ran.stderr.contains(token), "the token was printed\n{}", ran.shown());
}

/// Everything that can be said is said: logs of all libraries, all details, JSON.
fn loud(world: World) -> World {
    world.with("RUST_LOG", "trace").with("RUST_BACKTRACE", "full")
}

#[test]
fn the_whole_job_prints_no_token_and_sends_none_to_the_storage() {
    let (a, b) = (Hub::with_cdn(), Hub::with_cdn());
    let world = loud(World::new().at(&a.hf, &b.ms, ALICE));
    let large = bytes(12, 200_000);
    world.tree("model", &[("model.safetensors", &large), ("config.json", b"{}")]);
    let commands: &[&[&str]] = &[
        &["copy", "./model", "hf:alice/model"],
        &["copy", "hf:alice/model", "ms:alice/model"],
        &["copy", "ms:alice/model", "hf:alice/back", "--dry-run"],
        &["copy", "ms:alice/model", "hf:alice/back"],
        &["verify", "ms:alice/model", "--against", "hf:alice/model"],
        &["diff", "ms:alice/model", "hf:alice/model"],
        &["info", "hf:alice/model"],
        &["info", "ms:alice/model"],
        &["ls", "-l", "ms:alice/model"],
        &["doctor", "--read", "hf:alice/model"],
    ];
    for args in commands {
        for more in [&["-vv"][..], &["-vv", "--json"], &["--json", "--progress", "json"]] {
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            let ran = world.run(&args);
            // The copy has the README that its hub wrote by itself.
            assert!(ran.code == 0 || (args[0] == "diff" && ran.code == 8), "{}", ran.shown());
            silent(&ran, ALICE);
        }
    }
    let failing: &[&[&str]] =
        &[&["ls", "hf:alice/none"], &["ls", "ms:alice/none"], &["copy", "./model", "hf:rita/model"], &["copy", "./model", "ms:rita/model"]];
    for args in failing {
        for more in [&["-vv"][..], &["-vv", "--json"]] {
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            let ran = world.run(&args);
            assert_ne!(ran.code, 0, "{}", ran.shown());
            silent(&ran, ALICE);
        }
    }
    for hub in [&a, &b] {
        let seen = hub.script.seen();
        assert!(seen.iter().any(|seen| seen.face != Face::Cdn && seen.authorization), "the hub itself is told");
        let stored: Vec<_> = seen.iter().filter(|seen| seen.face == Face::Cdn).collect();
        assert!(!stored.is_empty() && stored.iter().all(|seen| !seen.authorization && !seen.cookie), "{stored:?}");
    }
}

#[test]
fn a_hub_and_its_users_print_no_token() {
    let world = loud(World::new());
    let ready = world.home().join("ready");
    let user = format!("alice:{ALICE}");
    let child = world.start(&["serve", "--data", "./data", "--user", &user, "--ready-file", ready.to_str().unwrap(), "-vv"]);
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let client = World::new().at(said["hf"].as_str().unwrap(), said["ms"].as_str().unwrap(), ALICE);
    client.tree("model", &[("model.bin", &bytes(13, 100_000))]);
    client.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    client.run(&["copy", "./model", "ms:alice/other", "-q"]).ok();
    client.run(&["verify", "ms:alice/other", "-q"]).ok();
    assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ran = child.wait().ok();
    assert!(!ready.exists(), "the ready file goes with the hub");
    silent(&ran, ALICE);
    for wrong in [format!("alice:{ALICE} x"), format!("al ice:{ALICE}"), ALICE.to_owned(), format!("alice:{ALICE}:admin:{ALICE}\u{7}")] {
        silent(&world.run(&["serve", "--data", "./data", "--user", &wrong]).exits(2), ALICE);
    }
    let twice = format!("bob:{ALICE}");
    let ran = world.run(&["serve", "--data", "./data", "--user", &user, "--user", &twice]);
    assert_ne!(ran.code, 0);
    silent(&ran, ALICE);
}

#[test]
fn configuration_with_a_token_in_it_is_not_repeated() {
    let url = format!("https://alice:{ALICE}@127.0.0.1:9");
    let plain = World::new().with("HF_HUB_OFFLINE", "1");
    silent(&plain.run(&["ls", &format!("{url}/alice/model"), "-vv"]).exits(2), ALICE);
    silent(&loud(World::new()).with("HF_ENDPOINT", &url).run(&["ls", "hf:alice/model", "-vv"]).exits(2), ALICE);
    let query = format!("http://127.0.0.1:9/?token={ALICE}");
    silent(&loud(World::new()).with("HF_ENDPOINT", &query).run(&["ls", "hf:alice/model", "-vv"]).exits(2), ALICE);
    let config = |text: String| {
        std::fs::write(plain.work().join("hubferry.toml"), text).unwrap();
        let ran = plain.run(&["ls", "team:alice/model", "-vv", "--json"]).exits(2);
        silent(&ran, ALICE);
    };
    config(format!("[remotes.team]\nprotocol = \"hf\"\nendpoint = \"{url}\"\n"));
    config(format!("[remotes.team]\nprotocol = \"hf\"\nendpoint = \"http://127.0.0.1:9\"\ntoken = \"{ALICE}\"\n"));
    config(format!("{ALICE}\n"));
    std::fs::write(plain.work().join("hubferry.toml"), "").unwrap();
    std::fs::write(plain.work().join(".env"), format!("HF_TOKEN={ALICE}\nnot a line {ALICE}\n")).unwrap();
    silent(&plain.run(&["ls", "hf:alice/model", "-vv", "--json"]), ALICE);
    let odd =
        World::new().with("HF_HUB_OFFLINE", "1").with("HF_TOKEN", "hf_odd\u{1f980}token").run(&["ls", "hf:alice/model", "-vv", "--json"]);
    silent(&odd, "hf_odd");
}

/// A hub that repeats whatever it was told, wherever it can.
fn parrot(status: u16) -> Canned {
    Canned::start(move |asked: &Asked| {
        let told = asked.header("authorization").or(asked.header("cookie")).unwrap_or("nothing").to_owned();
        let token = told.trim_start_matches("Bearer ").trim_start_matches("m_session_id=").to_owned();
        let body = json!({"error": format!("I was told {told}"), "Message": format!("I was told {told}"), "Code": 1, "RequestId": token, "Success": false});
        Reply::new(status, body.to_string())
            .with("content-type", "application/json")
            .with("x-error-message", &format!("I was told {told}"))
            .with("x-error-code", &token)
            .with("x-request-id", &token)
            .with("x-hf-warning", &format!("topic; {told}"))
            .with("location", &format!("/elsewhere/{token}?{token}"))
    })
}

#[test]
fn a_hub_that_repeats_the_token_is_not_quoted() {
    let mut started = Vec::new();
    let mut worlds = Vec::new();
    for status in [200, 302, 400, 401, 403, 404, 409, 412, 422] {
        let hub = parrot(status);
        let world = loud(World::new().at(&hub.url, &hub.url, ALICE));
        world.tree("model", &[("config.json", b"{}")]);
        for args in [&["ls", "hf:alice/model", "-vv", "--json"][..], &["copy", "./model", "ms:alice/model", "-vv"], &["doctor", "-vv"]] {
            started.push(world.start(args));
        }
        worlds.push((world, hub));
    }
    for run in started {
        let ran = run.wait();
        assert_ne!(ran.code, 0, "{}", ran.shown());
        silent(&ran, ALICE);
    }
}

/// Two origins: the first sends everything it can to the second.
#[test]
fn nothing_secret_follows_a_redirect_to_a_second_origin() {
    let content = bytes(14, 70_000);
    let oid = hubferry_core::digest::Oid::of(&content);
    let other = Canned::start(move |asked: &Asked| match (asked.method.as_str(), asked.path()) {
        ("GET", "/object") => Reply::new(200, content.clone()),
        ("PUT" | "POST", "/put" | "/verify") => Reply::new(200, "{}"),
        _ => Reply::new(404, "{}"),
    });
    let commit = "c".repeat(40);
    let second = other.url.clone();
    let first = Canned::start(move |asked: &Asked| {
        let there = |path: &str| format!("{second}{path}");
        let path = asked.path();
        let listed = json!([{"type": "file", "path": "model.bin", "size": 70_000, "oid": "a".repeat(40), "lfs": {"oid": oid, "size": 70_000, "pointerSize": 130}}]);
        let rows = json!([{"Path": "model.bin", "Type": "blob", "Size": 70_000, "Sha256": oid, "IsLFS": true}]);
        let ok = |data: serde_json::Value| Reply::json(&json!({"Code": 200, "Success": true, "Data": data}));
        let told: serde_json::Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let (wanted, name) = (&told["objects"][0]["oid"], &told["files"][0]["path"]);
        match (asked.method.as_str(), path) {
            // Hugging Face.
            (_, "/api/models/alice/moved" | "/api/models/alice/moved/revision/main") => {
                Reply::new(307, "").with("location", &there("/api"))
            }
            (_, path) if path.starts_with("/api/models/alice/model/tree/") => Reply::json(&listed),
            ("GET", path) if path.starts_with("/api/models/alice/model") => {
                Reply::json(&json!({"id": "alice/model", "sha": commit, "private": false}))
            }
            ("GET", path) if path.contains("/resolve/") => Reply::new(302, "").with("location", &there("/object?signature=1")),
            // ModelScope.
            (_, "/api/v1/models/alice/moved") => Reply::new(302, "").with("location", &there("/api/v1")),
            ("GET", "/api/v1/models/alice/model") => ok(json!({"Id": 1, "Visibility": 5, "Path": "alice", "Name": "model"})),
            ("GET", "/api/v1/models/alice/model/repo/files") => ok(json!({"Files": rows})),
            ("GET", "/api/v1/models/alice/model/commits") => ok(json!({"Commit": [{"Id": commit}]})),
            ("GET", "/api/v1/models/alice/model/revisions") => {
                ok(json!({"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": []}}))
            }
            ("GET", "/api/v1/models/alice/model/repo") => Reply::new(302, "").with("location", &there("/object?auth_key=1")),
            // Both: where to put a large file.
            ("POST", path) if path.starts_with("/api/v1/") && path.ends_with("/objects/batch") => {
                ok(json!({"objects": [{"oid": wanted, "size": 70_000, "actions": {"upload": {"href": there("/put")}}}]}))
            }
            ("POST", path) if path.ends_with("/objects/batch") => Reply::json(
                &json!({"transfer": "basic", "objects": [{"oid": wanted, "size": 70_000, "actions": {"upload": {"href": there("/put")}, "verify": {"href": there("/verify")}}}]}),
            ),
            ("POST", path) if path.contains("/preupload/") => {
                Reply::json(&json!({"files": [{"path": name, "uploadMode": "lfs", "shouldIgnore": false}]}))
            }
            ("POST", path) if path.contains("/commit/") => Reply::new(308, "").with("location", &there("/commit")),
            _ => Reply::new(404, "{}").with("x-error-code", "RepoNotFound"),
        }
    });
    let world = loud(World::new().at(&first.url, &first.url, ALICE));
    world.tree("model", &[("model.bin", &bytes(14, 70_000))]);
    world.tree("other", &[("other.bin", &bytes(15, 70_000))]);
    for (number, source) in ["hf:models/alice/model", "ms:models/alice/model"].iter().enumerate() {
        silent(&world.run(&["copy", source, &format!("./got-{number}"), "-vv"]).ok(), ALICE);
        assert_eq!(std::fs::read(world.work().join(format!("got-{number}/model.bin"))).unwrap(), bytes(14, 70_000));
    }
    for place in ["hf:models/alice/moved", "ms:models/alice/moved"] {
        let ran = world.run(&["ls", place, "-vv"]);
        assert_ne!(ran.code, 0, "{}", ran.shown());
        silent(&ran, ALICE);
    }
    for place in ["hf:models/alice/model", "ms:models/alice/model"] {
        let ran = world.run(&["copy", "./other", place, "-vv"]);
        assert_ne!(ran.code, 0, "{}", ran.shown());
        silent(&ran, ALICE);
    }
    let (told, leaked) = (first.seen(), other.seen());
    assert!(told.iter().any(|asked| asked.header("authorization").is_some_and(|value| value.contains(ALICE))));
    assert!(told.iter().any(|asked| asked.header("cookie").is_some_and(|value| value.contains(ALICE))));
    assert!(leaked.iter().any(|asked| asked.path() == "/object") && leaked.iter().any(|asked| asked.path() == "/put"), "{leaked:?}");
    for asked in leaked {
        assert!(!asked.headers.iter().any(|(_, value)| value.contains(ALICE)) && !asked.target.contains(ALICE), "{asked:?}");
        assert!(asked.header("authorization").is_none() && asked.header("cookie").is_none(), "{asked:?}");
    }
}

/// Two remotes from a configuration file, each with a token of its own, and the token of a third in the environment.
#[test]
fn every_remote_gets_its_own_token_only() {
    let lost = |_: &Asked| Reply::new(404, "{\"error\": \"not here\"}").with("x-error-code", "RepoNotFound");
    let (first, second, third) = (Canned::start(lost), Canned::start(lost), Canned::start(lost));
    let world = World::new().with("HF_TOKEN", ALICE).with("MODELSCOPE_API_TOKEN", ALICE).with("TEAM_TOKEN", "team-token-1");
    let config = format!(
        "[remotes.team]\nprotocol = \"hf\"\nendpoint = \"{}\"\ntoken_env = \"TEAM_TOKEN\"\n\n[remotes.lab]\nprotocol = \"ms\"\nendpoint = \
         \"{}\"\ntoken_file = \"~/lab-token\"\n\n[remotes.open]\nprotocol = \"hf\"\nendpoint = \"{}\"\n",
        first.url, second.url, third.url
    );
    std::fs::write(world.home().join("lab-token"), "lab-token-2\n").unwrap();
    std::fs::write(world.work().join("hubferry.toml"), config).unwrap();
    world.tree("model", &[("config.json", b"{}")]);
    for place in ["team:org/model", "lab:org/model", "open:org/model"] {
        for args in [&["ls", place, "-vv"][..], &["copy", "./model", place, "-vv"], &["doctor", place.split(':').next().unwrap()]] {
            let ran = world.run(args);
            for token in [ALICE, "team-token-1", "lab-token-2"] {
                silent(&ran, token);
            }
        }
    }
    let told = |hub: &Canned| {
        let mut tokens: Vec<String> = hub
            .seen()
            .iter()
            .flat_map(|asked| ["authorization", "cookie"].map(|name| asked.header(name).unwrap_or_default().to_owned()))
            .filter(|value| !value.is_empty())
            .collect();
        tokens.sort();
        tokens.dedup();
        tokens
    };
    assert_eq!(told(&first), ["Bearer team-token-1"]);
    assert_eq!(told(&second), ["Bearer lab-token-2", "m_session_id=lab-token-2"]);
    assert_eq!(told(&third), Vec::<String>::new());
}
