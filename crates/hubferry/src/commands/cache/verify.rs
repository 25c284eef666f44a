//! `cache verify`: every blob is read again, every link followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_remotes::hfcache::check::{Bad, check, tasks};
use hubferry_remotes::hfcache::layout::{Cache, Commit};
use hubferry_remotes::hfcache::scan::{CachedRepo, Scan};
use serde_json::json;

use super::choose::{Named, find, revisions};
use super::{Outcome, blocking, inventory};
use crate::args::cache::CacheVerifyArgs;
use crate::exit::Exit;
use crate::output::{count, printable, size, table};
use crate::session::Session;

/// Something in a cache that is not as it should be.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Where.
    pub(super) at: String,
    /// `wrong`, `missing` or `strange`.
    pub(super) word: &'static str,
    pub(super) why: String,
}

/// Ends the reading when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `hubferry cache verify`
pub(super) async fn run(args: CacheVerifyArgs, cache: Cache, session: &Session) -> Outcome {
    let wanted = wanted(&args.places, &cache).await?;
    let stop = Stop(Arc::default());
    let (flag, reporter): (_, Arc<dyn Reporter>) = (stop.0.clone(), session.progress.clone());
    let (faults, blobs, bytes) = blocking(move || look(&cache, &wanted, &*reporter, &flag)).await?;
    session.progress.finish();
    session.output.json(&json!({
        "ok": faults.is_empty(),
        "blobs": blobs,
        "bytes_read": bytes,
        "faults": faults.iter().map(|fault| json!({"path": fault.at, "what": fault.word, "why": fault.why})).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let rows: Vec<_> = faults.iter().map(|fault| vec![fault.word.to_owned(), printable(&fault.at), printable(&fault.why)]).collect();
        let verdict = if faults.is_empty() { "verified" } else { "FAILED" };
        format!("{}{} of {}\n{verdict}\n", table(&rows), count(blobs as u64, "blob"), size(bytes))
    });
    if faults.is_empty() {
        return Ok(Exit::Done);
    }
    session.output.say("hint: bring back what is wrong with `hubferry verify hfcache:org/model --against hf:org/model --repair`");
    Ok(Exit::VerificationFailed)
}

/// The revisions that were named, by folder; nothing when everything is meant.
async fn wanted(places: &[String], cache: &Cache) -> Result<BTreeMap<String, Option<Vec<Commit>>>> {
    let mut wanted: BTreeMap<String, Option<Vec<Commit>>> = BTreeMap::new();
    if places.is_empty() {
        return Ok(wanted);
    }
    let inventory = inventory(cache).await?;
    for text in places {
        let named = find(&inventory, text)?;
        let folder = inventory.repos[named.repo].folder.name().to_owned();
        let found = revisions(&inventory, &named)?;
        let commits = found.into_iter().map(|at| inventory.revision(at).commit.clone());
        match (&named, wanted.entry(folder).or_insert_with(|| Some(Vec::new()))) {
            (Named { rev: None, .. }, entry) => *entry = None,
            (_, Some(list)) => list.extend(commits),
            (_, None) => {}
        }
    }
    Ok(wanted)
}

fn look(
    cache: &Cache,
    wanted: &BTreeMap<String, Option<Vec<Commit>>>,
    reporter: &dyn Reporter,
    stop: &AtomicBool,
) -> Result<(Vec<Fault>, usize, u64)> {
    let scan = Scan::read(cache)?;
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for repo in &scan.repos {
        let only = match wanted.get(repo.folder.name()) {
            None if !wanted.is_empty() => continue,
            None | Some(None) => None,
            Some(Some(commits)) => Some(commits),
        };
        faults.extend(structure(repo, only));
        match only {
            None => all.extend(tasks(repo, None)),
            Some(commits) => all.extend(commits.iter().flat_map(|commit| tasks(repo, Some(commit)))),
        }
    }
    all.sort_by(|a, b| (b.size, &a.at).cmp(&(a.size, &b.at)));
    all.dedup_by(|a, b| a.at == b.at);
    if wanted.is_empty() {
        faults.extend(scan.strange.iter().map(|at| Fault {
            at: at.display().to_string(),
            word: "strange",
            why: "belongs to no repository, and to nothing else that is known".into(),
        }));
    }
    let bytes = all.iter().map(|task| task.size).sum();
    let wrong = |Bad { task, error }: Bad| Fault { at: task.shown.to_string(), word: "wrong", why: error.to_string() };
    faults.extend(check(&all, reporter, stop)?.into_iter().map(wrong));
    Ok((faults, all.len(), bytes))
}

/// What can be told without reading blobs.
fn structure(repo: &CachedRepo, only: Option<&Vec<Commit>>) -> Vec<Fault> {
    let fault = |at: &std::path::Path, error: &Error| Fault {
        at: at.display().to_string(),
        word: if error.kind() == Kind::Corrupt { "missing" } else { "strange" },
        why: error.message().to_owned(),
    };
    let mut faults = Vec::new();
    if only.is_none() {
        faults.extend(repo.problems.iter().map(|problem| fault(&problem.at, &problem.error)));
    }
    for snapshot in repo.snapshots.values().filter(|snapshot| only.is_none_or(|only| only.contains(&snapshot.commit))) {
        faults.extend(snapshot.problems.iter().map(|problem| fault(&problem.at, &problem.error)));
        let linked = |path: &hubferry_core::manifest::RepoPath| snapshot.problems.iter().any(|problem| problem.at.ends_with(path.as_str()));
        faults.extend(snapshot.missing().into_iter().filter(|path| !linked(path)).map(|path| Fault {
            at: format!("{}@{}/{path}", repo.id, snapshot.commit.as_str().get(..12).unwrap_or_default()),
            word: "missing",
            why: "the listing of that commit has it".into(),
        }));
    }
    faults
}
