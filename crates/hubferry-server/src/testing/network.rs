//! What the lines to the server are like: how fast, how far away, how crowded; and how much went over them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Face;

/// What a listener can bear, in each direction.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Shape {
    /// Bytes per second of one connection.
    pub per_connection: Option<u64>,
    /// Bytes per second of all connections together.
    pub per_server: Option<u64>,
    /// Every request waits this long before it is handled.
    pub latency: Duration,
    /// What happens when too much is asked at once.
    pub crowd: Option<Crowd>,
}

impl Shape {
    /// One connection carries this many bytes per second.
    pub fn per_connection(rate: u64) -> Self {
        Self { per_connection: Some(rate), ..Self::default() }
    }

    /// All connections together carry this many bytes per second.
    pub fn per_server(rate: u64) -> Self {
        Self { per_server: Some(rate), ..Self::default() }
    }

    /// The same at this distance.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The same, and with more than `above` requests under way at once this happens.
    #[must_use]
    pub fn crowd(self, above: usize, then: Crowding) -> Self {
        Self { crowd: Some(Crowd { above, then }), ..self }
    }

    fn rates(&self, streams: usize) -> (Option<f64>, Option<f64>) {
        let share = match self.crowd {
            Some(Crowd { above, then: Crowding::Collapse(share) }) if streams > above => share,
            _ => 1.0,
        };
        (self.per_connection.map(|rate| rate as f64), self.per_server.map(|rate| rate as f64 * share))
    }
}

/// A number of requests at once, and what happens above it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Crowd {
    /// So many are borne.
    pub above: usize,
    /// What more of them do.
    pub then: Crowding,
}

/// What too many requests at once do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Crowding {
    /// All of them together get this share of [`Shape::per_server`].
    Collapse(f64),
    /// New ones are refused with 503.
    Refuse,
}

/// The lines to all listeners of one server. Shapes may change while it runs.
#[derive(Debug, Default)]
pub struct Network {
    sides: [Arc<Side>; 3],
    connections: AtomicU64,
}

/// What one listener's connections share.
#[derive(Debug, Default)]
pub(super) struct Side {
    shape: Mutex<Shape>,
    down: Mutex<Bucket>,
    up: Mutex<Bucket>,
    streams: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Network {
    /// From now on the lines to `face` are like this.
    pub fn shape(&self, face: Face, shape: Shape) {
        *lock(&self.side(face).shape) = shape;
    }

    /// Connections that were opened to `face` so far.
    pub fn opened(&self, face: Face) -> u64 {
        self.side(face).opened.load(Ordering::Relaxed)
    }

    /// Most requests that were under way at once.
    pub fn most_at_once(&self, face: Face) -> usize {
        self.side(face).most.load(Ordering::Relaxed)
    }

    /// Bytes handed to the sockets of `face` so far: heads and bodies.
    pub fn sent(&self, face: Face) -> u64 {
        self.side(face).sent.load(Ordering::Relaxed)
    }

    /// Bytes taken from the sockets of `face` so far: heads and bodies.
    pub fn received(&self, face: Face) -> u64 {
        self.side(face).received.load(Ordering::Relaxed)
    }

    pub(super) fn side(&self, face: Face) -> &Arc<Side> {
        match face {
            Face::Hf => &self.sides[0],
            Face::Ms => &self.sides[1],
            Face::Cdn => &self.sides[2],
        }
    }

    /// The number of a new connection to `face`.
    pub(super) fn open(&self, face: Face) -> u64 {
        self.side(face).opened.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Which way bytes go, as the server sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Out,
    In,
}

impl Side {
    pub(super) fn latency(&self) -> Duration {
        lock(&self.shape).latency
    }

    /// One more request is under way, until the stream is dropped. `None` when it is one too many.
    pub(super) fn stream(self: &Arc<Self>) -> Option<Stream> {
        let streams = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = Stream(self.clone());
        let crowd = lock(&self.shape).crowd;
        if crowd.is_some_and(|crowd| crowd.then == Crowding::Refuse && streams > crowd.above) {
            return None;
        }
        self.most.fetch_max(streams, Ordering::Relaxed);
        Some(stream)
    }

    pub(super) fn count(&self, way: Way, bytes: usize) {
        let counter = if way == Way::Out { &self.sent } else { &self.received };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The next bytes of a connection: how many, and when they may go. `None` when nothing holds them back.
    pub(super) fn grant(&self, way: Way, own: &mut Bucket) -> Option<(usize, Instant)> {
        let (mine, all) = lock(&self.shape).rates(self.streams.load(Ordering::Relaxed));
        let slowest = mine.into_iter().chain(all).reduce(f64::min)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
        let bytes = (slowest / 100.0).clamp(1.0, 65536.0) as usize;
        let now = Instant::now();
        let shared = if way == Way::Out { &self.down } else { &self.up };
        let mine = mine.map(|rate| own.take(bytes, rate, now));
        let all = all.map(|rate| lock(shared).take(bytes, rate, now));
        Some((bytes, mine.into_iter().chain(all).max().unwrap_or(now)))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Stream(Arc<Side>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands out moments so that a rate is kept.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    free: Option<Instant>,
}

/// Whoever comes late may catch up this much: timers are not exact.
const SLACK: Duration = Duration::from_millis(20);

impl Bucket {
    /// When the next `bytes` may go.
    fn take(&mut self, bytes: usize, rate: f64, now: Instant) -> Instant {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let at = self.free.map_or(now, |free| free.max(earliest));
        self.free = Some(at + Duration::from_secs_f64(bytes as f64 / rate.max(0.001)));
        at
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
