//! Reads and hashes files whose SHA-256 the source does not publish.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::body::{SourceBody, Wish};
use super::{Context, pairs};
use crate::digest::Oid;
use crate::error::{Error, Result};
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::remote::Source;

/// A file up to this size is kept in memory after it was identified, so that storing it does not read it a second time.
const KEEP_FILE: u64 = 1 << 20;
/// All kept contents together.
pub(super) const KEEP_ALL: u64 = 16 << 20;

/// Fills in the digests of `paths`, by reading them. What two hubs publish of one file may have no algorithm in common; then this
/// decides whether it must move. Returns the bytes that had to be read.
pub async fn identify(source: &Arc<dyn Source>, manifest: &mut Manifest, paths: &[RepoPath], context: &Context) -> Result<u64> {
    let files: Vec<(RepoPath, Entry)> = paths.iter().filter_map(|path| Some((path.clone(), *manifest.entries.get(path)?))).collect();
    let read = files.iter().map(|(_, entry)| entry.size).sum();
    let at = manifest.revision.clone();
    let work = futures_util::stream::iter(files).map(|(path, entry)| {
        let wish = Wish { at: at.clone(), path, entry };
        async move {
            let digests = SourceBody::identify(source, &wish, context).await?;
            Ok::<_, Error>((wish.path, digests))
        }
    });
    let found: Vec<_> = work.buffer_unordered(context.transfers.max(1)).try_collect().await?;
    for (path, digests) in found {
        if let Some(entry) = manifest.entries.get_mut(&path) {
            pairs::learn(&*context.pairs, entry.size, &digests);
            entry.digests.fill(&digests);
        }
    }
    Ok(read)
}

/// Contents of identified files, by oid.
pub(super) type Kept = HashMap<Oid, Bytes>;

/// Reads one group of files that have no SHA-256; gives their entries with one, and the contents of the small ones.
pub(super) async fn read_group(
    source: &Arc<dyn Source>,
    at: &Revision,
    group: &[(RepoPath, Entry)],
    context: &Context,
) -> Result<(Vec<(RepoPath, Entry)>, Kept)> {
    let work = futures_util::stream::iter(group.iter().cloned()).map(|(path, mut entry)| {
        let wish = Wish { at: at.clone(), path: path.clone(), entry };
        async move {
            let (content, digests) = if entry.size <= KEEP_FILE {
                let (content, digests) = SourceBody::content(source, &wish, context).await?;
                (Some(content), digests)
            } else {
                (None, SourceBody::identify(source, &wish, context).await?)
            };
            pairs::learn(&*context.pairs, entry.size, &digests);
            entry.digests.fill(&digests);
            Ok::<_, Error>((path, entry, content))
        }
    });
    let read: Vec<_> = work.buffer_unordered(context.transfers.max(1)).try_collect().await?;
    let mut kept = Kept::new();
    let mut named = Vec::with_capacity(read.len());
    for (path, entry, content) in read {
        if let (Some(oid), Some(content)) = (entry.digests.sha256, content) {
            kept.insert(oid, content);
        }
        named.push((path, entry));
    }
    Ok((named, kept))
}
