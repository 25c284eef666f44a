//! `cache verify`: every blob is read again, every link followed.

use std::collections::{BTreeMap, BTreeSet};

use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;
use hubferry_remotes::dir::{blocking, join};
use hubferry_remotes::hfcache::check::{Bad, Task, check, tasks};
use hubferry_remotes::hfcache::layout::{Cache, Commit};
use hubferry_remotes::hfcache::scan::{CachedRepo, Scan};
use serde_json::{Value, json};

use super::choose::{Named, find, revisions};
use super::repair::{Broken, Repair};
use super::{Outcome, inventory};
use crate::args::cache::CacheVerifyArgs;
use crate::exit::Exit;
use crate::output::{count, printable, size, table};
use crate::session::Session;

/// Something in a cache that is not as it should be.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Where.
    pub(super) at: String,
    /// `wrong`, `missing`, `strange` or `not repaired`.
    pub(super) word: &'static str,
    pub(super) why: String,
    /// The file that has to come again; `None` for what no hub can mend.
    pub(super) of: Option<Of>,
}

/// A file of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Of {
    folder: String,
    commit: Commit,
    path: RepoPath,
}

impl Fault {
    fn json(&self) -> Value {
        json!({"path": self.at, "what": self.word, "why": self.why})
    }

    fn row(&self) -> Vec<String> {
        vec![self.word.to_owned(), printable(&self.at), printable(&self.why)]
    }
}

/// `hubferry cache verify`
pub(super) async fn run(args: CacheVerifyArgs, cache: Cache, links: bool, session: &Session) -> Outcome {
    let repair = args.repair.then(|| Repair::new(cache.clone(), links, &args.from, session)).transpose()?;
    let wanted = wanted(&args.places, &cache).await?;
    let found = look(&cache, wanted, session).await?;
    let mut broken = Broken::new();
    for of in found.faults.iter().filter_map(|fault| fault.of.clone()) {
        broken.entry((of.folder, of.commit)).or_default().insert(of.path);
    }
    let repaired = match repair {
        Some(repair) => {
            let total: usize = broken.values().map(BTreeSet::len).sum();
            let left = repair.run(broken).await?;
            Some((total - left.len(), left))
        }
        None => None,
    };
    session.progress.finish();
    // What no hub can bring, such as a strange file, is wrong still.
    let is_left = |fault: &Fault| repaired.is_none() || fault.of.is_none();
    let ok = !found.faults.iter().any(is_left) && repaired.as_ref().is_none_or(|(_, left)| left.is_empty());
    let left = repaired.as_ref().map(|(_, left)| left.as_slice()).unwrap_or_default();
    session.output.json(&json!({
        "ok": ok,
        "blobs": found.blobs,
        "bytes_read": found.bytes,
        "faults": found.faults.iter().map(Fault::json).collect::<Vec<_>>(),
        "repaired": repaired.as_ref().map(|(number, _)| number),
        "not_repaired": left.iter().map(Fault::json).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let rows: Vec<_> = found.faults.iter().chain(left).map(Fault::row).collect();
        let mended = repaired.as_ref().map_or_else(String::new, |(number, _)| format!("{} repaired\n", count(*number as u64, "file")));
        let verdict = if ok { "verified" } else { "FAILED" };
        format!("{}{} of {}\n{mended}{verdict}\n", table(&rows), count(found.blobs as u64, "blob"), size(found.bytes))
    });
    if ok {
        return Ok(Exit::Done);
    }
    if repaired.is_none() && found.faults.iter().any(|fault| fault.of.is_some()) {
        session.output.say("hint: bring back what is wrong with the same command and --repair");
    }
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

/// What was found, and how much was read for it.
struct Found {
    faults: Vec<Fault>,
    blobs: usize,
    bytes: u64,
}

async fn look(cache: &Cache, wanted: BTreeMap<String, Option<Vec<Commit>>>, session: &Session) -> Result<Found> {
    let cache = cache.clone();
    let (users, mut faults) = blocking(move || list(&cache, &wanted)).await?;
    let mut tasks = users.clone();
    tasks.dedup_by(|a, b| a.at == b.at);
    let (blobs, bytes) = (tasks.len(), tasks.iter().map(|task| task.size).sum());
    for Bad { task, error } in check(tasks, session.progress.clone()).await? {
        // Bytes of the shared store may be those of several repositories.
        faults.extend(users.iter().filter(|user| user.at == task.at).map(|user| Fault {
            at: user.shown.to_string(),
            word: "wrong",
            why: error.to_string(),
            of: Some(Of { folder: user.folder.clone(), commit: user.commit.clone(), path: user.path.clone() }),
        }));
    }
    Ok(Found { faults, blobs, bytes })
}

/// What is to be read, once for each repository that uses it, and what is wrong already.
fn list(cache: &Cache, wanted: &BTreeMap<String, Option<Vec<Commit>>>) -> Result<(Vec<Task>, Vec<Fault>)> {
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
    all.dedup_by(|a, b| a.at == b.at && a.folder == b.folder);
    if wanted.is_empty() {
        faults.extend(scan.strange.iter().map(|at| Fault {
            at: at.display().to_string(),
            word: "strange",
            why: "belongs to no repository, and to nothing else that is known".into(),
            of: None,
        }));
    }
    Ok((all, faults))
}

/// What can be told without reading blobs.
fn structure(repo: &CachedRepo, only: Option<&Vec<Commit>>) -> Vec<Fault> {
    let fault = |at: &std::path::Path, error: &Error| Fault {
        at: at.display().to_string(),
        word: if error.kind() == Kind::Corrupt { "missing" } else { "strange" },
        why: error.message().to_owned(),
        of: None,
    };
    let mut faults = Vec::new();
    if only.is_none() {
        faults.extend(repo.problems.iter().map(|problem| fault(&problem.at, &problem.error)));
    }
    for snapshot in repo.snapshots.values().filter(|snapshot| only.is_none_or(|only| only.contains(&snapshot.commit))) {
        let mut problems: BTreeMap<_, _> = snapshot.problems.iter().map(|problem| (problem.at.clone(), &problem.error)).collect();
        for path in snapshot.lacking() {
            let of = Some(Of { folder: repo.folder.name().to_owned(), commit: snapshot.commit.clone(), path: path.clone() });
            let at = join(&snapshot.at, &path);
            faults.push(match problems.remove(&at) {
                Some(error) => Fault { of, ..fault(&at, error) },
                None => Fault {
                    at: format!("{}@{}/{path}", repo.id, snapshot.commit.as_str().get(..12).unwrap_or_default()),
                    word: "missing",
                    why: "the listing of that commit has it".into(),
                    of,
                },
            });
        }
        // What is left has names that no repository can have.
        faults.extend(problems.iter().map(|(at, error)| fault(at, error)));
    }
    faults
}
