//! Runs that meet in one folder: dead ones and living ones, of this machine and of others, without a lock anywhere.

mod commits;
mod full_disk;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use hubferry_core::digest::{Fingerprint, Oid, Prefix};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath, Revision};
use hubferry_core::remote::{Body, ByteStream, Commit, Note, Op, Partial, Staged, Target, Wanted};
use rustix::process::Pid;

use super::gate::Gate;
use super::leftovers::{JOURNAL, committing, others};
use super::life::{Life, Maker};
use super::notes;
use super::run::{RUN, Run};
use super::staging::{Name, Stem};
use super::{DirOptions, DirTarget};

const PIECE: u64 = 64 << 10;
const SIZE: u64 = 10 * PIECE;

/// Bytes that do not repeat.
fn content(seed: u64, size: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..size).map(|_| random.u8(..)).collect()
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { oid: Oid::of(bytes), size: bytes.len() as u64 }
}

fn part(bytes: &[u8], range: &Range<u64>) -> Bytes {
    Bytes::copy_from_slice(&bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
}

fn block(bytes: &[u8], range: Range<u64>) -> Note {
    let fingerprint = Fingerprint::of(0, &part(bytes, &range));
    Note::Block { range, fingerprint }
}

/// A blob that comes over a wire in blocks, uses what was kept, and breaks after some bytes.
struct Wire {
    bytes: Vec<u8>,
    travelled: AtomicU64,
    breaks_after: u64,
    error: Kind,
}

impl Wire {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), travelled: AtomicU64::new(0), breaks_after: u64::MAX, error: Kind::Unavailable }
    }

    fn travelled(&self) -> u64 {
        self.travelled.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Body for Wire {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        self.travelled.fetch_add(range.end - range.start, Ordering::Relaxed);
        Ok(futures_util::stream::iter([Ok(part(&self.bytes, &range))]).boxed())
    }

    async fn fill(&self, size: u64, partial: Arc<dyn Partial>) -> Result<()> {
        let mut good = Vec::new();
        for (range, fingerprint) in partial.kept().await?.blocks {
            if Fingerprint::of(0, &partial.read(range.clone()).await?) == fingerprint {
                good.push(range);
            }
        }
        // From the end: a target must not rely on the order.
        let mut at = size;
        while at > 0 {
            let range = at.saturating_sub(PIECE)..at;
            at = range.start;
            if good.iter().any(|kept| kept.start <= range.start && range.end <= kept.end) {
                continue;
            }
            if self.travelled() >= self.breaks_after {
                return Err(Error::new(self.error, "the wire broke"));
            }
            self.travelled.fetch_add(range.end - range.start, Ordering::Relaxed);
            let bytes = part(&self.bytes, &range);
            let middle = bytes.len() / 3;
            partial.write(range.start, vec![bytes.slice(..middle), bytes.slice(middle..)]).await?;
            partial.note(vec![block(&self.bytes, range), Note::Prefix(Prefix::default())]).await?;
        }
        Ok(())
    }
}

/// A folder with other runs in it.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn own(&self) -> PathBuf {
        self.root.path().join(".hubferry")
    }

    fn target(&self) -> DirTarget {
        DirTarget::new(self.root.path(), DirOptions::default())
    }

    /// The folder of a run that holds the first blocks of a blob.
    fn with_part(&self, id: &str, bytes: &[u8], upto: u64) -> (PathBuf, Stem) {
        let folder = self.own().join(format!("{RUN}{id}"));
        std::fs::create_dir_all(&folder).unwrap();
        let stem = Stem::new(Oid::of(bytes));
        std::fs::write(folder.join(Name::Part(stem).to_string()), part(bytes, &(0..upto))).unwrap();
        let mut text = notes::header(&blob(bytes)).unwrap();
        let blocks: Vec<Note> = (0..upto / PIECE).map(|n| block(bytes, n * PIECE..(n + 1) * PIECE)).collect();
        notes::lines(&mut text, &blocks).unwrap();
        std::fs::write(folder.join(Name::Journal(stem).to_string()), text).unwrap();
        (folder, stem)
    }

    /// Names of everything in our own folder.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.own()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The name of a run whose process has ended.
fn dead() -> String {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    Maker { process: child.id(), ..Maker::me() }.new_id()
}

/// The name of a run on another machine.
fn foreign() -> String {
    Maker { machine: 1, boot: 1, ..Maker::me() }.new_id()
}

/// Makes a run look as if it had not shown itself for so long.
fn quiet(folder: &Path, time: Duration) {
    File::open(folder).unwrap().set_modified(SystemTime::now() - time).unwrap();
}

fn wanted(bytes: &[u8]) -> Wanted {
    Wanted { blob: blob(bytes), paths: vec![RepoPath::new("model.bin").unwrap()] }
}

async fn commit(target: &DirTarget, parent: Option<Revision>, bytes: &[u8]) -> Result<Revision> {
    let ops = vec![Op::Put { path: RepoPath::new("model.bin").unwrap(), staged: Staged::stored(blob(bytes)) }];
    target.commit(Commit { parent, message: String::new(), ops }).await
}

/// Puts `bytes` and commits; how many of them travelled.
async fn copy(place: &Place, bytes: &[u8]) -> u64 {
    let target = place.target();
    let wire = Wire::new(bytes);
    target.put(&wanted(bytes), &wire).await.unwrap();
    commit(&target, None, bytes).await.unwrap();
    assert_eq!(std::fs::read(place.root.path().join("model.bin")).unwrap(), bytes);
    wire.travelled()
}

#[tokio::test]
async fn a_dead_run_is_gone_on_with() {
    let place = Place::new();
    let bytes = content(1, SIZE);
    let (folder, stem) = place.with_part(&dead(), &bytes, 6 * PIECE);
    let inode = |at: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(at).unwrap());
    let before = inode(&folder.join(Name::Part(stem).to_string()));
    assert_eq!(copy(&place, &bytes).await, 4 * PIECE);
    assert_eq!(inode(&place.root.path().join("model.bin")), before, "nothing was copied");
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[tokio::test]
async fn a_broken_transfer_goes_on_in_the_same_run_in_the_next_and_after_a_torn_line() {
    let place = Place::new();
    let bytes = content(2, SIZE);
    let broken = || Wire { breaks_after: 3 * PIECE, ..Wire::new(&bytes) };
    let target = place.target();
    for _ in 0..2 {
        assert_eq!(target.put(&wanted(&bytes), &broken()).await.unwrap_err().kind(), Kind::Unavailable);
    }
    drop(target);
    let left = place.names();
    assert!(left.len() == 1 && left[0].starts_with("left-"), "{left:?}");
    let folder = place.own().join(&left[0]);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let at = entry.unwrap().path();
        if at.extension().unwrap() == "journal" {
            use std::io::Write as _;
            File::options().append(true).open(at).unwrap().write_all(b"{\"block\":{\"fr").unwrap();
        }
    }
    let target = place.target();
    target.put(&wanted(&bytes), &broken()).await.unwrap_err();
    drop(target);
    assert_eq!(copy(&place, &bytes).await, PIECE);
}

#[tokio::test]
async fn bytes_known_to_be_wrong_are_not_kept() {
    let place = Place::new();
    let bytes = content(3, SIZE);
    let target = place.target();
    let wire = Wire { breaks_after: 3 * PIECE, error: Kind::Corrupt, ..Wire::new(&bytes) };
    target.put(&wanted(&bytes), &wire).await.unwrap_err();
    drop(target);
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[tokio::test]
async fn what_a_power_cut_made_of_a_file_is_not_believed() {
    let bytes = content(4, SIZE);
    for damage in ["zeros", "short", "long", "other", "gone", "header"] {
        let place = Place::new();
        let (folder, stem) = place.with_part(&dead(), &bytes, 5 * PIECE);
        let (data, journal) = (folder.join(Name::Part(stem).to_string()), folder.join(Name::Journal(stem).to_string()));
        let mut file = part(&bytes, &(0..5 * PIECE)).to_vec();
        let travels = match damage {
            "zeros" => {
                file[..usize::try_from(2 * PIECE).unwrap()].fill(0);
                7
            }
            "short" => {
                file.truncate(usize::try_from(PIECE).unwrap() + 1);
                9
            }
            "long" => {
                file.resize(usize::try_from(SIZE + 9).unwrap(), 1);
                5
            }
            "other" => {
                file[7] ^= 1;
                6
            }
            "gone" => {
                file.clear();
                10
            }
            _ => {
                let text = std::fs::read_to_string(&journal).unwrap();
                std::fs::write(&journal, text.replacen(&SIZE.to_string(), "17", 1)).unwrap();
                10
            }
        };
        std::fs::write(&data, file).unwrap();
        assert_eq!(copy(&place, &bytes).await, travels * PIECE, "{damage}");
        assert!(place.names().is_empty(), "{damage} {:?}", place.names());
    }
}

#[tokio::test]
async fn a_file_with_another_name_is_not_written_to() {
    let place = Place::new();
    let bytes = content(5, SIZE);
    let (folder, stem) = place.with_part(&dead(), &bytes, 5 * PIECE);
    let victim = place.root.path().join("victim");
    std::fs::hard_link(folder.join(Name::Part(stem).to_string()), &victim).unwrap();
    assert_eq!(copy_beside(&place, &bytes).await, SIZE);
    assert_eq!(std::fs::read(victim).unwrap(), part(&bytes, &(0..5 * PIECE)));
}

/// The same as [`copy`] into a folder that has files.
async fn copy_beside(place: &Place, bytes: &[u8]) -> u64 {
    let target = place.target();
    let wire = Wire::new(bytes);
    target.put(&wanted(bytes), &wire).await.unwrap();
    let head = target.head().await.unwrap().unwrap().revision;
    commit(&target, Some(head), bytes).await.unwrap();
    wire.travelled()
}

#[tokio::test]
async fn a_living_run_is_copied_from_and_left_alone() {
    let place = Place::new();
    let bytes = content(6, SIZE);
    let (folder, stem) = place.with_part(&foreign(), &bytes, 6 * PIECE);
    let at = folder.join(Name::Part(stem).to_string());
    // What it is writing just now is noted by it later, or was noted and is wrong.
    let mut torn = std::fs::read(&at).unwrap();
    torn[1] ^= 1;
    std::fs::write(&at, &torn).unwrap();
    assert_eq!(copy(&place, &bytes).await, 5 * PIECE);
    assert_eq!(std::fs::read(&at).unwrap(), torn);
    assert_eq!(place.names().len(), 1);
    // And one that it has finished.
    let other = Place::new();
    let folder = other.own().join(format!("{RUN}{}", foreign()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Oid::of(&bytes).to_string()), &bytes).unwrap();
    assert_eq!(copy(&other, &bytes).await, 0);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_silent_run_loses_its_files_but_not_into_ours() {
    let place = Place::new();
    let bytes = content(7, SIZE);
    let (folder, stem) = place.with_part(&foreign(), &bytes, 6 * PIECE);
    let open = File::options().write(true).open(folder.join(Name::Part(stem).to_string())).unwrap();
    quiet(&folder, Duration::from_mins(16));
    let target = place.target();
    let wire = Wire::new(&bytes);
    target.put(&wanted(&bytes), &wire).await.unwrap();
    assert_eq!(wire.travelled(), 4 * PIECE);
    // It wakes up and goes on writing.
    std::os::unix::fs::FileExt::write_all_at(&open, &[0; 1000], 0).unwrap();
    commit(&target, None, &bytes).await.unwrap();
    assert_eq!(std::fs::read(place.root.path().join("model.bin")).unwrap(), bytes);
    assert!(place.names().is_empty());
}

#[tokio::test]
async fn a_run_that_was_taken_for_dead_fails_cleanly_and_begins_anew() {
    let place = Place::new();
    let bytes = content(8, SIZE);
    let target = place.target();
    target.put(&wanted(&bytes), &Wire::new(&bytes)).await.unwrap();
    let [name] = &place.names()[..] else { panic!("one run") };
    std::fs::rename(place.own().join(name), place.own().join(format!("{RUN}{}", foreign()))).unwrap();
    assert_eq!(commit(&target, None, &bytes).await.unwrap_err().kind(), Kind::Conflict);
    assert!(!place.root.path().join("model.bin").exists());
    let wire = Wire::new(&bytes);
    target.put(&wanted(&bytes), &wire).await.unwrap();
    commit(&target, None, &bytes).await.unwrap();
    assert_eq!(wire.travelled(), 0, "copied from whoever has it now");
}

#[tokio::test]
async fn several_dead_runs_are_merged() {
    let place = Place::new();
    let bytes = content(9, SIZE);
    let noise = content(10, SIZE);
    place.with_part(&dead(), &bytes, 2 * PIECE);
    place.with_part(&dead(), &bytes, 5 * PIECE);
    let (folder, stem) = place.with_part(&dead(), &bytes, 8 * PIECE);
    // The fullest has lost the beginning, which another still has.
    let journal = folder.join(Name::Journal(stem).to_string());
    let text = std::fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = text.lines().enumerate().filter(|(n, _)| *n == 0 || *n > 2).map(|(_, line)| line).collect();
    std::fs::write(&journal, format!("{}\n", kept.join("\n"))).unwrap();
    place.with_part(&dead(), &noise, 3 * PIECE);
    assert_eq!(copy(&place, &bytes).await, 2 * PIECE);
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn what_a_dead_run_left_goes_to_one_of_those_who_come() {
    let bytes = content(11, SIZE);
    for _ in 0..30 {
        let place = Place::new();
        for _ in 0..3 {
            place.with_part(&dead(), &bytes, PIECE);
        }
        let (root, own) = (place.root.path(), place.own());
        let all = std::sync::Barrier::new(4);
        let begin = || {
            all.wait();
            Run::begin(root, &own).unwrap()
        };
        let runs: Vec<Run> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let parts: usize = runs.iter().map(|run| run.take_parts(Oid::of(&bytes)).len()).sum();
        assert_eq!(parts, 3, "each is somebody's");
        assert_eq!(others(&own, None).unwrap().iter().filter(|other| other.life == Life::Alive).count(), 4);
    }
}

#[tokio::test]
async fn small_blobs_from_before_a_crash_of_the_machine_are_hashed() {
    let place = Place::new();
    let (good, bad, large) = (content(12, 5000), content(13, 5000), content(14, 17 << 20));
    let folder = place.own().join(format!("{RUN}{}", Maker { boot: 1, ..Maker::me() }.new_id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (bytes, there) in [(&good, good.clone()), (&bad, vec![0; 5000]), (&large, large.clone())] {
        std::fs::write(folder.join(Oid::of(bytes).to_string()), there).unwrap();
    }
    quiet(&folder, Duration::from_mins(5));
    let target = place.target();
    let missing = target.missing(&[wanted(&good), wanted(&bad), wanted(&large)]).await.unwrap();
    assert_eq!(missing, [Oid::of(&bad)].into());
    commit(&target, None, &good).await.unwrap();
    assert_eq!(std::fs::read(place.root.path().join("model.bin")).unwrap(), good);
}

#[tokio::test]
async fn a_small_blob_that_a_kill_cut_short_is_missing() {
    let place = Place::new();
    let bytes = content(15, 5000);
    let folder = place.own().join(format!("{RUN}{}", dead()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Oid::of(&bytes).to_string()), &bytes[..4096]).unwrap();
    let target = place.target();
    assert_eq!(target.missing(&[wanted(&bytes)]).await.unwrap().len(), 1);
    target.put(&wanted(&bytes), &Wire::new(&bytes)).await.unwrap();
    assert!(target.missing(&[wanted(&bytes)]).await.unwrap().is_empty());
}

#[test]
fn the_first_process_of_a_machine_lives() {
    assert!(Pid::from_raw(1).is_some());
    let init = Maker { process: 1, started: 0, ..Maker::me() };
    assert_eq!(super::life::life(&init.new_id(), || Ok(Duration::ZERO)).unwrap(), Life::Alive);
}
