//! The cache of ModelScope's clients: plain files below a folder for each revision, shared with those clients.

pub mod layout;
mod source;
mod target;

use std::path::{Path, PathBuf};

use hubferry_core::address::{RepoId, RepoKind};

use crate::dir::DirOptions;
use layout::Layout;
pub use source::MsCacheSource;
pub use target::MsCacheTarget;

/// A repository in a cache.
#[derive(Clone, Debug)]
pub struct MsCacheRepo {
    layout: Layout,
    kind: RepoKind,
    id: RepoId,
    revision: Option<String>,
    options: DirOptions,
}

impl MsCacheRepo {
    /// `id` at `revision`, in the cache at `cache`. Without a kind it is the one of which something is there, else a model.
    pub fn new(cache: &Path, kind: Option<RepoKind>, id: &RepoId, revision: Option<String>, options: DirOptions) -> Self {
        let there = |kind: &RepoKind| Layout::new(cache, *kind, id).find(revision.as_deref()).is_ok();
        let kind = kind.or_else(|| RepoKind::ALL.into_iter().find(there)).unwrap_or(RepoKind::Model);
        Self { layout: Layout::new(cache, kind, id), kind, id: id.clone(), revision, options }
    }

    /// To read from.
    pub fn source(self) -> MsCacheSource {
        MsCacheSource::new(self)
    }

    /// To write to.
    pub fn target(self) -> MsCacheTarget {
        MsCacheTarget::new(self)
    }

    /// Where its files will lie.
    pub fn place(&self) -> PathBuf {
        self.layout.place(self.revision.as_deref())
    }
}
