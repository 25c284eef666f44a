//! `--max-memory`: one budget for the bytes that wait in memory, shared by all files of a run.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size, so that a budget of terabytes fits into a counter.
const UNIT: u64 = 1 << 10;

/// A number of bytes that may wait in memory at once.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    _slot: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from((bytes / UNIT).max(1)).unwrap_or(u32::MAX).min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        u64::from(self.total) * UNIT
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total)
    }

    /// Waits until `bytes` are free. More than the whole budget counts as all of it.
    pub async fn take(&self, bytes: u64) -> Option<Share> {
        let slot = self.units.clone().acquire_many_owned(self.units(bytes)).await.ok()?;
        Some(Share { _slot: slot })
    }

    /// The same, only if they are free now.
    pub fn try_take(&self, bytes: u64) -> Option<Share> {
        let slot = self.units.clone().try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Share { _slot: slot })
    }
}
