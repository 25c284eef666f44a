//! What the Python client keeps beside files that it downloads into a folder of the user's (`hf download --local-dir`), in
//! `.cache/huggingface` there: of which commit each file is and what it was then. With it a second download is nothing to do, and a
//! file that was edited shows.
//!
//! Known from `_local_folder.py` of `huggingface_hub` 2.4.0.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;

use super::layout::{BlobName, Commit, TAG, TAG_TEXT};
use super::tree::Tree;
use crate::dir::join;
use walkdir::WalkDir;

/// What file systems may be wrong by, as the Python client has it.
const SLACK: Duration = Duration::from_secs(1);

/// A folder with downloaded files.
#[derive(Clone, Debug)]
pub struct LocalFolder {
    root: PathBuf,
}

/// What was noted of a file when it was downloaded.
#[derive(Clone, PartialEq, Debug)]
pub struct Noted {
    /// Of which commit it is.
    pub commit: Commit,
    /// What it was: a Git id, or the SHA-256 of a file in LFS.
    pub etag: BlobName,
    /// When that was true.
    pub when: SystemTime,
}

impl LocalFolder {
    /// The folder with the files; nothing is touched.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn own(&self) -> PathBuf {
        self.root.join(".cache").join("huggingface")
    }

    fn note_of(&self, path: &RepoPath) -> PathBuf {
        let mut at = join(&self.own().join("download"), path).into_os_string();
        at.push(".metadata");
        PathBuf::from(at)
    }

    /// What was noted of a file; `None` when nothing was that can be read.
    pub fn noted(&self, path: &RepoPath) -> Option<Noted> {
        let text = std::fs::read_to_string(self.note_of(path)).ok()?;
        let mut lines = text.lines().map(str::trim);
        let (commit, etag, when) = (Commit::parse(lines.next()?)?, BlobName::parse(lines.next()?)?, lines.next()?.parse::<f64>().ok()?);
        let when = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(when).ok()?)?;
        Some(Noted { commit, etag, when })
    }

    /// Whether a file was changed after it was downloaded, as far as its time tells.
    pub fn is_edited(&self, path: &RepoPath) -> bool {
        let modified = std::fs::metadata(join(&self.root, path)).and_then(|data| data.modified());
        let (Some(noted), Ok(modified)) = (self.noted(path), modified) else { return false };
        noted.when.checked_add(SLACK).is_some_and(|latest| modified > latest)
    }

    /// Makes the folder of notes as the Python client makes it: marked as a cache, and ignored by Git.
    pub fn prepare(&self) -> Result<()> {
        for folder in [self.root.join(".cache"), self.own()] {
            if folder.symlink_metadata().is_ok_and(|data| !data.is_dir()) {
                return Err(Error::new(Kind::Denied, format!("{} is not a folder: nothing is written behind it", folder.display()))
                    .hint("replace it by a folder, or download to another one"));
            }
        }
        let own = self.own();
        std::fs::create_dir_all(&own).map_err(|error| Error::io("create", &own, error))?;
        for (name, text) in [(TAG, TAG_TEXT), (".gitignore", "*")] {
            let at = own.join(name);
            match std::fs::File::create_new(&at).and_then(|mut file| file.write_all(text.as_bytes())) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("write", &at, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that a file is, as of now, what `etag` says.
    pub fn note(&self, path: &RepoPath, commit: &Commit, etag: &BlobName) -> Result<()> {
        let at = self.note_of(path);
        let write = |error| Error::io("write", &at, error);
        let folder = at.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(write)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let unfinished = folder.join(format!(".{:016x}.tmp", fastrand::u64(..)));
        std::fs::write(&unfinished, format!("{commit}\n{etag}\n{now:.6}\n")).map_err(write)?;
        std::fs::rename(&unfinished, &at).map_err(write)
    }

    /// Keeps the complete listing of a commit, unless it is there.
    pub fn keep_tree(&self, commit: &Commit, tree: &Tree) -> Result<()> {
        let at = self.own().join("trees").join(format!("{commit}.json"));
        if Tree::read(&at)?.is_some() { Ok(()) } else { tree.write(&at) }
    }

    /// The complete listing of a commit, if it was kept.
    pub fn tree(&self, commit: &Commit) -> Result<Option<Tree>> {
        Tree::read(&self.own().join("trees").join(format!("{commit}.json")))
    }

    /// Files below the folder that were changed after they were downloaded, as far as their times tell.
    pub fn edited(&self) -> Vec<RepoPath> {
        let notes = self.own().join("download");
        let found = WalkDir::new(&notes).into_iter().filter_map(std::result::Result::ok).filter(|entry| entry.file_type().is_file());
        let path = |at: &Path| {
            let parts: Option<Vec<&str>> = at.strip_prefix(&notes).ok()?.components().map(|part| part.as_os_str().to_str()).collect();
            RepoPath::new(parts?.join("/").strip_suffix(".metadata")?).ok()
        };
        found.filter_map(|entry| path(entry.path())).filter(|path| self.is_edited(path)).collect()
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::digest::{GitOid, Oid};

    #[test]
    fn notes_are_kept_as_the_python_client_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalFolder::new(folder.path());
        let (path, commit) = (RepoPath::new("a/b.txt").unwrap(), Commit::of_content(Oid::EMPTY));
        local.prepare().unwrap();
        local.prepare().unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(".cache/huggingface/.gitignore")).unwrap(), "*");
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b.txt"), b"x").unwrap();
        assert!(!local.is_edited(&path), "nothing is known of it");
        let etag = BlobName::Git(GitOid::of(b"x"));
        local.note(&path, &commit, &etag).unwrap();
        let text = std::fs::read_to_string(folder.path().join(".cache/huggingface/download/a/b.txt.metadata")).unwrap();
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!((lines[0], lines[1], lines.len()), (commit.as_str(), etag.to_string().as_str(), 4));
        assert_eq!(local.noted(&path).unwrap().etag, etag);
        assert!(!local.is_edited(&path));
        let later = SystemTime::now() + Duration::from_secs(10);
        std::fs::File::options().write(true).open(folder.path().join("a/b.txt")).unwrap().set_modified(later).unwrap();
        assert!(local.is_edited(&path));
        assert_eq!(local.edited(), [path]);
    }

    #[test]
    fn notes_that_cannot_be_read_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalFolder::new(folder.path());
        let path = RepoPath::new("a").unwrap();
        std::fs::create_dir_all(folder.path().join(".cache/huggingface/download")).unwrap();
        for text in ["", "x\ny\n1\n", &format!("{0}\n{0}\nnan\n", "0".repeat(40)), &format!("{0}\n{0}\n-1\n", "0".repeat(40))] {
            std::fs::write(folder.path().join(".cache/huggingface/download/a.metadata"), text).unwrap();
            assert_eq!(local.noted(&path), None, "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_behind_a_link() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), folder.path().join(".cache")).unwrap();
        assert_eq!(LocalFolder::new(folder.path()).prepare().unwrap_err().kind(), Kind::Denied);
    }
}
