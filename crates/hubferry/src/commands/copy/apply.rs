//! `apply`, and how a copy becomes a plan file and comes back from one.

use std::io::Read as _;
use std::path::Path;

use hubferry_core::address::{Address, RepoKind};
use hubferry_core::error::{Error, Kind};
use hubferry_core::ops::{CopyReport, Prepared};
use hubferry_core::plan::file::{self, LARGEST, PlanFile, PlannedCopy, PlannedDestination, PlannedSource, Settings};

use super::batch::Job;
use super::records::Records;
use super::{Deletion, Task, several, single};
use crate::args::{ApplyArgs, Directories, Selection, Transfer, WholeRepository};
use crate::commands::Outcome;
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// `hubferry apply`
pub(crate) async fn apply(args: ApplyArgs, session: &Session) -> Outcome {
    let plan = read(&args.file).map_err(|failure| Failure { error: failure.error.context("file", args.file.display()), ..failure })?;
    let transfers: Vec<Transfer> = plan.copies.iter().map(|copy| transfer(copy, &args)).collect();
    let mut tasks = Vec::new();
    for (copy, transfer) in plan.copies.iter().zip(&transfers) {
        tasks.push(task(copy, transfer, session)?);
    }
    let records = Records::new(None, args.receipt.as_deref())?;
    match &tasks[..] {
        [task] => single(task, &records, session).await,
        tasks => several::run(tasks, args.jobs, &records, session).await,
    }
}

/// Reads a plan file. Everything in it is a stranger's word.
fn read(path: &Path) -> Result<PlanFile, Failure> {
    let failed = |error| Failure::from(Error::io("read", path, error));
    let plan = std::fs::File::open(path).map_err(failed)?;
    let data = plan.metadata().map_err(failed)?;
    if !data.is_file() {
        return Err(Failure::usage(Error::invalid("a plan is a file").hint("name one that `hubferry copy … --plan FILE` wrote")));
    }
    if data.len() > LARGEST {
        return Err(Failure::usage(file::too_large()));
    }
    let mut text = Vec::new();
    // It may grow while it is read.
    plan.take(LARGEST + 1).read_to_end(&mut text).map_err(failed)?;
    PlanFile::from_json(&text).map_err(Failure::usage)
}

/// The flags with which the copy was planned.
fn transfer(copy: &PlannedCopy, args: &ApplyArgs) -> Transfer {
    let settings = copy.settings.clone();
    Transfer {
        selection: Selection::from_parts(settings.include, settings.exclude, settings.preset),
        also: settings.also,
        dry_run: args.dry_run,
        plan: None,
        receipt: args.receipt.clone(),
        kind: copy.kind,
        // The address of the destination says it.
        as_kind: None,
        visibility: settings.visibility,
        allow_public: settings.allow_public,
        allow_secrets: settings.allow_secrets,
        directories: Directories::default(),
        refs: WholeRepository::default(),
        message: settings.message,
        allow_case_collisions: settings.allow_case_collisions,
        raw: settings.raw,
        // It was looked at when the plan was made, and the plan names the bytes.
        check_weights: false,
    }
}

fn task<'a>(copy: &PlannedCopy, transfer: &'a Transfer, session: &Session) -> Result<Task<'a>, Failure> {
    let place = |address: &str, endpoint: Option<&str>| {
        let address = session.address(address)?;
        if matches!(address, Address::Many(_)) {
            let error = Error::invalid(format!("{address} may be many repositories, and a plan names each of them"));
            return Err(Failure::usage(error.hint("plan anew: a plan file is not edited by hand")));
        }
        let here = session.remotes.endpoint(&address);
        if here.as_deref() == endpoint {
            return Ok(address);
        }
        let name = |endpoint: Option<&str>| endpoint.unwrap_or("no hub").to_owned();
        let error = Error::new(
            Kind::Conflict,
            format!("{address} is at {} here, and the plan was made for {}", name(here.as_deref()), name(endpoint)),
        );
        Err(Failure { error: error.hint("use the settings with which the plan was made, or plan anew"), exit: Exit::Differs })
    };
    let source = place(&copy.source.address, copy.source.endpoint.as_deref())?;
    let destination = place(&copy.destination.address, copy.destination.endpoint.as_deref())?;
    let deletion =
        copy.settings.delete.then_some(Deletion { excluded: copy.settings.delete_excluded, most: copy.settings.max_delete, ask: false });
    let prepared = Prepared { plan: copy.plan(), create: copy.create };
    Ok(Task { job: Job { source, destination }, args: transfer, deletion, prepared: Some(prepared), locked: None })
}

/// What a plan file says of a copy that was planned.
pub(super) fn planned(task: &Task<'_>, kind: Option<RepoKind>, report: CopyReport, session: &Session) -> Result<PlannedCopy, Failure> {
    let (args, Job { source, destination }) = (task.args, &task.job);
    let mut also = Vec::new();
    for text in &args.also {
        also.push(fixed(&session.address(text)?)?);
    }
    Ok(PlannedCopy {
        source: PlannedSource { address: fixed(source)?, endpoint: session.remotes.endpoint(source), revision: report.plan.source },
        destination: PlannedDestination {
            address: fixed(destination)?,
            endpoint: session.remotes.endpoint(destination),
            revision: report.plan.parent,
        },
        kind: kind.or(matches!(destination, Address::Repo(_)).then_some(RepoKind::Model)),
        create: report.created,
        settings: Settings {
            include: args.selection.include.clone(),
            exclude: args.selection.exclude.clone(),
            also,
            delete: task.deletion.is_some(),
            delete_excluded: task.deletion.is_some_and(|deletion| deletion.excluded),
            max_delete: task.deletion.and_then(|deletion| deletion.most),
            allow_case_collisions: args.allow_case_collisions,
            visibility: args.visibility,
            allow_public: args.allow_public,
            allow_secrets: args.allow_secrets,
            message: args.message.clone(),
            raw: args.raw,
            preset: args.selection.preset(),
        },
        left_out: report.left_out.files,
        kept_files: report.plan.kept_files,
        kept_bytes: report.plan.kept_bytes,
        steps: report.plan.steps,
    })
}

/// An address that means the same from any working directory.
fn fixed(address: &Address) -> Result<String, Failure> {
    let Address::Dir(path) = address else { return Ok(address.to_string()) };
    let full = std::path::absolute(path).map_err(|e| Error::io("find", Path::new(path), e))?;
    Ok(Address::Dir(full.to_string_lossy().into_owned()).to_string())
}
