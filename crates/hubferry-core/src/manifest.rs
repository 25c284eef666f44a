//! A revision and its entries: checked paths, sizes and digests. Everything a listing says passes through here before use.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digests, Oid};
use crate::error::{Error, Result};

/// Longest path and longest segment taken, in bytes: what Linux file systems and the hubs bear.
const MAX_PATH: usize = 4096;
const MAX_SEGMENT: usize = 255;

/// A relative path inside a repository that is safe to join to any folder: `/` between segments, no empty, `.`, `..` or `.git`
/// segment, no backslash, no control character, no drive letter.
///
/// Copies of a path share its text: listings of both sides, plans and reports of a million files would hold it several times.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<str>);

impl RepoPath {
    /// Checks a path from a listing, a manifest or the command line.
    pub fn new(path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        match Self::fault(&path) {
            None => Ok(Self(path.into())),
            Some(why) => Err(Error::invalid(format!("unsafe path {:?}: {why}", clip(&path)))
                .hint("nothing was written; a repository with such a path cannot be copied, tell its owner")),
        }
    }

    fn fault(path: &str) -> Option<&'static str> {
        if path.is_empty() {
            return Some("it is empty");
        }
        if path.len() > MAX_PATH {
            return Some("it is longer than 4096 bytes");
        }
        if path.starts_with('/') {
            return Some("it is absolute");
        }
        if path.contains('\\') {
            return Some("it has a backslash");
        }
        if path.chars().any(char::is_control) {
            return Some("it has a control character");
        }
        let drive = path.as_bytes();
        if drive.len() >= 2 && drive[0].is_ascii_alphabetic() && drive[1] == b':' {
            return Some("it starts with a drive letter");
        }
        for segment in path.split('/') {
            match segment {
                "" => return Some("it has an empty segment"),
                "." | ".." => return Some("it has a dot segment"),
                s if s.eq_ignore_ascii_case(".git") => return Some("it reaches into .git"),
                s if s.len() > MAX_SEGMENT => return Some("one of its names is longer than 255 bytes"),
                _ => {}
            }
        }
        None
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Every proper parent, outermost first: `a/b/c` gives `a` and `a/b`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// Whether this is `folder` or lies below it.
    pub fn is_within(&self, folder: &RepoPath) -> bool {
        self.0.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

impl FromStr for RepoPath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Borrow<str> for RepoPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// An immutable commit id as its place writes it (40 hexadecimal digits on the hubs, a content hash for a directory).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// Takes an id as the place gave it; it must be 1 to 200 visible ASCII characters, because it is printed and put into URLs.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() || id.len() > 200 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(format!("{:?} is not a revision", clip(&id))));
        }
        Ok(Self(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Bytes, named: what a target stores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub oid: Oid,
    /// How many bytes.
    pub size: u64,
}

/// One file of a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Size in bytes of the real content (never of an LFS pointer).
    pub size: u64,
    /// What the place publishes of the content.
    #[serde(flatten)]
    pub digests: Digests,
    /// Stored through LFS there. Only informative: the target decides for itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
}

impl Entry {
    /// A file outside LFS.
    pub fn new(size: u64, digests: Digests) -> Self {
        Self { size, digests, lfs: false }
    }

    /// The blob, when the SHA-256 is known. An empty file is known without being asked for.
    pub fn blob(&self) -> Option<Blob> {
        match self.digests.sha256 {
            Some(oid) => Some(Blob { oid, size: self.size }),
            None if self.size == 0 => Some(Blob { oid: Oid::EMPTY, size: 0 }),
            None => None,
        }
    }
}

/// A revision and all its files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The commit these entries belong to.
    pub revision: Revision,
    /// Every file, in path order.
    pub entries: BTreeMap<RepoPath, Entry>,
}

impl Manifest {
    /// Collects a listing. A path named twice, or a file that is also a folder of another, is refused: such a tree cannot exist.
    pub fn new(revision: Revision, listing: impl IntoIterator<Item = (RepoPath, Entry)>) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (path, entry) in listing {
            if entries.contains_key(&path) {
                return Err(Error::invalid(format!("the listing names {path:?} twice")).context("revision", &revision));
            }
            entries.insert(path, entry);
        }
        let manifest = Self { revision, entries };
        manifest.check_tree()?;
        Ok(manifest)
    }

    fn check_tree(&self) -> Result<()> {
        for path in self.entries.keys() {
            if let Some(parent) = path.parents().find(|parent| self.entries.contains_key(*parent)) {
                return Err(Error::invalid(format!("the listing has {parent:?} as a file and as the folder of {path:?}")));
            }
        }
        Ok(())
    }

    /// The entries below `folder`, with their paths relative to it.
    pub fn below(&self, folder: &RepoPath) -> impl Iterator<Item = (&str, &Entry)> {
        let prefix = format!("{folder}/");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let list = self.entries.range::<str, _>(from);
        list.map_while(move |(path, entry)| path.as_str().strip_prefix(prefix.as_str()).map(|rest| (rest, entry)))
    }

    /// Whether a file at `path` would be in the way of an entry: that entry is below it, or is a file where `path` has a folder.
    pub fn blocks(&self, path: &RepoPath) -> bool {
        path.parents().any(|parent| self.entries.contains_key(parent)) || self.below(path).next().is_some()
    }

    /// Two paths that differ only in letter case, if there are any: they cannot both exist on macOS, Windows and some hubs.
    pub fn case_collision(&self) -> Option<(&RepoPath, &RepoPath)> {
        let mut folded: std::collections::HashMap<String, &RepoPath> = std::collections::HashMap::with_capacity(self.entries.len());
        for path in self.entries.keys() {
            if let Some(other) = folded.insert(path.as_str().to_lowercase(), path) {
                return Some((other, path));
            }
        }
        None
    }

    /// The sum of all sizes in bytes; saturates, because sizes come from a stranger.
    pub fn bytes(&self) -> u64 {
        self.entries.values().fold(0, |sum: u64, entry| sum.saturating_add(entry.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        let long = "a/".repeat(3000);
        let name = "n".repeat(256);
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".",
            "..",
            "a\\b",
            "C:/x",
            "c:x",
            "a\0b",
            "a\nb",
            ".git/config",
            "x/.GIT/hooks/a",
            &long,
            &name,
        ] {
            assert!(RepoPath::new(bad).is_err(), "{bad:?} must be refused");
        }
        for good in ["a", "a/b", ".gitattributes", ".github/x.yml", "a b/ü#1?.txt", "..a", "a..b", "x/...y"] {
            assert_eq!(RepoPath::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn impossible_trees_are_refused() {
        let entry = Entry::new(0, Digests::default());
        let list = |paths: &[&str]| Manifest::new(Revision::new("r").unwrap(), paths.iter().map(|p| (RepoPath::new(*p).unwrap(), entry)));
        assert!(list(&["a", "a"]).is_err());
        assert!(list(&["a", "a/b"]).is_err());
        let both = list(&["README.md", "readme.MD", "z"]).unwrap();
        assert!(both.case_collision().is_some());
        assert!(list(&["a/b", "a/c", "ab"]).unwrap().case_collision().is_none());
    }

    #[test]
    fn parents_and_folders() {
        let path = RepoPath::new("a/b/c").unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
        assert!(path.is_within(&RepoPath::new("a/b").unwrap()));
        assert!(!path.is_within(&RepoPath::new("a/bb").unwrap()));
    }
}
