//! The content store: repositories with real Git trees and commits in SQLite, and bytes in a folder, named by their SHA-256.
//!
//! # Layout of a data folder
//!
//! ```text
//! lock             held while a process owns the folder
//! hub.sqlite       repositories, refs, Git objects, which bytes a file has, and the bytes of small files
//! blobs/ab/cd/…    every other blob, named by its SHA-256
//! incoming/…       bytes on their way in; emptied at start
//! uploads/…        multipart uploads that are not complete yet
//! ```
//!
//! # What holds after a crash at any instant
//!
//! A blob file is complete before its name exists (temporary name, fsync, rename, fsync of the folder), its row is written after
//! that, and a commit is one SQLite transaction that names only blobs that have a row. So a repository is either as it was before
//! a commit or as it is after it, and a file that a tree names can always be read.
//!
//! # Branch names
//!
//! The store calls the default branch [`DEFAULT_BRANCH`] (`main`). A face whose clients call it otherwise translates at its edge;
//! see [`swap_default_branch`].

mod blobs;
mod commit;
mod database;
mod folder;
pub mod git;
mod history;
mod intake;
mod objects;
mod pieces;
mod pulls;
mod recent;
mod refs;
mod repos;
mod spool;
mod staging;
#[cfg(test)]
mod tests;
mod trees;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use hubferry_core::error::{Error, Kind, Result};

pub use blobs::BlobReader;
pub use commit::{Author, Change, Committed, Op};
pub use history::{CommitInfo, Step};
pub(crate) use intake::next_piece;
pub use objects::Content;
pub use pulls::{PULLS, Pull, PullStatus};
pub use refs::{BRANCHES, Ref, TAGS};
pub use repos::{Found, Gated, ListQuery as RepoQuery, NewRepo, Patch, Repo};
pub use spool::Spool;
pub use staging::{Inline, Staging};
pub use trees::{ListQuery, Listing, Page, TreeEntry, TreeFile};
pub use uploads::Upload;

use database::Database;
use folder::Folder;

/// What the store calls the branch every repository has.
pub const DEFAULT_BRANCH: &str = "main";

/// Exchanges `main` and `master` and leaves every other name alone. ModelScope calls the default branch `master` and Hugging Face
/// calls it `main`; because this is its own inverse, a real branch named `master` is not lost: ModelScope sees it as `main`.
pub fn swap_default_branch(name: &str) -> &str {
    match name {
        "main" => "master",
        "master" => "main",
        other => other,
    }
}

/// The one owner of a data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Database,
    folder: Arc<Folder>,
    uploads: Arc<uploads::Open>,
    recent: Arc<recent::Recent>,
}

impl Store {
    /// Opens a data folder, creating what is missing. Fails with [`Kind::Conflict`] while another process owns it.
    pub async fn open(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        let folder = blocking(move || Folder::open(&root)).await?;
        let db = Database::open(&folder.database()).await?;
        Ok(Self { db, folder: Arc::new(folder), uploads: Arc::default(), recent: Arc::default() })
    }

    /// Writes what SQLite still holds in its log and closes the database. The folder is free once every clone is gone.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// A key that stays the same for the life of the data folder, so that signed links survive a restart.
    pub async fn signing_key(&self) -> Result<[u8; 32]> {
        self.db.signing_key().await
    }
}

/// Runs file system work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::new(Kind::Bug, "a storage task ended without an answer").caused_by(e))?
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Sixteen unguessable hexadecimal digits times two.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(Kind::Io, format!("no random bytes from the operating system: {e}")))?;
    Ok(hex::encode(bytes))
}
