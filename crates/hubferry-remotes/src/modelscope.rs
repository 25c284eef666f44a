//! The `ms` remote: ModelScope (modelscope.cn, modelscope.ai and servers that speak the same) as source and target.
//!
//! Everything goes through `/api/v1`, whose habits differ from every other hub: failures that come with status 200, listings that
//! are cut without a word, one code with two meanings. What is known of them is in the comments where it matters.

mod api;
mod fault;
mod listing;
mod repo;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::sync::Arc;

use hubferry_core::error::Result;
use hubferry_core::events::{Reporter, Silent};
use hubferry_core::secret::Token;
use url::Url;

use crate::http::Http;

pub use self::repo::Refs;
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
    /// Anonymous access that reports nothing.
    pub fn new(endpoint: Url, http: Http) -> Self {
        Self { endpoint, token: None, http, reporter: Arc::new(Silent) }
    }

    /// Signs in with this token.
    #[must_use]
    pub fn with_token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Reports here.
    #[must_use]
    pub fn with_reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// Whom the token belongs to. `Unauthenticated` when there is none or the site does not know it.
    pub async fn whoami(&self) -> Result<String> {
        api::Api::new(self)?.whoami().await
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
