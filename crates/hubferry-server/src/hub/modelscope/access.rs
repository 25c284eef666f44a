//! Finds the repository a route names, and hides it from whoever may not see it.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use hubferry_core::address::{RepoId, RepoKind};

use super::envelope::{Answer, Refusal};
use super::face::Face;
use super::session::Caller;
use crate::store::Repo;
use crate::users::User;

/// A repository the caller may see.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) caller: Caller,
    pub(super) repo: Repo,
}

impl Access {
    /// The user, who may write here.
    pub(super) fn writer(&self, face: &Face) -> Answer<&User> {
        face.users().check_write(self.caller.0.as_ref(), &self.repo.owner)?;
        self.caller.known()
    }

    /// Fails unless the caller may read file contents.
    pub(super) fn check_contents(&self, face: &Face) -> Answer<()> {
        let passes = face.users().may_pass_gate(self.caller.0.as_ref(), &self.repo);
        if passes { Ok(()) } else { Err(Refusal::gated()) }
    }
}

impl FromRequestParts<Face> for Access {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Answer<Self> {
        let Ok(caller) = Caller::from_request_parts(parts, face).await;
        let params = RawPathParams::from_request_parts(parts, face).await.map_err(|_| Refusal::no_record())?;
        let param = |wanted: &str| params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let kind = match param("kind") {
            Some("repos") => return Err(Refusal::wrong_route()),
            segment => segment.and_then(kind).ok_or_else(Refusal::no_route)?,
        };
        let owner = param("owner").ok_or_else(Refusal::no_record)?;
        let repo = match param("name") {
            Some(name) => by_name(face, kind, owner, name).await?,
            None => by_number(face, kind, owner).await?,
        };
        let repo = repo.filter(|repo| face.users().may_see(caller.0.as_ref(), repo)).ok_or_else(Refusal::no_record)?;
        Ok(Self { caller, repo })
    }
}

/// The kind a path segment names. The hub also has studios and skills; this one does not.
pub(super) fn kind(segment: &str) -> Option<RepoKind> {
    [RepoKind::Model, RepoKind::Dataset].into_iter().find(|kind| kind.plural() == segment)
}

async fn by_name(face: &Face, kind: RepoKind, owner: &str, name: &str) -> Answer<Option<Repo>> {
    let Ok(id) = RepoId::new(Some(owner), name) else { return Ok(None) };
    Ok(face.store().find_repo(kind, &id).await?.map(|found| found.repo))
}

/// Datasets can also be named by their number.
async fn by_number(face: &Face, kind: RepoKind, number: &str) -> Answer<Option<Repo>> {
    let Ok(number) = number.parse() else { return Ok(None) };
    let repo = face.store().find_repo_by_number(number).await?;
    Ok(repo.filter(|repo| repo.kind == kind && kind == RepoKind::Dataset))
}
