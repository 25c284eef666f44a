//! Takes files that lie on this machine already into a cache, without copying them where the file system lets that.
//!
//! What becomes a blob is read once, behind its new name, and must be what the listing of the repository says: the files may come from
//! any tool, have any name, and be damaged.

#[cfg(all(test, unix))]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::digest::{Digests, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::{Entry, Manifest, RepoPath};
use walkdir::WalkDir;

use super::layout::{BlobName, INCOMPLETE, RepoFolder};
use super::{chain, is_lfs, locks};
use crate::dir::blocking;
use crate::dir::files::{remove_file, sync_folder};
use crate::disk;
use crate::linking::{HardLinks, Linker, Way, copy, share};
use crate::reading::{Stop, feed, processors, spread};

/// What came of it.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Files of the repository whose bytes were found, and how they got into the cache; with a dry run, how is not known.
    pub taken: BTreeMap<RepoPath, Option<Way>>,
    /// Files of the repository whose bytes were in the cache already.
    pub there: BTreeSet<RepoPath>,
    /// Files of the repository of which nothing was found.
    pub missing: BTreeSet<RepoPath>,
    /// Files under the right path that are something else, as far as they were read.
    pub different: BTreeSet<RepoPath>,
    /// Bytes that are in the cache now and were not before: those of blobs that several files share count once.
    pub bytes: u64,
    /// What could not be looked at, and why.
    pub unread: Vec<(PathBuf, Error)>,
}

/// How files are taken.
#[derive(Clone)]
pub struct Adopting {
    /// The repository's folder in the cache.
    pub folder: RepoFolder,
    /// What the file system can do.
    pub linker: Arc<dyn Linker>,
    /// Whether a blob may be a second name of a file in the directory.
    pub links: HardLinks,
    /// Look and write nothing.
    pub dry_run: bool,
    /// Told of each file.
    pub reporter: Arc<dyn Reporter>,
}

impl fmt::Debug for Adopting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopting").field("folder", &self.folder).field("links", &self.links).finish_non_exhaustive()
    }
}

/// Files that may be some of the repository, by size.
type Candidates = HashMap<u64, Vec<PathBuf>>;

/// One blob that is looked for, and the files that have it.
struct Sought<'a> {
    entry: &'a Entry,
    paths: Vec<&'a RepoPath>,
}

/// What was found for one blob.
enum Found {
    Taken(Option<Way>),
    /// `true` if a file with the right path is something else.
    Nothing(bool),
}

impl Adopting {
    /// Looks in `dir` for the files of `manifest`: those of the right size, first under their own paths and names.
    pub async fn run(self, dir: PathBuf, manifest: Manifest) -> Result<Adopted> {
        let stop = Stop::default();
        let flag = stop.flag();
        blocking(move || self.run_now(&dir, &manifest, &flag)).await
    }

    fn run_now(&self, dir: &Path, manifest: &Manifest, stop: &AtomicBool) -> Result<Adopted> {
        let mut adopted = Adopted::default();
        let candidates = self.look_through(dir, manifest, &mut adopted.unread)?;
        let mut sought: HashMap<Digests, Sought<'_>> = HashMap::new();
        for (path, entry) in &manifest.entries {
            if self.holds(entry) {
                adopted.there.insert(path.clone());
            } else if entry.digests.is_empty() {
                // Nobody could say that a file is this one.
                adopted.missing.insert(path.clone());
            } else {
                sought.entry(entry.digests).or_insert_with(|| Sought { entry, paths: Vec::new() }).paths.push(path);
            }
        }
        let mut sought: Vec<Sought<'_>> = sought.into_values().collect();
        // Large ones first: at the end nobody waits for a single thread.
        sought.sort_by_key(|sought| (Reverse(sought.entry.size), sought.paths[0]));
        let known = Mutex::default();
        let found = spread(&sought, processors(), |sought| Ok((sought, self.seek(sought, &candidates, &known, stop)?)));
        for found in found {
            match found? {
                (sought, Found::Taken(way)) => {
                    adopted.bytes += sought.entry.size;
                    adopted.taken.extend(sought.paths.iter().map(|path| ((*path).clone(), way)));
                }
                (sought, Found::Nothing(differs)) => {
                    let list = if differs { &mut adopted.different } else { &mut adopted.missing };
                    list.extend(sought.paths.iter().map(|path| (*path).clone()));
                }
            }
        }
        if !self.dry_run && !adopted.taken.is_empty() {
            sync_folder(&self.folder.blobs())?;
        }
        Ok(adopted)
    }

    /// Every file below `dir` that has the size of one in the listing. What cannot be looked at is noted: it may be nobody's business.
    fn look_through(&self, dir: &Path, manifest: &Manifest, unread: &mut Vec<(PathBuf, Error)>) -> Result<Candidates> {
        let read = |error| Error::io("read", dir, error);
        // A name for links to lead to, from anywhere.
        let root = dir.canonicalize().map_err(read)?;
        let sizes: HashSet<u64> = manifest.entries.values().map(|entry| entry.size).collect();
        let own = self.folder.at();
        let own = own.canonicalize().unwrap_or(own);
        let mut found: Candidates = HashMap::new();
        let walk = WalkDir::new(&root).follow_links(true).into_iter().filter_entry(|entry| entry.path() != own);
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    // A link that leads to nothing or back is no file.
                    let at = error.path().unwrap_or(&root).to_path_buf();
                    if let Some(error) = error.into_io_error().filter(|error| error.kind() != std::io::ErrorKind::NotFound) {
                        unread.push((at.clone(), Error::io("read", &at, error)));
                    }
                    continue;
                }
            };
            let Ok(data) = entry.metadata() else { continue };
            if entry.file_type().is_file() && sizes.contains(&data.len()) {
                found.entry(data.len()).or_default().push(entry.into_path());
            }
        }
        Ok(found)
    }

    /// The name of a blob, as far as it is known before its bytes are read.
    fn name(entry: &Entry, digests: &Digests) -> Option<BlobName> {
        if is_lfs(entry) { digests.sha256.map(BlobName::Sha256) } else { digests.git.map(BlobName::Git) }
    }

    fn holds(&self, entry: &Entry) -> bool {
        let name = Self::name(entry, &entry.digests);
        name.is_some_and(|name| chain::blob(&self.folder, &name.to_string()).is_ok_and(|located| located.size() == entry.size))
    }

    /// Takes the first file that is what is sought. `known` are digests of files that were read and were something else.
    fn seek(
        &self,
        sought: &Sought<'_>,
        candidates: &Candidates,
        known: &Mutex<HashMap<PathBuf, Digests>>,
        stop: &AtomicBool,
    ) -> Result<Found> {
        let mut differs = false;
        for file in order(sought, candidates.get(&sought.entry.size).map_or(&[], Vec::as_slice)) {
            let before = known.lock().unwrap_or_else(PoisonError::into_inner).get(file).copied();
            if before.is_some_and(|before| before.agree(&sought.entry.digests) == Some(false)) {
                continue;
            }
            match self.take(file, sought, stop)? {
                Ok(way) => return Ok(Found::Taken(way)),
                Err(other) => {
                    differs |= sought.paths.iter().any(|path| file.ends_with(path.as_str()));
                    known.lock().unwrap_or_else(PoisonError::into_inner).extend(other.map(|digests| (file.clone(), digests)));
                }
            }
        }
        Ok(Found::Nothing(differs))
    }

    /// Takes one file if it is what is sought; otherwise gives what it is, as far as that was read.
    fn take(&self, file: &Path, sought: &Sought<'_>, stop: &AtomicBool) -> Result<std::result::Result<Option<Way>, Option<Digests>>> {
        let entry = sought.entry;
        if self.dry_run {
            return Ok(self.digests(file, sought, stop)?.map(|_| None));
        }
        // Whoever brings the same blob meanwhile may finish: both have the same bytes, and a rename puts one in place of the other.
        let mut held = locks::Held::default();
        if let Some(name) = Self::name(entry, &entry.digests) {
            held.take(&self.folder, name);
        }
        let blobs = self.folder.blobs();
        std::fs::create_dir_all(&blobs).map_err(|error| Error::io("create", &blobs, error))?;
        // A name as the client gives to what is unfinished: what a kill leaves is known for what it is.
        let fresh = blobs.join(format!("adopted.{:08x}{INCOMPLETE}", fastrand::u32(..)));
        let way = match self.put(file, entry.size, &fresh) {
            Ok(way) => way,
            // It is gone, or may not be read.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Denied) => return Ok(Err(None)),
            Err(error) => return Err(error),
        };
        let digests = match self.digests(&fresh, sought, stop) {
            Ok(Ok(digests)) => digests,
            other => {
                remove_file(&fresh)?;
                return other.map(|found| found.map(|_| None));
            }
        };
        let name = Self::name(entry, &digests).ok_or_else(|| Error::new(Kind::Bug, "a blob without a name").context("size", entry.size))?;
        let at = self.folder.blob(&name);
        std::fs::rename(&fresh, &at).map_err(|error| Error::io("rename", &fresh, error))?;
        for path in &sought.paths {
            self.reporter.event(&Event::Finished { path: (*path).clone(), size: entry.size, moved: false });
        }
        Ok(Ok(Some(way)))
    }

    /// Gives the file behind `file` the name `fresh` as well, or copies it where there is room.
    fn put(&self, file: &Path, size: u64, fresh: &Path) -> Result<Way> {
        // A second name of a link would be no second name of the file.
        let real = file.canonicalize().map_err(|error| Error::io("find", file, error))?;
        if let Some(way) = share(&*self.linker, &real, fresh, self.links)? {
            return Ok(way);
        }
        disk::check_room(&self.folder.blobs(), size)?;
        copy(&*self.linker, &real, fresh)
    }

    /// The digests of the file at `at`, which is on the disk then, if it is what is sought; otherwise what it is.
    fn digests(&self, at: &Path, sought: &Sought<'_>, stop: &AtomicBool) -> Result<std::result::Result<Digests, Option<Digests>>> {
        let (entry, path) = (sought.entry, sought.paths[0]);
        self.reporter.event(&Event::Started { path: path.clone(), size: entry.size });
        let mut file = File::open(at).map_err(|error| Error::io("open", at, error))?;
        let mut verifier = Verifier::new(entry.size, Digests::default(), !is_lfs(entry));
        let told = |bytes| self.reporter.event(&Event::Progress { path: path.clone(), bytes });
        let found = feed(&mut file, at, &mut verifier, stop, told)?.and_then(|()| verifier.finish());
        match found {
            Ok(digests) if digests.agree(&entry.digests) == Some(true) => {
                if !self.dry_run {
                    file.sync_all().map_err(|error| Error::io("write", at, error))?;
                }
                Ok(Ok(digests))
            }
            other => {
                self.reporter.event(&Event::Restart { path: path.clone() });
                Ok(Err(other.ok()))
            }
        }
    }
}

/// Likely files first: those under the right path, those with the right name, those whose name has the hash, as in the stores of
/// other tools.
fn order<'a>(sought: &Sought<'_>, candidates: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let hashes: Vec<String> = [sought.entry.digests.sha256.map(|oid| oid.to_string()), sought.entry.digests.git.map(|oid| oid.to_string())]
        .into_iter()
        .flatten()
        .collect();
    let unlikely = |file: &&PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_path = sought.paths.iter().any(|path| file.ends_with(path.as_str()));
        let is_name = sought.paths.iter().any(|path| path.name() == name);
        let is_hash = hashes.iter().any(|hash| name.contains(hash.as_str()));
        (!is_path, !is_hash, !is_name)
    };
    let mut ordered: Vec<&PathBuf> = candidates.iter().collect();
    ordered.sort_by_cached_key(unlikely);
    ordered
}
