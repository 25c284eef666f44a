//! A tree that is being changed: folders are read when an operation reaches into them, and only changed ones are written.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Result};
use hubferry_core::manifest::{Blob, RepoPath};

use super::super::database::Tx;
use super::super::git::{Key, Node, Tree, object_id, pointer};
use super::super::trees::tree;
use super::{Op, save_object};

/// A folder that may have been changed.
enum Slot {
    File(GitOid),
    /// Unchanged, not read.
    Folder(GitOid),
    /// Read, because an operation reached into it.
    Open(BTreeMap<String, Slot>),
}

/// The root folder while a commit is applied.
pub(super) struct Draft {
    root: Slot,
    base: Slot,
    touched: BTreeSet<String>,
}

impl Draft {
    /// Starts from a root folder, or from nothing.
    pub(super) fn new(base: Option<GitOid>) -> Self {
        let slot = || base.map_or_else(|| Slot::Open(BTreeMap::new()), Slot::Folder);
        Self { root: slot(), base: slot(), touched: BTreeSet::new() }
    }

    /// Applies the operations: deletions, then copies, then puts, so that a file may take the place of a folder that goes.
    pub(super) async fn apply(&mut self, tx: &mut Tx, ops: &[Op]) -> Result<()> {
        for op in ops {
            match op {
                Op::DeleteFile { path } => self.remove(tx, path, false).await?,
                Op::DeleteFolder { path } => self.remove(tx, path, true).await?,
                _ => {}
            }
        }
        for op in ops {
            if let Op::Copy { from, to } = op {
                let slot = self.base.copy_of(tx, from).await?;
                self.put(tx, to, slot).await?;
            }
        }
        for op in ops {
            match op {
                Op::Put { path, content } => {
                    let id = if content.pointer.is_some_and(|blob| blob.size == 0) { GitOid::of(b"") } else { content.git };
                    self.put(tx, path, Slot::File(id)).await?;
                }
                Op::PutLfs { path, oid, size } => {
                    let size = match size {
                        Some(size) => *size,
                        None => size_of(tx, *oid).await?,
                    };
                    self.put(tx, path, Slot::File(pointer_id(&Blob { oid: *oid, size }))).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn remove(&mut self, tx: &mut Tx, path: &RepoPath, folder: bool) -> Result<()> {
        let absent = || Error::not_found("A file with this name doesn't exist").context("path", path);
        let members = self.root.open_parent(tx, path, false).await?.ok_or_else(absent)?;
        match members.get(path.name()) {
            Some(Slot::File(_)) if !folder => {}
            Some(Slot::Folder(_) | Slot::Open(_)) if folder => {}
            _ => return Err(absent()),
        }
        members.remove(path.name());
        self.touch(path);
        Ok(())
    }

    async fn put(&mut self, tx: &mut Tx, path: &RepoPath, slot: Slot) -> Result<()> {
        let clash = || Error::invalid(format!("{path:?} would be a file and a folder at once")).context("path", path);
        let members = self.root.open_parent(tx, path, true).await?.ok_or_else(clash)?;
        if members.get(path.name()).is_some_and(Slot::holds_files) {
            return Err(clash());
        }
        members.insert(path.name().to_owned(), slot);
        self.touch(path);
        Ok(())
    }

    fn touch(&mut self, path: &RepoPath) {
        self.touched.extend(path.parents().map(str::to_owned));
        self.touched.insert(path.to_string());
    }

    /// Every path that was touched, with the folders above it.
    pub(super) fn touched(self) -> Vec<String> {
        self.touched.into_iter().collect()
    }

    /// Writes what changed and names the root folder. An empty root is Git's empty tree.
    pub(super) async fn save(&mut self, tx: &mut Tx) -> Result<GitOid> {
        match self.root.save(tx).await? {
            Some(Node::Folder(id) | Node::File(id)) => Ok(id),
            None => {
                let empty = Tree::default().encode();
                let id = object_id("tree", &empty);
                save_object(tx, id, &empty).await?;
                Ok(id)
            }
        }
    }
}

impl Slot {
    /// Whether this is a folder with something in it; one whose last file was deleted is none any more.
    fn holds_files(&self) -> bool {
        match self {
            Slot::File(_) => false,
            Slot::Folder(_) => true,
            Slot::Open(members) => members.values().any(|member| matches!(member, Slot::File(_)) || member.holds_files()),
        }
    }

    /// Reads this folder if it was not; `None` when it is a file.
    async fn open(&mut self, tx: &mut Tx) -> Result<Option<&mut BTreeMap<String, Slot>>> {
        if let Slot::Folder(id) = self {
            let members = tree(&mut **tx, *id).await?.0.into_iter().map(|(key, node)| {
                let slot = match node {
                    Node::File(id) => Slot::File(id),
                    Node::Folder(id) => Slot::Folder(id),
                };
                (key.name().to_owned(), slot)
            });
            *self = Slot::Open(members.collect());
        }
        match self {
            Slot::Open(members) => Ok(Some(members)),
            _ => Ok(None),
        }
    }

    /// The members of the folder that holds `path`. With `create`, missing folders are made; `None` when a file is in the way, or
    /// (without `create`) when a folder is missing.
    async fn open_parent(&mut self, tx: &mut Tx, path: &RepoPath, create: bool) -> Result<Option<&mut BTreeMap<String, Slot>>> {
        let mut at = self;
        let parts = path.as_str().split('/');
        for name in parts.clone().take(parts.count() - 1) {
            let Some(members) = at.open(tx).await? else { return Ok(None) };
            if create && !members.contains_key(name) {
                members.insert(name.to_owned(), Slot::Open(BTreeMap::new()));
            }
            match members.get_mut(name) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        at.open(tx).await
    }

    /// What is at `path`, for copying. Only called on the unchanged base, so folders are whole.
    async fn copy_of(&mut self, tx: &mut Tx, path: &RepoPath) -> Result<Slot> {
        let absent = || Error::not_found("A file with this name doesn't exist").context("path", path);
        let members = self.open_parent(tx, path, false).await?.ok_or_else(absent)?;
        let slot = members.get_mut(path.name()).ok_or_else(absent)?;
        Ok(match slot.save(tx).await?.ok_or_else(absent)? {
            Node::File(id) => Slot::File(id),
            Node::Folder(id) => Slot::Folder(id),
        })
    }

    /// Writes this folder if it was read, innermost first; `None` when nothing is left in it.
    fn save<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = Result<Option<Node>>> + Send + 'a>> {
        Box::pin(async move {
            let members = match self {
                Slot::File(id) => return Ok(Some(Node::File(*id))),
                Slot::Folder(id) => return Ok(Some(Node::Folder(*id))),
                Slot::Open(members) => members,
            };
            let mut tree = Tree::default();
            for (name, slot) in members.iter_mut() {
                if let Some(node) = slot.save(tx).await? {
                    tree.0.insert(Key::new(name, matches!(node, Node::Folder(_))), node);
                }
            }
            if tree.0.is_empty() {
                return Ok(None);
            }
            let bytes = tree.encode();
            let id = object_id("tree", &bytes);
            save_object(tx, id, &bytes).await?;
            Ok(Some(Node::Folder(id)))
        })
    }
}

async fn size_of(tx: &mut Tx, oid: hubferry_core::digest::Oid) -> Result<u64> {
    use sqlx::Row;
    let row = sqlx::query("SELECT size FROM blobs WHERE sha256 = ?1")
        .bind(oid.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(super::super::database::failed)?;
    super::super::database::to_size(row.try_get(0).map_err(super::super::database::failed)?)
}

/// What Git calls an LFS file. An empty file is its own pointer, as in git-lfs.
fn pointer_id(blob: &Blob) -> GitOid {
    if blob.size == 0 { GitOid::of(b"") } else { GitOid::of(pointer(blob).as_bytes()) }
}
