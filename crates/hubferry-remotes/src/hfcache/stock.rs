//! What a cache holds, as the room that it takes on the disk: the other half of [`hubferry_core::prune`], which knows no files.
//!
//! Every file, link and folder is counted as `du` counts it, by blocks and once for all its names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use hubferry_core::address::RepoId;
use hubferry_core::error::{Error, Result};
use hubferry_core::prune::{BlobStock, RepoStock, RevisionAt, RevisionStock, Stock};
use walkdir::WalkDir;

use super::chain::follow;
use super::layout::{Cache, Commit, Holds, INCOMPLETE, LOCKS, OWN, RepoFolder, parse_folder_name};
use super::locks::{held_in, is_held};
use super::marks::{self, MARKS, Pin};
use super::scan::read_ref;
use crate::dir::life::{Life, life};

/// What was written so lately may belong to somebody who is still at work, on another machine too.
const FRESH: Duration = Duration::from_hours(1);
/// What a killed download left is kept for this long, because hubferry goes on with its own.
const LEFTOVER: Duration = Duration::from_hours(24);
/// Folders in which removed things wait to be deleted; below the folder of locks, where no client looks for repositories.
pub(crate) const TRASH: &str = ".hubferry-trash-";

/// A cache with its room, and where everything is.
#[derive(Debug)]
pub struct Inventory {
    /// The cache.
    pub cache: Cache,
    /// Everything that takes room.
    pub stock: Stock,
    /// By the index of the repository in the stock.
    pub repos: Vec<RepoPlace>,
    /// By the index of the blob in the stock.
    pub blobs: Vec<BlobPlace>,
}

/// A repository of an [`Inventory`].
#[derive(Debug)]
pub struct RepoPlace {
    /// Its folder.
    pub folder: RepoFolder,
    /// What it holds.
    pub holds: Holds,
    /// Its id.
    pub id: RepoId,
    /// By the index of the revision in the stock.
    pub revisions: Vec<RevisionPlace>,
    /// Why nothing of it may go now; `None` when nobody is at work there.
    pub busy: Option<String>,
}

/// A revision of an [`Inventory`].
#[derive(Debug)]
pub struct RevisionPlace {
    /// Its commit.
    pub commit: Commit,
    /// Branches and tags that name it.
    pub refs: BTreeSet<String>,
    /// Whether a pin holds it.
    pub pinned: bool,
    /// How many files it has.
    pub files: usize,
}

/// What a [`BlobStock`] is on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobPlace {
    /// A blob of a repository.
    Blob(PathBuf),
    /// What a download left that was not finished: a file of the Python client, or a folder of ours.
    Unfinished(PathBuf),
    /// A file of the shared store.
    Shared(PathBuf),
    /// Something that was removed and not deleted yet.
    Trash(PathBuf),
}

impl Inventory {
    /// Looks through a cache. `now` is the time by which things are fresh or old.
    pub fn read(cache: &Cache, now: SystemTime) -> Result<Self> {
        let mut reader =
            Reader { now, files: Files::default(), stock: Stock::default(), repos: Vec::new(), blobs: Vec::new(), shared: HashMap::new() };
        reader.top(cache)?;
        let Reader { files, mut stock, repos, blobs, .. } = reader;
        stock.files = files.bytes;
        Ok(Self { cache: cache.clone(), stock, repos, blobs })
    }

    /// A repository by its folder's name.
    pub fn repo(&self, name: &str) -> Option<usize> {
        self.repos.iter().position(|repo| repo.folder.name() == name)
    }

    /// What is known of a revision.
    ///
    /// # Panics
    ///
    /// When it is of another inventory.
    pub fn revision(&self, at: RevisionAt) -> &RevisionPlace {
        &self.repos[at.repo].revisions[at.revision]
    }

    /// Bytes that a repository's own things take, and that of the shared store that it uses.
    pub fn repo_bytes(&self, repo: usize) -> u64 {
        let mut files: BTreeSet<usize> = self.stock.repos[repo].files.iter().copied().collect();
        files.extend(self.stock.repos[repo].revisions.iter().flat_map(|revision| &revision.files));
        for blob in self.stock.blobs.iter().filter(|blob| blob.repo == Some(repo)) {
            files.extend(&blob.files);
            files.extend(blob.leads_to.iter().flat_map(|next| &self.stock.blobs[*next].files));
        }
        files.into_iter().map(|file| self.stock.files[file]).sum()
    }

    /// Bytes that one revision takes, with all blobs that it needs.
    pub fn revision_bytes(&self, at: RevisionAt) -> u64 {
        let revision = self.stock.revision(at);
        let mut files: BTreeSet<usize> = revision.files.iter().copied().collect();
        for blob in revision.blobs.iter().map(|blob| &self.stock.blobs[*blob]) {
            files.extend(&blob.files);
            files.extend(blob.leads_to.iter().flat_map(|next| &self.stock.blobs[*next].files));
        }
        files.into_iter().map(|file| self.stock.files[file]).sum()
    }
}

/// Files by their identity: several names of one are one file.
#[derive(Default)]
struct Files {
    known: HashMap<(u64, u64), usize>,
    bytes: Vec<u64>,
}

impl Files {
    fn add(&mut self, data: &Metadata) -> usize {
        let (identity, bytes) = physical(data);
        let next = self.bytes.len();
        let index = identity.map_or(next, |identity| *self.known.entry(identity).or_insert(next));
        if index == next {
            self.bytes.push(bytes);
        }
        index
    }
}

/// What tells a file from all others, and the bytes of the blocks that it takes.
#[cfg(unix)]
fn physical(data: &Metadata) -> (Option<(u64, u64)>, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (Some((data.dev(), data.ino())), data.blocks() * 512)
}

#[cfg(not(unix))]
fn physical(data: &Metadata) -> (Option<(u64, u64)>, u64) {
    (None, data.len())
}

/// When anything of a file was last changed: its name counts, where the system says.
#[cfg(unix)]
fn touched(data: &Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt as _;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(data.ctime()).unwrap_or_default());
    data.modified().unwrap_or(SystemTime::UNIX_EPOCH).max(changed)
}

#[cfg(not(unix))]
fn touched(data: &Metadata) -> SystemTime {
    data.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When bytes were written or read, as far as the file system keeps that. A name or a mode that changes is no use.
fn of_use(data: &Metadata) -> SystemTime {
    let times = [data.modified(), data.accessed()];
    times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn look(at: &Path) -> Option<Metadata> {
    at.symlink_metadata().ok()
}

struct Reader {
    now: SystemTime,
    files: Files,
    stock: Stock,
    repos: Vec<RepoPlace>,
    blobs: Vec<BlobPlace>,
    /// Blobs of the shared store by path.
    shared: HashMap<PathBuf, usize>,
}

/// A revision while it is read.
#[derive(Default)]
struct Draft {
    files: Vec<usize>,
    blobs: BTreeSet<usize>,
    refs: BTreeSet<String>,
    entries: usize,
    used: Option<SystemTime>,
}

impl Draft {
    fn used(&mut self, when: Option<SystemTime>) {
        self.used = self.used.max(when);
    }
}

impl Reader {
    fn is_younger(&self, than: Duration, when: SystemTime) -> bool {
        // What the clock of another machine dates into the future is as young as can be.
        self.now.duration_since(when).map_or(true, |age| age < than)
    }

    fn add_blob(&mut self, place: BlobPlace, blob: BlobStock) -> usize {
        self.blobs.push(place);
        self.stock.blobs.push(blob);
        self.blobs.len() - 1
    }

    fn top(&mut self, cache: &Cache) -> Result<()> {
        let entries = std::fs::read_dir(cache.root()).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("there is no cache at {}", cache.root().display()))
                .hint("it is made by the first `hubferry download`; another one is named by --cache-dir, HF_HUB_CACHE or HF_HOME"),
            _ => Error::io("read", cache.root(), error),
        })?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(|error| Error::io("read", cache.root(), error))?.path());
        }
        names.sort();
        if let Some(data) = look(cache.root()) {
            let root = self.files.add(&data);
            self.stock.fixed.push(root);
        }
        if cache.has_shared_store() {
            self.shared_store(cache)?;
        }
        for at in names {
            let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_folder = look(&at).is_some_and(|data| data.is_dir());
            match cache.repo_named(name).filter(|_| is_folder) {
                Some(folder) => self.repo(folder)?,
                None if at == cache.shared() && cache.has_shared_store() => {}
                None if name == LOCKS => self.locks(&at)?,
                None => self.fixed(&at)?,
            }
        }
        self.spare_fresh_orphans();
        Ok(())
    }

    /// Everything below `at`, in order: the place and what it looks like.
    fn walk(at: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
        let mut found = Vec::new();
        for entry in WalkDir::new(at).sort_by_file_name() {
            let gone = |error: &walkdir::Error| error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            let entry = match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                Ok((data, entry)) => (entry.into_path(), data),
                // Somebody works here while we look.
                Err(error) if gone(&error) => continue,
                Err(error) => {
                    let place = error.path().unwrap_or(at).to_path_buf();
                    let error = error.into_io_error().unwrap_or_else(|| std::io::Error::other("the links lead in a circle"));
                    return Err(Error::io("read", &place, error));
                }
            };
            found.push(entry);
        }
        Ok(found)
    }

    fn fixed(&mut self, at: &Path) -> Result<()> {
        for (_, data) in Self::walk(at)? {
            let file = self.files.add(&data);
            self.stock.fixed.push(file);
        }
        Ok(())
    }

    /// Lock files stay for good: whoever waits for one must not find another in its place.
    fn locks(&mut self, at: &Path) -> Result<()> {
        let mut trash: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (place, data) in Self::walk(at)? {
            let file = self.files.add(&data);
            let first = place.strip_prefix(at).ok().and_then(|below| below.components().next());
            match first.and_then(|first| first.as_os_str().to_str()).filter(|name| name.starts_with(TRASH)) {
                Some(name) => trash.entry(at.join(name)).or_default().push(file),
                None => self.stock.fixed.push(file),
            }
        }
        for (place, files) in trash {
            let blob = BlobStock { repo: None, files, leads_to: None, used: SystemTime::UNIX_EPOCH, kept: false };
            self.add_blob(BlobPlace::Trash(place), blob);
        }
        Ok(())
    }

    fn shared_store(&mut self, cache: &Cache) -> Result<()> {
        let found = Self::walk(&cache.shared())?;
        let mut files = HashMap::new();
        for (at, data) in &found {
            files.insert(at.clone(), self.files.add(data));
        }
        for (at, data) in &found {
            if cache.shared_hash(at).is_none() || !data.is_file() {
                continue;
            }
            let beside = |end: &str| PathBuf::from(format!("{}{end}", at.display()));
            let list = beside(".refs");
            let own: Vec<usize> = [Some(&files[at]), files.get(&list)].into_iter().flatten().copied().collect();
            // The rule of the client: what has no list of those who use it is never collected.
            let listed = look(&list).is_some_and(|data| data.is_file());
            let kept = !listed || is_held(&beside(".lock"));
            files.remove(at);
            files.remove(&list);
            let used = of_use(data);
            let index = self.add_blob(BlobPlace::Shared(at.clone()), BlobStock { repo: None, files: own, leads_to: None, used, kept });
            self.shared.insert(at.clone(), index);
        }
        self.stock.fixed.extend(files.into_values());
        Ok(())
    }

    /// A blob that nothing names is about to be named, perhaps, when it is new.
    fn spare_fresh_orphans(&mut self) {
        let revisions = self.stock.repos.iter().flat_map(|repo| &repo.revisions);
        let mut needed: BTreeSet<usize> = revisions.flat_map(|revision| revision.blobs.iter().copied()).collect();
        needed.extend(self.stock.blobs.iter().filter_map(|blob| blob.leads_to));
        for (index, place) in self.blobs.iter().enumerate() {
            let (BlobPlace::Blob(at) | BlobPlace::Shared(at)) = place else { continue };
            if !needed.contains(&index) && look(at).is_none_or(|data| self.is_younger(FRESH, touched(&data))) {
                self.stock.blobs[index].kept = true;
            }
        }
    }

    fn repo(&mut self, folder: RepoFolder) -> Result<()> {
        let Some((holds, id)) = parse_folder_name(folder.name()) else { return Ok(()) };
        let index = self.stock.repos.len();
        let found = Self::walk(&folder.at())?;
        let mut busy = held_in(&folder).map(|lock| format!("a download holds the lock {}", lock.display()));
        let mut own = Vec::new();
        let mut drafts: BTreeMap<Commit, Draft> = BTreeMap::new();
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut runs: BTreeMap<PathBuf, (Vec<usize>, SystemTime)> = BTreeMap::new();

        // Blobs and snapshots first: the rest is about them.
        for (at, data) in &found {
            match parts(&folder, at)[..] {
                ["blobs", name] if !data.is_dir() => {
                    let file = self.files.add(data);
                    let used = of_use(data);
                    if name.ends_with(INCOMPLETE) {
                        let fresh = self.is_younger(FRESH, touched(data));
                        if fresh {
                            busy.get_or_insert_with(|| format!("{name} was written to a moment ago"));
                        }
                        let blob =
                            BlobStock { repo: Some(index), files: vec![file], leads_to: None, used, kept: self.is_younger(LEFTOVER, used) };
                        self.add_blob(BlobPlace::Unfinished(at.clone()), blob);
                    } else {
                        let leads_to = data.is_symlink().then(|| self.shared_of(at)).flatten();
                        let blob = BlobStock { repo: Some(index), files: vec![file], leads_to, used, kept: false };
                        let blob = self.add_blob(BlobPlace::Blob(at.clone()), blob);
                        names.insert(name.to_owned(), blob);
                    }
                }
                ["snapshots", name] if data.is_dir() => {
                    let Some(commit) = Commit::parse(name) else { continue };
                    let draft = drafts.entry(commit).or_default();
                    draft.files.push(self.files.add(data));
                    draft.used(data.modified().ok());
                }
                _ => {}
            }
        }
        for (at, data) in &found {
            let parts = parts(&folder, at);
            let commit = match parts[..] {
                ["snapshots", commit, _, ..] | [".no_exist", commit, ..] | [MARKS, "used", commit] => Commit::parse(commit),
                ["trees", name] => name.strip_suffix(".json").and_then(Commit::parse),
                ["refs", _, ..] if data.is_file() => read_ref(at).ok(),
                _ => None,
            };
            match (&parts[..], commit.as_ref().and_then(|commit| drafts.get_mut(commit))) {
                (["blobs", _], _) if !data.is_dir() => {}
                (["snapshots", commit], _) if data.is_dir() && Commit::parse(commit).is_some() => {}
                (["snapshots", ..], Some(draft)) => {
                    draft.files.push(self.files.add(data));
                    draft.entries += usize::from(!data.is_dir());
                    draft.used(data.modified().ok());
                    if data.is_symlink()
                        && let Ok(located) = follow(&folder, at)
                    {
                        match &located.blob {
                            Some(name) => draft.blobs.extend(names.get(name)),
                            None => draft.blobs.extend(self.shared.get(&located.at)),
                        }
                    }
                }
                (["refs", name @ ..], Some(draft)) => {
                    draft.files.push(self.files.add(data));
                    draft.refs.insert(name.join("/"));
                }
                ([MARKS, "used", _], Some(draft)) => {
                    draft.files.push(self.files.add(data));
                    draft.used(data.modified().ok());
                }
                (_, Some(draft)) => draft.files.push(self.files.add(data)),
                ([OWN, run, ..], None) if run.contains('-') => {
                    let file = self.files.add(data);
                    let entry = runs.entry(folder.own().join(run)).or_insert((Vec::new(), SystemTime::UNIX_EPOCH));
                    entry.0.push(file);
                    entry.1 = entry.1.max(touched(data));
                }
                (_, None) => own.push(self.files.add(data)),
            }
        }
        for (at, (files, used)) in runs {
            let id = at.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("run-")).unwrap_or_default();
            let quiet = || Ok(self.now.duration_since(used).unwrap_or_default());
            if !id.is_empty() && life(id, quiet)? != Life::Gone {
                busy.get_or_insert_with(|| "a run of hubferry is at work there".to_owned());
            }
            let blob = BlobStock { repo: Some(index), files, leads_to: None, used, kept: self.is_younger(LEFTOVER, used) };
            self.add_blob(BlobPlace::Unfinished(at), blob);
        }
        self.finish(folder, holds, id, own, drafts, busy)
    }

    fn finish(
        &mut self,
        folder: RepoFolder,
        holds: Holds,
        id: RepoId,
        own: Vec<usize>,
        drafts: BTreeMap<Commit, Draft>,
        busy: Option<String>,
    ) -> Result<()> {
        let index = self.stock.repos.len();
        let pins = marks::pins(&folder)?;
        let mut sharers: HashMap<usize, usize> = HashMap::new();
        for blob in drafts.values().flat_map(|draft| &draft.blobs) {
            *sharers.entry(*blob).or_default() += 1;
        }
        let (mut stocks, mut places) = (Vec::new(), Vec::new());
        for (commit, draft) in drafts {
            let is_pinned = |pin: &Pin| match pin {
                Pin::Whole => true,
                Pin::Rev(rev) => *rev == commit.as_str() || draft.refs.contains(rev),
            };
            let pinned = pins.iter().any(is_pinned);
            // When a blob was read says something of a revision only if no other one has it. File systems that keep no such
            // times, or keep them once a day, are why the notes come first.
            let alone = draft.blobs.iter().filter(|blob| sharers[blob] == 1).map(|blob| self.stock.blobs[*blob].used);
            let used = draft.used.into_iter().chain(alone).max().unwrap_or(SystemTime::UNIX_EPOCH);
            stocks.push(RevisionStock {
                used,
                named: !draft.refs.is_empty(),
                kept: pinned || busy.is_some(),
                files: draft.files,
                blobs: draft.blobs.into_iter().collect(),
            });
            places.push(RevisionPlace { commit, refs: draft.refs, pinned, files: draft.entries });
        }
        self.stock.repos.push(RepoStock { files: own, busy: busy.is_some(), revisions: stocks });
        if busy.is_some() {
            for blob in self.stock.blobs.iter_mut().filter(|blob| blob.repo == Some(index)) {
                blob.kept = true;
            }
        }
        self.repos.push(RepoPlace { folder, holds, id, revisions: places, busy });
        Ok(())
    }

    fn shared_of(&self, link: &Path) -> Option<usize> {
        let to = super::layout::resolve(link.parent()?, &std::fs::read_link(link).ok()?)?;
        self.shared.get(&to).copied()
    }
}

/// The names from a repository's folder down to `at`; empty for what has a name that no client writes.
fn parts<'a>(folder: &RepoFolder, at: &'a Path) -> Vec<&'a str> {
    let Ok(below) = at.strip_prefix(folder.at()) else { return Vec::new() };
    let names = below.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.collect::<Option<Vec<_>>>().unwrap_or_default()
}
