//! A repository on ModelScope as a source.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use hubferry_core::address::RepoKind;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Event;
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source, check_range};
use serde_json::Value;

use super::DEFAULT_BRANCH;
use super::fault::{Route, integer};
use super::repo::{Listed, Refs, Repo};
use crate::http::{Redirects, Response};

/// The largest error body that may stand in the place of a file.
const LARGEST_ERROR: u64 = 64 << 10;

/// A model or dataset on ModelScope.
#[derive(Debug)]
pub struct MsSource {
    repo: Arc<Repo>,
    name: String,
    listed: Mutex<Option<Arc<Listed>>>,
}

impl MsSource {
    pub(super) fn new(repo: Arc<Repo>, rev: Option<String>) -> Self {
        Self { repo, name: rev.unwrap_or_else(|| DEFAULT_BRANCH.to_owned()), listed: Mutex::default() }
    }

    /// Its branches and tags.
    pub async fn refs(&self) -> Result<Refs> {
        let (kind, _) = self.repo.require().await?;
        self.repo.refs(kind).await
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
        let api = &self.repo.api;
        let url = api.repo_url(kind, &self.repo.id, &["repo"])?;
        let query = [("Revision", revision.as_str()), ("FilePath", path.as_str())];
        // A large file comes from a CDN, by a link that is made anew each time we ask; our credential stays here.
        let request = api.http.get(url).query(query).range(&range).redirects(Redirects::Follow);
        let response = api.send(Route::Read, request).await?;
        let response = self.refuse_error_body(response, size).await?;
        response.into_stream(range, size)
    }
}

impl MsSource {
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
