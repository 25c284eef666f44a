//! `lock`: pins revisions of repositories by the SHA-256 of every file, and says what has changed since.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use hubferry_core::address::{Address, RepoAddress, RepoKind};
use hubferry_core::error::{Error, Kind};
use hubferry_core::filter::Filter;
use hubferry_core::lock::{Changes, LARGEST, LockFile, LockedRepo};
use hubferry_core::manifest::{Manifest, RepoPath};
use hubferry_core::ops::{self, selecting};
use hubferry_core::remote::Source;
use hubferry_core::transfer::retry::retrying;
use hubferry_core::transfer::{identify, pairs};
use serde_json::{Value, json};

use super::Outcome;
use crate::args::LockArgs;
use crate::exit::{Exit, Failure};
use crate::new_file::NewFile;
use crate::output::{count, printable, size, table};
use crate::session::{Session, usage};

/// `hubferry lock`
pub(crate) async fn run(args: LockArgs, session: &Session) -> Outcome {
    match &args.check {
        Some(file) => check(file, session).await,
        None => write(&args, session).await,
    }
}

async fn write(args: &LockArgs, session: &Session) -> Outcome {
    let file = args.output.as_deref().map(NewFile::at).transpose()?;
    args.selection.filter()?;
    let mut repositories = Vec::new();
    for place in &args.places {
        let address = session.address(place)?;
        let Address::Repo(address) = address else {
            return Err(usage(
                &format!("{address} cannot be pinned: it is not one repository on a hub"),
                "name each repository, such as hf:org/model@v1",
            ));
        };
        repositories.push(pin(address, args, session).await.map_err(|failure| within(failure, place))?);
    }
    session.progress.finish();
    let lock = LockFile::new(repositories).map_err(Failure::usage)?;
    let (files, bytes) = sum(&lock);
    let Some(file) = file else {
        if session.output.is_json() {
            session.output.json(&json!(lock));
        } else {
            let text = lock.text()?;
            session.output.text(|| text);
        }
        return Ok(Exit::Done);
    };
    file.write(&lock.text()?)?;
    let path = file.path().display().to_string();
    session.output.json(&json!({"lock_file": path, "repositories": lock.repositories.len(), "files": files, "bytes": bytes}));
    session.output.text(|| {
        let repositories =
            if lock.repositories.len() == 1 { "1 repository".to_owned() } else { format!("{} repositories", lock.repositories.len()) };
        format!("{repositories} pinned in {}: {} ({})\n", printable(&path), count(files, "file"), size(bytes))
    });
    Ok(Exit::Done)
}

fn sum(lock: &LockFile) -> (u64, u64) {
    let blobs = || lock.repositories.iter().flat_map(|repo| repo.files.values());
    (blobs().count() as u64, blobs().fold(0, |sum, blob| sum.saturating_add(blob.size)))
}

/// Says which place a failure is about.
fn within(failure: Failure, place: &str) -> Failure {
    Failure { error: failure.error.context("place", place), exit: failure.exit }
}

async fn pin(address: RepoAddress, args: &LockArgs, session: &Session) -> Result<LockedRepo, Failure> {
    let (reference, kind) = (address.rev.clone(), address.kind.or(args.kind));
    let source = session.source(&Address::Repo(RepoAddress { kind, ..address.clone() }), kind)?;
    let (found, license) = describe(&source, session).await?;
    let listing = chosen(&source, &args.selection.filter()?, None, session).await?;
    let pinned = LockedRepo {
        address: Address::Repo(RepoAddress { kind: None, rev: None, ..address }).to_string(),
        kind: kind.or(found).unwrap_or(RepoKind::Model),
        reference,
        commit: listing.revision.clone(),
        license,
        include: args.selection.include.clone(),
        exclude: args.selection.exclude.clone(),
        preset: args.selection.preset(),
        files: std::collections::BTreeMap::new(),
    };
    Ok(pinned.pin(&listing)?)
}

/// A listing that nothing is missing from: what is pinned rests on it.
async fn complete(source: &Arc<dyn Source>, session: &Session) -> Result<Manifest, Failure> {
    let context = &session.context;
    Ok(retrying(&context.retry, &*context.reporter, "listing", || source.manifest()).await?)
}

async fn describe(source: &Arc<dyn Source>, session: &Session) -> Result<(Option<RepoKind>, Option<String>), Failure> {
    let about = ops::describe(source, &session.context).await?;
    Ok((about.kind, about.license))
}

/// The files that take part, all with their SHA-256: those that their place does not publish are read once. What `known` has is at the
/// same commit and need not be read.
async fn chosen(source: &Arc<dyn Source>, filter: &Filter, known: Option<&LockedRepo>, session: &Session) -> Result<Manifest, Failure> {
    let mut listing = complete(source, session).await?;
    let context = &session.context;
    selecting::resolve(filter, source, &listing, context).await?.apply(&mut listing);
    if listing.entries.is_empty() {
        return Err(Error::not_found("nothing of it takes part").hint("look at what is there with `hubferry ls`").into());
    }
    let same = known.filter(|known| known.commit == listing.revision);
    for (path, entry) in &mut listing.entries {
        let pinned = same.and_then(|known| known.files.get(path)).filter(|blob| blob.size == entry.size);
        entry.digests.sha256 = entry.digests.sha256.or(pinned.map(|blob| blob.oid));
    }
    pairs::fill(&*context.pairs, &mut listing);
    let open: Vec<RepoPath> = listing.entries.iter().filter(|(_, entry)| entry.blob().is_none()).map(|(path, _)| path.clone()).collect();
    identify(source, &mut listing, &open, context).await?;
    Ok(listing)
}

/// Reads a lock file. Everything in it is a stranger's word.
pub(crate) fn read(path: &Path) -> Result<LockFile, Failure> {
    let failed = |error| Failure::from(Error::io("read", path, error));
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(usage(&format!("{} is no file", path.display()), "name one that `hubferry lock` wrote"));
    }
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
    LockFile::parse(&content).map_err(|error| Failure::usage(error.context("file", path.display())))
}

/// The address of a pinned repository, at `reference`.
pub(crate) fn pinned(repo: &LockedRepo, reference: Option<&str>, session: &Session) -> Result<RepoAddress, Failure> {
    match session.address(&repo.address)? {
        Address::Repo(address) => Ok(RepoAddress { kind: Some(repo.kind), rev: reference.map(str::to_owned), ..address }),
        other => Err(usage(&format!("the lock file names {other}, which is no repository on a hub"), "write it with `hubferry lock`")),
    }
}

/// `hubferry lock --check`
async fn check(file: &Path, session: &Session) -> Outcome {
    let lock = read(file)?;
    let mut found = Vec::new();
    for repo in &lock.repositories {
        let changes = match compare(repo, session).await {
            Ok(changes) => Some(changes),
            Err(failure) if failure.error.kind() == Kind::NotFound => None,
            Err(failure) => return Err(within(failure, &repo.name())),
        };
        found.push((repo, changes));
    }
    session.progress.finish();
    let ok = found.iter().all(|(_, changes)| changes.as_ref().is_some_and(Changes::is_empty));
    let line = |(repo, changes): &(&LockedRepo, Option<Changes>)| -> Value {
        json!({"address": repo.address, "kind": repo.kind, "ref": repo.reference, "commit": repo.commit, "found": changes.is_some(), "changes": changes})
    };
    session
        .output
        .json(&json!({"lock_file": file.display().to_string(), "ok": ok, "repositories": found.iter().map(line).collect::<Vec<_>>()}));
    session.output.text(|| found.iter().map(|(repo, changes)| told(repo, changes.as_ref())).collect());
    if !ok {
        session.output.say("hint: pin what is there now with `hubferry lock`, or copy what was pinned with `hubferry copy --locked`");
    }
    Ok(if ok { Exit::Done } else { Exit::Differs })
}

async fn compare(repo: &LockedRepo, session: &Session) -> Result<Changes, Failure> {
    let address = Address::Repo(pinned(repo, repo.reference.as_deref(), session)?);
    let source = session.source(&address, Some(repo.kind))?;
    let (_, license) = describe(&source, session).await?;
    let listing = match chosen(&source, &repo.filter()?, Some(repo), session).await {
        Ok(listing) => listing,
        // Of what was wanted nothing is left; what is there is compared with what was pinned.
        Err(failure) if failure.error.kind() == Kind::NotFound && !repo.preset.is_empty() => {
            let mut listing = complete(&source, session).await?;
            listing.entries.clear();
            listing
        }
        Err(failure) => return Err(failure),
    };
    let now = LockedRepo { license, ..repo.clone() }.pin(&listing)?;
    Ok(repo.compare(&now))
}

/// What has changed in one repository, for people.
fn told(repo: &LockedRepo, changes: Option<&Changes>) -> String {
    let name = printable(&repo.name());
    let Some(changes) = changes else { return format!("{name}: is not there any more\n") };
    if changes.is_empty() {
        return format!("{name}: as pinned, {}\n", count(repo.files.len() as u64, "file"));
    }
    let mut rows = Vec::new();
    let mut row = |what: &str, value: String| rows.push(vec![format!("  {what}"), printable(&value)]);
    if let Some((before, now)) = &changes.commit {
        row("commit", format!("{} -> {}", before.short(), now.short()));
    }
    if let Some((before, now)) = &changes.license {
        let word = |license: &Option<String>| license.clone().unwrap_or_else(|| "none".to_owned());
        row("licence", format!("{} -> {}", word(before), word(now)));
    }
    for (what, paths) in [("added", &changes.added), ("removed", &changes.removed), ("changed", &changes.changed)] {
        for path in paths {
            row(what, path.to_string());
        }
    }
    format!("{name}: has changed\n{}", table(&rows))
}
