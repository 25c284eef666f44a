//! `download --locked`: exactly the bytes that a lock file pins, wherever they come from.

use std::path::Path;
use std::sync::Arc;

use hubferry_core::address::{Address, RepoAddress, RepoKind};
use hubferry_core::error::Error;
use hubferry_core::lock::{LockedRepo, LockedSource};
use hubferry_core::remote::Source;
use serde_json::json;

use super::{Job, plan_text};
use crate::args::DownloadArgs;
use crate::commands::Outcome;
use crate::commands::lock::{pinned, read};
use crate::exit::{Exit, Failure};
use crate::session::{Session, mistyped, usage};

/// What has to come, and from where.
pub(super) struct Pin {
    repo: Arc<LockedRepo>,
    /// At the commit that is pinned.
    at: RepoAddress,
}

impl Pin {
    /// Lists what is pinned and nothing else. Without a network the cache itself has to have it.
    pub(super) fn source(&self, job: &Job<'_>) -> Result<Arc<dyn Source>, Failure> {
        let first = if job.offline().is_some() {
            let kind = self.at.kind.unwrap_or(RepoKind::Model);
            job.session.remotes.cache_at(job.cache.root(), job.links, &self.at, kind).map_err(mistyped)?.0
        } else {
            job.session.source(&Address::Repo(self.at.clone()), self.at.kind)?
        };
        let others = job.also()?.into_iter().map(|also| also.source);
        Ok(Arc::new(LockedSource::new(first, others, self.repo.clone())))
    }
}

/// Brings what `file` pins: everything, or what is called like `typed`.
pub(super) async fn run(file: &Path, typed: Option<&Address>, args: &DownloadArgs, session: &Session) -> Outcome {
    let mut repos = read(file)?.repositories;
    if let Some(typed) = typed {
        let Address::Repo(wanted) = typed else { return Err(usage("this names no repository", "write org/model, as the lock file does")) };
        repos.retain(|repo| {
            pinned(repo, None, session).is_ok_and(|at| at.id == wanted.id && wanted.kind.is_none_or(|kind| Some(kind) == at.kind))
        });
    }
    if repos.is_empty() {
        let what = typed.map_or_else(|| "anything".to_owned(), ToString::to_string);
        return Err(Error::not_found(format!("{} does not pin {what}", file.display())).hint("write it anew with `hubferry lock`").into());
    }
    if args.local_dir.is_some() && repos.len() > 1 {
        return Err(usage("the lock file pins several repositories, and they would all go to one directory", "name one of them"));
    }
    let (mut reports, mut text) = (Vec::new(), String::new());
    for repo in repos {
        let at = pinned(&repo, Some(repo.commit.as_str()), session)?;
        // In the cache it gets the name under which it was pinned, so that programs find it by that.
        let there = RepoAddress { rev: repo.reference.clone(), ..at.clone() };
        let job = Job::new(args, there, Some(Pin { repo: Arc::new(repo), at }), session)?;
        let done = job.run().await?;
        session.progress.finish();
        session.output.say(&done.news(&job));
        reports.push(done.json(&job));
        match &done.plan {
            Some(plan) => text.push_str(&plan_text(plan)),
            None => text.extend([&done.at.display().to_string(), "\n"]),
        }
    }
    session.output.json(&json!({"locked": file.display().to_string(), "repositories": reports}));
    session.output.text(|| text);
    Ok(Exit::Done)
}
