//! Gets every blob of a plan to the target, each oid once: in groups, so that neither requests nor memory grow with the plan.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::body::{READINGS, SourceBody, Wish};
use super::identify::{KEEP_ALL, Kept, read_group};
use super::retry::retrying;
use super::{Context, Ends, Outcome, inspect, pairs};
use crate::digest::{Digests, Oid};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::leaks::Gate;
use crate::manifest::{Blob, Entry, RepoPath, Revision};
use crate::plan::{self, Plan};
use crate::remote::{MemoryBody, Staged, Wanted};

/// Most files that are identified, asked for and stored as one group.
const GROUP: usize = 1024;

/// A file from this size on is large: its own streams use what the hosts bear.
const LARGE: u64 = 8 << 20;
/// Large files that travel at once. More would all end late, and a killed run would leave more of them unfinished.
const LARGE_AT_ONCE: usize = 6;

/// Every path a plan puts, with the blob that waits for it at the target.
pub(super) type StagedPaths = BTreeMap<RepoPath, Staged>;

/// Stages everything `plan` puts.
pub(super) async fn stage(plan: &Plan, ends: &Ends, context: &Context, outcome: &mut Outcome) -> Result<StagedPaths> {
    let (wanted, unknown) = plan::blobs(plan);
    let mut run = Run { ends, at: &plan.source, context, outcome, done: HashMap::new(), paths: StagedPaths::new() };
    if context.secrets.is_none() {
        run.known(&wanted).await?;
        run.unknown(unknown).await?;
    } else {
        // What a scanner may refuse goes first, the smallest before all: a secret is found before hours of weights have travelled.
        let (mut small, large): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|w| Gate::takes(w.blob.size));
        small.reverse();
        run.unknown(unknown).await?;
        run.known(&small).await?;
        run.known(&large).await?;
    }
    Ok(run.paths)
}

/// Cuts the files without a hash so that the contents of one group fit into memory.
fn groups(files: Vec<(RepoPath, Entry)>) -> Vec<Vec<(RepoPath, Entry)>> {
    let mut groups: Vec<Vec<(RepoPath, Entry)>> = Vec::new();
    let mut bytes = u64::MAX;
    for (path, entry) in files {
        let full = bytes.saturating_add(entry.size) > KEEP_ALL || groups.last().is_some_and(|group| group.len() >= GROUP);
        if full {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(entry.size);
        if let Some(group) = groups.last_mut() {
            group.push((path, entry));
        }
    }
    groups
}

struct Run<'a> {
    ends: &'a Ends,
    at: &'a Revision,
    context: &'a Context,
    outcome: &'a mut Outcome,
    done: HashMap<Oid, Staged>,
    paths: StagedPaths,
}

impl Run<'_> {
    async fn known(&mut self, wanted: &[Wanted]) -> Result<()> {
        for group in wanted.chunks(GROUP) {
            self.group(group.to_vec(), &Kept::new()).await?;
        }
        Ok(())
    }

    async fn unknown(&mut self, files: Vec<(RepoPath, Entry)>) -> Result<()> {
        for group in groups(files) {
            let (named, kept) = read_group(&self.ends.from, self.at, &group, self.context).await?;
            let mut blobs: BTreeMap<Blob, Vec<RepoPath>> = BTreeMap::new();
            for (path, entry) in named {
                let blob = entry.blob().ok_or_else(|| Error::new(Kind::Bug, "an identified file has no hash"))?;
                blobs.entry(blob).or_default().push(path);
            }
            self.group(blobs.into_iter().map(|(blob, paths)| Wanted { blob, paths }).collect(), &kept).await?;
        }
        Ok(())
    }

    /// Stages one group, and looks what would be published with it.
    async fn group(&mut self, wanted: Vec<Wanted>, kept: &Kept) -> Result<()> {
        let published = if self.context.secrets.is_some() { wanted.clone() } else { Vec::new() };
        self.store(wanted, kept).await?;
        let leaks = inspect::judge(&published, self.at, self.ends, self.context).await?;
        self.outcome.leaks.extend(leaks);
        Ok(())
    }

    async fn store(&mut self, wanted: Vec<Wanted>, kept: &Kept) -> Result<()> {
        // A content that an earlier group stored is only named again.
        let (again, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|w| self.done.contains_key(&w.blob.oid));
        for w in again {
            self.finish(&w, self.done[&w.blob.oid].clone(), false);
        }
        let target = &self.ends.to;
        let reporter = &*self.context.reporter;
        let missing = retrying(&self.context.retry, reporter, "asking what is missing", || target.missing(&wanted)).await?;
        let mut tasks = JoinSet::new();
        let lanes = self.context.transfers.min(target.limits().parallel).max(1);
        let (mut large, mut small) = (VecDeque::new(), VecDeque::new());
        for w in wanted {
            if !missing.contains(&w.blob.oid) {
                self.outcome.reused_blobs += 1;
                self.finish(&w, Staged::stored(w.blob), false);
            } else if w.blob.size >= LARGE {
                large.push_back(w);
            } else {
                small.push_back(w);
            }
        }
        let mut large_now = 0;
        while !(large.is_empty() && small.is_empty() && tasks.is_empty()) {
            let next = match tasks.len() < lanes {
                true if large_now < LARGE_AT_ONCE => large.pop_front().or_else(|| small.pop_front()),
                true => small.pop_front(),
                false => None,
            };
            if let Some(w) = next {
                large_now += usize::from(w.blob.size >= LARGE);
                let content = kept.get(&w.blob.oid).cloned();
                tasks.spawn(put(self.ends.clone(), self.at.clone(), w, content, self.context.clone()));
            } else {
                let size = self.collect(tasks.join_next().await)?;
                large_now -= usize::from(size >= LARGE);
            }
        }
        Ok(())
    }

    /// Notes a finished file; gives its size.
    fn collect(&mut self, finished: Option<Result<Result<(Wanted, Staged)>, tokio::task::JoinError>>) -> Result<u64> {
        let Some(finished) = finished else { return Ok(0) };
        let (wanted, staged) = finished.map_err(|e| Error::new(Kind::Bug, "a transfer task ended abnormally").caused_by(e))??;
        self.outcome.moved_blobs += 1;
        self.outcome.moved_bytes += wanted.blob.size;
        self.finish(&wanted, staged, true);
        Ok(wanted.blob.size)
    }

    fn finish(&mut self, wanted: &Wanted, staged: Staged, moved: bool) {
        for path in &wanted.paths {
            self.context.reporter.event(&Event::Finished { path: path.clone(), size: wanted.blob.size, moved });
            self.paths.insert(path.clone(), staged.clone());
        }
        self.done.insert(wanted.blob.oid, staged);
    }
}

/// Puts one blob, again and again while its failures may pass. Every try reads and verifies from the start what it needs.
async fn put(ends: Ends, at: Revision, wanted: Wanted, content: Option<Bytes>, context: Context) -> Result<(Wanted, Staged)> {
    let path = wanted.paths.first().cloned().ok_or_else(|| Error::new(Kind::Bug, "a blob without a path"))?;
    context.reporter.event(&Event::Started { path: path.clone(), size: wanted.blob.size });
    let started = Instant::now();
    let mut attempt = 1;
    loop {
        let entry = Entry::new(wanted.blob.size, Digests::sha256(wanted.blob.oid));
        let mut hopeless = false;
        let result = if let Some(content) = &content {
            ends.to.put(&wanted, &MemoryBody(content.clone())).await
        } else {
            let wish = Wish { at: at.clone(), path: path.clone(), entry };
            let body = SourceBody::with_mirrors(ends.from.clone(), &ends.also, wish, context.clone());
            let result = ends.to.put(&wanted, &body).await;
            if let Some(digests) = body.digests() {
                pairs::learn(&*context.pairs, wanted.blob.size, &digests);
            }
            hopeless = body.is_beyond_repair();
            result
        };
        let error = match result {
            Ok(staged) => return Ok((wanted, staged)),
            Err(error) => error,
        };
        // Wrong bytes are worth two more readings, by a new body; a source that always lies must end soon.
        let pause = match error.kind() {
            Kind::Corrupt => (attempt < READINGS && !hopeless).then_some(Duration::ZERO),
            _ => context.retry.pause(attempt, started, &error),
        };
        let Some(pause) = pause else { return Err(error.context("file", &path)) };
        context.reporter.event(&Event::Retrying { what: format!("storing {path}"), why: error.to_string(), pause, attempt });
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}
