//! LFS against a scripted server: whole and in parts, faults, and answers that must not be believed.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use hubferry_core::error::Retry;
use hubferry_core::events::Silent;
use hubferry_core::remote::ByteStream;
use hubferry_core::secret::Token;
use hubferry_core::transfer::journal::MemoryJournal;

use super::*;
use crate::testing::{Reply, Script, Seen, http};

mod resume;

const CONTENT: &[u8] = b"0123456789abcdefghijklmno";

struct Content;

#[async_trait]
impl Body for Content {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        let pieces: Vec<_> = CONTENT[start..end].chunks(4).map(|piece| Ok(Bytes::from_static(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }
}

fn blob() -> Blob {
    Blob { oid: Oid::of(CONTENT), size: CONTENT.len() as u64 }
}

fn lfs(script: &Script) -> Lfs {
    let batch = script.url("/o/n.git/info/lfs/objects/batch");
    Lfs {
        http: http(),
        credential: Some(Credential::new(&batch).unwrap().bearer(&Token::new("hf_secret").unwrap()).unwrap()),
        batch,
        classifier: Arc::new(|_| None),
        branch: Some("main".into()),
        reporter: Arc::new(Silent),
        retry: RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() },
        mirrored: None,
        parallel_parts: 1,
        kept: Kept::default(),
        journal: Arc::new(MemoryJournal::default()),
    }
}

fn answer(object: Value) -> Reply {
    let mut object = object;
    object["oid"] = json!(blob().oid);
    object["size"] = json!(blob().size);
    Reply::json(&json!({"transfer": "basic", "objects": [object]}))
}

fn base(seen: &Seen) -> String {
    format!("http://{}", seen.header("host").unwrap())
}

fn parts_answer(seen: &Seen, upload: usize) -> Reply {
    let base = base(seen);
    let mut header = json!({"chunk_size": "10"});
    for number in [2, 10, 1] {
        header[format!("{number:05}")] = json!(format!("{base}/part/{number}?upload={upload}"));
    }
    answer(json!({"actions": {"upload": {"href": format!("{base}/complete?upload={upload}"), "header": header}}}))
}

#[tokio::test]
async fn one_piece_with_headers_and_verify() {
    let script = Script::start(|seen| match seen.path() {
        "/put" => Reply::new(200, ""),
        "/verify" => Reply::json(&json!({})),
        _ => answer(json!({"actions": {
            "upload": {"href": format!("{}/put?sig=1", base(seen)), "header": {"x-amz-meta": "1", "Host": "evil", "Content-Length": "1"}},
            "verify": {"href": format!("{}/verify", base(seen))},
        }})),
    })
    .await;
    let lfs = lfs(&script);
    assert_eq!(lfs.missing(&[blob()]).await.unwrap(), HashSet::from([blob().oid]));
    lfs.upload(&blob(), &Content).await.unwrap();
    let seen = script.seen();
    assert_eq!(seen.len(), 3, "the actions of the question serve the upload: {:?}", script.asked());
    assert_eq!(seen[0].json()["operation"], "upload");
    assert_eq!(seen[0].json()["ref"], json!({"name": "main"}));
    assert_eq!((seen[1].body.as_slice(), seen[1].header("x-amz-meta")), (CONTENT, Some("1")));
    assert_eq!(seen[1].header("content-length"), Some("25"));
    assert!(seen[1].header("authorization").is_none(), "storage never sees the token");
    assert_eq!(seen[2].header("authorization"), Some("Bearer hf_secret"));
    assert_eq!(seen[2].json(), json!({"oid": blob().oid, "size": 25}));
}

#[tokio::test]
async fn what_is_held_is_not_sent() {
    let script = Script::start(|_| answer(json!({}))).await;
    let lfs = lfs(&script);
    assert!(lfs.missing(&[blob()]).await.unwrap().is_empty());
    lfs.upload(&blob(), &Content).await.unwrap();
    assert!(script.asked().iter().all(|asked| asked.ends_with("/batch")));
}

#[tokio::test]
async fn a_part_that_fails_is_sent_again_alone() {
    let script = Script::start(|seen| match seen.path() {
        "/part/2" if seen.number == 2 => Reply::new(503, "busy"),
        "/part/2" if seen.number == 3 => Reply::silent(),
        path if path.starts_with("/part/") => Reply::new(200, "").header("ETag", &format!("\"tag{}\"", path.rsplit('/').next().unwrap())),
        "/complete" => Reply::json(&json!({})),
        _ => parts_answer(seen, 1),
    })
    .await;
    let lfs = lfs(&script);
    lfs.upload(&blob(), &Content).await.unwrap();
    let seen = script.seen();
    let paths: Vec<&str> = seen.iter().map(Seen::path).collect();
    assert_eq!(paths[1..], ["/part/1", "/part/2", "/part/2", "/part/2", "/part/10", "/complete"]);
    assert_eq!((seen[1].body.as_slice(), seen[5].body.as_slice()), (&b"0123456789"[..], &b"klmno"[..]));
    assert!(seen[1..].iter().all(|seen| seen.header("authorization").is_none()));
    let parts =
        json!([{"partNumber": 1, "etag": "\"tag1\""}, {"partNumber": 2, "etag": "\"tag2\""}, {"partNumber": 3, "etag": "\"tag10\""}]);
    assert_eq!(seen[6].json(), json!({"oid": blob().oid, "parts": parts}));
}

#[tokio::test]
async fn expired_links_are_asked_for_again() {
    for (same_upload, parts_sent) in [(true, 4), (false, 5)] {
        let asked = AtomicUsize::new(0);
        let script = Script::start(move |seen| match seen.path() {
            "/part/2" if asked.load(Ordering::Relaxed) == 1 => Reply::new(403, "<Error>AccessDenied</Error>"),
            path if path.starts_with("/part/") => Reply::new(200, "").header("ETag", "t"),
            "/complete" => Reply::json(&json!({})),
            _ => {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                parts_answer(seen, if same_upload { 7 } else { number })
            }
        })
        .await;
        lfs(&script).upload(&blob(), &Content).await.unwrap();
        assert_eq!(script.asked().iter().filter(|asked| asked.contains("/part/")).count(), parts_sent, "{:?}", script.asked());
    }
    let never = Script::start(|seen| match seen.path() {
        "/put" => Reply::new(403, ""),
        _ => answer(json!({"actions": {"upload": {"href": format!("{}/put", base(seen))}}})),
    })
    .await;
    let error = lfs(&never).upload(&blob(), &Content).await.unwrap_err();
    assert_eq!((error.kind(), never.seen().len()), (Kind::Unavailable, 4), "two questions and two tries");
    assert_eq!(error.retry(), Retry::No, "links that were made just now are refused: more of them will be too");
}

#[tokio::test]
async fn a_corrupt_body_ends_the_upload() {
    struct Lying;
    #[async_trait]
    impl Body for Lying {
        async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
            let good = Content.read(range).await?;
            Ok(good.chain(stream::iter([Err(Error::new(Kind::Corrupt, "flipped").retry_as(Retry::No))])).boxed())
        }
    }
    let script = Script::start(|seen| match seen.path() {
        "/put" => Reply::new(200, ""),
        _ => answer(json!({"actions": {"upload": {"href": format!("{}/put", base(seen))}}})),
    })
    .await;
    assert_eq!(lfs(&script).upload(&blob(), &Lying).await.unwrap_err().kind(), Kind::Corrupt);
    assert!(script.seen().iter().all(|seen| seen.path() != "/put" || !seen.complete));
}

#[test]
fn answers_are_not_believed() {
    let endpoint = Url::parse("https://hub.example/batch").unwrap();
    let read = |object: Value| {
        let mut object = object;
        if object.get("size").is_none() {
            object["size"] = json!(25);
        }
        object["oid"] = json!(blob().oid);
        Answers::read(&json!({"objects": [object]}), &endpoint, None)?.upload(&blob())
    };
    let upload = |upload: Value| read(json!({"actions": {"upload": upload}}));
    let link = "https://s3.example/x";
    assert!(upload(json!({"href": link})).unwrap().is_some());
    for bad in [
        json!({"href": "file:///etc/passwd"}),
        json!({"href": "http://s3.example/x"}),
        json!({"href": "/relative"}),
        json!({"href": 5}),
        json!({"href": link, "header": {"chunk_size": 0, "1": link}}),
        json!({"href": link, "header": {"chunk_size": "x", "1": link}}),
        json!({"href": link, "header": {"chunk_size": 10, "1": link, "2": link}}),
        json!({"href": link, "header": {"chunk_size": 10, "1": link, "2": link, "3": "ftp://x/"}}),
        json!({"href": link, "header": {"chunk_size": 10, "1": link, "2": link, "99999999999999999999999": link}}),
    ] {
        assert_eq!(upload(bad.clone()).unwrap_err().kind(), Kind::Invalid, "{bad}");
    }
    assert_eq!(read(json!({"size": 26})).unwrap_err().kind(), Kind::Invalid);
    for (code, kind) in
        [(403, Kind::Denied), (404, Kind::NotFound), (422, Kind::Invalid), (429, Kind::RateLimited), (507, Kind::Unavailable)]
    {
        let error = read(json!({"error": {"code": code, "message": "why\nnot"}})).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains("why not"), "{error}");
    }
    let none = Answers::read(&json!({"objects": []}), &endpoint, None).unwrap().upload(&blob());
    assert_eq!(none.unwrap_err().kind(), Kind::Invalid);
    assert!(Answers::read(&json!([]), &endpoint, None).is_err());
}

#[test]
fn a_mirror_serves_the_links_of_the_original() {
    let endpoint = Url::parse("http://mirror.example/hf/batch").unwrap();
    let original = Origin::of(&Url::parse("https://huggingface.co").unwrap()).unwrap();
    let mirrored = Some((original, Url::parse("http://mirror.example/hf").unwrap()));
    let read = |href: &str| {
        let object = json!({"oid": blob().oid, "size": 25, "actions": {"upload": {"href": href}}});
        Answers::read(&json!({"objects": [object]}), &endpoint, mirrored.as_ref()).unwrap().upload(&blob()).unwrap().unwrap().upload.url
    };
    assert_eq!(read("https://huggingface.co/api/x?y=1").as_str(), "http://mirror.example/hf/api/x?y=1");
    assert_eq!(read("https://huggingface.co//evil.example/x").host_str(), Some("mirror.example"));
    assert_eq!(read("https://s3.example/x").as_str(), "https://s3.example/x");
}
