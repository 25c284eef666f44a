//! Which way each repository is read, and which way was taken in the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_core::remote::Source;

use super::{Fallback, GitConfig, GitSource, GitTool, Via};

/// The choice, and what came of it. Clones share what is noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    via: Via,
    tool: Option<GitTool>,
    by_git: Arc<Mutex<HashSet<String>>>,
}

impl Ways {
    pub(crate) fn new(via: Via, tool: GitTool) -> Self {
        Self { via, tool: Some(tool), by_git: Arc::default() }
    }

    /// The source for `address`, of which `api` is the usual one; `git` makes what reading it by Git needs.
    pub(crate) fn choose(
        &self,
        address: String,
        api: Arc<dyn Source>,
        reporter: &Arc<dyn Reporter>,
        git: impl FnOnce(GitTool) -> Result<GitConfig>,
    ) -> Result<Arc<dyn Source>> {
        match (self.via, &self.tool) {
            (Via::Api, _) | (Via::Auto, None) => Ok(api),
            (Via::Auto, Some(tool)) => {
                let git = GitSource::new(git(tool.clone())?, api.clone());
                Ok(Arc::new(Fallback::new(api, git, self.clone(), address, reporter.clone())))
            }
            (Via::Git, Some(tool)) => {
                self.took_git(&address);
                Ok(Arc::new(GitSource::new(git(tool.clone())?, api)))
            }
            (Via::Git, None) => Err(Error::new(Kind::Bug, "nothing is known of the program `git`")),
        }
    }

    /// Something of `address` came by Git.
    pub(super) fn took_git(&self, address: &str) {
        self.by_git.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned());
    }

    /// Whether anything of `address` came by Git.
    pub(crate) fn is_by_git(&self, address: &str) -> bool {
        self.by_git.lock().unwrap_or_else(PoisonError::into_inner).contains(address)
    }
}
