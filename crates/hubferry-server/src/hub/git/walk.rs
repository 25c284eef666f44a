//! Walks through trees: which folders and files a pack holds, and whether an object belongs to a repository at all.

use std::collections::HashSet;

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};

use super::graph::Graph;
use super::request::Filter;
use crate::store::Store;
use crate::store::git::Node;

/// Most objects of one pack. A list of them takes about fifty bytes each.
const MOST_OBJECTS: usize = 2_000_000;
/// How many sizes are asked for at once.
const SIZES: usize = 1000;

/// What a pack will hold besides commits, each object once.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    store: &'a Store,
    /// Files are left out while this is off.
    with_blobs: bool,
    seen: HashSet<GitOid>,
    trees: Vec<GitOid>,
    blobs: Vec<GitOid>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(store: &'a Store, filter: Filter) -> Self {
        Self { store, with_blobs: filter != Filter::Blobs, seen: HashSet::new(), trees: Vec::new(), blobs: Vec::new() }
    }

    /// The client has this folder with everything in it.
    pub(super) async fn skip(&mut self, tree: GitOid) -> Result<()> {
        self.walk(tree, false).await
    }

    /// Adds a folder and everything in it that was not seen yet.
    pub(super) async fn add(&mut self, tree: GitOid) -> Result<()> {
        self.walk(tree, true).await
    }

    /// Adds a file that was asked for by its id, whatever the filter says.
    pub(super) fn add_blob(&mut self, id: GitOid) {
        if self.seen.insert(id) {
            self.blobs.push(id);
        }
    }

    async fn walk(&mut self, top: GitOid, add: bool) -> Result<()> {
        let mut waiting = vec![top];
        while let Some(id) = waiting.pop() {
            if !self.seen.insert(id) {
                continue;
            }
            if add {
                self.trees.push(id);
            }
            for node in self.store.tree(id).await?.0.values() {
                match *node {
                    Node::Folder(id) if !self.seen.contains(&id) => waiting.push(id),
                    Node::File(id) if self.with_blobs && self.seen.insert(id) && add => self.blobs.push(id),
                    Node::Folder(_) | Node::File(_) => {}
                }
            }
            if self.seen.len() > MOST_OBJECTS {
                return Err(Error::new(Kind::Unsupported, format!("more than {MOST_OBJECTS} objects do not fit into one pack"))
                    .hint("take less of the history at once: git clone --depth=1"));
            }
        }
        Ok(())
    }

    /// Folders and files, without the files that are too large for the client, unless it wants exactly those.
    pub(super) async fn finish(mut self, filter: Filter, wanted: &HashSet<GitOid>) -> Result<(Vec<GitOid>, Vec<GitOid>)> {
        let Filter::BlobsFrom(limit) = filter else { return Ok((self.trees, self.blobs)) };
        let mut small = Vec::new();
        for ids in self.blobs.chunks(SIZES) {
            let sizes = self.store.content_sizes(ids).await?;
            small.extend(ids.iter().copied().filter(|id| wanted.contains(id) || sizes.get(id).is_none_or(|size| *size < limit)));
        }
        self.blobs = small;
        Ok((self.trees, self.blobs))
    }
}

/// What these ids, which are no commits of the repository, are in it; `Err` names one that does not belong to it. `tips` say where to
/// look first: clients that left out files want those of a commit they have just fetched.
pub(super) async fn find(store: &Store, graph: &Graph, tips: &[GitOid], ids: &[GitOid]) -> Result<std::result::Result<Vec<Node>, GitOid>> {
    let mut missing: HashSet<GitOid> = ids.iter().copied().collect();
    let mut found = Vec::with_capacity(missing.len());
    // Made up ids must not cost a walk through everything.
    if let Some(unknown) = store.unknown_object(ids).await? {
        return Ok(Err(unknown));
    }
    let mut seen = HashSet::new();
    for root in graph.roots(tips) {
        if missing.is_empty() {
            break;
        }
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            if missing.remove(&id) {
                found.push(Node::Folder(id));
            }
            for node in store.tree(id).await?.0.values() {
                match *node {
                    Node::Folder(id) => waiting.push(id),
                    Node::File(id) if missing.remove(&id) => found.push(*node),
                    Node::File(_) => {}
                }
            }
        }
    }
    Ok(missing.into_iter().next().map_or(Ok(found), Err))
}
