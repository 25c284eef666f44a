//! The reference remote: a repository in memory that keeps the contract to the letter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::digest::{Digests, Oid};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use crate::remote::{
    Body, ByteStream, Commit, Draft, Drafts, Limits, Op, Place, RepoInfo, RepoSpec, Source, Staged, Target, Visibility, Wanted,
    check_range, collect,
};

/// How a place publishes the digests of its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Publishes {
    /// SHA-256 of everything, as ModelScope does.
    Sha256,
    /// SHA-256 of files over 10 bytes, Git ids of the others, as Hugging Face does for LFS files.
    Mixed,
    /// Nothing, as a plain directory.
    Nothing,
}

/// A repository in memory; clones share it.
#[derive(Clone)]
pub struct MemoryRepo {
    state: Arc<Mutex<State>>,
    limits: Limits,
    publishes: Publishes,
    host: Option<String>,
    has_drafts: bool,
}

#[derive(Default)]
struct State {
    visibility: Option<Visibility>,
    blobs: HashMap<Oid, Bytes>,
    /// Every revision ever made, in order.
    revisions: Vec<(Revision, BTreeMap<RepoPath, Oid>)>,
    messages: Vec<String>,
    puts: Vec<Oid>,
}

impl Default for MemoryRepo {
    fn default() -> Self {
        Self::new(Publishes::Sha256)
    }
}

impl MemoryRepo {
    /// A repository that does not exist yet.
    pub fn new(publishes: Publishes) -> Self {
        Self { state: Arc::default(), limits: Limits::unlimited(), publishes, host: None, has_drafts: false }
    }

    /// A repository with one revision of these files.
    pub fn with_files(publishes: Publishes, files: &[(&str, &[u8])]) -> Self {
        let repo = Self::new(publishes);
        repo.push(files);
        repo
    }

    /// The same repository with other limits.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same repository as if it were behind a network.
    #[must_use]
    pub fn at_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The same repository with drafts.
    #[must_use]
    pub fn with_drafts(mut self) -> Self {
        self.has_drafts = true;
        self
    }

    /// The messages of all commits, in order.
    pub fn messages(&self) -> Vec<String> {
        self.state().messages.clone()
    }

    /// Somebody else's commit: adds or replaces files.
    pub fn push(&self, files: &[(&str, &[u8])]) {
        let mut state = self.state();
        let mut tree = state.revisions.last().map(|(_, tree)| tree.clone()).unwrap_or_default();
        for (path, content) in files {
            let Ok(path) = RepoPath::new(*path) else { continue };
            let content = Bytes::copy_from_slice(content);
            let oid = Oid::of(&content);
            state.blobs.insert(oid, content);
            tree.insert(path, oid);
        }
        state.visibility.get_or_insert(Visibility::Private);
        state.advance(tree, "pushed by somebody else");
    }

    /// The files readers see now.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        let state = self.state();
        let tree = state.revisions.last().map(|(_, tree)| tree.clone()).unwrap_or_default();
        tree.into_iter().filter_map(|(path, oid)| Some((path.to_string(), state.blobs.get(&oid)?.clone()))).collect()
    }

    /// How many revisions there are.
    pub fn revisions(&self) -> usize {
        self.state().revisions.len()
    }

    /// The message of the last commit.
    pub fn last_message(&self) -> Option<String> {
        self.state().messages.last().cloned()
    }

    /// Every oid that was put, in order.
    pub fn puts(&self) -> Vec<Oid> {
        self.state().puts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, content: &Bytes) -> Entry {
        let digests = match self.publishes {
            Publishes::Sha256 => Digests::sha256(Oid::of(content)),
            Publishes::Mixed if content.len() > 10 => Digests::sha256(Oid::of(content)),
            Publishes::Mixed => Digests::git(crate::digest::GitOid::of(content)),
            Publishes::Nothing => Digests::default(),
        };
        Entry::new(content.len() as u64, digests)
    }

    fn manifest_of(&self, state: &State) -> Result<Manifest> {
        let Some((revision, tree)) = state.revisions.last() else {
            return Manifest::new(Revision::new("empty")?, []);
        };
        let entries = tree.iter().filter_map(|(path, oid)| Some((path.clone(), self.entry(state.blobs.get(oid)?))));
        Manifest::new(revision.clone(), entries)
    }
}

impl State {
    fn advance(&mut self, tree: BTreeMap<RepoPath, Oid>, message: &str) {
        let text = format!("{} {tree:?} {message}", self.revisions.len());
        if let Ok(revision) = Revision::new(Oid::of(text.as_bytes()).to_string()) {
            self.revisions.push((revision, tree));
            self.messages.push(message.to_owned());
        }
    }
}

impl fmt::Debug for MemoryRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRepo").field("publishes", &self.publishes).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for MemoryRepo {
    async fn info(&self) -> Result<RepoInfo> {
        Ok(RepoInfo { visibility: self.state().visibility, ..RepoInfo::default() })
    }

    async fn manifest(&self) -> Result<Manifest> {
        let state = self.state();
        if state.visibility.is_none() {
            return Err(Error::not_found("there is no such repository"));
        }
        self.manifest_of(&state)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let state = self.state();
        let (_, tree) = state
            .revisions
            .iter()
            .find(|(revision, _)| revision == at)
            .ok_or_else(|| Error::new(Kind::Changed, "that revision is gone"))?;
        let content = tree
            .get(path)
            .and_then(|oid| state.blobs.get(oid))
            .ok_or_else(|| Error::not_found(format!("{path:?} is not in that revision")))?;
        check_range(&range, content.len() as u64)?;
        let (start, end) = (usize::try_from(range.start).unwrap_or(usize::MAX), usize::try_from(range.end).unwrap_or(usize::MAX));
        // Small pieces, so that faults can strike between them.
        let step = if content.len() < 1 << 20 { 1000 } else { 32 << 10 };
        let piece = content.slice(start..end);
        let pieces: Vec<Result<Bytes>> = (0..piece.len()).step_by(step).map(|at| Ok(piece.slice(at..piece.len().min(at + step)))).collect();
        Ok(futures_util::stream::iter(pieces).boxed())
    }

    fn host(&self) -> Option<String> {
        self.host.clone()
    }
}

#[async_trait]
impl Target for MemoryRepo {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let state = self.state();
        if state.visibility.is_none() { Ok(None) } else { self.manifest_of(&state).map(Some) }
    }

    async fn is_open(&self, created: Option<Visibility>) -> Result<bool> {
        Ok(created.or(self.state().visibility) == Some(Visibility::Public))
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.state().visibility.get_or_insert(spec.visibility);
        Ok(())
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let state = self.state();
        Ok(wanted.iter().map(|w| w.blob.oid).filter(|oid| !state.blobs.contains_key(oid)).collect())
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let Blob { oid, size } = wanted.blob;
        let content = collect(size, body).await?;
        if Oid::of(&content) != oid {
            return Err(Error::new(Kind::Bug, "a body delivered other bytes than it promised and did not fail"));
        }
        let mut state = self.state();
        state.puts.push(oid);
        state.blobs.insert(oid, content);
        Ok(Staged::stored(wanted.blob))
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let mut state = self.state();
        if state.visibility.is_none() {
            return Err(Error::not_found("there is no such repository"));
        }
        let head = self.manifest_of(&state)?.revision;
        if change.parent.is_some_and(|parent| parent != head) {
            return Err(Error::new(Kind::Conflict, "the head moved"));
        }
        if change.ops.len() > self.limits.ops_per_commit {
            return Err(Error::invalid("more operations than one commit takes"));
        }
        let mut tree = state.revisions.last().map(|(_, tree)| tree.clone()).unwrap_or_default();
        for op in change.ops {
            match op {
                Op::Put { path, staged } => {
                    if let Place::Inline(bytes) = staged.place {
                        state.blobs.insert(staged.blob.oid, bytes);
                    }
                    if !state.blobs.contains_key(&staged.blob.oid) {
                        return Err(Error::invalid(format!("{path:?} names a blob that was never put")));
                    }
                    tree.insert(path, staged.blob.oid);
                }
                Op::Delete { path } => {
                    tree.remove(&path).ok_or_else(|| Error::not_found(format!("{path:?} is not there")))?;
                }
            }
        }
        state.advance(tree, &change.message);
        Ok(self.manifest_of(&state)?.revision)
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        self.has_drafts.then_some(self)
    }
}

/// A draft is a repository of its own with the same blobs.
#[async_trait]
impl Drafts for MemoryRepo {
    async fn open(&self, _: &str) -> Result<Draft> {
        let state = self.state();
        let copy = State {
            visibility: state.visibility,
            blobs: state.blobs.clone(),
            revisions: state.revisions.last().cloned().into_iter().collect(),
            messages: Vec::new(),
            puts: Vec::new(),
        };
        let target = Arc::new(Self { state: Arc::new(Mutex::new(copy)), has_drafts: false, ..self.clone() });
        Ok(Draft { name: "draft 1".to_owned(), number: 1, target })
    }

    async fn publish(&self, draft: &Draft, parent: &Revision) -> Result<Revision> {
        let held = draft.target.head().await?.ok_or_else(|| Error::not_found("the draft is gone"))?;
        let mut state = self.state();
        if self.manifest_of(&state)?.revision != *parent {
            return Err(Error::new(Kind::Conflict, "the head moved"));
        }
        let oid = |entry: &Entry| entry.digests.sha256.ok_or_else(|| Error::new(Kind::Bug, "a draft publishes SHA-256"));
        let tree = held.entries.iter().map(|(path, entry)| Ok((path.clone(), oid(entry)?))).collect::<Result<_>>()?;
        state.advance(tree, "published");
        Ok(self.manifest_of(&state)?.revision)
    }

    async fn discard(&self, _: &Draft) -> Result<()> {
        Ok(())
    }
}
