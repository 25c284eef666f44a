//! Pull requests: commits beside the default branch that become one commit on it, or nothing.

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::commit::{Author, Change};
use super::database::{Tx, failed, parsed};
use super::refs::{BRANCHES, point, target};
use super::repos::Repo;
use super::{DEFAULT_BRANCH, Store, now, trees};

/// Where the commits of pull requests lie.
pub const PULLS: &str = "refs/pr/";

/// Where a pull request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PullStatus {
    /// Not meant to be merged yet.
    Draft,
    /// Waiting to be merged.
    Open,
    /// Given up.
    Closed,
    /// On the default branch.
    Merged,
}

impl PullStatus {
    const ALL: [Self; 4] = [Self::Draft, Self::Open, Self::Closed, Self::Merged];

    /// The word of the Hub for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }
}

/// A pull request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Its number in the repository, from one.
    pub num: i64,
    /// One line.
    pub title: String,
    /// What its author says of it.
    pub description: String,
    /// Name of the user who opened it.
    pub author: String,
    /// Where it stands.
    pub status: PullStatus,
    /// The head of the default branch when it was opened.
    pub base: GitOid,
    /// The commit it became.
    pub merged: Option<GitOid>,
    /// Seconds since 1970.
    pub created: i64,
}

impl Pull {
    /// The ref that holds its commits.
    pub fn reference(&self) -> String {
        format!("{PULLS}{}", self.num)
    }
}

impl Store {
    /// Opens a pull request on the head of the default branch.
    pub async fn open_pull(&self, repo: &Repo, author: &str, title: &str, description: &str, status: PullStatus) -> Result<Pull> {
        let mut tx = self.db.write().await?;
        let base = head(&mut tx, repo).await?;
        let row = sqlx::query("SELECT coalesce(max(num), 0) + 1 FROM pulls WHERE repo = ?1").bind(repo.id).fetch_one(&mut *tx).await;
        let num: i64 = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        let (title, description, author) = (title.to_owned(), description.to_owned(), author.to_owned());
        let pull = Pull { num, title, description, author, status, base, merged: None, created: now() };
        sqlx::query(
            "INSERT INTO pulls (repo, num, title, description, author, status, base, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(repo.id)
        .bind(pull.num)
        .bind(&pull.title)
        .bind(&pull.description)
        .bind(&pull.author)
        .bind(pull.status.word())
        .bind(pull.base.to_string())
        .bind(pull.created)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        point(&mut tx, repo, &pull.reference(), base).await?;
        tx.commit().await.map_err(failed)?;
        Ok(pull)
    }

    /// A pull request by its number.
    pub async fn pull(&self, repo: &Repo, num: i64) -> Result<Option<Pull>> {
        let row = sqlx::query("SELECT * FROM pulls WHERE repo = ?1 AND num = ?2")
            .bind(repo.id)
            .bind(num)
            .fetch_optional(self.db.read())
            .await
            .map_err(failed)?;
        row.as_ref().map(from_row).transpose()
    }

    /// Every pull request, newest first.
    pub async fn pulls(&self, repo: &Repo) -> Result<Vec<Pull>> {
        let rows = sqlx::query("SELECT * FROM pulls WHERE repo = ?1 ORDER BY num DESC")
            .bind(repo.id)
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        rows.iter().map(from_row).collect()
    }

    /// Opens or closes a pull request. `Conflict` when it is merged already.
    pub async fn set_pull_status(&self, repo: &Repo, num: i64, status: PullStatus) -> Result<()> {
        let mut tx = self.db.write().await?;
        let pull = waiting(&mut tx, repo, num).await?;
        set_status(&mut tx, repo, pull.num, status, None).await?;
        tx.commit().await.map_err(failed)
    }

    /// Makes one commit of a pull request on the default branch. `Conflict` when it is not open, or when the branch has gone on since
    /// the pull request was opened: this hub merges no files.
    pub async fn merge_pull(&self, repo: &Repo, num: i64, author: Author) -> Result<GitOid> {
        let mut tx = self.db.write().await?;
        let pull = waiting(&mut tx, repo, num).await?;
        if pull.status != PullStatus::Open {
            return Err(Error::new(Kind::Conflict, format!("the pull request is {}, not open", pull.status.word())));
        }
        let main = head(&mut tx, repo).await?;
        if main != pull.base {
            return Err(Error::new(Kind::Conflict, "the branch has changed since the pull request was opened: this hub merges no files"));
        }
        let name = pull.reference();
        let proposed = target(&mut tx, repo, &name).await?.ok_or_else(|| Error::not_found(format!("invalid rev id: {name}")))?;
        let tree = trees::root(&mut *tx, proposed).await?;
        let message = format!("{} (#{num})\n\n{}", pull.title, pull.description);
        let change = Change::new(DEFAULT_BRANCH, author, message.trim_end(), Vec::new());
        let done = self.apply_on(&mut tx, repo, &change, &format!("{BRANCHES}{DEFAULT_BRANCH}"), Some(main), Some(tree)).await?;
        // What its commits touched, this one did.
        sqlx::query(
            "WITH RECURSIVE line (seq, id, parent) AS (
                 SELECT seq, id, parent FROM commits WHERE repo = ?1 AND id = ?2 AND id <> ?3
                 UNION ALL
                 SELECT c.seq, c.id, c.parent FROM line JOIN commits c ON c.repo = ?1 AND c.id = line.parent AND c.id <> ?3)
             INSERT OR IGNORE INTO touched (repo, path, seq)
             SELECT DISTINCT ?1, path, (SELECT seq FROM commits WHERE repo = ?1 AND id = ?4)
             FROM touched WHERE repo = ?1 AND seq IN (SELECT seq FROM line)",
        )
        .bind(repo.id)
        .bind(proposed.to_string())
        .bind(pull.base.to_string())
        .bind(done.commit.to_string())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        set_status(&mut tx, repo, num, PullStatus::Merged, Some(done.commit)).await?;
        tx.commit().await.map_err(failed)?;
        Ok(done.commit)
    }
}

async fn head(tx: &mut Tx, repo: &Repo) -> Result<GitOid> {
    let head = target(tx, repo, &format!("{BRANCHES}{DEFAULT_BRANCH}")).await?;
    head.ok_or_else(|| Error::not_found(format!("invalid rev id: {DEFAULT_BRANCH}")))
}

/// A pull request that is not merged yet.
async fn waiting(tx: &mut Tx, repo: &Repo, num: i64) -> Result<Pull> {
    let row = sqlx::query("SELECT * FROM pulls WHERE repo = ?1 AND num = ?2")
        .bind(repo.id)
        .bind(num)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    let pull = from_row(&row.ok_or_else(|| Error::not_found(format!("there is no pull request {num}")))?)?;
    if pull.status == PullStatus::Merged {
        return Err(Error::new(Kind::Conflict, "the pull request is merged already"));
    }
    Ok(pull)
}

async fn set_status(tx: &mut Tx, repo: &Repo, num: i64, status: PullStatus, merged: Option<GitOid>) -> Result<()> {
    sqlx::query("UPDATE pulls SET status = ?3, merged = ?4 WHERE repo = ?1 AND num = ?2")
        .bind(repo.id)
        .bind(num)
        .bind(status.word())
        .bind(merged.map(|commit| commit.to_string()))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

fn from_row(row: &SqliteRow) -> Result<Pull> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failed);
    let status = text("status")?;
    let merged: Option<String> = row.try_get("merged").map_err(failed)?;
    Ok(Pull {
        num: row.try_get("num").map_err(failed)?,
        title: text("title")?,
        description: text("description")?,
        author: text("author")?,
        status: PullStatus::ALL
            .into_iter()
            .find(|known| known.word() == status)
            .ok_or_else(|| super::database::damaged(format!("a pull request is {status:?}")))?,
        base: parsed(row, "base")?,
        merged: merged.map(|id| id.parse()).transpose().map_err(super::database::damaged)?,
        created: row.try_get("created").map_err(failed)?,
    })
}
