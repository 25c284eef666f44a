//! A request body on its way out: counted, watched, and never complete before its end is known to be good.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Wire;
use hubferry_core::remote::ByteStream;
use hubferry_core::transfer::throttle::Throttle;
use tokio::time::Instant;

/// What the sender of a request and the stream it sends know of each other.
#[derive(Debug)]
pub(super) struct Pulse {
    of_stream: bool,
    start: Instant,
    last: AtomicU64,
    /// The stream waits for its own source: nothing the server could be blamed for.
    starved: AtomicBool,
    done: AtomicBool,
    fault: Mutex<Option<Error>>,
}

impl Pulse {
    /// `of_stream` says whether a stream will report to it.
    pub(super) fn new(of_stream: bool) -> Arc<Self> {
        Arc::new(Self {
            of_stream,
            start: Instant::now(),
            last: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            done: AtomicBool::new(!of_stream),
            fault: Mutex::default(),
        })
    }

    fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Waits for something of our own, which is nothing the server could be blamed for.
    async fn unblamed<T>(&self, wait: impl Future<Output = T>) -> T {
        self.starved.store(true, Ordering::Relaxed);
        let waited = wait.await;
        self.beat();
        self.starved.store(false, Ordering::Relaxed);
        waited
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

    /// Whether it is that of a stream.
    pub(super) fn is_of_stream(&self) -> bool {
        self.of_stream
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

/// Pieces leave in this size at most: the smaller, the slower a line may be without being taken for dead.
const PIECE: usize = 64 << 10;

/// How a body leaves.
#[derive(Default)]
pub(super) struct Manner {
    /// Where its bytes are counted.
    pub(super) counter: Option<Arc<Wire>>,
    pub(super) pace: Option<Arc<Throttle>>,
    /// Pauses after the first piece and a little after each further one, so that a server that refuses can say so. An answer that
    /// comes while we are writing is lost when the server closes the connection right after it.
    pub(super) hesitant: bool,
}

/// As long as `curl` waits for a server's `100 Continue`.
const HESITATION: Duration = Duration::from_secs(1);
/// Long enough to look for an answer between two pieces; bounds a hesitant body to 64 MB/s.
const GLANCE: Duration = Duration::from_millis(1);

struct State {
    inner: ByteStream,
    /// May leave.
    ready: Bytes,
    /// Waits until there is more, or a good end.
    held: Bytes,
    left: u64,
    /// The stream has ended well: nothing is held back any more.
    complete: bool,
    ended: bool,
    pulse: Arc<Pulse>,
    manner: Manner,
    /// Pieces that have left.
    pieces: u64,
}

/// Passes `body` on, exactly `len` bytes of it. The last piece is held back until the stream has ended well: a body that turns
/// out to be corrupt at its end never becomes a complete request.
pub(super) fn guarded(
    body: ByteStream,
    len: u64,
    pulse: Arc<Pulse>,
    manner: Manner,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (ready, held) = (Bytes::new(), Bytes::new());
    let state = State { inner: body, ready, held, left: len, complete: false, ended: false, pulse, manner, pieces: 0 };
    stream::unfold(state, async |mut state| {
        if state.ended {
            return None;
        }
        let item = state.advance().await;
        match &item {
            Some(Ok(piece)) => {
                state.pieces += 1;
                if let Some(counter) = &state.manner.counter {
                    counter.add_sent(piece.len() as u64);
                }
            }
            _ => state.ended = true,
        }
        item.map(|item| (item, state))
    })
}

impl State {
    async fn advance(&mut self) -> Option<io::Result<Bytes>> {
        while self.ready.is_empty() && !self.complete {
            if let Err(error) = self.pull().await {
                return Some(Err(self.pulse.fail(error)));
            }
        }
        if self.manner.hesitant && self.pieces > 0 {
            let pause = if self.pieces == 1 { HESITATION } else { GLANCE };
            self.pulse.unblamed(tokio::time::sleep(pause)).await;
        }
        let most = self.manner.pace.as_ref().map_or(PIECE, |pace| pace.portion(PIECE));
        let piece = self.ready.split_to(self.ready.len().min(most));
        if let Some(pace) = &self.manner.pace {
            self.pulse.unblamed(pace.take(piece.len() as u64)).await;
        }
        self.pulse.beat();
        if self.complete && self.ready.is_empty() {
            self.pulse.done.store(true, Ordering::Relaxed);
        }
        (!piece.is_empty()).then_some(Ok(piece))
    }

    /// Takes the next piece of the source; what was held before may leave now.
    async fn pull(&mut self) -> Result<()> {
        let next = self.pulse.unblamed(self.inner.next()).await;
        match next.transpose()? {
            Some(piece) if piece.is_empty() => {}
            Some(piece) => {
                self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(|| wrong_length("more"))?;
                self.ready = std::mem::replace(&mut self.held, piece);
            }
            None if self.left > 0 => return Err(wrong_length("fewer")),
            None => {
                self.complete = true;
                self.ready = std::mem::take(&mut self.held);
            }
        }
        Ok(())
    }
}

fn wrong_length(how: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the body to send has {how} bytes than it was announced with"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    async fn send(pieces: Vec<Result<Bytes>>, len: u64) -> (Vec<u8>, bool, Option<Error>) {
        let pulse = Pulse::new(true);
        let items: Vec<_> = guarded(stream::iter(pieces).boxed(), len, pulse.clone(), Manner::default()).collect().await;
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
        let large = vec![7; 3 * PIECE + 5];
        let items: Vec<_> = {
            let pulse = Pulse::new(true);
            let len = large.len() as u64;
            guarded(stream::iter([Ok(Bytes::from(large.clone()))]).boxed(), len, pulse, Manner::default()).try_collect().await.unwrap()
        };
        assert_eq!((items.len(), items.concat()), (4, large), "large pieces leave in small ones");
    }
}
