//! Remembers what a first reading of a range brought, so that a second one is known to bring the same.
//!
//! The hash sees each byte once. A target that has to send a part again reads it again; without this, those bytes would be
//! whatever the second answer says.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::{Fingerprint, Fingerprinter};
use crate::error::{Error, Kind, Result, Retry};

/// Most segments of a file, so that memory does not grow with it.
const SEGMENTS: u64 = 2048;
const SMALLEST: u64 = 256 << 10;

/// Fingerprints of one file's segments. A segment begins a multiple of [`Ledger::grid`] behind the start of a range.
#[derive(Debug)]
pub(super) struct Ledger {
    grid: u64,
    seed: u64,
    /// By start of the segment: how far readings came, and what the bytes up to there were.
    seen: Mutex<HashMap<u64, BTreeMap<u64, Fingerprint>>>,
}

impl Ledger {
    pub(super) fn new(size: u64) -> Self {
        let grid = (size / SEGMENTS).next_power_of_two().max(SMALLEST);
        Self { grid, seed: fastrand::u64(..), seen: Mutex::default() }
    }

    /// Follows a reading that begins where a segment begins.
    pub(super) fn follow(self: &Arc<Self>, start: u64) -> Follower {
        Follower { ledger: self.clone(), start, at: start, fingerprint: Fingerprinter::new(self.seed) }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<u64, BTreeMap<u64, Fingerprint>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an earlier reading of the segment at `start` ended, behind `at`.
    fn next_end(&self, start: u64, at: u64) -> Option<u64> {
        self.seen().get(&start)?.range(at + 1..).next().map(|(end, _)| *end)
    }
}

/// One reading, compared with earlier ones of the same segments. Dropped in the middle of a segment, it leaves a note how far it
/// came.
#[derive(Debug)]
pub(super) struct Follower {
    ledger: Arc<Ledger>,
    start: u64,
    at: u64,
    fingerprint: Fingerprinter,
}

impl Follower {
    /// Takes the next bytes; `Corrupt` when an earlier reading brought others.
    pub(super) fn update(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let segment_end = self.start + self.ledger.grid;
            let stop = self.ledger.next_end(self.start, self.at).map_or(segment_end, |end| end.min(segment_end));
            let count = usize::try_from(stop - self.at).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            self.fingerprint.update(now);
            self.at += count as u64;
            bytes = rest;
            if self.at == stop && !self.note() {
                let error = Error::new(Kind::Corrupt, "two readings of the same bytes differ").context("offset", self.start);
                return Err(error.retry_as(Retry::No));
            }
            if self.at == segment_end {
                self.start = segment_end;
                self.fingerprint = Fingerprinter::new(self.ledger.seed);
            }
        }
        Ok(())
    }

    /// Notes the segment as far as it was read; false when another reading that came as far brought other bytes.
    fn note(&self) -> bool {
        let found = self.fingerprint.finish();
        *self.ledger.seen().entry(self.start).or_default().entry(self.at).or_insert(found) == found
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.at > self.start {
            // Whether it differs was found out on the way here.
            self.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_reading_is_held_to_the_first() {
        let ledger = Arc::new(Ledger::new(10));
        let content = vec![7; 600_000];
        let mut first = ledger.follow(0);
        first.update(&content[..300_000]).unwrap();
        drop(first);
        let mut same = ledger.follow(0);
        content.chunks(1000).try_for_each(|piece| same.update(piece)).unwrap();
        for wrong in [5, 262_143, 262_144, 299_999] {
            let mut other = content.clone();
            other[wrong] = 0;
            let mut follower = ledger.follow(0);
            let error = other.chunks(999).find_map(|piece| follower.update(piece).err()).unwrap();
            assert_eq!(error.kind(), Kind::Corrupt, "{wrong}");
        }
    }
}
