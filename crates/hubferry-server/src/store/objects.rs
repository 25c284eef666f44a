//! Git objects by their ids, with the bytes that Git hashes: what a pack is made of.
//!
//! Ids are global to the store. Whoever asks here has come to an id from a commit of a repository that may be read.

use std::collections::HashMap;

use bytes::Bytes;
use hubferry_core::digest::GitOid;
use hubferry_core::error::Result;
use hubferry_core::manifest::Blob;
use sqlx::Row;

use super::Store;
use super::database::{damaged, failed, list, parsed, to_size};
use super::{git, trees};

/// Larger contents are streamed, not returned.
const SMALL: u64 = 64 * 1024;

/// The bytes of a Git blob, or where they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// All of them: a small file, or the pointer to an LFS file.
    Bytes(Bytes),
    /// To be read by [`Store::open_blob`].
    Stored(Blob),
}

impl Store {
    /// The bytes of a tree or a commit, without Git's header.
    pub async fn object(&self, id: GitOid) -> Result<Vec<u8>> {
        trees::object(self.db.read(), id).await
    }

    /// The contents of these Git blobs, in their order. Ask for a few dozen at a time: each may have 64 KiB.
    pub async fn contents(&self, ids: &[GitOid]) -> Result<Vec<Content>> {
        let rows = sqlx::query(
            "SELECT f.id, f.sha256, f.size, f.lfs, CASE WHEN f.lfs OR f.size > ?2 THEN NULL ELSE b.content END AS content
             FROM files f LEFT JOIN blobs b ON b.sha256 = f.sha256 WHERE f.id IN (SELECT value FROM json_each(?1))",
        )
        .bind(list(ids))
        .bind(super::database::from_size(SMALL)?)
        .fetch_all(self.db.read())
        .await
        .map_err(failed)?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let blob = Blob { oid: parsed(row, "sha256")?, size: to_size(row.try_get("size").map_err(failed)?)? };
            let content: Option<Vec<u8>> = row.try_get("content").map_err(failed)?;
            let content = match content {
                _ if row.try_get("lfs").map_err(failed)? => Content::Bytes(git::pointer(&blob).into()),
                Some(bytes) => Content::Bytes(bytes.into()),
                None => Content::Stored(blob),
            };
            found.insert(parsed::<GitOid>(row, "id")?, content);
        }
        ids.iter().map(|id| found.get(id).cloned().ok_or_else(|| damaged(format!("file {id} is unknown")))).collect()
    }

    /// How many bytes Git keeps of each of these blobs: the length of the pointer for an LFS file. Unknown ids are left out.
    pub async fn content_sizes(&self, ids: &[GitOid]) -> Result<HashMap<GitOid, u64>> {
        let files = self.files(ids.iter().copied()).await?;
        Ok(files.into_iter().map(|(id, file)| (id, if file.lfs { file.pointer_size() } else { file.size })).collect())
    }

    /// One of these ids that is no tree, commit or file of any repository, if there is one. Says nothing about who may read the others.
    pub async fn unknown_object(&self, ids: &[GitOid]) -> Result<Option<GitOid>> {
        let row = sqlx::query(
            "SELECT wanted.value AS id FROM json_each(?1) wanted
             WHERE NOT EXISTS (SELECT 1 FROM files WHERE files.id = wanted.value)
               AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.id = wanted.value)
             LIMIT 1",
        )
        .bind(list(ids))
        .fetch_optional(self.db.read())
        .await
        .map_err(failed)?;
        row.map(|row| parsed(&row, "id")).transpose()
    }
}
