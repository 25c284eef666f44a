//! Both sides of a finished copy with everything that is known of their files: for statements about what was done.

use std::collections::BTreeMap;

use crate::generated::NAMES;
use crate::manifest::{Entry, Manifest, RepoPath};
use crate::transfer::Landed;
use crate::transfer::pairs::{self, DigestPairs};

/// Both sides as they were found.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The files of the source that take part.
    pub source: Manifest,
    /// Every file of the destination as readers find it now; `None` where there is none yet.
    pub destination: Option<Manifest>,
}

/// What the destination has at the places of files that hubs generate: a plan does not see those that stay.
#[derive(Debug, Default)]
pub(super) struct Own(BTreeMap<&'static str, Entry>);

impl Own {
    /// Takes them from a listing.
    pub(super) fn note(&mut self, head: Option<&Manifest>) {
        self.0 = NAMES.into_iter().filter_map(|name| Some((name, *head?.entries.get(name)?))).collect();
    }

    fn put_back(&self, there: &mut Manifest) {
        for (name, entry) in &self.0 {
            if let Ok(path) = RepoPath::new(*name) {
                there.entries.entry(path).or_insert(*entry);
            }
        }
    }
}

impl Sides {
    /// Of a copy that was only planned.
    pub(super) fn before(source: Manifest, mut destination: Option<Manifest>, own: &Own) -> Self {
        if let Some(there) = &mut destination {
            own.put_back(there);
        }
        Self { source, destination }
    }

    /// `before` is the destination on which the last plan was made, `now` how it was listed after `commits`.
    pub(super) fn after(
        mut source: Manifest,
        before: Option<Manifest>,
        now: Option<Manifest>,
        own: &Own,
        commits: &[Landed],
        known: &dyn DigestPairs,
    ) -> Self {
        // A listing that shows a later commit of somebody else says nothing of ours.
        let ours = now.filter(|now| commits.last().is_some_and(|last| last.revision == now.revision));
        let is_shown = ours.is_some();
        let mut destination = ours.or(before);
        if let Some(there) = &mut destination {
            if !is_shown {
                own.put_back(there);
            }
            for landed in commits {
                there.revision = landed.revision.clone();
                for (path, expected) in &landed.expected {
                    match expected {
                        None => drop(there.entries.remove(path)),
                        Some((size, digests)) => {
                            let entry = there.entries.entry(path.clone()).or_insert_with(|| Entry::new(*size, *digests));
                            // What is listed now speaks of the same bytes; what was listed before may speak of others.
                            if is_shown && entry.size == *size && entry.digests.agree(digests) != Some(false) {
                                entry.digests.fill(digests);
                            } else {
                                *entry = Entry::new(*size, *digests);
                            }
                        }
                    }
                }
            }
            pairs::fill(known, there);
        }
        // Files that published no SHA-256 were hashed while they were read.
        pairs::fill(known, &mut source);
        Self { source, destination }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digests, GitOid, Oid};
    use crate::manifest::Revision;
    use crate::transfer::pairs::MemoryPairs;

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    fn manifest(revision: &str, files: &[(&str, &[u8])]) -> Manifest {
        let entry = |(name, bytes): &(&str, &[u8])| (path(name), Entry::new(bytes.len() as u64, Digests::git(GitOid::of(bytes))));
        Manifest::new(Revision::new(revision).unwrap(), files.iter().map(entry)).unwrap()
    }

    #[test]
    fn what_was_committed_is_known_by_both_hashes_and_a_strangers_commit_does_not_count() {
        let stored = |bytes: &[u8]| Some((bytes.len() as u64, Digests::sha256(Oid::of(bytes))));
        let ours = Landed {
            revision: Revision::new("two").unwrap(),
            expected: vec![(path("a"), stored(b"new")), (path("b"), None), (path("c"), stored(b"c"))],
        };
        let before = manifest("one", &[("a", b"old"), ("b", b"b"), ("kept", b"kept")]);
        let mut own = Own::default();
        own.note(Some(&manifest("one", &[("README.md", b"made"), ("kept", b"kept")])));
        let pairs = MemoryPairs::default();
        pairs.learn(GitOid::of(b"kept"), 4, Oid::of(b"kept"));
        let listed = manifest("two", &[("README.md", b"made"), ("a", b"new"), ("c", b"c"), ("kept", b"kept")]);
        for now in [listed, manifest("three", &[("a", b"stranger")])] {
            let is_ours = now.revision.as_str() == "two";
            let sides = Sides::after(before.clone(), Some(before.clone()), Some(now), &own, std::slice::from_ref(&ours), &pairs);
            let there = sides.destination.unwrap();
            assert_eq!(there.revision.as_str(), "two");
            assert_eq!(there.entries.keys().map(RepoPath::as_str).collect::<Vec<_>>(), ["README.md", "a", "c", "kept"]);
            assert_eq!(there.entries["a"].digests.sha256, Some(Oid::of(b"new")));
            assert_eq!(there.entries["a"].digests.git, is_ours.then(|| GitOid::of(b"new")));
            assert_eq!(there.entries["kept"].digests.sha256, Some(Oid::of(b"kept")));
        }
    }
}
