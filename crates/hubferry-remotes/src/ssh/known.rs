//! Digests of files on a host that are known from before, by path, size and time: hashing a terabyte there, or reading it back, is done
//! once.
//!
//! SFTP tells times in seconds. A file that is changed twice within one would look the same, so what this remote writes is dated two
//! seconds back, and what it finds is kept only once it is older than that.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hubferry_core::digest::Oid;
use hubferry_core::manifest::RepoPath;

use super::walk::Stamp;
use crate::journal;

/// Seconds within which times tell nothing.
pub(super) const UNSURE: u32 = 2;

/// What is known of one place. Losing it costs time, never correctness.
pub(super) struct Known {
    file: Option<PathBuf>,
    files: Mutex<Option<BTreeMap<RepoPath, (Stamp, Oid)>>>,
}

impl Known {
    /// Kept in a file of `folder`, or as long as the process lives.
    pub(super) fn at(folder: Option<&Path>, place: &str) -> Self {
        let file = folder.map(|folder| folder.join(Oid::of(place.as_bytes()).to_string()));
        Self { file, files: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<RepoPath, (Stamp, Oid)>) -> T) -> T {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        work(files.get_or_insert_with(|| {
            let text = self.file.as_ref().and_then(|file| journal::load(file).ok().flatten()).unwrap_or_default();
            text.lines().filter_map(parse).collect()
        }))
    }

    /// The digest of a file that still looks as it did.
    pub(super) fn get(&self, path: &RepoPath, stamp: Stamp) -> Option<Oid> {
        self.with(|files| files.get(path).filter(|(seen, _)| *seen == stamp).map(|(_, oid)| *oid))
    }

    /// Adds and removes, and writes it down.
    pub(super) fn learn(&self, files: impl IntoIterator<Item = (RepoPath, Option<(Stamp, Oid)>)>) {
        let text = self.with(|known| {
            for (path, what) in files {
                match what {
                    Some(what) => drop(known.insert(path, what)),
                    None => drop(known.remove(&path)),
                }
            }
            let mut text = String::new();
            for (path, (Stamp { size, modified }, oid)) in known {
                text.extend([&oid.to_string(), " ", &size.to_string(), " ", &modified.to_string(), " ", path.as_str(), "\n"]);
            }
            text
        });
        if let Some(file) = &self.file
            && let Err(error) = journal::save(file, &text)
        {
            tracing::warn!(file = %file.display(), %error, "cannot keep the digests of a host");
        }
    }
}

/// A path has no control character, so it is the rest of the line.
fn parse(line: &str) -> Option<(RepoPath, (Stamp, Oid))> {
    let mut fields = line.splitn(4, ' ');
    let oid = fields.next()?.parse().ok()?;
    let stamp = Stamp { size: fields.next()?.parse().ok()?, modified: fields.next()?.parse().ok()? };
    Some((RepoPath::new(fields.next()?).ok()?, (stamp, oid)))
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_until_the_file_looks_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = RepoPath::new("a b/c").unwrap();
        let stamp = Stamp { size: 3, modified: 7 };
        let at = |place| Known::at(Some(folder.path()), place);
        at("h").learn([(path.clone(), Some((stamp, Oid::EMPTY)))]);
        assert_eq!(at("h").get(&path, stamp), Some(Oid::EMPTY));
        assert_eq!(at("other").get(&path, stamp), None);
        for other in [Stamp { size: 4, ..stamp }, Stamp { modified: 8, ..stamp }] {
            assert_eq!(at("h").get(&path, other), None);
        }
        at("h").learn([(path.clone(), None)]);
        assert_eq!(at("h").get(&path, stamp), None);
        assert!(parse("torn").is_none() && parse("x 1 2 ../y").is_none());
    }
}
