//! Where things lie in a Hugging Face cache: pure knowledge of names and paths, and checks of what a stranger may have put there.
//!
//! Known from the code of `huggingface_hub` 2.4.0 (`file_download.py`, `utils/_cache_manager.py`, `utils/_shared_blobs.py`) and from
//! caches that it wrote:
//!
//! ```text
//! CACHEDIR.TAG
//! .locks/{folder}/{blob}.lock
//! {folder}/refs/{branch or tag}            the commit, without a line end
//! {folder}/blobs/{blob}                    bytes, or a link into the shared store
//! {folder}/snapshots/{commit}/{path}       a link to ../../blobs/{blob}, or the bytes where links are not possible
//! {folder}/.no_exist/{commit}/{path}       empty: this file is known not to exist
//! {folder}/trees/{commit}.json             the complete listing of a commit
//! blobs/.huggingface-shared-blobs          marks the shared store; its text is "1\n"
//! blobs/{xx}/{xet hash}                    bytes that blobs of several repositories link to
//! ```
//!
//! `{folder}` is `models--owner--name`, `{blob}` is 64 hexadecimal digits (SHA-256, files in LFS) or 40 (Git blob id, all others).

use std::fmt;
use std::path::{Component, Path, PathBuf};

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{RepoPath, Revision};

use crate::dir::join;

/// The file that tells backup programs that a folder is a cache.
pub const TAG: &str = "CACHEDIR.TAG";
/// What `huggingface_hub` writes into it.
pub const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This file is a cache directory tag created by huggingface_hub.\n\
# For information about cache directory tags, see:\n\
#\thttps://bford.info/cachedir/\n";
/// The folder of lock files at the top of a cache.
pub const LOCKS: &str = ".locks";
/// The folder of blobs in a repository's folder; the same name at the top is the shared store, never a repository.
pub const BLOBS: &str = "blobs";
/// The file that marks the shared store.
pub const SHARED_MARKER: &str = ".huggingface-shared-blobs";
/// Its text, for the one layout that is known.
pub const SHARED_VERSION: &str = "1\n";
/// Behind the name of an unfinished download of the Python client. Nothing resumes from these.
pub const INCOMPLETE: &str = ".incomplete";
/// Our own folder inside the folder of a repository. The Python client looks at none but the folders it knows.
pub const OWN: &str = ".hubferry";
/// Between the parts of a folder's name.
const SEPARATOR: &str = "--";

/// What the folder of a repository holds: the first part of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holds {
    /// A repository of a kind that addresses know.
    Repo(RepoKind),
    /// A kernel: cached by the Python client, and of no other kind that hubferry moves.
    Kernel,
}

impl Holds {
    const ALL: [Self; 4] = [Self::Repo(RepoKind::Model), Self::Repo(RepoKind::Dataset), Self::Repo(RepoKind::Space), Self::Kernel];

    /// `models`, `datasets`, `spaces` or `kernels`: what names of folders start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Repo(kind) => kind.plural(),
            Self::Kernel => "kernels",
        }
    }

    /// `model`, `dataset`, `space` or `kernel`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Repo(kind) => kind.singular(),
            Self::Kernel => "kernel",
        }
    }
}

/// The name of a repository's folder.
pub fn folder_name(holds: Holds, id: &RepoId) -> Result<String> {
    let name = match id.owner() {
        Some(owner) => [holds.prefix(), owner, id.name()].join(SEPARATOR),
        None => [holds.prefix(), id.name()].join(SEPARATOR),
    };
    if parse_folder_name(&name).as_ref() == Some(&(holds, id.clone())) {
        return Ok(name);
    }
    // `a--b/c` and `a/b--c` would share a folder, and `a--b` be taken for `a/b`.
    Err(Error::new(Kind::Unsupported, format!("{id} cannot be told from another repository in a Hugging Face cache"))
        .hint("the name has two dashes where the cache has them between owner and name: copy it to a directory"))
}

/// What a folder holds and the id of its repository; `None` for what is no folder of a repository. The first two dashes are between
/// owner and name: no owner on Hugging Face has them, and names there have not had them either.
pub fn parse_folder_name(name: &str) -> Option<(Holds, RepoId)> {
    let (prefix, rest) = name.split_once(SEPARATOR)?;
    let holds = Holds::ALL.into_iter().find(|holds| holds.prefix() == prefix)?;
    let id = match rest.split_once(SEPARATOR) {
        Some((owner, name)) => RepoId::new(Some(owner), name),
        None => RepoId::new(None, rest),
    };
    Some((holds, id.ok()?))
}

/// A commit: 40 lower-case hexadecimal digits, the name of a snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Commit(String);

impl Commit {
    /// Takes a full commit id; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self(text.to_owned()))
    }

    /// The name for content that no hub has named: the first 160 bits of a hash over it.
    pub fn of_content(hash: Oid) -> Self {
        Self(hash.to_string().chars().take(40).collect())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as a revision of a manifest.
    pub fn revision(&self) -> Result<Revision> {
        Revision::new(self.0.clone())
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a blob, which says what its bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BlobName {
    /// A file outside LFS: 40 digits.
    Git(GitOid),
    /// A file in LFS: 64 digits.
    Sha256(Oid),
}

impl BlobName {
    /// Reads the name of a file among the blobs; `None` for what names no content, such as an unfinished download.
    pub fn parse(text: &str) -> Option<Self> {
        if is_hex(text, 64) {
            text.parse().ok().map(Self::Sha256)
        } else if is_hex(text, 40) {
            text.parse().ok().map(Self::Git)
        } else {
            None
        }
    }

    /// What the name says of the bytes.
    pub fn digests(&self) -> Digests {
        match self {
            Self::Git(git) => Digests::git(*git),
            Self::Sha256(oid) => Digests::sha256(*oid),
        }
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(git) => git.fmt(f),
            Self::Sha256(oid) => oid.fmt(f),
        }
    }
}

/// Whether `text` is that many lower-case hexadecimal digits, the only way in which the client writes names.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A cache by its top folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in a folder, which need not exist. Links are followed by their words, so the folder gets a full name without `..`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let root = std::path::absolute(&root).unwrap_or(root);
        if !root.components().any(|part| part == Component::ParentDir) {
            return Self { root };
        }
        let plain = root.canonicalize().ok().or_else(|| resolve(Path::new(""), &root));
        Self { root: plain.unwrap_or(root) }
    }

    /// Its top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that marks it as a cache.
    pub fn tag(&self) -> PathBuf {
        self.root.join(TAG)
    }

    /// The folder of a repository.
    pub fn repo(&self, holds: Holds, id: &RepoId) -> Result<RepoFolder> {
        Ok(RepoFolder { cache: self.clone(), name: folder_name(holds, id)? })
    }

    /// The folder of a repository by its name, as found in the cache; `None` for what is no such name.
    pub fn repo_named(&self, name: &str) -> Option<RepoFolder> {
        parse_folder_name(name).map(|_| RepoFolder { cache: self.clone(), name: name.to_owned() })
    }

    /// Where the shared store lies, if there is one.
    pub fn shared(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    /// Whether there is a shared store of the one layout that is known. A folder without its mark is none.
    pub fn has_shared_store(&self) -> bool {
        let (store, marker) = (self.shared(), self.shared().join(SHARED_MARKER));
        let is = |at: &Path, test: fn(&std::fs::FileType) -> bool| at.symlink_metadata().is_ok_and(|data| test(&data.file_type()));
        is(&store, std::fs::FileType::is_dir)
            && is(&marker, std::fs::FileType::is_file)
            && std::fs::read(&marker).is_ok_and(|text| text == SHARED_VERSION.as_bytes())
    }

    /// The Xet hash of a file of the shared store by its path; `None` for any other path.
    pub fn shared_hash<'a>(&self, at: &'a Path) -> Option<&'a str> {
        let mut parts = at.strip_prefix(self.shared()).ok()?.components();
        let (Component::Normal(prefix), Component::Normal(hash), None) = (parts.next()?, parts.next()?, parts.next()) else { return None };
        let (prefix, hash) = (prefix.to_str()?, hash.to_str()?);
        (is_hex(hash, 64) && hash.starts_with(prefix) && prefix.len() == 2).then_some(hash)
    }
}

/// The folder of one repository in a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepoFolder {
    cache: Cache,
    name: String,
}

impl RepoFolder {
    /// The cache it belongs to.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Its name, such as `models--owner--name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn at(&self) -> PathBuf {
        self.cache.root.join(&self.name)
    }

    /// The folder of its blobs.
    pub fn blobs(&self) -> PathBuf {
        self.at().join(BLOBS)
    }

    /// Where a blob lies.
    pub fn blob(&self, name: &BlobName) -> PathBuf {
        self.blobs().join(name.to_string())
    }

    /// The folder of its branches and tags.
    pub fn refs(&self) -> PathBuf {
        self.at().join("refs")
    }

    /// The file that says which commit a branch or tag names. A name with slashes lies in folders.
    pub fn reference(&self, name: &str) -> Result<PathBuf> {
        let name = RepoPath::new(name).map_err(|_| {
            Error::invalid(format!("{name:?} cannot be a branch or tag in a cache")).hint("write @main, @v1.0 or @<commit>")
        })?;
        Ok(join(&self.refs(), &name))
    }

    /// The folder of its snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.at().join("snapshots")
    }

    /// The snapshot of a commit.
    pub fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.snapshots().join(commit.as_str())
    }

    /// The folder of complete listings.
    pub fn trees(&self) -> PathBuf {
        self.at().join("trees")
    }

    /// The complete listing of a commit.
    pub fn tree(&self, commit: &Commit) -> PathBuf {
        self.trees().join(format!("{commit}.json"))
    }

    /// The mark that says that a commit has no file of this name.
    pub fn no_exist(&self, commit: &Commit, path: &RepoPath) -> PathBuf {
        join(&self.at().join(".no_exist").join(commit.as_str()), path)
    }

    /// The lock that the Python client holds while it brings a blob.
    pub fn lock(&self, name: &BlobName) -> PathBuf {
        self.cache.root.join(LOCKS).join(&self.name).join(format!("{name}.lock"))
    }

    /// Where hubferry keeps what is not finished.
    pub fn own(&self) -> PathBuf {
        self.at().join(OWN)
    }

    /// What the link at `path` of a snapshot says to lead to a blob.
    pub fn link_text(&self, path: &RepoPath, name: &BlobName) -> PathBuf {
        // From the file's folder up to the snapshot, to the snapshots, to the repository.
        let up = path.parents().count() + 2;
        std::iter::repeat_n("..", up).collect::<PathBuf>().join(BLOBS).join(name.to_string())
    }
}

/// Where a link that stands in `folder` and says `text` leads, by its words alone; `None` if it climbs above the root.
pub(crate) fn resolve(folder: &Path, text: &Path) -> Option<PathBuf> {
    let mut at = PathBuf::new();
    for part in folder.join(text).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !at.pop() {
                    return None;
                }
            }
            other => at.push(other),
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RepoId {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_folders_come_back_as_ids() {
        let model = Holds::Repo(RepoKind::Model);
        for (holds, repo, name) in [
            (model, "org/model", "models--org--model"),
            (model, "gpt2", "models--gpt2"),
            (Holds::Repo(RepoKind::Dataset), "o/d.v1", "datasets--o--d.v1"),
            (Holds::Kernel, "o/k", "kernels--o--k"),
            (model, "o/a--b", "models--o--a--b"),
        ] {
            assert_eq!(folder_name(holds, &id(repo)).unwrap(), name);
            assert_eq!(parse_folder_name(name).unwrap(), (holds, id(repo)));
        }
    }

    #[test]
    fn ids_that_would_share_a_folder_are_refused() {
        for repo in ["a--b/c", "a--b", "a-/b"] {
            assert_eq!(folder_name(Holds::Kernel, &id(repo)).unwrap_err().kind(), Kind::Unsupported, "{repo}");
        }
    }

    #[test]
    fn what_is_no_repository_is_not_taken_for_one() {
        for name in ["blobs", ".locks", "models", "models--", "model--a--b", "models--a--../x", "models--a----b", "version.txt"] {
            assert_eq!(parse_folder_name(name), None, "{name}");
        }
    }

    #[test]
    fn only_full_lower_case_names_are_content() {
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert!(matches!(BlobName::parse(git), Some(BlobName::Git(_))));
        assert!(matches!(BlobName::parse(&Oid::EMPTY.to_string()), Some(BlobName::Sha256(_))));
        for other in [&git.to_uppercase(), &git[1..], &format!("{git}.1234abcd.incomplete"), "../x", ""] {
            assert_eq!(BlobName::parse(other), None, "{other}");
        }
        assert_eq!(BlobName::parse(git).unwrap().to_string(), git);
        assert!(Commit::parse(git).is_some() && Commit::parse("main").is_none() && Commit::parse(&git.to_uppercase()).is_none());
        assert_eq!(Commit::of_content(Oid::EMPTY).as_str().len(), 40);
    }

    #[test]
    fn links_climb_one_step_more_for_each_folder() {
        let folder = Cache::new("/c").repo(Holds::Repo(RepoKind::Model), &id("o/m")).unwrap();
        let name = BlobName::Sha256(Oid::EMPTY);
        let commit = Commit::of_content(Oid::EMPTY);
        for path in ["a", "x/a", "x/y/a"] {
            let path = RepoPath::new(path).unwrap();
            let at = join(&folder.snapshot(&commit), &path);
            let text = folder.link_text(&path, &name);
            assert_eq!(resolve(at.parent().unwrap(), &text).unwrap(), folder.blob(&name), "{text:?}");
        }
        assert_eq!(folder.link_text(&RepoPath::new("a").unwrap(), &name), Path::new("../../blobs").join(name.to_string()));
        assert_eq!(resolve(Path::new("/a"), Path::new("../../../x")), None);
    }

    #[test]
    fn refs_stay_inside_their_folder() {
        let folder = Cache::new("/c").repo(Holds::Repo(RepoKind::Model), &id("o/m")).unwrap();
        assert_eq!(folder.reference("refs/pr/1").unwrap(), Path::new("/c/models--o--m/refs/refs/pr/1"));
        for bad in ["../x", "/etc/x", "a//b", "", "a\\..\\b"] {
            assert_eq!(folder.reference(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn the_shared_store_is_known_by_its_mark() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path());
        std::fs::create_dir(cache.shared()).unwrap();
        assert!(!cache.has_shared_store(), "somebody's folder");
        std::fs::write(cache.shared().join(SHARED_MARKER), "2\n").unwrap();
        assert!(!cache.has_shared_store(), "a layout of the future");
        std::fs::write(cache.shared().join(SHARED_MARKER), SHARED_VERSION).unwrap();
        assert!(cache.has_shared_store());
        let hash = Oid::EMPTY.to_string();
        assert_eq!(cache.shared_hash(&cache.shared().join("e3").join(&hash)), Some(hash.as_str()));
        for other in ["e4/", "e3/x/", "", "e3b/"] {
            assert_eq!(cache.shared_hash(&cache.shared().join(format!("{other}{hash}"))), None, "{other}");
        }
    }
}
