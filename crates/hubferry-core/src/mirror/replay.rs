//! History: the commits of a branch made again at the destination, one by one, oldest first.
//!
//! The order is that of the place's own list, also where branches were merged: every replayed commit holds exactly what its commit at
//! the source holds (and, unless told otherwise, what only the destination had before), and follows the one listed before it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Part;
use super::trailers::{origin, replayed, title};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::ops::{self, CopyRequest, REPLANS};
use crate::plan::{self, Action, Plan, Policy, Reason, Step};
use crate::refs::{PastCommit, Refs};
use crate::remote::{Target, Visibility};
use crate::transfer::retry::retrying;
use crate::transfer::{self, Context, Ends, Landed, Outcome};

/// One branch to replay.
pub(super) struct Replay<'a> {
    pub(super) from: &'a dyn Refs,
    pub(super) target: Arc<dyn Target>,
    pub(super) copy: &'a CopyRequest,
    /// Whatever the source does not have goes. Else only what a commit of the source took away does.
    pub(super) exact: bool,
    /// Most files that go without a commit of the source having taken them away.
    pub(super) max_delete: Option<usize>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) parts: Vec<Part>,
    /// Commits that change nothing at the destination.
    pub(super) skipped: Vec<Revision>,
    /// Commits that were there from before.
    pub(super) already: usize,
    pub(super) head: Option<Revision>,
    pub(super) created: Option<Visibility>,
}

/// The newest commit of `line` that the destination names as one it was copied from; `done` is its history, newest first.
pub(super) fn resume(line: &[PastCommit], done: &[PastCommit], source: &str) -> Option<usize> {
    let places: HashMap<&Revision, usize> = line.iter().enumerate().map(|(at, commit)| (&commit.revision, at)).collect();
    done.iter().find_map(|commit| places.get(&origin(&commit.message, source)?).copied())
}

impl Replay<'_> {
    /// Makes the commits of `line` (oldest first) on `head` that come after number `resumed`.
    pub(super) async fn run(
        &self,
        line: &[PastCommit],
        resumed: Option<usize>,
        mut head: Option<Manifest>,
        context: &Context,
    ) -> Result<Replayed> {
        // The last one that is there is looked at again: a run may have ended between the parts of one that was too large for one commit.
        let start = resumed.unwrap_or(0);
        let mut result = Replayed { already: resumed.map_or(0, |at| at + 1), ..Replayed::default() };
        let mut before = match start.checked_sub(1) {
            Some(at) => Some(self.manifest(&line[at].revision, context).await?),
            None => None,
        };
        let mut landed: Vec<Landed> = Vec::new();
        for (at, commit) in line.iter().enumerate().skip(start) {
            let manifest = self.manifest(&commit.revision, context).await?;
            if head.is_none() && result.created.is_none() {
                let spec = ops::spec(self.copy, &manifest, context).await?;
                result.created = Some(spec.visibility);
                if !self.copy.dry_run {
                    retrying(&context.retry, &*context.reporter, "creating the destination", || self.target.create(&spec)).await?;
                    head = ops::list_head(&self.target, context).await?;
                }
            }
            let step = Now { commit, before: before.as_ref(), is_first: at == start, created: result.created };
            match self.step(&step, &manifest, &mut head, context).await? {
                Some(part) => {
                    landed.extend(part.outcome.commits.iter().cloned());
                    result.parts.push(part);
                }
                None if resumed == Some(at) => {}
                None => result.skipped.push(commit.revision.clone()),
            }
            before = Some(manifest);
        }
        ops::confirm(&self.target, &landed, context).await?;
        result.head = head.map(|head| head.revision);
        Ok(result)
    }

    async fn manifest(&self, at: &Revision, context: &Context) -> Result<Manifest> {
        let mut manifest = ops::list(&self.from.source(at.as_str())?, context).await?;
        self.copy.filter.apply(&mut manifest);
        Ok(manifest)
    }

    /// Makes one commit; `None` when the destination has all of it.
    async fn step(&self, step: &Now<'_>, manifest: &Manifest, head: &mut Option<Manifest>, context: &Context) -> Result<Option<Part>> {
        let from = self.from.source(step.commit.revision.as_str())?;
        let ends = Ends { from, also: Vec::new(), to: self.target.clone() };
        let mut copy = CopyRequest { ends: ends.clone(), ..self.copy.clone() };
        copy.policy.delete = self.exact;
        if copy.dry_run && !step.is_first {
            // What would be there by then cannot be read.
            copy.generated = None;
        }
        for round in 1.. {
            let (mut wanted, mut shown) = (manifest.clone(), head.clone());
            ops::keep_excluded(&copy, &wanted, shown.as_mut());
            ops::leave_generated(&copy, &mut wanted, shown.as_mut(), context).await?;
            ops::decide(&ends, &mut wanted, shown.as_mut(), context).await?;
            let plan = self.plan(step, &wanted, shown.as_ref())?;
            if plan.is_empty() {
                return Ok(None);
            }
            let message = replayed(step.commit, &self.copy.message);
            let part =
                |plan, outcome| Some(Part { source: step.commit.revision.clone(), title: title(&step.commit.message), plan, outcome });
            if self.copy.dry_run {
                *head = Some(planned(head.as_ref(), &wanted, &plan));
                return Ok(part(plan, Outcome::default()));
            }
            let guarded = ops::guard(&copy, &plan, step.created, context).await?;
            match transfer::run(&plan, &ends, &message, &guarded).await {
                Ok(outcome) => {
                    if let Some(head) = head {
                        outcome.commits.iter().for_each(|landed| advance(head, landed));
                    }
                    return Ok(part(plan, outcome));
                }
                Err(error) if error.kind() == Kind::Conflict && round < REPLANS => {
                    context.reporter.event(&Event::Note(format!("the destination changed meanwhile, planning again ({error})")));
                    *head = ops::list_head(&self.target, context).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn plan(&self, step: &Now<'_>, manifest: &Manifest, head: Option<&Manifest>) -> Result<Plan> {
        let policy = Policy { allow_case_collisions: self.copy.policy.allow_case_collisions, ..Policy::default() };
        let mut plan = plan::plan(manifest, head, &self.target.limits(), policy)?;
        let planned: HashSet<RepoPath> = plan.deletes().cloned().collect();
        let explained = |path: &RepoPath| step.before.is_some_and(|before| before.entries.contains_key(path));
        let there = head.into_iter().flat_map(|head| head.entries.keys());
        let extra = there.filter(|path| !manifest.entries.contains_key(*path) && !planned.contains(*path));
        let gone: Vec<&RepoPath> = extra.filter(|path| self.exact || explained(path)).collect();
        if step.is_first {
            self.guard(gone.iter().filter(|path| !explained(path)).count(), manifest)?;
        }
        plan.steps.extend(gone.into_iter().map(|path| Step { path: path.clone(), action: Action::Delete, reason: Reason::NotInSource }));
        plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(plan)
    }

    /// The same guards as for a copy without history, for what no commit of the source took away.
    fn guard(&self, count: usize, manifest: &Manifest) -> Result<()> {
        if count > 0 && manifest.entries.is_empty() && self.exact {
            return Err(Error::invalid("the source is empty: nothing is deleted because of an empty listing")
                .hint("check the source address and the filters"));
        }
        match self.max_delete {
            Some(most) if count > most => {
                Err(Error::invalid(format!("files that the plan deletes: {count}, more than --max-delete {most}"))
                    .hint("look at it with --dry-run, then raise --max-delete if it is right"))
            }
            _ => Ok(()),
        }
    }
}

/// The commit that is made now, and what stands around it.
struct Now<'a> {
    commit: &'a PastCommit,
    /// What the source held before it.
    before: Option<&'a Manifest>,
    is_first: bool,
    /// As what this run made the destination.
    created: Option<Visibility>,
}

/// What readers would see after a plan.
fn planned(head: Option<&Manifest>, source: &Manifest, plan: &Plan) -> Manifest {
    let mut after = Manifest { revision: source.revision.clone(), entries: head.map(|head| head.entries.clone()).unwrap_or_default() };
    for path in plan.deletes() {
        after.entries.remove(path);
    }
    after.entries.extend(plan.puts().map(|(path, entry)| (path.clone(), *entry)));
    after
}

/// What readers see after a commit, without listing it again.
fn advance(head: &mut Manifest, landed: &Landed) {
    head.revision = landed.revision.clone();
    for (path, expected) in &landed.expected {
        match expected {
            Some((size, digests)) => head.entries.insert(path.clone(), Entry::new(*size, *digests)),
            None => head.entries.remove(path),
        };
    }
}
