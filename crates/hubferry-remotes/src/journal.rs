//! Notes of unfinished uploads on disk: one small file per upload, so that a process that was killed costs only the parts that
//! were on their way.
//!
//! A note holds signed links, which are secrets for as long as they live: nobody else may read it, and it does not stay for ever.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use hubferry_core::digest::Oid;
use hubferry_core::transfer::journal::Journal;

/// No storage keeps an unfinished upload longer.
const KEEP: Duration = Duration::from_hours(7 * 24);
/// A larger file was not written by us.
const LARGEST: u64 = 64 << 20;

/// Notes in a folder. Several processes may use one. Losing it costs time, never correctness, so it never fails.
pub struct FileJournal {
    folder: PathBuf,
    swept: Once,
}

impl FileJournal {
    /// Keeps notes in `folder`, which is made when there is something to keep.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), swept: Once::new() }
    }

    /// The file of a key; keys hold addresses, which are no file names.
    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(Oid::of(key.as_bytes()).to_string())
    }

    /// Removes what nobody will continue any more, once per process.
    fn sweep(&self) {
        self.swept.call_once(|| {
            let now = SystemTime::now();
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let age = entry.metadata().and_then(|data| data.modified()).map(|at| now.duration_since(at).unwrap_or_default());
                if age.is_ok_and(|age| age > KEEP) {
                    forgive(&entry.path(), "sweep", std::fs::remove_file(entry.path()));
                }
            }
        });
    }
}

/// Says what went wrong, to whoever wants to know.
fn forgive(at: &Path, what: &str, result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %at.display(), %error, "cannot {what} the note of an upload");
    }
}

/// Options that let only ourselves read what is made.
#[cfg(unix)]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Elsewhere a user's own folders are not open to others.
#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

pub(crate) fn load(at: &Path) -> io::Result<Option<String>> {
    let file = File::open(at)?;
    let data = file.metadata()?;
    if !data.is_file() || data.len() > LARGEST {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    // Bytes that are no text are what a crash made of a line; whoever reads the note skips such lines.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes beside the place and renames: after a crash the old note is there, or the new one.
pub(crate) fn save(at: &Path, note: &str) -> io::Result<()> {
    let Some(folder) = at.parent() else { return Ok(()) };
    make_folder(folder)?;
    // A name that no other writer has, in this process or another, on this machine or one that shares the folder.
    let unfinished = at.with_extension(format!("{:016x}", fastrand::u64(..)));
    let written = private().write(true).create_new(true).open(&unfinished).and_then(|mut file| {
        file.write_all(note.as_bytes())?;
        file.sync_all()
    });
    let result = written.and_then(|()| std::fs::rename(&unfinished, at));
    if result.is_err() {
        let _ = std::fs::remove_file(&unfinished);
        return result;
    }
    sync_folder(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The system does that by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn append(at: &Path, more: &str) -> io::Result<()> {
    // Never made here: a note without its beginning says nothing. One write keeps what two processes add apart.
    let mut file = OpenOptions::new().append(true).open(at)?;
    file.write_all(more.as_bytes())?;
    file.sync_data()
}

impl Journal for FileJournal {
    fn load(&self, key: &str) -> Option<String> {
        self.sweep();
        let at = self.file(key);
        match load(&at) {
            Ok(note) => note,
            Err(error) => {
                forgive(&at, "read", Err(error));
                None
            }
        }
    }

    fn save(&self, key: &str, note: &str) {
        let at = self.file(key);
        forgive(&at, "write", save(&at, note));
    }

    fn append(&self, key: &str, more: &str) {
        let at = self.file(key);
        forgive(&at, "add to", append(&at, more));
    }

    fn remove(&self, key: &str) {
        let at = self.file(key);
        forgive(&at, "remove", std::fs::remove_file(&at));
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_grow_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("deep/uploads");
        let journal = FileJournal::at(&at);
        assert_eq!(journal.load("a"), None);
        journal.append("a", "nothing to add to");
        assert_eq!(journal.load("a"), None);
        journal.save("a", "one\n");
        journal.append("a", "two\n");
        journal.save("https://h/../b", "b");
        let again = FileJournal::at(&at);
        assert_eq!((again.load("a").as_deref(), again.load("https://h/../b").as_deref()), (Some("one\ntwo\n"), Some("b")));
        again.save("a", "new");
        assert_eq!(journal.load("a").as_deref(), Some("new"));
        journal.remove("a");
        journal.remove("a");
        assert_eq!(again.load("a"), None);
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn only_we_may_read_notes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let journal = FileJournal::at(folder.path().join("uploads"));
        journal.save("a", "link");
        for (at, mode) in [(journal.folder.clone(), 0o700), (journal.file("a"), 0o600)] {
            assert_eq!(std::fs::metadata(at).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn old_notes_are_swept_and_odd_files_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let journal = FileJournal::at(folder.path());
        journal.save("old", "x");
        journal.save("young", "y");
        let week = SystemTime::now() - KEEP - Duration::from_hours(1);
        File::options().write(true).open(journal.file("old")).unwrap().set_modified(week).unwrap();
        std::fs::create_dir(journal.file("folder")).unwrap();
        std::fs::write(journal.file("torn"), b"a\xff\xfe").unwrap();
        let again = FileJournal::at(folder.path());
        assert_eq!(again.load("young").as_deref(), Some("y"));
        assert!(!journal.file("old").exists());
        assert_eq!(again.load("folder"), None);
        assert!(again.load("torn").unwrap().starts_with('a'));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let journal = FileJournal::at("/proc/none/such");
        journal.save("a", "x");
        journal.append("a", "y");
        journal.remove("a");
        assert_eq!(journal.load("a"), None);
    }
}
