//! Many repositories: some at once, one report, and none that fails stops the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use hubferry_core::address::Address;
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::RepoPath;
use serde::Serialize;
use serde_json::{Value, json};

use super::batch::Job;
use super::records::Records;
use super::{Done, Place, Status, Task};
use crate::commands::Outcome;
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, size};
use crate::session::Session;

/// Copies all of them.
pub(super) async fn run(tasks: &[Task<'_>], at_once: u16, records: &Records, session: &Session) -> Outcome {
    let started = Instant::now();
    session.progress.expect_many();
    let running = stream::iter(tasks.iter().enumerate()).map(|(at, task)| async move { (at, one(task, records, session).await) });
    let mut ended: Vec<(usize, End)> = running.buffer_unordered(usize::from(at_once)).collect().await;
    session.progress.finish();
    ended.sort_by_key(|(at, _)| *at);
    let mut sum = Sum::default();
    let mut results = Vec::new();
    for (at, end) in ended {
        sum.add(&end);
        results.push(line(&tasks[at].job, end));
    }
    session.output.text(|| sum.text(started.elapsed(), session));
    let written = records.finish(session)?;
    let (wire, mut summary) = (&session.wire, json!(sum));
    summary["wire"] = json!({"received": wire.received(), "sent": wire.sent(), "requests": wire.requests()});
    let mut report = json!({"results": results, "summary": summary});
    written.name_in(&mut report);
    session.output.json(&report);
    Ok(sum.exit())
}

type End = Result<Done, Failure>;

/// Copies one; says at once how it failed.
async fn one(task: &Task<'_>, records: &Records, session: &Session) -> End {
    let job = &task.job;
    let mut context = session.context.clone();
    context.reporter = Arc::new(Named { name: name(&job.source), inner: context.reporter });
    let ended = Place { task, records, alone: false, session, context }.copy().await;
    if let Err(failure) = &ended {
        session.output.say(&format!("{} -> {}", job.source, job.destination));
        session.output.failure_text(failure);
    }
    ended
}

/// What a report says of one repository.
fn line(job: &Job, end: End) -> Value {
    match end {
        Ok(Done { status, mut report, .. }) => {
            report["status"] = json!(status);
            if let Some(fields) = report.as_object_mut() {
                // What passed is counted for the whole run.
                fields.remove("wire");
            }
            report
        }
        Err(failure) => json!({
            "secrets": failure.secrets(),
            "source": job.source.to_string(),
            "destination": job.destination.to_string(),
            "status": Status::Failed,
            "error": failure.error.to_string(),
            "hint": failure.hint(),
            "exit": failure.exit as u8,
        }),
    }
}

/// How many ended how.
#[derive(Default, Serialize)]
struct Sum {
    copied: u64,
    planned: u64,
    up_to_date: u64,
    failed: u64,
    moved_bytes: u64,
    planned_bytes: u64,
    planned_requests: u64,
    /// With which codes the failed ones would have ended alone.
    #[serde(skip)]
    exits: Vec<Exit>,
}

impl Sum {
    fn add(&mut self, end: &End) {
        let failed = match end {
            Ok(done) => (done.status == Status::Failed).then_some(done.exit),
            Err(failure) => Some(failure.exit),
        };
        self.exits.extend(failed);
        match end {
            Ok(Done { status: Status::Copied, .. }) => self.copied += 1,
            Ok(Done { status: Status::Planned, .. }) => self.planned += 1,
            Ok(Done { status: Status::UpToDate, .. }) => self.up_to_date += 1,
            Ok(Done { status: Status::Failed, .. }) | Err(_) => {
                self.failed += 1;
                return;
            }
        }
        if let Ok(done) = end {
            self.moved_bytes += done.moved_bytes;
            self.planned_bytes += done.planned_bytes;
            self.planned_requests += done.planned_requests;
        }
    }

    fn all(&self) -> u64 {
        self.copied + self.planned + self.up_to_date + self.failed
    }

    /// Partly done is a code of its own. Where nothing was done, all having failed alike, it is theirs.
    fn exit(&self) -> Exit {
        match self.exits.first() {
            None => Exit::Done,
            Some(_) if self.failed < self.all() => Exit::Partial,
            Some(first) if self.exits.iter().all(|exit| exit == first) => *first,
            Some(_) => Exit::Failed,
        }
    }

    fn text(&self, took: Duration, session: &Session) -> String {
        let parts = [(self.copied, "copied"), (self.planned, "to be copied"), (self.up_to_date, "up to date"), (self.failed, "failed")];
        let parts: Vec<String> = parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        let bytes = if self.planned > 0 {
            format!("{} would move in about {}", size(self.planned_bytes), count(self.planned_requests, "request"))
        } else {
            format!("{} moved in {}", size(self.moved_bytes), count(session.wire.requests(), "request"))
        };
        let all = if self.all() == 1 { "1 repository".to_owned() } else { format!("{} repositories", self.all()) };
        format!("{all}: {}; {bytes}, {}\n", parts.join(", "), duration(took))
    }
}

/// Tells events of one repository from those of the others.
struct Named {
    name: String,
    inner: Arc<dyn Reporter>,
}

impl Reporter for Named {
    fn event(&self, event: &Event) {
        let named = |path: &RepoPath| RepoPath::new(format!("{}/{path}", self.name)).unwrap_or_else(|_| path.clone());
        self.inner.event(&match event {
            Event::Started { path, size } => Event::Started { path: named(path), size: *size },
            Event::Progress { path, bytes } => Event::Progress { path: named(path), bytes: *bytes },
            Event::Restart { path } => Event::Restart { path: named(path) },
            Event::Finished { path, size, moved } => Event::Finished { path: named(path), size: *size, moved: *moved },
            Event::Retrying { what, why, pause, attempt } => {
                let (what, why) = (format!("{}: {what}", self.name), why.clone());
                Event::Retrying { what, why, pause: *pause, attempt: *attempt }
            }
            Event::Note(text) => Event::Note(format!("{}: {text}", self.name)),
            Event::Detail(text) => Event::Detail(format!("{}: {text}", self.name)),
            other => other.clone(),
        });
    }
}

/// How events name a repository.
fn name(source: &Address) -> String {
    match source {
        Address::Repo(repo) => repo.id.to_string(),
        Address::Many(_) | Address::Dir(_) | Address::Ssh(_) => source.to_string(),
    }
}
