//! Links to files that a hub hands out for a while: asked for once however many ranges are read at once, used until they end, and
//! asked for again when they are refused.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::manifest::RepoPath;
use reqwest::StatusCode;
use tokio::time::Instant;
use url::Url;

use crate::http::{Classifier, Origin, Response, expiry, safe_url};

/// Links kept; forgetting one costs a question to the hub, and a repository of very many files must not cost memory.
const MOST: usize = 1024;
/// A link that ends sooner than this is not begun with.
const MARGIN: Duration = Duration::from_secs(30);
/// Links that may be refused one after the other, none of which ever worked: storage may lag behind the hub once.
const MOST_REFUSED: u32 = 2;

/// A link younger than this cannot have come to its end.
const NEW: Duration = Duration::from_secs(5);

/// How the errors of a link that is refused begin.
const REFUSED: &str = "the link to the file is no longer accepted";

/// Storage that refuses a signed link means the link: a new one may be had.
pub(crate) fn refusals() -> Classifier {
    Arc::new(|refusal| match refusal.status.as_u16() {
        400 | 401 | 403 | 404 | 410 => {
            let said = refusal.message().map(|text| format!(": {text}")).unwrap_or_default();
            Some(Error::new(Kind::Unavailable, format!("{REFUSED}{said}")))
        }
        _ => None,
    })
}

/// Files that came whole although only a range of them was asked for.
#[derive(Debug, Default)]
pub(crate) struct Whole(Mutex<HashSet<RepoPath>>);

impl Whole {
    /// Notes how a range of a file of this size was answered.
    pub(crate) fn note(&self, path: &RepoPath, response: &Response, asked: &Range<u64>, size: Option<u64>) {
        let partial = asked.start > 0 || size.is_some_and(|size| asked.end < size);
        if response.status() != StatusCode::OK || !partial {
            return;
        }
        let mut files = self.files();
        if files.len() >= MOST {
            files.clear();
        }
        files.insert(path.clone());
    }

    pub(crate) fn has(&self, path: &RepoPath) -> bool {
        self.files().contains(path)
    }

    fn files(&self) -> MutexGuard<'_, HashSet<RepoPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a hub at `from` may hand out a link to `to`: what a token protects does not leave encryption because an answer says so.
pub(crate) fn check(from: &Url, to: &Url, signed_in: bool) -> Result<()> {
    let (from, target) = (Origin::of(from)?, Origin::of(to)?);
    if signed_in && from.is_encrypted() && !target.is_encrypted() {
        return Err(Error::invalid("the server redirects from https to http; it was not followed").context("location", safe_url(to)));
    }
    Ok(())
}

/// A link, and since when and until when it is good.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) url: Url,
    until: Option<SystemTime>,
    at: Instant,
}

impl Link {
    /// Whether it was made just now: asking at once for another would bring the same.
    pub(crate) fn is_new(&self) -> bool {
        self.at.elapsed() < NEW
    }
}

/// What a hub answered when it was asked for a file.
pub(crate) enum Found<T> {
    /// The file itself.
    Here(T),
    /// Where it is.
    There(Url),
}

/// What is known of one file.
#[derive(Default)]
struct Known {
    link: Option<Link>,
    /// The link was accepted at least once.
    works: bool,
    /// The hub answers with the file itself: there is nothing to wait for.
    direct: bool,
    /// Links in a row that were refused and had never worked.
    refused: u32,
}

struct File {
    known: Mutex<Known>,
    /// Held while the hub is asked.
    asking: tokio::sync::Mutex<()>,
}

/// The links of a source. No link is used longer than `life`.
pub(crate) struct Links<K> {
    files: Mutex<HashMap<K, Arc<File>>>,
    life: Duration,
}

impl File {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, life: Duration) -> Option<Link> {
        let known = self.known();
        let link = known.link.as_ref()?;
        let soon = SystemTime::now() + MARGIN;
        (link.at.elapsed() < life && link.until.is_none_or(|until| until > soon)).then(|| link.clone())
    }
}

impl<K: Eq + Hash + Clone> Links<K> {
    pub(crate) fn new(life: Duration) -> Self {
        Self { files: Mutex::default(), life }
    }

    pub(crate) fn clear(&self) {
        self.files().clear();
    }

    /// Whether the hub answered with the file itself when it was asked last.
    pub(crate) fn is_direct(&self, key: &K) -> bool {
        self.files().get(key).is_some_and(|file| file.known().direct)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<K, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, key: &K) -> Arc<File> {
        let mut files = self.files();
        if files.len() >= MOST && !files.contains_key(key) {
            files.clear();
        }
        let fresh = || Arc::new(File { known: Mutex::default(), asking: tokio::sync::Mutex::default() });
        files.entry(key.clone()).or_insert_with(fresh).clone()
    }

    /// The link of a file, or what `ask` finds: one question at a time, and whoever waits for it uses its answer.
    pub(crate) async fn find<T>(&self, key: &K, ask: impl Future<Output = Result<Found<T>>>) -> Result<Result<Link, T>> {
        let file = self.file(key);
        if let Some(link) = file.link(self.life) {
            return Ok(Ok(link));
        }
        let asking = if file.known().direct { None } else { Some(file.asking.lock().await) };
        if let Some(link) = file.link(self.life) {
            return Ok(Ok(link));
        }
        if file.known().direct {
            // Whoever asked meanwhile got the file itself, and so will everybody else, side by side.
            drop(asking);
            return Ok(Self::asked(&file, ask.await?));
        }
        Ok(Self::asked(&file, ask.await?))
    }

    fn asked<T>(file: &File, found: Found<T>) -> Result<Link, T> {
        let mut known = file.known();
        match found {
            Found::Here(it) => {
                *known = Known { direct: true, ..Known::default() };
                Err(it)
            }
            Found::There(url) => {
                // A link that ended before it came tells of a wrong clock, not of a bad link.
                let until = expiry::of(&url).filter(|until| *until > SystemTime::now() + 2 * MARGIN);
                let link = Link { url, until, at: Instant::now() };
                *known = Known { link: Some(link.clone()), refused: known.refused, ..Known::default() };
                Ok(link)
            }
        }
    }

    /// Called when a link worked.
    pub(crate) fn worked(&self, key: &K) {
        if let Some(file) = self.files().get(key) {
            let mut known = file.known();
            known.works = true;
            known.refused = 0;
        }
    }

    /// Called with the failure of a link: forgets it. A hub whose links are refused again and again has no others.
    pub(crate) fn failed(&self, key: &K, link: &Link, error: Error) -> Error {
        let Some(file) = self.files().get(key).cloned() else { return error };
        let mut known = file.known();
        let is_current = known.link.as_ref().is_some_and(|current| current.url == link.url);
        if is_current {
            known.link = None;
        }
        if !is_refused(&error) {
            return error;
        }
        // One link may be refused many times at once: that counts once. One that worked has come to its end.
        known.refused += u32::from(is_current && !known.works);
        if known.refused < MOST_REFUSED {
            return error;
        }
        error.retry_as(Retry::No).hint("the storage refuses links that the hub has just made: check the clock, or try another network")
    }
}

/// Whether a link was refused, as opposed to a failure that has nothing to do with it.
pub(crate) fn is_refused(error: &Error) -> bool {
    error.message().starts_with(REFUSED)
}
