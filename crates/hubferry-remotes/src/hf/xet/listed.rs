//! The Xet hashes that a hub publishes: in its listing, and with its redirects to files.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubferry_core::manifest::{RepoPath, Revision};

/// Learnt from redirects, where the listing had none; a repository of very many files must not cost memory.
const MOST_LEARNT: usize = 10_000;

/// What is known of the files of one revision.
#[derive(Default)]
pub(in crate::hf) struct Listed(Mutex<Known>);

#[derive(Default)]
struct Known {
    at: Option<Revision>,
    hashes: HashMap<RepoPath, Box<str>>,
}

impl Listed {
    /// A listing of `at` begins.
    pub(in crate::hf) fn begin(&self, at: &Revision) {
        *self.known() = Known { at: Some(at.clone()), hashes: HashMap::new() };
    }

    /// The listing of the last [`Listed::begin`] names a file of `size` bytes.
    pub(in crate::hf) fn note(&self, path: &str, size: Option<u64>, hash: Option<&str>) {
        if let (Some(hash), true, Ok(path)) = (hash.and_then(checked), size >= Some(super::SMALLEST), RepoPath::new(path)) {
            self.known().hashes.insert(path, hash);
        }
    }

    /// A redirect to the file said its hash.
    pub(in crate::hf) fn learn(&self, at: &Revision, path: &RepoPath, hash: Option<&str>) {
        let Some(hash) = hash.and_then(checked) else { return };
        let mut known = self.known();
        if known.at.as_ref() == Some(at) && known.hashes.len() < MOST_LEARNT {
            known.hashes.entry(path.clone()).or_insert(hash);
        }
    }

    /// The hash of a file, if the hub said it.
    pub(super) fn get(&self, at: &Revision, path: &RepoPath) -> Option<String> {
        let known = self.known();
        known.at.as_ref().filter(|known| *known == at)?;
        known.hashes.get(path).map(ToString::to_string)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 32 bytes in hexadecimal digits, in small letters.
fn checked(hash: &str) -> Option<Box<str>> {
    let hash = hash.trim().trim_matches('"');
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_checked_and_belong_to_one_revision() {
        let (listed, large) = (Listed::default(), Some(2 * super::super::SMALLEST));
        let (old, new) = (Revision::new("a1").unwrap(), Revision::new("b2").unwrap());
        let (path, hash) = (RepoPath::new("w.bin").unwrap(), "AB".repeat(32));
        listed.begin(&old);
        listed.note("w.bin", large, Some(&hash));
        assert_eq!(listed.get(&old, &path), Some("ab".repeat(32)));
        assert_eq!(listed.get(&new, &path), None);
        listed.begin(&new);
        assert_eq!(listed.get(&old, &path), None);
        for bad in ["", "zz", &"g".repeat(64), &"a".repeat(63), &format!("../{}", "a".repeat(61))] {
            listed.note("w.bin", large, Some(bad));
            assert_eq!(listed.get(&new, &path), None, "{bad}");
        }
        listed.note("w.bin", Some(9), Some(&hash));
        listed.note("../w.bin", large, Some(&hash));
        listed.learn(&old, &path, Some(&hash));
        assert_eq!(listed.get(&new, &path), None);
        listed.learn(&new, &path, Some(&format!("\"{hash}\"")));
        assert!(listed.get(&new, &path).is_some());
    }
}
