//! How each file of a commit gets its name: from where it was staged, from a file that goes away, or as a copy that the host makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, RepoPath};

use super::commit::{Change, Plan};
use super::join;
use super::listing::read_back;
use super::note::new_name;
use super::staging::{READ_BACK, Stage, check};
use super::walk::Stamp;

/// A copy on the host is asked for in pieces of this size, so that no answer takes long.
const COPIED: u64 = 64 << 20;
/// Copies that are made at once.
const COPIES: usize = 4;

/// How a file gets its name.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// From `.hubferry`.
    Staged(Stage),
    /// A file that goes away takes the new name.
    Renamed(String, Stamp),
    /// It is there already.
    Nothing,
}

/// One file to be put in place.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) path: RepoPath,
    pub(super) blob: Blob,
    pub(super) way: Way,
}

/// Decides for one file after the other.
struct Choosing<'a> {
    change: &'a Change<'a>,
    plan: &'a Plan,
    staged: &'a HashMap<Oid, Stage>,
    /// Files that are there, by their content.
    there: BTreeMap<Oid, Vec<&'a RepoPath>>,
    /// What has been given away already.
    used: BTreeSet<String>,
}

/// A way, or where it is to be copied from.
enum Choice {
    Way(Way),
    CopyOf(String),
}

impl Choosing<'_> {
    fn choose(&mut self, path: &RepoPath, blob: &Blob) -> Result<Choice> {
        if let Some(stage) = self.staged.get(&blob.oid) {
            let is_first = self.used.insert(stage.at.clone());
            return Ok(if is_first { Choice::Way(Way::Staged(stage.clone())) } else { Choice::CopyOf(stage.at.clone()) });
        }
        let same: &[&RepoPath] = self.there.get(&blob.oid).map_or(&[], Vec::as_slice);
        if same.contains(&path) {
            return Ok(Choice::Way(Way::Nothing));
        }
        let files = &self.change.head.files;
        // Nothing may stand at the new name, because that could be what another file is copied from; and what has to make room first
        // cannot wait for its new name.
        let going = same.iter().filter_map(|old| Some((*old, files.get(*old)?))).find(|(old, (at, _))| {
            self.plan.deletes.contains(*old) && !self.plan.is_in_the_way(old) && !self.used.contains(at) && !files.contains_key(path)
        });
        if let Some((_, (at, stamp))) = going {
            self.used.insert(at.clone());
            return Ok(Choice::Way(Way::Renamed(at.clone(), *stamp)));
        }
        let from = same.first().and_then(|path| files.get(*path)).map(|(at, _)| Choice::CopyOf(at.clone()));
        from.ok_or_else(|| {
            Error::new(Kind::Conflict, format!("the blob for {path:?} is no longer staged")).hint("run the same command again")
        })
    }
}

impl Change<'_> {
    /// Decides how each file gets its name, and makes copies where several need the same bytes.
    pub(super) async fn ways(&self, plan: &Plan, staged: &HashMap<Oid, Stage>) -> Result<Vec<Step>> {
        let mut there: BTreeMap<Oid, Vec<&RepoPath>> = BTreeMap::new();
        for (path, entry) in &self.head.manifest.entries {
            if let Some(oid) = entry.digests.sha256 {
                there.entry(oid).or_default().push(path);
            }
        }
        let mut choosing = Choosing { change: self, plan, staged, there, used: BTreeSet::new() };
        let (mut steps, mut copies) = (Vec::new(), Vec::new());
        for (path, blob) in &plan.puts {
            match choosing.choose(path, blob)? {
                Choice::Way(way) => steps.push(Step { path: path.clone(), blob: *blob, way }),
                Choice::CopyOf(from) => copies.push(self.copied(path.clone(), *blob, from).boxed()),
            }
        }
        let made: Vec<Step> = stream::iter(copies).buffer_unordered(COPIES).try_collect().await?;
        steps.extend(made);
        Ok(steps)
    }

    async fn copied(&self, path: RepoPath, blob: Blob, from: String) -> Result<Step> {
        let way = Way::Staged(self.copy(&path, blob, &from).await?);
        Ok(Step { path, blob, way })
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
}
