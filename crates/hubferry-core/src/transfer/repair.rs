//! A file whose bytes are all there and whose hash is wrong: ranges are read again until one differs from its note; the hash goes on
//! from its state before that range, and the repair stops as soon as the whole agrees.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};

use super::fill::{Block, Fill, replace};
use super::reading::Reading;
use crate::digest::{Digests, Fingerprint};
use crate::error::{Error, Kind, Result};
use crate::events::Event;

/// How often all is read again: what was read to mend it may have been broken on its way as well.
const ROUNDS: usize = 2;
/// Ranges that are read again at once: what is on its way when the whole agrees was sent in vain.
const AT_ONCE: usize = 4;
/// A range that is read again is this part of the file, within these bounds.
const RANGES: u64 = 512;
const LARGEST_RANGE: u64 = 4 << 20;
/// Hashing after every difference ends here: where so much differs, it is looked at once more at the end.
const HASHES: u32 = 8;

/// Finds and replaces what is wrong. `found` is the failure that will be returned if nothing helps.
pub(super) async fn repair(fill: &Arc<Fill>, found: Error) -> Result<Digests> {
    let job = &fill.job;
    job.context.reporter.event(&Event::Retrying {
        what: format!("reading {}", job.path),
        why: format!("{}: looking for the wrong bytes", found.message()),
        pause: Duration::ZERO,
        attempt: 1,
    });
    job.origins.doubt();
    let mut repair = Repair { fill, hashes: 0, replaced: Vec::new(), lowest: job.entry.size };
    for _ in 0..ROUNDS {
        let before = repair.replaced.len();
        // First what other origins brought is compared with what this one says, then what it brought itself.
        for (origin, own) in job.origins.usable().into_iter().flat_map(|origin| [(origin, false), (origin, true)]) {
            if let Some(digests) = repair.pass(origin, own).await? {
                repair.blame(origin);
                return Ok(digests);
            }
        }
        // Who says the same again is not asked a third time.
        if repair.replaced.len() == before {
            break;
        }
    }
    job.beyond_repair.store(true, Ordering::Relaxed);
    Err(job.place(found))
}

struct Repair<'a> {
    fill: &'a Arc<Fill>,
    hashes: u32,
    /// Whose bytes were replaced by whose.
    replaced: Vec<(Option<usize>, usize)>,
    /// Where the first of them were: states of the hash behind it are of bytes that are gone.
    lowest: u64,
}

/// A block that came out differently the second time.
type Different = (u64, Block, Bytes);

impl Repair<'_> {
    /// Reads from `origin` what it brought itself (`own`) or what it did not. Gives the digests once the whole agrees.
    async fn pass(&mut self, origin: usize, own: bool) -> Result<Option<Digests>> {
        let ranges = self.ranges(|block| (block.origin == Some(origin)) == own);
        let fill = self.fill;
        let mut reads = futures_util::stream::iter(ranges).map(|blocks| compare(fill, origin, blocks)).buffered(AT_ONCE);
        let mut open = false;
        loop {
            let different = match reads.try_next().await {
                Ok(Some(different)) => different,
                Ok(None) => break,
                Err(error) => {
                    fill.job.origins.give_up(origin, error, &fill.job.context)?;
                    return Ok(None);
                }
            };
            if different.is_empty() {
                continue;
            }
            for (start, block, bytes) in different {
                let before = fill.blocks().get(&start).and_then(|before| before.origin);
                self.replaced.push((before, origin));
                self.lowest = self.lowest.min(start);
                replace(fill, start, bytes, block).await?;
            }
            open = self.hashes >= HASHES;
            if !open {
                self.hashes += 1;
                if let Some(digests) = self.agrees().await? {
                    return Ok(Some(digests));
                }
            }
        }
        if open { self.agrees().await } else { Ok(None) }
    }

    /// Blocks of one kind, in runs that are read at once.
    fn ranges(&self, test: impl Fn(&Block) -> bool) -> Vec<Vec<(u64, Block)>> {
        let most = (self.fill.job.entry.size / RANGES).clamp(self.fill.grid, LARGEST_RANGE.max(self.fill.grid));
        let mut ranges: Vec<Vec<(u64, Block)>> = Vec::new();
        for (start, block) in self.fill.blocks().iter().filter(|(_, block)| test(block)) {
            let fits = |run: &Vec<(u64, Block)>| {
                run.last().is_some_and(|(_, last)| last.end == *start) && run.first().is_some_and(|(first, _)| block.end - first <= most)
            };
            match ranges.last_mut().filter(|run| fits(run)) {
                Some(run) => run.push((*start, *block)),
                None => ranges.push(vec![(*start, *block)]),
            }
        }
        ranges
    }

    /// The digests, if the whole is right by now.
    async fn agrees(&self) -> Result<Option<Digests>> {
        let job = &self.fill.job;
        let state = job.line.state_before(self.lowest).unwrap_or_else(|| job.fresh_state());
        match self.fill.hash_again(state).await {
            Ok(digests) => Ok(Some(digests)),
            Err(error) if error.kind() == Kind::Corrupt => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An origin whose bytes had to be replaced by those of another one lied; by its own, the way did.
    fn blame(&self, right: usize) {
        for (wrong, by) in &self.replaced {
            if let Some(wrong) = wrong.filter(|wrong| *wrong != right && *by == right) {
                self.fill.job.origins.distrust(wrong, &self.fill.job.context);
            }
        }
    }
}

/// Reads blocks again; gives those that differ from their notes.
async fn compare(fill: &Arc<Fill>, origin: usize, blocks: Vec<(u64, Block)>) -> Result<Vec<Different>> {
    let (Some((start, _)), Some((_, last))) = (blocks.first(), blocks.last()) else { return Ok(Vec::new()) };
    let range: Range<u64> = *start..last.end;
    let job = &fill.job;
    let permit = match job.origins.get(origin).and_then(|origin| origin.governor.clone()) {
        Some(governor) => Some(governor.permit().await),
        None => None,
    };
    let mut reading = Reading::new(job.clone(), origin, permit, range.clone());
    let mut bytes = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
    while let Some(piece) = reading.next().await? {
        bytes.extend_from_slice(&piece);
    }
    let mut bytes = bytes.freeze();
    let mut different = Vec::new();
    for (start, block) in blocks {
        let now = bytes.split_to(usize::try_from(block.end - start).unwrap_or(usize::MAX).min(bytes.len()));
        let fingerprint = Fingerprint::of(0, &now);
        if fingerprint != block.fingerprint {
            different.push((start, Block { fingerprint, origin: Some(origin), ..block }, now));
        }
    }
    Ok(different)
}
