//! How a file of a snapshot leads to its blob: by a symbolic link, else by a hard link, else as a copy. What the file system can do
//! decides, not its name.

use std::fmt;
use std::io;
use std::path::Path;

use hubferry_core::error::{Error, Result};

/// The links that a file system has. The one of the machine is [`System`]; tests have poorer ones.
pub trait Linker: fmt::Debug + Send + Sync {
    /// Makes a symbolic link at `at` that says `text`.
    fn symlink(&self, text: &Path, at: &Path) -> io::Result<()>;
    /// Makes a second name for a file.
    fn hard_link(&self, file: &Path, at: &Path) -> io::Result<()>;
}

/// What the machine has.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Whether symbolic links are wanted: the Python client has a variable that forbids them.
    pub symlinks: bool,
}

impl Linker for System {
    fn symlink(&self, text: &Path, at: &Path) -> io::Result<()> {
        if self.symlinks { symlink(text, at) } else { Err(io::Error::from(io::ErrorKind::Unsupported)) }
    }

    fn hard_link(&self, file: &Path, at: &Path) -> io::Result<()> {
        std::fs::hard_link(file, at)
    }
}

#[cfg(unix)]
fn symlink(text: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(text, at)
}

#[cfg(windows)]
fn symlink(text: &Path, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(text, at)
}

/// How a file came to its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Made {
    Symlink,
    HardLink,
    /// The bytes are there twice, or only there when they were moved.
    Bytes,
}

/// Lets `at`, where nothing is, lead to `blob`; `text` is what a symbolic link says. Where no link is possible the bytes are moved if
/// nobody else needs the blob (`may_move`), as the Python client does it, and copied otherwise.
pub(crate) fn lead(linker: &dyn Linker, blob: &Path, text: &Path, at: &Path, may_move: bool) -> Result<Made> {
    if linker.symlink(text, at).is_ok() {
        return Ok(Made::Symlink);
    }
    // A second name for a link into the shared store would be a second link, which says something else there.
    let is_file = blob.symlink_metadata().is_ok_and(|data| data.is_file());
    if is_file && linker.hard_link(blob, at).is_ok() {
        return Ok(Made::HardLink);
    }
    let moved = if may_move && is_file { std::fs::rename(blob, at) } else { std::fs::copy(blob, at).map(drop) };
    moved.map_err(|error| Error::io("write", at, error))?;
    Ok(Made::Bytes)
}

/// Whether symbolic links are possible in a folder.
pub fn has_symlinks(linker: &dyn Linker, folder: &Path) -> bool {
    let at = folder.join(format!(".hubferry-link-{:016x}", fastrand::u64(..)));
    let made = linker.symlink(Path::new("nothing"), &at).is_ok();
    drop(std::fs::remove_file(&at));
    made
}

#[cfg(unix)]
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file system with few links.
    #[derive(Debug)]
    pub(crate) struct Poor {
        pub(crate) hard_links: bool,
    }

    impl Linker for Poor {
        fn symlink(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }

        fn hard_link(&self, file: &Path, at: &Path) -> io::Result<()> {
            if self.hard_links { std::fs::hard_link(file, at) } else { Err(io::Error::from(io::ErrorKind::Unsupported)) }
        }
    }

    #[test]
    fn the_best_link_that_there_is_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, at) = (folder.path().join("blob"), |n: u32| folder.path().join(n.to_string()));
        std::fs::write(&blob, b"abc").unwrap();
        let text = Path::new("blob");
        assert_eq!(lead(&System { symlinks: true }, &blob, text, &at(1), true).unwrap(), Made::Symlink);
        assert_eq!(lead(&System { symlinks: false }, &blob, text, &at(2), true).unwrap(), Made::HardLink);
        assert_eq!(lead(&Poor { hard_links: false }, &blob, text, &at(3), false).unwrap(), Made::Bytes);
        assert!(blob.exists());
        assert_eq!(lead(&Poor { hard_links: false }, &blob, text, &at(4), true).unwrap(), Made::Bytes);
        assert!(!blob.exists(), "moved");
        assert_eq!(std::fs::read(at(4)).unwrap(), b"abc");
        assert!(has_symlinks(&System { symlinks: true }, folder.path()) && !has_symlinks(&Poor { hard_links: true }, folder.path()));
    }
}
