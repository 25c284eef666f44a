//! How blobs get into the folder of a run: small ones through memory, large ones through a file that survives a crash. Named by
//! oid once they are whole and their hash was checked.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Body, collect};

use super::blocking;
use super::durable::sync_some;
use super::files::remove_file;
use super::hashing::LARGEST_GIT;
use super::partial::DiskPartial;
use super::run::Run;

/// Blobs up to this size pass through memory and are written at once.
const SMALL: u64 = 128 << 10;
/// Blobs up to this size get their name before they are durable and are made so in groups: waiting for the disk once per file is most
/// of the cost of a small one. Whoever finds them after a crash of the machine hashes them first.
pub(super) const LAZY: u64 = LARGEST_GIT;

/// One unfinished blob, told from other attempts at the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stem {
    pub(super) oid: Oid,
    random: u64,
}

impl Stem {
    /// Of a new file.
    pub(super) fn new(oid: Oid) -> Self {
        Self { oid, random: fastrand::u64(..) }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.oid, self.random)
    }
}

/// A file in the folder of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    /// A whole blob.
    Whole(Oid),
    /// A blob that was whole before the machine crashed.
    Unsure(Oid),
    /// Some bytes of a blob.
    Part(Stem),
    /// The same, of a run that might still write to it: only to be copied from.
    Old(Stem),
    /// What is known of those bytes.
    Journal(Stem),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(oid) => write!(f, "{oid}"),
            Self::Unsure(oid) => write!(f, "{oid}.unsure"),
            Self::Part(stem) => write!(f, "{stem}.part"),
            Self::Old(stem) => write!(f, "{stem}.old"),
            Self::Journal(stem) => write!(f, "{stem}.journal"),
        }
    }
}

impl Name {
    /// What a file is; `None` for what is none of these.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let oid: Oid = parts.next()?.parse().ok()?;
        let made = match (parts.next(), parts.next()) {
            (None, _) => Self::Whole(oid),
            (Some("unsure"), None) => Self::Unsure(oid),
            (Some(random), Some(kind)) => {
                let stem = Stem { oid, random: u64::from_str_radix(random, 16).ok()? };
                match kind {
                    "part" => Self::Part(stem),
                    "old" => Self::Old(stem),
                    "journal" => Self::Journal(stem),
                    _ => return None,
                }
            }
            _ => return None,
        };
        // Only the one way in which we write it.
        (made.to_string() == name).then_some(made)
    }
}

/// Pulls a blob into the folder of `run`. Also computes the Git id of a small one.
pub(crate) async fn store(run: &Arc<Run>, blob: Blob, body: &dyn Body) -> Result<Option<GitOid>> {
    let git = if blob.size <= SMALL {
        let bytes = collect(blob.size, body).await?;
        let writer = Arc::clone(run);
        blocking(move || write_small(&writer, &blob, &bytes)).await?
    } else {
        let partial = Arc::new(DiskPartial::open(run, blob).await?);
        match body.fill(blob.size, partial.clone()).await {
            Ok(()) => partial.finish().await?,
            Err(error) => {
                partial.give_up(error.kind() == Kind::Corrupt).await;
                return Err(error);
            }
        }
    };
    sync_some(run);
    Ok(git)
}

fn write_small(run: &Run, blob: &Blob, bytes: &Bytes) -> Result<Option<GitOid>> {
    let at = run.place(blob.oid);
    if let Err(error) = write_new(&at, bytes) {
        drop(std::fs::remove_file(&at));
        return Err(error);
    }
    run.stored(blob, true);
    Ok(Some(GitOid::of(bytes)))
}

fn write_new(at: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = match File::create_new(at) {
        // An earlier try left it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            remove_file(at)?;
            File::create_new(at)
        }
        made => made,
    }
    .map_err(|error| Error::io("create", at, error))?;
    file.write_all(bytes).map_err(|error| Error::io("write", at, error))
}
