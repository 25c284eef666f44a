//! The data folder on disk: its lock, where blobs lie, and how a file becomes durable.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};

/// Unfinished multipart uploads are dropped after this long, as the hubs do.
const UPLOAD_LIFE: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    // Held, never read: the lock ends with the process, however it ends.
    _lock: File,
}

impl Folder {
    pub(super) fn open(root: &Path) -> Result<Self> {
        create_private(root)?;
        for part in ["blobs", "incoming", "uploads"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::Conflict, format!("another process serves {}", root.display()))
                    .hint("stop it, or choose another --data folder"));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
        }
        let folder = Self { root: root.to_owned(), _lock: lock };
        folder.sweep()?;
        Ok(folder)
    }

    /// Drops what a killed process left half written.
    fn sweep(&self) -> Result<()> {
        let incoming = self.root.join("incoming");
        for entry in fs::read_dir(&incoming).map_err(|e| Error::io("read", &incoming, e))? {
            let path = entry.map_err(|e| Error::io("read", &incoming, e))?.path();
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        self.sweep_uploads()
    }

    /// Drops multipart uploads nobody has touched for a day.
    pub(super) fn sweep_uploads(&self) -> Result<()> {
        let uploads = self.root.join("uploads");
        for entry in fs::read_dir(&uploads).map_err(|e| Error::io("read", &uploads, e))? {
            let entry = entry.map_err(|e| Error::io("read", &uploads, e))?;
            let touched = entry.metadata().and_then(|m| m.modified());
            if touched.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > UPLOAD_LIFE)) {
                fs::remove_dir_all(entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
            }
        }
        Ok(())
    }

    pub(super) fn database(&self) -> PathBuf {
        self.root.join("hub.sqlite")
    }

    pub(super) fn blob(&self, oid: &Oid) -> PathBuf {
        let name = oid.to_string();
        self.root.join("blobs").join(&name[..2]).join(&name[2..4]).join(&name)
    }

    pub(super) fn incoming(&self, name: &str) -> PathBuf {
        self.root.join("incoming").join(name)
    }

    pub(super) fn upload(&self, name: &str) -> PathBuf {
        self.root.join("uploads").join(name)
    }

    /// Makes a complete file the blob `oid`, durably: its bytes first, then its name.
    pub(super) fn adopt(&self, file: &File, at: &Path, oid: &Oid) -> Result<()> {
        file.sync_all().map_err(|e| Error::io("write", at, e))?;
        let target = self.blob(oid);
        let Some(parent) = target.parent() else { return Err(Error::new(Kind::Bug, "a blob has no folder")) };
        if !parent.is_dir() {
            fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
            for folder in parent.ancestors().skip(1).take(2) {
                sync_folder(folder)?;
            }
        }
        fs::rename(at, &target).map_err(|e| Error::io("rename", at, e))?;
        sync_folder(parent)
    }
}

/// Creates the data folder for this user alone: it holds private repositories. One that exists keeps its rights.
fn create_private(root: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(root).map_err(|e| Error::io("create", root, e))
}

/// Makes new names in a folder durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("write", folder, e))
}

/// Other systems write folders through by themselves.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}
