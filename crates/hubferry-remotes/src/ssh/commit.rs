//! A commit to a folder on a host: everything is checked first, then each file gets its name by one rename.
//!
//! The folder is not atomic. What loaders open first comes last, and deletions after that; a run that dies in between has left whole
//! files only, and the next one goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Op, Place as Where};

use super::listing::Listing;
use super::packet::Attrs;
use super::session::Session;
use super::staging::{Stage, check};
use super::walk::Stamp;
use super::ways::{Step, Way};
use super::{Place, join};
use crate::dir::walk::check_visible;

/// Renames and the like that are on their way at once.
const AT_ONCE: usize = 16;

/// What a path names now; `None` is nothing.
pub(super) type Placed = (RepoPath, Option<(Stamp, Oid)>);

/// What a commit works with.
pub(super) struct Change<'a> {
    pub(super) place: &'a Place,
    pub(super) session: &'a Session,
    pub(super) root: &'a str,
    pub(super) own: &'a str,
    /// What readers see now.
    pub(super) head: &'a Listing,
}

/// The operations of a commit, sorted.
pub(super) struct Plan {
    pub(super) puts: Vec<(RepoPath, Blob)>,
    pub(super) deletes: BTreeSet<RepoPath>,
    /// Folders that the puts need, and the puts themselves.
    folders: BTreeSet<RepoPath>,
    files: BTreeSet<RepoPath>,
}

impl Plan {
    fn new(ops: &[Op]) -> Result<Self> {
        let (mut puts, mut deletes) = (Vec::new(), BTreeSet::new());
        for op in ops {
            check_visible(op.path())?;
            match op {
                Op::Put { path, staged } if staged.place == Where::Stored => puts.push((path.clone(), staged.blob)),
                Op::Delete { path } => drop(deletes.insert(path.clone())),
                other => {
                    return Err(Error::new(Kind::Bug, "a host was given a blob that it does not store").context("path", other.path()));
                }
            }
        }
        let folders = puts.iter().flat_map(|(path, _)| path.parents()).filter_map(|folder| RepoPath::new(folder).ok()).collect();
        let files = puts.iter().map(|(path, _)| path.clone()).collect();
        Ok(Self { puts, deletes, folders, files })
    }

    /// A file where a folder comes, or the other way round: it has to go first.
    pub(super) fn is_in_the_way(&self, path: &RepoPath) -> bool {
        self.folders.contains(path) || path.parents().any(|parent| self.files.contains(parent))
    }
}

impl Change<'_> {
    /// Carries the operations out and says what each file looks like now; `None` is gone.
    pub(super) async fn run(&self, ops: &[Op], staged: &HashMap<Oid, Stage>) -> Result<Vec<Placed>> {
        let plan = Plan::new(ops)?;
        self.check_stages(&plan.puts, staged).await?;
        self.check_folders(&plan).await?;
        let mut steps = self.ways(&plan, staged).await?;
        let (first, last): (Vec<&RepoPath>, Vec<&RepoPath>) = plan.deletes.iter().partition(|path| plan.is_in_the_way(path));
        let moved: BTreeSet<String> =
            steps.iter().filter_map(|step| if let Way::Renamed(at, _) = &step.way { Some(at.clone()) } else { None }).collect();
        for path in first {
            self.delete(path, &moved).await?;
        }
        self.make_folders(&plan.puts).await?;
        steps.sort_by_key(|step| is_opened_first(&step.path));
        let (rest, opened): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| !is_opened_first(&step.path));
        let mut done = self.put(rest).await?;
        done.extend(self.put(opened).await?);
        for path in last {
            self.delete(path, &moved).await?;
        }
        done.extend(plan.deletes.into_iter().map(|path| (path, None)));
        Ok(done)
    }

    /// What was not hashed one by one is hashed now, all at once.
    async fn check_stages(&self, puts: &[(RepoPath, Blob)], staged: &HashMap<Oid, Stage>) -> Result<()> {
        let open: BTreeMap<Oid, &Stage> =
            puts.iter().filter_map(|(_, blob)| Some((blob.oid, staged.get(&blob.oid).filter(|stage| !stage.checked)?))).collect();
        let Some(shell) = self.session.shell.as_ref().filter(|_| !open.is_empty()) else {
            let paths: Vec<String> =
                puts.iter().filter(|(_, blob)| open.contains_key(&blob.oid)).map(|(path, _)| path.to_string()).collect();
            self.place.could_not_verify(&paths);
            return Ok(());
        };
        let name = |stage: &Stage| stage.at.rsplit('/').next().unwrap_or(&stage.at).to_owned();
        let files: Vec<(String, u64)> = open.values().map(|stage| (name(stage), stage.stamp.size)).collect();
        let hashes = shell.hashes(self.own, &files).await?;
        open.iter().try_for_each(|(oid, stage)| check(*oid, hashes.get(&name(stage)).copied()))
    }

    /// Every parent is a folder and no link, or not there yet, or a file that the same commit removes.
    async fn check_folders(&self, plan: &Plan) -> Result<()> {
        let touched = plan.puts.iter().map(|(path, _)| path).chain(&plan.deletes);
        let parents: BTreeSet<&str> = touched.flat_map(RepoPath::parents).collect();
        let looking: Vec<_> = parents.into_iter().map(|parent| self.check_folder(parent.to_owned(), plan).boxed()).collect();
        stream::iter(looking).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        for (path, _) in &plan.puts {
            let folder = format!("{path}/");
            let inside = self.head.files.range::<str, _>((Bound::Included(folder.as_str()), Bound::Unbounded)).map(|(file, _)| file);
            let inside = inside.take_while(|file| file.as_str().starts_with(&folder)).find(|file| !plan.deletes.contains(*file));
            if let Some(inside) = inside {
                return Err(Error::new(Kind::Conflict, format!("{path:?} is a folder with other files in it"))
                    .context("file", inside)
                    .hint("move that folder away, or use `hubferry sync`, which removes what the source does not have"));
            }
        }
        Ok(())
    }

    async fn check_folder(&self, folder: String, plan: &Plan) -> Result<()> {
        let at = join(self.root, &folder);
        match self.session.sftp.lstat(&at).await? {
            Some(attrs) if attrs.is_link() => {
                Err(Error::new(Kind::Denied, format!("{at} on the host is a link: nothing is written or removed behind it"))
                    .hint("replace the link by a folder, or copy into the folder it names"))
            }
            Some(attrs) if !attrs.is_dir() && !plan.deletes.contains(folder.as_str()) => {
                Err(Error::new(Kind::Conflict, format!("{at} on the host is a file where a folder is needed"))
                    .hint("move that file away, or use `hubferry sync`, which removes what the source does not have"))
            }
            _ => Ok(()),
        }
    }

    async fn make_folders(&self, puts: &[(RepoPath, Blob)]) -> Result<()> {
        let folders: BTreeSet<&str> = puts.iter().flat_map(|(path, _)| path.parents()).collect();
        // In order, so that what is above comes before what is below.
        for folder in folders {
            make_folder(self.session, &join(self.root, folder), 0o755).await?;
        }
        Ok(())
    }

    async fn put(&self, steps: Vec<Step>) -> Result<Vec<Placed>> {
        let putting: Vec<_> = steps.into_iter().map(|step| self.put_one(step).boxed()).collect();
        stream::iter(putting).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn put_one(&self, step: Step) -> Result<Placed> {
        let to = join(self.root, step.path.as_str());
        let (from, stamp) = match step.way {
            Way::Staged(stage) => (stage.at, stage.stamp),
            Way::Renamed(at, stamp) => (at, stamp),
            Way::Nothing => {
                let stamp = self.head.files.get(&step.path).map(|(_, stamp)| *stamp);
                return Ok((step.path, stamp.map(|stamp| (stamp, step.blob.oid))));
            }
        };
        if self.session.sftp.lstat(&to).await?.is_some_and(Attrs::is_dir) {
            // Only empty folders are left in it: that was looked at.
            self.remove_folders(&to).await?;
        }
        self.session.sftp.rename_over(&from, &to).await.map_err(|error| error.context("file", &to))?;
        Ok((step.path, Some((stamp, step.blob.oid))))
    }

    /// Removes a file that has not taken another name, and the folders that become empty by that.
    async fn delete(&self, path: &RepoPath, moved: &BTreeSet<String>) -> Result<()> {
        let at = join(self.root, path.as_str());
        if !moved.contains(&at) {
            match self.session.sftp.lstat(&at).await? {
                // A folder of that name was made by the same commit.
                Some(attrs) if attrs.is_dir() => {}
                Some(_) => self.session.sftp.remove(&at).await.map_err(|error| error.context("file", &at))?,
                None => {}
            }
        }
        let parents: Vec<&str> = path.parents().collect();
        for parent in parents.into_iter().rev() {
            if self.session.sftp.rmdir(&join(self.root, parent)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn remove_folders(&self, at: &str) -> Result<()> {
        let mut open = vec![at.to_owned()];
        let mut all = Vec::new();
        while let Some(folder) = open.pop() {
            for (name, attrs) in self.session.sftp.list(&folder).await? {
                if attrs.is_dir() {
                    open.push(join(&folder, &String::from_utf8_lossy(&name)));
                }
            }
            all.push(folder);
        }
        for folder in all.iter().rev() {
            self.session.sftp.rmdir(folder).await.map_err(|error| error.context("folder", folder))?;
        }
        Ok(())
    }
}

/// Makes a folder; one that is there will do.
pub(super) async fn make_folder(session: &Session, at: &str, mode: u32) -> Result<()> {
    let Err(error) = session.sftp.mkdir(at, mode).await else { return Ok(()) };
    match session.sftp.stat(at).await? {
        Some(attrs) if attrs.is_dir() => Ok(()),
        _ => Err(error.context("folder", at)),
    }
}

/// What a loader opens to find the rest.
fn is_opened_first(path: &RepoPath) -> bool {
    path.name().ends_with(".index.json") || matches!(path.name(), "config.json" | "README.md" | "model_index.json")
}
