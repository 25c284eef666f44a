//! The cache of ModelScope's clients: the contract, what becomes visible when, and folders of the classic client.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hubferry_core::address::RepoKind;
use hubferry_core::digest::Oid;
use hubferry_core::error::Kind;
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Commit, MemoryBody, Op, Source as _, Target as _, Wanted};
use hubferry_core::testing::conformance::{self, Place};
use hubferry_remotes::dir::DirOptions;
use hubferry_remotes::mscache::{MsCacheRepo, MsCacheTarget};

fn repo(cache: &Path) -> MsCacheRepo {
    MsCacheRepo::new(cache, Some(RepoKind::Model), &"org/model-1.5".parse().unwrap(), None, DirOptions::default())
}

async fn stage(target: &MsCacheTarget, path: &str, bytes: &'static [u8]) -> Op {
    let path = RepoPath::new(path).unwrap();
    let wanted = Wanted { blob: Blob { oid: Oid::of(bytes), size: bytes.len() as u64 }, paths: vec![path.clone()] };
    assert!(target.missing(std::slice::from_ref(&wanted)).await.unwrap().contains(&wanted.blob.oid));
    let staged = target.put(&wanted, &MemoryBody(Bytes::from_static(bytes))).await.unwrap();
    Op::Put { path, staged }
}

async fn write(target: &MsCacheTarget, files: &[(&str, &'static [u8])]) {
    let parent = target.head().await.unwrap().map(|head| head.revision);
    let mut ops = Vec::new();
    for (path, bytes) in files {
        ops.push(stage(target, path, bytes).await);
    }
    target.commit(Commit { parent, message: "test".into(), ops }).await.unwrap();
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let cache = tempfile::tempdir().unwrap();
    let place =
        Place { target: Arc::new(repo(cache.path()).target()), source: Arc::new(repo(cache.path()).source()), generated: Vec::new() };
    conformance::target(&place).await.unwrap();
}

#[tokio::test]
async fn a_new_revision_becomes_visible_as_a_whole() {
    let cache = tempfile::tempdir().unwrap();
    let target = repo(cache.path()).target();
    assert!(target.head().await.unwrap().is_none());
    let op = stage(&target, "weights.bin", b"bytes").await;
    let snapshots = cache.path().join("models/org--model-1.5/snapshots");
    assert!(!snapshots.exists(), "a client would take what it finds there for everything");
    target.commit(Commit { parent: None, message: "test".into(), ops: vec![op] }).await.unwrap();
    assert_eq!(std::fs::read(snapshots.join("master/weights.bin")).unwrap(), b"bytes");
    let mut left: Vec<_> = std::fs::read_dir(snapshots.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["snapshots"], "nothing else is left");
    write(&target, &[("more.txt", b"more")]).await;
    let manifest = repo(cache.path()).source().manifest().await.unwrap();
    assert_eq!(manifest.entries.keys().map(RepoPath::as_str).collect::<Vec<_>>(), ["more.txt", "weights.bin"]);
}

#[tokio::test]
async fn what_was_committed_before_a_kill_is_shown_by_the_next_run() {
    let cache = tempfile::tempdir().unwrap();
    let incoming = cache.path().join("models/org--model-1.5/.hubferry/master");
    std::fs::create_dir_all(&incoming).unwrap();
    std::fs::write(incoming.join("weights.bin"), b"bytes").unwrap();
    let head = repo(cache.path()).target().head().await.unwrap().unwrap();
    assert_eq!(head.entries.len(), 1);
    assert!(cache.path().join("models/org--model-1.5/snapshots/master/weights.bin").exists() && !incoming.exists());
}

#[tokio::test]
async fn a_classic_folder_is_read_without_the_files_of_its_client_and_written_on() {
    let cache = tempfile::tempdir().unwrap();
    let classic = cache.path().join("hub/models/org/model-1___5");
    std::fs::create_dir_all(&classic).unwrap();
    for (name, text) in [("config.json", "{}"), (".msc", "x"), (".mdl", "x"), (".mv", "Revision:master,CreatedAt:1700000000")] {
        std::fs::write(classic.join(name), text).unwrap();
    }
    let source = repo(cache.path()).source();
    let manifest = source.manifest().await.unwrap();
    assert_eq!(manifest.entries.keys().map(RepoPath::as_str).collect::<Vec<_>>(), ["config.json"]);
    write(&repo(cache.path()).target(), &[("weights.bin", b"bytes")]).await;
    assert!(classic.join("weights.bin").exists() && classic.join(".msc").exists());

    let wanted = Wanted { blob: Blob { oid: Oid::of(b"x"), size: 1 }, paths: vec![RepoPath::new(".msc").unwrap()] };
    assert_eq!(repo(cache.path()).target().missing(&[wanted]).await.unwrap_err().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn an_unfinished_download_is_no_source() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models/org--model-1.5/snapshots/master");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("weights.bin.incomplete"), b"by").unwrap();
    let error = repo(cache.path()).source().manifest().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
}
