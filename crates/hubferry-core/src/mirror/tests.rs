//! Whole repositories between two in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::filter::Filter;
use crate::ops::Message;
use crate::testing::memory::{MemoryRepo, Publishes};
use crate::testing::quick_context;
use crate::transfer::Ends;

fn request(from: &MemoryRepo, to: &MemoryRepo) -> MirrorRequest {
    let ends = Ends { from: Arc::new(from.clone()), also: Vec::new(), to: Arc::new(to.clone()) };
    let message = Message { summary: None, source: "hf:a/b".into(), tool: "test".into() };
    let copy = CopyRequest {
        ends,
        also: Vec::new(),
        filter: Filter::new(&[], &[]).unwrap(),
        policy: Policy::default(),
        dry_run: false,
        visibility: None,
        allow_public: false,
        generated: None,
        allow_secrets: false,
        check_weights: false,
        prepared: None,
        message,
    };
    let branch_map = BranchMap::default();
    MirrorRequest { copy, all_refs: true, history: false, branch_map, force_tags: false }
}

/// `main` with two commits, `dev` from the first with one more, and tags on the first, the last and between.
fn source() -> MemoryRepo {
    let repo = MemoryRepo::with_files(Publishes::Mixed, &[("config.json", b"{}"), ("weights.bin", b"first weights of all")]);
    repo.name(RefKind::Tag, "v1");
    repo.name(RefKind::Branch, "dev");
    repo.push(&[("weights.bin", b"other weights, much better")]);
    repo.name(RefKind::Tag, "v2");
    repo.remove("config.json");
    repo.name(RefKind::Tag, "v3");
    repo.on("dev").push(&[("dev.txt", b"in the making, for now")]);
    repo
}

/// What each branch and tag holds.
fn content(repo: &MemoryRepo) -> BTreeMap<String, BTreeMap<String, bytes::Bytes>> {
    repo.named().into_iter().map(|(kind, name, at)| (format!("{kind} {name}"), repo.on(at.as_str()).files())).collect()
}

fn statuses(report: &MirrorReport) -> BTreeMap<String, Status> {
    report.refs.iter().map(|part| (format!("{} {}", part.kind, part.destination), part.status)).collect()
}

#[tokio::test]
async fn everything_arrives_once_and_then_nothing_is_done() {
    for history in [false, true] {
        let (from, to) = (source(), MemoryRepo::default());
        let wanted = MirrorRequest { history, ..request(&from, &to) };
        let dry = MirrorRequest { copy: CopyRequest { dry_run: true, ..wanted.copy.clone() }, ..wanted.clone() };
        let planned = mirror(&dry, &quick_context()).await.unwrap();
        assert_eq!((to.revisions(), to.named().len()), (0, 0), "a dry run does nothing");
        let report = mirror(&wanted, &quick_context()).await.unwrap();
        assert!(report.refs.iter().all(|part| part.error.is_none()), "{report:?}");
        assert_eq!(content(&to), content(&from), "history: {history}");
        assert_eq!(statuses(&planned), statuses(&report));
        assert_eq!(statuses(&report)["branch dev"], Status::Created);
        let mut puts = to.puts();
        puts.sort();
        puts.dedup();
        assert_eq!(puts.len(), to.puts().len(), "each blob once, whatever the number of branches");
        let before = (to.revisions(), to.named());
        if history {
            assert_eq!(before.0, from.revisions(), "one commit for each, those in common once");
            let last = to.last_message().unwrap();
            assert!(last.contains("Author: ada\nDate: day 3\nSource: hf:a/b\nSource-Revision: "), "{last}");
        }
        let again = mirror(&wanted, &quick_context()).await.unwrap();
        assert_eq!((to.revisions(), to.named()), before, "nothing is made twice");
        assert!(again.refs.iter().all(|part| part.status == Status::UpToDate && part.parts.is_empty()), "{again:?}");
    }
}

#[tokio::test]
async fn branches_are_mapped() {
    let (from, to) = (source(), MemoryRepo::default());
    let branch_map = BranchMap::parse(["dev=main", "main=stable"]).unwrap();
    mirror(&MirrorRequest { branch_map, ..request(&from, &to) }, &quick_context()).await.unwrap();
    assert_eq!(content(&to)["branch stable"], content(&from)["branch main"]);
    assert_eq!(content(&to)["branch main"], content(&from)["branch dev"]);
    let nowhere = BranchMap::parse(["main=stable"]).unwrap();
    let request = MirrorRequest { branch_map: nowhere, ..request(&from, &MemoryRepo::default()) };
    assert!(mirror(&request, &quick_context()).await.unwrap_err().to_string().contains("no branch goes to main"));
}

#[tokio::test]
async fn tags_with_other_content_stay_unless_forced() {
    let (from, to) = (source(), MemoryRepo::default());
    mirror(&request(&from, &to), &quick_context()).await.unwrap();
    from.on("dev").name(RefKind::Tag, "v1");
    let report = mirror(&request(&from, &to), &quick_context()).await.unwrap();
    assert_eq!(statuses(&report)["tag v1"], Status::Differs);
    assert_ne!(content(&to)["tag v1"], content(&from)["tag v1"]);
    let forced = MirrorRequest { force_tags: true, ..request(&from, &to) };
    let report = mirror(&forced, &quick_context()).await.unwrap();
    assert_eq!(statuses(&report)["tag v1"], Status::Moved);
    assert_eq!(content(&to), content(&from));
}

#[tokio::test]
async fn what_the_source_lacks_goes_under_guards_only() {
    let (from, to) = (source(), MemoryRepo::default());
    mirror(&request(&from, &to), &quick_context()).await.unwrap();
    for (kind, name) in [(RefKind::Branch, "mine"), (RefKind::Tag, "old"), (RefKind::Branch, "hubferry-staging-0123456789ab")] {
        to.name(kind, name);
    }
    mirror(&request(&from, &to), &quick_context()).await.unwrap();
    assert!(content(&to).contains_key("branch mine"), "a copy deletes nothing");
    let mut sync = request(&from, &to);
    sync.copy.policy = Policy { delete: true, max_delete: Some(1), ..Policy::default() };
    let refused = mirror(&sync, &quick_context()).await.unwrap_err();
    assert!(refused.to_string().contains("2 branches and tags would be deleted"), "{refused}");
    sync.copy.policy.max_delete = Some(2);
    sync.copy.dry_run = true;
    let dry = mirror(&sync, &quick_context()).await.unwrap();
    assert_eq!(statuses(&dry)["branch mine"], Status::Deleted);
    assert!(content(&to).contains_key("branch mine"));
    sync.copy.dry_run = false;
    mirror(&sync, &quick_context()).await.unwrap();
    assert_eq!(content(&to), content(&from));
}

#[tokio::test]
async fn a_run_that_ended_in_the_middle_goes_on() {
    for history in [false, true] {
        let (from, to) = (source(), MemoryRepo::default());
        let wanted = MirrorRequest { history, ..request(&from, &to) };
        mirror(&wanted, &quick_context()).await.unwrap();
        // As after a kill before the branch got its name: what was made for it lies on a branch of its own.
        let made = to.revisions();
        to.on("dev").name(RefKind::Branch, &staging(RefKind::Branch, "dev"));
        let dev = to.named().into_iter().find(|(_, name, _)| name == "dev").unwrap().2;
        let change = RefChange { kind: RefKind::Branch, name: "dev".into(), from: Some(dev), to: None };
        RefTarget::change(&to, &change).await.unwrap();
        mirror(&wanted, &quick_context()).await.unwrap();
        assert_eq!((content(&to), to.revisions()), (content(&from), made), "history: {history}");
    }
}

#[tokio::test]
async fn a_history_goes_on_where_it_ended() {
    let (from, to) = (source(), MemoryRepo::default());
    let wanted = MirrorRequest { all_refs: false, history: true, ..request(&from, &to) };
    // What only the destination has stays, and deletions of the source are replayed.
    to.push(&[("mine.txt", b"of the destination")]);
    let report = mirror(&wanted, &quick_context()).await.unwrap();
    assert_eq!(report.refs[0].parts.len(), 3);
    let names = |repo: &MemoryRepo| repo.files().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&to), ["mine.txt", "weights.bin"]);
    from.push(&[("weights.bin", b"third")]);
    from.push(&[]);
    let report = mirror(&wanted, &quick_context()).await.unwrap();
    let part = &report.refs[0];
    assert_eq!((part.parts.len(), part.skipped.len(), part.already), (1, 1, 3), "a commit that changes nothing is skipped and said");
    let again = mirror(&wanted, &quick_context()).await.unwrap();
    assert_eq!((again.refs[0].parts.len(), again.refs[0].status), (0, Status::UpToDate));
    assert_eq!(to.revisions(), 5);
    // A branch of its own content.
    let mut sync = wanted.clone();
    sync.copy.policy = Policy { delete: true, max_delete: Some(0), ..Policy::default() };
    assert!(mirror(&sync, &quick_context()).await.unwrap_err().to_string().contains("--max-delete 0"));
    sync.copy.policy.max_delete = None;
    mirror(&sync, &quick_context()).await.unwrap();
    assert_eq!(names(&to), ["weights.bin"]);
}

#[tokio::test]
async fn one_that_fails_does_not_stop_the_others_and_nothing_is_deleted_then() {
    let (from, to) = (source(), MemoryRepo::default());
    mirror(&request(&from, &to), &quick_context()).await.unwrap();
    to.name(RefKind::Tag, "old");
    from.on("dev").push(&[("A.txt", b"upper"), ("a.txt", b"lower")]);
    from.push(&[("more.txt", b"more of main")]);
    let mut sync = request(&from, &to);
    sync.copy.policy.delete = true;
    let report = mirror(&sync, &quick_context()).await.unwrap();
    assert_eq!((statuses(&report)["branch dev"], statuses(&report)["branch main"]), (Status::Failed, Status::Copied));
    assert!(content(&to).contains_key("tag old"));
}
