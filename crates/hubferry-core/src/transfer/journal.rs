//! Notes of unfinished uploads that outlive the process, by a key that says what was being sent where.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Keeps what a target notes of uploads it can continue. May forget; must never mix up two keys. Several processes may use one.
pub trait Journal: Send + Sync {
    /// The last note under `key`.
    fn load(&self, key: &str) -> Option<String>;
    /// Replaces the note under `key`. It survives the process; a failure to write it is logged, not raised: it costs time later,
    /// never correctness.
    fn save(&self, key: &str, note: &str);
    /// Adds `more` behind the note under `key`; nothing happens where there is none. For notes that grow by a line while their
    /// beginning stays: cheaper than writing all of it again. A crash may leave part of it.
    fn append(&self, key: &str, more: &str);
    /// Forgets `key`.
    fn remove(&self, key: &str);
}

/// Notes for the length of one process.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<HashMap<String, String>>);

impl Journal for MemoryJournal {
    fn load(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn save(&self, key: &str, note: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), note.to_owned());
    }

    fn append(&self, key: &str, more: &str) {
        if let Some(note) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            note.push_str(more);
        }
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
