//! What clients rely on, request by request: headers, status codes, refusals.

use hubferry_core::digest::{GitOid, Oid};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, PART, hub, hub_with, hub_with_cdn};

fn file(path: &str, base64: &str) -> Value {
    json!({ "key": "file", "value": { "path": path, "content": base64, "encoding": "base64" } })
}

fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_cookie_at_another_storage_host_is_refused() {
    let hub = hub_with(|config| config.cdn = Some("127.0.0.2:0".parse().unwrap())).await;
    hub.with_weights(100_000).await;
    let answer = hub.get("/alice/m/resolve/main/m.bin").send().await.unwrap();
    let link = header(&answer, "location");
    assert_eq!(hub.http.get(&link).send().await.unwrap().status(), 200);
    assert_eq!(hub.http.get(&link).header("cookie", "a=b").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_small_file_comes_at_once_with_all_its_metadata() {
    let hub = hub().await;
    hub.create("m").await;
    let answer = hub.commit("alice/m", json!({ "summary": "x" }), &[file("d/a #1.txt", "aGVsbG8K")]).await;
    let body: Value = answer.json().await.unwrap();
    let commit = body["commitOid"].as_str().unwrap().to_owned();
    assert_eq!(body["commitUrl"], hub.url(&format!("/alice/m/commit/{commit}")));
    let path = "/alice/m/resolve/main/d/a%20%231.txt";
    let whole = hub.get(path).send().await.unwrap();
    assert_eq!(whole.status(), 200);
    let etag = format!("\"{}\"", GitOid::of(b"hello\n"));
    for (name, value) in [("etag", etag.as_str()), ("x-repo-commit", &commit), ("content-length", "6"), ("accept-ranges", "bytes")] {
        assert_eq!(header(&whole, name), value, "{name}");
    }
    for name in ["x-request-id", "ratelimit", "ratelimit-policy"] {
        assert!(!header(&whole, name).is_empty(), "{name}");
    }
    assert!(header(&whole, "ratelimit").starts_with("\"resolvers\";r="));
    assert!(header(&whole, "x-xet-hash").is_empty());
    let head = hub.http.head(hub.url(path)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length").as_str()), (200, "6"));
    for (range, status, content, body) in [
        ("bytes=1-2", 206, "bytes 1-2/6", "el"),
        ("bytes=4-", 206, "bytes 4-5/6", "o\n"),
        ("bytes=-2", 206, "bytes 4-5/6", "o\n"),
        ("bytes=6-", 416, "bytes */6", ""),
        ("bytes=0-1,3-4", 200, "", "hello\n"),
    ] {
        let part = hub.get(path).header("range", range).send().await.unwrap();
        assert_eq!((part.status().as_u16(), header(&part, "content-range").as_str()), (status, content), "{range}");
        assert_eq!(header(&part, "x-repo-commit"), commit);
        assert_eq!(part.text().await.unwrap(), body, "{range}");
    }
    let same = hub.get(path).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, etag));
    let changed = hub.get(path).header("range", "bytes=1-2").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(hub.get("/alice/m/raw/main/d/a%20%231.txt").send().await.unwrap().text().await.unwrap(), "hello\n");
}

#[tokio::test]
async fn an_lfs_file_is_a_redirect_with_metadata() {
    let hub = hub_with_cdn().await;
    let bytes = hub.with_weights(100_000).await;
    let oid = Oid::of(&bytes).to_string();
    let answer = hub.get("/alice/m/resolve/main/m.bin").send().await.unwrap();
    assert_eq!(answer.status(), 302);
    for (name, value) in [("x-linked-etag", format!("\"{oid}\"")), ("x-linked-size", "100000".to_owned())] {
        assert_eq!(header(&answer, name), value, "{name}");
    }
    assert_eq!(header(&answer, "x-repo-commit").len(), 40);
    let link = header(&answer, "location");
    assert!(link.starts_with(&hub.running.cdn_url().unwrap()), "{link}");
    let stored = hub.http.get(&link).send().await.unwrap();
    assert!(header(&stored, "x-repo-commit").is_empty() && header(&stored, "x-linked-etag").is_empty());
    assert!(!header(&stored, "etag").contains(&oid));
    assert_eq!(stored.bytes().await.unwrap(), bytes);
    let part = hub.http.get(&link).header("range", "bytes=99990-").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().to_vec()), (206, bytes[99_990..].to_vec()));
    // A token that leaks to the other origin is refused there, and so is a link that was changed.
    assert_eq!(hub.http.get(&link).bearer_auth(ALICE).send().await.unwrap().status(), 400);
    // A cookie is known by host alone, so one of the face's comes along to another port of its host; elsewhere it is a leak.
    assert_eq!(hub.http.get(&link).header("cookie", "a=b").send().await.unwrap().status(), 200);
    let forged = hub.http.get(link.replace("size=100000", "size=1")).send().await.unwrap();
    assert_eq!(forged.status(), 403);
    assert!(forged.text().await.unwrap().contains("<Code>SignatureDoesNotMatch</Code>"));
    let same = hub.get("/alice/m/resolve/main/m.bin").header("if-none-match", format!("\"{oid}\"")).send().await.unwrap();
    assert_eq!(same.status(), 304);
    let raw = hub.get("/alice/m/raw/main/m.bin").send().await.unwrap().text().await.unwrap();
    assert_eq!(raw, format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 100000\n"));
}

#[tokio::test]
async fn errors_carry_their_code() {
    let hub = hub().await;
    hub.create("m").await;
    for (path, token, status, code) in [
        ("/api/models/alice/absent", None, 401, "RepoNotFound"),
        ("/api/models/alice/absent", Some(ALICE), 404, "RepoNotFound"),
        ("/api/datasets/alice/m", Some(ALICE), 404, "RepoNotFound"),
        ("/api/models/gpt2", Some(ALICE), 404, "RepoNotFound"),
        ("/api/models/alice/..%2Fx", Some(ALICE), 404, "RepoNotFound"),
        ("/api/models/alice/m/revision/absent", None, 404, "RevisionNotFound"),
        ("/api/models/alice/m/tree/refs%2Fpr%2F1", None, 404, "RevisionNotFound"),
        ("/api/models/alice/m/tree/main/absent", None, 404, "EntryNotFound"),
        ("/alice/m/resolve/main/absent", None, 404, "EntryNotFound"),
        ("/alice/m/resolve/main/..%2F..%2Fetc%2Fpasswd", None, 404, "EntryNotFound"),
        ("/alice/m/resolve/absent/x", None, 404, "RevisionNotFound"),
        ("/api/nothing", None, 404, ""),
        ("/%ff/x", None, 400, ""),
        ("/api/models/alice/m/xet-write-token/main", Some(ALICE), 404, ""),
    ] {
        let mut request = hub.get(path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "x-error-code").as_str()), (status, code), "{path}");
        assert!(!header(&answer, "x-error-message").is_empty(), "{path}");
        assert!(answer.json::<Value>().await.unwrap()["error"].is_string(), "{path}");
    }
    let absent = hub.get("/alice/m/resolve/main/absent").send().await.unwrap();
    assert_eq!(header(&absent, "x-repo-commit").len(), 40);
    let wrong = hub.get("/api/models/alice/m").bearer_auth("hf_wrong").send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), header(&wrong, "x-error-code").as_str()), (401, ""));
    assert_eq!(header(&wrong, "x-error-message"), "Invalid credentials in Authorization header");
}

#[tokio::test]
async fn renamed_and_miswritten_names_redirect_within_the_hub() {
    let hub = hub().await;
    hub.create("m").await;
    for (path, location) in [
        ("/api/models/ALICE/m?blobs=true", "/api/models/alice/m?blobs=true"),
        ("/Alice/M/resolve/main/a%20b.txt", "/alice/m/resolve/main/a%20b.txt"),
        ("/api/models/alice/M/tree/refs%2Fheads%2Fmain", "/api/models/alice/m/tree/refs%2Fheads%2Fmain"),
    ] {
        let answer = hub.get(path).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "location").as_str()), (307, location));
        assert!(header(&answer, "etag").is_empty());
    }
}

#[tokio::test]
async fn bad_commits_are_refused_whole() {
    let hub = hub().await;
    hub.create("m").await;
    hub.create("other").await;
    let elsewhere = hub.upload("alice/other", b"elsewhere").await;
    let lfs = |oid: &str, size: u64| json!({ "key": "lfsFile", "value": { "path": "m.bin", "algo": "sha256", "oid": oid, "size": size } });
    let good = file("good.txt", "aGk=");
    for (lines, status, text) in [
        (vec![good.clone(), lfs(&Oid::of(b"never").to_string(), 5)], 400, "LFS pointer pointed to a file that does not exist"),
        // Stored in the hub, but not uploaded to this repository.
        (vec![lfs(&elsewhere.to_string(), 9)], 400, "LFS pointer pointed to a file that does not exist"),
        (vec![lfs("abc", 9)], 400, "64 hexadecimal digits"),
        (vec![good.clone(), file("bin", "AAEC")], 400, "binary files"),
        (vec![file("x", "%%%")], 400, "not base64"),
        (vec![file("../x", "aGk=")], 400, "unsafe path"),
        (vec![file("/x", "aGk=")], 400, "unsafe path"),
        (vec![file(".git/config", "aGk=")], 400, "unsafe path"),
        (vec![good.clone(), file("good.txt/below", "aGk=")], 400, "file and a folder"),
        (vec![json!({ "key": "deletedFile", "value": { "path": "absent" } })], 404, "A file with this name doesn't exist"),
        (vec![json!({ "key": "deletedFolder", "value": { "path": "absent/" } })], 404, "A file with this name doesn't exist"),
        (vec![json!({ "key": "unheard", "value": {} })], 400, "line 2"),
        (vec![json!({ "key": "header", "value": { "summary": "again" } })], 400, "two headers"),
    ] {
        let answer = hub.commit("alice/m", json!({ "summary": "x" }), &lines).await;
        assert_eq!(answer.status(), status, "{lines:?}");
        let error = answer.text().await.unwrap();
        assert!(error.contains(text), "{error}");
    }
    let wrong = lfs(&hub.upload("alice/m", b"weights").await.to_string(), 6);
    assert_eq!(hub.commit("alice/m", json!({ "summary": "x" }), &[wrong]).await.status(), 400);
    let headless = hub.post("/api/models/alice/m/commit/main").bearer_auth(ALICE).body(good.to_string()).send().await.unwrap();
    assert_eq!(headless.status(), 400);
    let tree: Value = hub.get("/api/models/alice/m/tree/main").send().await.unwrap().json().await.unwrap();
    assert_eq!(tree.as_array().unwrap().len(), 1);
    // A commit id is no branch.
    let sha = hub.get("/api/models/alice/m").send().await.unwrap().json::<Value>().await.unwrap()["sha"].as_str().unwrap().to_owned();
    let on_sha = hub.post(&format!("/api/models/alice/m/commit/{sha}")).bearer_auth(ALICE).body("{}").send().await.unwrap();
    assert_eq!(on_sha.status(), 400);
}

#[tokio::test]
async fn uploads_must_be_what_they_promise() {
    let hub = hub().await;
    hub.create("m").await;
    let oid = Oid::of(b"weights");
    let ask = json!({ "operation": "upload", "transfers": ["basic", "multipart"], "objects": [{ "oid": oid, "size": 7 }] });
    let answer = hub.batch("alice/m", &ask).await;
    let actions = &answer["objects"][0]["actions"];
    let href = actions["upload"]["href"].as_str().unwrap();
    let verify = actions["verify"]["href"].as_str().unwrap();
    let check = || hub.http.post(verify).bearer_auth(ALICE).json(&json!({ "oid": oid, "size": 7 })).send();
    for (body, code) in [(&b"weighty"[..], "BadDigest"), (b"short", "InvalidRequest"), (b"too long a body", "InvalidRequest")] {
        let put = hub.http.put(href).body(body).send().await.unwrap();
        assert_eq!(put.status(), 400);
        assert!(put.text().await.unwrap().contains(code), "{code}");
    }
    assert_eq!(check().await.unwrap().status(), 404);
    assert_eq!(
        hub.http.put(href.replace(&oid.to_string(), &Oid::of(b"x").to_string())).body("weights").send().await.unwrap().status(),
        403
    );
    assert_eq!(hub.http.put(href).body("weights").send().await.unwrap().status(), 200);
    assert_eq!(check().await.unwrap().status(), 200);
    assert_eq!(hub.http.post(verify).json(&json!({ "oid": oid, "size": 7 })).send().await.unwrap().status(), 401);
    assert!(hub.batch("alice/m", &ask).await["objects"][0]["actions"].is_null());
    // Another repository has to prove that it has the bytes.
    hub.create("other").await;
    assert!(hub.batch("alice/other", &ask).await["objects"][0]["actions"]["upload"].is_object());
    let down = json!({ "operation": "download", "objects": [{ "oid": oid, "size": 7 }, { "oid": Oid::of(b"x"), "size": 1 }, { "oid": "zz", "size": 1 }] });
    let answer = hub.batch("alice/m", &down).await;
    let link = answer["objects"][0]["actions"]["download"]["href"].as_str().unwrap();
    assert_eq!(hub.http.get(link).send().await.unwrap().text().await.unwrap(), "weights");
    assert_eq!((&answer["objects"][1]["error"]["code"], &answer["objects"][2]["error"]["code"]), (&json!(404), &json!(422)));
}

#[tokio::test]
async fn parts_are_checked_one_by_one_and_together() {
    let hub = hub().await;
    hub.create("m").await;
    let bytes: Vec<u8> = (0..PART * 2 + 5).map(|n| (n % 251) as u8).collect();
    let oid = Oid::of(&bytes);
    let ask = json!({ "operation": "upload", "transfers": ["multipart", "basic"], "objects": [{ "oid": oid, "size": bytes.len() }] });
    let answer = hub.batch("alice/m", &ask).await;
    assert_eq!(answer["transfer"], "multipart");
    let upload = &answer["objects"][0]["actions"]["upload"];
    assert_eq!(upload["header"]["chunk_size"], PART.to_string());
    let part = |n: usize| upload["header"][format!("{n:05}")].as_str().unwrap().to_owned();
    let mut tags = Vec::new();
    for (n, piece) in bytes.chunks(usize::try_from(PART).unwrap()).enumerate().rev() {
        let put = hub.http.put(part(n + 1)).body(piece.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), 200);
        tags.insert(0, json!({ "partNumber": n + 1, "etag": header(&put, "etag") }));
    }
    assert_eq!(hub.http.put(part(3)).body("toolong").send().await.unwrap().status(), 400);
    assert_eq!(hub.http.put(part(3)).body(bytes[bytes.len() - 5..].to_vec()).send().await.unwrap().status(), 200);
    let complete = upload["href"].as_str().unwrap();
    let finish = |parts: Value| hub.http.post(complete).json(&json!({ "oid": oid, "parts": parts })).send();
    assert_eq!(finish(json!(tags[..2])).await.unwrap().status(), 400);
    let mut wrong = tags.clone();
    wrong[0]["etag"] = json!("\"other\"");
    assert_eq!(finish(json!(wrong)).await.unwrap().status(), 400);
    assert_eq!(finish(json!(tags)).await.unwrap().status(), 200);
    // The first answer may have been lost.
    assert_eq!(finish(json!(tags)).await.unwrap().status(), 200);
    assert_eq!(hub.http.post(complete.replace("part=", "part=1")).json(&json!({})).send().await.unwrap().status(), 403);
    assert!(hub.batch("alice/m", &ask).await["objects"][0]["actions"].is_null());
}

#[tokio::test]
async fn bodies_and_lists_have_limits() {
    let hub = hub().await;
    hub.create("m").await;
    let paths: Vec<String> = (0..1001).map(|n| format!("paths=f{n}")).collect();
    let form = hub.post("/api/models/alice/m/paths-info/main").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.body(paths.join("&")).send().await.unwrap().status(), 413);
    let json = hub.post("/api/models/alice/m/paths-info/main").json(&json!({ "paths": ["absent", ".gitattributes", "../x"] }));
    assert_eq!(json.send().await.unwrap().json::<Value>().await.unwrap().as_array().unwrap().len(), 1);
    let huge = "x".repeat(9 * 1024 * 1024);
    let answer = hub.post("/api/models/alice/m/preupload/main").bearer_auth(ALICE).body(huge).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let line = json!({ "key": "file", "value": { "path": "x", "content": "A".repeat(16 * 1024 * 1024), "encoding": "utf-8" } });
    assert_eq!(hub.commit("alice/m", json!({ "summary": "x" }), &[line]).await.status(), 413);
    let bad = hub.get("/api/models/alice/m/tree/main?limit=0").send().await.unwrap();
    assert_eq!(bad.status(), 400);
    let denied = hub.post("/api/models/alice/m/preupload/main").bearer_auth(BOB).json(&json!({ "files": [] })).send().await.unwrap();
    assert_eq!(denied.status(), 403);
}
