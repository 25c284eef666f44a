//! A request body on its way out: counted, watched, and never complete before its end is known to be good.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use hubferry_core::error::{Error, Kind};
use hubferry_core::events::Wire;
use hubferry_core::remote::ByteStream;
use tokio::time::Instant;

/// What the sender of a request and the stream it sends know of each other.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    last: AtomicU64,
    /// The stream waits for its own source: nothing the server could be blamed for.
    starved: AtomicBool,
    done: AtomicBool,
    fault: Mutex<Option<Error>>,
}

impl Pulse {
    /// `streaming` says whether a stream will report to it.
    pub(super) fn new(streaming: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            done: AtomicBool::new(!streaming),
            fault: Mutex::default(),
        })
    }

    fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// How long nothing has moved.
    fn idle(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// How much longer the server may keep us waiting: `idle` for the next piece of the body, `answer` once all of it is sent.
    pub(super) fn patience(&self, idle: Duration, answer: Duration) -> Option<Duration> {
        if self.starved.load(Ordering::Relaxed) {
            return Some(idle);
        }
        let allowed = if self.done.load(Ordering::Relaxed) { answer } else { idle };
        allowed.checked_sub(self.idle()).filter(|left| !left.is_zero())
    }

    /// Whether the last piece has left.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Why the stream itself failed, if it did.
    pub(super) fn take_fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: Error) -> io::Error {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other("the body failed")
    }
}

struct State {
    inner: ByteStream,
    held: Option<Bytes>,
    left: u64,
    ended: bool,
    pulse: Arc<Pulse>,
}

/// Passes `body` on, exactly `len` bytes of it. The last piece is held back until the stream has ended well: a body that turns
/// out to be corrupt at its end never becomes a complete request.
pub(super) fn guarded(
    body: ByteStream,
    len: u64,
    pulse: Arc<Pulse>,
    wire: Option<Arc<Wire>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = State { inner: body, held: None, left: len, ended: false, pulse };
    stream::unfold(state, move |mut state| {
        let wire = wire.clone();
        async move {
            if state.ended {
                return None;
            }
            let item = state.advance().await;
            match &item {
                Some(Ok(piece)) => {
                    if let Some(wire) = &wire {
                        wire.add_sent(piece.len() as u64);
                    }
                }
                _ => state.ended = true,
            }
            item.map(|item| (item, state))
        }
    })
}

impl State {
    async fn advance(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            self.pulse.beat();
            self.pulse.starved.store(true, Ordering::Relaxed);
            let next = self.inner.next().await;
            self.pulse.starved.store(false, Ordering::Relaxed);
            self.pulse.beat();
            match next {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                        return Some(Err(self.pulse.fail(wrong_length("more"))));
                    };
                    self.left = left;
                    if let Some(previous) = self.held.replace(piece) {
                        return Some(Ok(previous));
                    }
                }
                Some(Err(error)) => return Some(Err(self.pulse.fail(error))),
                None if self.left > 0 => return Some(Err(self.pulse.fail(wrong_length("fewer")))),
                None => {
                    self.pulse.done.store(true, Ordering::Relaxed);
                    return self.held.take().map(Ok);
                }
            }
        }
    }
}

fn wrong_length(how: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the body to send has {how} bytes than it was announced with"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(pieces: Vec<hubferry_core::error::Result<Bytes>>, len: u64) -> (Vec<u8>, bool, Option<Error>) {
        let pulse = Pulse::new(true);
        let items: Vec<_> = guarded(stream::iter(pieces).boxed(), len, pulse.clone(), None).collect().await;
        let good = items.iter().all(Result::is_ok);
        (items.into_iter().flatten().flatten().collect(), good, pulse.take_fault())
    }

    #[tokio::test]
    async fn the_last_piece_waits_for_a_good_end() {
        let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(send(vec![piece("ab"), piece("c")], 3).await.0, b"abc");
        let (sent, good, fault) = send(vec![piece("ab"), piece("c"), Err(Error::new(Kind::Corrupt, "x"))], 3).await;
        assert_eq!((sent.as_slice(), good, fault.unwrap().kind()), (&b"ab"[..], false, Kind::Corrupt));
        assert!(!send(vec![piece("ab")], 3).await.1);
        let (sent, good, _) = send(vec![piece("ab"), piece("cd")], 3).await;
        assert!(sent.len() < 3 && !good);
    }
}
