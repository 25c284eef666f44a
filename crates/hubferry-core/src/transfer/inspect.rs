//! Looks for secrets in what a run is about to publish. Most of it passes the scanner on its way to the target (`line.rs`); what does
//! not travel, because the target holds it already, is read here for that alone.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::body::{SourceBody, Wish, rereading};
use super::{Context, Ends};
use crate::digest::{Digests, Oid};
use crate::error::{Error, Result};
use crate::leaks::{Gate, Leak};
use crate::manifest::{Entry, RepoPath, Revision};
use crate::plan::Plan;
use crate::remote::{Source, Wanted, collect, pass};

/// Formats that are no text nearly always show it in so many bytes, and nothing more of them is read.
const SNIFF: u64 = 512;

/// Reads the text files that a plan would publish and fails with [`Kind::Leak`](crate::error::Kind::Leak) when there are secrets in
/// them: for a source whose bytes cost nothing to read, before anything is made at the target.
pub async fn inspect(plan: &Plan, ends: &Ends, context: &Context) -> Result<()> {
    let Some(gate) = context.secrets.clone().filter(|gate| !gate.is_open()) else { return Ok(()) };
    let files = plan.puts().filter(|(_, entry)| Gate::takes(entry.size));
    let wishes: Vec<Wish> = files.map(|(path, entry)| Wish { at: plan.source.clone(), path: path.clone(), entry: *entry }).collect();
    let read = read_all(&ends.from, wishes, context).await?;
    let leaks = gate.leaks(read.iter().filter_map(|(path, oid)| Some((path, oid.as_ref()?))));
    gate.judge(leaks, &*context.reporter).map(drop)
}

/// What was found in these blobs; those that did not pass the scanner on their way are read now.
pub(super) async fn judge(wanted: &[Wanted], at: &Revision, ends: &Ends, context: &Context) -> Result<Vec<Leak>> {
    let Some(gate) = &context.secrets else { return Ok(Vec::new()) };
    let unseen = wanted.iter().filter(|w| Gate::takes(w.blob.size) && !gate.has_seen(&w.blob.oid));
    let wishes = unseen.filter_map(|w| {
        let entry = Entry::new(w.blob.size, Digests::sha256(w.blob.oid));
        Some(Wish { at: at.clone(), path: w.paths.first()?.clone(), entry })
    });
    read_all(&ends.from, wishes.collect(), context).await?;
    let leaks = gate.leaks(wanted.iter().flat_map(|w| w.paths.iter().map(|path| (path, &w.blob.oid))));
    gate.judge(leaks, &*context.reporter)
}

/// Reads files past the scanner; gives the hash of each as far as it is known then.
async fn read_all(source: &Arc<dyn Source>, wishes: Vec<Wish>, context: &Context) -> Result<Vec<(RepoPath, Option<Oid>)>> {
    let work = stream::iter(wishes).map(|wish| async move {
        let oid = rereading(context, &wish.path, || read(source, &wish, context)).await?;
        Ok::<_, Error>((wish.path, oid))
    });
    work.buffer_unordered(context.transfers.max(1)).try_collect().await
}

async fn read(source: &Arc<dyn Source>, wish: &Wish, context: &Context) -> Result<Option<Oid>> {
    let size = wish.entry.size;
    let body = SourceBody::new(source.clone(), wish.clone(), context.clone());
    let head = SNIFF.min(size);
    if collect(head, &body).await?.contains(&0) {
        return Ok(wish.entry.digests.sha256);
    }
    if head < size {
        pass(&body, head..size).await?;
    }
    Ok(body.digests().and_then(|digests| digests.sha256))
}
