//! A revision in the cache as a source.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source};

use super::MsCacheRepo;
use super::layout::{is_of_client, is_unfinished};
use crate::dir::DirSource;

/// Reads the files of one revision. The client keeps no list of what belongs to it, so what is there is taken for everything,
/// unless a download is unfinished.
#[derive(Debug)]
pub struct MsCacheSource {
    repo: MsCacheRepo,
    /// Found at the first call.
    inner: OnceLock<Arc<DirSource>>,
}

impl MsCacheSource {
    pub(super) fn new(repo: MsCacheRepo) -> Self {
        Self { repo, inner: OnceLock::new() }
    }

    fn inner(&self) -> Result<Arc<DirSource>> {
        if let Some(inner) = self.inner.get() {
            return Ok(Arc::clone(inner));
        }
        let at = self.repo.layout.find(self.repo.revision.as_deref())?;
        Ok(Arc::clone(self.inner.get_or_init(|| Arc::new(DirSource::new(at, self.repo.options.clone())))))
    }
}

#[async_trait]
impl Source for MsCacheSource {
    async fn info(&self) -> Result<RepoInfo> {
        self.inner()?;
        Ok(RepoInfo { kind: Some(self.repo.kind), id: Some(self.repo.id.clone()), ..RepoInfo::default() })
    }

    async fn manifest(&self) -> Result<Manifest> {
        let mut manifest = self.inner()?.manifest().await?;
        if let Some(path) = manifest.entries.keys().find(|path| is_unfinished(path)) {
            return Err(Error::new(
                Kind::Conflict,
                format!("{} {} is not whole in the cache: {path:?} is unfinished", self.repo.kind, self.repo.id),
            )
            .hint("wait for the download that runs, or finish it: hubferry copy and the client of ModelScope both go on with it"));
        }
        manifest.entries.retain(|path, _| !is_of_client(path));
        Ok(manifest)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        self.inner()?.read(at, path, range).await
    }
}
