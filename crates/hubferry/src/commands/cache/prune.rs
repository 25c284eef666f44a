//! `cache prune` and `cache remove`: an exact plan, a question, and no more than was said.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::SystemTime;

use hubferry_core::error::Error;
use hubferry_core::prune::{Reason, Removal, RevisionAt, Rules, choose, remove as removal_of};
use hubferry_remotes::hfcache::clear::{Cleared, clear};
use hubferry_remotes::hfcache::layout::Cache;
use hubferry_remotes::hfcache::stock::{BlobPlace, Inventory};
use serde_json::{Value, json};

use super::choose::{find, revisions};
use super::list::shown;
use super::{Outcome, ago, blocking, inventory, stamp};
use crate::args::cache::{CachePruneArgs, CacheRemoveArgs};
use crate::commands::ask;
use crate::exit::{Exit, Failure};
use crate::output::{count, printable, size, table};
use crate::session::Session;

/// `hubferry cache prune`
pub(super) async fn prune(args: CachePruneArgs, cache: Cache, session: &Session) -> Outcome {
    let inventory = inventory(&cache).await?;
    let unused_since = args.older_than.map(|age| SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
    let rules = Rules { max_size: args.max_size, unused_since, unnamed: args.unused, named_too: args.refs };
    let removal = choose(&inventory.stock, &rules);
    let done = carry_out(inventory, removal, args.dry_run, args.yes, session).await?;
    let Some(budget) = args.max_size else { return Ok(done.exit()) };
    if done.after <= budget {
        return Ok(done.exit());
    }
    let hint = if args.refs {
        "what stays is pinned or in use: see it with `hubferry cache list --filter pinned=yes`, let go of it with `hubferry cache unpin`"
    } else {
        "what stays is named by a branch or tag, pinned, or in use: --refs lets named revisions go as well"
    };
    session.output.say(&format!("what stays takes {}, more than {}", size(done.after), size(budget)));
    session.output.say(&format!("hint: {hint}"));
    Ok(Exit::Partial)
}

/// `hubferry cache remove`
pub(super) async fn remove(args: CacheRemoveArgs, cache: Cache, session: &Session) -> Outcome {
    let inventory = inventory(&cache).await?;
    let mut chosen = Vec::new();
    let mut empty = Vec::new();
    for text in &args.places {
        let named = find(&inventory, text)?;
        let repo = &inventory.repos[named.repo];
        if let Some(why) = &repo.busy {
            return Err(Error::new(hubferry_core::error::Kind::Conflict, format!("{} is in use: {why}", repo.id))
                .hint("wait until the download has ended; what a dead one left counts as alive for an hour")
                .into());
        }
        let found = revisions(&inventory, &named)?;
        if let Some(at) = found.iter().find(|at| inventory.revision(**at).pinned) {
            let commit = &inventory.revision(*at).commit;
            return Err(Error::invalid(format!("{} {commit} is pinned", repo.id))
                .hint(format!("let go of it with `hubferry cache unpin {text}`"))
                .into());
        }
        if found.is_empty() {
            empty.push(named.repo);
        }
        chosen.extend(found);
    }
    chosen.sort_unstable();
    chosen.dedup();
    let removal = removal_of(&inventory.stock, &chosen, &empty);
    let done = carry_out(inventory, removal, args.dry_run, args.yes, session).await?;
    Ok(done.exit())
}

/// What was removed, or would be.
struct Done {
    after: u64,
    cleared: Cleared,
}

impl Done {
    /// Something that was chosen stayed, because somebody began to use it.
    fn exit(&self) -> Exit {
        if self.cleared.spared.is_empty() { Exit::Done } else { Exit::Partial }
    }
}

async fn carry_out(found: Inventory, removal: Removal, dry_run: bool, yes: bool, session: &Session) -> Result<Done, Failure> {
    let shares = removal.shares(&found.stock);
    let nothing = removal.revisions.is_empty() && removal.blobs.is_empty() && removal.repos.is_empty();
    if !nothing && !dry_run && !yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let plan = plan_text(&found, &removal, &shares);
        ask(&format!("{plan}{} will be freed.", size(removal.freed())), session)?;
    }
    if nothing || dry_run {
        session.output.json(&report(&found, &removal, &shares, &Cleared::default(), removal.after, true));
        session.output.text(|| {
            if nothing {
                return format!("nothing to remove: {} on the disk\n", size(removal.after));
            }
            format!("{}{} would be freed, {} stay\n", plan_text(&found, &removal, &shares), size(removal.freed()), size(removal.after))
        });
        return Ok(Done { after: removal.after, cleared: Cleared::default() });
    }
    let (cache, chosen) = (found.cache.clone(), removal.clone());
    let (found, cleared) = blocking(move || clear(&found, &chosen).map(|cleared| (found, cleared))).await?;
    let after = if cleared.spared.is_empty() { removal.after } else { inventory(&cache).await?.stock.bytes() };
    session.output.json(&report(&found, &removal, &shares, &cleared, after, false));
    session.output.text(|| {
        let mut text = plan_text(&found, &removal, &shares);
        for (at, why) in &cleared.spared {
            let _ = writeln!(text, "spared  {}  {}", at.display(), printable(why));
        }
        let _ = writeln!(text, "{} freed, {} stay", size(removal.before.saturating_sub(after)), size(after));
        text
    });
    Ok(Done { after, cleared })
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Unnamed => "no branch or tag names it",
        Reason::Old => "not used for so long",
        Reason::Room => "least recently used",
        Reason::Asked => "asked for",
    }
}

fn plan_text(inventory: &Inventory, removal: &Removal, shares: &[u64]) -> String {
    let now = SystemTime::now();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for ((at, reason), frees) in removal.revisions.iter().zip(shares) {
        let (repo, place) = (&inventory.repos[at.repo], inventory.revision(*at));
        let refs: Vec<&str> = place.refs.iter().map(String::as_str).collect();
        let name = format!("{}@{}", shown(repo.holds, &repo.id.to_string()), place.commit.as_str().get(..12).unwrap_or_default());
        let name = if refs.is_empty() { name } else { format!("{name} ({})", refs.join(", ")) };
        let used = format!("used {}", ago(inventory.stock.revision(*at).used, now));
        rows.push(vec![
            "remove".into(),
            printable(&name),
            format!("{:>9}", size(*frees)),
            format!("of {}", size(inventory.revision_bytes(*at))),
            used,
            why(*reason).into(),
        ]);
    }
    let mut text = table(&rows);
    let of = |test: fn(&BlobPlace) -> bool| removal.blobs.iter().filter(|blob| test(&inventory.blobs[**blob])).count() as u64;
    let unfinished = of(|place| matches!(place, BlobPlace::Unfinished(_)));
    if unfinished > 0 {
        let _ = writeln!(text, "remove  {}", count(unfinished, "unfinished download"));
    }
    let blobs = of(|place| matches!(place, BlobPlace::Blob(_) | BlobPlace::Shared(_)));
    if blobs > 0 {
        let _ = writeln!(text, "remove  {} that nothing needs then", count(blobs, "blob"));
    }
    text
}

fn report(inventory: &Inventory, removal: &Removal, shares: &[u64], cleared: &Cleared, after: u64, dry_run: bool) -> Value {
    let revision = |((at, reason), frees): (&(RevisionAt, Reason), &u64)| {
        let (repo, place) = (&inventory.repos[at.repo], inventory.revision(*at));
        json!({
            "id": repo.id,
            "kind": repo.holds.word(),
            "commit": place.commit.as_str(),
            "refs": place.refs,
            "used": stamp(inventory.stock.revision(*at).used),
            "bytes": inventory.revision_bytes(*at),
            "frees": frees,
            "why": why(*reason),
        })
    };
    json!({
        "cache": inventory.cache.root(),
        "dry_run": dry_run,
        "revisions": removal.revisions.iter().zip(shares).map(revision).collect::<Vec<_>>(),
        "repositories": removal.repos.iter().map(|repo| inventory.repos[*repo].folder.name()).collect::<Vec<_>>(),
        "blobs": removal.blobs.len(),
        "before": removal.before,
        "after": after,
        "freed": removal.before.saturating_sub(after),
        "spared": cleared.spared.iter().map(|(at, why)| json!({"path": at, "why": why})).collect::<Vec<_>>(),
    })
}
