//! Every other fault does on the wire what its name says, lines have the speed they are given, and what moved is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use hubferry_server::testing::{Crowding, Face, Fault, Interruption, Misplace, Network, Rule, Shape};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Hub, hub, hub_with, hub_with_cdn};

const SIZE: usize = 300_000;

struct Probe {
    hub: Hub,
    bytes: Vec<u8>,
    link: String,
}

impl Probe {
    async fn new() -> Self {
        let hub = hub().await;
        let bytes = hub.with_weights(SIZE).await;
        let link = hub.link().await;
        hub.script.reset();
        Self { hub, bytes, link }
    }

    fn add(&self, fault: Fault) {
        self.hub.script.reset();
        self.hub.script.add(Rule::once(Method::GET, "/-/objects/", fault));
    }

    async fn whole(&self) -> reqwest::Result<Response> {
        self.hub.http.get(&self.link).send().await
    }

    async fn part(&self, range: &str) -> Response {
        self.hub.http.get(&self.link).header(RANGE, range).send().await.unwrap()
    }
}

fn head(answer: &Response, name: impl reqwest::header::AsHeaderName) -> Option<String> {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn answers_end_early_or_late() {
    let probe = Probe::new().await;
    probe.add(Fault::Shorten(1000));
    let answer = probe.whole().await.unwrap();
    assert_eq!(head(&answer, CONTENT_LENGTH), None);
    assert_eq!(answer.bytes().await.unwrap(), probe.bytes[..1000], "it ends as if well");

    probe.add(Fault::Excess(7));
    let answer = probe.part("bytes=5-9").await;
    assert_eq!((answer.status(), head(&answer, CONTENT_RANGE).unwrap()), (StatusCode::PARTIAL_CONTENT, format!("bytes 5-9/{SIZE}")));
    assert_eq!(answer.bytes().await.unwrap().len(), 12);

    for (fault, kind) in [(Fault::Reset(100), Some(std::io::ErrorKind::ConnectionReset)), (Fault::Cut(100), None)] {
        probe.add(fault);
        let (host, path) = probe.link.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).await;
        assert_eq!(ended.err().map(|error| error.kind()), kind);
        let body = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(all[body..], probe.bytes[..100]);
        assert_eq!(probe.hub.script.sent(&Method::GET, "/-/objects/"), all.len() as u64, "counted at the socket");
    }
    probe.add(Fault::Garbage);
    assert!(probe.whole().await.unwrap_err().is_request());
}

#[tokio::test]
async fn ranges_are_ignored_and_misplaced() {
    let probe = Probe::new().await;
    probe.add(Fault::IgnoreRange);
    let answer = probe.part("bytes=5-9").await;
    assert_eq!((answer.status(), answer.bytes().await.unwrap()), (StatusCode::OK, probe.bytes.clone().into()));
    for (how, says, first) in [
        (Misplace::Start, Some(format!("bytes 6-10/{SIZE}")), 5),
        (Misplace::Total, Some(format!("bytes 5-9/{}", SIZE + 1)), 5),
        (Misplace::Unsaid, None, 5),
        (Misplace::Elsewhere(100), Some(format!("bytes 105-109/{SIZE}")), 105),
    ] {
        probe.add(Fault::Misplace(how));
        let answer = probe.part("bytes=5-9").await;
        assert_eq!((answer.status(), head(&answer, CONTENT_RANGE)), (StatusCode::PARTIAL_CONTENT, says), "{how:?}");
        assert_eq!(answer.bytes().await.unwrap(), probe.bytes[first..first + 5], "{how:?}");
    }
}

#[tokio::test]
async fn objects_are_replaced() {
    let probe = Probe::new().await;
    let honest = head(&probe.part("bytes=5-9").await, ETAG).unwrap();
    probe.add(Fault::Replaced(None));
    let answer = probe.part("bytes=5-9").await;
    assert_eq!((answer.status(), head(&answer, CONTENT_RANGE).unwrap()), (StatusCode::PARTIAL_CONTENT, format!("bytes 5-9/{SIZE}")));
    assert_ne!(head(&answer, ETAG).unwrap(), honest);
    assert_ne!(answer.bytes().await.unwrap(), probe.bytes[5..10]);

    probe.add(Fault::Replaced(Some(1234)));
    let answer = probe.hub.http.get(&probe.link).header(RANGE, "bytes=5-9").header(IF_RANGE, &honest).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "who pins a range to a tag gets the whole of another file");
    assert_eq!(answer.bytes().await.unwrap().len(), 1234);
    probe.add(Fault::Replaced(Some(1234)));
    assert_eq!(probe.part("bytes=2000-").await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn faults_keep_to_a_byte_of_the_file() {
    let probe = Probe::new().await;
    probe.hub.script.add(Rule::once(Method::GET, "/-/objects/", Fault::Flip(0)).at(1000));
    assert_eq!(probe.part("bytes=0-999").await.bytes().await.unwrap(), probe.bytes[..1000]);
    let flipped = probe.part("bytes=990-1010").await.bytes().await.unwrap();
    let wrong: Vec<usize> = (0..flipped.len()).filter(|n| flipped[*n] != probe.bytes[990 + n]).collect();
    assert_eq!(wrong, [10]);
    assert_eq!(probe.part("bytes=990-1010").await.bytes().await.unwrap(), probe.bytes[990..1011], "once");
    assert_eq!(probe.hub.script.played(), 1);
}

#[tokio::test]
async fn uploads_are_interrupted() {
    let probe = Probe::new().await;
    let put = |bytes: usize| probe.hub.http.put(probe.hub.url("/-/objects/x")).body(vec![7; bytes]).send();
    let add = |bytes, then| {
        probe.hub.script.reset();
        probe.hub.script.add(Rule::once(Method::PUT, "/-/", Fault::Upload(bytes, then)));
    };
    add(1000, Interruption::Reset);
    assert!(put(5_000_000).await.is_err());
    let received = probe.hub.script.received(&Method::PUT, "/-/");
    assert!((1000..2_000_000).contains(&received), "{received} bytes were taken");
    add(1000, Interruption::Silence(Duration::from_millis(300)));
    let begun = Instant::now();
    assert!(put(50_000_000).await.is_err());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    add(1000, Interruption::Answer(503));
    // Whoever has sent everything that fits into the buffers in between sees the answer.
    assert_eq!(put(100_000).await.unwrap().status(), 503);
    probe.hub.script.reset();
    probe.hub.script.add(Rule::once(Method::PUT, "/-/", Fault::SlowUpload(100_000)));
    let begun = Instant::now();
    // The link is none; its refusal comes after what was sent was read.
    assert_eq!(put(50_000).await.unwrap().status(), 403);
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

/// Reads a whole object and says how many seconds that took.
async fn seconds(hub: &Hub, link: &str, bytes: usize) -> f64 {
    let begun = Instant::now();
    assert_eq!(hub.http.get(link).send().await.unwrap().bytes().await.unwrap().len(), bytes);
    begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_have_their_speed() {
    let network = Arc::new(Network::default());
    let hub = hub_with(|config| {
        config.cdn = Some("127.0.0.1:0".parse().unwrap());
        config.network = Some(network.clone());
    })
    .await;
    let bytes = hub.with_weights(1_000_000).await.len();
    let link = hub.link().await;
    let near = |what: &str, found: f64, wanted: f64| {
        // A busy machine is slower, never faster.
        assert!(found > wanted * 0.9 && found < wanted * 1.5 + 0.2, "{what}: {found} s instead of {wanted} s");
    };
    let four = || futures_util::future::join_all((0..4).map(|_| seconds(&hub, &link, bytes)));
    network.shape(Face::Cdn, Shape::per_connection(2_000_000));
    near("one of its own", seconds(&hub, &link, bytes).await, 0.5);
    near("four of their own", four().await.into_iter().fold(0.0, f64::max), 0.5);
    network.shape(Face::Cdn, Shape::per_server(8_000_000).latency(Duration::from_millis(100)));
    near("four together", four().await.into_iter().fold(0.0, f64::max), 0.6);
    network.shape(Face::Cdn, Shape::per_server(16_000_000).crowd(2, Crowding::Collapse(0.25)));
    near("too many", four().await.into_iter().fold(0.0, f64::max), 1.0);
    assert_eq!(network.most_at_once(Face::Cdn), 4);

    network.shape(Face::Cdn, Shape::per_server(8_000_000).crowd(2, Crowding::Refuse));
    let statuses = futures_util::future::join_all((0..4).map(|_| async { hub.http.get(&link).send().await.unwrap() })).await;
    let refused = statuses.iter().filter(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE).count();
    assert_eq!(refused, 2);
    assert!(network.opened(Face::Cdn) >= 4 && network.sent(Face::Cdn) > 13_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_per_second() {
    let hub = hub_with_cdn().await;
    hub.with_weights(1_100_000).await;
    let link = hub.link().await;
    hub.script.add(Rule::once(Method::GET, "/-/objects/", Fault::Slow(1)));
    let mut answer = hub.http.get(&link).send().await.unwrap();
    let begun = Instant::now();
    assert_eq!(answer.chunk().await.unwrap().unwrap().len() + answer.chunk().await.unwrap().unwrap().len(), 2);
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
}
