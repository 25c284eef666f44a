//! A commit into the cache, in the order in which readers need things: blobs, snapshot, listing, ref.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Commit as Wish, Op, is_planned_on};

use super::super::layout::{BlobName, Commit};
use super::super::scan::CachedSnapshot;
use super::super::snapshot::{Change, Piece, write_ref};
use super::super::tree::Tree;
use super::super::{LFS_FROM, MAIN, chain, entries, is_lfs};
use super::{Base, Inner, lock};
use crate::dir::durable::sync_all;
use crate::dir::files::{look, sync_folder};
use crate::dir::gate::Gate;
use crate::dir::leftovers::sweep;
use crate::dir::run::Run;

impl Inner {
    pub(super) fn commit(&self, wish: &Wish, stop: &AtomicBool) -> Result<Revision> {
        let run = self.run()?;
        let done = self.commit_run(&run, wish, stop);
        done.map_err(|error| match run.check() {
            Ok(()) => error,
            Err(lost) => {
                drop(lock(&self.run).take_if(|current| Arc::ptr_eq(current, &run)));
                lost
            }
        })
    }

    fn commit_run(&self, run: &Arc<Run>, wish: &Wish, stop: &AtomicBool) -> Result<Revision> {
        sync_all(run)?;
        let gate = Gate::enter(run)?;
        let base = self.base(stop)?;
        self.check_parent(base.as_ref(), wish.parent.as_ref())?;
        let puts = self.name_puts(run, wish)?;
        let deletes: Vec<RepoPath> = wish.ops.iter().filter(|op| matches!(op, Op::Delete { .. })).map(|op| op.path().clone()).collect();
        let mut files = self.kept(base.as_ref(), &deletes);
        let fresh = self.place(run, &puts)?;
        files.extend(puts.into_iter().map(|(path, (name, _))| (path, Piece::Blob { name, fresh: fresh.contains(&name) })));
        let commit = match &self.expected().commit {
            Some(commit) => commit.clone(),
            None => Self::content_name(&files, base.as_ref())?,
        };
        let (folder, linker, workshop) = (&self.folder, &*self.options.linker, run.folder());
        Change { folder, linker, commit: &commit, workshop, files, deletes }.run()?;
        self.name(&commit, stop)?;
        drop(gate);
        lock(&self.run).take();
        run.end()?;
        sweep(&self.folder.own());
        lock(&self.locks).release();
        commit.revision()
    }

    fn check_parent(&self, base: Option<&Base>, parent: Option<&Revision>) -> Result<()> {
        if is_planned_on(parent, base.map(|base| (base.commit.as_str(), base.entries.is_empty()))) {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{} in the cache changed since this run looked at it", self.id))
            .hint("run the same command again"))
    }

    /// The right name of every blob that is put; fails unless all of them are here.
    fn name_puts(&self, run: &Run, wish: &Wish) -> Result<BTreeMap<RepoPath, (BlobName, Blob)>> {
        let mut puts = BTreeMap::new();
        for op in &wish.ops {
            let Op::Put { path, staged } = op else { continue };
            let blob = staged.blob;
            let name = if run.holds(&blob)? {
                self.right_name(path, &blob, &run.place(blob.oid))?
            } else if let Some((name, _)) = self.stored(&blob, std::slice::from_ref(path)) {
                name
            } else {
                return Err(Error::new(Kind::Conflict, format!("the blob for {path:?} is no longer staged"))
                    .hint("another run into the same cache has used it: run the same command again"));
            };
            puts.insert(path.clone(), (name, blob));
        }
        Ok(puts)
    }

    fn right_name(&self, path: &RepoPath, blob: &Blob, at: &Path) -> Result<BlobName> {
        let told = self.told_of(path, blob).unwrap_or_else(|| Entry::new(blob.size, Digests::default()));
        if is_lfs(&told) {
            return Ok(BlobName::Sha256(blob.oid));
        }
        let known = told.digests.git.or_else(|| lock(&self.git).get(&blob.oid).copied());
        if let Some(git) = known {
            return Ok(BlobName::Git(git));
        }
        // Staged by an earlier run, or already named and about to get another name.
        let at = if look(at)?.is_some() { at.to_path_buf() } else { self.folder.blob(&BlobName::Sha256(blob.oid)) };
        Ok(BlobName::Git(GitOid::of(&std::fs::read(&at).map_err(|error| Error::io("read", &at, error))?)))
    }

    /// What the new snapshot takes over: nothing for a commit with a name of its own, whose snapshot has it already.
    fn kept(&self, base: Option<&Base>, deletes: &[RepoPath]) -> BTreeMap<RepoPath, Piece> {
        let Some(snapshot) = base.and_then(|base| base.snapshot.as_ref()).filter(|_| self.expected().commit.is_none()) else {
            return BTreeMap::new();
        };
        let files = snapshot.files.iter().filter(|(path, _)| !deletes.contains(path));
        let piece = |file: &chain::Located| match file.name() {
            Some(name) => Piece::Blob { name, fresh: false },
            None => Piece::File(file.at.clone()),
        };
        files.map(|(path, file)| (path.clone(), piece(file))).collect()
    }

    /// Gives staged blobs their names among the others. Those that nobody knew before are returned.
    fn place(&self, run: &Run, puts: &BTreeMap<RepoPath, (BlobName, Blob)>) -> Result<HashSet<BlobName>> {
        let blobs = self.folder.blobs();
        std::fs::create_dir_all(&blobs).map_err(|error| Error::io("create", &blobs, error))?;
        if look(&blobs)?.is_none_or(|data| !data.is_dir()) {
            return Err(Error::new(Kind::Denied, format!("{} is not a folder: nothing is written behind it", blobs.display()))
                .hint("replace it by the folder that it stands for"));
        }
        let mut fresh = HashSet::new();
        let mut placed: HashMap<Oid, PathBuf> = HashMap::new();
        for (name, blob) in puts.values() {
            let to = self.folder.blob(name);
            if let Some(first) = placed.get(&blob.oid) {
                if *first != to && self.blob(name, blob.size).is_none() {
                    // The same bytes in LFS and outside.
                    std::fs::copy(first, &to).map_err(|error| Error::io("write", &to, error))?;
                }
                continue;
            }
            let staged = run.place(blob.oid);
            let was_there = look(&to)?.is_some();
            match std::fs::rename(&staged, &to) {
                Ok(()) => {
                    if !was_there {
                        fresh.insert(*name);
                    }
                    placed.insert(blob.oid, to);
                }
                // Here before, or placed by a try that failed later.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.blob(name, blob.size).is_some() => {
                    placed.insert(blob.oid, to);
                }
                Err(error) => return Err(Error::io("write", &to, error)),
            }
        }
        sync_folder(&blobs)?;
        Ok(fresh)
    }

    /// The name of content that no hub has named.
    fn content_name(files: &BTreeMap<RepoPath, Piece>, base: Option<&Base>) -> Result<Commit> {
        let mut text = String::new();
        for (path, piece) in files {
            let name = match piece {
                Piece::Blob { name, .. } => name.to_string(),
                Piece::File(_) => {
                    let entry = base.and_then(|base| base.entries.iter().find(|(known, _)| known == path)).map(|(_, entry)| entry);
                    let entry = entry.ok_or_else(|| Error::new(Kind::Bug, "a file of a snapshot has no entry"))?;
                    let git = entry.digests.git.filter(|_| entry.size <= LFS_FROM).map(|git| git.to_string());
                    git.or_else(|| entry.digests.sha256.map(|oid| oid.to_string())).unwrap_or_default()
                }
            };
            // A path holds no control character, so the fields cannot run into each other.
            text.extend([path.as_str(), "\0", &name, "\n"]);
        }
        Ok(Commit::of_content(Oid::of(text.as_bytes())))
    }

    /// Writes the listing of a complete snapshot, then the ref.
    pub(super) fn name(&self, commit: &Commit, stop: &AtomicBool) -> Result<()> {
        let expected = self.expected();
        let snapshot = CachedSnapshot::read(&self.folder, commit)?
            .ok_or_else(|| Error::new(Kind::Conflict, format!("the snapshot {commit} has just been removed")))?;
        if expected.is_whole && snapshot.tree.is_none() {
            let (listed, _) = entries(&snapshot, &self.options, stop)?;
            let manifest = Manifest::new(commit.revision()?, listed)?;
            let is_there = |(path, want): (&RepoPath, &Entry)| {
                manifest.entries.get(path).is_some_and(|have| have.size == want.size && have.digests.agree(&want.digests) != Some(false))
            };
            if expected.entries.iter().all(is_there)
                && let Some(mut tree) = Tree::of(&manifest, is_lfs)
            {
                tree.files.retain(|path, _| expected.entries.contains_key(path));
                tree.write(&self.folder.tree(commit))?;
            }
        }
        let name = self.rev.as_deref().unwrap_or(MAIN);
        if Commit::parse(name).is_some() {
            return Ok(());
        }
        write_ref(&self.folder, name, commit)
    }
}
