//! Commits: operations become trees, a commit object and a moved ref, all in one transaction.

mod apply;

use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};

use super::database::{Tx, failed, from_size};
use super::git::{CommitObject, object_id, pointer};
use super::refs::{BRANCHES, check_name, point, target};
use super::repos::{Repo, gone};
use super::staging::Inline;
use super::{Store, now, trees};
use apply::Draft;

/// Who makes a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Author {
    /// The name shown.
    pub name: String,
    /// The mail address Git wants; never sent anywhere.
    pub mail: String,
}

impl Author {
    /// A user of this hub.
    pub fn user(name: &str) -> Self {
        Self { name: name.to_owned(), mail: format!("{name}@users.noreply.localhost") }
    }

    /// `Name <mail>`, without what would break a commit object.
    fn line(&self) -> String {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect::<String>();
        format!("{} <{}>", clean(&self.name).trim(), clean(&self.mail).trim())
    }
}

/// One operation of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// The path holds these bytes.
    Put {
        /// Where.
        path: RepoPath,
        /// What, from [`Store::staging`].
        content: Inline,
    },
    /// The path holds an LFS object that is stored already.
    PutLfs {
        /// Where.
        path: RepoPath,
        /// Its hash.
        oid: Oid,
        /// Its size; `None` takes the stored one.
        size: Option<u64>,
    },
    /// The file is no more.
    DeleteFile {
        /// Where.
        path: RepoPath,
    },
    /// The folder and everything in it is no more.
    DeleteFolder {
        /// Where.
        path: RepoPath,
    },
    /// The path holds what another path holds before this commit; folders are copied whole.
    Copy {
        /// From where.
        from: RepoPath,
        /// Where.
        to: RepoPath,
    },
}

/// A commit that is wanted. Deletions are applied first, then copies, then puts.
#[derive(Clone, Debug)]
pub struct Change {
    /// The branch (`main`), or a full ref name (`refs/pr/1`).
    pub branch: String,
    /// The head the caller knows; `Conflict` when it is another one by now.
    pub parent: Option<GitOid>,
    /// What to do.
    pub ops: Vec<Op>,
    /// Who does it.
    pub author: Author,
    /// Summary line, then the rest.
    pub message: String,
    /// Seconds since 1970; `None` is now.
    pub time: Option<i64>,
    /// Make a commit even when no file changes; otherwise the head is returned as it is.
    pub allow_empty: bool,
    /// LFS objects must have been uploaded to this very repository (Hugging Face); otherwise the hub having them is enough
    /// (ModelScope).
    pub own_objects_only: bool,
}

impl Change {
    /// A commit on whatever the head is.
    pub fn new(branch: &str, author: Author, message: &str, ops: Vec<Op>) -> Self {
        Self {
            branch: branch.to_owned(),
            parent: None,
            ops,
            author,
            message: message.to_owned(),
            time: None,
            allow_empty: true,
            own_objects_only: false,
        }
    }
}

/// What came of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The head of the branch now.
    pub commit: GitOid,
    /// False when nothing changed and no commit was made.
    pub created: bool,
}

impl Store {
    /// Applies a change: all of it becomes visible at once, or nothing. `NotFound` when the branch or a path to delete is not there,
    /// `Conflict` when the head moved, `Invalid` for an LFS object that was not uploaded, a wrong size, or a path that would be a
    /// file and a folder.
    pub async fn commit(&self, repo: &Repo, change: Change) -> Result<Committed> {
        let name = full_name(&change.branch)?;
        let mut tx = self.db.write().await?;
        let head = target(&mut tx, repo, &name).await?.ok_or_else(|| Error::not_found(format!("invalid rev id: {}", change.branch)))?;
        if change.parent.is_some_and(|parent| parent != head) {
            return Err(Error::new(Kind::Conflict, "A commit has happened since. Please refresh and try again.").context("head", head));
        }
        let base = trees::root(&mut *tx, head).await?;
        let done = self.apply_on(&mut tx, repo, &change, &name, Some(head), Some(base)).await?;
        tx.commit().await.map_err(failed)?;
        Ok(done)
    }

    /// Makes the first commit of a repository that is being created.
    pub(super) async fn apply_first(&self, tx: &mut Tx, repo: &Repo, change: Change) -> Result<GitOid> {
        let name = full_name(&change.branch)?;
        Ok(self.apply_on(tx, repo, &change, &name, None, None).await?.commit)
    }

    /// Starts a branch without history and without files. `Conflict` when it exists, unless `overwrite`.
    pub async fn create_empty_branch(&self, repo: &Repo, branch: &str, author: Author, overwrite: bool) -> Result<GitOid> {
        let name = full_name(branch)?;
        let mut tx = self.db.write().await?;
        if !overwrite && target(&mut tx, repo, &name).await?.is_some() {
            return Err(Error::new(Kind::Conflict, format!("the reference {name} exists already")));
        }
        let change = Change::new(branch, author, "initial commit", Vec::new());
        let done = self.apply_on(&mut tx, repo, &change, &name, None, None).await?;
        tx.commit().await.map_err(failed)?;
        Ok(done.commit)
    }

    /// Replaces the history of a branch by one commit with the same files.
    pub async fn squash(&self, repo: &Repo, branch: &str, author: Author, message: &str) -> Result<GitOid> {
        let name = full_name(branch)?;
        let mut tx = self.db.write().await?;
        let head = target(&mut tx, repo, &name).await?.ok_or_else(|| Error::not_found(format!("invalid rev id: {branch}")))?;
        let base = trees::root(&mut *tx, head).await?;
        let mut change = Change::new(branch, author, message, Vec::new());
        // One second later than anything it could be mistaken for: the same files, author and second would be the same commit.
        change.time = Some(now());
        let done = self.apply_on(&mut tx, repo, &change, &name, None, Some(base)).await?;
        sqlx::query("INSERT OR IGNORE INTO touched (repo, path, seq) SELECT DISTINCT ?1, path, (SELECT seq FROM commits WHERE repo = ?1 AND id = ?2) FROM touched WHERE repo = ?1")
            .bind(repo.id)
            .bind(done.commit.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(done.commit)
    }

    pub(super) async fn apply_on(
        &self,
        tx: &mut Tx,
        repo: &Repo,
        change: &Change,
        name: &str,
        head: Option<GitOid>,
        base: Option<GitOid>,
    ) -> Result<Committed> {
        register(tx, repo, change).await?;
        let mut draft = Draft::new(base);
        draft.apply(tx, &change.ops).await?;
        let tree = draft.save(tx).await?;
        if let Some(head) = head.filter(|_| base == Some(tree) && !change.allow_empty) {
            return Ok(Committed { commit: head, created: false });
        }
        let author = change.author.line();
        let time = change.time.unwrap_or_else(now);
        let object = CommitObject { tree, parent: head, author: &author, time, message: &change.message };
        let bytes = object.encode();
        let commit = object_id("commit", &bytes);
        save_object(tx, commit, &bytes).await?;
        note_commit(tx, repo, commit, &object, draft.touched()).await?;
        point(tx, repo, name, commit).await?;
        Ok(Committed { commit, created: true })
    }
}

fn full_name(branch: &str) -> Result<String> {
    if let Some(short) = branch.strip_prefix("refs/") {
        check_name(short)?;
        return Ok(branch.to_owned());
    }
    check_name(branch)?;
    Ok(format!("{BRANCHES}{branch}"))
}

/// Makes the contents of a change known: small bytes, what Git ids mean, and which LFS objects belong to the repository.
async fn register(tx: &mut Tx, repo: &Repo, change: &Change) -> Result<()> {
    for op in &change.ops {
        match op {
            Op::Put { content, .. } => {
                if let Some(bytes) = &content.bytes {
                    sqlx::query("INSERT OR IGNORE INTO blobs (sha256, size, content) VALUES (?1, ?2, ?3)")
                        .bind(content.blob.oid.to_string())
                        .bind(from_size(content.blob.size)?)
                        .bind(&bytes[..])
                        .execute(&mut **tx)
                        .await
                        .map_err(failed)?;
                }
                match content.pointer {
                    Some(blob) => register_lfs(tx, repo, change, blob.oid, Some(blob.size)).await?,
                    None => register_file(tx, content.git, content.blob, false).await?,
                }
            }
            Op::PutLfs { oid, size, .. } => register_lfs(tx, repo, change, *oid, *size).await?,
            Op::DeleteFile { .. } | Op::DeleteFolder { .. } | Op::Copy { .. } => {}
        }
    }
    Ok(())
}

async fn register_lfs(tx: &mut Tx, repo: &Repo, change: &Change, oid: Oid, size: Option<u64>) -> Result<()> {
    let blob = stored(tx, repo, oid, change.own_objects_only).await?.ok_or_else(|| missing(oid))?;
    if let Some(claimed) = size.filter(|size| *size != blob.size) {
        return Err(Error::invalid(format!("the LFS object {oid} has {} bytes, not {claimed}", blob.size)));
    }
    if blob.size == 0 {
        return register_file(tx, GitOid::of(b""), blob, false).await;
    }
    sqlx::query("INSERT OR IGNORE INTO lfs_objects (repo, sha256) VALUES (?1, ?2)")
        .bind(repo.id)
        .bind(oid.to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    register_file(tx, GitOid::of(pointer(&blob).as_bytes()), blob, true).await
}

fn missing(oid: Oid) -> Error {
    Error::invalid("LFS pointer pointed to a file that does not exist").context("oid", oid)
}

/// The stored blob with this hash, if the repository may name it.
pub(super) async fn stored(tx: &mut Tx, repo: &Repo, oid: Oid, own_only: bool) -> Result<Option<Blob>> {
    use sqlx::Row;
    let row = sqlx::query(
        "SELECT size FROM blobs WHERE sha256 = ?1
         AND (NOT ?3 OR EXISTS (SELECT 1 FROM lfs_objects WHERE repo = ?2 AND lfs_objects.sha256 = ?1))",
    )
    .bind(oid.to_string())
    .bind(repo.id)
    .bind(own_only)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    row.map(|row| Ok(Blob { oid, size: super::database::to_size(row.try_get(0).map_err(failed)?)? })).transpose()
}

async fn register_file(tx: &mut Tx, git: GitOid, blob: Blob, lfs: bool) -> Result<()> {
    sqlx::query("INSERT OR IGNORE INTO files (id, sha256, size, lfs) VALUES (?1, ?2, ?3, ?4)")
        .bind(git.to_string())
        .bind(blob.oid.to_string())
        .bind(from_size(blob.size)?)
        .bind(lfs)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

pub(super) async fn save_object(tx: &mut Tx, id: GitOid, bytes: &[u8]) -> Result<()> {
    sqlx::query("INSERT OR IGNORE INTO objects (id, bytes) VALUES (?1, ?2)")
        .bind(id.to_string())
        .bind(bytes)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn note_commit(tx: &mut Tx, repo: &Repo, id: GitOid, object: &CommitObject<'_>, touched: Vec<String>) -> Result<()> {
    use sqlx::Row;
    // The same commit may come into being twice, for instance on two empty branches within one second.
    let row = sqlx::query(
        "INSERT INTO commits (repo, id, parent, tree, author, time, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (repo, id) DO UPDATE SET time = excluded.time RETURNING seq",
    )
    .bind(repo.id)
    .bind(id.to_string())
    .bind(object.parent.map(|p| p.to_string()))
    .bind(object.tree.to_string())
    .bind(object.author)
    .bind(object.time)
    .bind(object.message)
    .fetch_one(&mut **tx)
    .await
    .map_err(|e| {
        if e.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation) { gone() } else { failed(e) }
    })?;
    let seq: i64 = row.try_get(0).map_err(failed)?;
    sqlx::query("INSERT OR IGNORE INTO touched (repo, path, seq) SELECT ?1, value, ?2 FROM json_each(?3)")
        .bind(repo.id)
        .bind(seq)
        .bind(super::database::list(touched))
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}
