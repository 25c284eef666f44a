//! What is in a Hugging Face cache: repositories, snapshots, refs, and what is wrong with them. Only looks.
//!
//! One thing that is wrong spoils nothing else: it is noted where it is found, as `scan_cache_dir` of the Python client would warn of
//! it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hubferry_core::address::RepoId;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;
use walkdir::WalkDir;

use super::chain::{self, Located, follow};
use super::layout::{Cache, Commit, Holds, INCOMPLETE, LOCKS, RepoFolder, TAG, parse_folder_name};
use super::tree::Tree;

/// What systems put into any folder.
const IGNORED: &str = ".DS_Store";

/// Everything in a cache.
#[derive(Debug)]
pub struct Scan {
    /// The cache.
    pub cache: Cache,
    /// Its repositories, by the names of their folders.
    pub repos: Vec<CachedRepo>,
    /// What at the top belongs to no repository and to nothing else that is known.
    pub strange: Vec<PathBuf>,
}

/// One repository in a cache.
#[derive(Debug)]
pub struct CachedRepo {
    /// Where it is.
    pub folder: RepoFolder,
    /// What it holds.
    pub holds: Holds,
    /// Its id.
    pub id: RepoId,
    /// Its snapshots, by commit.
    pub snapshots: BTreeMap<Commit, CachedSnapshot>,
    /// Branches and tags, and the commits that they name.
    pub refs: BTreeMap<String, Commit>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// One snapshot: the files of a commit, or some of them.
#[derive(Debug)]
pub struct CachedSnapshot {
    /// The commit.
    pub commit: Commit,
    /// Its folder.
    pub at: PathBuf,
    /// Its files, as far as their bytes are there.
    pub files: BTreeMap<RepoPath, Located>,
    /// Which files there should be, where that is known.
    pub tree: Option<Tree>,
    /// Files that cannot be read, links that lead nowhere or astray.
    pub problems: Vec<Problem>,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Problem {
    /// Where.
    pub at: PathBuf,
    /// What, and what to do about it.
    pub error: Error,
}

impl Scan {
    /// Looks through a cache. `NotFound` when there is none.
    pub fn read(cache: &Cache) -> Result<Self> {
        let mut scan = Self { cache: cache.clone(), repos: Vec::new(), strange: Vec::new() };
        let entries = list(cache.root())?.ok_or_else(|| {
            Error::not_found(format!("there is no cache at {}", cache.root().display()))
                .hint("it is made by the first `hubferry download`; another one is named by HF_HUB_CACHE or HF_HOME")
        })?;
        for at in entries {
            let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if let Some(folder) = cache.repo_named(&name)
                && at.is_dir()
            {
                scan.repos.push(CachedRepo::read(folder)?);
                continue;
            }
            let is_known = matches!(name.as_str(), IGNORED | LOCKS | TAG) || at == cache.shared() && cache.has_shared_store();
            if !is_known {
                scan.strange.push(at);
            }
        }
        Ok(scan)
    }
}

impl CachedRepo {
    /// Looks through one repository.
    pub fn read(folder: RepoFolder) -> Result<Self> {
        let (holds, id) = parse_folder_name(folder.name())
            .ok_or_else(|| Error::new(Kind::Bug, format!("{:?} is not the folder of a repository", folder.name())))?;
        let mut repo = Self { folder, holds, id, snapshots: BTreeMap::new(), refs: BTreeMap::new(), problems: Vec::new() };
        repo.read_blobs()?;
        repo.read_snapshots()?;
        repo.read_refs();
        Ok(repo)
    }

    /// Blobs that are none: links astray, folders. Also those that no snapshot uses.
    fn read_blobs(&mut self) -> Result<()> {
        for at in list(&self.folder.blobs())?.unwrap_or_default() {
            let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(INCOMPLETE) {
                continue;
            }
            if let Err(error) = chain::blob(&self.folder, name) {
                self.problems.push(Problem { at, error });
            }
        }
        Ok(())
    }

    fn read_snapshots(&mut self) -> Result<()> {
        let Some(entries) = list(&self.folder.snapshots())? else {
            let at = self.folder.snapshots();
            let error = Error::new(Kind::Corrupt, format!("{} is missing", at.display())).hint("remove the folder of the repository");
            self.problems.push(Problem { at, error });
            return Ok(());
        };
        for at in entries {
            let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_folder = at.symlink_metadata().is_ok_and(|data| data.is_dir());
            match Commit::parse(name).filter(|_| is_folder) {
                Some(commit) => {
                    let snapshot = CachedSnapshot::read(&self.folder, &commit)?;
                    self.snapshots.extend(snapshot.map(|snapshot| (commit, snapshot)));
                }
                None if name == IGNORED => {}
                None => {
                    let error = Error::new(Kind::Corrupt, format!("{} is not the snapshot of a commit", at.display())).hint("remove it");
                    self.problems.push(Problem { at, error });
                }
            }
        }
        Ok(())
    }

    fn read_refs(&mut self) {
        for (name, at) in ref_files(&self.folder) {
            match read_ref(&at) {
                Ok(commit) if self.snapshots.contains_key(&commit) => drop(self.refs.insert(name, commit)),
                Ok(commit) => {
                    let error = Error::new(Kind::Corrupt, format!("{name} names {commit}, which has no snapshot"))
                        .hint("download that revision again, or remove the ref");
                    self.refs.insert(name, commit);
                    self.problems.push(Problem { at, error });
                }
                Err(error) => self.problems.push(Problem { at, error }),
            }
        }
    }
}

impl CachedSnapshot {
    /// Looks through one snapshot; `None` when there is none of that commit.
    pub fn read(folder: &RepoFolder, commit: &Commit) -> Result<Option<Self>> {
        let at = folder.snapshot(commit);
        for part in [folder.snapshots(), at.clone()] {
            match part.symlink_metadata() {
                Ok(data) if data.is_dir() => {}
                Ok(_) => {
                    return Err(Error::new(Kind::Denied, format!("{} is not a folder of the cache", part.display()))
                        .hint("replace it by the folder that it stands for, or remove it"));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("read", &part, error)),
            }
        }
        let mut snapshot = Self { commit: commit.clone(), at: at.clone(), files: BTreeMap::new(), tree: None, problems: Vec::new() };
        for entry in WalkDir::new(&at).min_depth(1) {
            let entry = entry.map_err(|error| {
                let place = error.path().unwrap_or(&at).to_path_buf();
                error
                    .into_io_error()
                    .map_or_else(|| Error::new(Kind::Io, "cannot read a snapshot"), |error| Error::io("read", &place, error))
            })?;
            if entry.file_type().is_dir() || entry.file_name() == IGNORED {
                continue;
            }
            let found = repo_path(&at, entry.path()).and_then(|path| Ok((path, follow(folder, entry.path())?)));
            match found {
                Ok((path, located)) => drop(snapshot.files.insert(path, located)),
                Err(error) => snapshot.problems.push(Problem { at: entry.path().to_path_buf(), error }),
            }
        }
        match Tree::read(&folder.tree(commit)) {
            Ok(tree) => snapshot.tree = tree,
            Err(error) => snapshot.problems.push(Problem { at: folder.tree(commit), error }),
        }
        Ok(Some(snapshot))
    }

    /// Files that the listing of the commit names and that are not there; empty also when that listing is not known.
    pub fn missing(&self) -> Vec<&RepoPath> {
        self.tree.iter().flat_map(|tree| tree.files.keys()).filter(|path| !self.files.contains_key(*path)).collect()
    }

    /// The same, and files whose links lead to nothing: whether or not the listing is known, these are missing.
    pub fn lacking(&self) -> Vec<RepoPath> {
        let broken = self.problems.iter().filter_map(|problem| problem.at.strip_prefix(&self.at).ok()?.to_str());
        let broken = broken.filter_map(|path| RepoPath::new(path).ok());
        let mut lacking: Vec<RepoPath> = self.missing().into_iter().cloned().chain(broken).collect();
        lacking.sort();
        lacking.dedup();
        lacking
    }
}

/// The commit that a ref names.
pub fn read_ref(at: &Path) -> Result<Commit> {
    let data = at.symlink_metadata().map_err(|error| Error::io("read", at, error))?;
    let text = if data.is_file() && data.len() < 100 {
        std::fs::read_to_string(at).map_err(|error| Error::io("read", at, error))?
    } else {
        String::new()
    };
    Commit::parse(text.trim_end()).ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("{} does not name a commit", at.display())).hint("remove it; the next download writes it again")
    })
}

/// Branches and tags with their files. What a writer has not renamed yet is none.
fn ref_files(folder: &RepoFolder) -> Vec<(String, PathBuf)> {
    let root = folder.refs();
    let files = WalkDir::new(&root).min_depth(1).into_iter().filter_map(Result::ok).filter(|entry| !entry.file_type().is_dir());
    files
        .filter(|entry| entry.file_name() != IGNORED && entry.path().extension().is_none_or(|end| end != "tmp"))
        .filter_map(|entry| Some((repo_path(&root, entry.path()).ok()?.as_str().to_owned(), entry.path().to_path_buf())))
        .collect()
}

fn repo_path(root: &Path, at: &Path) -> Result<RepoPath> {
    let below = at.strip_prefix(root).unwrap_or(at);
    let parts: Option<Vec<&str>> = below.components().map(|part| part.as_os_str().to_str()).collect();
    let parts = parts.ok_or_else(|| Error::invalid(format!("the name of {} is not UTF-8", at.display())).hint("remove it"))?;
    RepoPath::new(parts.join("/")).map_err(|error| error.context("file", at.display()))
}

/// What is in a folder, in order; `None` when it is not there.
fn list(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(|error| Error::io("read", folder, error))?.path());
    }
    found.sort();
    Ok(Some(found))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testing::{Fixture, SHA};
    use super::*;

    #[test]
    fn a_cache_is_found_as_it_is() {
        let fixture = Fixture::new();
        let (large, small) = fixture.snapshot("main", &[("config.json", b"{}", false), ("a/b/model.bin", b"weights", true)]);
        let scan = Scan::read(&fixture.cache).unwrap();
        let [repo] = &scan.repos[..] else { panic!("{scan:?}") };
        assert_eq!((repo.id.to_string().as_str(), repo.holds.word()), ("o/m", "model"));
        assert!(repo.problems.is_empty(), "{:?}", repo.problems);
        assert_eq!(repo.refs["main"].as_str(), SHA);
        let snapshot = &repo.snapshots[&Commit::parse(SHA).unwrap()];
        assert_eq!(snapshot.files.len(), 2);
        let used: BTreeSet<_> = snapshot.files.values().filter_map(|file| file.blob.as_deref()).collect();
        assert_eq!(used, BTreeSet::from([large.to_string(), small.to_string()].each_ref().map(String::as_str)));
        assert!(scan.strange.is_empty());
    }

    #[test]
    fn what_unfinished_downloads_left_is_no_problem() {
        let fixture = Fixture::new();
        fixture.snapshot("main", &[("a", b"a", false)]);
        std::fs::write(fixture.folder.blobs().join(format!("{SHA}.1234abcd.incomplete")), b"xyz").unwrap();
        std::fs::create_dir_all(fixture.folder.own().join("run-x")).unwrap();
        std::fs::write(fixture.folder.own().join("run-x/y.part"), b"12").unwrap();
        let repo = CachedRepo::read(fixture.folder.clone()).unwrap();
        assert!(repo.problems.is_empty(), "{:?}", repo.problems);
    }

    #[test]
    fn a_link_out_of_the_cache_is_not_followed() {
        let fixture = Fixture::new();
        fixture.snapshot("main", &[("a", b"a", false)]);
        let secret = fixture.root.path().join("secret");
        std::fs::write(&secret, b"secret").unwrap();
        let snapshot = fixture.folder.snapshot(&Commit::parse(SHA).unwrap());
        for (name, to) in
            [("up", "../../../secret"), ("far", secret.to_str().unwrap()), ("ref", "../../refs/main"), ("gone", "../../blobs/x")]
        {
            std::os::unix::fs::symlink(to, snapshot.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(&secret, fixture.folder.blobs().join("0".repeat(40))).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{}", "0".repeat(40)), snapshot.join("two-steps")).unwrap();
        let found = CachedSnapshot::read(&fixture.folder, &Commit::parse(SHA).unwrap()).unwrap().unwrap();
        assert_eq!(found.files.len(), 1);
        let kind = |name: &str| found.problems.iter().find(|problem| problem.at.ends_with(name)).unwrap().error.kind();
        assert_eq!([kind("up"), kind("far"), kind("ref"), kind("two-steps")], [Kind::Denied; 4]);
        assert_eq!(kind("gone"), Kind::Corrupt);
    }

    #[test]
    fn the_shared_store_is_followed_when_it_is_one() {
        let fixture = Fixture::new();
        let (large, _) = fixture.snapshot("main", &[("model.bin", b"weights", true), ("a", b"a", false)]);
        fixture.share(&large.to_string(), &"ab".repeat(32));
        let scan = Scan::read(&fixture.cache).unwrap();
        assert!(scan.repos[0].snapshots.values().any(|snapshot| snapshot.files.values().any(|file| file.is_shared)));
        assert!(scan.repos[0].problems.is_empty() && scan.strange.is_empty());
        std::fs::remove_file(fixture.cache.shared().join(super::super::layout::SHARED_MARKER)).unwrap();
        let scan = Scan::read(&fixture.cache).unwrap();
        assert_eq!(scan.repos[0].problems[0].error.kind(), Kind::Denied);
        assert_eq!(scan.strange, [fixture.cache.shared()]);
    }

    #[test]
    fn refs_that_name_nothing_are_problems() {
        let fixture = Fixture::new();
        fixture.snapshot("refs/pr/1", &[("a", b"a", false)]);
        std::fs::write(fixture.folder.reference("gone").unwrap(), "0".repeat(40)).unwrap();
        std::fs::write(fixture.folder.reference("odd").unwrap(), "../../x").unwrap();
        std::fs::write(fixture.folder.refs().join("main.0123abcd.tmp"), "").unwrap();
        let repo = CachedRepo::read(fixture.folder.clone()).unwrap();
        assert_eq!(
            repo.refs.iter().filter(|(_, named)| named.as_str() == SHA).map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["refs/pr/1"]
        );
        assert_eq!(repo.problems.len(), 2, "{:?}", repo.problems);
    }

    #[test]
    fn a_snapshot_knows_what_it_lacks() {
        let fixture = Fixture::new();
        fixture.snapshot("main", &[("a", b"a", false), ("b", b"b", false)]);
        fixture.tree();
        let read = || CachedSnapshot::read(&fixture.folder, &Commit::parse(SHA).unwrap()).unwrap().unwrap();
        assert!(read().missing().is_empty());
        std::fs::remove_file(read().at.join("b")).unwrap();
        assert_eq!(read().missing(), [&RepoPath::new("b").unwrap()]);
    }
}
