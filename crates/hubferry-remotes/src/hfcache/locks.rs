//! The lock files of the Python client: looked at, taken for a moment, never removed.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::layout::{LOCKS, RepoFolder};

/// Whether somebody holds a lock. A lock that cannot be looked at counts as held; one that is not there as free.
///
/// The client takes them with `flock` (read in `filelock`), as [`File::try_lock`] does.
pub(crate) fn is_held(at: &Path) -> bool {
    match at.symlink_metadata() {
        Ok(data) if data.is_file() => {}
        Ok(_) => return false,
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
    }
    match File::open(at) {
        Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// A lock of a repository's blobs that somebody holds: the client takes one for each blob while it brings it.
pub(crate) fn held_in(folder: &RepoFolder) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder.cache().root().join(LOCKS).join(folder.name())).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|at| is_held(at))
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _file: Option<File>,
}

/// Takes a lock if it is free, or if there is none; `None` while somebody else holds it.
pub(crate) fn take(at: &Path) -> Option<Held> {
    if is_held(at) {
        return None;
    }
    match File::open(at) {
        Ok(file) => match file.try_lock() {
            // A file system without locks: whoever works there has none either.
            Ok(()) | Err(TryLockError::Error(_)) => Some(Held { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => None,
        },
        Err(_) => Some(Held { _file: None }),
    }
}
