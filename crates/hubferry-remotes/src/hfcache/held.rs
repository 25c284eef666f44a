//! What a cache can answer without asking anybody: the snapshot of a revision, and whether all of it is there.

use std::path::PathBuf;

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;

use super::MAIN;
use super::layout::{Cache, Commit, Holds, RepoFolder};
use super::scan::CachedSnapshot;
use super::snapshot::write_ref;
use super::source::{commit_of, find, incomplete};
use crate::dir::join;

/// A snapshot that is there.
#[derive(Clone, Debug)]
pub struct Held {
    /// What the repository is.
    pub kind: RepoKind,
    /// The folder of the repository.
    pub folder: RepoFolder,
    /// The commit.
    pub commit: Commit,
    /// Its folder.
    pub at: PathBuf,
    /// Files whose bytes are there.
    pub files: Vec<RepoPath>,
    /// Files that the commit has and that are not there.
    pub missing: Vec<RepoPath>,
    /// Whether the files of the commit are known; without that, nothing is known to be missing.
    pub is_listed: bool,
}

/// Looks for a revision (`main` unless given); `None` when the cache has no snapshot of it.
pub fn held(cache: &Cache, kind: Option<RepoKind>, id: &RepoId, rev: Option<&str>) -> Result<Option<Held>> {
    let known = find(cache, kind, id).and_then(|(kind, folder)| Ok((kind, commit_of(&folder, id, rev)?, folder)));
    let (kind, commit, folder) = match known {
        Ok(known) => known,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(snapshot) = CachedSnapshot::read(&folder, &commit)? else { return Ok(None) };
    let missing = snapshot.lacking();
    let (is_listed, files) = (snapshot.tree.is_some(), snapshot.files.into_keys().collect());
    Ok(Some(Held { kind, folder, commit, at: snapshot.at, files, missing, is_listed }))
}

impl Held {
    /// Why it cannot stand for what was asked for; `missing` are the files that were.
    pub fn incomplete(&self, id: &RepoId, missing: &[RepoPath]) -> Error {
        incomplete(id, self.commit.as_str(), missing)
    }
}

/// Lets a branch or tag (`main` unless given) name a commit whose snapshot is there. A full commit needs no name.
pub fn point(cache: &Cache, kind: RepoKind, id: &RepoId, rev: Option<&str>, commit: &Commit) -> Result<()> {
    let name = rev.unwrap_or(MAIN);
    if Commit::parse(name).is_some() { Ok(()) } else { write_ref(&cache.repo(Holds::Repo(kind), id)?, name, commit) }
}

/// Notes that a commit has no such file, where the Python client looks for that before it asks the hub.
pub fn note_absent(cache: &Cache, kind: RepoKind, id: &RepoId, commit: &Commit, path: &RepoPath) -> Result<()> {
    let folder = cache.repo(Holds::Repo(kind), id)?;
    let at = folder.no_exist(commit, path);
    let above = at.parent().map_or_else(|| folder.at(), std::path::Path::to_path_buf);
    std::fs::create_dir_all(&above).map_err(|error| Error::io("create", &above, error))?;
    // A repository without snapshots is a damaged one to the Python client.
    std::fs::create_dir_all(folder.snapshots()).map_err(|error| Error::io("create", &folder.snapshots(), error))?;
    match std::fs::File::create_new(&at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("create", &at, error)),
        _ => Ok(()),
    }
}

/// Where a file of a snapshot is.
pub fn file_at(held: &Held, path: &RepoPath) -> PathBuf {
    join(&held.at, path)
}
