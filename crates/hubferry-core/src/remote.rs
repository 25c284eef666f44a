//! The contract every remote keeps: where files come from ([`Source`]), where they go ([`Target`]), one blob's bytes
//! ([`Body`]), and the facts and values that pass between them.
//!
//! # The order of calls on a target
//!
//! `head` → (`create`) → `missing` → `put`* → `commit`. A reader of the place sees nothing of a run before `commit` returns, and
//! everything after it. `put` may be called for several blobs at once; each oid is put **once per run** and then named by as many
//! operations as needed. Calling any of them again after a failure is allowed.
//!
//! # Who verifies
//!
//! The engine. A [`Body`] yields exactly the bytes of the range it was asked for, hashes the whole, and fails with `Corrupt` when
//! they are not what the blob promises; a target passes that failure on and forgets what it stored. A raw [`Source::read`] is
//! unverified.

use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::address::{RepoId, RepoKind};
use crate::digest::{Digests, Fingerprint, Oid, Prefix};
use crate::error::{Error, Kind, Result};
use crate::facts::{FileTarget, Files};
use crate::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use crate::refs::{RefTarget, Refs};

/// Bytes in order, until the end or the first failure.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Where files come from.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// What the place says of the repository itself: visibility, gating, licence.
    async fn info(&self) -> Result<RepoInfo>;

    /// Resolves the address to one revision and lists it completely. A listing that may be cut short is an error, never a short
    /// manifest: deletions and verification rest on it.
    async fn manifest(&self) -> Result<Manifest>;

    /// Streams `range` of `path` as it was at `at`. The bytes are unverified; the stream may break anywhere, and the caller asks
    /// again from where it broke. `Changed` when the place no longer has those bytes, `Invalid` when the range is past the end.
    /// Never answers with more bytes than asked for.
    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream>;

    /// Who answers `read`: sources with one host share what is known of its speed and of how much at once it bears. `None` is this
    /// machine.
    fn host(&self) -> Option<String> {
        None
    }

    /// Whether reading `path` from the middle is cheap, as far as is known by now: a server may turn out to ignore ranges.
    fn is_seekable(&self, _path: &RepoPath) -> bool {
        true
    }

    /// Bytes of `path` came out wrong and will be read again: a source with another way to the file takes that one from now on.
    fn doubt(&self, _at: &Revision, _path: &RepoPath) {}

    /// Direct links, for a source that can hand them out.
    fn links(&self) -> Option<&dyn Links> {
        None
    }

    /// Branches, tags and history, for a place that has them. A part of a repository has none of its own.
    fn refs(&self) -> Option<&dyn Refs> {
        None
    }

    /// What is known beside the bytes, for a place that is made of files.
    fn files(&self) -> Option<&dyn Files> {
        None
    }

    /// The same listing as [`Source::manifest`], for those who only look: a place that knows that it lacks files lists the others and
    /// names those. What rests on a complete listing must not use this.
    async fn glance(&self) -> Result<Glance> {
        Ok(Glance { manifest: self.manifest().await?, missing: Vec::new() })
    }

    /// How much of its repository the listing is, known once it was listed.
    fn extent(&self) -> Extent {
        Extent::Whole
    }
}

/// A listing that need not be complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glance {
    /// What is there.
    pub manifest: Manifest,
    /// What should be there as well.
    pub missing: Vec<RepoPath>,
}

/// How much of a repository a listing is, and where in it its paths are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All of it.
    Whole,
    /// What lies in this folder, which the paths begin in.
    Folder(RepoPath),
    /// This file, by its name alone.
    File(RepoPath),
    /// Some files, by their own paths.
    Some,
    /// Files under other paths than they have in their repository.
    Elsewhere,
}

/// Where files go. A reader sees nothing of a run before `commit`.
#[async_trait]
pub trait Target: Debug + Send + Sync {
    /// Facts the planner and the engine need; never does I/O.
    fn limits(&self) -> Limits;

    /// What readers see now; `None` when the repository does not exist. A repository without commits is an empty manifest.
    async fn head(&self) -> Result<Option<Manifest>>;

    /// Whether strangers may read what is committed here: everybody, or everybody who signs in. `created` is what the repository was,
    /// or will be, created as; without it the place is asked, and where it does not say, strangers may. A place that has no readers
    /// of its own, such as a directory, says no.
    async fn is_open(&self, _created: Option<Visibility>) -> Result<bool> {
        Ok(false)
    }

    /// Creates the repository. Succeeds when it is already there, and then changes nothing of it.
    async fn create(&self, spec: &RepoSpec) -> Result<()>;

    /// Which of `wanted` are not held yet, asked in as few requests as the place allows. A blob that the place wants inside the
    /// commit is missing too.
    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>>;

    /// Stores one blob that `missing` named. If `body` fails, so does this, and `missing` still names the blob.
    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged>;

    /// Applies every operation, all at once where [`Limits::atomic`] says so. Fails with `Conflict` when the head is no longer
    /// [`Commit::parent`]. A failure marked ambiguous ([`Error::is_ambiguous`]) means that the answer was lost: the caller reads
    /// the head before it sends anything again.
    async fn commit(&self, change: Commit) -> Result<Revision>;

    /// Branches, tags and history, for a place that has them.
    fn refs(&self) -> Option<&dyn RefTarget> {
        None
    }

    /// What files have beside their bytes, for a place that is made of files and keeps it.
    fn files(&self) -> Option<&dyn FileTarget> {
        None
    }

    /// Drafts, for a place that has them: a change too large for one commit becomes visible at once all the same.
    fn drafts(&self) -> Option<&dyn Drafts> {
        None
    }

    /// For a place that must know what comes before anything else is asked of it.
    fn told(&self) -> Option<&dyn Told> {
        None
    }
}

/// A place that keeps content under the names that its source has for it, as the caches of the hubs' clients do: what is its head, and
/// what a blob is called there, depends on what is copied.
#[async_trait]
pub trait Told: Send + Sync {
    /// Says what will be copied; called before [`Target::head`], and again when that is another listing. Gives pairs of digests that
    /// the place knows of what it holds, with sizes: bytes that it has hashed and that have both names.
    async fn tell(&self, coming: &Coming) -> Result<Vec<(u64, Digests)>>;

    /// Every file that was to be copied is there, and nothing had to be committed for that: names it as a commit would have.
    async fn settle(&self) -> Result<()>;
}

/// What will be copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coming {
    /// The listing of the source, before any filter.
    pub manifest: Manifest,
    /// How much of the source's repository that is.
    pub extent: Extent,
}

/// Commits that gather where readers do not look, and become visible as one: pull requests, on the hubs that have them.
#[async_trait]
pub trait Drafts: Send + Sync {
    /// Opens a draft on the present head. `message` is that of the commit it will become.
    async fn open(&self, message: &str) -> Result<Draft>;

    /// Makes everything in the draft visible, as one commit on `parent`. `Conflict` when the head is another one by now.
    async fn publish(&self, draft: &Draft, parent: &Revision) -> Result<Revision>;

    /// Gives a draft up: nothing of it will ever be visible.
    async fn discard(&self, draft: &Draft) -> Result<()>;
}

/// An open draft.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What people know it by, such as `pull request 7`.
    pub name: String,
    /// Its number at the place.
    pub number: u64,
    /// Takes its commits. Its head began as that of the repository.
    pub target: Arc<dyn Target>,
}

/// One blob's bytes, readable again from any offset: the target pulls, so it picks its part size, sends parts side by side and
/// retries one of them.
///
/// The whole is hashed in order. Ranges may be read side by side: what is ahead of the hash waits in bounded memory, so the range
/// that holds the first unseen byte must be among those being read.
#[async_trait]
pub trait Body: Send + Sync {
    /// Streams exactly `range`, in order, or fails. Broken connections are mended inside; a read that ends without error delivered
    /// every byte. The stream that brings the last unseen byte of the blob ends in `Corrupt` if the whole does not have its hash,
    /// and so does a second reading of a range that brings other bytes than the first.
    async fn read(&self, range: Range<u64>) -> Result<ByteStream>;

    /// Puts the whole blob, verified, into a place that takes bytes in any order. What `partial` kept from an earlier run is used
    /// once it was checked.
    async fn fill(&self, size: u64, partial: Arc<dyn Partial>) -> Result<()> {
        let mut stream = self.read(0..size).await?;
        let mut at = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let length = piece.len() as u64;
            partial.write(at, vec![piece]).await?;
            at += length;
        }
        Ok(())
    }

    /// The file on this machine that holds these bytes, if there is one ([`Files::local`]). Whoever uses it instead of reading hashes it.
    fn local(&self) -> Option<PathBuf> {
        None
    }

    /// The hash of everything before `at`, when a read began or ended there and the hash has come so far. To be noted beside what
    /// was stored up to there.
    fn prefix(&self, _at: u64) -> Option<Prefix> {
        None
    }

    /// Goes on from a prefix that an earlier run noted: what it covers need not be read again. Says from which offset on every byte
    /// must be read by this run before the whole counts as verified.
    fn resume(&self, _prefix: Prefix) -> u64 {
        0
    }
}

/// A blob in the making that outlives the process: bytes go in anywhere, come back, and what is there is noted.
#[async_trait]
pub trait Partial: Send + Sync {
    /// What earlier runs noted. Claims, to be checked against the bytes: a power cut may have made them false.
    async fn kept(&self) -> Result<Kept>;

    /// Puts pieces, one behind the other, at offset `at`. [`Partial::read`] gives them back from then on.
    async fn write(&self, at: u64, pieces: Vec<Bytes>) -> Result<()>;

    /// Reads back exactly `range`, which was written before.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// Notes what was written, so that a killed process loses none of it.
    async fn note(&self, notes: Vec<Note>) -> Result<()>;
}

/// What is noted of a [`Partial`]. Later notes of the same bytes replace earlier ones.
#[derive(Clone, Debug)]
pub enum Note {
    /// These bytes were written, and have this fingerprint (seed 0).
    Block {
        /// Where.
        range: Range<u64>,
        /// Of what.
        fingerprint: Fingerprint,
    },
    /// The hash of everything up to an offset.
    Prefix(Prefix),
}

/// What was noted of a [`Partial`] by earlier runs.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Ranges that do not overlap, in order, with their fingerprints.
    pub blocks: Vec<(Range<u64>, Fingerprint)>,
    /// Hashes of prefixes, in order of their length.
    pub prefixes: Vec<Prefix>,
}

/// Reads `range` and drops it: for bytes that are stored already and that the hash still has to see.
pub async fn pass(body: &dyn Body, range: Range<u64>) -> Result<()> {
    let mut stream = body.read(range).await?;
    while let Some(piece) = stream.next().await {
        piece?;
    }
    Ok(())
}

/// Verified bytes that are in memory already.
#[derive(Clone, Debug)]
pub struct MemoryBody(pub Bytes);

#[async_trait]
impl Body for MemoryBody {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        check_range(&range, self.0.len() as u64)?;
        let index = |at: u64| usize::try_from(at).unwrap_or(self.0.len());
        let piece = self.0.slice(index(range.start)..index(range.end));
        Ok(futures_util::stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed())
    }

    fn resume(&self, _: Prefix) -> u64 {
        self.0.len() as u64
    }
}

/// Reads a small blob into memory, for targets that carry it inside the commit.
pub async fn collect(size: u64, body: &dyn Body) -> Result<Bytes> {
    let mut stream = body.read(0..size).await?;
    let mut all = BytesMut::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
        if all.len() as u64 > size {
            break;
        }
    }
    if all.len() as u64 == size {
        return Ok(all.freeze());
    }
    Err(Error::new(Kind::Corrupt, format!("{} of the promised {size} bytes arrived", all.len())))
}

/// Short-lived URLs that need none of our credentials.
#[async_trait]
pub trait Links: Send + Sync {
    /// A URL for `path`, good for at least `ttl`.
    async fn link(&self, at: &Revision, path: &RepoPath, ttl: Duration) -> Result<String>;
}

/// A blob a run needs at the target, and the paths that will name it there (never empty): some hubs choose the storage by path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The bytes.
    pub blob: Blob,
    /// Where they will appear.
    pub paths: Vec<RepoPath>,
}

/// What a target can take: plain facts, so that planning stays pure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Largest file in bytes.
    pub max_file: u64,
    /// Most operations one commit may hold.
    pub ops_per_commit: usize,
    /// Most `put` calls at once that make sense there.
    pub parallel: usize,
    /// Whether a commit becomes visible all at once.
    pub atomic: bool,
    /// Whether the place itself refuses a commit on a moved head.
    pub compare_and_swap: bool,
    /// Most bytes of blobs that one commit may carry inside ([`Place::Inline`]).
    pub inline_per_commit: u64,
    /// How long the place works on one commit before it gives up; longer than this, and a smaller one is tried.
    pub commit_time: Duration,
    /// Most commits an hour, where the place has told of a limit.
    pub commits_per_hour: Option<u32>,
}

impl Limits {
    /// Limits of a place that has none: change what differs.
    pub fn unlimited() -> Self {
        Self {
            max_file: u64::MAX,
            ops_per_commit: usize::MAX,
            parallel: 16,
            atomic: true,
            compare_and_swap: true,
            inline_per_commit: u64::MAX,
            commit_time: Duration::MAX,
            commits_per_hour: None,
        }
    }
}

/// A stored blob nobody sees yet. Serialisable: one process stages, another commits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Staged {
    /// The bytes it holds.
    pub blob: Blob,
    /// Where the target keeps them until the commit.
    pub place: Place,
}

/// Where a staged blob waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Place {
    /// In the target's own store, named by its oid.
    Stored,
    /// Travels inside the commit, as small files do on the hubs.
    Inline(Bytes),
}

impl Staged {
    /// The blob lies in the target's store under its oid.
    pub fn stored(blob: Blob) -> Self {
        Self { blob, place: Place::Stored }
    }

    /// Bytes that travel inside the commit.
    pub fn inline(blob: Blob, bytes: Bytes) -> Self {
        Self { blob, place: Place::Inline(bytes) }
    }

    /// How many bytes the commit will carry for it.
    pub fn inline_len(&self) -> u64 {
        match &self.place {
            Place::Inline(bytes) => bytes.len() as u64,
            Place::Stored => 0,
        }
    }
}

/// Operations that become visible together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// The head this change was planned on; `None` when there was no commit.
    pub parent: Option<Revision>,
    /// First line: the summary. The rest: description and trailers.
    pub message: String,
    /// What to apply. No path occurs twice.
    pub ops: Vec<Op>,
}

/// Whether a change that was planned on `parent` still fits what readers see: the name of the head, and whether nothing is in it. A
/// place without commits and one with an empty one are the same to who finds nothing there.
pub fn is_planned_on(parent: Option<&Revision>, head: Option<(&str, bool)>) -> bool {
    match (head, parent) {
        (None, None) => true,
        (Some((_, is_empty)), None) => is_empty,
        (None, Some(_)) => false,
        (Some((name, _)), Some(parent)) => name == parent.as_str(),
    }
}

/// One operation of a commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Op {
    /// `path` names this staged blob from now on.
    Put {
        /// Where.
        path: RepoPath,
        /// What.
        staged: Staged,
    },
    /// `path` is no more.
    Delete {
        /// Where.
        path: RepoPath,
    },
}

impl Op {
    /// The path it touches.
    pub fn path(&self) -> &RepoPath {
        match self {
            Self::Put { path, .. } | Self::Delete { path } => path,
        }
    }

    /// The entry a reader finds afterwards; `None` for a deletion.
    pub fn entry(&self) -> Option<Entry> {
        match self {
            Self::Put { staged, .. } => Some(Entry::new(staged.blob.size, Digests::sha256(staged.blob.oid))),
            Self::Delete { .. } => None,
        }
    }
}

/// Who may read a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Its owner and those the owner names.
    Private,
    /// Everybody who has signed in (ModelScope).
    Internal,
}

impl Visibility {
    /// The word used in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Internal => "internal",
        }
    }
}

/// What a place says of a repository.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RepoInfo {
    /// The kind it was found as; `None` for a directory.
    pub kind: Option<RepoKind>,
    /// Its id in the spelling of the place; `None` for a directory.
    pub id: Option<RepoId>,
    /// `None` when the place does not say: treated as private.
    pub visibility: Option<Visibility>,
    /// Whether readers must accept terms first.
    pub gated: bool,
    /// Licence id in the spelling of the place.
    pub license: Option<String>,
    /// The branch used when an address names none.
    pub default_branch: Option<String>,
    /// A page for people.
    pub url: Option<String>,
    /// The commit that the address means, where the place says so along with the rest.
    pub revision: Option<Revision>,
}

/// What to create.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RepoSpec {
    /// Who may read it.
    pub visibility: Visibility,
    /// Licence id in the vocabulary of Hugging Face, if known; some hubs demand one.
    pub license: Option<String>,
}

impl RepoSpec {
    /// A repository with this visibility.
    pub fn new(visibility: Visibility) -> Self {
        Self { visibility, license: None }
    }
}

/// Checks a range against a size; `Invalid` when it is backwards or past the end.
pub fn check_range(range: &Range<u64>, size: u64) -> Result<()> {
    if range.start > range.end || range.end > size {
        return Err(Error::invalid(format!("the range {}..{} is outside of {size} bytes", range.start, range.end)));
    }
    Ok(())
}
