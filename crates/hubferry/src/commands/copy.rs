//! `copy` and `sync`.

use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};

use hubferry_core::address::{Address, RepoAddress, RepoId};
use hubferry_core::error::{Error, Kind};
use hubferry_core::filter::Filter;
use hubferry_core::ops::{self, CopyReport, CopyRequest};
use hubferry_core::plan::{Action, Policy};
use hubferry_core::transfer::Ends;
use serde_json::{Value, json};

use super::Outcome;
use crate::args::{CopyArgs, SyncArgs, Transfer};
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, printable, size, table};
use crate::session::{Session, message, usage};

/// What `sync` adds to `copy`.
struct Deletion {
    most: Option<usize>,
    ask: bool,
}

/// `hubferry copy`
pub(crate) async fn copy(args: CopyArgs, session: &Session) -> Outcome {
    let destination = session.address(&args.destination)?;
    let several = args.sources.len() > 1;
    if several && !matches!(destination, Address::Namespace { .. }) {
        return Err(usage("several sources need a namespace to go to", "end the destination with a slash, such as ms:org/"));
    }
    let mut results = Vec::new();
    let mut failed = false;
    for text in &args.sources {
        let source = session.address(text)?;
        match one(&source, &destination, &args.transfer, None, session).await {
            Ok(value) => results.push(value),
            // One repository that fails does not stop the others.
            Err(failure) if several && failure.exit != Exit::Interrupted => {
                session.progress.finish();
                session.output.failure_text(&failure);
                results.push(json!({"source": source.to_string(), "error": failure.error.to_string(), "exit": failure.exit as u8}));
                failed = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    if several {
        session.output.json(&json!({ "results": results }));
        return Ok(if failed { Exit::Partial } else { Exit::Done });
    }
    for value in &results {
        session.output.json(value);
    }
    Ok(Exit::Done)
}

/// `hubferry sync`
pub(crate) async fn sync(args: SyncArgs, session: &Session) -> Outcome {
    let (source, destination) = (session.address(&args.source)?, session.address(&args.destination)?);
    let deletion = Deletion { most: args.max_delete, ask: !args.yes };
    let value = one(&source, &destination, &args.transfer, Some(deletion), session).await?;
    session.output.json(&value);
    Ok(Exit::Done)
}

/// Copies one repository; prints the text form and returns the JSON form.
async fn one(
    source: &Address,
    destination: &Address,
    args: &Transfer,
    deletion: Option<Deletion>,
    session: &Session,
) -> Result<Value, Failure> {
    let started = Instant::now();
    let from = session.source(source, args.kind)?;
    // The kind of a destination is that of the source, unless it is written: one name may be a model here and a dataset there.
    let kind = match source {
        Address::Repo(RepoAddress { kind: Some(kind), .. }) => Some(*kind),
        Address::Repo(_) if args.kind.is_none() => ops::describe(&from, &session.context).await?.kind,
        _ => args.kind,
    };
    let mut destination = resolve(source, destination)?;
    if let (Some(kind), Address::Repo(repo)) = (args.as_kind, &mut destination) {
        repo.kind = Some(kind);
    }
    let to = session.target(&destination, kind)?;
    let mut request = CopyRequest {
        ends: Ends { from, also: Vec::new(), to },
        filter: Filter::new(&args.selection.include, &args.selection.exclude).map_err(Failure::usage)?,
        policy: Policy {
            delete: deletion.is_some(),
            max_delete: deletion.as_ref().and_then(|deletion| deletion.most),
            allow_case_collisions: args.allow_case_collisions,
        },
        dry_run: args.dry_run,
        visibility: args.visibility,
        allow_public: args.allow_public,
        message: message(source, args.message.as_deref()),
    };
    if deletion.is_some_and(|deletion| deletion.ask) && !args.dry_run {
        confirm(&mut request, &destination, session).await?;
    }
    let report = ops::copy(&request, &session.context).await?;
    session.progress.finish();
    let what = Copied { source, destination: &destination, report: &report, dry_run: args.dry_run, took: started.elapsed(), session };
    session.output.text(|| what.text());
    Ok(what.json())
}

/// `ms:org/` takes the name of the source.
fn resolve(source: &Address, destination: &Address) -> Result<Address, Failure> {
    let Address::Namespace { remote, kind, owner } = destination else {
        return Ok(destination.clone());
    };
    let Address::Repo(from) = source else {
        return Err(usage("a directory has no name to take into a namespace", "write the whole destination, such as ms:org/name"));
    };
    let id = RepoId::new(Some(owner), from.id.name()).map_err(Failure::usage)?;
    Ok(Address::Repo(RepoAddress { remote: remote.clone(), kind: kind.or(from.kind), id, rev: None, path: None }))
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
    session.output.ask(&format!("{} will be deleted at {destination}:\n{shown}{more}\nGo on? [y/N] ", count(paths.len() as u64, "file")));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| Error::new(Kind::Io, "cannot read the answer").caused_by(e))?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Error::new(Kind::Interrupted, "nothing was changed").hint("look at the plan with --dry-run").into())
}

/// One finished copy, ready to be shown.
struct Copied<'a> {
    source: &'a Address,
    destination: &'a Address,
    report: &'a CopyReport,
    dry_run: bool,
    took: Duration,
    session: &'a Session,
}

impl Copied<'_> {
    fn text(&self) -> String {
        if self.dry_run { self.plan_text() } else { self.done_text() }
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
        format!("{create}{}{total}", table(&rows))
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

    fn json(&self) -> Value {
        let (report, outcome, wire) = (self.report, &self.report.outcome, &self.session.wire);
        json!({
            "source": self.source.to_string(),
            "source_revision": report.plan.source,
            "destination": self.destination.to_string(),
            "destination_revision": report.head,
            "dry_run": self.dry_run,
            "created": report.created,
            "plan": {
                "steps": report.plan.steps,
                "bytes": report.plan.bytes(),
                "kept_files": report.plan.kept_files,
                "kept_bytes": report.plan.kept_bytes,
                "left_out": report.left_out,
            },
            "moved_blobs": outcome.moved_blobs,
            "moved_bytes": outcome.moved_bytes,
            "reused_blobs": outcome.reused_blobs,
            "compared_bytes": report.identified_bytes,
            "commits": outcome.commits.iter().map(|landed| &landed.revision).collect::<Vec<_>>(),
            "wire": {"received": wire.received(), "sent": wire.sent(), "requests": wire.requests()},
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }
}
