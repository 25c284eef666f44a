//! From a file of a snapshot to its bytes: snapshot → blob → shared store, and nowhere else.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use hubferry_core::error::{Error, Kind, Result};

use super::layout::{BLOBS, BlobName, RepoFolder, resolve};

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub struct Located {
    /// The file that holds them: neither a link nor a folder.
    pub at: PathBuf,
    /// The name of the blob on the way there; `None` for a file that lies in the snapshot itself, as it does where links are not
    /// possible.
    pub blob: Option<String>,
    /// Whether the blob is a link into the shared store.
    pub is_shared: bool,
    /// What the file that holds them looks like: its times are those that tell when a blob was last used.
    pub data: Metadata,
}

impl Located {
    /// Physical size of the bytes.
    pub fn size(&self) -> u64 {
        self.data.len()
    }

    /// What the name of the blob says of the bytes.
    pub fn name(&self) -> Option<BlobName> {
        self.blob.as_deref().and_then(BlobName::parse)
    }
}

/// Follows a file of a snapshot to its bytes. `Corrupt` when a link leads to nothing, `Denied` when it leads out of the blobs of its
/// repository and of the shared store: whoever made it may want a file of ours to be read or overwritten.
pub fn follow(folder: &RepoFolder, at: &Path) -> Result<Located> {
    let data = look(at)?;
    if data.is_file() {
        return Ok(Located { at: at.to_path_buf(), blob: None, is_shared: false, data });
    }
    let to = target(at, &data)?;
    if folder.cache().shared_hash(&to).is_some() {
        return shared(folder, at, to, None);
    }
    let name = to.parent().filter(|parent| **parent == folder.blobs()).and_then(|_| to.file_name()).and_then(|name| name.to_str());
    match name {
        Some(name) => blob(folder, name),
        None => Err(astray(at, &to)),
    }
}

/// The same from a blob on, by its name.
pub fn blob(folder: &RepoFolder, name: &str) -> Result<Located> {
    check_folders(folder)?;
    let at = folder.blobs().join(name);
    let data = look(&at)?;
    if data.is_file() {
        return Ok(Located { at, blob: Some(name.to_owned()), is_shared: false, data });
    }
    let to = target(&at, &data)?;
    if folder.cache().shared_hash(&to).is_none() {
        return Err(astray(&at, &to));
    }
    shared(folder, &at, to, Some(name.to_owned()))
}

fn shared(folder: &RepoFolder, link: &Path, to: PathBuf, blob: Option<String>) -> Result<Located> {
    if !folder.cache().has_shared_store() {
        return Err(astray(link, &to));
    }
    let prefix = to.parent().unwrap_or(&to);
    if !look(prefix)?.is_dir() {
        return Err(astray(link, &to));
    }
    let data = look(&to)?;
    if !data.is_file() {
        return Err(astray(link, &to));
    }
    Ok(Located { at: to, blob, is_shared: true, data })
}

/// A folder of blobs that is a link makes every name in it lead elsewhere.
fn check_folders(folder: &RepoFolder) -> Result<()> {
    let at = folder.at().join(BLOBS);
    if look(&at)?.is_dir() {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("{} is not a folder of the cache", at.display()))
        .hint("replace it by the folder that it stands for"))
}

fn look(at: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(at).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Error::new(Kind::Corrupt, format!("{} is missing in the cache", at.display()))
                .hint("bring it back with `hubferry download`, or remove what links to it with `hf cache`")
        }
        _ => Error::io("read", at, error),
    })
}

fn target(at: &Path, data: &Metadata) -> Result<PathBuf> {
    if !data.is_symlink() {
        return Err(Error::new(Kind::Denied, format!("{} is neither a file nor a link to one", at.display())));
    }
    let text = std::fs::read_link(at).map_err(|error| Error::io("read", at, error))?;
    let folder = at.parent().unwrap_or(Path::new(""));
    resolve(folder, &text).ok_or_else(|| astray(at, &text))
}

fn astray(at: &Path, to: &Path) -> Error {
    Error::new(Kind::Denied, format!("the link {} leads to {}, which is no blob of its repository", at.display(), to.display()))
        .hint("it was not made by a client of the hub: remove it")
}
