//! Repositories: create, find (also under an old name or in another case), list, change, rename, delete.

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;
use hubferry_core::remote::Visibility;
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::commit::{Author, Change, Op};
use super::database::{damaged, failed, is_taken};
use super::staging::Inline;
use super::{DEFAULT_BRANCH, Store, now};

/// Whether readers must be let in one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gated {
    /// Everybody who may see it may read it.
    #[default]
    No,
    /// Accepting the terms is enough.
    Auto,
    /// The owner decides.
    Manual,
}

impl Gated {
    fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::No, Self::Auto, Self::Manual].into_iter().find(|g| g.word() == word)
    }
}

/// One repository as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct Repo {
    /// Its number, which never changes and is never used again.
    pub id: i64,
    /// What it holds.
    pub kind: RepoKind,
    /// The namespace, in the spelling it was created with.
    pub owner: String,
    /// The name, in the spelling it was created with.
    pub name: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Whether its files need accepted terms.
    pub gated: Gated,
    /// Licence id, as given at creation.
    pub license: Option<String>,
    /// What one face keeps with it (ModelScope: `ChineseName`, `Description`, ...).
    pub details: Map<String, Value>,
    /// Seconds since 1970.
    pub created: i64,
    /// When a ref or a setting last changed, seconds since 1970.
    pub modified: i64,
}

impl Repo {
    /// `owner/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// What to create.
#[derive(Clone, Debug)]
pub struct NewRepo {
    /// What it will hold.
    pub kind: RepoKind,
    /// `owner/name`; the owner is required.
    pub id: RepoId,
    /// Who may see it.
    pub visibility: Visibility,
    /// Licence id, if given.
    pub license: Option<String>,
    /// What the face wants to keep with it.
    pub details: Map<String, Value>,
    /// The files of the first commit, and who makes it.
    pub files: Vec<(RepoPath, Inline)>,
    /// The author of the first commit.
    pub author: Author,
}

/// What to change; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Who may see it.
    pub visibility: Option<Visibility>,
    /// Whether its files need accepted terms.
    pub gated: Option<Gated>,
    /// Licence id.
    pub license: Option<String>,
    /// Replaces what the face keeps with it.
    pub details: Option<Map<String, Value>>,
}

/// A repository, and whether it was asked for by the very name it has now.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The repository.
    pub repo: Repo,
    /// False when it was renamed or asked for in another case: Hugging Face answers 307 then.
    pub canonical: bool,
}

/// Which repositories to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only this kind.
    pub kind: Option<RepoKind>,
    /// Only this namespace, in any case.
    pub owner: Option<String>,
    /// Only names that contain this, in any case.
    pub search: Option<String>,
}

impl Store {
    /// Creates a repository with its first commit on [`DEFAULT_BRANCH`]. `Conflict` when the name is taken, in any case.
    pub async fn create_repo(&self, new: NewRepo) -> Result<Repo> {
        let owner = new.id.owner().ok_or_else(|| Error::invalid("a repository needs a namespace: owner/name"))?.to_owned();
        let mut tx = self.db.write().await?;
        let time = now();
        let row = sqlx::query(
            "INSERT INTO repos (kind, owner, name, folded, visibility, gated, license, details, created, modified)
             VALUES (?1, ?2, ?3, ?4, ?5, 'no', ?6, ?7, ?8, ?8) RETURNING *",
        )
        .bind(new.kind.singular())
        .bind(owner)
        .bind(new.id.name())
        .bind(folded(&new.id))
        .bind(new.visibility.name())
        .bind(new.license)
        .bind(Value::Object(new.details).to_string())
        .bind(time)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| if is_taken(&e) { taken(new.kind, &new.id) } else { failed(e) })?;
        let repo = from_row(&row)?;
        // The name is somebody's own now: whoever had it before is no longer found by it.
        sqlx::query("DELETE FROM moved WHERE kind = ?1 AND folded = ?2")
            .bind(new.kind.singular())
            .bind(folded(&new.id))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let ops = new.files.into_iter().map(|(path, content)| Op::Put { path, content }).collect();
        let first = Change::new(DEFAULT_BRANCH, new.author, "initial commit", ops);
        self.apply_first(&mut tx, &repo, first).await?;
        tx.commit().await.map_err(failed)?;
        Ok(repo)
    }

    /// Finds a repository by its name, in any case, or by a name it had before.
    pub async fn find_repo(&self, kind: RepoKind, id: &RepoId) -> Result<Option<Found>> {
        let Some(owner) = id.owner() else { return Ok(None) };
        let row = sqlx::query(
            "SELECT * FROM repos WHERE kind = ?1 AND folded = ?2
             UNION ALL
             SELECT repos.* FROM moved JOIN repos ON repos.id = moved.repo WHERE moved.kind = ?1 AND moved.folded = ?2
             LIMIT 1",
        )
        .bind(kind.singular())
        .bind(folded(id))
        .fetch_optional(self.db.read())
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let repo = from_row(&row)?;
        let canonical = repo.owner == owner && repo.name == id.name();
        Ok(Some(Found { repo, canonical }))
    }

    /// Finds a repository by its number.
    pub async fn find_repo_by_number(&self, id: i64) -> Result<Option<Repo>> {
        let row = sqlx::query("SELECT * FROM repos WHERE id = ?1").bind(id).fetch_optional(self.db.read()).await.map_err(failed)?;
        row.as_ref().map(from_row).transpose()
    }

    /// Lists repositories, newest first. The caller filters by who may see them, and asks on from the last number it got.
    pub async fn list_repos(&self, query: &ListQuery, before: Option<i64>, limit: usize) -> Result<Vec<Repo>> {
        let rows = sqlx::query(
            "SELECT * FROM repos
             WHERE (?1 IS NULL OR kind = ?1)
               AND (?2 IS NULL OR lower(owner) = ?2)
               AND (?3 IS NULL OR instr(folded, ?3) > 0)
               AND (?4 IS NULL OR id < ?4)
             ORDER BY id DESC LIMIT ?5",
        )
        .bind(query.kind.map(RepoKind::singular))
        .bind(query.owner.as_ref().map(|o| o.to_lowercase()))
        .bind(query.search.as_ref().map(|s| s.to_lowercase()))
        .bind(before)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.db.read())
        .await
        .map_err(failed)?;
        rows.iter().map(from_row).collect()
    }

    /// Changes settings.
    pub async fn update_repo(&self, repo: &Repo, patch: &Patch) -> Result<Repo> {
        let mut tx = self.db.write().await?;
        let row = sqlx::query(
            "UPDATE repos SET visibility = coalesce(?2, visibility), gated = coalesce(?3, gated), license = coalesce(?4, license),
                    details = coalesce(?5, details), modified = ?6
             WHERE id = ?1 RETURNING *",
        )
        .bind(repo.id)
        .bind(patch.visibility.map(Visibility::name))
        .bind(patch.gated.map(Gated::word))
        .bind(patch.license.as_deref())
        .bind(patch.details.clone().map(|d| Value::Object(d).to_string()))
        .bind(now())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        from_row(&row.ok_or_else(gone)?)
    }

    /// Gives a repository another name; the old one keeps leading to it. `Conflict` when the new name is taken.
    pub async fn rename_repo(&self, repo: &Repo, to: &RepoId) -> Result<Repo> {
        let owner = to.owner().ok_or_else(|| Error::invalid("a repository needs a namespace: owner/name"))?;
        let mut tx = self.db.write().await?;
        let row = sqlx::query("UPDATE repos SET owner = ?2, name = ?3, folded = ?4, modified = ?5 WHERE id = ?1 RETURNING *")
            .bind(repo.id)
            .bind(owner)
            .bind(to.name())
            .bind(folded(to))
            .bind(now())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| if is_taken(&e) { taken(repo.kind, to) } else { failed(e) })?
            .ok_or_else(gone)?;
        let old = repo.full_name().to_lowercase();
        if old != folded(to) {
            sqlx::query("INSERT OR REPLACE INTO moved (kind, folded, repo) VALUES (?1, ?2, ?3)")
                .bind(repo.kind.singular())
                .bind(old)
                .bind(repo.id)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        sqlx::query("DELETE FROM moved WHERE kind = ?1 AND folded = ?2")
            .bind(repo.kind.singular())
            .bind(folded(to))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        from_row(&row)
    }

    /// Deletes a repository with its refs and history. Its blobs stay in the store: others may share them.
    pub async fn delete_repo(&self, repo: &Repo) -> Result<()> {
        let mut tx = self.db.write().await?;
        let done = sqlx::query("DELETE FROM repos WHERE id = ?1").bind(repo.id).execute(&mut *tx).await.map_err(failed)?;
        if done.rows_affected() == 0 {
            return Err(gone());
        }
        tx.commit().await.map_err(failed)
    }
}

/// The repository vanished between two steps of a request.
pub(super) fn gone() -> Error {
    Error::not_found("the repository does not exist any more")
}

fn taken(kind: RepoKind, id: &RepoId) -> Error {
    Error::new(Kind::Conflict, format!("the {kind} {id} exists already"))
}

fn folded(id: &RepoId) -> String {
    id.to_string().to_lowercase()
}

pub(super) fn from_row(row: &SqliteRow) -> Result<Repo> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(failed);
    let details: Value = serde_json::from_str(&text("details")?).map_err(damaged)?;
    let Value::Object(details) = details else { return Err(damaged("the details of a repository are no object")) };
    Ok(Repo {
        id: row.try_get("id").map_err(failed)?,
        kind: RepoKind::from_word(&text("kind")?).ok_or_else(|| damaged("unknown kind"))?,
        owner: text("owner")?,
        name: text("name")?,
        visibility: visibility(&text("visibility")?).ok_or_else(|| damaged("unknown visibility"))?,
        gated: Gated::from_word(&text("gated")?).ok_or_else(|| damaged("unknown gating"))?,
        license: row.try_get("license").map_err(failed)?,
        details,
        created: row.try_get("created").map_err(failed)?,
        modified: row.try_get("modified").map_err(failed)?,
    })
}

fn visibility(word: &str) -> Option<Visibility> {
    [Visibility::Public, Visibility::Private, Visibility::Internal].into_iter().find(|v| v.name() == word)
}
