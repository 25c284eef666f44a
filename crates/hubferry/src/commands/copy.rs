//! `copy`, `sync` and `apply`.

mod apply;
mod batch;
mod forecast;
mod on_host;
mod receipt;
mod records;
mod several;
mod whole;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::error::{Error, Kind};
use hubferry_core::filter::Filter;
use hubferry_core::ops::{self, Also, CopyReport, CopyRequest, Prepared};
use hubferry_core::plan::{Action, Policy};
use hubferry_core::transfer::{Context, Ends};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Outcome, ask};
use crate::args::{CopyArgs, SyncArgs, Transfer};
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, printable, size, table};
use crate::session::{Opened, Session, message, now, usage};

pub(crate) use apply::apply;
use batch::Job;
use forecast::Forecast;
use receipt::Finished;
use records::Records;

/// What `sync` adds to `copy`.
#[derive(Clone, Copy)]
struct Deletion {
    excluded: bool,
    most: Option<usize>,
    ask: bool,
}

/// One copy that was asked for.
struct Task<'a> {
    job: Job,
    args: &'a Transfer,
    deletion: Option<Deletion>,
    /// The plan that was made before.
    prepared: Option<Prepared>,
}

/// `hubferry copy`
pub(crate) async fn copy(args: CopyArgs, session: &Session) -> Outcome {
    let records = Records::new(args.transfer.plan.as_deref(), args.transfer.receipt.as_deref())?;
    let jobs = batch::jobs(&args, session).await?;
    let task = |job| Task { job, args: &args.transfer, deletion: None, prepared: None };
    let tasks: Vec<Task<'_>> = jobs.list.into_iter().map(task).collect();
    match &tasks[..] {
        [task] if session.by_host && jobs.is_one => on_host::run(task, session).await,
        _ if session.by_host => Err(usage("--via host is about one repository", "run it once for each of them")),
        [task] if jobs.is_one => single(task, &records, session).await,
        tasks => several::run(tasks, args.many.jobs, &records, session).await,
    }
}

/// `hubferry sync`
pub(crate) async fn sync(args: SyncArgs, session: &Session) -> Outcome {
    let records = Records::new(args.transfer.plan.as_deref(), args.transfer.receipt.as_deref())?;
    let (source, destination) = (session.address(&args.source)?, session.address(&args.destination)?);
    let destination = batch::resolve(&source, &destination, args.transfer.as_kind)?;
    let deletion = Some(Deletion { excluded: args.delete_excluded, most: args.max_delete, ask: !args.yes });
    let task = Task { job: Job { source, destination }, args: &args.transfer, deletion, prepared: None };
    if session.by_host {
        return on_host::run(&task, session).await;
    }
    single(&task, &records, session).await
}

/// Copies one repository whose failure is that of the command.
async fn single(task: &Task<'_>, records: &Records, session: &Session) -> Outcome {
    let place = Place { task, records, alone: true, session, context: session.context.clone() };
    let mut done = place.copy().await?;
    records.finish(session)?.name_in(&mut done.report);
    session.output.json(&done.report);
    Ok(done.exit)
}

/// What came of one copy, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Copied,
    /// Would be.
    Planned,
    UpToDate,
    /// Some of its refs were not brought over.
    Failed,
}

impl Status {
    /// Of a copy that did what it was to do.
    fn of(is_change: bool, dry_run: bool) -> Self {
        match (is_change, dry_run) {
            (false, _) => Self::UpToDate,
            (true, true) => Self::Planned,
            (true, false) => Self::Copied,
        }
    }
}

/// A copy that came to its end.
struct Done {
    status: Status,
    exit: Exit,
    moved_bytes: u64,
    planned_bytes: u64,
    planned_requests: u64,
    /// For machines.
    report: Value,
}

/// One repository to copy, with everything that is needed for it.
struct Place<'a> {
    task: &'a Task<'a>,
    records: &'a Records,
    /// Nothing else is copied at the same time.
    alone: bool,
    session: &'a Session,
    context: Context,
}

impl Place<'_> {
    /// Copies it and prints the text form.
    async fn copy(&self) -> Result<Done, Failure> {
        let (started, began, session) = (Instant::now(), now(), self.session);
        let Task { job: Job { source, destination }, args, deletion, prepared } = self.task;
        whole::check(&self.task.job, args)?;
        let opened = session.source_for(source, destination, args.kind, args.raw)?;
        let from = opened.source.clone();
        // The kind of a destination is that of the source, unless it is written: one name may be a model here and a dataset there.
        let kind = match source {
            Address::Repo(RepoAddress { kind: Some(kind), .. }) => Some(*kind),
            Address::Repo(_) if args.kind.is_none() => ops::describe(&from, &self.context).await?.kind,
            _ => args.kind,
        };
        let to = session.target(destination, kind)?;
        let mut request = CopyRequest {
            ends: Ends { from, also: Vec::new(), to },
            also: self.also()?,
            filter: Filter::new(&args.selection.include, &args.selection.exclude).map_err(Failure::usage)?,
            policy: Policy {
                delete: deletion.is_some(),
                delete_excluded: deletion.is_some_and(|deletion| deletion.excluded),
                max_delete: deletion.and_then(|deletion| deletion.most),
                allow_case_collisions: args.allow_case_collisions,
            },
            dry_run: args.dry_run || args.plan.is_some(),
            visibility: args.visibility,
            allow_public: args.allow_public,
            allow_secrets: args.allow_secrets,
            generated: session.generated(source, destination, session.source(destination, kind)?, args.raw),
            message: message(source, args.message.as_deref()),
            prepared: prepared.clone(),
        };
        if whole::is_wanted(&args.refs) {
            return whole::run(self, &opened, request, deletion.is_some_and(|deletion| deletion.ask)).await;
        }
        if deletion.is_some_and(|deletion| deletion.ask) && !request.dry_run {
            confirm(&mut request, destination, session).await?;
        }
        let report = ops::copy(&request, &self.context).await.map_err(|error| self.failure(error))?;
        session.progress.finish_one();
        let (took, transformed) = (started.elapsed(), opened.changes(&report.generated));
        let forecast = request.dry_run.then(|| Forecast::of(source, destination, &report, session));
        if self.alone && request.also.is_empty() {
            forecast::learn(source, destination, &report, session);
        }
        if self.records.wants_receipt() {
            self.receipt(&report, &opened, &began)?;
        }
        let what = Copied { source, destination, report: &report, dry_run: request.dry_run, forecast, took, transformed, session };
        session.output.text(|| what.text());
        let done = what.done();
        if self.records.wants_plan() {
            self.records.planned(apply::planned(self.task, kind, report, session)?);
        }
        Ok(done)
    }

    /// With a plan from before, a change of either side is no accident that goes away by trying again.
    fn failure(&self, error: Error) -> Failure {
        if self.task.prepared.is_none() || error.kind() != Kind::Conflict {
            return error.into();
        }
        let Job { source, destination } = &self.task.job;
        Failure { error: error.context("source", source).context("destination", destination), exit: Exit::Differs }
    }

    fn receipt(&self, report: &CopyReport, opened: &Opened, started: &str) -> Result<(), Failure> {
        let Job { source, destination } = &self.task.job;
        let (selection, changes, ended) = (&self.task.args.selection, opened.changes(&report.generated), now());
        let original = opened.original();
        let what = Finished { source, destination, report, selection, original, changes: &changes, started, ended: &ended };
        self.records.done(destination.to_string(), what.line()?);
        Ok(())
    }

    /// The further places that a user names, and those that are configured for the source's remote.
    fn also(&self) -> Result<Vec<Also>, Failure> {
        let (args, session, source) = (self.task.args, self.session, &self.task.job.source);
        let mut places = Vec::new();
        for text in &args.also {
            let address = session.address(text)?;
            places.push(Also { source: session.source(&address, args.kind)?, label: address.to_string(), named: true });
        }
        let Address::Repo(repo) = source else { return Ok(places) };
        for remote in session.settings.mirrors.get(&repo.remote).into_iter().flatten() {
            // Revisions are named otherwise there; which files are the same is decided by their hashes.
            let address = Address::Repo(RepoAddress { remote: remote.clone(), rev: None, ..repo.clone() });
            places.push(Also { source: session.source(&address, args.kind)?, label: address.to_string(), named: false });
        }
        Ok(places)
    }
}

/// On a terminal, deletions are named and asked for. Scripts are not asked: they have `--max-delete`.
async fn confirm(request: &mut CopyRequest, destination: &Address, session: &Session) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    request.dry_run = true;
    let report = ops::copy(request, &session.context).await?;
    request.dry_run = false;
    let paths: Vec<_> = report.plan.deletes().map(|path| printable(path.as_str())).collect();
    if paths.is_empty() {
        return Ok(());
    }
    session.progress.finish();
    let shown = paths.iter().take(10).map(|path| format!("  {path}")).collect::<Vec<_>>().join("\n");
    let more = if paths.len() > 10 { format!("\n  and {} more", paths.len() - 10) } else { String::new() };
    ask(&format!("{} will be deleted at {destination}:\n{shown}{more}", count(paths.len() as u64, "file")), session)
}

/// One finished copy, ready to be shown.
struct Copied<'a> {
    source: &'a Address,
    destination: &'a Address,
    report: &'a CopyReport,
    dry_run: bool,
    /// Of a plan that was only made.
    forecast: Option<Forecast>,
    took: Duration,
    /// What was changed in the card on the way.
    transformed: Vec<String>,
    session: &'a Session,
}

impl Copied<'_> {
    fn text(&self) -> String {
        let mut text = if self.dry_run { self.plan_text() } else { self.done_text() };
        for change in &self.transformed {
            text.push_str("README.md: ");
            text.push_str(&printable(change));
            text.push('\n');
        }
        for path in &self.report.generated {
            text.push_str(path.as_str());
            text.push_str(": written by a hub itself, left as it is\n");
        }
        text
    }

    fn transformed_files(&self) -> Vec<Value> {
        if self.transformed.is_empty() { Vec::new() } else { vec![json!({"path": "README.md", "changes": self.transformed})] }
    }

    fn plan_text(&self) -> String {
        let plan = &self.report.plan;
        let rows: Vec<Vec<String>> = plan
            .steps
            .iter()
            .map(|step| match &step.action {
                Action::Put { entry } => vec!["put".into(), size(entry.size), step.reason.text().into(), printable(step.path.as_str())],
                _ => vec!["delete".into(), String::new(), step.reason.text().into(), printable(step.path.as_str())],
            })
            .collect();
        let create = self.report.created.map_or(String::new(), |v| format!("would create {} ({})\n", self.destination, v.name()));
        let total = format!(
            "would move {} ({}), delete {}, keep {}\n",
            count(plan.puts().count() as u64, "file"),
            size(plan.bytes()),
            plan.deletes().count(),
            plan.kept_files
        );
        let forecast = self.forecast.as_ref().map(Forecast::text).unwrap_or_default();
        format!("{create}{}{total}{forecast}", table(&rows))
    }

    fn done_text(&self) -> String {
        let (report, outcome) = (self.report, &self.report.outcome);
        let took = duration(self.took);
        let kept = count(report.plan.kept_files, "file");
        let Some(landed) = outcome.commits.last() else {
            return format!("{} is up to date with {}: {kept} equal, 0 B moved, {took}\n", self.destination, self.source);
        };
        let deleted = report.plan.deletes().count() as u64;
        let deleted = if deleted > 0 { format!(", {} deleted", count(deleted, "file")) } else { String::new() };
        let reused =
            if outcome.reused_blobs > 0 { format!(", {} stored there before", count(outcome.reused_blobs, "blob")) } else { String::new() };
        let commit = match outcome.commits.len() {
            1 => format!("commit {}", landed.revision.short()),
            several => count(several as u64, "commit"),
        };
        format!(
            "{} -> {}\n{} in {commit} ({} moved{reused}), {kept} equal{deleted}, {took}\n",
            self.source,
            self.destination,
            count(report.plan.puts().count() as u64, "file"),
            size(outcome.moved_bytes),
        )
    }

    fn done(&self) -> Done {
        let CopyReport { plan, created, outcome, .. } = self.report;
        Done {
            status: Status::of(!plan.is_empty() || created.is_some(), self.dry_run),
            exit: Exit::Done,
            moved_bytes: outcome.moved_bytes,
            planned_bytes: plan.bytes(),
            planned_requests: self.forecast.as_ref().map_or(0, Forecast::requests),
            report: self.json(),
        }
    }

    fn json(&self) -> Value {
        let (report, outcome, wire) = (self.report, &self.report.outcome, &self.session.wire);
        let mut value = json!({
            "source": self.source.to_string(),
            "source_revision": report.plan.source,
            "via": self.session.remotes.via(self.source),
            "destination": self.destination.to_string(),
            "destination_revision": report.head,
            "dry_run": self.dry_run,
            "transformed": self.transformed_files(),
            "generated": report.generated,
            "created": report.created,
            "plan": {
                "steps": report.plan.steps,
                "files": report.plan.puts().count(),
                "bytes": report.plan.bytes(),
                "kept_files": report.plan.kept_files,
                "kept_bytes": report.plan.kept_bytes,
                "left_out": report.left_out,
            },
            "moved_blobs": outcome.moved_blobs,
            "moved_bytes": outcome.moved_bytes,
            "reused_blobs": outcome.reused_blobs,
            "compared_bytes": report.identified_bytes,
            "secrets": outcome.leaks,
            "commits": outcome.commits.iter().map(|landed| &landed.revision).collect::<Vec<_>>(),
            "wire": {"received": wire.received(), "sent": wire.sent(), "requests": wire.requests()},
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
        });
        if let Some(unverified) = self.session.remotes.unverified(self.destination) {
            value["unverified"] = json!(unverified);
        }
        if let Some(forecast) = &self.forecast {
            value["forecast"] = forecast.json();
        }
        value
    }
}
