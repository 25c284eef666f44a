//! A repository as a source, read by Git alone.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::{StreamExt as _, stream};
use hubferry_core::address::RepoKind;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source, check_range};
use tokio::task::AbortHandle;

use super::GitConfig;
use super::blobs::SMALL;
use super::fetch::{Fetched, Want, fetch, is_commit};

/// Revisions that are kept here at once: the one that is read, and one that a later listing found.
const MOST_HERE: usize = 2;

/// A repository, by Git.
pub struct GitSource {
    config: Arc<GitConfig>,
    /// Asked what Git does not know: who may read it, its licence.
    api: Arc<dyn Source>,
    /// Newest last.
    here: Mutex<Vec<Arc<Fetched>>>,
    /// What is on its way: who gives up waiting for it does not end it.
    fetching: tokio::sync::Mutex<Vec<Fetching>>,
}

struct Fetching {
    want: Want,
    outcome: Shared<BoxFuture<'static, Outcome>>,
    task: AbortHandle,
}

type Outcome = std::result::Result<Arc<Fetched>, Arc<Error>>;

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitSource {
    /// Reads the repository of `config`; asks nothing yet. `api` is the same by its API.
    pub(crate) fn new(config: GitConfig, api: Arc<dyn Source>) -> Self {
        Self { config: Arc::new(config), api, here: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The same repository at another revision; `api` is that by its API.
    pub(super) fn at_rev(&self, rev: &str, api: Arc<dyn Source>) -> Self {
        Self::new(GitConfig { rev: Some(rev.to_owned()), ..GitConfig::clone(&self.config) }, api)
    }

    fn here(&self) -> MutexGuard<'_, Vec<Arc<Fetched>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Option<Arc<Fetched>> {
        self.here().last().cloned()
    }

    async fn bring(&self, want: Want) -> Result<Arc<Fetched>> {
        let outcome = {
            let mut fetching = self.fetching.lock().await;
            if let Some(running) = fetching.iter().find(|running| running.want == want) {
                running.outcome.clone()
            } else {
                let begun = self.begin(want);
                let outcome = begun.outcome.clone();
                fetching.push(begun);
                outcome
            }
        };
        let fetched = outcome.await;
        self.fetching.lock().await.retain(|running| running.outcome.peek().is_none());
        let fetched = fetched.map_err(|error| error.duplicate())?;
        let mut here = self.here();
        if !here.iter().any(|known| Arc::ptr_eq(known, &fetched)) {
            here.push(fetched.clone());
            let surplus = here.len().saturating_sub(MOST_HERE);
            here.drain(..surplus);
        }
        Ok(fetched)
    }

    fn begin(&self, want: Want) -> Fetching {
        let (config, here, wanted) = (self.config.clone(), self.here().clone(), want.clone());
        let running = tokio::spawn(async move { fetch(&config, &wanted, &here).await });
        let task = running.abort_handle();
        let outcome = running.map(|ended| match ended {
            Ok(Ok(fetched)) => Ok(fetched),
            Ok(Err(error)) => Err(Arc::new(error)),
            Err(error) if error.is_cancelled() => Err(Arc::new(Error::new(Kind::Interrupted, "a fetch by Git was given up"))),
            Err(_) => Err(Arc::new(Error::new(Kind::Bug, "a fetch by Git ended in the middle"))),
        });
        Fetching { want, outcome: outcome.boxed().shared(), task }
    }

    /// The revision `at`, brought now if it is not here.
    async fn at(&self, at: &Revision) -> Result<Arc<Fetched>> {
        let found = self.here().iter().find(|fetched| fetched.manifest.revision == *at).cloned();
        match found {
            Some(fetched) => Ok(fetched),
            // An API that does not name commits has a name of its own for what it listed. What is there now stands for it, and the
            // hash of each file tells.
            None if !is_commit(at.as_str()) && self.last().is_some() => {
                self.last().ok_or_else(|| Error::new(Kind::Bug, "a revision is gone"))
            }
            None => self.bring(Want::Exactly(at.clone())).await,
        }
    }

    async fn kind(&self) -> Result<RepoKind> {
        match &self.config.places[..] {
            [only] => Ok(only.kind),
            _ => match self.last() {
                Some(fetched) => Ok(fetched.kind),
                None => Ok(self.bring(Want::Named).await?.kind),
            },
        }
    }
}

#[async_trait]
impl Source for GitSource {
    /// What the API says where it answers. Git knows no visibility, which counts as private.
    async fn info(&self) -> Result<RepoInfo> {
        match self.api.info().await {
            Ok(info) => return Ok(info),
            Err(error) if error.kind() == Kind::Gated => return Err(error),
            Err(_) => {}
        }
        let default_branch = Some(self.config.default_branch.to_owned());
        Ok(RepoInfo { kind: Some(self.kind().await?), id: Some(self.config.id.clone()), default_branch, ..RepoInfo::default() })
    }

    async fn manifest(&self) -> Result<Manifest> {
        Ok((*self.bring(Want::Named).await?.manifest).clone())
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let fetched = self.at(at).await?;
        let entry = *fetched.manifest.entries.get(path).ok_or_else(|| {
            Error::not_found(format!("{} has no file {path:?}", self.config.id)).context("revision", fetched.manifest.revision.short())
        })?;
        check_range(&range, entry.size)?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let stream = match (entry.lfs, entry.blob(), entry.digests.git) {
            (true, Some(blob), _) => fetched.large.read(&blob, path, range).await?,
            (_, _, Some(id)) => fetched.blobs.read(id, entry.size, range).await.map_err(|error| error.context("file", path))?,
            _ => return Err(Error::new(Kind::Bug, "a file of a revision has no id").context("file", path)),
        };
        // The repository stays as long as somebody reads from it.
        Ok(stream
            .map(move |piece| {
                let _held = &fetched;
                piece
            })
            .boxed())
    }

    fn host(&self) -> Option<String> {
        self.config.places.first().and_then(|place| crate::http::authority(&place.url))
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        let Some(fetched) = self.last() else { return true };
        match fetched.manifest.entries.get(path) {
            Some(entry) if entry.lfs => fetched.large.is_seekable(path),
            // Git unpacks a file from its start.
            Some(entry) => entry.size <= SMALL,
            None => true,
        }
    }
}

impl fmt::Debug for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GitSource").field(&self.config).finish()
    }
}
