//! Branches, tags and history on the Hub.
//!
//! Known from the Python client (`list_repo_refs`, `list_repo_commits`, `create_branch`, `create_tag` and their opposites): creating answers
//! 409 for a name that is taken, deleting 404 for one that is not there.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Revision;
use hubferry_core::refs::{PastCommit, Ref, RefChange, RefKind, RefList, RefTarget, Refs};
use hubferry_core::remote::{Source, Target};
use hubferry_core::transfer::retry::retrying;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, Repo};
use super::source::HfSource;
use super::target::HfTarget;
use super::{DEFAULT_BRANCH, Place};
use crate::http::{Pages, clean};

/// Commits asked for at once; the hub may give fewer.
const COMMITS_PER_PAGE: &str = "100";

/// A longer history is a listing that does not end.
const MOST_COMMITS: usize = 200_000;

#[derive(Debug, Default, Deserialize)]
struct Listed {
    #[serde(default)]
    branches: Vec<Named>,
    #[serde(default)]
    tags: Vec<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    target_commit: String,
}

#[derive(Debug, Deserialize)]
struct Commit {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    authors: Vec<Value>,
    #[serde(default)]
    date: Option<String>,
}

impl Commit {
    fn read(self) -> Result<PastCommit> {
        let authors: Vec<String> = self
            .authors
            .iter()
            .filter_map(|author| author["user"].as_str().or_else(|| author.as_str()))
            .map(|name| clean(name, 100))
            .collect();
        let message = if self.message.trim().is_empty() { self.title } else { format!("{}\n\n{}", self.title, self.message) };
        Ok(PastCommit {
            revision: Revision::new(self.id)?,
            message,
            author: (!authors.is_empty()).then(|| authors.join(", ")),
            date: self.date.map(|date| clean(&date, 60)),
        })
    }
}

impl Api {
    async fn refs(&self, repo: &Repo) -> Result<RefList> {
        let listed: Listed = self.send(self.http.get(self.repo_url(repo, &["refs"])?), repo, false).await?.json().await?;
        let read = |list: Vec<Named>| {
            list.into_iter().map(|named| Ref::new(named.name, Revision::new(named.target_commit)?)).collect::<Result<_>>()
        };
        RefList::new(read(listed.branches)?, read(listed.tags)?)
    }

    async fn commits(&self, repo: &Repo, from: &Revision) -> Result<Vec<PastCommit>> {
        let mut url = self.repo_url(repo, &["commits", from.as_str()])?;
        url.query_pairs_mut().append_pair("limit", COMMITS_PER_PAGE);
        let mut pages = Pages::new(&url)?;
        let (mut commits, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let page = || async {
                let response = self.send(self.http.get(url.clone()), repo, false).await?;
                let (at, headers) = (response.url().clone(), response.headers().clone());
                Ok((at, headers, response.json::<Vec<Commit>>().await?))
            };
            let (at, headers, page) = retrying(&self.retry, &*self.reporter, "reading the history", page).await?;
            for commit in page {
                let commit = commit.read()?;
                if !seen.insert(commit.revision.clone()) {
                    return Err(Error::invalid("the history names a commit twice").context("revision", &commit.revision));
                }
                commits.push(commit);
            }
            if commits.len() > MOST_COMMITS {
                return Err(Error::invalid(format!("the history has more than {MOST_COMMITS} commits and does not end")));
            }
            match pages.next(&at, &headers)? {
                Some(next) => url = next,
                None => return Ok(commits),
            }
        }
    }

    async fn create_ref(&self, repo: &Repo, kind: RefKind, name: &str, at: &Revision, overwrite: bool) -> Result<()> {
        let request = match kind {
            RefKind::Branch => {
                let body = json!({"startingPoint": at, "overwrite": overwrite});
                self.http.post(self.repo_url(repo, &["branch", name])?).json(&body)
            }
            RefKind::Tag => self.http.post(self.repo_url(repo, &["tag", at.as_str()])?).json(&json!({"tag": name})),
        };
        self.send(request.repeatable(true), repo, true).await?.discard().await
    }

    async fn delete_ref(&self, repo: &Repo, kind: RefKind, name: &str) -> Result<()> {
        let word = if kind == RefKind::Branch { "branch" } else { "tag" };
        let request = self.http.request(Method::DELETE, self.repo_url(repo, &[word, name])?);
        self.send(request.repeatable(true), repo, true).await?.discard().await
    }
}

impl Place {
    /// The same repository at another revision.
    pub(super) fn at(&self, rev: &str) -> Arc<Self> {
        let found = self.found.try_lock().ok().and_then(|found| found.clone());
        let kind = self.kind.or(found.as_ref().map(|repo| repo.kind));
        Arc::new(Self {
            api: self.api.clone(),
            kind,
            id: self.id.clone(),
            rev: Some(rev.to_owned()),
            found: tokio::sync::Mutex::new(found),
            seen: std::sync::Mutex::new(*self.seen.lock().unwrap_or_else(PoisonError::into_inner)),
            #[cfg(feature = "xet")]
            xet: self.xet.as_ref().map(super::xet::Way::anew),
        })
    }
}

#[async_trait]
impl Refs for Place {
    fn default_branch(&self) -> &str {
        DEFAULT_BRANCH
    }

    fn opened_at(&self) -> &str {
        self.rev.as_deref().unwrap_or(DEFAULT_BRANCH)
    }

    async fn list(&self) -> Result<RefList> {
        let (repo, _) = self.look(None, false).await?;
        self.api.refs(&repo).await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        self.api.commits(&self.repo(false).await?, &from.target).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(HfSource::new(self.at(rev))))
    }
}

#[async_trait]
impl RefTarget for Place {
    fn branch(&self, name: &str) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(HfTarget::new(self.at(name))?))
    }

    async fn change(&self, change: &RefChange) -> Result<()> {
        let repo = self.repo(true).await?;
        let RefChange { kind, name, from, to } = change;
        match (to, from) {
            (None, _) => self.api.delete_ref(&repo, *kind, name).await,
            // A tag cannot be moved: it is gone for a moment. When the new one is refused, the old one comes back.
            (Some(to), Some(from)) if *kind == RefKind::Tag => {
                match self.api.delete_ref(&repo, *kind, name).await {
                    Err(error) if error.kind() != Kind::NotFound => return Err(error),
                    _ => {}
                }
                let made = self.api.create_ref(&repo, *kind, name, to, false).await;
                if made.is_err() {
                    let _ = self.api.create_ref(&repo, *kind, name, from, false).await;
                }
                made
            }
            (Some(to), from) => self.api.create_ref(&repo, *kind, name, to, from.is_some()).await,
        }
    }
}
