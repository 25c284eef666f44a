//! The locks of the Python client: one per blob, held while it is brought. They save work and nothing rests on them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hubferry_core::error::{Error, Result};
use hubferry_core::events::{Event, Reporter};
use walkdir::WalkDir;

use super::layout::{BlobName, LOCKS, RepoFolder};

/// Between two looks at a lock that somebody holds.
const PAUSE: Duration = Duration::from_millis(200);
/// A holder of whose work nothing is seen for this long is not waited for: nothing rests on these locks.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Locks that one process holds at most: each is an open file.
const MOST: usize = 128;

/// Locks that we hold, until they are dropped or the process ends.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<(BlobName, File)>);

impl Held {
    /// Takes the lock of a blob if that needs no waiting, so that others wait for us instead of bringing the same bytes. Best effort.
    pub(crate) fn take(&mut self, folder: &RepoFolder, name: BlobName) {
        if self.0.len() >= MOST || self.0.iter().any(|(held, _)| *held == name) {
            return;
        }
        if let Ok(file) = open(&folder.lock(&name))
            && file.try_lock().is_ok()
        {
            self.0.push((name, file));
        }
    }

    /// Lets others go on.
    pub(crate) fn release(&mut self) {
        self.0.clear();
    }

    /// Whether we hold none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, name: &BlobName) -> bool {
        self.0.iter().any(|(held, _)| held == name)
    }
}

/// Whether somebody else holds the lock of a blob. Where the file system has no locks, nobody does.
pub(crate) fn is_taken(folder: &RepoFolder, name: &BlobName, held: &Held) -> bool {
    if held.has(name) {
        return false;
    }
    let at = folder.lock(name);
    // A link would let us lock a file that is none of the cache's.
    let is_file = at.symlink_metadata().is_ok_and(|data| data.is_file());
    let Some(file) = is_file.then(|| File::open(&at).ok()).flatten() else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

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

/// One lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct One {
    _file: Option<File>,
}

/// Takes a lock if it is free, or if there is none; `None` while somebody else holds it.
pub(crate) fn take(at: &Path) -> Option<One> {
    if is_held(at) {
        return None;
    }
    match File::open(at) {
        Ok(file) => match file.try_lock() {
            // A file system without locks: whoever works there has none either.
            Ok(()) | Err(TryLockError::Error(_)) => Some(One { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => None,
        },
        Err(_) => Some(One { _file: None }),
    }
}

/// Waits until nobody else brings any of these blobs, and says for whom it waits. Who does nothing for as long as `patience` is
/// overtaken.
pub(crate) async fn wait(
    folder: &RepoFolder,
    names: &[BlobName],
    is_free: impl Fn(&BlobName) -> bool,
    reporter: &dyn Reporter,
    patience: Duration,
) {
    for name in names {
        let (mut last, mut since) = (None, Instant::now());
        while !is_free(name) {
            if last.is_none() {
                let at = folder.lock(name);
                reporter.event(&Event::Note(format!("waiting for another program that brings the same file (it holds {})", at.display())));
            }
            let sign = Some(signs(folder, name));
            if last != sign {
                (last, since) = (sign, Instant::now());
            } else if since.elapsed() >= patience {
                reporter.event(&Event::Note("that program does nothing any more: going on without it".to_owned()));
                // Whatever else it holds, it does not bring that either.
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What is seen of the work on a blob: when an unfinished file was last written, the Python client's or that of another run of ours.
fn signs(folder: &RepoFolder, name: &BlobName) -> Option<SystemTime> {
    let written = |at: &Path| at.metadata().and_then(|data| data.modified()).ok();
    let theirs = std::fs::read_dir(folder.blobs()).into_iter().flatten().filter_map(std::result::Result::ok);
    let prefix = name.to_string();
    let theirs = theirs.filter(|entry| entry.file_name().to_str().is_some_and(|found| found.starts_with(&prefix)));
    let ours = WalkDir::new(folder.own()).max_depth(2).into_iter().filter_map(std::result::Result::ok);
    theirs.map(|entry| entry.path()).chain(ours.map(walkdir::DirEntry::into_path)).filter_map(|at| written(&at)).max()
}

/// Opens a lock file as the Python client makes it: for everybody of the group, and left in place.
fn open(at: &Path) -> Result<File> {
    let write = |error| Error::io("write", at, error);
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder).map_err(write)?;
    }
    match File::create_new(at) {
        Ok(file) => {
            for_the_group(&file);
            Ok(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if at.symlink_metadata().map_err(write)?.is_file() {
                return File::open(at).map_err(write);
            }
            Err(write(error))
        }
        Err(error) => Err(write(error)),
    }
}

#[cfg(unix)]
fn for_the_group(file: &File) {
    use std::os::unix::fs::PermissionsExt as _;
    drop(file.set_permissions(std::fs::Permissions::from_mode(0o664)));
}

#[cfg(not(unix))]
fn for_the_group(_: &File) {}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, wait_until_free};
    use super::*;
    use hubferry_core::digest::Oid;

    #[test]
    fn one_takes_it_and_the_others_see_that() {
        let fixture = Fixture::new();
        let name = BlobName::Sha256(Oid::EMPTY);
        let (mut ours, theirs) = (Held::default(), Held::default());
        assert!(!is_taken(&fixture.folder, &name, &theirs), "no lock file, no lock");
        ours.take(&fixture.folder, name);
        assert!(is_taken(&fixture.folder, &name, &theirs) && !is_taken(&fixture.folder, &name, &ours));
        let mut more = Held::default();
        more.take(&fixture.folder, name);
        assert!(!more.has(&name), "never waits");
        ours.release();
        wait_until_free(&fixture.folder.lock(&name));
        assert!(!is_taken(&fixture.folder, &name, &theirs));
        assert!(fixture.folder.lock(&name).exists(), "left in place");
    }

    #[tokio::test]
    async fn who_holds_a_lock_and_does_nothing_is_overtaken() {
        let fixture = Fixture::new();
        let name = BlobName::Sha256(Oid::EMPTY);
        let reporter = hubferry_core::events::Silent;
        let begun = Instant::now();
        wait(&fixture.folder, &[name, name], |_| false, &reporter, Duration::from_millis(300)).await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        // While something is seen of its work, it is waited for.
        std::fs::create_dir_all(fixture.folder.blobs()).unwrap();
        let unfinished = fixture.folder.blobs().join(format!("{name}.0123abcd.incomplete"));
        let begun = Instant::now();
        let works = |_: &BlobName| {
            std::fs::write(&unfinished, format!("{:?}", begun.elapsed())).unwrap();
            begun.elapsed() > Duration::from_millis(1200)
        };
        wait(&fixture.folder, &[name], works, &reporter, Duration::from_millis(300)).await;
        assert!(begun.elapsed() > Duration::from_millis(1200));
    }
}
