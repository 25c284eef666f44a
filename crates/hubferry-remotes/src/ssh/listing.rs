//! A folder on a host as a manifest: what is known from before, what the host hashes, and what is read back where it does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::{Digests, Oid, Prefix};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};

use super::known::UNSURE;
use super::session::Session;
use super::sftp::File;
use super::walk::{Found, Stamp, walk};
use super::{Place, join};

/// Where a host runs no commands, so many bytes are read back for a listing; more would cost as much as sending them again.
const READ_FOR_LISTING: u64 = 64 << 20;
/// Requests of one reader that are on their way at once.
const AHEAD: usize = 16;

/// What is in a folder.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) manifest: Manifest,
    pub(super) files: BTreeMap<RepoPath, (String, Stamp)>,
}

/// The revision of a folder: by the hashes of its files, or by size and time of those whose hash nobody knows.
pub(super) fn revision<'a>(files: impl Iterator<Item = (&'a RepoPath, Stamp, Option<Oid>)>) -> Result<Revision> {
    crate::dir::revision_of(files.map(|(path, stamp, oid)| {
        let content = oid.map_or_else(|| format!("@{}", stamp.modified), |oid| oid.to_string());
        (path, stamp.size, content)
    }))
}

impl Listing {
    /// A folder with nothing in it.
    pub(super) fn empty() -> Result<Self> {
        let manifest = Manifest::new(revision(std::iter::empty())?, [])?;
        Ok(Self { manifest, files: BTreeMap::new() })
    }

    /// `None` when nothing is there.
    pub(super) async fn read(place: &Place, session: &Session, root: &str) -> Result<Option<Self>> {
        let Some(found) = walk(session, root).await? else { return Ok(None) };
        let known: BTreeMap<&RepoPath, Oid> =
            found.iter().filter_map(|file| Some((&file.path, place.known.get(&file.path, file.stamp)?))).collect();
        let open: Vec<&Found> = found.iter().filter(|file| !known.contains_key(&file.path)).collect();
        let fresh = hash(place, session, root, &open).await?;
        let oid = |path: &RepoPath| known.get(path).or_else(|| fresh.get(path)).copied();
        let revision = revision(found.iter().map(|file| (&file.path, file.stamp, oid(&file.path))))?;
        let entries = found.iter().map(|file| {
            let digests = oid(&file.path).map_or_else(Digests::default, Digests::sha256);
            (file.path.clone(), Entry::new(file.stamp.size, digests))
        });
        let manifest = Manifest::new(revision, entries)?;
        let files = found.iter().map(|file| (file.path.clone(), (file.at.clone(), file.stamp))).collect();
        Ok(Some(Self { manifest, files }))
    }
}

/// Hashes files that are not known.
async fn hash(place: &Place, session: &Session, root: &str, open: &[&Found]) -> Result<BTreeMap<RepoPath, Oid>> {
    if open.is_empty() {
        return Ok(BTreeMap::new());
    }
    let bytes: u64 = open.iter().map(|file| file.stamp.size).sum();
    let Some(shell) = &session.shell else {
        if bytes > READ_FOR_LISTING {
            place.note(format!(
                "{} runs no commands, so {} of its files ({} MiB) have no known hash; they are compared by size, or travel",
                place.host.name(),
                open.len(),
                bytes >> 20
            ));
            return Ok(BTreeMap::new());
        }
        let reading: Vec<_> = open.iter().map(|file| read_one(session, file).boxed()).collect();
        return stream::iter(reading).buffer_unordered(8).try_collect().await;
    };
    place.detail(format!("{} hashes {} files ({} MiB) by itself", place.host.name(), open.len(), bytes >> 20));
    let settled = shell.clock() - i64::from(UNSURE);
    // A single file is listed by its own name, which lies in the folder above.
    let is_file = open.first().is_some_and(|file| file.at == root);
    let folder = if is_file { super::parent(root) } else { root };
    let files: Vec<(String, u64)> = open.iter().map(|file| (file.path.to_string(), file.stamp.size)).collect();
    let hashes = shell.hashes(folder, &files).await?;
    let mut found = BTreeMap::new();
    for file in open {
        let oid = hashes.get(file.path.as_str()).ok_or_else(|| {
            Error::new(Kind::Io, format!("the host cannot read {}", join(folder, file.path.as_str())))
                .hint("look at its permissions, or leave it out with --exclude")
        })?;
        found.insert(file.path.clone(), *oid);
    }
    place.known.learn(
        open.iter()
            .filter(|file| i64::from(file.stamp.modified) < settled)
            .filter_map(|file| Some((file.path.clone(), Some((file.stamp, *found.get(&file.path)?))))),
    );
    Ok(found)
}

async fn read_one(session: &Session, file: &Found) -> Result<(RepoPath, Oid)> {
    Ok((file.path.clone(), read_back(session, &file.at, file.stamp.size).await?))
}

/// Reads a file and hashes it here.
pub(super) async fn read_back(session: &Session, at: &str, bytes: u64) -> Result<Oid> {
    let file = Arc::new(session.sftp.open_read(at).await?);
    let mut prefix = Prefix::default();
    let mut pieces = std::pin::pin!(pieces(file, 0, bytes));
    while let Some(piece) = pieces.try_next().await? {
        prefix.update(&piece);
    }
    Ok(prefix.oid())
}

/// The bytes of a range in order, several requests ahead. A file that ends before is `Changed`.
pub(super) fn pieces(file: Arc<File>, start: u64, end: u64) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let step = u64::from(file.piece());
    let starts = (0..(end - start).div_ceil(step)).map(move |n| start + n * step);
    let read = move |at: u64| {
        let file = file.clone();
        async move {
            let length = u32::try_from((end - at).min(step)).unwrap_or(u32::MAX);
            let piece = file.read(at, length).await?;
            if piece.len() as u64 == u64::from(length) {
                return Ok(piece);
            }
            Err(Error::new(Kind::Changed, "a file on the host became shorter while it was read")
                .hint("run the same command again; make sure that nothing writes there meanwhile"))
        }
    };
    stream::iter(starts).map(read).buffered(AHEAD)
}
