//! A folder as a target: blobs are staged inside it, then renamed into place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::facts::{FactList, FileTarget};
use hubferry_core::manifest::{Blob, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, Commit, Limits, Op, RepoSpec, Staged, Target, Wanted, is_planned_on};

use super::cache::unsettled;
use super::commit::{Journal, roll_forward};
use super::durable::{sync_all, sync_some};
use super::files::{Stamp, folds_case, look, sync_folder};
use super::gate::Gate;
use super::leftovers::{any_committing, sweep};
use super::run::Run;
use super::snapshots::{Build, Snapshots, refuse_inside};
use super::source::Listing;
use super::taking::Held;
use super::walk::{OWN, check_visible};
use super::{DirOptions, blocking, join, revision_of_manifest, staging};
use crate::disk;
use crate::names::Rules;
use crate::reading::Stop;

/// Blobs written side by side: for small ones over a slow link. Each holds two open files and one piece in memory at most.
const PARALLEL: usize = 64;

/// A folder on this machine.
///
/// Staged blobs lie in `.hubferry` inside it, so that a commit only renames; it vanishes with the last run that needs it. Nothing is ever written through a link or outside the folder.
#[derive(Debug)]
pub struct DirTarget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    own: PathBuf,
    options: DirOptions,
    /// Commits switch from one to the next.
    snapshots: Option<Snapshots>,
    run: Mutex<Option<Arc<Run>>>,
    /// The folder as it was listed last.
    listed: Mutex<Option<Arc<Listing>>>,
    /// What the files of the next commit have beside their bytes.
    carried: Mutex<FactList>,
    /// Git ids of small blobs staged by this run, so that the next listing need not read them again.
    git: Mutex<HashMap<Oid, GitOid>>,
}

impl DirTarget {
    /// Writes to `root`; nothing is touched before the first call. Options that do not hash make comparisons a matter of trust.
    pub fn new(root: impl Into<PathBuf>, options: DirOptions) -> Self {
        let root = root.into();
        let own = root.join(OWN);
        Self::make(root, own, options, None)
    }

    /// Writes to snapshots beside `link`, which is set from one to the next by every commit: readers see one revision or the other and
    /// never both. `keep` of them stay, the present one included.
    pub fn atomic(link: impl AsRef<Path>, keep: usize, options: DirOptions) -> Result<Self> {
        let snapshots = Snapshots::of(link.as_ref(), keep)?;
        let (root, own) = (snapshots.link().to_path_buf(), snapshots.folder().join(OWN));
        Ok(Self::make(root, own, options, Some(snapshots)))
    }

    fn make(root: PathBuf, own: PathBuf, options: DirOptions, snapshots: Option<Snapshots>) -> Self {
        Self(Arc::new(Inner {
            root,
            own,
            options,
            snapshots,
            run: Mutex::default(),
            listed: Mutex::default(),
            carried: Mutex::default(),
            git: Mutex::default(),
        }))
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn current(&self) -> MutexGuard<'_, Option<Arc<Run>>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run of this value, begun when there is none.
    fn run(&self) -> Result<Arc<Run>> {
        let mut current = self.current();
        if let Some(run) = &*current {
            return Ok(Arc::clone(run));
        }
        let run = Arc::new(Run::begin(&self.root, &self.own)?);
        *current = Some(Arc::clone(&run));
        Ok(run)
    }

    fn head(&self, stop: &AtomicBool) -> Result<Option<Manifest>> {
        match &self.snapshots {
            Some(snapshots) => drop(snapshots.current()?),
            None => refuse_inside(&self.root)?,
        }
        if look(&self.root)?.is_some() && !self.root.is_dir() {
            return Err(
                Error::invalid(format!("{} is not a folder", self.root.display())).hint("name a folder, or one that does not exist")
            );
        }
        let listing = Listing::read(&self.root, &self.options, stop)?.map(Arc::new);
        let manifest = listing.as_ref().map(|listing| listing.manifest.clone());
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = listing;
        Ok(manifest)
    }

    fn create(&self) -> Result<()> {
        let folder = self.snapshots.as_ref().map_or(&*self.root, Snapshots::folder);
        let there = folder.ancestors().skip(1).find(|at| at.exists()).map(Path::to_path_buf);
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        // What lies in a folder is durable only when its own name is. Whoever may not list the folder above has to live without.
        for made in folder.ancestors().skip(1).take_while(|at| there.as_deref().is_none_or(|there| at.starts_with(there))) {
            drop(sync_folder(if made.as_os_str().is_empty() { Path::new(".") } else { made }));
        }
        Ok(())
    }

    fn missing(&self, wanted: &[Wanted], stop: &AtomicBool) -> Result<HashSet<Oid>> {
        // Refused here, before bytes travel, rather than at the commit.
        let paths = || wanted.iter().flat_map(|wanted| &wanted.paths);
        paths().try_for_each(check_visible)?;
        self.check_names(paths())?;
        if folds_case(&self.root) {
            refuse_case_twins(paths())?;
        }
        let listing = self.listing();
        let here = listing.as_deref().map(Held::of);
        if look(&self.own)?.is_none() && !wanted.iter().any(|wanted| here.as_ref().is_some_and(|here| here.has(&wanted.blob))) {
            // Nobody has left anything, and nothing has these bytes already.
            self.check_space(wanted.iter(), None)?;
            return Ok(wanted.iter().map(|wanted| wanted.blob.oid).collect());
        }
        let run = self.run()?;
        let mut missing = Vec::new();
        for wanted in wanted {
            if !run.holds(&wanted.blob)? {
                missing.push(wanted);
            }
        }
        self.check_space(missing.iter().copied(), Some(&run))?;
        if let Some(here) = here {
            let taken = here.take(&missing, &run, &self.options, stop).map_err(|error| self.lost(&run).unwrap_or(error))?;
            sync_some(&run);
            let mut git = self.git.lock().unwrap_or_else(PoisonError::into_inner);
            git.extend(taken.iter().filter_map(|taken| Some((taken.oid, taken.git?))));
            let taken: HashSet<Oid> = taken.iter().map(|taken| taken.oid).collect();
            missing.retain(|wanted| !taken.contains(&wanted.blob.oid));
        }
        Ok(missing.into_iter().map(|wanted| wanted.blob.oid).collect())
    }

    /// Refuses names that would be written as others, or not at all.
    fn check_names<'a>(&self, mut paths: impl Iterator<Item = &'a RepoPath>) -> Result<()> {
        let rules = self.options.names.unwrap_or_else(|| Rules::of(&self.root));
        paths.try_for_each(|path| rules.check(path))
    }

    /// Refuses what cannot fit, before it has travelled for hours.
    fn check_space<'a>(&self, missing: impl Iterator<Item = &'a Wanted>, run: Option<&Run>) -> Result<()> {
        let mut needed: u64 = 0;
        for Wanted { blob, paths } in missing {
            // Every path gets a file of its own.
            let copies = blob.size.saturating_mul(paths.len().max(1) as u64);
            let begun = run.map_or(0, |run| run.begun(blob.oid));
            needed = needed.saturating_add(copies.saturating_sub(begun));
        }
        let at = self.root.ancestors().find(|at| at.exists()).unwrap_or(Path::new("."));
        disk::check_room(at, needed)
    }

    /// The head that was listed last.
    fn listing(&self) -> Option<Arc<Listing>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commit(&self, change: &Commit, stop: &AtomicBool) -> Result<Revision> {
        let run = self.run()?;
        self.commit_run(&run, change, stop).map_err(|error| self.lost(&run).unwrap_or(error))
    }

    /// Why a run cannot go on, when others have taken it for dead: what it had stored is theirs, and the next try begins anew.
    fn lost(&self, run: &Arc<Run>) -> Option<Error> {
        let error = run.check().err()?;
        drop(self.current().take_if(|current| Arc::ptr_eq(current, run)));
        Some(error)
    }

    fn commit_run(&self, run: &Arc<Run>, change: &Commit, stop: &AtomicBool) -> Result<Revision> {
        sync_all(run)?;
        let gate = Gate::enter(run)?;
        roll_forward(&self.root, run, &gate)?;
        let head = self.head(stop)?;
        self.check_parent(head.as_ref(), change.parent.as_ref())?;
        let after = self.after(head, &change.ops)?;
        self.check_names(change.ops.iter().filter(|op| op.entry().is_some()).map(Op::path))?;
        let facts = self.carried.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(snapshots) = &self.snapshots {
            let before = self.listing();
            let (options, before) = (&self.options, before.as_deref());
            Build { snapshots, run, options, before, after: &after, ops: &change.ops, facts: &facts }.run(&gate)?;
            self.remember(change.ops.iter().filter_map(|op| Some((op.path(), op.entry()?.blob()?))));
            return self.end(run, after.revision, stop);
        }
        let journal = Journal::plan(&self.root, run, &change.ops, &facts)?;
        let staged = journal.puts.iter().filter_map(|step| std::fs::symlink_metadata(run.folder().join(step.blob.oid.to_string())).ok());
        if let Some(rest) = unsettled(staged.map(|data| Stamp::of(&data))) {
            // Else every large file that was hashed as fast as it came would be read once more, only to be sure of it.
            std::thread::sleep(rest);
        }
        journal.run(&self.root, run, &gate)?;
        self.remember(journal.puts.iter().map(|step| (&step.path, step.blob)));
        self.end(run, after.revision, stop)
    }

    /// After a commit: what it did not use goes.
    fn end(&self, run: &Run, revision: Revision, stop: &AtomicBool) -> Result<Revision> {
        self.current().take();
        run.end()?;
        sweep(&self.own);
        // Without hashes a revision names times, and those of the new files are known only now.
        let now = if self.options.hash { None } else { self.head(stop)? };
        Ok(now.map_or(revision, |now| now.revision))
    }

    /// Completes what dead runs were in the middle of, so that no half revision is seen.
    fn settle(&self) -> Result<()> {
        if !any_committing(&self.own)? {
            return Ok(());
        }
        let run = self.current().clone();
        let run = if let Some(run) = run { run } else { Arc::new(Run::guest(&self.own)?) };
        let gate = Gate::enter(&run)?;
        roll_forward(&self.root, &run, &gate)
    }

    fn check_parent(&self, head: Option<&Manifest>, parent: Option<&Revision>) -> Result<()> {
        if is_planned_on(parent, head.map(|head| (head.revision.as_str(), head.entries.is_empty()))) {
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

    fn remember<'a>(&self, written: impl Iterator<Item = (&'a RepoPath, Blob)>) {
        let git = self.git.lock().unwrap_or_else(PoisonError::into_inner);
        let written = written.filter_map(|(path, blob)| {
            let git = git.get(&blob.oid).copied();
            let small = blob.size <= super::hashing::LARGEST_GIT;
            let data = std::fs::symlink_metadata(join(&self.root, path)).ok()?;
            // A small file without its Git id could not be compared with hubs that publish nothing else: let it be read.
            (git.is_some() || !small).then(|| (Stamp::of(&data), Digests { sha256: Some(blob.oid), git }))
        });
        self.options.cache.insert_own(written.collect::<Vec<_>>());
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
        limits.atomic = self.0.snapshots.is_some();
        limits.compare_and_swap = false;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| {
            inner.settle()?;
            inner.head(&flag)
        })
        .await
    }

    async fn create(&self, _: &RepoSpec) -> Result<()> {
        self.blocking(Inner::create).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let wanted = wanted.to_vec();
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| inner.missing(&wanted, &flag)).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        wanted.paths.iter().try_for_each(check_visible)?;
        // Not waited for here: whoever holds it may be waiting for the disk.
        let current = self.0.run.try_lock().ok().and_then(|run| run.clone());
        let run = if let Some(run) = current { run } else { self.blocking(Inner::run).await? };
        let blob = wanted.blob;
        let stored = staging::share_or_store(&run, wanted, body, &self.0.options).await;
        let stored = match stored {
            Err(error) => return Err(self.blocking(move |inner| inner.lost(&run).map_or(Ok(()), Err)).await.err().unwrap_or(error)),
            Ok(git) => git,
        };
        if let Some(git) = stored {
            self.0.git.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.oid, git);
        }
        Ok(Staged::stored(blob))
    }

    fn files(&self) -> Option<&dyn FileTarget> {
        Some(self)
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| inner.commit(&change, &flag)).await
    }
}

#[async_trait]
impl FileTarget for DirTarget {
    async fn facts(&self) -> Result<FactList> {
        self.blocking(|inner| Ok(inner.listing().map(|listing| listing.facts()).unwrap_or_default())).await
    }

    async fn digests(&self, paths: &[RepoPath]) -> Result<BTreeMap<RepoPath, Digests>> {
        let stop = Stop::default();
        let (paths, flag) = (paths.to_vec(), stop.flag());
        let work = move |inner: &Inner| match inner.listing() {
            Some(listing) => listing.digests(&paths, &inner.options, &flag),
            None => Ok(Vec::new()),
        };
        Ok(self.blocking(work).await?.into_iter().collect())
    }

    fn carry(&self, facts: FactList) {
        *self.0.carried.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    async fn restamp(&self, facts: FactList) -> Result<u64> {
        self.blocking(move |inner| {
            let Some(listing) = inner.listing() else { return Ok(0) };
            let (changed, known) = listing.restamp(&inner.root, &facts);
            inner.options.cache.insert_own(known);
            Ok(changed)
        })
        .await
    }
}
