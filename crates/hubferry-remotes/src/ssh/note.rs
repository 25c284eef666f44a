//! How far a large file has come on a host: noted on this machine, so that a killed run costs little. A note is a claim; it counts only
//! after the host's own bytes were hashed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hubferry_core::digest::{Oid, Prefix};
use hubferry_core::transfer::journal::Journal;

use crate::dir::life::{Life, Maker, life};

/// Notes come no closer together: each waits for the disk.
const PAUSE: Duration = Duration::from_millis(100);

/// The notes of one file.
pub(super) struct Note {
    journal: Arc<dyn Journal>,
    key: String,
    last: Option<Instant>,
}

impl Note {
    pub(super) fn of(journal: &Arc<dyn Journal>, place: &str, oid: Oid) -> Self {
        Self { journal: journal.clone(), key: format!("ssh {place} {oid}"), last: None }
    }

    /// The name of the unfinished file and how far it has come, unless another process is at it.
    pub(super) fn read(&self) -> Option<(String, Prefix)> {
        let text = self.journal.load(&self.key)?;
        let mut lines = text.lines();
        let name = lines.next()?.to_owned();
        // What a crash has torn is skipped.
        let prefix = lines.rev().find_map(|line| serde_json::from_str(line).ok())?;
        is_free(&name).then_some((name, prefix))
    }

    /// Begins anew with an unfinished file.
    pub(super) fn begin(&self, name: &str) {
        self.journal.save(&self.key, &format!("{name}\n"));
    }

    /// Notes how far it has come, unless that was noted a moment ago.
    pub(super) fn add(&mut self, prefix: &Prefix, is_last: bool) {
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) && !is_last {
            return;
        }
        if let Ok(line) = serde_json::to_string(prefix) {
            self.journal.append(&self.key, &format!("{line}\n"));
            self.last = Some(Instant::now());
        }
    }

    pub(super) fn forget(&self) {
        self.journal.remove(&self.key);
    }
}

/// A name for an unfinished file that nobody else gives one.
pub(super) fn new_name(oid: Oid) -> String {
    format!("{oid}.{}", Maker::me().new_id())
}

/// Whether a file of this remote was left by a process of this machine that has ended.
pub(super) fn is_left(name: &str) -> bool {
    let maker = name.split_once('.').filter(|_| is_ours(name)).map(|(_, maker)| maker);
    maker.is_some_and(|maker| life(maker, || Ok(Duration::ZERO)).is_ok_and(|life| life == Life::Gone))
}

/// Whether `name` is one that this remote gives, so that it may be removed when it is old.
pub(super) fn is_ours(name: &str) -> bool {
    name.split_once('.').is_some_and(|(oid, maker)| oid.parse::<Oid>().is_ok() && Maker::of(maker).is_some())
}

/// Whether whoever made it is this process, or has ended.
fn is_free(name: &str) -> bool {
    let Some((_, maker)) = name.split_once('.').filter(|_| is_ours(name)) else { return false };
    Maker::of(maker) == Some(Maker::me()) || life(maker, || Ok(Duration::MAX)).is_ok_and(|life| life != Life::Alive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::transfer::journal::MemoryJournal;

    #[cfg(unix)]
    #[test]
    fn the_last_whole_line_counts_and_the_files_of_others_are_left_alone() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let mut note = Note::of(&journal, "h", Oid::EMPTY);
        assert!(note.read().is_none());
        let name = new_name(Oid::EMPTY);
        note.begin(&name);
        let mut prefix = Prefix::default();
        prefix.update(b"abc");
        note.add(&prefix, true);
        journal.append("ssh h e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "{\"at\":9,");
        assert_eq!(note.read().map(|(name, prefix)| (name, prefix.at())), Some((name.clone(), 3)));
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id();
        let theirs = name.replace(&format!("-{me}-"), &format!("-{parent}-"));
        assert!(is_ours(&theirs) && !is_left(&name));
        assert!(!is_ours("config.json") && !is_ours("../x") && is_free(&name));
        note.forget();
        assert!(note.read().is_none());
    }
}
