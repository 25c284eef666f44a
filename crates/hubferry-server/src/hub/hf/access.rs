//! From a name in a URL to a repository the caller may use, or to the refusal the Hub would give.

use axum::http::StatusCode;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::GitOid;
use hubferry_core::error::Kind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::call::Call;
use super::reply::Refusal;
use crate::store::Repo;

/// The repository a URL names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    kind: RepoKind,
    owner: String,
    name: String,
    /// Whether the URL said `name.git`.
    git: bool,
}

/// What the caller wants to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// Know that it is there and what it holds.
    See,
    /// Read its files.
    Read,
    /// Change it.
    Write,
}

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Target {
    pub(super) fn new(kind: RepoKind, owner: &str, name: &str) -> Self {
        Self { kind, owner: owner.to_owned(), name: name.to_owned(), git: false }
    }

    /// Git addresses a repository as `owner/name.git`.
    pub(super) fn without_git(self) -> Result<Self, Refusal> {
        let name = self.name.strip_suffix(".git").ok_or_else(Refusal::unknown_route)?;
        Ok(Self { name: name.to_owned(), git: true, ..self })
    }

    /// Finds the repository and checks that the caller may do this with it.
    pub(super) async fn open(&self, call: &Call, want: Want) -> Result<Repo, Refusal> {
        let full = format!("{}/{}", self.owner, self.name);
        let hidden = || Refusal::no_repository(call.user.is_some(), &full);
        let id = RepoId::new(Some(&self.owner), &self.name).map_err(|_| hidden())?;
        let found = call.state.store().find_repo(self.kind, &id).await?.ok_or_else(hidden)?;
        let users = call.state.users();
        if !users.may_see(call.user.as_ref(), &found.repo) {
            return Err(hidden());
        }
        if !found.canonical {
            return Err(self.location(call, &found.repo).map_or_else(hidden, Refusal::moved));
        }
        if want == Want::Write {
            check_write(call, &found.repo.owner)?;
        }
        if want != Want::See && !users.may_pass_gate(call.user.as_ref(), &found.repo) {
            return Err(Refusal::gated(call.user.is_some(), &full));
        }
        Ok(found.repo)
    }

    /// The same URL with the repository's own name; `None` when the name stood in the body.
    fn location(&self, call: &Call, repo: &Repo) -> Option<String> {
        let suffix = if self.git { ".git" } else { "" };
        let asked = format!("{}{suffix}", self.name);
        let mut segments: Vec<String> = call.segments.clone();
        let at = segments.windows(2).position(|pair| pair[0] == self.owner && pair[1] == asked)?;
        segments[at].clone_from(&repo.owner);
        segments[at + 1] = format!("{}{suffix}", repo.name);
        let path: Vec<String> = segments.iter().map(|s| utf8_percent_encode(s, SEGMENT).to_string()).collect();
        let query = call.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        Some(format!("/{}{query}", path.join("/")))
    }
}

/// Checks that the caller may write in a namespace.
pub(super) fn check_write(call: &Call, namespace: &str) -> Result<(), Refusal> {
    call.state.users().check_write(call.user.as_ref(), namespace).map_err(|error| match error.kind() {
        Kind::Denied => {
            Refusal::new(StatusCode::FORBIDDEN, format!("You don't have the rights to write under the namespace \"{namespace}\": {error}"))
        }
        _ => Refusal::from(error),
    })
}

/// The commit a revision names.
pub(super) async fn commit_at(call: &Call, repo: &Repo, rev: &str) -> Result<GitOid, Refusal> {
    call.state.store().resolve(repo, rev).await.map_err(|error| match error.kind() {
        Kind::NotFound => Refusal::no_revision(rev),
        _ => Refusal::from(error),
    })
}

/// The part of a URL in front of `owner/name`: empty for models.
pub(super) fn prefix(kind: RepoKind) -> String {
    if kind == RepoKind::Model { String::new() } else { format!("{}/", kind.plural()) }
}

/// The page of a repository.
pub(super) fn page_url(call: &Call, repo: &Repo) -> String {
    format!("{}/{}{}", call.origin(), prefix(repo.kind), repo.full_name())
}
