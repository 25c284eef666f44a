//! The moment everything becomes visible: one commit, sent so that a lost answer never makes a second one.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Instant;

use super::stage::StagedPaths;
use super::{Context, retry::retrying};
use crate::digest::{Digests, GitOid};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::manifest::{Manifest, RepoPath, Revision};
use crate::plan::Plan;
use crate::remote::{Commit, Limits, Op, Place, Staged, Target};

/// A commit that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its id.
    pub revision: Revision,
    /// What readers must find afterwards: digests by path, `None` for a deletion.
    pub expected: Vec<(RepoPath, Option<(u64, Digests)>)>,
}

/// Commits everything staged and every deletion of `plan`.
pub(super) async fn commit(plan: &Plan, staged: StagedPaths, target: &dyn Target, message: &str, context: &Context) -> Result<Vec<Landed>> {
    let mut ops: Vec<Op> = plan.deletes().map(|path| Op::Delete { path: path.clone() }).collect();
    ops.extend(staged.into_iter().map(|(path, staged)| Op::Put { path, staged }));
    let batches = cut(ops, &target.limits());
    if batches.len() > 1 {
        context.reporter.event(&Event::Note(format!(
            "the destination takes this change only in {} commits: weights come first, configuration and index last",
            batches.len()
        )));
    }
    let mut landed: Vec<Landed> = Vec::with_capacity(batches.len());
    for (number, ops) in batches.iter().enumerate() {
        let parent = landed.last().map_or_else(|| plan.parent.clone(), |last| Some(last.revision.clone()));
        let message = if batches.len() == 1 { message.to_owned() } else { numbered(message, number + 1, batches.len()) };
        let expected = ops.iter().map(|op| (op.path().clone(), expected(op))).collect();
        let revision = send(Commit { parent, message, ops: ops.clone() }, target, context).await?;
        landed.push(Landed { revision, expected });
    }
    Ok(landed)
}

fn numbered(message: &str, number: usize, of: usize) -> String {
    let (first, rest) = message.split_once('\n').map_or((message, None), |(first, rest)| (first, Some(rest)));
    rest.map_or_else(|| format!("{first} ({number}/{of})"), |rest| format!("{first} ({number}/{of})\n{rest}"))
}

/// Cuts operations into commits the target can take. Within the limits that is one. Else what readers start from comes last, so
/// that every state in between can be read: deletions and files that point at others are in the final commits.
fn cut(mut ops: Vec<Op>, limits: &Limits) -> Vec<Vec<Op>> {
    let inline = |op: &Op| if let Op::Put { staged, .. } = op { staged.inline_len() } else { 0 };
    let total: u64 = ops.iter().map(inline).sum();
    if ops.len() <= limits.ops_per_commit && total <= limits.inline_per_commit {
        return vec![ops];
    }
    let puts: BTreeSet<RepoPath> = ops.iter().filter(|op| matches!(op, Op::Put { .. })).map(|op| op.path().clone()).collect();
    ops.sort_by_key(|op| if matches!(op, Op::Delete { path } if makes_way(path, &puts)) { 0 } else { rank(op) });
    let mut batches = vec![Vec::new()];
    let mut bytes = 0;
    for op in ops {
        let size = inline(&op);
        let full = batches.last().is_some_and(|batch| {
            batch.len() >= limits.ops_per_commit.max(1) || (!batch.is_empty() && bytes + size > limits.inline_per_commit)
        });
        if full {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(op);
        }
    }
    batches
}

/// A file where a folder will be, or below what will be a file: it must go before the put.
fn makes_way(path: &RepoPath, puts: &BTreeSet<RepoPath>) -> bool {
    let folder = format!("{path}/");
    let from = (Bound::Included(folder.as_str()), Bound::Unbounded);
    puts.range::<str, _>(from).next().is_some_and(|next| next.as_str().starts_with(&folder))
        || path.parents().any(|parent| puts.contains(parent))
}

/// Stored blobs, then small files, then what a loader opens first, then deletions.
fn rank(op: &Op) -> u8 {
    match op {
        Op::Delete { .. } => 4,
        Op::Put { path, .. }
            if path.name().ends_with(".index.json") || matches!(path.name(), "config.json" | "README.md" | "model_index.json") =>
        {
            3
        }
        Op::Put { staged: Staged { place: Place::Inline(_), .. }, .. } => 2,
        Op::Put { .. } => 1,
    }
}

/// Sends one commit until it took effect or cannot.
async fn send(change: Commit, target: &dyn Target, context: &Context) -> Result<Revision> {
    let started = Instant::now();
    let mut attempt = 1;
    let mut unsure = false;
    loop {
        let error = match target.commit(change.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(error) => error,
        };
        unsure |= error.is_ambiguous();
        // After a lost answer only the head can tell. A conflict that follows one may be our own commit.
        if unsure && let Some(revision) = applied(&change, target, context).await? {
            context.reporter.event(&Event::Note(format!("the answer to the commit was lost, but it took effect as {}", revision.short())));
            return Ok(revision);
        }
        let Some(pause) = context.retry.pause(attempt, started, &error) else {
            return Err(error);
        };
        context.reporter.event(&Event::Retrying { what: "the commit".into(), why: error.to_string(), pause, attempt });
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// The head, when it is no longer the parent and shows every operation of `change`.
async fn applied(change: &Commit, target: &dyn Target, context: &Context) -> Result<Option<Revision>> {
    let head = retrying(&context.retry, &*context.reporter, "reading the head", || target.head()).await?;
    let Some(head) = head.filter(|head| Some(&head.revision) != change.parent.as_ref()) else {
        return Ok(None);
    };
    let shows = change.ops.iter().all(|op| shows(&head, op.path(), expected(op).as_ref()));
    if shows {
        return Ok(Some(head.revision));
    }
    Err(Error::new(Kind::Conflict, "the answer to the commit was lost, and somebody else has changed the destination since")
        .hint("run the same command again: what is stored already is not sent again"))
}

/// Whether `manifest` has at `path` what an operation left there. Where no hash is shared, the size decides.
pub(crate) fn shows(manifest: &Manifest, path: &RepoPath, expected: Option<&(u64, Digests)>) -> bool {
    match (manifest.entries.get(path), expected) {
        (None, None) => true,
        (Some(entry), Some((size, digests))) => entry.size == *size && entry.digests.agree(digests) != Some(false),
        _ => false,
    }
}

fn expected(op: &Op) -> Option<(u64, Digests)> {
    match op {
        Op::Put { staged, .. } => {
            let git = if let Place::Inline(bytes) = &staged.place { Some(GitOid::of(bytes)) } else { None };
            Some((staged.blob.size, Digests { sha256: Some(staged.blob.oid), git }))
        }
        Op::Delete { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Oid;
    use crate::manifest::Blob;
    use bytes::Bytes;

    fn put(path: &str, inline: bool) -> Op {
        let bytes = Bytes::from(path.to_owned());
        let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
        let staged = if inline { Staged::inline(blob, bytes) } else { Staged::stored(blob) };
        Op::Put { path: RepoPath::new(path).unwrap(), staged }
    }

    #[test]
    fn a_cut_keeps_every_state_readable() {
        let ops = vec![
            Op::Delete { path: RepoPath::new("old").unwrap() },
            put("config.json", true),
            put("a.bin", false),
            put("b.bin", false),
            put("x.txt", true),
            put("model.safetensors.index.json", true),
        ];
        let limits = Limits { ops_per_commit: 2, ..Limits::unlimited() };
        let batches: Vec<Vec<String>> =
            cut(ops.clone(), &limits).iter().map(|b| b.iter().map(|op| op.path().to_string()).collect()).collect();
        assert_eq!(batches, [vec!["a.bin", "b.bin"], vec!["x.txt", "config.json"], vec!["model.safetensors.index.json", "old"]]);
        assert_eq!(cut(ops, &Limits::unlimited()).len(), 1);
        let by_bytes = Limits { inline_per_commit: 6, ..Limits::unlimited() };
        assert_eq!(cut(vec![put("x.txt", true), put("y.txt", true)], &by_bytes).len(), 2);
    }

    #[test]
    fn split_commits_are_numbered() {
        assert_eq!(numbered("Copy\n\nbody", 1, 2), "Copy (1/2)\n\nbody");
        assert_eq!(numbered("Copy", 2, 2), "Copy (2/2)");
    }
}
