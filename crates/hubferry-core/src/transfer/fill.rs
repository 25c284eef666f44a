//! `Body::fill`: a whole file into a place that takes bytes in any order. Every stream writes where its bytes belong; the hash
//! follows in order, from memory while it keeps up and else from what was written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::body::Job;
use super::crew::{self, Sink, Sinks};
use super::line::{Line, Piece, State};
use super::memory::occupied;
use super::ranges::RangeSet;
use super::repair;
use super::work::{Cut, Work};
use crate::digest::{Digests, Fingerprint, Fingerprinter};
use crate::error::{Kind, Result};
use crate::remote::{Kept, Note, Partial};

/// A file is noted in about this many blocks: what a kill loses is a small part of it, and the notes of a large file stay small.
const BLOCKS: u64 = 2048;
const SMALLEST_BLOCK: u64 = 256 << 10;
const LARGEST_BLOCK: u64 = 16 << 20;
/// Bytes are written in pieces of about this size, or block by block where blocks are smaller.
const FLUSH: u64 = 512 << 10;
/// Or less where many streams write at once: together they may keep an eighth of the memory budget.
const LEAST_FLUSH: u64 = 64 << 10;
/// A block that grows slowly is noted after this time.
const SLOW_BLOCK: Duration = Duration::from_secs(1);
/// States of the hash kept for a repair.
const STEPS: u64 = 256;
/// The hash is noted about this often: behind it, another run must hash again what is on the disk.
const NOTE_HASH: u64 = 64 << 20;
/// Largest chunk of one request.
const LARGEST_CHUNK: u64 = 64 << 20;

/// Bytes that were written, as they were noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) end: u64,
    pub(super) fingerprint: Fingerprint,
    /// Who brought them; `None` when an earlier run did.
    pub(super) origin: Option<usize>,
}

/// A file on its way into a [`Partial`].
pub(super) struct Fill {
    pub(super) job: Arc<Job>,
    pub(super) partial: Arc<dyn Partial>,
    pub(super) grid: u64,
    pub(super) step: u64,
    /// By where they begin; they do not overlap.
    pub(super) blocks: Mutex<BTreeMap<u64, Block>>,
    /// What can be read back and is what it was.
    written: Mutex<RangeSet>,
    changed: Notify,
    /// Streams that write.
    writers: AtomicU64,
}

/// Fills `partial` with the verified file.
pub(super) async fn fill(job: &Arc<Job>, partial: Arc<dyn Partial>) -> Result<Digests> {
    let size = job.entry.size;
    let grid = (size / BLOCKS).next_power_of_two().clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
    let step = (size / STEPS).next_multiple_of(grid).max(grid);
    let fill = Fill {
        job: job.clone(),
        partial,
        grid,
        step,
        blocks: Mutex::default(),
        written: Mutex::default(),
        changed: Notify::new(),
        writers: AtomicU64::new(0),
    };
    Arc::new(fill).run().await
}

impl Fill {
    async fn run(self: Arc<Self>) -> Result<Digests> {
        let size = self.job.entry.size;
        let kept = self.partial.kept().await?;
        let (claims, prefix) = usable(kept, size);
        if let Some(prefix) = &prefix {
            self.job.line.resume(prefix);
        }
        (0..size).step_by(usize::try_from(self.step).unwrap_or(usize::MAX)).for_each(|at| self.job.line.mark(at));
        let mut claimed = RangeSet::default();
        for (range, _) in &claims {
            claimed.insert(range.clone());
        }
        let smallest = (size / 64).next_multiple_of(self.grid).clamp(1 << 20, 4 << 20);
        let cut = Cut { grid: self.grid, smallest, largest: LARGEST_CHUNK.max(smallest), may_split: true };
        let work = Arc::new(Work::new(0, cut, claimed.gaps(0..size)));
        work.open();
        let sinks: Arc<dyn Sinks> = Arc::new(Writers(self.clone()));
        let check = async {
            let lost = self.check(claims, &work).await;
            work.close();
            lost
        };
        let (lost, (), ()) = tokio::try_join!(check, crew::run(&self.job, &work, &sinks), self.hash())?;
        // A hash that was taken over covers bytes that are no longer the same ones.
        let first_lost = lost.first().map_or(size, |first| first.start);
        let verdict = if prefix.is_none_or(|prefix| prefix.at() <= first_lost) {
            self.job.line.verdict().await
        } else {
            self.hash_again(self.job.fresh_state()).await
        };
        match verdict {
            Err(error) if error.kind() == Kind::Corrupt => repair::repair(&self, error).await,
            verdict => verdict,
        }
    }

    pub(super) fn blocks(&self) -> MutexGuard<'_, BTreeMap<u64, Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, RangeSet> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that one stream collects before it writes them.
    fn flush_size(&self) -> u64 {
        let share = self.job.context.memory.total() / 8 / self.writers.load(Ordering::Relaxed).max(1);
        share.clamp(LEAST_FLUSH, FLUSH).min(self.grid)
    }

    /// Reads what an earlier run claims to have written. What is not as noted is read from the source again.
    async fn check(&self, claims: Vec<(Range<u64>, Fingerprint)>, work: &Work) -> Result<RangeSet> {
        let mut lost = RangeSet::default();
        for (range, fingerprint) in claims {
            // What cannot be read back is as lost as what reads otherwise.
            if self.fingerprint(range.clone()).await.is_ok_and(|found| found == fingerprint) {
                self.blocks().insert(range.start, Block { end: range.end, fingerprint, origin: None });
                self.job.show(range.clone());
                self.is_written(range);
            } else {
                lost.insert(range.clone());
                work.add(range);
            }
        }
        Ok(lost)
    }

    async fn fingerprint(&self, range: Range<u64>) -> Result<Fingerprint> {
        let mut found = Fingerprinter::new(0);
        for piece in pieces(range) {
            found.update(&self.partial.read(piece).await?);
        }
        Ok(found.finish())
    }

    fn is_written(&self, range: Range<u64>) {
        self.written().insert(range);
        self.changed.notify_waiters();
    }

    /// Brings the hash everything that it did not get from memory, and notes how far it came.
    async fn hash(&self) -> Result<()> {
        let line = &self.job.line;
        let every = self.step * (NOTE_HASH / self.step).max(1);
        let mut note = (line.next() / every + 1) * every;
        loop {
            let (moved, changed) = (line.moved(), self.changed.notified());
            while let Some(state) = line.state_at(note) {
                self.partial.note(vec![Note::Prefix(state.prefix)]).await?;
                note += every;
            }
            let next = line.next();
            if next == self.job.entry.size {
                return Ok(());
            }
            let run = self.written().end_of_run(next);
            if let Some(end) = run {
                let bytes = self.partial.read(next..end.min(next + FLUSH)).await?;
                line.feed(next, Piece { bytes, share: None }).await;
            } else {
                tokio::select! { () = moved => {}, () = changed => {} }
            }
        }
    }

    /// Hashes what is written from `state` to the end and compares.
    pub(super) async fn hash_again(&self, state: State) -> Result<Digests> {
        let size = self.job.entry.size;
        let line = Arc::new(Line::from_state(size, self.job.entry.digests, state));
        for piece in pieces(line.next()..size) {
            let bytes = self.partial.read(piece.clone()).await?;
            line.feed(piece.start, Piece { bytes, share: None }).await;
        }
        line.verdict().await
    }
}

/// What of an earlier run's notes makes sense: blocks inside the file that do not overlap, and the longest prefix they cover.
fn usable(kept: Kept, size: u64) -> (Vec<(Range<u64>, Fingerprint)>, Option<crate::digest::Prefix>) {
    let mut end = 0;
    let mut covered = RangeSet::default();
    let blocks = kept.blocks.into_iter().filter(|(range, _)| {
        let fits = range.start < range.end && range.end <= size && range.start >= end;
        if fits {
            end = range.end;
            covered.insert(range.clone());
        }
        fits
    });
    let blocks: Vec<_> = blocks.collect();
    let run = covered.end_of_run(0).unwrap_or(0);
    let prefix = kept.prefixes.into_iter().filter(|prefix| prefix.at() <= run).max_by_key(crate::digest::Prefix::at);
    (blocks, prefix)
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(usize::try_from(FLUSH).unwrap_or(usize::MAX)).map(move |at| at..end.min(at + FLUSH))
}

struct Writers(Arc<Fill>);

impl Sinks for Writers {
    fn begin(&self, start: u64, origin: usize) -> Box<dyn Sink> {
        self.0.writers.fetch_add(1, Ordering::Relaxed);
        Box::new(Writer {
            fill: self.0.clone(),
            origin,
            at: start,
            block: start,
            since: Instant::now(),
            fingerprint: Fingerprinter::new(0),
            pieces: Vec::new(),
            flushed: start,
            closed: Vec::new(),
        })
    }
}

/// Writes one chunk.
struct Writer {
    fill: Arc<Fill>,
    origin: usize,
    /// Everything before this was taken.
    at: u64,
    /// Where and when the open block began, and what came of it.
    block: u64,
    since: Instant,
    fingerprint: Fingerprinter,
    /// Taken and not written.
    pieces: Vec<Bytes>,
    /// Everything before this was written.
    flushed: u64,
    /// Blocks that are complete and not noted.
    closed: Vec<(u64, Block)>,
}

impl Writer {
    fn close_block(&mut self) {
        let fingerprint = std::mem::replace(&mut self.fingerprint, Fingerprinter::new(0)).finish();
        self.closed.push((self.block, Block { end: self.at, fingerprint, origin: Some(self.origin) }));
        self.block = self.at;
        self.since = Instant::now();
    }

    /// Writes what was taken, shows it to the hash, and notes it.
    async fn flush(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        let range = self.flushed..self.at;
        self.fill.partial.write(range.start, pieces.clone()).await?;
        self.flushed = self.at;
        let job = &self.fill.job;
        let mut at = range.start;
        for bytes in pieces {
            let length = bytes.len() as u64;
            let share = if at > job.line.next() { job.context.memory.try_spare(occupied(length)).map(Arc::new) } else { None };
            // Without room in memory the hash reads it back later.
            if share.is_some() || at <= job.line.next() {
                job.line.feed(at, Piece { bytes, share }).await;
            }
            at += length;
        }
        job.show(range.clone());
        self.fill.is_written(range);
        let closed = std::mem::take(&mut self.closed);
        if closed.is_empty() {
            return Ok(());
        }
        let notes = closed.iter().map(|(start, block)| Note::Block { range: *start..block.end, fingerprint: block.fingerprint });
        let notes = notes.collect();
        self.fill.blocks().extend(closed);
        self.fill.partial.note(notes).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.fill.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Sink for Writer {
    async fn take(&mut self, piece: Bytes) -> Result<()> {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let line = (self.at / self.fill.grid + 1) * self.fill.grid;
            let (now, later) = rest.split_at(usize::try_from(line - self.at).unwrap_or(usize::MAX).min(rest.len()));
            self.fingerprint.update(now);
            self.at += now.len() as u64;
            rest = later;
            if self.at == line {
                self.close_block();
            }
        }
        self.pieces.push(piece);
        let slow = self.at > self.block && self.since.elapsed() >= SLOW_BLOCK;
        if slow {
            self.close_block();
        }
        if slow || self.at - self.flushed >= self.fill.flush_size() { self.flush().await } else { Ok(()) }
    }

    async fn end(&mut self) -> Result<u64> {
        if self.at > self.block {
            self.close_block();
        }
        if self.at > self.flushed || !self.closed.is_empty() {
            self.flush().await?;
        }
        Ok(self.at)
    }
}

/// Writes other bytes in the place of noted ones.
pub(super) async fn replace(fill: &Fill, start: u64, bytes: Bytes, block: Block) -> Result<()> {
    let note = Note::Block { range: start..block.end, fingerprint: block.fingerprint };
    fill.partial.write(start, vec![bytes]).await?;
    fill.blocks().insert(start, block);
    fill.partial.note(vec![note]).await
}
