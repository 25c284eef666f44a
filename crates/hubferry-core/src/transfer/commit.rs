//! The moment everything becomes visible: one commit, sent so that a lost answer never makes a second one.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Instant;

use super::stage::StagedPaths;
use super::{Context, retry::retrying};
use crate::digest::{Digests, GitOid};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::manifest::{Manifest, RepoPath, Revision};
use crate::plan::Plan;
use crate::remote::{Commit, Drafts, Limits, Op, Place, Staged, Target};

/// A commit that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its id.
    pub revision: Revision,
    /// What readers must find afterwards: digests by path, `None` for a deletion.
    pub expected: Vec<(RepoPath, Option<(u64, Digests)>)>,
}

/// Commits everything staged and every deletion of `plan`: in one commit, else in a draft that becomes one, else in several commits of
/// which each can be read.
pub(super) async fn commit(plan: &Plan, staged: StagedPaths, target: &dyn Target, message: &str, context: &Context) -> Result<Vec<Landed>> {
    let mut ops: Vec<Op> = plan.deletes().map(|path| Op::Delete { path: path.clone() }).collect();
    ops.extend(staged.into_iter().map(|(path, staged)| Op::Put { path, staged }));
    let mut limits = target.limits();
    if fits(&ops, &limits) {
        let expected = ops.iter().map(|op| (op.path().clone(), expected(op))).collect();
        let change = Commit { parent: plan.parent.clone(), message: message.to_owned(), ops };
        if let Some(revision) = send(change.clone(), target, context).await? {
            return Ok(vec![Landed { revision, expected }]);
        }
        limits.ops_per_commit = smaller(change.ops.len());
        ops = change.ops;
    }
    let batches = cut(ops, &limits);
    if let (Some(drafts), Some(parent)) = (target.drafts(), &plan.parent) {
        match in_a_draft(drafts, parent, &batches, message, context).await {
            Err(error) if refuses_drafts(&error) => {
                context.reporter.event(&Event::Note(format!("the change cannot gather in a draft there ({error})")));
            }
            result => return result.map(|landed| vec![landed]),
        }
    }
    context.reporter.event(&Event::Note(format!(
        "the destination takes this change only in {} commits: weights come first, configuration and index last",
        batches.len()
    )));
    if let Some(most) = limits.commits_per_hour.filter(|most| batches.len() > *most as usize) {
        context.reporter.event(&Event::Note(format!("it is known to take {most} commits an hour")));
    }
    in_order(target, plan.parent.clone(), batches, message, context).await
}

/// Several commits that become visible as one.
async fn in_a_draft(drafts: &dyn Drafts, parent: &Revision, batches: &[Vec<Op>], message: &str, context: &Context) -> Result<Landed> {
    let reporter = &*context.reporter;
    let draft = retrying(&context.retry, reporter, "opening a draft", || drafts.open(message)).await?;
    reporter
        .event(&Event::Note(format!("the change does not fit into one commit: it gathers in {}, which is merged at the end", draft.name)));
    let filled = in_order(&*draft.target, Some(parent.clone()), batches.to_vec(), message, context).await;
    let done = match filled {
        Ok(_) => retrying(&context.retry, reporter, "merging the draft", || drafts.publish(&draft, parent)).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(revision) => {
            let expected = batches.iter().flatten().map(|op| (op.path().clone(), expected(op))).collect();
            Ok(Landed { revision, expected })
        }
        Err(error) => {
            if let Err(why) = drafts.discard(&draft).await {
                reporter.event(&Event::Note(format!("{} stays open and can be closed by hand ({why})", draft.name)));
            }
            Err(error)
        }
    }
}

/// Errors that say that there are no drafts at a place, or not for us.
fn refuses_drafts(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unsupported | Kind::Denied | Kind::NotFound | Kind::Invalid)
}

/// Commits one batch after the other. One that the place does not manage in its time is made of smaller ones.
async fn in_order(
    target: &dyn Target,
    mut parent: Option<Revision>,
    batches: Vec<Vec<Op>>,
    message: &str,
    context: &Context,
) -> Result<Vec<Landed>> {
    let mut of = batches.len();
    let mut waiting = VecDeque::from(batches);
    let mut landed: Vec<Landed> = Vec::with_capacity(of);
    while let Some(ops) = waiting.pop_front() {
        let expected = ops.iter().map(|op| (op.path().clone(), expected(op))).collect();
        let message = numbered(message, landed.len() + 1, of);
        let change = Commit { parent: parent.clone(), message, ops };
        let Some(revision) = send(change.clone(), target, context).await? else {
            let parts: Vec<Vec<Op>> = change.ops.chunks(smaller(change.ops.len())).map(<[Op]>::to_vec).collect();
            of += parts.len() - 1;
            parts.into_iter().rev().for_each(|part| waiting.push_front(part));
            continue;
        };
        parent = Some(revision.clone());
        landed.push(Landed { revision, expected });
    }
    Ok(landed)
}

/// A commit of no more operations than this is not cut because it took long.
const FEW_OPS: usize = 64;

/// How many operations are tried where `ops` took too long.
fn smaller(ops: usize) -> usize {
    (ops / 4).max(FEW_OPS)
}

fn numbered(message: &str, number: usize, of: usize) -> String {
    let (first, rest) = message.split_once('\n').map_or((message, None), |(first, rest)| (first, Some(rest)));
    rest.map_or_else(|| format!("{first} ({number}/{of})"), |rest| format!("{first} ({number}/{of})\n{rest}"))
}

fn inline(op: &Op) -> u64 {
    if let Op::Put { staged, .. } = op { staged.inline_len() } else { 0 }
}

/// Whether one commit can hold everything.
fn fits(ops: &[Op], limits: &Limits) -> bool {
    ops.len() <= limits.ops_per_commit && ops.iter().map(inline).sum::<u64>() <= limits.inline_per_commit
}

/// Cuts operations into commits the target can take. What readers start from comes last, so that every state in between can be read:
/// deletions and files that point at others are in the final commits.
fn cut(mut ops: Vec<Op>, limits: &Limits) -> Vec<Vec<Op>> {
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

/// Sends one commit until it took effect or cannot. `None` when the place does not manage that many operations in its time.
async fn send(change: Commit, target: &dyn Target, context: &Context) -> Result<Option<Revision>> {
    let started = Instant::now();
    // Places cut by the clock of a gateway, which is not ours to the second.
    let long = target.limits().commit_time.mul_f64(0.9);
    let mut attempt = 1;
    let mut unsure = false;
    loop {
        let sent = Instant::now();
        let error = match target.commit(change.clone()).await {
            Ok(revision) => return Ok(Some(revision)),
            Err(error) => error,
        };
        let took = sent.elapsed();
        unsure |= error.is_ambiguous();
        // After a lost answer only the head can tell. A conflict that follows one may be our own commit.
        if unsure && let Some(revision) = applied(&change, target, context).await? {
            context.reporter.event(&Event::Note(format!("the answer to the commit was lost, but it took effect as {}", revision.short())));
            return Ok(Some(revision));
        }
        if error.is_ambiguous() && took >= long && change.ops.len() > FEW_OPS {
            let (count, seconds) = (change.ops.len(), took.as_secs());
            context
                .reporter
                .event(&Event::Note(format!("a commit of {count} files was not done after {seconds} s: it is made of smaller ones")));
            return Ok(None);
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
        assert!(fits(&ops, &Limits::unlimited()) && !fits(&ops, &limits));
        let by_bytes = Limits { inline_per_commit: 6, ..Limits::unlimited() };
        assert_eq!(cut(vec![put("x.txt", true), put("y.txt", true)], &by_bytes).len(), 2);
    }

    #[test]
    fn split_commits_are_numbered() {
        assert_eq!(numbered("Copy\n\nbody", 1, 2), "Copy (1/2)\n\nbody");
        assert_eq!(numbered("Copy", 2, 2), "Copy (2/2)");
    }
}
