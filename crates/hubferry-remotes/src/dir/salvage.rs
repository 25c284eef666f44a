//! What other runs have of a blob: of the dead to go on with, of the rest to copy from.

use std::fs::File;
use std::path::{Path, PathBuf};

use hubferry_core::digest::Fingerprint;
use hubferry_core::error::{Error, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::Note;

use super::files::remove_file;
use super::leftovers::others;
use super::life::Life;
use super::notes::Notes;
use super::run::Run;
use super::staging::{Name, Stem};

/// A whole blob of another run is copied in blocks of this size.
const COPIED_BLOCK: u64 = 8 << 20;

/// An unfinished, or another run's finished, file of the same blob.
pub(super) struct Leftover {
    pub(super) stem: Stem,
    folder: PathBuf,
    pub(super) data: File,
    pub(super) notes: Notes,
    /// May be gone on with.
    pub(super) ours: bool,
    /// Is of no use to anybody else.
    pub(super) dead: bool,
    /// Stands under its final name: nothing was noted, and nothing has to be.
    pub(super) whole: bool,
}

impl Leftover {
    /// `None` when nothing in it can be used.
    fn open(folder: &Path, name: Name, blob: &Blob, dead: bool) -> Result<Option<Self>> {
        let (Name::Part(stem) | Name::Old(stem)) = name else { return Ok(None) };
        let ours = dead && name == Name::Part(stem);
        let Some(mut notes) = Notes::read(&folder.join(Name::Journal(stem).to_string()), blob)? else { return Ok(None) };
        let at = folder.join(name.to_string());
        let data = match File::options().read(true).write(ours).open(&at) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &at, error)),
        };
        let meta = data.metadata().map_err(|error| Error::io("read", &at, error))?;
        if !meta.is_file() || (ours && has_other_names(&meta)) {
            return Ok(None);
        }
        if ours && meta.len() > blob.size {
            data.set_len(blob.size).map_err(|error| Error::io("write", &at, error))?;
        }
        notes.cut(meta.len());
        let used = notes.bytes() > 0;
        Ok(used.then(|| Self { stem, folder: folder.to_path_buf(), data, notes, ours, dead, whole: false }))
    }

    /// A blob that a living run has finished. Whoever copies it has the whole hashed.
    fn open_whole(folder: &Path, blob: &Blob) -> Option<Self> {
        let data = File::open(folder.join(Name::Whole(blob.oid).to_string())).ok()?;
        if data.metadata().ok().filter(std::fs::Metadata::is_file)?.len() != blob.size {
            return None;
        }
        let mut notes = Notes::default();
        let starts = (0..blob.size).step_by(usize::try_from(COPIED_BLOCK).ok()?);
        for start in starts {
            let range = start..blob.size.min(start + COPIED_BLOCK);
            notes.add(Note::Block { range, fingerprint: Fingerprint(0) });
        }
        let stem = Stem::new(blob.oid);
        Some(Self { stem, folder: folder.to_path_buf(), data, notes, ours: false, dead: false, whole: true })
    }

    pub(super) fn remove(&self) -> Result<()> {
        remove(&self.folder, self.stem)
    }
}

fn remove(folder: &Path, stem: Stem) -> Result<()> {
    let names = [Name::Part(stem), Name::Old(stem), Name::Journal(stem)];
    names.iter().try_for_each(|name| remove_file(&folder.join(name.to_string())))
}

/// Somebody could have prepared it to have us write into another file.
#[cfg(unix)]
fn has_other_names(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    data.nlink() > 1
}

#[cfg(not(unix))]
fn has_other_names(_: &std::fs::Metadata) -> bool {
    false
}

/// What this run has taken over of a blob, the fullest first. What cannot be used is removed.
pub(super) fn inherited(run: &Run, blob: &Blob) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for name in run.take_parts(blob.oid) {
        match (Leftover::open(run.folder(), name, blob, true)?, name) {
            (Some(leftover), _) => found.push(leftover),
            (None, Name::Part(stem) | Name::Old(stem)) => remove(run.folder(), stem)?,
            (None, _) => {}
        }
    }
    found.sort_by_key(|leftover| std::cmp::Reverse(leftover.notes.bytes()));
    Ok(found)
}

/// What runs at work have of a blob. Nothing of it is changed.
pub(super) fn of_the_living(run: &Run, blob: &Blob) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for other in others(run.own(), Some(run.id()))?.iter().filter(|other| other.life == Life::Alive) {
        if let Some(whole) = Leftover::open_whole(&other.at, blob) {
            found.push(whole);
            continue;
        }
        // Anything may happen to it meanwhile, and then it is as if it were not there.
        let Ok(entries) = std::fs::read_dir(&other.at) else { continue };
        for entry in entries.flatten() {
            if let Some(name @ (Name::Part(stem) | Name::Old(stem))) = entry.file_name().to_str().and_then(Name::parse)
                && stem.oid == blob.oid
                && let Ok(Some(leftover)) = Leftover::open(&other.at, name, blob, false)
            {
                found.push(leftover);
            }
        }
    }
    Ok(found)
}
