//! One run at work in a target folder: a folder of its own inside `.hubferry`, named so that others see whether it lives, and
//! what is stored there so far.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubferry_core::digest::{Digests, Oid, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use tokio::sync::OwnedMutexGuard;

use super::commit::roll_forward;
use super::durable::Groups;
use super::files::{look, remove_file};
use super::gate::Gate;
use super::leftovers::{Other, absorb, committing, others, release, remove_run, take};
use super::life::{Life, Maker};
use super::staging::{LAZY, Name, Stem};
use crate::reading::feed;

/// The folder of a run that has not ended. What follows is its name.
pub(super) const RUN: &str = "run-";
/// How often a run shows that it lives.
const BEAT: Duration = Duration::from_secs(30);
/// Tries to make a folder inside one that others may tidy away at the same time.
const TRIES: usize = 100;

/// A run. Its folder is nobody else's as long as its process lives.
#[derive(Debug)]
pub(crate) struct Run {
    id: String,
    own: PathBuf,
    folder: PathBuf,
    heart: Heart,
    held: Mutex<Held>,
    groups: Groups,
    /// One writer per blob: what an abandoned one has still to write must not come after the next one's bytes.
    turns: Mutex<HashMap<Oid, Arc<tokio::sync::Mutex<()>>>>,
}

/// What lies in the folder of a run.
#[derive(Debug, Default)]
struct Held {
    /// Whole blobs, with their size.
    whole: HashMap<Oid, u64>,
    /// The same, from before a crash of the machine: to be read before they are believed.
    unsure: HashMap<Oid, u64>,
    /// Unfinished ones.
    parts: HashMap<Oid, Vec<Name>>,
    /// Whole blobs whose bytes may not be on the disk yet.
    unsynced: Vec<Oid>,
}

impl Run {
    /// Begins a run. What dead ones left becomes its own; a commit that one of them was in the middle of is completed first.
    pub(crate) fn begin(root: &Path, own: &Path) -> Result<Self> {
        check_ours(own)?;
        let found = others(own, None)?;
        let (unfinished, dead): (Vec<_>, Vec<_>) =
            found.into_iter().filter(|other| other.life != Life::Alive).partition(|other| committing(&other.at));
        let (run, inherited) = Self::inherit(own, &dead)?;
        if !unfinished.is_empty() {
            let gate = Gate::enter(&run)?;
            roll_forward(root, &run, &gate)?;
        }
        for (n, other) in dead.iter().enumerate() {
            if Some(n) != inherited {
                absorb(&run, other)?;
            }
        }
        run.scan()?;
        Ok(run)
    }

    /// A run that stores nothing, and so takes nothing over.
    pub(super) fn guest(own: &Path) -> Result<Self> {
        check_ours(own)?;
        Ok(Self::inherit(own, &[])?.0)
    }

    /// The folder of one dead run, if it can be used as it is, gets a new name: that is quicker than moving its files.
    fn inherit(own: &Path, dead: &[Other]) -> Result<(Self, Option<usize>)> {
        let id = Maker::me().new_id();
        let folder = own.join(format!("{RUN}{id}"));
        for (n, other) in dead.iter().enumerate() {
            if other.is_sure() && take(other, &folder)? {
                return Ok((Self::at(id, own, folder), Some(n)));
            }
        }
        for _ in 0..TRIES {
            std::fs::create_dir_all(own).map_err(|error| Error::io("create", own, error))?;
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok((Self::at(id, own, folder), None)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("create", &folder, error)),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("{} is removed again and again", own.display())))
    }

    fn at(id: String, own: &Path, folder: PathBuf) -> Self {
        let heart = Heart::start(folder.clone());
        Self { id, own: own.to_path_buf(), folder, heart, held: Mutex::default(), groups: Groups::default(), turns: Mutex::default() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The `.hubferry` of the target.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Where this run stores things.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what was taken over.
    fn scan(&self) -> Result<()> {
        let mut held = Held::default();
        for entry in std::fs::read_dir(&self.folder).map_err(|error| Error::io("read", &self.folder, error))? {
            let entry = entry.map_err(|error| Error::io("read", &self.folder, error))?;
            let data = entry.metadata().map_err(|error| Error::io("read", &entry.path(), error))?;
            let name = entry.file_name().to_str().and_then(Name::parse).filter(|_| data.is_file());
            match name {
                Some(Name::Whole(oid)) => {
                    held.whole.insert(oid, data.len());
                    if data.len() <= LAZY {
                        held.unsynced.push(oid);
                    }
                }
                Some(Name::Unsure(oid)) => drop(held.unsure.insert(oid, data.len())),
                Some(name @ (Name::Part(stem) | Name::Old(stem))) => held.parts.entry(stem.oid).or_default().push(name),
                // Removed with its part, or useless without it.
                Some(Name::Journal(_)) => {}
                None if data.is_dir() => {}
                None => remove_file(&entry.path())?,
            }
        }
        *self.held() = held;
        Ok(())
    }

    /// Whether a blob is stored here. Its name was given after its hash was checked, so its size is all there is to look at.
    pub(crate) fn holds(&self, blob: &Blob) -> Result<bool> {
        let (whole, unsure) = {
            let held = self.held();
            (held.whole.get(&blob.oid).copied(), held.unsure.get(&blob.oid).copied())
        };
        match whole {
            Some(size) if size == blob.size => return Ok(true),
            // A process was killed while it wrote this.
            Some(_) => {
                remove_file(&self.place(blob.oid))?;
                self.held().whole.remove(&blob.oid);
            }
            None => {}
        }
        if unsure.is_none() {
            return Ok(false);
        }
        let at = self.folder.join(Name::Unsure(blob.oid).to_string());
        let good = unsure == Some(blob.size) && is_what_it_says(&at, blob)?;
        self.held().unsure.remove(&blob.oid);
        if !good {
            remove_file(&at)?;
            return Ok(false);
        }
        let place = self.place(blob.oid);
        std::fs::rename(&at, &place).map_err(|error| Error::io("rename", &at, error))?;
        self.stored(blob, true);
        Ok(true)
    }

    /// Where a whole blob lies.
    pub(crate) fn place(&self, oid: Oid) -> PathBuf {
        self.folder.join(Name::Whole(oid).to_string())
    }

    /// A blob is whole and has its name. `lazy` means that nobody has made it durable yet.
    pub(super) fn stored(&self, blob: &Blob, lazy: bool) {
        let mut held = self.held();
        held.whole.insert(blob.oid, blob.size);
        if lazy {
            held.unsynced.push(blob.oid);
        }
    }

    /// Blobs that have to be made durable, if there are at least so many.
    pub(super) fn take_unsynced(&self, at_least: usize) -> Vec<Oid> {
        let mut held = self.held();
        if held.unsynced.len() >= at_least { std::mem::take(&mut held.unsynced) } else { Vec::new() }
    }

    /// Blobs on their way to the disk.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// A blob turned out not to be on the disk.
    pub(super) fn forget(&self, oid: Oid) {
        self.held().whole.remove(&oid);
        drop(std::fs::remove_file(self.place(oid)));
    }

    /// The unfinished files of a blob, which are the taker's from now on.
    pub(super) fn take_parts(&self, oid: Oid) -> Vec<Name> {
        self.held().parts.remove(&oid).unwrap_or_default()
    }

    /// An unfinished file that somebody may go on with.
    pub(super) fn give_part(&self, stem: Stem) {
        self.held().parts.entry(stem.oid).or_default().push(Name::Part(stem));
    }

    /// Bytes on the disk that belong to an unfinished blob already.
    pub(crate) fn begun(&self, oid: Oid) -> u64 {
        let parts = self.held().parts.get(&oid).cloned().unwrap_or_default();
        let own = parts.iter().filter(|name| matches!(name, Name::Part(_)));
        let sizes = own.filter_map(|name| look(&self.folder.join(name.to_string())).ok().flatten()).map(|data| allocated(&data));
        sizes.max().unwrap_or_default()
    }

    /// Waits until nobody else writes this blob.
    pub(super) async fn turn(&self, oid: Oid) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(oid).or_default());
        turn.lock_owned().await
    }

    /// Fails when another run has taken this one for dead.
    pub(crate) fn check(&self) -> Result<()> {
        if look(&self.folder)?.is_some() {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, "another run has taken this one for dead, because it had not shown itself for long")
            .context("folder", self.own.parent().unwrap_or(&self.own).display())
            .hint("run the same command again"))
    }

    /// Ends the run and removes what it stored and did not use: that belongs to plans that are past.
    pub(crate) fn end(&self) -> Result<()> {
        self.heart.stop();
        *self.held() = Held::default();
        remove_run(&self.folder)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.heart.stop();
        release(&self.own, &self.folder);
        // Succeeds only when nobody else has anything there.
        drop(std::fs::remove_dir(&self.own));
    }
}

/// Refuses to write through links that came with a folder.
fn check_ours(own: &Path) -> Result<()> {
    if look(own)?.is_none_or(|data| data.is_dir()) {
        return Ok(());
    }
    Err(Error::invalid(format!("{} is not what hubferry made there", own.display()))
        .hint("remove it: writing through a link that came with the folder is not safe"))
}

fn is_what_it_says(at: &Path, blob: &Blob) -> Result<bool> {
    let mut file = std::fs::File::open(at).map_err(|error| Error::io("read", at, error))?;
    let mut verifier = Verifier::new(blob.size, Digests::sha256(blob.oid), false);
    Ok(feed(&mut file, at, &mut verifier, &AtomicBool::new(false), |_| {})?.and_then(|()| verifier.finish()).is_ok())
}

#[cfg(unix)]
fn allocated(data: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    // In blocks of this size, whatever the file system uses.
    (data.blocks() * 512).min(data.len())
}

#[cfg(not(unix))]
fn allocated(data: &std::fs::Metadata) -> u64 {
    data.len()
}

/// Shows that a folder belongs to a living run: the file system notes its own time there. Best effort.
pub(super) fn show(folder: &Path) {
    let at = folder.join("beat");
    let made = std::fs::File::create(&at);
    if made.is_ok() {
        drop(std::fs::remove_file(&at));
    }
}

/// Shows again and again that a run lives, whatever its threads are busy with.
#[derive(Debug)]
struct Heart(Arc<(Mutex<bool>, Condvar)>);

impl Heart {
    fn start(folder: PathBuf) -> Self {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stopped);
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || beat(&folder, &shared));
        if let Err(error) = thread {
            tracing::warn!(%error, "cannot show that this run lives: others may take it for dead after a while");
        }
        Self(stopped)
    }

    /// After this the folder is left alone.
    fn stop(&self) {
        let (stopped, wake) = &*self.0;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
    }
}

fn beat(folder: &Path, (stopped, wake): &(Mutex<bool>, Condvar)) {
    let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
    while !*guard {
        let (next, waited) = wake.wait_timeout(guard, BEAT).unwrap_or_else(PoisonError::into_inner);
        guard = next;
        if waited.timed_out() && !*guard {
            show(folder);
        }
    }
}
