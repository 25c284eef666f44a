//! Caches among the remotes: folders of this machine that are addressed like hubs.

use std::path::Path;
use std::sync::Arc;

use hubferry_core::address::{RepoAddress, RepoId, RepoKind};
use hubferry_core::error::Result;
use hubferry_core::remote::{Source, Target};

use super::{CacheOf, CacheSettings, RemotePlace, Remotes};
use crate::dir::blocking;
use crate::hfcache::layout::{Cache, Holds, parse_folder_name};
use crate::hfcache::{CacheOptions, HfCacheSource, HfCacheTarget};
use crate::mscache::{MsCacheRepo, layout as mscache};

impl Remotes {
    pub(super) fn cache(&self, name: &str) -> Option<&CacheSettings> {
        self.list.iter().filter(|remote| remote.name == name).find_map(|remote| match &remote.place {
            RemotePlace::Cache(cache) => Some(cache),
            RemotePlace::Hub { .. } => None,
        })
    }

    fn cache_options(&self, settings: &CacheSettings) -> CacheOptions {
        CacheOptions::new(self.dir_options(), settings.no_symlinks.is_none())
    }

    pub(super) fn cache_source(&self, settings: &CacheSettings, repo: &RepoAddress, kind: Option<RepoKind>) -> Arc<dyn Source> {
        if settings.of == CacheOf::ModelScope {
            return Arc::new(MsCacheRepo::new(&settings.root, kind, &repo.id, repo.rev.clone(), self.dir_options()).source());
        }
        let (cache, options) = (Cache::new(&settings.root), self.cache_options(settings));
        Arc::new(HfCacheSource::new(cache, kind, repo.id.clone(), repo.rev.clone(), options))
    }

    pub(super) fn cache_target(&self, settings: &CacheSettings, repo: &RepoAddress, kind: RepoKind) -> Result<Arc<dyn Target>> {
        if settings.of == CacheOf::ModelScope {
            return Ok(Arc::new(MsCacheRepo::new(&settings.root, Some(kind), &repo.id, repo.rev.clone(), self.dir_options()).target()));
        }
        let (cache, options) = (Cache::new(&settings.root), self.cache_options(settings));
        Ok(Arc::new(HfCacheTarget::new(&cache, kind, repo.id.clone(), repo.rev.clone(), options)?))
    }

    /// Opens a repository of the cache in a folder that no configuration names, for reading and for writing. `links` says whether
    /// symbolic links may be made there.
    pub fn cache_at(&self, root: &Path, links: bool, repo: &RepoAddress, kind: RepoKind) -> Result<(Arc<dyn Source>, Arc<dyn Target>)> {
        let no_symlinks = (!links).then(String::new);
        let settings = CacheSettings { of: CacheOf::HuggingFace, root: root.to_path_buf(), root_from: String::new(), no_symlinks };
        Ok((self.cache_source(&settings, repo, Some(kind)), self.cache_target(&settings, repo, kind)?))
    }
}

/// The repositories of an owner that are in a cache, in order.
pub(super) async fn repos(settings: &CacheSettings, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
    let (of, root, owner) = (settings.of, settings.root.clone(), owner.to_owned());
    blocking(move || {
        if of == CacheOf::ModelScope {
            return Ok(mscache::repos(&root, kind, &owner));
        }
        let folders = std::fs::read_dir(root).into_iter().flatten().filter_map(std::result::Result::ok);
        let names = folders.filter_map(|folder| parse_folder_name(folder.file_name().to_str()?));
        let mut found: Vec<RepoId> =
            names.filter(|(holds, id)| *holds == Holds::Repo(kind) && id.owner() == Some(owner.as_str())).map(|(_, id)| id).collect();
        found.sort();
        Ok(found)
    })
    .await
}
