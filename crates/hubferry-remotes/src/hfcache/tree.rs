//! The complete listing of a commit, as `huggingface_hub` keeps it in `trees/{commit}.json`: which files there should be.
//!
//! Known from `_tree_cache.py` of version 2.4.0. Offline, that client takes a snapshot for incomplete when one of these is missing.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use hubferry_core::digest::{Digests, GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Entry, Manifest, RepoPath};
use hubferry_core::pointer;
use serde::{Deserialize, Serialize};

/// The one layout that is known; a listing of another is as good as none.
const VERSION: u64 = 1;
/// A longer file is no listing.
const LONGEST: u64 = 256 << 20;

/// The files of a commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    /// By path.
    pub files: BTreeMap<RepoPath, TreeEntry>,
}

/// One file of a commit, in the words of the hub's listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Size of the content.
    pub size: u64,
    /// The Git id of the content, or of the pointer for a file in LFS.
    pub blob_id: GitOid,
    /// SHA-256 of the content of a file in LFS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<Oid>,
    /// Its size once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
    /// Its name in the hub's chunk store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xet_hash: Option<String>,
}

impl TreeEntry {
    /// A file outside LFS.
    pub fn plain(size: u64, git: GitOid) -> Self {
        Self { size, blob_id: git, lfs_sha256: None, lfs_size: None, xet_hash: None }
    }

    /// A file in LFS.
    pub fn lfs(blob: &Blob) -> Self {
        let blob_id = GitOid::of(pointer::text(blob).as_bytes());
        Self { size: blob.size, blob_id, lfs_sha256: Some(blob.oid), lfs_size: Some(blob.size), xet_hash: None }
    }

    /// The same as an entry of a manifest.
    pub fn entry(&self) -> Entry {
        match self.lfs_sha256 {
            Some(oid) => Entry { lfs: true, ..Entry::new(self.lfs_size.unwrap_or(self.size), Digests::sha256(oid)) },
            None => Entry::new(self.size, Digests::git(self.blob_id)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Written<F> {
    format_version: u64,
    files: F,
}

impl Tree {
    /// Reads a listing. `None` when there is none, or one of a layout that is not known: the client asks the hub again then.
    pub fn read(at: &Path) -> Result<Option<Self>> {
        let data = match std::fs::metadata(at) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", at, error)),
        };
        if !data.is_file() || data.len() > LONGEST {
            return Ok(None);
        }
        let text = std::fs::read(at).map_err(|error| Error::io("read", at, error))?;
        let Ok(written) = serde_json::from_slice::<Written<BTreeMap<String, TreeEntry>>>(&text) else { return Ok(None) };
        if written.format_version != VERSION {
            return Ok(None);
        }
        let checked = |(path, entry)| Ok((RepoPath::new(path).map_err(|error: Error| error.context("listing", at.display()))?, entry));
        Ok(Some(Self { files: written.files.into_iter().map(checked).collect::<Result<_>>()? }))
    }

    /// What the files of a manifest are in a listing; `None` when of one of them neither digest that it takes is known.
    pub fn of(manifest: &Manifest, is_lfs: impl Fn(&Entry) -> bool) -> Option<Self> {
        let one = |(path, entry): (&RepoPath, &Entry)| {
            let described = if is_lfs(entry) { TreeEntry::lfs(&entry.blob()?) } else { TreeEntry::plain(entry.size, entry.digests.git?) };
            Some((path.clone(), described))
        };
        Some(Self { files: manifest.entries.iter().map(one).collect::<Option<_>>()? })
    }

    /// The text as the client writes it: indented by one, sorted, all beyond ASCII escaped, without a line end.
    pub fn text(&self) -> Result<String> {
        let bug = |error| Error::new(Kind::Bug, "cannot write down a listing").caused_by(error);
        let mut json = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut to = serde_json::Serializer::with_formatter(&mut json, formatter);
        Written { format_version: VERSION, files: &self.files }.serialize(&mut to).map_err(bug)?;
        let json = String::from_utf8(json).map_err(|error| Error::new(Kind::Bug, "a listing is not UTF-8").caused_by(error))?;
        Ok(escape(&json))
    }

    /// Writes the listing so that readers see all of it or none, readable by its owner alone, as the client does.
    pub fn write(&self, at: &Path) -> Result<()> {
        let folder = at.parent().unwrap_or(Path::new("."));
        let text = self.text()?;
        if std::fs::read(at).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        let unfinished = folder.join(format!("tmp{:016x}.tmp", fastrand::u64(..)));
        let written = private(&unfinished).and_then(|mut file| file.write_all(text.as_bytes()));
        let named = written.and_then(|()| std::fs::rename(&unfinished, at));
        named.map_err(|error| {
            drop(std::fs::remove_file(&unfinished));
            Error::io("write", at, error)
        })
    }
}

#[cfg(unix)]
fn private(at: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::File::options().write(true).create_new(true).mode(0o600).open(at)
}

#[cfg(not(unix))]
fn private(at: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::create_new(at)
}

/// Python's way with characters beyond ASCII: UTF-16 units.
fn escape(json: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::new(text).unwrap()
    }

    #[test]
    fn a_listing_is_written_as_python_writes_it() {
        let blob = Blob { oid: Oid::EMPTY, size: 0 };
        let git = GitOid::of(b"x");
        let tree = Tree { files: [(path("z/ü😀"), TreeEntry::plain(1, git)), (path("a"), TreeEntry::lfs(&blob))].into() };
        // `json.dump(…, indent=1)` of Python 3.
        let expected = format!(
            "{{\n \"format_version\": 1,\n \"files\": {{\n  \"a\": {{\n   \"size\": 0,\n   \"blob_id\": \"{}\",\n   \
             \"lfs_sha256\": \"{}\",\n   \"lfs_size\": 0\n  }},\n  \"z/\\u00fc\\ud83d\\ude00\": {{\n   \"size\": 1,\n   \
             \"blob_id\": \"{git}\"\n  }}\n }}\n}}",
            GitOid::of(pointer::text(&blob).as_bytes()),
            Oid::EMPTY,
        );
        assert_eq!(tree.text().unwrap(), expected);
        assert_eq!(Tree::default().text().unwrap(), "{\n \"format_version\": 1,\n \"files\": {}\n}");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_no_listing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("trees/x.json");
        assert_eq!(Tree::read(&at).unwrap(), None);
        let tree =
            Tree { files: [(path("a"), TreeEntry { xet_hash: Some("0".repeat(64)), ..TreeEntry::plain(1, GitOid::of(b"x")) })].into() };
        tree.write(&at).unwrap();
        assert_eq!(Tree::read(&at).unwrap(), Some(tree));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o600);
        }
        for other in ["", "{}", "{\"format_version\": 2, \"files\": {}}", "[1]"] {
            std::fs::write(&at, other).unwrap();
            assert_eq!(Tree::read(&at).unwrap(), None, "{other}");
        }
        std::fs::write(&at, "{\"format_version\": 1, \"files\": {\"../x\": {\"size\": 1, \"blob_id\": \"").unwrap();
        assert_eq!(Tree::read(&at).unwrap(), None);
        let hostile = format!("{{\"format_version\": 1, \"files\": {{\"../x\": {{\"size\": 1, \"blob_id\": \"{}\"}}}}}}", GitOid::of(b"x"));
        std::fs::write(&at, hostile).unwrap();
        assert_eq!(Tree::read(&at).unwrap_err().kind(), Kind::Invalid);
    }
}
