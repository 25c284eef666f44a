//! Carries out what was chosen to go from a cache. Whoever reads the cache meanwhile, or finds it after a kill, sees each revision whole
//! or not at all.

#[cfg(all(test, unix))]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hubferry_core::error::{Error, Result};
use hubferry_core::prune::Removal;

use super::chain::follow;
use super::layout::{Cache, LOCKS, RepoFolder};
use super::locks;
use super::marks::used_mark;
use super::stock::{BlobPlace, Inventory, RevisionPlace, TRASH};
use crate::dir::files::remove_file;

/// What was done.
#[derive(Debug, Default)]
pub struct Cleared {
    /// What stayed after all, and why: somebody began to use it after it was chosen.
    pub spared: Vec<(PathBuf, String)>,
}

/// Removes what was chosen. Names go first, then revisions, then what nothing needs any more: a kill in between leaves blobs that
/// nothing names, which the next run finds.
pub fn clear(inventory: &Inventory, removal: &Removal) -> Result<Cleared> {
    let mut clearing = Clearing { trash: Trash::new(&inventory.cache), cleared: Cleared::default() };
    let mut by_repo: Vec<Vec<&RevisionPlace>> = vec![Vec::new(); inventory.repos.len()];
    for (at, _) in &removal.revisions {
        by_repo[at.repo].push(inventory.revision(*at));
    }
    for (index, repo) in inventory.repos.iter().enumerate() {
        let blobs: Vec<&BlobPlace> = removal
            .blobs
            .iter()
            .filter(|blob| inventory.stock.blobs[**blob].repo == Some(index))
            .map(|blob| &inventory.blobs[*blob])
            .collect();
        let whole = removal.repos.binary_search(&index).is_ok();
        if whole || !by_repo[index].is_empty() || !blobs.is_empty() {
            clearing.repo(&repo.folder, &by_repo[index], &blobs, whole)?;
        }
    }
    for place in removal.blobs.iter().map(|blob| &inventory.blobs[*blob]) {
        match place {
            BlobPlace::Shared(at) => clearing.shared(inventory, at)?,
            BlobPlace::Trash(at) => remove_all(at)?,
            BlobPlace::Blob(_) | BlobPlace::Unfinished(_) => {}
        }
    }
    clearing.trash.empty()?;
    Ok(clearing.cleared)
}

struct Clearing {
    trash: Trash,
    cleared: Cleared,
}

impl Clearing {
    fn repo(&mut self, folder: &RepoFolder, revisions: &[&RevisionPlace], blobs: &[&BlobPlace], whole: bool) -> Result<()> {
        if let Some(lock) = locks::held_in(folder) {
            self.spare(folder.at(), format!("a download that began meanwhile holds {}", lock.display()));
            return Ok(());
        }
        if whole && revisions.len() == snapshots(folder) {
            // One rename, and it is gone.
            return self.trash.take(&folder.at());
        }
        for revision in revisions {
            for name in &revision.refs {
                // Folders that are empty then stay: what comes free is exactly what was announced.
                remove_file(&folder.reference(name)?)?;
            }
            self.trash.take(&folder.snapshot(&revision.commit))?;
            remove_file(&folder.tree(&revision.commit))?;
            remove_all(&folder.at().join(".no_exist").join(revision.commit.as_str()))?;
            remove_file(&used_mark(folder, &revision.commit))?;
        }
        let needed = needed(folder)?;
        for place in blobs {
            match place {
                BlobPlace::Unfinished(at) => remove_all(at)?,
                BlobPlace::Blob(at) => self.blob(folder, at, &needed)?,
                BlobPlace::Shared(_) | BlobPlace::Trash(_) => {}
            }
        }
        Ok(())
    }

    fn blob(&mut self, folder: &RepoFolder, at: &Path, needed: &BTreeSet<PathBuf>) -> Result<()> {
        let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if needed.contains(at) {
            self.spare(at.to_path_buf(), "a revision that came meanwhile needs it".into());
            return Ok(());
        }
        let lock = folder.cache().root().join(LOCKS).join(folder.name()).join(format!("{name}.lock"));
        let Some(_held) = locks::take(&lock) else {
            self.spare(at.to_path_buf(), "a download that began meanwhile is about to use it".into());
            return Ok(());
        };
        remove_file(at)
    }

    /// As the client collects them: under the lock, with the list of those who use it, and only when none of them does.
    fn shared(&mut self, inventory: &Inventory, at: &Path) -> Result<()> {
        let beside = |end: &str| PathBuf::from(format!("{}{end}", at.display()));
        let Some(_held) = locks::take(&beside(".lock")) else {
            self.spare(at.to_path_buf(), "a download that began meanwhile is about to use it".into());
            return Ok(());
        };
        let list = std::fs::read_to_string(beside(".refs")).unwrap_or_default();
        let uses = |line: &&str| {
            let link = inventory.cache.root().join(line);
            let text = std::fs::read_link(&link).ok()?;
            super::layout::resolve(link.parent()?, &text).filter(|to| to == at)
        };
        if list.lines().any(|line| uses(&line).is_some()) {
            self.spare(at.to_path_buf(), "a blob that came meanwhile leads to it".into());
            return Ok(());
        }
        remove_file(at)?;
        remove_file(&beside(".refs"))
    }

    fn spare(&mut self, at: PathBuf, why: String) {
        self.cleared.spared.push((at, why));
    }
}

/// Where removed things go by a rename, so that they vanish at once however large they are.
struct Trash {
    at: PathBuf,
    /// Whether the folder of locks is there for the trash alone, because no client has been here.
    above_is_ours: bool,
}

impl Trash {
    fn new(cache: &Cache) -> Self {
        let above = cache.root().join(LOCKS);
        Self { at: above.join(format!("{TRASH}{:016x}", fastrand::u64(..))), above_is_ours: !above.exists() }
    }

    fn take(&self, at: &Path) -> Result<()> {
        std::fs::create_dir_all(&self.at).map_err(|error| Error::io("create", &self.at, error))?;
        let to = self.at.join(format!("{:016x}", fastrand::u64(..)));
        match std::fs::rename(at, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", at, error)),
            _ => Ok(()),
        }
    }

    fn empty(&self) -> Result<()> {
        remove_all(&self.at)?;
        if let Some(above) = self.at.parent().filter(|_| self.above_is_ours) {
            // Succeeds only while it is empty.
            drop(std::fs::remove_dir(above));
        }
        Ok(())
    }
}

fn snapshots(folder: &RepoFolder) -> usize {
    std::fs::read_dir(folder.snapshots()).map_or(0, |entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
}

/// Blobs that some snapshot links to now.
fn needed(folder: &RepoFolder) -> Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    for entry in walkdir::WalkDir::new(folder.snapshots()) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) => continue,
            Err(error) => {
                return Err(Error::io(
                    "read",
                    &folder.snapshots(),
                    error.into_io_error().unwrap_or_else(|| std::io::Error::other("a circle")),
                ));
            }
        };
        if entry.file_type().is_symlink()
            && let Ok(located) = follow(folder, entry.path())
        {
            needed.extend(located.blob.map(|name| folder.blobs().join(name)));
        }
    }
    Ok(needed)
}

/// A file, or a folder with everything in it. Links are removed and not followed.
fn remove_all(at: &Path) -> Result<()> {
    let is_folder = at.symlink_metadata().is_ok_and(|data| data.is_dir());
    let removed = if is_folder { std::fs::remove_dir_all(at) } else { std::fs::remove_file(at) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", at, error)),
        _ => Ok(()),
    }
}
