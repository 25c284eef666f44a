//! Whole repositories: all branches and tags, and their history.
//!
//! A branch that the destination has is copied like any other. A branch or tag that it lacks appears only when a commit with exactly the
//! right content is there: the head of a branch, an earlier copy that names the source commit in its message, or one that is made on
//! a branch of its own, which is removed again. So nobody ever sees half of one, and a run that was killed goes on.

mod branches;
mod making;
mod replay;
mod trailers;

use std::collections::{BTreeSet, HashMap, HashSet};

pub use branches::BranchMap;

use crate::digest::Oid;
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Phase};
use crate::manifest::{RepoPath, Revision};
use crate::ops::{self, CopyRequest};
use crate::plan::{Plan, Policy};
use crate::refs::{Ref, RefChange, RefKind, RefList, RefTarget, Refs};
use crate::remote::Visibility;
use crate::transfer::retry::retrying;
use crate::transfer::{Context, Outcome};
use replay::{Replay, Replayed, resume};

/// Begins the names of branches on which commits are made that no branch has.
const STAGING: &str = "hubferry-staging-";

/// What to mirror and how.
#[derive(Clone, Debug)]
pub struct MirrorRequest {
    /// Both places, and what holds for every branch.
    pub copy: CopyRequest,
    /// Every branch and tag, not only the branch that the places were opened at. Where files are deleted that the source does not have
    /// ([`Policy::delete`]), so are branches and tags.
    pub all_refs: bool,
    /// Commit by commit, not only what is there now.
    pub history: bool,
    /// Which branches go to other names.
    pub branch_map: BranchMap,
    /// Move tags that are there with other content.
    pub force_tags: bool,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct MirrorReport {
    /// One part for each branch and tag, in the order in which they were done.
    pub refs: Vec<RefReport>,
    /// Whether the destination had to be created, or would have to.
    pub created: Option<Visibility>,
}

/// What became of one branch or tag.
#[derive(Debug)]
pub struct RefReport {
    /// What it is.
    pub kind: RefKind,
    /// Its name at the source; `None` when the source lacks it.
    pub source: Option<String>,
    /// Its name at the destination.
    pub destination: String,
    /// The commit at the source.
    pub source_revision: Option<Revision>,
    /// The commit at the destination afterwards, as far as there is one.
    pub destination_revision: Option<Revision>,
    /// How it ended, or would end.
    pub status: Status,
    /// The commits that were made for it.
    pub parts: Vec<Part>,
    /// Commits of the source that change nothing at the destination, so that none was made for them.
    pub skipped: Vec<Revision>,
    /// Commits of the source that were there from before.
    pub already: usize,
    /// Files that a hub generated and that stay as they are (without history).
    pub generated: Vec<RepoPath>,
    /// Why it failed.
    pub error: Option<Error>,
}

/// How a branch or tag ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// There was nothing to do.
    UpToDate,
    /// A branch that was there got new commits.
    Copied,
    /// It was not there.
    Created,
    /// It was there elsewhere.
    Moved,
    /// The source does not have it.
    Deleted,
    /// A tag is there with other content and was left.
    Differs,
    /// See the error.
    Failed,
}

/// One commit of the source, made at the destination.
#[derive(Debug)]
pub struct Part {
    /// The commit of the source.
    pub source: Revision,
    /// The first line of its message; empty without history.
    pub title: String,
    /// What it changes.
    pub plan: Plan,
    /// What moved, and the commits made.
    pub outcome: Outcome,
}

impl RefReport {
    fn new(kind: RefKind, source: Option<&Ref>, destination: &str, status: Status) -> Self {
        Self {
            kind,
            source: source.map(|source| source.name.clone()),
            destination: destination.to_owned(),
            source_revision: source.map(|source| source.target.clone()),
            destination_revision: None,
            status,
            parts: Vec::new(),
            skipped: Vec::new(),
            already: 0,
            generated: Vec::new(),
            error: None,
        }
    }

    fn failed(mut self, error: Error) -> Self {
        self.status = Status::Failed;
        self.error = Some(error);
        self
    }

    /// Takes over what a replay did.
    fn replayed(mut self, replayed: Replayed) -> Self {
        self.destination_revision = replayed.head;
        (self.parts, self.skipped, self.already) = (replayed.parts, replayed.skipped, replayed.already);
        self
    }
}

/// Mirrors. Fails as a whole only where nothing can be done at all; what fails for one branch or tag stands in its part of the report.
pub async fn mirror(request: &MirrorRequest, context: &Context) -> Result<MirrorReport> {
    let (source, target) = (&request.copy.ends.from, &request.copy.ends.to);
    let unable = |place: &str| Error::new(Kind::Unsupported, format!("the {place} has no branches, tags and history"));
    let from = source.refs().ok_or_else(|| unable("source"))?;
    let to = target.refs().ok_or_else(|| unable("destination"))?;
    context.reporter.event(&Event::Phase(Phase::Listing));
    let mut mirror = Mirror::new(request, context, from, to).await?;
    if request.all_refs { mirror.everything().await } else { mirror.one_branch().await }
}

struct Mirror<'a> {
    request: &'a MirrorRequest,
    context: &'a Context,
    from: &'a dyn Refs,
    to: &'a dyn RefTarget,
    /// What the destination has by now.
    there: RefList,
    exists: bool,
    created: Option<Visibility>,
    /// Commits of the destination by the commit of the source that they were copied from.
    known: HashMap<Revision, Vec<Revision>>,
    /// Whether the histories of the destination were read for that.
    has_read: bool,
    /// Commits of the source that a dry run would have brought over.
    promised: HashSet<Revision>,
}

impl<'a> Mirror<'a> {
    async fn new(request: &'a MirrorRequest, context: &'a Context, from: &'a dyn Refs, to: &'a dyn RefTarget) -> Result<Self> {
        let there = match retrying(&context.retry, &*context.reporter, "listing the branches of the destination", || to.list()).await {
            Ok(list) => Some(list),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        let exists = there.is_some();
        let (known, promised) = (HashMap::new(), HashSet::new());
        let there = there.unwrap_or_default();
        Ok(Self { request, context, from, to, there, exists, created: None, known, has_read: false, promised })
    }

    /// The branch that both places were opened at, with its history.
    async fn one_branch(&mut self) -> Result<MirrorReport> {
        let ends = &self.request.copy.ends;
        let revision = ops::list(&ends.from, self.context).await?.revision;
        let source = Ref::new(self.from.opened_at(), revision)?;
        let name = self.to.opened_at();
        let report = self.update(&source, name.strip_prefix("refs/heads/").unwrap_or(name)).await?;
        Ok(MirrorReport { refs: vec![report], created: self.created })
    }

    async fn everything(&mut self) -> Result<MirrorReport> {
        let context = self.context;
        let source = retrying(&context.retry, &*context.reporter, "listing the branches of the source", || self.from.list()).await?;
        if source.branches.is_empty() {
            return Err(Error::not_found("the source has no branches").hint("check the address; a repository without commits has none"));
        }
        let default = self.to.default_branch();
        let branches: Vec<Ref> = source.branches.iter().filter(|branch| !branch.name.starts_with(STAGING)).cloned().collect();
        let pairs = self.request.branch_map.pair(&branches, self.from.default_branch(), default)?;
        if !self.exists && pairs.first().is_none_or(|(_, to)| to != default) {
            return Err(Error::invalid(format!("no branch goes to {default}, the default branch of the destination, which is new"))
                .hint(format!("map one to it, as in --branch-map NAME={default}")));
        }
        let extra = self.extra(&pairs, &source)?;
        let mut refs = Vec::new();
        for (branch, to) in &pairs {
            let report = match self.branch(branch, to).await {
                Ok(report) => report,
                // Without a repository there is nothing to go on with.
                Err(error) if !self.exists && !self.request.copy.dry_run => return Err(error),
                Err(error) => RefReport::new(RefKind::Branch, Some(branch), to, Status::Failed).failed(error),
            };
            refs.push(report);
        }
        for tag in &source.tags {
            let failed = |error| RefReport::new(RefKind::Tag, Some(tag), &tag.name, Status::Failed).failed(error);
            refs.push(self.tag(tag).await.unwrap_or_else(failed));
        }
        self.delete(&extra, &mut refs).await;
        self.check(&mut refs).await?;
        Ok(MirrorReport { refs, created: self.created })
    }

    async fn branch(&mut self, branch: &Ref, to: &str) -> Result<RefReport> {
        if self.there.find(RefKind::Branch, to).is_some() || to == self.to.default_branch() {
            self.update(branch, to).await
        } else {
            self.make(RefKind::Branch, branch, to).await
        }
    }

    /// Brings a branch that is there up to date.
    async fn update(&mut self, branch: &Ref, to: &str) -> Result<RefReport> {
        let mut report = RefReport::new(RefKind::Branch, Some(branch), to, Status::UpToDate);
        let copy = self.copy_to(&branch.target, to)?;
        if self.request.history {
            let there = self.there.find(RefKind::Branch, to).cloned();
            let done = match &there {
                Some(there) => self.history_of(there).await?,
                None => Vec::new(),
            };
            let line = self.line_of(branch).await?;
            let resumed = resume(&line, &done, &copy.message.source);
            let head = ops::list_head(&copy.ends.to, self.context).await?;
            let Policy { delete: exact, max_delete, .. } = copy.policy;
            let replay = Replay { from: self.from, target: copy.ends.to.clone(), copy: &copy, exact, max_delete };
            let replayed = replay.run(&line, resumed, head, self.context).await?;
            self.created = self.created.or(replayed.created);
            report = report.replayed(replayed);
        } else {
            let done = ops::copy(&copy, self.context).await?;
            self.created = self.created.or(done.created);
            (report.destination_revision, report.generated) = (done.head, done.generated);
            if !done.plan.is_empty() {
                report.parts.push(Part { source: branch.target.clone(), title: String::new(), plan: done.plan, outcome: done.outcome });
            }
        }
        if !report.parts.is_empty() || (self.created.is_some() && !self.exists) {
            report.status = Status::Copied;
        }
        if self.request.copy.dry_run {
            self.promise(branch, &report);
        } else {
            self.exists = true;
            self.learn(branch, &report);
            self.set_there(RefKind::Branch, to, report.destination_revision.as_ref());
        }
        Ok(report)
    }

    /// The copy of one commit to one branch.
    fn copy_to(&self, from: &Revision, to: &str) -> Result<CopyRequest> {
        let mut copy = self.request.copy.clone();
        copy.ends.from = self.from.source(from.as_str())?;
        copy.ends.to = self.to.branch(to)?;
        if let Some(generated) = &mut copy.generated {
            generated.there = self.to.source(to)?;
        }
        Ok(copy)
    }

    async fn tag(&mut self, tag: &Ref) -> Result<RefReport> {
        let Some(there) = self.there.find(RefKind::Tag, &tag.name).cloned() else {
            return self.make(RefKind::Tag, tag, &tag.name).await;
        };
        let status = match self.same(&tag.target, &there.target).await? {
            true => Status::UpToDate,
            false if self.request.force_tags => return self.make(RefKind::Tag, tag, &tag.name).await,
            false => Status::Differs,
        };
        let report = RefReport::new(RefKind::Tag, Some(tag), &tag.name, status);
        Ok(RefReport { destination_revision: Some(there.target), ..report })
    }

    /// What the source lacks. Refused as a whole where the guards say so, before anything is done.
    fn extra(&self, pairs: &[(Ref, String)], source: &RefList) -> Result<Vec<(RefKind, Ref)>> {
        if !self.request.copy.policy.delete {
            return Ok(Vec::new());
        }
        let wanted: BTreeSet<&str> = pairs.iter().map(|(_, to)| to.as_str()).chain([self.to.default_branch()]).collect();
        let branches = self.there.branches.iter().filter(|branch| !wanted.contains(branch.name.as_str()));
        let tags = self.there.tags.iter().filter(|tag| source.find(RefKind::Tag, &tag.name).is_none());
        let extra: Vec<(RefKind, Ref)> =
            branches.map(|branch| (RefKind::Branch, branch.clone())).chain(tags.map(|tag| (RefKind::Tag, tag.clone()))).collect();
        // What a killed run left is no loss.
        let count = extra.iter().filter(|(_, known)| !known.name.starts_with(STAGING)).count();
        match self.request.copy.policy.max_delete {
            Some(most) if count > most => {
                Err(Error::invalid(format!("{count} branches and tags would be deleted, more than --max-delete {most}"))
                    .hint("look at it with --dry-run, then raise --max-delete if it is right"))
            }
            _ => Ok(extra),
        }
    }

    /// Deletes what the source lacks, unless something failed: what looks superfluous may then be what is left.
    async fn delete(&mut self, extra: &[(RefKind, Ref)], refs: &mut Vec<RefReport>) {
        if !extra.is_empty() && refs.iter().any(|report| report.error.is_some()) {
            self.context.reporter.event(&Event::Note("nothing is deleted, because not everything arrived".to_owned()));
            return;
        }
        for (kind, known) in extra {
            let mut report = RefReport::new(*kind, None, &known.name, Status::Deleted);
            let change = RefChange { kind: *kind, name: known.name.clone(), from: Some(known.target.clone()), to: None };
            // A branch on which a commit was made in this run is gone already.
            let is_there = self.there.find(*kind, &known.name).is_some();
            if is_there
                && !self.request.copy.dry_run
                && let Err(error) = self.change(&change).await
            {
                report = report.failed(error);
            }
            refs.push(report);
        }
    }

    /// Reads the refs once more: what was made must be where it was put.
    async fn check(&self, refs: &mut [RefReport]) -> Result<()> {
        let was_made = |report: &RefReport| matches!(report.status, Status::Created | Status::Moved);
        if self.request.copy.dry_run || !refs.iter().any(was_made) {
            return Ok(());
        }
        let now = retrying(&self.context.retry, &*self.context.reporter, "checking the destination", || self.to.list()).await?;
        for report in refs.iter_mut().filter(|report| was_made(report)) {
            let found = now.find(report.kind, &report.destination).map(|found| &found.target);
            if found != report.destination_revision.as_ref() {
                report.status = Status::Failed;
                let what = format!("the destination shows the {} {} elsewhere than it was put", report.kind, report.destination);
                report.error = Some(Error::new(Kind::Conflict, what).hint("run the same command again"));
            }
        }
        Ok(())
    }

    /// Notes which commits of the destination hold which of the source.
    fn learn(&mut self, source: &Ref, report: &RefReport) {
        for part in &report.parts {
            if let Some(landed) = part.outcome.commits.last() {
                self.known.entry(part.source.clone()).or_default().push(landed.revision.clone());
            }
        }
        if let Some(head) = &report.destination_revision {
            let known = self.known.entry(source.target.clone()).or_default();
            if !known.contains(head) {
                known.push(head.clone());
            }
        }
    }

    /// In a dry run: these commits would be there.
    fn promise(&mut self, source: &Ref, report: &RefReport) {
        if report.parts.is_empty() {
            return self.learn(source, report);
        }
        self.promised.extend(report.parts.iter().map(|part| part.source.clone()));
        self.promised.insert(source.target.clone());
    }

    fn set_there(&mut self, kind: RefKind, name: &str, at: Option<&Revision>) {
        let list = match kind {
            RefKind::Branch => &mut self.there.branches,
            RefKind::Tag => &mut self.there.tags,
        };
        list.retain(|known| known.name != name);
        list.extend(at.map(|at| Ref { name: name.to_owned(), target: at.clone() }));
    }
}

/// The branch on which a commit for a new branch or tag is made.
fn staging(kind: RefKind, name: &str) -> String {
    let hash = Oid::of(format!("{kind} {name}").as_bytes()).to_string();
    format!("{STAGING}{}", &hash[..12])
}

#[cfg(test)]
mod tests;
