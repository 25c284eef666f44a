//! A small HTTP server that answers whatever a test says, truthful or not, and a small client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, still encoded.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    repeat: usize,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), repeat: 1 }
    }

    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::new(200, body.to_string()).with("content-type", "application/json")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the body this many times over, without saying how long it is.
    pub(crate) fn times(mut self, repeat: usize) -> Self {
        self.repeat = repeat;
        self
    }
}

/// The server. It stops when it is dropped.
pub(crate) struct Canned {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Canned {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, answer) = (seen.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, answer) = (log.clone(), answer.clone());
                // A client that goes away in the middle is no failure of the server.
                std::thread::spawn(move || drop(converse(stream.unwrap(), &log, &*answer)));
            }
        });
        Self { url, seen, stop }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn converse(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(mut asked) = read_head(&mut reader)? else { return Ok(()) };
    let length: u64 = asked.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut asked.body)?;
    let reply = answer(&asked);
    log.lock().unwrap().push(asked.clone());
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} Canned\r\nconnection: close\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if reply.repeat == 1 && !reply.headers.iter().any(|(name, _)| name == "content-length") {
        write!(stream, "content-length: {}\r\n", reply.body.len())?;
    }
    write!(stream, "\r\n")?;
    if asked.method != "HEAD" {
        for _ in 0..reply.repeat {
            stream.write_all(&reply.body)?;
        }
    }
    stream.flush()
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut asked = Asked { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(asked));
        }
        if let Some((name, value)) = line.split_once(':') {
            asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

/// A plain request with a token; status and body.
pub(crate) fn get(url: &str, token: &str) -> (u16, String) {
    send("GET", url, token, None)
}

/// A request without a token; status and head of the answer, with the names of its headers in lower case.
pub(crate) fn get_head(url: &str) -> (u16, String) {
    let (status, head, _) = exchange("HEAD", url, "", None);
    (status, head)
}

/// A plain request; status and body.
pub(crate) fn send(method: &str, url: &str, token: &str, body: Option<&str>) -> (u16, String) {
    let (status, _, body) = exchange(method, url, token, body);
    (status, body)
}

fn exchange(method: &str, url: &str, token: &str, body: Option<&str>) -> (u16, String, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let body = body.unwrap_or_default();
    let cookie = format!("cookie: m_session_id={token}\r\nauthorization: Bearer {token}\r\n");
    let credential = if token.is_empty() { "" } else { cookie.as_str() };
    write!(
        stream,
        "{method} /{path} HTTP/1.0\r\nhost: {host}\r\n{credential}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), body.to_owned())
}
