//! Reading trees: one entry, many entries, or a listing in pages.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Result};
use hubferry_core::manifest::RepoPath;
use sqlx::{Row, SqliteExecutor};

use super::Store;
use super::database::{damaged, failed, list};
use super::git::{Key, Node, Tree};

/// What is known of a file in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeFile {
    /// Git blob id: of the content, or of the pointer for an LFS file.
    pub git: GitOid,
    /// SHA-256 of the content.
    pub sha256: Oid,
    /// Size of the content.
    pub size: u64,
    /// Whether Git holds a pointer to it.
    pub lfs: bool,
}

impl TreeFile {
    /// How long the text of its LFS pointer is.
    pub fn pointer_size(&self) -> u64 {
        super::git::pointer(&self.blob()).len() as u64
    }

    /// SHA-256 and size of the content.
    pub fn blob(&self) -> hubferry_core::manifest::Blob {
        hubferry_core::manifest::Blob { oid: self.sha256, size: self.size }
    }
}

/// One path of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeEntry {
    /// A file.
    File(TreeFile),
    /// A folder, by its tree id.
    Folder(GitOid),
}

/// A path and what is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// The whole path from the root of the repository.
    pub path: String,
    /// What is there.
    pub entry: TreeEntry,
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Start in this folder; `None` is the root.
    pub folder: Option<RepoPath>,
    /// With everything below, or only the direct members.
    pub recursive: bool,
    /// Continue behind this: [`Page::next`] of the page before.
    pub after: Option<String>,
    /// Most entries to return.
    pub limit: usize,
}

/// A part of a listing, in Git's order: a folder comes right before what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Listing>,
    /// Where the next page continues; `None` at the end.
    pub next: Option<String>,
}

impl Store {
    /// The root folder of a commit. The caller has resolved the commit in the repository, so it may be read.
    pub async fn root(&self, commit: GitOid) -> Result<GitOid> {
        if let Some(root) = self.recent.roots.get(&commit) {
            return Ok(root);
        }
        let root = root(self.db.read(), commit).await?;
        self.recent.roots.put(commit, root, 1);
        Ok(root)
    }

    /// Lists a folder, or everything below it. `NotFound` when the folder is not there (or is a file).
    pub async fn list(&self, commit: GitOid, query: &ListQuery) -> Result<Page> {
        let top = self.root(commit).await?;
        let (top, prefix) = match &query.folder {
            None => (top, String::new()),
            Some(folder) => match self.node(top, folder.as_str()).await? {
                Some(Node::Folder(id)) => (id, format!("{folder}/")),
                _ => return Err(Error::not_found(format!("no folder {folder} at this revision"))),
            },
        };
        let mut found = self.walk(top, prefix, query).await?;
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|(key, _)| key.clone());
        let files = self.files(found.iter().filter_map(|(_, node)| as_file(*node))).await?;
        let entries = found
            .into_iter()
            .map(|(key, node)| Ok(Listing { path: key.trim_end_matches('/').to_owned(), entry: entry_of(node, &files)? }))
            .collect::<Result<_>>()?;
        Ok(Page { entries, next })
    }

    /// What is at one path.
    pub async fn entry(&self, commit: GitOid, path: &RepoPath) -> Result<Option<TreeEntry>> {
        Ok(self.entries(commit, std::slice::from_ref(path)).await?.pop().map(|found| found.entry))
    }

    /// What is at these paths, in their order; absent ones are left out.
    pub async fn entries(&self, commit: GitOid, paths: &[RepoPath]) -> Result<Vec<Listing>> {
        let top = self.root(commit).await?;
        let mut found = Vec::new();
        for path in paths {
            if let Some(node) = self.node(top, path.as_str()).await? {
                found.push((path, node));
            }
        }
        let files = self.files(found.iter().filter_map(|(_, node)| as_file(*node))).await?;
        found.into_iter().map(|(path, node)| Ok(Listing { path: path.to_string(), entry: entry_of(node, &files)? })).collect()
    }

    async fn node(&self, top: GitOid, path: &str) -> Result<Option<Node>> {
        let mut at = Node::Folder(top);
        for name in path.split('/') {
            let Node::Folder(id) = at else { return Ok(None) };
            match self.tree(id).await?.get(name) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// One folder. The caller has come to it from a commit of a repository that may be read.
    pub async fn tree(&self, id: GitOid) -> Result<Arc<Tree>> {
        if let Some(tree) = self.recent.trees.get(&id) {
            return Ok(tree);
        }
        let tree = Arc::new(tree(self.db.read(), id).await?);
        self.recent.trees.put(id, tree.clone(), tree.0.len() + 1);
        Ok(tree)
    }

    /// What these Git blob ids mean.
    pub(super) async fn files(&self, ids: impl Iterator<Item = GitOid>) -> Result<HashMap<GitOid, TreeFile>> {
        let (mut known, mut unknown) = (HashMap::new(), Vec::new());
        for id in ids {
            match self.recent.files.get(&id) {
                Some(file) => drop(known.insert(id, file)),
                None => unknown.push(id),
            }
        }
        if !unknown.is_empty() {
            for file in files(self.db.read(), unknown).await? {
                self.recent.files.put(file.git, file, 1);
                known.insert(file.git, file);
            }
        }
        Ok(known)
    }

    /// Walks in Git's order and stops one entry behind the limit. Paths carry a final `/` on folders, so that plain text order is
    /// the order of the walk, and everything up to the cursor is skipped without being read.
    async fn walk(&self, top: GitOid, prefix: String, query: &ListQuery) -> Result<Vec<(String, Node)>> {
        let after = query.after.as_deref().unwrap_or("");
        let mut found = Vec::new();
        let mut stack = vec![Members::new(prefix, self.tree(top).await?, after)];
        while let Some(members) = stack.last_mut() {
            let Some((path, node)) = members.next() else {
                stack.pop();
                continue;
            };
            let seen = path.as_str() <= after;
            let holds_cursor = seen && after.starts_with(&path);
            if !seen {
                found.push((path.clone(), node));
                if found.len() > query.limit {
                    break;
                }
            }
            if let Node::Folder(id) = node
                && query.recursive
                && (!seen || holds_cursor)
            {
                stack.push(Members::new(path, self.tree(id).await?, after));
            }
        }
        Ok(found)
    }
}

/// A folder on the way of a walk.
struct Members {
    /// Its path, with a final `/` unless it is the root.
    prefix: String,
    tree: Arc<Tree>,
    /// The last member that was handed out.
    last: Bound<Key>,
}

impl Members {
    /// Begins at the member that holds `after`, or right behind it.
    fn new(prefix: String, tree: Arc<Tree>, after: &str) -> Self {
        let cursor = after.strip_prefix(&prefix).filter(|rest| !rest.is_empty());
        let last = cursor.map_or(Bound::Unbounded, |rest| {
            let end = rest.find('/').map_or(rest.len(), |slash| slash + 1);
            Bound::Included(Key::new(&rest[..end], false))
        });
        Self { prefix, tree, last }
    }

    fn next(&mut self) -> Option<(String, Node)> {
        let (key, node) = self.tree.0.range((self.last.as_ref(), Bound::Unbounded)).next()?;
        let found = (format!("{}{}", self.prefix, key.as_str()), *node);
        self.last = Bound::Excluded(key.clone());
        Some(found)
    }
}

fn as_file(node: Node) -> Option<GitOid> {
    match node {
        Node::File(id) => Some(id),
        Node::Folder(_) => None,
    }
}

fn entry_of(node: Node, files: &HashMap<GitOid, TreeFile>) -> Result<TreeEntry> {
    match node {
        Node::Folder(id) => Ok(TreeEntry::Folder(id)),
        Node::File(id) => files.get(&id).copied().map(TreeEntry::File).ok_or_else(|| damaged(format!("file {id} is unknown"))),
    }
}

/// The root folder a commit object names.
pub(super) async fn root(db: impl SqliteExecutor<'_>, commit: GitOid) -> Result<GitOid> {
    let bytes = object(db, commit).await?;
    let id = bytes.strip_prefix(b"tree ").and_then(|rest| rest.get(..40)).and_then(|id| std::str::from_utf8(id).ok());
    id.ok_or_else(|| damaged("a commit names no tree"))?.parse().map_err(|_| damaged("a commit names no tree"))
}

pub(super) async fn tree(db: impl SqliteExecutor<'_>, id: GitOid) -> Result<Tree> {
    Tree::decode(&object(db, id).await?)
}

pub(super) async fn object(db: impl SqliteExecutor<'_>, id: GitOid) -> Result<Vec<u8>> {
    let row = sqlx::query("SELECT bytes FROM objects WHERE id = ?1").bind(id.to_string()).fetch_optional(db).await.map_err(failed)?;
    row.ok_or_else(|| damaged(format!("object {id} is missing")))?.try_get(0).map_err(failed)
}

/// All in one row: a row of its own for each file costs more than finding it.
async fn files(db: impl SqliteExecutor<'_>, ids: Vec<GitOid>) -> Result<Vec<TreeFile>> {
    let row = sqlx::query(
        "SELECT group_concat(id || ' ' || sha256 || ' ' || size || ' ' || lfs, char(10)) FROM files WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(list(ids))
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let lines: Option<String> = row.try_get(0).map_err(failed)?;
    lines.as_deref().unwrap_or_default().lines().map(file).collect()
}

/// One line of [`files`].
fn file(line: &str) -> Result<TreeFile> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| damaged("a file lacks a column"));
    let (git, sha256) = (word()?.parse().map_err(damaged)?, word()?.parse().map_err(damaged)?);
    let size = word()?.parse().map_err(|_| damaged("a size is not a number"))?;
    Ok(TreeFile { git, sha256, size, lfs: word()? != "0" })
}
