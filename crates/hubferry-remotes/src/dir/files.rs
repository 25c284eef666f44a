//! Small file-system words: what a file looked like, durable writes, folder checks.

use std::fs::{File, Metadata};
use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use hubferry_core::error::{Error, Result};

/// What a file looked like when it was listed. Two equal stamps that are old enough mean equal bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stamp {
    /// Device and inode, where the system has them: without, nothing is remembered of a file.
    pub(super) id: Option<(u64, u64)>,
    /// Bytes.
    pub(crate) size: u64,
    /// Last change of the content, in nanoseconds.
    pub(super) modified: i128,
    /// Last change of the inode, in nanoseconds.
    pub(super) changed: i128,
}

impl Stamp {
    pub(crate) fn of(data: &Metadata) -> Self {
        let modified = data.modified().map_or(0, nanos);
        Self { id: identity(data), size: data.len(), modified, changed: inode_change(data).unwrap_or(modified) }
    }

    /// Whether the content is the same as far as one can see without reading. A new name or mode does not matter.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.id == other.id && self.size == other.size && self.modified == other.modified
    }
}

/// A time as nanoseconds since 1970, negative before.
pub(super) fn nanos(time: SystemTime) -> i128 {
    let signed = |nanos: u128| i128::try_from(nanos).unwrap_or(i128::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => signed(after.as_nanos()),
        Err(before) => -signed(before.duration().as_nanos()),
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "systems without inodes have no identity")]
fn identity(data: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((data.dev(), data.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "systems without inodes have no such time")]
fn inode_change(data: &Metadata) -> Option<i128> {
    use std::os::unix::fs::MetadataExt as _;
    Some(i128::from(data.ctime()) * 1_000_000_000 + i128::from(data.ctime_nsec()))
}

#[cfg(not(unix))]
fn inode_change(_: &Metadata) -> Option<i128> {
    None
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(|error| Error::io("sync", folder, error))
}

/// Makes the names in a folder durable: the system does that by itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// Writes a small file so that after a crash it is there whole or not at all.
pub(super) fn write_durably(at: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = at.with_extension("new");
    // Made anew, so that a link somebody put there is not written through.
    remove_file(&unfinished)?;
    let mut file = File::create_new(&unfinished).map_err(|error| Error::io("create", &unfinished, error))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| Error::io("write", &unfinished, error))?;
    std::fs::rename(&unfinished, at).map_err(|error| Error::io("write", at, error))?;
    at.parent().map_or(Ok(()), sync_folder)
}

/// Removes a file; that it is gone already is fine.
pub(crate) fn remove_file(at: &Path) -> Result<()> {
    match std::fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", at, error)),
        _ => Ok(()),
    }
}

/// Renames; `false` when nothing has the old name.
pub(super) fn rename_if_there(from: &Path, to: &Path) -> Result<bool> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("rename", from, error)),
    }
}

/// What lies at a path without following a link; `None` when nothing does.
pub(crate) fn look(at: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(at) {
        Ok(data) => Ok(Some(data)),
        // A parent that is a file means that nothing can be below it.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("read", at, error)),
    }
}

/// Whether names that differ only in letter case mean the same file where `at` lies. `at` must exist.
pub(super) fn folds_case(at: &Path) -> bool {
    let Some(name) = at.file_name().and_then(|name| name.to_str()) else { return false };
    let swapped: String =
        name.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect();
    if swapped == name {
        return false;
    }
    match (std::fs::symlink_metadata(at), std::fs::symlink_metadata(at.with_file_name(swapped))) {
        (Ok(one), Ok(other)) => identity(&one) == identity(&other),
        _ => false,
    }
}
