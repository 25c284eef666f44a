//! Blobs that wait in `.hubferry/staging` for their commit: named by oid, whole, hashed before they got that name.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use hubferry_core::digest::{GitHasher, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::Body;

use super::blocking;
use super::files::{look, remove_file};
use super::hashing::LARGEST_GIT;

/// Bytes collected before a thread is asked to write them.
const BATCH: usize = 1 << 20;

pub(super) fn folder(own: &Path) -> PathBuf {
    own.join("staging")
}

/// Where a staged blob lies.
pub(super) fn place(own: &Path, oid: Oid) -> PathBuf {
    folder(own).join(oid.to_string())
}

/// Whether a blob is staged. Its name was given after its hash was checked, so its size is all there is to look at.
pub(super) fn holds(own: &Path, blob: &Blob) -> Result<bool> {
    Ok(look(&place(own, blob.oid))?.is_some_and(|data| data.is_file() && data.len() == blob.size))
}

/// A name for a half-written file of a run.
pub(super) fn unfinished(own: &Path, run: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    folder(own).join(format!("{run}.{}.part", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Removes the half-written files of a dead run.
pub(super) fn remove_unfinished(own: &Path, run: &str) -> Result<()> {
    let folder = folder(own);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", &folder, error)),
    };
    let prefix = format!("{run}.");
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", &folder, error))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Pulls a blob to disk and gives it its name once every byte has arrived. Also computes the Git id of a small one.
pub(super) async fn store(own: &Path, run: &str, blob: Blob, body: &dyn Body) -> Result<Option<GitOid>> {
    let at = unfinished(own, run);
    let mut writer = blocking(move || Writer::create(at, blob.size)).await?;
    let mut stream = body.read(0..blob.size).await?;
    let mut batch: Vec<Bytes> = Vec::new();
    let mut held = 0;
    while let Some(bytes) = stream.try_next().await? {
        held += bytes.len();
        batch.push(bytes);
        if held >= BATCH {
            let full = std::mem::take(&mut batch);
            held = 0;
            writer = blocking(move || writer.write(&full)).await?;
        }
    }
    let place = place(own, blob.oid);
    blocking(move || writer.write(&batch)?.finish(&place)).await
}

/// A half-written file, which goes away with whoever gives it up.
struct Writer {
    file: File,
    at: PathBuf,
    size: u64,
    written: u64,
    git: Option<GitHasher>,
}

impl Writer {
    fn create(at: PathBuf, size: u64) -> Result<Self> {
        if let Some(folder) = at.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        }
        let file = File::create_new(&at).map_err(|error| Error::io("create", &at, error))?;
        Ok(Self { file, at, size, written: 0, git: (size <= LARGEST_GIT).then(|| GitHasher::new(size)) })
    }

    fn write(mut self, batch: &[Bytes]) -> Result<Self> {
        for bytes in batch {
            self.written += bytes.len() as u64;
            if self.written > self.size {
                return Err(Error::new(Kind::Corrupt, format!("more than the promised {} bytes arrived", self.size)));
            }
            self.file.write_all(bytes).map_err(|error| Error::io("write", &self.at, error))?;
            if let Some(git) = &mut self.git {
                git.update(bytes);
            }
        }
        Ok(self)
    }

    fn finish(mut self, place: &Path) -> Result<Option<GitOid>> {
        if self.written != self.size {
            return Err(Error::new(Kind::Corrupt, format!("{} of the promised {} bytes arrived", self.written, self.size)));
        }
        self.file.sync_all().map_err(|error| Error::io("write", &self.at, error))?;
        std::fs::rename(&self.at, place).map_err(|error| Error::io("rename", &self.at, error))?;
        Ok(self.git.take().map(GitHasher::finish))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a rename nothing has this name any more.
        drop(std::fs::remove_file(&self.at));
    }
}
