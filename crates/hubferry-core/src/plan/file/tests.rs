//! Plan files come back as they were written, and nothing else is taken for one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::digest::{Digests, GitOid, Oid};
use crate::error::Kind;
use crate::manifest::{Entry, RepoPath};
use crate::plan::{Action, Reason};
use crate::remote::Limits;

fn revision(text: &str) -> Revision {
    Revision::new(text).unwrap()
}

fn step(path: &str, action: Action, reason: Reason) -> Step {
    Step { path: RepoPath::new(path).unwrap(), action, reason }
}

fn put(path: &str, size: u64, reason: Reason) -> Step {
    let mut entry = Entry::new(size, Digests::of(path.as_bytes()));
    entry.lfs = size > 100;
    step(path, Action::Put { entry }, reason)
}

fn copy(steps: Vec<Step>) -> PlannedCopy {
    PlannedCopy {
        source: PlannedSource { address: "hf:o/n@main".into(), endpoint: Some("https://hub.example/".into()), revision: revision("aa") },
        destination: PlannedDestination { address: "ms:o/n".into(), endpoint: None, revision: Some(revision("bb")) },
        kind: Some(RepoKind::Model),
        create: None,
        settings: Settings {
            delete: true,
            message: Some("Mirror\n\u{1f600}".into()),
            include: vec!["*.bin".into()],
            ..Settings::default()
        },
        left_out: 3,
        kept_files: 2,
        kept_bytes: 20,
        steps,
    }
}

fn sample() -> PlanFile {
    let steps = vec![
        put("a.bin", 5, Reason::New),
        put("b.bin", 500, Reason::SizeDiffers { target_size: 7 }),
        step("c.bin", Action::Delete, Reason::NotInSource),
        step("d.bin", Action::Put { entry: Entry::new(1, Digests::git(GitOid::of(b"d"))) }, Reason::HashUnknown),
    ];
    PlanFile::new("hubferry/1", "2026-01-02T03:04:05Z", vec![copy(steps)])
}

fn edited(change: impl FnOnce(&mut Value)) -> Result<PlanFile> {
    let mut value: Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    change(&mut value);
    PlanFile::from_json(value.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read_again() {
    let file = sample();
    assert_eq!(PlanFile::from_json(file.to_json().unwrap().as_bytes()).unwrap(), file);
    assert!(edited(|_| {}).is_ok());
}

#[test]
fn what_was_edited_by_hand_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 19] = [
        ("format 2", |v| v["hubferry_plan"] = json!(2)),
        ("missing field", |v| drop(v.as_object_mut().unwrap().remove("hubferry_plan"))),
        ("unknown field `token`", |v| v["token"] = json!("hf_x")),
        ("unknown field `force`", |v| v["copies"][0]["settings"]["force"] = json!(true)),
        ("unknown field `mode`", |v| v["copies"][0]["steps"][0]["mode"] = json!(7)),
        ("dot segment", |v| v["copies"][0]["steps"][0]["path"] = json!("../a")),
        ("absolute", |v| v["copies"][0]["steps"][0]["path"] = json!("/etc/passwd")),
        ("hexadecimal digits", |v| v["copies"][0]["steps"][0]["sha256"] = json!("00")),
        ("invalid value", |v| v["copies"][0]["steps"][0]["size"] = json!(-1)),
        ("not in order", |v| v["copies"][0]["steps"][0]["path"] = json!("b.bin")),
        ("as a file and as the folder", |v| v["copies"][0]["steps"][1]["path"] = json!("a.bin/x")),
        ("contradicts itself", |v| v["copies"][0]["steps"][2]["size"] = json!(1)),
        ("cannot be", |v| v["copies"][0]["steps"][0]["reason"] = json!("repair")),
        ("unknown variant", |v| v["copies"][0]["steps"][0]["action"] = json!("run")),
        ("is not a revision", |v| v["copies"][0]["source"]["revision"] = json!("a b")),
        ("is not a glob", |v| v["copies"][0]["settings"]["include"] = json!(["{"])),
        ("has nothing in it", |v| v["copies"][0]["create"] = json!("public")),
        ("more than it allows itself", |v| v["copies"][0]["settings"]["max_delete"] = json!(0)),
        ("1 to 100000 copies", |v| v["copies"] = json!([])),
    ];
    for (why, change) in changes {
        let error = edited(change).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{why}");
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!(error.hint_text().is_some(), "{why}");
    }
    let error = edited(|v| v["copies"] = json!([v["copies"][0].clone(), v["copies"][0].clone()])).unwrap_err();
    assert!(error.to_string().contains("two copies go to"), "{error}");
    let error = edited(|v| v["copies"][0]["settings"]["message"] = json!("x".repeat(LONGEST + 1))).unwrap_err();
    assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
}

#[test]
fn what_is_no_plan_is_refused_wherever_it_ends() {
    let text = sample().to_json().unwrap();
    for end in 0..text.trim_end().len() {
        assert!(PlanFile::from_json(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    for bad in [&b""[..], b"[]", b"null", b"\xff\xfe", b"{\"hubferry_plan\": \"1\"}", b"{\"hubferry_plan\": 1}"] {
        assert!(PlanFile::from_json(bad).is_err());
    }
    let twice = text.replacen("\"tool\"", "\"made\": \"x\", \"tool\"", 1);
    assert!(PlanFile::from_json(twice.as_bytes()).is_err(), "a field that is there twice");
    let deep = format!("{{\"hubferry_plan\": 1, \"copies\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(PlanFile::from_json(deep.as_bytes()).is_err(), "and no stack is used up");
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    prop::collection::btree_map("[a-c](/[\u{e9}d ]{1,3}){0,2}", (0_u64..3, 0_u8..4), 0..8).prop_map(|files| {
        let mut list: Vec<(RepoPath, Entry)> = Vec::new();
        for (path, (size, known)) in files {
            let path = RepoPath::new(path).unwrap();
            if !list.iter().any(|(other, _)| path.is_within(other) || other.is_within(&path)) {
                let bytes = size.to_string();
                let sha256 = (known & 1 == 1).then(|| Oid::of(bytes.as_bytes()));
                let digests = Digests { sha256, git: (known & 2 == 2).then(|| GitOid::of(bytes.as_bytes())) };
                list.push((path, Entry::new(size, digests)));
            }
        }
        Manifest::new(Revision::new("r").unwrap(), list).unwrap()
    })
}

proptest! {
    #[test]
    fn every_plan_survives_its_file(
        pairs in prop::collection::vec((any_manifest(), prop::option::of(any_manifest()), any::<bool>()), 1..4),
        texts in prop::collection::vec("[a-z*./]{1,8}", 0..3),
        message in prop::option::of(".{0,20}"),
    ) {
        let mut copies = Vec::new();
        for (number, (source, target, delete)) in pairs.into_iter().enumerate() {
            let delete = delete && !source.entries.is_empty();
            let policy = Policy { delete, ..Policy::default() };
            let made = super::super::plan(&source, target.as_ref(), &Limits::unlimited(), policy).unwrap();
            let mut planned = copy(made.steps.clone());
            planned.source.revision = made.source.clone();
            planned.destination.address = format!("ms:o/{number}");
            planned.destination.revision = made.parent.clone();
            planned.create = target.is_none().then_some(Visibility::Private);
            (planned.kept_files, planned.kept_bytes) = (made.kept_files, made.kept_bytes);
            planned.settings = Settings { delete, also: texts.clone(), message: message.clone(), ..Settings::default() };
            prop_assert_eq!(planned.plan(), made);
            copies.push(planned);
        }
        let file = PlanFile::new("hubferry/1", "now", copies);
        prop_assert_eq!(PlanFile::from_json(file.to_json().unwrap().as_bytes()).unwrap(), file);
    }
}
