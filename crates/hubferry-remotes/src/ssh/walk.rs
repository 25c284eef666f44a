//! Lists the files of a folder on a host: checked names, followed links, nothing special, nothing that tools left behind.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;

use super::join;
use super::packet::Attrs;
use super::session::Session;
use crate::dir::walk::is_hidden_name;

/// Folders that are listed at once.
const FOLDERS: usize = 16;

/// A file on the host.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its name in the repository.
    pub(super) path: RepoPath,
    /// Where it lies.
    pub(super) at: String,
    pub(super) stamp: Stamp,
}

/// What a file looked like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Last change, in seconds since 1970.
    pub(super) modified: u32,
}

impl Stamp {
    pub(super) fn of(attrs: &Attrs) -> Result<Self> {
        let (Some(size), Some(modified)) = (attrs.size, attrs.modified) else {
            return Err(Error::new(Kind::Unsupported, "the host tells neither sizes nor times of files"));
        };
        Ok(Self { size, modified })
    }
}

/// A folder to look into.
struct Folder {
    /// In the repository; empty is the root.
    path: String,
    at: String,
    /// The same without links, by which circles are found.
    real: String,
    name: Option<String>,
}

/// Lists `root`: a folder with everything below it, or a single file under its own name. `None` when nothing is there.
pub(super) async fn walk(session: &Session, root: &str) -> Result<Option<Vec<Found>>> {
    let Some(attrs) = session.sftp.stat(root).await? else { return Ok(None) };
    if attrs.is_file() {
        let name = root.rsplit('/').next().unwrap_or(root);
        return Ok(Some(vec![Found { path: RepoPath::new(name)?, at: root.to_owned(), stamp: Stamp::of(&attrs)? }]));
    }
    if !attrs.is_dir() {
        return Err(special(root));
    }
    let real = session.sftp.realpath(root).await?;
    let mut open = vec![Folder { path: String::new(), at: root.to_owned(), real, name: None }];
    let (mut looking, mut found) = (FuturesUnordered::new(), Vec::new());
    loop {
        while looking.len() < FOLDERS
            && let Some(folder) = open.pop()
        {
            looking.push(look(session, folder));
        }
        let Some(looked) = looking.next().await else { break };
        let (files, folders) = looked?;
        found.extend(files);
        open.extend(folders);
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(found))
}

async fn look(session: &Session, folder: Folder) -> Result<(Vec<Found>, Vec<Folder>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for (name, attrs) in session.sftp.list(&folder.at).await.map_err(|error| error.context("folder", &folder.at))? {
        let name = std::str::from_utf8(&name).ok().filter(|name| !name.contains('/')).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&name).into_owned();
            Error::invalid(format!("the name {shown:?} in {} is not UTF-8", folder.at))
                .hint("rename it: no hub can hold such a name, or leave it out")
        })?;
        if is_hidden_name(folder.name.as_deref(), name) {
            continue;
        }
        let path = if folder.path.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.path) };
        let checked = RepoPath::new(path.clone()).map_err(|error| error.context("file", join(&folder.at, name)))?;
        let at = join(&folder.at, name);
        // Some servers leave the type out of a listing.
        let attrs = if attrs.is_link() || attrs.mode.is_none() { followed(session, &at).await? } else { (attrs, None) };
        let (attrs, real) = attrs;
        if attrs.is_dir() {
            let real = real.unwrap_or_else(|| join(&folder.real, name));
            if is_within(&folder.real, &real) {
                return Err(
                    Error::invalid(format!("the link {at} leads back to {real}")).hint("remove the link, or name the folder it leads to")
                );
            }
            folders.push(Folder { path, at, real, name: Some(name.to_owned()) });
        } else if attrs.is_file() {
            files.push(Found { path: checked, at, stamp: Stamp::of(&attrs)? });
        } else {
            return Err(special(&at));
        }
    }
    Ok((files, folders))
}

/// What a link leads to, and the real path of that.
async fn followed(session: &Session, at: &str) -> Result<(Attrs, Option<String>)> {
    let attrs =
        session.sftp.stat(at).await?.ok_or_else(|| {
            Error::not_found(format!("the link {at} leads to nothing")).hint("remove the link, or bring back what it names")
        })?;
    let real = if attrs.is_dir() { Some(session.sftp.realpath(at).await?) } else { None };
    Ok((attrs, real))
}

fn is_within(path: &str, folder: &str) -> bool {
    path == folder || path.strip_prefix(folder).is_some_and(|rest| folder.ends_with('/') || rest.starts_with('/'))
}

fn special(at: &str) -> Error {
    Error::invalid(format!("{at} on the host is neither a file nor a folder"))
        .hint("pipes, sockets and devices cannot be copied: move it out of the folder")
}
