//! Writing a repository: ask how files are stored, send the large ones, keep the small ones for the one commit.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::address::RepoKind;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Manifest, RepoPath, Revision};
use hubferry_core::refs::RefTarget;
use hubferry_core::remote::{Body, Commit, Drafts, Limits, MemoryBody, RepoSpec, Staged, Target, Visibility, Wanted, collect};
use tokio::sync::OnceCell;

use super::api::{Mode, PREUPLOAD, Repo};
use super::commit::lines;
use super::{DEFAULT_BRANCH, Place, fault};
use crate::lfs::Lfs;

/// The hub's own limit for one file.
const MAX_FILE: u64 = 500_000_000_000;
/// More operations than this take the hub longer than a gateway waits.
const MAX_OPS: usize = 20_000;
/// What one commit may carry inside.
const MAX_INLINE: u64 = 100_000_000;
/// How long the hub works on a request before its gateway gives up.
const GATEWAY: Duration = Duration::from_mins(1);
/// What the hub has named in refusals of more, as users report them.
const COMMITS_PER_HOUR: u32 = 128;
/// Files beyond this are large objects on the hub whatever their name.
const LARGE: u64 = 10_000_000;
/// What all files kept for one commit may take of our memory; beyond it the larger of them go as large objects.
const INLINE_BUDGET: u64 = 32 << 20;
/// Files so small that the commit takes them easier than the storage does: they may take twice the budget.
const TINY: u64 = 1 << 10;

/// A repository to write.
pub struct HfTarget {
    pub(super) place: Arc<Place>,
    pub(super) branch: String,
    /// How each blob of this run is stored, decided once.
    modes: Mutex<HashMap<Oid, (Mode, u64)>>,
    lfs: OnceCell<Lfs>,
}

impl HfTarget {
    pub(super) fn new(place: Arc<Place>) -> Result<Self> {
        let branch = place.rev.clone().unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
        if branch.len() == 40 && branch.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid("a commit cannot be written to, only a branch").hint("leave out @… or name a branch, as in @main"));
        }
        Ok(Self { place, branch, modes: Mutex::default(), lfs: OnceCell::new() })
    }

    async fn lfs(&self, repo: &Repo) -> Result<&Lfs> {
        self.lfs.get_or_try_init(|| async { self.place.api.lfs(repo, Some(&self.branch)) }).await
    }

    fn mode(&self, oid: &Oid) -> Option<Mode> {
        self.modes.lock().unwrap_or_else(PoisonError::into_inner).get(oid).map(|(mode, _)| *mode)
    }

    /// Asks the hub about every path of `wanted` and notes one mode per blob. A blob that is a large object at one path is one
    /// everywhere: pointers are fine at any path.
    async fn decide(&self, repo: &Repo, wanted: &[Wanted]) -> Result<()> {
        let open: Vec<&Wanted> = wanted.iter().filter(|wanted| self.mode(&wanted.blob.oid).is_none()).collect();
        let asked: Vec<(RepoPath, u64)> = open
            .iter()
            .filter(|wanted| wanted.blob.size > 0 && wanted.blob.size <= LARGE)
            .flat_map(|wanted| wanted.paths.iter().map(|path| (path.clone(), wanted.blob.size)))
            .collect();
        let answers: Vec<_> = asked.chunks(PREUPLOAD).map(|chunk| self.ask(repo, chunk)).collect();
        let answers: Vec<HashMap<String, Mode>> = stream::iter(answers).buffered(4).try_collect().await?;
        let answers: HashMap<String, Mode> = answers.into_iter().flatten().collect();
        let said = |wanted: &Wanted, mode: Mode| wanted.paths.iter().any(|path| answers.get(path.as_str()) == Some(&mode));
        let mut small: Vec<&Wanted> = Vec::new();
        let mut modes = self.modes.lock().unwrap_or_else(PoisonError::into_inner);
        for wanted in open {
            let size = wanted.blob.size;
            if size > LARGE || (size > 0 && said(wanted, Mode::Lfs)) {
                modes.insert(wanted.blob.oid, (Mode::Lfs, size));
            } else {
                small.push(wanted);
            }
        }
        // The smallest are kept first: that keeps most files readable as text on the hub.
        small.sort_by_key(|wanted| (!is_card(wanted), wanted.blob.size));
        let mut kept: u64 = modes.values().filter(|(mode, _)| *mode != Mode::Lfs).map(|(_, size)| size).sum();
        for wanted in small {
            let size = wanted.blob.size;
            let budget = if size <= TINY { 2 * INLINE_BUDGET } else { INLINE_BUDGET };
            let fits = is_card(wanted) || kept + size <= budget;
            kept += if fits { size } else { 0 };
            let mode = if said(wanted, Mode::Unsaid) { Mode::Unsaid } else { Mode::Regular };
            modes.insert(wanted.blob.oid, (if fits { mode } else { Mode::Lfs }, size));
        }
        Ok(())
    }

    /// The hub's word on files whose content nobody has seen yet. A hub that insists on a sample says it when there is one.
    async fn ask(&self, repo: &Repo, files: &[(RepoPath, u64)]) -> Result<HashMap<String, Mode>> {
        match self.place.api.preupload(repo, &self.branch, files, &[]).await {
            Err(error) if error.kind() == Kind::Invalid => {
                Ok(files.iter().map(|(path, _)| (path.as_str().to_owned(), Mode::Unsaid)).collect())
            }
            other => other.map_err(|e| self.explain(e)),
        }
    }

    /// Says which branch is not there, and what to do.
    fn explain(&self, error: Error) -> Error {
        if fault::has_code(&error, fault::REVISION) { self.no_branch(&error) } else { error }
    }

    fn no_branch(&self, error: &Error) -> Error {
        Error::not_found(format!("the branch {} does not exist", self.branch))
            .caused_by(error.message().to_owned())
            .hint(format!("create the branch on the hub first, or leave out @{} to write to {DEFAULT_BRANCH}", self.branch))
    }

    /// Keeps a small file for the commit. Its content is seen here for the first time: the hub takes no binary inside a commit.
    async fn keep(&self, repo: &Repo, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let blob = wanted.blob;
        let bytes = collect(blob.size, body).await?;
        let is_text = std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
        if is_text && (self.mode(&blob.oid) != Some(Mode::Unsaid) || self.is_regular(repo, wanted, &bytes).await?) {
            return Ok(Staged::inline(blob, bytes));
        }
        self.modes.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.oid, (Mode::Lfs, blob.size));
        self.lfs(repo).await?.upload(&blob, &MemoryBody(bytes)).await?;
        Ok(Staged::stored(blob))
    }

    async fn is_regular(&self, repo: &Repo, wanted: &Wanted, content: &[u8]) -> Result<bool> {
        let files: Vec<(RepoPath, u64)> = wanted.paths.iter().map(|path| (path.clone(), wanted.blob.size)).collect();
        let mut regular = true;
        for chunk in files.chunks(PREUPLOAD) {
            let modes = self.place.api.preupload(repo, &self.branch, chunk, content).await.map_err(|e| self.explain(e))?;
            regular &= modes.values().all(|mode| *mode == Mode::Regular);
        }
        Ok(regular)
    }

    /// A repository that was asked to be private and can be read by everybody is closed, or the run ends here.
    async fn make_private(&self, repo: &Repo) -> Result<()> {
        let (_, info) = self.place.api.info(repo, None, true).await?;
        if info.visibility() == Some(Visibility::Public) {
            self.place.api.set_private(repo).await?;
            let (_, info) = self.place.api.info(repo, None, true).await?;
            if info.visibility() == Some(Visibility::Public) {
                return Err(Error::new(Kind::Unsupported, format!("the hub made {} public although it was to be private", repo.id))
                    .hint("nothing was written to it; make it private on its page, then run the same command again"));
            }
        }
        Ok(())
    }
}

/// Files that the hub itself reads, and only as text.
fn is_card(wanted: &Wanted) -> bool {
    wanted.paths.iter().any(|path| matches!(path.as_str(), "README.md" | ".gitattributes"))
}

#[async_trait]
impl Target for HfTarget {
    fn limits(&self) -> Limits {
        let mut limits = Limits::unlimited();
        limits.max_file = MAX_FILE;
        limits.ops_per_commit = MAX_OPS;
        limits.parallel = 8;
        limits.inline_per_commit = MAX_INLINE;
        limits.commit_time = GATEWAY;
        limits.commits_per_hour = Some(COMMITS_PER_HOUR);
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let error = match self.place.manifest(Some(&self.branch), true).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(error) if error.kind() == Kind::NotFound => error,
            Err(error) => return Err(error),
        };
        if fault::has_code(&error, fault::REPO) {
            return Ok(None);
        }
        // The repository, or only the branch? A hub that sends no codes is asked for the repository alone.
        match self.place.look(None, true).await {
            Ok((_, info)) if info.revision()?.is_none() => Ok(Some(Manifest::new(Revision::new(super::NO_COMMIT)?, [])?)),
            Ok(_) => Err(self.no_branch(&error)),
            Err(gone) if gone.kind() == Kind::NotFound => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn is_open(&self, created: Option<Visibility>) -> Result<bool> {
        let known = match created.or_else(|| self.place.visibility()) {
            Some(known) => Some(known),
            None => self.place.look(None, true).await?.1.visibility(),
        };
        Ok(known != Some(Visibility::Private))
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        let api = &self.place.api;
        let repo = match self.place.look(None, true).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == Kind::NotFound => self.place.named(self.place.kind.unwrap_or(RepoKind::Model)),
            Err(error) => return Err(error),
        };
        if repo.kind == RepoKind::Space {
            return Err(Error::new(Kind::Unsupported, "a space cannot be created here, only written to")
                .hint(format!("create {} on the hub with the SDK you want, then run the same command again", repo.id)));
        }
        let new = api.create(&repo, spec.visibility).await?;
        *self.place.found.lock().await = Some(repo.clone());
        if new && spec.visibility != Visibility::Public {
            self.make_private(&repo).await?;
        }
        if new && self.branch != DEFAULT_BRANCH && !self.branch.starts_with("refs/") {
            api.create_branch(&repo, &self.branch).await?;
        }
        Ok(())
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let repo = self.place.repo(true).await?;
        self.decide(&repo, wanted).await?;
        let (large, small): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(|wanted| self.mode(&wanted.blob.oid) == Some(Mode::Lfs));
        let mut missing: HashSet<Oid> = small.iter().map(|wanted| wanted.blob.oid).collect();
        let blobs: Vec<Blob> = large.iter().map(|wanted| wanted.blob).collect();
        if !blobs.is_empty() {
            missing.extend(self.lfs(&repo).await?.missing(&blobs).await?);
        }
        Ok(missing)
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let repo = self.place.repo(true).await?;
        let blob = wanted.blob;
        if blob.size > MAX_FILE {
            return Err(Error::invalid(format!("the hub takes no file larger than {MAX_FILE} bytes")).context("size", blob.size));
        }
        if self.mode(&blob.oid).is_none() {
            self.decide(&repo, std::slice::from_ref(wanted)).await?;
        }
        if self.mode(&blob.oid) != Some(Mode::Lfs) {
            return self.keep(&repo, wanted, body).await;
        }
        #[cfg(feature = "xet")]
        if self.place.put_by_xet(&repo, &self.branch, wanted, body).await? {
            return Ok(Staged::stored(blob));
        }
        self.lfs(&repo).await?.upload(&blob, body).await?;
        Ok(Staged::stored(blob))
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let repo = self.place.repo(true).await?;
        let lines = lines(change)?;
        let result = self.place.api.commit(&repo, &self.branch, lines.len, lines.again).await;
        if result.is_ok() {
            self.place.api.http.wire().add_sent(lines.content);
            self.modes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        result.map_err(|e| self.explain(e))
    }

    fn refs(&self) -> Option<&dyn RefTarget> {
        Some(&*self.place)
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        // Pull requests are for the default branch.
        (self.branch == DEFAULT_BRANCH).then_some(self)
    }
}

impl fmt::Debug for HfTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HfTarget").field(&self.place).field(&self.branch).finish()
    }
}
