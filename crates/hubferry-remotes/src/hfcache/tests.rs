//! The cache as source and target on a real file system: conformance, names, links, damage and hostile content.

use std::sync::Arc;

use hubferry_core::address::RepoKind;
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::Kind;
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::ops::copy;
use hubferry_core::remote::{Coming, Extent, Source, Target};
use hubferry_core::subtree::SubTarget;
use hubferry_core::testing::conformance::{self, Place, request};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;

use super::layout::{BlobName, Commit};
use super::linker::tests::Poor;
use super::scan::{CachedRepo, Scan};
use super::testing::{Fixture, SHA};
use super::tree::Tree;
use super::{CacheOptions, HfCacheSource, HfCacheTarget};
use crate::dir::DirOptions;

fn options() -> CacheOptions {
    CacheOptions::new(DirOptions::default(), true)
}

fn source(fixture: &Fixture, rev: Option<&str>) -> HfCacheSource {
    HfCacheSource::new(fixture.cache.clone(), None, "o/m".parse().unwrap(), rev.map(str::to_owned), options())
}

fn target_with(fixture: &Fixture, rev: Option<&str>, options: CacheOptions) -> Arc<HfCacheTarget> {
    let id = "o/m".parse().unwrap();
    Arc::new(HfCacheTarget::new(&fixture.cache, RepoKind::Model, id, rev.map(str::to_owned), options).unwrap())
}

fn target(fixture: &Fixture) -> Arc<HfCacheTarget> {
    target_with(fixture, None, options())
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

#[tokio::test]
async fn the_cache_keeps_the_contract() {
    let fixture = Fixture::new();
    let place = Place { target: target(&fixture), source: Arc::new(source(&fixture, None)), generated: Vec::new() };
    conformance::target(&place).await.unwrap();
    drop(place);
    assert!(!fixture.folder.own().exists(), "nothing of ours stays");
    let scan = Scan::read(&fixture.cache).unwrap();
    assert!(scan.repos[0].problems.is_empty() && scan.strange.is_empty(), "{scan:?}");
}

#[tokio::test]
async fn the_cache_keeps_the_contract_without_links() {
    for hard_links in [true, false] {
        let fixture = Fixture::new();
        let poor = CacheOptions { linker: Arc::new(Poor { hard_links }), ..options() };
        let place = Place { target: target_with(&fixture, None, poor), source: Arc::new(source(&fixture, None)), generated: Vec::new() };
        conformance::target(&place).await.unwrap();
        let repo = CachedRepo::read(fixture.folder.clone()).unwrap();
        assert!(repo.problems.is_empty(), "{:?}", repo.problems);
        let latest = &repo.snapshots[&repo.refs["main"]];
        assert!(latest.files.values().all(|file| file.blob.is_none()));
    }
}

/// A source that says which commit it is, as a hub does.
fn commit_of(files: &[(&str, &[u8], bool)], commit: &str) -> Coming {
    let entry = |bytes: &[u8], lfs| {
        let digests = Digests::of(bytes);
        let known = if lfs { Digests::sha256(digests.sha256.unwrap()) } else { Digests::git(digests.git.unwrap()) };
        Entry { lfs, ..Entry::new(bytes.len() as u64, known) }
    };
    let entries = files.iter().map(|(name, bytes, lfs)| (path(name), entry(bytes, *lfs)));
    Coming { manifest: Manifest::new(Revision::new(commit).unwrap(), entries).unwrap(), extent: Extent::Whole }
}

/// A memory repository that claims to be a commit, and tells what is in LFS.
#[derive(Debug)]
struct Hub {
    inner: MemoryRepo,
    coming: Coming,
}

impl Hub {
    fn new(files: &[(&str, &[u8], bool)], commit: &str) -> Self {
        let plain: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes, _)| (*name, *bytes)).collect();
        Self { inner: MemoryRepo::with_files(Publishes::Mixed, &plain), coming: commit_of(files, commit) }
    }
}

#[async_trait::async_trait]
impl Source for Hub {
    async fn info(&self) -> hubferry_core::error::Result<hubferry_core::remote::RepoInfo> {
        self.inner.info().await
    }

    async fn manifest(&self) -> hubferry_core::error::Result<Manifest> {
        Ok(self.coming.manifest.clone())
    }

    async fn read(
        &self,
        _: &Revision,
        path: &RepoPath,
        range: std::ops::Range<u64>,
    ) -> hubferry_core::error::Result<hubferry_core::remote::ByteStream> {
        let at = self.inner.manifest().await?.revision;
        self.inner.read(&at, path, range).await
    }
}

const FILES: &[(&str, &[u8], bool)] =
    &[("config.json", b"{}", false), ("weights/model.bin", b"weights of a model", true), ("empty", b"", false)];

async fn bring(files: &[(&str, &[u8], bool)], commit: &str, to: Arc<dyn Target>) -> hubferry_core::ops::CopyReport {
    copy(&request(Arc::new(Hub::new(files, commit)), to), &quick_context()).await.unwrap()
}

#[tokio::test]
async fn what_is_copied_lies_where_the_client_would_have_put_it() {
    let fixture = Fixture::new();
    bring(FILES, SHA, target(&fixture)).await;
    let commit = Commit::parse(SHA).unwrap();
    let link = std::fs::read_link(fixture.folder.snapshot(&commit).join("weights/model.bin")).unwrap();
    assert_eq!(link, std::path::Path::new("../../../blobs").join(Oid::of(FILES[1].1).to_string()));
    let link = std::fs::read_link(fixture.folder.snapshot(&commit).join("config.json")).unwrap();
    assert_eq!(link, std::path::Path::new("../../blobs").join(GitOid::of(b"{}").to_string()));
    assert_eq!(std::fs::read_to_string(fixture.folder.reference("main").unwrap()).unwrap(), SHA);
    let tree = Tree::read(&fixture.folder.tree(&commit)).unwrap().unwrap();
    assert_eq!(tree.files.len(), 3);
    assert_eq!(tree.files[&path("weights/model.bin")].lfs_sha256, Some(Oid::of(FILES[1].1)));
    assert!(!fixture.folder.own().exists());
    assert_eq!(std::fs::read_to_string(fixture.cache.tag()).unwrap(), super::layout::TAG_TEXT);
}

#[tokio::test]
async fn the_next_commit_brings_only_what_is_new_and_leaves_the_old_snapshot() {
    let fixture = Fixture::new();
    bring(FILES, SHA, target(&fixture)).await;
    let other = "f".repeat(40);
    let mut files = FILES.to_vec();
    files[0].1 = b"[]";
    files.remove(2);
    let report = bring(&files, &other, target(&fixture)).await;
    assert_eq!(report.outcome.moved_blobs, 1, "{report:?}");
    let repo = CachedRepo::read(fixture.folder.clone()).unwrap();
    assert_eq!((repo.snapshots.len(), repo.refs["main"].as_str()), (2, other.as_str()));
    assert_eq!(repo.snapshots[&Commit::parse(SHA).unwrap()].files.len(), 3);
    assert_eq!(repo.snapshots[&Commit::parse(&other).unwrap()].files.len(), 2, "a commit holds its own files");
    let back = bring(FILES, SHA, target(&fixture)).await;
    assert!(back.plan.is_empty());
    assert_eq!(CachedRepo::read(fixture.folder.clone()).unwrap().refs["main"].as_str(), SHA, "the ref goes along with nothing to move");
}

#[tokio::test]
async fn a_small_file_of_another_commit_is_not_read_again() {
    let fixture = Fixture::new();
    fixture.snapshot("main", &[("config.json", b"{}", false)]);
    let report = bring(&[("renamed.json", b"{}", false)], &"e".repeat(40), target(&fixture)).await;
    assert_eq!((report.outcome.moved_blobs, report.outcome.reused_blobs), (0, 1));
}

#[tokio::test]
async fn some_files_of_a_commit_leave_no_listing_and_more_are_added_to_them() {
    let fixture = Fixture::new();
    let mut some = request(Arc::new(Hub::new(FILES, SHA)), target(&fixture));
    some.filter = hubferry_core::filter::Filter::new(&["config.json".to_owned()], &[]).unwrap();
    copy(&some, &quick_context()).await.unwrap();
    let commit = Commit::parse(SHA).unwrap();
    assert!(!fixture.folder.tree(&commit).exists());
    assert_eq!(source(&fixture, None).manifest().await.unwrap().entries.len(), 1);
    let report = bring(FILES, SHA, target(&fixture)).await;
    assert_eq!(report.plan.kept_files, 1);
    assert!(fixture.folder.tree(&commit).exists());
    assert_eq!(source(&fixture, None).manifest().await.unwrap().entries.len(), 3);
}

#[tokio::test]
async fn what_belongs_to_no_commit_is_named_by_its_content() {
    let fixture = Fixture::new();
    let moved = Arc::new(SubTarget::new(target(&fixture), path("sub")));
    bring(FILES, SHA, moved).await;
    let repo = CachedRepo::read(fixture.folder.clone()).unwrap();
    let [commit] = &repo.snapshots.keys().collect::<Vec<_>>()[..] else { panic!("{repo:?}") };
    assert_ne!(commit.as_str(), SHA, "these files have other paths than those of the commit");
    assert!(repo.snapshots[*commit].files.contains_key(&path("sub/config.json")));
    assert_eq!(repo.refs["main"], **commit);
}

#[tokio::test]
async fn a_commit_that_is_named_needs_no_ref_and_must_be_the_right_one() {
    let fixture = Fixture::new();
    bring(FILES, SHA, target_with(&fixture, Some(SHA), options())).await;
    assert!(!fixture.folder.refs().exists());
    let other = target_with(&fixture, Some(&"e".repeat(40)), options());
    let error = copy(&request(Arc::new(Hub::new(FILES, SHA)), other), &quick_context()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn an_incomplete_snapshot_can_be_looked_at_and_not_copied() {
    let fixture = Fixture::new();
    fixture.snapshot("main", &[("a", b"a", false), ("b", b"b", true)]);
    fixture.tree();
    std::fs::remove_file(fixture.folder.snapshot(&Commit::parse(SHA).unwrap()).join("b")).unwrap();
    let error = source(&fixture, None).manifest().await.unwrap_err();
    assert!(error.message().contains("lacks b") && error.hint_text().unwrap().contains(SHA), "{error}");
    let seen = source(&fixture, None).glance().await.unwrap();
    assert_eq!((seen.manifest.entries.len(), seen.missing), (1, vec![path("b")]));
}

#[tokio::test]
async fn damage_is_found_where_it_is_doubted_and_mended() {
    let fixture = Fixture::new();
    bring(FILES, SHA, target(&fixture)).await;
    let name = BlobName::Sha256(Oid::of(FILES[1].1));
    std::fs::write(fixture.folder.blob(&name), b"weights of a modem").unwrap();
    let against: Arc<dyn Source> = Arc::new(Hub::new(FILES, SHA));
    let ask = hubferry_core::ops::VerifyRequest {
        place: Arc::new(source(&fixture, None)),
        against: Some(against),
        repair: Some(target(&fixture)),
        filter: hubferry_core::filter::Filter::default(),
        generated: None,
        message: hubferry_core::ops::Message { summary: None, source: "hub".into(), tool: "test".into() },
    };
    let report = hubferry_core::ops::verify_place(&ask, &quick_context()).await.unwrap();
    assert_eq!(report.findings.bad(), [path("weights/model.bin")]);
    assert!(report.repaired.unwrap().is_ok());
    assert_eq!(std::fs::read(fixture.folder.blob(&name)).unwrap(), FILES[1].1);
    // A blob that is gone, and one of another size.
    std::fs::remove_file(fixture.folder.blob(&name)).unwrap();
    std::fs::write(fixture.folder.blob(&BlobName::Git(GitOid::of(b"{}"))), b"{").unwrap();
    let report = hubferry_core::ops::verify_place(&ask, &quick_context()).await.unwrap();
    assert_eq!(report.findings.bad().len(), 2);
    assert!(report.repaired.unwrap().is_ok());
}

#[tokio::test]
async fn a_link_out_of_the_cache_is_refused_and_replaced_by_a_copy() {
    let fixture = Fixture::new();
    bring(FILES, SHA, target(&fixture)).await;
    let secret = fixture.root.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    let file = fixture.folder.snapshot(&Commit::parse(SHA).unwrap()).join("config.json");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    assert_eq!(source(&fixture, None).manifest().await.unwrap_err().kind(), Kind::Denied);
    bring(FILES, SHA, target(&fixture)).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"{}");
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
}

#[tokio::test]
async fn folders_that_are_links_are_not_written_behind() {
    for name in ["blobs", "snapshots", ".hubferry"] {
        let fixture = Fixture::new();
        let other = fixture.root.path().join("other");
        std::fs::create_dir_all(&other).unwrap();
        std::fs::create_dir_all(fixture.folder.at()).unwrap();
        let link = fixture.folder.at().join(name);
        std::os::unix::fs::symlink(&other, link).unwrap();
        let result = copy(&request(Arc::new(Hub::new(FILES, SHA)), target(&fixture)), &quick_context()).await;
        assert!(matches!(result.unwrap_err().kind(), Kind::Denied | Kind::Invalid), "{name}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_shared_blob_is_used_and_stays_what_it_is() {
    let fixture = Fixture::new();
    let (large, _) = fixture.snapshot("old", &[("model.bin", b"weights of a model", true)]);
    fixture.share(&large.to_string(), &"ab".repeat(32));
    let other = "e".repeat(40);
    let report = bring(&[("model.bin", b"weights of a model", true)], &other, target(&fixture)).await;
    assert_eq!(report.outcome.moved_blobs, 0);
    assert!(fixture.folder.blob(&large).symlink_metadata().unwrap().is_symlink());
    assert!(CachedRepo::read(fixture.folder.clone()).unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_lock_of_another_program_is_waited_for() {
    let fixture = Fixture::new();
    let name = BlobName::Sha256(Oid::of(FILES[1].1));
    let lock = fixture.folder.lock(&name);
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let (blob, blobs) = (fixture.folder.blob(&name), fixture.folder.blobs());
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(400));
        std::fs::create_dir_all(blobs).unwrap();
        std::fs::write(blob, FILES[1].1).unwrap();
        drop(held);
    });
    let report = bring(FILES, SHA, target(&fixture)).await;
    other.join().unwrap();
    assert_eq!(report.outcome.reused_blobs, 1, "the other program has brought it");
}
