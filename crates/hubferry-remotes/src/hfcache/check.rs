//! Re-reads the blobs of a cache and compares them with their names.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubferry_core::digest::Verifier;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Phase, Reporter};
use hubferry_core::manifest::RepoPath;

use super::layout::{BlobName, Commit};
use super::scan::CachedRepo;
use crate::dir::blocking;
use crate::reading::{Stop, feed, processors, spread};

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
    /// The folder of a repository that uses it.
    pub folder: String,
    /// A snapshot there.
    pub commit: Commit,
    /// The file there.
    pub path: RepoPath,
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
            tasks.push(Task {
                at: file.at.clone(),
                name,
                size: file.size(),
                shown,
                folder: repo.folder.name().to_owned(),
                commit: snapshot.commit.clone(),
                path: path.clone(),
            });
        }
    }
    // Large ones first: at the end nobody waits for a single thread.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
    tasks
}

/// Reads everything on several threads, and reports what is not what it says, in order. It ends early when nobody waits any more.
pub async fn check(tasks: Vec<Task>, reporter: Arc<dyn Reporter>) -> Result<Vec<Bad>> {
    let stop = Stop::default();
    let flag = stop.flag();
    blocking(move || check_now(&tasks, &*reporter, &flag)).await
}

fn check_now(tasks: &[Task], reporter: &dyn Reporter, stop: &AtomicBool) -> Result<Vec<Bad>> {
    reporter.event(&Event::Phase(Phase::Verifying));
    reporter.event(&Event::Planned { files: tasks.len() as u64, bytes: tasks.iter().map(|task| task.size).sum() });
    let checked = spread(tasks, processors(), |task| match one(task, reporter, stop) {
        Err(error) if error.kind() == Kind::Interrupted => Err(error),
        result => Ok(result.err().map(|error| Bad { task: task.clone(), error })),
    });
    let mut bad = checked.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
    bad.sort_by(|a, b| a.task.shown.cmp(&b.task.shown));
    Ok(bad)
}

fn one(task: &Task, reporter: &dyn Reporter, stop: &AtomicBool) -> Result<()> {
    reporter.event(&Event::Started { path: task.shown.clone(), size: task.size });
    let mut file = open(&task.at)?;
    let mut verifier = Verifier::new(task.size, task.name.digests(), false);
    let told = |bytes| reporter.event(&Event::Progress { path: task.shown.clone(), bytes });
    feed(&mut file, &task.at, &mut verifier, stop, told)??;
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
        let run = || check_now(&tasks(&repo(), None), &Silent, &AtomicBool::new(false)).unwrap();
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
