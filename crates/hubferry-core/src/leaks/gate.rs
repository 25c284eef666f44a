//! What was found in a run: one gate for each copy to a place that everybody may read.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Leak, Leaks, Match, SCAN_UP_TO, Scanner};
use crate::digest::Oid;
use crate::error::Result;
use crate::events::{Event, Reporter};
use crate::manifest::{Entry, RepoPath};

/// Most findings that are told one by one when they are allowed.
const TOLD: usize = 20;

/// Knows by their hash which contents were looked through, and what was found in them.
#[derive(Debug)]
pub struct Gate {
    allowed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clean: HashSet<Oid>,
    found: HashMap<Oid, Vec<Match>>,
}

impl Gate {
    /// A gate that nothing has come to; when secrets are `allowed`, it only notes them.
    pub fn new(allowed: bool) -> Self {
        Self { allowed, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether files like this are looked through at all.
    pub fn takes(size: u64) -> bool {
        size > 0 && size <= SCAN_UP_TO
    }

    /// Looks through a file that is about to be read; `None` when that is not needed.
    pub(crate) fn scanner(&self, entry: &Entry) -> Option<Scanner> {
        let open = Self::takes(entry.size) && entry.digests.sha256.is_none_or(|oid| !self.has_seen(&oid));
        open.then(Scanner::default)
    }

    /// Notes what was found in a content whose hash is what it should be.
    pub(crate) fn saw(&self, oid: Oid, found: Vec<Match>) {
        let mut state = self.state();
        if found.is_empty() {
            state.clean.insert(oid);
        } else {
            state.found.insert(oid, found);
        }
    }

    /// Whether this content was looked through.
    pub(crate) fn has_seen(&self, oid: &Oid) -> bool {
        let state = self.state();
        state.clean.contains(oid) || state.found.contains_key(oid)
    }

    /// Whether everything may pass.
    pub(crate) fn is_open(&self) -> bool {
        self.allowed
    }

    /// What was found at these paths, in their order.
    pub(crate) fn leaks<'a>(&self, paths: impl Iterator<Item = (&'a RepoPath, &'a Oid)>) -> Vec<Leak> {
        let state = self.state();
        let mut leaks = Vec::new();
        for (path, oid) in paths {
            let found = state.found.get(oid).into_iter().flatten();
            leaks.extend(found.map(|found| Leak { path: path.clone(), found: found.clone() }));
        }
        leaks.sort_by(|a, b| a.path.cmp(&b.path));
        leaks
    }

    /// Lets a change pass, or refuses it. What passes is told, because somebody should look at it.
    pub(crate) fn judge(&self, leaks: Vec<Leak>, reporter: &dyn Reporter) -> Result<Vec<Leak>> {
        if leaks.is_empty() {
            return Ok(leaks);
        }
        if !self.allowed {
            return Err(Leaks(leaks).refusal());
        }
        for leak in leaks.iter().take(TOLD) {
            reporter.event(&Event::Note(format!("a secret goes public: {leak}")));
        }
        if leaks.len() > TOLD {
            reporter.event(&Event::Note(format!("and {} more secrets", leaks.len() - TOLD)));
        }
        Ok(leaks)
    }
}
