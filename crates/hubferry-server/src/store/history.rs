//! History: the commits behind a commit, and which one last touched a path.

use std::collections::HashMap;

use hubferry_core::digest::GitOid;
use hubferry_core::error::Result;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::database::{failed, list, parsed};
use super::repos::Repo;

/// What is known of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitInfo {
    /// Its id.
    pub id: GitOid,
    /// Its root folder.
    pub tree: GitOid,
    /// The one before.
    pub parent: Option<GitOid>,
    /// Who made it, as `Name <mail>`.
    pub author: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Summary line, then the rest.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// What follows the first line.
    pub fn description(&self) -> &str {
        self.message.split_once('\n').map_or("", |(_, rest)| rest.trim())
    }

    /// The author without the mail address.
    pub fn author_name(&self) -> &str {
        self.author.split_once(" <").map_or(&self.author, |(name, _)| name)
    }
}

/// One commit as a walk through the history needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The one before.
    pub parent: Option<GitOid>,
    /// Its root folder.
    pub tree: GitOid,
    /// Seconds since 1970.
    pub time: i64,
}

impl Store {
    /// Every commit of a repository, also those that no ref leads to any more: about a hundred bytes each.
    pub async fn history(&self, repo: &Repo) -> Result<HashMap<GitOid, Step>> {
        let rows = sqlx::query("SELECT id, parent, tree, time FROM commits WHERE repo = ?1")
            .bind(repo.id)
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let parent: Option<&str> = row.try_get("parent").map_err(failed)?;
                let parent = parent.map(str::parse).transpose()?;
                Ok((parsed(row, "id")?, Step { parent, tree: parsed(row, "tree")?, time: row.try_get("time").map_err(failed)? }))
            })
            .collect()
    }

    /// One commit of a repository.
    pub async fn commit_info(&self, repo: &Repo, id: GitOid) -> Result<Option<CommitInfo>> {
        let row = sqlx::query("SELECT * FROM commits WHERE repo = ?1 AND id = ?2")
            .bind(repo.id)
            .bind(id.to_string())
            .fetch_optional(self.db.read())
            .await
            .map_err(failed)?;
        row.as_ref().map(from_row).transpose()
    }

    /// The commits from `from` back to the first, newest first.
    pub async fn commits(&self, repo: &Repo, from: GitOid, skip: usize, limit: usize) -> Result<Vec<CommitInfo>> {
        let rows = sqlx::query(
            "WITH RECURSIVE line (seq, parent) AS (
                 SELECT seq, parent FROM commits WHERE repo = ?1 AND id = ?2
                 UNION ALL
                 SELECT c.seq, c.parent FROM line JOIN commits c ON c.repo = ?1 AND c.id = line.parent)
             SELECT commits.* FROM line JOIN commits ON commits.seq = line.seq ORDER BY commits.seq DESC LIMIT ?4 OFFSET ?3",
        )
        .bind(repo.id)
        .bind(from.to_string())
        .bind(i64::try_from(skip).unwrap_or(i64::MAX))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.db.read())
        .await
        .map_err(failed)?;
        rows.iter().map(from_row).collect()
    }

    /// How many commits lead to `from`, itself included.
    pub async fn count_commits(&self, repo: &Repo, from: GitOid) -> Result<u64> {
        let row = sqlx::query(
            "WITH RECURSIVE line (parent) AS (
                 SELECT parent FROM commits WHERE repo = ?1 AND id = ?2
                 UNION ALL
                 SELECT c.parent FROM line JOIN commits c ON c.repo = ?1 AND c.id = line.parent)
             SELECT count(*) FROM line",
        )
        .bind(repo.id)
        .bind(from.to_string())
        .fetch_one(self.db.read())
        .await
        .map_err(failed)?;
        super::database::to_size(row.try_get(0).map_err(failed)?)
    }

    /// For each path (file or folder) the last commit up to `at` that changed it.
    pub async fn last_commits<'a>(
        &self,
        repo: &Repo,
        at: GitOid,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashMap<String, CommitInfo>> {
        let rows = sqlx::query(
            "WITH RECURSIVE line (seq, parent) AS (
                 SELECT seq, parent FROM commits WHERE repo = ?1 AND id = ?2
                 UNION
                 SELECT c.seq, c.parent FROM line JOIN commits c ON c.repo = ?1 AND c.id = line.parent),
             past (seq) AS MATERIALIZED (SELECT seq FROM line),
             last (path, seq) AS (
                 SELECT wanted.value,
                        (SELECT max(t.seq) FROM touched t WHERE t.repo = ?1 AND t.path = wanted.value AND t.seq IN (SELECT seq FROM past))
                 FROM json_each(?3) wanted)
             SELECT last.path, commits.* FROM last JOIN commits ON commits.seq = last.seq",
        )
        .bind(repo.id)
        .bind(at.to_string())
        .bind(list(paths))
        .fetch_all(self.db.read())
        .await
        .map_err(failed)?;
        // Thousands of files usually share a few commits; that is the caller's to exploit, the rows are small.
        rows.iter().map(|row| Ok((row.try_get("path").map_err(failed)?, from_row(row)?))).collect()
    }
}

fn from_row(row: &SqliteRow) -> Result<CommitInfo> {
    let parent: Option<&str> = row.try_get("parent").map_err(failed)?;
    Ok(CommitInfo {
        id: parsed(row, "id")?,
        tree: parsed(row, "tree")?,
        parent: parent.map(str::parse).transpose()?,
        author: row.try_get("author").map_err(failed)?,
        time: row.try_get("time").map_err(failed)?,
        message: row.try_get("message").map_err(failed)?,
    })
}
