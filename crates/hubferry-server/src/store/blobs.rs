//! Blobs: taking bytes in while hashing them, and opening any range of them.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use hubferry_core::digest::{Digests, Oid, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{ByteStream, check_range};
use sqlx::Row;

use super::database::{damaged, failed, from_size, list, to_size};
use super::intake::{Intake, Sink, WriteBehind, next_piece};
use super::repos::{Repo, gone};
use super::{Store, blocking, pieces, random_name};

/// Bytes of a blob, ready to stream.
pub struct BlobReader {
    /// Size of the whole blob.
    pub size: u64,
    /// The bytes of the range that was asked for.
    pub stream: ByteStream,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Store {
    /// Takes a blob in. What arrives must have exactly the promised size and SHA-256, otherwise it is `Corrupt` and nothing of it
    /// is kept. A blob that is stored already is read and checked just the same: who claims a hash must have the bytes.
    pub async fn put_blob<E>(&self, blob: Blob, body: impl Stream<Item = Result<Bytes, E>> + Send) -> Result<()>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let size = from_size(blob.size)?;
        let mut intake = Intake::new(Incoming::create(self.folder.incoming(&random_name()?), blob).await?);
        if let Err(error) = fill(&mut intake, blob.size, body).await {
            intake.abandon().await;
            return Err(error);
        }
        let file = intake.finish().await?.finish()?;
        self.adopt(file, blob.oid, size).await
    }

    /// Names a verified file as a blob, and then makes it known.
    pub(super) async fn adopt(&self, file: TempFile, oid: Oid, size: i64) -> Result<()> {
        let folder = self.folder.clone();
        blocking(move || {
            folder.adopt(file.file()?, &file.path, &oid)?;
            file.keep();
            Ok(())
        })
        .await?;
        let mut tx = self.db.write().await?;
        sqlx::query("INSERT OR IGNORE INTO blobs (sha256, size) VALUES (?1, ?2)")
            .bind(oid.to_string())
            .bind(size)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    /// Which of these blobs the store can serve, to whatever repository they belong; the size must agree as well.
    pub async fn known(&self, blobs: &[Blob]) -> Result<Vec<Blob>> {
        let rows = sqlx::query("SELECT sha256, size FROM blobs WHERE sha256 IN (SELECT value FROM json_each(?1))")
            .bind(list(blobs.iter().map(|b| b.oid)))
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let oid = super::database::parsed(row, "sha256")?;
                Ok(Blob { oid, size: to_size(row.try_get("size").map_err(failed)?)? })
            })
            .filter(|found| found.as_ref().map_or(true, |found| blobs.contains(found)))
            .collect()
    }

    /// The size of a stored blob.
    pub async fn blob_size(&self, oid: Oid) -> Result<Option<u64>> {
        let row = sqlx::query("SELECT size FROM blobs WHERE sha256 = ?1")
            .bind(oid.to_string())
            .fetch_optional(self.db.read())
            .await
            .map_err(failed)?;
        row.map(|row| to_size(row.try_get(0).map_err(failed)?)).transpose()
    }

    /// Notes that a stored LFS object belongs to a repository: its commits may name it from now on.
    pub async fn link_blob(&self, repo: &Repo, oid: Oid) -> Result<()> {
        let mut tx = self.db.write().await?;
        let done = sqlx::query("INSERT OR IGNORE INTO lfs_objects (repo, sha256) VALUES (?1, ?2)")
            .bind(repo.id)
            .bind(oid.to_string())
            .execute(&mut *tx)
            .await;
        match done {
            Ok(_) => tx.commit().await.map_err(failed),
            Err(e) if e.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation) => Err(gone()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Which of these blobs were uploaded to this repository, with this size.
    pub async fn linked(&self, repo: &Repo, blobs: &[Blob]) -> Result<Vec<Blob>> {
        let rows = sqlx::query("SELECT sha256 FROM lfs_objects WHERE repo = ?1 AND sha256 IN (SELECT value FROM json_each(?2))")
            .bind(repo.id)
            .bind(list(blobs.iter().map(|b| b.oid)))
            .fetch_all(self.db.read())
            .await
            .map_err(failed)?;
        let oids = rows.iter().map(|row| super::database::parsed(row, "sha256")).collect::<Result<Vec<Oid>>>()?;
        let mine: Vec<Blob> = blobs.iter().copied().filter(|b| oids.contains(&b.oid)).collect();
        self.known(&mine).await
    }

    /// How many bytes of LFS objects belong to a repository.
    pub async fn used_storage(&self, repo: &Repo) -> Result<u64> {
        let row = sqlx::query("SELECT coalesce(sum(b.size), 0) FROM lfs_objects l JOIN blobs b ON b.sha256 = l.sha256 WHERE l.repo = ?1")
            .bind(repo.id)
            .fetch_one(self.db.read())
            .await
            .map_err(failed)?;
        to_size(row.try_get(0).map_err(failed)?)
    }

    /// Opens a range of a blob (`None`: all of it) for streaming in pieces.
    pub async fn open_blob(&self, oid: Oid, range: Option<Range<u64>>) -> Result<BlobReader> {
        let row = sqlx::query("SELECT size, content FROM blobs WHERE sha256 = ?1")
            .bind(oid.to_string())
            .fetch_optional(self.db.read())
            .await
            .map_err(failed)?
            .ok_or_else(|| Error::not_found("no such object").context("oid", oid))?;
        let size = to_size(row.try_get(0).map_err(failed)?)?;
        let range = range.unwrap_or(0..size);
        check_range(&range, size)?;
        let stream = match row.try_get::<Option<Vec<u8>>, _>(1).map_err(failed)? {
            Some(content) => from_memory(&content.into(), &range)?,
            None => self.stream_file(oid, range).await?,
        };
        Ok(BlobReader { size, stream })
    }

    async fn stream_file(&self, oid: Oid, range: Range<u64>) -> Result<ByteStream> {
        let path = self.folder.blob(&oid);
        let file = blocking(move || File::open(&path).map_err(|e| Error::io("open", &path, e))).await?;
        Ok(pieces::read(file, range))
    }

    /// All bytes of a small blob; `Invalid` when it is larger than `limit`.
    pub async fn read_blob(&self, oid: Oid, limit: u64) -> Result<Bytes> {
        let reader = self.open_blob(oid, None).await?;
        if reader.size > limit {
            return Err(Error::invalid(format!("the object has {} bytes, more than the {limit} taken here", reader.size)));
        }
        let mut all = BytesMut::new();
        let mut stream = reader.stream;
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }
}

fn from_memory(content: &Bytes, range: &Range<u64>) -> Result<ByteStream> {
    let index = |at: u64| {
        usize::try_from(at).ok().filter(|at| *at <= content.len()).ok_or_else(|| damaged("a small blob is shorter than its size"))
    };
    let part = content.slice(index(range.start)?..index(range.end)?);
    Ok(stream::iter([Ok(part)]).boxed())
}

/// A file that is removed again unless it is kept.
#[derive(Debug)]
pub(super) struct TempFile {
    file: Option<File>,
    pub(super) path: PathBuf,
}

impl TempFile {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Self { file: Some(file), path })
    }

    /// Takes over a file that exists already.
    pub(super) fn over(file: File, path: PathBuf) -> Self {
        Self { file: Some(file), path }
    }

    pub(super) fn file(&self) -> Result<&File> {
        self.file.as_ref().ok_or_else(|| Error::new(Kind::Bug, "a stored file was used after it was kept"))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        self.file()?.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    /// The file has its final name now.
    pub(super) fn keep(mut self) {
        self.file = None;
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Left behind, it is swept at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A blob on its way in.
struct Incoming {
    file: TempFile,
    verifier: Verifier,
    behind: WriteBehind,
}

impl Incoming {
    async fn create(path: PathBuf, blob: Blob) -> Result<Self> {
        let verifier = Verifier::new(blob.size, Digests::sha256(blob.oid), false);
        let behind = WriteBehind::new(path.clone());
        let file = blocking(move || TempFile::create(path)).await?;
        Ok(Self { file, verifier, behind })
    }

    fn finish(self) -> Result<TempFile> {
        self.verifier.finish()?;
        Ok(self.file)
    }
}

impl Sink for Incoming {
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.verifier.update(piece)?;
        self.file.write(piece)?;
        self.behind.wrote(piece.len());
        Ok(())
    }
}

/// Passes a body of at most `promised` bytes on. More is said before it is written, so that an endless body cannot fill the disk.
async fn fill<E>(intake: &mut Intake<Incoming>, promised: u64, body: impl Stream<Item = Result<Bytes, E>> + Send) -> Result<()>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut arrived = 0;
    let mut body = std::pin::pin!(body);
    while let Some(piece) = next_piece(&mut body).await? {
        arrived += piece.len() as u64;
        if arrived > promised {
            return Err(Error::new(Kind::Corrupt, format!("more than the promised {promised} bytes arrived")));
        }
        intake.push(&piece).await?;
    }
    Ok(())
}
