//! A commit to a folder: written down, carried out step by step, and carried to its end after a crash. Every step may be
//! repeated: a staged blob that is gone from staging has been put in place already.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Op, Place};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::files::{folds_case, look, remove_file, sync_folder, write_durably};
use super::{join, staging, walk};

/// The written-down commit inside `.hubferry`.
pub(super) const JOURNAL: &str = "commit.json";

/// What a commit does, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Files that make room: a file where a folder comes, or the other way round.
    first: Vec<RepoPath>,
    /// Staged blobs and their paths.
    pub(super) puts: Vec<PutStep>,
    /// Other files to remove, after everything new is in place.
    last: Vec<RepoPath>,
}

/// One staged blob gets one path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PutStep {
    pub(super) path: RepoPath,
    #[serde(flatten)]
    pub(super) blob: Blob,
}

impl Journal {
    /// Checks that every operation can be carried out without leaving the folder, and orders them.
    pub(super) fn plan(root: &Path, own: &Path, ops: &[Op]) -> Result<Self> {
        let mut puts = Vec::new();
        let mut deletes = BTreeSet::new();
        for op in ops {
            walk::check_visible(op.path())?;
            match op {
                Op::Put { path, staged } if staged.place == Place::Stored => puts.push(PutStep { path: path.clone(), blob: staged.blob }),
                Op::Delete { path } => drop(deletes.insert(path.clone())),
                other => {
                    return Err(Error::new(Kind::Bug, "a folder was given a blob that it does not store").context("path", other.path()));
                }
            }
        }
        for step in &puts {
            check_put(root, own, step, &deletes)?;
        }
        for path in &deletes {
            check_parents(root, path, &deletes)?;
            if look(&join(root, path))?.is_some_and(|data| data.is_dir()) {
                return Err(Error::invalid(format!("{path:?} is a folder, only files can be deleted")).context("folder", root.display()));
            }
        }
        Ok(Self::order(puts, deletes, folds_case(own)))
    }

    fn order(puts: Vec<PutStep>, deletes: BTreeSet<RepoPath>, folds: bool) -> Self {
        let fold = |path: &str| if folds { path.to_lowercase() } else { path.to_owned() };
        let files: HashSet<String> = puts.iter().map(|step| fold(step.path.as_str())).collect();
        let folders: HashSet<String> = puts.iter().flat_map(|step| step.path.parents()).map(fold).collect();
        let in_the_way = |path: &RepoPath| folders.contains(&fold(path.as_str())) || path.parents().any(|p| files.contains(&fold(p)));
        // Where letter case does not count, a file that is "deleted" under a new one's other spelling is the new one.
        let (first, last) = deletes.into_iter().filter(|path| !files.contains(&fold(path.as_str()))).partition(in_the_way);
        Self { first, puts, last }
    }

    /// Writes it down, carries it out, forgets it.
    pub(super) fn run(&self, root: &Path, own: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(Kind::Bug, "cannot write down a commit").caused_by(error))?;
        if staging::folder(own).exists() {
            sync_folder(&staging::folder(own))?;
        }
        write_durably(&own.join(JOURNAL), &text)?;
        self.apply(root, own)
    }

    fn apply(&self, root: &Path, own: &Path) -> Result<()> {
        for path in &self.first {
            delete(root, path)?;
        }
        let mut uses: HashMap<Oid, usize> = HashMap::new();
        for step in &self.puts {
            *uses.entry(step.blob.oid).or_default() += 1;
        }
        for step in &self.puts {
            let left = uses.entry(step.blob.oid).or_default();
            *left = left.saturating_sub(1);
            put(root, own, step, *left == 0)?;
        }
        for path in &self.last {
            delete(root, path)?;
        }
        self.sync(root)?;
        remove_file(&own.join(JOURNAL))?;
        // Were the removal lost in a power cut, the deletions would be repeated on whatever has those names by then.
        sync_folder(own)
    }

    fn sync(&self, root: &Path) -> Result<()> {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::from([root.to_path_buf()]);
        let touched = self.first.iter().chain(self.puts.iter().map(|step| &step.path)).chain(&self.last);
        for path in touched {
            folders.extend(path.parents().map(|parent| root.join(parent)));
        }
        folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| sync_folder(folder))
    }
}

/// Carries an interrupted commit to its end. The caller holds the gate.
pub(super) fn roll_forward(root: &Path, own: &Path) -> Result<()> {
    let at = own.join(JOURNAL);
    let text = match std::fs::read(&at) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", &at, error)),
    };
    let hint = || format!("see what stands in the way; if in doubt, remove {} and run the same copy again", at.display());
    let journal: Journal = serde_json::from_slice(&text)
        .map_err(|error| Error::invalid(format!("{} cannot be read", at.display())).caused_by(error).hint(hint()))?;
    tracing::info!(folder = %root.display(), "completing an interrupted commit");
    journal.apply(root, own).map_err(|error| error.hint(hint()))
}

fn check_put(root: &Path, own: &Path, step: &PutStep, deletes: &BTreeSet<RepoPath>) -> Result<()> {
    if !staging::holds(own, &step.blob)? {
        return Err(Error::new(Kind::Conflict, format!("the blob for {:?} is no longer staged", step.path))
            .context("folder", root.display())
            .hint("another run into the same folder has used it: run the same command again"));
    }
    check_parents(root, &step.path, deletes)?;
    let at = join(root, &step.path);
    if !look(&at)?.is_some_and(|data| data.is_dir()) {
        return Ok(());
    }
    for entry in WalkDir::new(&at) {
        let entry = entry.map_err(|error| Error::io("read", &at, error.into()))?;
        let inside = entry.path().strip_prefix(root).ok().and_then(|path| path.to_str()).unwrap_or_default();
        if !entry.file_type().is_dir() && !deletes.contains(inside) {
            return Err(Error::new(Kind::Conflict, format!("{:?} is a folder with other files in it", step.path))
                .context("file", entry.path().display())
                .hint("move that folder away, or use `hubferry sync`, which removes what the source does not have"));
        }
    }
    Ok(())
}

/// Every parent is a folder inside the root, or not there yet, or a file that the same commit removes.
fn check_parents(root: &Path, path: &RepoPath, deletes: &BTreeSet<RepoPath>) -> Result<()> {
    for parent in path.parents() {
        let at = root.join(parent);
        match look(&at)? {
            Some(data) if data.is_symlink() => {
                return Err(Error::new(Kind::Denied, format!("{} is a link: nothing is written or removed behind it", at.display()))
                    .context("path", path)
                    .hint("replace the link by a folder, or copy into the folder it names"));
            }
            Some(data) if !data.is_dir() && !deletes.contains(parent) => {
                return Err(Error::new(Kind::Conflict, format!("{} is a file where a folder is needed", at.display()))
                    .context("path", path)
                    .hint("move that file away, or use `hubferry sync`, which removes what the source does not have"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse_links(root: &Path, path: &RepoPath) -> Result<()> {
    // Planning has looked already; between a crash and now somebody may have made a link.
    let anything = path.parents().filter_map(|parent| RepoPath::new(parent).ok()).collect();
    check_parents(root, path, &anything)
}

fn put(root: &Path, own: &Path, step: &PutStep, last_use: bool) -> Result<()> {
    let staged = staging::place(own, step.blob.oid);
    let to = join(root, &step.path);
    if look(&staged)?.is_none() {
        if look(&to)?.is_none_or(|data| data.len() != step.blob.size) {
            tracing::warn!(file = %to.display(), "an interrupted commit lost this file; the next copy brings it back");
        }
        return Ok(());
    }
    refuse_links(root, &step.path)?;
    let folder = to.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    if look(&to)?.is_some_and(|data| data.is_dir()) {
        remove_empty_folders(&to)?;
    }
    let from = if last_use { staged } else { copy_of(&staged)? };
    std::fs::rename(&from, &to).map_err(|error| Error::io("write", &to, error))
}

/// A second file with the same bytes. Not a hard link: editing one file must not change another.
fn copy_of(staged: &Path) -> Result<PathBuf> {
    let copy = staged.with_extension("copy");
    remove_file(&copy)?;
    std::fs::copy(staged, &copy).map_err(|error| Error::io("copy to", &copy, error))?;
    let synced = std::fs::File::options().write(true).open(&copy).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::io("write", &copy, error))?;
    Ok(copy)
}

fn remove_empty_folders(at: &Path) -> Result<()> {
    for entry in WalkDir::new(at).contents_first(true) {
        let entry = entry.map_err(|error| Error::io("read", at, error.into()))?;
        std::fs::remove_dir(entry.path()).map_err(|error| Error::io("remove", entry.path(), error))?;
    }
    Ok(())
}

/// Removes a file, and the folders that become empty by that.
fn delete(root: &Path, path: &RepoPath) -> Result<()> {
    refuse_links(root, path)?;
    let at = join(root, path);
    // A folder with this name was made by a later step of the same commit.
    if look(&at)?.is_some_and(|data| !data.is_dir()) {
        remove_file(&at)?;
    }
    let parents: Vec<&str> = path.parents().collect();
    for parent in parents.into_iter().rev() {
        if std::fs::remove_dir(root.join(parent)).is_err() {
            break;
        }
    }
    Ok(())
}
