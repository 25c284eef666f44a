//! `copy --locked`: exactly what a lock file pins, from where it was or from where the user says.

use std::path::Path;
use std::sync::Arc;

use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::error::Error;
use hubferry_core::lock::{LockedRepo, LockedSource};
use hubferry_core::ops::Also;
use hubferry_core::remote::Source;

use super::batch::{Job, is_template, one_place_each, resolve};
use super::records::Records;
use super::{Task, several, single};
use crate::args::CopyArgs;
use crate::commands::Outcome;
use crate::commands::lock::{pinned, read};
use crate::exit::Failure;
use crate::session::{Opened, Session, usage};

/// Copies what `file` pins.
pub(super) async fn copy(file: &Path, args: &CopyArgs, records: &Records, session: &Session) -> Outcome {
    let locked = read(file)?;
    let (from, to) = match &args.places[..] {
        [to] => (None, session.address(to)?),
        [from, to] => (Some(session.address(from)?), session.address(to)?),
        _ => {
            return Err(usage(
                "--locked takes a destination, and before it a source if that is another one than the lock file names",
                "write hubferry copy --locked FILE DST, or hubferry copy --locked FILE SRC DST",
            ));
        }
    };
    let repositories: Vec<Arc<LockedRepo>> = locked.repositories.into_iter().map(Arc::new).collect();
    let mut tasks = Vec::new();
    match from {
        Some(from) => tasks.push((from.clone(), Arc::clone(meant(&from, &repositories, session)?))),
        None => {
            for repo in &repositories {
                tasks.push((Address::Repo(pinned(repo, Some(repo.commit.as_str()), session)?), Arc::clone(repo)));
            }
        }
    }
    if tasks.len() > 1 && !matches!(to, Address::Many(_)) && !is_template(&to) {
        return Err(usage(
            &format!("the lock file pins {} repositories, and they would all go to {to}", tasks.len()),
            "end the destination with a slash, such as ms:org/, or write ./models/{owner}/{name}",
        ));
    }
    let task = |(source, locked): (Address, Arc<LockedRepo>)| {
        let destination = resolve(&source, &to, args.transfer.as_kind)?;
        Ok(Task { job: Job { source, destination }, args: &args.transfer, deletion: None, prepared: None, locked: Some(locked) })
    };
    let tasks = tasks.into_iter().map(task).collect::<Result<Vec<_>, Failure>>()?;
    one_place_each(&tasks.iter().map(|task| task.job.clone()).collect::<Vec<_>>())?;
    match &tasks[..] {
        [] => Err(usage("the lock file pins nothing", "write one with `hubferry lock`")),
        [task] => single(task, records, session).await,
        tasks => several::run(tasks, args.many.jobs, records, session).await,
    }
}

/// The pinned repository that another place is to bring: that of the same name, or the only one.
fn meant<'a>(from: &Address, repositories: &'a [Arc<LockedRepo>], session: &Session) -> Result<&'a Arc<LockedRepo>, Failure> {
    if let [only] = repositories {
        return Ok(only);
    }
    let is_it = |repo: &&Arc<LockedRepo>| match (from, session.address(&repo.address)) {
        (Address::Repo(from), Ok(Address::Repo(RepoAddress { id, .. }))) => from.id == id,
        _ => false,
    };
    let mut found = repositories.iter().filter(is_it);
    if let (Some(repo), None) = (found.next(), found.next()) {
        return Ok(repo);
    }
    let error = Error::invalid(format!("the lock file does not pin exactly one repository of the name of {from}"));
    Err(Failure::usage(error.hint("leave the source out, and name it with --also")))
}

/// The pinned files, from the place itself or from one of the others.
pub(super) fn source(opened: &Opened, also: &[Also], locked: &Arc<LockedRepo>) -> Arc<dyn Source> {
    let others = also.iter().map(|also| also.source.clone());
    Arc::new(LockedSource::new(opened.source.clone(), others, locked.clone()))
}
