//! A folder, or one file, as a source.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hubferry_core::digest::Digests;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::facts::{FactList, Files};
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source, check_range};

use super::files::Stamp;
use super::hashing::digest_all;
use super::leftovers::any_committing;
use super::walk::{Found, OWN, walk};
use super::{DirOptions, blocking, revision_of};
use crate::listed::{Listed, Lists};
use crate::reading::Stop;

const PIECE: u64 = 512 << 10;

/// A folder on this machine, or a single file under its own name.
///
/// Links to files and folders are followed. What was listed is what is read: a file that looks different by then is `Changed`.
#[derive(Debug)]
pub struct DirSource {
    root: PathBuf,
    options: DirOptions,
    listed: Listed<Listing>,
}

/// A manifest and what its files looked like.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) manifest: Manifest,
    pub(super) found: Vec<Found>,
}

impl Listing {
    /// Lists and hashes a folder; `None` when nothing is there.
    pub(super) fn read(root: &Path, options: &DirOptions, stop: &AtomicBool) -> Result<Option<Self>> {
        // A link that is set to another folder meanwhile does not lead half of the listing there.
        let root = &if root.is_symlink() { root.canonicalize().unwrap_or_else(|_| root.to_path_buf()) } else { root.to_path_buf() };
        let Some(mut found) = walk(root)? else { return Ok(None) };
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let digests = if options.hash {
            digest_all(&mut found, options, stop)?
        } else {
            found.iter().map(|file| options.cache.get(&file.stamp).unwrap_or_default()).collect()
        };
        let revision = revision_of(found.iter().zip(&digests).map(|(file, digests)| {
            // Where not all are hashed, they are told apart by their times: an edit makes another revision, and learning a hash none.
            let content = digests.sha256.filter(|_| options.hash).map_or_else(|| file.stamp.modified.to_string(), |oid| oid.to_string());
            (&file.path, file.stamp.size, content)
        }))?;
        let entries = found.iter().zip(digests).map(|(file, digests)| (file.path.clone(), Entry::new(file.stamp.size, digests)));
        let manifest = Manifest::new(revision, entries)?;
        Ok(Some(Self { manifest, found }))
    }

    /// Every file: its name, where it lies, what is known of it.
    pub(super) fn files(&self) -> impl Iterator<Item = (&RepoPath, &Path, &Entry)> {
        self.found.iter().filter_map(|file| Some((&file.path, file.at.as_path(), self.manifest.entries.get(&file.path)?)))
    }

    pub(super) fn file(&self, path: &RepoPath) -> Option<&Found> {
        self.found.binary_search_by(|file| file.path.cmp(path)).ok().map(|n| &self.found[n])
    }
}

impl Lists for Listing {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl DirSource {
    /// Reads from `root`; nothing is touched before the first call.
    pub fn new(root: impl Into<PathBuf>, options: DirOptions) -> Self {
        Self { root: root.into(), options, listed: Listed::default() }
    }

    async fn list(&self) -> Result<Arc<Listing>> {
        let stop = Stop::default();
        let (root, options, flag) = (self.root.clone(), self.options.clone(), stop.flag());
        let listing = blocking(move || {
            refuse_unfinished(&root)?;
            Listing::read(&root, &options, &flag)?.ok_or_else(|| nothing_there(&root))
        })
        .await?;
        Ok(self.listed.keep(listing))
    }

    /// The listing of `at`; a folder has only its present revision.
    async fn listing_at(&self, at: &Revision) -> Result<Arc<Listing>> {
        self.listed
            .at(at, self.list())
            .await?
            .map_err(|found| changed(&self.root).context("wanted", at.short()).context("found", found.manifest.revision.short()))
    }
}

fn nothing_there(root: &Path) -> Error {
    Error::not_found(format!("{} does not exist", root.display()))
        .hint("check the path; a repository on a hub is written hf:owner/name or ms:owner/name")
}

fn refuse_unfinished(root: &Path) -> Result<()> {
    // Whoever may not look into our folder has found the rest readable: that is all a reader can ask for.
    if !any_committing(&root.join(OWN)).unwrap_or(false) {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, format!("{} holds a copy that was interrupted while it became visible", root.display()))
        .hint("wait for the run that writes there, or run the same copy into that folder again: it completes the change"))
}

fn changed(at: &Path) -> Error {
    Error::new(Kind::Changed, format!("{} changed since it was listed", at.display()))
        .hint("run the same command again; make sure that nothing writes there meanwhile")
}

#[async_trait]
impl Source for DirSource {
    async fn info(&self) -> Result<RepoInfo> {
        let root = self.root.clone();
        blocking(move || if root.exists() { Ok(RepoInfo::default()) } else { Err(nothing_there(&root)) }).await
    }

    async fn manifest(&self) -> Result<Manifest> {
        Ok(self.list().await?.manifest.clone())
    }

    fn files(&self) -> Option<&dyn Files> {
        Some(self)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let listing = self.listing_at(at).await?;
        let file = listing.file(path).ok_or_else(|| {
            Error::not_found(format!("{} has no file {path:?}", self.root.display())).hint("list what is there with `hubferry ls`")
        })?;
        check_range(&range, file.stamp.size)?;
        stream_file(file.at.clone(), file.stamp, range).await
    }
}

#[async_trait]
impl Files for DirSource {
    async fn facts(&self, at: &Revision) -> Result<FactList> {
        let listing = self.listing_at(at).await?;
        blocking(move || Ok(listing.facts())).await
    }

    async fn digests(&self, at: &Revision, paths: &[RepoPath]) -> Result<BTreeMap<RepoPath, Digests>> {
        let listing = self.listing_at(at).await?;
        let stop = Stop::default();
        let (paths, options, flag) = (paths.to_vec(), self.options.clone(), stop.flag());
        Ok(blocking(move || listing.digests(&paths, &options, &flag)).await?.into_iter().collect())
    }

    fn local(&self, at: &Revision, path: &RepoPath) -> Option<PathBuf> {
        let listing = self.listed.last();
        let listing = listing.filter(|listing| listing.manifest.revision == *at)?;
        listing.file(path).map(|file| file.at.clone())
    }
}

/// The bytes of a file as long as it looks as it did when it was listed; `Changed` otherwise.
pub(crate) async fn stream_file(at: PathBuf, stamp: Stamp, range: Range<u64>) -> Result<ByteStream> {
    let reading = blocking(move || Reading::open(at, stamp, range)).await?;
    Ok(stream::try_unfold(reading, |reading| blocking(move || reading.next())).boxed())
}

/// An open file, read a piece at a time by whatever thread is free: a slow taker holds none.
struct Reading {
    file: File,
    at: PathBuf,
    stamp: Stamp,
    left: u64,
}

impl Reading {
    fn open(at: PathBuf, stamp: Stamp, range: Range<u64>) -> Result<Self> {
        let mut file = File::open(&at).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => changed(&at),
            _ => Error::io("open", &at, error),
        })?;
        file.seek(SeekFrom::Start(range.start)).map_err(|error| Error::io("read", &at, error))?;
        let reading = Self { file, at, stamp, left: range.end - range.start };
        reading.check()?;
        Ok(reading)
    }

    fn check(&self) -> Result<()> {
        let data = self.file.metadata().map_err(|error| Error::io("read", &self.at, error))?;
        if Stamp::of(&data).same_content(&self.stamp) { Ok(()) } else { Err(changed(&self.at)) }
    }

    fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let want = self.left.min(PIECE);
        let mut piece = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
        let read = (&mut self.file).take(want).read_to_end(&mut piece).map_err(|error| Error::io("read", &self.at, error))?;
        if read as u64 != want {
            return Err(changed(&self.at));
        }
        self.left -= want;
        if self.left == 0 {
            // A write in the middle of the range must not go unnoticed.
            self.check()?;
        }
        Ok(Some((Bytes::from(piece), self)))
    }
}
