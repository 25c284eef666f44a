//! When Xet is no longer asked: for one file after its first failure, altogether when it fails from the start or again and again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::RepoPath;

/// Files that may fail before none is tried any more.
const MOST_FAILED: usize = 3;

/// What experience says.
#[derive(Default)]
pub(super) struct Trust(Mutex<Known>);

#[derive(Default)]
struct Known {
    off: bool,
    worked: HashSet<RepoPath>,
    failed: HashSet<RepoPath>,
}

impl Trust {
    /// Whether Xet may be tried at all.
    pub(super) fn is_on(&self) -> bool {
        !self.known().off
    }

    /// Whether Xet may be tried for a file.
    pub(super) fn allows(&self, path: &RepoPath) -> bool {
        let known = self.known();
        !known.off && !known.failed.contains(path)
    }

    /// Bytes of a file arrived.
    pub(super) fn worked(&self, path: &RepoPath) {
        let mut known = self.known();
        if !known.worked.contains(path) {
            known.worked.insert(path.clone());
        }
    }

    /// Whether bytes of a file arrived by Xet.
    pub(super) fn has_worked(&self, path: &RepoPath) -> bool {
        self.known().worked.contains(path)
    }

    /// Takes the other way, named by `instead`, for a file from now on, and says so once.
    pub(super) fn give_up(&self, path: &RepoPath, why: &str, instead: &str, reporter: &dyn Reporter) {
        let mut known = self.known();
        if known.off || !known.failed.insert(path.clone()) {
            return;
        }
        known.off = known.worked.is_empty() || known.failed.len() >= MOST_FAILED;
        let all = if known.off { "; Xet is not used any more in this run" } else { "" };
        drop(known);
        reporter.event(&Event::Note(format!("{path} goes by {instead} instead of Xet: {why}{all}")));
    }

    /// Xet is not to be had here.
    pub(super) fn switch_off(&self, why: &str, instead: &str, reporter: &dyn Reporter) {
        if !std::mem::replace(&mut self.known().off, true) {
            reporter.event(&Event::Note(format!("files go by {instead} instead of Xet: {why}")));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Heard;

    fn notes(heard: &Heard) -> Vec<String> {
        let note = |event: &Event| if let Event::Note(text) = event { Some(text.clone()) } else { None };
        heard.0.lock().unwrap().iter().filter_map(note).collect()
    }

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    #[test]
    fn what_never_worked_is_tried_once() {
        let (trust, heard) = (Trust::default(), Heard::default());
        trust.give_up(&path("a"), "no answer", "plain HTTP", &heard);
        trust.give_up(&path("a"), "no answer", "plain HTTP", &heard);
        trust.give_up(&path("b"), "no answer", "plain HTTP", &heard);
        assert!(!trust.allows(&path("c")));
        assert_eq!(notes(&heard), ["a goes by plain HTTP instead of Xet: no answer; Xet is not used any more in this run"]);
    }

    #[test]
    fn what_worked_is_given_up_file_by_file_and_then_altogether() {
        let (trust, heard) = (Trust::default(), Heard::default());
        trust.worked(&path("a"));
        trust.give_up(&path("a"), "wrong bytes", "plain HTTP", &heard);
        assert!(!trust.allows(&path("a")) && trust.allows(&path("b")));
        trust.give_up(&path("b"), "wrong bytes", "plain HTTP", &heard);
        assert!(trust.is_on());
        trust.give_up(&path("c"), "wrong bytes", "plain HTTP", &heard);
        assert!(!trust.is_on());
        assert_eq!(notes(&heard).len(), 3);
    }
}
