//! A file for somebody else to read, such as a plan or a receipt: it appears whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use hubferry_core::error::{Error, Kind, Result};
use tempfile::NamedTempFile;

use crate::secrets;

/// A place where a file will be written.
#[derive(Debug)]
pub(crate) struct NewFile {
    at: PathBuf,
}

impl NewFile {
    /// Fails now if the file could not be written later: nobody is to learn that when the work is done.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let new = Self { at: path.to_path_buf() };
        match std::fs::metadata(path) {
            Ok(data) if !data.is_file() => {
                let error = Error::new(Kind::Io, format!("cannot write {}: something other than a file is there", path.display()));
                return Err(error.hint("name a file, in a folder that exists"));
            }
            _ => new.beside()?,
        };
        Ok(new)
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Writes the whole file and shows it then. A text with a token in it is refused.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        if secrets::is_in(text) {
            return Err(Error::invalid(format!("{} would hold one of your tokens", self.at.display()))
                .hint("nothing was written there; leave the token out of the commit message and of the names of files"));
        }
        let failed = |error| Error::io("write", &self.at, error);
        let mut file = self.beside()?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.at).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn beside(&self) -> Result<NamedTempFile> {
        let folder = self.at.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(self.at.file_name().unwrap_or_default());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".unfinished");
        // As readable as any file that the user makes.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder).map_err(|error| Error::io("write", &self.at, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_replaces_what_was_there_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("plan.json");
        std::fs::write(&at, "old").unwrap();
        let new = NewFile::at(&at).unwrap();
        assert_eq!(std::fs::read_to_string(&at).unwrap(), "old");
        new.write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&at).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        for at in [folder.path().to_path_buf(), folder.path().join("none/file"), "/dev/null".into(), "/proc/x".into()] {
            let error = NewFile::at(&at).unwrap_err();
            assert_eq!(error.kind(), Kind::Io, "{}", at.display());
        }
    }
}
