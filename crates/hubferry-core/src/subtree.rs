//! One folder or file of a repository as a place of its own: what an address with a path means, for any remote.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::digest::{Digests, Oid};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::remote::{
    Body, ByteStream, Coming, Commit, Draft, Drafts, Extent, Glance, Limits, Op, RepoInfo, RepoSpec, Source, Staged, Target, Told,
    Visibility, Wanted,
};

/// A source narrowed to one folder, whose content then stands at the root, or to one file, which keeps its name.
#[derive(Debug)]
pub struct SubSource {
    inner: Arc<dyn Source>,
    at: RepoPath,
    /// Set by the listing: `at` is a file.
    is_file: AtomicBool,
}

impl SubSource {
    /// Narrows `inner` to what lies at `at`.
    pub fn new(inner: Arc<dyn Source>, at: RepoPath) -> Self {
        Self { inner, at, is_file: AtomicBool::new(false) }
    }

    fn full(&self, path: &RepoPath) -> Result<RepoPath> {
        if self.is_file.load(Ordering::Acquire) { Ok(self.at.clone()) } else { join(&self.at, path) }
    }

    fn narrow(&self, whole: Manifest) -> Result<Manifest> {
        if let Some(entry) = whole.entries.get(&self.at) {
            self.is_file.store(true, Ordering::Release);
            return Manifest::new(whole.revision, [(RepoPath::new(self.at.name())?, *entry)]);
        }
        let below = inside(&whole, &self.at)?;
        if below.is_empty() {
            return Err(Error::not_found(format!("{:?} is neither a file nor a folder there", self.at))
                .hint("list what is there with `hubferry ls`"));
        }
        Manifest::new(whole.revision, below)
    }
}

#[async_trait]
impl Source for SubSource {
    async fn info(&self) -> Result<RepoInfo> {
        self.inner.info().await
    }

    async fn manifest(&self) -> Result<Manifest> {
        // Files that the place lacks elsewhere do not matter here.
        let seen = self.inner.glance().await?;
        if seen.missing.iter().any(|path| path.is_within(&self.at)) {
            return self.narrow(self.inner.manifest().await?);
        }
        self.narrow(seen.manifest)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        self.inner.read(at, &self.full(path)?, range).await
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        self.full(path).is_ok_and(|path| self.inner.is_seekable(&path))
    }

    fn doubt(&self, at: &Revision, path: &RepoPath) {
        if let Ok(path) = self.full(path) {
            self.inner.doubt(at, &path);
        }
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    async fn glance(&self) -> Result<Glance> {
        let Glance { manifest, missing } = self.inner.glance().await?;
        if missing.contains(&self.at) {
            return Err(Error::not_found(format!("{:?} is missing there", self.at)));
        }
        let missing = missing.iter().filter(|path| path.is_within(&self.at));
        let below = |path: &RepoPath| RepoPath::new(path.as_str().get(self.at.as_str().len() + 1..).unwrap_or_default());
        Ok(Glance { manifest: self.narrow(manifest)?, missing: missing.map(below).collect::<Result<_>>()? })
    }

    fn extent(&self) -> Extent {
        if self.is_file.load(Ordering::Acquire) { Extent::File(self.at.clone()) } else { Extent::Folder(self.at.clone()) }
    }
}

/// A target narrowed to one folder: whatever a run does stays below it.
#[derive(Debug)]
pub struct SubTarget {
    inner: Arc<dyn Target>,
    at: RepoPath,
}

impl SubTarget {
    /// Puts everything below `at`.
    pub fn new(inner: Arc<dyn Target>, at: RepoPath) -> Self {
        Self { inner, at }
    }

    fn moved(&self, wanted: &Wanted) -> Result<Wanted> {
        let paths = wanted.paths.iter().map(|path| join(&self.at, path)).collect::<Result<_>>()?;
        Ok(Wanted { blob: wanted.blob, paths })
    }
}

#[async_trait]
impl Target for SubTarget {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let Some(whole) = self.inner.head().await? else { return Ok(None) };
        if whole.entries.contains_key(&self.at) {
            return Err(Error::invalid(format!("{:?} is a file at the destination, not a folder", self.at)));
        }
        Manifest::new(whole.revision.clone(), inside(&whole, &self.at)?).map(Some)
    }

    async fn is_open(&self, created: Option<Visibility>) -> Result<bool> {
        self.inner.is_open(created).await
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.inner.create(spec).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let moved = wanted.iter().map(|w| self.moved(w)).collect::<Result<Vec<_>>>()?;
        self.inner.missing(&moved).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        self.inner.put(&self.moved(wanted)?, body).await
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let ops = change.ops.into_iter().map(|op| {
            Ok(match op {
                Op::Put { path, staged } => Op::Put { path: join(&self.at, &path)?, staged },
                Op::Delete { path } => Op::Delete { path: join(&self.at, &path)? },
            })
        });
        let ops = ops.collect::<Result<_>>()?;
        self.inner.commit(Commit { parent: change.parent, message: change.message, ops }).await
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        self.inner.drafts().map(|_| self as &dyn Drafts)
    }

    fn told(&self) -> Option<&dyn Told> {
        self.inner.told().map(|_| self as &dyn Told)
    }
}

#[async_trait]
impl Told for SubTarget {
    async fn tell(&self, coming: &Coming) -> Result<Vec<(u64, Digests)>> {
        let at_its_place = match &coming.extent {
            Extent::Folder(folder) => *folder == self.at,
            Extent::File(file) => file.parents().last() == Some(self.at.as_str()),
            _ => false,
        };
        let entries = coming.manifest.entries.iter().map(|(path, entry)| Ok((join(&self.at, path)?, *entry)));
        let manifest = Manifest::new(coming.manifest.revision.clone(), entries.collect::<Result<Vec<_>>>()?)?;
        let extent = if at_its_place { Extent::Some } else { Extent::Elsewhere };
        self.inner_told()?.tell(&Coming { manifest, extent }).await
    }

    async fn settle(&self) -> Result<()> {
        self.inner_told()?.settle().await
    }
}

impl SubTarget {
    fn inner_told(&self) -> Result<&dyn Told> {
        self.inner.told().ok_or_else(|| Error::new(Kind::Bug, "a place is told of what does not matter to it"))
    }

    fn inner_drafts(&self) -> Result<&dyn Drafts> {
        self.inner.drafts().ok_or_else(|| Error::new(Kind::Unsupported, "there are no drafts at this place"))
    }
}

#[async_trait]
impl Drafts for SubTarget {
    async fn open(&self, message: &str) -> Result<Draft> {
        let draft = self.inner_drafts()?.open(message).await?;
        Ok(Draft { target: Arc::new(Self::new(draft.target, self.at.clone())), ..draft })
    }

    async fn publish(&self, draft: &Draft, parent: &Revision) -> Result<Revision> {
        self.inner_drafts()?.publish(draft, parent).await
    }

    async fn discard(&self, draft: &Draft) -> Result<()> {
        self.inner_drafts()?.discard(draft).await
    }
}

fn join(folder: &RepoPath, path: &RepoPath) -> Result<RepoPath> {
    RepoPath::new(format!("{folder}/{path}"))
}

fn inside(whole: &Manifest, folder: &RepoPath) -> Result<Vec<(RepoPath, Entry)>> {
    whole.below(folder).map(|(rest, entry)| Ok((RepoPath::new(rest)?, *entry))).collect()
}
