//! What the handlers of this face share: the hub itself, and where the pages of long listings begin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Kind, Result};

use super::envelope::{Answer, Refusal};
use crate::hub::HubState;
use crate::store::{Repo, Store, swap_default_branch};
use crate::users::Users;

/// What this face calls the default branch.
pub(super) const MASTER: &str = "master";
/// How many page beginnings are remembered.
const REMEMBERED: usize = 4096;

/// The state of every handler. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Face {
    hub: HubState,
    cursors: Arc<Mutex<HashMap<PageKey, String>>>,
}

/// One page of one listing. Commits never change, so what is remembered of them stays true.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct PageKey {
    pub(super) commit: GitOid,
    pub(super) folder: String,
    pub(super) recursive: bool,
    pub(super) size: usize,
    pub(super) number: usize,
}

impl Face {
    pub(super) fn new(hub: HubState) -> Self {
        Self { hub, cursors: Arc::default() }
    }

    pub(super) fn hub(&self) -> &HubState {
        &self.hub
    }

    pub(super) fn store(&self) -> &Store {
        self.hub.store()
    }

    pub(super) fn users(&self) -> &Users {
        self.hub.users()
    }

    /// The commit that a revision in a request names; without one it is the default branch. `None` when there is none.
    pub(super) async fn find_commit(&self, repo: &Repo, revision: Option<&str>) -> Result<Option<GitOid>> {
        let revision = revision.filter(|revision| !revision.is_empty()).unwrap_or(MASTER);
        match self.store().resolve(repo, swap_default_branch(revision)).await {
            Ok(commit) => Ok(Some(commit)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same where an unknown revision is refused.
    pub(super) async fn commit(&self, repo: &Repo, revision: Option<&str>) -> Answer<GitOid> {
        let found = self.find_commit(repo, revision).await?;
        found.ok_or_else(|| Refusal::no_revision(revision.unwrap_or(MASTER)))
    }

    /// Where a page begins, if it was reached before.
    pub(super) fn cursor(&self, page: &PageKey) -> Option<String> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(page).cloned()
    }

    /// Notes where a page begins, so that a client that pages through a listing does not make the server walk it anew each time.
    pub(super) fn remember(&self, page: PageKey, cursor: String) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.len() >= REMEMBERED {
            cursors.clear();
        }
        cursors.insert(page, cursor);
    }
}
