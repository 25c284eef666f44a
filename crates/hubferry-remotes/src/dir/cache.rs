//! Remembers the digests of files that have not changed since they were read, in an append-only text file.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hubferry_core::digest::Digests;

use super::files::{Stamp, nanos};

/// First word of a line; another layout gets another word, and old lines are then ignored.
const LAYOUT: &str = "v1";
/// A file changed so shortly before it was read may change again without looking different: clocks of file systems are coarse.
const RACY: i128 = 2_000_000_000;
/// The same for a file that only we have written: its name became visible this much after its last byte.
const SETTLED: i128 = 20_000_000;
/// A file of this many bytes takes about as long to read as to settle.
const WORTH_WAITING: u64 = 16 << 20;
/// Lines that say nothing new are dropped when there are this many of them, and more than others.
const STALE_LINES: usize = 1000;

/// Digests by what a file looked like. Cheap to clone; clones share what they know. Losing it costs time, never correctness, so
/// it never fails.
#[derive(Clone)]
pub struct HashCache(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    loaded: bool,
    by_stamp: HashMap<Stamp, Digests>,
}

/// How long to wait until a rename makes the large ones of these files known for what they are: reading them again would take longer.
pub(super) fn unsettled(staged: impl Iterator<Item = Stamp>) -> Option<Duration> {
    let youngest = staged.filter(|stamp| stamp.size >= WORTH_WAITING).map(|stamp| stamp.modified).max()?;
    // A clock that was set back says nothing, and one tick of the system's is not enough.
    let age = nanos(SystemTime::now()) - youngest;
    let rest = u64::try_from(SETTLED + SETTLED / 4 - age).ok()?;
    (age >= 0 && rest > 0).then(|| Duration::from_nanos(rest))
}

impl fmt::Debug for HashCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashCache").field("file", &self.0.file).finish_non_exhaustive()
    }
}

impl HashCache {
    /// Forgets everything at the end of the process.
    pub fn memory() -> Self {
        Self(Arc::new(Inner { file: None, known: Mutex::default() }))
    }

    /// Keeps what it knows in `file`, which is made when there is something to keep. Several processes may use one file.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { file: Some(file.into()), known: Mutex::default() }))
    }

    pub(super) fn get(&self, stamp: &Stamp) -> Option<Digests> {
        self.known().by_stamp.get(stamp).copied()
    }

    /// Keeps digests of files that were read just now, unless a file is too young to be told from its next version.
    pub(super) fn insert(&self, read: impl IntoIterator<Item = (Stamp, Digests)>) {
        let now = nanos(SystemTime::now());
        self.store(read.into_iter().filter(|(stamp, _)| now - stamp.modified >= RACY && now - stamp.changed >= RACY).collect());
    }

    /// Keeps digests of files that we wrote under a name nobody else knew and then renamed.
    pub(super) fn insert_own(&self, written: impl IntoIterator<Item = (Stamp, Digests)>) {
        let now = nanos(SystemTime::now());
        let settled = |stamp: &Stamp| {
            // A change after the rename gets a later time than the last byte, where the clock is fine enough to show it.
            let fine_clock = stamp.modified % 1_000_000_000 != 0;
            (fine_clock && stamp.changed - stamp.modified >= SETTLED) || now - stamp.modified >= RACY
        };
        self.store(written.into_iter().filter(|(stamp, _)| settled(stamp)).collect());
    }

    fn store(&self, fresh: Vec<(Stamp, Digests)>) {
        let mut known = self.known();
        let mut text = String::new();
        for (stamp, digests) in fresh {
            let Some(line) = to_line(&stamp, &digests) else { continue };
            if known.by_stamp.insert(stamp, digests) != Some(digests) {
                text.push_str(&line);
            }
        }
        let Some(file) = self.0.file.as_deref().filter(|_| !text.is_empty()) else { return };
        if let Err(error) = append(file, &text) {
            tracing::warn!(file = %file.display(), %error, "cannot remember hashes");
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.loaded {
            known.loaded = true;
            if let Some(file) = &self.0.file {
                load(file, &mut known.by_stamp);
            }
        }
        known
    }
}

fn load(file: &Path, by_stamp: &mut HashMap<Stamp, Digests>) {
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(file = %file.display(), %error, "cannot read remembered hashes");
            }
            return;
        }
    };
    let mut lines = 0;
    // Bytes that are not UTF-8, and what a crash left of a line, are skipped like any other line that cannot be read.
    for line in BufReader::new(open).split(b'\n').map_while(Result::ok) {
        if let Some((stamp, digests)) = std::str::from_utf8(&line).ok().and_then(from_line) {
            by_stamp.insert(stamp, digests);
        }
        lines += usize::from(!line.is_empty());
    }
    if lines > 2 * by_stamp.len() + STALE_LINES {
        let text: String = by_stamp.iter().filter_map(|(stamp, digests)| to_line(stamp, digests)).collect();
        if let Err(error) = super::files::write_durably(file, text.as_bytes()) {
            tracing::warn!(file = %file.display(), %error, "cannot shorten the file of remembered hashes");
        }
    }
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // The leading line end closes a line that a crash cut short; one write keeps the lines of two processes apart.
    OpenOptions::new().create(true).append(true).open(file)?.write_all(format!("\n{text}").as_bytes())
}

fn to_line(stamp: &Stamp, digests: &Digests) -> Option<String> {
    let (device, inode) = stamp.id?;
    let sha256 = digests.sha256?;
    let git = digests.git.map_or_else(|| "-".to_owned(), |git| git.to_string());
    Some(format!("{LAYOUT} {device} {inode} {} {} {} {sha256} {git}\n", stamp.size, stamp.modified, stamp.changed))
}

fn from_line(line: &str) -> Option<(Stamp, Digests)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [LAYOUT, device, inode, size, modified, changed, sha256, git] = fields[..] else { return None };
    let stamp = Stamp {
        id: Some((device.parse().ok()?, inode.parse().ok()?)),
        size: size.parse().ok()?,
        modified: modified.parse().ok()?,
        changed: changed.parse().ok()?,
    };
    let git = if git == "-" { None } else { Some(git.parse().ok()?) };
    Some((stamp, Digests { sha256: Some(sha256.parse().ok()?), git }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, modified: i128) -> Stamp {
        Stamp { id: Some((1, inode)), size: 3, modified, changed: modified }
    }

    #[test]
    fn survives_the_process_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/hashes");
        HashCache::at(&file).insert([(stamp(1, 5), Digests::of(b"abc"))]);
        let torn = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{torn}v1 1 2 3 5")).unwrap();
        HashCache::at(&file).insert([(stamp(3, 5), Digests::of(b"abd"))]);
        let again = HashCache::at(&file);
        assert_eq!(again.get(&stamp(1, 5)), Some(Digests::of(b"abc")));
        assert_eq!(again.get(&stamp(3, 5)), Some(Digests::of(b"abd")));
        assert_eq!(again.get(&stamp(2, 5)), None);
    }

    #[test]
    fn a_large_file_settles_soon() {
        let now = nanos(SystemTime::now());
        let large = |age: i128| Stamp { size: 1 << 30, ..stamp(1, now - age) };
        let rest = unsettled([large(1_000_000), large(1_000_000_000)].into_iter()).unwrap();
        assert!(rest <= Duration::from_millis(25), "{rest:?}");
        assert_eq!(unsettled([large(1_000_000_000), stamp(1, now)].into_iter()), None, "old, or small");
        assert_eq!(unsettled([large(-1_000_000_000_000)].into_iter()), None, "from the future");
    }

    #[test]
    fn a_file_that_may_still_change_unseen_is_not_kept() {
        let cache = HashCache::memory();
        let now = nanos(SystemTime::now());
        let young = stamp(1, now - 1_000_000);
        cache.insert([(young, Digests::of(b"abc"))]);
        assert_eq!(cache.get(&young), None);
        let own = Stamp { changed: now + 50_000_000, modified: now - now % 1_000_000_000 + 1, ..young };
        let own = Stamp { changed: own.modified + 50_000_000, ..own };
        cache.insert_own([(own, Digests::of(b"abc")), (Stamp { changed: own.modified, id: Some((1, 2)), ..own }, Digests::of(b"x"))]);
        assert_eq!(cache.get(&own), Some(Digests::of(b"abc")));
    }

    #[test]
    fn lines_that_say_nothing_new_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hashes");
        let line = to_line(&stamp(1, 5), &Digests::of(b"abc")).unwrap();
        std::fs::write(&file, line.repeat(STALE_LINES + 10)).unwrap();
        assert!(HashCache::at(&file).get(&stamp(1, 5)).is_some());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line);
    }
}
