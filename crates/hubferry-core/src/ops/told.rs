//! Places that must know what comes before they can say what they hold: the order in which both ends are listed.

use std::sync::Arc;

use super::{list, list_head};
use crate::error::Result;
use crate::manifest::Manifest;
use crate::remote::{Coming, Source, Target};
use crate::transfer::retry::retrying;
use crate::transfer::{Context, pairs};

/// Lists both ends: at once, unless the destination has to be told of the source first.
pub(super) async fn list_both(from: &Arc<dyn Source>, to: &Arc<dyn Target>, context: &Context) -> Result<(Manifest, Option<Manifest>)> {
    if to.told().is_none() {
        let (source, head) = tokio::join!(list(from, context), list_head(to, context));
        return Ok((source?, head?));
    }
    let source = list_for(from, Some(to), context).await?;
    Ok((source, list_head(to, context).await?))
}

/// Lists a source and tells `to` of it, if that wants to know.
pub(super) async fn list_for(from: &Arc<dyn Source>, to: Option<&Arc<dyn Target>>, context: &Context) -> Result<Manifest> {
    let mut source = list(from, context).await?;
    let Some(told) = to.and_then(|to| to.told()) else { return Ok(source) };
    let coming = Coming { manifest: source.clone(), extent: from.extent() };
    let known = retrying(&context.retry, &*context.reporter, "looking at the destination", || told.tell(&coming)).await?;
    for (size, digests) in known {
        pairs::learn(&*context.pairs, size, &digests);
    }
    pairs::fill(&*context.pairs, &mut source);
    Ok(source)
}

/// Nothing had to be committed: lets a destination name what it holds.
pub(super) async fn settle(to: &Arc<dyn Target>, context: &Context) -> Result<()> {
    let Some(told) = to.told() else { return Ok(()) };
    retrying(&context.retry, &*context.reporter, "naming what the destination holds", || told.settle()).await
}
