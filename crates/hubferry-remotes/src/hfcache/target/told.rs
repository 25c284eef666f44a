//! What the cache is told before a copy: which commit comes, and which of its small files are here under another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubferry_core::digest::Digests;
use hubferry_core::error::{Error, Result};
use hubferry_core::remote::{Coming, Extent};

use super::super::layout::{BlobName, Commit};
use super::super::scan::CachedSnapshot;
use super::{Expected, Inner, lock};
use crate::dir::files::Stamp;
use crate::dir::hashing::{LARGEST_GIT, digest_all};
use crate::dir::walk::Found;

impl Inner {
    pub(super) fn tell(&self, coming: &Coming, stop: &AtomicBool) -> Result<Vec<(u64, Digests)>> {
        let at_its_place = match &coming.extent {
            Extent::Whole | Extent::Some => true,
            Extent::File(path) => path.parents().next().is_none(),
            _ => false,
        };
        let revision = &coming.manifest.revision;
        let commit = Commit::parse(revision.as_str()).filter(|_| at_its_place);
        if let Some(named) = self.rev.as_deref().and_then(Commit::parse)
            && commit.as_ref() != Some(&named)
        {
            return Err(Error::invalid(format!("the address names commit {named}, and the source is at {}", revision.short()))
                .hint("name a branch or tag of the cache instead, or the source at that commit"));
        }
        let is_whole = coming.extent == Extent::Whole && commit.is_some();
        let expected = Arc::new(Expected { commit, entries: coming.manifest.entries.clone(), is_whole });
        *lock(&self.expected) = Arc::clone(&expected);
        self.known_pairs(&expected, stop)
    }

    /// Both digests of small files that are here already for another commit: their source may publish only one, and without the other
    /// it would be read again.
    fn known_pairs(&self, expected: &Expected, stop: &AtomicBool) -> Result<Vec<(u64, Digests)>> {
        let linked = match &expected.commit {
            Some(commit) => CachedSnapshot::read(&self.folder, commit)?.map(|snapshot| snapshot.files).unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let mut found = Vec::new();
        let mut names = Vec::new();
        for (path, entry) in &expected.entries {
            let (None, Some(git)) = (entry.digests.sha256, entry.digests.git) else { continue };
            let name = BlobName::Git(git);
            if entry.size == 0 || entry.size > LARGEST_GIT || linked.get(path).is_some_and(|file| file.name() == Some(name)) {
                continue;
            }
            if let Some(located) = self.blob(&name, entry.size) {
                found.push(Found { path: path.clone(), at: located.at, stamp: Stamp::of(&located.data) });
                names.push(git);
            }
        }
        let digests = digest_all(&mut found, &self.options.files, stop)?;
        // One that does not have its name is damaged, and as good as not there.
        let sound = found.iter().zip(digests).zip(names).filter(|((_, digests), git)| digests.git == Some(*git));
        Ok(sound.map(|((found, digests), _)| (found.stamp.size, digests)).collect())
    }
}
