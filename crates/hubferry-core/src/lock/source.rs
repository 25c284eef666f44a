//! A source that shows exactly what a lock file says, wherever the bytes come from.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::LockedRepo;
use crate::digest::Digests;
use crate::error::{Error, Kind, Result, Retry};
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::remote::{ByteStream, Extent, RepoInfo, Source};

/// A pinned revision, read from the first of several places that has all of it. The listing is that of the lock file, and every file
/// is held to the SHA-256 there, so it does not matter what a place calls the revision.
#[derive(Debug)]
pub struct LockedSource {
    places: Vec<Arc<dyn Source>>,
    locked: Arc<LockedRepo>,
    chosen: Mutex<Option<Chosen>>,
}

/// The place that has everything.
#[derive(Clone, Debug)]
struct Chosen {
    /// Which of the places.
    number: usize,
    /// What it calls the revision.
    revision: Revision,
    /// Whether it has more files than are pinned.
    has_more: bool,
}

impl LockedSource {
    /// Reads `locked` from `first`, else from one of `others`.
    pub fn new(first: Arc<dyn Source>, others: impl IntoIterator<Item = Arc<dyn Source>>, locked: Arc<LockedRepo>) -> Self {
        Self { places: std::iter::once(first).chain(others).collect(), locked, chosen: Mutex::new(None) }
    }

    fn chosen(&self) -> Option<Chosen> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The place that is read; the first one until it is known which.
    fn place(&self) -> Option<&Arc<dyn Source>> {
        self.places.get(self.chosen().map_or(0, |chosen| chosen.number))
    }

    /// The listing of the lock file, if `there` has the same.
    fn held(&self, there: &Manifest) -> Result<Manifest> {
        let mut entries = Vec::with_capacity(self.locked.files.len());
        for (path, blob) in &self.locked.files {
            let differs = |how: String| {
                let error = Error::new(Kind::Corrupt, format!("{path:?} is not what was pinned: {how}")).retry_as(Retry::No);
                error.context("repository", self.locked.name()).hint(
                    "what was published has changed: see what with `hubferry lock --check`, or name a place that has the pinned bytes with --also",
                )
            };
            let entry = there.entries.get(path).ok_or_else(|| differs("it is not there".to_owned()))?;
            if entry.size != blob.size {
                return Err(differs(format!("it has {} bytes and not {}", entry.size, blob.size)));
            }
            if let Some(other) = entry.digests.sha256.filter(|oid| *oid != blob.oid) {
                return Err(differs(format!("its SHA-256 is {other} and not {}", blob.oid)));
            }
            let digests = Digests { sha256: Some(blob.oid), git: entry.digests.git };
            entries.push((path.clone(), Entry { size: blob.size, digests, lfs: entry.lfs }));
        }
        Manifest::new(self.locked.commit.clone(), entries)
    }
}

#[async_trait]
impl Source for LockedSource {
    async fn info(&self) -> Result<RepoInfo> {
        let mut first = None;
        for place in self.place().into_iter().chain(&self.places) {
            match place.info().await {
                Ok(info) => return Ok(info),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(Kind::Bug, "a pinned revision without a place")))
    }

    async fn manifest(&self) -> Result<Manifest> {
        let mut first = None;
        for (at, place) in self.places.iter().enumerate() {
            let found = match place.manifest().await {
                Ok(there) => self.held(&there).map(|held| {
                    let has_more = there.entries.len() > held.entries.len();
                    (Chosen { number: at, revision: there.revision, has_more }, held)
                }),
                // The next place is not asked instead of waiting for this one.
                Err(error) if error.retry() != Retry::No => return Err(error),
                Err(error) => Err(error),
            };
            match found {
                Ok((chosen, held)) => {
                    *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(chosen);
                    return Ok(held);
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::new(Kind::Bug, "a pinned revision without a place")))
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let Some(Chosen { number, revision, .. }) = self.chosen().filter(|_| *at == self.locked.commit) else {
            return Err(Error::new(Kind::Bug, "a pinned revision is read before it was listed"));
        };
        let place = self.places.get(number).ok_or_else(|| Error::new(Kind::Bug, "a place that is not there"))?;
        place.read(&revision, path, range).await
    }

    fn host(&self) -> Option<String> {
        self.place().and_then(|place| place.host())
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        self.place().is_some_and(|place| place.is_seekable(path))
    }

    fn extent(&self) -> Extent {
        let whole = self.place().map_or(Extent::Whole, |place| place.extent());
        if whole == Extent::Whole && self.chosen().is_some_and(|chosen| chosen.has_more) { Extent::Some } else { whole }
    }

    fn doubt(&self, at: &Revision, path: &RepoPath) {
        if let Some(Chosen { number, revision, .. }) = self.chosen().filter(|_| *at == self.locked.commit)
            && let Some(place) = self.places.get(number)
        {
            place.doubt(&revision, path);
        }
    }
}
