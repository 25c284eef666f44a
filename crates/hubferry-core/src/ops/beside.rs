//! Places that are made of files: which of them are taken for equal without being read, and what is carried beside the bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::CopyRequest;
use crate::error::{Error, Result};
use crate::facts::{FactList, Facts};
use crate::manifest::{Manifest, RepoPath};
use crate::plan::{self, Compare, Plan};
use crate::remote::Target;

/// Files that count as equal though nobody compared their bytes.
pub(super) type Trusted = BTreeSet<RepoPath>;

/// Decides which files of equal size and unknown bytes are believed, and hashes those that are not: where a file system says that one
/// may not be all there, and, when times decide, where they differ.
pub(super) async fn trust(request: &CopyRequest, source: &mut Manifest, head: Option<&mut Manifest>) -> Result<Trusted> {
    let compare = request.policy.compare;
    if compare == Compare::Hash {
        return Ok(Trusted::new());
    }
    let (from, to) = (request.ends.from.files(), request.ends.to.files());
    if compare == Compare::Mtime && (from.is_none() || to.is_none()) {
        let side = if from.is_none() { "source" } else { "destination" };
        return Err(Error::invalid(format!("--compare mtime needs modification times on both sides, and the {side} has none"))
            .hint("use --compare size, or leave it out to compare hashes; only directories have times"));
    }
    let Some(head) = head else { return Ok(Trusted::new()) };
    let ours = if let Some(files) = from { files.facts(&source.revision).await? } else { FactList::new() };
    let theirs = if let Some(files) = to { files.facts().await? } else { FactList::new() };
    let fact = |list: &FactList, path: &RepoPath| list.get(path).copied().unwrap_or_default();
    let (trusted, doubted): (Trusted, Trusted) = plan::undecided(source, head).into_iter().partition(|path| {
        let (here, there) = (fact(&ours, path), fact(&theirs, path));
        let times = compare == Compare::Size || there.has_time_of(&here) == Some(true);
        times && !here.partial && !there.partial
    });
    let doubted: Vec<RepoPath> = doubted.into_iter().collect();
    if let (Some(files), false) = (from, doubted.is_empty()) {
        fill(source, files.digests(&source.revision, &doubted).await?);
    }
    if let (Some(files), false) = (to, doubted.is_empty()) {
        fill(head, files.digests(&doubted).await?);
    }
    Ok(trusted)
}

fn fill(manifest: &mut Manifest, known: impl IntoIterator<Item = (RepoPath, crate::digest::Digests)>) {
    for (path, digests) in known {
        if let Some(entry) = manifest.entries.get_mut(&path) {
            entry.digests.fill(&digests);
        }
    }
}

/// What a copy carries beside bytes.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Of files that the plan puts.
    pub(super) new: FactList,
    /// Of files that keep their bytes and whose facts are others.
    pub(super) kept: FactList,
}

impl Beside {
    /// Nothing, unless both places are made of files.
    pub(super) async fn of(request: &CopyRequest, source: &Manifest, made: &Plan, trusted: &Trusted) -> Result<Self> {
        let (Some(from), Some(to)) = (request.ends.from.files(), request.ends.to.files()) else { return Ok(Self::default()) };
        let (mut ours, theirs) = (from.facts(&source.revision).await?, to.facts().await?);
        ours.retain(|path, _| source.entries.contains_key(path));
        let puts: BTreeSet<&RepoPath> = made.puts().map(|(path, _)| path).collect();
        // A time is set only where bytes were compared: else bytes that were believed once would be believed for ever.
        for path in trusted {
            if let Some(facts) = ours.get_mut(path) {
                facts.modified = None;
            }
        }
        let (new, mut kept): (FactList, FactList) = ours.into_iter().partition(|(path, _)| puts.contains(path));
        kept.retain(|path, facts| theirs.get(path).is_some_and(|there: &Facts| !there.shows(facts)));
        Ok(Self { new, kept })
    }

    /// Tells the target what the files of the next commit have; gives what is left to do after it.
    pub(super) fn carry(self, to: &Arc<dyn Target>) -> FactList {
        if let Some(files) = to.files() {
            files.carry(self.new);
        }
        self.kept
    }
}

/// Gives files that kept their bytes what they have at the source; says how many.
pub(super) async fn restamp(to: &Arc<dyn Target>, kept: FactList) -> Result<u64> {
    match to.files().filter(|_| !kept.is_empty()) {
        Some(files) => files.restamp(kept).await,
        None => Ok(0),
    }
}
