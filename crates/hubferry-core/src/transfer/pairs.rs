//! Which Git blob id belongs to which SHA-256: learnt only from bytes hashed by this machine, so that two hubs that publish
//! different digests can be compared without reading anything again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::digest::{Digests, GitOid, Oid};
use crate::manifest::Manifest;

/// Remembers pairs of digests. An implementation may forget; it must never invent.
pub trait DigestPairs: Send + Sync {
    /// The SHA-256 of the blob of `size` bytes that Git names `git`.
    fn sha256_of(&self, git: GitOid, size: u64) -> Option<Oid>;
    /// Both names of bytes that were just hashed.
    fn learn(&self, git: GitOid, size: u64, sha256: Oid);
}

/// Pairs for the length of one process.
#[derive(Debug, Default)]
pub struct MemoryPairs(Mutex<HashMap<(GitOid, u64), Oid>>);

impl DigestPairs for MemoryPairs {
    fn sha256_of(&self, git: GitOid, size: u64) -> Option<Oid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(git, size)).copied()
    }

    fn learn(&self, git: GitOid, size: u64, sha256: Oid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((git, size), sha256);
    }
}

/// Learns from digests of which both are known.
pub fn learn(pairs: &dyn DigestPairs, size: u64, digests: &Digests) {
    if let (Some(git), Some(sha256)) = (digests.git, digests.sha256) {
        pairs.learn(git, size, sha256);
    }
}

/// Adds the SHA-256 of every entry whose Git id is known from before.
pub fn fill(pairs: &dyn DigestPairs, manifest: &mut Manifest) {
    for entry in manifest.entries.values_mut().filter(|entry| entry.digests.sha256.is_none()) {
        entry.digests.sha256 = entry.digests.git.and_then(|git| pairs.sha256_of(git, entry.size));
    }
}
