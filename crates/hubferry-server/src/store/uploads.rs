//! Multipart uploads: parts land at their place in one file; when it is complete it is hashed once and becomes a blob.
//!
//! Nothing about an upload is in the database. Its name is unguessable and its sizes travel in signed URLs, so parts may arrive
//! after a restart, in any order, and more than once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hubferry_core::digest::{Digests, Oid, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;

use super::blobs::{READ_PIECE, TempFile};
use super::database::from_size;
use super::{Store, blocking, random_name};

/// One multipart upload, as its signed URLs carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Its unguessable name.
    pub name: String,
    /// What it promises to become.
    pub blob: Blob,
    /// Size of every part but the last.
    pub part_size: u64,
}

/// Parts share a lock and completion excludes them: a part that arrives late must not change bytes that are hashed already.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<HashMap<String, Weak<RwLock<()>>>>);

impl Open {
    fn lock(&self, name: &str) -> Arc<RwLock<()>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = open.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        open.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl Upload {
    /// How many parts there are.
    pub fn parts(&self) -> u64 {
        self.blob.size.div_ceil(self.part_size.max(1))
    }

    /// Where part `number` (from 1) starts, and how long it is.
    fn place(&self, number: u64) -> Result<(u64, u64)> {
        if number == 0 || number > self.parts() {
            return Err(Error::invalid(format!("there is no part {number} of {}", self.parts())));
        }
        let start = (number - 1) * self.part_size;
        Ok((start, self.part_size.min(self.blob.size - start)))
    }
}

impl Store {
    /// Starts a multipart upload.
    pub async fn begin_upload(&self, blob: Blob, part_size: u64) -> Result<Upload> {
        from_size(blob.size)?;
        let upload = Upload { name: random_name()?, blob, part_size };
        let path = self.folder.upload(&upload.name);
        let folder = self.folder.clone();
        blocking(move || {
            folder.sweep_uploads()?;
            fs::create_dir(&path).map_err(|e| Error::io("create", &path, e))
        })
        .await?;
        Ok(upload)
    }

    /// Takes one part and returns its tag. `Corrupt` when it is not exactly as long as it has to be; `NotFound` when the upload is
    /// complete or was dropped.
    pub async fn put_part<E>(&self, upload: &Upload, number: u64, body: impl Stream<Item = Result<Bytes, E>> + Send) -> Result<String>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (start, length) = upload.place(number)?;
        let lock = self.uploads.lock(&upload.name);
        let _shared = lock.read().await;
        let path = self.folder.upload(&upload.name);
        let data = path.join("data");
        let mut part = blocking(move || Part::open(&data, start, length)).await?;
        let mut body = std::pin::pin!(body);
        let mut pending = BytesMut::new();
        while let Some(piece) = body.next().await {
            pending.extend_from_slice(&piece.map_err(|e| Error::new(Kind::Unavailable, "the upload broke off").caused_by(e))?);
            if pending.len() >= READ_PIECE {
                let piece = pending.split();
                part = blocking(move || part.write(&piece)).await?;
            }
        }
        blocking(move || part.write(&pending)?.finish(&path.join(number.to_string()))).await
    }

    /// Puts the parts together: every part must have arrived with the tag the client names, and the whole must have the promised
    /// hash; otherwise it is `Corrupt`, and a whole with a wrong hash is dropped.
    pub async fn complete_upload(&self, upload: &Upload, tags: &[(u64, String)]) -> Result<()> {
        let numbers: Vec<u64> = tags.iter().map(|(number, _)| *number).collect();
        if numbers != (1..=upload.parts()).collect::<Vec<_>>() {
            return Err(Error::invalid(format!("the parts 1 to {} must be named in order", upload.parts())));
        }
        let lock = self.uploads.lock(&upload.name);
        let _alone = lock.write().await;
        let path = self.folder.upload(&upload.name);
        let (blob, tags, at) = (upload.blob, tags.to_vec(), path.clone());
        let checked = blocking(move || {
            check_tags(&at, &tags)?;
            check_whole(&at.join("data"), blob)
        })
        .await;
        let file = match checked {
            Ok(file) => file,
            Err(error) if error.kind() == Kind::Corrupt => {
                drop_folder(path).await;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.adopt(file, blob.oid, from_size(blob.size)?).await?;
        drop_folder(path).await;
        Ok(())
    }
}

/// The blob is safe or refused by now: what cannot be removed is swept a day later.
async fn drop_folder(path: std::path::PathBuf) {
    let _ = tokio::fs::remove_dir_all(path).await;
}

struct Part {
    file: File,
    left: u64,
    hasher: Sha256,
}

impl Part {
    fn open(data: &Path, start: u64, length: u64) -> Result<Self> {
        let mut file = File::options().write(true).create(true).truncate(false).open(data).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("the specified upload does not exist"),
            _ => Error::io("open", data, e),
        })?;
        file.seek(SeekFrom::Start(start)).map_err(|e| Error::io("write", data, e))?;
        Ok(Self { file, left: length, hasher: Sha256::new() })
    }

    fn write(mut self, piece: &[u8]) -> Result<Self> {
        self.left =
            self.left.checked_sub(piece.len() as u64).ok_or_else(|| Error::new(Kind::Corrupt, "the part is longer than it may be"))?;
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|e| Error::new(Kind::Io, "cannot write a part").caused_by(e))?;
        Ok(self)
    }

    /// Notes the part's tag beside the data.
    fn finish(self, note: &Path) -> Result<String> {
        if self.left > 0 {
            return Err(Error::new(Kind::Corrupt, format!("the part is {} bytes too short", self.left)));
        }
        let tag = hex::encode(&self.hasher.finalize()[..16]);
        fs::write(note, &tag).map_err(|e| Error::io("write", note, e))?;
        Ok(tag)
    }
}

fn check_tags(folder: &Path, tags: &[(u64, String)]) -> Result<()> {
    if !folder.is_dir() {
        return Err(Error::not_found("the specified upload does not exist"));
    }
    for (number, tag) in tags {
        let noted = fs::read_to_string(folder.join(number.to_string())).unwrap_or_default();
        if noted.is_empty() || noted != tag.trim_matches('"') {
            return Err(Error::invalid(format!("part {number} was not uploaded, or its tag is another one")));
        }
    }
    Ok(())
}

fn check_whole(data: &Path, blob: Blob) -> Result<TempFile> {
    let mut file = File::options().read(true).write(true).open(data).map_err(|e| Error::io("open", data, e))?;
    let mut verifier = Verifier::new(blob.size, Digests::sha256(blob.oid), false);
    let mut piece = vec![0; READ_PIECE];
    loop {
        let got = file.read(&mut piece).map_err(|e| Error::io("read", data, e))?;
        if got == 0 {
            break;
        }
        verifier.update(&piece[..got])?;
    }
    verifier.finish()?;
    Ok(TempFile::over(file, data.to_owned()))
}

impl Upload {
    /// Whether a promise can be split at all; an empty file has no parts.
    pub fn is_sensible(blob: &Blob, part_size: u64) -> bool {
        part_size > 0 && blob.size > 0 && blob.oid != Oid::EMPTY
    }
}
