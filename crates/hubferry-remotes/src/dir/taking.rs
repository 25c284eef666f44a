//! Blobs that need not travel: the folder holds the same bytes under another name, or a file of this machine shares its blocks. They
//! are cloned or copied into the folder of the run, and hashed there: what is remembered of a file makes nothing visible.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubferry_core::digest::{Digests, GitOid, Oid, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::Wanted;

use super::files::remove_file;
use super::hashing::LARGEST_GIT;
use super::run::Run;
use super::source::Listing;
use super::staging::{LAZY, Name, Stem};
use super::{DirOptions, blocking};
use crate::linking::{self, HardLinks};
use crate::reading::{Stop, feed, spread};

/// Files that are taken over side by side.
const THREADS: usize = 4;

/// What one file was found to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) oid: Oid,
    pub(super) git: Option<GitOid>,
}

/// Where a listed folder has which bytes.
pub(super) struct Held<'a>(HashMap<Blob, (&'a RepoPath, &'a Path)>);

impl<'a> Held<'a> {
    /// Of a listing whose digests are known.
    pub(super) fn of(listing: &'a Listing) -> Self {
        let blobs = listing.files().filter_map(|(path, at, entry)| Some((entry.blob()?, (path, at))));
        Self(blobs.filter(|(blob, _)| blob.size > 0).collect())
    }

    /// Whether these bytes are there.
    pub(super) fn has(&self, blob: &Blob) -> bool {
        self.0.contains_key(blob)
    }

    /// Takes over what is there of `wanted`, into the folder of `run`. What turns out to be something else is left out.
    pub(super) fn take(&self, wanted: &[&Wanted], run: &Run, options: &DirOptions, stop: &AtomicBool) -> Result<Vec<Taken>> {
        let wanted: Vec<(&Wanted, &RepoPath, &Path)> =
            wanted.iter().filter_map(|wanted| self.0.get(&wanted.blob).map(|(path, at)| (*wanted, *path, *at))).collect();
        let results = spread(&wanted, THREADS, |(wanted, path, at)| take_one(wanted, path, at, run, options, stop));
        results.into_iter().filter_map(Result::transpose).collect()
    }
}

fn take_one(wanted: &Wanted, path: &RepoPath, at: &Path, run: &Run, options: &DirOptions, stop: &AtomicBool) -> Result<Option<Taken>> {
    let blob = wanted.blob;
    let part = run.folder().join(Name::Part(Stem::new(blob.oid)).to_string());
    let reading = Reading { reporter: &*options.reporter, path: wanted.paths.first().unwrap_or(path), stop };
    match linking::place(&*options.linker, at, &part, HardLinks::Forbidden) {
        Ok(_) => {}
        // It is gone, or may not be read: then the bytes come from where they were to come from.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Denied) => return Ok(None),
        Err(error) => return Err(error),
    }
    let taken = accept(run, blob, &part, &reading)?;
    if taken.is_none() {
        let note = format!("{} is not what it was when it was hashed: it is not used as {}", at.display(), reading.path);
        options.reporter.event(&Event::Note(note));
    }
    Ok(taken)
}

/// Shares the blocks of a file on this machine with the folder of `run`; `None` when the file system cannot, or when the file is not
/// that blob.
pub(super) async fn clone_of(from: PathBuf, wanted: &Wanted, run: &Arc<Run>, options: &DirOptions) -> Result<Option<Taken>> {
    let stop = Stop::default();
    let (flag, wanted, run, options) = (stop.flag(), wanted.clone(), Arc::clone(run), options.clone());
    blocking(move || clone_one(&from, &wanted, &run, &options, &flag)).await
}

fn clone_one(from: &Path, wanted: &Wanted, run: &Run, options: &DirOptions, stop: &AtomicBool) -> Result<Option<Taken>> {
    let part = run.folder().join(Name::Part(Stem::new(wanted.blob.oid)).to_string());
    // Whoever reads it the usual way says what is wrong with it.
    let Ok(Some(_)) = linking::share(&*options.linker, from, &part, HardLinks::Forbidden) else { return Ok(None) };
    let Some(path) = wanted.paths.first() else { return Ok(None) };
    accept(run, wanted.blob, &part, &Reading { reporter: &*options.reporter, path, stop })
}

/// Gives `part` the name of its blob if that is what it is, else removes it.
fn accept(run: &Run, blob: Blob, part: &Path, reading: &Reading<'_>) -> Result<Option<Taken>> {
    let found = reading.digests(part, &blob);
    let Ok(Some(digests)) = found else {
        remove_file(part)?;
        return found.map(|_| None);
    };
    let lazy = blob.size <= LAZY;
    if !lazy {
        let synced = File::options().write(true).open(part).and_then(|file| file.sync_data());
        synced.map_err(|error| Error::io("write", part, error))?;
    }
    std::fs::rename(part, run.place(blob.oid)).map_err(|error| Error::io("rename", part, error))?;
    run.stored(&blob, lazy);
    Ok(Some(Taken { oid: blob.oid, git: digests.git }))
}

/// How a file is read: told, and ended when nobody waits any more.
struct Reading<'a> {
    reporter: &'a dyn Reporter,
    path: &'a RepoPath,
    stop: &'a AtomicBool,
}

impl Reading<'_> {
    /// The digests of the file at `at`; `None` when it is not `blob`.
    fn digests(&self, at: &Path, blob: &Blob) -> Result<Option<Digests>> {
        let read = |error| Error::io("read", at, error);
        let mut file = File::open(at).map_err(read)?;
        let mut verifier = Verifier::new(blob.size, Digests::sha256(blob.oid), blob.size <= LARGEST_GIT);
        let told = |bytes| self.reporter.event(&Event::Progress { path: self.path.clone(), bytes });
        Ok(feed(&mut file, at, &mut verifier, self.stop, told)?.and_then(|()| verifier.finish()).ok())
    }
}
