//! A [`Body`] over a [`Source`]: continues a broken stream at the byte it reached, replaces a silent one, and hashes on the way so
//! that no wrong byte is handed out as the end of a good file.
//!
//! The hash runs in order. `Tape` keeps its state at every offset where a read began or ended, so that a part that is read
//! again continues from the state noted at its start and must arrive at the state noted at its end: a second read is checked as
//! well as the first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::digest::{Digests, GitHasher, Oid};
use crate::error::{Error, Kind, Result, Retry};
use crate::events::Event;
use crate::manifest::{Entry, RepoPath, Revision};
use crate::remote::{Body, ByteStream, Source, check_range};

/// Files up to this size are hashed by both algorithms, because hubs publish either for them: what is learnt once saves a
/// comparison by reading later. Larger files go through LFS, which knows only SHA-256.
const GIT_UP_TO: u64 = 10 << 20;

/// A source slower than this many bytes per second, over the time after which silence counts as a stall, is replaced as well.
const FLOOR: f64 = 1024.0;

/// This many bytes after a failure count as progress; a connection that breaks again before is the same trouble.
const PROGRESS: u64 = 16 << 10;

/// Most readings of a file whose bytes come out wrong; a source that always lies must end soon.
pub(super) const READINGS: u32 = 3;

/// One file of a source as verified bytes.
pub struct SourceBody {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn Source>,
    at: Revision,
    path: RepoPath,
    entry: Entry,
    context: Context,
    tape: Mutex<Tape>,
}

/// What is known of the hash so far.
struct Tape {
    /// Hash states by offset; 0 is always there.
    states: BTreeMap<u64, State>,
    /// Furthest byte shown as progress, so that a second read of a part does not count twice.
    shown: u64,
    /// Set once the last byte was hashed and the whole agreed.
    digests: Option<Digests>,
}

/// The hash of everything before an offset.
#[derive(Clone)]
struct State {
    sha256: Sha256,
    git: Option<GitHasher>,
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    fn digests(&self) -> Digests {
        Digests { sha256: Some(Oid(self.sha256.clone().finalize().into())), git: self.git.clone().map(GitHasher::finish) }
    }
}

impl fmt::Debug for SourceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBody").field("path", &self.shared.path).field("entry", &self.shared.entry).finish_non_exhaustive()
    }
}

impl SourceBody {
    /// The file `path` of `source` as it was at `at`. `entry` says what it must be; whatever digests it has are checked.
    pub fn new(source: Arc<dyn Source>, at: Revision, path: RepoPath, entry: Entry, context: Context) -> Self {
        let wants_git = entry.size <= GIT_UP_TO || entry.digests.sha256.is_none() || entry.digests.git.is_some();
        let git = wants_git.then(|| GitHasher::new(entry.size));
        let states = BTreeMap::from([(0, State { sha256: Sha256::new(), git })]);
        let tape = Mutex::new(Tape { states, shown: 0, digests: None });
        Self { shared: Arc::new(Shared { source, at, path, entry, context, tape }) }
    }

    /// The digests of the whole, once every byte has been read and agreed.
    pub fn digests(&self) -> Option<Digests> {
        self.shared.tape().digests
    }

    /// Also computes the Git id, whatever the size.
    #[must_use]
    pub fn with_git(self) -> Self {
        let size = self.shared.entry.size;
        if let Some(start) = self.shared.tape().states.get_mut(&0) {
            start.git.get_or_insert_with(|| GitHasher::new(size));
        }
        self
    }

    /// Reads the whole file into memory, verified: for files known to be small.
    pub async fn bytes(&self) -> Result<Bytes> {
        let mut all = bytes::BytesMut::new();
        self.whole(|piece| match piece {
            Some(piece) => all.extend_from_slice(&piece),
            None => all.clear(),
        })
        .await?;
        Ok(all.freeze())
    }

    /// Reads the whole file and throws the bytes away: identification and verification.
    pub async fn drain(&self) -> Result<Digests> {
        self.whole(|_| {}).await?;
        self.digests().ok_or_else(|| Error::new(Kind::Bug, "a file was read to its end without a digest"))
    }

    /// Reads from start to end; `None` tells the taker that what it has is void and the file comes once more.
    async fn whole(&self, mut take: impl FnMut(Option<Bytes>)) -> Result<()> {
        let mut readings = 1;
        loop {
            let mut stream = self.read(0..self.shared.entry.size).await?;
            let error = loop {
                match stream.next().await {
                    None => return Ok(()),
                    Some(Ok(piece)) => take(Some(piece)),
                    Some(Err(error)) => break error,
                }
            };
            if error.kind() != Kind::Corrupt || readings == READINGS {
                return Err(error);
            }
            self.shared.context.reporter.event(&Event::Retrying {
                what: format!("reading {}", self.shared.path),
                why: error.to_string(),
                pause: Duration::ZERO,
                attempt: readings,
            });
            take(None);
            readings += 1;
        }
    }
}

#[async_trait]
impl Body for SourceBody {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        let shared = self.shared.clone();
        check_range(&range, shared.entry.size)?;
        let state = shared.state_at(range.start).await?;
        if range.is_empty() {
            if range.start == shared.entry.size {
                shared.accept_end(&state)?;
            }
            return Ok(futures_util::stream::empty().boxed());
        }
        let reading = Reading::new(shared, range, state);
        Ok(futures_util::stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|piece| (piece, reading))) })
            .boxed())
    }
}

impl Shared {
    fn tape(&self) -> std::sync::MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash state at `offset`. A read that begins where none has ended yet needs the bytes before it: they are read and hashed
    /// here, which costs them twice, so targets read forward.
    async fn state_at(self: &Arc<Self>, offset: u64) -> Result<State> {
        let (from, state) = {
            let tape = self.tape();
            let (from, state) = tape.states.range(..=offset).next_back().map_or((0, None), |(at, state)| (*at, Some(state.clone())));
            (from, state.ok_or_else(|| Error::new(Kind::Bug, "the hash of nothing is missing"))?)
        };
        if from == offset {
            return Ok(state);
        }
        let mut reading = Reading::new(self.clone(), from..offset, state);
        while reading.next().await?.is_some() {}
        Ok(reading.state)
    }

    /// Called with the state behind a range: notes it, or compares it with what an earlier read of the same bytes gave.
    fn accept_range(&self, end: u64, state: &State) -> Result<()> {
        {
            let mut tape = self.tape();
            let known = tape.states.get(&end).map(|noted| noted.sha256.clone().finalize() == state.sha256.clone().finalize());
            match known {
                Some(false) => {
                    // One of the two readings lied and nobody knows which: forget both.
                    tape.states.split_off(&1);
                    tape.digests = None;
                    return Err(self.place(Error::new(Kind::Corrupt, "two readings of the same bytes differ")));
                }
                Some(true) => {}
                None => {
                    tape.states.insert(end, state.clone());
                }
            }
        }
        if end == self.entry.size { self.accept_end(state) } else { Ok(()) }
    }

    /// Called with the state behind the last byte.
    fn accept_end(&self, state: &State) -> Result<()> {
        let found = state.digests();
        let expected = &self.entry.digests;
        let sha256_lies = expected.sha256.is_some_and(|want| Some(want) != found.sha256);
        let git_lies = expected.git.is_some_and(|want| found.git.is_some_and(|got| got != want));
        let mut tape = self.tape();
        if sha256_lies || git_lies {
            tape.states.split_off(&1);
            tape.digests = None;
            let mut error = Error::new(Kind::Corrupt, "the bytes that arrived do not have the hash that the source publishes");
            if let (Some(want), Some(got)) = (expected.sha256, found.sha256) {
                error = error.context("expected", want).context("got", got);
            } else if let (Some(want), Some(got)) = (expected.git, found.git) {
                error = error.context("expected", want).context("got", got);
            }
            return Err(self.place(error));
        }
        tape.digests = Some(found);
        Ok(())
    }

    fn place(&self, error: Error) -> Error {
        error.context("file", &self.path)
    }

    fn show(&self, upto: u64) {
        let news = {
            let mut tape = self.tape();
            let news = upto.saturating_sub(tape.shown);
            tape.shown = tape.shown.max(upto);
            news
        };
        if news > 0 {
            self.context.reporter.event(&Event::Progress { path: self.path.clone(), bytes: news });
        }
    }
}

/// One running read of a range.
struct Reading {
    shared: Arc<Shared>,
    at: u64,
    end: u64,
    state: State,
    source: Option<ByteStream>,
    /// Failures since the last real progress.
    failures: u32,
    /// When the first of those failures could have begun.
    since: Instant,
    /// Bytes since the last failure.
    gained: u64,
    pace: Pace,
    /// What came last is kept, and the connection it came by is replaced.
    slow: bool,
}

/// How fast the source is, by the time spent waiting for it alone: a slow consumer is not its fault.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Notes a piece; true when the last `window` of waiting brought next to nothing.
    fn is_too_slow(&mut self, waited: Duration, bytes: u64, window: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < window {
            return false;
        }
        let slow = (self.bytes as f64) < FLOOR * self.waited.as_secs_f64();
        *self = Self::default();
        slow
    }
}

impl Reading {
    /// Will read `range`, before which the hash stands at `state`.
    fn new(shared: Arc<Shared>, range: Range<u64>, state: State) -> Self {
        let (at, end) = (range.start, range.end);
        Self { shared, at, end, state, source: None, failures: 0, since: Instant::now(), gained: 0, pace: Pace::default(), slow: false }
    }

    /// The next piece, hashed. The last piece of the range is handed out only after the range was accepted, because a consumer
    /// that knows the length may stop listening once it has it.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            if std::mem::take(&mut self.slow) {
                self.source = None;
                let idle = self.shared.context.idle.as_secs();
                self.recover(Error::new(Kind::Unavailable, format!("next to nothing arrived in {idle} s"))).await?;
            }
            let error = match self.pull().await {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => {
                    self.gained += piece.len() as u64;
                    if self.gained >= PROGRESS {
                        self.failures = 0;
                        self.since = Instant::now();
                    }
                    self.state.update(&piece);
                    self.at += piece.len() as u64;
                    if self.at == self.end {
                        self.source = None;
                        self.shared.accept_range(self.end, &self.state)?;
                    }
                    self.shared.show(self.at);
                    if let Some(throttle) = &self.shared.context.throttle {
                        throttle.take(piece.len() as u64).await;
                    }
                    return Ok(Some(piece));
                }
                Err(error) => error,
            };
            self.source = None;
            self.recover(error).await?;
        }
        Ok(None)
    }

    /// One piece from the source, never more than the range has left.
    async fn pull(&mut self) -> Result<Bytes> {
        let idle = self.shared.context.idle;
        let mut stream = if let Some(stream) = self.source.take() {
            stream
        } else {
            let open = self.shared.source.read(&self.shared.at, &self.shared.path, self.at..self.end);
            tokio::time::timeout(idle, open).await.map_err(|_| stalled(idle))??
        };
        let asked = Instant::now();
        let piece = tokio::time::timeout(idle, stream.next()).await.map_err(|_| stalled(idle))?;
        let waited = asked.elapsed();
        let mut piece =
            piece.ok_or_else(|| Error::new(Kind::Unavailable, format!("the stream ended {} bytes early", self.end - self.at)))??;
        let left = self.end - self.at;
        if piece.len() as u64 > left {
            return Err(Error::new(Kind::Corrupt, "the source sent more bytes than it was asked for"));
        }
        self.slow = self.pace.is_too_slow(waited, piece.len() as u64, idle);
        self.source = Some(stream);
        // A copy frees the reader from keeping a large receive buffer alive for a few bytes of it.
        if piece.len() < 512 {
            piece = Bytes::copy_from_slice(&piece);
        }
        Ok(piece)
    }

    /// Waits before the stream is continued at the byte it reached, or gives the error up.
    async fn recover(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        self.gained = 0;
        self.pace = Pace::default();
        let Some(pause) = self.shared.context.retry.pause(self.failures, self.since, &error) else {
            // Whoever stores these bytes must not begin the same patience anew.
            return Err(self.shared.place(error.retry_as(Retry::No)).context("offset", self.at));
        };
        self.shared.context.reporter.event(&Event::Retrying {
            what: format!("{} at byte {}", self.shared.path, self.at),
            why: error.to_string(),
            pause,
            attempt: self.failures,
        });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn stalled(idle: Duration) -> Error {
    Error::new(Kind::Unavailable, format!("no byte arrived for {} s", idle.as_secs()))
}
