//! Removing from real folders: what comes free, what is spared, and what is whole afterwards.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test helper should panic where it stands")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hubferry_core::address::RepoKind;
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::manifest::RepoPath;
use hubferry_core::prune::{RevisionAt, Rules, choose, remove};

use super::super::layout::{BlobName, Commit, Holds};
use super::super::marks::{self, Pin};
use super::super::scan::Scan;
use super::super::testing::wait_until_free;
use super::*;

/// A cache in a folder of its own.
struct World {
    _root: tempfile::TempDir,
    cache: Cache,
}

/// Later than everything that a test makes, so that nothing is too fresh to go.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_hours(100)
}

fn commit(number: usize) -> Commit {
    Commit::parse(&format!("{number:040x}")).unwrap()
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().canonicalize().unwrap().join("hub"));
        std::fs::create_dir_all(cache.root()).unwrap();
        Self { _root: root, cache }
    }

    fn folder(&self, id: &str) -> RepoFolder {
        self.cache.repo(Holds::Repo(RepoKind::Model), &id.parse().unwrap()).unwrap()
    }

    /// A revision of files: path, and what is in it.
    fn revision(&self, id: &str, number: usize, refs: &[&str], files: &[(&str, &[u8])]) -> RepoFolder {
        let folder = self.folder(id);
        std::fs::create_dir_all(folder.blobs()).unwrap();
        for (path, bytes) in files {
            let name = if bytes.len() > 9 { BlobName::Sha256(Oid::of(bytes)) } else { BlobName::Git(GitOid::of(bytes)) };
            if !folder.blob(&name).exists() {
                std::fs::write(folder.blob(&name), bytes).unwrap();
            }
            let path = RepoPath::new(*path).unwrap();
            let at = crate::dir::join(&folder.snapshot(&commit(number)), &path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(folder.link_text(&path, &name), at).unwrap();
        }
        for name in refs {
            let at = folder.reference(name).unwrap();
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, commit(number).as_str()).unwrap();
        }
        folder
    }

    fn inventory(&self) -> Inventory {
        Inventory::read(&self.cache, later()).unwrap()
    }

    /// What `du` says.
    fn du(&self) -> u64 {
        let out = Command::new("du").args(["-s", "-B1"]).arg(self.cache.root()).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Chooses, removes, and holds what came free against `du`.
    fn prune(&self, rules: &Rules) -> (Removal, Cleared) {
        let inventory = self.inventory();
        let removal = choose(&inventory.stock, rules);
        let before = self.du();
        assert_eq!(removal.before, before);
        let cleared = clear(&inventory, &removal).unwrap();
        if cleared.spared.is_empty() {
            assert_eq!(before - self.du(), removal.freed(), "{removal:?}");
            assert_eq!(self.du(), removal.after);
        }
        (removal, cleared)
    }
}

fn to_fit(max_size: u64) -> Rules {
    Rules { max_size: Some(max_size), ..Rules::default() }
}

#[test]
fn freed_bytes_are_what_du_says() {
    let world = World::new();
    let large = vec![7; 40_000];
    let folder = world.revision("o/m", 1, &[], &[("config.json", b"{1}"), ("deep/model.bin", &large)]);
    world.revision("o/m", 2, &["main", "refs/pr/1"], &[("config.json", b"{2}"), ("deep/model.bin", &large)]);
    world.revision("o/other", 3, &[], &[("model.bin", &large)]);
    std::fs::create_dir_all(folder.trees()).unwrap();
    std::fs::write(folder.tree(&commit(1)), "{}").unwrap();
    marks::use_now(&folder, &commit(1));
    let (removal, _) = world.prune(&Rules { unnamed: true, ..Rules::default() });
    assert_eq!(removal.revisions.len(), 2);
    assert!(removal.freed() > 40_000, "the second repository has its own copy");
    assert!(!folder.snapshot(&commit(1)).exists() && !folder.tree(&commit(1)).exists());
    assert!(!world.folder("o/other").at().exists());
    assert_eq!(std::fs::read(folder.snapshot(&commit(2)).join("deep/model.bin")).unwrap(), large);
    let scan = Scan::read(&world.cache).unwrap();
    assert!(scan.strange.is_empty() && scan.repos.iter().all(|repo| repo.problems.is_empty()), "{scan:?}");
    // With the branch given up, nothing of the repository is left.
    let (removal, _) = world.prune(&Rules { named_too: true, ..to_fit(0) });
    assert_eq!(removal.repos.len(), 1);
    assert!(!folder.at().exists());
}

#[test]
fn a_revision_goes_with_its_names_and_leaves_the_others() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &["v1", "refs/pr/3"], &[("a", b"1")]);
    world.revision("o/m", 2, &["main"], &[("a", b"2"), ("b", b"1")]);
    let inventory = world.inventory();
    let removal = remove(&inventory.stock, &[RevisionAt { repo: 0, revision: 0 }], &[]);
    let before = world.du();
    assert!(clear(&inventory, &removal).unwrap().spared.is_empty());
    assert_eq!(before - world.du(), removal.freed());
    let repo = &Scan::read(&world.cache).unwrap().repos[0];
    assert_eq!(repo.refs.keys().collect::<Vec<_>>(), ["main"]);
    assert!(repo.problems.is_empty());
    assert_eq!(std::fs::read(folder.snapshot(&commit(2)).join("b")).unwrap(), b"1", "the blob is needed by the other one");
}

#[test]
fn an_unfinished_file_of_a_living_download_is_never_touched() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &[], &[("a", b"1")]);
    let incomplete = folder.blobs().join(format!("{}.0123abcd.incomplete", "a".repeat(64)));
    std::fs::write(&incomplete, [1; 5000]).unwrap();
    let everything = Rules { unnamed: true, named_too: true, ..to_fit(0) };
    // Written to a moment ago: whoever writes may be on another machine.
    let inventory = Inventory::read(&world.cache, SystemTime::now()).unwrap();
    let removal = choose(&inventory.stock, &everything);
    assert!(removal.revisions.is_empty() && removal.blobs.is_empty());
    assert!(inventory.repos[0].busy.as_deref().unwrap().contains("a moment ago"));
    // Old by its time, but the client holds its lock.
    let lock = folder.lock(&BlobName::parse(&"a".repeat(64)).unwrap());
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let holder = std::fs::File::create(&lock).unwrap();
    holder.try_lock().unwrap();
    let (removal, _) = world.prune(&everything);
    assert!(removal.revisions.is_empty() && incomplete.exists());
    drop(holder);
    wait_until_free(&lock);
    let (removal, _) = world.prune(&everything);
    assert!(removal.repos.len() == 1 && !incomplete.exists());
    assert!(lock.exists(), "lock files stay");
}

#[test]
fn a_download_that_begins_after_the_choice_is_spared() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &[], &[("a", b"1")]);
    let inventory = world.inventory();
    let removal = choose(&inventory.stock, &to_fit(0));
    assert_eq!(removal.revisions.len(), 1);
    let lock = folder.lock(&BlobName::Git(GitOid::of(b"1")));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let holder = std::fs::File::create(&lock).unwrap();
    holder.try_lock().unwrap();
    let cleared = clear(&inventory, &removal).unwrap();
    assert_eq!(cleared.spared.len(), 1, "{cleared:?}");
    assert!(folder.snapshot(&commit(1)).join("a").exists());
}

#[test]
fn a_revision_that_comes_after_the_choice_keeps_its_blobs() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &[], &[("a", b"1")]);
    world.revision("o/m", 9, &["main"], &[("z", b"9")]);
    let inventory = world.inventory();
    let removal = choose(&inventory.stock, &Rules { unnamed: true, ..Rules::default() });
    world.revision("o/m", 2, &["new"], &[("b", b"1")]);
    let cleared = clear(&inventory, &removal).unwrap();
    assert_eq!(cleared.spared.len(), 1, "{cleared:?}");
    assert_eq!(std::fs::read(folder.snapshot(&commit(2)).join("b")).unwrap(), b"1");
    assert!(!folder.snapshot(&commit(1)).exists());
}

#[test]
fn pins_and_names_hold_what_they_name() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &[], &[("a", b"1")]);
    world.revision("o/m", 2, &["main"], &[("a", b"2")]);
    world.revision("o/m", 3, &[], &[("a", b"3")]);
    marks::pin(&folder, &Pin::Rev(commit(1).to_string())).unwrap();
    let (removal, _) = world.prune(&to_fit(0));
    assert_eq!(removal.revisions.len(), 1);
    assert!(!folder.snapshot(&commit(3)).exists());
    marks::pin(&folder, &Pin::Rev("main".into())).unwrap();
    let (removal, _) = world.prune(&Rules { named_too: true, ..to_fit(0) });
    assert!(removal.revisions.is_empty());
    marks::unpin(&folder, &Pin::Rev(commit(1).to_string())).unwrap();
    world.prune(&to_fit(0));
    assert!(!folder.snapshot(&commit(1)).exists() && folder.snapshot(&commit(2)).exists());
}

#[test]
fn what_was_used_last_by_our_notes_stays_whatever_the_file_system_says() {
    let world = World::new();
    let large = |seed: u8| vec![seed; 20_000];
    let first = world.revision("o/first", 1, &[], &[("a", &large(1))]);
    let second = world.revision("o/second", 2, &[], &[("a", &large(2))]);
    // The first came first, and was used last.
    let old = SystemTime::now() - Duration::from_hours(50);
    for folder in [&first, &second] {
        for entry in walkdir::WalkDir::new(folder.at()).into_iter().flatten() {
            if entry.file_type().is_file() || entry.file_type().is_dir() {
                let file = std::fs::File::open(entry.path()).unwrap();
                file.set_times(std::fs::FileTimes::new().set_accessed(old).set_modified(old)).unwrap();
            }
        }
    }
    marks::use_now(&first, &commit(1));
    let mark = std::fs::File::options().append(true).open(used_mark(&first, &commit(1))).unwrap();
    mark.set_modified(SystemTime::now() + Duration::from_mins(1)).unwrap();
    let (removal, _) = world.prune(&to_fit(world.du() - 1));
    assert_eq!(removal.revisions.len(), 1);
    assert!(first.at().exists() && !second.at().exists());
}

#[test]
fn the_shared_store_is_collected_by_the_rule_of_its_client() {
    let world = World::new();
    let (bytes, hash) = (vec![3; 30_000], "ab".repeat(32));
    let (first, second) = (world.revision("o/a", 1, &[], &[("m", &bytes)]), world.revision("o/b", 2, &["main"], &[("m", &bytes)]));
    let store = world.cache.shared().join("ab");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(world.cache.shared().join(".huggingface-shared-blobs"), "1\n").unwrap();
    let name = Oid::of(&bytes).to_string();
    std::fs::write(store.join(&hash), &bytes).unwrap();
    for folder in [&first, &second] {
        let at = folder.blobs().join(&name);
        std::fs::remove_file(&at).unwrap();
        symlink(format!("../../blobs/ab/{hash}"), at).unwrap();
    }
    let list = store.join(format!("{hash}.refs"));
    std::fs::write(&list, format!("models--o--a/blobs/{name}\nmodels--o--b/blobs/{name}\n")).unwrap();

    let (removal, _) = world.prune(&Rules { unnamed: true, ..Rules::default() });
    assert_eq!(removal.repos.len(), 1);
    assert_eq!(std::fs::read(second.snapshot(&commit(2)).join("m")).unwrap(), bytes, "the other one still leads there");
    std::fs::remove_file(&list).unwrap();
    world.prune(&Rules { named_too: true, ..to_fit(0) });
    assert!(store.join(&hash).exists(), "without its list nobody knows who uses it");
    std::fs::write(&list, "").unwrap();
    world.prune(&Rules { unnamed: true, ..Rules::default() });
    assert!(!store.join(&hash).exists() && !list.exists());
}

#[test]
fn what_a_killed_removal_left_is_removed_by_the_next_one() {
    let world = World::new();
    world.revision("o/m", 1, &["main"], &[("a", b"1")]);
    let trash = world.cache.root().join(LOCKS).join(format!("{TRASH}00/x/y"));
    std::fs::create_dir_all(&trash).unwrap();
    std::fs::write(trash.join("large"), vec![0; 10_000]).unwrap();
    let (removal, _) = world.prune(&Rules { unnamed: true, ..Rules::default() });
    assert!(removal.freed() >= 10_000);
    assert_eq!(std::fs::read_dir(world.cache.root().join(LOCKS)).unwrap().count(), 0);
}

#[test]
fn a_link_that_leads_astray_is_removed_and_not_followed() {
    let world = World::new();
    let folder = world.revision("o/m", 1, &[], &[("a", b"1")]);
    let outside = world.cache.root().parent().unwrap().join("precious");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("file"), "mine").unwrap();
    symlink(&outside, folder.snapshot(&commit(1)).join("astray")).unwrap();
    symlink(outside.join("file"), folder.blobs().join("b".repeat(40))).unwrap();
    symlink(&outside, folder.at().join(".no_exist")).unwrap();
    world.prune(&Rules { named_too: true, ..to_fit(0) });
    assert!(!folder.at().exists());
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "mine");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    /// Repository, name of a ref, and files as path and content, all by number.
    type Revisions = Vec<(usize, Option<usize>, BTreeMap<usize, usize>)>;

    fn revisions() -> impl Strategy<Value = Revisions> {
        let files = prop::collection::btree_map(0_usize..6, 0_usize..8, 1..5);
        prop::collection::vec((0_usize..3, prop::option::weighted(0.4, 0_usize..3), files), 1..8)
    }

    const REPOS: [&str; 3] = ["o/a", "o/b", "gpt2"];

    fn build(revisions: &Revisions, orphans: &[(usize, u8)]) -> World {
        let world = World::new();
        let sizes = [0, 5, 100, 4_000, 5_000, 9_000, 20_000, 60_000];
        let paths = ["a", "b", "c/a", "c/b", "d/e/f", "g"];
        for (number, (repo, name, files)) in revisions.iter().enumerate() {
            let contents: Vec<(&str, Vec<u8>)> =
                files.iter().map(|(path, size)| (paths[*path], vec![u8::try_from(*size).unwrap(); sizes[*size]])).collect();
            let borrowed: Vec<(&str, &[u8])> = contents.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
            let name = name.map(|name| ["main", "v1", "refs/pr/1"][name]);
            world.revision(REPOS[*repo], number, name.as_slice(), &borrowed);
        }
        for (repo, seed) in orphans {
            let folder = world.folder(REPOS[*repo]);
            std::fs::create_dir_all(folder.blobs()).unwrap();
            std::fs::write(folder.blobs().join(format!("{seed:040x}")), vec![*seed; usize::from(*seed) * 50]).unwrap();
        }
        world
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn any_cache_fits_after_it_was_pruned_and_what_stays_is_whole(
            revisions in revisions(),
            orphans in prop::collection::vec((0_usize..3, 1_u8..255), 0..3),
            share in 0_u64..110, unnamed: bool, named_too: bool,
        ) {
            let world = build(&revisions, &orphans);
            let budget = world.du() * share / 100;
            let rules = Rules { max_size: Some(budget), unused_since: None, unnamed, named_too };
            let (removal, cleared) = world.prune(&rules);
            prop_assert!(cleared.spared.is_empty());
            let left = world.inventory();
            prop_assert_eq!(left.stock.bytes(), removal.after);
            if !removal.fits(budget) {
                let may_go = left.stock.revisions().filter(|at| named_too || left.revision(*at).refs.is_empty()).count();
                prop_assert_eq!(may_go, 0);
            }
            let again = choose(&left.stock, &rules);
            prop_assert!(again.revisions.is_empty() && again.blobs.is_empty() && again.repos.is_empty(), "{again:?}");
            // A cache of which everything went is empty, and that is no fault of it.
            let scan = Scan::read(&world.cache).unwrap();
            for repo in &scan.repos {
                prop_assert!(repo.snapshots.is_empty() || repo.problems.is_empty(), "{:?}", repo.problems);
                for snapshot in repo.snapshots.values() {
                    prop_assert!(snapshot.problems.is_empty());
                    let number = usize::from_str_radix(snapshot.commit.as_str(), 16).unwrap();
                    prop_assert_eq!(snapshot.files.len(), revisions[number].2.len(), "no file of a revision that stays is gone");
                }
            }
        }
    }
}
