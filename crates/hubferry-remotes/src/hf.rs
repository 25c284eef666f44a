//! Hugging Face, and every hub that speaks its API, as source and target.
//!
//! `api` makes the calls, `fault` reads refusals, `source` and `target` keep the contract, `commit` writes the one request that
//! makes a change visible, `drafts` gathers what is too large for one, and `refs` are branches, tags and history.

use std::fmt;
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::remote::Visibility;
use hubferry_core::secret::Token;
use hubferry_core::transfer::journal::Journal;
use tokio::sync::Mutex;
use url::Url;

use crate::http::{Credential, Http, Origin};
use crate::scratch::Scratch;

mod account;
mod api;
mod commit;
mod drafts;
mod fault;
mod git;
mod refs;
mod source;
mod target;
#[cfg(test)]
mod tests;
#[cfg(feature = "xet")]
mod xet;

pub use account::Account;
pub use source::HfSource;
pub use target::HfTarget;
#[cfg(feature = "xet")]
pub use xet::{THREADS as XET_THREADS, UPLOAD_MEMORY, Xet};

use api::{Api, Info, Repo};

/// The branch of a repository when an address names none.
const DEFAULT_BRANCH: &str = "main";

/// Stands for the commit of a repository that has none yet.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Which hub, and who we are there.
#[derive(Clone)]
pub struct HfConfig {
    /// The base URL, `https://huggingface.co` or a mirror's.
    pub endpoint: Url,
    /// The token; without one only public repositories can be read.
    pub token: Option<Token>,
    /// How a user of this hub sets the token, before the words "a token": `set HF_TOKEN to`. Hints say it.
    pub set_token: String,
    /// The pool of connections.
    pub http: Http,
    /// Hears of retries and of what the hub wants people to know.
    pub reporter: Arc<dyn Reporter>,
    /// Where uploads that take several runs are noted.
    pub journal: Arc<dyn Journal>,
}

impl fmt::Debug for HfConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = crate::http::safe_url(&self.endpoint);
        f.debug_struct("HfConfig").field("endpoint", &endpoint).field("token", &self.token).finish_non_exhaustive()
    }
}

impl HfConfig {
    fn api(&self) -> Result<Api> {
        Origin::of(&self.endpoint).map_err(|e| e.hint("set HF_ENDPOINT to something like https://huggingface.co"))?;
        let mut endpoint = self.endpoint.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let credential = match &self.token {
            Some(token) => Some(Credential::new(&endpoint)?.bearer(token)?),
            None => None,
        };
        Ok(Api::new(self, endpoint, credential))
    }

    /// Asks the hub whose token this is.
    pub async fn whoami(&self) -> Result<Account> {
        Account::read(&self.api()?.whoami().await?)
    }

    /// Deletes a trial repository.
    pub(crate) async fn delete(&self, scratch: &Scratch) -> Result<()> {
        self.api()?.delete(&Repo { kind: RepoKind::Model, id: scratch.id().clone() }).await
    }

    /// Every repository of a kind that an owner has and our token may see, in order.
    pub async fn repos(&self, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
        self.api()?.repos(kind, owner).await
    }
}

/// One repository on a hub.
#[derive(Clone)]
pub struct HfRemote {
    place: Arc<Place>,
}

/// What source and target share.
struct Place {
    api: Arc<Api>,
    kind: Option<RepoKind>,
    id: RepoId,
    rev: Option<String>,
    /// The repository once it was found: its kind, and its id after a rename.
    found: Mutex<Option<Repo>>,
    /// Who may read it, as the hub said last.
    seen: std::sync::Mutex<Option<Visibility>>,
    #[cfg(feature = "xet")]
    xet: Option<xet::Way>,
}

impl HfRemote {
    /// Names a repository; asks nothing yet. Without a `kind` it is found by asking; `rev` is a branch, tag or commit.
    pub fn new(config: &HfConfig, kind: Option<RepoKind>, id: RepoId, rev: Option<String>) -> Result<Self> {
        let place = Place {
            api: Arc::new(config.api()?),
            kind,
            id,
            rev,
            found: Mutex::default(),
            seen: std::sync::Mutex::default(),
            #[cfg(feature = "xet")]
            xet: None,
        };
        Ok(Self { place: Arc::new(place) })
    }

    /// The same with Xet for large files, where the hub has it. `token` is that of the hub, from which the store's own are had.
    #[cfg(feature = "xet")]
    #[must_use]
    pub fn with_xet(mut self, xet: Option<&Xet>, token: Option<&Token>) -> Self {
        if let Some(place) = Arc::get_mut(&mut self.place) {
            place.xet = xet.map(|xet| xet::Way::new(xet.clone(), token.cloned()));
        }
        self
    }

    /// Reads it.
    pub fn source(&self) -> HfSource {
        HfSource::new(self.place.clone())
    }

    /// Writes it. Only a branch can be written.
    pub fn target(&self) -> Result<HfTarget> {
        HfTarget::new(self.place.clone())
    }
}

impl fmt::Debug for HfRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = crate::http::safe_url(&self.api.endpoint);
        f.debug_struct("Hf")
            .field("endpoint", &endpoint)
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("rev", &self.rev)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// The repository as a kind, when it is not known yet whether it is one.
    fn named(&self, kind: RepoKind) -> Repo {
        Repo { kind, id: self.id.clone() }
    }

    /// Who may read it, as far as somebody has looked.
    fn visibility(&self) -> Option<Visibility> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository and what the hub says of it at `rev`; finds the kind on the first call.
    async fn look(&self, rev: Option<&str>, writes: bool) -> Result<(Repo, Info)> {
        let answer = self.ask(rev, writes).await?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = answer.1.visibility();
        Ok(answer)
    }

    async fn ask(&self, rev: Option<&str>, writes: bool) -> Result<(Repo, Info)> {
        let mut found = self.found.lock().await;
        let known = found.clone().or_else(|| self.kind.map(|kind| self.named(kind)));
        let answer = match known {
            Some(repo) => {
                drop(found);
                let (there, info) = self.api.info(&repo, rev, writes).await?;
                *self.found.lock().await = Some(there.clone());
                return Ok((there, info));
            }
            None => self.probe(rev, writes).await?,
        };
        *found = Some(answer.0.clone());
        Ok(answer)
    }

    /// Asks for every kind at once. The first that is there wins; a gated one is there.
    async fn probe(&self, rev: Option<&str>, writes: bool) -> Result<(Repo, Info)> {
        let asked: Vec<Repo> = RepoKind::ALL.iter().map(|kind| self.named(*kind)).collect();
        let answers = join_all(asked.iter().map(|repo| self.api.info(repo, rev, writes))).await;
        let is_there = |answer: &Result<(Repo, Info)>| match answer {
            Ok(_) => true,
            Err(error) => error.kind() == Kind::Gated || fault::has_code(error, fault::REVISION),
        };
        let there: Vec<String> =
            answers.iter().zip(&asked).filter(|(answer, _)| is_there(answer)).map(|(_, repo)| repo.kind.to_string()).collect();
        if there.len() > 1 {
            let note =
                format!("{} is a {}; the {} is taken, name the kind in the address for another", self.id, there.join(" and a "), there[0]);
            self.api.reporter.event(&Event::Note(note));
        }
        let mut last = None;
        for answer in answers {
            if is_there(&answer) {
                return answer;
            }
            if let Err(error) = answer
                && last.as_ref().is_none_or(|kept: &Error| kept.kind() == Kind::NotFound && error.kind() != Kind::NotFound)
            {
                last = Some(error);
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Kind::Bug, "no kind of repository was asked for")))
    }

    /// The repository, found now if it was not before.
    async fn repo(&self, writes: bool) -> Result<Repo> {
        if let Some(repo) = self.found.lock().await.clone() {
            return Ok(repo);
        }
        match self.kind {
            Some(kind) => Ok(self.named(kind)),
            None => Ok(self.look(None, writes).await?.0),
        }
    }

    /// The whole listing at `rev`.
    async fn manifest(&self, rev: Option<&str>, writes: bool) -> Result<Manifest> {
        let (repo, info) = self.look(rev, writes).await?;
        self.manifest_of(&repo, &info, writes).await
    }

    /// The whole listing of the commit that `info` names.
    async fn manifest_of(&self, repo: &Repo, info: &Info, writes: bool) -> Result<Manifest> {
        let Some(revision) = info.revision()?.filter(|revision| revision.as_str() != NO_COMMIT) else {
            return Manifest::new(Revision::new(NO_COMMIT)?, []);
        };
        let files = self.api.tree(repo, &revision, writes).await?;
        Manifest::new(revision, files)
    }
}
