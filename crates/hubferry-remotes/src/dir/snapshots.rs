//! A destination that is switched as a whole: `DST` is a link to a snapshot in `DST.snapshots`, and a commit builds the next snapshot
//! beside it and replaces the link by one rename. Whoever follows the link once sees one revision, whatever happens meanwhile.
//!
//! In `DST.snapshots` every snapshot of ours has a mark: `.new-<name>` until the link leads there, `.made-<name>` from then on. Nothing without
//! one is ever removed. The next snapshot grows in the folder of its run, so that what a killed run built goes the way of everything else
//! that it left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use hubferry_core::digest::{Digests, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::facts::{FactList, Facts};
use hubferry_core::manifest::{Blob, Manifest, RepoPath};
use hubferry_core::remote::{Op, Place};

use super::files::{Stamp, look, remove_file, sync_folder};
use super::gate::Gate;
use super::leftovers::remove_run;
use super::run::Run;
use super::source::Listing;
use super::walk::check_visible;
use super::{DirOptions, join, stamping};
use crate::linking::{self, HardLinks, Way};

/// Behind the name of the destination.
const FOLDER: &str = ".snapshots";
/// In front of the name of a snapshot: the mark that it is ours.
const MADE: &str = ".made-";
/// The same as long as no reader has seen it.
const NEW: &str = ".new-";
/// In front of the name of a snapshot that is being removed.
const OLD: &str = ".old-";

/// The snapshots of one destination.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    /// What readers follow.
    link: PathBuf,
    name: String,
    /// Where snapshots lie.
    folder: PathBuf,
    /// How many are kept, the present one included.
    most: usize,
}

impl Snapshots {
    /// Of a destination; fails where its name can have none beside it.
    pub(super) fn of(link: &Path, keep: usize) -> Result<Self> {
        // Without a slash at its end: a rename onto `link/` is not one onto `link`.
        let link: PathBuf = link.components().collect();
        let Some(name) = link.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return Err(Error::invalid(format!("{} cannot be switched as a whole: it has no name of its own", link.display()))
                .hint("name a folder inside of another, such as ./models/current"));
        };
        let folder = link.with_file_name(format!("{name}{FOLDER}"));
        Ok(Self { link, name, folder, most: keep.max(1) })
    }

    pub(super) fn link(&self) -> &Path {
        &self.link
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The snapshot that readers see; `None` before the first. What is there and was not made by us is refused.
    pub(super) fn current(&self) -> Result<Option<String>> {
        let Some(data) = look(&self.link)? else { return Ok(None) };
        if data.is_symlink() {
            let to = std::fs::read_link(&self.link).map_err(|error| Error::io("read", &self.link, error))?;
            if let Some(name) = self.snapshot_at(&to) {
                return Ok(Some(name));
            }
            return Err(Error::invalid(format!("{} is a link to {}, which no run with --atomic made", self.link.display(), to.display()))
                .hint("name a destination that does not exist yet, or remove the link"));
        }
        Err(Error::invalid(format!("{} is not a link, so it cannot be switched as a whole", self.link.display())).hint(format!(
            "name a destination that does not exist yet; to keep what is there, copy it: hubferry copy {} NEW --atomic",
            self.link.display()
        )))
    }

    /// The name of one of our snapshots, when that is where a link leads.
    fn snapshot_at(&self, to: &Path) -> Option<String> {
        let name = to.file_name()?.to_str()?;
        let is_here = to.parent()? == Path::new(&format!("{}{FOLDER}", self.name));
        // A run may have been killed right after it set the link.
        let is_ours = [MADE, NEW].iter().any(|kind| self.mark(kind, name).is_file());
        (is_here && is_ours).then(|| name.to_owned())
    }

    fn mark(&self, kind: &str, name: &str) -> PathBuf {
        self.folder.join(format!("{kind}{name}"))
    }

    /// Ends what a killed run began: a snapshot that the link leads to is made, one that nobody ever saw goes.
    fn settle(&self) -> Result<()> {
        let current = self.current()?;
        for name in names(&self.folder).iter().filter_map(|name| name.strip_prefix(NEW)) {
            if current.as_deref() == Some(name) {
                self.keep(name)?;
            } else {
                remove_run(&self.folder.join(name))?;
                remove_file(&self.mark(NEW, name))?;
            }
        }
        Ok(())
    }

    fn keep(&self, name: &str) -> Result<()> {
        let mark = self.mark(NEW, name);
        std::fs::rename(&mark, self.mark(MADE, name)).map_err(|error| Error::io("rename", &mark, error))?;
        sync_folder(&self.folder)
    }

    /// Makes the finished `tree` the snapshot that readers see. Its files and folders are durable.
    fn switch(&self, tree: &Path, content: &str, run: &Run) -> Result<String> {
        let name = self.new_name(content)?;
        // First the mark, so that what a crash leaves is known to be ours.
        let mark = self.mark(NEW, &name);
        File::create_new(&mark).and_then(|file| file.sync_all()).map_err(|error| Error::io("create", &mark, error))?;
        let at = self.folder.join(&name);
        std::fs::rename(tree, &at).map_err(|error| Error::io("rename", tree, error))?;
        sync_folder(&self.folder)?;
        let fresh = run.folder().join("link");
        remove_file(&fresh)?;
        make_link(&Path::new(&format!("{}{FOLDER}", self.name)).join(&name), &fresh)?;
        // Somebody may have put something there meanwhile, which a rename would replace if it is a file.
        self.current()?;
        std::fs::rename(&fresh, &self.link).map_err(|error| Error::io("switch", &self.link, error))?;
        sync_folder(self.link.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        self.keep(&name)?;
        Ok(name)
    }

    /// Names sort by age: the time is fine enough for several within a second, and never before that of a snapshot that is there,
    /// whatever the clock says.
    fn new_name(&self, content: &str) -> Result<String> {
        let before = names(&self.folder).iter().filter_map(|name| name.strip_prefix(MADE)).filter_map(time_of).max();
        let after = before.and_then(|before| before.checked_add(jiff::SignedDuration::from_micros(1)).ok());
        let time = after.into_iter().chain([jiff::Timestamp::now()]).max().unwrap_or_default();
        let name = format!("{}-{content}", time.strftime("%Y%m%dT%H%M%S.%6fZ"));
        if look(&self.folder.join(&name))?.is_none() {
            return Ok(name);
        }
        Err(Error::new(Kind::Conflict, format!("{} is there already", self.folder.join(&name).display()))
            .hint("run the same command again"))
    }

    /// Removes what is older than those that are kept. Only what has our mark, never `current`. Best effort.
    fn prune(&self, current: &str) {
        let made: BTreeSet<String> = names(&self.folder).into_iter().filter_map(|name| Some(name.strip_prefix(MADE)?.to_owned())).collect();
        let mut left = self.most.saturating_sub(1);
        for name in made.iter().rev().filter(|name| *name != current) {
            if self.folder.join(name).is_dir() && left > 0 {
                left -= 1;
                continue;
            }
            // Under another name first: nobody shall find half of it.
            let old = self.folder.join(format!("{OLD}{name}"));
            drop(std::fs::rename(self.folder.join(name), &old));
            let gone = remove_run(&old).and_then(|()| remove_file(&self.mark(MADE, name)));
            if let Err(error) = gone {
                tracing::warn!(snapshot = %old.display(), %error, "cannot remove an old snapshot");
            }
        }
    }
}

/// Refuses to write into a snapshot that a link stands for: its files may be those of others, too.
pub(super) fn refuse_inside(root: &Path) -> Result<()> {
    let root: PathBuf = root.components().collect();
    let Ok(to) = std::fs::read_link(&root) else { return Ok(()) };
    if Snapshots::of(&root, 1).is_ok_and(|snapshots| snapshots.snapshot_at(&to).is_some()) {
        return Err(Error::invalid(format!("{} is switched as a whole: nothing is written into its snapshots", root.display()))
            .hint("add --atomic to the copy"));
    }
    Ok(())
}

/// When a snapshot of ours was made, by its name.
fn time_of(name: &str) -> Option<jiff::Timestamp> {
    name.split_once('-')?.0.parse().ok()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(unix)]
fn make_link(to: &Path, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).map_err(|error| {
        Error::io("make a link at", at, error).hint("this file system has no symbolic links: leave out --atomic, or use another one")
    })
}

#[cfg(not(unix))]
fn make_link(_: &Path, _: &Path) -> Result<()> {
    Err(Error::new(Kind::Unsupported, "destinations are switched as a whole only where renames replace links").hint("leave out --atomic"))
}

/// The next snapshot, while it grows.
pub(super) struct Build<'a> {
    pub(super) snapshots: &'a Snapshots,
    pub(super) run: &'a Run,
    pub(super) options: &'a DirOptions,
    /// What readers see now.
    pub(super) before: Option<&'a Listing>,
    /// What they will see.
    pub(super) after: &'a Manifest,
    pub(super) ops: &'a [Op],
    /// Of files that are new.
    pub(super) facts: &'a FactList,
}

impl Build<'_> {
    /// Builds the snapshot and switches to it. Whoever holds the gate does that.
    pub(super) fn run(&self, _: &Gate) -> Result<()> {
        self.snapshots.settle()?;
        let tree = self.run.folder().join("tree");
        remove_run(&tree)?;
        let puts = self.puts()?;
        let mut uses: HashMap<Oid, usize> = HashMap::new();
        for blob in puts.values() {
            *uses.entry(blob.oid).or_default() += 1;
        }
        let mut folders = BTreeSet::from([tree.clone()]);
        create(&tree)?;
        let mut linked: Vec<(&RepoPath, Stamp)> = Vec::new();
        let held = self.before.map(Listing::facts).unwrap_or_default();
        for path in self.after.entries.keys() {
            let to = join(&tree, path);
            for parent in path.parents() {
                let folder = tree.join(parent);
                if folders.insert(folder.clone()) {
                    create(&folder)?;
                }
            }
            if let Some(blob) = puts.get(path) {
                self.put(*blob, &to, &mut uses)?;
                stamp(&to, self.facts.get(path))?;
            } else if let Some(stamp) = self.keep(path, &to, &held)? {
                linked.push((path, stamp));
            }
        }
        // The deepest first.
        folders.iter().rev().try_for_each(|folder| sync_folder(folder))?;
        self.run.check()?;
        let current = self.snapshots.switch(&tree, self.after.revision.short(), self.run)?;
        self.snapshots.prune(&current);
        self.remember(&linked);
        Ok(())
    }

    /// What is put.
    fn puts(&self) -> Result<BTreeMap<&RepoPath, Blob>> {
        let mut puts = BTreeMap::new();
        for op in self.ops {
            check_visible(op.path())?;
            match op {
                Op::Put { path, staged } if staged.place == Place::Stored => {
                    if !self.run.holds(&staged.blob)? {
                        return Err(Error::new(Kind::Conflict, format!("the blob for {path:?} is no longer staged"))
                            .hint("another run into the same folder has used it: run the same command again"));
                    }
                    puts.insert(path, staged.blob);
                }
                Op::Delete { .. } => {}
                other => {
                    return Err(Error::new(Kind::Bug, "a folder was given a blob that it does not store").context("path", other.path()));
                }
            }
        }
        Ok(puts)
    }

    fn put(&self, blob: Blob, to: &Path, uses: &mut HashMap<Oid, usize>) -> Result<()> {
        let staged = self.run.place(blob.oid);
        let left = uses.entry(blob.oid).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            return std::fs::rename(&staged, to).map_err(|error| Error::io("rename", &staged, error));
        }
        // Not a hard link: editing one file must not change another.
        linking::place(&*self.options.linker, &staged, to, HardLinks::Forbidden)?;
        sync_file(to)
    }

    /// Takes a file that does not change into the new snapshot. When it is the same file, tells what it looked like before.
    fn keep(&self, path: &RepoPath, to: &Path, held: &FactList) -> Result<Option<Stamp>> {
        let file = self.before.and_then(|listing| listing.file(path));
        let file = file.ok_or_else(|| Error::new(Kind::Bug, "a file that stays was not listed").context("path", path))?;
        let unchanged = look(&file.at)?.is_some_and(|data| Stamp::of(&data) == file.stamp);
        // One snapshot is not edited through another: both belong to us.
        if linking::place(&*self.options.linker, &file.at, to, HardLinks::Allowed)? == Way::Linked {
            return Ok(unchanged.then_some(file.stamp));
        }
        stamp(to, held.get(path))?;
        sync_file(to)?;
        Ok(None)
    }

    /// A link more or less changes what a file looks like, not what is in it.
    fn remember(&self, linked: &[(&RepoPath, Stamp)]) {
        let known = linked.iter().filter_map(|(path, stamp)| {
            let now = Stamp::of(&std::fs::symlink_metadata(join(self.snapshots.link(), path)).ok()?);
            let digests: Digests = self.after.entries.get(*path)?.digests;
            (now.same_content(stamp) && digests.sha256.is_some()).then_some((now, digests))
        });
        self.options.cache.insert_own(known.collect::<Vec<_>>());
    }
}

fn stamp(at: &Path, facts: Option<&Facts>) -> Result<()> {
    let Some(facts) = facts else { return Ok(()) };
    let open = File::open(at).map_err(|error| Error::io("open", at, error))?;
    if let Err(error) = stamping::set(&open, facts) {
        tracing::warn!(file = %at.display(), %error, "cannot set its time or mode");
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).map_err(|error| Error::io("create", folder, error))
}

fn sync_file(at: &Path) -> Result<()> {
    File::open(at).and_then(|file| file.sync_all()).map_err(|error| Error::io("write", at, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_a_run_left_between_snapshot_and_link_is_settled() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::of(&root.path().join("live/"), 1).unwrap();
        let folder = root.path().join("live.snapshots");
        for name in ["seen", "unseen", "foreign"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join(".new-unseen"), b"").unwrap();
        snapshots.settle().unwrap();
        assert_eq!(names(&folder).into_iter().collect::<BTreeSet<_>>(), ["foreign", "seen"].map(str::to_owned).into());
        // The link was set, and the mark was not.
        std::fs::write(folder.join(".new-seen"), b"").unwrap();
        make_link(Path::new("live.snapshots/seen"), &root.path().join("live")).unwrap();
        assert_eq!(snapshots.current().unwrap().as_deref(), Some("seen"));
        snapshots.settle().unwrap();
        assert!(folder.join(".made-seen").is_file() && folder.join("seen").is_dir());
        // A name that only looks like one of ours.
        std::fs::remove_file(root.path().join("live")).unwrap();
        make_link(Path::new("live.snapshots/foreign"), &root.path().join("live")).unwrap();
        assert!(snapshots.current().is_err());
        snapshots.prune("seen");
        assert!(folder.join("foreign").is_dir());
    }

    #[test]
    fn names_sort_by_age_within_a_second_and_when_the_clock_goes_back() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::of(&root.path().join("live"), 1).unwrap();
        let folder = root.path().join("live.snapshots");
        std::fs::create_dir_all(&folder).unwrap();
        let mut made = vec!["99991230T000000.000000Z-f".to_owned()];
        std::fs::write(folder.join(format!(".made-{}", made[0])), b"").unwrap();
        for content in ["e", "d", "c"] {
            made.push(snapshots.new_name(content).unwrap());
            std::fs::write(folder.join(format!(".made-{}", made.last().unwrap())), b"").unwrap();
        }
        assert!(made.is_sorted() && made[3].ends_with("000003Z-c"), "{made:?}");
    }
}
