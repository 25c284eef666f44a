//! A tiny server for unit tests: it records what it is asked and answers what a closure says, faults included.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubferry_core::events::{Event, Reporter};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::http::{Http, HttpConfig};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which request of this server it is, from zero.
    pub(crate) number: usize,
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the whole body came.
    pub(crate) complete: bool,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    stall: bool,
    silent: bool,
    never: bool,
    delay: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, value.to_string()).header("Content-Type", "application/json")
    }

    /// A redirect.
    pub(crate) fn to(status: u16, location: &str) -> Self {
        Self::new(status, "").header("Location", location)
    }

    /// The part of `file` that `seen` asks for.
    pub(crate) fn part(seen: &Seen, file: &[u8]) -> Self {
        let Some(range) = seen.header("range") else { return Self::new(200, file) };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        Self::new(206, &file[first..=last]).header("Content-Range", &format!("bytes {first}-{last}/{}", file.len()))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Breaks the connection after this many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Keeps the connection open without a further byte, after `cut` if that is set.
    pub(crate) fn stall(mut self) -> Self {
        self.stall = true;
        self
    }

    /// Keeps the connection open and never answers.
    pub(crate) fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    /// Answers only after this time.
    pub(crate) fn delay(mut self, time: Duration) -> Self {
        self.delay = time;
        self
    }

    /// Breaks the connection instead of answering.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }
}

/// A listening server; it ends with the runtime of the test.
#[derive(Clone)]
pub(crate) struct Script {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    /// Starts on a free port; `answer` is called for every request.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script = Self { port: listener.local_addr().unwrap().port(), seen: Arc::default() };
        let (seen, answer) = (script.seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), answer.clone()));
            }
        });
        script
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD /target` of everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

/// A server that keeps connections open: it counts them, and knows how many have been closed by the client.
#[derive(Clone)]
pub(crate) struct Keeping {
    port: u16,
    pub(crate) opened: Arc<AtomicUsize>,
    pub(crate) closed: Arc<AtomicUsize>,
}

impl Keeping {
    /// Answers every request with what `answer` writes on the wire.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keeping = Self { port: listener.local_addr().unwrap().port(), opened: Arc::default(), closed: Arc::default() };
        let (server, answer) = (keeping.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                server.opened.fetch_add(1, Ordering::SeqCst);
                let (server, answer) = (server.clone(), answer.clone());
                tokio::spawn(async move {
                    while let Some(seen) = read_request(&mut stream).await {
                        if stream.write_all(&answer(&seen)).await.is_err() {
                            break;
                        }
                    }
                    server.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        keeping
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Seen>>>, answer: Arc<impl Fn(&Seen) -> Reply>) {
    let Some(mut seen) = read_request(&mut stream).await else { return };
    let reply = {
        let mut log = log.lock().unwrap();
        seen.number = log.len();
        log.push(seen.clone());
        drop(log);
        answer(&seen)
    };
    if reply.silent {
        return;
    }
    if reply.never {
        return tokio::time::sleep(Duration::from_mins(1)).await;
    }
    tokio::time::sleep(reply.delay).await;
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        let _ = write!(head, "Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    let end = reply.cut.unwrap_or(reply.body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&reply.body[..end]).await;
    let _ = stream.flush().await;
    if reply.stall {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    assert!(!headers.contains_key("transfer-encoding"), "every body is sent with its length");
    let mut body = Vec::new();
    let _ = reader.take(length as u64).read_to_end(&mut body).await;
    let complete = body.len() == length;
    Some(Seen { number: 0, method, target, headers, body, complete })
}

/// A pool with timeouts short enough for tests.
pub(crate) fn http() -> Http {
    let config = HttpConfig { idle_timeout: Duration::from_millis(400), max_json: 1 << 20, ..HttpConfig::default() };
    Http::new(config).unwrap()
}

/// Keeps every event.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Event>>);

impl Reporter for Heard {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}
