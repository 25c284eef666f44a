//! One revision of a repository, brought here by Git: which one is meant, where it is, and what it holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hubferry_core::address::RepoKind;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::transfer::journal::MemoryJournal;
use hubferry_core::transfer::retry::RetryPolicy;
use url::Url;

use super::blobs::Blobs;
use super::objects::LargeObjects;
use super::program::Program;
use super::relay::Relay;
use super::tree::manifest;
use super::workshop::Workshop;
use super::{GitConfig, GitPlace};
use crate::http::Credential;
use crate::lfs::{Kept, Lfs, PARALLEL_PARTS};

/// What stands for the commit of a repository that has none yet, as in the listings of the hubs' APIs.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// The name of the fetched revision here.
const HERE: &str = "refs/hubferry/fetched";

/// Which revision is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// What the address names now.
    Named,
    /// This one, which the API has listed.
    Exactly(Revision),
}

/// A revision that is here.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) kind: RepoKind,
    pub(super) manifest: Arc<Manifest>,
    pub(super) blobs: Blobs,
    pub(super) large: LargeObjects,
    /// Kept for its end: the repository is removed after everything above.
    _workshop: Workshop,
}

/// Whether this is the id of a commit, which Git can be asked for by itself.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Brings a revision; `here` are those that need not be brought again.
pub(super) async fn fetch(config: &GitConfig, want: &Want, here: &[Arc<Fetched>]) -> Result<Arc<Fetched>> {
    let folder = config.tool.folder.clone().ok_or_else(|| {
        Error::new(Kind::Unsupported, "reading by Git needs a folder for a while, and there is no cache to make one in")
            .hint("name a place for it with HUBFERRY_CACHE")
    })?;
    let credential = (config.sign_in)().await?;
    let mut told: Option<Error> = None;
    for place in &config.places {
        let folder = folder.clone();
        let made = tokio::task::spawn_blocking(move || Workshop::make(&folder)).await;
        let workshop = made.map_err(|e| Error::new(Kind::Bug, "a folder could not be made").caused_by(e))??;
        let attempt = Attempt { config, place, credential: credential.as_ref(), want, here };
        match attempt.run(workshop).await {
            Ok(fetched) => return Ok(fetched),
            // Hubs answer both ways for what is not there: it may be of another kind.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unauthenticated) => drop(told.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    Err(told.unwrap_or_else(|| Error::new(Kind::Bug, "no place was asked for a repository")))
}

struct Attempt<'a> {
    config: &'a GitConfig,
    place: &'a GitPlace,
    credential: Option<&'a Credential>,
    want: &'a Want,
    here: &'a [Arc<Fetched>],
}

impl Attempt<'_> {
    async fn run(&self, workshop: Workshop) -> Result<Arc<Fetched>> {
        let http = &self.config.http;
        let relay = Relay::start(http.clone(), self.place.url.clone(), self.credential.cloned(), self.place.classifier.clone()).await?;
        workshop.configure(relay.port, &relay.pass)?;
        // The relay notices a silent hub by itself; this is for a program that hangs, and packing takes its time.
        let patience = (http.config().idle_timeout * 4).max(Duration::from_mins(2));
        let program = Program::new(&self.config.tool, workshop.path(), patience);
        let git = Git { program: &program, relay: &relay };
        let (commit, manifest) = match self.bring(&git).await? {
            Brought::Commit(commit) => {
                let listed = manifest(&program, &commit, self.config).await?;
                (Some(commit), listed)
            }
            Brought::Here(fetched) => return Ok(fetched),
            Brought::Empty => (None, Manifest::new(Revision::new(NO_COMMIT)?, [])?),
        };
        tracing::debug!(id = %self.config.id, commit, files = manifest.entries.len(), "fetched by git");
        let large = LargeObjects::new(self.lfs(&relay.base()), &manifest);
        Ok(Arc::new(Fetched {
            kind: self.place.kind,
            manifest: Arc::new(manifest),
            blobs: Blobs::new(program),
            large,
            _workshop: workshop,
        }))
    }

    async fn bring(&self, git: &Git<'_>) -> Result<Brought> {
        let named = match (self.want, self.config.rev.as_deref()) {
            (Want::Exactly(revision), _) if is_commit(revision.as_str()) => Some(revision.as_str()),
            (Want::Named, Some(rev)) if is_commit(rev) => Some(rev),
            _ => None,
        };
        if let Some(commit) = named {
            match git.fetch(commit).await {
                // Some servers give out only what a ref names now.
                Err(error) if error.kind() == Kind::NotFound && matches!(self.want, Want::Exactly(_)) => {}
                fetched => return fetched.map(Brought::Commit),
            }
        }
        let refs = self.refs();
        let patterns: Vec<&str> = refs.iter().map(String::as_str).collect();
        let listed = git.run(&[&["ls-remote", "--quiet", "hub"], &patterns[..]].concat()).await?;
        let Some((name, id)) = choose(&refs, &String::from_utf8_lossy(&listed)) else {
            return if self.config.rev.is_none() { Ok(Brought::Empty) } else { Err(self.no_revision()) };
        };
        if let Some(fetched) = self.here.iter().find(|fetched| fetched.manifest.revision.as_str() == id) {
            return Ok(Brought::Here(fetched.clone()));
        }
        let commit = git.fetch(&name).await?;
        match (self.want, named) {
            (Want::Exactly(revision), Some(_)) if revision.as_str() != commit => Err(Error::new(
                Kind::Changed,
                format!("{} has changed since it was listed, and Git gives only what is there now", self.config.id),
            )),
            _ => Ok(Brought::Commit(commit)),
        }
    }

    /// The refs that may be meant, best first: a branch before a tag of the same name.
    fn refs(&self) -> Vec<String> {
        match self.config.rev.as_deref() {
            None => vec![format!("refs/heads/{}", self.config.default_branch), "HEAD".to_owned()],
            Some(rev) if rev.starts_with("refs/") => vec![rev.to_owned()],
            Some(rev) => vec![format!("refs/heads/{rev}"), format!("refs/tags/{rev}")],
        }
    }

    fn no_revision(&self) -> Error {
        let rev = self.config.rev.as_deref().unwrap_or_default();
        Error::not_found(format!("{} has no branch or tag {rev:?}", self.config.id))
            .hint("name a branch, a tag, or a commit with all of its 40 digits")
    }

    /// The LFS side, where Git LFS looks for it: known from its `docs/api/server-discovery.md`.
    fn lfs(&self, base: &Url) -> Lfs {
        let path = base.path().trim_end_matches('/');
        let dotted = path.rsplit_once('.').is_some_and(|(_, end)| end == "git");
        let mut batch = base.clone();
        batch.set_path(&format!("{path}{}/info/lfs/objects/batch", if dotted { "" } else { ".git" }));
        let retry = RetryPolicy { tries: 3, cap: Duration::from_secs(5), total: Duration::from_mins(2), ..RetryPolicy::default() };
        Lfs {
            http: self.config.http.clone(),
            batch,
            credential: self.credential.cloned(),
            classifier: self.place.classifier.clone(),
            branch: None,
            reporter: self.config.reporter.clone(),
            retry,
            mirrored: self.config.mirrored.clone(),
            parallel_parts: PARALLEL_PARTS,
            kept: Kept::default(),
            journal: Arc::new(MemoryJournal::default()),
        }
    }
}

/// What came of an attempt.
enum Brought {
    Commit(String),
    /// The ref names what was brought before.
    Here(Arc<Fetched>),
    /// There is no commit yet.
    Empty,
}

/// Git, and its way to the hub.
struct Git<'a> {
    program: &'a Program,
    relay: &'a Relay,
}

impl Git<'_> {
    /// What goes wrong at the hub says more than what Git makes of it.
    async fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let ran = self.program.run(args, &|| self.relay.moved()).await;
        ran.map_err(|error| self.relay.take_fault().unwrap_or(error))
    }

    /// Fetches a ref or a commit, and names the commit that came.
    async fn fetch(&self, what: &str) -> Result<String> {
        let refspec = format!("+{what}:{HERE}");
        self.run(&["fetch", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules", "hub", &refspec]).await?;
        let commit = self.run(&["rev-parse", "--verify", "--quiet", &format!("{HERE}^{{commit}}")]).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        if is_commit(&commit) { Ok(commit) } else { Err(Error::invalid("the hub gives something that is no commit")) }
    }
}

/// The best of `refs` in what `ls-remote` printed, with the id it has.
fn choose(refs: &[String], listed: &str) -> Option<(String, String)> {
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).filter(|(id, _)| is_commit(id)).collect();
    refs.iter().find_map(|wanted| lines.iter().find(|(_, name)| name == wanted).map(|(id, name)| ((*name).to_owned(), (*id).to_owned())))
}

impl fmt::Debug for GitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitConfig").field("id", &self.id).field("rev", &self.rev).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_meant_before_a_tag_and_no_other_ref() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let refs = ["refs/heads/v1".to_owned(), "refs/tags/v1".to_owned()];
        let listed = format!("{one}\trefs/tags/v1\n{two}\trefs/heads/v1\n{one}\trefs/x/refs/heads/v1\n");
        assert_eq!(choose(&refs, &listed), Some(("refs/heads/v1".to_owned(), two)));
        assert_eq!(choose(&refs, &format!("{one}\trefs/x/refs/heads/v1\n")), None);
        assert_eq!(choose(&refs, &format!("{one}\trefs/tags/v1\n")), Some(("refs/tags/v1".to_owned(), one)));
        assert_eq!(choose(&refs, "warning: nonsense\n"), None);
    }
}
