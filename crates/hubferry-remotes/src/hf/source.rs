//! Reading a repository: one listing at a commit, then every file straight from where the hub keeps it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::refs::Refs;
use hubferry_core::remote::{ByteStream, Links, RepoInfo, Source, Visibility, check_range};

use super::Place;
use super::api::{Info, Repo};
use crate::http::{BULK, Origin, Redirects, Response};
use crate::links::{self, Found, Link, Whole};

/// Longest chain of redirects between the hub's own pages.
const MOST_REDIRECTS: usize = 10;

/// Links that end one after the other while one range is asked for.
const MOST_ENDED: usize = 3;

/// Signed links of the hub are good for an hour; a fresh one is surely good for this long.
const LINK_TIME: Duration = Duration::from_mins(50);

/// A branch that was looked at this long ago is still what a listing begins with.
const FRESH: Duration = Duration::from_secs(10);

/// A repository to read.
pub struct HfSource {
    place: Arc<Place>,
    /// What the hub said of the repository: whoever lists it right after that need not ask again.
    looked: Mutex<Option<(Instant, Repo, Info)>>,
    /// What the last listing said of each file, to notice a hub that serves something else.
    listed: Mutex<Option<Arc<Manifest>>>,
    /// Signed links by commit and path.
    links: links::Links<File>,
    whole: Whole,
}

type File = (Revision, RepoPath);

impl HfSource {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self { place, looked: Mutex::default(), listed: Mutex::default(), links: links::Links::new(LINK_TIME), whole: Whole::default() }
    }

    fn entry(&self, at: &Revision, path: &RepoPath) -> Option<Entry> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.as_ref().filter(|manifest| manifest.revision == *at)?.entries.get(path).copied()
    }

    /// Asks the hub for `range` of a file, or for a link to it. The hub's own redirects are followed; one that says what the file
    /// is, or that leads to another host, is the link.
    async fn find(&self, repo: &Repo, (at, path): &File, range: &Range<u64>, bulk: bool) -> Result<Found<Response>> {
        let api = &self.place.api;
        let classifier = api.asked(repo, false).classifier();
        let mut url = api.file_url(repo, at.as_str(), path)?;
        for _ in 0..MOST_REDIRECTS {
            let request = api.http.get(url.clone()).credential(api.credential.as_ref()).classify(&classifier).redirects(Redirects::Keep);
            let response = request.range(range).bulk(bulk).send().await.map_err(|e| e.context("file", path))?;
            api.note_warning(&response);
            self.check(&response, at, path)?;
            #[cfg(feature = "xet")]
            api.listed.learn(at, path, response.header("x-xet-hash"));
            let Some(target) = response.location() else { return Ok(Found::Here(response)) };
            links::check(&url, &target, api.credential.is_some())?;
            let leaves = Origin::of(&target)? != Origin::of(&url)?;
            let is_link = leaves || response.header("x-linked-etag").is_some();
            // The few bytes of text are read so that the connection can be used again; nothing depends on them.
            let _ = response.discard().await;
            if is_link {
                return Ok(Found::There(target));
            }
            url = target;
        }
        Err(Error::invalid(format!("the hub redirects more than {MOST_REDIRECTS} times")).context("file", path))
    }

    /// Compares what the hub says of the file now with what it said in the listing.
    fn check(&self, response: &Response, at: &Revision, path: &RepoPath) -> Result<()> {
        let Some(entry) = self.entry(at, path) else { return Ok(()) };
        let tag = |name: &str| response.header(name).map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase());
        let changed = |what: &str, said: &str| {
            Err(response.error(Kind::Changed, format!("the hub now has another file there: its {what} is {said}")).context("file", path))
        };
        if let (Some(said), Some(sha256)) = (tag("x-linked-etag").filter(|tag| tag.len() == 64), entry.digests.sha256)
            && said != sha256.to_string()
        {
            return changed("hash", &said);
        }
        if let Some(said) = tag("x-linked-size").and_then(|size| size.parse::<u64>().ok())
            && said != entry.size
        {
            return changed("size", &said.to_string());
        }
        // Proxies make tags of their own; only one in the form of a Git id is compared with one.
        if let (Some(said), Some(git)) = (tag("etag").filter(|tag| tag.len() == 40), entry.digests.git)
            && tag("x-linked-etag").is_none()
            && said.bytes().all(|b| b.is_ascii_hexdigit())
            && said != git.to_string()
        {
            return changed("Git id", &said);
        }
        Ok(())
    }

    /// Reads from a link. When it is refused the link is forgotten, and trying again asks the hub for a new one.
    async fn follow(&self, key: &File, link: &Link, range: &Range<u64>) -> Result<ByteStream> {
        let api = &self.place.api;
        // The credential goes along only if the link lies in the hub's own origin; the request sees to that.
        let request = api.http.get(link.url.clone()).credential(api.credential.as_ref()).range(range).bulk(is_bulk(range));
        let size = self.entry(&key.0, &key.1).map(|entry| entry.size);
        let answer = request.classify(&links::refusals()).send().await;
        match answer.and_then(|response| self.stream(&key.1, response, range, size)) {
            Ok(stream) => {
                self.links.worked(key);
                Ok(stream)
            }
            Err(error) => Err(self.links.failed(key, link, error).context("file", &key.1)),
        }
    }

    fn stream(&self, path: &RepoPath, response: Response, range: &Range<u64>, size: Option<u64>) -> Result<ByteStream> {
        self.whole.note(path, &response, range, size);
        response.into_stream(range.clone(), size)
    }

    /// One try to read `range`, by a link where there is one. `None` when that link has come to its end.
    async fn try_read(&self, key: &File, range: &Range<u64>) -> Result<Option<ByteStream>> {
        let ask = async {
            let repo = self.place.repo(false).await?;
            self.find(&repo, key, range, is_bulk(range) && self.links.is_direct(key)).await
        };
        let link = match self.links.find(key, ask).await? {
            Ok(link) => link,
            Err(response) => {
                let size = self.entry(&key.0, &key.1).map(|entry| entry.size);
                return self.stream(&key.1, response, range, size).map(Some).map_err(|e| e.context("file", &key.1));
            }
        };
        match self.follow(key, &link, range).await {
            Err(error) if links::is_refused(&error) && !link.is_new() => Ok(None),
            other => other.map(Some),
        }
    }
}

fn is_bulk(range: &Range<u64>) -> bool {
    range.end - range.start >= BULK
}

#[async_trait]
impl Source for HfSource {
    async fn info(&self) -> Result<RepoInfo> {
        let (repo, info) = self.place.look(self.place.rev.as_deref(), false).await?;
        let described = self.place.api.describe(&repo, &info);
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), repo, info));
        Ok(described)
    }

    async fn manifest(&self) -> Result<Manifest> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let manifest = match looked {
            Some((when, repo, info)) if when.elapsed() < FRESH => self.place.manifest_of(&repo, &info, false).await?,
            _ => self.place.manifest(self.place.rev.as_deref(), false).await?,
        };
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(manifest.clone()));
        self.links.clear();
        Ok(manifest)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let entry = self.entry(at, path);
        check_range(&range, entry.map_or(u64::MAX, |entry| entry.size))?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        #[cfg(feature = "xet")]
        if let Some(stream) = self.place.read_by_xet(at, path, entry, &range) {
            return Ok(stream);
        }
        let key = (at.clone(), path.clone());
        for _ in 0..MOST_ENDED {
            if let Some(stream) = self.try_read(&key, &range).await? {
                return Ok(stream);
            }
        }
        Err(Error::new(Kind::Unavailable, "links to the file end as soon as they are made").context("file", path))
    }

    fn host(&self) -> Option<String> {
        crate::http::authority(&self.place.api.endpoint)
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        !self.whole.has(path)
    }

    #[cfg(feature = "xet")]
    fn doubt(&self, _: &Revision, path: &RepoPath) {
        self.place.doubt_xet(path);
    }

    fn links(&self) -> Option<&dyn Links> {
        Some(self)
    }

    fn refs(&self) -> Option<&dyn Refs> {
        Some(&*self.place)
    }
}

#[async_trait]
impl Links for HfSource {
    async fn link(&self, at: &Revision, path: &RepoPath, ttl: Duration) -> Result<String> {
        if ttl > LINK_TIME {
            return Err(Error::new(Kind::Unsupported, format!("links of the hub are good for {} s only", LINK_TIME.as_secs())));
        }
        let (repo, info) = self.place.look(None, false).await?;
        match self.find(&repo, &(at.clone(), path.clone()), &(0..1), false).await? {
            Found::There(link) => Ok(link.into()),
            Found::Here(_) if info.visibility() == Some(Visibility::Public) => {
                Ok(self.place.api.file_url(&repo, at.as_str(), path)?.into())
            }
            Found::Here(_) => {
                Err(Error::new(Kind::Unsupported, "the hub has no link to small files of a private repository").context("file", path))
            }
        }
    }
}

impl fmt::Debug for HfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HfSource").field(&self.place).finish()
    }
}
