//! `cache verify --repair`: what is wrong comes again from the hub, at exactly the commit that it is of.

use std::collections::{BTreeMap, BTreeSet};

use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::error::{Error, Kind};
use hubferry_core::filter::Filter;
use hubferry_core::manifest::RepoPath;
use hubferry_core::ops::{self, VerifyRequest};
use hubferry_remotes::hfcache::layout::{Cache, Commit, Holds, parse_folder_name};

use super::verify::Fault;
use crate::exit::Failure;
use crate::session::{Session, message, mistyped, usage};

/// Files to bring again, by the folder of their repository and their commit.
pub(super) type Broken = BTreeMap<(String, Commit), BTreeSet<RepoPath>>;

/// Where good bytes come from, and where they go.
pub(super) struct Repair<'a> {
    cache: Cache,
    /// Whether symbolic links may be made there.
    links: bool,
    /// The remote that has the same repositories.
    from: &'a str,
    session: &'a Session,
}

impl<'a> Repair<'a> {
    /// Fails at once if `from` is no remote.
    pub(super) fn new(cache: Cache, links: bool, from: &'a str, session: &'a Session) -> Result<Self, Failure> {
        let repair = Self { cache, links, from, session };
        repair.at("models/owner/name")?;
        Ok(repair)
    }

    fn at(&self, name: &str) -> Result<RepoAddress, Failure> {
        if let Address::Repo(at) = self.session.address(&format!("{}:{name}", self.from))? {
            return Ok(at);
        }
        let hint = "write --from hf, or the name of a mirror in the configuration";
        Err(usage(&format!("{:?} is no remote with repositories", self.from), hint))
    }

    /// Brings every file again, and reads it again. Gives what is still wrong, and why.
    pub(super) async fn run(&self, broken: Broken) -> Result<Vec<Fault>, Failure> {
        let mut left = Vec::new();
        for ((folder, commit), paths) in broken {
            match self.one(&folder, &commit, &paths).await {
                Ok(faults) => left.extend(faults),
                // Nobody would answer for the others either.
                Err(failure) if matches!(failure.error.kind(), Kind::Unavailable | Kind::Interrupted) => return Err(failure),
                Err(failure) => left.extend(paths.iter().map(|path| fault(&folder, &commit, path, &failure.error.to_string()))),
            }
        }
        Ok(left)
    }

    async fn one(&self, folder: &str, commit: &Commit, paths: &BTreeSet<RepoPath>) -> Result<Vec<Fault>, Failure> {
        let Some((Holds::Repo(kind), id)) = parse_folder_name(folder) else {
            return Err(Error::new(Kind::Unsupported, "repositories of this kind cannot be brought").into());
        };
        let at = self.at(&format!("{}/{id}@{commit}", kind.plural()))?;
        let address = Address::Repo(at.clone());
        let against = self.session.source(&address, Some(kind))?;
        let (place, target) = self.session.remotes.cache_at(self.cache.root(), self.links, &at, kind).map_err(mistyped)?;
        let request = VerifyRequest {
            place,
            against: Some(against),
            repair: Some(target),
            filter: Filter::default().only(paths.clone()),
            check_weights: false,
            generated: None,
            message: message(&address, None),
        };
        let report = ops::verify_place(&request, &self.session.context).await?;
        let bad = report.repaired.map(|again| again.bad()).unwrap_or_default();
        Ok(bad.iter().map(|path| fault(folder, commit, path, "what is stored does not stay what it is: check the disk")).collect())
    }
}

fn fault(folder: &str, commit: &Commit, path: &RepoPath, why: &str) -> Fault {
    let at = format!("{folder}@{}/{path}", commit.as_str().get(..12).unwrap_or_default());
    Fault { at, word: "not repaired", why: why.to_owned(), of: None }
}
