//! The remote against a scripted hub that answers as badly as real ones have been seen to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Kind, Result, Retry};
use hubferry_core::events::Silent;
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{ByteStream, Commit, Op, RepoSpec, Source as _, Staged, Target as _, Visibility, Wanted};
use hubferry_core::secret::Token;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Reply, Script, Seen, http};

const TOKEN: &str = "ms-secret";

pub(super) fn config(endpoint: Url) -> MsConfig {
    MsConfig { endpoint, token: Token::new(TOKEN), http: http(), reporter: Arc::new(Silent) }
}

fn remote(script: &Script, kind: Option<RepoKind>, rev: Option<&str>) -> MsRemote {
    MsRemote::new(&config(script.url("")), kind, "o/n".parse().unwrap(), rev.map(str::to_owned)).unwrap()
}

fn source(script: &Script, kind: RepoKind) -> MsSource {
    remote(script, Some(kind), None).source()
}

fn target(script: &Script) -> MsTarget {
    remote(script, Some(RepoKind::Model), None).target()
}

fn ok(data: &Value) -> Reply {
    Reply::json(&json!({"Code": 200, "Success": true, "Message": "success", "RequestId": "r", "Data": data}))
}

fn failed(status: u16, code: &Value, message: &str) -> Reply {
    let body = json!({"Code": code, "Success": false, "Message": message, "RequestId": "r", "Data": null});
    Reply::new(status, body.to_string()).header("Content-Type", "application/json")
}

fn file(path: &str, content: &[u8]) -> Value {
    json!({"Path": path, "Type": "blob", "Size": content.len(), "Sha256": Oid::of(content).to_string(), "IsLFS": false})
}

fn folder(path: &str) -> Value {
    json!({"Path": path, "Type": "tree", "Size": 0, "Sha256": ""})
}

/// A value of the query, decoded.
fn query(seen: &Seen, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://h{}", seen.target)).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn commit(n: usize) -> String {
    format!("{n:040x}")
}

/// Answers everything around a listing: facts, one commit, one branch.
fn around(seen: &Seen) -> Option<Reply> {
    match seen.path() {
        "/api/v1/models/o/n" | "/api/v1/datasets/o/n" => Some(ok(&json!({"Id": 7, "Visibility": 5, "ProtectedMode": 2}))),
        path if path.ends_with("/commits") => Some(ok(&json!({"Commit": [{"Id": commit(1)}], "TotalCount": 1}))),
        path if path.ends_with("/revisions") => Some(ok(&json!({"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": []}}))),
        "/openapi/v1/users/me" => Some(Reply::json(&json!({"success": true, "data": {"username": "o"}}))),
        _ => None,
    }
}

async fn hub(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Script {
    Script::start(move |seen| around(seen).unwrap_or_else(|| answer(seen))).await
}

fn not_found() -> Reply {
    failed(404, &json!(10_010_205_001_i64), "record not found")
}

// ---- listings

#[tokio::test]
async fn a_cut_listing_is_taken_folder_by_folder() {
    // 2 top files, `a` with 2999 files below, `b` with 4000 in two subfolders: the whole and `b` are cut at 3000.
    let many = |folder: &str, n: usize| (0..n).map(|i| file(&format!("{folder}/{i}"), b"x")).collect::<Vec<_>>();
    let script = hub(move |seen| {
        let recursive = query(seen, "Recursive").as_deref() == Some("True");
        let mut rows = match (query(seen, "Root").as_deref(), recursive) {
            (None | Some("b"), true) => many("b/1", 4000),
            (None, false) => vec![file("top", b"t"), file("other", b"o"), folder("a"), folder("b")],
            (Some("a"), true) => many("a", 2999),
            (Some("b"), false) => vec![folder("b/1"), folder("b/2")],
            (Some(half @ ("b/1" | "b/2")), true) => many(half, 2000),
            other => panic!("{other:?}"),
        };
        rows.truncate(3000);
        ok(&json!({"Files": rows}))
    })
    .await;
    let manifest = source(&script, RepoKind::Model).manifest().await.unwrap();
    assert_eq!(manifest.entries.len(), 2 + 2999 + 4000);
    assert_eq!(manifest.revision.as_str(), commit(1));
}

#[tokio::test]
async fn what_cannot_be_listed_completely_is_an_error() {
    let script = hub(|_| ok(&json!({"Files": (0..3000).map(|i| file(&i.to_string(), b"x")).collect::<Vec<_>>()}))).await;
    let error = source(&script, RepoKind::Model).manifest().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_hub_that_ignores_the_folder_is_not_asked_for_ever() {
    let script = hub(|seen| {
        let rows = match query(seen, "Recursive").as_deref() {
            Some("True") => (0..3000).map(|i| file(&format!("a/{i}"), b"x")).collect::<Vec<_>>(),
            _ => vec![folder("a"), folder("b")],
        };
        ok(&json!({"Files": rows}))
    })
    .await;
    assert!(source(&script, RepoKind::Model).manifest().await.is_err());
    assert!(script.seen().len() < 20, "{:?}", script.asked());
}

#[tokio::test]
async fn an_unknown_revision_is_not_an_empty_one() {
    let script = Script::start(|seen| match seen.path() {
        path if path.ends_with("/commits") => not_found(),
        _ => around(seen).unwrap_or_else(|| ok(&json!({"Files": null}))),
    })
    .await;
    let error = remote(&script, Some(RepoKind::Model), Some("v9")).source().manifest().await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.hint_text().unwrap().contains("master"), "{:?}", error.hint_text());
}

#[tokio::test]
async fn a_tag_without_history_has_the_hash_of_its_content_as_revision() {
    let script = Script::start(|seen| match seen.path() {
        path if path.ends_with("/commits") => ok(&json!({"Commit": null})),
        path if path.ends_with("/revisions") => ok(&json!({"RevisionMap": {"Branches": [], "Tags": [{"Revision": "v1"}]}})),
        path if path.ends_with("/repo") => Reply::part(seen, b"tagged"),
        _ => around(seen).unwrap_or_else(|| ok(&json!({"Files": [file("a", b"tagged")]}))),
    })
    .await;
    let source = remote(&script, Some(RepoKind::Model), Some("v1")).source();
    let manifest = source.manifest().await.unwrap();
    assert_eq!(manifest.revision.as_str().len(), 64);
    let bytes: Vec<Bytes> = source.read(&manifest.revision, &RepoPath::new("a").unwrap(), 0..6).await.unwrap().try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"tagged");
    assert_eq!(query(script.seen().last().unwrap(), "Revision").as_deref(), Some("v1"));
}

#[tokio::test]
async fn a_hub_that_lists_by_name_only_is_listed_until_the_branch_stands_still() {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = heads.clone();
    let script = Script::start(move |seen| match seen.path() {
        // The head moves once, while the first listing runs.
        path if path.ends_with("/commits") => {
            let n = count.fetch_add(1, Ordering::Relaxed);
            ok(&json!({"Commit": [{"Id": commit(n.min(1))}]}))
        }
        path if path.ends_with("/files") && query(seen, "Revision").as_deref() == Some("master") => {
            ok(&json!({"Files": [file("a", &[u8::try_from(count.load(Ordering::Relaxed)).unwrap()])]}))
        }
        _ => around(seen).unwrap_or_else(|| ok(&json!({"Files": null}))),
    })
    .await;
    let manifest = source(&script, RepoKind::Model).manifest().await.unwrap();
    assert_eq!(manifest.revision.as_str(), commit(1));
    assert_eq!(heads.load(Ordering::Relaxed), 4, "{:?}", script.asked());
}

#[tokio::test]
async fn dataset_pages_survive_a_spurious_refusal_and_end_past_the_last() {
    let refused = AtomicUsize::new(0);
    let script = hub(move |seen| {
        let page: usize = query(seen, "PageNumber").unwrap().parse().unwrap();
        // This server serves 100 where 200 were asked for.
        match page {
            2 if refused.fetch_add(1, Ordering::Relaxed) == 0 => failed(403, &json!(403), "access denied"),
            1 | 2 => ok(&json!({"Files": (0..100).map(|i| file(&format!("{page}/{i}"), b"x")).collect::<Vec<_>>()})),
            _ => failed(400, &json!(400), "fromIndex(200) > toIndex(200)"),
        }
    })
    .await;
    assert_eq!(source(&script, RepoKind::Dataset).manifest().await.unwrap().entries.len(), 200);
}

#[tokio::test]
async fn a_refusal_of_the_first_page_is_final() {
    let script = hub(|_| failed(403, &json!(403), "access denied")).await;
    assert_eq!(source(&script, RepoKind::Dataset).manifest().await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn pages_that_repeat_never_make_an_endless_or_a_short_listing() {
    let rows = |n: usize| (0..n).map(|i| file(&i.to_string(), b"x")).collect::<Vec<_>>();
    let full = hub(move |_| ok(&json!({"Files": rows(200)}))).await;
    assert_eq!(source(&full, RepoKind::Dataset).manifest().await.unwrap_err().kind(), Kind::Invalid);
    let unpaged = hub(move |_| ok(&json!({"Files": rows(150)}))).await;
    assert_eq!(source(&unpaged, RepoKind::Dataset).manifest().await.unwrap().entries.len(), 150);
    let counted = hub(move |_| ok(&json!({"Files": rows(3), "TotalCount": 3}))).await;
    assert_eq!(source(&counted, RepoKind::Dataset).manifest().await.unwrap().entries.len(), 3);
    assert_eq!(counted.asked().iter().filter(|asked| asked.contains("/repo/tree")).count(), 1);
}

#[tokio::test]
async fn hashes_in_the_wrong_field_and_hostile_paths() {
    let git = GitOid::of(b"g");
    let script = hub(move |_| {
        let mut odd = file("g", b"g");
        odd["Sha256"] = json!(git.to_string());
        odd["Size"] = json!("1");
        ok(&json!({"Files": [odd, file("s", b"s"), folder("d"), {"Path": "sub", "Type": "commit"}]}))
    })
    .await;
    let manifest = source(&script, RepoKind::Model).manifest().await.unwrap();
    assert_eq!(manifest.entries["g"].digests.git, Some(git));
    assert_eq!(manifest.entries["g"].digests.sha256, None);
    assert_eq!(manifest.entries["s"].digests.sha256, Some(Oid::of(b"s")));
    assert_eq!(manifest.entries.len(), 2);
    for bad in [json!([file("../x", b"")]), json!([file("a", b""), file("a", b"")]), json!([{"Path": "a", "Size": -1}]), json!("x")] {
        let script = hub(move |_| ok(&json!({"Files": bad.clone()}))).await;
        assert_eq!(source(&script, RepoKind::Model).manifest().await.unwrap_err().kind(), Kind::Invalid);
    }
}

// ---- facts

#[tokio::test]
async fn the_kind_is_found_by_asking_and_a_model_comes_first() {
    let dataset_only = Script::start(|seen| match seen.path() {
        "/api/v1/datasets/o/n" => ok(&json!({"Visibility": 1, "ProtectedMode": 1, "License": "mit"})),
        "/openapi/v1/users/me" => around(seen).unwrap(),
        _ => not_found(),
    })
    .await;
    let info = remote(&dataset_only, None, None).source().info().await.unwrap();
    assert_eq!((info.kind, info.visibility, info.gated), (Some(RepoKind::Dataset), Some(Visibility::Private), true));
    assert_eq!(info.license.as_deref(), Some("mit"));
    let both = hub(|_| not_found()).await;
    let info = remote(&both, None, None).source().info().await.unwrap();
    assert_eq!((info.kind, info.visibility, info.gated), (Some(RepoKind::Model), Some(Visibility::Public), false));
    let neither = Script::start(|seen| around(seen).filter(|_| seen.path().ends_with("/me")).unwrap_or_else(not_found)).await;
    assert_eq!(remote(&neither, None, None).source().info().await.unwrap_err().kind(), Kind::NotFound);
    assert!(remote(&neither, None, None).target().head().await.unwrap().is_none());
    let space = MsRemote::new(&config(neither.url("")), Some(RepoKind::Space), "o/n".parse().unwrap(), None).unwrap_err();
    assert_eq!(space.kind(), Kind::Unsupported);
}

#[tokio::test]
async fn an_unknown_token_is_told_from_a_missing_repository() {
    let script = Script::start(|seen| match seen.path() {
        "/openapi/v1/users/me" => {
            assert_eq!(seen.header("cookie"), None, "this surface takes the bearer only");
            let body = json!({"success": false, "code": "InvalidAuthentication", "message": "user not authenticated: ms-secret"});
            Reply::new(401, body.to_string())
        }
        _ => not_found(),
    })
    .await;
    let error = remote(&script, None, None).source().manifest().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(!error.to_string().contains(TOKEN), "{error}");
}

// ---- reading

async fn read(source: &MsSource, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let revision = hubferry_core::manifest::Revision::new(commit(1)).unwrap();
    let pieces: Vec<Bytes> = source.read(&revision, &RepoPath::new(path).unwrap(), range).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn the_token_stays_at_home_when_the_cdn_serves() {
    let cdn = Script::start(|seen| Reply::part(seen, b"0123456789")).await;
    let link = cdn.url("/prod/lfs-objects/01/23?auth_key=k").to_string();
    let script =
        hub(
            move |seen| {
                if seen.path().ends_with("/repo") {
                    Reply::to(302, &link)
                } else {
                    ok(&json!({"Files": [file("a b#?.bin", b"0123456789")]}))
                }
            },
        )
        .await;
    let source = source(&script, RepoKind::Model);
    source.manifest().await.unwrap();
    assert_eq!(read(&source, "a b#?.bin", 3..7).await.unwrap(), b"3456");
    let asked = script.seen();
    let asked = asked.last().unwrap();
    assert_eq!(query(asked, "FilePath").as_deref(), Some("a b#?.bin"));
    assert_eq!(asked.header("cookie"), Some("m_session_id=ms-secret"));
    assert_eq!(asked.header("authorization"), Some("Bearer ms-secret"));
    for seen in cdn.seen() {
        assert!(!format!("{seen:?}").contains(TOKEN), "{seen:?}");
        assert_eq!((seen.header("cookie"), seen.header("authorization")), (None, None));
    }
}

#[tokio::test]
async fn an_expired_link_may_be_asked_for_again() {
    let cdn = Script::start(|_| Reply::new(403, "<xml>expired</xml>")).await;
    let link = cdn.url("/x").to_string();
    let script = hub(move |seen| if seen.path().ends_with("/repo") { Reply::to(302, &link) } else { ok(&json!({"Files": []})) }).await;
    let error = read(&source(&script, RepoKind::Model), "a", 0..1).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, Retry::Backoff));
}

#[tokio::test]
async fn ranges_share_a_link_until_it_ends() {
    let refused = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let refuse = refused.clone();
    let cdn = Script::start(move |seen| {
        if refuse.swap(false, Ordering::Relaxed) { Reply::new(410, "<xml>expired</xml>") } else { Reply::part(seen, b"0123456789") }
    })
    .await;
    let link = cdn.url("/x?auth_key=1").to_string();
    let script =
        hub(
            move |seen| {
                if seen.path().ends_with("/repo") { Reply::to(302, &link) } else { ok(&json!({"Files": [file("a", b"0123456789")]})) }
            },
        )
        .await;
    let questions = || script.asked().iter().filter(|asked| asked.contains("/repo?")).count();
    let source = source(&script, RepoKind::Model);
    source.manifest().await.unwrap();
    let parts = futures_util::future::try_join_all((0..10).map(|n| read(&source, "a", n..n + 1))).await.unwrap();
    assert_eq!((parts.concat().as_slice(), questions()), (&b"0123456789"[..], 1));
    refused.store(true, Ordering::Relaxed);
    // Just made, and no longer good: that may pass, and the next try asks again.
    assert_eq!(read(&source, "a", 0..2).await.unwrap_err().retry(), Retry::Backoff);
    assert_eq!(read(&source, "a", 0..2).await.unwrap(), b"01");
    assert_eq!(questions(), 2);
    assert!(cdn.seen().iter().all(|seen| !format!("{seen:?}").contains(TOKEN)));
    assert_eq!(source.host(), Some(script.url("").authority().to_owned()));
}

#[tokio::test]
async fn inline_files_ignore_ranges_and_empty_ones_are_not_asked_for() {
    let script = hub(|seen| {
        if seen.path().ends_with("/repo") {
            Reply::new(200, "{\"a\": 1}").header("Content-Type", "application/json")
        } else {
            ok(&json!({"Files": [file("c.json", b"{\"a\": 1}"), file("empty", b"")]}))
        }
    })
    .await;
    let source = source(&script, RepoKind::Model);
    source.manifest().await.unwrap();
    let path = RepoPath::new("c.json").unwrap();
    assert!(source.is_seekable(&path), "nothing is known yet");
    assert_eq!(read(&source, "c.json", 0..8).await.unwrap(), b"{\"a\": 1}");
    assert!(source.is_seekable(&path), "the whole was asked for");
    assert_eq!(read(&source, "c.json", 5..8).await.unwrap(), b" 1}");
    assert!(!source.is_seekable(&path));
    let before = script.seen().len();
    assert_eq!(read(&source, "empty", 0..0).await.unwrap(), b"");
    assert_eq!(script.seen().len(), before);
    assert_eq!(read(&source, "c.json", 5..9).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn an_error_in_the_place_of_a_file_is_recognised() {
    let code = json!(10_990_101_007_i64);
    for status in [404, 200] {
        let code = code.clone();
        let script = hub(move |seen| {
            if seen.path().ends_with("/repo") {
                failed(status, &code, "获取模型文件失败，文件内容为空")
            } else {
                ok(&json!({"Files": [file("a.json", b"12345")]}))
            }
        })
        .await;
        let source = source(&script, RepoKind::Model);
        source.manifest().await.unwrap();
        assert_eq!(read(&source, "a.json", 0..5).await.unwrap_err().kind(), Kind::NotFound, "{status}");
    }
}

// ---- writing

struct Text(&'static [u8]);

#[async_trait]
impl hubferry_core::remote::Body for Text {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        let bytes = Bytes::from_static(self.0).slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        Ok(stream::iter([Ok(bytes)]).boxed())
    }
}

fn wanted(path: &str, bytes: &[u8]) -> Wanted {
    Wanted { blob: Blob { oid: Oid::of(bytes), size: bytes.len() as u64 }, paths: vec![RepoPath::new(path).unwrap()] }
}

fn upload_object(bytes: &[u8], href: &str) -> Value {
    json!({"oid": Oid::of(bytes).to_string(), "size": bytes.len(), "actions": {"upload": {"href": href, "offset": 0}}})
}

#[tokio::test]
async fn objects_the_hub_does_not_list_are_stored_and_questions_are_small() {
    let script = hub(|seen| {
        let asked = seen.json()["objects"].as_array().unwrap().clone();
        assert!(asked.len() <= 64);
        let reply = asked.iter().filter(|object| object["size"] != 3).map(|object| {
            let mut object = object.clone();
            object["actions"] = json!({"upload": {"href": "/put"}});
            object
        });
        ok(&json!({"objects": reply.collect::<Vec<_>>(), "reused-objects": []}))
    })
    .await;
    let target = target(&script);
    let all: Vec<Wanted> = (0..150).map(|i: u32| wanted(&format!("{i}.bin"), i.to_string().as_bytes())).collect();
    let missing = target.missing(&all).await.unwrap();
    assert_eq!(missing.len(), 100, "numbers with three digits are stored");
    assert_eq!(script.seen().len(), 3);
    // The hub knows the oid with another size: not ours.
    let lying = hub(|seen| {
        let mut object = seen.json()["objects"][0].clone();
        object["size"] = json!(1);
        object["actions"] = json!({"upload": {"href": "/put"}});
        ok(&json!({"objects": [object]}))
    })
    .await;
    assert!(remote(&lying, Some(RepoKind::Model), None).target().missing(&[wanted("a.bin", b"abc")]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_goes_whole_with_our_credential_and_its_answer_is_read() {
    let script = hub(|seen| match seen.method.as_str() {
        "POST" => ok(&json!({"objects": [upload_object(b"weights", "/api/v1/repos/models/o/n/blobs/x/7")]})),
        _ => Reply::new(200, ""),
    })
    .await;
    let staged = target(&script).put(&wanted("a.bin", b"weights"), &Text(b"weights")).await.unwrap();
    assert_eq!(staged, Staged::stored(wanted("a.bin", b"weights").blob));
    let seen = script.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.body.as_slice(), seen.header("content-length")), ("PUT", &b"weights"[..], Some("7")));
    assert_eq!(seen.header("cookie"), Some("m_session_id=ms-secret"));
    for (reply, kind) in [
        (failed(200, &json!(500), "storage full"), Kind::Unavailable),
        (failed(400, &json!(10_030_000_001_i64), "user not logged in"), Kind::Unauthenticated),
        (Reply::new(200, "<html>login</html>"), Kind::Unavailable),
        (Reply::silent(), Kind::Unavailable),
    ] {
        let script = hub(move |seen| match seen.method.as_str() {
            "POST" => ok(&json!({"objects": [upload_object(b"weights", "/blob")]})),
            _ => reply.clone(),
        })
        .await;
        let error = target(&script).put(&wanted("a.bin", b"weights"), &Text(b"weights")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn a_foreign_upload_host_never_sees_the_token() {
    let foreign = Script::start(|_| Reply::new(200, "")).await;
    let href = foreign.url("/blob").to_string();
    let script = hub(move |_| ok(&json!({"objects": [upload_object(b"w", &href)]}))).await;
    let error = target(&script).put(&wanted("a.bin", b"w"), &Text(b"w")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(foreign.seen().is_empty());
    assert!(!error.to_string().contains(TOKEN));
}

fn change(parent: usize, ops: Vec<Op>) -> Commit {
    Commit { parent: Some(hubferry_core::manifest::Revision::new(commit(parent)).unwrap()), message: "m\n\nbody".into(), ops }
}

fn some_ops() -> Vec<Op> {
    let path = |text: &str| RepoPath::new(text).unwrap();
    vec![
        Op::Delete { path: path("old") },
        Op::Delete { path: path(".gitattributes") },
        Op::Put { path: path("w.bin"), staged: Staged::stored(wanted("w.bin", b"w").blob) },
        Op::Put { path: path("t.txt"), staged: Staged::inline(wanted("t.txt", b"text").blob, Bytes::from_static(b"text")) },
    ]
}

/// A hub with one file `old` that answers commits with `reply`.
async fn committing(reply: Reply) -> Script {
    hub(move |seen| match seen.method.as_str() {
        "POST" => reply.clone(),
        _ => ok(&json!({"Files": [file("old", b"old")]})),
    })
    .await
}

#[tokio::test]
async fn a_commit_says_what_the_hub_expects() {
    let script = committing(ok(&json!({"oid": commit(2)}))).await;
    let revision = target(&script).commit(change(1, some_ops())).await.unwrap();
    assert_eq!(revision.as_str(), commit(2));
    let seen = script.seen().pop().unwrap();
    assert_eq!(seen.path(), "/api/v1/repos/models/o/n/commit/master");
    let oid = Oid::of(b"w").to_string();
    assert_eq!(
        seen.json(),
        json!({"commit_message": "m\n\nbody", "actions": [
            {"action": "delete", "path": "old", "type": "normal", "size": 0, "sha256": "", "content": "", "encoding": ""},
            {"action": "create", "path": "w.bin", "type": "lfs", "size": 1, "sha256": oid, "content": "", "encoding": ""},
            {"action": "create", "path": "t.txt", "type": "normal", "size": 4, "sha256": "", "content": "dGV4dA==", "encoding": "base64"},
        ]}),
        "a deletion of what is not there is not sent"
    );
    let unnamed = committing(ok(&json!({}))).await;
    assert_eq!(target(&unnamed).commit(change(1, some_ops())).await.unwrap().as_str(), commit(1), "the head tells");
}

#[tokio::test]
async fn a_moved_head_is_noticed_before_anything_is_sent() {
    let script = committing(ok(&json!({"oid": commit(2)}))).await;
    let error = target(&script).commit(change(9, some_ops())).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Conflict, Retry::No));
    assert!(script.seen().iter().all(|seen| seen.method == "GET"));
    let nothing = target(&script).commit(change(1, vec![Op::Delete { path: RepoPath::new("gone").unwrap() }])).await.unwrap();
    assert_eq!(nothing.as_str(), commit(1), "a commit without a change is not sent");
}

#[tokio::test]
async fn refused_commits_are_read_for_what_they_are() {
    let branch_changed = json!("10030000001");
    let cases = [
        (failed(400, &branch_changed, "branch changed, please retry"), Kind::Conflict, Retry::Backoff, false),
        (failed(200, &branch_changed, "branch changed, please retry"), Kind::Conflict, Retry::Backoff, false),
        (failed(409, &json!(409), "conflict"), Kind::Conflict, Retry::Backoff, false),
        (failed(422, &json!(422), "commit request exceeds actions limit: 3300 > 2000"), Kind::Invalid, Retry::No, false),
        (failed(200, &json!(400), "invalid commit action"), Kind::Invalid, Retry::No, false),
        (failed(403, &json!(403), "no write permission"), Kind::Denied, Retry::No, false),
        (failed(429, &json!(429), "frequency").header("Retry-After", "7"), Kind::RateLimited, Retry::After(secs(7)), false),
        (Reply::new(502, "<html>bad gateway</html>"), Kind::Unavailable, Retry::Backoff, true),
        (Reply::new(200, "<html>odd</html>"), Kind::Unavailable, Retry::Backoff, true),
        (Reply::silent(), Kind::Unavailable, Retry::Backoff, true),
    ];
    for (reply, kind, retry, ambiguous) in cases {
        let script = committing(reply).await;
        let error = target(&script).commit(change(1, some_ops())).await.unwrap_err();
        assert_eq!((error.kind(), error.retry(), error.is_ambiguous()), (kind, retry, ambiguous), "{error}");
    }
}

fn secs(n: u64) -> std::time::Duration {
    std::time::Duration::from_secs(n)
}

#[tokio::test]
async fn creation_speaks_both_forms_and_bears_what_exists() {
    let script = hub(|_| ok(&json!({}))).await;
    let mut spec = RepoSpec::new(Visibility::Private);
    spec.license = Some("mit".into());
    target(&script).create(&spec).await.unwrap();
    assert_eq!(script.seen().pop().unwrap().json(), json!({"Path": "o", "Name": "n", "Visibility": 1, "License": "MIT"}));
    remote(&script, Some(RepoKind::Dataset), None).target().create(&spec).await.unwrap();
    let seen = script.seen().pop().unwrap();
    assert!(seen.header("content-type").unwrap().starts_with("multipart/form-data"), "{seen:?}");
    let body = String::from_utf8(seen.body).unwrap();
    assert!(body.contains("name=\"Owner\"\r\n\r\no\r\n") && body.contains("name=\"Visibility\"\r\n\r\n1\r\n"), "{body}");
    for reply in [
        failed(400, &json!(10_010_101_001_i64), "已存在"),
        failed(200, &json!("10010202004"), "name in use"),
        failed(409, &json!(409), "exists"),
        Reply::silent(),
    ] {
        let exists = hub(move |_| reply.clone()).await;
        target(&exists).create(&spec).await.unwrap();
    }
    let denied = hub(|_| failed(403, &json!(403), "no")).await;
    assert_eq!(target(&denied).create(&spec).await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn nothing_is_written_without_a_token_or_to_a_tag() {
    let script = Script::start(|seen| match seen.path() {
        path if path.ends_with("/revisions") => {
            ok(&json!({"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": [{"Revision": "v1"}]}}))
        }
        _ => around(seen).unwrap_or_else(|| ok(&json!({"Files": []}))),
    })
    .await;
    let anonymous = MsConfig { token: None, ..config(script.url("")) };
    let target = MsRemote::new(&anonymous, None, "o/n".parse().unwrap(), None).unwrap().target();
    assert!(target.head().await.unwrap().is_some(), "looking needs none");
    assert_eq!(target.create(&RepoSpec::new(Visibility::Public)).await.unwrap_err().kind(), Kind::Unauthenticated);
    assert_eq!(target.commit(change(1, some_ops())).await.unwrap_err().kind(), Kind::Unauthenticated);
    let at = |rev| remote(&script, Some(RepoKind::Model), Some(rev)).target();
    assert_eq!(at("v1").head().await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(at("dev").head().await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn small_files_beyond_one_commit_go_through_lfs() {
    let script = hub(|_| ok(&json!({"objects": []}))).await;
    let target = target(&script);
    let small: Vec<Wanted> = (0_u32..200)
        .map(|i| Wanted {
            blob: Blob { oid: Oid::of(&i.to_le_bytes()), size: 60_000 },
            paths: vec![RepoPath::new(format!("{i}.txt")).unwrap()],
        })
        .collect();
    let inline = target.missing(&small).await.unwrap().len();
    assert_eq!(inline, (8 << 20) / 60_000);
    assert_eq!(target.missing(&small).await.unwrap().len(), inline, "asking again decides nothing anew");
}
