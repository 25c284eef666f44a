//! What the server allows for one upload, renewed when its links are no longer accepted: one question for all parts.

use std::sync::Arc;
use std::time::Duration;

use hubferry_core::error::{Error, Result, Retry};
use hubferry_core::manifest::Blob;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Lfs;
use super::answer::Actions;

/// A link younger than this cannot have expired.
const YOUNG: Duration = Duration::from_mins(1);
/// Young links that may be refused one after the other: the storage may lag behind the hub once.
const MOST_REFUSED: u32 = 2;

/// Why an upload did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed.
    Failed(Error),
    /// The server holds the object meanwhile.
    Held,
    /// The server knows nothing of this upload any more and allows another one, since then.
    Other(Option<Instant>, Box<Actions>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The actions of one upload, shared by its parts.
pub(super) struct Grant<'a> {
    lfs: &'a Lfs,
    blob: &'a Blob,
    state: Mutex<State>,
}

struct State {
    granted: Granted,
    /// Young links refused since something was stored.
    refused: u32,
}

/// The actions at one time.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) actions: Arc<Actions>,
    /// Since when; `None` is long ago.
    at: Option<Instant>,
    round: u32,
}

impl<'a> Grant<'a> {
    pub(super) fn new(lfs: &'a Lfs, blob: &'a Blob, at: Option<Instant>, actions: Actions) -> Self {
        let granted = Granted { actions: Arc::new(actions), at, round: 0 };
        Self { lfs, blob, state: Mutex::new(State { granted, refused: 0 }) }
    }

    pub(super) async fn current(&self) -> Granted {
        self.state.lock().await.granted.clone()
    }

    /// The size of every part but the last, when the object is sent in parts.
    pub(super) async fn part_size(&self) -> Option<u64> {
        self.state.lock().await.granted.actions.part_size()
    }

    /// Begins anew with other actions.
    pub(super) async fn turn_to(&self, at: Option<Instant>, actions: Actions) {
        self.state.lock().await.replace(at, actions);
    }

    /// A link was accepted.
    pub(super) async fn worked(&self) {
        self.state.lock().await.refused = 0;
    }

    /// Called with the failure of a link of `used`: asks for fresh ones, unless somebody else has done so. A storage that refuses
    /// what was handed out just now will not change its mind.
    pub(super) async fn renew(&self, used: &Granted, error: Error) -> Result<(), Stop> {
        let mut state = self.state.lock().await;
        if state.granted.round != used.round {
            return Ok(());
        }
        if used.at.is_some_and(|at| at.elapsed() < YOUNG) {
            state.refused += 1;
            if state.refused >= MOST_REFUSED {
                return Err(Stop::Failed(
                    error
                        .retry_as(Retry::No)
                        .hint("the storage refuses links that the hub has just made: check the clock, or ask who runs it"),
                ));
            }
        }
        let Some((at, actions)) = self.lfs.actions(self.blob).await? else { return Err(Stop::Held) };
        let in_parts = actions.part_size().is_some() || used.actions.part_size().is_some();
        if in_parts && actions.name() != used.actions.name() {
            return Err(Stop::Other(at, Box::new(actions)));
        }
        state.replace(at, actions);
        Ok(())
    }
}

impl State {
    fn replace(&mut self, at: Option<Instant>, actions: Actions) {
        let round = self.granted.round + 1;
        self.granted = Granted { actions: Arc::new(actions), at, round };
    }
}
