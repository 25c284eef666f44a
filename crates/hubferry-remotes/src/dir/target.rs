//! A folder as a target: blobs are staged inside it, then renamed into place.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, Commit, Limits, Op, RepoSpec, Staged, Target, Wanted};

use super::commit::{JOURNAL, Journal, roll_forward};
use super::files::{Stamp, folds_case, look};
use super::hashing::Stop;
use super::lock::{Gate, Run};
use super::source::Listing;
use super::walk::{OWN, check_visible};
use super::{DirOptions, blocking, join, revision_of_manifest, staging};

/// Blobs written side by side: enough to keep a disk busy.
const PARALLEL: usize = 8;

/// A folder on this machine.
///
/// Staged blobs lie in `.hubferry/staging` inside it, so that a commit only renames; both vanish with the last run that
/// needs them. Nothing is ever written through a link or outside the folder.
#[derive(Debug)]
pub struct DirTarget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    own: PathBuf,
    options: DirOptions,
    run: Mutex<Option<Arc<Run>>>,
    /// Git ids of small blobs staged by this run, so that the next listing need not read them again.
    git: Mutex<HashMap<Oid, GitOid>>,
}

impl DirTarget {
    /// Writes to `root`; nothing is touched before the first call.
    pub fn new(root: impl Into<PathBuf>, options: DirOptions) -> Self {
        let root = root.into();
        let own = root.join(OWN);
        // A head without digests would make every comparison a guess.
        let options = options.with_hash(true);
        Self(Arc::new(Inner { root, own, options, run: Mutex::default(), git: Mutex::default() }))
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    /// The run of this value, begun when there is none.
    fn run(&self) -> Result<Arc<Run>> {
        let mut current = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = &*current {
            return Ok(Arc::clone(run));
        }
        let gate = Gate::enter(&self.own)?;
        roll_forward(&self.root, &self.own)?;
        gate.sweep_dead(None)?;
        let run = Arc::new(Run::begin(&gate)?);
        *current = Some(Arc::clone(&run));
        Ok(run)
    }

    fn head(&self, stop: &AtomicBool) -> Result<Option<Manifest>> {
        if look(&self.root)?.is_some() && !self.root.is_dir() {
            return Err(
                Error::invalid(format!("{} is not a folder", self.root.display())).hint("name a folder, or one that does not exist")
            );
        }
        Ok(Listing::read(&self.root, &self.options, stop)?.map(|listing| listing.manifest))
    }

    fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        // Refused here, before bytes travel, rather than at the commit.
        let paths = || wanted.iter().flat_map(|wanted| &wanted.paths);
        paths().try_for_each(check_visible)?;
        if folds_case(&self.root) {
            refuse_case_twins(paths())?;
        }
        let mut missing = HashSet::new();
        for Wanted { blob, .. } in wanted {
            if !staging::holds(&self.own, blob)? {
                missing.insert(blob.oid);
            }
        }
        Ok(missing)
    }

    fn commit(&self, change: &Commit, stop: &AtomicBool) -> Result<Revision> {
        let gate = Gate::enter(&self.own)?;
        let result = self.commit_inside(&gate, change, stop);
        gate.leave_tidily();
        result
    }

    fn commit_inside(&self, gate: &Gate, change: &Commit, stop: &AtomicBool) -> Result<Revision> {
        roll_forward(&self.root, &self.own)?;
        let head = self.head(stop)?;
        self.check_parent(head.as_ref(), change.parent.as_ref())?;
        let after = self.after(head, &change.ops)?;
        let journal = Journal::plan(&self.root, &self.own, &change.ops)?;
        journal.run(&self.root, &self.own)?;
        self.remember(&journal);
        self.end_run(gate)?;
        Ok(after.revision)
    }

    fn check_parent(&self, head: Option<&Manifest>, parent: Option<&Revision>) -> Result<()> {
        let same = match (head, parent) {
            (None, None) => true,
            (Some(head), None) => head.entries.is_empty(),
            (None, Some(_)) => false,
            (Some(head), Some(parent)) => head.revision == *parent,
        };
        if same {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{} changed since this run looked at it", self.root.display()))
            .hint("run the same command again; make sure that nothing else writes there meanwhile"))
    }

    /// The folder as it will be.
    fn after(&self, head: Option<Manifest>, ops: &[Op]) -> Result<Manifest> {
        let mut entries = head.map(|head| head.entries).unwrap_or_default();
        for op in ops {
            match op.entry() {
                Some(entry) => entries.insert(op.path().clone(), entry),
                None => entries.remove(op.path()),
            };
        }
        let unnamed = Revision::new(Oid::EMPTY.to_string())?;
        let mut after = Manifest::new(unnamed, entries)?;
        if folds_case(&self.own) {
            refuse_case_twins(after.entries.keys())?;
        }
        after.revision = revision_of_manifest(&after)?;
        Ok(after)
    }

    fn remember(&self, journal: &Journal) {
        let git = self.git.lock().unwrap_or_else(PoisonError::into_inner);
        let written = journal.puts.iter().filter_map(|step| {
            let git = git.get(&step.blob.oid).copied();
            let small = step.blob.size <= super::hashing::LARGEST_GIT;
            let data = std::fs::symlink_metadata(join(&self.root, &step.path)).ok()?;
            // A small file without its Git id could not be compared with hubs that publish nothing else: let it be read.
            (git.is_some() || !small).then(|| (Stamp::of(&data), Digests { sha256: Some(step.blob.oid), git }))
        });
        self.options.cache.insert_own(written.collect::<Vec<_>>());
    }

    /// Ends the run; the last one takes what is staged with it.
    fn end_run(&self, gate: &Gate) -> Result<()> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !gate.sweep_dead(run.as_deref())? {
            remove_staging(&self.own)?;
        }
        if let Some(run) = run {
            run.end();
        }
        Ok(())
    }
}

/// What is staged and was not used belongs to plans that are past.
fn remove_staging(own: &Path) -> Result<()> {
    let folder = staging::folder(own);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &folder, error)),
        _ => Ok(()),
    }
}

fn refuse_case_twins<'a>(paths: impl Iterator<Item = &'a RepoPath>) -> Result<()> {
    let mut seen: HashMap<String, &RepoPath> = HashMap::new();
    for path in paths {
        if let Some(twin) = seen.insert(path.as_str().to_lowercase(), path)
            && twin != path
        {
            return Err(Error::invalid(format!("{twin:?} and {path:?} would be one file here: this file system ignores letter case"))
                .hint("leave one of them out with --exclude, or copy to a file system that tells them apart"));
        }
    }
    Ok(())
}

#[async_trait]
impl Target for DirTarget {
    fn limits(&self) -> Limits {
        let mut limits = Limits::unlimited();
        limits.parallel = PARALLEL;
        limits.atomic = false;
        limits.compare_and_swap = false;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| {
            if inner.own.join(JOURNAL).exists() {
                let gate = Gate::enter(&inner.own)?;
                roll_forward(&inner.root, &inner.own)?;
                gate.leave_tidily();
            }
            inner.head(&flag)
        })
        .await
    }

    async fn create(&self, _: &RepoSpec) -> Result<()> {
        self.blocking(|inner| std::fs::create_dir_all(&inner.root).map_err(|error| Error::io("create", &inner.root, error))).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let wanted = wanted.to_vec();
        self.blocking(move |inner| inner.missing(&wanted)).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let paths = wanted.paths.clone();
        let run = self
            .blocking(move |inner| {
                paths.iter().try_for_each(check_visible)?;
                inner.run()
            })
            .await?;
        let blob = wanted.blob;
        if let Some(git) = staging::store(&self.0.own, &run.id, blob, body).await? {
            self.0.git.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.oid, git);
        }
        Ok(Staged::stored(blob))
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| inner.commit(&change, &flag)).await
    }
}
