//! A repository in a Hugging Face cache as a target: blobs are staged beside it, then named as the hub names them and linked into the
//! snapshot of the commit that is copied.

mod commit;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, Coming, Commit as Wish, Limits, RepoSpec, Staged, Target, Told, Wanted};

use super::layout::{BlobName, Cache, Commit, Holds, RepoFolder, TAG_TEXT};
use super::locks::{self, Held};
use super::scan::CachedSnapshot;
use super::source::commit_of;
use super::{CacheOptions, Entries, MAIN, chain, entries, is_lfs};
use crate::dir::blocking;
use crate::dir::files::{Stamp, look};
use crate::dir::hashing::digest_all;
use crate::dir::run::Run;
use crate::dir::staging;
use crate::dir::walk::Found;
use crate::disk;
use crate::reading::Stop;

/// Blobs written side by side, as into a directory.
const PARALLEL: usize = 64;
/// From this size on others may wait for a blob of ours instead of bringing it themselves.
const LOCK_FROM: u64 = 1 << 20;

/// One repository of a cache.
///
/// A snapshot has the name of the commit that the source says; it holds that commit's files and no others, whatever the ref named
/// before. A source without such a name, a directory for instance, adds to what the ref names, and the snapshot is named by its content.
#[derive(Debug)]
pub struct HfCacheTarget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: RepoFolder,
    id: RepoId,
    rev: Option<String>,
    options: CacheOptions,
    run: Mutex<Option<Arc<Run>>>,
    expected: Mutex<Arc<Expected>>,
    /// Git ids of small blobs that this run staged.
    git: Mutex<HashMap<Oid, GitOid>>,
    locks: Mutex<Held>,
}

/// What will be copied.
#[derive(Debug, Default)]
struct Expected {
    /// The commit that names the snapshot.
    commit: Option<Commit>,
    entries: BTreeMap<RepoPath, Entry>,
    /// These are all files of that commit.
    is_whole: bool,
}

/// What readers see now.
struct Base {
    commit: Commit,
    snapshot: Option<CachedSnapshot>,
    entries: Entries,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HfCacheTarget {
    /// Writes to `cache`; nothing is touched before the first call. `rev` is the branch or tag that names what is copied (`main` unless
    /// given), or the full commit that the source must be at, which needs no ref.
    pub fn new(cache: &Cache, kind: RepoKind, id: RepoId, rev: Option<String>, options: CacheOptions) -> Result<Self> {
        let folder = cache.repo(Holds::Repo(kind), &id)?;
        folder.reference(rev.as_deref().unwrap_or(MAIN))?;
        Ok(Self(Arc::new(Inner {
            folder,
            id,
            rev,
            options,
            run: Mutex::default(),
            expected: Mutex::default(),
            git: Mutex::default(),
            locks: Mutex::default(),
        })))
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn expected(&self) -> Arc<Expected> {
        Arc::clone(&lock(&self.expected))
    }

    fn run(&self) -> Result<Arc<Run>> {
        let mut current = lock(&self.run);
        if let Some(run) = &*current {
            return Ok(Arc::clone(run));
        }
        self.create()?;
        // No run writes down a commit here, so there is none to be completed; should a stranger have put one there, it stays in our folder.
        let own = self.folder.own();
        let run = Arc::new(Run::begin(&own, &own)?);
        *current = Some(Arc::clone(&run));
        Ok(run)
    }

    fn create(&self) -> Result<()> {
        let at = self.folder.at();
        std::fs::create_dir_all(&at).map_err(|error| Error::io("create", &at, error))?;
        let tag = self.folder.cache().tag();
        if look(&tag)?.is_none() {
            // A help for backup programs; the cache works without.
            drop(std::fs::write(tag, TAG_TEXT));
        }
        Ok(())
    }

    fn base(&self, stop: &AtomicBool) -> Result<Option<Base>> {
        let commit = match &self.expected().commit {
            Some(commit) => commit.clone(),
            None => match commit_of(&self.folder, &self.id, self.rev.as_deref()) {
                Ok(commit) => commit,
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let snapshot = CachedSnapshot::read(&self.folder, &commit)?;
        let mut listed = match &snapshot {
            Some(snapshot) => entries(snapshot, &self.options, stop)?.0,
            None if self.expected().commit.is_none() => return Ok(None),
            None => Vec::new(),
        };
        let known: HashMap<GitOid, Oid> = lock(&self.git).iter().map(|(oid, git)| (*git, *oid)).collect();
        for (_, entry) in &mut listed {
            let other = entry.digests.git.and_then(|git| known.get(&git).copied());
            entry.digests.sha256 = entry.digests.sha256.or(other);
        }
        Ok(Some(Base { commit, snapshot, entries: listed }))
    }

    /// A blob of this name and size, if it is here.
    fn blob(&self, name: &BlobName, size: u64) -> Option<chain::Located> {
        chain::blob(&self.folder, &name.to_string()).ok().filter(|located| located.size() == size)
    }

    /// What the source says of a file, if it is these bytes.
    fn told_of(&self, path: &RepoPath, blob: &Blob) -> Option<Entry> {
        let expected = self.expected();
        let entry = expected.entries.get(path).copied()?;
        (entry.size == blob.size && entry.digests.sha256.is_none_or(|oid| oid == blob.oid)).then_some(entry)
    }

    /// The names that a blob may have here, the right one first where that is known.
    fn names(&self, blob: &Blob, paths: &[RepoPath]) -> Vec<BlobName> {
        let told = paths.iter().filter_map(|path| self.told_of(path, blob)).collect::<Vec<_>>();
        let git = told.iter().find_map(|entry| entry.digests.git).or_else(|| lock(&self.git).get(&blob.oid).copied());
        let (large, small) = (BlobName::Sha256(blob.oid), git.map(BlobName::Git));
        if told.first().is_some_and(is_lfs) {
            std::iter::once(large).chain(small).collect()
        } else {
            small.into_iter().chain([large]).collect()
        }
    }

    fn stored(&self, blob: &Blob, paths: &[RepoPath]) -> Option<(BlobName, chain::Located)> {
        self.names(blob, paths).into_iter().find_map(|name| Some((name, self.blob(&name, blob.size)?)))
    }

    fn missing(&self, wanted: &[Wanted], stop: &AtomicBool) -> Result<HashSet<Oid>> {
        let base = self.base(stop)?.and_then(|base| base.snapshot);
        let run = if look(&self.folder.own())?.is_some() { Some(self.run()?) } else { None };
        let mut missing = Vec::new();
        for wanted in wanted {
            if let Some(run) = &run
                && run.holds(&wanted.blob)?
            {
                continue;
            }
            let Some((name, located)) = self.stored(&wanted.blob, &wanted.paths) else {
                missing.push(wanted);
                continue;
            };
            // It is asked for although it was shown as what it should be: somebody doubts its bytes.
            let shown = |path: &RepoPath| base.as_ref().and_then(|base| base.files.get(path)).is_some_and(|file| file.at == located.at);
            if wanted.paths.iter().any(shown) && !self.is_sound(&name, &located, &wanted.blob, stop)? {
                missing.push(wanted);
            }
        }
        self.check_space(&missing, run.as_deref())?;
        Ok(missing.into_iter().map(|wanted| wanted.blob.oid).collect())
    }

    /// Reads a blob, whatever is remembered of it.
    fn is_sound(&self, name: &BlobName, located: &chain::Located, blob: &Blob, stop: &AtomicBool) -> Result<bool> {
        let path = RepoPath::new(name.to_string())?;
        let mut found = [Found { path, at: located.at.clone(), stamp: Stamp::of(&located.data) }];
        let unremembered = crate::dir::DirOptions::default().with_reporter(self.options.files.reporter.clone());
        let digests = digest_all(&mut found, &unremembered, stop)?;
        Ok(digests.first().is_some_and(|digests| digests.sha256 == Some(blob.oid)))
    }

    fn check_space(&self, missing: &[&Wanted], run: Option<&Run>) -> Result<()> {
        let left = |wanted: &&Wanted| wanted.blob.size.saturating_sub(run.map_or(0, |run| run.begun(wanted.blob.oid)));
        let needed = missing.iter().map(left).fold(0, u64::saturating_add);
        let at = self.folder.at();
        disk::check_room(at.ancestors().find(|at| at.exists()).unwrap_or(Path::new(".")), needed)
    }
}

#[async_trait]
impl Target for HfCacheTarget {
    fn limits(&self) -> Limits {
        let mut limits = Limits::unlimited();
        limits.parallel = PARALLEL;
        // A new snapshot appears at once; one that is there is completed link by link.
        limits.atomic = false;
        limits.compare_and_swap = false;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| inner.base(&flag)?.map(|base| Manifest::new(base.commit.revision()?, base.entries)).transpose()).await
    }

    async fn create(&self, _: &RepoSpec) -> Result<()> {
        self.blocking(Inner::create).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let inner = &self.0;
        let absent = wanted.iter().filter(|wanted| inner.stored(&wanted.blob, &wanted.paths).is_none());
        let names: Vec<BlobName> = absent.filter_map(|wanted| inner.names(&wanted.blob, &wanted.paths).first().copied()).collect();
        let is_free = |name: &BlobName| !locks::is_taken(&inner.folder, name, &lock(&inner.locks));
        // Whoever holds some and waits for others might wait for somebody who waits for him.
        if lock(&inner.locks).is_empty() {
            locks::wait(&inner.folder, &names, is_free, &*inner.options.files.reporter, locks::PATIENCE).await;
        }
        let stop = Stop::default();
        let (wanted, flag) = (wanted.to_vec(), stop.flag());
        self.blocking(move |inner| inner.missing(&wanted, &flag)).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let current = self.0.run.try_lock().ok().and_then(|run| run.clone());
        let run = if let Some(run) = current { run } else { self.blocking(Inner::run).await? };
        let blob = wanted.blob;
        if blob.size >= LOCK_FROM
            && let Some(name) = self.0.names(&blob, &wanted.paths).first().copied()
        {
            self.blocking(move |inner| {
                lock(&inner.locks).take(&inner.folder, name);
                Ok(())
            })
            .await?;
        }
        if let Some(git) = staging::store(&run, blob, body).await? {
            lock(&self.0.git).insert(blob.oid, git);
        }
        Ok(Staged::stored(blob))
    }

    async fn commit(&self, change: Wish) -> Result<Revision> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| inner.commit(&change, &flag)).await
    }

    fn told(&self) -> Option<&dyn Told> {
        Some(self)
    }
}

#[async_trait]
impl Told for HfCacheTarget {
    async fn tell(&self, coming: &Coming) -> Result<Vec<(u64, Digests)>> {
        let stop = Stop::default();
        let (coming, flag) = (coming.clone(), stop.flag());
        self.blocking(move |inner| inner.tell(&coming, &flag)).await
    }

    async fn settle(&self) -> Result<()> {
        let stop = Stop::default();
        let flag = stop.flag();
        self.blocking(move |inner| match &inner.expected().commit {
            // Filters may have left nothing, and then there is nothing to name.
            Some(commit) if look(&inner.folder.snapshot(commit))?.is_some() => inner.name(commit, &flag),
            _ => Ok(()),
        })
        .await
    }
}
