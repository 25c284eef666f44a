//! `ls`, `cat`, `du`: looking without changing anything.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use hubferry_core::address::{Address, RepoAddress};
use hubferry_core::error::{Error, Kind};
use hubferry_core::manifest::{Entry, Manifest};
use hubferry_core::ops::selecting;
use hubferry_core::remote::{Body, Source};
use hubferry_core::transfer::body::{SourceBody, Wish};
use hubferry_core::transfer::retry::retrying;
use serde_json::json;

use super::Outcome;
use super::tree::tree;
use crate::args::{CatArgs, LsArgs, PlaceArgs};
use crate::exit::{Exit, Failure};
use crate::output::{count, printable, size, table};
use crate::session::{Session, usage};

pub(super) async fn list(source: &dyn Source, session: &Session) -> Result<Manifest, Failure> {
    let seen = retrying(&session.context.retry, &*session.context.reporter, "listing", || source.glance()).await?;
    session.progress.finish();
    if let Some(first) = seen.missing.first() {
        let missing = count(seen.missing.len() as u64, "file");
        session.output.say(&format!("incomplete: {missing} of this revision missing, {} first", printable(first.as_str())));
    }
    Ok(seen.manifest)
}

fn hash(entry: &Entry) -> String {
    match (entry.digests.sha256, entry.digests.git) {
        (Some(oid), _) => format!("sha256:{oid}"),
        (None, Some(git)) => format!("git:{git}"),
        (None, None) => "-".to_owned(),
    }
}

/// The first digits of it, for people.
pub(super) fn short_hash(entry: &Entry) -> String {
    match (entry.digests.sha256, entry.digests.git) {
        (Some(oid), _) => format!("sha256:{:.12}", oid.to_string()),
        (None, Some(git)) => format!("git:{:.12}", git.to_string()),
        (None, None) => "-".to_owned(),
    }
}

/// `hubferry ls`
pub(crate) async fn ls(args: LsArgs, session: &Session) -> Outcome {
    let address = session.address(&args.place)?;
    let filter = args.selection.filter()?;
    let source = session.source_to_look(&address, args.long || session.output.is_json())?;
    let mut manifest = list(&*source, session).await?;
    let filter = selecting::resolve(&filter, &source, &manifest, &session.context).await?;
    let left = filter.apply(&mut manifest);
    let file =
        |(path, entry): (_, &Entry)| json!({"path": path, "size": entry.size, "sha256": entry.digests.sha256, "git": entry.digests.git});
    let files: Vec<_> = manifest.entries.iter().map(file).collect();
    session.output.json(&json!({
        "place": address.to_string(),
        "revision": manifest.revision,
        "via": session.remotes.via(&address),
        "files": files,
        "left_out": left,
    }));
    session.output.text(|| {
        if args.tree {
            return tree(&address.to_string(), &manifest, args.long);
        }
        if !args.long {
            let rows: Vec<_> = manifest.entries.keys().map(|path| vec![printable(path.as_str())]).collect();
            return table(&rows);
        }
        let row = |(path, entry): (&hubferry_core::manifest::RepoPath, &Entry)| {
            vec![format!("{:>9}", size(entry.size)), hash(entry), printable(path.as_str())]
        };
        table(&manifest.entries.iter().map(row).collect::<Vec<_>>())
    });
    Ok(Exit::Done)
}

/// `hubferry cat`. Small files are checked before the first byte is shown; the hash of a large one is known only at its end, so
/// that wrong bytes end in exit 4 after they were shown.
pub(crate) async fn cat(args: CatArgs, session: &Session) -> Outcome {
    const CHECK_FIRST: u64 = 8 << 20;
    let address = session.address(&args.file)?;
    if session.output.is_json() {
        return Err(usage("cat writes the bytes of a file, which are not JSON", "leave --json out, or use `hubferry ls --json`"));
    }
    if matches!(&address, Address::Repo(RepoAddress { path: None, .. }) | Address::Many(_)) {
        return Err(usage("the address names no file", "add its path: hubferry cat hf:owner/name/config.json"));
    }
    // A directory publishes no hash to check the bytes with.
    let source = session.source_to_look(&address, false)?;
    let manifest = list(&*source, session).await?;
    let mut entries = manifest.entries.into_iter();
    let (Some((path, entry)), None) = (entries.next(), entries.next()) else {
        return Err(usage("the address names a folder", "list it with `hubferry ls` and name one file"));
    };
    let wish = Wish { at: manifest.revision, path, entry };
    if entry.size <= CHECK_FIRST {
        let (content, _) = SourceBody::content(&source, &wish, &session.context).await?;
        session.output.raw(&content);
        return Ok(Exit::Done);
    }
    let body = SourceBody::new(source, wish, session.context.clone());
    let mut stream = body.read(0..entry.size).await?;
    while let Some(piece) = stream.next().await {
        if !session.output.raw(&piece?) {
            return Err(Error::new(Kind::Io, "stdout was closed").into());
        }
    }
    Ok(Exit::Done)
}

/// `hubferry du`
pub(crate) async fn du(args: PlaceArgs, session: &Session) -> Outcome {
    let address = session.address(&args.place)?;
    let manifest = list(&*session.source_to_look(&address, false)?, session).await?;
    let mut folders: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (path, entry) in &manifest.entries {
        let (files, bytes) = folders.entry(path.parents().next().unwrap_or(".")).or_default();
        *files += 1;
        *bytes = bytes.saturating_add(entry.size);
    }
    session.output.json(&json!({
        "place": address.to_string(),
        "files": manifest.entries.len(),
        "bytes": manifest.bytes(),
        "folders": folders.iter().map(|(path, (files, bytes))| json!({"path": path, "files": files, "bytes": bytes})).collect::<Vec<_>>(),
    }));
    session.output.text(|| {
        let row = |bytes: u64, files: u64, name: String| vec![format!("{:>9}", size(bytes)), count(files, "file"), name];
        let mut rows: Vec<_> = folders.iter().map(|(path, (files, bytes))| row(*bytes, *files, printable(path))).collect();
        rows.push(row(manifest.bytes(), manifest.entries.len() as u64, address.to_string()));
        table(&rows)
    });
    Ok(Exit::Done)
}
