//! A [`Body`] over a [`Source`] and its mirrors: verified bytes, as an ordered stream or straight into their place.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::select_all;
use futures_util::{FutureExt, StreamExt};

use super::governor::Permit;
use super::ledger::Ledger;
use super::line::{Line, Piece, State};
use super::memory::occupied;
use super::origin::{Mirror, Origin, Origins};
use super::ranges::RangeSet;
use super::{Context, fill, stream};
use crate::digest::{Digests, Prefix};
use crate::error::{Error, Kind, Result, Retry};
use crate::events::Event;
use crate::manifest::{Entry, RepoPath, Revision};
use crate::remote::{Body, ByteStream, Partial, Source, check_range};

/// Files up to this size are hashed by both algorithms, because hubs publish either for them: what is learnt once saves a
/// comparison by reading later. Larger files go through LFS, which knows only SHA-256.
const GIT_UP_TO: u64 = 10 << 20;

/// Most readings of a file whose bytes come out wrong; a source that always lies must end soon.
pub(super) const READINGS: u32 = 3;

/// One file of a source as verified bytes.
pub struct SourceBody {
    job: Arc<Job>,
}

/// One file on its way, shared by everything that works on it.
pub(super) struct Job {
    pub(super) path: RepoPath,
    pub(super) entry: Entry,
    pub(super) context: Context,
    pub(super) origins: Origins,
    pub(super) line: Arc<Line>,
    pub(super) ledger: Arc<Ledger>,
    git: bool,
    /// What was shown as progress, so that a second reading does not count twice.
    shown: Mutex<RangeSet>,
    found: Mutex<Option<Digests>>,
    pub(super) beyond_repair: AtomicBool,
}

impl fmt::Debug for SourceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBody").field("path", &self.job.path).field("entry", &self.job.entry).finish_non_exhaustive()
    }
}

/// Which file, and what it must be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The revision of the source.
    pub at: Revision,
    /// The file in it.
    pub path: RepoPath,
    /// Whatever digests it has are checked.
    pub entry: Entry,
}

impl SourceBody {
    /// A file of `source`.
    pub fn new(source: Arc<dyn Source>, wish: Wish, context: Context) -> Self {
        Self::with_mirrors(source, &[], wish, context)
    }

    /// The same; `mirrors` that hold the same bytes help.
    pub fn with_mirrors(source: Arc<dyn Source>, mirrors: &[Mirror], wish: Wish, context: Context) -> Self {
        let wants_git = wish.entry.size <= GIT_UP_TO || wish.entry.digests.sha256.is_none() || wish.entry.digests.git.is_some();
        Self::make(source, mirrors, wish, context, wants_git)
    }

    fn make(source: Arc<dyn Source>, mirrors: &[Mirror], wish: Wish, context: Context, git: bool) -> Self {
        let Wish { at, path, entry } = wish;
        let main = Origin::main(source, at, path.clone(), &context);
        let origins = Origins::new(main, mirrors.iter().filter_map(|mirror| Origin::mirror(mirror, &entry, &context)));
        let scanner = context.secrets.as_ref().and_then(|gate| gate.scanner(&entry));
        let job = Job {
            line: Arc::new(Line::new(entry.size, entry.digests, git).scanned(scanner)),
            ledger: Arc::new(Ledger::new(entry.size)),
            path,
            entry,
            context,
            origins,
            git,
            shown: Mutex::default(),
            found: Mutex::default(),
            beyond_repair: AtomicBool::new(false),
        };
        Self { job: Arc::new(job) }
    }

    /// The digests of the whole, once every byte has been read and agreed.
    pub fn digests(&self) -> Option<Digests> {
        let found = *self.job.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.or_else(|| self.job.line.verified())
    }

    /// Whether wrong bytes were looked for one by one and the right ones not found: reading everything once more would not help.
    pub(super) fn is_beyond_repair(&self) -> bool {
        self.job.beyond_repair.load(Ordering::Relaxed)
    }

    /// Reads a file into memory, verified: for files known to be small.
    pub async fn content(source: &Arc<dyn Source>, wish: &Wish, context: &Context) -> Result<(Bytes, Digests)> {
        let read = || async {
            let body = Self::new(source.clone(), wish.clone(), context.clone());
            let mut all = bytes::BytesMut::new();
            let mut stream = body.read(0..wish.entry.size).await?;
            while let Some(piece) = stream.next().await {
                all.extend_from_slice(&piece?);
            }
            Ok((all.freeze(), body.verified()?))
        };
        rereading(context, &wish.path, read).await
    }

    /// Reads a file and throws the bytes away: both digests of it, whatever the size.
    pub async fn identify(source: &Arc<dyn Source>, wish: &Wish, context: &Context) -> Result<Digests> {
        let read = || async {
            let body = Self::make(source.clone(), &[], wish.clone(), context.clone(), true);
            crate::remote::pass(&body, 0..wish.entry.size).await?;
            body.verified()
        };
        rereading(context, &wish.path, read).await
    }

    fn verified(&self) -> Result<Digests> {
        self.digests().ok_or_else(|| Error::new(Kind::Bug, "a file was read to its end without a digest"))
    }
}

/// Reads with a new body as long as the bytes come out wrong and it may have been the way.
pub(super) async fn rereading<T, F, Fut>(context: &Context, path: &RepoPath, mut read: F) -> Result<T>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T>> + Send,
{
    let mut attempt = 1;
    loop {
        let error = match read().await {
            Err(error) if error.kind() == Kind::Corrupt && attempt < READINGS => error,
            result => return result,
        };
        let (what, why) = (format!("reading {path}"), error.to_string());
        context.reporter.event(&Event::Retrying { what, why, pause: Duration::ZERO, attempt });
        attempt += 1;
    }
}

#[async_trait]
impl Body for SourceBody {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        check_range(&range, self.job.entry.size)?;
        if range.is_empty() {
            if range.end == self.job.entry.size && self.job.line.next() == range.end {
                self.job.verdict().await?;
            }
            return Ok(futures_util::stream::empty().boxed());
        }
        Ok(stream::read(&self.job, range))
    }

    async fn fill(&self, _: u64, partial: Arc<dyn Partial>) -> Result<()> {
        let digests = fill::fill(&self.job, partial).await?;
        *self.job.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(digests);
        Ok(())
    }

    fn local(&self) -> Option<PathBuf> {
        // What is looked through for secrets must pass through the hash here.
        let origin = self.job.origins.get(0).filter(|_| self.job.context.secrets.is_none())?;
        origin.source.files()?.local(&origin.at, &origin.path)
    }

    fn prefix(&self, at: u64) -> Option<Prefix> {
        self.job.line.state_at(at).map(|state| state.prefix)
    }

    fn resume(&self, prefix: Prefix) -> u64 {
        if self.job.line.resume(&prefix) { prefix.at() } else { 0 }
    }
}

impl Job {
    pub(super) fn origin(&self, number: usize) -> Result<&Origin> {
        self.origins.get(number).ok_or_else(|| Error::new(Kind::Bug, "an origin that is not there"))
    }

    /// Whether nothing of it comes over a network.
    pub(super) fn is_local(&self) -> bool {
        self.origins.usable().iter().all(|number| self.origins.get(*number).is_some_and(|origin| origin.governor.is_none()))
    }

    /// Whether an origin can begin in the middle of the file, as far as is known.
    pub(super) fn is_seekable(&self, number: usize) -> bool {
        self.origins.get(number).is_some_and(|origin| origin.source.is_seekable(&origin.path))
    }

    /// The hash of nothing.
    pub(super) fn fresh_state(&self) -> State {
        State::new(self.git.then_some(self.entry.size))
    }

    /// How many streams there may be at most, as far as the governors know now.
    pub(super) fn streams_expected(&self) -> usize {
        let limit = |number: &usize| self.origins.get(*number).and_then(|origin| origin.governor.as_ref().map(|g| g.limit()));
        self.origins.usable().iter().filter_map(limit).sum::<usize>().clamp(1, 64)
    }

    /// The right to a stream from any origin; first come, first served.
    pub(super) async fn first_permit(self: Arc<Self>) -> (usize, Option<Permit>) {
        let usable = self.origins.usable();
        let mut lines = Vec::new();
        for number in usable {
            match self.origins.get(number).and_then(|origin| origin.governor.clone()) {
                Some(governor) => lines.push(async move { (number, Some(governor.permit().await)) }.boxed()),
                None => return (number, None),
            }
        }
        if lines.is_empty() {
            // Nobody is left; asking the source once more brings the error to show.
            return (0, None);
        }
        select_all(lines).await.0
    }

    /// Whether one more stream would be allowed now.
    pub(super) fn has_spare(&self) -> bool {
        self.origins.usable().iter().any(|number| {
            self.origins.get(*number).and_then(|origin| origin.governor.as_ref()).is_some_and(|governor| governor.has_spare())
        })
    }

    /// Gives bytes to the hash, in the order of a consumer. What comes before its turn occupies the memory budget until then. True
    /// once the line has every byte.
    pub(super) async fn feed(&self, at: u64, mut piece: Piece) -> bool {
        if piece.share.is_none() {
            let mut room = std::pin::pin!(self.context.memory.take(occupied(piece.bytes.len() as u64)));
            loop {
                let moved = self.line.moved();
                if at <= self.line.next() {
                    break;
                }
                tokio::select! {
                    share = &mut room => {
                        piece.share = share.map(Arc::new);
                        break;
                    }
                    () = moved => {}
                }
            }
        }
        self.line.feed(at, piece).await
    }

    /// What the hash says of the whole.
    pub(super) async fn verdict(&self) -> Result<Digests> {
        let verdict = self.line.verdict().await;
        if verdict.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt) {
            self.origins.doubt();
        }
        let digests = verdict.map_err(|error| self.place(error))?;
        if let (Some(gate), Some(oid), Some(scanner)) = (&self.context.secrets, digests.sha256, self.line.take_scanner()) {
            gate.saw(oid, scanner.finish());
        }
        Ok(digests)
    }

    pub(super) fn place(&self, error: Error) -> Error {
        // Only a new body can read it again; whoever stores the bytes must not try the same one.
        error.retry_as(Retry::No).context("file", &self.path)
    }

    /// Shows progress: bytes that were not shown before.
    pub(super) fn show(&self, range: Range<u64>) {
        let news = self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(range);
        if news > 0 {
            self.context.reporter.event(&Event::Progress { path: self.path.clone(), bytes: news });
        }
    }
}
