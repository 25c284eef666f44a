//! The gate that commits to a folder pass one at a time. Whoever wants to pass puts up a file with its own name and then looks for
//! others: of two that come at once both see each other and both step back, so it needs neither locks nor an agreement on time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hubferry_core::error::{Error, Kind, Result};

use super::files::{look, remove_file};
use super::leftovers::{Clock, committing, others};
use super::life::{Life, life};
use super::run::{RUN, Run};

const GATE: &str = "gate-";
/// Longest wait for another run's commit.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest pause between two tries, in milliseconds.
const PAUSE: u64 = 40;

/// Held by whoever changes what readers of the folder see.
#[derive(Debug)]
pub(crate) struct Gate {
    at: PathBuf,
}

impl Gate {
    /// Waits until nobody else is inside.
    pub(crate) fn enter(run: &Run) -> Result<Self> {
        let start = Instant::now();
        loop {
            if let Some(gate) = Self::try_enter(run)? {
                return Ok(gate);
            }
            if start.elapsed() > PATIENCE {
                let folder = run.own().parent().unwrap_or(run.own()).display();
                return Err(Error::new(Kind::Unavailable, format!("another run has been changing {folder} for a while"))
                    .hint("wait until it has ended, then run the same command again"));
            }
            // By chance, so that two that step back for each other do not meet again.
            std::thread::sleep(Duration::from_millis(fastrand::u64(1..=PAUSE)));
        }
    }

    fn try_enter(run: &Run) -> Result<Option<Self>> {
        // First only a look: who waits for long does not keep others from passing.
        if is_busy(run)? {
            return Ok(None);
        }
        let at = run.own().join(format!("{GATE}{}", run.id()));
        match std::fs::File::create_new(&at) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(Error::io("create", &at, error)),
        }
        let gate = Self { at };
        Ok(if is_busy(run)? { None } else { Some(gate) })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.at));
    }
}

/// Whether another living run is inside, or left a commit unfinished that only it may complete.
fn is_busy(run: &Run) -> Result<bool> {
    let own = run.own();
    let mut clock = Clock::new(own);
    for entry in std::fs::read_dir(own).map_err(|error| Error::io("read", own, error))? {
        let entry = entry.map_err(|error| Error::io("read", own, error))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(GATE)).filter(|id| *id != run.id()) else { continue };
        if life(id, || last_sign(own, id, &entry.path(), &mut clock))? == Life::Alive {
            return Ok(true);
        }
        remove_file(&entry.path())?;
    }
    Ok(others(own, Some(run.id()))?.iter().any(|other| other.life == Life::Alive && committing(&other.at)))
}

/// A run shows itself in its folder; the gate's own file is as old as the wish to pass.
fn last_sign(own: &Path, id: &str, gate: &Path, clock: &mut Clock<'_>) -> Result<Duration> {
    let folder = own.join(format!("{RUN}{id}"));
    match look(&folder)?.or(look(gate)?) {
        Some(data) => clock.since(&data),
        None => Ok(Duration::MAX),
    }
}
