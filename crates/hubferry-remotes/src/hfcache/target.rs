//! A repository in a Hugging Face cache as a target: blobs are staged beside it, then named as the hub names them and linked into the
//! snapshot of the commit that is copied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, Coming, Commit as Wish, Extent, Limits, Op, RepoSpec, Staged, Target, Told, Wanted};

use super::layout::{BlobName, Cache, Commit, Holds, RepoFolder, TAG_TEXT};
use super::locks::{self, Held};
use super::scan::CachedSnapshot;
use super::snapshot::{Change, Piece, write_ref};
use super::source::commit_of;
use super::tree::Tree;
use super::{CacheOptions, Entries, MAIN, chain, entries, is_lfs};
use crate::dir::blocking;
use crate::dir::durable::sync_all;
use crate::dir::files::{Stamp, look, sync_folder};
use crate::dir::gate::Gate;
use crate::dir::hashing::{LARGEST_GIT, Stop, digest_all};
use crate::dir::leftovers::sweep;
use crate::dir::run::Run;
use crate::dir::staging;
use crate::dir::walk::Found;
use crate::disk;

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

    fn tell(&self, coming: &Coming, stop: &AtomicBool) -> Result<Vec<(u64, Digests)>> {
        let at_its_place = match &coming.extent {
            Extent::Whole | Extent::Some => true,
            Extent::File(path) => path.parents().next().is_none(),
            _ => false,
        };
        let revision = &coming.manifest.revision;
        let commit = Commit::parse(revision.as_str()).filter(|_| at_its_place);
        if let Some(named) = self.rev.as_deref().and_then(Commit::parse)
            && commit.as_ref() != Some(&named)
        {
            return Err(Error::invalid(format!("the address names commit {named}, and the source is at {}", revision.short()))
                .hint("name a branch or tag of the cache instead, or the source at that commit"));
        }
        let is_whole = coming.extent == Extent::Whole && commit.is_some();
        let expected = Arc::new(Expected { commit, entries: coming.manifest.entries.clone(), is_whole });
        *lock(&self.expected) = Arc::clone(&expected);
        self.known_pairs(&expected, stop)
    }

    /// Both digests of small files that are here already for another commit: their source may publish only one, and without the other
    /// it would be read again.
    fn known_pairs(&self, expected: &Expected, stop: &AtomicBool) -> Result<Vec<(u64, Digests)>> {
        let linked = match &expected.commit {
            Some(commit) => CachedSnapshot::read(&self.folder, commit)?.map(|snapshot| snapshot.files).unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let mut found = Vec::new();
        let mut names = Vec::new();
        for (path, entry) in &expected.entries {
            let (None, Some(git)) = (entry.digests.sha256, entry.digests.git) else { continue };
            let name = BlobName::Git(git);
            if entry.size == 0 || entry.size > LARGEST_GIT || linked.get(path).is_some_and(|file| file.name() == Some(name)) {
                continue;
            }
            if let Some(located) = self.blob(&name, entry.size) {
                found.push(Found { path: path.clone(), at: located.at, stamp: Stamp::of(&located.data) });
                names.push(git);
            }
        }
        let digests = digest_all(&mut found, &self.options.files, stop)?;
        // One that does not have its name is damaged, and as good as not there.
        let sound = found.iter().zip(digests).zip(names).filter(|((_, digests), git)| digests.git == Some(*git));
        Ok(sound.map(|((found, digests), _)| (found.stamp.size, digests)).collect())
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

    fn commit(&self, wish: &Wish, stop: &AtomicBool) -> Result<Revision> {
        let run = self.run()?;
        let done = self.commit_run(&run, wish, stop);
        done.map_err(|error| match run.check() {
            Ok(()) => error,
            Err(lost) => {
                drop(lock(&self.run).take_if(|current| Arc::ptr_eq(current, &run)));
                lost
            }
        })
    }

    fn commit_run(&self, run: &Arc<Run>, wish: &Wish, stop: &AtomicBool) -> Result<Revision> {
        sync_all(run)?;
        let gate = Gate::enter(run)?;
        let base = self.base(stop)?;
        self.check_parent(base.as_ref(), wish.parent.as_ref())?;
        let puts = self.name_puts(run, wish)?;
        let deletes: Vec<RepoPath> = wish.ops.iter().filter(|op| matches!(op, Op::Delete { .. })).map(|op| op.path().clone()).collect();
        let mut files = self.kept(base.as_ref(), &deletes);
        let fresh = self.place(run, &puts)?;
        files.extend(puts.into_iter().map(|(path, (name, _))| (path, Piece::Blob { name, fresh: fresh.contains(&name) })));
        let commit = match &self.expected().commit {
            Some(commit) => commit.clone(),
            None => Self::content_name(&files, base.as_ref())?,
        };
        let (folder, linker, workshop) = (&self.folder, &*self.options.linker, run.folder());
        Change { folder, linker, commit: &commit, workshop, files, deletes }.run()?;
        self.name(&commit, stop)?;
        drop(gate);
        lock(&self.run).take();
        run.end()?;
        sweep(&self.folder.own());
        lock(&self.locks).release();
        commit.revision()
    }

    fn check_parent(&self, base: Option<&Base>, parent: Option<&Revision>) -> Result<()> {
        let same = match (base, parent) {
            (None, None) => true,
            (Some(base), None) => base.entries.is_empty(),
            (None, Some(_)) => false,
            (Some(base), Some(parent)) => base.commit.as_str() == parent.as_str(),
        };
        if same {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{} in the cache changed since this run looked at it", self.id))
            .hint("run the same command again"))
    }

    /// The right name of every blob that is put; fails unless all of them are here.
    fn name_puts(&self, run: &Run, wish: &Wish) -> Result<BTreeMap<RepoPath, (BlobName, Blob)>> {
        let mut puts = BTreeMap::new();
        for op in &wish.ops {
            let Op::Put { path, staged } = op else { continue };
            let blob = staged.blob;
            let name = if run.holds(&blob)? {
                self.right_name(path, &blob, &run.place(blob.oid))?
            } else if let Some((name, _)) = self.stored(&blob, std::slice::from_ref(path)) {
                name
            } else {
                return Err(Error::new(Kind::Conflict, format!("the blob for {path:?} is no longer staged"))
                    .hint("another run into the same cache has used it: run the same command again"));
            };
            puts.insert(path.clone(), (name, blob));
        }
        Ok(puts)
    }

    fn right_name(&self, path: &RepoPath, blob: &Blob, at: &Path) -> Result<BlobName> {
        let told = self.told_of(path, blob).unwrap_or_else(|| Entry::new(blob.size, Digests::default()));
        if is_lfs(&told) {
            return Ok(BlobName::Sha256(blob.oid));
        }
        let known = told.digests.git.or_else(|| lock(&self.git).get(&blob.oid).copied());
        if let Some(git) = known {
            return Ok(BlobName::Git(git));
        }
        // Staged by an earlier run, or already named and about to get another name.
        let at = if look(at)?.is_some() { at.to_path_buf() } else { self.folder.blob(&BlobName::Sha256(blob.oid)) };
        Ok(BlobName::Git(GitOid::of(&std::fs::read(&at).map_err(|error| Error::io("read", &at, error))?)))
    }

    /// What the new snapshot takes over: nothing for a commit with a name of its own, whose snapshot has it already.
    fn kept(&self, base: Option<&Base>, deletes: &[RepoPath]) -> BTreeMap<RepoPath, Piece> {
        let Some(snapshot) = base.and_then(|base| base.snapshot.as_ref()).filter(|_| self.expected().commit.is_none()) else {
            return BTreeMap::new();
        };
        let files = snapshot.files.iter().filter(|(path, _)| !deletes.contains(path));
        let piece = |file: &chain::Located| match file.name() {
            Some(name) => Piece::Blob { name, fresh: false },
            None => Piece::File(file.at.clone()),
        };
        files.map(|(path, file)| (path.clone(), piece(file))).collect()
    }

    /// Gives staged blobs their names among the others. Those that nobody knew before are returned.
    fn place(&self, run: &Run, puts: &BTreeMap<RepoPath, (BlobName, Blob)>) -> Result<HashSet<BlobName>> {
        let blobs = self.folder.blobs();
        std::fs::create_dir_all(&blobs).map_err(|error| Error::io("create", &blobs, error))?;
        if look(&blobs)?.is_none_or(|data| !data.is_dir()) {
            return Err(Error::new(Kind::Denied, format!("{} is not a folder: nothing is written behind it", blobs.display()))
                .hint("replace it by the folder that it stands for"));
        }
        let mut fresh = HashSet::new();
        let mut placed: HashMap<Oid, PathBuf> = HashMap::new();
        for (name, blob) in puts.values() {
            let to = self.folder.blob(name);
            if let Some(first) = placed.get(&blob.oid) {
                if *first != to && self.blob(name, blob.size).is_none() {
                    // The same bytes in LFS and outside.
                    std::fs::copy(first, &to).map_err(|error| Error::io("write", &to, error))?;
                }
                continue;
            }
            let staged = run.place(blob.oid);
            let was_there = look(&to)?.is_some();
            match std::fs::rename(&staged, &to) {
                Ok(()) => {
                    if !was_there {
                        fresh.insert(*name);
                    }
                    placed.insert(blob.oid, to);
                }
                // Here before, or placed by a try that failed later.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.blob(name, blob.size).is_some() => {
                    placed.insert(blob.oid, to);
                }
                Err(error) => return Err(Error::io("write", &to, error)),
            }
        }
        sync_folder(&blobs)?;
        Ok(fresh)
    }

    /// The name of content that no hub has named.
    fn content_name(files: &BTreeMap<RepoPath, Piece>, base: Option<&Base>) -> Result<Commit> {
        let mut text = String::new();
        for (path, piece) in files {
            let name = match piece {
                Piece::Blob { name, .. } => name.to_string(),
                Piece::File(_) => {
                    let entry = base.and_then(|base| base.entries.iter().find(|(known, _)| known == path)).map(|(_, entry)| entry);
                    let entry = entry.ok_or_else(|| Error::new(Kind::Bug, "a file of a snapshot has no entry"))?;
                    let git = entry.digests.git.filter(|_| entry.size <= super::LFS_FROM).map(|git| git.to_string());
                    git.or_else(|| entry.digests.sha256.map(|oid| oid.to_string())).unwrap_or_default()
                }
            };
            // A path holds no control character, so the fields cannot run into each other.
            text.extend([path.as_str(), "\0", &name, "\n"]);
        }
        Ok(Commit::of_content(Oid::of(text.as_bytes())))
    }

    /// Writes the listing of a complete snapshot, then the ref.
    fn name(&self, commit: &Commit, stop: &AtomicBool) -> Result<()> {
        let expected = self.expected();
        let snapshot = CachedSnapshot::read(&self.folder, commit)?
            .ok_or_else(|| Error::new(Kind::Conflict, format!("the snapshot {commit} has just been removed")))?;
        if expected.is_whole && snapshot.tree.is_none() {
            let (listed, _) = entries(&snapshot, &self.options, stop)?;
            let manifest = Manifest::new(commit.revision()?, listed)?;
            let is_there = |(path, want): (&RepoPath, &Entry)| {
                manifest.entries.get(path).is_some_and(|have| have.size == want.size && have.digests.agree(&want.digests) != Some(false))
            };
            if expected.entries.iter().all(is_there)
                && let Some(mut tree) = Tree::of(&manifest, is_lfs)
            {
                tree.files.retain(|path, _| expected.entries.contains_key(path));
                tree.write(&self.folder.tree(commit))?;
            }
        }
        let name = self.rev.as_deref().unwrap_or(MAIN);
        if Commit::parse(name).is_some() {
            return Ok(());
        }
        write_ref(&self.folder, name, commit)
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
            locks::wait(&inner.folder, &names, is_free, &*inner.options.files.reporter).await;
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
