//! A commit to a folder: written down in the folder of its run, carried out step by step, and carried to its end after a crash.
//! Every step may be repeated: a staged blob that is gone has been put in place already.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::facts::{FactList, Facts};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Op, Place};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::files::{folds_case, look, remove_file, sync_folder, write_durably};
use super::gate::Gate;
use super::leftovers::{JOURNAL, committing, others, remove_run};
use super::life::Life;
use super::run::Run;
use super::{join, stamping, walk};
use crate::linking::{self, HardLinks, System};

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
    /// What it has beside its bytes.
    #[serde(default)]
    pub(super) facts: Facts,
}

impl Journal {
    /// Checks that every operation can be carried out without leaving the folder, and orders them.
    pub(super) fn plan(root: &Path, run: &Run, ops: &[Op], facts: &FactList) -> Result<Self> {
        let mut puts = Vec::new();
        let mut deletes = BTreeSet::new();
        for op in ops {
            walk::check_visible(op.path())?;
            match op {
                Op::Put { path, staged } if staged.place == Place::Stored => {
                    let facts = facts.get(path).copied().unwrap_or_default();
                    puts.push(PutStep { path: path.clone(), blob: staged.blob, facts });
                }
                Op::Delete { path } => drop(deletes.insert(path.clone())),
                other => {
                    return Err(Error::new(Kind::Bug, "a folder was given a blob that it does not store").context("path", other.path()));
                }
            }
        }
        for step in &puts {
            check_put(root, run, step, &deletes)?;
        }
        for path in &deletes {
            check_parents(root, path, &deletes)?;
            if look(&join(root, path))?.is_some_and(|data| data.is_dir()) {
                return Err(Error::invalid(format!("{path:?} is a folder, only files can be deleted")).context("folder", root.display()));
            }
        }
        Ok(Self::order(puts, deletes, folds_case(run.own())))
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

    /// Writes it down, carries it out, forgets it. Whoever holds the gate does that.
    pub(super) fn run(&self, root: &Path, run: &Run, _: &Gate) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(Kind::Bug, "cannot write down a commit").caused_by(error))?;
        run.check()?;
        for folder in [run.folder(), run.own(), root] {
            sync_folder(folder)?;
        }
        write_durably(&run.folder().join(JOURNAL), &text)?;
        self.apply(root, run.folder(), Some(run))
    }

    /// Carries out what is written down in `folder`. `fresh` is the run that has just written it, and so has all its blobs.
    fn apply(&self, root: &Path, folder: &Path, fresh: Option<&Run>) -> Result<()> {
        for path in &self.first {
            delete(root, path)?;
        }
        let mut uses: HashMap<Oid, usize> = HashMap::new();
        for step in &self.puts {
            *uses.entry(step.blob.oid).or_default() += 1;
        }
        let mut putting = Putting { root, folder, fresh, ready: HashSet::new() };
        for step in &self.puts {
            let left = uses.entry(step.blob.oid).or_default();
            *left = left.saturating_sub(1);
            putting.put(step, *left == 0)?;
        }
        fresh.map_or(Ok(()), Run::check)?;
        if !committing(folder) {
            // Somebody else took this run for dead and has done the rest.
            return Ok(());
        }
        for path in &self.last {
            delete(root, path)?;
        }
        self.sync(root)?;
        remove_file(&folder.join(JOURNAL))?;
        // Were the removal lost in a power cut, the deletions would be repeated on whatever has those names by then.
        sync_folder(folder)
    }

    fn sync(&self, root: &Path) -> Result<()> {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::from([root.to_path_buf()]);
        let touched = self.first.iter().chain(self.puts.iter().map(|step| &step.path)).chain(&self.last);
        for path in touched {
            folders.extend(path.parents().map(|parent| root.join(parent)));
        }
        folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| sync_folder(folder))
    }

    fn paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.first.iter().chain(self.puts.iter().map(|step| &step.path)).chain(&self.last)
    }
}

/// Carries every interrupted commit to its end: those of dead runs, and that of `run` itself.
pub(super) fn roll_forward(root: &Path, run: &Run, _: &Gate) -> Result<()> {
    if committing(run.folder()) {
        complete(root, run.folder())?;
    }
    // It keeps its name meanwhile, so that nobody who looks for it misses it.
    for other in others(run.own(), Some(run.id()))?.iter().filter(|other| committing(&other.at) && other.life != Life::Alive) {
        complete(root, &other.at)?;
        // What that commit did not use belongs to a plan that is past.
        remove_run(&other.at)?;
    }
    Ok(())
}

fn complete(root: &Path, folder: &Path) -> Result<()> {
    let at = folder.join(JOURNAL);
    let text = std::fs::read(&at).map_err(|error| Error::io("read", &at, error))?;
    let hint = || format!("see what stands in the way; if in doubt, remove {} and run the same copy again", root.join(walk::OWN).display());
    let journal: Journal = serde_json::from_slice(&text)
        .map_err(|error| Error::invalid(format!("{} cannot be read", at.display())).caused_by(error).hint(hint()))?;
    journal.paths().try_for_each(walk::check_visible)?;
    tracing::info!(folder = %root.display(), "completing an interrupted commit");
    journal.apply(root, folder, None).map_err(|error| error.hint(hint()))
}

fn check_put(root: &Path, run: &Run, step: &PutStep, deletes: &BTreeSet<RepoPath>) -> Result<()> {
    if !run.holds(&step.blob)? {
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

/// Puts blobs in place.
struct Putting<'a> {
    root: &'a Path,
    folder: &'a Path,
    fresh: Option<&'a Run>,
    /// Folders that are there and not behind a link.
    ready: HashSet<PathBuf>,
}

impl Putting<'_> {
    fn put(&mut self, step: &PutStep, last_use: bool) -> Result<()> {
        let staged = self.folder.join(step.blob.oid.to_string());
        let to = join(self.root, &step.path);
        if (self.fresh.is_none() || !last_use) && look(&staged)?.is_none() {
            return self.is_gone(step, &to);
        }
        let folder = to.parent().unwrap_or(self.root);
        if !self.ready.contains(folder) {
            refuse_links(self.root, &step.path)?;
            std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
            self.ready.insert(folder.to_path_buf());
        }
        let from = if last_use { staged } else { copy_of(&staged)? };
        // Before anybody sees it. What cannot be set there is no reason to go without the file.
        if step.facts != Facts::default()
            && let Err(error) = std::fs::File::open(&from).and_then(|file| stamping::set(&file, &step.facts))
        {
            tracing::warn!(file = %to.display(), %error, "cannot set its time or mode");
        }
        match std::fs::rename(&from, &to) {
            Err(_) if look(&to)?.is_some_and(|data| data.is_dir()) => {
                remove_empty_folders(&to)?;
                std::fs::rename(&from, &to).map_err(|error| Error::io("write", &to, error))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && look(&from)?.is_none() => self.is_gone(step, &to),
            Err(error) => Err(Error::io("write", &to, error)),
            Ok(()) => Ok(()),
        }
    }

    /// A staged blob that is not there was put in place before the crash, unless nothing has crashed.
    fn is_gone(&self, step: &PutStep, to: &Path) -> Result<()> {
        if let Some(run) = self.fresh {
            run.check()?;
            return Err(Error::new(Kind::Conflict, format!("the blob for {:?} is no longer staged", step.path)));
        }
        if look(to)?.is_none_or(|data| data.len() != step.blob.size) {
            tracing::warn!(file = %to.display(), "an interrupted commit lost this file; the next copy brings it back");
        }
        Ok(())
    }
}

/// A second file with the same bytes, sharing their blocks where it can. Not a hard link: editing one file must not change another.
fn copy_of(staged: &Path) -> Result<PathBuf> {
    let copy = staged.with_extension(format!("{:016x}.copy", fastrand::u64(..)));
    linking::place(&System, staged, &copy, HardLinks::Forbidden)?;
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
