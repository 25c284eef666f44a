//! The real `git` and `git-lfs` read from the hub.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::Visibility;
use hubferry_server::store::{Author, Change, Inline, NewRepo, Op, Repo, Store};
use serde_json::json;

use crate::support::{ALICE, Hub, READER, hub, hub_with, hub_with_cdn, witnesses};

/// The versions of the protocol.
const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// A folder to work in, with a home of its own for Git. What arrives is kept as it was sent: one pack per fetch, so that what was sent
/// in vain is seen as well.
struct Work(tempfile::TempDir);

impl Work {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = "[filter \"lfs\"]\n clean = git-lfs clean -- %f\n smudge = git-lfs smudge -- %f\n process = git-lfs filter-process\n required = true\n\
                      [fetch]\n unpackLimit = 1\n";
        std::fs::write(home.path().join(".gitconfig"), config).unwrap();
        Self(home)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Runs git here; `args` are separated by blanks.
    async fn run(&self, args: &str) -> Output {
        let lfs = witnesses().join("git-lfs");
        assert!(lfs.join("git-lfs").exists(), "{} is missing: run scripts/witnesses", lfs.display());
        let mut command = tokio::process::Command::new("git");
        command
            .args(args.split(' '))
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", lfs.display()))
            .env("HOME", self.0.path())
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_LFS_FORCE_PROGRESS", "0"), ("LC_ALL", "C.UTF-8")])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        tokio::time::timeout(Duration::from_mins(2), command.output()).await.expect("git hangs").unwrap()
    }

    /// The same where it has to succeed; what it printed.
    async fn git(&self, args: &str) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "git {args}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The same where it has to fail; what it complained about.
    async fn refused(&self, args: &str) -> String {
        let output = self.run(args).await;
        assert!(!output.status.success(), "git {args} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Every file of a clone, by path.
    fn files(&self, clone: &str) -> BTreeMap<String, Oid> {
        fn collect(root: &Path, at: &Path, found: &mut BTreeMap<String, Oid>) {
            for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != ".git") {
                let path = entry.path();
                if path.is_dir() {
                    collect(root, &path, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, Oid::of(&std::fs::read(&path).unwrap()));
                }
            }
        }
        let (root, mut found) = (self.path(clone), BTreeMap::new());
        collect(&root, &root, &mut found);
        found
    }
}

fn store(hub: &Hub) -> &Store {
    hub.running.state().store()
}

fn put(path: &str, bytes: impl Into<Bytes>) -> Op {
    Op::Put { path: RepoPath::new(path).unwrap(), content: Inline::new(bytes.into()) }
}

async fn create(hub: &Hub, kind: RepoKind, id: &str, visibility: Visibility) -> Repo {
    let attributes =
        (RepoPath::new(".gitattributes").unwrap(), Inline::new(Bytes::from_static(b"*.bin filter=lfs diff=lfs merge=lfs -text\n")));
    let new = NewRepo {
        kind,
        id: id.parse::<RepoId>().unwrap(),
        visibility,
        license: None,
        details: serde_json::Map::new(),
        files: vec![attributes],
        author: Author::user("alice"),
    };
    store(hub).create_repo(new).await.unwrap()
}

async fn commit(hub: &Hub, repo: &Repo, branch: &str, message: &str, ops: Vec<Op>) -> GitOid {
    store(hub).commit(repo, Change::new(branch, Author::user("alice"), message, ops)).await.unwrap().commit
}

async fn weights(hub: &Hub, repo: &Repo, path: &str, bytes: Vec<u8>) -> Op {
    let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
    store(hub).put_blob(blob, stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))])).await.unwrap();
    store(hub).link_blob(repo, blob.oid).await.unwrap();
    Op::PutLfs { path: RepoPath::new(path).unwrap(), oid: blob.oid, size: Some(blob.size) }
}

/// Bytes that zlib cannot make small.
fn noise(count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(|_| random.u8(..)).collect()
}

/// A public model with three commits behind the first: small and large files of Git, folders, names that sort oddly.
async fn with_history(hub: &Hub) -> Repo {
    let repo = create(hub, RepoKind::Model, "alice/m", Visibility::Public).await;
    commit(hub, &repo, "main", "one", vec![put("config.json", "{}"), put("a/b/ü #1.txt", "nested"), put("a.txt", "a"), put("empty", "")])
        .await;
    // Long enough to lie in the folder of blobs.
    let content = store(hub).staging().put(Bytes::from(noise(3_000_000))).await.unwrap();
    let vocabulary = Op::Put { path: RepoPath::new("vocab.txt").unwrap(), content };
    commit(hub, &repo, "main", "two\n\nwith more to say", vec![vocabulary, put("a/b/c/d", "deep")]).await;
    commit(hub, &repo, "main", "three", vec![put("config.json", "{\"a\":1}"), Op::DeleteFile { path: RepoPath::new("a.txt").unwrap() }])
        .await;
    repo
}

async fn head(hub: &Hub, repo: &Repo) -> String {
    store(hub).resolve(repo, "main").await.unwrap().to_string()
}

/// How many objects arrived at a clone, those that came twice counted twice.
async fn arrived(work: &Work, clone: &str) -> usize {
    let counted = work.git(&format!("-C {clone} count-objects -v")).await;
    counted.lines().find_map(|line| line.strip_prefix("in-pack: ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_have_the_whole_history_in_every_version() {
    let hub = hub().await;
    let repo = with_history(&hub).await;
    for version in VERSIONS {
        let work = Work::new();
        for (url, clone) in [(hub.url("/alice/m"), "plain"), (hub.url("/alice/m.git"), "dotted")] {
            work.git(&format!("-c protocol.version={version} clone -q {url} {clone}")).await;
            assert_eq!(work.git(&format!("-C {clone} fsck --strict --full")).await, "");
            assert_eq!(work.git(&format!("-C {clone} rev-parse HEAD")).await, head(&hub, &repo).await);
            assert_eq!(work.git(&format!("-C {clone} log --format=%s")).await, "three\ntwo\none\ninitial commit");
            assert_eq!(work.git(&format!("-C {clone} branch --show-current")).await, "main");
            let files = work.files(clone);
            assert_eq!(
                files.keys().map(String::as_str).collect::<Vec<_>>(),
                [".gitattributes", "a/b/c/d", "a/b/ü #1.txt", "config.json", "empty", "vocab.txt"]
            );
            assert_eq!(files["vocab.txt"], Oid::of(&noise(3_000_000)));
            assert_eq!(files["config.json"], Oid::of(b"{\"a\":1}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_fetches_bring_only_what_is_new() {
    for version in VERSIONS {
        let (hub, work) = (hub().await, Work::new());
        let repo = with_history(&hub).await;
        work.git(&format!("-c protocol.version={version} clone -q {} clone", hub.url("/alice/m"))).await;
        let before = arrived(&work, "clone").await;
        commit(&hub, &repo, "main", "four", vec![put("a/b/new", "new")]).await;
        work.git(&format!("-C clone -c protocol.version={version} fetch -q")).await;
        // A commit, the root, two folders on the way, and the file.
        assert_eq!(arrived(&work, "clone").await - before, 5, "version {version}");
        assert_eq!(work.git("-C clone rev-parse origin/main").await, head(&hub, &repo).await);
        // Nothing new: nothing comes.
        work.git(&format!("-C clone -c protocol.version={version} fetch -q")).await;
        assert_eq!(arrived(&work, "clone").await - before, 5, "version {version}");
        assert_eq!(work.git("-C clone fsck --strict --full").await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_commits_of_its_own_gets_only_what_is_new() {
    for version in VERSIONS {
        let (hub, work) = (hub().await, Work::new());
        let repo = with_history(&hub).await;
        work.git(&format!("-c protocol.version={version} clone -q {} clone", hub.url("/alice/m"))).await;
        for number in 0..40 {
            work.git(&format!("-C clone -c user.name=a -c user.email=b commit -q --allow-empty -m {number}")).await;
        }
        let before = arrived(&work, "clone").await;
        commit(&hub, &repo, "main", "four", vec![put("config.json", "{}")]).await;
        work.git(&format!("-C clone -c protocol.version={version} fetch -q")).await;
        // A commit, its root, and the file: that it was there once is not looked for.
        assert_eq!(arrived(&work, "clone").await - before, 3, "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_clones_grow_when_they_are_asked_to() {
    let hub = hub().await;
    let repo = with_history(&hub).await;
    for version in VERSIONS {
        let work = Work::new();
        let git = format!("-c protocol.version={version}");
        work.git(&format!("{git} clone -q --depth=1 {} clone", hub.url("/alice/m"))).await;
        assert_eq!(work.git("-C clone log --format=%s").await, "three");
        assert_eq!(work.files("clone")["vocab.txt"], Oid::of(&noise(3_000_000)));
        // A commit, four folders, six files.
        assert_eq!(arrived(&work, "clone").await, 11);
        work.git(&format!("-C clone {git} fetch -q --deepen=1")).await;
        assert_eq!(work.git("-C clone log --format=%s").await, "three\ntwo");
        work.git(&format!("-C clone {git} fetch -q --depth=3")).await;
        assert_eq!(work.git("-C clone log --format=%s").await, "three\ntwo\none");
        work.git(&format!("-C clone {git} fetch -q --depth=2")).await;
        assert_eq!(work.git("-C clone log --format=%s").await, "three\ntwo");
        work.git(&format!("-C clone {git} fetch -q --unshallow")).await;
        assert_eq!(work.git("-C clone rev-list --count HEAD").await, "4");
        assert_eq!(work.git("-C clone fsck --strict --full").await, "");
        assert_eq!(work.git("-C clone rev-parse HEAD").await, head(&hub, &repo).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_can_end_at_a_time_or_a_ref() {
    let (hub, work) = (hub().await, Work::new());
    let repo = create(&hub, RepoKind::Model, "alice/m", Visibility::Public).await;
    for (number, time) in [(1, 2_000_000_000), (2, 2_000_100_000), (3, 2_000_200_000)] {
        let mut change = Change::new("main", Author::user("alice"), &format!("c{number}"), vec![put("n", number.to_string())]);
        change.time = Some(time);
        let commit = store(&hub).commit(&repo, change).await.unwrap().commit;
        store(&hub).create_tag(&repo, &format!("v{number}"), commit, None).await.unwrap();
    }
    for version in VERSIONS {
        let url = hub.url("/alice/m");
        work.git(&format!("-c protocol.version={version} clone -q --shallow-since=2000050000 {url} since{version}")).await;
        assert_eq!(work.git(&format!("-C since{version} log --format=%s")).await, "c3\nc2");
        work.git(&format!("-c protocol.version={version} clone -q --shallow-exclude=v2 {url} without{version}")).await;
        assert_eq!(work.git(&format!("-C without{version} log --format=%s")).await, "c3");
        let said = work.refused(&format!("-c protocol.version={version} clone -q --shallow-since=2100000000 {url} none{version}")).await;
        assert!(said.contains("no commits selected"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_tags_and_commits_are_there() {
    let hub = hub().await;
    let repo = with_history(&hub).await;
    let old = store(&hub).commits(&repo, store(&hub).resolve(&repo, "main").await.unwrap(), 1, 1).await.unwrap()[0].id;
    store(&hub).create_tag(&repo, "v1", old, Some("a note")).await.unwrap();
    store(&hub).create_branch(&repo, "side/line", old, false).await.unwrap();
    commit(&hub, &repo, "side/line", "aside", vec![put("aside", "1")]).await;
    for version in VERSIONS {
        let (work, url) = (Work::new(), hub.url("/alice/m"));
        let git = format!("-c protocol.version={version}");
        work.git(&format!("{git} clone -q --branch side/line {url} branch")).await;
        assert_eq!(work.git("-C branch log --format=%s").await, "aside\ntwo\none\ninitial commit");
        work.git(&format!("{git} clone -q --depth=1 --branch v1 {url} tag")).await;
        assert_eq!(work.git("-C tag rev-parse HEAD").await, old.to_string());
        work.git("init -q commit").await;
        work.git(&format!("-C commit {git} fetch -q --depth=1 {url} {old}")).await;
        assert_eq!(work.git("-C commit rev-parse FETCH_HEAD").await, old.to_string());
        let refs = work.git(&format!("{git} ls-remote --symref {url}")).await;
        assert!(refs.starts_with("ref: refs/heads/main\tHEAD\n"), "{refs}");
        assert!(refs.contains("\trefs/heads/side/line") && refs.ends_with("\trefs/tags/v1"), "{refs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modelscope_clients_see_their_names() {
    let (hub, work) = (hub().await, Work::new());
    with_history(&hub).await;
    let data = create(&hub, RepoKind::Dataset, "alice/d", Visibility::Public).await;
    commit(&hub, &data, "main", "rows", vec![put("rows.csv", "1,2\n")]).await;
    let url = |path: &str| format!("{}{path}", hub.running.ms_url().unwrap());
    for (path, clone, subject) in
        [("/alice/m.git", "m", "three"), ("/models/alice/m.git", "mm", "three"), ("/datasets/alice/d.git", "d", "rows")]
    {
        work.git(&format!("clone -q {} {clone}", url(path))).await;
        assert_eq!(work.git(&format!("-C {clone} branch --show-current")).await, "master");
        assert_eq!(work.git(&format!("-C {clone} log -1 --format=%s")).await, subject);
    }
    work.git(&format!("-c protocol.version=0 clone -q --branch master {} old", url("/alice/m.git"))).await;
    work.git(&format!("clone -q {} hf", hub.url("/datasets/alice/d"))).await;
    assert_eq!(work.git("-C hf branch --show-current").await, "main");
    assert_eq!(work.files("hf"), work.files("d"));
}

#[tokio::test(flavor = "multi_thread")]
async fn private_repositories_need_a_token() {
    let (hub, work) = (hub().await, Work::new());
    let repo = create(&hub, RepoKind::Model, "team/secret", Visibility::Private).await;
    let op = weights(&hub, &repo, "m.bin", noise(50_000)).await;
    commit(&hub, &repo, "main", "secret", vec![op]).await;
    create(&hub, RepoKind::Model, "alice/own", Visibility::Private).await;
    for origin in [hub.url(""), hub.running.ms_url().unwrap()] {
        let with = |user: &str, path: &str| format!("{}{path}", origin.replace("http://", &format!("http://{user}@")));
        // Who shows no token does not learn which of the two is there.
        for path in ["/team/secret.git", "/team/nothing.git"] {
            let said = work.refused(&format!("clone -q {origin}{path} x")).await;
            assert!(said.contains("could not read Username"), "{said}");
            let said = work.refused(&format!("clone -q {} x", with("alice:wrong", path))).await;
            assert!(said.contains("Authentication failed"), "{said}");
        }
        let said = work.refused(&format!("clone -q {} x", with(&format!("alice:{ALICE}"), "/team/nothing.git"))).await;
        assert!(said.contains("not found"), "{said}");
        let said = work.refused(&format!("clone -q {} x", with(&format!("carol:{READER}"), "/alice/own.git"))).await;
        assert!(said.contains("not found"), "{said}");
        // Whatever the user is called: the token says who it is, and LFS objects come by the same right.
        for user in [format!("alice:{ALICE}"), format!("oauth2:{ALICE}"), format!("carol:{READER}")] {
            work.git(&format!("clone -q {} clone", with(&user, "/team/secret.git"))).await;
            assert_eq!(work.files("clone")["m.bin"], Oid::of(&noise(50_000)));
            std::fs::remove_dir_all(work.path("clone")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_a_token_nobody_is_asked_for_one() {
    let (hub, work) = (hub_with(|config| config.users.clear()).await, Work::new());
    let said = work.refused(&format!("clone -q {} x", hub.url("/alice/nothing"))).await;
    assert!(said.contains("no such repository"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_files_arrive() {
    let (hub, work) = (hub().await, Work::new());
    let repo = create(&hub, RepoKind::Dataset, "alice/many", Visibility::Public).await;
    let text = |n: usize| format!("file number {n}\n").repeat(n % 50 + 1);
    commit(&hub, &repo, "main", "many", (0..3000).map(|n| put(&format!("{}/{n}.txt", n % 7), text(n))).collect()).await;
    for version in ["0", "2"] {
        let clone = format!("clone{version}");
        work.git(&format!("-c protocol.version={version} clone -q {} {clone}", hub.url("/datasets/alice/many"))).await;
        let files = work.files(&clone);
        assert_eq!(files.len(), 3001);
        assert!((0..3000).all(|n| files[&format!("{}/{n}.txt", n % 7)] == Oid::of(text(n).as_bytes())));
        assert_eq!(work.git(&format!("-C {clone} fsck --strict --full")).await, "");
    }
    // Each file is asked for by its id, thousands in one request: compressed, or in chunks where it is long for the client.
    for (clone, buffer) in [("zipped", "1m"), ("chunked", "70000")] {
        work.git(&format!("-c http.postBuffer={buffer} clone -q --filter=blob:none {} {clone}", hub.url("/datasets/alice/many"))).await;
        assert_eq!(work.files(clone), work.files("clone2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_can_be_left_out_until_they_are_needed() {
    let (hub, work) = (hub().await, Work::new());
    with_history(&hub).await;
    for version in VERSIONS {
        let url = hub.url("/alice/m");
        let (none, small) = (format!("none{version}"), format!("small{version}"));
        work.git(&format!("-c protocol.version={version} clone -q --bare --filter=blob:none {url} {none}")).await;
        // Four commits and their folders.
        assert_eq!(arrived(&work, &none).await, 4 + 4 + 2 + 3);
        work.git(&format!("-c protocol.version={version} clone -q --bare --filter=blob:limit=1k {url} {small}")).await;
        assert_eq!(work.git(&format!("-C {small} rev-list --objects --missing=print HEAD")).await.matches("\n?").count(), 1);
        let size = work.git(&format!("-C {small} -c protocol.version={version} cat-file -s HEAD:vocab.txt")).await;
        assert_eq!(size, "3000000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lfs_files_arrive_byte_for_byte() {
    for hub in [hub().await, hub_with_cdn().await] {
        let work = Work::new();
        let repo = create(&hub, RepoKind::Model, "alice/w", Visibility::Public).await;
        let sizes = [("a.bin", 1), ("dir/b.bin", 150_000), ("c.bin", 5_000_000)];
        let mut ops = vec![put("README.md", "# w\n")];
        for (path, size) in sizes {
            ops.push(weights(&hub, &repo, path, noise(size)).await);
        }
        // An empty file is its own pointer.
        ops.push(weights(&hub, &repo, "empty.bin", Vec::new()).await);
        commit(&hub, &repo, "main", "weights", ops).await;
        for (url, clone) in [(hub.url("/alice/w"), "hf"), (format!("{}/alice/w.git", hub.running.ms_url().unwrap()), "ms")] {
            work.git(&format!("clone -q {url} {clone}")).await;
            let files = work.files(clone);
            for (path, size) in sizes.into_iter().chain([("empty.bin", 0)]) {
                assert_eq!(files[path], Oid::of(&noise(size)), "{path}");
            }
            assert_eq!(work.git(&format!("-C {clone} lfs fsck")).await, "Git LFS fsck OK");
            assert_eq!(work.git(&format!("-C {clone} status --porcelain")).await, "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_and_tags_are_pushed_to_commits_that_are_there() {
    let (hub, work) = (hub().await, Work::new());
    let repo = with_history(&hub).await;
    let line: Vec<GitOid> = {
        let head = store(&hub).resolve(&repo, "main").await.unwrap();
        store(&hub).commits(&repo, head, 0, 10).await.unwrap().iter().map(|commit| commit.id).collect()
    };
    let at = async |name: &str| store(&hub).resolve(&repo, name).await.ok();
    for (origin, default) in [(hub.url(""), "main"), (hub.running.ms_url().unwrap(), "master")] {
        let url = origin.replace("http://", &format!("http://alice:{ALICE}@"));
        for version in VERSIONS {
            let git = format!("-C clone -c protocol.version={version}");
            work.git(&format!("clone -q {url}/alice/m.git clone")).await;
            let (one, two) = (line[1], line[2]);
            work.git(&format!("{git} push -q origin {one}:refs/heads/side/x {two}:refs/tags/v1")).await;
            assert_eq!((at("side/x").await, at("refs/tags/v1").await), (Some(one), Some(two)));
            // Backwards only by force, which the client decides; away for good.
            let said = work.refused(&format!("{git} push origin {two}:refs/heads/side/x")).await;
            assert!(said.contains("rejected"), "{said}");
            work.git(&format!("{git} push -q --force origin {two}:refs/heads/side/x")).await;
            assert_eq!(at("side/x").await, Some(two));
            let said = work.refused(&format!("{git} push --force-with-lease=side/x:{one} origin {one}:refs/heads/side/x")).await;
            assert!(said.contains("stale"), "{said}");
            work.git(&format!("{git} push -q origin --delete side/x v1")).await;
            assert_eq!((at("side/x").await, at("refs/tags/v1").await), (None, None));
            for (refspec, why) in [
                (format!(":refs/heads/{default}"), "the default branch cannot be deleted"),
                (format!("{one}:refs/other/x"), "only branches and tags"),
            ] {
                let said = work.refused(&format!("{git} push origin {refspec}")).await;
                assert!(said.contains(why) && said.contains("remote rejected"), "{said}");
            }
            std::fs::remove_dir_all(work.path("clone")).unwrap();
        }
        assert_eq!(at("main").await, Some(line[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_commits_are_refused_in_words() {
    let (hub, work) = (hub().await, Work::new());
    let repo = with_history(&hub).await;
    let head = store(&hub).resolve(&repo, "main").await.unwrap();
    for origin in [hub.url(""), hub.running.ms_url().unwrap()] {
        let with = |user: &str| format!("{}/alice/m.git", origin.replace("http://", &format!("http://{user}@")));
        work.git(&format!("clone -q {} clone", with(&format!("alice:{ALICE}")))).await;
        work.git("-C clone -c user.name=a -c user.email=b commit -q --allow-empty -m mine").await;
        let said = work.refused("-C clone push").await;
        assert!(said.contains("but no commits: upload with `hubferry copy`") && said.contains("remote rejected"), "{said}");
        let old = format!("{head}:refs/heads/x");
        let said = work.refused(&format!("-C clone push {} {old}", with(&format!("carol:{READER}")))).await;
        assert!(said.contains("may only read") && said.contains("403"), "{said}");
        let said = work.refused(&format!("-C clone push {origin}/alice/m.git {old}")).await;
        assert!(said.contains("could not read Username"), "{said}");
        std::fs::remove_dir_all(work.path("clone")).unwrap();
    }
    assert_eq!(store(&hub).refs(&repo, "refs/").await.unwrap().len(), 1);
    assert_eq!(hub.get("/alice/m/info/refs").send().await.unwrap().status(), 403);
    assert_eq!(hub.post("/alice/m/git-receive-pack").send().await.unwrap().status(), 401);
    let push = |body: Vec<u8>| hub.post("/alice/m/git-receive-pack").bearer_auth(ALICE).body(body).send();
    let command = |old: &str, new: &str, name: &str| format!("{old} {new} {name}\0report-status");
    let (zero, unknown) = ("0".repeat(40), "9".repeat(40));
    for (body, status, want) in [
        (Vec::new(), 200, ""),
        (b"zzzz".to_vec(), 400, "pkt-lines"),
        (lines(&["create x"]), 400, "names no commit"),
        (lines(&[&command(&zero, &unknown, "refs/heads/x")]), 200, "ng refs/heads/x this repository has no commit"),
        (
            lines(&[&command(&unknown, &head.to_string(), "refs/heads/main")]),
            200,
            "ng refs/heads/main refs/heads/main was changed meanwhile",
        ),
        (lines(&[&command(&zero, &head.to_string(), "refs/heads/../x")]), 200, "not a possible name"),
        (lines(&[&command(&zero, &head.to_string(), "refs/heads/refs/heads/x")]), 200, "not a possible name"),
        ([lines(&[&command(&zero, &head.to_string(), "refs/heads/x")]), b"PACKED".to_vec()].concat(), 400, "no pack"),
    ] {
        let answer = push(body).await.unwrap();
        assert_eq!(answer.status(), status, "{want}");
        let said = answer.text().await.unwrap();
        assert!(said.contains(want), "{said} {want}");
    }
    assert_eq!(store(&hub).refs(&repo, "refs/").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_cannot_be_finished_says_so() {
    let (hub, work) = (hub().await, Work::new());
    with_history(&hub).await;
    let name = Oid::of(&noise(3_000_000)).to_string();
    std::fs::remove_file(hub.folder.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(&name)).unwrap();
    for version in VERSIONS {
        let said = work.refused(&format!("-c protocol.version={version} clone -q {} clone", hub.url("/alice/m"))).await;
        assert!(said.contains("the hub could not read what it stores"), "{said}");
    }
}

/// A request of version 2, from its lines; `|` stands for the separator.
fn lines(texts: &[&str]) -> Vec<u8> {
    let text = texts.iter().map(|text| if *text == "|" { "0001".to_owned() } else { format!("{:04x}{text}", text.len() + 4) });
    (text.collect::<String>() + "0000").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_other_repositories_are_not_given_out() {
    let hub = hub().await;
    let public = with_history(&hub).await;
    let secret = create(&hub, RepoKind::Model, "team/secret", Visibility::Private).await;
    let hidden = commit(&hub, &secret, "main", "hidden", vec![put("dir/key", "a secret")]).await;
    let root = store(&hub).root(hidden).await.unwrap();
    let ask = async |want: GitOid| {
        let body = lines(&["command=fetch", "|", &format!("want {want}"), "done"]);
        let answer = hub.post("/alice/m/git-upload-pack").header("git-protocol", "version=2").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap()
    };
    for id in [hidden, root, GitOid::of(b"a secret"), GitOid::of(b"never stored")] {
        let said = ask(id).await;
        assert!(said.ends_with(format!("not our ref {id}\n").as_bytes()), "{said:?}");
    }
    for id in [store(&hub).resolve(&public, "main").await.unwrap(), GitOid::of(b"deep")] {
        assert!(ask(id).await.windows(4).any(|bytes| bytes == b"PACK"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_and_harms_nothing() {
    let hub = hub().await;
    with_history(&hub).await;
    let want = format!("want {}", GitOid::of(b""));
    for (version, body, status) in [
        ("2", b"zzzz".to_vec(), 400),
        ("2", b"fffffff".to_vec(), 400),
        ("2", b"0003".to_vec(), 400),
        ("2", lines(&["command=push"]), 400),
        ("2", lines(&["command=fetch", "|", "want 1"]), 400),
        ("2", lines(&["command=fetch", "|", &want, "deepen -1"]), 400),
        ("2", lines(&["command=fetch", "|"]), 200),
        ("2", Vec::new(), 200),
        ("0", b"zzzz".to_vec(), 400),
        ("0", lines(&["have 1"]), 400),
        ("0", Vec::new(), 200),
        ("0", b"0000".to_vec(), 200),
        ("2", vec![b'0'; 9 * 1024 * 1024], 413),
    ] {
        let text = String::from_utf8_lossy(&body[..body.len().min(50)]).into_owned();
        let sent =
            hub.post("/alice/m/git-upload-pack").header("git-protocol", format!("version={version}")).body(body).send().await.unwrap();
        assert_eq!(sent.status(), status, "{version} {text}");
    }
    let zipped = hub.post("/alice/m/git-upload-pack").header("content-encoding", "gzip").body("no gzip").send().await.unwrap();
    assert_eq!(zipped.status(), 400);
    assert_eq!(hub.get("/alice/m/info/refs").send().await.unwrap().status(), 403);
    assert_eq!(hub.get("/alice/none/info/refs?service=git-upload-pack").send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn lfs_downloads_answer_each_object() {
    let hub = hub().await;
    let repo = create(&hub, RepoKind::Model, "alice/w", Visibility::Public).await;
    let other = create(&hub, RepoKind::Model, "alice/other", Visibility::Public).await;
    let op = weights(&hub, &repo, "m.bin", noise(5000)).await;
    commit(&hub, &repo, "main", "weights", vec![op]).await;
    weights(&hub, &other, "x.bin", noise(6000)).await;
    let (mine, foreign) = (Oid::of(&noise(5000)), Oid::of(&noise(6000)));
    let objects = [(mine.to_string(), 5000), (mine.to_string(), 5001), (foreign.to_string(), 6000), ("no oid".to_owned(), 1)];
    let objects: Vec<_> = objects.iter().map(|(oid, size)| json!({ "oid": oid, "size": size })).collect();
    let body = json!({ "operation": "download", "objects": objects }).to_string();
    let ms = format!("{}/alice/w.git/info/lfs/objects/batch", hub.running.ms_url().unwrap());
    for url in [hub.url("/alice/w.git/info/lfs/objects/batch"), ms.clone()] {
        let answer = hub.http.post(url).body(body.clone()).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "application/vnd.git-lfs+json"));
        let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let codes: Vec<_> = answer["objects"].as_array().unwrap().iter().map(|object| object["error"]["code"].as_u64()).collect();
        assert_eq!(codes, [None, Some(404), Some(404), Some(422)]);
        let href = answer["objects"][0]["actions"]["download"]["href"].as_str().unwrap();
        assert_eq!(hub.http.get(href).send().await.unwrap().bytes().await.unwrap(), noise(5000));
    }
    let upload = json!({ "operation": "upload", "objects": [] }).to_string();
    assert_eq!(hub.http.post(&ms).body(upload).send().await.unwrap().status(), 403);
    assert_eq!(hub.http.post(&ms).body("[").send().await.unwrap().status(), 400);
    for url in [hub.url("/alice/none.git/info/lfs/objects/batch"), ms.replace("/w.git", "/none.git")] {
        let answer = hub.http.post(url).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers()["lfs-authenticate"].to_str().unwrap().starts_with("Basic "));
    }
}
