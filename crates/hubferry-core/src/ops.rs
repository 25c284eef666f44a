//! Copy, diff and verify, as every front end calls them: list both sides, plan, run, check, report.

mod beside;
mod check;
pub mod headers;
mod planning;
mod prepared;
pub mod selecting;
mod sides;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::events::{Event, Phase};
use crate::facts::FactList;
use crate::filter::{Filter, LeftOut};
use crate::generated::{Extra, Generated};
use crate::leaks::{Gate, SCAN_UP_TO};
use crate::manifest::{Manifest, RepoPath, Revision};
use crate::plan::{self, Plan, Policy};
use crate::remote::{RepoInfo, RepoSpec, Source, Target, Visibility};
use crate::transfer::retry::retrying;
use crate::transfer::{self, Context, Ends, Landed, Mirror, Outcome, identify, pairs};
use crate::verify::{Findings, Verdict, verify};

use beside::{Beside, Trusted};
pub use check::damaged_weights;
use check::whole_weights;
use planning::Planning;
pub use prepared::Prepared;
pub use sides::Sides;

/// How often a run is planned anew because somebody else changed the destination meanwhile.
pub(crate) const REPLANS: u32 = 4;

/// What to copy and how.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct CopyRequest {
    /// Both ends.
    pub ends: Ends,
    /// Further places that may hold some of the same bytes.
    pub also: Vec<Also>,
    /// Which files take part.
    pub filter: Filter,
    /// What happens to what only the destination has.
    pub policy: Policy,
    /// Make the plan and stop.
    pub dry_run: bool,
    /// Who may read the destination if it has to be created; `None` keeps what the source has.
    pub visibility: Option<Visibility>,
    /// Lets a gated or private source become public.
    pub allow_public: bool,
    /// Lets tokens and keys that are found in text files become public.
    pub allow_secrets: bool,
    /// What becomes of files that hubs generate; `None` treats them like any other.
    pub generated: Option<Generated>,
    /// Makes the commit message, given the source revision that is copied.
    pub message: Message,
    /// Look into the headers of the weights that would travel, and refuse those that are not whole.
    pub check_weights: bool,
    /// The plan that was made before: the copy fails with `Conflict`, before anything is written, unless it still is the one to make.
    pub prepared: Option<Prepared>,
}

/// A further place to read from: what of it has the right hash stands in for the source.
#[derive(Clone, Debug)]
pub struct Also {
    /// The place.
    pub source: Arc<dyn Source>,
    /// What people know it by.
    pub label: String,
    /// Somebody asked for it by name: that it cannot be used is worth a note.
    pub named: bool,
}

/// The commit message of a copy.
#[derive(Clone, Debug)]
pub struct Message {
    /// Replaces the summary line.
    pub summary: Option<String>,
    /// The source as an address, without its ref.
    pub source: String,
    /// Name and version of the tool.
    pub tool: String,
}

impl Message {
    /// Summary and trailers for a copy of `revision`.
    pub fn text(&self, revision: &Revision) -> String {
        let summary = self.summary.clone().unwrap_or_else(|| format!("Copy {}@{}", self.source, revision.short()));
        format!("{summary}\n\n{}", self.trailers(revision))
    }

    /// The last lines of the message: what was copied, and by what.
    pub(crate) fn trailers(&self, revision: &Revision) -> String {
        format!("Source: {}\nSource-Revision: {revision}\nTool: {}\n", self.source, self.tool)
    }
}

/// What a copy did, or would do.
#[derive(Clone, Debug)]
pub struct CopyReport {
    /// The plan that was carried out last, or would be.
    pub plan: Plan,
    /// Whether the destination had to be created, or would have to.
    pub created: Option<Visibility>,
    /// Bytes read only to compare files whose published hashes have no algorithm in common.
    pub identified_bytes: u64,
    /// What the filters left out.
    pub left_out: LeftOut,
    /// Files that kept their bytes and got, or would get, the time or the executable bit of the source.
    pub restamped: u64,
    /// Files that a hub generated and that stay as they are.
    pub generated: Vec<RepoPath>,
    /// What moved.
    pub outcome: Outcome,
    /// The destination's head afterwards; `None` in a dry run on a place that does not exist.
    pub head: Option<Revision>,
    /// Both sides afterwards.
    pub sides: Sides,
    /// How long the moving took, without listing, comparing and looking again.
    pub moving: Duration,
}

/// Copies. The destination shows either what it showed before or everything.
pub async fn copy(request: &CopyRequest, context: &Context) -> Result<CopyReport> {
    let Ends { from, to, .. } = &request.ends;
    context.reporter.event(&Event::Phase(Phase::Listing));
    let (mut source, head) = told::list_both(from, to, context).await?;
    let chosen = selecting::chosen(request, &source, context).await?;
    let request = chosen.as_ref().unwrap_or(request);
    let listed = request.check_weights.then(|| source.clone());
    let left_out = request.filter.apply(&mut source);
    if let Some(prepared) = &request.prepared {
        prepared.check_listed(&source, head.as_ref())?;
    }
    if source.entries.is_empty() && left_out.files > 0 {
        return Err(Error::not_found("the filters leave no file of the source").hint("look at what is there with `hubferry ls`"));
    }
    let spec = if head.is_some() { None } else { Some(spec(request, &source, context).await?) };
    let created = spec.as_ref().map(|spec| spec.visibility);
    let mut planning = Planning::new(request, source, head);
    let mut made = planning.plan(context).await?;
    if let Some(prepared) = &request.prepared {
        prepared.check_made(&made, planning.head.as_ref(), created)?;
    }
    if let Some(listed) = &listed {
        whole_weights(from, listed, &made, context).await?;
    }
    if request.dry_run {
        let restamped = Beside::of(request, &planning.source, &made, &planning.trusted).await?.kept.len() as u64;
        let Planning { source, head, own, generated, identified_bytes, .. } = planning;
        let (outcome, moving, revision) = (Outcome::default(), Duration::ZERO, head.as_ref().map(|head| head.revision.clone()));
        let sides = Sides::before(source, head, &own);
        return Ok(CopyReport {
            plan: made,
            created,
            identified_bytes,
            left_out,
            restamped,
            generated,
            outcome,
            head: revision,
            sides,
            moving,
        });
    }
    let guarded = guard(request, &made, created, context).await?;
    let context = &guarded;
    if let Some(spec) = &spec {
        if from.host().is_none() {
            transfer::inspect(&made, &request.ends, context).await?;
        }
        retrying(&context.retry, &*context.reporter, "creating the destination", || to.create(spec)).await?;
        made = planning.again(context).await?;
    }
    let also = if made.bytes() > 0 { mirrors(&request.also, context).await } else { Vec::new() };
    let ends = Ends { also, ..request.ends.clone() };
    let started = Instant::now();
    let (outcome, kept) = carry_out(&mut planning, &mut made, &ends, created.is_some(), context).await?;
    if outcome.commits.is_empty() {
        told::settle(to, context).await?;
    }
    let moving = started.elapsed();
    let Planning { source, head, own, generated, identified_bytes, .. } = planning;
    let revision = match outcome.commits.last() {
        Some(landed) => Some(landed.revision.clone()),
        None => head.as_ref().map(|head| head.revision.clone()),
    };
    let now = confirm(to, &outcome.commits, context).await?;
    let restamped = beside::restamp(to, kept).await?;
    let sides = Sides::after(source, head, now, &own, &outcome.commits, &*context.pairs);
    Ok(CopyReport { plan: made, created, identified_bytes, left_out, restamped, generated, outcome, head: revision, sides, moving })
}

/// Moves everything that `made` says, and plans again while somebody else changes the destination. Gives back what is to be stamped anew.
async fn carry_out(
    planning: &mut Planning<'_>,
    made: &mut Plan,
    ends: &Ends,
    created: bool,
    context: &Context,
) -> Result<(Outcome, FactList)> {
    let request = planning.request;
    let message = request.message.text(&planning.source.revision);
    let mut outcome = Outcome::default();
    let mut round = 1;
    loop {
        let kept = Beside::of(request, &planning.source, made, &planning.trusted).await?.carry(&ends.to);
        match transfer::run(made, ends, &message, context).await {
            Ok(done) => {
                outcome.moved_blobs += done.moved_blobs;
                outcome.moved_bytes += done.moved_bytes;
                outcome.reused_blobs += done.reused_blobs;
                outcome.leaks = done.leaks;
                outcome.commits = done.commits;
                return Ok((outcome, kept));
            }
            // The head moved: what is staged stays staged, only the plan is made again.
            Err(error) if error.kind() == Kind::Conflict && round < REPLANS && request.prepared.is_none() => {
                context.reporter.event(&Event::Note(format!("the destination changed meanwhile, planning again ({error})")));
                *made = planning.again(context).await?;
                round += 1;
            }
            Err(error) => {
                if created && error.kind() == Kind::Leak {
                    context.reporter.event(&Event::Note("the destination was created by this run and holds none of the files".to_owned()));
                }
                return Err(error);
            }
        }
    }
}

/// The context of a copy: where strangers can read what is committed, it looks for secrets.
pub(crate) async fn guard(request: &CopyRequest, plan: &Plan, created: Option<Visibility>, context: &Context) -> Result<Context> {
    let mut guarded = context.clone();
    let to = &request.ends.to;
    let ask = || to.is_open(created);
    if plan.is_empty() || !retrying(&context.retry, &*context.reporter, "asking who may read the destination", ask).await? {
        return Ok(guarded);
    }
    guarded.secrets = Some(Arc::new(Gate::new(request.allow_secrets)));
    let large = plan.puts().filter(|(_, entry)| entry.size > SCAN_UP_TO).count();
    if large > 0 {
        let limit = SCAN_UP_TO >> 20;
        context.reporter.event(&Event::Detail(format!("files over {limit} MiB are not looked through for secrets: {large} of them")));
    }
    Ok(guarded)
}

/// What to create for a copy of `source`, which can be read.
pub(crate) async fn spec(request: &CopyRequest, source: &Manifest, context: &Context) -> Result<RepoSpec> {
    let about = describe(&request.ends.from, context).await?;
    if about.gated {
        readable(&request.ends.from, source, context).await?;
    }
    spec_for(&about, request)
}

/// What the source says of itself, asked for as patiently as everything else.
pub async fn describe(from: &Arc<dyn Source>, context: &Context) -> Result<RepoInfo> {
    retrying(&context.retry, &*context.reporter, "asking for the repository", || from.info()).await
}

/// Fails unless files can be read as well as listed: nothing is created for a copy that cannot be made.
async fn readable(from: &Arc<dyn Source>, source: &Manifest, context: &Context) -> Result<()> {
    let Some((path, _)) = source.entries.iter().filter(|(_, entry)| entry.size > 0).min_by_key(|(_, entry)| entry.size) else {
        return Ok(());
    };
    let ask = || async {
        let mut stream = from.read(&source.revision, path, 0..1).await?;
        stream.next().await.transpose().map(drop)
    };
    retrying(&context.retry, &*context.reporter, "looking whether the source may be read", ask).await
}

pub(crate) async fn list(from: &Arc<dyn Source>, context: &Context) -> Result<Manifest> {
    let mut manifest = retrying(&context.retry, &*context.reporter, "listing the source", || from.manifest()).await?;
    pairs::fill(&*context.pairs, &mut manifest);
    Ok(manifest)
}

/// Lists a place for those who only look, and says what it knows to be missing.
pub async fn glance(from: &Arc<dyn Source>, context: &Context) -> Result<(Manifest, Vec<RepoPath>)> {
    let seen = retrying(&context.retry, &*context.reporter, "listing the source", || from.glance()).await?;
    let mut manifest = seen.manifest;
    pairs::fill(&*context.pairs, &mut manifest);
    Ok((manifest, seen.missing))
}

pub(crate) async fn list_head(to: &Arc<dyn Target>, context: &Context) -> Result<Option<Manifest>> {
    let mut head = retrying(&context.retry, &*context.reporter, "listing the destination", || to.head()).await?;
    if let Some(head) = &mut head {
        pairs::fill(&*context.pairs, head);
    }
    Ok(head)
}

/// Lists the further places, as far as they can be listed.
async fn mirrors(also: &[Also], context: &Context) -> Vec<Mirror> {
    let listing = also.iter().map(|also| async move {
        match retrying(&context.retry, &*context.reporter, "listing a mirror", || also.source.manifest()).await {
            Ok(manifest) => Some(Mirror::new(also.source.clone(), &also.label, manifest)),
            Err(error) => {
                if also.named || error.kind() != Kind::NotFound {
                    context.reporter.event(&Event::Note(format!("{} cannot help: {error}", also.label)));
                }
                None
            }
        }
    });
    futures_util::future::join_all(listing).await.into_iter().flatten().collect()
}

/// What the filters leave out is not deleted either, unless that is asked for or it is in the way of something.
pub(crate) fn keep_excluded(request: &CopyRequest, source: &Manifest, head: Option<&mut Manifest>) {
    let Some(head) = head.filter(|_| request.policy.delete && !request.policy.delete_excluded) else { return };
    head.entries.retain(|path, _| request.filter.takes(path) || source.blocks(path));
}

/// Takes the generated files that stay as they are out of both listings. What only the destination has matters where it would be deleted.
pub(crate) async fn leave_generated(
    request: &CopyRequest,
    source: &mut Manifest,
    head: Option<&mut Manifest>,
    context: &Context,
) -> Result<Vec<RepoPath>> {
    let Some(generated) = &request.generated else { return Ok(Vec::new()) };
    let extra = if request.policy.delete { Extra::Counts } else { Extra::Stays };
    generated.leave(&request.ends.from, source, head, extra, context).await
}

/// Reads the files whose published hashes cannot be compared, so that the plan is exact. Returns the bytes read.
pub(crate) async fn decide(ends: &Ends, source: &mut Manifest, head: Option<&mut Manifest>, context: &Context) -> Result<u64> {
    decide_rest(ends, source, head, &Trusted::new(), context).await
}

/// The same, but for files that are believed unread.
async fn decide_rest(ends: &Ends, source: &mut Manifest, head: Option<&mut Manifest>, trusted: &Trusted, context: &Context) -> Result<u64> {
    let Some(head) = head else { return Ok(0) };
    let mut open = plan::undecided(source, head);
    open.retain(|path| !trusted.contains(path));
    if open.is_empty() {
        return Ok(0);
    }
    context.reporter.event(&Event::Phase(Phase::Identifying));
    let read = identify(&ends.from, source, &open, context).await?;
    pairs::fill(&*context.pairs, head);
    Ok(read)
}

/// What to create for a copy of `source`. Unknown counts as private; a closed source does not become open by accident.
fn spec_for(source: &RepoInfo, request: &CopyRequest) -> Result<RepoSpec> {
    let closed = source.gated || matches!(source.visibility, Some(Visibility::Private | Visibility::Internal));
    let default = if source.gated { Visibility::Private } else { source.visibility.unwrap_or(Visibility::Private) };
    let chosen = request.visibility.unwrap_or(default);
    if closed && chosen == Visibility::Public && !request.allow_public {
        let what = if source.gated { "gated" } else { "not public" };
        return Err(Error::new(Kind::Denied, format!("the source is {what}: its copy is not made public without being told so"))
            .hint("leave --visibility out to keep it closed, or add --allow-public if you may publish it"));
    }
    let mut spec = RepoSpec::new(chosen);
    spec.license.clone_from(&source.license);
    Ok(spec)
}

/// Lists the destination once more and checks that readers find what was committed. Gives the listing, if there was one to make.
pub(crate) async fn confirm(to: &Arc<dyn Target>, commits: &[Landed], context: &Context) -> Result<Option<Manifest>> {
    if commits.is_empty() {
        return Ok(None);
    }
    let mut expected = BTreeMap::new();
    for (path, entry) in commits.iter().flat_map(|landed| &landed.expected) {
        expected.insert(path, entry);
    }
    let check = || async {
        let head = to.head().await?.ok_or_else(|| Error::new(Kind::Unavailable, "the destination is not listed yet"))?;
        let wrong = expected.iter().find(|(path, entry)| !transfer::shows(&head, path, entry.as_ref()));
        match wrong {
            None => Ok(Some(head)),
            // Another commit may have come right after ours; then it is theirs that readers see.
            Some(_) if commits.last().is_some_and(|landed| landed.revision != head.revision) => Ok(Some(head)),
            Some((path, _)) => Err(Error::new(Kind::Corrupt, format!("the destination lists {path:?} otherwise than it was committed"))
                .hint("run `hubferry verify` on the destination")),
        }
    };
    retrying(&context.retry, &*context.reporter, "checking the destination", check).await
}

/// One difference between two places.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Only the first has it.
    OnlyLeft,
    /// Only the second has it.
    OnlyRight,
    /// Both have it with other bytes.
    Differs,
    /// Nobody can tell without reading large files: no hash is published by both.
    Unknown,
}

/// How two places differ.
#[derive(Clone, Debug, Default)]
pub struct DiffReport {
    /// The files that do.
    pub differences: BTreeMap<RepoPath, Difference>,
    /// How many are equal.
    pub same: usize,
    /// Files that a hub generated and that a copy would leave as they are.
    pub generated: Vec<RepoPath>,
}

/// Compares two places by their published hashes. Small files without a common hash are read from the first place; nothing is
/// written anywhere.
pub async fn diff(
    left: &Arc<dyn Source>,
    right: &Arc<dyn Source>,
    filter: &Filter,
    generated: Option<&Generated>,
    context: &Context,
) -> Result<DiffReport> {
    context.reporter.event(&Event::Phase(Phase::Listing));
    let (a, b) = tokio::join!(list(left, context), list(right, context));
    let (mut a, mut b) = (a?, b?);
    let filter = selecting::resolve(filter, left, &a, context).await?;
    filter.apply(&mut a);
    filter.apply(&mut b);
    let generated = match generated {
        Some(generated) => generated.leave(left, &mut a, Some(&mut b), Extra::Counts, context).await?,
        None => Vec::new(),
    };
    let open = plan::undecided(&a, &b);
    if !open.is_empty() {
        context.reporter.event(&Event::Phase(Phase::Identifying));
        identify(left, &mut a, &open, context).await?;
    }
    let mut differences = BTreeMap::new();
    let mut same = 0;
    for (path, entry) in &a.entries {
        let difference = match b.entries.get(path).map(|other| plan::compare(entry, other)) {
            None => Difference::OnlyLeft,
            Some(plan::Comparison::Same) => {
                same += 1;
                continue;
            }
            Some(plan::Comparison::Differs(plan::Reason::HashUnknown)) => Difference::Unknown,
            Some(plan::Comparison::Differs(_)) => Difference::Differs,
        };
        differences.insert(path.clone(), difference);
    }
    let only_right = b.entries.keys().filter(|path| !a.entries.contains_key(*path));
    differences.extend(only_right.map(|path| (path.clone(), Difference::OnlyRight)));
    Ok(DiffReport { differences, same, generated })
}

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The place whose bytes are read.
    pub place: Arc<dyn Source>,
    /// What they are compared with; `None` compares with the hashes the place itself publishes.
    pub against: Option<Arc<dyn Source>>,
    /// Where bad files are replaced from `against`; `None` only looks.
    pub repair: Option<Arc<dyn Target>>,
    /// Which files take part.
    pub filter: Filter,
    /// Look into the headers of weights as well: one that is not whole is a finding, whatever its hash.
    pub check_weights: bool,
    /// What is said of files that hubs generate; `None` treats them like any other.
    pub generated: Option<Generated>,
    /// For the commit of a repair.
    pub message: Message,
}

/// The findings, and after a repair the findings of a second look.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// What was found first.
    pub findings: Findings,
    /// Files that were replaced, and what a second reading of them found.
    pub repaired: Option<Findings>,
}

/// Re-reads every byte of a place and checks it.
pub async fn verify_place(request: &VerifyRequest, context: &Context) -> Result<VerifyReport> {
    context.reporter.event(&Event::Phase(Phase::Listing));
    let (mut held, mut missing) = glance(&request.place, context).await?;
    let listed = request.check_weights.then(|| held.clone());
    let mut expected = match &request.against {
        Some(source) => Some(told::list_for(source, request.repair.as_ref(), context).await?),
        None => None,
    };
    // What should be there decides what a preset takes.
    let filter = match (&request.against, &expected) {
        (Some(source), Some(expected)) => selecting::resolve(&request.filter, source, expected, context).await?,
        _ => selecting::resolve(&request.filter, &request.place, &held, context).await?,
    };
    filter.apply(&mut held);
    missing.retain(|path| filter.takes(path));
    if let Some(expected) = &mut expected {
        filter.apply(expected);
    }
    let mut generated = Vec::new();
    if let (Some(rule), Some(source), Some(expected)) = (&request.generated, &request.against, &mut expected) {
        generated = rule.leave(source, expected, Some(&mut held), Extra::Counts, context).await?;
    }
    let mut findings = verify(&request.place, &held, expected.as_ref(), context).await?;
    findings.files.extend(generated.into_iter().map(|path| (path, Verdict::Generated)));
    if expected.is_none() {
        findings.files.extend(missing.into_iter().map(|path| (path, Verdict::Missing)));
    }
    if let Some(listed) = &listed {
        let files: BTreeSet<RepoPath> = held.entries.keys().cloned().collect();
        for (path, error) in damaged_weights(&request.place, listed, &files, context).await? {
            // A wrong hash says more, and is there already.
            if findings.files.get(&path).is_none_or(|verdict| matches!(verdict, Verdict::Matched | Verdict::Unverifiable)) {
                findings.files.insert(path, Verdict::Mismatched { why: error.message().to_owned() });
            }
        }
    }
    let bad = findings.bad();
    let (Some(target), false) = (&request.repair, bad.is_empty()) else {
        return Ok(VerifyReport { findings, repaired: None });
    };
    let (Some(source), Some(expected)) = (&request.against, &expected) else {
        return Err(Error::invalid("a repair needs a place to take the good bytes from").hint("add --against SOURCE"));
    };
    let head = list_head(target, context).await?.ok_or_else(|| Error::not_found("the place to repair is gone"))?;
    let made = plan::repair(expected, &head, &bad)?;
    let ends = Ends { from: source.clone(), also: Vec::new(), to: target.clone() };
    transfer::run(&made, &ends, &request.message.text(&expected.revision), context).await?;
    let (mut held, _) = glance(&request.place, context).await?;
    held.entries.retain(|path, _| bad.contains(path));
    let mut expected = expected.clone();
    expected.entries.retain(|path, _| bad.contains(path));
    let again = verify(&request.place, &held, Some(&expected), context).await?;
    Ok(VerifyReport { findings, repaired: Some(again) })
}
