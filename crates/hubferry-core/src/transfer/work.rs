//! What is left to read of a range, cut into chunks by how fast and how far away the place is; who reads what, and who is too slow.
//! No I/O and no waiting in here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ranges::RangeSet;

/// A chunk takes about this many times as long as the way to the first byte, so that asking costs little.
const LATENCIES: u128 = 25;
/// The first chunk, before anything is known.
const FIRST: u64 = 4 << 20;
/// A stream that everything waits for is replaced after this much silence, or later where answers take long; each time the
/// same place is replaced again the patience doubles.
const PATIENCE: Duration = Duration::from_secs(4);
/// A stream that is this many times slower than its fellows is replaced when everything waits for it.
const SLOWER: u64 = 4;
/// A remainder that is expected to take less than this is left to whoever reads it.
const SOON: Duration = Duration::from_millis(300);

/// How a range may be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Chunks begin at multiples of this.
    pub(super) grid: u64,
    /// Smallest chunk that is worth a request.
    pub(super) smallest: u64,
    /// Largest chunk.
    pub(super) largest: u64,
    /// Whether half of a chunk that is being read may be given to somebody else.
    pub(super) may_split: bool,
}

/// How much is read at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    /// All there is: the place cannot begin in the middle.
    Whole,
    /// What suits the place.
    Usual,
    /// Little: what is on its way when a stream is broken off is sent in vain, and this one may be.
    Short,
}

/// A chunk that somebody reads.
#[derive(Debug)]
pub(super) struct Chunk {
    number: u64,
    pub(super) range: Range<u64>,
    pub(super) orders: Arc<Orders>,
}

/// What whoever reads a chunk is told meanwhile.
#[derive(Debug)]
pub(super) struct Orders {
    end: AtomicU64,
    stop: AtomicBool,
    told: Notify,
}

impl Orders {
    /// Where the chunk ends now.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Resolves when the chunk is to be given back.
    pub(super) async fn stopped(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let told = self.told.notified();
            if !self.stop.load(Ordering::Acquire) {
                told.await;
            }
        }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.told.notify_waiters();
        self.told.notify_one();
    }
}

/// The work on one range, shared by those who do it.
#[derive(Debug)]
pub(super) struct Work {
    cut: Cut,
    base: u64,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    todo: RangeSet,
    active: BTreeMap<u64, Active>,
    next_number: u64,
    /// How many may still add work.
    sources: usize,
    paces: HashMap<usize, Pace>,
    /// Replacements by the place where a stream got stuck.
    stuck: HashMap<u64, u32>,
}

#[derive(Debug)]
struct Active {
    origin: usize,
    start: u64,
    at: u64,
    since: Instant,
    /// Since when it waits for the network; `None` while the bytes are being put away.
    waiting: Option<Instant>,
    orders: Arc<Orders>,
}

/// What is known of one stream of an origin.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Bytes per second.
    speed: u64,
    /// Microseconds to the first byte.
    latency: u64,
}

impl Pace {
    /// Moves towards what was measured last.
    fn note(value: &mut u64, measured: u64) {
        *value = if *value > 0 { (*value / 10 * 7).saturating_add(measured / 10 * 3).max(1) } else { measured.max(1) };
    }
}

/// `bytes` over `time`, per second.
fn per_second(bytes: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / time.as_micros().max(100)).unwrap_or(u64::MAX)
}

/// How long `bytes` take.
fn time_for(bytes: u64, speed: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / speed.max(1))
}

impl Active {
    fn rest(&self) -> u64 {
        self.orders.end().saturating_sub(self.at)
    }

    fn speed(&self, now: Instant) -> u64 {
        per_second(self.at - self.start, now.duration_since(self.since))
    }
}

impl Work {
    /// Work on `todo`; chunks begin at multiples of the grid behind `base`.
    pub(super) fn new(base: u64, cut: Cut, todo: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut ranges = RangeSet::default();
        for range in todo {
            ranges.insert(range);
        }
        let inner =
            Inner { todo: ranges, active: BTreeMap::new(), next_number: 0, sources: 0, paces: HashMap::new(), stuck: HashMap::new() };
        Self { cut, base, inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when there may be something new to do since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// More to read.
    pub(super) fn add(&self, range: Range<u64>) {
        self.lock().todo.insert(range);
        self.changed.notify_one();
    }

    /// Somebody may add work until [`Work::close`] is called as often.
    pub(super) fn open(&self) {
        self.lock().sources += 1;
    }

    /// See [`Work::open`].
    pub(super) fn close(&self) {
        self.lock().sources -= 1;
        self.changed.notify_one();
    }

    /// Nothing to do, nobody at it, nobody who may add more.
    pub(super) fn is_done(&self) -> bool {
        let inner = self.lock();
        inner.todo.is_empty() && inner.active.is_empty() && inner.sources == 0
    }

    /// The first offset nobody reads yet.
    pub(super) fn first_todo(&self) -> Option<u64> {
        self.lock().todo.first().map(|range| range.start)
    }

    /// Whether anything arrived by now: before, more streams would only repeat the first question.
    pub(super) fn has_begun(&self) -> bool {
        !self.lock().paces.is_empty()
    }

    /// The next chunk for a stream from `origin`.
    pub(super) fn claim(&self, origin: usize, length: Length) -> Option<Chunk> {
        let mut inner = self.lock();
        let first = inner.todo.first()?;
        let length = match length {
            Length::Whole => u64::MAX,
            Length::Short => self.length(&inner, origin).min(FIRST),
            Length::Usual => self.length(&inner, origin),
        };
        let end = first.start.saturating_add(length);
        // Up to the next line of the grid, but never less than something.
        let aligned = self.base + (end - self.base) / self.cut.grid * self.cut.grid;
        let end = if aligned > first.start { aligned } else { end.max(first.start + 1).next_multiple_of(self.cut.grid) }.min(first.end);
        inner.todo.remove(first.start..end);
        let number = inner.next_number;
        inner.next_number += 1;
        let orders = Arc::new(Orders { end: AtomicU64::new(end), stop: AtomicBool::new(false), told: Notify::new() });
        let now = Instant::now();
        let active = Active { origin, start: first.start, at: first.start, since: now, waiting: Some(now), orders: orders.clone() };
        inner.active.insert(number, active);
        Some(Chunk { number, range: first.start..end, orders })
    }

    fn length(&self, inner: &Inner, origin: usize) -> u64 {
        let ideal = match inner.paces.get(&origin) {
            Some(pace) => u64::try_from(u128::from(pace.speed) * u128::from(pace.latency) * LATENCIES / 1_000_000).unwrap_or(u64::MAX),
            None => FIRST,
        };
        // Towards the end the chunks get smaller, so that all streams end together.
        let share = inner.todo.len() / (2 * (inner.active.len() as u64 + 1));
        ideal.max(self.cut.smallest).min(share).clamp(self.least(inner, origin), self.cut.largest)
    }

    /// Smallest chunk at the end: what is worth a request usually, but no more than a slow stream brings in the time that others may
    /// wait for it.
    fn least(&self, inner: &Inner, origin: usize) -> u64 {
        let Some(pace) = inner.paces.get(&origin) else { return self.cut.smallest };
        let waited_for = u64::try_from(u128::from(pace.speed) * SOON.as_millis() / 1000).unwrap_or(u64::MAX);
        waited_for.clamp(self.cut.grid.min(self.cut.smallest), self.cut.smallest)
    }

    /// A chunk's reader waits for the network from now on.
    pub(super) fn wait(&self, chunk: &Chunk) {
        if let Some(active) = self.lock().active.get_mut(&chunk.number) {
            active.waiting = Some(Instant::now());
        }
    }

    /// A chunk's reader has `length` more bytes. Says how many of them are still its own; fewer mean that its chunk ends there.
    pub(super) fn advance(&self, chunk: &Chunk, length: u64) -> u64 {
        let mut inner = self.lock();
        let Some(active) = inner.active.get_mut(&chunk.number) else { return 0 };
        let own = length.min(active.rest());
        active.at += own;
        active.waiting = None;
        own
    }

    /// Whether a chunk is as good as read.
    pub(super) fn ends_soon(&self, chunk: &Chunk) -> bool {
        let inner = self.lock();
        let now = Instant::now();
        inner.active.get(&chunk.number).is_none_or(|active| time_for(active.rest(), active.speed(now)) <= SOON)
    }

    /// How long the first byte of a chunk took.
    pub(super) fn answered(&self, chunk: &Chunk, latency: Duration) {
        let mut inner = self.lock();
        let Some(active) = inner.active.get_mut(&chunk.number) else { return };
        active.since = Instant::now();
        let origin = active.origin;
        Pace::note(&mut inner.paces.entry(origin).or_default().latency, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        drop(inner);
        self.changed.notify_one();
    }

    /// A chunk was read up to its end.
    pub(super) fn finish(&self, chunk: &Chunk) {
        let mut inner = self.lock();
        if let Some(active) = inner.active.remove(&chunk.number) {
            let speed = per_second(chunk.orders.end() - active.start, active.since.elapsed());
            Pace::note(&mut inner.paces.entry(active.origin).or_default().speed, speed);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// A chunk was read up to `settled` only; somebody else reads the rest.
    pub(super) fn give_back(&self, chunk: &Chunk, settled: u64) {
        let mut inner = self.lock();
        if let Some(active) = inner.active.remove(&chunk.number).filter(|active| active.at > active.start) {
            let speed = active.speed(Instant::now());
            Pace::note(&mut inner.paces.entry(active.origin).or_default().speed, speed);
        }
        inner.todo.insert(settled..chunk.orders.end());
        drop(inner);
        self.changed.notify_one();
    }

    /// Stops streams that everything waits for and that are stuck or far too slow. `needed` is the offset somebody waits for right
    /// now; without one, everything waits once nothing is left to begin.
    pub(super) fn review(&self, needed: Option<u64>) {
        let mut inner = self.lock();
        let at_the_end = inner.todo.is_empty() && inner.sources == 0;
        let now = Instant::now();
        let mut stopped = Vec::new();
        for active in inner.active.values() {
            let awaited = needed.is_some_and(|needed| (active.at..active.orders.end()).contains(&needed)) || at_the_end;
            if awaited && inner.is_too_slow(active, now) {
                stopped.push(active.at);
                active.orders.stop();
            }
        }
        for at in stopped {
            *inner.stuck.entry(at).or_default() += 1;
        }
    }

    /// Takes half of the chunk that will end last away from its reader; says whether there is something to do now.
    pub(super) fn split(&self) -> bool {
        let mut inner = self.lock();
        if !self.cut.may_split || !inner.todo.is_empty() || inner.sources > 0 {
            return !inner.todo.is_empty();
        }
        let now = Instant::now();
        let grid = self.cut.grid;
        let is_large = |active: &&Active| active.at > active.start && active.rest() >= 2 * self.least(&inner, active.origin).max(grid);
        let last = inner.active.values().filter(is_large);
        let last = last.filter(|active| time_for(active.rest(), active.speed(now)) > SOON).max_by_key(|active| active.rest());
        let Some(last) = last else { return false };
        let end = last.orders.end();
        let middle = self.base + (last.at + last.rest() / 2 - self.base).next_multiple_of(grid);
        if middle >= end {
            return false;
        }
        last.orders.end.store(middle, Ordering::Release);
        inner.todo.insert(middle..end);
        true
    }
}

impl Inner {
    fn is_too_slow(&self, active: &Active, now: Instant) -> bool {
        let Some(waiting) = active.waiting else { return false };
        let pace = self.paces.get(&active.origin).copied().unwrap_or_default();
        let latency = Duration::from_micros(pace.latency);
        let replaced = self.stuck.get(&active.start).copied().unwrap_or(0).min(6);
        let patience = PATIENCE.max((latency * 10).min(Duration::from_secs(30))).saturating_mul(1 << replaced);
        if now.duration_since(waiting) > patience {
            return true;
        }
        let fellows = self.paces.values().map(|pace| pace.speed).max().unwrap_or(0);
        let speed = active.speed(now);
        let afresh = time_for(active.rest(), fellows) + latency;
        now.duration_since(active.since) > patience / 2
            && speed.saturating_mul(SLOWER) < fellows
            && time_for(active.rest(), speed) > 2 * afresh + SOON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut { grid: 10, smallest: 20, largest: 1000, may_split: true };

    #[test]
    fn every_byte_is_claimed_once() {
        let work = Work::new(3, CUT, [3..503, 600..707]);
        let mut covered = RangeSet::default();
        while let Some(chunk) = work.claim(0, Length::Usual) {
            assert_eq!(covered.insert(chunk.range.clone()), chunk.range.end - chunk.range.start);
            assert!((chunk.range.start - 3).is_multiple_of(10) || chunk.range.start == 600, "{chunk:?}");
            work.finish(&chunk);
        }
        assert!(work.is_done());
        assert_eq!(covered.gaps(0..710), [0..3, 503..600, 707..710]);
    }

    #[test]
    fn what_is_given_back_is_claimed_again() {
        let work = Work::new(0, CUT, Some(0..100));
        let chunk = work.claim(0, Length::Whole).unwrap();
        assert_eq!(chunk.range, 0..100);
        work.give_back(&chunk, 30);
        assert!(!work.is_done());
        let rest = work.claim(0, Length::Whole).unwrap();
        assert_eq!(rest.range, 30..100);
        work.finish(&rest);
        assert!(work.is_done());
    }

    #[test]
    fn the_last_chunk_is_shared_out() {
        let work = Work::new(0, CUT, Some(0..1000));
        let chunk = work.claim(0, Length::Whole).unwrap();
        assert!(!work.split(), "nobody knows yet how fast it is");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(work.advance(&chunk, 10), 10);
        assert!(work.split());
        let other = work.claim(0, Length::Whole).unwrap();
        assert_eq!((chunk.orders.end(), other.range.clone()), (510, 510..1000));
        assert_eq!(work.advance(&chunk, 600), 500, "the rest is somebody else's");
        work.finish(&chunk);
        work.finish(&other);
        assert!(work.is_done());
    }

    #[test]
    fn work_to_come_keeps_it_open() {
        let work = Work::new(0, CUT, []);
        work.open();
        assert!(!work.is_done());
        work.add(0..5);
        work.close();
        let chunk = work.claim(0, Length::Usual).unwrap();
        work.finish(&chunk);
        assert!(work.is_done());
    }
}
