//! Every fault ends in a correct copy or in the right error, never in wrong bytes, a double commit or a hang.

use std::sync::Arc;
use std::time::Duration;

use hubferry_core::error::{Kind, Result};
use hubferry_core::ops::{CopyReport, Prepared, copy};
use hubferry_core::testing::conformance::request;
use hubferry_core::testing::faults::{Fault, Faulty};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;

fn source() -> MemoryRepo {
    let big = vec![7; 50_000];
    MemoryRepo::with_files(Publishes::Mixed, &[("big.bin", &big), ("small", b"tiny"), ("also/big.bin", &big)])
}

async fn run(from: Faulty<MemoryRepo>, to: Faulty<MemoryRepo>) -> Result<CopyReport> {
    copy(&request(Arc::new(from), Arc::new(to)), &quick_context()).await
}

#[tokio::test]
async fn reads_that_break_are_continued() {
    let faults = [
        Fault::Cut(20_000),
        Fault::Truncate(100),
        Fault::Stall(1000),
        Fault::Unavailable,
        Fault::RateLimited(Duration::from_millis(5)),
        Fault::Cut(0),
        Fault::Flip(9),
    ];
    for fault in faults {
        let target = MemoryRepo::default();
        let from = Faulty::new(source()).reads([Some(fault.clone()), Some(fault.clone()), Some(fault.clone())]);
        let result = run(from, Faulty::new(target.clone())).await;
        // The same byte flipped in three readings in a row is a source that lies; everything else passes.
        if let Fault::Flip(_) = fault {
            assert_eq!(result.unwrap_err().kind(), Kind::Corrupt);
        } else {
            result.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_eq!(target.files(), source().files(), "{fault:?}");
        }
        assert!(target.revisions() <= 1, "{fault:?}");
    }
}

#[tokio::test]
async fn one_flipped_byte_is_healed() {
    let target = MemoryRepo::default();
    run(Faulty::new(source()).reads([None, Some(Fault::Flip(1))]), Faulty::new(target.clone())).await.unwrap();
    assert_eq!(target.files(), source().files());
}

#[tokio::test]
async fn a_source_that_always_lies_leaves_nothing_visible() {
    let target = MemoryRepo::default();
    let error = run(Faulty::new(source()).every_read(Fault::Flip(3)), Faulty::new(target.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(target.revisions(), 0);
}

#[tokio::test]
async fn refusals_for_good_end_at_once() {
    let error = run(Faulty::new(source()).every_read(Fault::Denied), Faulty::new(MemoryRepo::default())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
}

#[tokio::test]
async fn puts_that_fail_are_repeated() {
    for fault in [Fault::Cut(10), Fault::Unavailable, Fault::LostAnswer, Fault::RateLimited(Duration::from_millis(5))] {
        let target = MemoryRepo::default();
        run(Faulty::new(source()), Faulty::new(target.clone()).puts([Some(fault.clone()), Some(fault.clone())])).await.unwrap();
        assert_eq!(target.files(), source().files(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_commit() {
    let target = MemoryRepo::default();
    let report = run(Faulty::new(source()), Faulty::new(target.clone()).commits([Some(Fault::LostAnswer)])).await.unwrap();
    assert_eq!(target.revisions(), 1);
    assert_eq!(target.files(), source().files());
    assert_eq!(report.outcome.commits.len(), 1);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_sent_again() {
    let target = MemoryRepo::default();
    run(Faulty::new(source()), Faulty::new(target.clone()).commits([Some(Fault::Stall(0)), Some(Fault::Unavailable)])).await.unwrap();
    assert_eq!(target.revisions(), 1);
    assert_eq!(target.files(), source().files());
}

#[tokio::test]
async fn a_moved_head_is_planned_again() {
    let target = MemoryRepo::with_files(Publishes::Sha256, &[("other", b"theirs")]);
    let racing = Racing { inner: target.clone(), raced: std::sync::atomic::AtomicBool::new(false) };
    copy(&request(Arc::new(source()), Arc::new(racing)), &quick_context()).await.unwrap();
    let files = target.files();
    assert_eq!(files["other"], "theirs");
    assert_eq!(files["race"], "won");
    assert_eq!(files["small"], "tiny");
    assert_eq!(target.revisions(), 3);
}

#[tokio::test]
async fn a_plan_that_was_made_before_is_not_made_anew_when_the_head_moves() {
    let target = MemoryRepo::with_files(Publishes::Sha256, &[("other", b"theirs")]);
    let racing = Racing { inner: target.clone(), raced: std::sync::atomic::AtomicBool::new(false) };
    let mut request = request(Arc::new(source()), Arc::new(racing));
    request.dry_run = true;
    let planned = copy(&request, &quick_context()).await.unwrap();
    request.dry_run = false;
    request.prepared = Some(Prepared { plan: planned.plan, create: planned.created });
    let error = copy(&request, &quick_context()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let files = target.files();
    assert_eq!((files.len(), &files["race"][..], &files["other"][..]), (2, &b"won"[..], &b"theirs"[..]), "nothing of ours");
    // The same again: the destination is not the one of the plan any more.
    let error = copy(&request, &quick_context()).await.unwrap_err();
    assert!(error.to_string().contains("the destination changed"), "{error}");
}

/// Somebody else commits between our plan and our commit.
#[derive(Debug)]
struct Racing {
    inner: MemoryRepo,
    raced: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl hubferry_core::remote::Target for Racing {
    fn limits(&self) -> hubferry_core::remote::Limits {
        self.inner.limits()
    }
    async fn head(&self) -> Result<Option<hubferry_core::manifest::Manifest>> {
        self.inner.head().await
    }
    async fn create(&self, spec: &hubferry_core::remote::RepoSpec) -> Result<()> {
        self.inner.create(spec).await
    }
    async fn missing(&self, wanted: &[hubferry_core::remote::Wanted]) -> Result<std::collections::HashSet<hubferry_core::digest::Oid>> {
        self.inner.missing(wanted).await
    }
    async fn put(
        &self,
        wanted: &hubferry_core::remote::Wanted,
        body: &dyn hubferry_core::remote::Body,
    ) -> Result<hubferry_core::remote::Staged> {
        self.inner.put(wanted, body).await
    }
    async fn commit(&self, change: hubferry_core::remote::Commit) -> Result<hubferry_core::manifest::Revision> {
        if !self.raced.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.inner.push(&[("race", b"won")]);
        }
        self.inner.commit(change).await
    }
}

#[tokio::test]
async fn a_source_that_drips_is_replaced_and_given_up_in_the_end() {
    let drip = Fault::Drip(Duration::from_millis(40));
    let target = MemoryRepo::default();
    let error = run(Faulty::new(source()).every_read(drip.clone()), Faulty::new(target.clone())).await.unwrap_err();
    assert_eq!((error.kind(), target.revisions()), (Kind::Unavailable, 0));
}
