//! Presets against what is there: the few small files that decide are read once, and the filter knows from then on what it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::headers::content;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::manifest::Manifest;
use crate::remote::Source;
use crate::selection::LARGEST;
use crate::transfer::Context;

/// Most index files of one repository that are read.
const MOST: usize = 256;

/// The same filter with its preset resolved against `listing`, which is that of `source`. Without a preset nothing is read.
///
/// Fails with `NotFound` where there is nothing of what the preset asks for, and with `Corrupt` where weights are there in part.
pub async fn resolve(filter: &Filter, source: &Arc<dyn Source>, listing: &Manifest, context: &Context) -> Result<Filter> {
    let Some(preset) = filter.preset() else { return Ok(filter.clone()) };
    preset.check()?;
    // What the globs leave out is not there for the preset either.
    let mut narrowed = listing.clone();
    filter.globs_only().apply(&mut narrowed);
    let asked = preset.asks(&narrowed);
    if asked.len() > MOST {
        return Err(
            Error::invalid(format!("there are {} index files, more than any model has", asked.len())).hint("choose files with --include")
        );
    }
    let mut contents = BTreeMap::new();
    for path in asked {
        let read = content(source, listing, &path, LARGEST, context).await?;
        contents.insert(path, read);
    }
    Ok(filter.clone().resolved(preset.choose(&narrowed, &contents)?))
}
