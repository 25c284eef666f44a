//! One connection as a test wants it: paced, counted, and ended as scripted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::Tally;
use super::network::{Bucket, Side, Stream, Way};

/// What the connection and the requests on it share.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(super) number: u64,
    pub(super) side: Arc<Side>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The request under way, to which what is sent belongs.
    tally: Arc<Tally>,
    /// Requests whose answers are complete but may wait in a buffer.
    leaving: Vec<Stream>,
    end: End,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Orderly,
    Reset,
    LastWords(&'static [u8]),
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins: what is sent from now on is its answer.
    pub(super) fn begin(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        self.lock().tally = tally.clone();
        tally
    }

    /// The answer of a request is complete; once everything has left, the request is over.
    pub(super) fn finish(&self, stream: Stream) {
        self.lock().leaving.push(stream);
    }

    /// Once dropped, the connection is reset, and what was not delivered yet is lost.
    pub(super) fn reset(&self) {
        self.lock().end = End::Reset;
    }

    /// Once dropped, these bytes are the last.
    pub(super) fn last_words(&self, words: &'static [u8]) {
        self.lock().end = End::LastWords(words);
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    wire: Arc<Wire>,
    down: Flow,
    up: Flow,
}

impl Line {
    pub(super) fn new(stream: TcpStream, number: u64, side: Arc<Side>) -> Self {
        let wire = Arc::new(Wire { number, side, state: Mutex::default() });
        Self { stream, wire, down: Flow::new(Way::Out), up: Flow::new(Way::In) }
    }

    pub(crate) fn wire(&self) -> Arc<Wire> {
        self.wire.clone()
    }
}

/// One direction of a connection.
#[derive(Debug)]
struct Flow {
    way: Way,
    bucket: Bucket,
    /// Bytes that may go without asking again.
    credit: usize,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Flow {
    fn new(way: Way) -> Self {
        Self { way, bucket: Bucket::default(), credit: 0, wait: None }
    }

    /// Waits until something may go; `None` when nothing holds it back.
    fn poll_credit(&mut self, side: &Side, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            if self.credit > 0 {
                return Poll::Ready(Some(self.credit));
            }
            let Some((bytes, at)) = side.grant(self.way, &mut self.bucket) else { return Poll::Ready(None) };
            self.credit = bytes;
            self.wait = Some(Box::pin(tokio::time::sleep_until(at)));
        }
    }

    fn spend(&mut self, side: &Side, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes);
        side.count(self.way, bytes);
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let line = &mut *self;
        let most = ready!(line.down.poll_credit(&line.wire.side, cx)).unwrap_or(buf.len()).min(buf.len());
        let written = ready!(Pin::new(&mut line.stream).poll_write(cx, &buf[..most]))?;
        line.down.spend(&line.wire.side, written);
        line.wire.lock().tally.add_sent(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever flushes has written everything before.
        self.wire.lock().leaving.clear();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = &mut *self;
        let credit = ready!(line.up.poll_credit(&line.wire.side, cx));
        let most = credit.unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut line.stream).poll_read(cx, &mut part))?;
        let filled = part.filled().len();
        buf.advance(filled);
        line.up.spend(&line.wire.side, filled);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.wire.lock();
        state.leaving.clear();
        match state.end {
            End::Orderly => {}
            End::Reset => drop(self.stream.set_zero_linger()),
            End::LastWords(words) => drop(self.stream.try_write(words)),
        }
    }
}
