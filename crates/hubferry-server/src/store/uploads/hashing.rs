//! The hash of an upload, computed part by part while other parts still arrive.
//!
//! A part is hashed when it and every part before it are complete. That is only sound while no hashed byte can change, so a part
//! that is sent a second time ends it: from then on the whole file is hashed when the upload is completed, under the lock that
//! keeps every writer out.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubferry_core::digest::{Digests, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;

use super::Upload;
use crate::store::pieces;

#[derive(Debug)]
pub(super) struct Hashing {
    blob: Blob,
    part_size: u64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Parts somebody began to send.
    begun: HashSet<u64>,
    /// Complete parts that are not hashed yet.
    waiting: BTreeSet<u64>,
    /// The hash up to a part; absent while somebody works on it, and for good once it cannot be trusted.
    prefix: Option<Prefix>,
    trusted: bool,
}

#[derive(Debug)]
struct Prefix {
    verifier: Verifier,
    /// The part to hash next.
    next: u64,
}

impl Prefix {
    fn new(blob: Blob) -> Self {
        Self { verifier: Verifier::new(blob.size, Digests::sha256(blob.oid), false), next: 1 }
    }
}

impl Hashing {
    pub(super) fn new(upload: &Upload) -> Self {
        let (blob, part_size) = (upload.blob, upload.part_size);
        let prefix = Some(Prefix::new(blob));
        let progress = Progress { begun: HashSet::new(), waiting: BTreeSet::new(), prefix, trusted: true };
        Self { blob, part_size, progress: Mutex::new(progress) }
    }

    /// Somebody begins to send a part.
    pub(super) fn begin(&self, number: u64) {
        let mut progress = self.lock();
        progress.trusted &= progress.begun.insert(number);
    }

    /// A part is complete: hashes it, and those behind it that were waiting for it. What goes wrong here only means that the whole
    /// is read again at the end.
    pub(super) fn finish(&self, number: u64, data: &Path) {
        self.lock().waiting.insert(number);
        while let Some(mut prefix) = self.next() {
            let done = File::open(data).map_err(|e| Error::io("open", data, e)).and_then(|mut file| self.advance(&mut prefix, &mut file));
            let mut progress = self.lock();
            progress.trusted &= done.is_ok();
            progress.prefix = Some(prefix);
        }
    }

    /// The prefix, if the part it needs next is there and nobody else works on it.
    fn next(&self) -> Option<Prefix> {
        let mut progress = self.lock();
        let next = progress.prefix.as_ref()?.next;
        if !progress.trusted || !progress.waiting.remove(&next) {
            return None;
        }
        progress.prefix.take()
    }

    fn advance(&self, prefix: &mut Prefix, file: &mut File) -> Result<()> {
        file.seek(SeekFrom::Start((prefix.next - 1) * self.part_size)).map_err(unreadable)?;
        feed(&mut prefix.verifier, &mut file.take(self.part_size))?;
        prefix.next += 1;
        Ok(())
    }

    /// Hashes what is left and compares. The caller keeps every writer out.
    pub(super) fn verify(&self, file: &mut File) -> Result<()> {
        let mut progress = self.lock();
        let prefix = progress.prefix.take().filter(|_| progress.trusted);
        // Should this fail half way, the next attempt starts from nothing.
        progress.trusted = false;
        drop(progress);
        let mut prefix = prefix.unwrap_or_else(|| Prefix::new(self.blob));
        let length = file.metadata().map_err(unreadable)?.len();
        if length != self.blob.size {
            return Err(Error::new(Kind::Corrupt, format!("{length} of the promised {} bytes arrived", self.blob.size)));
        }
        file.seek(SeekFrom::Start((prefix.next - 1) * self.part_size)).map_err(unreadable)?;
        feed(&mut prefix.verifier, file)?;
        prefix.verifier.finish().map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn feed(verifier: &mut Verifier, from: &mut impl Read) -> Result<()> {
    let mut piece = vec![0; pieces::PIECE];
    loop {
        match from.read(&mut piece).map_err(unreadable)? {
            0 => return Ok(()),
            got => verifier.update(&piece[..got])?,
        }
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Io, "cannot read an upload back").caused_by(error)
}
