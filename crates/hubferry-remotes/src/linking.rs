//! Puts one file's bytes under another name as cheaply as the file system allows: blocks that both share (a reflink), one file with
//! two names (a hard link, where the caller may have that), or a copy.
//!
//! Nothing is verified here: whoever makes the new name visible hashes what is behind it.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use hubferry_core::error::{Error, Result};
use serde::Serialize;

/// How the bytes got their new name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A file of its own that shares blocks with the other until either is changed. No bytes were read.
    Cloned,
    /// The same file: whoever changes one changes both.
    Linked,
    /// A file of its own; every byte was read and written.
    Copied,
}

/// Whether a new name may be a second name of the same file. Only for files that nobody edits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HardLinks {
    /// Where blocks cannot be shared, a hard link is wanted.
    Allowed,
    /// Both names must stay independent.
    Forbidden,
}

/// What a file system can do. The real one is [`System`]; tests stand in for those that can do less.
pub trait Linker: Debug + Send + Sync {
    /// Makes the empty file `to` share every block of `from`; any error means that it cannot.
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()>;

    /// Gives `from` the further name `to`, which nobody has; any error means that it cannot.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Writes the bytes of `from` to the empty file `to`; an error is one of the disk.
    fn copy(&self, from: &mut File, to: &mut File) -> io::Result<()>;
}

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Linker for System {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn clone_file(&self, _: &File, _: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn copy(&self, from: &mut File, to: &mut File) -> io::Result<()> {
        // The standard library has the kernel copy where it can (`copy_file_range`).
        io::copy(from, to).map(drop)
    }
}

/// Puts the bytes of the file `from` at `to`, which must not exist, without reading them; `None`, and nothing at `to`, when the file
/// system cannot. A new file has the mode of any new file, not that of the other.
pub fn share(linker: &dyn Linker, from: &Path, to: &Path, links: HardLinks) -> Result<Option<Way>> {
    let open = open(from)?;
    let made = create(to)?;
    if linker.clone_file(&open, &made).is_ok() {
        return Ok(Some(Way::Cloned));
    }
    drop(made);
    remove(to)?;
    // A link to a link would be a second name of the link.
    let is_link = from.symlink_metadata().is_ok_and(|data| data.is_symlink());
    let linked = links == HardLinks::Allowed && !is_link && linker.hard_link(from, to).is_ok();
    Ok(linked.then_some(Way::Linked))
}

/// The same, by a copy where nothing else can be done.
pub fn place(linker: &dyn Linker, from: &Path, to: &Path, links: HardLinks) -> Result<Way> {
    match share(linker, from, to, links)? {
        Some(way) => Ok(way),
        None => copy(linker, from, to),
    }
}

/// Writes the bytes of the file `from` to `to`, which must not exist; nothing is at `to` if that fails.
pub(crate) fn copy(linker: &dyn Linker, from: &Path, to: &Path) -> Result<Way> {
    let (mut open, mut made) = (open(from)?, create(to)?);
    if let Err(error) = linker.copy(&mut open, &mut made) {
        drop(made);
        remove(to)?;
        return Err(Error::io("copy to", to, error).context("from", from.display()));
    }
    Ok(Way::Copied)
}

fn open(from: &Path) -> Result<File> {
    File::open(from).map_err(|error| Error::io("open", from, error))
}

fn create(to: &Path) -> Result<File> {
    File::options().read(true).write(true).create_new(true).open(to).map_err(|error| Error::io("create", to, error))
}

fn remove(to: &Path) -> Result<()> {
    std::fs::remove_file(to).map_err(|error| Error::io("remove", to, error))
}

/// File systems that can do less, or say so.
#[cfg(test)]
pub(crate) mod testing {
    use super::{File, Linker, Path, System, io};

    /// A file system with or without each of the two ways that save a copy.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Able {
        /// Shares blocks, as far as anybody can see.
        pub(crate) clones: bool,
        pub(crate) links: bool,
        /// Its disk is full after the first byte.
        pub(crate) full: bool,
    }

    impl Linker for Able {
        fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
            let (mut from, mut to) = (from, to);
            if self.clones { io::copy(&mut from, &mut to).map(drop) } else { Err(io::ErrorKind::Unsupported.into()) }
        }

        fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
            if self.links { System.hard_link(from, to) } else { Err(io::ErrorKind::Unsupported.into()) }
        }

        fn copy(&self, from: &mut File, to: &mut File) -> io::Result<()> {
            if self.full { Err(io::ErrorKind::StorageFull.into()) } else { System.copy(from, to) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Able;
    use super::*;
    use hubferry_core::error::Kind;

    #[test]
    fn the_cheapest_way_that_the_file_system_and_the_caller_allow_is_taken() {
        use HardLinks::{Allowed, Forbidden};
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::write(&from, b"bytes").unwrap();
        for (clones, links, allowed, expected) in [
            (true, true, Allowed, Way::Cloned),
            (true, true, Forbidden, Way::Cloned),
            (false, true, Allowed, Way::Linked),
            (false, true, Forbidden, Way::Copied),
            (false, false, Allowed, Way::Copied),
        ] {
            let to = folder.path().join("to");
            let able = Able { clones, links, full: false };
            assert_eq!(place(&able, &from, &to, allowed).unwrap(), expected);
            assert_eq!(std::fs::read(&to).unwrap(), b"bytes");
            std::fs::remove_file(&to).unwrap();
            let shared = share(&able, &from, &to, allowed).unwrap();
            assert_eq!(shared, (expected != Way::Copied).then_some(expected));
            assert_eq!(to.exists(), shared.is_some(), "where nothing could be shared, nothing is left");
            drop(std::fs::remove_file(&to));
        }
    }

    #[test]
    fn what_is_there_is_not_written_over_and_a_failed_copy_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, b"new").unwrap();
        std::fs::write(&to, b"old").unwrap();
        assert_eq!(place(&System, &from, &to, HardLinks::Allowed).unwrap_err().kind(), Kind::Io);
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
        std::fs::remove_file(&to).unwrap();
        place(&Able { full: true, ..Able::default() }, &from, &to, HardLinks::Forbidden).unwrap_err();
        assert!(!to.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_is_a_file_of_its_own_with_the_usual_mode_and_never_a_link() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("from"), b"bytes").unwrap();
        std::fs::write(at("usual"), b"").unwrap();
        std::fs::set_permissions(at("from"), std::fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink("from", at("link")).unwrap();
        place(&System, &at("link"), &at("to"), HardLinks::Allowed).unwrap();
        let (from, to, usual) = (at("from").metadata().unwrap(), at("to").symlink_metadata().unwrap(), at("usual").metadata().unwrap());
        assert!(to.is_file() && to.ino() != from.ino());
        assert_eq!(to.mode(), usual.mode());
    }
}
