//! A repository in a Hugging Face cache as a source: one snapshot, as its files and their names say.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, Glance, RepoInfo, Source, check_range};

use super::layout::{Cache, Commit, Holds, RepoFolder};
use super::marks;
use super::scan::{CachedSnapshot, read_ref};
use super::{CacheOptions, MAIN, entries};
use crate::dir::blocking;
use crate::dir::files::Stamp;
use crate::dir::source::stream_file;
use crate::listed::{Listed, Lists};
use crate::reading::Stop;

/// One repository of a cache.
///
/// The name of a blob says what its bytes are; a file that lies in the snapshot itself is read for that. What leads out of the cache is
/// refused.
#[derive(Debug)]
pub struct HfCacheSource {
    cache: Cache,
    kind: Option<RepoKind>,
    id: RepoId,
    rev: Option<String>,
    options: CacheOptions,
    listed: Listed<Listing>,
}

/// A snapshot as it was listed.
#[derive(Debug)]
struct Listing {
    manifest: Manifest,
    files: BTreeMap<RepoPath, (PathBuf, Stamp)>,
    /// Files that the commit has and the snapshot has not.
    missing: Vec<RepoPath>,
}

impl Lists for Listing {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl HfCacheSource {
    /// Reads from `cache`; nothing is touched before the first call. Without a `kind` the one that is there is taken; `rev` is a full
    /// commit, or a branch or tag (`main` unless given).
    pub fn new(cache: Cache, kind: Option<RepoKind>, id: RepoId, rev: Option<String>, options: CacheOptions) -> Self {
        Self { cache, kind, id, rev, options, listed: Listed::default() }
    }

    async fn list(&self) -> Result<Arc<Listing>> {
        let stop = Stop::default();
        let (cache, kind, id, rev) = (self.cache.clone(), self.kind, self.id.clone(), self.rev.clone());
        let (options, flag) = (self.options.clone(), stop.flag());
        let listing = blocking(move || {
            let (_, folder) = find(&cache, kind, &id)?;
            let snapshot = snapshot(&folder, &id, rev.as_deref())?;
            marks::use_now(&folder, &snapshot.commit);
            if let Some(problem) = snapshot.problems.iter().find(|problem| problem.error.kind() != Kind::Corrupt) {
                return Err(problem.error.duplicate());
            }
            let missing = snapshot.lacking();
            let (entries, stamps) = entries(&snapshot, &options, &flag)?;
            let files = snapshot.files.iter().map(|(path, file)| (path.clone(), (file.at.clone(), stamps[path])));
            Ok(Listing { files: files.collect(), manifest: Manifest::new(snapshot.commit.revision()?, entries)?, missing })
        })
        .await?;
        Ok(self.listed.keep(listing))
    }

    async fn listing_at(&self, at: &Revision) -> Result<Arc<Listing>> {
        self.listed.at(at, self.list()).await?.map_err(|_| {
            Error::new(Kind::Changed, format!("{} in the cache is another revision by now", self.id)).hint("run the same command again")
        })
    }
}

/// The folder of a repository: of the kind that is asked for, else of the first that is there.
pub(crate) fn find(cache: &Cache, kind: Option<RepoKind>, id: &RepoId) -> Result<(RepoKind, RepoFolder)> {
    let kinds = kind.map_or(RepoKind::ALL.to_vec(), |kind| vec![kind]);
    for kind in kinds {
        let folder = cache.repo(Holds::Repo(kind), id)?;
        if folder.at().is_dir() {
            return Ok((kind, folder));
        }
    }
    Err(Error::not_found(format!("{id} is not in the cache at {}", cache.root().display()))
        .hint(format!("bring it there with `hubferry download hf:{id}`, or name another cache by HF_HUB_CACHE")))
}

/// The commit that a revision of an address means here.
pub(crate) fn commit_of(folder: &RepoFolder, id: &RepoId, rev: Option<&str>) -> Result<Commit> {
    let name = rev.unwrap_or(MAIN);
    if let Some(commit) = Commit::parse(name) {
        return Ok(commit);
    }
    let at = folder.reference(name)?;
    if at.symlink_metadata().is_ok() {
        return read_ref(&at);
    }
    Err(Error::not_found(format!("the cache has no {name} of {id}")).hint(format!(
        "bring it with `hubferry download hf:{id} --revision {name}`, or name one of the snapshots in {}",
        folder.snapshots().display()
    )))
}

fn snapshot(folder: &RepoFolder, id: &RepoId, rev: Option<&str>) -> Result<CachedSnapshot> {
    let commit = commit_of(folder, id, rev)?;
    CachedSnapshot::read(folder, &commit)?.ok_or_else(|| {
        Error::not_found(format!("the cache has no snapshot {commit} of {id}"))
            .hint(format!("bring it with `hubferry download hf:{id} --revision {commit}`"))
    })
}

/// Why a snapshot that lacks files cannot be copied.
pub(crate) fn incomplete(id: &RepoId, commit: &str, missing: &[RepoPath]) -> Error {
    let named: Vec<&str> = missing.iter().take(3).map(RepoPath::as_str).collect();
    let more = if missing.len() > 3 { format!(" and {} more", missing.len() - 3) } else { String::new() };
    let short = commit.get(..12).unwrap_or(commit);
    Error::new(Kind::Corrupt, format!("the snapshot {short} of {id} in the cache is incomplete: it lacks {}{more}", named.join(", ")))
        .hint(format!("complete it with `hubferry download hf:{id} --revision {commit}`, or name the files that you want one by one"))
}

#[async_trait]
impl Source for HfCacheSource {
    async fn info(&self) -> Result<RepoInfo> {
        let (cache, kind, id, rev) = (self.cache.clone(), self.kind, self.id.clone(), self.rev.clone());
        blocking(move || {
            let (kind, folder) = find(&cache, kind, &id)?;
            let revision = commit_of(&folder, &id, rev.as_deref()).ok().and_then(|commit| commit.revision().ok());
            Ok(RepoInfo { kind: Some(kind), id: Some(id), revision, default_branch: Some(MAIN.to_owned()), ..RepoInfo::default() })
        })
        .await
    }

    async fn manifest(&self) -> Result<Manifest> {
        let listing = self.list().await?;
        if listing.missing.is_empty() {
            return Ok(listing.manifest.clone());
        }
        Err(incomplete(&self.id, listing.manifest.revision.as_str(), &listing.missing))
    }

    async fn glance(&self) -> Result<Glance> {
        let listing = self.list().await?;
        Ok(Glance { manifest: listing.manifest.clone(), missing: listing.missing.clone() })
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let listing = self.listing_at(at).await?;
        let (file, stamp) = listing.files.get(path).cloned().ok_or_else(|| {
            Error::not_found(format!("the cache has no file {path:?} of {}", self.id)).hint("list what is there with `hubferry ls`")
        })?;
        check_range(&range, stamp.size)?;
        stream_file(file, stamp, range).await
    }
}
