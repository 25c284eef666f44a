//! Branches, tags and history on ModelScope.
//!
//! The API lists them and makes tags. Branches are made and everything is deleted by Git only, with a token that the sign-in gives out
//! (the SDK: `login`, then `https://oauth2:<git token>@…/models/owner/name.git`).

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Revision;
use hubferry_core::refs::{PastCommit, Ref, RefChange, RefKind, RefList, RefTarget, Refs};
use hubferry_core::remote::{Source, Target};
use hubferry_core::secret::Token;
use reqwest::Method;
use serde_json::{Value, json};

use super::DEFAULT_BRANCH;
use super::api::Answer;
use super::fault::{Route, integer};
use super::listing::is_past_the_end;
use super::repo::Repo;
use super::source::MsSource;
use super::target::MsTarget;
use crate::gitrefs::GitRefs;
use crate::http::{Credential, clean};

/// Commits asked for at once; the hub may give fewer.
const PAGE: &str = "100";

/// A longer history is a listing that does not end.
const MOST_COMMITS: usize = 200_000;

/// The user that goes with a Git token.
const GIT_USER: &str = "oauth2";

impl Repo {
    async fn ref_list(&self) -> Result<RefList> {
        let (kind, _) = self.require().await?;
        let url = self.api.repo_url(kind, &self.id, &["revisions"])?;
        let Answer { data, .. } = self.api.call(Route::History, self.api.http.get(url)).await?;
        let map = data.get("RevisionMap").unwrap_or(&data);
        let mut lists = [Vec::new(), Vec::new()];
        for (list, key) in lists.iter_mut().zip(["Branches", "Tags"]) {
            for row in map.get(key).and_then(Value::as_array).into_iter().flatten() {
                let name = row.as_str().or_else(|| row.get("Revision")?.as_str());
                let name = name.ok_or_else(|| Error::invalid("the listing has a branch or tag without a name"))?;
                let said = row.get("CommitId").and_then(Value::as_str).filter(|id| id.len() == 40);
                // Not every server says the commit in the listing.
                let target = match said {
                    Some(id) => Some(Revision::new(id)?),
                    None => self.latest(kind, name).await?,
                };
                let unclear = || Error::new(Kind::Unsupported, format!("ModelScope does not say which commit {:?} is", clean(name, 100)));
                list.push(Ref::new(name, target.ok_or_else(unclear)?)?);
            }
        }
        let [branches, tags] = lists;
        RefList::new(branches, tags)
    }

    async fn history(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        let by_id = self.history_by(from.target.as_str()).await;
        match by_id {
            // Not every server knows the history of a commit by its id.
            Ok(None) => self.history_by(&from.name).await?.ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("ModelScope does not list the commits of {}", from.name))
                    .context("repository", &self.id)
            }),
            Ok(Some(commits)) => Ok(commits),
            Err(error) => Err(error),
        }
    }

    /// Every commit behind a name, newest first; `None` when the hub does not know the name here.
    async fn history_by(&self, name: &str) -> Result<Option<Vec<PastCommit>>> {
        let kind = self.require_kind().await?;
        let (mut commits, mut seen) = (Vec::new(), HashSet::new());
        for number in 1.. {
            let url = self.api.repo_url(kind, &self.id, &["commits"])?;
            let query = [("Ref", name), ("PageNumber", &number.to_string()), ("PageSize", PAGE)];
            let Answer { data, total } = match self.api.call(Route::History, self.api.http.get(url).query(query)).await {
                Err(error) if number == 1 && matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Unsupported) => return Ok(None),
                Err(error) if is_past_the_end(&error) => break,
                other => other?,
            };
            let rows = ["Commit", "Commits", "CommitList"].iter().find_map(|key| data.get(*key)).unwrap_or(&data);
            let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
            if number == 1 && rows.is_empty() {
                return Ok(None);
            }
            let before = commits.len();
            for row in rows {
                let commit = commit(row)?;
                if seen.insert(commit.revision.clone()) {
                    commits.push(commit);
                }
            }
            let fresh = commits.len() - before;
            match total.map(|total| commits.len() as u64 >= total) {
                Some(true) => break,
                // Without a number only an empty page, or one that was there before, is the end.
                None if fresh == 0 => break,
                Some(false) if fresh == 0 => {
                    return Err(Error::invalid("the history ends before it is complete").context("repository", &self.id));
                }
                _ => {}
            }
            if commits.len() > MOST_COMMITS {
                return Err(Error::invalid(format!("the history has more than {MOST_COMMITS} commits and does not end")));
            }
        }
        Ok(Some(commits))
    }

    async fn change_ref(&self, change: &RefChange) -> Result<()> {
        self.api.require_token()?;
        let kind = self.require_kind().await?;
        if let RefChange { kind: RefKind::Tag, name, from: None, to: Some(to) } = change {
            let url = self.api.repo_url(kind, &self.id, &["repo", "tag"])?;
            let request = self.api.http.post(url).json(&json!({"TagName": name, "Ref": to}));
            match self.api.call(Route::Tag, request).await {
                Ok(_) => return Ok(()),
                // Where a tag cannot be made at a commit, or not by this name, Git may do it.
                Err(error) if matches!(error.kind(), Kind::Invalid | Kind::NotFound | Kind::Unsupported) => {
                    return self.git().await?.change(change).await.map_err(|other| other.caused_by(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.git().await?.change(change).await
    }

    /// The repository by Git. Signing in gives the token for it, which only a token with write rights gets.
    async fn git(&self) -> Result<GitRefs> {
        let kind = self.require_kind().await?;
        let token = self.api.git_token().await?;
        let name = format!("{}.git", self.id.name());
        let segments = [kind.plural(), self.id.owner().unwrap_or_default(), &name];
        let credential = Credential::new(self.api.endpoint())?.basic(GIT_USER, &token)?;
        Ok(GitRefs { http: self.api.http.clone(), repo: self.api.url(segments)?, credential })
    }
}

fn commit(row: &Value) -> Result<PastCommit> {
    let text = |names: &[&str]| names.iter().find_map(|name| row.get(*name)?.as_str()).filter(|text| !text.is_empty());
    let id = text(&["Id", "CommitId", "Sha"]).ok_or_else(|| Error::invalid("the history has a commit without an id"))?;
    let seconds = ["AuthoredDate", "CommittedDate", "CreatedAt"].iter().find_map(|name| integer(row.get(*name)?));
    let written = text(&["AuthoredDate", "CommittedDate"]).filter(|_| seconds.is_none()).map(|date| clean(date, 60));
    let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).map(|time| time.to_string());
    Ok(PastCommit {
        revision: Revision::new(id)?,
        message: text(&["Message", "Title"]).unwrap_or_default().to_owned(),
        author: text(&["AuthorName", "CommitterName"]).map(|name| clean(name, 100)),
        date: date.or(written),
    })
}

impl super::api::Api {
    /// The token that Git takes as a password.
    async fn git_token(&self) -> Result<Token> {
        let token = self.token()?;
        let request = self.http.request(Method::POST, self.url(["api", "v1", "login"])?).json(&json!({"AccessToken": token.expose()}));
        let Answer { data, .. } = self.call(Route::Login, request.repeatable(true)).await?;
        let token = data.get("AccessToken").and_then(Value::as_str).and_then(Token::new);
        token.ok_or_else(|| Error::new(Kind::Unsupported, "ModelScope gives out no token for Git"))
    }
}

#[async_trait]
impl Refs for MsSource {
    fn default_branch(&self) -> &str {
        DEFAULT_BRANCH
    }

    fn opened_at(&self) -> &str {
        self.name()
    }

    async fn list(&self) -> Result<RefList> {
        self.repo().ref_list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        self.repo().history(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Self::new(Arc::clone(self.repo()), Some(rev.to_owned()))))
    }
}

#[async_trait]
impl Refs for MsTarget {
    fn default_branch(&self) -> &str {
        DEFAULT_BRANCH
    }

    fn opened_at(&self) -> &str {
        self.branch_name()
    }

    async fn list(&self) -> Result<RefList> {
        self.repo().ref_list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        self.repo().history(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MsSource::new(Arc::clone(self.repo()), Some(rev.to_owned()))))
    }
}

#[async_trait]
impl RefTarget for MsTarget {
    fn branch(&self, name: &str) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(Self::new(Arc::clone(self.repo()), Some(name.to_owned()))))
    }

    async fn change(&self, change: &RefChange) -> Result<()> {
        self.repo().change_ref(change).await
    }
}
