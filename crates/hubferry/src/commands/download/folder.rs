//! `download --local-dir`: plain files in a directory, with the notes that the Python client keeps beside them, so that both tools agree
//! on what is up to date.

use std::path::Path;

use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::error::{Error, Kind};
use hubferry_core::manifest::{Entry, RepoPath};
use hubferry_core::ops::{Also, CopyReport};
use hubferry_core::plan::Reason;
use hubferry_core::remote::Extent;
use hubferry_remotes::hfcache::layout::{BlobName, Commit};
use hubferry_remotes::hfcache::local::LocalFolder;
use hubferry_remotes::hfcache::tree::{Tree, TreeEntry};

use super::{Done, Job, choice, not_there};
use crate::exit::Failure;
use crate::output::printable;
use crate::session::mistyped;

/// Brings what was asked for into `folder`.
pub(super) async fn run(job: &Job<'_>, folder: &Path) -> Result<Done, Failure> {
    let local = LocalFolder::new(folder);
    let typed = job.repo.rev.as_deref().and_then(Commit::parse);
    if let Some(commit) = typed.as_ref().filter(|_| job.believes())
        && let Some(done) = up_to_date(job, &local, commit)?
    {
        return Ok(done);
    }
    if let Some(setting) = job.offline().filter(|_| job.pin.is_none()) {
        // As the Python client: what is there is taken for what was asked for.
        if folder.is_dir() && job.named.iter().all(|file| folder.join(file.as_str()).exists()) {
            job.session.output.say(&format!("{setting} forbids to ask whether {} is up to date", folder.display()));
            return Ok(Done { offline: true, ..nothing(folder, typed.as_ref(), 0)? });
        }
        return Err(Error::not_found(format!(
            "{} is not in {}, and {setting} forbids to ask the hub for it",
            job.label(),
            folder.display()
        ))
        .hint(format!("unset {setting}"))
        .into());
    }
    let (source, about) = job.open().await?;
    let commit = about.revision.as_ref().and_then(|revision| Commit::parse(revision.as_str()));
    if let Some(commit) = commit.as_ref().filter(|_| job.believes())
        && let Some(done) = up_to_date(job, &local, commit)?
    {
        return Ok(Done { offline: false, ..done });
    }
    let address = Address::Dir(folder.display().to_string());
    let (here, target) = (job.session.source(&address, None)?, job.session.target(&address, None)?);
    let cached = commit.as_ref().map(|commit| cached(job, commit)).transpose()?.flatten();
    let is_whole = |report: &CopyReport| report.left_out.files == 0 && source.extent() == Extent::Whole;
    let edited = local.edited();
    let report = job.copy(source.clone(), here, target, cached).await.map_err(|failure| absent(job, failure))?;
    if job.args.dry_run {
        return Ok(Done::of(report, folder.to_path_buf(), true));
    }
    if let Some(file) = job.named.iter().find(|file| !folder.join(file.as_str()).exists()) {
        return Err(not_there(file, &job.label()).into());
    }
    say_replaced(job, &local, &edited, &report);
    let commit = commit.or_else(|| Commit::parse(report.plan.source.as_str()));
    if let Some(commit) = &commit {
        note(&local, commit, &report, is_whole(&report))?;
    }
    let at = match &job.named[..] {
        [file] if job.args.files.len() <= 1 && folder.join(file.as_str()).is_file() => folder.join(file.as_str()),
        _ => folder.to_path_buf(),
    };
    Ok(Done::of(report, absolute(&at)?, false))
}

/// What is in the cache already need not come from the hub.
fn cached(job: &Job<'_>, commit: &Commit) -> Result<Option<Also>, Failure> {
    let Some(held) = job.held(job.kind(), Some(commit.as_str()))?.filter(|held| held.missing.is_empty()) else { return Ok(None) };
    let repo = RepoAddress { rev: Some(commit.as_str().to_owned()), ..job.repo.clone() };
    let (source, _) = job.session.remotes.cache_at(job.cache.root(), job.links, &repo, held.kind).map_err(mistyped)?;
    Ok(Some(Also { source, label: "the cache".to_owned(), named: false }))
}

fn absolute(at: &Path) -> Result<std::path::PathBuf, Failure> {
    Ok(at.canonicalize().map_err(|error| Error::io("find", at, error))?)
}

fn nothing(at: &Path, commit: Option<&Commit>, kept_files: u64) -> Result<Done, Failure> {
    let commit = commit.map(Commit::revision).transpose()?;
    Ok(Done { at: absolute(at)?, commit, moved_bytes: 0, moved_files: 0, kept_files, offline: true, plan: None })
}

fn absent(job: &Job<'_>, failure: Failure) -> Failure {
    match job.named.first() {
        Some(file) if failure.error.kind() == Kind::NotFound => not_there(file, &job.label()).into(),
        _ => failure,
    }
}

/// Whether the notes say that every file that is asked for is there, of this commit and unchanged.
fn up_to_date(job: &Job<'_>, local: &LocalFolder, commit: &Commit) -> Result<Option<Done>, Failure> {
    if job.args.force || job.args.dry_run {
        return Ok(None);
    }
    let Some(tree) = local.tree(commit)? else { return Ok(None) };
    let Some(filter) = choice::resolved(&job.filter, tree.files.keys(), local.root()) else { return Ok(None) };
    let asked: Vec<(&RepoPath, &TreeEntry)> = tree.files.iter().filter(|(path, _)| filter.takes(path)).collect();
    let is_right = |(path, entry): &(&RepoPath, &TreeEntry)| {
        let at = local.root().join(path.as_str());
        let is_there = at.metadata().is_ok_and(|data| data.is_file() && data.len() == entry.entry().size);
        is_there && local.noted(path).is_some_and(|noted| noted.commit == *commit) && !local.is_edited(path)
    };
    if asked.is_empty() || !asked.iter().all(is_right) {
        return Ok(None);
    }
    let at = match (&job.named[..], &asked[..]) {
        ([file], [(path, _)]) if file == *path => local.root().join(file.as_str()),
        _ => local.root().to_path_buf(),
    };
    Ok(Some(nothing(&at, Some(commit), asked.len() as u64)?))
}

/// What was changed here and has been replaced is said: `hf download` does the same and says nothing.
fn say_replaced(job: &Job<'_>, local: &LocalFolder, edited: &[RepoPath], report: &CopyReport) {
    for step in &report.plan.steps {
        let differs = matches!(step.reason, Reason::SizeDiffers { .. } | Reason::HashDiffers);
        // The note is still that of the last download, and says what the file was then.
        let Some(noted) = local.noted(&step.path).filter(|_| differs) else { continue };
        if edited.contains(&step.path) {
            let (path, commit) = (printable(step.path.as_str()), noted.commit.as_str().get(..12).unwrap_or_default().to_owned());
            job.session.output.say(&format!("{path} had been changed here since it came with {commit}: replaced"));
        }
    }
}

/// Writes the notes of every file that took part, and the listing of a complete commit.
fn note(local: &LocalFolder, commit: &Commit, report: &CopyReport, is_whole: bool) -> Result<(), Failure> {
    local.prepare()?;
    let there = report.sides.destination.as_ref();
    let mut tree = Tree::default();
    for (path, entry) in &report.sides.source.entries {
        let mut known = *entry;
        if let Some(there) = there.and_then(|there| there.entries.get(path)) {
            known.digests.fill(&there.digests);
        }
        let Some((etag, described)) = described(&known) else { continue };
        local.note(path, commit, &etag)?;
        tree.files.insert(path.clone(), described);
    }
    if is_whole && tree.files.len() == report.sides.source.entries.len() {
        local.keep_tree(commit, &tree)?;
    }
    Ok(())
}

/// What the hub calls a file.
fn described(entry: &Entry) -> Option<(BlobName, TreeEntry)> {
    if hubferry_remotes::hfcache::is_lfs(entry) {
        let blob = entry.blob()?;
        return Some((BlobName::Sha256(blob.oid), TreeEntry::lfs(&blob)));
    }
    let git = entry.digests.git?;
    Some((BlobName::Git(git), TreeEntry::plain(entry.size, git)))
}
