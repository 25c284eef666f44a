//! For tests: a script of faults that the server plays on the wire, and a log of the requests it saw.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
pub use axum::http::Method;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// Which listener a request came in by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// The Hugging Face API.
    Hf,
    /// The ModelScope API.
    Ms,
    /// The separate storage origin.
    Cdn,
}

/// A request as the server saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Where it came in.
    pub face: Face,
    /// Its method.
    pub method: Method,
    /// Its path, still encoded.
    pub path: String,
    /// Its query, still encoded; may hold a signature.
    pub query: String,
    /// Whether it carried an `Authorization` header.
    pub authorization: bool,
    /// Whether it carried a `Cookie` header.
    pub cookie: bool,
    /// Its `Range` header.
    pub range: Option<String>,
}

/// What to do with a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Answer it.
    #[default]
    None,
    /// Break the connection after this many bytes of the answer's body.
    Cut(u64),
    /// Flip one bit of this byte of the answer's body.
    Flip(u64),
    /// Send this many bytes of the body, then nothing, for this long; then break the connection.
    Stall(u64, Duration),
    /// Wait this long before answering.
    Delay(Duration),
    /// Answer this instead, without doing anything.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Do what was asked, then break the connection instead of answering.
    LoseAnswer,
    /// Treat the signed link as too old.
    ExpireLink,
}

/// Decides what happens to each request.
pub trait FaultHook: Debug + Send + Sync {
    /// Called once per request, before it is handled.
    fn on_request(&self, seen: &Seen) -> Fault;
}

/// Marks a request whose link counts as expired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiredLink;

/// Marks an answer that must not reach the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped;

/// A fault and the requests it befalls.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Only this method.
    pub method: Option<Method>,
    /// Only paths that contain this.
    pub path: &'static str,
    /// Which of the requests that fit, counted from 1.
    pub nth: RangeInclusive<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// `fault` for the first request whose path contains `path`.
    pub fn once(method: Method, path: &'static str, fault: Fault) -> Self {
        Self { method: Some(method), path, nth: 1..=1, fault }
    }
}

/// Plays rules and logs every request. The first rule that fits a request and its turn decides.
#[derive(Debug, Default)]
pub struct Script(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    rules: Vec<(Rule, u64)>,
    seen: Vec<Seen>,
}

impl Script {
    /// A script of these rules.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self(Mutex::new(Record { rules: rules.into_iter().map(|rule| (rule, 0)).collect(), seen: Vec::new() }))
    }

    /// Adds a rule while the server runs.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// Forgets all rules and all requests.
    pub fn reset(&self) {
        *self.lock() = Record::default();
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests of this method had a path that contains `path`.
    pub fn count(&self, method: &Method, path: &str) -> usize {
        self.lock().seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultHook for Script {
    fn on_request(&self, seen: &Seen) -> Fault {
        let mut record = self.lock();
        record.seen.push(seen.clone());
        let mut fault = Fault::None;
        for (rule, count) in &mut record.rules {
            if rule.method.as_ref().is_none_or(|m| m == seen.method) && seen.path.contains(rule.path) {
                *count += 1;
                if fault == Fault::None && rule.nth.contains(count) {
                    fault = rule.fault.clone();
                }
            }
        }
        fault
    }
}

/// An answer a fault gives by itself.
pub(crate) fn scripted(status: u16, headers: &[(&'static str, String)], body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Lets a fault act on the body of an answer.
pub(crate) fn spoil(response: Response, fault: &Fault) -> Response {
    match *fault {
        Fault::Cut(at) => response.map(|body| Body::from_stream(Spoiled::new(body, at, Duration::ZERO))),
        Fault::Stall(at, pause) => response.map(|body| Body::from_stream(Spoiled::new(body, at, pause))),
        Fault::Flip(at) => response.map(|body| {
            let mut seen = 0;
            Body::from_stream(body.into_data_stream().map(move |piece| {
                piece.map(|piece| {
                    let start = seen;
                    seen += piece.len() as u64;
                    flip(piece, at.checked_sub(start))
                })
            }))
        }),
        Fault::LoseAnswer => {
            let mut response = response;
            response.extensions_mut().insert(Dropped);
            response
        }
        _ => response,
    }
}

fn flip(piece: Bytes, at: Option<u64>) -> Bytes {
    let Some(at) = at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < piece.len()) else { return piece };
    let mut changed = BytesMut::from(&piece[..]);
    changed[at] ^= 1;
    changed.freeze()
}

/// A body that ends in an error after some bytes.
struct Spoiled {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>,
    left: u64,
    end: Pin<Box<tokio::time::Sleep>>,
    pause: Duration,
    ending: bool,
}

impl Spoiled {
    fn new(body: Body, at: u64, pause: Duration) -> Self {
        let inner = Box::pin(body.into_data_stream());
        Self { inner, left: at, end: Box::pin(tokio::time::sleep(Duration::ZERO)), pause, ending: false }
    }
}

impl Stream for Spoiled {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left > 0 {
            return self.inner.as_mut().poll_next(cx).map(|piece| match piece {
                None => None,
                Some(Err(error)) => Some(Err(std::io::Error::other(error))),
                Some(Ok(mut piece)) => {
                    piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= piece.len() as u64;
                    Some(Ok(piece))
                }
            });
        }
        if !self.ending {
            self.ending = true;
            // Long enough for what was sent to leave the machine before the connection breaks.
            let at = tokio::time::Instant::now() + self.pause.max(Duration::from_millis(50));
            self.end.as_mut().reset(at);
        }
        self.end.as_mut().poll(cx).map(|()| Some(Err(std::io::Error::other("a scripted fault"))))
    }
}
