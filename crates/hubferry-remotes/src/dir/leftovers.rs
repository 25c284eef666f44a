//! What other runs have left in a target folder: found, judged, and taken over when their process is gone.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hubferry_core::error::{Error, Result};

use super::files::{look, remove_file, rename_if_there};
use super::life::{Life, Maker, life};
use super::run::{RUN, Run, show};
use super::staging::{LAZY, Name};

/// A folder of this name belonged to a run that ended in order. What follows is the run's name.
const LEFT: &str = "left-";
/// The written-down commit of a run, in its folder.
pub(super) const JOURNAL: &str = "commit.json";
/// Behind the name under which a run's folder was taken over: a crash of the machine may have changed what was not durable.
const UNSURE: &str = "-unsure";
/// The same, and the run it was taken from may wake up and go on writing.
const SILENT: &str = "-silent";

/// The folder of a run that is not this one.
#[derive(Debug)]
pub(super) struct Other {
    id: String,
    pub(super) at: PathBuf,
    pub(super) life: Life,
}

impl Other {
    /// Whether everything in it was written since this machine was started, by processes that have ended: it is as they left it.
    pub(super) fn is_sure(&self) -> bool {
        self.doubt().is_empty()
    }

    fn may_wake(&self) -> bool {
        self.doubt() == SILENT
    }

    /// What has to be remembered of it when it gets another name.
    fn doubt(&self) -> &'static str {
        let shares_memory = Maker::of(&self.id).is_some_and(|maker| maker.shares_memory(Maker::me()));
        if self.life == Life::Silent || self.id.ends_with(SILENT) {
            SILENT
        } else if !shares_memory || self.id.ends_with(UNSURE) {
            UNSURE
        } else {
            ""
        }
    }
}

/// The time as the file system sees it, asked once and only when needed: the clocks of two machines differ.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    own: &'a Path,
    now: Option<SystemTime>,
}

impl<'a> Clock<'a> {
    /// Of the file system that holds `own`.
    pub(super) fn new(own: &'a Path) -> Self {
        Self { own, now: None }
    }

    /// How long ago something was changed. A time in the future is as far from now as one in the past: clocks are set back.
    pub(super) fn since(&mut self, data: &Metadata) -> Result<Duration> {
        let then = data.modified().map_err(|error| Error::io("read", self.own, error))?;
        let now = if let Some(now) = self.now { now } else { self.ask()? };
        Ok(now.duration_since(then).unwrap_or_else(|ahead| ahead.duration()))
    }

    fn ask(&mut self) -> Result<SystemTime> {
        let at = self.own.join(format!("clock-{:016x}", fastrand::u64(..)));
        let file = std::fs::File::create_new(&at).map_err(|error| Error::io("create", &at, error))?;
        let now = file.metadata().and_then(|data| data.modified());
        remove_file(&at)?;
        let now = now.map_err(|error| Error::io("read", &at, error))?;
        self.now = Some(now);
        Ok(now)
    }
}

/// The folders of all runs but `mine`.
pub(super) fn others(own: &Path, mine: Option<&str>) -> Result<Vec<Other>> {
    let mut clock = Clock::new(own);
    let mut found = Vec::new();
    for (id, at, ended) in run_folders(own)? {
        if mine == Some(id.as_str()) {
            continue;
        }
        // Gone again: somebody else has taken it over.
        let Some(data) = look(&at)? else { continue };
        let life = if ended { Life::Gone } else { life(&id, || clock.since(&data))? };
        found.push(Other { id, at, life });
    }
    Ok(found)
}

/// Name, place, and whether it ended in order.
fn run_folders(own: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let entries = match std::fs::read_dir(own) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", own, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", own, error))?;
        // A link is not what any run made: nothing is looked for behind it.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(id) = name.strip_prefix(RUN) {
            found.push((id.to_owned(), entry.path(), false));
        } else if let Some(id) = name.strip_prefix(LEFT) {
            found.push((id.to_owned(), entry.path(), true));
        }
    }
    Ok(found)
}

/// Whether the run of this folder is in the middle of a commit, or was.
pub(super) fn committing(folder: &Path) -> bool {
    folder.join(JOURNAL).symlink_metadata().is_ok()
}

/// Whether any run is in the middle of a commit, or was.
pub(super) fn any_committing(own: &Path) -> Result<bool> {
    Ok(run_folders(own)?.iter().any(|(_, at, _)| committing(at)))
}

/// Makes the folder of a run that is not alive ours, under a name that no run has; `None` when somebody else was quicker.
pub(super) fn claim(own: &Path, other: &Other) -> Result<Option<PathBuf>> {
    let to = own.join(format!("{RUN}{}{}", Maker::me().new_id(), other.doubt()));
    Ok(take(other, &to)?.then_some(to))
}

/// The same, under a name that was chosen before.
pub(super) fn take(other: &Other, to: &Path) -> Result<bool> {
    // With its new name it must not look silent for an instant.
    show(&other.at);
    rename_if_there(&other.at, to)
}

/// Gives a folder back to whoever wants it.
pub(super) fn release(own: &Path, folder: &Path) {
    // Empty, nobody wants it.
    if std::fs::remove_dir(folder).is_err() {
        let id = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(RUN)).unwrap_or("unnamed");
        drop(std::fs::rename(folder, own.join(format!("{LEFT}{id}"))));
    }
}

/// Moves what a run that is not alive has stored into the folder of `run`.
pub(super) fn absorb(run: &Run, other: &Other) -> Result<()> {
    let Some(claimed) = claim(run.own(), other)? else { return Ok(()) };
    // It was not as dead as it looked, and committed just now: that is completed behind the gate.
    if committing(&claimed) {
        release(run.own(), &claimed);
        return Ok(());
    }
    for entry in std::fs::read_dir(&claimed).map_err(|error| Error::io("read", &claimed, error))? {
        let entry = entry.map_err(|error| Error::io("read", &claimed, error))?;
        if let Some(name) = new_name(&entry, other) {
            let to = run.folder().join(name.to_string());
            if look(&to)?.is_none() {
                rename_if_there(&entry.path(), &to)?;
            }
        }
    }
    remove_run(&claimed)
}

/// Under which name something that `other` left is kept; `None` for what is of no use.
fn new_name(entry: &std::fs::DirEntry, other: &Other) -> Option<Name> {
    let name = Name::parse(entry.file_name().to_str()?)?;
    let data = entry.metadata().ok().filter(Metadata::is_file)?;
    Some(match name {
        // Small ones get their name before they are durable. A power cut may have made them anything.
        Name::Whole(oid) if !other.is_sure() && data.len() <= LAZY => Name::Unsure(oid),
        // Whoever wakes up and goes on writing must not write into a file of ours.
        Name::Part(stem) if other.may_wake() => Name::Old(stem),
        name => name,
    })
}

/// Removes the folder of a run with everything in it.
pub(super) fn remove_run(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, error)),
        _ => Ok(()),
    }
}

/// Removes what runs that are not alive have left, unless somebody may still want it. Best effort.
pub(crate) fn sweep(own: &Path) {
    let Ok(others) = others(own, None) else { return };
    if others.iter().any(|other| other.life == Life::Alive) {
        return;
    }
    for other in others.iter().filter(|other| !committing(&other.at)) {
        if let Ok(Some(claimed)) = claim(own, other) {
            drop(remove_run(&claimed));
        }
    }
}
