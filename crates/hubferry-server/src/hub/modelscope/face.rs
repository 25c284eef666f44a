//! What the handlers of this face share: the hub itself, and where the pages of long listings begin.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use hubferry_core::digest::GitOid;
use hubferry_core::error::{Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};

use super::envelope::{Answer, Refusal};
use crate::hub::{HubState, storage};
use crate::store::{BRANCHES, ListQuery, Repo, Store, TreeEntry, swap_default_branch};
use crate::users::Users;

/// What this face calls the default branch.
pub(super) const MASTER: &str = "master";
/// How many facts of one sort are remembered.
const REMEMBERED: usize = 4096;
/// Most of a card that is repeated in the description of its repository.
const MAX_CARD: u64 = 256 * 1024;

/// The state of every handler. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Face {
    hub: HubState,
    memory: Arc<Memory>,
}

/// What was worked out before about commits. They never change, so it stays true.
#[derive(Debug, Default)]
struct Memory {
    cursors: Mutex<HashMap<PageKey, String>>,
    sizes: Mutex<HashMap<GitOid, u64>>,
}

/// One page of one listing.
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
        Self { hub, memory: Arc::default() }
    }

    pub(super) fn hub(&self) -> &HubState {
        &self.hub
    }

    /// Where this client reaches the face.
    pub(super) fn origin(&self, headers: &HeaderMap) -> String {
        HubState::origin(self.hub.urls().ms, headers)
    }

    /// Where this client can read an object for a while without saying who it is.
    pub(super) fn download_link(&self, headers: &HeaderMap, blob: Blob) -> String {
        let origin = self.hub.storage_origin(self.hub.urls().ms, headers);
        storage::hashed_link(&self.hub, &origin, blob)
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
        let name = match revision.strip_prefix(BRANCHES) {
            Some(branch) => format!("{BRANCHES}{}", swap_default_branch(branch)),
            None => swap_default_branch(revision).to_owned(),
        };
        match self.store().resolve(repo, &name).await {
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

    /// The text of the card, or nothing when there is none or it is too long to be repeated.
    pub(super) async fn card(&self, repo: &Repo) -> Result<String> {
        let Some(commit) = self.find_commit(repo, None).await? else { return Ok(String::new()) };
        match self.store().entry(commit, &RepoPath::new("README.md")?).await? {
            Some(TreeEntry::File(file)) if file.size <= MAX_CARD => {
                let bytes = self.store().read_blob(file.sha256, MAX_CARD).await?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => Ok(String::new()),
        }
    }

    /// The bytes of all files on the default branch.
    pub(super) async fn storage_size(&self, repo: &Repo) -> Result<u64> {
        let Some(commit) = self.find_commit(repo, None).await? else { return Ok(0) };
        if let Some(size) = locked(&self.memory.sizes).get(&commit) {
            return Ok(*size);
        }
        let mut query = ListQuery { folder: None, recursive: true, after: None, limit: 5000 };
        let mut size = 0u64;
        loop {
            let page = self.store().list(commit, &query).await?;
            for found in &page.entries {
                if let TreeEntry::File(file) = found.entry {
                    size = size.saturating_add(file.size);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        remember(&self.memory.sizes, commit, size);
        Ok(size)
    }

    /// Where a page begins, if it was reached before.
    pub(super) fn cursor(&self, page: &PageKey) -> Option<String> {
        locked(&self.memory.cursors).get(page).cloned()
    }

    /// Notes where a page begins, so that a client that pages through a listing does not make the server walk it anew each time.
    pub(super) fn remember(&self, page: PageKey, cursor: String) {
        remember(&self.memory.cursors, page, cursor);
    }
}

/// Nothing is left half done in these maps, so a lock whose holder panicked is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = locked(map);
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map.insert(key, value);
}
