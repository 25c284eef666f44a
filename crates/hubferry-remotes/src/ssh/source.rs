//! A folder, or one file, on a host as a source.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source, check_range};

use super::Place;
use super::listing::{Listing, pieces};
use super::sftp::File;
use super::walk::Stamp;
use crate::listed::{Listed, Lists};

/// A folder on a host, or a single file under its own name.
///
/// Links are followed. What was listed is what is read: a file that looks different by then is `Changed`.
#[derive(Debug)]
pub struct SshSource {
    place: Place,
    listed: Listed<Listing>,
}

impl Lists for Listing {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl SshSource {
    pub(super) fn new(place: Place) -> Self {
        Self { place, listed: Listed::default() }
    }

    fn nothing_there(&self) -> Error {
        Error::not_found(format!("{} does not exist", self.place.label)).hint("check the path; ssh://host/~/path begins in the home folder")
    }

    async fn list(&self) -> Result<Arc<Listing>> {
        let (session, root) = self.place.open().await?;
        let listing = Listing::read(&self.place, &session, &root).await?.ok_or_else(|| self.nothing_there())?;
        Ok(self.listed.keep(listing))
    }

    /// The listing of `at`; a folder has only its present revision.
    async fn listing_at(&self, at: &Revision) -> Result<Arc<Listing>> {
        self.listed.at(at, self.list()).await?.map_err(|_| changed(&self.place.label))
    }
}

fn changed(what: &str) -> Error {
    Error::new(Kind::Changed, format!("{what} changed since it was listed"))
        .hint("run the same command again; make sure that nothing writes there meanwhile")
}

async fn check(file: &File, at: &str, stamp: Stamp) -> Result<()> {
    if Stamp::of(&file.stat().await?)? == stamp { Ok(()) } else { Err(changed(at)) }
}

#[async_trait]
impl Source for SshSource {
    async fn info(&self) -> Result<RepoInfo> {
        let (session, root) = self.place.open().await?;
        session.sftp.stat(&root).await?.map(|_| RepoInfo::default()).ok_or_else(|| self.nothing_there())
    }

    async fn manifest(&self) -> Result<Manifest> {
        Ok(self.list().await?.manifest.clone())
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let listing = self.listing_at(at).await?;
        let (file, stamp) = listing.files.get(path).cloned().ok_or_else(|| {
            Error::not_found(format!("{} has no file {path:?}", self.place.label)).hint("list what is there with `hubferry ls`")
        })?;
        check_range(&range, stamp.size)?;
        let (session, _) = self.place.open().await?;
        let open = session.sftp.open_read(&file).await.map_err(|error| match error.kind() {
            Kind::NotFound => changed(&file),
            _ => error.context("file", &file),
        })?;
        check(&open, &file, stamp).await?;
        let reading = Reading { file: Arc::new(open), at: file, stamp };
        Ok(reading.stream(range))
    }

    fn host(&self) -> Option<String> {
        Some(self.place.host.name())
    }
}

/// An open file that is being read.
#[derive(Clone)]
struct Reading {
    file: Arc<File>,
    at: String,
    stamp: Stamp,
}

impl Reading {
    fn stream(self, range: Range<u64>) -> ByteStream {
        let last = self.clone();
        let pieces = pieces(self.file, range.start, range.end);
        // A write in the middle of the range must not go unnoticed.
        let look = stream::once(async move { check(&last.file, &last.at, last.stamp).await });
        pieces.chain(look.filter_map(|looked| async { looked.err().map(Err) })).boxed()
    }
}
