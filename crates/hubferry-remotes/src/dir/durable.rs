//! Makes small blobs durable in groups, on threads beside the transfer: a commit names only what is on the disk.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Result};

use super::run::Run;
use crate::reading::spread;

/// Blobs that are made durable together while others are still on their way.
const GROUP: usize = 64;
/// Threads that wait for the disk at once: file systems serve several that wait with one entry of their journal.
const WAITING: usize = 4;

/// Groups on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Groups {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    failed: Option<Error>,
}

impl Groups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            self.state().failed.get_or_insert(error);
        }
    }

    /// Waits for every group that was begun, and says what went wrong with any.
    fn settle(&self) -> Result<()> {
        let mut state = self.state();
        while state.running > 0 {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.take().map_or(Ok(()), Err)
    }
}

/// A group that counts as running until this is dropped, also if it never came to run.
struct Running(Arc<Run>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.groups().state().running -= 1;
        self.0.groups().done.notify_all();
    }
}

/// Begins a group when there is one. A failure shows when the commit asks for everything.
pub(super) fn sync_some(run: &Arc<Run>) {
    let group = run.take_unsynced(GROUP);
    if group.is_empty() {
        return;
    }
    run.groups().state().running += 1;
    let running = Running(Arc::clone(run));
    drop(tokio::task::spawn_blocking(move || {
        let result = group.iter().try_for_each(|oid| sync(&running.0, *oid));
        running.0.groups().note(result);
    }));
}

/// Returns once everything that was stored is durable.
pub(crate) fn sync_all(run: &Run) -> Result<()> {
    let rest = run.take_unsynced(1);
    spread(&rest, WAITING, |oid| {
        run.groups().note(sync(run, *oid));
        Ok(())
    });
    run.groups().settle()
}

fn sync(run: &Run, oid: Oid) -> Result<()> {
    let at = run.place(oid);
    // Write access is what some systems want for this.
    let synced = File::options().write(true).open(&at).and_then(|file| file.sync_data());
    synced.map_err(|error| {
        // What the system could not write it may still show from memory, and never write.
        run.forget(oid);
        Error::io("write", &at, error)
    })
}
