//! What the ModelScope face refuses, and how, asked with raw HTTP; and the answers whose exact form clients rely on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hubferry_core::digest::Oid;
use serde_json::{Value, json};

use crate::ms_hub::{ALICE, Ask, BOB, Hub, RITA, Reply, get, send};

const MODEL: &str = "/api/v1/models/alice/m";
const WRITE: &str = "/api/v1/repos/models/alice/m";
const COMMIT: &str = "/api/v1/repos/models/alice/m/commit/master";

/// A hub with the model `alice/m`.
async fn with_model(visibility: u8) -> Hub {
    let hub = Hub::start().await;
    let body = json!({"Path": "alice", "Name": "m", "Visibility": visibility}).to_string();
    assert_eq!(hub.ask(send("POST", "/api/v1/models", Some(ALICE), body.as_bytes())).await.code(), (200, 200));
    hub
}

fn inline(path: &str, text: &str) -> Value {
    json!({"action": "create", "path": path, "type": "normal", "size": text.len(), "sha256": "",
           "content": STANDARD.encode(text), "encoding": "base64"})
}

fn lfs(path: &str, oid: &str, size: usize) -> Value {
    json!({"action": "create", "path": path, "type": "lfs", "size": size, "sha256": oid, "content": "", "encoding": ""})
}

fn delete(path: &str) -> Value {
    json!({"action": "delete", "path": path, "type": "normal", "size": 0, "sha256": "", "content": "", "encoding": ""})
}

async fn commit_as(hub: &Hub, token: Option<&str>, path: &str, actions: &[Value]) -> Reply {
    let body = json!({"commit_message": "test", "actions": actions}).to_string();
    hub.ask(send("POST", path, token, body.as_bytes())).await
}

async fn commit(hub: &Hub, actions: &[Value]) -> Reply {
    commit_as(hub, Some(ALICE), COMMIT, actions).await
}

async fn put(hub: &Hub, token: Option<&str>, content: &[u8], oid: &str, size: usize) -> Reply {
    hub.ask(send("PUT", &format!("{WRITE}/blobs/{oid}/{size}"), token, content)).await
}

/// Uploads an object and commits it.
async fn store_lfs(hub: &Hub, path: &str, content: &[u8]) -> String {
    let oid = Oid::of(content).to_string();
    assert_eq!(put(hub, Some(ALICE), content, &oid, content.len()).await.code(), (200, 200));
    assert_eq!(commit(hub, &[lfs(path, &oid, content.len())]).await.code(), (200, 200));
    oid
}

async fn paths(hub: &Hub, query: &str) -> Vec<String> {
    let files = hub.ask(get(&format!("{MODEL}/repo/files?{query}"), Some(ALICE))).await.json()["Data"]["Files"].take();
    files.as_array().unwrap().iter().map(|file| file["Path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn signing_in_needs_a_token_that_may_write() {
    let hub = Hub::start().await;
    let login = async |token: &str| {
        let body = json!({"AccessToken": token}).to_string();
        hub.ask(send("POST", "/api/v1/login", None, body.as_bytes())).await
    };
    let done = login(ALICE).await;
    assert_eq!((done.code(), &done.json()["Data"]["Username"]), ((200, 200), &json!("alice")));
    let cookie = done.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("m_session_id={ALICE};")) && cookie.contains("HttpOnly"), "{cookie}");
    for wrong in ["ms-wrong", "", RITA] {
        let refused = login(wrong).await;
        assert_eq!((refused.code(), refused.header("set-cookie")), ((400, 10_010_103_009), None), "{wrong}");
    }
    assert_eq!(hub.ask(send("POST", "/api/v1/login", None, b"<html>")).await.status, 400);
}

#[tokio::test]
async fn whoami_reads_the_bearer_token_only() {
    let hub = Hub::start().await;
    let refused = hub.ask(get("/openapi/v1/users/me", Some(ALICE))).await;
    assert_eq!(
        (refused.status, &refused.json()["code"], &refused.json()["success"]),
        (401, &json!("InvalidAuthentication"), &json!(false))
    );
    let bearer = format!("Bearer {RITA}");
    let ask = Ask { headers: &[("Authorization", &bearer), ("X-Request-ID", "abc123")], ..get("/openapi/v1/users/me", None) };
    let me = hub.ask(ask).await;
    assert_eq!((me.status, &me.json()["data"]["username"], &me.json()["request_id"]), (200, &json!("rita"), &json!("abc123")));
    assert_eq!(me.header("x-request-id"), Some("abc123"));
}

#[tokio::test]
async fn writing_needs_a_known_token_and_rights() {
    let hub = with_model(5).await;
    let bodies: [(&str, String); 4] = [
        (COMMIT, json!({"commit_message": "m", "actions": [inline("a", "a")]}).to_string()),
        ("/api/v1/repos/models/alice/m/info/lfs/objects/batch", json!({"operation": "upload", "objects": []}).to_string()),
        ("/api/v1/models/alice/m/repo/tag", json!({"TagName": "v1", "Ref": "master"}).to_string()),
        ("/api/v1/models", json!({"Path": "alice", "Name": "other"}).to_string()),
    ];
    for (path, body) in &bodies {
        for (token, expected) in [(None, 401), (Some("ms-wrong"), 401), (Some(RITA), 403), (Some(BOB), 403)] {
            let reply = hub.ask(send("POST", path, token, body.as_bytes())).await;
            assert_eq!(reply.code(), (expected, u64::from(expected)), "{path} {token:?}");
        }
    }
    let change = json!({"Visibility": 1}).to_string();
    assert_eq!(hub.ask(send("PUT", MODEL, Some(BOB), change.as_bytes())).await.status, 403);
    assert_eq!(hub.ask(send("PUT", MODEL, None, change.as_bytes())).await.status, 401);
    let oid = Oid::of(b"x").to_string();
    assert_eq!(put(&hub, None, b"x", &oid, 1).await.code(), (400, 10_030_000_001));
    assert_eq!(put(&hub, Some("ms-wrong"), b"x", &oid, 1).await.code(), (400, 10_030_000_001));
    assert_eq!(put(&hub, Some(BOB), b"x", &oid, 1).await.code(), (403, 403));
}

#[tokio::test]
async fn a_private_repository_does_not_exist_for_strangers() {
    let hub = with_model(1).await;
    let places = [
        MODEL,
        &format!("{MODEL}/repo/files"),
        &format!("{MODEL}/revisions"),
        &format!("{MODEL}/commits"),
        &format!("{MODEL}/repo?FilePath=README.md"),
        "/models/alice/m/resolve/master/README.md",
    ];
    for path in places {
        for token in [None, Some("ms-wrong"), Some(BOB), Some(RITA)] {
            let reply = hub.ask(get(path, token)).await;
            assert_eq!(reply.code(), (404, 10_010_205_001), "{path} {token:?}");
            assert_eq!(reply.json()["Message"], hub.ask(get("/api/v1/models/alice/none", token)).await.json()["Message"]);
        }
        assert_eq!(hub.ask(get(path, Some(ALICE))).await.status, 200, "{path}");
    }
    assert_eq!(commit_as(&hub, Some(BOB), COMMIT, &[inline("a", "a")]).await.code(), (404, 10_010_205_001));
    let bearer = format!("Bearer {ALICE}");
    let ask = Ask { headers: &[("Authorization", &bearer)], ..get("/openapi/v1/models/alice/m", None) };
    assert_eq!(hub.ask(ask).await.status, 404);
    assert_eq!(hub.ask(Ask { path: MODEL, ..ask }).await.status, 200);
}

#[tokio::test]
async fn internal_repositories_need_any_known_user() {
    let hub = with_model(3).await;
    assert_eq!(hub.ask(get(MODEL, Some(BOB))).await.json()["Data"]["Visibility"], json!(3));
    assert_eq!(hub.ask(get(MODEL, None)).await.status, 404);
}

#[tokio::test]
async fn creating_is_checked() {
    let hub = with_model(5).await;
    let create = async |body: Value| hub.ask(send("POST", "/api/v1/models", Some(ALICE), body.to_string().as_bytes())).await.code();
    assert_eq!(create(json!({"Path": "alice", "Name": "m"})).await, (400, 10_010_101_001));
    assert_eq!(create(json!({"Path": "Alice", "Name": "M"})).await, (400, 10_010_101_001));
    assert_eq!(create(json!({"Path": "alice"})).await.0, 400);
    assert_eq!(create(json!({"Path": "alice", "Name": "../x"})).await.0, 400);
    assert_eq!(create(json!({"Path": "alice", "Name": "n", "Visibility": 2})).await.0, 400);
    assert_eq!(create(json!({"Path": "bob", "Name": "n"})).await.0, 403);
    let form = |name: &str| {
        let part = |key: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n");
        part("Owner", "alice") + &part("Name", name) + &part("Visibility", "5") + "--b--\r\n"
    };
    let headers: &[(&str, &str)] = &[("Content-Type", "multipart/form-data; boundary=b")];
    for expected in [(200, 200), (400, 10_020_101_001)] {
        let body = form("d");
        let ask = Ask { headers, ..send("POST", "/api/v1/datasets", Some(ALICE), body.as_bytes()) };
        assert_eq!(hub.ask(ask).await.code(), expected);
    }
    assert_eq!(hub.ask(send("POST", "/api/v1/datasets", Some(ALICE), b"{}")).await.status, 400);
}

#[tokio::test]
async fn objects_must_be_what_their_address_says() {
    let hub = with_model(5).await;
    let content = vec![7; 200_000];
    let oid = Oid::of(&content).to_string();
    let batch = async |size: usize| {
        let body = json!({"operation": "upload", "objects": [{"oid": oid, "size": size}]}).to_string();
        let reply = hub.ask(send("POST", &format!("{WRITE}/info/lfs/objects/batch"), Some(ALICE), body.as_bytes())).await;
        reply.json()["Data"]["objects"].clone()
    };
    let wanted = batch(content.len()).await;
    let href = format!("{}{WRITE}/blobs/{oid}/{}", hub.url(), content.len());
    assert_eq!(wanted[0]["actions"]["upload"]["href"], json!(href));
    for (body, oid, size) in [
        (&content[1..], &oid, content.len()),
        (&content[1..], &oid, content.len() - 1),
        (&content[..], &oid, content.len() - 1),
        (&content[..], &Oid::of(b"other").to_string(), content.len()),
        (&content[..], &"zz".to_owned(), content.len()),
    ] {
        assert_eq!(put(&hub, Some(ALICE), body, oid, size).await.code().0, 400, "{oid} {size}");
    }
    assert_eq!(commit(&hub, &[lfs("w.bin", &oid, content.len())]).await.code(), (400, 400));
    assert_eq!(batch(content.len()).await.as_array().unwrap().len(), 1);
    assert_eq!(put(&hub, Some(ALICE), &content, &oid, content.len()).await.code(), (200, 200));
    // Known by oid and size: left out. With another size it is another object, and nothing can be committed under it.
    assert_eq!(batch(content.len()).await, json!([]));
    assert_eq!(batch(1).await.as_array().unwrap().len(), 1);
    assert_eq!(commit(&hub, &[lfs("w.bin", &oid, 1)]).await.code(), (400, 400));
    assert_eq!(commit(&hub, &[lfs("w.bin", &oid, content.len())]).await.code(), (200, 200));
}

#[tokio::test]
async fn bad_actions_refuse_the_whole_commit() {
    let hub = with_model(5).await;
    let before = paths(&hub, "Recursive=True").await;
    let wrong_size = json!({"action": "create", "path": "b", "type": "normal", "size": 9, "content": "YQ==", "encoding": "base64"});
    let wrong_hash = json!({"action": "create", "path": "b", "type": "normal", "size": 1, "content": "YQ==", "encoding": "base64",
                            "sha256": Oid::of(b"b").to_string()});
    let not_base64 = json!({"action": "create", "path": "b", "type": "normal", "size": 1, "content": "%%", "encoding": "base64"});
    let unknown = json!({"action": "move", "path": "b"});
    let mut bad = vec![wrong_size, wrong_hash, not_base64, unknown, delete("absent"), inline("README.md/x", "x"), inline("good", "twice")];
    bad.push(lfs("b", &Oid::of(b"never uploaded").to_string(), 14));
    bad.extend(["../x", "/x", "./x", "a//b", "a/../b", ".git/config", "", "a\\b", "a\0b"].map(|path| inline(path, "x")));
    for action in bad {
        let reply = commit(&hub, &[inline("good", "good"), action.clone()]).await;
        assert_eq!(reply.code().0, 400, "{action}");
        assert_eq!(paths(&hub, "Recursive=True").await, before, "{action}");
    }
    let unsafe_path = commit(&hub, &[inline("./x", "x")]).await.json()["Message"].take();
    assert!(unsafe_path.as_str().unwrap().contains("invalid commit action"), "{unsafe_path}");
    for body in ["", "[]", "{}", r#"{"commit_message":"m","actions":[]}"#, "<html>"] {
        assert_eq!(hub.ask(send("POST", COMMIT, Some(ALICE), body.as_bytes())).await.code().0, 400, "{body}");
    }
    let many: Vec<Value> = (0..2001).map(|n| inline(&format!("f{n}"), "x")).collect();
    let reply = commit(&hub, &many).await;
    assert_eq!(reply.code().0, 422);
    assert!(reply.json()["Message"].as_str().unwrap().contains("2001 > 2000"));
    assert_eq!(paths(&hub, "Recursive=True").await, before);
    assert_eq!(commit(&hub, &many[..2000]).await.code(), (200, 200));
}

#[tokio::test]
async fn commits_go_to_branches_only_and_create_overwrites() {
    let hub = with_model(5).await;
    let first = commit(&hub, &[inline("a.txt", "one")]).await.json()["Data"]["oid"].take();
    assert_eq!(commit(&hub, &[inline("a.txt", "two")]).await.code(), (200, 200));
    let tag = json!({"TagName": "v1", "Ref": first}).to_string();
    let tagged = async || hub.ask(send("POST", &format!("{MODEL}/repo/tag"), Some(ALICE), tag.as_bytes())).await.status;
    assert_eq!((tagged().await, tagged().await), (200, 400));
    for not_a_branch in ["v1", first.as_str().unwrap(), "main", "none"] {
        let path = format!("{WRITE}/commit/{not_a_branch}");
        let reply = commit_as(&hub, Some(ALICE), &path, &[inline("a.txt", "three")]).await;
        assert_eq!(reply.code(), (400, 400), "{not_a_branch}");
        assert!(reply.json()["Message"].as_str().unwrap().contains("when you are on a branch"));
    }
    let read = async |revision: &str| hub.ask(get(&format!("{MODEL}/repo?Revision={revision}&FilePath=a.txt"), None)).await.body;
    assert_eq!(
        (read("v1").await, read("master").await, read(first.as_str().unwrap()).await),
        (b"one".into(), b"two".into(), b"one".into())
    );
    // A commit that changes nothing is answered with the head.
    let head = commit(&hub, &[inline("a.txt", "three")]).await.json()["Data"]["oid"].take();
    assert_eq!(commit(&hub, &[inline("a.txt", "three")]).await.json()["Data"]["oid"], head);
    assert_eq!(commit(&hub, &[delete("a.txt")]).await.code(), (200, 200));
    assert_eq!(hub.ask(get(&format!("{MODEL}/repo?FilePath=a.txt"), None)).await.code(), (404, 10_990_101_007));
    let log = hub.ask(get(&format!("{MODEL}/commits?Ref=master&PageSize=2"), None)).await.json();
    assert_eq!((log["TotalCount"].as_u64(), log["Data"]["Commit"].as_array().unwrap().len()), (Some(5), 2));
    let tags = hub.ask(get(&format!("{MODEL}/revisions"), None)).await.json()["Data"]["RevisionMap"].take();
    assert_eq!((&tags["Branches"][0]["Revision"], &tags["Tags"][0]["Revision"]), (&json!("master"), &json!("v1")));
    let early = hub.ask(get(&format!("{MODEL}/revisions?EndTime=1"), None)).await.json()["Data"]["RevisionMap"].take();
    assert_eq!(early["Tags"], json!([]));
}

#[tokio::test]
async fn deletion_routes_answer_no_token() {
    let hub = with_model(5).await;
    for path in [MODEL, "/api/v1/datasets/1", "/api/v1/models/alice/m/file?FilePath=README.md", "/api/v1/datasets/alice/m/repo?FilePath=x"]
    {
        assert_eq!(hub.ask(Ask { method: "DELETE", ..get(path, Some(ALICE)) }).await.code(), (401, 401), "{path}");
    }
    assert_eq!(hub.ask(get(MODEL, None)).await.status, 200);
}

#[tokio::test]
async fn odd_routes_and_revisions_answer_as_the_real_hub() {
    let hub = with_model(5).await;
    for path in
        ["/api/v1/repos/models/alice/m/repo?FilePath=README.md", "/api/v1/repos/models/alice/m/repo/files", "/api/v1/repos/models/alice/m"]
    {
        assert_eq!(hub.ask(get(path, None)).await.code(), (421, 421), "{path}");
    }
    let unknown = hub.ask(get(&format!("{MODEL}/repo/files?Revision=none&Recursive=True"), None)).await;
    assert_eq!((unknown.code(), &unknown.json()["Data"]["Files"]), ((200, 200), &Value::Null));
    for path in ["/api/v1/studios/alice/m", "/nothing", "/api/v1/models/alice/m/oss", "/api/v1/datasets/9999", "/api/v1/models/1"] {
        assert_eq!(hub.ask(get(path, None)).await.code().0, 404, "{path}");
    }
    for path in ["/repo", "/repo?FilePath=", "/repo/files?Root=../x", "/commits?PageSize=x"] {
        assert_eq!(hub.ask(get(&format!("{MODEL}{path}"), None)).await.code().0, 400, "{path}");
    }
    for path in
        ["/repo?FilePath=../../etc/passwd", "/repo?FilePath=absent", "/repo?FilePath=README.md/x", "/repo?FilePath=README.md&Revision=none"]
    {
        assert_eq!(hub.ask(get(&format!("{MODEL}{path}"), None)).await.code().0, 404, "{path}");
    }
    let info = hub.ask(get("/api/v1/repos/internalAccelerationInfo", None)).await.json();
    assert_eq!(info["Data"]["InternalRegionQueryAddress"], json!(""));
}

#[tokio::test]
async fn a_listing_of_a_model_ends_silently_at_the_cap() {
    let hub = with_model(5).await;
    for half in [0, 1] {
        let actions: Vec<Value> = (0..1600).map(|n| inline(&format!("d{half}/f{n:04}"), "x")).collect();
        assert_eq!(commit(&hub, &actions).await.code(), (200, 200));
    }
    assert_eq!(paths(&hub, "Recursive=True").await.len(), 3000);
    assert_eq!(paths(&hub, "Recursive=True&PageNumber=2").await.len(), 3000);
    assert_eq!(paths(&hub, "Recursive=True&Root=d1").await.len(), 1600);
    assert_eq!(paths(&hub, "Recursive=False").await, [".gitattributes", "README.md", "d0", "d1"]);
    assert_eq!(paths(&hub, "Root=/d1/&Recursive=False").await.len(), 1600);
    assert_eq!(paths(&hub, "Root=none&Recursive=True").await.len(), 0);
}

#[tokio::test]
async fn datasets_are_listed_in_pages_also_by_number() {
    let hub = Hub::start().await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"Owner\"\r\n\r\nalice\r\n--b\r\nContent-Disposition: form-data; \
                name=\"Name\"\r\n\r\nd\r\n--b--\r\n";
    let headers: &[(&str, &str)] = &[("Content-Type", "multipart/form-data; boundary=b")];
    let made = hub.ask(Ask { headers, ..send("POST", "/api/v1/datasets", Some(ALICE), form.as_bytes()) }).await.json();
    let number = made["Data"]["Id"].as_i64().unwrap();
    let actions: Vec<Value> = (0..500).map(|n| inline(&format!("f{n:03}"), "x")).collect();
    assert_eq!(commit_as(&hub, Some(ALICE), "/api/v1/repos/datasets/alice/d/commit/master", &actions).await.status, 200);
    let page = async |place: &str, page: usize| {
        let path = format!("/api/v1/datasets/{place}/repo/tree?Revision=master&Recursive=True&Root=/&PageNumber={page}&PageSize=200");
        let files = hub.ask(get(&path, None)).await.json()["Data"]["Files"].take();
        files.as_array().unwrap().iter().map(|file| file["Path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The third page first: nothing is known of where it begins.
    assert_eq!(page(&number.to_string(), 3).await.len(), 103);
    let all = [page("alice/d", 1).await, page("alice/d", 2).await, page("alice/d", 3).await].concat();
    assert_eq!((all.len(), &all[..4]), (503, &[".gitattributes", "README.md", "dataset_infos.json", "f000"].map(str::to_owned)[..]));
    assert!(page("alice/d", 4).await.is_empty());
    let list = async |query: &str| hub.ask(get(&format!("/api/v1/datasets?{query}"), None)).await;
    assert_eq!(list("owner=alice&PageNumber=1").await.json()["TotalCount"], json!(1));
    let past = list("owner=alice&PageNumber=3&PageSize=10").await;
    assert_eq!(past.code(), (400, 400));
    assert!(past.json()["Message"].as_str().unwrap().contains("fromIndex(20) > toIndex(1)"));
}

#[tokio::test]
async fn small_files_come_at_once_and_large_ones_by_a_link_without_credential() {
    let hub = with_model(1).await;
    assert_eq!(commit(&hub, &[inline("a b/ü#.txt", "0123456789")]).await.status, 200);
    let small = format!("{MODEL}/repo?Revision=master&FilePath=a%20b%2F%C3%BC%23.txt");
    let ranged = async |path: &str, token, range: &str| hub.ask(Ask { headers: &[("Range", range)], ..get(path, token) }).await;
    assert_eq!(hub.ask(get(&small, Some(ALICE))).await.body, b"0123456789");
    let web = "/models/alice/m/resolve/master/a%20b/%C3%BC%23.txt";
    let part = ranged(web, Some(ALICE), "bytes=2-4").await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &b"234"[..], Some("bytes 2-4/10")));
    assert_eq!(ranged(web, Some(ALICE), "bytes=10-").await.status, 416);

    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let oid = store_lfs(&hub, "w.bin", &content).await;
    let there = hub.ask(get(&format!("{MODEL}/repo?Revision=master&FilePath=w.bin"), Some(ALICE))).await;
    let link = there.header("location").unwrap();
    assert_eq!(there.status, 302);
    assert!(!link.contains(ALICE), "{link}");
    let path = link.strip_prefix(&hub.url()).unwrap();
    let whole = hub.ask(get(path, None)).await;
    assert_eq!((whole.status, whole.body == content), (200, true));
    assert!(whole.header("x-linked-etag").unwrap().contains(&oid));
    let part = ranged(path, None, "bytes=2999998-").await;
    assert_eq!((part.status, &part.body[..]), (206, &content[2_999_998..]));
    assert_eq!(ranged(path, None, "bytes=3000000-").await.status, 416);
    let forged = path.replace(&oid[4..], &oid[4..].replace(|c: char| c.is_ascii_digit(), "0"));
    assert!(matches!(hub.ask(get(&forged, None)).await.status, 403 | 404), "{forged}");
    let cut = &path[..path.len() - 3];
    assert!(matches!(hub.ask(get(cut, Some(ALICE))).await.status, 400 | 403 | 404), "{cut}");
}

#[tokio::test]
async fn settings_change_only_where_they_are_named() {
    let hub = with_model(5).await;
    let change = json!({"ChineseName": "名", "Visibility": 1, "ProtectedMode": 2, "License": ""}).to_string();
    let changed = hub.ask(send("PUT", MODEL, Some(ALICE), change.as_bytes())).await.json()["Data"].take();
    assert_eq!(
        (&changed["ChineseName"], &changed["Visibility"], &changed["License"]),
        (&json!("名"), &json!(1), &json!("Apache License 2.0"))
    );
    let list = hub.ask(send("PUT", "/api/v1/models/", None, br#"{"Path":"alice", "PageNumber":1, "PageSize": 10}"#)).await;
    assert_eq!(list.json()["Data"]["TotalCount"], json!(0));
    let list = hub.ask(send("PUT", "/api/v1/models/", Some(ALICE), br#"{"Path":"alice", "PageNumber":1, "PageSize": 10}"#)).await;
    assert_eq!(list.json()["Data"]["Models"][0]["Name"], json!("m"));
    let search = hub.ask(send("PUT", "/api/v1/dolphin/models", Some(ALICE), br#"{"Path":"alice"}"#)).await;
    assert_eq!(search.json()["Data"]["Model"]["TotalCount"], json!(0));
    assert_eq!(hub.ask(get("/openapi/v1/models?owner=alice", None)).await.json()["data"]["total_count"], json!(0));
    assert_eq!(hub.ask(get("/openapi/v1/models?page_number=100&page_size=50", None)).await.json()["code"], json!("InputParameterError"));
}
