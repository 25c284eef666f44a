//! A decorator that fails on purpose: the same contract in and out, with the faults of real networks in between.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::digest::Oid;
use crate::error::{Error, Kind, Result, Retry};
use crate::manifest::{Manifest, RepoPath, Revision};
use crate::refs::{RefTarget, Refs};
use crate::remote::{Body, ByteStream, Commit, Drafts, Limits, RepoInfo, RepoSpec, Source, Staged, Target, Visibility, Wanted};

/// One thing that goes wrong, once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The stream breaks after this many bytes.
    Cut(u64),
    /// The stream ends without an error after this many bytes.
    Truncate(u64),
    /// The bit at this byte of the stream is flipped.
    Flip(u64),
    /// The stream falls silent after this many bytes.
    Stall(u64),
    /// One byte now and then: never silent, and never done.
    Drip(Duration),
    /// The stream brings more than it was asked for.
    Excess,
    /// Refused for now: 503.
    Unavailable,
    /// Refused for now: 429 with `Retry-After`.
    RateLimited(Duration),
    /// Refused for good.
    Denied,
    /// The request takes effect, and the answer is lost.
    LostAnswer,
}

/// Wraps a source or target; each call takes the next fault of its list, calls after that go well.
#[derive(Debug)]
pub struct Faulty<R> {
    inner: R,
    reads: Mutex<VecDeque<Option<Fault>>>,
    /// The last read fault goes on for ever.
    forever: bool,
    puts: Mutex<VecDeque<Option<Fault>>>,
    commits: Mutex<VecDeque<Option<Fault>>>,
}

impl<R> Faulty<R> {
    /// Nothing goes wrong yet.
    pub fn new(inner: R) -> Self {
        Self { inner, reads: Mutex::default(), forever: false, puts: Mutex::default(), commits: Mutex::default() }
    }

    /// Faults of the first reads, in order; `None` is a read that goes well.
    #[must_use]
    pub fn reads(self, faults: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self { reads: Mutex::new(faults.into_iter().collect()), ..self }
    }

    /// Every read has this fault.
    #[must_use]
    pub fn every_read(self, fault: Fault) -> Self {
        Self { reads: Mutex::new(VecDeque::from([Some(fault)])), forever: true, ..self }
    }

    /// Faults of the first puts.
    #[must_use]
    pub fn puts(self, faults: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self { puts: Mutex::new(faults.into_iter().collect()), ..self }
    }

    /// Faults of the first commits.
    #[must_use]
    pub fn commits(self, faults: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self { commits: Mutex::new(faults.into_iter().collect()), ..self }
    }

    fn next(list: &Mutex<VecDeque<Option<Fault>>>) -> Option<Fault> {
        list.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }

    fn next_read(&self) -> Option<Fault> {
        if self.forever {
            self.reads.lock().unwrap_or_else(PoisonError::into_inner).front().cloned().flatten()
        } else {
            Self::next(&self.reads)
        }
    }
}

fn refusal(fault: &Fault) -> Option<Error> {
    match fault {
        Fault::Unavailable => Some(Error::new(Kind::Unavailable, "service unavailable").context("status", 503)),
        Fault::RateLimited(wait) => {
            Some(Error::new(Kind::RateLimited, "too many requests").retry_as(Retry::After(*wait)).context("status", 429))
        }
        Fault::Denied => Some(Error::new(Kind::Denied, "forbidden").context("status", 403)),
        _ => None,
    }
}

fn lost() -> Error {
    Error::new(Kind::Unavailable, "the connection broke before the answer came").ambiguous()
}

/// Applies a fault to a stream.
fn spoil(stream: ByteStream, fault: Fault) -> ByteStream {
    let limit = match &fault {
        Fault::Cut(n) | Fault::Truncate(n) | Fault::Stall(n) => *n,
        _ => u64::MAX,
    };
    let state = (stream, fault, 0_u64);
    futures_util::stream::unfold(state, move |(mut stream, fault, at)| async move {
        if at >= limit {
            return match fault {
                Fault::Cut(_) => Some((Err(Error::new(Kind::Unavailable, "connection reset")), (stream, Fault::Truncate(0), at))),
                Fault::Stall(_) => std::future::pending().await,
                _ => None,
            };
        }
        if let Fault::Drip(pause) = fault {
            tokio::time::sleep(pause).await;
            let first = stream.next().await?.map(|piece| piece.slice(..1));
            return Some((first, (stream, fault, at)));
        }
        let mut piece = match stream.next().await {
            Some(Ok(piece)) => piece,
            None if matches!(fault, Fault::Excess) => {
                return Some((Ok(Bytes::from_static(b"more")), (stream, Fault::Truncate(0), u64::MAX)));
            }
            other => return other.map(|item| (item, (stream, fault, at))),
        };
        let left = usize::try_from(limit - at).unwrap_or(usize::MAX);
        piece.truncate(left);
        if let Fault::Flip(target) = fault
            && let Some(inside) = target.checked_sub(at).and_then(|n| usize::try_from(n).ok()).filter(|n| *n < piece.len())
        {
            let mut copy = piece.to_vec();
            copy[inside] ^= 1;
            piece = copy.into();
        }
        if matches!(fault, Fault::Excess) {
            piece = [piece, Bytes::from_static(b"more")].concat().into();
        }
        let at = at + piece.len() as u64;
        Some((Ok(piece), (stream, fault, at)))
    })
    .boxed()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Source> Source for Faulty<S> {
    async fn info(&self) -> Result<RepoInfo> {
        self.inner.info().await
    }

    async fn manifest(&self) -> Result<Manifest> {
        self.inner.manifest().await
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let fault = self.next_read();
        if let Some(error) = fault.as_ref().and_then(refusal) {
            return Err(error);
        }
        let stream = self.inner.read(at, path, range).await?;
        Ok(match fault {
            Some(fault) => spoil(stream, fault),
            None => stream,
        })
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        self.inner.is_seekable(path)
    }

    fn doubt(&self, at: &Revision, path: &RepoPath) {
        self.inner.doubt(at, path);
    }

    fn links(&self) -> Option<&dyn crate::remote::Links> {
        self.inner.links()
    }

    /// Branches and tags lead to places without faults.
    fn refs(&self) -> Option<&dyn Refs> {
        self.inner.refs()
    }

    async fn glance(&self) -> Result<crate::remote::Glance> {
        self.inner.glance().await
    }

    fn extent(&self) -> crate::remote::Extent {
        self.inner.extent()
    }
}

/// A body whose stream is spoilt on the way into the target.
struct SpoiltBody<'a> {
    inner: &'a dyn Body,
    fault: Fault,
}

#[async_trait]
impl Body for SpoiltBody<'_> {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        Ok(spoil(self.inner.read(range).await?, self.fault.clone()))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Target> Target for Faulty<T> {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        self.inner.drafts()
    }

    fn told(&self) -> Option<&dyn crate::remote::Told> {
        self.inner.told()
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        self.inner.head().await
    }

    async fn is_open(&self, created: Option<Visibility>) -> Result<bool> {
        self.inner.is_open(created).await
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.inner.create(spec).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        self.inner.missing(wanted).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        match Self::next(&self.puts) {
            None => self.inner.put(wanted, body).await,
            Some(Fault::LostAnswer) => self.inner.put(wanted, body).await.and_then(|_| Err(lost())),
            Some(fault) => match refusal(&fault) {
                Some(error) => Err(error),
                None => self.inner.put(wanted, &SpoiltBody { inner: body, fault }).await,
            },
        }
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        match Self::next(&self.commits) {
            None => self.inner.commit(change).await,
            Some(Fault::LostAnswer) => self.inner.commit(change).await.and_then(|_| Err(lost())),
            Some(fault) => Err(refusal(&fault).unwrap_or_else(|| Error::new(Kind::Unavailable, "no answer").ambiguous())),
        }
    }

    /// Branches and tags lead to places without faults.
    fn refs(&self) -> Option<&dyn RefTarget> {
        self.inner.refs()
    }
}
