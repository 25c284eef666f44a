//! `--max-memory`: one budget for the bytes that wait in memory, shared by all files of a run.
//!
//! Shares are given out in the order they were asked for, so a large one is not passed over by small ones for ever; while it waits,
//! nobody behind it gets any. Whoever holds a share must be able to finish without another one: a holder that waits for more may
//! wait for somebody who waits for it. What is only useful (reading ahead) asks with [`Budget::try_take`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size, so that a budget of terabytes fits into a counter.
const UNIT: u64 = 1 << 10;

/// What bytes that came over a network occupy: the buffers they are cut from are larger than what is cut from them. Measured.
pub(super) fn occupied(bytes: u64) -> u64 {
    bytes + bytes / 2
}

/// A number of bytes that may wait in memory at once.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    slot: OwnedSemaphorePermit,
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

    /// What nobody holds at this moment, in bytes.
    pub fn free(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total)
    }

    /// Waits until `bytes` are free. More than the whole budget counts as all of it.
    pub async fn take(&self, bytes: u64) -> Option<Share> {
        let slot = self.units.clone().acquire_many_owned(self.units(bytes)).await.ok()?;
        Some(Share { slot })
    }

    /// The same, only if they are free now and nobody waits.
    pub fn try_take(&self, bytes: u64) -> Option<Share> {
        let slot = self.units.clone().try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Share { slot })
    }

    /// The same, only while three quarters of the budget stay free: for what can do without.
    pub fn try_spare(&self, bytes: u64) -> Option<Share> {
        if self.free() < self.total() / 4 * 3 + bytes { None } else { self.try_take(bytes) }
    }
}

impl Default for Budget {
    /// What is left of 64 MiB beside the program itself.
    fn default() -> Self {
        Self::new(26 << 20)
    }
}

impl Share {
    /// Its size in bytes, rounded up to whole KiB.
    pub fn bytes(&self) -> u64 {
        self.slot.num_permits() as u64 * UNIT
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        if let Some(over) = self.slot.num_permits().checked_sub(keep).filter(|over| *over > 0) {
            drop(self.slot.split(over));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn shares_are_counted_in_whole_units() {
        let budget = Budget::new(10 << 10);
        let mut share = budget.take(1500).await.unwrap();
        assert_eq!((share.bytes(), budget.free(), budget.total()), (2048, 8192, 10_240));
        share.shrink(100);
        assert_eq!((share.bytes(), budget.free()), (1024, 9216));
        share.shrink(5000);
        assert_eq!(share.bytes(), 1024, "a share does not grow");
        drop(share);
        assert_eq!(budget.free(), 10_240);
        assert_eq!(budget.take(0).await.unwrap().bytes(), 0);
    }

    #[test]
    fn a_spare_share_leaves_most_to_others() {
        let budget = Budget::new(8 << 10);
        let share = budget.try_spare(2 << 10).unwrap();
        assert!(budget.try_spare(1 << 10).is_none() && budget.try_take(1 << 10).is_some());
        drop(share);
        assert!(budget.try_spare(3 << 10).is_none());
    }

    #[tokio::test]
    async fn more_than_everything_is_everything() {
        let budget = Budget::new(4 << 10);
        let all = budget.take(u64::MAX).await.unwrap();
        assert_eq!(all.bytes(), 4096);
        assert!(budget.try_take(1).is_none());
        drop(all);
        assert!(budget.try_take(1).is_some());
        assert_eq!(Budget::new(0).total(), 1024, "never nothing at all");
        assert!(Budget::new(u64::MAX).total() > 1 << 38);
    }

    #[tokio::test]
    async fn who_came_first_is_served_first() {
        let budget = Budget::new(4 << 10);
        let held = budget.take(3 << 10).await.unwrap();
        let mut large = Box::pin(budget.take(4 << 10));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(budget.take(1 << 10));
        assert!((&mut small).now_or_never().is_none(), "one unit is free, but somebody waits for more");
        drop(held);
        let large = large.now_or_never().flatten().unwrap();
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_up_nobody() {
        let budget = Budget::new(4 << 10);
        let held = budget.take(3 << 10).await.unwrap();
        let mut large = Box::pin(budget.take(4 << 10));
        assert!((&mut large).now_or_never().is_none());
        drop(large);
        assert!(budget.take(1 << 10).now_or_never().flatten().is_some());
        drop(held);
        assert_eq!(budget.free(), 4096);
    }
}
