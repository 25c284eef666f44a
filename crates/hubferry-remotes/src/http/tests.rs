//! The HTTP middle against a scripted server: secrets, redirects, pauses, ranges and answers that are no answers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::secret::Token;
use tokio::time::Instant;

use super::*;
use crate::testing::{Heard, Reply, Script, Seen, http};

fn credential(script: &Script) -> Credential {
    Credential::new(&script.url("/")).unwrap().bearer(&Token::new("hf_secret").unwrap()).unwrap()
}

fn carries_secret(seen: &Seen) -> bool {
    format!("{seen:?}").contains("hf_secret")
}

async fn read(response: Response, asked: std::ops::Range<u64>, size: Option<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = response.into_stream(asked, size)?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn a_second_origin_never_sees_the_token() {
    let cdn = Script::start(|_| Reply::new(200, "bytes")).await;
    let target = cdn.url("/blob?sig=1").to_string();
    let hub = Script::start(move |seen| match seen.path() {
        "/here" => Reply::to(307, "/there"),
        _ => Reply::to(302, &target),
    })
    .await;
    let credential = credential(&hub);
    http().get(hub.url("/here")).credential(Some(&credential)).header("x-private", "hf_secret").send().await.unwrap();
    http().get(cdn.url("/direct")).credential(Some(&credential)).send().await.unwrap();
    assert!(hub.seen().iter().all(carries_secret), "a redirect inside the origin keeps the token");
    assert_eq!(cdn.seen().len(), 2);
    assert!(!cdn.seen().iter().any(carries_secret));
}

#[tokio::test]
async fn a_token_does_not_come_back_after_a_detour() {
    let hub = Script::start(|_| Reply::new(200, "")).await;
    let home = hub.url("/secret").to_string();
    let other = Script::start(move |_| Reply::to(302, &home)).await;
    let away = other.url("/").to_string();
    let start = Script::start(move |_| Reply::to(302, &away)).await;
    http().get(start.url("/")).credential(Some(&credential(&start))).send().await.unwrap();
    assert!(carries_secret(&start.seen()[0]) && !carries_secret(&other.seen()[0]) && !carries_secret(&hub.seen()[0]));
}

#[tokio::test]
async fn redirects_end_and_uploads_are_not_sent_astray() {
    let loops = Script::start(|_| Reply::to(307, "/again")).await;
    let error = http().get(loops.url("/")).send().await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_eq!(loops.seen().len(), 11);
    let moved = Script::start(|_| Reply::to(301, "/new")).await;
    assert_eq!(http().post(moved.url("/")).json("x").send().await.unwrap_err().kind(), Kind::Invalid);
    let evil = Script::start(|_| Reply::to(302, "file:///etc/passwd")).await;
    assert_eq!(http().get(evil.url("/")).send().await.unwrap_err().kind(), Kind::Invalid);
    let kept = http().get(moved.url("/")).redirects(Redirects::Keep).send().await.unwrap();
    assert_eq!(kept.location(), Some(moved.url("/new")));
}

#[tokio::test]
async fn a_pause_holds_for_everybody_who_talks_to_the_host() {
    let script = Script::start(|seen| match seen.number {
        0 => Reply::new(429, "slow down").header("Retry-After", "1"),
        _ => Reply::new(200, "ok"),
    })
    .await;
    let pool = http();
    let error = pool.get(script.url("/")).send().await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::RateLimited, Retry::After(Duration::from_secs(1))));
    let other = pool.clone().get(script.url("/other")).send().await.unwrap_err();
    assert!(matches!(other.retry(), Retry::After(left) if left < Duration::from_secs(1)), "{other}");
    assert_eq!(script.seen().len(), 1, "the second request is not even sent");
    let (start, heard) = (Instant::now(), Heard::default());
    let ask = || pool.get(script.url("/other")).send();
    retry::retrying(&retry::RetryPolicy::default(), &heard, "asking", ask).await.unwrap();
    assert!(start.elapsed() > Duration::from_millis(800));
    assert_eq!((heard.0.lock().unwrap().len(), script.seen().len()), (1, 2));
}

#[tokio::test]
async fn lost_answers_are_ambiguous_only_where_it_matters() {
    let script = Script::start(|seen| if seen.path() == "/stall" { Reply::new(200, "x").cut(0).stall() } else { Reply::silent() }).await;
    let lost = |request: Request| async move { request.send().await.unwrap_err() };
    let error = lost(http().post(script.url("/")).json("x")).await;
    assert!(error.is_ambiguous() && error.kind() == Kind::Unavailable, "{error}");
    assert!(!lost(http().post(script.url("/")).repeatable(true).json("x")).await.is_ambiguous());
    assert!(!lost(http().get(script.url("/"))).await.is_ambiguous());
    let mut refused = script.url("/");
    refused.set_port(Some(1)).unwrap();
    assert!(!lost(http().post(refused)).await.is_ambiguous(), "what never connected was never sent");
    let stalled = http().get(script.url("/stall")).send().await.unwrap().bytes(10).await.unwrap_err();
    assert_eq!((stalled.kind(), stalled.retry()), (Kind::Unavailable, Retry::Backoff));
}

#[tokio::test]
async fn errors_show_no_query_and_no_secret() {
    let script = Script::start(|_| Reply::new(403, "token hf_secret is bad").header("x-request-id", "r1")).await;
    let request = http().get(script.url("/p?X-Amz-Signature=deadbeef")).credential(Some(&credential(&script)));
    let error = request.send().await.unwrap_err();
    assert!(!error.to_string().contains("hf_secret") && !error.to_string().contains("deadbeef"), "{error}");
    assert!(error.to_string().contains("request_id r1") && error.to_string().contains("token *** is bad"), "{error}");
}

#[tokio::test]
async fn ranges_are_exact_or_refused() {
    let file = b"0123456789";
    let script = Script::start(move |seen| match seen.path() {
        "/part" => Reply::part(seen, file),
        "/whole" => Reply::new(200, file),
        "/wrong" => Reply::new(206, "345").header("Content-Range", "bytes 3-5/10"),
        "/none" => Reply::new(206, "234"),
        "/short" => Reply::new(206, "2").header("Content-Range", "bytes 2-2/10"),
        "/long" => Reply::new(206, "23456").header("Content-Range", "bytes 2-6/10"),
        "/grown" => Reply::new(206, "234").header("Content-Range", "bytes 2-4/11"),
        "/gzip" => Reply::new(200, file).header("Content-Encoding", "gzip"),
        "/cut" => Reply::part(seen, file).cut(1),
        _ => Reply::new(416, ""),
    })
    .await;
    let get = |path: &'static str| {
        let request = http().get(script.url(path)).range(&(2..5));
        async move { read(request.send().await?, 2..5, Some(10)).await }
    };
    assert_eq!(get("/part").await.unwrap(), b"234");
    assert_eq!(get("/whole").await.unwrap(), b"234", "a whole answer is read up to the place");
    for path in ["/wrong", "/none", "/long", "/gzip", "/416"] {
        assert_eq!(get(path).await.unwrap_err().kind(), Kind::Invalid, "{path}");
    }
    assert_eq!(get("/grown").await.unwrap_err().kind(), Kind::Changed);
    for path in ["/short", "/cut"] {
        assert_eq!(get(path).await.unwrap_err().kind(), Kind::Unavailable, "{path}");
    }
}

#[tokio::test]
async fn a_cut_stream_delivers_what_came_before_the_cut() {
    let script =
        Script::start(|seen| if seen.number == 0 { Reply::part(seen, b"0123456789").cut(4) } else { Reply::part(seen, b"0123456789") })
            .await;
    let pool = http();
    let mut got = Vec::new();
    let mut first = pool.get(script.url("/")).range(&(0..10)).send().await.unwrap().into_stream(0..10, Some(10)).unwrap();
    let error = loop {
        match first.next().await.unwrap() {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert_eq!((got.as_slice(), error.kind()), (&b"0123"[..], Kind::Unavailable));
    let rest = pool.get(script.url("/")).range(&(4..10)).send().await.unwrap();
    got.extend(read(rest, 4..10, Some(10)).await.unwrap());
    assert_eq!(got, b"0123456789");
    assert_eq!(pool.wire().received(), 10);
    assert_eq!(pool.wire().requests(), 2);
}

#[tokio::test]
async fn json_is_bounded_and_nothing_else() {
    let huge = format!("[{}1]", "1,".repeat(1 << 20));
    let script = Script::start(move |seen| match seen.path() {
        "/good" => Reply::new(200, "[1]"),
        "/html" => Reply::new(200, "<!DOCTYPE html>\n<title>Login</title>").header("Content-Type", "text/html"),
        "/huge" => Reply::new(200, huge.clone()),
        "/liar" => Reply::new(200, "[1]").header("Content-Length", "99999999999"),
        "/other" => Reply::new(200, "{\"a\":1}"),
        "/half" => Reply::new(200, "[1,2"),
        _ => Reply::new(502, "<html>bad gateway</html>"),
    })
    .await;
    let get = |path: &'static str| {
        let request = http().get(script.url(path));
        async move { request.send().await?.json::<Vec<u64>>().await }
    };
    assert_eq!(get("/good").await.unwrap(), [1]);
    let html = get("/html").await.unwrap_err();
    assert!(html.kind() == Kind::Unavailable && html.to_string().contains("text/html, and begins \"<!DOCTYPE html> <title>"), "{html}");
    for path in ["/huge", "/liar", "/other"] {
        let error = get(path).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    assert_eq!(get("/half").await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(get("/bad").await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn uploads_are_whole_or_broken_off() {
    let script = Script::start(|_| Reply::new(200, "")).await;
    let pool = http();
    let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
    let send = |pieces: Vec<Result<Bytes>>, len| pool.put(script.url("/")).stream(len, stream::iter(pieces).boxed()).send();
    send(vec![piece("ab"), piece("c")], 3).await.unwrap();
    let seen = &script.seen()[0];
    assert_eq!((seen.body.as_slice(), seen.header("content-length"), pool.wire().sent()), (&b"abc"[..], Some("3"), 3));
    send(vec![], 0).await.unwrap();
    let error = send(vec![piece("ab"), piece("c"), Err(Error::new(Kind::Corrupt, "flipped"))], 3).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Corrupt, "flipped"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(script.seen().iter().skip(2).all(|seen| !seen.complete), "a corrupt body never arrives whole");
}

#[tokio::test]
async fn classifiers_speak_before_the_table() {
    let script = Script::start(|_| Reply::new(404, "{\"Code\":7}")).await;
    let classifier: Classifier =
        Arc::new(|refusal| (refusal.json()?["Code"] == 7).then(|| Error::new(Kind::Gated, "closed").hint("open it")));
    let error = http().get(script.url("/")).classify(&classifier).send().await.unwrap_err();
    assert_eq!((error.kind(), error.hint_text()), (Kind::Gated, Some("open it")));
    assert!(error.to_string().contains("status 404"));
}
