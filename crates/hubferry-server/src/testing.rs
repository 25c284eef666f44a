//! For tests: a script of faults that the server plays on the wire, lines of a chosen speed, and a log of what was asked and moved.

mod line;
mod network;
mod play;
mod replaced;
mod script;
mod spoil;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use axum::http::Method;

pub use network::{Crowd, Crowding, Network, Shape};
pub(crate) use play::{ExpiredLink, Stage};
pub use script::{Rule, Script};

pub(crate) use line::Wire;

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
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it came in.
    pub face: Face,
    /// Number of the connection it came by, counted from 1 over all listeners.
    pub connection: u64,
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
    tally: Arc<Tally>,
}

impl Seen {
    /// Path and query.
    pub fn target(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }

    /// Bytes of the answer that were handed to the socket so far, its head included.
    pub fn sent(&self) -> u64 {
        self.tally.sent.load(Ordering::Relaxed)
    }

    /// Bytes of the request's body that were taken from the connection so far.
    pub fn received(&self) -> u64 {
        self.tally.received.load(Ordering::Relaxed)
    }
}

/// What moved for one request.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Tally {
    fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What to do with a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Answer it.
    #[default]
    None,
    /// End the connection after this many bytes of the answer's body; the length in its head stays what it is.
    Cut(u64),
    /// End the answer after this many bytes of its body as if that were all of it: without a length in its head.
    Shorten(u64),
    /// Reset the connection after this many bytes of the answer's body.
    Reset(u64),
    /// Flip one bit of this byte of the answer's body.
    Flip(u64),
    /// Send this many bytes of the body, then nothing, for this long; then end the connection.
    Stall(u64, Duration),
    /// Send the body at this many bytes per second.
    Slow(u64),
    /// Send this many bytes more than the answer should have.
    Excess(u64),
    /// Wait this long before answering.
    Delay(Duration),
    /// Wait until this file is there before answering.
    Until(PathBuf),
    /// Answer this instead, without doing anything.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Do what was asked, then end the connection instead of answering.
    LoseAnswer,
    /// Answer with bytes that are no HTTP.
    Garbage,
    /// Treat the signed link as too old.
    ExpireLink,
    /// Answer with the whole, whatever range was asked for.
    IgnoreRange,
    /// Answer another range than was asked for, or lie about it.
    Misplace(Misplace),
    /// Answer as if another file lay there now: other bytes, another tag, and this size if one is given.
    Replaced(Option<u64>),
    /// Take this many bytes of the request's body, then do that.
    Upload(u64, Interruption),
    /// Take the request's body at this many bytes per second.
    SlowUpload(u64),
}

impl Fault {
    /// The same, its position counted from `start` instead of from the beginning of the body.
    #[must_use]
    pub fn shifted(self, start: u64) -> Self {
        match self {
            Self::Cut(at) => Self::Cut(start + at),
            Self::Shorten(at) => Self::Shorten(start + at),
            Self::Reset(at) => Self::Reset(start + at),
            Self::Flip(at) => Self::Flip(start + at),
            Self::Stall(at, pause) => Self::Stall(start + at, pause),
            other => other,
        }
    }
}

/// How an answer to a range is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misplace {
    /// The right bytes, said to begin one byte later.
    Start,
    /// The right bytes, said to be of a file one byte larger.
    Total,
    /// The right bytes, without a word where they belong.
    Unsaid,
    /// Bytes from this much further on, honestly labelled.
    Elsewhere(u64),
}

/// What happens in the middle of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interruption {
    /// Nothing more is read for this long; then the connection ends.
    Silence(Duration),
    /// It is answered with this status, and the rest is not read.
    Answer(u16),
    /// The connection is reset.
    Reset,
}

/// Decides what happens to each request.
pub trait FaultHook: Debug + Send + Sync {
    /// Called once per request, before it is handled.
    fn on_request(&self, seen: &Seen) -> Fault;
}
