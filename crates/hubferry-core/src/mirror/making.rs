//! Branches and tags that the destination lacks: a commit with exactly their content is found or made, then named.

use super::replay::{Replay, resume};
use super::trailers::origin;
use super::{Mirror, Part, RefReport, STAGING, Status, staging};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::generated::Generated;
use crate::manifest::{Manifest, Revision};
use crate::ops;
use crate::plan::{self, Policy};
use crate::refs::{PastCommit, Ref, RefChange, RefKind};
use crate::transfer::Outcome;
use crate::transfer::retry::retrying;

impl Mirror<'_> {
    /// Makes a branch or tag, or moves one that is elsewhere.
    pub(super) async fn make(&mut self, kind: RefKind, source: &Ref, name: &str) -> Result<RefReport> {
        let there = self.there.find(kind, name).map(|known| known.target.clone());
        let status = if there.is_some() { Status::Moved } else { Status::Created };
        let mut report = RefReport::new(kind, Some(source), name, status);
        if let Some(found) = self.find(&source.target).await? {
            report.destination_revision = Some(found);
        } else if self.request.copy.dry_run {
            if !self.promised.contains(&source.target) {
                report = self.foresee(source, report).await?;
                self.promise(source, &report);
            }
            return Ok(report);
        } else {
            let branch = staging(kind, name);
            self.begin(kind, source, name, &branch).await?;
            report = self.fill(source, &branch, report).await?;
            self.set_there(RefKind::Branch, &branch, report.destination_revision.as_ref());
            self.learn(source, &report);
        }
        if self.request.copy.dry_run {
            return Ok(report);
        }
        let to = report.destination_revision.clone();
        let change = RefChange { kind, name: name.to_owned(), from: there, to: to.clone() };
        let by_hand =
            || format!("make the {kind} {name} at {} by hand, then run the same command again", to.as_ref().map_or("", Revision::as_str));
        self.change(&change).await.map_err(|error| if error.kind() == Kind::Conflict { error } else { error.hint(by_hand()) })?;
        self.finish(&staging(kind, name)).await;
        Ok(report)
    }

    /// Begins a branch on which a commit is made, at what is nearest to it; a run that was killed may have begun it.
    async fn begin(&mut self, kind: RefKind, source: &Ref, name: &str, branch: &str) -> Result<()> {
        if self.there.find(RefKind::Branch, branch).is_some() {
            return Ok(());
        }
        let base = self.base(source).await?.ok_or_else(|| Error::not_found("the destination has no commit to begin a branch at"))?;
        let change = RefChange { kind: RefKind::Branch, name: branch.to_owned(), from: None, to: Some(base) };
        let by_hand = match kind {
            RefKind::Branch => format!("make the branch {name} by hand, for example with git push, then run the same command again"),
            RefKind::Tag => format!("no commit of the destination holds exactly what the tag {name} does: make one by hand and tag it"),
        };
        self.change(&change).await.map_err(|error| error.hint(by_hand))
    }

    /// Brings that branch to exactly the content of `source`.
    async fn fill(&mut self, source: &Ref, branch: &str, mut report: RefReport) -> Result<RefReport> {
        let mut copy = self.copy_to(&source.target, branch)?;
        (copy.policy.delete, copy.policy.max_delete) = (true, None);
        if self.request.history {
            let begun = self.there.find(RefKind::Branch, branch).cloned();
            let begun = begun.ok_or_else(|| Error::new(Kind::Bug, "a branch was begun and is not known"))?;
            let done = self.history_of(&begun).await?;
            let line = self.line_of(source).await?;
            let resumed = resume(&line, &done, &copy.message.source);
            let head = ops::list_head(&copy.ends.to, self.context).await?;
            let replay = Replay { from: self.from, target: copy.ends.to.clone(), copy: &copy, exact: true, max_delete: None };
            return Ok(report.replayed(replay.run(&line, resumed, head, self.context).await?));
        }
        let done = ops::copy(&copy, self.context).await?;
        (report.destination_revision, report.generated) = (done.head, done.generated);
        if !done.plan.is_empty() {
            report.parts.push(Part { source: source.target.clone(), title: String::new(), plan: done.plan, outcome: done.outcome });
        }
        Ok(report)
    }

    /// Removes such a branch when it has done its work.
    async fn finish(&mut self, branch: &str) {
        let Some(known) = self.there.find(RefKind::Branch, branch).cloned() else { return };
        let change = RefChange { kind: RefKind::Branch, name: known.name, from: Some(known.target), to: None };
        if let Err(error) = self.change(&change).await {
            self.context.reporter.event(&Event::Note(format!("the branch {branch} is no longer needed and could not be removed: {error}")));
        }
    }

    /// What would be done for a branch or tag, in a dry run: from the nearest commit on that is there or would be.
    async fn foresee(&mut self, source: &Ref, mut report: RefReport) -> Result<RefReport> {
        let base = self.base(source).await?;
        let mut copy = self.request.copy.clone();
        copy.ends.from = self.from.source(source.target.as_str())?;
        let line = self.line_of(source).await?;
        let near = line.iter().rposition(|commit| self.promised.contains(&commit.revision) || self.known.contains_key(&commit.revision));
        copy.policy.delete = true;
        let promised = near.map(|at| &line[at].revision).filter(|near| self.promised.contains(*near));
        let mut head = match (promised, &base, &mut copy.generated) {
            // What would be there by then cannot be read.
            (Some(near), _, generated) => {
                *generated = None;
                Some(self.content(near).await?)
            }
            (None, Some(base), generated) => {
                let there = self.to.source(base.as_str())?;
                if let Some(generated) = generated {
                    generated.there = there.clone();
                }
                Some(ops::list(&there, self.context).await?)
            }
            (None, None, _) => None,
        };
        if self.request.history {
            let replay = Replay { from: self.from, target: copy.ends.to.clone(), copy: &copy, exact: true, max_delete: None };
            return Ok(report.replayed(replay.run(&line, near, head, self.context).await?));
        }
        let mut manifest = self.content(&source.target).await?;
        ops::keep_excluded(&copy, &manifest, head.as_mut());
        report.generated = ops::leave_generated(&copy, &mut manifest, head.as_mut(), self.context).await?;
        ops::decide(&copy.ends, &mut manifest, head.as_mut(), self.context).await?;
        let policy = Policy { delete: true, max_delete: None, ..copy.policy };
        let plan = plan::plan(&manifest, head.as_ref(), &copy.ends.to.limits(), policy)?;
        report.parts.push(Part { source: source.target.clone(), title: String::new(), plan, outcome: Outcome::default() });
        Ok(report)
    }

    /// What takes part of a commit of the source.
    async fn content(&self, revision: &Revision) -> Result<Manifest> {
        let mut manifest = ops::list(&self.from.source(revision.as_str())?, self.context).await?;
        self.request.copy.filter.apply(&mut manifest);
        Ok(manifest)
    }

    /// A commit of the destination with exactly the content of a commit of the source.
    async fn find(&mut self, revision: &Revision) -> Result<Option<Revision>> {
        if !self.exists {
            return Ok(None);
        }
        self.read_histories().await?;
        for candidate in self.known.get(revision).cloned().unwrap_or_default() {
            if self.same(revision, &candidate).await? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Whether a commit of the source and one of the destination hold the same files, as far as the filters let them take part.
    pub(super) async fn same(&self, source: &Revision, target: &Revision) -> Result<bool> {
        let (left, right) = (self.from.source(source.as_str())?, self.to.source(target.as_str())?);
        let generated = self.request.copy.generated.as_ref().map(|rule| Generated { there: right.clone(), ..rule.clone() });
        let report = ops::diff(&left, &right, &self.request.copy.filter, generated.as_ref(), self.context).await?;
        Ok(report.differences.is_empty())
    }

    /// The commit of the destination to begin a new branch at: the copy of the nearest commit before it, else the default branch.
    async fn base(&mut self, source: &Ref) -> Result<Option<Revision>> {
        if !self.exists {
            return Ok(None);
        }
        self.read_histories().await?;
        if !self.known.is_empty() {
            let line = self.line_of(source).await?;
            if let Some(near) = line.iter().rev().find_map(|commit| self.known.get(&commit.revision)?.last()) {
                return Ok(Some(near.clone()));
            }
        }
        let default = self.there.find(RefKind::Branch, self.to.default_branch());
        Ok(default.or_else(|| self.there.branches.first()).map(|branch| branch.target.clone()))
    }

    /// Reads, once, which commits of the destination say that they are copies.
    async fn read_histories(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_read, true) {
            return Ok(());
        }
        for branch in self.there.branches.clone() {
            // What a killed run left may hold anything.
            if branch.name.starts_with(STAGING) {
                continue;
            }
            for commit in self.history_of(&branch).await? {
                if let Some(source) = origin(&commit.message, &self.request.copy.message.source) {
                    let known = self.known.entry(source).or_default();
                    if !known.contains(&commit.revision) {
                        known.push(commit.revision);
                    }
                }
            }
        }
        Ok(())
    }

    /// The history of a branch of the destination, newest first.
    pub(super) async fn history_of(&self, branch: &Ref) -> Result<Vec<PastCommit>> {
        let context = self.context;
        retrying(&context.retry, &*context.reporter, "reading the history of the destination", || self.to.commits(branch)).await
    }

    /// Every commit of a branch or tag of the source, oldest first.
    pub(super) async fn line_of(&self, source: &Ref) -> Result<Vec<PastCommit>> {
        let context = self.context;
        let mut line = retrying(&context.retry, &*context.reporter, "reading the history", || self.from.commits(source)).await?;
        if line.first().map(|commit| &commit.revision) != Some(&source.target) {
            return Err(Error::new(Kind::Changed, format!("the history of {} does not begin where it stands", source.name))
                .context("revision", &source.target)
                .hint("run the same command again; without --history a branch is copied as it is now"));
        }
        line.reverse();
        Ok(line)
    }

    /// Changes a branch or tag. After a lost answer what is there decides.
    pub(super) async fn change(&mut self, change: &RefChange) -> Result<()> {
        let context = self.context;
        let done = retrying(&context.retry, &*context.reporter, "changing branches and tags", || self.to.change(change)).await;
        if let Err(error) = done {
            if error.kind() != Kind::Conflict && error.kind() != Kind::NotFound && !error.is_ambiguous() {
                return Err(error);
            }
            let now = retrying(&context.retry, &*context.reporter, "checking the destination", || self.to.list()).await?;
            if now.find(change.kind, &change.name).map(|found| &found.target) != change.to.as_ref() {
                return Err(error);
            }
        }
        self.set_there(change.kind, &change.name, change.to.as_ref());
        Ok(())
    }
}

impl RefReport {
    /// Whether anything of it moved or changed, or would.
    pub fn is_change(&self) -> bool {
        !matches!(self.status, Status::UpToDate | Status::Differs | Status::Failed)
    }
}
