//! A destination that is switched as a whole, from inside: what it costs to look at it again, and file systems that can do less.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hubferry_core::events::{Event, Reporter};
use hubferry_core::ops::copy;
use hubferry_core::remote::Target;
use hubferry_core::testing::conformance::{self, Place, request};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;
use hubferry_remotes::dir::{DirOptions, DirSource, DirTarget, HashCache};
use hubferry_remotes::linking::{Linker, System};

/// Counts the bytes that were read to hash them.
#[derive(Debug, Default)]
struct Reading(AtomicU64);

impl Reporter for Reading {
    fn event(&self, event: &Event) {
        if let Event::Progress { bytes, .. } = event {
            self.0.fetch_add(*bytes, Ordering::Relaxed);
        }
    }
}

/// A file system that can only copy.
#[derive(Debug)]
struct Plain;

impl Linker for Plain {
    fn clone_file(&self, _: &File, _: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn copy(&self, from: &mut File, to: &mut File) -> io::Result<()> {
        System.copy(from, to)
    }
}

async fn bring(files: &[(&str, &[u8])], link: &Path, keep: usize, options: &DirOptions) {
    let target = DirTarget::atomic(link, keep, options.clone()).unwrap();
    copy(&request(Arc::new(MemoryRepo::with_files(Publishes::Sha256, files)), Arc::new(target)), &quick_context()).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let link = root.path().join("live");
    for options in [DirOptions::default(), DirOptions::default().with_linker(Arc::new(Plain))] {
        let target = Arc::new(DirTarget::atomic(&link, 1, options).unwrap());
        let place = Place { target, source: Arc::new(DirSource::new(&link, DirOptions::default())), generated: Vec::new() };
        conformance::target(&place).await.unwrap();
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_dir_all(root.path().join("live.snapshots")).unwrap();
    }
}

#[tokio::test]
async fn files_that_stay_are_stored_once_and_not_read_again() {
    let root = tempfile::tempdir().unwrap();
    let (link, reading) = (root.path().join("live"), Arc::new(Reading::default()));
    let options = DirOptions::default().with_cache(HashCache::memory()).with_reporter(reading.clone());
    let weights = vec![7; 500_000];
    bring(&[("model.bin", &weights), ("a", b"1")], &link, 1, &options).await;
    std::thread::sleep(Duration::from_millis(2100));
    let head = || async { DirTarget::atomic(&link, 1, options.clone()).unwrap().head().await.unwrap().unwrap() };
    head().await;
    let before = std::fs::metadata(link.join("model.bin")).unwrap();
    reading.0.store(0, Ordering::Relaxed);
    // The link of the next snapshot and the end of the last one both change the inode.
    bring(&[("model.bin", &weights), ("a", b"2")], &link, 1, &options).await;
    let after = std::fs::metadata(link.join("model.bin")).unwrap();
    assert_eq!((before.ino(), before.modified().unwrap(), after.nlink()), (after.ino(), after.modified().unwrap(), 1));
    head().await;
    assert!(reading.0.load(Ordering::Relaxed) < 100, "{} bytes were read", reading.0.load(Ordering::Relaxed));
}

#[tokio::test]
async fn where_nothing_can_be_linked_files_that_stay_are_copied_with_their_times() {
    let root = tempfile::tempdir().unwrap();
    let link = root.path().join("live");
    let options = DirOptions::default().with_linker(Arc::new(Plain));
    bring(&[("model.bin", b"weights"), ("a", b"1")], &link, 2, &options).await;
    let before = std::fs::metadata(link.join("model.bin")).unwrap();
    bring(&[("model.bin", b"weights"), ("a", b"2")], &link, 2, &options).await;
    let after = std::fs::metadata(link.join("model.bin")).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}
