//! The store as its callers see it, with the real `git` as a witness of every id.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use futures_util::stream;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::Kind;
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::Visibility;
use serde_json::Map;

use super::*;

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

fn author() -> Author {
    Author { name: "Ann".to_owned(), mail: "ann@example.org".to_owned() }
}

fn put(at: &str, text: &str) -> Op {
    Op::Put { path: path(at), content: Inline::new(Bytes::copy_from_slice(text.as_bytes())) }
}

fn delete(at: &str) -> Op {
    Op::DeleteFile { path: path(at) }
}

fn change(ops: Vec<Op>) -> Change {
    Change::new("main", author(), "change", ops)
}

async fn with_repo() -> (tempfile::TempDir, Store, Repo) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let repo = create(&store, "org/model").await.unwrap();
    (folder, store, repo)
}

async fn create(store: &Store, id: &str) -> Result<Repo> {
    let new = NewRepo {
        kind: RepoKind::Model,
        id: id.parse::<RepoId>().unwrap(),
        visibility: Visibility::Public,
        license: None,
        details: Map::new(),
        files: vec![(path(".gitattributes"), Inline::new(Bytes::from_static(b"*.bin filter=lfs\n")))],
        author: author(),
    };
    store.create_repo(new).await
}

async fn upload(store: &Store, repo: &Repo, bytes: &[u8]) -> Blob {
    let blob = Blob { oid: Oid::of(bytes), size: bytes.len() as u64 };
    let pieces: Vec<std::result::Result<Bytes, std::io::Error>> = bytes.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    store.put_blob(blob, stream::iter(pieces)).await.unwrap();
    store.link_blob(repo, blob.oid).await.unwrap();
    blob
}

async fn paths(store: &Store, commit: GitOid) -> Vec<String> {
    let query = ListQuery { folder: None, recursive: true, after: None, limit: 100_000 };
    store.list(commit, &query).await.unwrap().entries.into_iter().map(|e| e.path).collect()
}

fn git(at: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.org"), ("GIT_AUTHOR_DATE", "1700000000 +0000")])
        .envs([("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.org"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn ids_are_those_of_git() {
    let (_folder, store, repo) = with_repo().await;
    let blob = upload(&store, &repo, b"weights").await;
    let mut wanted = change(vec![
        put("config.json", "{}"),
        put("a/b/ü #1.txt", "nested"),
        put("a.txt", "sorts before the folder a/"),
        put("empty", ""),
        Op::PutLfs { path: path("model.bin"), oid: blob.oid, size: Some(7) },
        delete(".gitattributes"),
    ]);
    wanted.time = Some(1_700_000_000);
    wanted.message = "Add weights\n\nwith a description".to_owned();
    let parent = store.resolve(&repo, "main").await.unwrap();
    let commit = store.commit(&repo, wanted).await.unwrap().commit;

    let work = tempfile::tempdir().unwrap();
    git(work.path(), &["init", "-q"]);
    std::fs::create_dir_all(work.path().join("a/b")).unwrap();
    for (name, text) in [
        ("config.json", "{}".to_owned()),
        ("a/b/ü #1.txt", "nested".to_owned()),
        ("a.txt", "sorts before the folder a/".to_owned()),
        ("empty", String::new()),
        ("model.bin", git::pointer(&blob)),
    ] {
        std::fs::write(work.path().join(name), text).unwrap();
    }
    git(work.path(), &["add", "."]);
    let tree = git(work.path(), &["write-tree"]);
    assert_eq!(store.root(commit).await.unwrap().to_string(), tree);
    // The parent object is not in that work tree; its id alone decides the hash.
    let text = format!(
        "tree {tree}\nparent {parent}\nauthor Ann <ann@example.org> 1700000000 +0000\ncommitter Ann <ann@example.org> 1700000000 +0000\n\nAdd weights\n\nwith a description\n"
    );
    let file = work.path().join("commit");
    std::fs::write(&file, text).unwrap();
    assert_eq!(commit.to_string(), git(work.path(), &["hash-object", "--literally", "-t", "commit", "commit"]));
}

#[tokio::test]
async fn first_commit_is_a_real_root_commit() {
    let (_folder, store, repo) = with_repo().await;
    let commit = store.resolve(&repo, "main").await.unwrap();
    let info = store.commit_info(&repo, commit).await.unwrap().unwrap();
    let work = tempfile::tempdir().unwrap();
    git(work.path(), &["init", "-q"]);
    std::fs::write(work.path().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
    git(work.path(), &["add", "."]);
    let tree = git(work.path(), &["write-tree"]);
    let text = format!(
        "tree {tree}\nauthor {} {} +0000\ncommitter {} {} +0000\n\ninitial commit\n",
        info.author, info.time, info.author, info.time
    );
    assert_eq!(commit, git::object_id("commit", text.as_bytes()));
    assert_eq!((info.title(), info.parent), ("initial commit", None));
}

#[tokio::test]
async fn a_moved_head_is_a_conflict_and_changes_nothing() {
    let (_folder, store, repo) = with_repo().await;
    let base = store.resolve(&repo, "main").await.unwrap();
    let first = store.commit(&repo, change(vec![put("x", "1")])).await.unwrap().commit;
    let late = Change { parent: Some(base), ..change(vec![put("x", "2")]) };
    assert_eq!(store.commit(&repo, late).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.resolve(&repo, "main").await.unwrap(), first);
}

#[tokio::test]
async fn what_a_commit_may_not_do_is_refused_whole() {
    let (_folder, store, repo) = with_repo().await;
    let other = create(&store, "org/other").await.unwrap();
    let elsewhere = upload(&store, &other, b"elsewhere").await;
    let head = store.commit(&repo, change(vec![put("dir/file", "1")])).await.unwrap().commit;
    let lfs = |oid, size| Op::PutLfs { path: path("m.bin"), oid, size };
    for (ops, kind) in [
        (vec![put("ok", "1"), delete("absent")], Kind::NotFound),
        (vec![put("ok", "1"), delete("dir")], Kind::NotFound),
        (vec![Op::DeleteFolder { path: path("dir/file") }], Kind::NotFound),
        (vec![put("dir", "a file over a folder")], Kind::Invalid),
        (vec![put("dir/file/below", "below a file")], Kind::Invalid),
        (vec![put("a", "1"), put("a/b", "2")], Kind::Invalid),
        (vec![lfs(Oid::of(b"never uploaded"), Some(3))], Kind::Invalid),
        (vec![lfs(elsewhere.oid, Some(9))], Kind::Invalid),
        (vec![put("p", &git::pointer(&elsewhere))], Kind::Invalid),
    ] {
        let wanted = Change { own_objects_only: true, ..change(ops) };
        let error = store.commit(&repo, wanted.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{:?}: {error}", wanted.ops);
    }
    let wrong_size = change(vec![lfs(elsewhere.oid, Some(8))]);
    assert_eq!(store.commit(&repo, wrong_size).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.resolve(&repo, "main").await.unwrap(), head);
    // The whole hub's objects will do where the face says so, and a pointer written by hand is the LFS file it stands for.
    let commit = store.commit(&repo, change(vec![lfs(elsewhere.oid, None), put("p", &git::pointer(&elsewhere))])).await.unwrap().commit;
    let Some(TreeEntry::File(file)) = store.entry(commit, &path("p")).await.unwrap() else { panic!("no file") };
    assert!(file.lfs && file.blob() == elsewhere);
}

#[tokio::test]
async fn deletions_come_before_puts_and_empty_folders_vanish() {
    let (_folder, store, repo) = with_repo().await;
    store.commit(&repo, change(vec![put("a/b/c", "1"), put("a/d", "2"), put("z", "3")])).await.unwrap();
    let ops = vec![put("a", "now a file"), Op::DeleteFolder { path: path("a") }, Op::Copy { from: path("a/b"), to: path("kept") }];
    let commit = store.commit(&repo, change(ops)).await.unwrap().commit;
    assert_eq!(paths(&store, commit).await, [".gitattributes", "a", "kept", "kept/c", "z"]);
    let commit = store.commit(&repo, change(vec![delete("kept/c")])).await.unwrap().commit;
    assert_eq!(paths(&store, commit).await, [".gitattributes", "a", "z"]);
    let ops = [".gitattributes", "a", "z"].map(delete).to_vec();
    let commit = store.commit(&repo, change(ops)).await.unwrap().commit;
    assert_eq!(store.root(commit).await.unwrap().to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    let same = Change { allow_empty: false, ..change(Vec::new()) };
    assert_eq!(store.commit(&repo, same).await.unwrap(), Committed { commit, created: false });
}

#[tokio::test]
async fn pages_join_to_the_whole_listing() {
    let (_folder, store, repo) = with_repo().await;
    let names = ["a", "a.b", "a0/x", "b/c/d", "b/c/e", "b-c", "c/z/y/x", "c0"];
    let commit = store.commit(&repo, change(names.iter().map(|n| put(n, n)).collect())).await.unwrap().commit;
    let whole = paths(&store, commit).await;
    for limit in 1..=whole.len() {
        let mut query = ListQuery { folder: None, recursive: true, after: None, limit };
        let mut joined = Vec::new();
        loop {
            let page = store.list(commit, &query).await.unwrap();
            assert!(page.entries.len() <= limit);
            joined.extend(page.entries.into_iter().map(|e| e.path));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(joined, whole, "limit {limit}");
    }
    let query = ListQuery { folder: Some(path("b")), recursive: false, after: None, limit: 10 };
    let page = store.list(commit, &query).await.unwrap();
    assert_eq!(page.entries.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["b/c"]);
    let missing = ListQuery { folder: Some(path("a")), ..query };
    assert_eq!(store.list(commit, &missing).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn ten_thousand_files_list_fast() {
    let (_folder, store, repo) = with_repo().await;
    let ops = (0..10_000).map(|n| put(&format!("part-{:03}/file-{n:05}.json", n / 100), "{}")).collect();
    let commit = store.commit(&repo, change(ops)).await.unwrap().commit;
    let start = std::time::Instant::now();
    assert_eq!(paths(&store, commit).await.len(), 10_101);
    // The promise is 200 ms for an optimised build; tests are not optimised and share the machine.
    assert!(start.elapsed() < std::time::Duration::from_secs(3), "took {:?}", start.elapsed());
}

#[tokio::test]
async fn revisions_resolve() {
    let (_folder, store, repo) = with_repo().await;
    let first = store.resolve(&repo, "main").await.unwrap();
    let second = store.commit(&repo, change(vec![put("x", "1")])).await.unwrap().commit;
    store.create_tag(&repo, "v1", first, Some("one")).await.unwrap();
    store.create_branch(&repo, "dev", first, false).await.unwrap();
    for (rev, commit) in [("main", second), ("refs/heads/main", second), ("v1", first), ("refs/tags/v1", first), ("dev", first)] {
        assert_eq!(store.resolve(&repo, rev).await.unwrap(), commit, "{rev}");
    }
    assert_eq!(store.resolve(&repo, &first.to_string()).await.unwrap(), first);
    assert_eq!(store.resolve(&repo, &second.to_string()[..7]).await.unwrap(), second);
    for unknown in ["v2", "", "abcd", "0000000000000000000000000000000000000000", "%"] {
        assert_eq!(store.resolve(&repo, unknown).await.unwrap_err().kind(), Kind::NotFound, "{unknown}");
    }
    // A commit of one repository says nothing in another.
    let other = create(&store, "org/other").await.unwrap();
    assert!(store.resolve(&other, &second.to_string()).await.is_err());
    assert_eq!(store.create_branch(&repo, "dev", second, false).await.unwrap_err().kind(), Kind::Conflict);
    store.create_branch(&repo, "dev", second, true).await.unwrap();
    assert_eq!(store.resolve(&repo, "dev").await.unwrap(), second);
    assert!(store.delete_branch(&repo, "main").await.is_err());
    store.delete_branch(&repo, "dev").await.unwrap();
    store.delete_tag(&repo, "v1").await.unwrap();
    assert_eq!(store.delete_tag(&repo, "v1").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.refs(&repo, "refs/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn history_knows_who_touched_what_last() {
    let (_folder, store, repo) = with_repo().await;
    let one = store.commit(&repo, change(vec![put("a/x", "1"), put("b", "1")])).await.unwrap().commit;
    let two = store.commit(&repo, change(vec![put("b", "2")])).await.unwrap().commit;
    let last = store.last_commits(&repo, two, ["a", "a/x", "b", "none"]).await.unwrap();
    assert_eq!((last["a"].id, last["a/x"].id, last["b"].id, last.get("none")), (one, one, two, None));
    assert_eq!(store.last_commits(&repo, one, ["b"]).await.unwrap()["b"].id, one);
    let ids = store.commits(&repo, two, 0, 10).await.unwrap().into_iter().map(|c| c.id).collect::<Vec<_>>();
    assert_eq!(ids[..2], [two, one]);
    assert_eq!((ids.len(), store.count_commits(&repo, two).await.unwrap()), (3, 3));
    let squashed = store.squash(&repo, "main", author(), "squash").await.unwrap();
    assert_eq!(store.commits(&repo, squashed, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.last_commits(&repo, squashed, ["b"]).await.unwrap()["b"].id, squashed);
    assert_eq!(store.root(squashed).await.unwrap(), store.root(two).await.unwrap());
}

#[tokio::test]
async fn names_are_one_in_every_case_and_survive_a_rename() {
    let (_folder, store, repo) = with_repo().await;
    let id = |text: &str| text.parse::<RepoId>().unwrap();
    assert_eq!(create(&store, "ORG/Model").await.unwrap_err().kind(), Kind::Conflict);
    let found = store.find_repo(RepoKind::Model, &id("Org/model")).await.unwrap().unwrap();
    assert!(found.repo.id == repo.id && !found.canonical);
    assert!(store.find_repo(RepoKind::Dataset, &id("org/model")).await.unwrap().is_none());
    store.rename_repo(&repo, &id("org/new")).await.unwrap();
    let found = store.find_repo(RepoKind::Model, &id("org/model")).await.unwrap().unwrap();
    assert_eq!((found.repo.name.as_str(), found.canonical), ("new", false));
    let fresh = create(&store, "org/model").await.unwrap();
    assert!(store.find_repo(RepoKind::Model, &id("org/model")).await.unwrap().unwrap().repo.id == fresh.id);
    store.delete_repo(&found.repo).await.unwrap();
    assert!(store.find_repo(RepoKind::Model, &id("org/new")).await.unwrap().is_none());
    assert_eq!(store.delete_repo(&found.repo).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn wrong_bytes_leave_nothing() {
    let (folder, store, _repo) = with_repo().await;
    let blob = Blob { oid: Oid::of(b"abc"), size: 3 };
    let send = |pieces: Vec<&'static [u8]>| stream::iter(pieces.into_iter().map(|p| Ok::<_, std::io::Error>(Bytes::from_static(p))));
    for pieces in [vec![&b"ab"[..]], vec![b"abd"], vec![b"ab", b"cd"], vec![]] {
        assert_eq!(store.put_blob(blob, send(pieces)).await.unwrap_err().kind(), Kind::Corrupt);
    }
    let cut = stream::iter([Ok(Bytes::from_static(b"ab")), Err(std::io::Error::other("cut"))]);
    assert_eq!(store.put_blob(blob, cut).await.unwrap_err().kind(), Kind::Unavailable);
    assert!(store.known(&[blob]).await.unwrap().is_empty());
    for part in ["incoming", "blobs"] {
        assert_eq!(std::fs::read_dir(folder.path().join(part)).unwrap().count(), 0, "{part}");
    }
    store.put_blob(blob, send(vec![b"a", b"", b"bc"])).await.unwrap();
    assert_eq!(store.known(&[blob, Blob { size: 4, ..blob }]).await.unwrap(), [blob]);
    assert_eq!(store.open_blob(blob.oid, Some(1..2)).await.unwrap().size, 3);
    assert!(store.open_blob(blob.oid, Some(1..4)).await.is_err());
    assert_eq!(store.read_blob(blob.oid, 3).await.unwrap(), "abc");
}

#[tokio::test]
async fn parts_arrive_in_any_order_and_twice() {
    let (folder, store, repo) = with_repo().await;
    let bytes: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
    let part = |n: usize| stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes.chunks(300_000).nth(n - 1).unwrap()))]);
    for order in [vec![1, 2, 3, 4], vec![4, 2, 1, 3], vec![4, 2, 1, 3, 2], vec![1, 1, 2, 3, 4, 1]] {
        let upload = store.begin_upload(blob, 300_000).await.unwrap();
        let mut tags = std::collections::BTreeMap::new();
        for n in order {
            tags.insert(n as u64, store.put_part(&upload, n as u64, part(n)).await.unwrap());
        }
        let named: Vec<_> = (1..=4).map(|n| (n, "x".to_owned())).collect();
        assert_eq!(store.complete_upload(&repo, &upload, named).await.unwrap_err().kind(), Kind::Invalid);
        assert_eq!(store.put_part(&upload, 4, part(1)).await.unwrap_err().kind(), Kind::Corrupt);
        tags.insert(4, store.put_part(&upload, 4, part(4)).await.unwrap());
        assert_eq!(store.put_part(&upload, 5, part(1)).await.unwrap_err().kind(), Kind::Invalid);
        let tags: Vec<_> = tags.into_iter().collect();
        assert!(store.complete_upload(&repo, &upload, tags[..3].to_vec()).await.is_err());
        store.complete_upload(&repo, &upload, tags.clone()).await.unwrap();
        store.complete_upload(&repo, &upload, tags).await.unwrap();
        assert_eq!(store.read_blob(blob.oid, 2_000_000).await.unwrap(), bytes);
        assert_eq!(store.put_part(&upload, 1, part(1)).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn parts_that_do_not_make_the_promised_whole_are_dropped() {
    let (folder, store, repo) = with_repo().await;
    let right: Vec<u8> = (0..=250).cycle().take(600_000).collect();
    let blob = Blob { oid: Oid::of(&right), size: 600_000 };
    let send = |bytes: &[u8]| stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes))]);
    let wrong = vec![1; 300_000];
    // Wrong from the start, made wrong after it was hashed already, and made right again.
    for (parts, good) in [
        (vec![(1, &wrong[..]), (2, &right[300_000..])], false),
        (vec![(1, &right[..300_000]), (2, &right[300_000..]), (1, &wrong[..])], false),
        (vec![(1, &wrong[..]), (2, &right[300_000..]), (1, &right[..300_000])], true),
    ] {
        let upload = store.begin_upload(blob, 300_000).await.unwrap();
        let mut tags = std::collections::BTreeMap::new();
        for (number, bytes) in parts {
            tags.insert(number, store.put_part(&upload, number, send(bytes)).await.unwrap());
        }
        let done = store.complete_upload(&repo, &upload, tags.into_iter().collect()).await;
        assert_eq!(done.map_err(|e| e.kind()), if good { Ok(()) } else { Err(Kind::Corrupt) });
        assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
        assert_eq!(store.known(&[blob]).await.unwrap().len(), usize::from(good));
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let (folder, store, repo) = with_repo().await;
    let bytes: Vec<u8> = (0..=250).cycle().take(600_000).collect();
    let blob = Blob { oid: Oid::of(&bytes), size: 600_000 };
    let send = |bytes: &[u8]| stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes))]);
    let upload = store.begin_upload(blob, 300_000).await.unwrap();
    let one = store.put_part(&upload, 1, send(&bytes[..300_000])).await.unwrap();
    drop(store);
    let store = reopen(folder.path()).await;
    let two = store.put_part(&upload, 2, send(&bytes[300_000..])).await.unwrap();
    store.complete_upload(&repo, &upload, vec![(1, one), (2, two)]).await.unwrap();
    assert_eq!(store.read_blob(blob.oid, 600_000).await.unwrap(), bytes);
}

#[tokio::test]
async fn one_process_owns_a_folder_and_finds_it_whole_again() {
    let (folder, store, repo) = with_repo().await;
    let large = "x".repeat(100_000);
    let mut staging = store.staging();
    let content = staging.put(Bytes::from(large.clone())).await.unwrap();
    let commit = store.commit(&repo, change(vec![Op::Put { path: path("large.txt"), content }])).await.unwrap().commit;
    assert_eq!(Store::open(folder.path()).await.unwrap_err().kind(), Kind::Conflict);
    let key = store.signing_key().await.unwrap();
    // As after a crash: something half written, a blob whose row was never written, and no orderly close.
    std::fs::write(folder.path().join("incoming/half"), "half").unwrap();
    let orphan = Oid::of(b"orphan");
    let at = folder.path().join("blobs").join(&orphan.to_string()[..2]).join(&orphan.to_string()[2..4]);
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(at.join(orphan.to_string()), "orphan").unwrap();
    drop(store);
    let store = reopen(folder.path()).await;
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    assert!(store.known(&[Blob { oid: orphan, size: 6 }]).await.unwrap().is_empty());
    upload(&store, &repo, b"orphan").await;
    assert_eq!(store.resolve(&repo, "main").await.unwrap(), commit);
    assert_eq!(store.read_blob(Oid::of(large.as_bytes()), 1_000_000).await.unwrap(), large);
    assert_eq!(store.signing_key().await.unwrap(), key);
}

async fn reopen(folder: &Path) -> Store {
    Store::open(folder).await.unwrap()
}

#[tokio::test]
async fn a_commit_that_is_dropped_half_way_never_happened() {
    let (_folder, store, repo) = with_repo().await;
    let head = store.resolve(&repo, "main").await.unwrap();
    for polls in 1..60 {
        let ops = (0..20).map(|n| put(&format!("dir/{n}"), "x")).collect();
        let commit = store.commit(&repo, change(ops));
        let mut commit = std::pin::pin!(commit);
        for _ in 0..polls {
            let step = std::future::poll_fn(|cx| std::task::Poll::Ready(commit.as_mut().poll(cx).is_ready())).await;
            if step {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        let now = store.resolve(&repo, "main").await.unwrap();
        if now != head {
            // Committed although nobody waited for the answer: then it must be whole.
            assert_eq!(paths(&store, now).await.len(), 22);
            return;
        }
    }
}

#[tokio::test]
async fn concurrent_commits_all_land() {
    let (_folder, store, repo) = with_repo().await;
    let all = (0..20).map(|n| {
        let (store, repo) = (store.clone(), repo.clone());
        tokio::spawn(async move { store.commit(&repo, change(vec![put(&format!("f{n}"), "x")])).await.map(drop) })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    let head = store.resolve(&repo, "main").await.unwrap();
    assert_eq!((paths(&store, head).await.len(), store.count_commits(&repo, head).await.unwrap()), (21, 21));
}

#[test]
fn the_default_branch_swaps_both_ways() {
    for name in ["main", "master", "dev"] {
        assert_eq!(swap_default_branch(swap_default_branch(name)), name);
    }
    assert_eq!(swap_default_branch("master"), DEFAULT_BRANCH);
}

#[tokio::test]
async fn git_objects_are_found_by_their_ids() {
    let (_folder, store, repo) = with_repo().await;
    let blob = upload(&store, &repo, b"weights").await;
    let long = store.staging().put(Bytes::from(vec![7; 100_000])).await.unwrap();
    let lfs = Op::PutLfs { path: path("m.bin"), oid: blob.oid, size: None };
    let long_put = Op::Put { path: path("long"), content: long.clone() };
    let commit = store.commit(&repo, change(vec![put("a", "small"), put("empty", ""), long_put, lfs])).await.unwrap().commit;

    let pointer = git::pointer(&blob);
    let ids = [GitOid::of(b"small"), GitOid::of(pointer.as_bytes()), long.git, GitOid::of(b"")];
    let found = store.contents(&ids).await.unwrap();
    assert_eq!(found[..2], [Content::Bytes(Bytes::from_static(b"small")), Content::Bytes(pointer.clone().into())]);
    assert_eq!(found[2], Content::Stored(long.blob));
    let sizes = store.content_sizes(&ids).await.unwrap();
    assert_eq!(ids.map(|id| sizes[&id]), [5, pointer.len() as u64, 100_000, 0]);
    assert_eq!(store.contents(&[GitOid::of(b"unknown")]).await.unwrap_err().kind(), Kind::Bug);

    let root = store.root(commit).await.unwrap();
    for (kind, id) in [("commit", commit), ("tree", root)] {
        assert_eq!(git::object_id(kind, &store.object(id).await.unwrap()), id);
    }
    assert_eq!(store.unknown_object(&[ids[0], root, commit]).await.unwrap(), None);
    assert_eq!(store.unknown_object(&[ids[0], GitOid::of(b"unknown")]).await.unwrap(), Some(GitOid::of(b"unknown")));

    let history = store.history(&repo).await.unwrap();
    let step = history[&commit];
    assert_eq!((history.len(), step.tree), (2, root));
    assert_eq!(history[&step.parent.unwrap()].parent, None);
}
