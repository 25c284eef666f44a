//! A folder on a host as a target: blobs are stored beside the files, checked there, then renamed into place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, Commit, Limits, RepoSpec, Staged, Target, Wanted, is_planned_on};

use super::commit::{Change, make_folder};
use super::listing::{Listing, revision};
use super::note::{Note, is_left, is_ours};
use super::session::Session;
use super::staging::{Stage, store};
use super::{Place, join, parent, space};
use crate::dir::walk::{OWN, check_visible};

/// Blobs on their way at once: small ones need several questions each.
const PARALLEL: usize = 32;
/// What nobody has gone on with for this many seconds is removed.
const OLD: u32 = 7 * 24 * 3600;

/// A folder on a host. Nothing is ever written through a link or outside of the folder.
#[derive(Debug)]
pub struct SshTarget {
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    staged: HashMap<Oid, Stage>,
    head: Option<Arc<Listing>>,
    /// Whether `.hubferry` is there.
    own: bool,
}

impl SshTarget {
    pub(super) fn new(place: Place) -> Self {
        Self { place, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn list(&self, session: &Session, root: &str) -> Result<Option<Arc<Listing>>> {
        if session.sftp.stat(root).await?.is_some_and(|attrs| !attrs.is_dir()) {
            return Err(Error::invalid(format!("{root} on the host is not a folder")).hint("name a folder, or one that does not exist"));
        }
        let listing = Listing::read(&self.place, session, root).await?.map(Arc::new);
        self.state().head.clone_from(&listing);
        Ok(listing)
    }

    /// Makes a folder and those above it.
    async fn make(&self, session: &Session, folder: &str) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = folder;
        while !at.is_empty() && session.sftp.stat(at).await?.is_none() {
            missing.push(at);
            at = parent(at);
        }
        for folder in missing.into_iter().rev() {
            make_folder(session, folder, 0o755).await?;
        }
        Ok(())
    }

    /// Our own folder, made when it is not there.
    async fn own(&self, session: &Session, root: &str) -> Result<String> {
        let own = join(root, OWN);
        if self.state().own {
            return Ok(own);
        }
        match session.sftp.lstat(&own).await? {
            Some(attrs) if attrs.is_dir() => {}
            Some(_) => {
                return Err(Error::new(Kind::Denied, format!("{own} on the host is not a folder")).hint("move it away: it is ours"));
            }
            // Another task may be faster.
            None => make_folder(session, &own, 0o700).await?,
        }
        self.state().own = true;
        Ok(own)
    }

    /// Contents that the host has, with the paths of each, where it can bring them to another name by itself.
    fn contents(&self, session: &Session) -> HashMap<Oid, Vec<RepoPath>> {
        let mut contents: HashMap<Oid, Vec<RepoPath>> = HashMap::new();
        let state = self.state();
        if let Some(head) = state.head.as_ref().filter(|_| session.shell.is_some() || session.sftp.has("copy-data")) {
            for (path, entry) in &head.manifest.entries {
                if let Some(oid) = entry.digests.sha256 {
                    contents.entry(oid).or_default().push(path.clone());
                }
            }
        }
        contents
    }

    fn check_parent(&self, head: Option<&Manifest>, parent: Option<&Revision>) -> Result<()> {
        if is_planned_on(parent, head.map(|head| (head.revision.as_str(), head.entries.is_empty()))) {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{} changed since this run looked at it", self.place.label))
            .hint("run the same command again; make sure that nothing else writes there meanwhile"))
    }

    /// Removes what runs that will not come back have left, and our folder when nothing is in it.
    async fn sweep(&self, session: &Session, own: &str) -> Result<()> {
        let mut now = 0;
        let entries = session.sftp.list(own).await?;
        if let Some(shell) = &session.shell {
            now = u32::try_from(shell.clock()).unwrap_or_default();
        }
        for (name, attrs) in entries {
            let name = String::from_utf8_lossy(&name).into_owned();
            let is_old = attrs.modified.is_some_and(|modified| modified.saturating_add(OLD) < now);
            if attrs.is_file() && (is_left(&name) || (is_old && is_ours(&name))) {
                session.sftp.remove(&join(own, &name)).await?;
            }
        }
        self.state().own = false;
        session.sftp.rmdir(own).await
    }
}

#[async_trait]
impl Target for SshTarget {
    fn limits(&self) -> Limits {
        let mut limits = Limits::unlimited();
        limits.parallel = PARALLEL;
        limits.atomic = false;
        limits.compare_and_swap = false;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        let (session, root) = self.place.open().await?;
        Ok(self.list(&session, &root).await?.map(|listing| listing.manifest.clone()))
    }

    async fn create(&self, _: &RepoSpec) -> Result<()> {
        let (session, root) = self.place.open().await?;
        self.make(&session, &root).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        wanted.iter().flat_map(|wanted| &wanted.paths).try_for_each(check_visible)?;
        let (session, root) = self.place.open().await?;
        let contents = self.contents(&session);
        // What stands at the wanted name itself is asked to be replaced: it may be bad in spite of what is known of it.
        let is_there =
            |wanted: &Wanted| contents.get(&wanted.blob.oid).is_some_and(|paths| paths.iter().any(|path| !wanted.paths.contains(path)));
        let mut missing = HashSet::new();
        let mut needed: u64 = 0;
        for wanted in wanted {
            let held = self.state().staged.contains_key(&wanted.blob.oid);
            let copies = wanted.paths.len().max(1) as u64;
            if held || is_there(wanted) {
                continue;
            }
            missing.insert(wanted.blob.oid);
            let begun = Note::of(&self.place.host.config().journal, &self.place.label, wanted.blob.oid).read();
            let begun = begun.map_or(0, |(_, prefix)| prefix.at());
            needed = needed.saturating_add(wanted.blob.size.saturating_mul(copies).saturating_sub(begun));
        }
        space::check(&session, &root, needed).await?;
        Ok(missing)
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        wanted.paths.iter().try_for_each(check_visible)?;
        let (session, root) = self.place.open().await?;
        let own = self.own(&session, &root).await?;
        let stage = store(&self.place, &session, &own, wanted.blob, body).await?;
        self.state().staged.insert(wanted.blob.oid, stage);
        Ok(Staged::stored(wanted.blob))
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        let (session, root) = self.place.open().await?;
        let head = self.list(&session, &root).await?;
        self.check_parent(head.as_ref().map(|head| &head.manifest), change.parent.as_ref())?;
        let head = match head {
            Some(head) => head,
            None => Arc::new(Listing::empty()?),
        };
        let own = self.own(&session, &root).await?;
        let staged = self.state().staged.clone();
        let what = Change { place: &self.place, session: &session, root: &root, own: &own, head: &head };
        let done = match what.run(&change.ops, &staged).await {
            Ok(done) => done,
            Err(error) => {
                // It stays while there is something in it.
                self.state().own = false;
                drop(session.sftp.rmdir(&own).await);
                return Err(error);
            }
        };
        let journal = &self.place.host.config().journal;
        for oid in staged.keys() {
            Note::of(journal, &self.place.label, *oid).forget();
        }
        self.state().staged.clear();
        self.place.known.learn(done.iter().cloned());
        if let Err(error) = self.sweep(&session, &own).await {
            tracing::debug!(%error, "the folder of this remote stays");
        }
        let mut files: BTreeMap<RepoPath, _> = head
            .files
            .iter()
            .map(|(path, (_, stamp))| (path.clone(), (*stamp, head.manifest.entries.get(path).and_then(|entry| entry.digests.sha256))))
            .collect();
        for (path, what) in done {
            match what {
                Some((stamp, oid)) => drop(files.insert(path, (stamp, Some(oid)))),
                None => drop(files.remove(&path)),
            }
        }
        revision(files.iter().map(|(path, (stamp, oid))| (path, *stamp, *oid)))
    }
}
