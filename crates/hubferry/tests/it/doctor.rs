//! What the doctor says of tokens, rights, clocks and hubs that are down, and what its trial leaves behind.

use std::time::{Duration, Instant};

use hubferry_server::testing::{Fault, Method, Rule};
use serde_json::{Value, json};

use crate::harness::{ALICE, Asked, Canned, Hub, RITA, Ran, Reply, World, get};

/// The findings about one thing.
fn about<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["about"] == name).collect()
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}\n{}", ran.shown()))
}

/// Names of trial repositories that the hub has, as its owner sees them.
fn left(hub: &Hub) -> Vec<String> {
    let (status, body) = get(&format!("{}/api/models?author=alice&limit=100", hub.hf), ALICE);
    assert_eq!(status, 200, "{body}");
    let listed: Vec<Value> = serde_json::from_str(&body).unwrap();
    listed.iter().map(|model| model["id"].as_str().unwrap().to_owned()).filter(|id| id.contains("hubferry-doctor-")).collect()
}

#[test]
fn what_a_token_must_be_good_for_decides() {
    let hub = Hub::start();
    let (alice, rita, nobody, wrong) = (hub.world(ALICE), hub.world(RITA), hub.world(""), hub.world("hf_NobodyKnowsThisOne"));
    for remote in ["hf", "ms"] {
        let ends = |world: &World, need: &[&str]| world.run(&[&["doctor", remote, "--json"], need].concat()).code;
        let codes = |world: &World| [ends(world, &[]), ends(world, &["--need", "read"]), ends(world, &["--need", "write"])];
        assert_eq!(codes(&alice), [0, 0, 0], "{remote}");
        assert_eq!(codes(&rita), [0, 0, 5], "{remote}");
        assert_eq!(codes(&nobody), [0, 5, 5], "{remote}");
        assert_eq!(codes(&wrong), [5, 5, 5], "{remote}");
    }
    let told = report(&alice.run(&["doctor", "--json"]).ok());
    for remote in ["hf", "ms"] {
        let account = about(&told, remote).into_iter().find(|finding| finding["data"]["user"] == "alice").unwrap();
        assert_eq!(account["data"]["may_write_to"], json!(["alice"]), "{account}");
        assert!(about(&told, remote).iter().any(|finding| finding["data"]["latency_ms"].is_u64()), "{told}");
    }
    // Every finding that is not fine has its one hint.
    let told = report(&rita.run(&["doctor", "--need", "write", "--json"]));
    for finding in told["findings"].as_array().unwrap() {
        assert_eq!(finding["hint"].is_string(), finding["state"] != "ok", "{finding}");
    }
}

#[test]
fn trouble_on_the_way_is_not_a_bad_token() {
    let hub = Hub::start();
    hub.script.add(Rule::once(Method::GET, "/whoami-v2", Fault::Answer(503, Vec::new(), String::new())).always());
    let ran = hub.world(ALICE).run(&["doctor", "hf"]).exits(7);
    assert!(ran.stdout.contains("could not be checked") && !ran.stdout.contains("not accepted"), "{}", ran.shown());
    World::new().with("HF_TOKEN", ALICE).run(&["doctor", "hf"]).exits(7);
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let hub = Canned::start(|asked: &Asked| {
        let reply = if asked.path().ends_with("whoami-v2") { Reply::json(&json!({"name": "alice"})) } else { Reply::json(&json!([])) };
        reply.with("date", "Thu, 01 Jan 2015 00:00:00 GMT")
    });
    let ran = World::new().at(&hub.url, &hub.url, ALICE).run(&["doctor", "hf"]).ok();
    assert!(ran.stdout.contains("its clock and ours are") && ran.stdout.contains("set this machine's clock"), "{}", ran.shown());
    assert!(ran.stdout.contains("does not tell whether it may write"), "{}", ran.shown());
}

#[test]
fn fine_grained_rights_are_named() {
    let hub = Canned::start(|asked: &Asked| {
        if !asked.path().ends_with("whoami-v2") {
            return Reply::json(&json!([]));
        }
        let scoped = json!([{"entity": {"type": "org", "name": "lab"}, "permissions": ["repo.write"]}]);
        let token = json!({"role": "fineGrained", "fineGrained": {"global": [], "scoped": scoped}});
        Reply::json(&json!({"name": "alice", "orgs": [{"name": "lab"}], "auth": {"accessToken": token}}))
    });
    let ran = World::new().at(&hub.url, &hub.url, ALICE).run(&["doctor", "hf", "--need", "write"]).ok();
    assert!(ran.stdout.contains("may write to lab (fineGrained)"), "{}", ran.shown());
}

#[test]
fn a_trial_goes_there_and_back_and_leaves_nothing() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    world.tree("model", &[("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let told = report(&world.run(&["doctor", "hf", "--transfer", "--json"]).ok());
    let trial = about(&told, "hf transfer");
    assert!(trial[0]["data"]["up_bytes_per_second"].as_u64().unwrap() > 0, "{told}");
    assert!(trial[0]["data"]["down_bytes_per_second"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(trial[1]["data"]["removed"], true);
    assert_eq!(left(&hub), Vec::<String>::new());
    // What is deleted is what was made, and nothing else.
    let deleted: Vec<_> = hub.script.seen().into_iter().filter(|seen| seen.method == Method::DELETE).collect();
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    world.run(&["ls", "hf:alice/model"]).ok();
    // Whoever may not write makes nothing.
    hub.world(RITA).run(&["doctor", "hf", "--transfer"]).exits(5);
    hub.world("").run(&["doctor", "hf", "--transfer"]).exits(5);
    assert_eq!(hub.script.seen().iter().filter(|seen| seen.path.ends_with("/repos/create")).count(), 2);
}

#[test]
fn where_no_token_may_delete_the_page_is_named() {
    let hub = Hub::start();
    let ran = hub.world(ALICE).run(&["doctor", "ms", "--transfer"]).ok();
    let [id] = &left(&hub)[..] else { panic!("{}", ran.shown()) };
    assert!(
        ran.stdout.contains(&format!("delete the private model {id} on its page at {}/models/{id}/settings", hub.ms)),
        "{}",
        ran.shown()
    );
    assert!(ran.stdout.contains("came back with their hashes"), "{}", ran.shown());
    let (status, _) = get(&format!("{}/api/models/{id}", hub.hf), "");
    assert_ne!(status, 200, "it is private");
    // A hub that does delete.
    let answer = json!({"Code": 200, "Success": true, "Data": {}}).to_string();
    hub.script.add(Rule::once(Method::DELETE, "/api/v1/models/", Fault::Answer(200, Vec::new(), answer)));
    let ran = hub.world(ALICE).run(&["doctor", "ms", "--transfer"]).ok();
    assert!(ran.stdout.contains("was removed"), "{}", ran.shown());
}

#[test]
fn a_trial_that_fails_is_removed_as_well() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    for (method, path, code) in [(Method::POST, "/commit/", 5), (Method::GET, "/resolve/", 5), (Method::POST, "/preupload/", 5)] {
        hub.script.add(Rule::once(method, path, Fault::Answer(403, Vec::new(), "{}".to_owned())).always());
        let ran = world.run(&["doctor", "hf", "--transfer"]).exits(code);
        assert!(ran.stdout.contains("the trial failed") && ran.stdout.contains("was removed"), "{}", ran.shown());
        assert_eq!(left(&hub), Vec::<String>::new(), "{path}");
        hub.script.reset();
    }
    // The answer to the creation is lost, so that nobody can be sure.
    hub.script.add(Rule::once(Method::POST, "/repos/create", Fault::LoseAnswer).always());
    world.run(&["doctor", "hf", "--transfer"]);
    assert_eq!(left(&hub), Vec::<String>::new());
    hub.script.reset();
    // A hub that does not remove it: it is said what to do.
    hub.script.add(Rule::once(Method::DELETE, "/repos/delete", Fault::Answer(403, Vec::new(), "{}".to_owned())).always());
    let ran = world.run(&["doctor", "hf", "--transfer"]).exits(5);
    let [id] = &left(&hub)[..] else { panic!("{}", ran.shown()) };
    assert!(ran.stdout.contains(&format!("delete the private model {id} on its page at {}/{id}/settings", hub.hf)), "{}", ran.shown());
}

#[cfg(unix)]
#[test]
fn a_signal_in_the_middle_removes_it_first() {
    let hub = Hub::start();
    hub.script.add(Rule::once(
        Method::PUT,
        "",
        Fault::Upload(100_000, hubferry_server::testing::Interruption::Silence(Duration::from_mins(2))),
    ));
    let started = hub.world(ALICE).start(&["doctor", "hf", "--transfer"]);
    let begun = Instant::now();
    while !hub.script.seen().iter().any(|seen| seen.method == Method::PUT) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never sends the large file");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left(&hub).len(), 1);
    assert!(std::process::Command::new("kill").args(["-INT", &started.id().to_string()]).status().unwrap().success());
    let ran = started.wait().exits(130);
    assert_eq!(left(&hub), Vec::<String>::new());
    assert!(ran.stdout.contains("was removed"), "{}", ran.shown());
}
