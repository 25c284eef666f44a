//! One repository, as source and target both see it: which kind it is, what its refs mean, what a revision holds.

use std::sync::{Mutex, OnceLock, PoisonError};

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Event;
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::remote::{RepoInfo, Visibility};
use serde_json::Value;

use super::api::{Answer, Api};
use super::fault::{Route, TOKEN_HINT, integer};
use super::listing::list;
use super::{DEFAULT_BRANCH, MsConfig};

/// How often a listing is begun anew because the branch moved under it.
const LISTINGS: usize = 4;
/// Stands for the head of a repository without commits.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Names of a repository's branches and tags.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RefNames {
    /// Branches.
    branches: Vec<String>,
    /// Tags.
    tags: Vec<String>,
}

/// What a ref held, and the name under which the hub gives out its files.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) manifest: Manifest,
    pub(super) asked: String,
}

#[derive(Debug)]
pub(super) struct Repo {
    pub(super) api: Api,
    pub(super) id: RepoId,
    given: Option<RepoKind>,
    known: OnceLock<RepoKind>,
    /// Who may read it, as the hub said last.
    seen: Mutex<Option<Visibility>>,
}

impl Repo {
    pub(super) fn new(config: &MsConfig, kind: Option<RepoKind>, id: RepoId) -> Result<Self> {
        if kind == Some(RepoKind::Space) {
            return Err(Error::new(Kind::Unsupported, "ModelScope has no file API for its studios, the counterpart of spaces")
                .hint("copy the files into a model repository instead: add --as model"));
        }
        if id.owner().is_none() {
            return Err(Error::invalid(format!("{:?} has no owner: every repository on ModelScope has one", id.name()))
                .hint(format!("write ms:owner/{}", id.name())));
        }
        Ok(Self { api: Api::new(config)?, id, given: kind, known: OnceLock::new(), seen: Mutex::default() })
    }

    /// The kind, as given or found so far. A new repository is a model unless something else was asked for.
    pub(super) fn kind_or_model(&self) -> RepoKind {
        self.given.or_else(|| self.known.get().copied()).unwrap_or(RepoKind::Model)
    }

    /// The repository's kind and facts; `None` when it does not exist, or not for us.
    pub(super) async fn find(&self) -> Result<Option<(RepoKind, Value)>> {
        let found = match self.given.or_else(|| self.known.get().copied()) {
            Some(kind) => self.facts(kind).await?.map(|facts| (kind, facts)),
            None => self.probe().await?,
        };
        match &found {
            Some((kind, facts)) => {
                self.learn_kind(*kind);
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = visibility(facts);
            }
            // A token nobody knows reads as anonymous, and then nothing private is there.
            None if self.api.has_token() => self.check_token().await?,
            None => {}
        }
        Ok(found)
    }

    /// Who may read it, as far as somebody has looked.
    pub(super) fn visibility(&self) -> Option<Visibility> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails with `NotFound` when it is not there.
    pub(super) async fn require(&self) -> Result<(RepoKind, Value)> {
        self.find().await?.ok_or_else(|| self.absent())
    }

    fn absent(&self) -> Error {
        let what = self.given.map_or("repository", RepoKind::singular);
        let error = Error::not_found(format!("there is no {what} {} on ModelScope, or it is private", self.id));
        if self.api.has_token() {
            error.hint("check the spelling, and that the token's owner may read it")
        } else {
            error.hint(format!("check the spelling; if it is private, {TOKEN_HINT}"))
        }
    }

    /// The kind, asked for only when it is neither given nor known.
    pub(super) async fn require_kind(&self) -> Result<RepoKind> {
        match self.given.or_else(|| self.known.get().copied()) {
            Some(kind) => Ok(kind),
            None => Ok(self.require().await?.0),
        }
    }

    /// Notes the kind of a repository that was just created.
    pub(super) fn learn_kind(&self, kind: RepoKind) {
        let _ = self.known.set(kind);
    }

    async fn probe(&self) -> Result<Option<(RepoKind, Value)>> {
        let (model, dataset) = tokio::join!(self.facts(RepoKind::Model), self.facts(RepoKind::Dataset));
        match (model, dataset) {
            (Ok(Some(facts)), _) => Ok(Some((RepoKind::Model, facts))),
            // A model we may not see must not hide the dataset of the same name; anything else leaves the question open.
            (Ok(None), Ok(Some(facts))) => Ok(Some((RepoKind::Dataset, facts))),
            (Err(error), Ok(Some(facts))) if error.kind() == Kind::Denied => Ok(Some((RepoKind::Dataset, facts))),
            (Ok(None), Ok(None)) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn facts(&self, kind: RepoKind) -> Result<Option<Value>> {
        let url = self.api.repo_url(kind, &self.id, &[])?;
        match self.api.call(Route::Info, self.api.http.get(url)).await {
            Ok(Answer { data: Value::Object(facts), .. }) => Ok(Some(Value::Object(facts))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn check_token(&self) -> Result<()> {
        match self.api.whoami().await {
            Err(error) if error.kind() == Kind::Unauthenticated => Err(error),
            // Whether that route works otherwise does not matter here.
            _ => Ok(()),
        }
    }

    pub(super) fn info(&self, kind: RepoKind, facts: &Value) -> RepoInfo {
        let visibility = visibility(facts);
        let mode = ["ProtectedMode", "ApprovalMode"].iter().find_map(|name| facts.get(*name).and_then(integer));
        let license = facts.get("License").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        RepoInfo {
            kind: Some(kind),
            id: Some(self.id.clone()),
            visibility,
            // Gating has a meaning together with private only; public repositories carry the field too.
            gated: mode == Some(1) && visibility != Some(Visibility::Public),
            license: license.map(str::to_owned),
            default_branch: Some(DEFAULT_BRANCH.to_owned()),
            url: self.api.page(kind, &self.id),
            revision: None,
        }
    }

    async fn refs(&self, kind: RepoKind) -> Result<RefNames> {
        let url = self.api.repo_url(kind, &self.id, &["revisions"])?;
        let Answer { data, .. } = self.api.call(Route::History, self.api.http.get(url)).await?;
        let map = data.get("RevisionMap").unwrap_or(&data);
        let names = |key: &str| -> Vec<String> {
            let rows = map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let name = |row: &Value| row.as_str().or_else(|| row.get("Revision")?.as_str()).map(str::to_owned);
            rows.iter().filter_map(name).collect()
        };
        Ok(RefNames { branches: names("Branches"), tags: names("Tags") })
    }

    /// The commit a branch, tag or commit id stands for; `None` when the hub does not say.
    pub(super) async fn latest(&self, kind: RepoKind, name: &str) -> Result<Option<Revision>> {
        let url = self.api.repo_url(kind, &self.id, &["commits"])?;
        let query = [("Ref", name), ("PageNumber", "1"), ("PageSize", "1")];
        let data = match self.api.call(Route::History, self.api.http.get(url).query(query)).await {
            Ok(answer) => answer.data,
            // Not every server has this route for tags, or for what does not exist.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Unsupported) => return Ok(None),
            Err(error) => return Err(error),
        };
        let rows = ["Commit", "Commits", "CommitList"].iter().find_map(|key| data.get(*key)).unwrap_or(&data);
        let id = rows.get(0).and_then(|row| ["Id", "CommitId", "Sha"].iter().find_map(|key| row.get(*key)?.as_str()));
        id.filter(|id| !id.is_empty()).map(Revision::new).transpose()
    }

    /// Lists what `name` stands for now, as one revision.
    pub(super) async fn list(&self, kind: RepoKind, name: &str) -> Result<Listed> {
        for _ in 0..LISTINGS {
            let Some(commit) = self.latest(kind, name).await? else { return self.list_unnamed(kind, name).await };
            // A commit id cannot move; but not every server lists by it.
            match list(&self.api, kind, &self.id, commit.as_str()).await {
                Ok(Some(rows)) => return Ok(Listed { asked: commit.to_string(), manifest: Manifest::new(commit, rows)? }),
                Ok(None) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            let rows = list(&self.api, kind, &self.id, name).await?.ok_or_else(|| self.no_revision(name, &RefNames::default()))?;
            if self.latest(kind, name).await?.as_ref() == Some(&commit) {
                return Ok(Listed { asked: name.to_owned(), manifest: Manifest::new(commit, rows)? });
            }
            self.api.reporter.event(&Event::Note(format!("{} changed while it was listed, listing it again", self.id)));
        }
        Err(Error::new(Kind::Unavailable, format!("{} changes faster than it can be listed", self.id)).context("revision", name))
    }

    /// A name without a known commit: a tag on a server that has no history for tags, an empty repository, or nothing at all.
    async fn list_unnamed(&self, kind: RepoKind, name: &str) -> Result<Listed> {
        let refs = self.refs(kind).await?;
        let known = refs.branches.iter().chain(&refs.tags).any(|known| known == name);
        let empty = refs.branches.is_empty() && name == DEFAULT_BRANCH;
        let is_commit = name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if !known && !empty && !is_commit {
            return Err(self.no_revision(name, &refs));
        }
        let listed = match list(&self.api, kind, &self.id, name).await {
            Err(error) if error.kind() == Kind::NotFound => None,
            listed => listed?,
        };
        match listed {
            Some(rows) if is_commit => Ok(Listed { asked: name.to_owned(), manifest: Manifest::new(Revision::new(name)?, rows)? }),
            Some(rows) if !rows.is_empty() => {
                let mut manifest = Manifest::new(Revision::new(NO_COMMIT)?, rows)?;
                manifest.revision = content_revision(&manifest)?;
                Ok(Listed { asked: name.to_owned(), manifest })
            }
            _ if is_commit => Err(self.no_revision(name, &refs)),
            _ => Ok(Listed { asked: name.to_owned(), manifest: Manifest::new(Revision::new(NO_COMMIT)?, [])? }),
        }
    }

    fn no_revision(&self, name: &str, refs: &RefNames) -> Error {
        let error = Error::not_found(format!("{} has no revision {name:?}", self.id));
        let known: Vec<&str> = refs.branches.iter().chain(&refs.tags).take(10).map(String::as_str).collect();
        if known.is_empty() {
            error.hint(format!("the default branch on ModelScope is {DEFAULT_BRANCH}"))
        } else {
            error.hint(format!("it has {}", known.join(", ")))
        }
    }

    /// The id a branch has as a head: `None` when it has no commit. Cheaper than a listing where the hub has history.
    pub(super) async fn head_id(&self, kind: RepoKind, branch: &str) -> Result<Option<Revision>> {
        let id = match self.latest(kind, branch).await? {
            Some(commit) => commit,
            None => self.list_unnamed(kind, branch).await?.manifest.revision,
        };
        Ok((id.as_str() != NO_COMMIT).then_some(id))
    }

    /// Only a branch can be written to, and the API cannot make one.
    pub(super) async fn check_branch(&self, kind: RepoKind, name: &str) -> Result<()> {
        let refs = self.refs(kind).await?;
        if name == DEFAULT_BRANCH || refs.branches.iter().any(|branch| branch == name) {
            return Ok(());
        }
        if refs.tags.iter().any(|tag| tag == name) {
            return Err(Error::invalid(format!("{name:?} is a tag of {}: only a branch can be written to", self.id))
                .hint(format!("leave it out to write to {DEFAULT_BRANCH}")));
        }
        Err(Error::not_found(format!("{} has no branch {name:?}", self.id))
            .hint(format!("leave it out to write to {DEFAULT_BRANCH}, or make the branch with git first: ModelScope's API cannot")))
    }
}

/// 1 private, 3 internal, 5 public; anything else is not known, and then treated as private.
pub(super) fn visibility(facts: &Value) -> Option<Visibility> {
    match facts.get("Visibility").and_then(integer)? {
        1 => Some(Visibility::Private),
        3 => Some(Visibility::Internal),
        5 => Some(Visibility::Public),
        _ => None,
    }
}

/// The code for a visibility.
pub(super) fn visibility_code(visibility: Visibility) -> Result<u8> {
    match visibility {
        Visibility::Private => Ok(1),
        Visibility::Internal => Ok(3),
        Visibility::Public => Ok(5),
        other => Err(Error::new(Kind::Unsupported, format!("ModelScope has no repositories that are {}", other.name()))),
    }
}

/// A revision for files whose commit the hub does not name: the hash of what it lists.
fn content_revision(manifest: &Manifest) -> Result<Revision> {
    let mut text = String::new();
    for (path, entry) in &manifest.entries {
        let hash = entry.digests.sha256.map(|oid| oid.to_string()).or_else(|| entry.digests.git.map(|oid| oid.to_string()));
        text.extend([path.as_str(), "\0", &entry.size.to_string(), "\0", &hash.unwrap_or_default(), "\n"]);
    }
    Revision::new(Oid::of(text.as_bytes()).to_string())
}
