//! Reading a repository by Git: when a hub's API refuses, the same bytes come as one shallow fetch and as Git LFS objects.
//!
//! `fetch` brings one revision with the user's `git` program into a `workshop`, a bare repository that is removed again. The program
//! talks to a `relay` in this process and to nobody else, so it knows no token, and proxies, certificates, redirects and
//! stalls are treated as for every other request. `tree` reads what came, `blobs` serves the files that Git holds itself, and
//! `objects` those that Git LFS holds, straight from the hub. `source` is all of that as a source, `fallback` turns to it when it has to.
//!
//! The text files of a revision come with its pack: leaving them out (`--filter=blob:none`) would cost a request for each.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::Result;
use hubferry_core::events::Reporter;
use url::Url;

use crate::http::{Classifier, Credential, Http, Origin};

mod blobs;
mod fallback;
mod fetch;
mod objects;
mod program;
mod relay;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod ways;
mod workshop;

pub use fallback::Fallback;
pub use source::GitSource;
pub(crate) use ways::Ways;

/// How the repositories of hubs are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Via {
    /// By the API, and by Git where the API refuses.
    #[default]
    Auto,
    /// By the API only.
    Api,
    /// By Git only.
    Git,
}

/// The `git` program, and where it may work.
#[derive(Clone, Debug)]
pub struct GitTool {
    /// Its name or path.
    pub program: PathBuf,
    /// Everything it is told of the environment, such as `PATH`: nothing else of this process's is passed on.
    pub environment: Vec<(String, OsString)>,
    /// The folder below which it gets one of its own for each revision; made when needed. `None` when there is no place for it.
    pub folder: Option<PathBuf>,
}

impl GitTool {
    /// Removes what this process has left there. For the end of a program that was interrupted: what still reads from there fails.
    pub fn tidy(&self) {
        if let Some(folder) = &self.folder {
            workshop::remove_own(folder);
        }
    }
}

/// What a hub makes of a submodule: another repository in the place of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Submodules {
    /// It cannot be copied.
    Refuse,
    /// It is left out of listings.
    LeaveOut,
}

/// Where a repository may be, as one kind.
#[derive(Clone)]
pub(crate) struct GitPlace {
    pub(crate) kind: RepoKind,
    /// The address that Git would be given, without a user.
    pub(crate) url: Url,
    /// How refusals are read.
    pub(crate) classifier: Classifier,
}

/// How Git is told who we are; may have to ask the hub.
pub(crate) type SignIn = Arc<dyn Fn() -> BoxFuture<'static, Result<Option<Credential>>> + Send + Sync>;

/// One repository, and everything that is needed to read it by Git.
#[derive(Clone)]
pub(crate) struct GitConfig {
    pub(crate) id: RepoId,
    /// A branch, tag, commit or full ref name.
    pub(crate) rev: Option<String>,
    /// Where it may be: the first that is there is taken. Never empty.
    pub(crate) places: Vec<GitPlace>,
    /// The branch when `rev` names none.
    pub(crate) default_branch: &'static str,
    pub(crate) submodules: Submodules,
    pub(crate) sign_in: SignIn,
    pub(crate) http: Http,
    pub(crate) reporter: Arc<dyn Reporter>,
    /// For a mirror that passes on answers of the original: see [`crate::lfs::Lfs::mirrored`].
    pub(crate) mirrored: Option<(Origin, Url)>,
    pub(crate) tool: GitTool,
}
