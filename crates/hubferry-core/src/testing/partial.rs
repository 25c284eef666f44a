//! A [`Partial`] in memory: what a disk keeps of a run that was killed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::digest::{Fingerprint, Prefix};
use crate::error::{Error, Kind, Result};
use crate::remote::{Kept, Note, Partial};

/// Bytes and notes that outlive whoever wrote them; clones share both.
#[derive(Clone, Debug)]
pub struct MemoryPartial(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    blocks: BTreeMap<u64, (u64, Fingerprint)>,
    prefixes: Vec<Prefix>,
    /// Writes that are still allowed.
    room: Option<u64>,
}

impl MemoryPartial {
    /// Room for `size` bytes, all zero.
    pub fn new(size: u64) -> Self {
        let bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        Self(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written.
    pub fn content(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Bytes that are noted as written.
    pub fn noted(&self) -> u64 {
        self.lock().blocks.iter().map(|(start, (end, _))| end - start).sum()
    }

    /// Loses what was written in `range`, as a power cut does, and keeps the notes.
    pub fn lose(&self, range: Range<usize>) {
        self.lock().bytes[range].fill(0);
    }

    /// After this many more writes the disk is full.
    pub fn full_after(&self, writes: u64) {
        self.lock().room = Some(writes);
    }
}

#[async_trait]
impl Partial for MemoryPartial {
    async fn kept(&self) -> Result<Kept> {
        let inner = self.lock();
        let blocks = inner.blocks.iter().map(|(start, (end, fingerprint))| (*start..*end, *fingerprint)).collect();
        Ok(Kept { blocks, prefixes: inner.prefixes.clone() })
    }

    async fn write(&self, at: u64, pieces: Vec<Bytes>) -> Result<()> {
        let mut inner = self.lock();
        if let Some(room) = &mut inner.room {
            *room = room.checked_sub(1).ok_or_else(|| Error::new(Kind::Io, "the disk is full"))?;
        }
        let mut at = usize::try_from(at).unwrap_or(usize::MAX);
        for piece in pieces {
            let end = at + piece.len();
            let to = inner.bytes.get_mut(at..end).ok_or_else(|| Error::new(Kind::Bug, "written past the end"))?;
            to.copy_from_slice(&piece);
            at = end;
        }
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let inner = self.lock();
        let bytes = inner.bytes.get(index(range.start)..index(range.end));
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| Error::new(Kind::Bug, "read past the end"))
    }

    async fn note(&self, notes: Vec<Note>) -> Result<()> {
        let mut inner = self.lock();
        for note in notes {
            match note {
                Note::Block { range, fingerprint } => {
                    inner.blocks.insert(range.start, (range.end, fingerprint));
                }
                Note::Prefix(prefix) => inner.prefixes.push(prefix),
            }
        }
        Ok(())
    }
}
