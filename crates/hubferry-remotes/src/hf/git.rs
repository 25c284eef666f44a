//! What reading a repository of a hub by Git needs: where it may be, and how Git is told who we are.

use std::sync::Arc;

use futures_util::FutureExt as _;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::Result;

use super::api::Repo;
use super::{DEFAULT_BRANCH, HfConfig};
use crate::git::{GitConfig, GitPlace, GitTool, Submodules};
use crate::http::Credential;

/// Who the token belongs to is read from the token; the client library of the hub sends this name.
const USER: &str = "user";

impl HfConfig {
    /// A repository by Git; without a `kind` it is looked for as each.
    pub(crate) fn git(&self, kind: Option<RepoKind>, id: RepoId, rev: Option<String>, tool: GitTool) -> Result<GitConfig> {
        let api = self.api()?;
        let kinds = kind.map_or_else(|| RepoKind::ALL.to_vec(), |kind| vec![kind]);
        let place = |kind| {
            let repo = Repo { kind, id: id.clone() };
            Ok(GitPlace { kind, url: api.git_url(&repo)?, classifier: api.asked(&repo, false).classifier() })
        };
        let places = kinds.into_iter().map(place).collect::<Result<_>>()?;
        let credential = match &self.token {
            Some(token) => Some(Credential::new(&api.endpoint)?.basic(USER, token)?),
            None => None,
        };
        Ok(GitConfig {
            places,
            id,
            rev,
            default_branch: DEFAULT_BRANCH,
            submodules: Submodules::Refuse,
            sign_in: Arc::new(move || std::future::ready(Ok(credential.clone())).boxed()),
            http: self.http.clone(),
            reporter: self.reporter.clone(),
            mirrored: api.mirrored(),
            tool,
        })
    }
}
