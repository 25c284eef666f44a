//! The `ms` remote: ModelScope (modelscope.cn, modelscope.ai and servers that speak the same) as source and target.
//!
//! Everything goes through `/api/v1`, whose habits differ from every other hub: failures that come with status 200, listings that
//! are cut without a word, one code with two meanings. What is known of them is in the comments where it matters.

mod api;
mod fault;
mod git;
mod listing;
mod refs;
mod repo;
mod repos;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::sync::Arc;

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_core::secret::Token;
use url::Url;

use crate::http::Http;
use crate::scratch::Scratch;
use repo::Repo;

pub use self::source::MsSource;
pub use self::target::MsTarget;

/// The branch that every repository has.
pub const DEFAULT_BRANCH: &str = "master";

/// Which ModelScope, and who we are there.
#[derive(Clone)]
pub struct MsConfig {
    /// Root of the site, for example `https://www.modelscope.cn`.
    pub endpoint: Url,
    /// The access token; without one only public repositories are seen.
    pub token: Option<Token>,
    /// The connections.
    pub http: Http,
    /// Told of calls that are tried again.
    pub reporter: Arc<dyn Reporter>,
}

impl MsConfig {
    /// Whom the token belongs to. `Unauthenticated` when there is none or the site does not know it.
    pub async fn whoami(&self) -> Result<String> {
        api::Api::new(self)?.whoami().await
    }

    /// Whether the token may write. Signing in is refused to a token that is valid and may only read, in the words for a wrong one
    /// (seen in the SDK): ask [`MsConfig::whoami`] first which it is.
    pub async fn may_write(&self) -> Result<bool> {
        match api::Api::new(self)?.sign_in().await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::Unauthenticated => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a trial repository, if this hub lets a token do that. `Unsupported` if not.
    pub(crate) async fn delete(&self, scratch: &Scratch) -> Result<()> {
        api::Api::new(self)?.delete(RepoKind::Model, scratch.id()).await
    }

    /// Every model or dataset that an owner has and our token may see, in order. Studios cannot be listed.
    pub async fn repos(&self, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
        if kind == RepoKind::Space {
            return Ok(Vec::new());
        }
        repos::repos(&api::Api::new(self)?, kind, owner).await
    }
}

impl fmt::Debug for MsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsConfig")
            .field("endpoint", &crate::http::safe_url(&self.endpoint))
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// One repository on a ModelScope.
#[derive(Clone, Debug)]
pub struct MsRemote {
    repo: Arc<Repo>,
    rev: Option<String>,
}

impl MsRemote {
    /// Names a repository; asks nothing yet. Without a `kind` it is found by asking; `rev` is a branch, tag or commit.
    pub fn new(config: &MsConfig, kind: Option<RepoKind>, id: RepoId, rev: Option<String>) -> Result<Self> {
        Ok(Self { repo: Arc::new(Repo::new(config, kind, id)?), rev })
    }

    /// Reads it.
    pub fn source(&self) -> MsSource {
        MsSource::new(Arc::clone(&self.repo), self.rev.clone())
    }

    /// Writes it. Only a branch can be written; a new repository without a kind becomes a model.
    pub fn target(&self) -> MsTarget {
        MsTarget::new(Arc::clone(&self.repo), self.rev.clone())
    }
}
