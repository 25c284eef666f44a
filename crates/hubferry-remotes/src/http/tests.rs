//! The HTTP middle against a scripted server: secrets, redirects, pauses, ranges and answers that are no answers.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::secret::Token;
use tokio::time::Instant;

use super::*;
use crate::testing::{Heard, Keeping, Reply, Script, Seen, http};

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

fn chunked(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-{}/*\r\n\r\n", body.len() - 1);
    [head.as_bytes(), format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

fn sized(body: &[u8]) -> Vec<u8> {
    let (len, last) = (body.len(), body.len() - 1);
    [format!("HTTP/1.1 206 X\r\nContent-Length: {len}\r\nContent-Range: bytes 0-{last}/{len}\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn a_connection_serves_one_range_after_the_other() {
    let body = vec![7; 300_000];
    let server = Keeping::start(move |seen| if seen.path() == "/chunked" { chunked(&body) } else { sized(&body) }).await;
    let pool = Http::new(HttpConfig::default()).unwrap();
    for path in ["/chunked", "/sized", "/chunked", "/sized"] {
        let response = pool.get(server.url(path)).range(&(0..300_000)).bulk(true).send().await.unwrap();
        let mut stream = response.into_stream(0..300_000, None).unwrap();
        let mut left = 300_000;
        // A consumer that knows the length may stop listening once it has it.
        while left > 0 {
            left -= stream.next().await.unwrap().unwrap().len();
        }
    }
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_range_that_nobody_wants_any_more_ends_its_connection() {
    let answer = sized(&vec![7; 50_000_000]);
    let server = Keeping::start(move |_| answer.clone()).await;
    let pool = Http::new(HttpConfig::default()).unwrap();
    let response = pool.get(server.url("/")).range(&(0..50_000_000)).bulk(true).send().await.unwrap();
    let mut stream = response.into_stream(0..50_000_000, None).unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let closed = async {
        while server.closed.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), closed).await.unwrap();
}

#[tokio::test]
async fn connections_beside_a_silent_one_are_not_trusted() {
    let server = Keeping::start(|seen| if seen.path() == "/silent" { Vec::new() } else { sized(b"abc") }).await;
    let pool = Http::new(HttpConfig::default()).unwrap();
    let get = async |path: &str| pool.get(server.url(path)).bulk(true).send().await?.bytes(10).await;
    let (one, two) = tokio::join!(get("/"), get("/"));
    assert_eq!((&one.unwrap()[..], &two.unwrap()[..]), (&b"abc"[..], &b"abc"[..]));
    for (wait, opened) in [(100, 2), (1200, 3)] {
        assert!(tokio::time::timeout(Duration::from_millis(wait), get("/silent")).await.is_err());
        get("/").await.unwrap();
        assert_eq!(server.opened.load(Ordering::SeqCst), opened, "after {wait} ms of silence");
    }
}

#[tokio::test]
async fn an_upload_that_is_not_taken_ends_after_the_idle_time() {
    // Reads the head and then nothing: the kernel takes what fits into its buffers, and the request looks sent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let held = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop(stream);
    });
    for size in [3_000_000, 100_000_000_u64] {
        let piece = Bytes::from(vec![7; 1 << 20]);
        let body = stream::iter(0..size.div_ceil(1 << 20))
            .map(move |number| Ok(piece.slice(..usize::try_from((size - number * (1 << 20)).min(1 << 20)).unwrap())));
        let started = Instant::now();
        let request = http().put(url.clone()).stream(size, body.boxed()).answer_within(Duration::from_mins(5));
        let error = tokio::time::timeout(Duration::from_secs(10), request.send()).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, Retry::Backoff));
        assert!(started.elapsed() < Duration::from_secs(5), "{size}: {:?}", started.elapsed());
    }
    held.abort();
}

#[tokio::test]
async fn a_server_that_never_speaks_tls_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let pool = Http::new(HttpConfig { connect_timeout: Duration::from_millis(300), ..HttpConfig::default() }).unwrap();
    for bulk in [false, true] {
        let started = Instant::now();
        let error = pool.post(url.clone()).bulk(bulk).json("x").send().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!error.is_ambiguous(), "it was never sent: {error}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn what_has_an_effect_is_not_sent_to_another_server() {
    let other = Script::start(|_| Reply::json(&serde_json::json!({}))).await;
    let away = other.url("/commit").to_string();
    let hub = Script::start(move |seen| if seen.path() == "/here" { Reply::to(307, "/there") } else { Reply::to(307, &away) }).await;
    let error = http().post(hub.url("/here")).json("commit").send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (Kind::Invalid, false), "{error}");
    assert_eq!((hub.seen().len(), other.seen().len()), (2, 0), "a redirect at home is followed");
    http().post(hub.url("/there")).repeatable(true).json("question").send().await.unwrap();
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn a_used_up_account_holds_up_its_own_requests() {
    let script = Script::start(|seen| {
        let (name, left) = match (seen.path(), seen.number) {
            ("/api/x", _) => ("api", 0),
            (_, number) => ("resolvers", 3000 - number),
        };
        Reply::new(200, "").header("RateLimit", &format!("\"{name}\";r={left};t=0"))
    })
    .await;
    let pool = Http::new(HttpConfig { idle_timeout: Duration::from_secs(5), ..HttpConfig::default() }).unwrap();
    pool.get(script.url("/api/x")).send().await.unwrap();
    let started = Instant::now();
    for _ in 0..5 {
        pool.clone().get(script.url("/o/n/resolve/main/x")).send().await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(500), "plenty is left of the other");
    pool.clone().get(script.url("/api/x")).send().await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(700), "the window ends within its last second");
    let impatient = http();
    impatient.get(script.url("/api/x")).send().await.unwrap();
    let error = impatient.get(script.url("/api/x")).send().await.unwrap_err();
    assert!(matches!(error.retry(), Retry::After(_)), "{error}");
}

#[tokio::test]
async fn refusals_for_want_of_an_account_leave_others_alone() {
    let script = Script::start(|seen| match seen.path() {
        "/api/x" => Reply::new(429, "").header("RateLimit", "\"api\";r=0;t=60").header("Retry-After", "61"),
        _ => Reply::new(200, ""),
    })
    .await;
    let pool = http();
    let error = pool.get(script.url("/api/x")).send().await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::RateLimited, Retry::After(Duration::from_secs(61))));
    pool.get(script.url("/o/n/resolve/main/x")).send().await.unwrap();
    assert_eq!(pool.get(script.url("/api/y")).send().await.unwrap_err().kind(), Kind::RateLimited);
    assert_eq!(script.seen().len(), 2, "the third is not even sent");
}

#[tokio::test]
async fn a_refusal_before_the_end_of_the_body_is_heard_at_the_second_try() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    // One request is broken off, the next is refused, and so on; no body is read to its end. What the server has not read when it
    // closes makes the system reset the connection. A thread, so that it strikes while the client writes.
    std::thread::spawn(move || {
        for number in 0.. {
            let Ok((mut stream, _)) = listener.accept() else { return };
            stream.read_exact(&mut [0; 1000]).unwrap();
            if number % 2 == 1 {
                stream.write_all(b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large").unwrap();
            }
        }
    });
    let pool = http();
    for _ in 0..30 {
        let body = || stream::repeat(Bytes::from(vec![0; 64 << 10])).take(256).map(Ok).boxed();
        let put = || pool.put(url.clone()).stream(16 << 20, body()).send();
        assert_eq!(put().await.unwrap_err().retry(), Retry::Backoff);
        let refusal = put().await.unwrap_err();
        assert!(refusal.kind() == Kind::Invalid && refusal.to_string().contains("too large"), "{refusal}");
    }
}
