//! `download`: a repository into the cache that Python programs use, or as plain files into a directory; prints where it is.
//!
//! It answers like `hf download`: a commit that is there needs no network, a branch that has not moved costs one request, and without
//! a network the cache answers.

pub(crate) mod adopt;
mod choice;
mod folder;
mod locked;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hubferry_core::address::{Address, RepoAddress, RepoKind};
use hubferry_core::error::{Error, Kind};
use hubferry_core::events::Event;
use hubferry_core::filter::Filter;
use hubferry_core::manifest::{RepoPath, Revision};
use hubferry_core::ops::{self, Also, CopyReport, CopyRequest, VerifyRequest};
use hubferry_core::plan::{Action, Policy};
use hubferry_core::remote::{RepoInfo, Source, Target};
use hubferry_core::transfer::retry::RetryPolicy;
use hubferry_core::transfer::{Context, Ends};
use hubferry_remotes::hfcache::held::{Held, held, note_absent, point};
use hubferry_remotes::hfcache::layout::{Cache, Commit};
use hubferry_remotes::hfcache::marks;
use serde_json::{Value, json};

use super::Outcome;
use crate::args::DownloadArgs;
use crate::exit::{Exit, Failure};
use crate::output::{count, duration, printable, size, table};
use crate::session::{Session, message, mistyped, usage};
use locked::Pin;

/// How often a hub is asked whether something is new, when the cache has an answer.
const TRIES_WITH_ANSWER: u32 = 2;

/// `hubferry download`
pub(crate) async fn run(args: DownloadArgs, session: &Session) -> Outcome {
    let typed = args.place.as_deref().map(|text| address(text, session)).transpose()?;
    if let Some(file) = &args.locked {
        return locked::run(file, typed.as_ref(), &args, session).await;
    }
    let job = Job::new(&args, repository(typed)?, None, session)?;
    let done = job.run().await?;
    session.progress.finish();
    session.output.say(&done.news(&job));
    session.output.json(&done.json(&job));
    session.output.text(|| match &done.plan {
        Some(plan) => plan_text(plan),
        None => format!("{}\n", done.at.display()),
    });
    Ok(Exit::Done)
}

/// The repository that a place is.
fn repository(typed: Option<Address>) -> Result<RepoAddress, Failure> {
    match typed {
        Some(Address::Repo(repo)) => Ok(repo),
        Some(Address::Dir(path)) => {
            Err(usage("a directory has no name in the cache", &format!("say one: hubferry copy {path} hfcache:owner/name")))
        }
        Some(Address::Ssh(place)) => {
            Err(usage("a host has no name in the cache", &format!("say one: hubferry copy {place} hfcache:owner/name")))
        }
        Some(Address::Many(_)) => {
            Err(usage("this may be many repositories", "name one of them, or copy them: hubferry copy 'hf:org/*' hfcache:org/"))
        }
        None => Err(usage("no repository is named", "write hubferry download org/model")),
    }
}

/// What was asked for.
struct Job<'a> {
    args: &'a DownloadArgs,
    session: &'a Session,
    /// What a lock file pins, if it has to be exactly that.
    pin: Option<Pin>,
    /// Without a path.
    repo: RepoAddress,
    filter: Filter,
    /// Files that were named one by one, without a pattern.
    named: Vec<RepoPath>,
    cache: Cache,
    links: bool,
    started: Instant,
}

/// What came of it.
struct Done {
    /// Where it is: a snapshot, a directory, or the one file that was named.
    at: PathBuf,
    commit: Option<Revision>,
    moved_bytes: u64,
    moved_files: u64,
    kept_files: u64,
    /// Nobody was asked.
    offline: bool,
    /// With `--dry-run`.
    plan: Option<CopyReport>,
}

impl<'a> Job<'a> {
    fn new(args: &'a DownloadArgs, mut repo: RepoAddress, pin: Option<Pin>, session: &'a Session) -> Result<Self, Failure> {
        match (&args.revision, &repo.rev) {
            (Some(_), Some(_)) => return Err(usage("the revision is said twice", "write it behind the @ or with --revision")),
            (Some(rev), None) => repo.rev = Some(rev.clone()),
            _ => {}
        }
        let path = repo.path.take();
        let mut include: Vec<String> = args.files.iter().map(|file| pattern(file)).chain(args.selection.include.iter().cloned()).collect();
        include.extend(path.iter().map(|path| pattern(path.as_str())));
        let plain = args.files.iter().map(String::as_str).chain(path.iter().map(RepoPath::as_str)).filter(|file| !is_glob(file));
        let named = plain.map(|file| RepoPath::new(file.trim_end_matches('/'))).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
        let filter = Filter::new(&include, &args.selection.exclude).map_err(Failure::usage)?.with_preset(args.selection.preset());
        args.selection.preset().check().map_err(Failure::usage)?;
        let (cache, links) = session.cache(args.cache_dir.as_deref())?;
        Ok(Self { args, session, pin, repo, filter, named, cache, links, started: Instant::now() })
    }

    async fn run(&self) -> Result<Done, Failure> {
        match &self.args.local_dir {
            Some(folder) => folder::run(self, folder).await,
            None => self.to_cache().await,
        }
    }

    /// Whether what is there may be believed to be what was asked for, by its names: never of what is pinned by its bytes.
    fn believes(&self) -> bool {
        self.pin.is_none() && !self.args.force
    }

    /// The kind that is looked for: models, as in the Python client, on the hub that it speaks with.
    fn kind(&self) -> Option<RepoKind> {
        self.repo.kind.or(self.args.kind)
    }

    fn label(&self) -> String {
        Address::Repo(self.repo.clone()).to_string()
    }

    /// The setting that forbids to ask the hub.
    fn offline(&self) -> Option<&str> {
        let remote = self.session.remotes.list().iter().find(|remote| remote.name == self.repo.remote)?;
        remote.hub()?.offline.as_deref()
    }

    /// The source and what it says of itself. Without a kind it is taken for a model, as in the Python client: one request then finds
    /// it. Only what is no model is looked for among the other kinds.
    async fn open(&self) -> Result<(Arc<dyn Source>, RepoInfo), Failure> {
        self.open_within(self.session.context.retry.tries).await
    }

    /// The same, asking so often at most.
    async fn open_within(&self, tries: u32) -> Result<(Arc<dyn Source>, RepoInfo), Failure> {
        let context = &self.session.context;
        let context = Context { retry: RetryPolicy { tries, ..context.retry }, ..context.clone() };
        if let Some(pin) = &self.pin {
            let source = pin.source(self)?;
            let about = ops::describe(&source, &context).await?;
            return Ok((source, about));
        }
        let address = Address::Repo(self.repo.clone());
        let usual = self.session.source(&address, Some(self.kind().unwrap_or(RepoKind::Model)))?;
        match ops::describe(&usual, &context).await {
            Err(error) if error.kind() == Kind::NotFound && self.kind().is_none() => {
                let any = self.session.source(&address, None)?;
                let about = ops::describe(&any, &context).await?;
                Ok((any, about))
            }
            about => Ok((usual, about?)),
        }
    }

    async fn to_cache(&self) -> Result<Done, Failure> {
        let is_commit = self.repo.rev.as_deref().is_some_and(|rev| Commit::parse(rev).is_some());
        if is_commit
            && self.believes()
            && let Some(done) = self.answer(self.repo.rev.as_deref(), true)?
        {
            return Ok(done);
        }
        if let Some(setting) = self.offline().filter(|_| self.pin.is_none()) {
            return self.without_network(setting);
        }
        let cached = if self.pin.is_none() { self.find(self.repo.rev.as_deref(), false)? } else { None };
        let patience = if cached.is_some() { TRIES_WITH_ANSWER } else { self.session.context.retry.tries };
        let (source, about) = match self.open_within(patience).await {
            Err(failure) if failure.error.kind() == Kind::Unavailable => {
                let Some(found) = cached else { return Err(failure) };
                let note = format!("the hub cannot be reached, the cache answers ({})", failure.error);
                self.session.context.reporter.event(&Event::Note(note));
                return Ok(self.using(found));
            }
            opened => opened?,
        };
        let kind = self.kind().or(about.kind).unwrap_or(RepoKind::Model);
        let commit = about.revision.as_ref().and_then(|revision| Commit::parse(revision.as_str()));
        // What was found before is looked for again only if the branch has moved.
        let current = match (commit.as_ref().filter(|_| self.believes()), cached) {
            (Some(commit), Some(found)) if found.0.commit == *commit && self.is_sure(&found.0) => Some(found),
            (Some(commit), _) => self.find(Some(commit.as_str()), true)?,
            (None, _) => None,
        };
        if let (Some(commit), Some(found)) = (&commit, current) {
            let done = self.using(found);
            if !self.args.dry_run {
                // A cache that may only be read is as good as it was.
                drop(point(&self.cache, kind, &self.repo.id, self.repo.rev.as_deref(), commit));
            }
            return Ok(Done { offline: false, ..done });
        }
        let (here, target) = self.session.remotes.cache_at(self.cache.root(), self.links, &self.repo, kind).map_err(mistyped)?;
        let done = self.copy(source, here, target, None).await;
        let report = done.map_err(|failure| self.absent(failure, kind, commit.as_ref()))?;
        if self.args.dry_run {
            let folder = self.cache.root().to_path_buf();
            return Ok(Done::of(report, folder, true));
        }
        let rev = report.plan.source.clone();
        let rev = if Commit::parse(rev.as_str()).is_some() { Some(rev.as_str().to_owned()) } else { self.repo.rev.clone() };
        let held =
            self.held(Some(kind), rev.as_deref())?.ok_or_else(|| Error::new(Kind::Conflict, "the snapshot has just been removed"))?;
        if let Some(file) = self.named.iter().find(|file| !has(&held.files, file)) {
            let commit = Some(&held.commit).filter(|_| commit.is_some());
            return Err(self.absent(not_there(file, &self.label()).into(), kind, commit));
        }
        let at = self.place(&held);
        Ok(Done::of(report, at, false))
    }

    /// Copies what is asked for. With `--force` what is there already is read once more, and replaced where it is damaged.
    async fn copy(
        &self,
        source: Arc<dyn Source>,
        here: Arc<dyn Source>,
        target: Arc<dyn Target>,
        cached: Option<Also>,
    ) -> Result<CopyReport, Failure> {
        let address = Address::Repo(self.repo.clone());
        let request = CopyRequest {
            ends: Ends { from: source.clone(), also: Vec::new(), to: target.clone() },
            also: cached.into_iter().chain(self.also()?).collect(),
            filter: self.filter.clone(),
            policy: Policy { allow_case_collisions: true, ..Policy::default() },
            dry_run: self.args.dry_run,
            visibility: None,
            allow_public: false,
            allow_secrets: true,
            generated: None,
            message: message(&address, None),
            check_weights: self.args.check_weights,
            prepared: None,
        };
        let report = ops::copy(&request, &self.session.context).await?;
        if self.args.force {
            let again = VerifyRequest {
                place: here,
                against: Some(source),
                repair: Some(target),
                filter: self.filter.clone(),
                check_weights: false,
                generated: None,
                message: message(&address, None),
            };
            let found = ops::verify_place(&again, &self.session.context).await?;
            let bad = found.findings.bad().len() as u64;
            if found.repaired.is_some_and(|again| !again.is_ok()) {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("what is stored in {} does not stay what it is", self.cache.root().display()),
                )
                .hint("check the disk")
                .into());
            }
            if bad > 0 {
                self.session.output.say(&format!("{} damaged, brought again", count(bad, "file")));
            }
        }
        Ok(report)
    }

    /// Other places that hold the same bytes: those that are named, and those that are configured.
    fn also(&self) -> Result<Vec<Also>, Failure> {
        let mut places = Vec::new();
        for text in &self.args.also {
            let address = self.session.address(text)?;
            places.push(Also { source: self.session.source(&address, self.kind())?, label: address.to_string(), named: true });
        }
        for remote in self.session.settings.mirrors.get(&self.repo.remote).into_iter().flatten() {
            let address = Address::Repo(RepoAddress { remote: remote.clone(), rev: None, ..self.repo.clone() });
            places.push(Also { source: self.session.source(&address, self.kind())?, label: address.to_string(), named: false });
        }
        Ok(places)
    }

    fn held(&self, kind: Option<RepoKind>, rev: Option<&str>) -> Result<Option<Held>, Failure> {
        Ok(held(&self.cache, kind, &self.repo.id, rev)?)
    }

    /// What the cache can say by itself, which is a use of it: see [`Job::find`].
    fn answer(&self, rev: Option<&str>, surely: bool) -> Result<Option<Done>, Failure> {
        Ok(self.find(rev, surely)?.map(|found| self.using(found)))
    }

    /// Answers with what was found, and notes the use of it.
    fn using(&self, (held, done): (Held, Done)) -> Done {
        if !self.args.dry_run {
            marks::use_now(&held.folder, &held.commit);
        }
        done
    }

    /// Whether it is known that nothing is missing.
    fn is_sure(&self, held: &Held) -> bool {
        held.is_listed || self.asks_for_files(held)
    }

    /// What the cache could say by itself. `surely` asks for proof that nothing is missing: the listing of the commit, or every file
    /// named one by one.
    fn find(&self, rev: Option<&str>, surely: bool) -> Result<Option<(Held, Done)>, Failure> {
        let Some(held) = self.held(self.kind(), rev)? else { return Ok(None) };
        let Some(filter) = choice::resolved(&self.filter, held.files.iter().chain(&held.missing), &held.at) else { return Ok(None) };
        let missing: Vec<RepoPath> = held.missing.iter().filter(|path| filter.takes(path)).cloned().collect();
        if !missing.is_empty() || (surely && !self.is_sure(&held)) || self.named.iter().any(|file| !has(&held.files, file)) {
            return Ok(None);
        }
        let kept_files = held.files.iter().filter(|path| filter.takes(path)).count() as u64;
        let at = self.place(&held);
        let commit = held.commit.revision()?;
        let done = Done { at, commit: Some(commit), moved_bytes: 0, moved_files: 0, kept_files, offline: true, plan: None };
        Ok(Some((held, done)))
    }

    fn missing(&self, held: &Held) -> Vec<RepoPath> {
        let chosen = choice::resolved(&self.filter, held.files.iter().chain(&held.missing), &held.at);
        let filter = chosen.as_ref().unwrap_or(&self.filter);
        held.missing.iter().filter(|path| filter.takes(path)).cloned().collect()
    }

    /// Whether files were named and nothing else, and all of them are there.
    fn asks_for_files(&self, held: &Held) -> bool {
        let only = self.named.len() == self.args.files.len().max(1) && self.args.selection.include.is_empty();
        only && self.named.iter().all(|file| held.files.contains(file))
    }

    fn without_network(&self, setting: &str) -> Result<Done, Failure> {
        if let Some(done) = self.answer(self.repo.rev.as_deref(), false)? {
            return Ok(done);
        }
        let forbids = format!("{setting} forbids to ask the hub for it");
        let Some(held) = self.held(self.kind(), self.repo.rev.as_deref())? else {
            return Err(Error::not_found(format!(
                "{} is not in the cache at {}, and {forbids}",
                self.label(),
                self.cache.root().display()
            ))
            .hint(format!("unset {setting}, or bring it with a machine that has a network"))
            .into());
        };
        let missing = self.missing(&held);
        if missing.is_empty() && self.named.is_empty() && self.filter.preset().is_some() {
            let error = Error::not_found(format!("the cache does not hold what was chosen of {}, and {forbids}", self.label()));
            return Err(error.hint(format!("unset {setting} and run the same command again")).into());
        }
        match self.named.iter().find(|file| missing.is_empty() && !has(&held.files, file)) {
            Some(file) => Err(not_there(file, &self.label()).hint(format!("it is not in the cache, and {forbids}")).into()),
            None => Err(held.incomplete(&self.repo.id, &missing).hint(format!("unset {setting} and run the same command again")).into()),
        }
    }

    /// Where what was asked for lies: the file, if one was named.
    fn place(&self, held: &Held) -> PathBuf {
        match &self.named[..] {
            [file] if self.args.files.len() <= 1 && self.args.selection.include.is_empty() && held.files.contains(file) => {
                hubferry_remotes::hfcache::held::file_at(held, file)
            }
            _ => held.at.clone(),
        }
    }

    /// A file that the commit does not have: the Python client keeps a note of that, and so do we.
    fn absent(&self, failure: Failure, kind: RepoKind, commit: Option<&Commit>) -> Failure {
        let (Kind::NotFound, false, Some(commit)) = (failure.error.kind(), self.named.is_empty() || self.args.dry_run, commit) else {
            return failure;
        };
        let held = self.held(Some(kind), Some(commit.as_str())).ok().flatten();
        let mut first = None;
        for file in &self.named {
            if held.as_ref().is_none_or(|held| !has(&held.files, file)) {
                drop(note_absent(&self.cache, kind, &self.repo.id, commit, file));
                first = first.or(Some(file));
            }
        }
        first.map_or(failure, |file| not_there(file, &self.label()).into())
    }
}

/// A file, or something in a folder.
fn has(files: &[RepoPath], path: &RepoPath) -> bool {
    files.iter().any(|file| file.is_within(path))
}

fn not_there(file: &RepoPath, label: &str) -> Error {
    Error::not_found(format!("{label} has no file {file:?}")).hint(format!("list what is there: hubferry ls {label}"))
}

/// What a user types who knows `hf download`: a name without a remote is one on Hugging Face.
fn address(text: &str, session: &Session) -> Result<Address, Failure> {
    let typed = session.address(text);
    let is_bare = !text.contains(':') && !text.starts_with(['.', '/', '~']);
    if typed.is_err() && is_bare { session.address(&format!("hf:{text}")) } else { typed }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A name stands for itself, from the root of the repository on.
fn pattern(file: &str) -> String {
    if is_glob(file) { file.to_owned() } else { format!("/{}", file.trim_end_matches('/')) }
}

impl Done {
    fn of(report: CopyReport, at: PathBuf, dry_run: bool) -> Self {
        Self {
            at,
            commit: Some(report.plan.source.clone()),
            moved_bytes: report.outcome.moved_bytes,
            moved_files: if dry_run { 0 } else { report.plan.puts().count() as u64 },
            kept_files: report.plan.kept_files,
            offline: false,
            plan: dry_run.then_some(report),
        }
    }

    fn news(&self, job: &Job<'_>) -> String {
        let (label, took) = (job.label(), duration(job.started.elapsed()));
        let at = self.commit.as_ref().map_or(String::new(), |commit| format!(" at {}", commit.short()));
        let files = count(self.kept_files + self.moved_files, "file");
        match (self.plan.is_some(), self.moved_files, self.offline) {
            (true, ..) => format!("{label}{at}: nothing was written"),
            (_, 0, true) => format!("{label}{at}: {files}, all there, nobody asked, {took}"),
            (_, 0, false) => format!("{label}{at}: {files}, all there, {took}"),
            _ => format!("{label}{at}: {files}, {} moved, {took}", size(self.moved_bytes)),
        }
    }

    fn json(&self, job: &Job<'_>) -> Value {
        let wire = &job.session.wire;
        let mut value = json!({
            "source": job.label(),
            "revision": self.commit,
            "path": self.at.display().to_string(),
            "dry_run": self.plan.is_some(),
            "files": self.kept_files + self.moved_files,
            "moved_files": self.moved_files,
            "moved_bytes": self.moved_bytes,
            "wire": {"received": wire.received(), "sent": wire.sent(), "requests": wire.requests()},
        });
        if let Some(report) = &self.plan {
            value["plan"] = json!({
                "steps": report.plan.steps,
                "files": report.plan.puts().count(),
                "bytes": report.plan.bytes(),
                "kept_files": report.plan.kept_files,
            });
        }
        value
    }
}

fn plan_text(report: &CopyReport) -> String {
    let plan = &report.plan;
    let row = |path: &RepoPath, entry: &hubferry_core::manifest::Entry, why: &str| {
        vec!["get".to_owned(), size(entry.size), why.to_owned(), printable(path.as_str())]
    };
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Put { entry } => Some(row(&step.path, entry, step.reason.text())),
            _ => None,
        })
        .collect();
    let files = count(plan.puts().count() as u64, "file");
    format!("{}would bring {files} ({}), keep {}\n", table(&rows), size(plan.bytes()), plan.kept_files)
}
