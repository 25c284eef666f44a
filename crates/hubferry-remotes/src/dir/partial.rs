//! An unfinished blob on the disk: a file that takes bytes in any order, and a journal of what is in it. Both belong to one run;
//! when its process dies, the next run goes on with them.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hubferry_core::digest::{Fingerprint, Fingerprinter, GitHasher, GitOid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Kept, Note, Partial};
use tokio::sync::{OwnedMutexGuard, RwLock};

use super::blocking;
use super::hashing::LARGEST_GIT;
use super::notes::{self, Notes};
use super::positioned::{read_at, write_all_at};
use super::run::Run;
use super::salvage::{Leftover, inherited, of_the_living};
use super::staging::{LAZY, Name, Stem};

/// This many bytes are sent to the disk while more arrive, so that little is left to wait for at the end.
const AHEAD: u64 = 32 << 20;
/// Pieces in which files of our own are read.
const PIECE: usize = 1 << 20;
/// A longer block is not copied: no run of ours notes one.
const LONGEST_BLOCK: u64 = 256 << 20;

/// Notes that come within this time of the last ones that were written down wait for the next bytes: a call for each of them
/// would cost more than writing the bytes they are about.
const TOGETHER: Duration = Duration::from_millis(20);

/// The file of an unfinished blob in the folder of a run.
pub(super) struct DiskPartial(Arc<Shared>);

struct Shared {
    run: Arc<Run>,
    blob: Blob,
    stem: Stem,
    data: File,
    data_at: PathBuf,
    journal: Mutex<Journal>,
    journal_at: PathBuf,
    /// What earlier runs noted, and what was copied from others.
    notes: Mutex<Notes>,
    /// Whether anything was noted.
    noted: AtomicBool,
    /// Nobody should go on with this.
    worthless: AtomicBool,
    /// Held, shared, by whatever still works on the file.
    busy: Arc<RwLock<()>>,
    /// Bytes written since the disk was last asked to take them.
    waiting: AtomicU64,
    syncing: AtomicBool,
    /// Who writes. File systems let one at a time write to a file, and the others would turn in circles on a processor meanwhile.
    pen: tokio::sync::Mutex<()>,
    /// Why the disk did not take them.
    failed: Mutex<Option<Error>>,
    /// Whoever still has bytes comes too late.
    over: AtomicBool,
    turn: Mutex<Option<OwnedMutexGuard<()>>>,
}

/// Where notes are written down.
struct Journal {
    file: Option<File>,
    /// Lines that wait for the next bytes.
    waiting: Vec<u8>,
    written: Instant,
}

impl DiskPartial {
    /// Goes on with what is there of `blob`, or begins anew.
    pub(super) async fn open(run: &Arc<Run>, blob: Blob) -> Result<Self> {
        let turn = run.turn(blob.oid).await;
        let run = Arc::clone(run);
        let (partial, leftovers) = blocking(move || {
            let mut found = inherited(&run, &blob)?;
            let best = found.iter().position(|leftover| leftover.ours);
            let best = best.map(|n| found.remove(n));
            let partial = Self(Arc::new(Shared::open(Arc::clone(&run), blob, best, turn)?));
            if partial.0.notes().bytes() < blob.size {
                found.extend(of_the_living(&run, &blob)?);
            }
            Ok((partial, found))
        })
        .await?;
        for leftover in leftovers {
            partial.copy_from(leftover).await?;
        }
        Ok(partial)
    }

    /// Takes over, block by block, what another unfinished file has more than this one: cheaper than any wire.
    async fn copy_from(&self, leftover: Leftover) -> Result<()> {
        let leftover = Arc::new(leftover);
        let missing: Vec<_> = {
            let own = self.0.notes();
            leftover.notes.blocks().filter(|(range, _)| !own.touches(range) && range.end - range.start <= LONGEST_BLOCK).collect()
        };
        for (range, fingerprint) in missing {
            let from = Arc::clone(&leftover);
            self.work(move |shared| shared.copy_block(&from, range, fingerprint)).await?;
        }
        if leftover.dead {
            blocking(move || leftover.remove()).await?;
        }
        Ok(())
    }

    /// File work that must be over before the file is finished or given up, even if nobody waits for it any more.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let at_work = Arc::clone(&self.0.busy).read_owned().await;
        if self.0.over.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "nobody waits for this file any more"));
        }
        let shared = Arc::clone(&self.0);
        blocking(move || {
            let result = work(&shared);
            drop((shared, at_work));
            result
        })
        .await
    }

    /// Asks the disk to take what was written, if that is much. Writing goes on meanwhile.
    async fn sync_ahead(&self, written: u64) {
        let shared = &self.0;
        let waiting = shared.waiting.fetch_add(written, Ordering::Relaxed) + written;
        if waiting < AHEAD || shared.syncing.swap(true, Ordering::Relaxed) {
            return;
        }
        shared.waiting.store(0, Ordering::Relaxed);
        let at_work = Arc::clone(&shared.busy).read_owned().await;
        let shared = Arc::clone(shared);
        drop(tokio::task::spawn_blocking(move || {
            // First the bytes, then what says that they are there.
            if let Err(error) = shared.sync().and_then(|()| shared.sync_journal()) {
                shared.fail(error);
            }
            shared.syncing.store(false, Ordering::Relaxed);
            drop((shared, at_work));
        }));
    }

    /// Every byte is there and was checked: gives the blob its name. Also computes the Git id of a small one.
    pub(super) async fn finish(&self) -> Result<Option<GitOid>> {
        self.conclude(|shared| {
            let result = shared.finish();
            if result.is_err() {
                shared.put_away();
            }
            result
        })
        .await
    }

    /// Keeps what was noted for the next try, unless it is known to be `worthless`.
    pub(super) async fn give_up(&self, worthless: bool) {
        let result = self.conclude(move |shared| {
            shared.worthless.fetch_or(worthless, Ordering::Relaxed);
            shared.put_away();
            Ok(())
        });
        drop(result.await);
    }

    /// The last work on the file: once nobody writes any more, and nobody may afterwards.
    async fn conclude<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let quiet = Arc::clone(&self.0.busy).write_owned().await;
        self.0.over.store(true, Ordering::Relaxed);
        let shared = Arc::clone(&self.0);
        blocking(move || {
            let result = work(&shared);
            drop(shared.turn().take());
            drop((shared, quiet));
            result
        })
        .await
    }
}

#[async_trait]
impl Partial for DiskPartial {
    async fn kept(&self) -> Result<Kept> {
        Ok(self.0.notes().kept())
    }

    async fn write(&self, at: u64, pieces: Vec<Bytes>) -> Result<()> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if at.checked_add(length).is_none_or(|end| end > self.0.blob.size) {
            return Err(Error::new(Kind::Corrupt, format!("more than the promised {} bytes arrived", self.0.blob.size)));
        }
        let pen = self.0.pen.lock().await;
        self.work(move |shared| {
            shared.check()?;
            write_all_at(&shared.data, at, &pieces).map_err(|error| Error::io("write", &shared.data_at, error))?;
            shared.write_notes()
        })
        .await?;
        drop(pen);
        self.sync_ahead(length).await;
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.work(move |shared| read_at(&shared.data, range).map_err(|error| Error::io("read", &shared.data_at, error))).await
    }

    async fn note(&self, notes: Vec<Note>) -> Result<()> {
        if self.0.note(&notes)? {
            return Ok(());
        }
        self.work(Shared::write_notes).await
    }
}

impl Shared {
    fn open(run: Arc<Run>, blob: Blob, best: Option<Leftover>, turn: OwnedMutexGuard<()>) -> Result<Self> {
        let stem = best.as_ref().map_or_else(|| Stem::new(blob.oid), |best| best.stem);
        let data_at = run.folder().join(Name::Part(stem).to_string());
        let journal_at = run.folder().join(Name::Journal(stem).to_string());
        let (data, journal, notes) = match best {
            None => (File::options().read(true).write(true).create_new(true).open(&data_at), None, Notes::default()),
            Some(best) => {
                let write = |error| Error::io("write", &journal_at, error);
                let journal = File::options().append(true).open(&journal_at).map_err(write)?;
                // What a crash left of a last line must not swallow the next one.
                journal.set_len(best.notes.whole).map_err(write)?;
                (Ok(best.data), Some(journal), best.notes)
            }
        };
        let data = data.map_err(|error| Error::io("create", &data_at, error))?;
        let noted = AtomicBool::new(notes.bytes() > 0);
        Ok(Self {
            run,
            blob,
            stem,
            data,
            data_at,
            journal: Mutex::new(Journal { file: journal, waiting: Vec::new(), written: Instant::now() }),
            journal_at,
            notes: Mutex::new(notes),
            noted,
            worthless: AtomicBool::new(false),
            busy: Arc::default(),
            waiting: AtomicU64::new(0),
            syncing: AtomicBool::new(false),
            pen: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            over: AtomicBool::new(false),
            turn: Mutex::new(Some(turn)),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Option<OwnedMutexGuard<()>>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the notes may wait for the next bytes.
    fn note(&self, notes: &[Note]) -> Result<bool> {
        let mut journal = self.journal();
        notes::lines(&mut journal.waiting, notes)?;
        Ok(journal.waiting.is_empty() || journal.written.elapsed() < TOGETHER)
    }

    fn write_notes(&self) -> Result<()> {
        let mut journal = self.journal();
        if journal.waiting.is_empty() {
            return Ok(());
        }
        let mut text = std::mem::take(&mut journal.waiting);
        let file = if let Some(file) = &mut journal.file {
            file
        } else {
            text.splice(..0, notes::header(&self.blob)?);
            let made = File::options().append(true).create_new(true).open(&self.journal_at);
            journal.file.insert(made.map_err(|error| Error::io("create", &self.journal_at, error))?)
        };
        // One call, so that a crash leaves whole lines but for the last.
        file.write_all(&text).map_err(|error| Error::io("write", &self.journal_at, error))?;
        journal.written = Instant::now();
        self.noted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Copies a block if it is what was noted. Otherwise nothing is noted of it here, and it is as if nothing were there.
    fn copy_block(&self, from: &Leftover, range: Range<u64>, fingerprint: Fingerprint) -> Result<()> {
        let mut found = Fingerprinter::new(0);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PIECE as u64);
            let Ok(piece) = read_at(&from.data, at..end) else { return Ok(()) };
            found.update(&piece);
            write_all_at(&self.data, at, &[piece]).map_err(|error| Error::io("write", &self.data_at, error))?;
            at = end;
        }
        if from.whole || found.finish() == fingerprint {
            let note = Note::Block { range, fingerprint: found.finish() };
            self.note(std::slice::from_ref(&note))?;
            self.write_notes()?;
            self.notes().add(note);
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.data.sync_data().map_err(|error| Error::io("write", &self.data_at, error))
    }

    fn sync_journal(&self) -> Result<()> {
        let journal = self.journal().file.as_ref().map(File::try_clone);
        let Some(journal) = journal else { return Ok(()) };
        journal.and_then(|file| file.sync_data()).map_err(|error| Error::io("write", &self.journal_at, error))
    }

    /// The disk did not take what was written. The system may go on showing it from memory, and never write it.
    fn fail(&self, error: Error) {
        self.worthless.store(true, Ordering::Relaxed);
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn check(&self) -> Result<()> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(Ok(()), |error| Err(error.duplicate()))
    }

    fn finish(&self) -> Result<Option<GitOid>> {
        self.check()?;
        let length = self.data.metadata().map_err(|error| Error::io("read", &self.data_at, error))?.len();
        if length != self.blob.size {
            return Err(Error::new(Kind::Corrupt, format!("{length} of the promised {} bytes arrived", self.blob.size)));
        }
        let lazy = self.blob.size <= LAZY;
        if !lazy && let Err(error) = self.sync() {
            self.fail(error.duplicate());
            return Err(error);
        }
        let git = if self.blob.size <= LARGEST_GIT { Some(self.git_id()?) } else { None };
        let place = self.run.place(self.blob.oid);
        std::fs::rename(&self.data_at, &place).map_err(|error| Error::io("rename", &self.data_at, error))?;
        self.run.stored(&self.blob, lazy);
        if self.journal().file.take().is_some() {
            drop(std::fs::remove_file(&self.journal_at));
        }
        Ok(git)
    }

    /// From the file: its bytes came in any order.
    fn git_id(&self) -> Result<GitOid> {
        let mut git = GitHasher::new(self.blob.size);
        let mut at = 0;
        while at < self.blob.size {
            let end = self.blob.size.min(at + PIECE as u64);
            git.update(&read_at(&self.data, at..end).map_err(|error| Error::io("read", &self.data_at, error))?);
            at = end;
        }
        Ok(git.finish())
    }

    /// Leaves the file to the next try, if it is of use.
    fn put_away(&self) {
        // On a full disk the last of them may be lost.
        drop(self.write_notes());
        if self.noted.load(Ordering::Relaxed) && !self.worthless.load(Ordering::Relaxed) {
            self.run.give_part(self.stem);
            return;
        }
        drop(std::fs::remove_file(&self.data_at));
        drop(std::fs::remove_file(&self.journal_at));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever filled it stopped in the middle.
        if !*self.over.get_mut() {
            self.put_away();
        }
    }
}
