//! Changes too large for one commit: they gather in a pull request, which the hub merges as one commit.
//!
//! The calls are those of `huggingface_hub` 2.4.0 (`create_pull_request`, `change_discussion_status`, `merge_pull_request`).

use std::sync::Arc;

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Revision;
use hubferry_core::remote::{Draft, Drafts};
use serde_json::{Value, json};

use super::api::{Api, COMMIT_TIME, Repo};
use super::target::HfTarget;
use crate::http::clean;

/// Most characters of a title.
const TITLE: usize = 200;

impl Api {
    /// Opens a pull request; gives its number.
    async fn open_pull(&self, repo: &Repo, title: &str, description: &str) -> Result<u64> {
        let body = json!({"title": title, "description": description, "pullRequest": true});
        let request = self.http.post(self.repo_url(repo, &["discussions"])?).repeatable(false).json(&body);
        let error = match self.send(request, repo, true).await {
            Ok(response) => {
                let unclear = response.error(Kind::Unavailable, "the hub opened a pull request and did not say which").ambiguous();
                let answer: Value = response.json().await?;
                match answer["num"].as_u64() {
                    Some(number) => return Ok(number),
                    None => unclear,
                }
            }
            Err(error) => error,
        };
        // A lost answer: the newest open one of this title is ours, or as good as ours. The first commit in it says whether it is.
        if error.is_ambiguous()
            && let Some(number) = self.find_pull(repo, title).await?
        {
            return Ok(number);
        }
        Err(error)
    }

    async fn find_pull(&self, repo: &Repo, title: &str) -> Result<Option<u64>> {
        let query = [("type", "pull_request"), ("status", "open"), ("p", "0")];
        let request = self.http.get(self.repo_url(repo, &["discussions"])?).query(query);
        let answer: Value = self.send(request, repo, true).await?.json().await?;
        let all = answer["discussions"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().filter(|pull| pull["title"] == title).filter_map(|pull| pull["num"].as_u64()).max())
    }

    async fn set_pull_status(&self, repo: &Repo, number: u64, status: &str) -> Result<()> {
        let url = self.repo_url(repo, &["discussions", &number.to_string(), "status"])?;
        self.send(self.http.post(url).repeatable(true).json(&json!({"status": status})), repo, true).await?.discard().await
    }

    async fn merge_pull(&self, repo: &Repo, number: u64) -> Result<()> {
        let url = self.repo_url(repo, &["discussions", &number.to_string(), "merge"])?;
        let request = self.http.post(url).repeatable(false).answer_within(COMMIT_TIME).json(&json!({}));
        self.send(request, repo, true).await?.discard().await
    }

    /// Whether a pull request is merged already.
    async fn is_merged(&self, repo: &Repo, number: u64) -> Result<bool> {
        let request = self.http.get(self.repo_url(repo, &["discussions", &number.to_string()])?);
        let answer: Value = self.send(request, repo, true).await?.json().await?;
        Ok(answer["status"] == "merged")
    }
}

#[async_trait]
impl Drafts for HfTarget {
    async fn open(&self, message: &str) -> Result<Draft> {
        let repo = self.place.repo(true).await?;
        let (summary, rest) = message.split_once('\n').unwrap_or((message, ""));
        let title: String = clean(summary, TITLE).chars().take(TITLE).collect();
        let number = self.place.api.open_pull(&repo, &title, rest.trim()).await?;
        let target = Arc::new(Self::new(self.place.at(&format!("refs/pr/{number}")))?);
        Ok(Draft { name: format!("pull request {number}"), number, target })
    }

    async fn publish(&self, draft: &Draft, parent: &Revision) -> Result<Revision> {
        let api = &self.place.api;
        let repo = self.place.repo(true).await?;
        let head = || async { api.info(&repo, Some(&self.branch), true).await?.1.revision() };
        let before = head().await?;
        if before.as_ref() != Some(parent) {
            // It may be our own merge, whose answer was lost.
            if let (Some(merged), true) = (before, api.is_merged(&repo, draft.number).await?) {
                return Ok(merged);
            }
            return Err(Error::new(Kind::Conflict, format!("{} moved while {} was filled", repo.id, draft.name))
                .hint("run the same command again: what is stored already is not sent again"));
        }
        // Whatever is made by a program begins as a draft of a draft. A hub without that has nothing to change.
        match api.set_pull_status(&repo, draft.number, "open").await {
            Err(error) if !matches!(error.kind(), Kind::Invalid | Kind::Conflict | Kind::NotFound) => return Err(error),
            _ => {}
        }
        match api.merge_pull(&repo, draft.number).await {
            Err(error) if !(error.is_ambiguous() && api.is_merged(&repo, draft.number).await?) => return Err(error),
            _ => {}
        }
        head().await?.filter(|after| after != parent).ok_or_else(|| {
            Error::new(Kind::Unavailable, format!("the hub merged {} and still shows {} as it was", draft.name, repo.id))
                .hint("run the same command again in a while")
        })
    }

    async fn discard(&self, draft: &Draft) -> Result<()> {
        let repo = self.place.repo(true).await?;
        self.place.api.set_pull_status(&repo, draft.number, "closed").await
    }
}
