//! A repository on ModelScope as a target.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::address::RepoKind;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::license::Vocabulary;
use hubferry_core::manifest::{Blob, Manifest, Revision};
use hubferry_core::refs::RefTarget;
use hubferry_core::remote::{Body, Commit, Limits, Op, Place, RepoSpec, Staged, Target, Visibility, Wanted, collect};
use serde_json::{Value, json};
use url::Url;

use super::DEFAULT_BRANCH;
use super::fault::Route;
use super::repo::{Repo, visibility, visibility_code};
use super::upload::{self, BATCH, ask, is_inline};

/// The hub refuses more actions in one commit.
const OPS: usize = 2000;
/// Most bytes inside one commit, as the SDK sends them.
const INLINE: u64 = 8 << 20;
/// Blobs sent side by side.
const PARALLEL: usize = 8;
/// Questions about blobs asked side by side.
const QUESTIONS: usize = 4;
/// The hub holds a commit back when there were many.
const ANSWER: Duration = Duration::from_mins(5);

/// A model or dataset on ModelScope.
#[derive(Debug)]
pub struct MsTarget {
    repo: Arc<Repo>,
    branch: String,
    /// What `head` saw last: only what is there can be deleted.
    seen: Mutex<Option<Arc<Manifest>>>,
    /// Where the hub wants blobs that it said are missing.
    addresses: Mutex<HashMap<Blob, Url>>,
    /// Small blobs that go through LFS because the commit is full.
    overflow: Mutex<Overflow>,
}

/// How much the coming commit carries already.
#[derive(Debug, Default)]
struct Overflow {
    inline: HashMap<Oid, bool>,
    bytes: u64,
}

impl MsTarget {
    pub(super) fn new(repo: Arc<Repo>, branch: Option<String>) -> Self {
        let branch = branch.unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
        Self { repo, branch, seen: Mutex::default(), addresses: Mutex::default(), overflow: Mutex::default() }
    }

    pub(super) fn repo(&self) -> &Arc<Repo> {
        &self.repo
    }

    pub(super) fn branch_name(&self) -> &str {
        &self.branch
    }

    async fn kind(&self) -> Result<RepoKind> {
        self.repo.require_kind().await
    }

    /// Whether a blob travels in the commit. Decided once per blob, so that asking again changes nothing.
    fn travels_inline(&self, kind: RepoKind, wanted: &Wanted) -> bool {
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = overflow.inline.get(&wanted.blob.oid) {
            return *known;
        }
        // One commit with a few small files in LFS is better than two commits.
        let cost = wanted.blob.size.saturating_mul(wanted.paths.len() as u64);
        let inline = is_inline(kind, wanted) && (overflow.bytes.saturating_add(cost) <= INLINE || wanted.blob.size == 0);
        if inline {
            overflow.bytes += cost;
        }
        overflow.inline.insert(wanted.blob.oid, inline);
        inline
    }

    /// Takes the address of a blob, so that a failed try asks for it anew.
    async fn address(&self, kind: RepoKind, blob: Blob) -> Result<Option<Url>> {
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).remove(&blob);
        if known.is_some() {
            return Ok(known);
        }
        let wanted = ask(&self.repo.api, kind, &self.repo.id, &[blob]).await?;
        Ok(wanted.into_iter().next().map(|(_, href)| href))
    }

    async fn manifest(&self, kind: RepoKind) -> Result<Arc<Manifest>> {
        let listed = Arc::new(self.repo.list(kind, &self.branch).await?.manifest);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listed));
        Ok(listed)
    }

    /// The head right now, which must be the one the change was planned on. The hub itself does not check that.
    async fn check_parent(&self, kind: RepoKind, parent: Option<&Revision>) -> Result<Arc<Manifest>> {
        let head = self.repo.head_id(kind, &self.branch).await?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = match seen.filter(|seen| head.as_ref().is_none_or(|head| seen.revision == *head)) {
            Some(seen) => seen,
            None => self.manifest(kind).await?,
        };
        let empty = head.is_none() && seen.entries.is_empty();
        if head.as_ref() == parent || (empty && parent.is_none_or(|parent| *parent == seen.revision)) {
            return Ok(seen);
        }
        Err(Error::new(Kind::Conflict, format!("the branch {} of {} moved since this run looked at it", self.branch, self.repo.id))
            .context("head", head.as_ref().map_or("none", Revision::short))
            .hint("run the same command again: what is stored already is not sent again"))
    }

    async fn send_commit(&self, kind: RepoKind, message: &str, actions: &[Value]) -> Result<Option<Revision>> {
        let api = &self.repo.api;
        // A branch name with slashes goes into the path as it stands, as the SDK sends it.
        let url = api.write_url(kind, &self.repo.id, ["commit"].into_iter().chain(self.branch.split('/')))?;
        let body = json!({"commit_message": message, "actions": actions});
        let response = api.send(Route::Commit, api.http.post(url).json(&body).answer_within(ANSWER)).await?;
        let answer = api.open(Route::Commit, response).await.map_err(|error| {
            // An answer that cannot be read says nothing about the commit.
            if error.retry() == Retry::No || error.kind() == Kind::Conflict { error } else { error.ambiguous() }
        })?;
        let id = ["oid", "Oid", "CommitId", "commit_id", "Id"].iter().find_map(|key| answer.data.get(*key)?.as_str());
        Ok(id.and_then(|id| Revision::new(id).ok()))
    }

    /// Notes what the head holds after a commit, so that the next one of the same run need not list it again.
    fn remember(&self, before: &Manifest, ops: &[Op], revision: &Revision) {
        let mut after = Manifest { revision: revision.clone(), entries: before.entries.clone() };
        for op in ops {
            match op.entry() {
                Some(entry) => after.entries.insert(op.path().clone(), entry),
                None => after.entries.remove(op.path()),
            };
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(after));
    }

    async fn was_created(&self) -> Result<bool> {
        Ok(self.repo.find().await?.is_some())
    }
}

fn action(op: &Op) -> Result<Value> {
    let path = op.path();
    Ok(match op {
        Op::Put { staged, .. } => match &staged.place {
            Place::Stored => json!({
                "action": "create", "path": path, "type": "lfs", "size": staged.blob.size, "sha256": staged.blob.oid,
                "content": "", "encoding": "",
            }),
            Place::Inline(bytes) => json!({
                "action": "create", "path": path, "type": "normal", "size": bytes.len(), "sha256": "",
                "content": STANDARD.encode(bytes), "encoding": "base64",
            }),
            _ => return Err(Error::new(Kind::Bug, "a blob is staged in a way that ModelScope does not know").context("path", path)),
        },
        Op::Delete { .. } => json!({
            "action": "delete", "path": path, "type": "normal", "size": 0, "sha256": "", "content": "", "encoding": "",
        }),
        _ => return Err(Error::new(Kind::Bug, "an operation that ModelScope does not know").context("path", path)),
    })
}

#[async_trait]
impl Target for MsTarget {
    fn limits(&self) -> Limits {
        let mut limits = Limits::unlimited();
        limits.ops_per_commit = OPS;
        limits.inline_per_commit = INLINE;
        limits.parallel = PARALLEL;
        limits.compare_and_swap = false;
        limits.commit_time = ANSWER;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let Some((kind, _)) = self.repo.find().await? else { return Ok(None) };
        if self.branch != DEFAULT_BRANCH {
            self.repo.check_branch(kind, &self.branch).await?;
        }
        Ok(Some(Manifest::clone(&*self.manifest(kind).await?)))
    }

    async fn is_open(&self, created: Option<Visibility>) -> Result<bool> {
        let known = match created.or_else(|| self.repo.visibility()) {
            Some(known) => Some(known),
            None => self.repo.require().await.map(|(_, facts)| visibility(&facts))?,
        };
        // Whoever wants to can sign in: what is internal is no secret.
        Ok(known != Some(Visibility::Private))
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        let api = &self.repo.api;
        api.require_token()?;
        let kind = self.repo.kind_or_model();
        let owner = self.repo.id.owner().unwrap_or_default();
        // The hub demands a licence, and the site refuses the display names of the classic SDK.
        let (name, license) = (self.repo.id.name(), Vocabulary::ModelScope.declared(spec.license.as_deref()));
        let code = visibility_code(spec.visibility)?;
        let request = api.http.post(api.url(["api", "v1", kind.plural()])?);
        let request = if kind == RepoKind::Dataset {
            let fields = [("Owner", owner), ("Name", name), ("Visibility", &code.to_string()), ("License", &license)];
            request.multipart(fields.map(|(name, value)| (name.to_owned(), value.to_owned())))
        } else {
            request.json(&json!({"Path": owner, "Name": name, "Visibility": code, "License": license}))
        };
        let Err(error) = api.call(Route::Create, request).await else {
            self.repo.learn_kind(kind);
            return Ok(());
        };
        // Whatever the hub calls it when the name is taken, or when the first answer was lost: what counts is what is there now.
        let unsure = matches!(error.kind(), Kind::Conflict | Kind::Invalid) || error.is_ambiguous();
        if unsure && self.was_created().await? {
            return Ok(());
        }
        if error.is_ambiguous() {
            return Err(
                Error::new(Kind::Unavailable, "the answer to the creation was lost, and there is no repository yet").caused_by(error)
            );
        }
        Err(error)
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        let kind = self.kind().await?;
        let (inline, stored): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(|w| self.travels_inline(kind, w));
        let mut missing: HashSet<Oid> = inline.iter().map(|wanted| wanted.blob.oid).collect();
        if stored.is_empty() {
            return Ok(missing);
        }
        self.repo.api.require_token()?;
        let blobs: Vec<Blob> = stored.iter().map(|wanted| wanted.blob).collect();
        let batches: Vec<Vec<Blob>> = blobs.chunks(BATCH).map(<[Blob]>::to_vec).collect();
        let questions = stream::iter(batches).map(|blobs| async move { ask(&self.repo.api, kind, &self.repo.id, &blobs).await });
        let answers: Vec<_> = questions.buffer_unordered(QUESTIONS).try_collect().await?;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        for (blob, href) in answers.into_iter().flatten() {
            missing.insert(blob.oid);
            addresses.insert(blob, href);
        }
        Ok(missing)
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        let kind = self.kind().await?;
        let blob = wanted.blob;
        if self.travels_inline(kind, wanted) {
            return Ok(Staged::inline(blob, collect(blob.size, body).await?));
        }
        self.repo.api.require_token()?;
        // After a lost answer the hub may have it: then it no longer asks for it.
        if let Some(href) = self.address(kind, blob).await? {
            upload::send(&self.repo.api, blob, href, body).await?;
        }
        Ok(Staged::stored(blob))
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        self.repo.api.require_token()?;
        let kind = self.kind().await?;
        let seen = self.check_parent(kind, change.parent.as_ref()).await?;
        // One deletion of what is not there would refuse the whole commit.
        let is_real = |op: &&Op| !matches!(op, Op::Delete { path } if !seen.entries.contains_key(path));
        let actions: Vec<Value> = change.ops.iter().filter(is_real).map(action).collect::<Result<_>>()?;
        if actions.is_empty() {
            return Ok(seen.revision.clone());
        }
        let made = self.send_commit(kind, &change.message, &actions).await?;
        let inline = |op: &Op| if let Op::Put { staged, .. } = op { staged.inline_len() } else { 0 };
        self.repo.api.http.wire().add_sent(change.ops.iter().map(inline).sum());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.overflow.lock().unwrap_or_else(PoisonError::into_inner) = Overflow::default();
        let revision = match made {
            Some(revision) => revision,
            // The commit took effect; only its id was not told.
            None => self
                .repo
                .head_id(kind, &self.branch)
                .await
                .map_err(Error::ambiguous)?
                .ok_or_else(|| Error::new(Kind::Unavailable, "the commit was taken and the branch shows none").ambiguous())?,
        };
        self.remember(&seen, &change.ops, &revision);
        Ok(revision)
    }

    fn refs(&self) -> Option<&dyn RefTarget> {
        Some(self)
    }
}
