//! What reading a repository by Git needs: its address there, and the Git token, which comes from signing in.
//!
//! Known from the client library of the site: `https://oauth2:<git token>@www.modelscope.cn/{owner}/{name}.git`.

use std::sync::Arc;

use futures_util::FutureExt as _;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::secret::Token;

use super::api::Api;
use super::fault::TOKEN_HINT;
use super::{DEFAULT_BRANCH, MsConfig};
use crate::git::{GitConfig, GitPlace, GitTool, Submodules};
use crate::http::{Classifier, Credential};

/// The user that Git names to the site.
const USER: &str = "oauth2";

impl MsConfig {
    /// A repository by Git; without a `kind` it is looked for as a model and as a dataset.
    pub(crate) fn git(&self, kind: Option<RepoKind>, id: RepoId, rev: Option<String>, tool: GitTool) -> Result<GitConfig> {
        let api = Api::new(self)?;
        let kinds = kind.map_or_else(|| vec![RepoKind::Model, RepoKind::Dataset], |kind| vec![kind]);
        let name = format!("{}.git", id.name());
        let place = |kind: RepoKind| {
            let folder = (kind != RepoKind::Model).then(|| kind.plural());
            let url = api.url([folder, id.owner(), Some(&name)].into_iter().flatten())?;
            Ok(GitPlace { kind, url, classifier: classifier(kind, &id, api.has_token()) })
        };
        let places = kinds.into_iter().map(place).collect::<Result<_>>()?;
        let token = self.token.clone();
        let signed = Arc::new(api);
        let sign_in = move || {
            let (api, token) = (signed.clone(), token.clone());
            async move {
                match token {
                    Some(token) => sign_in(&api, &token).await.map(Some),
                    None => Ok(None),
                }
            }
            .boxed()
        };
        Ok(GitConfig {
            places,
            id,
            rev,
            default_branch: DEFAULT_BRANCH,
            submodules: Submodules::LeaveOut,
            sign_in: Arc::new(sign_in),
            http: self.http.clone(),
            reporter: self.reporter.clone(),
            mirrored: None,
            tool,
        })
    }
}

/// The Git token of the owner of `token`. A site that gives none may still take the token itself: Git will see.
pub(super) async fn sign_in(api: &Api, token: &Token) -> Result<Credential> {
    let given = match api.sign_in().await {
        Ok(given) => given,
        // Trouble on the way passes; anything else is an answer.
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::RateLimited) => return Err(error),
        Err(_) => None,
    };
    Credential::new(api.endpoint())?.basic(USER, given.as_ref().unwrap_or(token))
}

/// Plain statuses: what answers is Git's server, not the API.
fn classifier(kind: RepoKind, id: &RepoId, signed_in: bool) -> Classifier {
    let what = format!("{kind} {id}");
    Arc::new(move |refusal| {
        let said = refusal.message().map_or_else(String::new, |text| format!(": {text}"));
        match refusal.status.as_u16() {
            401 if signed_in => Some(
                Error::new(Kind::Unauthenticated, format!("ModelScope does not accept the token for {what} by Git{said}")).hint(TOKEN_HINT),
            ),
            401 => Some(Error::new(Kind::Unauthenticated, format!("reading {what} by Git needs a token{said}")).hint(TOKEN_HINT)),
            403 => Some(Error::new(Kind::Denied, format!("ModelScope refuses {what} by Git as well{said}"))),
            404 => Some(Error::not_found(format!("{what}: not found{said}"))),
            _ => None,
        }
    })
}
