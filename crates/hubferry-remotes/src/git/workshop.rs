//! The folder of one fetch: a bare repository that nobody else may look into, gone when it is dropped. What killed processes left is
//! removed by the next one.

use std::fs::{self, DirBuilder};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hubferry_core::error::{Error, Kind, Result};

use crate::dir::life::{Life, Maker, life};

/// What may still be in use on another machine that shares the folder is left alone for this long.
const FORGOTTEN: Duration = Duration::from_hours(7 * 24);

/// A repository to fetch into.
#[derive(Debug)]
pub(super) struct Workshop(PathBuf);

impl Workshop {
    /// Makes one below `folder`, and removes those whose process is gone.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        private(folder, true)?;
        sweep(folder);
        let at = folder.join(Maker::me().new_id());
        private(&at, false)?;
        let workshop = Self(at);
        for part in ["objects", "refs"] {
            let path = workshop.0.join(part);
            fs::create_dir(&path).map_err(|e| Error::io("make", &path, e))?;
        }
        workshop.write("HEAD", "ref: refs/heads/none\n")?;
        Ok(workshop)
    }

    /// The repository, for `GIT_DIR`.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Sets everything that could make Git run something, ask somebody or send something elsewhere. `port` and `pass` are those of
    /// the relay, worth nothing to anybody once it has ended.
    pub(super) fn configure(&self, port: u16, pass: &str) -> Result<()> {
        self.write("config", &config(port, pass))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, e))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Large files are never held in memory whole, packs stay packs, and nothing is tidied behind our back.
fn config(port: u16, pass: &str) -> String {
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\thooksPath = /dev/null\n\tfsmonitor = false\n\
         \tbigFileThreshold = 4m\n\tpackedGitWindowSize = 1m\n\tpackedGitLimit = 32m\n\tdeltaBaseCacheLimit = 16m\n\
         [pack]\n\tthreads = 1\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [fetch]\n\tunpackLimit = 1\n\trecurseSubmodules = false\n\twriteCommitGraph = false\n\
         [transfer]\n\tbundleURI = false\n[credential]\n\thelper =\n[protocol]\n\tversion = 2\n\
         [http]\n\tfollowRedirects = false\n\tproxy =\n\textraHeader = {header}: {pass}\n\
         [remote \"hub\"]\n\turl = http://127.0.0.1:{port}{path}\n\ttagOpt = --no-tags\n",
        header = super::relay::PASS,
        path = super::relay::PATH,
    )
}

fn private(path: &Path, parents: bool) -> Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .recursive(parents)
        .create(path)
        .map_err(|e| Error::io("make the folder", path, e).hint("Git needs a folder to work in: name a place for it with HUBFERRY_CACHE"))
}

/// Removes what belongs to nobody any more. Whatever goes wrong, it is tried again next time.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if Maker::of(&name).is_none() {
            continue;
        }
        let quiet = || {
            let changed = entry.metadata().and_then(|about| about.modified());
            let changed = changed.map_err(|e| Error::new(Kind::Io, "cannot see how old a folder is").caused_by(e))?;
            Ok(SystemTime::now().duration_since(changed).unwrap_or_default())
        };
        let is_over = match life(&name, quiet) {
            Ok(Life::Gone) => true,
            Ok(Life::Silent) => quiet().is_ok_and(|quiet| quiet > FORGOTTEN),
            Ok(Life::Alive) | Err(_) => false,
        };
        if is_over {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// How long a program that is being ended is waited for.
const ENDING: Duration = Duration::from_secs(2);

/// Removes those of this process. A program that is being ended may still make files: it is tried until nothing comes back.
pub(super) fn remove_own(folder: &Path) {
    let begun = Instant::now();
    loop {
        let mut found = false;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().and_then(Maker::of) == Some(Maker::me()) {
                found = true;
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        if !found || begun.elapsed() > ENDING {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_gone_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("a/git");
        let workshop = Workshop::make(&base).unwrap();
        workshop.configure(7, "p").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(workshop.path()).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(workshop.path().join("config").is_file());
        drop(workshop);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_killed_process_left_is_removed_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let living = Workshop::make(folder.path()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = folder.path().join(Maker { process: child.id(), started: 1, ..Maker::me() }.new_id());
        let elsewhere = folder.path().join(Maker { machine: 1, boot: 2, ..Maker::me() }.new_id());
        let strange = folder.path().join("strange");
        for path in [&dead, &elsewhere, &strange] {
            fs::create_dir_all(path.join("objects")).unwrap();
        }
        let next = Workshop::make(folder.path()).unwrap();
        assert!(!dead.exists());
        for path in [living.path(), next.path(), &elsewhere, &strange] {
            assert!(path.exists(), "{}", path.display());
        }
    }
}
