//! `--all-refs` and `--history`: more of a repository than one revision, and one report of it.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Instant;

use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::mirror::{self, BranchMap, MirrorReport, MirrorRequest, Part, RefReport, Status};
use hubferry_core::ops::CopyRequest;
use hubferry_core::refs::RefKind;
use serde_json::{Value, json};

use super::batch::Job;
use super::{Done, Place};
use crate::args::{Transfer, WholeRepository};
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, printable, size, table};
use crate::session::{Opened, Session, usage};

/// Whether more than one revision is asked for.
pub(super) fn is_wanted(args: &WholeRepository) -> bool {
    args.all_refs || args.history
}

/// Refuses places that cannot have what is asked for, before anybody is asked.
pub(super) fn check(job: &Job, transfer: &Transfer) -> Result<(), Failure> {
    let args = &transfer.refs;
    if !is_wanted(args) {
        return Ok(());
    }
    let flag = if args.all_refs { "--all-refs" } else { "--history" };
    for (record, given) in [("--plan", transfer.plan.is_some()), ("--receipt", transfer.receipt.is_some())] {
        if given {
            return Err(usage(
                &format!("{record} is about one revision, and {flag} brings over more"),
                &format!("leave out {record} or {flag}"),
            ));
        }
    }
    for place in [&job.source, &job.destination] {
        match place {
            Address::Dir(_) | Address::Ssh(_) => {
                let what = format!("{flag} does not work with {place}: a directory has no branches, tags and history");
                return Err(usage(&what, &format!("name repositories on hubs on both sides, or leave out {flag} to copy one revision")));
            }
            Address::Repo(RepoAddress { path: Some(_), .. }) => {
                let what =
                    format!("{flag} does not work with {place}: a part of a repository has no branches, tags and history of its own");
                return Err(usage(&what, "name the repository without a path, and choose files with --include"));
            }
            Address::Repo(RepoAddress { rev: Some(rev), .. }) if args.all_refs => {
                let what = format!("{place} names one revision, and --all-refs means all");
                return Err(usage(&what, &format!("leave out @{rev}; to send a branch elsewhere use --branch-map FROM=TO")));
            }
            _ => {}
        }
    }
    BranchMap::parse(args.branch_map.iter().map(String::as_str)).map(drop).map_err(Failure::usage)
}

/// Mirrors and prints the text form.
pub(super) async fn run(place: &Place<'_>, opened: &Opened, copy: CopyRequest, ask: bool) -> Result<Done, Failure> {
    let (started, session, args) = (Instant::now(), place.session, &place.task.args.refs);
    let mut request = MirrorRequest {
        copy,
        all_refs: args.all_refs,
        history: args.history,
        branch_map: BranchMap::parse(args.branch_map.iter().map(String::as_str)).map_err(Failure::usage)?,
        force_tags: args.force_tags,
    };
    if ask && !request.copy.dry_run && std::io::stdin().is_terminal() {
        request.copy.dry_run = true;
        let report = mirror::mirror(&request, &place.context).await?;
        request.copy.dry_run = false;
        session.progress.finish();
        confirm(&report, &place.task.job.destination, session)?;
    }
    let report = mirror::mirror(&request, &place.context).await?;
    session.progress.finish_one();
    let (job, dry_run) = (&place.task.job, request.copy.dry_run);
    for part in &report.refs {
        if let Some(error) = &part.error {
            session.output.say(&format!("{} {}", part.kind, names(part)));
            session.output.failure_text(&Failure::from(error.duplicate()));
        }
    }
    let took = started.elapsed();
    let transformed = opened.all_changes();
    session.output.text(|| {
        let changes: Vec<String> = transformed.iter().map(|change| format!("README.md: {}\n", printable(change))).collect();
        let generated: HashSet<_> = report.refs.iter().flat_map(|part| &part.generated).collect();
        let left: Vec<String> = generated.iter().map(|path| format!("{path}: written by a hub itself, left as it is\n")).collect();
        let (parts, sum) = (text(&report, dry_run), sum_text(&report, dry_run));
        format!("{} -> {}\n{parts}{}{}{sum}, {}\n", job.source, job.destination, changes.concat(), left.concat(), duration(took))
    });
    let wire = &session.wire;
    let (exit, planned_bytes) = (exit_of(&report), planned_bytes(&report));
    let moved_bytes = report.refs.iter().flat_map(|part| &part.parts).map(|part| part.outcome.moved_bytes).sum::<u64>();
    let is_change = report.refs.iter().any(RefReport::is_change);
    let status = if report.refs.iter().any(is_bad) { super::Status::Failed } else { super::Status::of(is_change, dry_run) };
    let value = json!({
        "source": job.source.to_string(),
        "destination": job.destination.to_string(),
        "dry_run": dry_run,
        "created": report.created,
        "transformed": transformed,
        "refs": report.refs.iter().map(part_json).collect::<Vec<_>>(),
        "summary": summary(&report),
        "moved_bytes": moved_bytes,
        "plan": {"bytes": planned_bytes},
        "wire": {"received": wire.received(), "sent": wire.sent(), "requests": wire.requests()},
        "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    Ok(Done { status, exit, moved_bytes, planned_bytes, planned_requests: 0, report: value })
}

/// On a terminal, what goes is named and asked for.
fn confirm(report: &MirrorReport, destination: &Address, session: &Session) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for part in &report.refs {
        if part.status == Status::Deleted {
            lines.push(format!("  the {} {}", part.kind, printable(&part.destination)));
        }
        // Branches that are not there yet lose nothing.
        let files: HashSet<_> = part.parts.iter().filter(|_| part.status == Status::Copied).flat_map(|part| part.plan.deletes()).collect();
        if !files.is_empty() {
            lines.push(format!("  {} of {}", count(files.len() as u64, "file"), printable(&part.destination)));
        }
    }
    if lines.is_empty() {
        Ok(())
    } else {
        crate::commands::ask(&format!("These will be deleted at {destination}:\n{}", lines.join("\n")), session)
    }
}

/// `main -> master`, or the one name.
fn names(part: &RefReport) -> String {
    let to = printable(&part.destination);
    match part.source.as_deref().map(printable) {
        Some(from) if from != to => format!("{from} -> {to}"),
        _ => to,
    }
}

fn text(report: &MirrorReport, dry_run: bool) -> String {
    let rows = report.refs.iter().flat_map(|part| {
        let mut rows = vec![vec![part.kind.to_string(), names(part), word(part.status, dry_run).to_owned(), detail(part)]];
        if dry_run {
            rows.extend(part.parts.iter().map(|made| {
                let plan = &made.plan;
                let what = format!("{} to put, {} to delete", count(plan.puts().count() as u64, "file"), plan.deletes().count());
                vec![String::new(), format!("  {}", made.source.short()), what, printable(&made.title)]
            }));
        }
        rows
    });
    table(&rows.collect::<Vec<_>>())
}

fn word(status: Status, dry_run: bool) -> &'static str {
    match (status, dry_run) {
        (Status::UpToDate, _) => "up to date",
        (Status::Copied, false) => "copied",
        (Status::Copied, true) => "to be copied",
        (Status::Created, false) => "created",
        (Status::Created, true) => "to be created",
        (Status::Moved, false) => "moved",
        (Status::Moved, true) => "to be moved",
        (Status::Deleted, false) => "deleted",
        (Status::Deleted, true) => "to be deleted",
        (Status::Differs, _) => "differs",
        _ => "failed",
    }
}

fn detail(part: &RefReport) -> String {
    let mut facts = Vec::new();
    if let (Some(at), Status::Copied | Status::Created | Status::Moved) = (&part.destination_revision, part.status) {
        facts.push(format!("at {}", at.short()));
    }
    let commits = landed(part).count();
    if commits > 0 {
        let moved = part.parts.iter().map(|made| made.outcome.moved_bytes).sum();
        facts.push(format!("{} ({} moved)", count(commits as u64, "commit"), size(moved)));
    }
    if part.already > 0 && part.is_change() {
        facts.push(format!("{} there before", count(part.already as u64, "commit")));
    }
    if !part.skipped.is_empty() {
        facts.push(format!("{} without a change skipped", count(part.skipped.len() as u64, "commit")));
    }
    if part.status == Status::Differs {
        facts.push("the destination has other content by that name; --force-tags moves it".to_owned());
    }
    facts.join(", ")
}

fn landed(part: &RefReport) -> impl Iterator<Item = &hubferry_core::manifest::Revision> {
    part.parts.iter().flat_map(|made| &made.outcome.commits).map(|landed| &landed.revision)
}

fn part_json(part: &RefReport) -> Value {
    let sum = |field: fn(&Part) -> u64| part.parts.iter().map(field).sum::<u64>();
    let made = |made: &Part| {
        json!({
            "source_revision": made.source,
            "title": made.title,
            "commits": made.outcome.commits.iter().map(|landed| &landed.revision).collect::<Vec<_>>(),
            "steps": made.plan.steps,
            "secrets": made.outcome.leaks,
        })
    };
    json!({
        "kind": part.kind,
        "source": part.source,
        "destination": part.destination,
        "source_revision": part.source_revision,
        "destination_revision": part.destination_revision,
        "status": part.status,
        "made": part.parts.iter().map(made).collect::<Vec<_>>(),
        "commits": landed(part).collect::<Vec<_>>(),
        "skipped": part.skipped,
        "already": part.already,
        "generated": part.generated,
        "moved_blobs": sum(|made| made.outcome.moved_blobs),
        "moved_bytes": sum(|made| made.outcome.moved_bytes),
        "reused_blobs": sum(|made| made.outcome.reused_blobs),
        "error": part.error.as_ref().map(|error| json!({"kind": error.kind().name(), "message": error.to_string(), "hint": error.hint_text()})),
    })
}

/// Bytes that a plan moves, each content once.
fn planned_bytes(report: &MirrorReport) -> u64 {
    let mut seen = HashSet::new();
    let puts = report.refs.iter().flat_map(|part| &part.parts).flat_map(|made| made.plan.puts());
    puts.filter(|(_, entry)| seen.insert((entry.size, entry.digests.sha256, entry.digests.git))).map(|(_, entry)| entry.size).sum()
}

fn number(report: &MirrorReport, wanted: impl Fn(&RefReport) -> bool) -> u64 {
    report.refs.iter().filter(|part| wanted(part)).count() as u64
}

fn summary(report: &MirrorReport) -> Value {
    let of = |status| number(report, |part| part.status == status);
    json!({
        "branches": number(report, |part| part.kind == RefKind::Branch),
        "tags": number(report, |part| part.kind == RefKind::Tag),
        "up_to_date": of(Status::UpToDate),
        "copied": of(Status::Copied),
        "created": of(Status::Created),
        "moved": of(Status::Moved),
        "deleted": of(Status::Deleted),
        "differs": of(Status::Differs),
        "failed": of(Status::Failed),
        "commits": report.refs.iter().flat_map(landed).count(),
        "exit": exit_of(report) as u8,
    })
}

fn sum_text(report: &MirrorReport, dry_run: bool) -> String {
    let all = |kind| number(report, |part| part.kind == kind);
    let tags = count(all(RefKind::Tag), "tag");
    let branches = if all(RefKind::Branch) == 1 { "1 branch".to_owned() } else { format!("{} branches", all(RefKind::Branch)) };
    let changed = number(report, RefReport::is_change);
    let bad = number(report, is_bad);
    let bad = if bad > 0 { format!(", {bad} not done") } else { String::new() };
    let moved = report.refs.iter().flat_map(|part| &part.parts).map(|made| made.outcome.moved_bytes).sum();
    if dry_run {
        return format!("{branches} and {tags}: {changed} would change{bad}; {} would move", size(planned_bytes(report)));
    }
    format!("{branches} and {tags}: {changed} changed{bad}; {} moved", size(moved))
}

fn is_bad(part: &RefReport) -> bool {
    matches!(part.status, Status::Failed | Status::Differs)
}

/// Partly done is a code of its own. Where nothing was done, all having failed alike, it is theirs.
fn exit_of(report: &MirrorReport) -> Exit {
    let exits: Vec<Exit> = report
        .refs
        .iter()
        .filter(|part| is_bad(part))
        .map(|part| part.error.as_ref().map_or(Exit::Partial, |error| Failure::from(error.duplicate()).exit))
        .collect();
    match exits.first() {
        None => Exit::Done,
        Some(_) if exits.len() < report.refs.len() => Exit::Partial,
        Some(first) if exits.iter().all(|exit| exit == first) => *first,
        Some(_) => Exit::Failed,
    }
}
