//! `Body::read`: a range as one ordered stream, whatever number of connections it comes by.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::body::Job;
use super::crew::{self, Sink, Sinks};
use super::ledger::Follower;
use super::line::Piece;
use super::memory::occupied;
use super::reading::Reading;
use super::work::{Cut, Work};
use crate::error::{Error, Kind, Result};
use crate::remote::ByteStream;

/// A range up to this size comes by one connection: asking for its parts would take longer than waiting for the whole.
const ONE_STREAM: u64 = 2 << 20;
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 8 << 20;

/// Nobody waits.
const NOBODY: u64 = u64::MAX;

/// Streams `range` of the file, hashed on the way.
pub(super) fn read(job: &Arc<Job>, range: Range<u64>) -> ByteStream {
    job.line.mark(range.start);
    job.line.mark(range.end);
    let inflow = if range.end - range.start <= ONE_STREAM || job.is_local() {
        Inflow::One { reading: None }
    } else {
        Inflow::Many(Many::new(job.clone(), range.clone()))
    };
    let follower = job.ledger.follow(range.start);
    let reader = Reader { job: job.clone(), at: range.start, end: range.end, follower, inflow };
    futures_util::stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|piece| (piece, reader))) }).boxed()
}

struct Reader {
    job: Arc<Job>,
    at: u64,
    end: u64,
    follower: Follower,
    inflow: Inflow,
}

/// Where the bytes come from.
enum Inflow {
    One { reading: Option<Reading> },
    Many(Many),
}

impl Reader {
    /// The next piece. The last one of the file is handed out only after the whole agreed, because a consumer that knows the length
    /// may stop listening once it has it.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at == self.end {
            return Ok(None);
        }
        let piece = match &mut self.inflow {
            Inflow::One { reading } => Piece { bytes: one(&self.job, reading, self.at..self.end).await?, share: None },
            Inflow::Many(many) => many.next(self.at).await?,
        };
        self.follower.update(&piece.bytes).map_err(|error| self.job.place(error))?;
        let bytes = piece.bytes.clone();
        let start = self.at;
        self.at += bytes.len() as u64;
        let mut feeding = std::pin::pin!(self.job.feed(start, piece));
        let whole = if let Some(whole) = feeding.as_mut().now_or_never() {
            whole
        } else {
            if let Inflow::One { reading: Some(reading) } = &mut self.inflow {
                reading.rest();
            }
            feeding.await
        };
        self.job.show(start..self.at);
        if whole && self.at == self.end {
            self.job.verdict().await?;
        }
        Ok(Some(bytes))
    }
}

/// The next piece by one connection, from whichever origin still delivers.
async fn one(job: &Arc<Job>, slot: &mut Option<Reading>, range: Range<u64>) -> Result<Bytes> {
    loop {
        if slot.is_none() {
            let (origin, permit) = job.clone().first_permit().await;
            *slot = Some(Reading::new(job.clone(), origin, permit, range.clone()));
        }
        let Some(reading) = slot else { continue };
        let origin = reading.origin();
        match reading.next().await {
            Ok(Some(piece)) => return Ok(piece),
            Ok(None) => return Err(Error::new(Kind::Bug, "a stream ended without its last byte")),
            Err(error) => {
                *slot = None;
                job.origins.give_up(origin, error, &job.context)?;
            }
        }
    }
}

/// A crew that reads ahead of the consumer, within the memory budget.
struct Many {
    shared: Arc<Shared>,
    crew: JoinSet<Result<()>>,
    current: Option<mpsc::UnboundedReceiver<Piece>>,
}

struct Shared {
    job: Arc<Job>,
    /// Chunks by the offset where they begin.
    chunks: Mutex<BTreeMap<u64, mpsc::UnboundedReceiver<Piece>>>,
    /// The offset that the consumer waits for.
    needed: AtomicU64,
    changed: Notify,
}

impl Many {
    fn new(job: Arc<Job>, range: Range<u64>) -> Self {
        let streams = job.streams_expected();
        let largest = (job.context.memory.total() / (streams as u64 + 1)).clamp(SMALLEST, LARGEST);
        let cut = Cut { grid: SMALLEST / 4, smallest: SMALLEST, largest, may_split: false };
        let work = Arc::new(Work::new(range.start, cut, Some(range)));
        let shared =
            Arc::new(Shared { job: job.clone(), chunks: Mutex::default(), needed: AtomicU64::new(NOBODY), changed: Notify::new() });
        let mut crew = JoinSet::new();
        let sinks: Arc<dyn Sinks> = Arc::new(Channels(shared.clone()));
        crew.spawn(async move { crew::run(&job, &work, &sinks).await });
        Self { shared, crew, current: None }
    }

    /// The piece at `at`. Chunks come in any order; a chunk that was given up ends early, and another begins there.
    async fn next(&mut self, at: u64) -> Result<Piece> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(chunk) = &mut self.current {
                self.shared.needed.store(at, Ordering::Release);
                self.shared.changed.notify_waiters();
                let piece = tokio::select! {
                    piece = chunk.recv() => piece,
                    Some(ended) = self.crew.join_next() => { failed(ended)?; continue }
                };
                match piece {
                    Some(piece) => {
                        self.shared.needed.store(NOBODY, Ordering::Release);
                        return Ok(piece);
                    }
                    None => self.current = None,
                }
            }
            self.current = self.shared.chunks.lock().unwrap_or_else(PoisonError::into_inner).remove(&at);
            if self.current.is_some() {
                continue;
            }
            if self.crew.is_empty() {
                return Err(Error::new(Kind::Bug, "a part of a file was not read").context("offset", at));
            }
            self.shared.needed.store(at, Ordering::Release);
            tokio::select! {
                () = changed => {}
                Some(ended) = self.crew.join_next() => failed(ended)?,
            }
        }
    }
}

/// A crew that has read everything is fine; the pieces wait in their channels.
fn failed(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(|lost| Error::new(Kind::Bug, "a reading task ended abnormally").caused_by(lost))?
}

struct Channels(Arc<Shared>);

impl Sinks for Channels {
    fn begin(&self, start: u64, _: usize) -> Box<dyn Sink> {
        let (to, from) = mpsc::unbounded_channel();
        self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(start, from);
        self.0.changed.notify_waiters();
        Box::new(Channel { shared: self.0.clone(), to: Some(to), at: start })
    }

    fn needed(&self) -> Option<u64> {
        Some(self.0.needed.load(Ordering::Acquire)).filter(|needed| *needed != NOBODY)
    }

    fn may_wait(&self) -> bool {
        true
    }
}

struct Channel {
    shared: Arc<Shared>,
    to: Option<mpsc::UnboundedSender<Piece>>,
    at: u64,
}

#[async_trait]
impl Sink for Channel {
    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        let share = self.shared.admit(self.at, length).await;
        if let Some(to) = &self.to {
            // A consumer that is gone takes the whole crew with it.
            drop(to.send(Piece { bytes, share: share.map(Arc::new) }));
        }
        self.at += length;
        Ok(())
    }

    async fn end(&mut self) -> Result<u64> {
        self.to = None;
        Ok(self.at)
    }
}

impl Shared {
    /// Waits until a piece may lie in memory: when the budget has room, or when the consumer waits for exactly this one.
    async fn admit(&self, at: u64, length: u64) -> Option<super::memory::Share> {
        let length = occupied(length);
        if let Some(share) = self.job.context.memory.try_take(length) {
            return Some(share);
        }
        let mut room = std::pin::pin!(self.job.context.memory.take(length));
        loop {
            let changed = self.changed.notified();
            if self.needed.load(Ordering::Acquire) == at {
                return None;
            }
            tokio::select! {
                share = &mut room => return share,
                () = changed => {}
            }
        }
    }
}
