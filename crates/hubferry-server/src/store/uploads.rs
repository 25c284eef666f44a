//! Multipart uploads: parts land at their place in one file, which becomes a blob when all of it has the promised hash.
//!
//! Nothing about an upload is in the database. Its name is unguessable and its sizes travel in signed URLs, so parts may arrive
//! after a restart, in any order, and more than once. Hashing follows the parts as they arrive, so that completing a large upload
//! does not keep the client waiting; whenever that cannot be trusted the whole file is read once more.

mod hashing;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::blobs::TempFile;
use super::database::from_size;
use super::intake::{Intake, Sink, WriteBehind, next_piece};
use super::repos::Repo;
use super::{Store, blocking, random_name};
use hashing::Hashing;

/// Longer than the folder keeps an unfinished upload: after that its hash state is of no use.
const FORGET: Duration = Duration::from_hours(25);

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

    /// The tag of a complete part. It is the same for every attempt, so it does not matter which answer a client got.
    fn tag(&self, number: u64) -> String {
        format!("{:.32}", Oid::of(format!("{}/{number}", self.name).as_bytes()))
    }

    /// Whether a promise can be split at all; an empty file has no parts.
    pub fn is_sensible(blob: &Blob, part_size: u64) -> bool {
        part_size > 0 && blob.size > 0 && blob.oid != Oid::EMPTY
    }
}

/// The uploads this process has seen parts of.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<HashMap<String, Arc<State>>>);

#[derive(Debug)]
struct State {
    /// Parts share it and completion excludes them: a part that arrives late must not change bytes that are hashed already.
    lock: Arc<RwLock<()>>,
    hashing: Hashing,
    since: Instant,
}

impl Open {
    fn state(&self, upload: &Upload) -> Arc<State> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, state| state.since.elapsed() < FORGET);
        let fresh = || Arc::new(State { lock: Arc::default(), hashing: Hashing::new(upload), since: Instant::now() });
        open.entry(upload.name.clone()).or_insert_with(fresh).clone()
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Store {
    /// Starts a multipart upload.
    pub async fn begin_upload(&self, blob: Blob, part_size: u64) -> Result<Upload> {
        from_size(blob.size)?;
        if !Upload::is_sensible(&blob, part_size) {
            return Err(Error::invalid("an empty file has no parts"));
        }
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
        let path = self.folder.upload(&upload.name);
        let data = path.join("data");
        let state = self.uploads.state(upload);
        let guard = state.lock.clone().read_owned().await;
        state.hashing.begin(number);
        let at = data.clone();
        let mut intake = Intake::new(blocking(move || Part::open(at, start, length, guard)).await?);
        let mut body = std::pin::pin!(body);
        while let Some(piece) = next_piece(&mut body).await? {
            intake.push(&piece).await?;
        }
        let part = intake.finish().await?;
        let tag = upload.tag(number);
        let note = tag.clone();
        let guard = blocking(move || part.finish(&path.join(number.to_string()), &note)).await?;
        // The client need not wait for the hash; whoever completes the upload waits for the guard.
        tokio::task::spawn_blocking(move || {
            state.hashing.finish(number, &data);
            drop(guard);
        });
        Ok(tag)
    }

    /// Puts the parts together and notes that the object belongs to the repository. Every part must have arrived with the tag the
    /// client names, and the whole must have the promised hash; otherwise it is `Corrupt`, and a whole with a wrong hash is
    /// dropped. The work goes on when the caller stops waiting: a client that lost its patience finds it done when it asks again,
    /// and then it is `Ok` as well.
    pub async fn complete_upload(&self, repo: &Repo, upload: &Upload, tags: Vec<(u64, String)>) -> Result<()> {
        let numbers = tags.iter().map(|(number, _)| *number);
        if !numbers.eq(1..=upload.parts()) {
            return Err(Error::invalid(format!("the parts 1 to {} must be named in order", upload.parts())));
        }
        let (store, repo, upload) = (self.clone(), repo.clone(), upload.clone());
        let work = tokio::spawn(async move { store.complete(&repo, &upload, tags).await });
        work.await.map_err(|e| Error::new(Kind::Bug, "a storage task ended without an answer").caused_by(e))?
    }

    async fn complete(&self, repo: &Repo, upload: &Upload, tags: Vec<(u64, String)>) -> Result<()> {
        let state = self.uploads.state(upload);
        let _alone = state.lock.clone().write_owned().await;
        let path = self.folder.upload(&upload.name);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            self.uploads.forget(&upload.name);
            let done = !self.linked(repo, &[upload.blob]).await?.is_empty();
            return if done { Ok(()) } else { Err(gone()) };
        }
        let (at, hashes) = (path.clone(), state.clone());
        let checked = blocking(move || {
            check_tags(&at, &tags)?;
            check_whole(&at.join("data"), &hashes.hashing)
        })
        .await;
        match checked {
            Ok(file) => {
                self.adopt(file, upload.blob.oid, from_size(upload.blob.size)?).await?;
                self.link_blob(repo, upload.blob.oid).await?;
                self.drop_upload(&upload.name, path).await;
                Ok(())
            }
            Err(error) => {
                if error.kind() == Kind::Corrupt {
                    self.drop_upload(&upload.name, path).await;
                }
                Err(error)
            }
        }
    }

    /// The blob is safe or refused by now: what cannot be removed is swept a day later.
    async fn drop_upload(&self, name: &str, path: PathBuf) {
        self.uploads.forget(name);
        let _ = tokio::fs::remove_dir_all(path).await;
    }
}

fn gone() -> Error {
    Error::not_found("the specified upload does not exist")
}

/// A part on its way in. It holds the upload's lock as long as it may still write, also when its request is dropped half way.
struct Part {
    file: File,
    left: u64,
    behind: WriteBehind,
    guard: OwnedRwLockReadGuard<()>,
}

impl Part {
    fn open(data: PathBuf, start: u64, length: u64, guard: OwnedRwLockReadGuard<()>) -> Result<Self> {
        let mut file = File::options().write(true).create(true).truncate(false).open(&data).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => gone(),
            _ => Error::io("open", &data, e),
        })?;
        file.seek(SeekFrom::Start(start)).map_err(|e| Error::io("write", &data, e))?;
        Ok(Self { file, left: length, behind: WriteBehind::new(data), guard })
    }

    /// Notes the part's tag beside the data, and gives the lock back.
    fn finish(self, note: &Path, tag: &str) -> Result<OwnedRwLockReadGuard<()>> {
        if self.left > 0 {
            return Err(Error::new(Kind::Corrupt, format!("the part is {} bytes too short", self.left)));
        }
        fs::write(note, tag).map_err(|e| Error::io("write", note, e))?;
        Ok(self.guard)
    }
}

impl Sink for Part {
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        let too_long = || Error::new(Kind::Corrupt, "the part is longer than it may be");
        self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
        self.file.write_all(piece).map_err(|e| Error::new(Kind::Io, "cannot write a part").caused_by(e))?;
        self.behind.wrote(piece.len());
        Ok(())
    }
}

fn check_tags(folder: &Path, tags: &[(u64, String)]) -> Result<()> {
    for (number, tag) in tags {
        let noted = fs::read_to_string(folder.join(number.to_string())).unwrap_or_default();
        if noted.is_empty() || noted != tag.trim_matches('"') {
            return Err(Error::invalid(format!("part {number} was not uploaded, or its tag is another one")));
        }
    }
    Ok(())
}

fn check_whole(data: &Path, hashing: &Hashing) -> Result<TempFile> {
    let mut file = File::options().read(true).write(true).open(data).map_err(|e| Error::io("open", data, e))?;
    hashing.verify(&mut file)?;
    Ok(TempFile::over(file, data.to_owned()))
}
