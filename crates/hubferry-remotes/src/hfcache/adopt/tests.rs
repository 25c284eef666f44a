//! What is taken from a directory, how, and what is not.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test should panic where it stands")]

use std::os::unix::fs::MetadataExt as _;

use hubferry_core::events::Silent;
use hubferry_core::manifest::Revision;

use super::*;
use crate::hfcache::testing::{Fixture, SHA};
use crate::linking::testing::Able;

fn path(text: &str) -> RepoPath {
    RepoPath::new(text).unwrap()
}

/// Files: path, bytes, whether in LFS.
fn manifest(files: &[(&str, &[u8], bool)]) -> Manifest {
    let entries = files.iter().map(|(name, bytes, lfs)| {
        let digests = Digests::of(bytes);
        let digests = if *lfs { Digests { git: None, ..digests } } else { Digests { sha256: None, ..digests } };
        (path(name), Entry { lfs: *lfs, ..Entry::new(bytes.len() as u64, digests) })
    });
    Manifest::new(Revision::new(SHA).unwrap(), entries).unwrap()
}

struct Place {
    fixture: Fixture,
    dir: PathBuf,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let fixture = Fixture::new();
        let dir = fixture.root.path().join("dir");
        for (name, bytes) in files {
            let at = dir.join(name);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, bytes).unwrap();
        }
        Self { fixture, dir }
    }

    fn adopting(&self, able: Able) -> Adopting {
        let folder = self.fixture.folder.clone();
        Adopting { folder, linker: Arc::new(able), links: HardLinks::Allowed, dry_run: false, reporter: Arc::new(Silent) }
    }

    fn run(&self, adopting: &Adopting, manifest: &Manifest) -> Adopted {
        adopting.run_now(&self.dir, manifest, &AtomicBool::new(false)).unwrap()
    }

    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.fixture.folder.blobs()).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const LINKS: Able = Able { clones: false, links: true, full: false };

fn blob_of(bytes: &[u8], lfs: bool) -> BlobName {
    let digests = Digests::of(bytes);
    if lfs { BlobName::Sha256(digests.sha256.unwrap()) } else { BlobName::Git(digests.git.unwrap()) }
}

#[test]
fn what_has_the_right_bytes_is_linked_under_whatever_name_it_lies() {
    let place = Place::new(&[("config.json", b"{}"), ("downloads/some name", b"weights"), ("other", b"wrongly"), ("empty", b"")]);
    let listing = manifest(&[
        ("config.json", b"{}", false),
        ("model.bin", b"weights", true),
        ("copy/model.bin", b"weights", true),
        ("absent", b"absent", true),
        ("empty", b"", false),
    ]);
    let adopted = place.run(&place.adopting(LINKS), &listing);
    let linked = Some(Way::Linked);
    let expected = ["config.json", "copy/model.bin", "empty", "model.bin"].map(|name| (path(name), linked));
    assert_eq!(adopted.taken, BTreeMap::from(expected));
    assert_eq!((adopted.missing, adopted.bytes), (BTreeSet::from([path("absent")]), 9));
    let at = place.fixture.folder.blob(&blob_of(b"weights", true));
    let (theirs, ours) = (place.dir.join("downloads/some name").metadata().unwrap(), at.metadata().unwrap());
    assert_eq!((theirs.ino(), ours.nlink()), (ours.ino(), 2));
    assert_eq!(place.blobs().len(), 3);
    let again = place.run(&place.adopting(LINKS), &listing);
    assert_eq!((again.there.len(), again.taken.len(), again.bytes), (4, 0, 0));
}

#[test]
fn what_is_damaged_or_too_short_is_not_taken_and_nothing_is_left_of_the_try() {
    let place = Place::new(&[("model.bin", b"weightz"), ("config.json", b"{}}")]);
    let listing = manifest(&[("model.bin", b"weights", true), ("config.json", b"{}", false)]);
    let adopted = place.run(&place.adopting(LINKS), &listing);
    assert_eq!(adopted.different, BTreeSet::from([path("model.bin")]));
    assert_eq!(adopted.missing, BTreeSet::from([path("config.json")]));
    assert!(place.blobs().is_empty(), "{:?}", place.blobs());
    assert_eq!(place.dir.join("model.bin").metadata().unwrap().nlink(), 1);
}

#[test]
fn files_of_one_size_are_each_read_at_most_once_for_nothing() {
    let files: Vec<(String, Vec<u8>)> = (0..8).map(|n| (format!("x{n}"), vec![n; 64])).collect();
    let named: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let place = Place::new(&named);
    let listed: Vec<(String, Vec<u8>)> = (0..8).rev().map(|n: u8| (format!("shard-{}", 7 - n), vec![n; 64])).collect();
    let listed: Vec<(&str, &[u8], bool)> = listed.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), true)).collect();
    let adopted = place.run(&place.adopting(LINKS), &manifest(&listed));
    assert_eq!((adopted.taken.len(), adopted.bytes), (8, 8 * 64));
}

#[test]
fn a_copy_is_made_only_where_nothing_else_can_be_and_there_is_room() {
    let place = Place::new(&[("model.bin", b"weights")]);
    let listing = manifest(&[("model.bin", b"weights", true)]);
    let full = place.adopting(Able { full: true, ..Able::default() }).run_now(&place.dir, &listing, &AtomicBool::new(false));
    assert!(full.is_err() && place.blobs().is_empty());
    let dry = Adopting { dry_run: true, ..place.adopting(Able::default()) };
    assert_eq!(place.run(&dry, &listing).taken, BTreeMap::from([(path("model.bin"), None)]));
    assert!(place.blobs().is_empty());
    let copied = Adopting { links: HardLinks::Forbidden, ..place.adopting(LINKS) };
    assert_eq!(place.run(&copied, &listing).taken, BTreeMap::from([(path("model.bin"), Some(Way::Copied))]));
    std::fs::write(place.dir.join("model.bin"), b"changed").unwrap();
    assert_eq!(std::fs::read(place.fixture.folder.blob(&blob_of(b"weights", true))).unwrap(), b"weights");
}

#[test]
fn links_are_followed_and_what_leads_nowhere_or_back_is_passed_over() {
    let place = Place::new(&[("real/deep", b"weights")]);
    std::fs::create_dir(place.dir.join("links")).unwrap();
    std::os::unix::fs::symlink("../real/deep", place.dir.join("links/model.bin")).unwrap();
    std::os::unix::fs::symlink("nothing", place.dir.join("links/dangling")).unwrap();
    std::os::unix::fs::symlink("..", place.dir.join("links/back")).unwrap();
    let listing = manifest(&[("model.bin", b"weights", true)]);
    let adopted = place.run(&place.adopting(LINKS), &listing);
    assert_eq!((adopted.taken.len(), adopted.unread.len()), (1, 0), "{:?}", adopted.unread);
    let at = place.fixture.folder.blob(&blob_of(b"weights", true));
    assert_eq!(at.symlink_metadata().unwrap().ino(), place.dir.join("real/deep").metadata().unwrap().ino());
}
