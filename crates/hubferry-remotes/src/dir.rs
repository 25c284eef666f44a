//! The `dir` remote: a folder on this machine as source and target, and a single file as source.
//!
//! What a reader of the folder never sees: `.hubferry/`, `.git/`, and what the hubs' own clients leave behind. A commit is not
//! atomic there, but it is written down first and rolled forward after a crash.
//!
//! In `.hubferry/` every run has a folder whose name says whose it is: `run-<machine>-<boot>-<process>-<start>-<random>`. There lie
//! its whole blobs (`<oid>`), its unfinished ones (`<oid>.<random>.part` with `.journal`) and its commit while it is carried out
//! (`commit.json`). Nobody touches it while that process lives; the next run takes it over with one rename. No file is ever locked.

mod cache;
mod commit;
pub(crate) mod durable;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod hashing;
pub(crate) mod leftovers;
pub(crate) mod life;
mod notes;
mod partial;
mod positioned;
pub(crate) mod run;
mod salvage;
mod snapshots;
pub(crate) mod source;
pub(crate) mod staging;
mod stamping;
mod taking;
mod target;
#[cfg(unix)]
#[cfg(test)]
mod tests;
pub(crate) mod walk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Reporter, Silent};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};

use crate::linking::{Linker, System};
use crate::names::Rules;

pub use self::cache::HashCache;
pub use self::source::DirSource;
pub use self::target::DirTarget;

/// How a folder is read.
#[derive(Clone)]
#[non_exhaustive]
pub struct DirOptions {
    /// Digests of files that have not changed since they were last read.
    pub cache: HashCache,
    /// Whether a manifest knows the digests of all files. Otherwise it knows those that are remembered, and its revision names sizes and
    /// times instead of content.
    pub hash: bool,
    /// Told how far hashing is.
    pub reporter: Arc<dyn Reporter>,
    /// Names that are taken; `None` asks the file system of the folder.
    pub names: Option<Rules>,
    /// How files get further names inside the folder.
    pub linker: Arc<dyn Linker>,
}

impl Default for DirOptions {
    fn default() -> Self {
        Self { cache: HashCache::memory(), hash: true, reporter: Arc::new(Silent), linker: Arc::new(System), names: None }
    }
}

impl fmt::Debug for DirOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirOptions").field("cache", &self.cache).field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl DirOptions {
    /// Keeps digests in this cache.
    #[must_use]
    pub fn with_cache(mut self, cache: HashCache) -> Self {
        self.cache = cache;
        self
    }

    /// Whether files are hashed when they are listed.
    #[must_use]
    pub fn with_hash(mut self, hash: bool) -> Self {
        self.hash = hash;
        self
    }

    /// Takes only names that these rules take.
    #[must_use]
    pub fn with_names(mut self, rules: Rules) -> Self {
        self.names = Some(rules);
        self
    }

    /// Uses what this file system can do.
    #[must_use]
    pub fn with_linker(mut self, linker: Arc<dyn Linker>) -> Self {
        self.linker = linker;
        self
    }

    /// Reports hashing here.
    #[must_use]
    pub fn with_reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }
}

/// Runs file work where it may block; a panic there is a mistake of ours, not a reason to end the process.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(lost) if lost.is_cancelled() => Err(Error::new(Kind::Interrupted, "the program is ending")),
        Err(lost) => Err(Error::new(Kind::Bug, "file work came to a sudden end").caused_by(lost)),
    }
}

/// A folder's revision: the SHA-256 over its sorted entries. Equal content has an equal revision, wherever it lies.
pub(crate) fn revision_of<'a>(lines: impl Iterator<Item = (&'a RepoPath, u64, String)>) -> Result<Revision> {
    let mut text = String::new();
    for (path, size, content) in lines {
        // A path holds no control character, so the fields cannot run into each other.
        text.extend([path.as_str(), "\0", &size.to_string(), "\0", &content, "\n"]);
    }
    Revision::new(Oid::of(text.as_bytes()).to_string())
}

/// The same, of a manifest whose digests are known.
fn revision_of_manifest(manifest: &Manifest) -> Result<Revision> {
    revision_of(manifest.entries.iter().map(|(path, entry)| {
        let oid = entry.blob().map(|blob| blob.oid.to_string()).unwrap_or_default();
        (path, entry.size, oid)
    }))
}

/// Where `path` lies below `root`.
pub fn join(root: &Path, path: &RepoPath) -> PathBuf {
    path.as_str().split('/').fold(root.to_path_buf(), |at, segment| at.join(segment))
}
