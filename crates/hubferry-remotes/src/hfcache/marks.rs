//! What hubferry notes of the revisions in a cache: when each was last of use, and which must stay.
//!
//! A mark is an empty file in a folder of its own beside the blobs, where no client looks. So a mark needs no lock, holds nothing that
//! could be half written, is shared by everybody who shares the cache, and goes with the repository.

use std::path::PathBuf;
use std::time::SystemTime;

use hubferry_core::error::{Error, Result};

use super::layout::{Commit, RepoFolder};

/// The folder of marks in the folder of a repository.
pub(crate) const MARKS: &str = ".hubferry-marks";
/// In it: marks whose time is that of the last use.
const USED: &str = "used";
/// In it: marks whose name is what is pinned.
const PINNED: &str = "pinned";
/// The mark that pins the whole repository. No ref has this name.
const WHOLE: &str = "*";

/// What a pin holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pin {
    /// All revisions of the repository.
    Whole,
    /// What a branch or tag names, or one commit.
    Rev(String),
}

impl Pin {
    fn name(&self) -> String {
        match self {
            Self::Whole => WHOLE.to_owned(),
            Self::Rev(rev) => rev.replace('%', "%25").replace('/', "%2F"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if name == WHOLE {
            return Some(Self::Whole);
        }
        percent_encoding::percent_decode_str(name).decode_utf8().ok().map(|rev| Self::Rev(rev.into_owned()))
    }
}

/// Notes that a revision is of use now. A cache that may not be written to is used without a note.
pub fn use_now(folder: &RepoFolder, commit: &Commit) {
    let at = used_mark(folder, commit);
    let touch = || -> std::io::Result<()> {
        std::fs::create_dir_all(at.parent().unwrap_or(&at))?;
        let file = std::fs::File::options().create(true).append(true).open(&at)?;
        file.set_modified(SystemTime::now())
    };
    if let Err(error) = touch() {
        tracing::debug!("cannot note the use of {}: {error}", at.display());
    }
}

/// When a revision was last noted to be of use.
pub fn last_use(folder: &RepoFolder, commit: &Commit) -> Option<SystemTime> {
    used_mark(folder, commit).symlink_metadata().ok()?.modified().ok()
}

pub(crate) fn used_mark(folder: &RepoFolder, commit: &Commit) -> PathBuf {
    folder.at().join(MARKS).join(USED).join(commit.as_str())
}

/// What is pinned in a repository.
pub fn pins(folder: &RepoFolder) -> Result<Vec<Pin>> {
    let at = folder.at().join(MARKS).join(PINNED);
    let entries = match std::fs::read_dir(&at) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &at, error)),
    };
    let mut pins = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", &at, error))?;
        pins.extend(entry.file_name().to_str().and_then(Pin::parse));
    }
    pins.sort();
    Ok(pins)
}

/// Pins something. Whether it was not pinned yet.
pub fn pin(folder: &RepoFolder, pin: &Pin) -> Result<bool> {
    let at = folder.at().join(MARKS).join(PINNED);
    std::fs::create_dir_all(&at).map_err(|error| Error::io("create", &at, error))?;
    let at = at.join(pin.name());
    match std::fs::File::create_new(&at) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("create", &at, error)),
    }
}

/// Takes a pin away. Whether it was there.
pub fn unpin(folder: &RepoFolder, pin: &Pin) -> Result<bool> {
    let at = folder.at().join(MARKS).join(PINNED).join(pin.name());
    match std::fs::remove_file(&at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", &at, error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::testing::{Fixture, SHA};
    use super::*;

    #[test]
    fn a_use_is_noted_and_seen() {
        let fixture = Fixture::new();
        fixture.snapshot("main", &[("a", b"a", false)]);
        let commit = Commit::parse(SHA).unwrap();
        assert_eq!(last_use(&fixture.folder, &commit), None);
        let before = SystemTime::now();
        use_now(&fixture.folder, &commit);
        let noted = last_use(&fixture.folder, &commit).unwrap();
        assert!(noted >= before && noted <= SystemTime::now());
    }

    #[test]
    fn pins_come_back_as_they_were_put() {
        let fixture = Fixture::new();
        fixture.snapshot("main", &[("a", b"a", false)]);
        let all = [Pin::Whole, Pin::Rev("feature/x%".into()), Pin::Rev("main".into())];
        for one in &all {
            assert!(pin(&fixture.folder, one).unwrap());
            assert!(!pin(&fixture.folder, one).unwrap(), "it is there already");
        }
        assert_eq!(pins(&fixture.folder).unwrap(), all);
        for one in &all {
            assert!(unpin(&fixture.folder, one).unwrap() && !unpin(&fixture.folder, one).unwrap());
        }
        assert_eq!(pins(&fixture.folder).unwrap(), []);
    }
}
