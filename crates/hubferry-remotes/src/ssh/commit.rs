//! A commit to a folder on a host: everything is checked first, then each file gets its name by one rename.
//!
//! The folder is not atomic. What loaders open first comes last, and deletions after that; a run that dies in between has left whole
//! files only, and the next one goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};
use hubferry_core::remote::{Op, Place as Where};

use super::listing::{Listing, read_back};
use super::note::new_name;
use super::packet::Attrs;
use super::session::Session;
use super::staging::{READ_BACK, Stage, check};
use super::walk::Stamp;
use super::{Place, join};
use crate::dir::walk::check_visible;

/// Renames and the like that are on their way at once.
const AT_ONCE: usize = 16;
/// A copy on the host is asked for in pieces of this size, so that no answer takes long.
const COPIED: u64 = 64 << 20;

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

/// How a file gets its name.
#[derive(Clone, Debug)]
enum Way {
    /// From `.hubferry`.
    Staged(Stage),
    /// A file that goes away takes the new name.
    Renamed(String, Stamp),
    /// It is there already.
    Nothing,
}

/// One file to be put in place.
#[derive(Clone, Debug)]
struct Step {
    path: RepoPath,
    blob: Blob,
    way: Way,
}

impl Change<'_> {
    /// Carries the operations out and says what each file looks like now; `None` is gone.
    pub(super) async fn run(&self, ops: &[Op], staged: &HashMap<Oid, Stage>) -> Result<Vec<Placed>> {
        let deletes: BTreeSet<&RepoPath> = ops.iter().filter(|op| op.entry().is_none()).map(Op::path).collect();
        let mut puts = Vec::new();
        for op in ops {
            check_visible(op.path())?;
            if let Op::Put { path, staged } = op {
                if staged.place != Where::Stored {
                    return Err(Error::new(Kind::Bug, "a host was given a blob that it does not store").context("path", path));
                }
                puts.push((path.clone(), staged.blob));
            }
        }
        self.check_stages(&puts, staged).await?;
        self.check_folders(&puts, &deletes).await?;
        let mut steps = self.ways(&puts, &deletes, staged).await?;
        let (first, last): (Vec<&RepoPath>, Vec<&RepoPath>) = deletes.iter().partition(|path| in_the_way(path, &puts));
        let moved: BTreeSet<String> =
            steps.iter().filter_map(|step| if let Way::Renamed(at, _) = &step.way { Some(at.clone()) } else { None }).collect();
        for path in first {
            self.delete(path, &moved).await?;
        }
        self.make_folders(&puts).await?;
        steps.sort_by_key(|step| is_opened_first(&step.path));
        let (rest, opened): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| !is_opened_first(&step.path));
        let mut done = self.put(rest).await?;
        done.extend(self.put(opened).await?);
        for path in last {
            self.delete(path, &moved).await?;
        }
        done.extend(deletes.into_iter().map(|path| (path.clone(), None)));
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
    async fn check_folders(&self, puts: &[(RepoPath, Blob)], deletes: &BTreeSet<&RepoPath>) -> Result<()> {
        let touched = puts.iter().map(|(path, _)| path).chain(deletes.iter().copied());
        let parents: BTreeSet<&str> = touched.flat_map(RepoPath::parents).collect();
        let looking: Vec<_> = parents.into_iter().map(|parent| self.check_folder(parent.to_owned(), deletes).boxed()).collect();
        stream::iter(looking).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        for (path, _) in puts {
            let folder = format!("{path}/");
            let inside = self.head.files.keys().find(|file| file.as_str().starts_with(&folder) && !deletes.contains(file));
            if let Some(inside) = inside {
                return Err(Error::new(Kind::Conflict, format!("{path:?} is a folder with other files in it"))
                    .context("file", inside)
                    .hint("move that folder away, or use `hubferry sync`, which removes what the source does not have"));
            }
        }
        Ok(())
    }

    async fn check_folder(&self, folder: String, deletes: &BTreeSet<&RepoPath>) -> Result<()> {
        let at = join(self.root, &folder);
        match self.session.sftp.lstat(&at).await? {
            Some(attrs) if attrs.is_link() => {
                Err(Error::new(Kind::Denied, format!("{at} on the host is a link: nothing is written or removed behind it"))
                    .hint("replace the link by a folder, or copy into the folder it names"))
            }
            Some(attrs) if !attrs.is_dir() && !deletes.iter().any(|path| path.as_str() == folder) => {
                Err(Error::new(Kind::Conflict, format!("{at} on the host is a file where a folder is needed"))
                    .hint("move that file away, or use `hubferry sync`, which removes what the source does not have"))
            }
            _ => Ok(()),
        }
    }

    /// Decides how each file gets its name, and makes copies where several need the same bytes.
    async fn ways(&self, puts: &[(RepoPath, Blob)], deletes: &BTreeSet<&RepoPath>, staged: &HashMap<Oid, Stage>) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut copies = Vec::new();
        for (path, blob) in puts {
            let there = |path: &RepoPath| self.head.manifest.entries.get(path).and_then(|entry| entry.digests.sha256) == Some(blob.oid);
            let way = match staged.get(&blob.oid) {
                Some(stage) if used.insert(stage.at.clone()) => Some(Way::Staged(stage.clone())),
                Some(stage) => {
                    copies.push((steps.len(), stage.at.clone()));
                    None
                }
                None if there(path) => Some(Way::Nothing),
                None => {
                    let same = || self.head.files.iter().filter(|(path, _)| there(path));
                    // Nothing may stand at the new name, because that could be what somebody else is copied from.
                    let going = same().find(|(old, (at, _))| deletes.contains(old) && !used.contains(at));
                    if let Some((_, (at, stamp))) = going.filter(|_| !self.head.files.contains_key(path)) {
                        used.insert(at.clone());
                        Some(Way::Renamed(at.clone(), *stamp))
                    } else {
                        let (_, (at, _)) = same().next().ok_or_else(|| {
                            Error::new(Kind::Conflict, format!("the blob for {path:?} is no longer staged"))
                                .hint("run the same command again")
                        })?;
                        copies.push((steps.len(), at.clone()));
                        None
                    }
                }
            };
            steps.push(Step { path: path.clone(), blob: *blob, way: way.unwrap_or(Way::Nothing) });
        }
        let making: Vec<_> = copies
            .into_iter()
            .filter_map(|(number, from)| {
                let step: &Step = steps.get(number)?;
                Some(self.numbered_copy(number, step.path.clone(), step.blob, from).boxed())
            })
            .collect();
        let made: Vec<(usize, Stage)> = stream::iter(making).buffer_unordered(4).try_collect().await?;
        for (step, stage) in made {
            if let Some(step) = steps.get_mut(step) {
                step.way = Way::Staged(stage);
            }
        }
        Ok(steps)
    }

    async fn numbered_copy(&self, number: usize, path: RepoPath, blob: Blob, from: String) -> Result<(usize, Stage)> {
        Ok((number, self.copy(&path, blob, &from).await?))
    }

    /// A second file with the same bytes. Not a hard link: editing one file must not change another.
    async fn copy(&self, path: &RepoPath, blob: Blob, from: &str) -> Result<Stage> {
        let to = join(self.own, &new_name(blob.oid));
        let sftp = &self.session.sftp;
        if let Some(shell) = &self.session.shell {
            shell.copy(from, &to, blob.size).await?;
        } else {
            let (source, target) = (sftp.open_read(from).await?, sftp.create(&to).await?);
            for at in (0..blob.size).step_by(usize::try_from(COPIED).unwrap_or(usize::MAX)) {
                let length = COPIED.min(blob.size - at);
                if sftp.has("copy-data") {
                    sftp.copy_data(&source, &target, at, length).await?;
                    continue;
                }
                // Through this machine: slow, and only where a host can do nothing by itself.
                let mut start = at;
                while start < at + length {
                    let piece = source.read(start, u32::try_from(at + length - start).unwrap_or(u32::MAX).min(source.piece())).await?;
                    if piece.is_empty() {
                        return Err(Error::new(Kind::Changed, format!("{from} on the host became shorter while it was copied")));
                    }
                    let (size, room) = (piece.len() as u64, target.room(piece.len()).await?);
                    target.confirmed(target.write(start, piece, room)?).await?;
                    start += size;
                }
            }
        }
        let file = sftp.open_write(&to).await?;
        let seen = Stamp::of(&file.stat().await?)?;
        let stamp = Stamp { modified: seen.modified.saturating_sub(super::known::UNSURE), ..seen };
        file.set_modified(stamp.modified).await?;
        file.sync().await?;
        drop(file);
        if let Some(shell) = &self.session.shell {
            let name = to.rsplit('/').next().unwrap_or(&to).to_owned();
            let hashes = shell.hashes(self.own, &[(name.clone(), blob.size)]).await?;
            check(blob.oid, hashes.get(&name).copied())?;
        } else if blob.size <= READ_BACK {
            check(blob.oid, Some(read_back(self.session, &to, blob.size).await?))?;
        } else {
            self.place.could_not_verify(&[path.to_string()]);
        }
        Ok(Stage { at: to, stamp, checked: true })
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

/// A file where a folder comes, or the other way round: it has to go first.
fn in_the_way(path: &RepoPath, puts: &[(RepoPath, Blob)]) -> bool {
    let below = format!("{path}/");
    puts.iter().any(|(put, _)| put.as_str().starts_with(&below) || path.as_str().starts_with(&format!("{put}/")))
}

/// What a loader opens to find the rest.
fn is_opened_first(path: &RepoPath) -> bool {
    path.name().ends_with(".index.json") || matches!(path.name(), "config.json" | "README.md" | "model_index.json")
}
