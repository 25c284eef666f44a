//! Changes that one commit cannot hold: through a draft they become visible at once, elsewhere in an order that can be read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::ops::{CopyReport, copy};
use hubferry_core::remote::{Body, Commit, Draft, Drafts, Limits, RepoSpec, Staged, Target, Wanted};
use hubferry_core::testing::conformance::request;
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;

/// A repository that does something else on the way.
#[derive(Debug)]
struct Odd {
    inner: MemoryRepo,
    commits: AtomicUsize,
    trick: Trick,
}

#[derive(Debug, PartialEq)]
enum Trick {
    /// Manages this many operations in its time, and loses the answer to more.
    Manages(usize),
    /// Somebody else commits while the draft is merged.
    Overtaken,
    /// Has drafts, and not for us.
    NoDrafts,
}

fn odd(inner: MemoryRepo, trick: Trick) -> Arc<Odd> {
    Arc::new(Odd { inner, commits: AtomicUsize::new(0), trick })
}

#[async_trait]
impl Target for Odd {
    fn limits(&self) -> Limits {
        let mut limits = self.inner.limits();
        limits.commit_time = Duration::from_millis(50);
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        self.inner.head().await
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.inner.create(spec).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        self.inner.missing(wanted).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        self.inner.put(wanted, body).await
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let Trick::Manages(most) = self.trick
            && change.ops.len() > most
        {
            tokio::time::sleep(Duration::from_millis(60)).await;
            return Err(Error::new(Kind::Unavailable, "gateway time-out").ambiguous());
        }
        self.inner.commit(change).await
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        (!matches!(self.trick, Trick::Manages(_))).then_some(self)
    }
}

#[async_trait]
impl Drafts for Odd {
    async fn open(&self, message: &str) -> Result<Draft> {
        match self.trick {
            Trick::NoDrafts => Err(Error::new(Kind::Denied, "pull requests are switched off here")),
            _ => self.inner.open(message).await,
        }
    }

    async fn publish(&self, draft: &Draft, parent: &Revision) -> Result<Revision> {
        if self.commits.fetch_add(1, Ordering::Relaxed) == 0 {
            self.inner.push(&[("theirs", b"theirs")]);
        }
        self.inner.publish(draft, parent).await
    }

    async fn discard(&self, draft: &Draft) -> Result<()> {
        self.inner.discard(draft).await
    }
}

fn files(count: usize) -> MemoryRepo {
    let names: Vec<(String, Vec<u8>)> = (0..count).map(|n| (format!("part-{n:04}.bin"), n.to_string().into_bytes())).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    files.push(("config.json", b"{}"));
    MemoryRepo::with_files(Publishes::Sha256, &files)
}

fn few() -> Limits {
    let mut limits = Limits::unlimited();
    limits.ops_per_commit = 2;
    limits
}

async fn run(from: &MemoryRepo, to: Arc<dyn Target>) -> Result<CopyReport> {
    copy(&request(Arc::new(from.clone()), to), &quick_context()).await
}

#[tokio::test]
async fn what_does_not_fit_gathers_in_a_draft_and_becomes_visible_at_once() {
    let (from, to) = (files(6), MemoryRepo::with_files(Publishes::Sha256, &[("old", b"old")]).limited(few()).with_drafts());
    let report = run(&from, Arc::new(to.clone())).await.unwrap();
    assert_eq!((report.outcome.commits.len(), to.revisions()), (1, 2), "one revision, for all of it");
    assert_eq!(to.files().len(), 8);
    let again = run(&from, Arc::new(to.clone())).await.unwrap();
    assert!(again.outcome.commits.is_empty() && to.revisions() == 2);
}

#[tokio::test]
async fn a_draft_on_a_head_that_moved_is_planned_anew() {
    let inner = MemoryRepo::with_files(Publishes::Sha256, &[("old", b"old")]).limited(few()).with_drafts();
    let report = run(&files(6), odd(inner.clone(), Trick::Overtaken)).await.unwrap();
    assert_eq!((report.outcome.commits.len(), inner.revisions()), (1, 3), "theirs, then ours");
    assert!(inner.files().contains_key("theirs") && inner.files().len() == 9);
}

#[tokio::test]
async fn where_drafts_are_refused_the_order_keeps_every_state_readable() {
    let inner = MemoryRepo::with_files(Publishes::Sha256, &[("old", b"old")]).limited(few());
    let report = run(&files(6), odd(inner.clone(), Trick::NoDrafts)).await.unwrap();
    assert_eq!((report.outcome.commits.len(), inner.files().len()), (4, 8));
    let last = &report.outcome.commits[3].expected;
    assert!(last.iter().any(|(path, _)| path.as_str() == "config.json"), "what loaders open first comes last: {last:?}");
    assert!(inner.messages()[1].contains("(1/4)"), "{:?}", inner.messages());
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_made_of_smaller_ones() {
    let inner = MemoryRepo::new(Publishes::Sha256);
    let to = odd(inner.clone(), Trick::Manages(200));
    let report = run(&files(600), to.clone()).await.unwrap();
    assert_eq!(inner.files().len(), 601);
    assert_eq!((report.outcome.commits.len(), to.commits.load(Ordering::Relaxed)), (5, 6), "601 was too much, 150 each was not");
}
