//! The remote against scripted hubs: listings, links, uploads, commits, and the ways they fail.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::Retry;
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Body, ByteStream, Commit, Op, RepoSpec, Source, Staged, Target, Visibility, Wanted, check_range};
use hubferry_core::transfer::journal::MemoryJournal;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Heard, Reply, Script, Seen, http};

const SHA: &str = "1111111111111111111111111111111111111111";

fn config(script: &Script, token: bool) -> (HfConfig, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let token = token.then(|| Token::new("hf_secret").unwrap());
    (
        HfConfig {
            endpoint: script.url("/"),
            token,
            set_token: "set HF_TOKEN to".into(),
            http: http(),
            reporter: heard.clone(),
            journal: Arc::new(MemoryJournal::default()),
        },
        heard,
    )
}

fn remote(script: &Script, kind: Option<RepoKind>) -> HfRemote {
    HfRemote::new(&config(script, true).0, kind, "o/n".parse().unwrap(), None).unwrap()
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::new(status, "").header("X-Error-Code", code)
}

fn info() -> Reply {
    Reply::json(&json!({"id": "o/n", "sha": SHA, "private": false, "gated": "auto", "cardData": {"license": "mit"}, "siblings": []}))
}

fn large(name: &str, content: &[u8]) -> Value {
    json!({"type": "file", "path": name, "size": content.len(), "oid": GitOid::of(b"pointer"), "lfs": {"oid": Oid::of(content), "size": content.len()}})
}

fn regular(name: &str, content: &[u8]) -> Value {
    json!({"type": "file", "path": name, "size": content.len(), "oid": GitOid::of(content)})
}

async fn read(source: &HfSource, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let at = Revision::new(SHA).unwrap();
    let pieces: Vec<Bytes> = source.read(&at, &path(name), range).await?.try_collect().await?;
    Ok(pieces.concat())
}

/// Any bytes as a body.
struct Memory(Vec<u8>);

#[async_trait]
impl Body for Memory {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        check_range(&range, self.0.len() as u64)?;
        let piece = Bytes::copy_from_slice(&self.0[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
        Ok(stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed())
    }
}

fn wanted(name: &str, content: &[u8]) -> Wanted {
    Wanted { blob: Blob { oid: Oid::of(content), size: content.len() as u64 }, paths: vec![path(name)] }
}

#[tokio::test]
async fn lists_every_page_and_reads_from_the_cdn_without_the_token() {
    let big = b"0123456789".repeat(10);
    let served = big.clone();
    let refuse = Arc::new(AtomicBool::new(false));
    let refused = refuse.clone();
    let cdn = Script::start(
        move |seen| if refused.swap(false, Ordering::Relaxed) { Reply::new(403, "<e/>") } else { Reply::part(seen, &served) },
    )
    .await;
    let link = cdn.url("/blob?X-Amz-Signature=abc").to_string();
    let listed = big.clone();
    let hub = Script::start(move |seen| match seen.path() {
        "/api/models/o/n" => info(),
        "/o/n/resolve/1111111111111111111111111111111111111111/big.bin" => {
            Reply::to(302, &link).header("X-Linked-Etag", &format!("\"{}\"", Oid::of(&listed))).header("X-Linked-Size", "100")
        }
        "/o/n/resolve/1111111111111111111111111111111111111111/a%20b/%C3%BC%23.txt" => Reply::to(307, "/api/resolve-cache/x"),
        "/api/resolve-cache/x" => Reply::part(seen, b"hello").header("ETag", &format!("W/\"{}\"", GitOid::of(b"hello"))),
        _ if seen.target.ends_with("&cursor=2") => Reply::json(&json!([large("big.bin", &listed)])),
        _ => Reply::json(
            &json!([regular("a b/ü#.txt", b"hello"), {"type": "directory", "path": "a b", "oid": "x", "size": 0}, regular("empty", b"")]),
        )
        .header("Link", &format!("<{}&cursor=2>; rel=\"next\"", seen.target)),
    })
    .await;
    let source = remote(&hub, Some(RepoKind::Model)).source();
    let manifest = source.manifest().await.unwrap();
    assert_eq!(manifest.revision.as_str(), SHA);
    assert_eq!(manifest.entries.keys().map(RepoPath::as_str).collect::<Vec<_>>(), ["a b/ü#.txt", "big.bin", "empty"]);
    assert_eq!(hub.asked()[1], format!("GET /api/models/o/n/tree/{SHA}?recursive=true&expand=false"));
    let before = hub.seen().len();
    assert_eq!(read(&source, "empty", 0..0).await.unwrap(), b"");
    assert_eq!(hub.seen().len(), before, "an empty file is not asked for");
    assert_eq!(read(&source, "a b/ü#.txt", 1..4).await.unwrap(), b"ell");
    assert_eq!(read(&source, "big.bin", 5..15).await.unwrap(), big[5..15]);
    let asked = hub.seen().len();
    assert_eq!(read(&source, "big.bin", 90..100).await.unwrap(), big[90..]);
    assert_eq!(hub.seen().len(), asked, "the link is used again");
    refuse.store(true, Ordering::Relaxed);
    let expired = read(&source, "big.bin", 0..1).await.unwrap_err();
    assert_eq!((expired.kind(), expired.retry()), (Kind::Unavailable, Retry::Backoff));
    assert_eq!(read(&source, "big.bin", 0..1).await.unwrap(), b"0");
    assert_eq!(hub.seen().len(), asked + 1, "and asked for again when it is refused");
    assert!(hub.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer hf_secret")));
    assert!(cdn.seen().iter().all(|seen| !format!("{seen:?}").contains("hf_secret")), "the token stays at the hub");
    assert!(read(&source, "big.bin", 0..101).await.is_err());
    let info = source.info().await.unwrap();
    assert_eq!((info.gated, info.license.as_deref(), info.visibility), (true, Some("mit"), Some(Visibility::Public)));
    let link = source.links().unwrap().link(&manifest.revision, &path("big.bin"), Duration::from_mins(5)).await.unwrap();
    assert!(link.starts_with(cdn.url("/blob").as_str()));
}

#[tokio::test]
async fn a_file_that_is_another_now_is_noticed() {
    let hub = Script::start(|seen| match seen.path() {
        "/api/models/o/n" => info(),
        p if p.contains("/tree/") => Reply::json(&json!([regular("a", b"old"), large("b", b"old")])),
        p if p.ends_with("/a") => Reply::new(200, "new").header("ETag", &format!("\"{}\"", GitOid::of(b"new"))),
        _ => Reply::to(302, "http://127.0.0.1:1/x").header("X-Linked-Etag", &Oid::of(b"new").to_string()),
    })
    .await;
    let source = remote(&hub, Some(RepoKind::Model)).source();
    source.manifest().await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(read(&source, name, 0..3).await.unwrap_err().kind(), Kind::Changed, "{name}");
    }
}

type Listing = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[tokio::test]
async fn hostile_listings_are_errors() {
    let twice = json!([regular("a", b""), regular("a", b"")]);
    let listings: Vec<(&str, Listing)> = vec![
        ("unsafe path", Box::new(|_| Reply::json(&json!([regular("../../etc/passwd", b"")])))),
        ("twice", Box::new(move |_| Reply::json(&twice))),
        ("another server", Box::new(|_| Reply::json(&json!([])).header("Link", "<http://evil.example/>; rel=\"next\""))),
        ("had before", Box::new(|seen| Reply::json(&json!([])).header("Link", &format!("<{}>; rel=\"next\"", seen.target)))),
        ("not JSON", Box::new(|_| Reply::new(200, "<html></html>").header("Content-Type", "text/html"))),
        ("larger", Box::new(|_| Reply::new(200, vec![b' '; 2 << 20]))),
        ("what the protocol says", Box::new(|_| Reply::json(&json!([{"type": "file", "path": "x", "size": -1}])))),
        ("middle of its JSON", Box::new(|_| Reply::new(200, "[{\"type\": \"fi"))),
    ];
    for (why, listing) in listings {
        let hub = Script::start(move |seen| if seen.path() == "/api/models/o/n" { info() } else { listing(seen) }).await;
        let error = remote(&hub, Some(RepoKind::Model)).source().manifest().await.unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[tokio::test]
async fn the_kind_is_found_by_asking() {
    let hub = Script::start(|seen| match seen.path() {
        "/api/datasets/o/n" => refusal(403, "GatedRepo"),
        _ => refusal(404, "RepoNotFound"),
    })
    .await;
    let gated = remote(&hub, None).source().manifest().await.unwrap_err();
    assert_eq!(gated.kind(), Kind::Gated);
    assert!(gated.hint_text().unwrap().contains("/datasets/o/n"), "{:?}", gated.hint_text());
    assert_eq!(hub.seen().len(), 3);
    let nowhere = Script::start(|_| refusal(404, "RepoNotFound")).await;
    let error = remote(&nowhere, None).source().manifest().await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("or is private"), "{error}");
    let both = Script::start(|seen| if seen.path().contains("/tree/") { Reply::json(&json!([])) } else { info() }).await;
    let (config, heard) = config(&both, false);
    let source = HfRemote::new(&config, None, "o/n".parse().unwrap(), Some("refs/pr/1".into())).unwrap().source();
    source.manifest().await.unwrap();
    assert!(both.asked().contains(&"GET /api/models/o/n/revision/refs%2Fpr%2F1".to_owned()), "{:?}", both.asked());
    assert!(both.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(matches!(&heard.0.lock().unwrap()[0], Event::Note(note) if note.contains("the model is taken")));
}

#[tokio::test]
async fn a_renamed_repository_is_followed_once() {
    let hub = Script::start(|seen| match seen.path() {
        "/api/models/o/n" => Reply::to(307, "/api/models/new/name"),
        "/api/models/new/name" => Reply::json(&json!({"id": "new/name", "sha": SHA})),
        _ => Reply::json(&json!([])),
    })
    .await;
    remote(&hub, Some(RepoKind::Model)).source().manifest().await.unwrap();
    assert!(hub.asked()[2].starts_with("GET /api/models/new/name/tree/"), "{:?}", hub.asked());
}

/// A hub with an empty repository that takes everything; `w.bin` is a large object.
fn taking(seen: &Seen) -> Reply {
    let base = format!("http://{}", seen.header("host").unwrap());
    match seen.path() {
        "/api/models/o/n/preupload/main" => {
            let mode = |file: &Value| if file["path"].as_str().unwrap() == "w.bin" { "lfs" } else { "regular" };
            let files: Vec<Value> = seen.json()["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| json!({"path": file["path"], "uploadMode": mode(file), "shouldIgnore": true}))
                .collect();
            Reply::json(&json!({"files": files}))
        }
        "/o/n.git/info/lfs/objects/batch" => {
            let objects: Vec<Value> = seen.json()["objects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|object| json!({"oid": object["oid"], "size": object["size"], "actions": {"upload": {"href": format!("{base}/storage")}}}))
                .collect();
            Reply::json(&json!({"objects": objects}))
        }
        "/storage" => Reply::new(200, ""),
        "/api/models/o/n/commit/main" => Reply::json(&json!({"success": true, "commitOid": "2".repeat(40), "commitUrl": "x"})),
        "/api/models/o/n/revision/main" => info(),
        p if p.contains("/tree/") => Reply::json(&json!([])),
        _ => refusal(404, "RepoNotFound"),
    }
}

#[tokio::test]
async fn large_files_go_to_storage_and_small_ones_into_the_one_commit() {
    let hub = Script::start(|seen| taking(seen).header("X-HF-Warning", "quota; you are near your quota")).await;
    let (config, heard) = config(&hub, true);
    let target = HfRemote::new(&config, Some(RepoKind::Model), "o/n".parse().unwrap(), None).unwrap().target().unwrap();
    let head = target.head().await.unwrap().unwrap();
    let files: [(&str, &[u8]); 4] = [("w.bin", b"weights"), ("a.txt", "text ü".as_bytes()), ("picture", b"\x89PNG\0"), ("empty", b"")];
    let all: Vec<Wanted> = files.iter().map(|(name, content)| wanted(name, content)).collect();
    let missing = target.missing(&all).await.unwrap();
    assert_eq!(missing, all.iter().map(|wanted| wanted.blob.oid).collect::<HashSet<_>>(), "an advice to ignore is not followed");
    let asked: Vec<String> =
        hub.seen()[2].json()["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["w.bin", "a.txt", "picture"], "an empty file needs no question");
    let mut ops = vec![Op::Delete { path: path("old") }];
    for (wanted, (_, content)) in all.iter().zip(files) {
        let staged = target.put(wanted, &Memory(content.to_vec())).await.unwrap();
        assert_eq!(staged.inline_len() > 0, wanted.paths[0].as_str() == "a.txt");
        ops.push(Op::Put { path: wanted.paths[0].clone(), staged });
    }
    let change = Commit { parent: Some(head.revision), message: "Copy\n\nmore".into(), ops };
    assert_eq!(target.commit(change).await.unwrap().as_str(), "2".repeat(40));
    let sent: Vec<Vec<u8>> = hub.seen().iter().filter(|seen| seen.path() == "/storage").map(|seen| seen.body.clone()).collect();
    assert_eq!(sent, [b"weights".to_vec(), b"\x89PNG\0".to_vec()], "binary content goes to storage whatever its name");
    let commit = hub.seen().pop().unwrap();
    let lines: Vec<Value> =
        commit.body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["key"].as_str().unwrap()).collect::<Vec<_>>(),
        ["header", "deletedFile", "lfsFile", "file", "lfsFile", "file"]
    );
    assert_eq!(lines[0]["value"]["parentCommit"], SHA);
    assert_eq!(commit.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(heard.0.lock().unwrap().len(), 1, "a warning is passed on once");
}

#[tokio::test]
async fn small_files_beyond_the_budget_are_large_objects() {
    let hub = Script::start(taking).await;
    let target = remote(&hub, Some(RepoKind::Model)).target().unwrap();
    let blob = |n: u8, size: u64| Blob { oid: Oid::of(&[n]), size };
    let mut all: Vec<Wanted> = (0..5).map(|n| Wanted { blob: blob(n, 9_000_000), paths: vec![path(&format!("{n}.json"))] }).collect();
    all.push(Wanted { blob: blob(9, 11_000_000), paths: vec![path("huge.json")] });
    target.missing(&all).await.unwrap();
    let large: Vec<Value> = hub
        .seen()
        .iter()
        .filter(|seen| seen.path().ends_with("/batch"))
        .flat_map(|seen| seen.json()["objects"].as_array().unwrap().clone())
        .collect();
    assert_eq!(large.len(), 3, "three of nine million bytes fit, two and the huge one do not: {large:?}");
    target.missing(&all).await.unwrap();
    assert_eq!(hub.asked().iter().filter(|asked| asked.contains("preupload")).count(), 1, "a mode is asked for once");
}

#[tokio::test]
async fn a_hub_that_insists_on_samples_gets_them() {
    let hub = Script::start(|seen| {
        let files = || seen.json()["files"].as_array().unwrap().clone();
        if seen.path().contains("preupload") && files().iter().any(|file| file["sample"] == "") {
            return Reply::new(400, "{\"error\":\"sample is required\"}");
        }
        taking(seen)
    })
    .await;
    let target = remote(&hub, Some(RepoKind::Model)).target().unwrap();
    let all = [wanted("a.txt", b"text"), wanted("w.bin", b"also text")];
    assert_eq!(target.missing(&all).await.unwrap().len(), 2);
    assert_eq!(target.put(&all[0], &Memory(b"text".to_vec())).await.unwrap().inline_len(), 4);
    assert_eq!(target.put(&all[1], &Memory(b"also text".to_vec())).await.unwrap(), Staged::stored(all[1].blob));
}

#[tokio::test]
async fn a_commit_is_sent_once_and_its_failures_are_told_apart() {
    let change = || {
        let content = Bytes::from_static(b"x");
        let blob = Blob { oid: Oid::of(&content), size: 1 };
        Commit { parent: None, message: "m".into(), ops: vec![Op::Put { path: path("x"), staged: Staged::inline(blob, content) }] }
    };
    let cases: Vec<(Reply, Kind, bool)> = vec![
        (Reply::new(412, "{\"error\":\"A commit has happened since.\"}"), Kind::Conflict, false),
        (Reply::new(400, "{\"error\":\"LFS pointer pointed to a file that does not exist\"}"), Kind::Invalid, false),
        (Reply::new(429, "").header("Retry-After", "5"), Kind::RateLimited, false),
        (Reply::silent(), Kind::Unavailable, true),
        (Reply::new(504, "<html>"), Kind::Unavailable, true),
        (Reply::new(500, ""), Kind::Unavailable, true),
        (Reply::new(200, "{\"success\":true,\"commitOid\":\"abc\"}").cut(9), Kind::Unavailable, true),
        (Reply::json(&json!({"success": true})), Kind::Unavailable, true),
        (Reply::new(200, "<html>"), Kind::Unavailable, true),
        (refusal(404, "RevisionNotFound"), Kind::NotFound, false),
        (Reply::new(403, ""), Kind::Denied, false),
    ];
    for (reply, kind, ambiguous) in cases {
        let shown = format!("{reply:?}");
        let hub = Script::start(move |_| reply.clone()).await;
        let error = remote(&hub, Some(RepoKind::Model)).target().unwrap().commit(change()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_ambiguous()), (kind, ambiguous), "{shown}: {error}");
        assert_eq!(hub.seen().len(), 1, "{shown}");
    }
}

#[tokio::test]
async fn heads_that_are_not_there() {
    let head = |reply: Reply, token: bool| async move {
        let hub = Script::start(move |_| reply.clone()).await;
        let remote = HfRemote::new(&config(&hub, token).0, Some(RepoKind::Model), "o/n".parse().unwrap(), None).unwrap();
        remote.target().unwrap().head().await
    };
    assert_eq!(head(refusal(404, "RepoNotFound"), true).await.unwrap(), None);
    assert_eq!(head(Reply::new(404, "no"), true).await.unwrap(), None);
    assert_eq!(head(refusal(401, "RepoNotFound"), false).await.unwrap_err().kind(), Kind::Unauthenticated);
    assert_eq!(head(Reply::new(401, ""), true).await.unwrap_err().kind(), Kind::Unauthenticated);
    let empty = Reply::json(&json!({"id": "o/n", "sha": null}));
    assert!(head(empty, true).await.unwrap().unwrap().entries.is_empty());
    let hub = Script::start(|seen| if seen.path().contains("/revision/") { refusal(404, "RevisionNotFound") } else { info() }).await;
    let error = remote(&hub, Some(RepoKind::Model)).target().unwrap().head().await.unwrap_err();
    assert!(error.hint_text().unwrap().contains("create the branch"), "{error}");
    let commit = HfRemote::new(&config(&hub, true).0, None, "o/n".parse().unwrap(), Some(SHA.into())).unwrap();
    assert_eq!(commit.target().unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn creating_is_idempotent_and_private_means_private() {
    let spec = RepoSpec::new(Visibility::Private);
    let there = Script::start(|_| info()).await;
    remote(&there, Some(RepoKind::Model)).target().unwrap().create(&spec).await.unwrap();
    assert_eq!(there.asked(), ["GET /api/models/o/n"]);
    let race = Script::start(|seen| {
        if seen.method == "POST" { Reply::new(409, "{\"error\":\"exists\",\"url\":\"x\"}") } else { refusal(404, "RepoNotFound") }
    })
    .await;
    remote(&race, Some(RepoKind::Dataset)).target().unwrap().create(&spec).await.unwrap();
    assert_eq!(race.seen()[1].json(), json!({"name": "n", "organization": "o", "type": "dataset", "visibility": "private"}));
    let busy = Script::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(409, "{\"error\":\"Cannot create repo: another conflicting operation is in progress\"}"),
        _ => refusal(404, "RepoNotFound"),
    })
    .await;
    let error = remote(&busy, None).target().unwrap().create(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Conflict, Retry::Backoff));
    let open = Script::start(|seen| match (seen.method.as_str(), seen.number) {
        ("GET", 0) => refusal(404, "RepoNotFound"),
        ("GET", _) => Reply::json(&json!({"id": "o/n", "private": false})),
        _ => Reply::json(&json!({"url": "x"})),
    })
    .await;
    let error = remote(&open, Some(RepoKind::Model)).target().unwrap().create(&spec).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "a hub that ignores the wish is not written to: {error}");
    assert!(open.asked().contains(&"PUT /api/models/o/n/settings".to_owned()));
}

#[tokio::test]
async fn whoami_reads_name_organisations_and_role() {
    let hub = Script::start(|_| {
        Reply::json(&json!({"type": "user", "name": "ada", "orgs": [{"name": "eng"}], "auth": {"accessToken": {"role": "write"}}}))
    })
    .await;
    let account = config(&hub, true).0.whoami().await.unwrap();
    assert_eq!(
        account,
        Account {
            name: "ada".into(),
            organisations: vec!["eng".into()],
            role: Some("write".into()),
            writes: Some(vec!["ada".into(), "eng".into()])
        }
    );
    let bad = Script::start(|_| Reply::new(401, "").header("X-Error-Message", "Invalid credentials in Authorization header")).await;
    assert_eq!(config(&bad, true).0.whoami().await.unwrap_err().kind(), Kind::Unauthenticated);
}

/// A hub whose file `/o/n/resolve/…/big.bin` lies at a CDN; every question is answered with another link, after a moment.
async fn linked(cdn: &Script, query: &'static str) -> Script {
    let link = cdn.url("/blob").to_string();
    Script::start(move |seen| match seen.path() {
        "/api/models/o/n" => info(),
        path if path.contains("/resolve/") => {
            Reply::to(302, &format!("{link}?n={}{query}", seen.number)).header("X-Linked-Size", "100").delay(Duration::from_millis(50))
        }
        _ => Reply::json(&json!([large("big.bin", &b"0123456789".repeat(10))])),
    })
    .await
}

fn questions(hub: &Script) -> usize {
    hub.asked().iter().filter(|asked| asked.contains("/resolve/")).count()
}

#[tokio::test]
async fn many_ranges_at_once_ask_for_one_link() {
    let big = b"0123456789".repeat(10);
    let served = big.clone();
    let cdn = Script::start(move |seen| Reply::part(seen, &served)).await;
    let hub = linked(&cdn, "").await;
    let source = remote(&hub, Some(RepoKind::Model)).source();
    source.manifest().await.unwrap();
    for _ in 0..2 {
        let ranges = (0..10).map(|n| read(&source, "big.bin", n * 10..(n + 1) * 10));
        let parts: Vec<Vec<u8>> = futures_util::future::try_join_all(ranges).await.unwrap();
        assert_eq!(parts.concat(), big);
    }
    assert_eq!((questions(&hub), cdn.seen().len()), (1, 20));
    assert_eq!(source.host(), Some(hub.url("/").authority().to_owned()));
}

#[tokio::test]
async fn a_link_near_its_end_is_not_begun_with() {
    let cdn = Script::start(|seen| Reply::part(seen, &b"0123456789".repeat(10))).await;
    // A clock that is wrong must not make a question of every range.
    for (query, questions_for_three) in [("&Expires=4102444800", 1), ("&Expires=1000000000", 1)] {
        let hub = linked(&cdn, query).await;
        let source = remote(&hub, Some(RepoKind::Model)).source();
        for _ in 0..3 {
            read(&source, "big.bin", 0..9).await.unwrap();
        }
        assert_eq!(questions(&hub), questions_for_three, "{query}");
    }
}

#[tokio::test]
async fn links_that_are_refused_as_soon_as_they_are_made_end_the_file() {
    let cdn = Script::start(|_| Reply::new(403, "<Error>quota</Error>")).await;
    let hub = linked(&cdn, "").await;
    let source = remote(&hub, Some(RepoKind::Model)).source();
    let first = read(&source, "big.bin", 0..9).await.unwrap_err();
    assert_eq!((first.kind(), first.retry()), (Kind::Unavailable, Retry::Backoff));
    let second = read(&source, "big.bin", 0..9).await.unwrap_err();
    assert_eq!((second.kind(), second.retry()), (Kind::Unavailable, Retry::No), "{second}");
    assert!(hub.seen().len() + cdn.seen().len() <= 5, "{:?}", hub.asked());
}

#[tokio::test]
async fn small_files_cost_one_request_each() {
    let hub = Script::start(|seen| match seen.path() {
        "/api/models/o/n" => info(),
        path if path.contains("/resolve/") => Reply::part(seen, b"small").delay(Duration::from_millis(20)),
        _ => Reply::json(&Value::Array((0..50).map(|n| regular(&format!("f{n}"), b"small")).collect())),
    })
    .await;
    let source = remote(&hub, Some(RepoKind::Model)).source();
    source.manifest().await.unwrap();
    let before = hub.seen().len();
    for n in 0..50 {
        assert_eq!(read(&source, &format!("f{n}"), 0..5).await.unwrap(), b"small");
    }
    assert_eq!((before, hub.seen().len()), (2, 52));
    let started = tokio::time::Instant::now();
    let ranges = (0..20).map(|n| read(&source, "f0", n % 4..n % 4 + 1));
    futures_util::future::try_join_all(ranges).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(200), "ranges of what has no link do not wait for each other");
}
