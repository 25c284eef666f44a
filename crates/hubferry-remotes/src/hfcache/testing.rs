//! A small cache on the disk, made by hand as the Python client makes it.

use hubferry_core::address::RepoKind;
use hubferry_core::digest::Digests;
use hubferry_core::manifest::{Blob, RepoPath};

use super::layout::{BlobName, Cache, Commit, Holds, RepoFolder, SHARED_MARKER, SHARED_VERSION};
use super::scan::CachedSnapshot;
use super::tree::{Tree, TreeEntry};
use crate::dir::join;

/// Waits until a lock is free. A program that another test starts has our open files for an instant, and with them their locks.
pub(crate) fn wait_until_free(lock: &std::path::Path) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while super::locks::is_held(lock) {
        assert!(std::time::Instant::now() < end, "{} stays locked", lock.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The commit of the one snapshot.
pub(crate) const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with the repository `o/m`.
pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) cache: Cache,
    pub(crate) folder: RepoFolder,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().canonicalize().unwrap().join("hub"));
        let folder = cache.repo(Holds::Repo(RepoKind::Model), &"o/m".parse().unwrap()).unwrap();
        Self { root, cache, folder }
    }

    /// Makes the snapshot of files: path, bytes, whether in LFS. Gives the last name of each kind: in LFS, and outside.
    pub(crate) fn snapshot(&self, name: &str, files: &[(&str, &[u8], bool)]) -> (BlobName, BlobName) {
        let commit = Commit::parse(SHA).unwrap();
        let mut last = (BlobName::Sha256(hubferry_core::digest::Oid::EMPTY), BlobName::Git(hubferry_core::digest::GitOid::of(b"")));
        std::fs::create_dir_all(self.folder.blobs()).unwrap();
        for (path, bytes, is_lfs) in files {
            let digests = Digests::of(bytes);
            let name = if *is_lfs { BlobName::Sha256(digests.sha256.unwrap()) } else { BlobName::Git(digests.git.unwrap()) };
            if *is_lfs {
                last.0 = name;
            } else {
                last.1 = name;
            }
            std::fs::write(self.folder.blob(&name), bytes).unwrap();
            let path = RepoPath::new(*path).unwrap();
            let at = join(&self.folder.snapshot(&commit), &path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(self.folder.link_text(&path, &name), at).unwrap();
        }
        let reference = self.folder.reference(name).unwrap();
        std::fs::create_dir_all(reference.parent().unwrap()).unwrap();
        std::fs::write(reference, SHA).unwrap();
        last
    }

    /// Writes the complete listing of what is there.
    pub(crate) fn tree(&self) {
        let commit = Commit::parse(SHA).unwrap();
        let snapshot = CachedSnapshot::read(&self.folder, &commit).unwrap().unwrap();
        let one = |name: BlobName, size| match name {
            BlobName::Git(git) => TreeEntry::plain(size, git),
            BlobName::Sha256(oid) => TreeEntry::lfs(&Blob { oid, size }),
        };
        let files = snapshot.files.iter().map(|(path, file)| (path.clone(), one(file.name().unwrap(), file.size())));
        Tree { files: files.collect() }.write(&self.folder.tree(&commit)).unwrap();
    }

    /// Moves a blob into the shared store, as the Python client does with what comes from Xet.
    #[cfg(unix)]
    pub(crate) fn share(&self, blob: &str, hash: &str) {
        let store = self.cache.shared().join(&hash[..2]);
        std::fs::create_dir_all(&store).unwrap();
        std::fs::write(self.cache.shared().join(SHARED_MARKER), SHARED_VERSION).unwrap();
        let at = self.folder.blobs().join(blob);
        std::fs::rename(&at, store.join(hash)).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{}/{hash}", &hash[..2]), at).unwrap();
    }
}
