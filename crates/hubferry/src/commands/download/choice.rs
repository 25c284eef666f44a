//! What `--for` and the like choose among files that are on this machine, without asking a hub.

use std::path::Path;

use hubferry_core::digest::Digests;
use hubferry_core::filter::Filter;
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::ops::selecting;
use hubferry_core::selection::LARGEST;

/// The filter, resolved against the files of a revision; those that decide are read below `root`. `None` where they do not say what to
/// take: then the hub has to be asked.
pub(super) fn resolved<'a>(filter: &Filter, paths: impl Iterator<Item = &'a RepoPath>, root: &Path) -> Option<Filter> {
    if filter.preset().is_none() {
        return Some(filter.clone());
    }
    // Sizes and hashes decide nothing here.
    let entry = Entry::new(0, Digests::default());
    let listing = Manifest::new(Revision::new("local").ok()?, paths.map(|path| (path.clone(), entry))).ok()?;
    let content = |path: &RepoPath| {
        let at = root.join(path.as_str());
        let is_small = at.metadata().is_ok_and(|data| data.is_file() && data.len() <= LARGEST);
        is_small.then(|| std::fs::read(at).ok()).flatten()
    };
    selecting::resolve_with(filter, &listing, content).ok()
}
