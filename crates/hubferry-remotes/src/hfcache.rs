//! The `hfcache` remote: the cache of `huggingface_hub` as source and target, shared with the Python programs that use it.
//!
//! What hubferry has not finished lies in `{folder}/.hubferry`, as in a directory (see [`crate::dir`]), so that a killed run goes on
//! and no reader meets half a file. Things become visible in the order in which readers need them: blobs, the snapshot, the listing of
//! a complete one, and the ref at last. Every step may be repeated, and another program may do the same at the same time.

pub mod adopt;
pub mod chain;
pub mod check;
pub mod clear;
pub mod held;
pub mod layout;
pub mod linker;
pub mod local;
mod locks;
pub mod marks;
pub mod scan;
mod snapshot;
mod source;
pub mod stock;
mod target;
#[cfg(test)]
mod testing;
#[cfg(unix)]
#[cfg(test)]
mod tests;
pub mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubferry_core::error::Result;
use hubferry_core::manifest::{Entry, RepoPath};

pub use self::source::HfCacheSource;
pub use self::target::HfCacheTarget;
use crate::dir::DirOptions;
use crate::dir::files::Stamp;
use crate::dir::hashing::digest_all;
use crate::dir::walk::Found;
use layout::{BlobName, Commit};
use linker::{Linker, System};
use scan::CachedSnapshot;

/// The branch that an address without one means, as in every client of the hub.
pub const MAIN: &str = "main";
/// From this size on a file that nobody calls large by other means is in LFS: the hub refuses larger ones outside.
const LFS_FROM: u64 = 10 << 20;

/// How a cache is read and written.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// How files are hashed, and who is told.
    pub files: DirOptions,
    /// Which links are made.
    pub linker: Arc<dyn Linker>,
}

impl CacheOptions {
    /// Hashes as `files` says. `symlinks` is false where symbolic links are not wanted.
    pub fn new(files: DirOptions, symlinks: bool) -> Self {
        Self { files, linker: Arc::new(System { symlinks }) }
    }
}

/// Whether a file lies in LFS, which decides the name of its blob: as its source says, else by its size.
pub fn is_lfs(entry: &Entry) -> bool {
    entry.lfs || (entry.digests.git.is_none() && entry.size > LFS_FROM)
}

type Entries = Vec<(RepoPath, Entry)>;

/// The entries of a snapshot: by the names of their blobs, or hashed where there is no name. With what the files look like.
fn entries(snapshot: &CachedSnapshot, options: &CacheOptions, stop: &AtomicBool) -> Result<(Entries, BTreeMap<RepoPath, Stamp>)> {
    let mut entries = Vec::with_capacity(snapshot.files.len());
    let mut unnamed = Vec::new();
    let mut stamps = BTreeMap::new();
    for (path, file) in &snapshot.files {
        let stamp = Stamp::of(&file.data);
        stamps.insert(path.clone(), stamp);
        match file.name() {
            Some(name) => {
                let lfs = matches!(name, BlobName::Sha256(_));
                entries.push((path.clone(), Entry { lfs, ..Entry::new(file.size(), name.digests()) }));
            }
            None => unnamed.push(Found { path: path.clone(), at: file.at.clone(), stamp }),
        }
    }
    let digests = digest_all(&mut unnamed, &options.files, stop)?;
    for (found, digests) in unnamed.iter().zip(digests) {
        stamps.insert(found.path.clone(), found.stamp);
        entries.push((found.path.clone(), Entry::new(found.stamp.size, digests)));
    }
    Ok((entries, stamps))
}

/// Whether a revision is one that a snapshot can be named by.
pub fn is_commit(revision: &str) -> bool {
    Commit::parse(revision).is_some()
}
