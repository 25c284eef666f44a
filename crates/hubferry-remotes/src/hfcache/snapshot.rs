//! Making files of a snapshot visible: all at once for a new one, link by link in one that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;

use super::layout::{BlobName, Commit, RepoFolder};
use super::linker::{Linker, lead};
use super::scan::CachedSnapshot;
use crate::dir::files::{look, remove_file, sync_folder};
use crate::dir::join;

/// Where the bytes of a file will come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// A blob of the repository; `fresh` when this run brought it and nobody else can know of it yet.
    Blob { name: BlobName, fresh: bool },
    /// A file of another snapshot, where links are not possible.
    File(PathBuf),
}

/// A snapshot to be made or changed.
pub(super) struct Change<'a> {
    pub(super) folder: &'a RepoFolder,
    pub(super) linker: &'a dyn Linker,
    pub(super) commit: &'a Commit,
    /// A folder of ours in the same file system.
    pub(super) workshop: &'a Path,
    /// Every file that must be there afterwards.
    pub(super) files: BTreeMap<RepoPath, Piece>,
    /// Files that must not.
    pub(super) deletes: Vec<RepoPath>,
}

impl Change<'_> {
    /// Carries it out. A new snapshot appears complete.
    pub(super) fn run(mut self) -> Result<()> {
        let at = self.folder.snapshot(self.commit);
        if look(&at)?.is_none() && self.build(&at)? {
            return Ok(());
        }
        self.amend()
    }

    /// Builds it aside; `false` when another program has made one meanwhile.
    fn build(&mut self, at: &Path) -> Result<bool> {
        let aside = self.workshop.join(format!("snapshot-{:016x}", fastrand::u64(..)));
        let mut uses = self.uses();
        let mut folders = vec![aside.clone()];
        std::fs::create_dir_all(&aside).map_err(|error| Error::io("create", &aside, error))?;
        for (path, piece) in &self.files {
            let to = join(&aside, path);
            if let Some(parent) = to.parent().filter(|parent| folders.last().is_none_or(|last| last != parent)) {
                std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
                folders.push(parent.to_path_buf());
            }
            self.make(path, piece, &to, &mut uses)?;
        }
        for folder in &folders {
            sync_folder(folder)?;
        }
        let above = self.folder.snapshots();
        std::fs::create_dir_all(&above).map_err(|error| Error::io("create", &above, error))?;
        let renamed = std::fs::rename(&aside, at);
        if renamed.is_ok() {
            sync_folder(&above)?;
            return Ok(true);
        }
        // What was moved into it, where links are not possible, must not be lost with it.
        let is_there = look(at)?.is_some_and(|data| data.is_dir());
        for (path, piece) in &mut self.files {
            if let Piece::Blob { name, .. } = piece
                && look(&self.folder.blob(name))?.is_none()
            {
                let blob = self.folder.blob(name);
                std::fs::rename(join(&aside, path), &blob).map_err(|error| Error::io("write", &blob, error))?;
            }
        }
        drop(std::fs::remove_dir_all(&aside));
        if is_there { Ok(false) } else { renamed.map(|()| true).map_err(|error| Error::io("write", at, error)) }
    }

    /// How many files each blob is for.
    fn uses(&self) -> BTreeMap<BlobName, usize> {
        let mut uses = BTreeMap::new();
        for piece in self.files.values() {
            if let Piece::Blob { name, .. } = piece {
                *uses.entry(*name).or_default() += 1;
            }
        }
        uses
    }

    fn make(&self, path: &RepoPath, piece: &Piece, to: &Path, uses: &mut BTreeMap<BlobName, usize>) -> Result<()> {
        match piece {
            Piece::Blob { name, fresh } => {
                let left = uses.entry(*name).or_default();
                *left = left.saturating_sub(1);
                let may_move = *fresh && *left == 0;
                lead(self.linker, &self.folder.blob(name), &self.folder.link_text(path, name), to, may_move).map(drop)
            }
            Piece::File(from) => {
                if self.linker.hard_link(from, to).is_ok() {
                    return Ok(());
                }
                std::fs::copy(from, to).map(drop).map_err(|error| Error::io("write", to, error))
            }
        }
    }

    /// Changes a snapshot that is there, one file after the other.
    fn amend(&self) -> Result<()> {
        let there = CachedSnapshot::read(self.folder, self.commit)?
            .ok_or_else(|| Error::new(Kind::Conflict, format!("the snapshot {} has just been removed", self.commit)))?;
        let is_right = |path: &RepoPath, piece: &Piece| {
            let found = there.files.get(path);
            match piece {
                Piece::Blob { name, .. } => found.is_some_and(|file| file.name() == Some(*name)),
                Piece::File(from) => found.is_some_and(|file| file.at == *from),
            }
        };
        let unlike = |(path, piece): (&RepoPath, &Piece)| !is_right(path, piece);
        let folders: BTreeSet<&str> = self.files.keys().flat_map(RepoPath::parents).collect();
        let is_in_the_way =
            |path: &&RepoPath| folders.contains(path.as_str()) || path.parents().any(|parent| self.files.contains_key(parent));
        let (blocking, later): (Vec<&RepoPath>, Vec<&RepoPath>) = self.deletes.iter().partition(is_in_the_way);
        for path in blocking {
            self.delete(&there.at, path)?;
        }
        let mut uses = self.uses();
        for (path, piece) in self.files.iter().filter(|file| unlike(*file)) {
            let to = join(&there.at, path);
            self.folders(&there.at, path)?;
            let unfinished = self.workshop.join(format!("link-{:016x}", fastrand::u64(..)));
            self.make(path, piece, &unfinished, &mut uses)?;
            if look(&to)?.is_some_and(|data| data.is_dir()) {
                drop(std::fs::remove_dir(&to));
            }
            std::fs::rename(&unfinished, &to).map_err(|error| {
                drop(std::fs::remove_file(&unfinished));
                Error::io("write", &to, error)
            })?;
        }
        for path in later {
            self.delete(&there.at, path)?;
        }
        sync_folder(&there.at)
    }

    /// Makes the folders above a file. A link among them would lead out of the snapshot.
    fn folders(&self, snapshot: &Path, path: &RepoPath) -> Result<()> {
        for parent in path.parents() {
            let at = snapshot.join(parent);
            match look(&at)? {
                Some(data) if data.is_dir() => {}
                Some(_) => {
                    return Err(Error::new(Kind::Denied, format!("{} is not a folder: nothing is written behind it", at.display()))
                        .context("commit", self.commit)
                        .hint("it was not made by a client of the hub: remove it"));
                }
                None => match std::fs::create_dir(&at) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("create", &at, error)),
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Removes a file, and the folders that become empty by that.
    fn delete(&self, snapshot: &Path, path: &RepoPath) -> Result<()> {
        self.folders(snapshot, path)?;
        remove_file(&join(snapshot, path))?;
        let parents: Vec<&str> = path.parents().collect();
        for parent in parents.into_iter().rev() {
            if std::fs::remove_dir(snapshot.join(parent)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Lets a branch or tag name a commit, unless it does so already: readers see the old one or the new one.
pub(super) fn write_ref(folder: &RepoFolder, name: &str, commit: &Commit) -> Result<()> {
    let at = folder.reference(name)?;
    if std::fs::read(&at).is_ok_and(|text| text == commit.as_str().as_bytes()) {
        return Ok(());
    }
    let write = |error| Error::io("write", &at, error);
    let above = at.parent().unwrap_or(&at);
    std::fs::create_dir_all(above).map_err(write)?;
    // The Python client's name for it, so that neither tool takes it for a branch.
    let mut unfinished = at.clone().into_os_string();
    unfinished.push(format!(".{:08x}.tmp", fastrand::u32(..)));
    let unfinished = PathBuf::from(unfinished);
    let written = std::fs::File::create_new(&unfinished).and_then(|mut file| {
        std::io::Write::write_all(&mut file, commit.as_str().as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&unfinished, &at)).map_err(|error| {
        drop(std::fs::remove_file(&unfinished));
        write(error)
    })?;
    sync_folder(above)
}
