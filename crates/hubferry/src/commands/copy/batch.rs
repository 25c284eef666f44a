//! Which repositories a `copy` is about: what was typed, files of sources and globs, as pairs of places.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use globset::{GlobSet, GlobSetBuilder};
use hubferry_core::address::{Address, RepoAddress, RepoId, RepoKind, fill};
use hubferry_core::error::{Error, Kind};
use hubferry_core::events::Event;

use crate::args::CopyArgs;
use crate::exit::Failure;
use crate::output::count;
use crate::session::{Session, usage};

/// One repository and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Job {
    pub(super) source: Address,
    pub(super) destination: Address,
}

/// What a command is about.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) list: Vec<Job>,
    /// Whether one source was written and not a pattern: then its failure is that of the command.
    pub(super) is_one: bool,
}

/// A source as it was typed, and its own destination where a file names one.
struct Line {
    source: Address,
    destination: Option<Address>,
}

/// Finds out what to copy where. Asks the hubs only where there are globs.
pub(super) async fn jobs(args: &CopyArgs, session: &Session) -> Result<Jobs, Failure> {
    let (lines, destination) = read(args, session)?;
    let globs = RepoGlobs::new(&args.many.include_repo, &args.many.exclude_repo).map_err(Failure::usage)?;
    let is_one = lines.len() == 1 && !matches!(lines[0].source, Address::Many(_)) && args.many.from_file.is_none();
    let mut list = Vec::new();
    for line in lines {
        let to = line.destination.or_else(|| destination.clone());
        let to = to.ok_or_else(|| usage("a source has no destination", "write the destination at the end, such as ms:org/"))?;
        if !is_one && !matches!(to, Address::Many(_)) && !is_template(&to) && args.many.from_file.is_none() {
            return Err(usage("several sources need a namespace to go to", "end the destination with a slash, such as ms:org/"));
        }
        for source in expand(line.source, &to, args, session).await? {
            let takes = match &source {
                Address::Repo(repo) => globs.take(repo),
                _ => true,
            };
            if takes {
                let destination = resolve(&source, &to, args.transfer.as_kind)?;
                list.push(Job { source, destination });
            }
        }
    }
    let mut seen = BTreeSet::new();
    list.retain(|job| seen.insert((job.source.to_string(), job.destination.to_string())));
    list.truncate(args.many.limit.unwrap_or(usize::MAX));
    one_place_each(&list)?;
    if list.is_empty() {
        return Err(Error::not_found("no repository matches")
            .hint("look at the owner's page, or name the kind with --kind dataset")
            .into());
    }
    Ok(Jobs { list, is_one })
}

/// Sources and destination as they were typed.
fn read(args: &CopyArgs, session: &Session) -> Result<(Vec<Line>, Option<Address>), Failure> {
    let mut places: Vec<&str> = args.source.iter().chain(&args.places).map(String::as_str).collect();
    let from_file = args.many.from_file.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let other_hub = match &args.source[..] {
        [first, ..] if args.places.is_empty() && args.to.is_none() => Some(other_than(first, session)?),
        _ => None,
    };
    let to = args.to.as_deref().or(other_hub);
    if let (Some(name), None) = (&args.dest, to) {
        return Err(usage(&format!("--dest {name} says a name and no remote"), "add --to, such as --to ms"));
    }
    let destination = match (to, places.len()) {
        (Some(remote), _) => Some(target_of(remote, args.dest.as_deref(), session)?),
        (None, 0) if from_file.iter().all(|(_, to)| to.is_some()) && !from_file.is_empty() => None,
        (None, 0) => {
            return Err(usage("nothing to copy is named", "write hubferry copy SRC DST, such as hubferry copy hf:org/model ms:org/"));
        }
        (None, 1) if from_file.is_empty() => {
            return Err(usage(
                "the destination is missing",
                "write hubferry copy SRC DST, or add --to with the remote to go to, such as --to ms",
            ));
        }
        (None, _) => places.pop().map(|text| session.address(text)).transpose()?,
    };
    let mut lines = Vec::new();
    // A comma is part of no repository id; in the name of a directory it is left alone.
    let typed = places.iter().flat_map(|text| match session.address(text) {
        Ok(_) => vec![*text],
        Err(_) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
    });
    for text in typed {
        lines.push(Line { source: source_of(text, to, session)?, destination: None });
    }
    for (source, own) in &from_file {
        let destination = own.as_deref().map(|text| session.address(text)).transpose()?;
        lines.push(Line { source: source_of(source, to, session)?, destination });
    }
    Ok((lines, destination))
}

/// Where a repository goes when only its source is said: to the other of the two great hubs.
fn other_than(source: &str, session: &Session) -> Result<&'static str, Failure> {
    let first = source.split(',').next().unwrap_or_default().trim();
    match session.address(first) {
        Ok(Address::Repo(RepoAddress { remote, .. })) if remote == "hf" => Ok("ms"),
        Ok(Address::Repo(RepoAddress { remote, .. })) if remote == "ms" => Ok("hf"),
        _ => Err(usage("it is not said where this goes", "add --to hf or --to ms, or begin the source with hf: or ms:")),
    }
}

/// Lines of a file of sources: blank ones and comments are skipped.
fn read_file(path: &Path) -> Result<Vec<(String, Option<String>)>, Failure> {
    let failed = |error: std::io::Error| Error::new(Kind::Io, format!("cannot read {}", path.display())).caused_by(error);
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
    } else {
        text = std::fs::read_to_string(path).map_err(failed)?;
    }
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [source] => lines.push((source.to_owned(), None)),
            [source, to] => lines.push((source.to_owned(), Some(to.to_owned()))),
            _ => {
                let error = Error::invalid("a line has more than a source and a destination");
                let error = error.context("file", path.display()).context("line", number + 1);
                return Err(Failure::usage(error.hint("write SRC, or SRC and DST with a blank between, on each line")));
            }
        }
    }
    Ok(lines)
}

/// `--to ms [--dest org/name]` as an address.
fn target_of(remote: &str, dest: Option<&str>, session: &Session) -> Result<Address, Failure> {
    let remote = remote.trim_end_matches(':');
    session.address(&format!("{remote}:{}", dest.unwrap_or("{owner}/{name}"))).map_err(|failure| {
        let hint = failure.error.hint_text().map_or("--to takes a remote such as hf or ms", |hint| hint).to_owned();
        Failure::usage(failure.error.hint(hint))
    })
}

/// With `--to`, a bare `org/name` is on the other of the two great hubs.
fn source_of(text: &str, to: Option<&str>, session: &Session) -> Result<Address, Failure> {
    let typed = session.address(text);
    let (Err(_), Some(to)) = (&typed, to) else { return typed };
    let Ok(Address::Many(target)) = session.address(&format!("{}:x/", to.trim_end_matches(':'))) else { return typed };
    let other = match target.remote.as_str() {
        "hf" => "ms",
        "ms" => "hf",
        _ => return typed,
    };
    session.address(&format!("{other}:{text}")).or(typed)
}

/// The repositories that a source stands for.
async fn expand(source: Address, to: &Address, args: &CopyArgs, session: &Session) -> Result<Vec<Address>, Failure> {
    let Address::Many(pattern) = &source else { return Ok(vec![source]) };
    let glob = pattern.globs().map_err(Failure::usage)?;
    let kinds = pattern.kind.or(args.transfer.kind).map_or(RepoKind::ALL.to_vec(), |kind| vec![kind]);
    // Whoever asks for a kind learns that it cannot be written there; of all that an owner has, it is left out.
    let all = kinds.len() > 1 && args.transfer.as_kind.is_none();
    let mut found = Vec::new();
    for kind in kinds {
        let ids = session.remotes.repos(&pattern.remote, kind, &pattern.owner).await?;
        let ids: Vec<RepoId> = ids.into_iter().filter(|id| glob.is_match(id.name())).collect();
        let writable =
            !all || matches!(to, Address::Many(target) if session.remotes.writable(&target.remote).contains(&kind)) || is_template(to);
        if !writable && !ids.is_empty() {
            let what = count(ids.len() as u64, kind.singular());
            session
                .context
                .reporter
                .event(&Event::Note(format!("{what} left out: {to} takes no {}; --as model sends them as models", kind.plural())));
            continue;
        }
        let address = |id| Address::Repo(RepoAddress { remote: pattern.remote.clone(), kind: Some(kind), id, rev: None, path: None });
        found.extend(ids.into_iter().map(address));
    }
    Ok(found)
}

/// Whether a directory is one for each repository.
pub(super) fn is_template(to: &Address) -> bool {
    match to {
        Address::Dir(path) => path.contains("{name}"),
        Address::Ssh(place) => place.is_for_each(),
        _ => false,
    }
}

/// Where one source goes.
pub(super) fn resolve(source: &Address, to: &Address, as_kind: Option<RepoKind>) -> Result<Address, Failure> {
    let mut destination = match (to, source) {
        (Address::Many(pattern), Address::Repo(from)) => Address::Repo(pattern.fill(&from.id, from.kind).map_err(Failure::usage)?),
        (Address::Many(_), _) => {
            return Err(usage("a directory has no name to take into a namespace", "write the whole destination, such as ms:org/name"));
        }
        (Address::Dir(path), Address::Repo(from)) if is_template(to) => {
            Address::Dir(fill(path, &from.id, from.kind).map_err(Failure::usage)?)
        }
        (Address::Ssh(place), Address::Repo(from)) => Address::Ssh(place.for_repo(&from.id, from.kind).map_err(Failure::usage)?),
        _ => to.clone(),
    };
    if let (Some(kind), Address::Repo(repo)) = (as_kind, &mut destination) {
        repo.kind = Some(kind);
    }
    Ok(destination)
}

/// Two sources in one place would overwrite each other.
pub(super) fn one_place_each(list: &[Job]) -> Result<(), Failure> {
    let mut places: BTreeMap<String, &Address> = BTreeMap::new();
    for job in list {
        // A kind that is not known yet may be any.
        let place = job.destination.to_string();
        if let Some(other) = places.insert(place.clone(), &job.source) {
            let error = Error::invalid(format!("{other} and {} would both go to {place}", job.source));
            return Err(Failure::usage(error.hint("give them different names there, such as ms:org/{owner}-{name}")));
        }
    }
    Ok(())
}

/// `--include-repo` and `--exclude-repo`.
struct RepoGlobs {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl RepoGlobs {
    fn new(include: &[String], exclude: &[String]) -> Result<Self, Error> {
        let include = if include.is_empty() { None } else { Some(set(include)?) };
        Ok(Self { include, exclude: set(exclude)? })
    }

    fn take(&self, repo: &RepoAddress) -> bool {
        let hit = |set: &GlobSet| set.is_match(repo.id.to_string()) || set.is_match(repo.id.name());
        !hit(&self.exclude) && self.include.as_ref().is_none_or(hit)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, Error> {
    let bad = |text: &str, error| {
        let error = Error::invalid(format!("{text:?} is not a glob")).caused_by(error);
        error.hint("write a glob over owner/name or name, such as org/llama-* or *-gguf")
    };
    let mut builder = GlobSetBuilder::new();
    for text in globs {
        builder.add(globset::GlobBuilder::new(text).literal_separator(true).build().map_err(|e| bad(text, e))?);
    }
    builder.build().map_err(|e| bad("the whole", e))
}
