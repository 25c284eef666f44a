//! How much at once a host bears: a number of concurrent streams that climbs while throughput grows and retreats on refusals,
//! rising latency and collapse.
//!
//! `control` decides and is pure; `slots` keeps the queue; here they get a clock and locks. `simulation` (tests) plays hosts.

mod control;
#[cfg(test)]
mod hosts;
mod meter;
mod rounds;
#[cfg(test)]
mod simulation;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Kind, Retry};
use crate::events::{Event, Reporter};
use control::Control;
use slots::{Slot, Slots};

/// When every holder has been silent this long, somebody who waits gets a stream beyond the limit: whatever the holders wait for
/// may be waiting for a stream itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes are told to the control in portions of this time, so that the way of every piece is short.
const PORTION: Duration = Duration::from_millis(4);

/// Failures that come within this time belong together.
const BURST: Duration = Duration::from_secs(2);

/// Shortest time between two events about one host.
const QUIET: Duration = Duration::from_secs(2);

/// Bounds of a [`Governor`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Streams allowed at the beginning.
    pub start: usize,
    /// Streams never exceeded.
    pub most: usize,
}

impl Bounds {
    /// At most `most` streams, beginning with eight or fewer.
    pub fn up_to(most: usize) -> Self {
        Self { start: most.clamp(1, 8), most: most.max(1) }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::up_to(64)
    }
}

/// Hands out permits for streams from one host. Shared by everything that reads from it.
pub struct Governor {
    host: String,
    reporter: Option<Arc<dyn Reporter>>,
    born: Instant,
    state: Mutex<State>,
    /// Bytes and pieces that the control was not told of yet, and when it was told last (microseconds since birth).
    bytes: AtomicU64,
    pieces: AtomicU64,
    told: AtomicU64,
    this: Weak<Self>,
}

#[derive(Debug)]
struct State {
    control: Control,
    slots: Slots,
    /// The moment that a task waits for.
    armed: Option<Duration>,
    /// Connections that could not be made lately, and since when.
    broken: (usize, Duration),
    /// What was reported last, and when.
    reported: (usize, Duration),
}

/// What a governor does at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Streams allowed.
    pub limit: usize,
    /// Streams in use.
    pub active: usize,
    /// Callers of [`Governor::permit`] that wait.
    pub waiting: usize,
    /// How often the host refused; a burst counts once.
    pub refused: u64,
}

impl Governor {
    /// Begins with `bounds.start` streams.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Self::of_host(String::new(), bounds, None)
    }

    fn of_host(host: String, bounds: Bounds, reporter: Option<Arc<dyn Reporter>>) -> Arc<Self> {
        let state = State {
            control: Control::new(bounds),
            slots: Slots::default(),
            armed: None,
            broken: (0, Duration::ZERO),
            reported: (0, Duration::ZERO),
        };
        Arc::new_cyclic(|this| Self {
            host,
            reporter,
            born: Instant::now(),
            state: Mutex::new(state),
            bytes: AtomicU64::new(0),
            pieces: AtomicU64::new(0),
            told: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    /// Waits until one more stream is allowed. First come, first served; whoever stops waiting loses nothing for the others.
    pub async fn permit(self: &Arc<Self>) -> Permit {
        loop {
            if let Some(permit) = self.spare() {
                return permit;
            }
            let mut place = self.act(|state, _| state.slots.queue());
            loop {
                match tokio::time::timeout(PATIENCE, &mut place).await {
                    Ok(Ok(permit)) => return permit,
                    // Cannot happen while the governor lives; a new place in the queue does no harm.
                    Ok(Err(_)) => break,
                    Err(_) => self.act(|state, now| {
                        let silent = now.saturating_sub(state.slots.stirred) >= PATIENCE;
                        if silent && !state.control.is_paused(now) {
                            state.slots.overdraw(now, state.control.limit());
                        }
                    }),
                }
            }
        }
    }

    /// One more stream, if it is allowed at once and nobody waits for it: for the second and further streams of one file. The
    /// limit grows with time: ask again after a few pieces.
    pub fn spare(self: &Arc<Self>) -> Option<Permit> {
        let slot = self.act(|state, now| {
            let slot = state.slots.spare(state.control.limit())?;
            state.control.occupied(now, state.slots.active());
            Some(slot)
        })?;
        Some(Permit { slot, governor: self.clone() })
    }

    /// Whether [`Governor::spare`] would give one now.
    pub fn has_spare(&self) -> bool {
        let state = self.state();
        state.slots.has_spare(state.control.limit())
    }

    /// The host refused a request for being too many (429, 503), or the connection itself. Refusals that come close together count
    /// once. Where the host said how long to wait, [`Governor::paused`] is the right call.
    pub fn refused(&self) {
        self.act(|state, now| state.control.refused(now));
    }

    /// The host wants no requests for `wait`. The pause itself is kept by whoever talks to the host; here it only stops the
    /// measuring, because a quota that is used up says nothing about how many streams are right. A second pause soon after the
    /// first does, and counts as a refusal.
    pub fn paused(&self, wait: Duration) {
        self.act(|state, now| state.control.paused(now, wait));
    }

    /// Takes a request that failed for what it says about the load: a pause, a refusal, or nothing. Connections that cannot be made
    /// are a refusal only when many streams find so and something came by others since the last time: else it is the network.
    pub fn failed(&self, error: &Error) {
        let busy = error.contexts().iter().any(|(key, value)| *key == "status" && value == "503");
        match (error.kind(), error.retry()) {
            (Kind::RateLimited, Retry::After(wait)) => self.paused(wait),
            (Kind::Unavailable, Retry::After(wait)) if busy => self.paused(wait),
            (Kind::RateLimited, _) => self.refused(),
            (Kind::Unavailable, _) if busy => self.refused(),
            (Kind::Unavailable, _) => self.act(State::broken),
            _ => {}
        }
    }

    /// Streams allowed now.
    pub fn limit(&self) -> usize {
        self.state().control.limit()
    }

    /// Limit, use and refusals now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            limit: state.control.limit(),
            active: state.slots.active(),
            waiting: state.slots.waiting(),
            refused: state.control.refusals(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `event` happen and carries out what follows from it. Nothing foreign is called under the lock.
    fn act<T>(&self, event: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut granted = Vec::new();
        let (value, news, alarm) = {
            let mut state = self.state();
            let now = self.born.elapsed();
            self.tell(&mut state, now);
            let value = event(&mut state, now);
            let state = &mut *state;
            state.control.tick(now);
            let limit = state.control.limit();
            state.slots.mark(state.control.recalled_above(now));
            while let Some(grant) = state.slots.grant(limit) {
                state.control.occupied(now, state.slots.active());
                granted.push(grant);
            }
            (value, self.news(state, now), state.alarm())
        };
        if let Some(governor) = self.this.upgrade() {
            for (place, slot) in granted {
                // Who has gone in the meantime gives it back by dropping it.
                drop(place.send(Permit { slot, governor: governor.clone() }));
            }
        }
        if let (Some(reporter), Some(event)) = (&self.reporter, news) {
            reporter.event(&event);
        }
        if let Some(alarm) = alarm {
            self.wake_at(alarm);
        }
        value
    }

    /// Passes on what came since the last time.
    fn tell(&self, state: &mut State, now: Duration) {
        self.told.store(micros(now), Ordering::Relaxed);
        let (bytes, pieces) = (self.bytes.swap(0, Ordering::Relaxed), self.pieces.swap(0, Ordering::Relaxed));
        if pieces > 0 {
            state.slots.stirred = now;
            state.control.received(now, bytes, pieces);
        }
    }

    /// What changed for good, now and then.
    fn news(&self, state: &mut State, now: Duration) -> Option<Event> {
        self.reporter.as_ref()?;
        if now < state.reported.1 + QUIET {
            return None;
        }
        let (streams, why) = state.control.take_news()?;
        if streams == state.reported.0 {
            return None;
        }
        state.reported = (streams, now);
        Some(Event::Streams { host: self.host.clone(), streams, why })
    }

    /// A host that a trial has silenced sends nothing that could end the trial: a task looks after it.
    fn wake_at(&self, moment: Duration) {
        let (this, until) = (self.this.clone(), self.born + moment);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(governor) = this.upgrade() {
                    governor.act(|state, _| state.armed = None);
                }
            });
        }
    }
}

impl State {
    /// A connection could not be made.
    fn broken(&mut self, now: Duration) {
        if now > self.broken.1 + BURST {
            self.broken = (0, now);
        }
        self.broken.0 += 1;
        if self.broken.0 * 4 >= self.slots.active().max(4) {
            self.broken.0 = 0;
            if now < self.slots.stirred + BURST {
                self.control.refused(now);
            }
        }
    }

    /// A moment to wake up at that nobody waits for yet.
    fn alarm(&mut self) -> Option<Duration> {
        let deadline = self.control.deadline()?;
        if self.armed.is_some() {
            return None;
        }
        self.armed = Some(deadline);
        self.armed
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor").field("host", &self.host).field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

/// The right to one stream, until it is dropped. Whoever holds it tells what came by it.
#[derive(Debug)]
pub struct Permit {
    slot: Slot,
    governor: Arc<Governor>,
}

impl Permit {
    /// The first byte of an answer came after `latency`.
    pub fn answered(&self, latency: Duration) {
        self.governor.act(|state, now| {
            state.slots.stirred = now;
            state.control.answered(now, latency);
        });
    }

    /// This many bytes arrived.
    pub fn received(&self, bytes: u64) {
        let governor = &self.governor;
        governor.bytes.fetch_add(bytes, Ordering::Relaxed);
        governor.pieces.fetch_add(1, Ordering::Relaxed);
        let told = governor.told.load(Ordering::Relaxed);
        if micros(governor.born.elapsed()) >= told.saturating_add(micros(PORTION)) {
            governor.act(|_, _| ());
        }
    }

    /// A range (or a whole small file) was read to its end: the permit stays and may be used for the next.
    pub fn completed(&self) {
        self.governor.act(|state, now| {
            state.slots.stirred = now;
            state.control.completed(now);
        });
    }

    /// More streams are in use than are known to be good: what is begun now may have to end soon.
    pub fn is_on_trial(&self) -> bool {
        let state = self.governor.state();
        state.slots.active() > state.control.level()
    }

    /// The governor has retreated below what is in use: give this one back at the next opportunity, also in the middle of a range.
    pub fn is_surplus(&self) -> bool {
        self.slot.recall.is_surplus()
    }

    /// Resolves when the permit is surplus: for a holder that waits for bytes of a host that sends next to none any more.
    pub fn recalled(&self) -> impl Future<Output = ()> + Send + use<> {
        let recall = self.slot.recall.clone();
        async move { recall.wait().await }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.governor.act(|state, now| {
            state.slots.give_back(self.slot.number, state.control.limit());
            state.control.occupied(now, state.slots.active());
        });
    }
}

/// The governors of a run, one for each host.
#[derive(Clone)]
pub struct Governors(Arc<Hosts>);

struct Hosts {
    bounds: Bounds,
    reporter: Option<Arc<dyn Reporter>>,
    known: Mutex<BTreeMap<String, Arc<Governor>>>,
}

impl Governors {
    /// Each host gets these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Hosts { bounds, reporter: None, known: Mutex::default() }))
    }

    /// The same; what the governors decide is reported now and then.
    pub fn reporting(bounds: Bounds, reporter: Arc<dyn Reporter>) -> Self {
        Self(Arc::new(Hosts { bounds, reporter: Some(reporter), known: Mutex::default() }))
    }

    /// The governor of `host`; the same one for the same name.
    pub fn of(&self, host: &str) -> Arc<Governor> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(governor) = known.get(host) {
            return governor.clone();
        }
        let governor = Governor::of_host(host.to_owned(), self.0.bounds, self.0.reporter.clone());
        known.insert(host.to_owned(), governor.clone());
        governor
    }

    /// The bounds that each host has.
    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Every host seen so far, by name.
    pub fn snapshots(&self) -> Vec<(String, Snapshot)> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(host, governor)| (host.clone(), governor.snapshot())).collect()
    }
}

impl Default for Governors {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl fmt::Debug for Governors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governors").field("bounds", &self.0.bounds).field("hosts", &self.snapshots()).finish_non_exhaustive()
    }
}
