//! Faults on the wire, at the source and at the destination, through both faces: each ends in a correct copy with one commit, or
//! in the documented exit code with nothing visible.

use std::sync::Mutex;
use std::time::Duration;

use hubferry_server::testing::{Fault, Method, Rule};

use crate::harness::{ALICE, Hub, World, bytes};

/// Where a rule is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Source,
    Destination,
}
use At::{Destination, Source};

/// One fault and how the run must end.
struct Case {
    what: &'static str,
    at: At,
    rule: Rule,
    exit: i32,
}

fn heals(what: &'static str, at: At, rule: Rule) -> Case {
    Case { what, at, rule, exit: 0 }
}

fn ends(what: &'static str, exit: i32, at: At, rule: Rule) -> Case {
    Case { what, at, rule: Rule { nth: 1..=u64::MAX, ..rule }, exit }
}

fn busy(status: u16, wait: &str) -> Fault {
    Fault::Answer(status, vec![("retry-after", wait.to_owned())], "busy".to_owned())
}

fn gateway() -> Fault {
    Fault::Answer(502, vec![("content-type", "text/html".to_owned())], "<html>bad gateway</html>".to_owned())
}

/// Faults while a large file is read from `/-/objects`, the same for both faces.
fn reading() -> Vec<Case> {
    let large = |fault| Rule::once(Method::GET, "/-/objects", fault);
    let forever = Duration::from_mins(2);
    vec![
        heals("a flipped byte", Source, large(Fault::Flip(1_000_000))),
        heals("a flipped last byte", Source, large(Fault::Flip(2_999_999))),
        heals("a cut stream", Source, large(Fault::Cut(1_234_567))),
        heals("a stream cut at once", Source, large(Fault::Cut(0))),
        heals("a stalled stream", Source, large(Fault::Stall(1_000_000, forever))),
        heals("a stream that never starts", Source, large(Fault::Stall(0, forever))),
        heals("a server that does not answer", Source, large(Fault::Delay(forever))),
        heals("429 with Retry-After", Source, large(busy(429, "1"))),
        heals("503", Source, large(busy(503, "0"))),
        heals("503 without more", Source, large(Fault::Answer(503, vec![], String::new()))),
        heals("an expired link", Source, large(Fault::ExpireLink)),
        heals("a lost answer", Source, large(Fault::LoseAnswer)),
        heals("cuts again and again", Source, Rule { nth: 1..=5, ..large(Fault::Cut(400_000)) }),
        ends("a source that always lies", 4, Source, large(Fault::Flip(77))),
        ends("a source that asks for an hour", 7, Source, large(busy(429, "3600"))),
        ends("links that are always expired", 7, Source, large(Fault::ExpireLink)),
    ]
}

/// Faults of the Hugging Face face.
fn hugging_face(at: At) -> Vec<Case> {
    if at == Source {
        let small = |fault| Rule::once(Method::GET, "/config.json", fault);
        let mut cases = vec![
            heals("a flipped byte in a small file", at, small(Fault::Flip(3))),
            heals("a small file cut", at, small(Fault::Cut(3))),
            heals("a cut listing", at, Rule::once(Method::GET, "/tree/", Fault::Cut(40))),
            heals("a gateway instead of a listing", at, Rule::once(Method::GET, "/tree/", gateway())),
            heals("a busy start", at, Rule::once(Method::GET, "/api/models/alice/model", busy(503, "1"))),
            ends("a small file that always lies", 4, at, small(Fault::Flip(3))),
            ends("a hub that is down", 7, at, Rule::once(Method::GET, "/api/", Fault::Answer(503, vec![], String::new()))),
        ];
        cases.extend(reading());
        return cases;
    }
    let part = |fault| Rule::once(Method::PUT, "/-/", fault);
    vec![
        heals("a lost creation", at, Rule::once(Method::POST, "/repos/create", Fault::LoseAnswer)),
        heals("a busy preupload", at, Rule::once(Method::POST, "/preupload/", busy(429, "1"))),
        heals("a busy batch", at, Rule::once(Method::POST, "objects/batch", busy(503, "0"))),
        heals("a part that fails", at, part(busy(503, "0"))),
        heals("a part whose answer is lost", at, part(Fault::LoseAnswer)),
        heals("a part whose link expired", at, part(Fault::ExpireLink)),
        heals("a part that nobody answers", at, part(Fault::Delay(Duration::from_mins(2)))),
        heals("a lost completion", at, Rule::once(Method::POST, "complete_multipart", Fault::LoseAnswer)),
        heals("a lost commit response", at, Rule::once(Method::POST, "/commit/", Fault::LoseAnswer)),
        heals("a commit that is asked to wait", at, Rule::once(Method::POST, "/commit/", busy(429, "1"))),
        heals("a commit to a busy hub", at, Rule::once(Method::POST, "/commit/", busy(503, "0"))),
        heals("a gateway that gave up on a commit", at, Rule::once(Method::POST, "/commit/", gateway())),
        heals("a reading back that fails", at, Rule { nth: 2..=3, ..Rule::once(Method::GET, "/tree/", Fault::Cut(10)) }),
        ends("storage that takes nothing", 7, at, part(Fault::Answer(503, vec![], String::new()))),
        ends("a hub that takes no commits today", 7, at, Rule::once(Method::POST, "/commit/", busy(429, "86400"))),
    ]
}

/// Faults of the ModelScope face.
fn model_scope(at: At) -> Vec<Case> {
    if at == Source {
        let mut cases = vec![
            heals("a cut listing", at, Rule::once(Method::GET, "/repo/files", Fault::Cut(40))),
            heals("a gateway instead of a listing", at, Rule::once(Method::GET, "/repo/files", gateway())),
            heals("a busy history", at, Rule::once(Method::GET, "/commits", busy(429, "1"))),
            heals("a busy link", at, Rule { nth: 4..=6, ..Rule::once(Method::GET, "/alice/model/repo", busy(503, "0")) }),
            ends("a hub that is down", 7, at, Rule::once(Method::GET, "/api/", Fault::Answer(503, vec![], String::new()))),
        ];
        cases.extend(reading());
        return cases;
    }
    let blob = |fault| Rule::once(Method::PUT, "/blobs/", fault);
    vec![
        heals("a lost creation", at, Rule::once(Method::POST, "/api/v1/models", Fault::LoseAnswer)),
        heals("a busy batch", at, Rule::once(Method::POST, "objects/batch", busy(503, "0"))),
        heals("a blob that fails", at, blob(busy(503, "0"))),
        heals("a blob that waits", at, blob(busy(429, "1"))),
        heals("a blob whose answer is lost", at, blob(Fault::LoseAnswer)),
        heals("a blob that nobody answers", at, blob(Fault::Delay(Duration::from_mins(2)))),
        heals("a lost commit response", at, Rule::once(Method::POST, "/commit/", Fault::LoseAnswer)),
        heals("a commit that is asked to wait", at, Rule::once(Method::POST, "/commit/", busy(429, "1"))),
        heals("a commit to a busy hub", at, Rule::once(Method::POST, "/commit/", busy(503, "0"))),
        heals("a gateway that gave up on a commit", at, Rule::once(Method::POST, "/commit/", gateway())),
        ends("storage that takes nothing", 7, at, blob(Fault::Answer(503, vec![], String::new()))),
        ends("a hub that takes no commits today", 7, at, Rule::once(Method::POST, "/commit/", busy(429, "86400"))),
    ]
}

/// The commits made by copies.
fn copies(hub: &Hub) -> usize {
    hub.commits("alice/copy").iter().filter(|(_, message)| message.contains("Source-Revision: ")).count()
}

fn play(case: &Case, from: &str, to: &str) {
    let what = format!("{} at the {:?} ({from} to {to})", case.what, case.at);
    let small_parts = |config: &mut hubferry_server::ServeConfig| {
        config.part_size = 1 << 20;
        config.cdn = Some(([127, 0, 0, 2], 0).into());
    };
    let (a, b) = (Hub::start_with(small_parts), Hub::start_with(small_parts));
    let author = a.world(ALICE);
    let (large, other) = (bytes(10, 3_000_000), bytes(11, 300_000));
    author.tree(
        "model",
        &[("model.safetensors", &large), ("sub/other.bin", &other), ("config.json", b"{\"a\": 1}"), ("README.md", b"# Model\n")],
    );
    author.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    a.script.reset();
    let world = if from == "hf" { World::new().at(&a.hf, &b.ms, ALICE) } else { World::new().at(&b.hf, &a.ms, ALICE) };
    let (source, destination) = (format!("{from}:alice/model"), format!("{to}:alice/copy"));
    let script = if case.at == Source { &a.script } else { &b.script };
    script.add(case.rule.clone());
    // Alone a large file is read first, so that a rule for the first reading meets it.
    let ran = world.run(&["copy", &source, &destination, "--transfers", "1", "--stall-timeout", "2", "--json", "-v"]);
    let met = script.count(case.rule.method.as_ref().unwrap(), case.rule.path);
    assert!(met as u64 >= *case.rule.nth.start(), "{what}: the fault did not happen, {met} requests fit\n{}", ran.shown());
    a.script.reset();
    b.script.reset();
    assert_eq!(ran.code, case.exit, "{what}\n{}", ran.shown());
    if case.exit == 0 {
        assert_eq!(ran.json()["commits"].as_array().unwrap().len(), 1, "{what}");
        assert_eq!(copies(&b), 1, "{what}: exactly one commit");
        let diff = world.run(&["diff", &source, &destination, "--exclude", "/.gitattributes", "--exclude", "/README.md"]);
        assert_eq!(diff.code, 0, "{what}\n{}", diff.shown());
        world.run(&["verify", &destination, "--against", &source, "-q"]).ok();
        return;
    }
    assert!(ran.stderr.contains("hint: "), "{what}\n{}", ran.shown());
    let listed = world.run(&["ls", &destination]);
    assert!(listed.code == 6 || !listed.stdout.contains("config.json"), "{what}: something is visible\n{}", listed.shown());
    // Once the trouble has passed, the same command does the job.
    world.run(&["copy", &source, &destination, "-q"]).ok();
    assert_eq!(copies(&b), 1, "{what}");
}

/// Plays all cases, several at a time: most of their time they wait.
fn play_all(cases: Vec<Case>, from: &'static str, to: &'static str) {
    let cases = Mutex::new(cases.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().next() else { return };
                    let played = std::panic::catch_unwind(|| play(&case, from, to));
                    if played.is_err() {
                        failures.lock().unwrap().push(case.what);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_hugging_face_source() {
    play_all(hugging_face(Source), "hf", "ms");
}

#[test]
fn a_hugging_face_destination() {
    play_all(hugging_face(Destination), "ms", "hf");
}

#[test]
fn a_model_scope_source() {
    play_all(model_scope(Source), "ms", "hf");
}

#[test]
fn a_model_scope_destination() {
    play_all(model_scope(Destination), "hf", "ms");
}

/// Somebody else commits while ours is on its way.
#[test]
fn a_moved_head() {
    for place in ["hf", "ms"] {
        let hub = Hub::start();
        let world = hub.world(ALICE);
        world.tree("model", &[("model.bin", b"ours"), ("shared.txt", b"ours")]);
        world.tree("other", &[("other.bin", b"theirs"), ("shared.txt", b"theirs")]);
        world.tree("seed", &[("seed.txt", b"seed")]);
        let destination = format!("{place}:alice/copy");
        world.run(&["copy", "./seed", &destination, "-q"]).ok();
        let before = hub.commits("alice/copy").len();
        hub.script.reset();
        hub.script.add(Rule::once(Method::POST, "/commit/", Fault::Delay(Duration::from_secs(2))));
        let ours = world.start(&["copy", "./model", &destination, "--json", "-q"]);
        while hub.script.count(&Method::POST, "/commit/") == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        world.run(&["copy", "./other", &destination, "-q"]).ok();
        let report = ours.wait().ok().json();
        assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{place}: {report}");
        assert_eq!(hub.commits("alice/copy").len(), before + 2, "{place}: one commit each");
        for (file, content) in [("model.bin", "ours"), ("shared.txt", "ours"), ("other.bin", "theirs"), ("seed.txt", "seed")] {
            assert_eq!(world.run(&["cat", &format!("{destination}/{file}")]).ok().stdout, content, "{place}: {file}");
        }
    }
}
