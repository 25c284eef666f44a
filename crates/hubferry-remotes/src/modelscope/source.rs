//! A repository on ModelScope as a source.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use hubferry_core::address::RepoKind;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Event;
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::refs::Refs;
use hubferry_core::remote::{ByteStream, RepoInfo, Source, check_range};
use serde_json::Value;

use super::DEFAULT_BRANCH;
use super::fault::{Route, integer};
use super::repo::{Listed, Repo};
use crate::http::{BULK, Redirects, Response};
use crate::links::{self, Found, Link, Links, Whole};

/// The largest error body that may stand in the place of a file.
const LARGEST_ERROR: u64 = 64 << 10;

/// Links to the CDN are good for twenty minutes or more.
const LINK_TIME: Duration = Duration::from_mins(15);

/// Links that end one after the other while one range is asked for.
const MOST_ENDED: usize = 3;

/// Longest chain of redirects between the hub's own pages.
const MOST_REDIRECTS: usize = 10;

/// A model or dataset on ModelScope.
pub struct MsSource {
    repo: Arc<Repo>,
    name: String,
    listed: Mutex<Option<Arc<Listed>>>,
    /// Signed links by revision and path.
    links: Links<(Revision, RepoPath)>,
    whole: Whole,
}

impl MsSource {
    pub(super) fn new(repo: Arc<Repo>, rev: Option<String>) -> Self {
        Self {
            repo,
            name: rev.unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
            listed: Mutex::default(),
            links: Links::new(LINK_TIME),
            whole: Whole::default(),
        }
    }

    pub(super) fn repo(&self) -> &Arc<Repo> {
        &self.repo
    }

    /// The branch, tag or commit that is read.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    async fn list(&self) -> Result<Arc<Listed>> {
        let (kind, facts) = self.repo.require().await?;
        if kind == RepoKind::Dataset && matches!(facts.get("Type").and_then(integer), Some(1 | 2)) {
            self.repo.api.reporter.event(&Event::Note(format!(
                "{} is a dataset of an old type: it may have files outside its repository, which are not listed",
                self.repo.id
            )));
        }
        let listed = Arc::new(self.repo.list(kind, &self.name).await?);
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listed));
        self.links.clear();
        Ok(listed)
    }

    fn last(&self, at: &Revision) -> Option<Arc<Listed>> {
        let last = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|listed| listed.manifest.revision == *at)
    }

    /// How to ask for files of `at`, and the size of `path` where the listing says it.
    async fn place(&self, at: &Revision, path: &RepoPath) -> Result<(RepoKind, String, Option<u64>)> {
        let kind = self.repo.require_kind().await?;
        let listed = match self.last(at) {
            Some(listed) => Some(listed),
            // Not a commit id, so only the listing it was made from says what it means.
            None if at.as_str().len() != 40 => Some(self.list().await?).filter(|listed| listed.manifest.revision == *at),
            None => None,
        };
        match listed {
            Some(listed) => {
                let entry =
                    listed.manifest.entries.get(path).ok_or_else(|| {
                        Error::not_found(format!("{} has no file {path:?}", self.repo.id)).context("revision", at.short())
                    })?;
                Ok((kind, listed.asked.clone(), Some(entry.size)))
            }
            None if at.as_str().len() != 40 => {
                Err(Error::new(Kind::Changed, format!("{} is no longer what it was when it was listed", self.repo.id)))
            }
            None => Ok((kind, at.to_string(), None)),
        }
    }
}

#[async_trait]
impl Source for MsSource {
    async fn info(&self) -> Result<RepoInfo> {
        let (kind, facts) = self.repo.require().await?;
        Ok(self.repo.info(kind, &facts))
    }

    async fn manifest(&self) -> Result<Manifest> {
        Ok(self.list().await?.manifest.clone())
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let (kind, revision, size) = self.place(at, path).await?;
        check_range(&range, size.unwrap_or(u64::MAX))?;
        if range.is_empty() {
            // For an empty file the hub answers that there is none.
            return Ok(stream::empty().boxed());
        }
        let key = (at.clone(), path.clone());
        let asked = Asked { kind, revision, size };
        for _ in 0..MOST_ENDED {
            if let Some(stream) = self.try_read(&key, &asked, &range).await? {
                return Ok(stream);
            }
        }
        Err(Error::new(Kind::Unavailable, "links to the file end as soon as they are made").context("file", path))
    }

    fn host(&self) -> Option<String> {
        crate::http::authority(self.repo.api.endpoint())
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        !self.whole.has(path)
    }

    fn refs(&self) -> Option<&dyn Refs> {
        Some(self)
    }
}

/// How a file is asked for.
struct Asked {
    kind: RepoKind,
    revision: String,
    size: Option<u64>,
}

impl MsSource {
    /// One try to read `range`, by a link where there is one. `None` when that link has come to its end.
    async fn try_read(&self, key: &(Revision, RepoPath), asked: &Asked, range: &Range<u64>) -> Result<Option<ByteStream>> {
        let link = match self.links.find(key, self.find(key, asked, range)).await? {
            Ok(link) => link,
            Err(response) => return self.stream(&key.1, response, range, asked.size).map(Some),
        };
        match self.follow(key, &link, range, asked.size).await {
            Err(error) if links::is_refused(&error) && !link.is_new() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Asks the hub for `range` of a file. A small one comes at once, a large one from a CDN, by a link for some minutes.
    async fn find(&self, key: &(Revision, RepoPath), asked: &Asked, range: &Range<u64>) -> Result<Found<Response>> {
        let api = &self.repo.api;
        let mut url = api.repo_url(asked.kind, &self.repo.id, &["repo"])?;
        url.query_pairs_mut().append_pair("Revision", &asked.revision).append_pair("FilePath", key.1.as_str());
        for _ in 0..MOST_REDIRECTS {
            let bulk = is_bulk(range) && self.links.is_direct(key);
            let request = api.http.get(url.clone()).range(range).bulk(bulk).redirects(Redirects::Keep);
            let response = api.send(Route::Read, request).await?;
            let Some(target) = response.location() else {
                return self.refuse_error_body(response, asked.size).await.map(Found::Here);
            };
            let moved_for_good = matches!(response.status().as_u16(), 301 | 308) && api.holds(&target);
            // The few bytes of text are read so that the connection can be used again; nothing depends on them.
            let _ = response.discard().await;
            links::check(&url, &target, api.has_token())?;
            if !moved_for_good {
                return Ok(Found::There(target));
            }
            url = target;
        }
        Err(Error::invalid(format!("the hub redirects more than {MOST_REDIRECTS} times")).context("file", &key.1))
    }

    /// Reads from a link; our credential stays here, unless the link leads to the hub itself.
    async fn follow(&self, key: &(Revision, RepoPath), link: &Link, range: &Range<u64>, size: Option<u64>) -> Result<ByteStream> {
        let request = self.repo.api.get_link(link.url.clone()).range(range).bulk(is_bulk(range)).classify(&links::refusals());
        match request.send().await.and_then(|response| self.stream(&key.1, response, range, size)) {
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

    /// The hub may answer 200 with an error in JSON where the file should be. What has the file's size is taken for the file: its
    /// hash tells.
    async fn refuse_error_body(&self, response: Response, size: Option<u64>) -> Result<Response> {
        let is_json = response.header("content-type").is_some_and(|text| text.to_ascii_lowercase().contains("json"));
        let length = response.header("content-length").and_then(|text| text.trim().parse::<u64>().ok());
        let suspicious = is_json && response.status() == 200 && length.is_some_and(|n| n <= LARGEST_ERROR && Some(n) != size);
        if !suspicious || size.is_none() {
            return Ok(response);
        }
        let otherwise = response.error(Kind::Changed, "the file has another size than it was listed with");
        let body = response.bytes(usize::try_from(LARGEST_ERROR).unwrap_or(usize::MAX)).await?;
        if let Ok(body) = serde_json::from_slice::<Value>(&body) {
            self.repo.api.check(Route::Read, &body)?;
        }
        Err(otherwise)
    }
}

fn is_bulk(range: &Range<u64>) -> bool {
    range.end - range.start >= BULK
}

impl fmt::Debug for MsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsSource").field("repo", &self.repo).field("name", &self.name).finish_non_exhaustive()
    }
}
