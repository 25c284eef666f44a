//! Weights that belong together: the shards of an index, the parts of one file, or a file alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::manifest::{Manifest, RepoPath};
use crate::weights::index::Index;
use crate::weights::names::{self, Format, Shard};

/// Weights of which a loader needs all or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unit {
    pub(super) format: Format,
    /// Such as `fp16`.
    pub(super) variant: Option<String>,
    /// Folder of its files; empty for the root.
    pub(super) folder: String,
    /// What the weights are for, whatever their format: `model` for `model.safetensors` and `pytorch_model.bin` alike.
    pub(super) role: String,
    /// Its files, the index among them.
    pub(super) files: BTreeSet<RepoPath>,
    /// The first file that should be there and is not, and what names it.
    pub(super) missing: Option<(RepoPath, String)>,
}

impl Unit {
    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_none()
    }

    fn new(path: &RepoPath, format: Format) -> Self {
        Self {
            format,
            variant: names::variant(path),
            folder: path.parents().last().unwrap_or_default().to_owned(),
            role: role(path),
            files: BTreeSet::new(),
            missing: None,
        }
    }
}

/// Puts the weights of `formats` together.
pub(super) fn units(listing: &Manifest, formats: &[Format], contents: &BTreeMap<RepoPath, Vec<u8>>) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    let mut placed: BTreeSet<RepoPath> = BTreeSet::new();
    let weights =
        || listing.entries.keys().filter_map(|path| Some((path, Format::of(path)?))).filter(|(_, format)| formats.contains(format));
    for (path, format) in weights().filter(|(path, _)| names::index_of(path).is_some()) {
        let Some(content) = contents.get(path) else { continue };
        let mut unit = Unit::new(path, format);
        for shard in Index::parse(path, content)?.shards.into_keys() {
            if listing.entries.contains_key(&shard) {
                placed.insert(shard.clone());
                unit.files.insert(shard);
            } else if unit.missing.is_none() {
                unit.missing = Some((path.clone(), shard.to_string()));
            }
        }
        placed.insert(path.clone());
        unit.files.insert(path.clone());
        units.push(unit);
    }
    let mut parts: BTreeMap<Shard, Unit> = BTreeMap::new();
    for (path, format) in weights() {
        if placed.contains(path) {
            continue;
        }
        let mut unit = Unit::new(path, format);
        let Some(shard) = Shard::of(path) else {
            unit.files.insert(path.clone());
            units.push(unit);
            continue;
        };
        let key = Shard { number: 1, ..shard.clone() };
        parts.entry(key).or_insert(unit).files.insert(path.clone());
    }
    for (shard, mut unit) in parts {
        let gap = (1..=shard.of).map(|number| shard.sibling(number)).find(|path| !listing.entries.contains_key(path.as_str()));
        let first = unit.files.first().cloned();
        unit.missing = first.zip(gap);
        units.push(unit);
    }
    Ok(units)
}

/// The name without what says format, shard and variant.
fn role(path: &RepoPath) -> String {
    let name = path.name().to_ascii_lowercase();
    let stem = match Shard::of(path) {
        Some(shard) => shard.before.rsplit('/').next().unwrap_or_default().to_ascii_lowercase(),
        None if names::index_of(path).is_some() => {
            let before = name.split(".index").next().unwrap_or_default();
            before.rsplit_once('.').map_or(before, |(stem, _)| stem).to_owned()
        }
        None => name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem).to_owned(),
    };
    let stem = match names::variant(path) {
        Some(variant) => stem.strip_suffix(&format!(".{}", variant.to_ascii_lowercase())).unwrap_or(&stem).to_owned(),
        None => stem,
    };
    stem.replace("pytorch_model", "model")
}
