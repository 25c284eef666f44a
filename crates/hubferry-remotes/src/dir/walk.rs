//! Lists the files of a folder: checked names, followed links, nothing special, nothing that tools left behind.

use std::path::{Path, PathBuf};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;
use walkdir::{DirEntry, WalkDir};

use super::files::Stamp;

/// Our own folder inside a target.
pub(crate) const OWN: &str = ".hubferry";

/// A file of the folder.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its name in the repository.
    pub(crate) path: RepoPath,
    /// Where it lies; a link is named, not its target.
    pub(crate) at: PathBuf,
    /// What it looked like.
    pub(crate) stamp: Stamp,
}

/// Lists `root`: a folder with everything below it, or a single file under its own name. `None` when nothing is there.
pub(super) fn walk(root: &Path) -> Result<Option<Vec<Found>>> {
    let data = match std::fs::metadata(root) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", root, error)),
    };
    if data.is_dir() {
        return walk_folder(root).map(Some);
    }
    if !data.is_file() {
        return Err(special(root));
    }
    // `..` or a trailing `/.` cannot name a file, so a file always has a name.
    let name = root.file_name().ok_or_else(|| Error::invalid(format!("{} has no file name", root.display())))?;
    let path = RepoPath::new(text(name, root)?)?;
    Ok(Some(vec![Found { path, at: root.to_path_buf(), stamp: Stamp::of(&data) }]))
}

fn walk_folder(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let entries = WalkDir::new(root).follow_links(true).into_iter().filter_entry(|entry| entry.depth() == 0 || !is_left_behind(entry));
    for entry in entries {
        let entry = entry.map_err(|error| walk_error(root, error))?;
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(special(entry.path()));
        }
        let data = entry.metadata().map_err(|error| walk_error(root, error))?;
        found.push(Found { path: repo_path(root, entry.path())?, at: entry.path().to_path_buf(), stamp: Stamp::of(&data) });
    }
    Ok(found)
}

fn repo_path(root: &Path, at: &Path) -> Result<RepoPath> {
    let below = at.strip_prefix(root).unwrap_or(at);
    let mut segments = Vec::new();
    for segment in below.components() {
        segments.push(text(segment.as_os_str(), at)?);
    }
    RepoPath::new(segments.join("/")).map_err(|error| error.context("file", at.display()))
}

fn text<'a>(name: &'a std::ffi::OsStr, at: &Path) -> Result<&'a str> {
    name.to_str().ok_or_else(|| {
        Error::invalid(format!("the name of {} is not UTF-8", at.display())).hint("rename it: no hub can hold such a name, or leave it out")
    })
}

fn special(at: &Path) -> Error {
    Error::invalid(format!("{} is neither a file nor a folder", at.display()))
        .hint("pipes, sockets and devices cannot be copied: move it out of the folder")
}

fn walk_error(root: &Path, error: walkdir::Error) -> Error {
    let at = error.path().unwrap_or(root).to_path_buf();
    if let Some(ancestor) = error.loop_ancestor() {
        return Error::invalid(format!("the link {} leads back to {}", at.display(), ancestor.display()))
            .hint("remove the link, or name the folder it leads to");
    }
    let dangling = at.symlink_metadata().is_ok_and(|data| data.is_symlink()) && std::fs::metadata(&at).is_err();
    match error.into_io_error() {
        Some(_) if dangling => Error::new(Kind::NotFound, format!("the link {} leads to nothing", at.display()))
            .hint("remove the link, or bring back what it names"),
        Some(error) => Error::io("read", &at, error),
        None => Error::new(Kind::Io, format!("cannot read {}", at.display())),
    }
}

fn is_left_behind(entry: &DirEntry) -> bool {
    let Some(name) = entry.file_name().to_str() else { return false };
    // The root's own name is not part of any path.
    let parent = if entry.depth() > 1 { entry.path().parent().and_then(Path::file_name) } else { None };
    is_hidden_name(parent.and_then(|name| name.to_str()), name)
}

/// Whether a file or folder called `name` in a folder called `parent` belongs to Git, to us or to a hub's client.
pub(crate) fn is_hidden_name(parent: Option<&str>, name: &str) -> bool {
    name.eq_ignore_ascii_case(".git")
        || name.eq_ignore_ascii_case(OWN)
        || matches!(name, ".ms_upload_cache" | ".ms_upload_progress")
        || (name == "huggingface" && parent == Some(".cache"))
}

/// Refuses a path that a listing would never show again.
pub(crate) fn check_visible(path: &RepoPath) -> Result<()> {
    let segments: Vec<&str> = path.as_str().split('/').collect();
    for (n, name) in segments.iter().enumerate() {
        let parent = n.checked_sub(1).map(|before| segments[before]);
        if is_hidden_name(parent, name) {
            let folder = segments[..=n].join("/");
            return Err(Error::new(Kind::Unsupported, format!("a folder cannot hold {path:?}: that name belongs to a tool"))
                .hint(format!("leave it out with --exclude '/{folder}'")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_leave_behind_is_hidden_and_refused() {
        for hidden in [".hubferry/x", "a/.cache/huggingface/download/x", ".ms_upload_cache", "a/.HUBFERRY"] {
            assert_eq!(check_visible(&RepoPath::new(hidden).unwrap()).unwrap_err().kind(), Kind::Unsupported, "{hidden}");
        }
        for seen in ["huggingface/x", ".cache/x", "hubferry", ".gitattributes"] {
            check_visible(&RepoPath::new(seen).unwrap()).unwrap();
        }
    }
}
