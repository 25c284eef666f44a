//! What files have beside their bytes: seen with a listing, and set on files that are put in place or stay.

use std::collections::HashSet;
use std::fs::{File, FileTimes, Metadata};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use hubferry_core::digest::Digests;
use hubferry_core::error::Result;
use hubferry_core::facts::{FactList, Facts};
use hubferry_core::manifest::RepoPath;

use super::DirOptions;
use super::files::{Stamp, look};
use super::hashing::digest_all;
use super::source::Listing;
use super::walk::Found;

/// Behind the name of a file that is not finished, or of the notes that a tool keeps beside one: aria2, browsers, the Python clients,
/// rclone, axel, lftp.
const UNFINISHED: [&str; 9] =
    [".aria2", ".part", ".partial", ".incomplete", ".crdownload", ".download", ".unfinished", ".st", ".lftp-pget-status"];

/// What a file shows beside its time.
fn seen(data: &Metadata) -> Facts {
    Facts { modified: None, executable: executable(data), partial: has_holes(data) }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no such bit")]
fn executable(data: &Metadata) -> Option<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(data.permissions().mode() & 0o100 != 0)
}

#[cfg(not(unix))]
fn executable(_: &Metadata) -> Option<bool> {
    None
}

/// Whether less is on the disk than the size says: room that was reserved by a download that did not end, or a hole. File systems that
/// compress look the same; then a file is hashed once too often.
#[cfg(unix)]
fn has_holes(data: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // In blocks of this size, whatever the file system uses.
    data.blocks().saturating_mul(512) < data.len()
}

#[cfg(not(unix))]
fn has_holes(_: &Metadata) -> bool {
    false
}

impl Listing {
    /// What is known of every file beside its bytes.
    pub(super) fn facts(&self) -> FactList {
        let names: HashSet<&str> = self.found.iter().map(|file| file.path.as_str()).collect();
        let fact = |file: &Found| {
            // Nothing is known of what is gone by now, and its bytes will not be found either.
            let seen = std::fs::metadata(&file.at).map(|data| seen(&data)).unwrap_or_default();
            // The time is that of the listing: what was written since then is another version.
            let modified = i64::try_from(file.stamp.modified).ok();
            let partial = seen.partial || is_unfinished(file.path.as_str(), &names);
            (file.path.clone(), Facts { modified, partial, ..seen })
        };
        self.found.iter().map(fact).collect()
    }

    /// Hashes some of its files, from the cache where they look unchanged.
    pub(super) fn digests(&self, paths: &[RepoPath], options: &DirOptions, stop: &AtomicBool) -> Result<Vec<(RepoPath, Digests)>> {
        let mut found: Vec<Found> = paths.iter().filter_map(|path| self.file(path).cloned()).collect();
        let digests = digest_all(&mut found, options, stop)?;
        Ok(found.into_iter().map(|file| file.path).zip(digests).collect())
    }

    /// Gives files that stay these facts; those that changed since they were listed keep what they have. Returns how many were changed,
    /// and what they look like now where their digests are known.
    pub(super) fn restamp(&self, root: &Path, facts: &FactList) -> (u64, Vec<(Stamp, Digests)>) {
        let (mut changed, mut known) = (0, Vec::new());
        for (path, facts) in facts {
            let Some(file) = self.file(path) else { continue };
            match restamp(root, file, facts) {
                Ok(Some(stamp)) => {
                    changed += 1;
                    let digests = self.manifest.entries.get(path).map(|entry| entry.digests);
                    known.extend(digests.filter(|digests| digests.sha256.is_some()).map(|digests| (stamp, digests)));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(file = %file.at.display(), %error, "cannot set its time or mode"),
            }
        }
        (changed, known)
    }
}

fn is_unfinished(path: &str, names: &HashSet<&str>) -> bool {
    let lower = path.to_ascii_lowercase();
    UNFINISHED.iter().any(|end| lower.ends_with(end) || names.contains(format!("{path}{end}").as_str()))
}

/// `None` when the file is not what was listed, or is reached through a link.
fn restamp(root: &Path, file: &Found, facts: &Facts) -> std::io::Result<Option<Stamp>> {
    let is_link = |at: &Path| look(at).is_ok_and(|data| data.is_some_and(|data| data.is_symlink()));
    if is_link(&file.at) || file.path.parents().any(|parent| is_link(&root.join(parent))) {
        return Ok(None);
    }
    let open = File::open(&file.at)?;
    if !Stamp::of(&open.metadata()?).same_content(&file.stamp) {
        return Ok(None);
    }
    set(&open, facts)?;
    open.metadata().map(|data| Some(Stamp::of(&data)))
}

/// Sets what is known on an open file.
pub(super) fn set(file: &File, facts: &Facts) -> std::io::Result<()> {
    if let Some(executable) = facts.executable {
        set_executable(file, executable)?;
    }
    if let Some(time) = facts.modified.and_then(time_of) {
        file.set_times(FileTimes::new().set_modified(time))?;
    }
    Ok(())
}

fn time_of(nanos: i64) -> Option<SystemTime> {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { SystemTime::UNIX_EPOCH.checked_sub(span) } else { SystemTime::UNIX_EPOCH.checked_add(span) }
}

/// Whoever may read the file may run it, or nobody: as `rsync --executability` does it.
#[cfg(unix)]
fn set_executable(file: &File, executable: bool) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = file.metadata()?.permissions();
    let mode = permissions.mode();
    let wanted = if executable { mode | ((mode & 0o444) >> 2) } else { mode & !0o111 };
    if wanted == mode {
        return Ok(());
    }
    permissions.set_mode(wanted);
    file.set_permissions(permissions)
}

#[cfg(not(unix))]
fn set_executable(_: &File, _: bool) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_have_not_finished_is_known_by_its_name_and_its_neighbours() {
        let names: HashSet<&str> = ["a/model.bin", "a/model.bin.aria2", "b/model.bin", "x.PART", "notes.st.txt"].into();
        for path in ["a/model.bin", "a/model.bin.aria2", "x.PART", "blobs/0a1b.incomplete"] {
            assert!(is_unfinished(path, &names), "{path}");
        }
        for path in ["b/model.bin", "notes.st.txt", "part", "apartment"] {
            assert!(!is_unfinished(path, &names), "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn holes_are_seen_and_times_before_1970_are_set() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("file");
        let file = File::create(&at).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(seen(&at.metadata().unwrap()).partial);
        set(&file, &Facts { modified: Some(-1_500_000_000), executable: Some(true), partial: false }).unwrap();
        let data = at.metadata().unwrap();
        assert_eq!(Stamp::of(&data).modified, -1_500_000_000);
        let mode = data.permissions().mode();
        assert_eq!((mode & 0o444) >> 2, mode & 0o111);
        std::fs::write(&at, vec![1; 1 << 16]).unwrap();
        assert!(!seen(&at.metadata().unwrap()).partial);
    }
}
