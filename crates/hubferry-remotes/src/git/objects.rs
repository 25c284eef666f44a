//! Files that Git LFS holds, read from where the hub's batch answers say. One question covers the next objects as well, because a
//! question for each would cost more than a small object itself.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Manifest, RepoPath};
use hubferry_core::remote::ByteStream;
use tokio::time::Instant;

use crate::http::{BULK, Request};
use crate::lfs::{Action, Lfs};
use crate::links::{self, Found, Link, Links, Whole};

/// Objects in one question; every server takes so many.
const AHEAD: usize = 100;
/// How long an answer that nobody has used yet is good.
const FRESH: Duration = Duration::from_mins(5);
/// How long a link is used; servers sign them for an hour or more, and say so where it is less.
const LINK_TIME: Duration = Duration::from_mins(15);
/// Links that end one after the other while one range is asked for.
const MOST_ENDED: usize = 3;
/// Headers that came with links are remembered of this many objects.
const MOST_HEADERS: usize = 4096;

type Headers = Vec<(String, String)>;

/// The large objects of one revision.
pub(super) struct LargeObjects {
    lfs: Lfs,
    /// In the order in which they are likely to be read.
    order: Vec<Blob>,
    place: HashMap<Oid, usize>,
    links: Links<Oid>,
    whole: Whole,
    /// Answers that nobody has used yet.
    ahead: Mutex<HashMap<Oid, (Instant, Action)>>,
    headers: Mutex<HashMap<Oid, Headers>>,
    /// Held while the hub is asked: who waits finds the answer to many questions.
    asking: tokio::sync::Mutex<()>,
}

impl LargeObjects {
    pub(super) fn new(lfs: Lfs, manifest: &Manifest) -> Self {
        let (mut order, mut place) = (Vec::new(), HashMap::new());
        for blob in manifest.entries.values().filter(|entry| entry.lfs).filter_map(hubferry_core::manifest::Entry::blob) {
            place.entry(blob.oid).or_insert_with(|| {
                order.push(blob);
                order.len() - 1
            });
        }
        Self {
            lfs,
            order,
            place,
            links: Links::new(LINK_TIME),
            whole: Whole::default(),
            ahead: Mutex::default(),
            headers: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the storage was not seen to ignore ranges of this file.
    pub(super) fn is_seekable(&self, path: &RepoPath) -> bool {
        !self.whole.has(path)
    }

    /// A part of an object.
    pub(super) async fn read(&self, blob: &Blob, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        for _ in 0..MOST_ENDED {
            let ask = async { Ok(Found::<()>::There(self.find(blob).await.map_err(|error| error.context("file", path))?)) };
            let Ok(link) = self.links.find(&blob.oid, ask).await? else { break };
            match self.follow(blob, path, &link, &range).await {
                Err(error) if links::is_refused(&error) && !link.is_new() => {}
                other => return other,
            }
        }
        Err(Error::new(Kind::Unavailable, "links to the file end as soon as they are made").context("file", path))
    }

    async fn follow(&self, blob: &Blob, path: &RepoPath, link: &Link, range: &Range<u64>) -> Result<ByteStream> {
        let answer = self.request(blob, link).range(range).bulk(range.end - range.start >= BULK).send().await;
        let stream = answer.and_then(|response| {
            self.whole.note(path, &response, range, Some(blob.size));
            response.into_stream(range.clone(), Some(blob.size))
        });
        match stream {
            Ok(stream) => {
                self.links.worked(&blob.oid);
                Ok(stream)
            }
            Err(error) => Err(self.links.failed(&blob.oid, link, error).context("file", path)),
        }
    }

    /// With the headers that came with the link. Ours go along only to the hub's own origin, and where the link brings none that
    /// say who we are.
    fn request(&self, blob: &Blob, link: &Link) -> Request {
        let request = self.lfs.http.get(link.url.clone()).classify(&links::refusals());
        let headers = lock(&self.headers).get(&blob.oid).cloned().unwrap_or_default();
        let says_who = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        if says_who { request } else { request.credential(self.lfs.credential.as_ref()) }
    }

    async fn find(&self, blob: &Blob) -> Result<url::Url> {
        let action = match self.known(blob) {
            Some(action) => action,
            None => self.ask(blob).await?,
        };
        let mut headers = lock(&self.headers);
        headers.remove(&blob.oid);
        if !action.headers.is_empty() {
            if headers.len() >= MOST_HEADERS {
                headers.clear();
            }
            headers.insert(blob.oid, action.headers);
        }
        Ok(action.url)
    }

    /// An answer that came with an earlier question. It is used once: who asks again was refused.
    fn known(&self, blob: &Blob) -> Option<Action> {
        let (at, action) = lock(&self.ahead).remove(&blob.oid)?;
        (at.elapsed() < FRESH).then_some(action)
    }

    async fn ask(&self, blob: &Blob) -> Result<Action> {
        let _turn = self.asking.lock().await;
        if let Some(action) = self.known(blob) {
            return Ok(action);
        }
        let Some(first) = self.place.get(&blob.oid).copied() else { return self.lfs.download(blob).await };
        let some: Vec<Blob> = self.order.iter().skip(first).take(AHEAD).copied().collect();
        let answers = self.lfs.downloads(&some).await?;
        let at = Instant::now();
        let mut wanted = None;
        let mut ahead = lock(&self.ahead);
        // What nobody came for is stale by the time that somebody might.
        ahead.retain(|_, (since, _)| since.elapsed() < FRESH);
        for (other, answer) in some.iter().zip(answers) {
            match answer {
                answer if other.oid == blob.oid => wanted = Some(answer),
                Ok(action) => drop(ahead.insert(other.oid, (at, action))),
                // Said when that object is asked for itself.
                Err(_) => {}
            }
        }
        wanted.unwrap_or_else(|| Err(Error::new(Kind::Bug, "an object was not asked for")))
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for LargeObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeObjects").field("lfs", &self.lfs).field("objects", &self.order.len()).finish_non_exhaustive()
    }
}
