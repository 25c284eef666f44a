//! Pairs of digests kept between runs: an append-only file of fixed lines, so that what one run learnt spares the next from
//! reading small files only to compare them.
//!
//! A line is `<git id> <size> <sha256>\n`, written with one append. Lines that are torn or odd are skipped; losing the file costs
//! a few readings and nothing else.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::transfer::pairs::DigestPairs;

/// A file beyond this size is begun anew: it holds more than anyone compares.
const MAX_BYTES: u64 = 64 << 20;

/// Pairs of digests in a file. When it cannot be read or written, they live as long as the process.
pub struct FilePairs(Mutex<State>);

struct State {
    known: HashMap<(GitOid, u64), Oid>,
    file: Option<File>,
}

impl FilePairs {
    /// Opens (and creates) `<folder>/pairs`. Never fails: this is a cache.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("pairs");
        let mut known = HashMap::new();
        if let Ok(file) = File::open(&path) {
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            known.extend(lines.filter_map(|line| parse(&line)));
        }
        Self(Mutex::new(State { known, file: open(&path) }))
    }
}

fn open(path: &Path) -> Option<File> {
    std::fs::create_dir_all(path.parent()?).ok()?;
    if std::fs::metadata(path).is_ok_and(|data| data.len() > MAX_BYTES) {
        std::fs::remove_file(path).ok()?;
    }
    OpenOptions::new().create(true).append(true).open(path).ok()
}

fn parse(line: &str) -> Option<((GitOid, u64), Oid)> {
    let mut fields = line.split(' ');
    let pair = ((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?), fields.next()?.parse().ok()?);
    fields.next().is_none().then_some(pair)
}

impl DigestPairs for FilePairs {
    fn sha256_of(&self, git: GitOid, size: u64) -> Option<Oid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(&(git, size)).copied()
    }

    fn learn(&self, git: GitOid, size: u64, sha256: Oid) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.known.insert((git, size), sha256) == Some(sha256) {
            return;
        }
        let line = format!("{git} {size} {sha256}\n");
        // One write per line: appends of several processes do not mix. A failure only forgets.
        if state.file.as_mut().is_some_and(|file| file.write_all(line.as_bytes()).is_err()) {
            state.file = None;
        }
    }
}

impl fmt::Debug for FilePairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilePairs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_and_torn_lines_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let (git, oid) = (GitOid::of(b"x"), Oid::of(b"x"));
        FilePairs::open(folder.path()).learn(git, 1, oid);
        let mut file = OpenOptions::new().append(true).open(folder.path().join("pairs")).unwrap();
        file.write_all(b"torn 1 \xff\n12 x\n").unwrap();
        let again = FilePairs::open(folder.path());
        assert_eq!(again.sha256_of(git, 1), Some(oid));
        assert_eq!(again.sha256_of(git, 2), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let pairs = FilePairs::open(Path::new("/proc/none/such"));
        pairs.learn(GitOid::of(b"x"), 1, Oid::of(b"x"));
        assert!(pairs.sha256_of(GitOid::of(b"x"), 1).is_some());
    }
}
