//! Re-reads the blobs of a cache and compares them with their names.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hubferry_core::digest::Verifier;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Phase, Reporter};
use hubferry_core::manifest::RepoPath;

use super::layout::{BlobName, Commit};
use super::scan::CachedRepo;

const PIECE: usize = 1 << 20;

/// A blob whose bytes are to be read.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where its bytes lie.
    pub at: PathBuf,
    /// What its name promises.
    pub name: BlobName,
    /// Its size on the disk.
    pub size: u64,
    /// What it is called in reports: a file that has it, as `folder/path`.
    pub shown: RepoPath,
}

/// A blob that is not what its name says.
#[derive(Debug)]
pub struct Bad {
    /// Which.
    pub task: Task,
    /// Why.
    pub error: Error,
}

/// The blobs of a repository that its revisions use, or those of one revision. The sizes that a listing promises count too: a blob
/// that is shorter is found without reading it, like any other, by its hash.
pub fn tasks(repo: &CachedRepo, only: Option<&Commit>) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for snapshot in repo.snapshots.values().filter(|snapshot| only.is_none_or(|only| snapshot.commit == *only)) {
        for (path, file) in &snapshot.files {
            let Some(name) = file.name() else { continue };
            if !seen.insert(file.at.clone()) {
                continue;
            }
            let shown = RepoPath::new(format!("{}/{path}", repo.folder.name())).unwrap_or_else(|_| path.clone());
            tasks.push(Task { at: file.at.clone(), name, size: file.size(), shown });
        }
    }
    // Large ones first: at the end nobody waits for a single thread.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
    tasks
}

/// Reads everything on several threads, and reports what is not what it says. `stop` ends it early.
pub fn check(tasks: &[Task], reporter: &dyn Reporter, stop: &AtomicBool) -> Result<Vec<Bad>> {
    reporter.event(&Event::Phase(Phase::Verifying));
    reporter.event(&Event::Planned { files: tasks.len() as u64, bytes: tasks.iter().map(|task| task.size).sum() });
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4).min(tasks.len().max(1));
    let next = AtomicUsize::new(0);
    let (bad, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        let mut piece = vec![0; PIECE];
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            match one(task, &mut piece, reporter, stop) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                Err(error) => bad.lock().unwrap_or_else(PoisonError::into_inner).push(Bad { task: task.clone(), error }),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_by(|a, b| a.task.shown.cmp(&b.task.shown));
    Ok(bad)
}

fn one(task: &Task, piece: &mut [u8], reporter: &dyn Reporter, stop: &AtomicBool) -> Result<()> {
    reporter.event(&Event::Started { path: task.shown.clone(), size: task.size });
    let read = |error| Error::io("read", &task.at, error);
    let mut file = open(&task.at)?;
    let mut verifier = Verifier::new(task.size, task.name.digests(), false);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        match file.read(piece) {
            Ok(0) => break,
            Ok(length) => {
                verifier.update(&piece[..length])?;
                reporter.event(&Event::Progress { path: task.shown.clone(), bytes: length as u64 });
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read(error)),
        }
    }
    verifier.finish()?;
    reporter.event(&Event::Finished { path: task.shown.clone(), size: task.size, moved: false });
    Ok(())
}

/// Opens a file without leaving a trace in its times, where that is possible: reading a blob to check it is no use of it.
#[cfg(target_os = "linux")]
fn open(at: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let quiet = rustix::fs::open(at, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOATIME, Mode::empty());
    match quiet {
        Ok(file) => Ok(file.into()),
        // Only its owner may ask for that.
        Err(_) => File::open(at).map_err(|error| Error::io("open", at, error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn open(at: &Path) -> Result<File> {
    File::open(at).map_err(|error| Error::io("open", at, error))
}

#[cfg(all(test, unix))]
mod tests {
    use hubferry_core::events::Silent;

    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn a_flipped_byte_is_found_in_both_kinds_of_blobs_and_no_time_is_changed() {
        let fixture = Fixture::new();
        let files: [(&str, &[u8], bool); 3] = [("config.json", b"{}", false), ("model.bin", b"weights", true), ("good", b"good", true)];
        let (_, small) = fixture.snapshot("main", &files);
        let large = BlobName::Sha256(hubferry_core::digest::Oid::of(b"weights"));
        let repo = || CachedRepo::read(fixture.folder.clone()).unwrap();
        let run = || check(&tasks(&repo(), None), &Silent, &AtomicBool::new(false)).unwrap();
        assert!(run().is_empty());
        std::fs::write(fixture.folder.blob(&large), b"weightz").unwrap();
        std::fs::write(fixture.folder.blob(&small), b"{").unwrap();
        let times = |name| fixture.folder.blob(name).metadata().unwrap().accessed().unwrap();
        let before = times(&large);
        let bad = run();
        assert_eq!(bad.iter().map(|bad| bad.task.name).collect::<Vec<_>>(), [small, large]);
        assert!(bad.iter().all(|bad| bad.error.kind() == Kind::Corrupt));
        assert_eq!(times(&large), before);
    }
}
