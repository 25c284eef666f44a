//! `adopt`: files that are on this machine already become part of the cache, after they were read and found to be what the hub says.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hubferry_core::address::{Address, RepoAddress, RepoKind};
use hubferry_core::error::{Error, Kind};
use hubferry_core::manifest::{RepoPath, Revision};
use hubferry_core::ops::{self, selecting};
use hubferry_remotes::hfcache::adopt::{Adopted, Adopting};
use hubferry_remotes::hfcache::layout::{Commit, Holds, parse_folder_name};
use hubferry_remotes::linking::{HardLinks, System, Way};
use serde_json::json;

use super::{Job, address, repository};
use crate::args::{AdoptArgs, DownloadArgs};
use crate::commands::Outcome;
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, printable, size, table};
use crate::session::{Session, mistyped, usage};

/// Names that are shown of a list.
const SHOWN: usize = 5;

/// `hubferry adopt`
pub(crate) async fn run(args: AdoptArgs, session: &Session) -> Outcome {
    let folder = args.folder.clone();
    if !folder.is_dir() {
        return Err(Error::not_found(format!("{} is not a directory", folder.display())).hint("name the one that holds the files").into());
    }
    let typed = match &args.place {
        Some(text) => address(text, session)?,
        None => guess(&folder, session)?,
    };
    let links = if args.copy { HardLinks::Forbidden } else { HardLinks::Allowed };
    let (complete, is_guess) = (args.complete, args.place.is_none());
    let args = DownloadArgs::from(args);
    let job = Job::new(&args, repository(Some(typed))?, None, session)?;
    if is_guess {
        session.output.say(&format!("{} is taken for {}, after its name", folder.display(), job.label()));
    }
    adopt(job, &folder, links, complete).await.map_err(|failure| match failure.error.kind() {
        Kind::NotFound if is_guess => failure.error.hint("name the repository that the files are of: hubferry adopt DIR org/model").into(),
        _ => failure,
    })
}

async fn adopt(mut job: Job<'_>, folder: &Path, links: HardLinks, complete: bool) -> Outcome {
    let session = job.session;
    if let Some(setting) = job.offline() {
        let error = Error::new(Kind::Unavailable, format!("the hub says what the files should be, and {setting} forbids to ask it"));
        return Err(error.hint(format!("unset {setting}")).into());
    }
    let (source, about) = job.open().await?;
    let kind = job.kind().or(about.kind).unwrap_or(RepoKind::Model);
    // What is compared now is what is named at the end, whatever the branch does meanwhile.
    let source = match about.revision.as_ref().filter(|revision| Commit::parse(revision.as_str()).is_some()) {
        Some(revision) => {
            let pinned = RepoAddress { rev: Some(revision.as_str().to_owned()), kind: Some(kind), ..job.repo.clone() };
            session.source(&Address::Repo(pinned), Some(kind))?
        }
        None => source,
    };
    let (mut listing, _) = ops::glance(&source, &session.context).await?;
    let filter = selecting::resolve(&job.filter, &source, &listing, &session.context).await?;
    filter.apply(&mut listing);
    let adopting = Adopting {
        folder: job.cache.repo(Holds::Repo(kind), &job.repo.id)?,
        linker: Arc::new(System),
        links,
        dry_run: job.args.dry_run,
        reporter: session.context.reporter.clone(),
    };
    let revision = listing.revision.clone();
    let adopted = adopting.run(folder.to_path_buf(), listing).await?;
    let found: BTreeSet<RepoPath> = adopted.taken.keys().chain(&adopted.there).cloned().collect();
    for (_, error) in &adopted.unread {
        session.output.say(&format!("not looked at: {}", printable(&error.to_string())));
    }
    if found.is_empty() && !complete {
        let error = Error::not_found(format!("nothing in {} is a file of {} at {}", folder.display(), job.label(), revision.short()));
        let hint = if adopted.different.is_empty() {
            "name the repository and the revision that the files are of".to_owned()
        } else {
            format!("what has the right names and sizes has other bytes: bring it with hubferry download {}", job.label())
        };
        return Err(error.hint(hint).into());
    }
    let mut done = Done { adopted, revision, moved_bytes: 0, at: None };
    if !job.args.dry_run {
        job.filter = if complete { filter } else { filter.only(found) };
        let (here, target) = session.remotes.cache_at(job.cache.root(), job.links, &job.repo, kind).map_err(mistyped)?;
        let report = job.copy(source, here, target, None).await?;
        done.moved_bytes = report.outcome.moved_bytes;
        let rev = Some(report.plan.source.as_str()).filter(|rev| Commit::parse(rev).is_some()).or(job.repo.rev.as_deref());
        let held = job.held(Some(kind), rev)?;
        done.at = Some(held.ok_or_else(|| Error::new(Kind::Conflict, "the snapshot has just been removed"))?.at.display().to_string());
    }
    session.progress.finish();
    done.show(&job, folder, complete);
    Ok(Exit::Done)
}

/// What came of it.
struct Done {
    adopted: Adopted,
    revision: Revision,
    moved_bytes: u64,
    /// The snapshot, unless nothing was written.
    at: Option<String>,
}

impl Done {
    fn show(&self, job: &Job<'_>, folder: &Path, complete: bool) {
        let (output, adopted) = (&job.session.output, &self.adopted);
        output.say(&self.news(job));
        let is_all = adopted.different.is_empty() && adopted.missing.is_empty();
        if !complete && !is_all {
            for (paths, what) in [(&adopted.different, "other bytes in"), (&adopted.missing, "not found in")] {
                if !paths.is_empty() {
                    output.say(&format!("{what} {}: {}", folder.display(), named(paths)));
                }
            }
            output.say(&format!("hint: bring them with: hubferry download {}", job.label()));
        }
        output.json(&json!({
            "source": job.label(),
            "revision": self.revision,
            "path": self.at,
            "dry_run": self.at.is_none(),
            "adopted": adopted.taken.iter().map(|(path, way)| json!({"path": path, "way": way})).collect::<Vec<_>>(),
            "there": adopted.there,
            "different": adopted.different,
            "missing": adopted.missing,
            "bytes": adopted.bytes,
            "moved_bytes": self.moved_bytes,
        }));
        output.text(|| {
            if let Some(at) = &self.at {
                return format!("{at}\n");
            }
            let rows: Vec<_> = adopted.taken.keys().map(|path| vec!["take".to_owned(), printable(path.as_str())]).collect();
            format!("{}would take {} ({})\n", table(&rows), count(adopted.taken.len() as u64, "file"), size(adopted.bytes))
        });
    }

    fn news(&self, job: &Job<'_>) -> String {
        let adopted = &self.adopted;
        let by = |way| adopted.taken.values().filter(|taken| **taken == Some(way)).count();
        let ways: Vec<String> = [(Way::Cloned, "share their blocks"), (Way::Linked, "linked"), (Way::Copied, "copied")]
            .into_iter()
            .filter_map(|(way, word)| Some(by(way)).filter(|n| *n > 0).map(|n| format!("{n} {word}")))
            .collect();
        let ways = if ways.is_empty() { String::new() } else { format!(": {}", ways.join(", ")) };
        let there = if adopted.there.is_empty() { String::new() } else { format!(", {} were there", adopted.there.len()) };
        let moved = if self.moved_bytes == 0 { String::new() } else { format!(", {} moved", size(self.moved_bytes)) };
        let taken = count(adopted.taken.len() as u64, "file");
        let (label, took) = (job.label(), duration(job.started.elapsed()));
        let at = self.revision.short();
        format!("{label} at {at}: {taken} adopted ({}{ways}){there}{moved}, {took}", size(adopted.bytes))
    }
}

/// The first few of a list.
fn named(paths: &BTreeSet<RepoPath>) -> String {
    let shown = paths.iter().take(SHOWN).map(|path| printable(path.as_str())).collect::<Vec<_>>().join(", ");
    if paths.len() > SHOWN { format!("{shown} and {} more", paths.len() - SHOWN) } else { shown }
}

/// The repository that a directory may be of: what it is a clone of, or what it is called like. Nothing rests on it, because every file
/// is compared with what the hub says.
fn guess(folder: &Path, session: &Session) -> Result<Address, Failure> {
    let full = folder.canonicalize().map_err(|error| Error::io("find", folder, error))?;
    let origin = std::fs::read_to_string(full.join(".git/config")).ok().as_deref().and_then(origin).map(str::to_owned);
    let name = |at: &Path| at.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let own = name(&full).unwrap_or_default();
    let cached = parse_folder_name(&own).map(|(holds, id)| format!("hf:{}/{id}", holds.prefix()));
    let above = full.parent().and_then(name).map(|above| format!("hf:{above}/{own}"));
    let guesses = [origin, cached, above].into_iter().flatten();
    let mut parsed = guesses.filter_map(|text| session.address(&text).ok()).filter(|address| matches!(address, Address::Repo(_)));
    parsed.next().ok_or_else(|| {
        let message = format!("nothing says which repository the files in {} are of", folder.display());
        usage(&message, "name it: hubferry adopt DIR org/model")
    })
}

/// The URL of `origin` in the configuration of a clone.
fn origin(config: &str) -> Option<&str> {
    let (_, section) = config.split_once("[remote \"origin\"]")?;
    let lines = section.lines().skip(1).take_while(|line| !line.trim_start().starts_with('['));
    let mut urls = lines.filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "url").map(|(_, url)| url.trim()));
    urls.next().map(|url| url.strip_suffix(".git").unwrap_or(url))
}

impl From<AdoptArgs> for DownloadArgs {
    fn from(args: AdoptArgs) -> Self {
        Self {
            place: args.place,
            files: Vec::new(),
            revision: args.revision,
            kind: args.kind,
            cache_dir: args.cache_dir,
            local_dir: None,
            also: Vec::new(),
            locked: None,
            dry_run: args.dry_run,
            force: false,
            check_weights: false,
            selection: args.selection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_says_what_it_is_of() {
        let config =
            "[core]\n\tbare = false\n[remote \"other\"]\n\turl = no\n[remote \"origin\"]\n\tfetch = x\n\turl = https://hub/o/m.git\n";
        assert_eq!(origin(config), Some("https://hub/o/m"));
        assert_eq!(origin("[remote \"origin\"]\n[branch \"main\"]\n\turl = no\n"), None);
        assert_eq!(origin(""), None);
    }
}
