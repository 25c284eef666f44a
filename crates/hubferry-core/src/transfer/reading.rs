//! One stream from one origin: continued at the byte it reached when it breaks, replaced when it falls silent.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;

use super::body::Job;
use crate::error::{Error, Kind, Result, Retry};
use crate::events::Event;
use crate::remote::ByteStream;

use super::governor::Permit;

/// A source slower than this many bytes per second, over the time after which silence counts as a stall, is replaced as well.
const FLOOR: f64 = 1024.0;

/// This many bytes after a failure count as progress; a connection that breaks again before is the same trouble.
const PROGRESS: u64 = 16 << 10;

/// Tries of one origin while there are others.
const TRIES_WITH_OTHERS: u32 = 2;

/// How fast the source is, by the time spent waiting for it alone: a slow consumer is not its fault.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Notes a piece; true when the last `window` of waiting brought next to nothing.
    fn is_too_slow(&mut self, waited: Duration, bytes: u64, window: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < window {
            return false;
        }
        let slow = (self.bytes as f64) < FLOOR * self.waited.as_secs_f64();
        *self = Self::default();
        slow
    }
}

/// A range on its way in. Its bytes are unverified.
pub(super) struct Reading {
    job: Arc<Job>,
    origin: usize,
    permit: Option<Permit>,
    /// The permit was given back for a while.
    resting: bool,
    at: u64,
    end: u64,
    source: Option<ByteStream>,
    /// Time from the question to the first byte, of the last stream that was opened.
    latency: Option<Duration>,
    /// Failures since the last real progress.
    failures: u32,
    /// When the first of those failures could have begun.
    since: Instant,
    /// Bytes since the last failure.
    gained: u64,
    pace: Pace,
    /// What came last is kept, and the connection it came by is replaced.
    slow: bool,
}

impl Reading {
    /// Will read `range` from `origin`. `permit` is the right to do so, where the host has a governor.
    pub(super) fn new(job: Arc<Job>, origin: usize, permit: Option<Permit>, range: Range<u64>) -> Self {
        Self {
            job,
            origin,
            permit,
            resting: false,
            at: range.start,
            end: range.end,
            source: None,
            latency: None,
            failures: 0,
            since: Instant::now(),
            gained: 0,
            pace: Pace::default(),
            slow: false,
        }
    }

    pub(super) fn origin(&self) -> usize {
        self.origin
    }

    /// Time from the question to the first byte, of the last stream that was opened.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Whether the host is to be asked less: this stream should end.
    pub(super) fn is_surplus(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_surplus)
    }

    /// Resolves when the host is to be asked less, also while nothing comes.
    pub(super) fn recalled(&self) -> impl Future<Output = ()> + Send + use<> {
        let recalled = self.permit.as_ref().map(Permit::recalled);
        async move {
            match recalled {
                Some(recalled) => recalled.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Gives the right to a stream back until the next piece is asked for: what holds this one up may be streams without one.
    pub(super) fn rest(&mut self) {
        self.resting |= self.permit.take().is_some();
    }

    /// The next piece; `None` at the end of the range.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        if std::mem::take(&mut self.resting)
            && self.at < self.end
            && let Some(governor) = &self.job.origin(self.origin)?.governor
        {
            self.permit = Some(governor.permit().await);
        }
        while self.at < self.end {
            if std::mem::take(&mut self.slow) {
                self.source = None;
                let idle = self.job.context.idle.as_secs();
                self.recover(Error::new(Kind::Unavailable, format!("next to nothing arrived in {idle} s"))).await?;
            }
            let error = match self.pull().await {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => {
                    let length = piece.len() as u64;
                    self.gained += length;
                    if self.gained >= PROGRESS {
                        self.failures = 0;
                        self.since = Instant::now();
                    }
                    self.at += length;
                    if let Some(permit) = &self.permit {
                        permit.received(length);
                    }
                    if self.at == self.end {
                        self.finish();
                    }
                    if let Some(throttle) = &self.job.context.throttle {
                        throttle.take(length).await;
                    }
                    return Ok(Some(piece));
                }
                Err(error) => error,
            };
            self.source = None;
            self.recover(error).await?;
        }
        Ok(None)
    }

    /// The range is read: others may use the right to a stream.
    fn finish(&mut self) {
        self.source = None;
        if let Some(permit) = self.permit.take() {
            permit.completed();
        }
    }

    /// One piece from the source, never more than the range has left.
    async fn pull(&mut self) -> Result<Bytes> {
        let idle = self.job.context.idle;
        let asked = Instant::now();
        let opened = self.source.is_none();
        let mut stream = match self.source.take() {
            Some(stream) => stream,
            None => open(&self.job, self.origin, self.at..self.end).await?,
        };
        let waiting = Instant::now();
        let piece = tokio::time::timeout(idle, stream.next()).await.map_err(|_| stalled(idle))?;
        let waited = waiting.elapsed();
        let mut piece =
            piece.ok_or_else(|| Error::new(Kind::Unavailable, format!("the stream ended {} bytes early", self.end - self.at)))??;
        if opened {
            let latency = asked.elapsed();
            self.latency = Some(latency);
            if let Some(permit) = &self.permit {
                permit.answered(latency);
            }
        }
        if piece.len() as u64 > self.end - self.at {
            return Err(Error::new(Kind::Corrupt, "the source sent more bytes than it was asked for"));
        }
        self.slow = self.pace.is_too_slow(waited, piece.len() as u64, idle);
        self.source = Some(stream);
        // A copy frees the reader from keeping a large receive buffer alive for a few bytes of it.
        if piece.len() < 512 {
            piece = Bytes::copy_from_slice(&piece);
        }
        Ok(piece)
    }

    /// Waits before the stream is continued at the byte it reached, or gives the error up.
    async fn recover(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        self.gained = 0;
        self.pace = Pace::default();
        let tired = self.failures >= TRIES_WITH_OTHERS && !self.job.origins.is_last(self.origin);
        let Some(pause) = self.job.context.retry.pause(self.failures, self.since, &error).filter(|_| !tired) else {
            // Whoever stores these bytes must not begin the same patience anew.
            return Err(error.retry_as(Retry::No).context("file", &self.job.path).context("offset", self.at));
        };
        self.job.context.reporter.event(&Event::Retrying {
            what: format!("{} at byte {}", self.job.path, self.at),
            why: error.to_string(),
            pause,
            attempt: self.failures,
        });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A stream of `range` from one origin.
async fn open(job: &Job, origin: usize, range: Range<u64>) -> Result<ByteStream> {
    let (origin, idle) = (job.origin(origin)?, job.context.idle);
    let open = origin.source.read(&origin.at, &origin.path, range);
    let opened = tokio::time::timeout(idle, open).await.map_err(|_| stalled(idle))?;
    if let (Err(error), Some(governor)) = (&opened, &origin.governor) {
        governor.failed(error);
    }
    opened
}

fn stalled(idle: Duration) -> Error {
    Error::new(Kind::Unavailable, format!("no byte arrived for {} s", idle.as_secs()))
}
