//! What happens during a run, told without a terminal: the engine emits [`Event`]s, a [`Reporter`] shows or counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::manifest::RepoPath;

/// Something that happened. Events of one file carry its path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A new phase of the run begins.
    Phase(Phase),
    /// The work is known: files and bytes to move.
    Planned {
        /// Files to move.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A file begins to travel.
    Started {
        /// Which.
        path: RepoPath,
        /// Its size in bytes.
        size: u64,
    },
    /// Bytes of a file arrived from the source. A file that starts over reports `restart` first.
    Progress {
        /// Which.
        path: RepoPath,
        /// Bytes since the last report of this file.
        bytes: u64,
    },
    /// A file starts over: forget its progress.
    Restart {
        /// Which.
        path: RepoPath,
    },
    /// A file is stored (or was there already: `moved` is false).
    Finished {
        /// Which.
        path: RepoPath,
        /// Its size in bytes.
        size: u64,
        /// Whether its bytes travelled.
        moved: bool,
    },
    /// Something failed and is tried again.
    Retrying {
        /// What was tried, for people.
        what: String,
        /// Why it failed.
        why: String,
        /// The pause before the next try.
        pause: Duration,
        /// Number of the try that failed, from one.
        attempt: u32,
    },
    /// The number of streams that a host is read with has changed for a reason. Told now and then, not every time.
    Streams {
        /// Which host.
        host: String,
        /// Streams that are right for it, as far as is known.
        streams: usize,
        /// What showed it.
        why: &'static str,
    },
    /// Something the user should know and that does not stop the run.
    Note(String),
    /// Something that only those want to know who ask for more.
    Detail(String),
}

/// The phases of a run, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Both places are listed.
    Listing,
    /// Files without a published SHA-256 are read and hashed.
    Identifying,
    /// Blobs travel.
    Moving,
    /// The change becomes visible.
    Committing,
    /// The destination is read back.
    Verifying,
}

/// Takes events. Called from many tasks; must not block.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event) {}
}

/// Bytes that really passed between this process and a far side. Counted by the remotes, read by reports: what the user pays for.
#[derive(Debug, Default)]
pub struct Wire {
    received: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
}

impl Wire {
    /// A counter nobody else adds to.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds payload bytes that came in.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds payload bytes that went out.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds one request.
    pub fn add_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// File bytes that came in.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// File bytes that went out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests of any kind.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}
