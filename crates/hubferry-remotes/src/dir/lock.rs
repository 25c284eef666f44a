//! Who is at work in a target folder: the gate that commits pass one at a time, and the marks of living runs. The operating
//! system drops the locks of a process that dies, so nothing here outlives a crash.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hubferry_core::error::{Error, Kind, Result};

use super::files::{Stamp, look, remove_file};
use super::staging;

const LOCK: &str = "lock";
const RUN: &str = "run-";
/// Longest wait for another run's commit.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Held by whoever changes the folder or decides what in `.hubferry/` is rubbish.
#[derive(Debug)]
pub(super) struct Gate {
    own: PathBuf,
    _lock: File,
}

impl Gate {
    /// Waits for the gate of `own`, the `.hubferry` of a target, which is made when it is not there.
    pub(super) fn enter(own: &Path) -> Result<Self> {
        let start = Instant::now();
        loop {
            if let Some(gate) = Self::try_enter(own)? {
                return Ok(gate);
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::new(Kind::Unavailable, format!("another run has been changing {} for a while", own.display()))
                    .hint("wait until it has ended, then run the same command again"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// `None` when somebody else is inside, or has just tidied the folder away.
    fn try_enter(own: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(own).map_err(|error| Error::io("create", own, error))?;
        let at = own.join(LOCK);
        for ours in [own, &at, &staging::folder(own)] {
            if look(ours)?.is_some_and(|data| data.is_symlink() || (ours == own && !data.is_dir())) {
                let error = Error::invalid(format!("{} is not what hubferry made there", ours.display()));
                return Err(error.hint("remove it: writing through a link that came with the folder is not safe"));
            }
        }
        let lock = match File::options().create(true).truncate(false).write(true).open(&at) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("create", &at, error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks: one run at a time is then the user's duty.
            Err(TryLockError::Error(error)) => tracing::warn!(file = %at.display(), %error, "cannot lock"),
        }
        // Whoever was inside may have tidied this very file away; then another one counts.
        let ours = lock.metadata().map(|data| Stamp::of(&data)).map_err(|error| Error::io("read", &at, error))?;
        let still_there = look(&at)?.is_some_and(|data| Stamp::of(&data).id == ours.id);
        Ok(still_there.then(|| Self { own: own.to_path_buf(), _lock: lock }))
    }

    /// Removes what dead runs left half written, and says whether another run is alive.
    pub(super) fn sweep_dead(&self, mine: Option<&Run>) -> Result<bool> {
        let mut alive = false;
        for entry in std::fs::read_dir(&self.own).map_err(|error| Error::io("read", &self.own, error))? {
            let entry = entry.map_err(|error| Error::io("read", &self.own, error))?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(RUN)) else { continue };
            if mine.is_some_and(|run| run.id == id) {
                continue;
            }
            if is_dead(&entry.path()) {
                staging::remove_unfinished(&self.own, id)?;
                remove_file(&entry.path())?;
            } else {
                alive = true;
            }
        }
        Ok(alive)
    }

    /// Removes `.hubferry` if nobody needs it: no other run, nothing staged, no unfinished commit. Best effort.
    pub(super) fn leave_tidily(self) {
        if !matches!(self.sweep_dead(None), Ok(false)) {
            return;
        }
        drop(std::fs::remove_dir(staging::folder(&self.own)));
        let only_the_lock = std::fs::read_dir(&self.own).is_ok_and(|mut entries| entries.all(|e| e.is_ok_and(|e| e.file_name() == LOCK)));
        if only_the_lock {
            drop(std::fs::remove_file(self.own.join(LOCK)));
            drop(std::fs::remove_dir(&self.own));
        }
    }
}

fn is_dead(mark: &Path) -> bool {
    // When in doubt it lives: the worst is that rubbish stays until the next run.
    File::open(mark).is_ok_and(|open| open.try_lock().is_ok())
}

/// The mark of a living run: its half-written files are nobody else's to remove.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: String,
    own: PathBuf,
    // Locked as long as the run lives.
    _mark: File,
}

impl Run {
    /// Marks a new run; the gate keeps others from taking the mark for a dead one before it is locked.
    pub(super) fn begin(gate: &Gate) -> Result<Self> {
        let id = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        let at = gate.own.join(format!("{RUN}{id}"));
        let mark = File::create_new(&at).map_err(|error| Error::io("create", &at, error))?;
        if let Err(error) = mark.lock() {
            tracing::warn!(file = %at.display(), %error, "cannot lock");
        }
        Ok(Self { id, own: gate.own.clone(), _mark: mark })
    }

    /// Takes the mark away.
    pub(super) fn end(&self) {
        drop(std::fs::remove_file(self.own.join(format!("{RUN}{}", self.id))));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
        if self.own.exists()
            && let Ok(Some(gate)) = Gate::try_enter(&self.own)
        {
            gate.leave_tidily();
        }
    }
}
