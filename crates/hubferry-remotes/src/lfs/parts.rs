//! One object in parts: several are on their way at once, each is tried again alone, and all are joined in the end. What is stored
//! is noted.
//!
//! Parts are begun in their order, because the hash of the whole runs in order: what is ahead of it waits in memory. A part that an
//! earlier run stored is not sent again. Where the hash has to see its bytes all the same, they are compared with what was sent
//! then, and only a part that differs is sent once more. So a part that was wrong is replaced and the others stay.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::digest::{Fingerprint, Fingerprinter};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Body, ByteStream, pass};
use hubferry_core::transfer::retry::{RetryPolicy, retrying};
use serde_json::{Value, json};

use super::answer::{Action, Actions};
use super::grant::{Grant, Stop};
use super::note::{Earlier, Note, Stored, is_tag};
use super::{Lfs, MEDIA, NOT_TAKEN, SLOW, is_refused, storage_classifier};

/// Bytes that several parts may be ahead of the hash. With larger parts fewer are sent at once: they would only wait for memory
/// while the storage waits for them.
const AHEAD: u64 = 64 << 20;
/// A part is only stored, not looked into: the answer comes soon.
const ANSWER: Duration = Duration::from_mins(1);
/// A slow line takes minutes for one part; its tries are counted, not timed.
const PART_TIME: Duration = Duration::from_mins(10);

/// Sends what is not stored yet, in parts of `size` bytes, and completes the upload.
pub(super) async fn send(
    lfs: &Lfs,
    blob: &Blob,
    body: &dyn Body,
    grant: &Grant<'_>,
    size: u64,
    note: &Note,
    earlier: Option<Earlier>,
) -> Result<(), Stop> {
    let actions = grant.current().await.actions;
    let (seed, stored, prefix) = match earlier {
        Some(earlier) => (earlier.seed, earlier.stored, earlier.prefix),
        None => (fastrand::u64(..), BTreeMap::new(), None),
    };
    let resumed = prefix.is_some();
    let from = prefix.map_or(0, |prefix| body.resume(prefix));
    let state = Mutex::new(State { stored, hashed: BTreeSet::new(), passed: 0 });
    let sending = Sending { lfs, blob, body, grant, size, note, actions, seed, from, state };
    match sending.run().await {
        Err(Stop::Failed(error)) if error.kind() == Kind::Corrupt => {
            note.doubt().await;
            Err(error.into())
        }
        Err(Stop::Other(at, actions)) => {
            note.remove().await;
            if !resumed {
                return Err(Stop::Other(at, actions));
            }
            // This body has hashed only what the earlier upload lacked; all of it must be read now, by a body that begins anew.
            if let Some(at) = at {
                lfs.kept.keep(blob.oid, at, *actions);
            }
            Err(Error::new(Kind::Unavailable, "the server forgot what an earlier run had sent; the file is sent from its start").into())
        }
        other => other,
    }
}

struct Sending<'a> {
    lfs: &'a Lfs,
    blob: &'a Blob,
    body: &'a dyn Body,
    grant: &'a Grant<'a>,
    size: u64,
    note: &'a Note,
    /// Those it began with: they name the upload.
    actions: Arc<Actions>,
    seed: u64,
    /// What lies before was hashed by an earlier run.
    from: u64,
    state: Mutex<State>,
}

struct State {
    stored: BTreeMap<usize, Stored>,
    /// Parts that are stored as the hash saw them.
    hashed: BTreeSet<usize>,
    /// How many of those there are from the first on without a gap.
    passed: usize,
}

impl Sending<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(&self, number: usize) -> Range<u64> {
        let start = (number as u64).saturating_mul(self.size);
        start..start.saturating_add(self.size).min(self.blob.size)
    }

    fn parts(&self) -> usize {
        self.actions.parts().len()
    }

    async fn run(&self) -> Result<(), Stop> {
        let open: Vec<usize> = {
            let mut state = self.state();
            let is_done = |state: &State, number: usize| state.stored.contains_key(&number) && self.range(number).end <= self.from;
            let (done, open): (Vec<usize>, Vec<usize>) = (0..self.parts()).partition(|number| is_done(&state, *number));
            state.hashed.extend(done);
            open
        };
        let ahead = usize::try_from(AHEAD / self.size).unwrap_or(usize::MAX).saturating_add(1);
        let lanes = self.lfs.parallel_parts.clamp(1, ahead);
        let sending = open.into_iter().map(|number| async move { Ok::<_, Stop>((number, self.part(number).await?)) });
        let mut running = stream::iter(sending).buffer_unordered(lanes);
        while let Some((number, new)) = running.try_next().await? {
            self.note(number, new).await;
        }
        drop(running);
        if self.from == self.blob.size {
            pass(self.body, self.from..self.from).await?;
        }
        self.complete().await
    }

    /// Makes sure that part `number` is stored as the hash sees it now. Says what is new.
    async fn part(&self, number: usize) -> Result<Option<Stored>, Stop> {
        let noted = self.state().stored.get(&number).map(|stored| stored.is);
        if let Some(noted) = noted
            && self.fingerprint(self.range(number)).await? == noted
        {
            return Ok(None);
        }
        loop {
            let granted = self.grant.current().await;
            let url = granted.actions.parts().get(number).ok_or_else(|| Error::new(Kind::Bug, "a part has no link"))?.clone();
            let action = Action { url, headers: Vec::new() };
            match self.store(&action, number).await {
                Ok(stored) => {
                    self.grant.worked().await;
                    return Ok(Some(stored));
                }
                Err(error) if is_refused(&error) => self.grant.renew(&granted, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn fingerprint(&self, range: Range<u64>) -> Result<Fingerprint> {
        let mut print = Fingerprinter::new(self.seed);
        let mut stream = self.body.read(range).await?;
        while let Some(piece) = stream.next().await {
            print.update(&piece?);
        }
        Ok(print.finish())
    }

    /// Sends one part, again and again while its failures may pass.
    async fn store(&self, action: &Action, number: usize) -> Result<Stored> {
        let policy = RetryPolicy { total: PART_TIME, ..self.lfs.retry };
        let what = format!("sending part {}", number + 1);
        let call = || async {
            match self.put(action, self.range(number)).await {
                // Neither is cured by the same request: the one wants a fresh link, the other another reading of the whole.
                Err(error) if is_refused(&error) || error.kind() == Kind::Corrupt => Ok(Err(error)),
                other => other.map(Ok),
            }
        };
        retrying(&policy, &*self.lfs.reporter, &what, call).await?
    }

    async fn put(&self, action: &Action, range: Range<u64>) -> Result<Stored> {
        let length = range.end - range.start;
        let (stream, print) = watched(self.body.read(range).await?, self.seed);
        let stream = begun(stream).await?;
        let response = self.lfs.storage_put(action, length).answer_within(ANSWER).stream(length, stream).send().await?;
        let etag = response.header("etag").map(str::trim).filter(|etag| is_tag(etag)).map(str::to_owned);
        let missing = response.error(Kind::Unavailable, "the storage took a part but did not name it");
        let _ = response.discard().await;
        let is = print.lock().unwrap_or_else(PoisonError::into_inner).finish();
        Ok(Stored { etag: etag.ok_or(missing)?, is })
    }

    /// Notes that a part is done, and how far the hash has come.
    async fn note(&self, number: usize, new: Option<Stored>) {
        let (before, passed) = {
            let mut state = self.state();
            if let Some(new) = &new {
                state.stored.insert(number, new.clone());
            }
            state.hashed.insert(number);
            let before = state.passed;
            while state.hashed.contains(&state.passed) {
                state.passed += 1;
            }
            (before, state.passed)
        };
        // The hash may be a little behind what was sent.
        let prefix = (before..passed).rev().find_map(|part| self.body.prefix(self.range(part).end));
        self.note.add(self.blob, &self.actions, self.seed, new.as_ref().map(|new| (number, new)), prefix).await;
    }

    async fn complete(&self) -> Result<(), Stop> {
        let parts: Vec<Value> = {
            let state = self.state();
            (0..self.parts()).map(|number| json!({"partNumber": number + 1, "etag": state.stored.get(&number).map(|s| &s.etag)})).collect()
        };
        let body = json!({"oid": self.blob.oid, "parts": parts});
        loop {
            let granted = self.grant.current().await;
            match self.join(&granted.actions.upload, &body).await {
                Ok(()) => return Ok(()),
                Err(error) if is_refused(&error) => self.grant.renew(&granted, error).await?,
                Err(error) => {
                    if error.message().starts_with(NOT_TAKEN) {
                        // Some part is not what we take it for, and the storage does not say which.
                        self.note.remove().await;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn join(&self, action: &Action, body: &Value) -> Result<()> {
        let lfs = self.lfs;
        let call = || async {
            // The link is signed; the protocol wants no credential here.
            let request = lfs.http.post(action.url.clone()).repeatable(true).answer_within(SLOW);
            let request = action.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let request = request.header("accept", MEDIA).header("content-type", MEDIA).json(body);
            let sent = async { request.classify(&storage_classifier()).send().await?.discard().await };
            match sent.await {
                Err(error) if is_refused(&error) => Ok(Err(error)),
                other => other.map(Ok),
            }
        };
        retrying(&lfs.retry, &*lfs.reporter, "joining the parts of a large object", call).await?
    }
}

type Print = Arc<Mutex<Fingerprinter>>;

/// Passes a stream on and takes the fingerprint of what went by.
fn watched(stream: ByteStream, seed: u64) -> (ByteStream, Print) {
    let print = Arc::new(Mutex::new(Fingerprinter::new(seed)));
    let taken = print.clone();
    let stream = stream.inspect_ok(move |piece| taken.lock().unwrap_or_else(PoisonError::into_inner).update(piece)).boxed();
    (stream, print)
}

/// Waits for the first piece: storage closes connections on which nothing comes for some seconds.
async fn begun(mut stream: ByteStream) -> Result<ByteStream> {
    match stream.next().await {
        Some(first) => Ok(stream::iter([Ok(first?)]).chain(stream).boxed()),
        None => Ok(stream),
    }
}
