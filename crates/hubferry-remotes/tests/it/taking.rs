//! Bytes that need not travel: renamed and copied files are taken over from the folder itself, and blocks are shared where the file
//! system can.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hubferry_core::ops::{CopyReport, copy};
use hubferry_core::plan::Policy;
use hubferry_core::remote::Source;
use hubferry_core::testing::conformance::request;
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;
use hubferry_remotes::dir::{DirOptions, DirSource, DirTarget};
use hubferry_remotes::linking::Linker;

/// A file system that shares blocks, as far as anybody can see, and counts how often.
#[derive(Debug, Default)]
struct Clones(AtomicUsize);

impl Linker for Clones {
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (mut from, mut to) = (from, to);
        io::copy(&mut from, &mut to).map(drop)
    }

    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("files that users see are not linked to each other")
    }

    fn copy(&self, _: &mut File, _: &mut File) -> io::Result<()> {
        panic!("nothing has to be copied")
    }
}

fn noise(seed: u32, size: u32) -> Vec<u8> {
    (0..size).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 11).to_le_bytes()[0]).collect()
}

fn hub(files: &[(&str, &[u8])]) -> Arc<dyn Source> {
    Arc::new(MemoryRepo::with_files(Publishes::Sha256, files))
}

/// Makes `root` equal to `from`.
async fn sync(from: Arc<dyn Source>, root: &Path, options: DirOptions) -> CopyReport {
    let mut ask = request(from, Arc::new(DirTarget::new(root, options)));
    ask.policy = Policy { delete: true, ..Policy::default() };
    copy(&ask, &quick_context()).await.unwrap()
}

#[tokio::test]
async fn a_renamed_file_does_not_travel() {
    let root = tempfile::tempdir().unwrap();
    let (weights, small) = (noise(1, 400_000), noise(2, 100));
    sync(hub(&[("old/model.bin", &weights), ("a.txt", &small), ("b.txt", b"b")]), root.path(), DirOptions::default()).await;
    // Renamed, exchanged, and copied: all of it in one commit that also removes or replaces where it was.
    let now = hub(&[("new/model.bin", &weights), ("b.txt", &small), ("a.txt", b"b"), ("twin/model.bin", &weights), ("c", b"c")]);
    let report = sync(now, root.path(), DirOptions::default()).await;
    assert_eq!((report.outcome.moved_blobs, report.outcome.moved_bytes), (1, 1), "only what is new: {:?}", report.outcome);
    assert_eq!(report.outcome.reused_blobs, 3);
    for (path, bytes) in [("new/model.bin", &weights), ("twin/model.bin", &weights), ("b.txt", &small), ("a.txt", &b"b".to_vec())] {
        assert_eq!(std::fs::read(root.path().join(path)).unwrap(), *bytes, "{path}");
    }
    assert!(!root.path().join("old").exists() && !root.path().join(".hubferry").exists());
}

#[tokio::test]
async fn a_file_is_hashed_again_when_it_is_taken_over() {
    use hubferry_core::digest::Oid;
    use hubferry_core::manifest::{Blob, RepoPath};
    use hubferry_core::remote::{Target, Wanted};
    let root = tempfile::tempdir().unwrap();
    let bytes = noise(4, 200_000);
    std::fs::write(root.path().join("old.bin"), &bytes).unwrap();
    let target = DirTarget::new(root.path(), DirOptions::default());
    target.head().await.unwrap();
    let mut bad = bytes.clone();
    bad[7] ^= 1;
    std::fs::write(root.path().join("old.bin"), bad).unwrap();
    let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
    let wanted = [Wanted { blob, paths: vec![RepoPath::new("new.bin").unwrap()] }];
    assert_eq!(target.missing(&wanted).await.unwrap(), [blob.oid].into());
    std::fs::write(root.path().join("old.bin"), &bytes).unwrap();
    assert!(target.missing(&wanted).await.unwrap().is_empty());
    // Another, and one that is gone.
    std::fs::remove_file(root.path().join("old.bin")).unwrap();
    let again = DirTarget::new(root.path(), DirOptions::default());
    again.head().await.unwrap();
    drop(target);
    assert_eq!(again.missing(&wanted).await.unwrap().len(), 0, "staged before, and still there");
}

#[tokio::test]
async fn between_folders_of_one_file_system_blocks_are_shared() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let weights = noise(5, 500_000);
    std::fs::write(from.path().join("model.bin"), &weights).unwrap();
    std::fs::write(from.path().join("twin.bin"), &weights).unwrap();
    std::fs::write(from.path().join("small"), b"small").unwrap();
    let clones = Arc::new(Clones::default());
    let options = DirOptions::default().with_linker(clones.clone());
    let source: Arc<dyn Source> = Arc::new(DirSource::new(from.path(), DirOptions::default()));
    sync(source, to.path(), options).await;
    assert_eq!(clones.0.load(Ordering::Relaxed), 1, "a small file is quicker through memory");
    for name in ["model.bin", "twin.bin", "small"] {
        assert_eq!(std::fs::read(to.path().join(name)).unwrap(), std::fs::read(from.path().join(name)).unwrap());
    }
}
