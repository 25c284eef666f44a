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
use crate::refs::{PastCommit, Ref, RefChange, RefKind, RefList, RefTarget, Refs};
use crate::remote::{
    Body, ByteStream, Commit, Draft, Drafts, Limits, Op, Place, RepoInfo, RepoSpec, Source, Staged, Target, Visibility, Wanted,
    check_range, collect,
};

/// The default branch.
const MAIN: &str = "main";

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
    /// The branch, tag or commit that is read and written.
    at: String,
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
    /// The revision before each.
    parents: Vec<Option<usize>>,
    branches: BTreeMap<String, usize>,
    tags: BTreeMap<String, usize>,
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
        Self { state: Arc::default(), at: MAIN.to_owned(), limits: Limits::unlimited(), publishes, host: None, has_drafts: false }
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
        let mut tree = state.tree(&self.at);
        for (path, content) in files {
            let Ok(path) = RepoPath::new(*path) else { continue };
            let content = Bytes::copy_from_slice(content);
            let oid = Oid::of(&content);
            state.blobs.insert(oid, content);
            tree.insert(path, oid);
        }
        state.visibility.get_or_insert(Visibility::Private);
        state.advance(&self.at, tree, "pushed by somebody else");
    }

    /// Somebody else's commit that removes a file.
    pub fn remove(&self, path: &str) {
        let mut state = self.state();
        let mut tree = state.tree(&self.at);
        tree.remove(path);
        state.advance(&self.at, tree, "removed by somebody else");
    }

    /// The same repository at another branch, tag or commit.
    #[must_use]
    pub fn on(&self, at: &str) -> Self {
        Self { at: at.to_owned(), ..self.clone() }
    }

    /// Names and commits of all branches and tags.
    pub fn named(&self) -> Vec<(RefKind, String, Revision)> {
        let state = self.state();
        let named = |kind, names: &BTreeMap<String, usize>| {
            names.iter().map(|(name, at)| (kind, name.clone(), state.revisions[*at].0.clone())).collect::<Vec<_>>()
        };
        [named(RefKind::Branch, &state.branches), named(RefKind::Tag, &state.tags)].concat()
    }

    /// Puts a branch or tag where this handle stands.
    pub fn name(&self, kind: RefKind, name: &str) {
        let mut state = self.state();
        if let Some(at) = state.find(&self.at) {
            state.names(kind).insert(name.to_owned(), at);
        }
    }

    /// The files readers see now.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        let state = self.state();
        let tree = state.tree(&self.at);
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
        let Some((revision, tree)) = state.find(&self.at).and_then(|at| state.revisions.get(at)) else {
            return Manifest::new(Revision::new("empty")?, []);
        };
        let entries = tree.iter().filter_map(|(path, oid)| Some((path.clone(), self.entry(state.blobs.get(oid)?))));
        Manifest::new(revision.clone(), entries)
    }
}

impl State {
    fn find(&self, at: &str) -> Option<usize> {
        let named = self.branches.get(at).or_else(|| self.tags.get(at)).copied();
        named.or_else(|| self.revisions.iter().position(|(revision, _)| revision.as_str() == at))
    }

    fn tree(&self, at: &str) -> BTreeMap<RepoPath, Oid> {
        self.find(at).map(|at| self.revisions[at].1.clone()).unwrap_or_default()
    }

    fn names(&mut self, kind: RefKind) -> &mut BTreeMap<String, usize> {
        match kind {
            RefKind::Branch => &mut self.branches,
            RefKind::Tag => &mut self.tags,
        }
    }

    fn advance(&mut self, branch: &str, tree: BTreeMap<RepoPath, Oid>, message: &str) {
        let text = format!("{} {tree:?} {message}", self.revisions.len());
        if let Ok(revision) = Revision::new(Oid::of(text.as_bytes()).to_string()) {
            let parent = self.find(branch);
            self.revisions.push((revision, tree));
            self.messages.push(message.to_owned());
            self.parents.push(parent);
            self.branches.insert(branch.to_owned(), self.revisions.len() - 1);
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

    fn refs(&self) -> Option<&dyn Refs> {
        Some(self)
    }
}

#[async_trait]
impl Refs for MemoryRepo {
    fn default_branch(&self) -> &str {
        MAIN
    }

    fn opened_at(&self) -> &str {
        &self.at
    }

    async fn list(&self) -> Result<RefList> {
        if self.state().visibility.is_none() {
            return Err(Error::not_found("there is no such repository"));
        }
        let of = |wanted| self.named().into_iter().filter(move |(kind, ..)| *kind == wanted).map(|(_, name, at)| Ref::new(name, at));
        RefList::new(of(RefKind::Branch).collect::<Result<_>>()?, of(RefKind::Tag).collect::<Result<_>>()?)
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        let state = self.state();
        let mut at = state.revisions.iter().position(|(revision, _)| *revision == from.target);
        let mut commits = Vec::new();
        while let Some(number) = at {
            let (revision, message) = (state.revisions[number].0.clone(), state.messages[number].clone());
            commits.push(PastCommit { revision, message, author: Some("ada".into()), date: Some(format!("day {number}")) });
            at = state.parents[number];
        }
        Ok(commits)
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.on(rev)))
    }
}

#[async_trait]
impl RefTarget for MemoryRepo {
    fn branch(&self, name: &str) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(self.on(name)))
    }

    async fn change(&self, change: &RefChange) -> Result<()> {
        let mut state = self.state();
        let position = |state: &State, revision: &Revision| state.revisions.iter().position(|(known, _)| known == revision);
        let from = change.from.as_ref().map(|from| position(&state, from));
        if state.names(change.kind).get(&change.name).copied() != from.flatten() {
            return Err(Error::new(Kind::Conflict, "it is elsewhere"));
        }
        match &change.to {
            None => drop(state.names(change.kind).remove(&change.name)),
            Some(to) => {
                let to = position(&state, to).ok_or_else(|| Error::not_found("there is no such commit"))?;
                state.names(change.kind).insert(change.name.clone(), to);
            }
        }
        Ok(())
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
        let mut tree = state.tree(&self.at);
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
        state.advance(&self.at, tree, &change.message);
        Ok(self.manifest_of(&state)?.revision)
    }

    fn refs(&self) -> Option<&dyn RefTarget> {
        Some(self)
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
        let mut copy = State { visibility: state.visibility, blobs: state.blobs.clone(), ..State::default() };
        if let Some(head) = state.find(&self.at) {
            copy.revisions.push(state.revisions[head].clone());
            copy.messages.push(state.messages[head].clone());
            copy.parents.push(None);
            copy.branches.insert(self.at.clone(), 0);
        }
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
        state.advance(&self.at, tree, "published");
        Ok(self.manifest_of(&state)?.revision)
    }

    async fn discard(&self, _: &Draft) -> Result<()> {
        Ok(())
    }
}
