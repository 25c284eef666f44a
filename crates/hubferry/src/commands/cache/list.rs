//! `cache list`.

use std::fmt::Write as _;
use std::time::SystemTime;

use hubferry_core::prune::RevisionAt;
use hubferry_remotes::hfcache::layout::{Cache, Holds};
use hubferry_remotes::hfcache::stock::{BlobPlace, Inventory};
use serde_json::{Value, json};

use super::choose::{Filter, Line, Named, sort};
use super::{Outcome, ago, inventory, stamp};
use crate::args::cache::CacheListArgs;
use crate::exit::{Exit, Failure};
use crate::output::{count, printable, size, table};
use crate::session::Session;

/// `hubferry cache list`
pub(super) async fn run(args: &CacheListArgs, cache: Cache, session: &Session) -> Outcome {
    let now = SystemTime::now();
    let filters: Vec<Filter> = args.filter.iter().map(|text| Filter::parse(text, now)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    sort(&mut [], &args.sort).map_err(Failure::usage)?;
    let inventory = inventory(&cache).await?;
    let mut lines = if args.revisions { revision_lines(&inventory) } else { repo_lines(&inventory) };
    lines.retain(|line| filters.iter().all(|filter| filter.fits(line)));
    sort(&mut lines, &args.sort).map_err(Failure::usage)?;
    let all = lines.len();
    lines.truncate(args.limit.unwrap_or(usize::MAX));
    let unfinished = unfinished(&inventory);
    session.output.json(&json!({
        "cache": cache.root(),
        "bytes": inventory.stock.bytes(),
        "unfinished": {"downloads": unfinished.0, "bytes": unfinished.1},
        "shown": lines.len(),
        "fitting": all,
        if args.revisions { "revisions" } else { "repositories" }:
            lines.iter().map(|line| described(line, &inventory, args.revisions)).collect::<Vec<_>>(),
    }));
    session.output.text(|| text(&lines, all, &inventory, args.revisions, now));
    if unfinished.0 > 0 {
        session.output.say(&format!(
            "{} left {}: `hubferry download` goes on with its own, `hubferry cache prune --unused` removes them after a day",
            count(unfinished.0, "unfinished download"),
            size(unfinished.1)
        ));
    }
    Ok(Exit::Done)
}

fn repo_lines(inventory: &Inventory) -> Vec<Line> {
    let line = |repo: usize| {
        let (place, stock) = (&inventory.repos[repo], &inventory.stock.repos[repo]);
        Line {
            at: Named { repo, rev: None },
            name: place.id.to_string(),
            kind: place.holds.word(),
            bytes: inventory.repo_bytes(repo),
            used: stock.revisions.iter().map(|revision| revision.used).max(),
            refs: place.revisions.iter().flat_map(|revision| revision.refs.iter().cloned()).collect(),
            pinned: !place.revisions.is_empty() && place.revisions.iter().all(|revision| revision.pinned),
        }
    };
    (0..inventory.repos.len()).map(line).collect()
}

fn revision_lines(inventory: &Inventory) -> Vec<Line> {
    let line = |at: RevisionAt| {
        let (repo, place) = (&inventory.repos[at.repo], inventory.revision(at));
        Line {
            at: Named { repo: at.repo, rev: Some(place.commit.to_string()) },
            name: repo.id.to_string(),
            kind: repo.holds.word(),
            bytes: inventory.revision_bytes(at),
            used: Some(inventory.stock.revision(at).used),
            refs: place.refs.iter().cloned().collect(),
            pinned: place.pinned,
        }
    };
    inventory.stock.revisions().map(line).collect()
}

/// Unfinished downloads and their bytes.
fn unfinished(inventory: &Inventory) -> (u64, u64) {
    let found = inventory.blobs.iter().zip(&inventory.stock.blobs).filter(|(place, _)| matches!(place, BlobPlace::Unfinished(_)));
    found.fold((0, 0), |(number, bytes), (_, blob)| {
        (number + 1, bytes + blob.files.iter().map(|file| inventory.stock.files[*file]).sum::<u64>())
    })
}

fn described(line: &Line, inventory: &Inventory, one: bool) -> Value {
    let repo = &inventory.repos[line.at.repo];
    let mut value = json!({
        "id": line.name,
        "kind": line.kind,
        "bytes": line.bytes,
        "used": line.used.and_then(stamp),
        "refs": line.refs,
        "pinned": line.pinned,
        "busy": repo.busy,
    });
    if one {
        let place = repo.revisions.iter().find(|place| Some(place.commit.as_str()) == line.at.rev.as_deref());
        value["commit"] = json!(line.at.rev);
        value["files"] = json!(place.map(|place| place.files));
        value["path"] = json!(place.map(|place| repo.folder.snapshot(&place.commit)));
    } else {
        value["revisions"] = json!(repo.revisions.iter().map(|place| place.commit.as_str()).collect::<Vec<_>>());
        value["path"] = json!(repo.folder.at());
    }
    value
}

/// How a repository is shown: as an address without its remote.
pub(super) fn shown(holds: Holds, id: &str) -> String {
    match holds {
        Holds::Repo(hubferry_core::address::RepoKind::Model) => id.to_owned(),
        other => format!("{}/{id}", other.prefix()),
    }
}

fn text(lines: &[Line], all: usize, inventory: &Inventory, one: bool, now: SystemTime) -> String {
    if lines.is_empty() {
        return if all == 0 && inventory.repos.is_empty() { "the cache is empty\n".into() } else { "nothing fits\n".into() };
    }
    let mut rows = vec![vec![
        "     SIZE".to_owned(),
        "USED".into(),
        if one { "COMMIT" } else { "REVISIONS" }.into(),
        "REFS".into(),
        "REPOSITORY".into(),
    ]];
    for line in lines {
        let repo = &inventory.repos[line.at.repo];
        let refs = match &line.refs[..] {
            [] => "-".to_owned(),
            [first, second, third, rest @ ..] if !rest.is_empty() => format!("{first}, {second}, {third} and {} more", rest.len()),
            few => few.join(", "),
        };
        let mut name = shown(repo.holds, &line.name);
        if line.pinned {
            name.push_str("  (pinned)");
        }
        if repo.busy.is_some() {
            name.push_str("  (in use)");
        }
        let which = line.at.rev.as_ref().map_or_else(|| repo.revisions.len().to_string(), |rev| rev.chars().take(12).collect());
        let used = line.used.map_or_else(|| "-".to_owned(), |used| ago(used, now));
        rows.push(vec![format!("{:>9}", size(line.bytes)), used, which, printable(&refs), printable(&name)]);
    }
    let mut text = table(&rows);
    if all > lines.len() {
        let _ = writeln!(text, "and {} more", all - lines.len());
    }
    let revisions: usize = inventory.repos.iter().map(|repo| repo.revisions.len()).sum();
    let _ = writeln!(
        text,
        "{}, {}, {} on the disk in {}",
        count(inventory.repos.len() as u64, "repository"),
        count(revisions as u64, "revision"),
        size(inventory.stock.bytes()),
        inventory.cache.root().display()
    );
    text
}
