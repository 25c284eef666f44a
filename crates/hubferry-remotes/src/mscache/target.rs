//! A revision in the cache as a target.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::remote::{Body, Commit, Limits, RepoSpec, Staged, Target, Wanted};

use super::MsCacheRepo;
use super::layout::is_of_client;
use crate::dir::DirTarget;

/// Writes the files of one revision.
///
/// A revision that is not there yet is put together beside the others and becomes visible as a whole: the client takes
/// whatever it finds for complete. One that is there changes file by file.
#[derive(Debug)]
pub struct MsCacheTarget {
    repo: MsCacheRepo,
    inner: Mutex<Option<Inner>>,
}

#[derive(Clone, Debug)]
struct Inner {
    target: Arc<DirTarget>,
    /// Where it is put together, and where it goes then; `None` when it is there already.
    arrives: Option<(PathBuf, PathBuf)>,
}

impl MsCacheTarget {
    pub(super) fn new(repo: MsCacheRepo) -> Self {
        Self { repo, inner: Mutex::new(None) }
    }

    /// Chosen anew by every `head`: after a conflict somebody else has made the revision.
    fn choose(&self) -> Inner {
        let place = self.repo.place();
        let arrives = (!place.exists()).then(|| (self.repo.layout.incoming(self.repo.revision.as_deref()), place.clone()));
        let root = arrives.as_ref().map_or(place, |(incoming, _)| incoming.clone());
        let inner = Inner { target: Arc::new(DirTarget::new(root, self.repo.options.clone())), arrives };
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Some(inner.clone());
        inner
    }

    fn inner(&self) -> Inner {
        let chosen = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        chosen.unwrap_or_else(|| self.choose())
    }
}

#[async_trait]
impl Target for MsCacheTarget {
    fn limits(&self) -> Limits {
        self.inner().target.limits()
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let mut head = self.choose().target.head().await?;
        if let (Some(incoming), Some((from, to))) = (&head, &self.inner().arrives)
            && !incoming.entries.is_empty()
        {
            // A run was killed between its commit and the last step.
            show(from, to)?;
            head = self.choose().target.head().await?;
        }
        if let Some(head) = &mut head {
            // Not ours to judge or to delete.
            head.entries.retain(|path, _| !is_of_client(path));
        }
        Ok(head)
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.inner().target.create(spec).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<hubferry_core::digest::Oid>> {
        if let Some(path) = wanted.iter().flat_map(|wanted| &wanted.paths).find(|path| is_of_client(path)) {
            return Err(Error::new(Kind::Unsupported, format!("the cache cannot hold {path:?}: that name belongs to the client"))
                .hint(format!("leave it out with --exclude '/{path}'")));
        }
        self.inner().target.missing(wanted).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        self.inner().target.put(wanted, body).await
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let inner = self.inner();
        let revision = inner.target.commit(change).await?;
        if let Some((incoming, place)) = &inner.arrives {
            show(incoming, place)?;
            *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(revision)
    }
}

/// Gives a finished revision its name.
fn show(incoming: &Path, place: &Path) -> Result<()> {
    let above = place.parent().unwrap_or(place);
    std::fs::create_dir_all(above).map_err(|error| Error::io("create", above, error))?;
    match std::fs::rename(incoming, place) {
        Ok(()) => {}
        // Another run has shown it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.exists() => {}
        Err(error) if place.exists() => {
            return Err(Error::new(Kind::Conflict, format!("{} was made by somebody else meanwhile", place.display()))
                .caused_by(error)
                .hint("run the same command again"));
        }
        Err(error) => return Err(Error::io("rename", incoming, error)),
    }
    // Succeeds only when nothing else is on its way there.
    if let Some(own) = incoming.parent() {
        drop(std::fs::remove_dir(own));
    }
    Ok(())
}
