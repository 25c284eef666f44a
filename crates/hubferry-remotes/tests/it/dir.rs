//! The `dir` remote on a real file system: listings, staging, commits that crash, and folders that are not what they seem.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, ByteStream, Commit, Op, Source, Staged, Target, Wanted};
use hubferry_core::testing::conformance::{self, Place};
use hubferry_remotes::dir::{DirOptions, DirSource, DirTarget, HashCache};

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { oid: Oid::of(bytes), size: bytes.len() as u64 }
}

/// Bytes in memory, delivered in small pieces; `fails` breaks off after the first.
struct Text {
    bytes: Vec<u8>,
    fails: bool,
}

#[async_trait]
impl Body for Text {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        let bytes = &self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        let mut pieces: Vec<Result<Bytes>> = bytes.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        if self.fails {
            pieces.truncate(1);
            pieces.push(Err(Error::new(Kind::Corrupt, "not what was promised")));
        }
        Ok(stream::iter(pieces).boxed())
    }
}

async fn put(target: &DirTarget, bytes: &[u8], paths: &[&str]) -> Staged {
    let wanted = Wanted { blob: blob(bytes), paths: paths.iter().map(|p| path(p)).collect() };
    target.put(&wanted, &Text { bytes: bytes.to_vec(), fails: false }).await.unwrap()
}

/// One whole run: everything in `files` arrives, everything in `deletes` goes.
async fn run(target: &DirTarget, files: &[(&str, &[u8])], deletes: &[&str]) -> Result<Revision> {
    let parent = target.head().await?.map(|head| head.revision);
    let mut ops: Vec<Op> = deletes.iter().map(|p| Op::Delete { path: path(p) }).collect();
    for (name, bytes) in files {
        let staged = put(target, bytes, &[name]).await;
        ops.push(Op::Put { path: path(name), staged });
    }
    target.commit(Commit { parent, message: "test".into(), ops }).await
}

fn target(root: &Path) -> DirTarget {
    DirTarget::new(root, DirOptions::default())
}

fn source(root: &Path) -> DirSource {
    DirSource::new(root, DirOptions::default())
}

async fn read(source: &DirSource, at: &Revision, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = source.read(at, &path(name), range).await?.try_collect().await?;
    Ok(pieces.concat())
}

/// Everything below a folder, links and hidden things included.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            if at.is_dir() && !at.is_symlink() {
                folders.push(at.clone());
                found.insert(format!("{}/", at.strip_prefix(root).unwrap().display()), Vec::new());
            } else {
                found.insert(at.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&at).unwrap());
            }
        }
    }
    found
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.entries.keys().map(RepoPath::as_str).collect()
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let at = root.join(name);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, bytes).unwrap();
}

const ODD: &[(&str, &[u8])] = &[
    ("empty.bin", b""),
    ("a b/ü#1?100%25.txt", b"odd name"),
    ("deep/er/still/x", b"12345678901234567890"),
    ("-dash", b"x"),
    (".gitattributes", b"* text"),
];

#[tokio::test]
async fn keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("repository");
    let place = Place { target: Arc::new(target(&folder)), source: Arc::new(source(&folder)), generated: Vec::new() };
    conformance::target(&place).await.unwrap();
    // The suite ends with a run that failed, and what it stored is kept for the next one.
    let left = tree(&folder).into_keys().filter(|name| name.starts_with(".hubferry/") && !name.starts_with(".hubferry/run-"));
    assert_eq!(left.collect::<Vec<_>>(), [".hubferry/"]);
}

#[tokio::test]
async fn what_is_committed_is_read_back_and_nothing_is_left_behind() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("new/folder");
    let target = target(&folder);
    assert!(target.head().await.unwrap().is_none());
    let revision = run(&target, ODD, &[]).await.unwrap();
    let source = source(&folder);
    let manifest = source.manifest().await.unwrap();
    assert_eq!(manifest.revision, revision, "a reader names the revision as the commit did");
    assert_eq!(target.head().await.unwrap().unwrap(), manifest);
    for (name, bytes) in ODD {
        assert_eq!(read(&source, &revision, name, 0..bytes.len() as u64).await.unwrap(), *bytes);
        assert_eq!(manifest.entries[*name].digests.sha256, Some(Oid::of(bytes)));
    }
    assert_eq!(read(&source, &revision, "deep/er/still/x", 3..8).await.unwrap(), b"45678");
    assert_eq!(read(&source, &revision, "empty.bin", 0..1).await.unwrap_err().kind(), Kind::Invalid);
    assert!(!tree(&folder).keys().any(|name| name.starts_with(".hubferry")), "{:?}", tree(&folder));
}

#[tokio::test]
async fn a_single_file_is_a_source() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "model.bin", b"bytes");
    let source = source(&root.path().join("model.bin"));
    let manifest = source.manifest().await.unwrap();
    assert_eq!(names(&manifest), ["model.bin"]);
    assert_eq!(read(&source, &manifest.revision, "model.bin", 1..5).await.unwrap(), b"ytes");
    let missing = DirSource::new(root.path().join("none"), DirOptions::default()).manifest().await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    assert!(missing.hint_text().is_some());
}

#[tokio::test]
async fn a_second_run_finds_nothing_missing_and_keeps_modes_to_the_umask() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    let staged = put(&target, b"one", &["a", "b/c"]).await;
    let wanted = [Wanted { blob: blob(b"one"), paths: vec![path("a")] }, Wanted { blob: blob(b"two"), paths: vec![path("d")] }];
    assert_eq!(target.missing(&wanted).await.unwrap(), [Oid::of(b"two")].into());
    let ops = ["a", "b/c"].map(|p| Op::Put { path: path(p), staged: staged.clone() }).to_vec();
    target.commit(Commit { parent: None, message: String::new(), ops }).await.unwrap();
    // Equal content at two paths: two files, so that editing one leaves the other alone.
    std::fs::write(root.path().join("a"), b"edited").unwrap();
    assert_eq!(std::fs::read(root.path().join("b/c")).unwrap(), b"one");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        write(root.path(), "reference", b"");
        let mode = |name: &str| std::fs::metadata(root.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("b/c"), mode("reference"));
    }
}

#[tokio::test]
async fn deletion_prunes_the_folders_it_emptied_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a/b/c", b"1");
    write(root.path(), "a/keep", b"2");
    write(root.path(), "x/y", b"3");
    std::fs::create_dir(root.path().join("empty")).unwrap();
    run(&target(root.path()), &[], &["a/b/c", "x/y"]).await.unwrap();
    assert_eq!(tree(root.path()).into_keys().collect::<Vec<_>>(), ["a/", "a/keep", "empty/"]);
}

#[tokio::test]
async fn a_file_and_a_folder_may_change_places() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a", b"file");
    write(root.path(), "b/c/d", b"deep");
    let revision = run(&target(root.path()), &[("a/x", b"1"), ("b", b"2")], &["a", "b/c/d"]).await.unwrap();
    assert_eq!(source(root.path()).manifest().await.unwrap().revision, revision);
    let without = run(&target(root.path()), &[("a", b"1")], &[]).await.unwrap_err();
    assert_eq!(without.kind(), Kind::Invalid, "a file over a folder that stays: {without}");
    assert_eq!(names(&source(root.path()).manifest().await.unwrap()), ["a/x", "b"]);
}

#[tokio::test]
async fn a_failed_body_leaves_the_blob_missing_and_no_file() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    let wanted = Wanted { blob: blob(b"0123456789"), paths: vec![path("a")] };
    let body = Text { bytes: b"0123456789".to_vec(), fails: true };
    assert_eq!(target.put(&wanted, &body).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(target.missing(std::slice::from_ref(&wanted)).await.unwrap().len(), 1);
    assert!(!tree(root.path()).keys().any(|name| name.contains(".part")));
    drop(target);
    assert_eq!(tree(root.path()), BTreeMap::new(), "a run that stored nothing leaves nothing");
}

#[tokio::test]
async fn staged_blobs_outlive_their_process_and_rubbish_does_not() {
    let root = tempfile::tempdir().unwrap();
    drop({
        let first = target(root.path());
        put(&first, b"kept", &["a"]).await;
        first
    });
    // Of a run before, with something in it that nobody knows.
    write(root.path(), ".hubferry/left-dead/dead.part", b"half");
    let second = target(root.path());
    let wanted = [Wanted { blob: blob(b"kept"), paths: vec![path("a")] }];
    assert!(second.missing(&wanted).await.unwrap().is_empty());
    put(&second, b"more", &["b"]).await;
    assert!(!tree(root.path()).keys().any(|name| name.contains("dead")));
    let ops = vec![Op::Put { path: path("a"), staged: Staged::stored(blob(b"kept")) }];
    second.commit(Commit { parent: None, message: String::new(), ops }).await.unwrap();
    assert_eq!(tree(root.path()), BTreeMap::from([("a".to_owned(), b"kept".to_vec())]));
}

#[tokio::test]
async fn two_runs_share_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (target(root.path()), target(root.path()));
    let first = put(&one, b"1", &["a"]).await;
    let second = put(&two, b"2", &["b"]).await;
    let commit = |name: &str, staged: &Staged, parent: Option<Revision>| Commit {
        parent,
        message: String::new(),
        ops: vec![Op::Put { path: path(name), staged: staged.clone() }],
    };
    let revision = one.commit(commit("a", &first, None)).await.unwrap();
    let moved = two.commit(commit("b", &second, None)).await.unwrap_err();
    assert_eq!(moved.kind(), Kind::Conflict);
    two.commit(commit("b", &second, Some(revision))).await.unwrap();
    assert_eq!(tree(root.path()).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_commit_that_crashed_is_rolled_forward() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "old/file", b"old");
    // As a crash between two renames leaves it: `a` is in place, `b` and both `c` are still staged, nothing is deleted yet.
    write(root.path(), "a", b"AAA");
    write(root.path(), &format!(".hubferry/left-1/{}", Oid::of(b"BB")), b"BB");
    write(root.path(), &format!(".hubferry/left-1/{}", Oid::of(b"C")), b"C");
    let put = |name: &str, bytes: &[u8]| serde_json::json!({"path": name, "oid": Oid::of(bytes).to_string(), "size": bytes.len()});
    let journal = serde_json::json!({
        "first": [],
        "puts": [put("a", b"AAA"), put("sub/b", b"BB"), put("c1", b"C"), put("sub/c2", b"C")],
        "last": ["old/file"],
    });
    write(root.path(), ".hubferry/left-1/commit.json", journal.to_string().as_bytes());
    let refused = source(root.path()).manifest().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict, "half a revision is not read");
    let head = target(root.path()).head().await.unwrap().unwrap();
    assert_eq!(names(&head), ["a", "c1", "sub/b", "sub/c2"]);
    assert!(!root.path().join(".hubferry").exists());
    assert_eq!(source(root.path()).manifest().await.unwrap().revision, head.revision);
}

#[tokio::test]
async fn a_journal_with_paths_outside_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("folder");
    write(root.path(), "victim", b"precious");
    write(&folder, ".hubferry/left-1/commit.json", br#"{"first": ["../victim"], "puts": [], "last": []}"#);
    assert_eq!(target(&folder).head().await.unwrap_err().kind(), Kind::Invalid);
    assert!(root.path().join("victim").exists());
}

#[tokio::test]
async fn names_that_belong_to_tools_are_neither_read_nor_written() {
    let root = tempfile::tempdir().unwrap();
    for name in [".git/config", ".cache/huggingface/download/x", ".ms_upload_cache", "sub/.git", "seen"] {
        write(root.path(), name, b"x");
    }
    assert_eq!(names(&source(root.path()).manifest().await.unwrap()), ["seen"]);
    let wanted = [Wanted { blob: blob(b"x"), paths: vec![path(".hubferry/lock")] }];
    assert_eq!(target(root.path()).missing(&wanted).await.unwrap_err().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn the_revision_is_of_the_content() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for root in [&one, &two] {
        write(root.path(), "a", b"1");
        write(root.path(), "b/c", b"2");
    }
    let revision = async |root: &Path| source(root).manifest().await.unwrap().revision;
    assert_eq!(revision(one.path()).await, revision(two.path()).await);
    write(two.path(), "a", b"2");
    assert_ne!(revision(one.path()).await, revision(two.path()).await);
    let quick = DirSource::new(one.path(), DirOptions::default().with_hash(false)).manifest().await.unwrap();
    assert!(quick.entries.values().all(|entry| entry.digests.is_empty()));
}

#[tokio::test]
async fn a_file_that_changes_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a", &vec![1; 3 << 20]);
    write(root.path(), "b", b"quiet");
    let source = source(root.path());
    let revision = source.manifest().await.unwrap().revision;
    let mut stream = source.read(&revision, &path("a"), 0..3 << 20).await.unwrap();
    assert!(!stream.try_next().await.unwrap().unwrap().is_empty());
    std::thread::sleep(std::time::Duration::from_millis(20));
    write(root.path(), "a", &vec![2; 3 << 20]);
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Changed);
    assert_eq!(source.read(&revision, &path("a"), 0..1).await.err().unwrap().kind(), Kind::Changed);
    assert_eq!(read(&source, &revision, "b", 0..5).await.unwrap(), b"quiet", "other files are as they were");
    let other = Revision::new("0".repeat(64)).unwrap();
    assert_eq!(source.read(&other, &path("b"), 0..1).await.err().unwrap().kind(), Kind::Changed);
}

#[tokio::test]
async fn remembered_hashes_are_used_only_while_a_file_looks_the_same() {
    let (root, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = kept.path().join("hashes");
    let list = async || {
        let options = DirOptions::default().with_cache(HashCache::at(&file));
        DirSource::new(root.path(), options).manifest().await.unwrap().entries["a"].digests.sha256.unwrap()
    };
    write(root.path(), "a", b"young");
    list().await;
    assert!(!file.exists(), "a young file is not remembered");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    list().await;
    let lines = std::fs::read_to_string(&file).unwrap();
    // Another hash in the cache shows whether the cache was asked.
    std::fs::write(&file, lines.replace(&Oid::of(b"young").to_string(), &Oid::of(b"planted").to_string())).unwrap();
    assert_eq!(list().await, Oid::of(b"planted"));
    write(root.path(), "a", b"older");
    assert_eq!(list().await, Oid::of(b"older"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn links_are_followed_by_a_source_and_loops_are_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "blobs/123", b"weights");
        std::fs::create_dir_all(root.path().join("snapshot/sub")).unwrap();
        symlink("../blobs/123", root.path().join("snapshot/model.bin")).unwrap();
        symlink("../../blobs", root.path().join("snapshot/sub/folder")).unwrap();
        let snapshot = root.path().join("snapshot");
        assert_eq!(names(&source(&snapshot).manifest().await.unwrap()), ["model.bin", "sub/folder/123"]);
        symlink("..", root.path().join("snapshot/sub/loop")).unwrap();
        let error = source(&snapshot).manifest().await.unwrap_err();
        assert!(error.to_string().contains("sub/loop"), "{error}");
        std::fs::remove_file(root.path().join("snapshot/sub/loop")).unwrap();
        symlink("nowhere", root.path().join("snapshot/dangling")).unwrap();
        let error = source(&snapshot).manifest().await.unwrap_err();
        assert!(error.to_string().contains("dangling"), "{error}");
    }

    #[tokio::test]
    async fn nothing_is_written_or_removed_behind_a_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(outside.path(), "victim", b"precious");
        symlink(outside.path(), root.path().join("link")).unwrap();
        let written = run(&target(root.path()), &[("link/x", b"1")], &[]).await.unwrap_err();
        assert_eq!(written.kind(), Kind::Denied);
        assert_eq!(run(&target(root.path()), &[], &["link/victim"]).await.unwrap_err().kind(), Kind::Denied);
        assert_eq!(tree(outside.path()).len(), 1);
        // A link in the place of a file is replaced, not written through.
        symlink(outside.path().join("victim"), root.path().join("file")).unwrap();
        run(&target(root.path()), &[("file", b"new")], &[]).await.unwrap();
        assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"precious");
        assert!(!root.path().join("file").is_symlink());
    }

    #[tokio::test]
    async fn our_own_folder_may_not_be_a_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join(".hubferry")).unwrap();
        let wanted = Wanted { blob: blob(b"1"), paths: vec![path("a")] };
        let error = target(root.path()).put(&wanted, &Text { bytes: b"1".to_vec(), fails: false }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(tree(outside.path()).is_empty());
        std::fs::remove_file(root.path().join(".hubferry")).unwrap();
        std::fs::create_dir(root.path().join(".hubferry")).unwrap();
        // Nor is anything looked for behind a link inside it.
        write(outside.path(), "commit.json", br#"{"first": ["a"], "puts": [], "last": []}"#);
        write(outside.path(), &Oid::of(b"1").to_string(), b"2");
        symlink(outside.path(), root.path().join(".hubferry/left-1")).unwrap();
        let before = tree(outside.path());
        let target = target(root.path());
        target.put(&wanted, &Text { bytes: b"1".to_vec(), fails: false }).await.unwrap();
        target
            .commit(Commit {
                parent: None,
                message: String::new(),
                ops: vec![Op::Put { path: path("a"), staged: Staged::stored(blob(b"1")) }],
            })
            .await
            .unwrap();
        assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"1");
        assert_eq!(tree(outside.path()), before);
    }

    #[tokio::test]
    async fn a_pipe_is_refused_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.path().join("pipe")).status().unwrap().success());
        let error = source(root.path()).manifest().await.unwrap_err();
        assert!(error.to_string().contains("pipe"), "{error}");
        assert_eq!(source(&root.path().join("pipe")).manifest().await.unwrap_err().kind(), Kind::Invalid);
    }

    #[tokio::test]
    async fn a_name_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), b"").unwrap();
        let error = source(root.path()).manifest().await.unwrap_err();
        assert!(error.to_string().contains("bad"), "{error}");
        std::fs::remove_file(root.path().join(std::ffi::OsStr::from_bytes(b"bad\xff"))).unwrap();
        write(root.path(), "back\\slash", b"");
        assert_eq!(source(root.path()).manifest().await.unwrap_err().kind(), Kind::Invalid);
    }
}
