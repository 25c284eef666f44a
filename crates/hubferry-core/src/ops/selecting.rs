//! Presets against what is there: the few small files that decide are read once, and the filter knows from then on what it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CopyRequest;
use super::headers::content;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::manifest::{Manifest, RepoPath};
use crate::remote::Source;
use crate::selection::{LARGEST, Preset};
use crate::transfer::Context;

/// Most index files of one repository that are read.
const MOST: usize = 256;

/// The same filter with its preset resolved against `listing`, which is that of `source`. Without a preset nothing is read.
///
/// Fails with `NotFound` where there is nothing of what the preset asks for, and with `Corrupt` where weights are there in part.
pub async fn resolve(filter: &Filter, source: &Arc<dyn Source>, listing: &Manifest, context: &Context) -> Result<Filter> {
    let Some(preset) = filter.preset() else { return Ok(filter.clone()) };
    let (narrowed, asked) = asked(filter, preset, listing)?;
    let mut contents = BTreeMap::new();
    for path in asked {
        let read = content(source, listing, &path, LARGEST, context).await?;
        contents.insert(path, read);
    }
    Ok(filter.clone().resolved(preset.choose(&narrowed, &contents)?))
}

/// The same for a whole request; `None` where it asks for no preset.
pub(super) async fn chosen(request: &CopyRequest, source: &Manifest, context: &Context) -> Result<Option<CopyRequest>> {
    if request.filter.preset().is_none() {
        return Ok(None);
    }
    let filter = resolve(&request.filter, &request.ends.from, source, context).await?;
    Ok(Some(CopyRequest { filter, ..request.clone() }))
}

/// The same for files that somebody else reads: `content` gives the small ones that decide, and `None` for one that is not at hand.
pub fn resolve_with(filter: &Filter, listing: &Manifest, mut content: impl FnMut(&RepoPath) -> Option<Vec<u8>>) -> Result<Filter> {
    let Some(preset) = filter.preset() else { return Ok(filter.clone()) };
    let (narrowed, asked) = asked(filter, preset, listing)?;
    let mut contents = BTreeMap::new();
    for path in asked {
        let read = content(&path).ok_or_else(|| Error::not_found(format!("{path:?} is not at hand")))?;
        contents.insert(path, read);
    }
    Ok(filter.clone().resolved(preset.choose(&narrowed, &contents)?))
}

/// What the globs leave of a listing, and which small files of that decide. What they leave out is not there for the preset either.
fn asked(filter: &Filter, preset: &Preset, listing: &Manifest) -> Result<(Manifest, Vec<RepoPath>)> {
    preset.check()?;
    let mut narrowed = listing.clone();
    filter.globs_only().apply(&mut narrowed);
    let asked = preset.asks(&narrowed);
    if asked.len() > MOST {
        let error = Error::invalid(format!("there are {} index files, more than any model has", asked.len()));
        return Err(error.hint("choose files with --include"));
    }
    Ok((narrowed, asked))
}
