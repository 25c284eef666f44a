//! Two manifests, the facts of the target and a policy become steps with reasons. Pure: no I/O, no clock, the same plan for the
//! same input.

pub mod file;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use crate::remote::Limits;

/// What the user wants beyond "bring over what is missing or different".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Delete what the source does not have.
    pub delete: bool,
    /// Delete also what the filters leave out.
    pub delete_excluded: bool,
    /// Refuse a plan with more deletions than this.
    pub max_delete: Option<usize>,
    /// Take paths that differ only in letter case.
    pub allow_case_collisions: bool,
    /// When files of equal size count as equal.
    pub compare: Compare,
}

/// When files of equal size count as equal. Hashes that both sides know decide in any case; a file that may not be all there, with
/// holes or beside the notes of a tool that has not finished it, is always compared by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// When their hashes are equal; what has none that can be compared is read.
    #[default]
    Hash,
    /// Always: files are read only where the size is another.
    Size,
    /// When they were changed at the same time, too.
    Mtime,
}

impl Compare {
    /// The word used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Size => "size",
            Self::Mtime => "mtime",
        }
    }
}

/// The steps from one manifest to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The revision that is brought over.
    pub source: Revision,
    /// The target's head the plan rests on; `None` when there is no repository or no commit yet.
    pub parent: Option<Revision>,
    /// What to do, in path order. Files that are equal already are not among them.
    pub steps: Vec<Step>,
    /// Files that are equal already.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Of these files, those whose bytes nobody compared: their size, or size and time, was believed.
    #[serde(default)]
    pub trusted_files: u64,
    /// Their bytes.
    #[serde(default)]
    pub trusted_bytes: u64,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub path: RepoPath,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// What a step does to its path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Bring over the source's file.
    Put {
        /// The file at the source.
        #[serde(flatten)]
        entry: Entry,
    },
    /// Remove the target's file.
    Delete,
}

/// Why a step is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The target has no such file.
    New,
    /// The target's file has another size.
    SizeDiffers {
        /// The size there.
        target_size: u64,
    },
    /// Same size, other bytes: the published hashes differ.
    HashDiffers,
    /// Same size, and no hash that both sides publish.
    HashUnknown,
    /// The source has no such file.
    NotInSource,
    /// Asked for whatever is there: the bytes at the target were found to be bad.
    Repair,
}

impl Reason {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::SizeDiffers { .. } => "size differs",
            Self::HashDiffers => "hash differs",
            Self::HashUnknown => "no common hash",
            Self::NotInSource => "not in the source",
            Self::Repair => "repair",
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The files to bring over.
    pub fn puts(&self) -> impl Iterator<Item = (&RepoPath, &Entry)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Put { entry } => Some((&step.path, entry)),
            Action::Delete => None,
        })
    }

    /// The paths to remove.
    pub fn deletes(&self) -> impl Iterator<Item = &RepoPath> {
        self.steps.iter().filter(|step| matches!(step.action, Action::Delete)).map(|step| &step.path)
    }

    /// Bytes of the files to bring over, each content once.
    pub fn bytes(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        self.puts()
            .filter(|(_, entry)| entry.blob().is_none_or(|blob| seen.insert(blob)))
            .fold(0, |sum: u64, (_, entry)| sum.saturating_add(entry.size))
    }
}

/// How the entries of one path compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The same bytes.
    Same,
    /// Not the same, for this reason.
    Differs(Reason),
}

/// Compares two entries by what is published of them. Equal names do not count as equal bytes when a size lies.
pub fn compare(source: &Entry, target: &Entry) -> Comparison {
    if source.size != target.size {
        return Comparison::Differs(Reason::SizeDiffers { target_size: target.size });
    }
    if source.size == 0 {
        return Comparison::Same;
    }
    match source.digests.agree(&target.digests) {
        Some(true) => Comparison::Same,
        Some(false) => Comparison::Differs(Reason::HashDiffers),
        None => Comparison::Differs(Reason::HashUnknown),
    }
}

/// Paths that stand on both sides with equal size and no common hash: identifying them decides whether they must move.
pub fn undecided(source: &Manifest, target: &Manifest) -> Vec<RepoPath> {
    let undecided = |path: &RepoPath, entry: &Entry| {
        target.entries.get(path).is_some_and(|there| compare(entry, there) == Comparison::Differs(Reason::HashUnknown))
    };
    source.entries.iter().filter(|(path, entry)| undecided(path, entry)).map(|(path, _)| path.clone()).collect()
}

/// Makes the plan that turns `target` into `source` (or adds `source` to it).
pub fn plan(source: &Manifest, target: Option<&Manifest>, limits: &Limits, policy: Policy) -> Result<Plan> {
    plan_trusting(source, target, limits, policy, &BTreeSet::new())
}

/// The same; `trusted` files are the same where nothing but their hash is unknown.
pub fn plan_trusting(
    source: &Manifest,
    target: Option<&Manifest>,
    limits: &Limits,
    policy: Policy,
    trusted: &BTreeSet<RepoPath>,
) -> Result<Plan> {
    check(source, limits, policy)?;
    let none = BTreeMap::new();
    let there = target.map_or(&none, |manifest| &manifest.entries);
    let mut steps = Vec::new();
    let (mut kept_files, mut kept_bytes) = (0, 0_u64);
    let (mut trusted_files, mut trusted_bytes) = (0, 0_u64);
    for (path, entry) in &source.entries {
        let reason = match there.get(path).map(|existing| compare(entry, existing)) {
            None => Reason::New,
            Some(Comparison::Differs(reason)) if reason != Reason::HashUnknown || !trusted.contains(path) => reason,
            Some(comparison) => {
                if comparison != Comparison::Same {
                    trusted_files += 1;
                    trusted_bytes = trusted_bytes.saturating_add(entry.size);
                }
                kept_files += 1;
                kept_bytes = kept_bytes.saturating_add(entry.size);
                continue;
            }
        };
        steps.push(Step { path: path.clone(), action: Action::Put { entry: *entry }, reason });
    }
    // A file of the target that the source has as a folder (or the other way round) must go even when nothing else is deleted.
    let extra = there.keys().filter(|path| !source.entries.contains_key(*path));
    steps.extend(extra.filter(|path| policy.delete || source.blocks(path)).map(|path| Step {
        path: path.clone(),
        action: Action::Delete,
        reason: Reason::NotInSource,
    }));
    steps.sort_by(|a, b| a.path.cmp(&b.path));
    let parent = target.map(|manifest| manifest.revision.clone());
    let plan = Plan { source: source.revision.clone(), parent, steps, kept_files, kept_bytes, trusted_files, trusted_bytes };
    guard_deletions(&plan, source, policy)?;
    Ok(plan)
}

/// A plan that brings over exactly `paths`, whatever the target says it has: for bytes found to be bad there.
pub fn repair(source: &Manifest, target: &Manifest, paths: &[RepoPath]) -> Result<Plan> {
    let mut steps = Vec::new();
    for path in paths {
        let entry = source.entries.get(path).ok_or_else(|| Error::not_found(format!("{path:?} is not in the source")))?;
        steps.push(Step { path: path.clone(), action: Action::Put { entry: *entry }, reason: Reason::Repair });
    }
    Ok(Plan {
        source: source.revision.clone(),
        parent: Some(target.revision.clone()),
        steps,
        kept_files: 0,
        kept_bytes: 0,
        trusted_files: 0,
        trusted_bytes: 0,
    })
}

fn check(source: &Manifest, limits: &Limits, policy: Policy) -> Result<()> {
    if !policy.allow_case_collisions
        && let Some((a, b)) = source.case_collision()
    {
        return Err(Error::invalid(format!("{a:?} and {b:?} differ only in letter case: many places cannot hold both"))
            .hint("leave one out with --exclude, or take both with --allow-case-collisions"));
    }
    if let Some((path, entry)) = source.entries.iter().find(|(_, entry)| entry.size > limits.max_file) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{path:?} has {} bytes, the destination takes at most {}", entry.size, limits.max_file),
        )
        .hint("leave it out with --exclude"));
    }
    Ok(())
}

fn guard_deletions(plan: &Plan, source: &Manifest, policy: Policy) -> Result<()> {
    let count = plan.deletes().count();
    if policy.delete && count > 0 && source.entries.is_empty() {
        return Err(Error::invalid("the source is empty: nothing is deleted because of an empty listing")
            .hint("check the source address and the filters"));
    }
    if let Some(most) = policy.max_delete
        && count > most
    {
        return Err(Error::invalid(format!("files that the plan deletes: {count}, more than --max-delete {most}"))
            .hint("look at it with --dry-run, then raise --max-delete if it is right"));
    }
    Ok(())
}

/// The blobs a plan needs, each once with all its paths, largest first so that no long one is left for the end; and the files
/// whose SHA-256 is still unknown.
pub fn blobs(plan: &Plan) -> (Vec<crate::remote::Wanted>, Vec<(RepoPath, Entry)>) {
    let mut known: BTreeMap<Blob, Vec<RepoPath>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (path, entry) in plan.puts() {
        match entry.blob() {
            Some(blob) => known.entry(blob).or_default().push(path.clone()),
            None => unknown.push((path.clone(), *entry)),
        }
    }
    let mut wanted: Vec<_> = known.into_iter().map(|(blob, paths)| crate::remote::Wanted { blob, paths }).collect();
    wanted.sort_by(|a, b| b.blob.size.cmp(&a.blob.size).then(a.blob.oid.cmp(&b.blob.oid)));
    (wanted, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digests, GitOid, Oid};
    use proptest::prelude::*;

    fn manifest(files: &[(&str, Entry)]) -> Manifest {
        Manifest::new(Revision::new("r").unwrap(), files.iter().map(|(p, e)| (RepoPath::new(*p).unwrap(), *e))).unwrap()
    }

    fn entry(content: &[u8]) -> Entry {
        Entry::new(content.len() as u64, Digests::sha256(Oid::of(content)))
    }

    fn reasons(plan: &Plan) -> Vec<(&str, Reason)> {
        plan.steps.iter().map(|s| (s.path.as_str(), s.reason)).collect()
    }

    #[test]
    fn every_reason() {
        let git = Entry::new(1, Digests::git(GitOid::of(b"g")));
        let source = manifest(&[
            ("same", entry(b"s")),
            ("size", entry(b"ab")),
            ("hash", entry(b"h")),
            ("new", entry(b"n")),
            ("git", git),
            ("empty", git0()),
        ]);
        let target = manifest(&[
            ("same", entry(b"s")),
            ("size", entry(b"a")),
            ("hash", entry(b"i")),
            ("git", entry(b"g")),
            ("extra", entry(b"e")),
            ("empty", entry(b"")),
        ]);
        let all = Limits::unlimited();
        let made = plan(&source, Some(&target), &all, Policy { delete: true, ..Policy::default() }).unwrap();
        assert_eq!(
            reasons(&made),
            [
                ("extra", Reason::NotInSource),
                ("git", Reason::HashUnknown),
                ("hash", Reason::HashDiffers),
                ("new", Reason::New),
                ("size", Reason::SizeDiffers { target_size: 1 })
            ]
        );
        assert_eq!((made.kept_files, made.kept_bytes), (2, 1));
        assert_eq!(undecided(&source, &target), [RepoPath::new("git").unwrap()]);
        let json = serde_json::to_value(&made.steps[4]).unwrap();
        assert_eq!((json["action"].as_str(), json["reason"].as_str(), json["size"].as_u64()), (Some("put"), Some("size_differs"), Some(2)));
    }

    fn git0() -> Entry {
        Entry::new(0, Digests::git(GitOid::of(b"")))
    }

    #[test]
    fn guards() {
        let all = Limits::unlimited();
        let policy = Policy { delete: true, max_delete: Some(1), ..Policy::default() };
        let two = manifest(&[("a", entry(b"a")), ("b", entry(b"b"))]);
        assert!(plan(&manifest(&[]), Some(&two), &all, policy).is_err(), "an empty source deletes nothing");
        assert!(plan(&manifest(&[("c", entry(b"c"))]), Some(&two), &all, policy).is_err(), "two deletions are more than one");
        let collision = manifest(&[("A", entry(b"a")), ("a", entry(b"b"))]);
        assert!(plan(&collision, None, &all, Policy::default()).is_err());
        assert!(plan(&collision, None, &all, Policy { allow_case_collisions: true, ..Policy::default() }).is_ok());
        let small = Limits { max_file: 0, ..all };
        assert_eq!(plan(&two, None, &small, Policy::default()).unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_goes() {
        let made = plan(
            &manifest(&[("a/b", entry(b"x"))]),
            Some(&manifest(&[("a", entry(b"y")), ("c", entry(b"z"))])),
            &Limits::unlimited(),
            Policy::default(),
        )
        .unwrap();
        assert_eq!(reasons(&made), [("a", Reason::NotInSource), ("a/b", Reason::New)]);
    }

    #[test]
    fn equal_content_is_one_blob() {
        let made = plan(
            &manifest(&[("a", entry(b"x")), ("b", entry(b"x")), ("big", entry(b"xyz"))]),
            None,
            &Limits::unlimited(),
            Policy::default(),
        )
        .unwrap();
        let (wanted, unknown) = blobs(&made);
        assert_eq!(wanted.iter().map(|w| w.paths.len()).collect::<Vec<_>>(), [1, 2]);
        assert!(unknown.is_empty());
        assert_eq!(made.bytes(), 4);
    }

    fn any_manifest() -> impl Strategy<Value = Manifest> {
        prop::collection::btree_map("[ab](/[abc]){0,2}", (0_u8..3, any::<bool>()), 0..8).prop_map(|files| {
            let mut list: Vec<(RepoPath, Entry)> = Vec::new();
            for (path, (content, git)) in files {
                let path = RepoPath::new(path).unwrap();
                let clash = |other: &RepoPath| path.is_within(other) || other.is_within(&path);
                if !list.iter().any(|(other, _)| clash(other)) {
                    let bytes = vec![content; usize::from(content)];
                    let digests = if git { Digests::git(GitOid::of(&bytes)) } else { Digests::sha256(Oid::of(&bytes)) };
                    list.push((path, Entry::new(bytes.len() as u64, digests)));
                }
            }
            Manifest::new(Revision::new("r").unwrap(), list).unwrap()
        })
    }

    proptest! {
        #[test]
        fn applying_a_plan_leaves_nothing_to_do(source in any_manifest(), target in any_manifest(), delete in any::<bool>()) {
            let policy = Policy { delete, ..Policy::default() };
            prop_assume!(!delete || !source.entries.is_empty());
            let made = plan(&source, Some(&target), &Limits::unlimited(), policy).unwrap();
            let mut after = target.clone();
            for path in made.deletes() { after.entries.remove(path); }
            for (path, entry) in made.puts() { after.entries.insert(path.clone(), *entry); }
            prop_assert!(Manifest::new(after.revision.clone(), after.entries.clone()).is_ok(), "the result is a possible tree");
            let again = plan(&source, Some(&after), &Limits::unlimited(), policy).unwrap();
            prop_assert!(again.is_empty(), "{again:?}");
        }
    }
}
