//! Many repositories in one command: globs, files of sources, templates, one report.

use std::collections::{BTreeMap, BTreeSet};

use hubferry_server::User;
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, World, files_below, get, python, send};

const CAROL: &str = "hf_CarolOwnsTheGate01234567";

/// A hub where `carol` has a namespace of her own.
fn hub() -> Hub {
    Hub::start_with(|config| config.users.push(User::parse(&format!("carol:{CAROL}")).unwrap()))
}

fn publish(world: &World, to: &str, files: &[(&str, &[u8])], more: &[&str]) {
    let folder = format!("seed-{}", to.replace([':', '/'], "-"));
    world.tree(&folder, files);
    world.run(&[&["copy", &format!("./{folder}"), to, "-q"], more].concat()).ok();
}

/// Status by source.
fn statuses(report: &Value) -> BTreeMap<&str, &str> {
    let results = report["results"].as_array().unwrap();
    results.iter().map(|result| (result["source"].as_str().unwrap(), result["status"].as_str().unwrap())).collect()
}

#[test]
fn twenty_repositories_of_all_sorts() {
    let (a, b) = (hub(), Hub::start());
    let author = World::new().at(&a.hf, &b.ms, ALICE);
    for n in 0..12 {
        let more: &[&str] = if n < 8 { &["--visibility", "public"] } else { &["--visibility", "private"] };
        let weights = vec![n; 40_000];
        publish(&author, &format!("hf:org/model-{n}"), &[("config.json", b"{}"), ("model.safetensors", &weights)], more);
    }
    for n in 0..4 {
        publish(&author, &format!("hf:datasets/org/data-{n}"), &[("train.csv", format!("n\n{n}\n").as_bytes())], &[]);
    }
    let texts: Vec<(String, String)> = (0..3100).map(|n| (format!("part-{}/{n:04}.txt", n % 5), format!("{n}"))).collect();
    let files: Vec<(&str, &[u8])> = texts.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    publish(&author, "hf:org/many", &files, &[]);
    let (status, said) =
        send("POST", &format!("{}/api/repos/create", a.hf), ALICE, Some(r#"{"name":"empty","organization":"org","type":"model"}"#));
    assert_eq!(status, 200, "{said}");
    publish(&World::new().at(&a.hf, &b.ms, CAROL), "hf:carol/gated", &[("model.bin", b"weights")], &["--visibility", "public"]);
    let (status, said) = send("PUT", &format!("{}/api/models/carol/gated/settings", a.hf), CAROL, Some(r#"{"gated":"manual"}"#));
    assert_eq!(status, 200, "{said}");

    let batch = ["copy", "hf:org/*", "hf:carol/gated", "hf:org/none", "ms:mirror/", "--json", "-q"];
    let report = author.run(&batch).exits(3).json();
    let found = statuses(&report);
    assert_eq!(found.len(), 20, "{found:?}");
    let failed: BTreeMap<_, _> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["status"] == "failed")
        .map(|r| (r["source"].as_str().unwrap(), r["exit"].as_u64().unwrap()))
        .collect();
    assert_eq!(failed, BTreeMap::from([("hf:carol/gated", 5), ("hf:org/none", 6)]), "{report}");
    assert!(found.values().filter(|status| **status == "copied").count() == 18, "{found:?}");
    assert_eq!(report["summary"]["copied"], 18);

    // What is there is right: content, visibility, and every one of the many files.
    for n in 0..12 {
        let about: Value = serde_json::from_str(&get(&format!("{}/api/v1/models/mirror/model-{n}", b.ms), ALICE).1).unwrap();
        assert_eq!(about["Data"]["Visibility"], if n < 8 { 5 } else { 1 }, "{about}");
        author.run(&["diff", &format!("hf:org/model-{n}"), &format!("ms:mirror/model-{n}"), "-q", "--exclude", "/README.md"]).ok();
    }
    author.run(&["diff", "hf:org/many", "ms:mirror/many", "-q", "--exclude", "/README.md"]).ok();
    // Nothing is left of what could not be read: not even a name.
    author.run(&["ls", "ms:mirror/gated"]).exits(6);
    assert_eq!(author.run(&["cat", "ms:datasets/mirror/data-3/train.csv"]).ok().stdout, "n\n3\n");

    // The clients of that hub read what was written there: kinds, private ones, and every one of the many files.
    for (environment, generation, kind, repo, files) in [
        ("ms", "new", "model", "mirror/many", 3100),
        ("ms", "new", "dataset", "mirror/data-3", 1),
        ("ms", "new", "model", "mirror/model-9", 2),
        ("ms-classic", "classic", "model", "mirror/model-3", 2),
    ] {
        let folder = author.work().join("read").join(repo);
        python(&author, environment, "read_ms.py", &[generation, kind, repo, folder.to_str().unwrap()]).ok();
        let read = files_below(&folder);
        let ours = read.iter().filter(|(path, _)| !path.starts_with('.') && !["README.md", "dataset_infos.json"].contains(&path.as_str()));
        let content = |path: &str| match repo {
            "mirror/many" => {
                path.rsplit_once('/').and_then(|(_, name)| name.strip_suffix(".txt")).unwrap().parse::<u32>().unwrap().to_string().into()
            }
            "mirror/data-3" => b"n\n3\n".to_vec(),
            _ if path == "config.json" => b"{}".to_vec(),
            "mirror/model-3" => vec![3; 40_000],
            _ => vec![9; 40_000],
        };
        let mut count = 0;
        for (path, bytes) in ours {
            assert!(*bytes == content(path), "{repo}: {path}");
            count += 1;
        }
        assert_eq!(count, files, "{repo}");
    }

    // Again: nothing moves, and what failed fails for the same reason.
    let commits = || (b.commits("mirror/many"), b.commits("mirror/model-0"));
    let before = commits();
    let again = author.run(&batch).exits(3).json();
    let sum = &again["summary"];
    assert_eq!((&sum["copied"], &sum["up_to_date"], &sum["failed"]), (&json!(0), &json!(18), &json!(2)), "{again}");
    assert_eq!((&sum["moved_bytes"], &sum["wire"]["sent"], &sum["wire"]["received"]), (&json!(0), &json!(0), &json!(0)), "{again}");
    assert_eq!(commits(), before);
}

#[test]
fn a_half_done_repository_heals() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    publish(&world, "hf:org/one", &[("a.txt", b"a"), ("b.txt", b"b")], &[]);
    publish(&world, "hf:org/two", &[("a.txt", b"a")], &[]);
    // The name exists with a part of the content, as an interrupted run of another tool leaves it.
    publish(&world, "ms:mirror/one", &[("a.txt", b"wrong")], &[]);
    let report = world.run(&["copy", "hf:org/", "ms:mirror/", "--json", "-q"]).ok().json();
    assert_eq!(report["summary"]["copied"], 2, "{report}");
    world.run(&["diff", "hf:org/one", "ms:mirror/one", "-q", "--exclude", "/README.md"]).ok();
}

#[test]
fn which_repositories_take_part() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    for name in ["llama-7b", "llama-7b-gguf", "bert"] {
        publish(&world, &format!("hf:org/{name}"), &[("name.txt", name.as_bytes())], &[]);
    }
    publish(&world, "hf:datasets/org/data", &[("name.txt", b"data")], &[]);
    let chosen = |args: &[&str]| -> BTreeSet<String> {
        let report = world.run(&[&["copy"], args, &["--dry-run", "--json", "-q"]].concat()).ok().json();
        report["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| format!("{} {}", r["source"].as_str().unwrap(), r["destination"].as_str().unwrap()))
            .collect()
    };
    let set = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(
        chosen(&["hf:org/llama-*", "ms:new/{name}-copy", "--exclude-repo", "*-gguf"]),
        set(&["hf:models/org/llama-7b ms:models/new/llama-7b-copy"])
    );
    assert_eq!(chosen(&["hf:org/*", "ms:{owner}/", "--kind", "dataset"]), set(&["hf:datasets/org/data ms:datasets/org/data"]));
    assert_eq!(
        chosen(&["hf:org/*", "./mirror/{kind}/{owner}/{name}", "--include-repo", "org/b*"]),
        set(&["hf:models/org/bert ./mirror/model/org/bert"])
    );
    assert_eq!(chosen(&["hf:org/", "ms:new/", "--limit", "2"]).len(), 2);
    let space = r#"{"name":"app","organization":"org","type":"space","sdk":"static"}"#;
    let (status, said) = send("POST", &format!("{}/api/repos/create", hub.hf), ALICE, Some(space));
    assert_eq!(status, 200, "{said}");
    let ran = world.run(&["copy", "hf:org/", "ms:new/", "--dry-run"]).ok();
    assert!(ran.stderr.contains("1 space left out") && ran.stdout.contains("4 repositories: 4 to be copied"), "{}", ran.shown());
    assert!(chosen(&["hf:org/", "ms:new/", "--as", "model"]).contains("hf:spaces/org/app ms:models/new/app"));
    let list = world.work().join("list.txt");
    std::fs::write(&list, "# what we publish\nhf:org/bert\n\nhf:models/org/llama-7b ms:other/seven # renamed\n").unwrap();
    let wanted = set(&["hf:org/bert ms:new/bert", "hf:models/org/llama-7b ms:other/seven"]);
    assert_eq!(chosen(&["--from-file", "list.txt", "ms:new/"]), wanted);
    world.run(&["copy", "hf:org/*", "./mirror/{owner}-{name}", "-q", "--kind", "model"]).ok();
    let files = files_below(&world.work().join("mirror"));
    assert_eq!(files["org-bert/name.txt"], b"bert");
    // Nothing is guessed.
    for (args, why) in [
        (&["hf:org/*", "./mirror"][..], "need a namespace"),
        (&["hf:org/*", "ms:new/same"], "need a namespace"),
        (&["hf:org/llama-7b", "hf:org/bert", "ms:new/x{owner}"], "would both go to"),
        (&["hf:org/{name}", "ms:new/"], "not where they come from"),
        (&["hf:org/*"], "destination is missing"),
        (&["--from-file", "none.txt", "ms:new/"], "cannot read"),
    ] {
        let ran = world.run(&[&["copy"], args].concat());
        assert!(ran.code != 0 && ran.stderr.contains(why) && ran.stderr.contains("hint:"), "{args:?}: {}", ran.shown());
    }
    world.run(&["copy", "hf:org/nothing-*", "ms:new/"]).exits(6);
}

/// Command lines as the predecessor for the two great hubs took them.
#[test]
fn old_command_lines_mean_the_same() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    for name in ["one", "two", "three"] {
        publish(&world, &format!("hf:alice/{name}"), &[("name.txt", name.as_bytes())], &[]);
    }
    publish(&world, "ms:alice/four", &[("name.txt", b"four")], &[]);
    let to = |args: &[&str]| {
        let report = world.run(&[&["copy"], args, &["--dry-run", "--json", "-q"]].concat()).ok().json();
        let one = |value: &Value| format!("{} {}", value["source"].as_str().unwrap(), value["destination"].as_str().unwrap());
        report["results"].as_array().map_or_else(|| vec![one(&report)], |all| all.iter().map(one).collect())
    };
    assert_eq!(to(&["hf:alice/one", "--to", "ms"]), ["hf:alice/one ms:alice/one"]);
    assert_eq!(to(&["alice/one", "--to", "modelscope", "--repo-type", "model"]), ["hf:alice/one ms:alice/one"]);
    assert_eq!(to(&["huggingface:alice/one", "--to", "ms", "--dest", "new/uno"]), ["hf:alice/one ms:new/uno"]);
    assert_eq!(to(&["alice/four", "--to", "hf"]), ["ms:alice/four hf:alice/four"]);
    assert_eq!(
        to(&["alice/one,hf:alice/two, alice/three", "--to", "ms", "--dest", "new/"]),
        ["hf:alice/one ms:new/one", "hf:alice/two ms:new/two", "hf:alice/three ms:new/three"]
    );
    assert_eq!(to(&["--source", "hf:alice/one"]), ["hf:alice/one ms:alice/one"]);
    assert_eq!(to(&["--source", "ms:alice/four", "--dest", "new/quattro"]), ["ms:alice/four hf:new/quattro"]);
    assert_eq!(to(&["--source", "alice/one,alice/two", "--to", "ms", "--repo-type", "model"]).len(), 2);
    let ran = world.run(&["copy", "--source", "alice/one"]).exits(2);
    assert!(ran.stderr.contains("not said where"), "{}", ran.shown());
    let ran = world.run(&["copy", "alice/one", "--to", "gc"]).exits(2);
    assert!(ran.stderr.contains("unknown remote"), "{}", ran.shown());
}
