//! Xet, the chunk store of Hugging Face: another way for the bytes of large files, in both directions, by way of `hf-xet`.
//!
//! Everything that Xet brings or takes can go by plain HTTP and Git LFS as well, so nothing here ever fails a run: what goes wrong
//! is said once and the file takes the other way. `session` sets the library up, `grant` asks the hub for the store and a token,
//! `listed` keeps the hashes that the hub publishes, `read` and `upload` move bytes, `watch` notices silence.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::secret::Token;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use xet::XetError;
use xet::xet_session::XetSession;

use crate::http::BULK;

mod grant;
mod listed;
mod read;
mod session;
mod trust;
mod upload;
mod watch;

pub(super) use listed::Listed;
use trust::Trust;

/// Files below this travel as before: Xet would cost as many requests and save nothing.
const SMALLEST: u64 = BULK;

/// What one upload holds at its most: a xorb of 64 MiB being filled, one packed and waiting, one on its way, and what the allocator
/// keeps. Measured: 245 to 256 MiB for the whole program.
pub const UPLOAD_MEMORY: u64 = 224 << 20;

/// How the threads of the library are called. Its tasks panic on answers that they do not expect (a range that overlaps another, for
/// one); that ends the task alone and is an error like any other here, so nobody need hear of it twice.
pub const THREADS: &str = "xet";

/// What all remotes of a run share: one set of connections, and the memory that Xet may hold.
#[derive(Clone)]
pub struct Xet(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    memory: u64,
    /// Ranges that are being read.
    readers: AtomicUsize,
    uploads: Arc<Semaphore>,
    /// Chunking and unpacking do not hold up the streams of the engine, nor the panics of one the other.
    runtime: OnceLock<Runtime>,
    /// One that asks the store about chunks of others, and one that does not.
    sessions: [OnceLock<XetSession>; 2],
}

impl Xet {
    /// Prepares; connects nowhere. `cache` is a folder of ours, in which the library keeps what is known of chunks that were uploaded.
    /// `memory` is what its buffers may hold, in bytes; with less than [`UPLOAD_MEMORY`] nothing is uploaded by Xet.
    pub fn new(cache: &Path, memory: u64) -> Self {
        let uploads = usize::try_from(memory / UPLOAD_MEMORY).unwrap_or(1);
        Self(Arc::new(Inner {
            folder: cache.join("xet"),
            memory,
            readers: AtomicUsize::new(0),
            uploads: Arc::new(Semaphore::new(uploads)),
            runtime: OnceLock::new(),
            sessions: [const { OnceLock::new() }; 2],
        }))
    }

    /// Whether there is memory for uploads.
    pub fn uploads(&self) -> bool {
        self.0.memory >= UPLOAD_MEMORY
    }

    fn runtime(&self) -> Result<&Handle> {
        if let Some(runtime) = self.0.runtime.get() {
            return Ok(runtime.handle());
        }
        let made = Builder::new_multi_thread().thread_name(THREADS).enable_all().build();
        let made = made.map_err(|e| Error::new(Kind::Io, "cannot start the threads of Xet").caused_by(e))?;
        if let Err(second) = self.0.runtime.set(made) {
            second.shutdown_background();
        }
        self.0.runtime.get().map(Runtime::handle).ok_or_else(|| Error::new(Kind::Bug, "the threads of Xet are gone"))
    }

    /// Runs a call of the library on its own threads; one that panics is an error.
    async fn run<T: Send + 'static>(&self, call: impl Future<Output = std::result::Result<T, XetError>> + Send + 'static) -> Result<T> {
        match self.runtime()?.spawn(call).await {
            Ok(result) => result.map_err(|e| session::failure(&e)),
            Err(_) => Err(Error::new(Kind::Unavailable, "Xet failed inside")),
        }
    }

    /// Somebody begins to read.
    fn reader(&self) -> Reader {
        self.0.readers.fetch_add(1, Ordering::Relaxed);
        Reader(self.clone())
    }
}

impl Drop for Inner {
    /// A runtime that is waited for must not end inside of another.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Xet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xet").field("folder", &self.0.folder).field("memory", &self.0.memory).finish_non_exhaustive()
    }
}

/// One range that is being read: a share of the memory.
struct Reader(Xet);

impl Reader {
    /// How much may be asked for at once now.
    fn share(&self) -> u64 {
        self.0.0.memory / self.0.0.readers.load(Ordering::Relaxed).max(1) as u64
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Xet for one repository on one hub.
pub(super) struct Way {
    xet: Xet,
    token: Option<Token>,
    trust: Trust,
    reading: tokio::sync::Mutex<Option<read::Group>>,
    writing: tokio::sync::OnceCell<Option<upload::Store>>,
}

impl Way {
    /// The same for another branch, of which nothing is known yet.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.xet.clone(), self.token.clone())
    }

    pub(super) fn new(xet: Xet, token: Option<Token>) -> Self {
        Self { xet, token, trust: Trust::default(), reading: tokio::sync::Mutex::default(), writing: tokio::sync::OnceCell::new() }
    }
}
