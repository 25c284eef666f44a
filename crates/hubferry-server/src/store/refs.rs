//! Branches and tags, and what a revision in a URL means.

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};
use sqlx::Row;

use super::database::{Tx, failed, is_taken, parsed};
use super::repos::{Repo, gone};
use super::{DEFAULT_BRANCH, Store, now};

/// Where branches lie.
pub const BRANCHES: &str = "refs/heads/";
/// Where tags lie.
pub const TAGS: &str = "refs/tags/";

/// Fewest digits by which a commit may be named.
const SHORTEST: usize = 5;

/// A name for a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ref {
    /// The full name: `refs/heads/main`, `refs/tags/v1`.
    pub name: String,
    /// The commit it names.
    pub target: GitOid,
    /// What the tagger wrote.
    pub message: Option<String>,
    /// When it was last set, seconds since 1970.
    pub changed: i64,
}

impl Store {
    /// The commit a revision names: a branch, a tag, a full ref name, or a commit id of this repository, in that order. A commit
    /// may be shortened to five digits as long as it is unmistakable.
    pub async fn resolve(&self, repo: &Repo, rev: &str) -> Result<GitOid> {
        let row = sqlx::query(
            "SELECT target FROM refs WHERE repo = ?1 AND name IN ('refs/heads/' || ?2, 'refs/tags/' || ?2, ?2)
             ORDER BY name = 'refs/heads/' || ?2 DESC, name = 'refs/tags/' || ?2 DESC LIMIT 1",
        )
        .bind(repo.id)
        .bind(rev)
        .fetch_optional(self.db.read())
        .await
        .map_err(failed)?;
        match row {
            Some(row) => parsed(&row, "target"),
            None => self.find_commit(repo, rev).await?.ok_or_else(|| Error::not_found(format!("invalid rev id: {rev}"))),
        }
    }

    /// A commit of this repository by its id or the beginning of it; `None` also when the beginning fits several.
    pub async fn find_commit(&self, repo: &Repo, id: &str) -> Result<Option<GitOid>> {
        let id = id.to_ascii_lowercase();
        if !(SHORTEST..=40).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let rows = sqlx::query("SELECT id FROM commits WHERE repo = ?1 AND id >= ?2 AND id < ?2 || 'g' LIMIT 2")
            .bind(repo.id)
            .bind(id)
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        match rows.as_slice() {
            [row] => parsed(row, "id").map(Some),
            _ => Ok(None),
        }
    }

    /// Every ref whose full name starts with `prefix` ([`BRANCHES`], [`TAGS`], `refs/`), by name.
    pub async fn refs(&self, repo: &Repo, prefix: &str) -> Result<Vec<Ref>> {
        let rows = sqlx::query("SELECT * FROM refs WHERE repo = ?1 AND substr(name, 1, length(?2)) = ?2 ORDER BY name")
            .bind(repo.id)
            .bind(prefix)
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|row| {
                Ok(Ref {
                    name: row.try_get("name").map_err(failed)?,
                    target: parsed(row, "target")?,
                    message: row.try_get("message").map_err(failed)?,
                    changed: row.try_get("changed").map_err(failed)?,
                })
            })
            .collect()
    }

    /// Whether a branch of this name exists (a tag or a commit does not count).
    pub async fn is_branch(&self, repo: &Repo, name: &str) -> Result<bool> {
        let row = sqlx::query("SELECT 1 FROM refs WHERE repo = ?1 AND name = 'refs/heads/' || ?2")
            .bind(repo.id)
            .bind(name)
            .fetch_optional(self.db.read())
            .await
            .map_err(failed)?;
        Ok(row.is_some())
    }

    /// Creates a branch at a commit. `Conflict` when it exists, unless `overwrite`.
    pub async fn create_branch(&self, repo: &Repo, name: &str, at: GitOid, overwrite: bool) -> Result<()> {
        check_name(name)?;
        self.create_ref(repo, &format!("{BRANCHES}{name}"), at, None, overwrite).await
    }

    /// Creates a tag at a commit. `Conflict` when it exists.
    pub async fn create_tag(&self, repo: &Repo, name: &str, at: GitOid, message: Option<&str>) -> Result<()> {
        check_name(name)?;
        self.create_ref(repo, &format!("{TAGS}{name}"), at, message, false).await
    }

    async fn create_ref(&self, repo: &Repo, name: &str, at: GitOid, message: Option<&str>, overwrite: bool) -> Result<()> {
        let mut tx = self.db.write().await?;
        if overwrite {
            drop_ref(&mut tx, repo, name).await?;
        }
        let done = sqlx::query("INSERT INTO refs (repo, name, target, message, changed) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(repo.id)
            .bind(name)
            .bind(at.to_string())
            .bind(message)
            .bind(now())
            .execute(&mut *tx)
            .await;
        match done {
            Ok(_) => tx.commit().await.map_err(failed),
            Err(e) if is_taken(&e) => Err(Error::new(Kind::Conflict, format!("the reference {name} exists already"))),
            Err(e) if e.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation) => Err(gone()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Deletes a branch; the default branch is refused.
    pub async fn delete_branch(&self, repo: &Repo, name: &str) -> Result<()> {
        if name == DEFAULT_BRANCH {
            return Err(Error::invalid("the default branch cannot be deleted"));
        }
        self.delete_ref(repo, &format!("{BRANCHES}{name}"), name).await
    }

    /// Deletes a tag.
    pub async fn delete_tag(&self, repo: &Repo, name: &str) -> Result<()> {
        self.delete_ref(repo, &format!("{TAGS}{name}"), name).await
    }

    /// Creates, moves or deletes (`to` is `None`) a ref by its full name, if it is where the caller believes it to be (`from`; `None` is
    /// not there): `Conflict` when it is not. `NotFound` when the repository has no such commit.
    pub async fn move_ref(&self, repo: &Repo, name: &str, from: Option<GitOid>, to: Option<GitOid>) -> Result<()> {
        let short = name.strip_prefix(BRANCHES).or_else(|| name.strip_prefix(TAGS)).or_else(|| name.strip_prefix("refs/"));
        check_name(short.unwrap_or("refs/"))?;
        if to.is_none() && name.strip_prefix(BRANCHES) == Some(DEFAULT_BRANCH) {
            return Err(Error::invalid("the default branch cannot be deleted"));
        }
        let mut tx = self.db.write().await?;
        if target(&mut tx, repo, name).await? != from {
            return Err(Error::new(Kind::Conflict, format!("{name} was changed meanwhile: look at it again")));
        }
        // What a tagger wrote was about the commit before.
        drop_ref(&mut tx, repo, name).await?;
        if let Some(to) = to {
            let known = sqlx::query("SELECT 1 FROM commits WHERE repo = ?1 AND id = ?2")
                .bind(repo.id)
                .bind(to.to_string())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            known.ok_or_else(|| Error::not_found(format!("this repository has no commit {to}")))?;
            point(&mut tx, repo, name, to).await?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn delete_ref(&self, repo: &Repo, full: &str, short: &str) -> Result<()> {
        let mut tx = self.db.write().await?;
        if !drop_ref(&mut tx, repo, full).await? {
            return Err(Error::not_found(format!("invalid rev id: {short}")));
        }
        tx.commit().await.map_err(failed)
    }
}

async fn drop_ref(tx: &mut Tx, repo: &Repo, name: &str) -> Result<bool> {
    let done =
        sqlx::query("DELETE FROM refs WHERE repo = ?1 AND name = ?2").bind(repo.id).bind(name).execute(&mut **tx).await.map_err(failed)?;
    Ok(done.rows_affected() > 0)
}

/// Where a ref points, inside a transaction.
pub(super) async fn target(tx: &mut Tx, repo: &Repo, name: &str) -> Result<Option<GitOid>> {
    let row = sqlx::query("SELECT target FROM refs WHERE repo = ?1 AND name = ?2")
        .bind(repo.id)
        .bind(name)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    row.map(|row| parsed(&row, "target")).transpose()
}

/// Points a ref at a commit, inside a transaction.
pub(super) async fn point(tx: &mut Tx, repo: &Repo, name: &str, at: GitOid) -> Result<()> {
    let time = now();
    sqlx::query(
        "INSERT INTO refs (repo, name, target, changed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (repo, name) DO UPDATE SET target = excluded.target, changed = excluded.changed",
    )
    .bind(repo.id)
    .bind(name)
    .bind(at.to_string())
    .bind(time)
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    sqlx::query("UPDATE repos SET modified = ?2 WHERE id = ?1").bind(repo.id).bind(time).execute(&mut **tx).await.map_err(failed)?;
    Ok(())
}

/// What Git allows as a branch or tag name, and nothing that reads as a full ref name.
pub(super) fn check_name(name: &str) -> Result<()> {
    let bad_part =
        |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with('.') || part.to_ascii_lowercase().ends_with(".lock");
    let bad = name.len() > 200
        || name.starts_with('-')
        || name.starts_with("refs/")
        || name == "HEAD"
        || name == "@"
        || name.contains("..")
        || name.contains("@{")
        || name.chars().any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'))
        || name.split('/').any(bad_part);
    if bad { Err(Error::invalid(format!("{name:?} is not a possible name for a branch or a tag"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_git() {
        for good in ["main", "v1.0", "feature/x", "ü", "a.b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "refs/heads/x", "a..b", "a b", "-x", ".x", "x.", "a//b", "x.lock", "a~1", "HEAD", "@", "x\n", "a\\b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
