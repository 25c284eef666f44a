//! A source that goes by the API and turns to Git, once and for good, when the API refuses.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::refs::{self, PastCommit, Ref, RefList, Refs};
use hubferry_core::remote::{ByteStream, Extent, Glance, Links, RepoInfo, Source};

use super::GitSource;
use super::ways::Ways;
use crate::links;

/// A repository by its API, or else by Git.
pub struct Fallback {
    api: Arc<dyn Source>,
    git: GitSource,
    /// What the API refused with.
    refused: OnceLock<Error>,
    turned: AtomicBool,
    /// Whether it is gated was asked, with the answer.
    gated: tokio::sync::OnceCell<bool>,
    ways: Ways,
    address: String,
    reporter: Arc<dyn Reporter>,
}

/// Whether a hub has refused what its API was asked for: with 403 itself, or where its redirect led to. Terms that were not accepted,
/// a missing token and a missing repository are none of that, nor are 402 and 451, which mean what they say.
fn is_refusal(error: &Error) -> bool {
    let status = error.contexts().iter().find(|(key, _)| *key == "status").map(|(_, status)| status.as_str());
    match error.kind() {
        Kind::Denied => matches!(status, None | Some("403" | "200")),
        // Links are asked for anew before that is the last word.
        Kind::Unavailable => error.retry() == Retry::No && links::is_refused(error) && status == Some("403"),
        _ => false,
    }
}

impl Fallback {
    pub(super) fn new(api: Arc<dyn Source>, git: GitSource, ways: Ways, address: String, reporter: Arc<dyn Reporter>) -> Self {
        let (turned, refused, gated) = (AtomicBool::new(false), OnceLock::new(), tokio::sync::OnceCell::new());
        Self { api, git, refused, turned, gated, ways, address, reporter }
    }

    fn has_turned(&self) -> bool {
        self.turned.load(Ordering::Acquire)
    }

    /// Turns to Git because of `error`, or gives it back where that must not or cannot help.
    async fn turn(&self, error: Error) -> Result<()> {
        if !is_refusal(&error) {
            return Err(error);
        }
        // Not every hub says that its terms are why it refuses.
        let gated = || async { self.api.info().await.map_or_else(|e| e.kind() == Kind::Gated, |info| info.gated) };
        if *self.gated.get_or_init(gated).await {
            return Err(error);
        }
        let why = error.duplicate();
        if self.refused.set(error).is_ok() {
            self.reporter.event(&Event::Note(format!("{}: the API refuses, so the same files come by Git ({why})", self.address)));
        }
        self.turned.store(true, Ordering::Release);
        Ok(())
    }

    /// What came by Git. Where Git is refused as well, or is not there, the refusal of the API is what the user has to know.
    fn by_git<T>(&self, outcome: Result<T>) -> Result<T> {
        match (outcome, self.refused.get()) {
            (Ok(value), _) => {
                self.ways.took_git(&self.address);
                Ok(value)
            }
            (Err(error), Some(refused))
                if matches!(error.kind(), Kind::Denied | Kind::Unauthenticated | Kind::NotFound | Kind::Unsupported) =>
            {
                let told = refused.duplicate().retry_as(Retry::No).context("by git", error.message());
                let hint = if error.kind() == Kind::Unsupported { error.hint_text() } else { None };
                Err(match hint {
                    Some(hint) => Error::new(told.kind(), told.to_string()).hint(hint.to_owned()),
                    None => told,
                })
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Source for Fallback {
    async fn info(&self) -> Result<RepoInfo> {
        if !self.has_turned() {
            match self.api.info().await {
                Ok(info) => return Ok(info),
                Err(error) => self.turn(error).await?,
            }
        }
        self.by_git(self.git.info().await)
    }

    async fn manifest(&self) -> Result<Manifest> {
        if !self.has_turned() {
            match self.api.manifest().await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => self.turn(error).await?,
            }
        }
        self.by_git(self.git.manifest().await)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        if !self.has_turned() {
            match self.api.read(at, path, range.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => self.turn(error).await?,
            }
        }
        self.by_git(self.git.read(at, path, range).await)
    }

    fn host(&self) -> Option<String> {
        self.api.host()
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        if self.has_turned() { self.git.is_seekable(path) } else { self.api.is_seekable(path) }
    }

    fn doubt(&self, at: &Revision, path: &RepoPath) {
        self.api.doubt(at, path);
        self.git.doubt(at, path);
    }

    fn links(&self) -> Option<&dyn Links> {
        if self.has_turned() { None } else { self.api.links() }
    }

    fn refs(&self) -> Option<&dyn Refs> {
        self.api.refs().map(|_| self as &dyn Refs)
    }

    async fn glance(&self) -> Result<Glance> {
        // A hub knows of no file that it lacks.
        Ok(Glance { manifest: self.manifest().await?, missing: Vec::new() })
    }

    fn extent(&self) -> Extent {
        self.api.extent()
    }
}

/// Branches, tags and history come by the API only; what they stand for is read by either way.
#[async_trait]
impl Refs for Fallback {
    fn default_branch(&self) -> &str {
        self.api.refs().map_or("", Refs::default_branch)
    }

    fn opened_at(&self) -> &str {
        self.api.refs().map_or("", Refs::opened_at)
    }

    async fn list(&self) -> Result<RefList> {
        refs::behind(&*self.api)?.list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        refs::behind(&*self.api)?.commits(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        let api = refs::behind(&*self.api)?.source(rev)?;
        let git = self.git.at_rev(rev, api.clone());
        Ok(Arc::new(Self::new(api, git, self.ways.clone(), self.address.clone(), self.reporter.clone())))
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("api", &self.api).field("turned", &self.has_turned()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_one() {
        let denied = |status: u16| Error::new(Kind::Denied, "no").context("status", status);
        assert!(is_refusal(&denied(403)) && is_refusal(&Error::new(Kind::Denied, "code 403 in a 200")));
        assert!(!is_refusal(&denied(402)) && !is_refusal(&denied(451)));
        for kind in [Kind::Gated, Kind::Unauthenticated, Kind::NotFound, Kind::Unavailable, Kind::RateLimited] {
            assert!(!is_refusal(&Error::new(kind, "no").context("status", 403)), "{kind:?}");
        }
    }
}
