//! The choice itself: which of the weights of a listing a preset takes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::units::{Unit, units};
use super::{Chosen, MODEL_INDEX, Preset, Purpose, gguf};
use crate::error::{Error, Kind, Result, Retry};
use crate::manifest::{Manifest, RepoPath};
use crate::weights::names::Format;

pub(super) fn choose(preset: &Preset, listing: &Manifest, contents: &BTreeMap<RepoPath, Vec<u8>>) -> Result<Chosen> {
    let allowed = preset.allowed();
    let parts = match preset.purpose {
        Some(Purpose::Diffusers) => Some(components(listing, contents)?),
        _ => None,
    };
    let mut units = units(listing, &allowed, contents)?;
    let is_restricted = preset.purpose.is_some() || !preset.formats.is_empty() || !preset.quants.is_empty();
    if let Some(parts) = &parts {
        units.retain(|unit| parts.iter().any(|part| unit.folder == *part || unit.folder.starts_with(&format!("{part}/"))));
    } else if preset.purpose.is_some() {
        // The checkpoint as its authors trained it, beside the converted one: vLLM ignores it by this name.
        units.retain(|unit| unit.folder != "original" && !unit.folder.starts_with("original/"));
    }
    let mut taken = BTreeSet::new();
    if allowed.contains(&Format::Gguf) {
        let (models, others) = units.into_iter().partition(|unit| unit.format == Format::Gguf);
        units = others;
        taken.extend(gguf::choose(preset, models)?);
    }
    if let Some(variant) = &preset.variant {
        one_variant(&mut units, variant)?;
    } else if preset.purpose.is_some() {
        without_variants(&mut units);
    }
    if preset.purpose.is_some() {
        units = preferred(units, &allowed)?;
        twins(&mut units);
    } else if let Some(unit) = units.iter().find(|unit| !unit.is_complete()) {
        return Err(incomplete(unit));
    }
    taken.extend(units.into_iter().flat_map(|unit| unit.files));
    let of_format = |path: &RepoPath| Format::of(path).is_some();
    if taken.is_empty() && is_restricted {
        return Err(nothing(preset, listing, &allowed));
    }
    let is_left = |path: &&RepoPath| match Format::of(path) {
        None => false,
        // With a variant alone, formats that have none are not its business.
        Some(format) if !is_restricted && !allowed.contains(&format) => false,
        Some(_) => !taken.contains(*path),
    };
    let left: BTreeSet<RepoPath> = listing.entries.keys().filter(is_left).cloned().collect();
    let taken = listing.entries.keys().filter(|path| of_format(path) && !left.contains(*path)).cloned().collect();
    Ok(Chosen { left, taken })
}

/// The folders that `model_index.json` names. A component is a pair of library and class; what is null is not there, and what begins
/// with an underscore is no component. Known from `DiffusionPipeline.download`.
fn components(listing: &Manifest, contents: &BTreeMap<RepoPath, Vec<u8>>) -> Result<Vec<String>> {
    let missing = || {
        Error::not_found(format!("there is no {MODEL_INDEX}, so this is no pipeline that diffusers loads"))
            .hint("leave out --for diffusers, or name the part of the repository that has one")
    };
    let content = listing.entries.get_key_value(MODEL_INDEX).and_then(|(path, _)| contents.get(path)).ok_or_else(missing)?;
    let index: Value = serde_json::from_slice(content).map_err(|error| {
        Error::new(Kind::Corrupt, format!("{MODEL_INDEX} is damaged"))
            .retry_as(Retry::No)
            .caused_by(error)
            .hint("it has to be uploaded again")
    })?;
    let is_component = |(name, value): &(&String, &Value)| !name.starts_with('_') && value.get(0).is_some_and(Value::is_string);
    Ok(index.as_object().into_iter().flatten().filter(is_component).map(|(name, _)| name.clone()).collect())
}

/// Takes the units of a variant where there are any, and the plain ones elsewhere, as diffusers mixes them.
fn one_variant(units: &mut Vec<Unit>, variant: &str) -> Result<()> {
    let is_it = |unit: &Unit| unit.variant.as_deref() == Some(variant);
    if !units.iter().any(is_it) {
        let there: BTreeSet<&str> = units.iter().filter_map(|unit| unit.variant.as_deref()).collect();
        let there = if there.is_empty() { "there are none".to_owned() } else { format!("there are: {}", join(there)) };
        return Err(Error::not_found(format!("there are no weights of the variant {variant}; {there}"))
            .hint("leave out --variant for the usual weights"));
    }
    let has: BTreeSet<(String, String)> = units.iter().filter(|unit| is_it(unit)).map(place).collect();
    units.retain(|unit| is_it(unit) || (unit.variant.is_none() && !has.contains(&place(unit))));
    Ok(())
}

/// Leaves variants out wherever there are plain weights.
fn without_variants(units: &mut Vec<Unit>) {
    let plain: BTreeSet<(String, String)> = units.iter().filter(|unit| unit.variant.is_none() && unit.is_complete()).map(place).collect();
    units.retain(|unit| unit.variant.is_none() || !plain.contains(&place(unit)));
}

fn place(unit: &Unit) -> (String, String) {
    (unit.folder.clone(), unit.role.clone())
}

/// Of the same weights in several formats, the preferred one that is complete.
fn preferred(units: Vec<Unit>, allowed: &[Format]) -> Result<Vec<Unit>> {
    let mut places: BTreeMap<(String, String), Vec<Unit>> = BTreeMap::new();
    for unit in units {
        places.entry(place(&unit)).or_default().push(unit);
    }
    let mut chosen = Vec::new();
    for (_, mut same) in places {
        let first = allowed.iter().find(|format| same.iter().any(|unit| unit.format == **format && unit.is_complete()));
        let Some(first) = first else {
            return Err(same.first().map_or_else(|| Error::new(Kind::Bug, "weights of no format"), incomplete));
        };
        same.retain(|unit| unit.format == *first && unit.is_complete());
        chosen.append(&mut same);
    }
    Ok(chosen)
}

/// Drops the checkpoint of Mistral (`consolidated*`) and of Llama (`consolidated.00.pth`) that lies beside the same model as the
/// libraries save it.
fn twins(units: &mut Vec<Unit>) {
    let saved: BTreeSet<String> = units.iter().filter(|unit| unit.role == "model").map(|unit| unit.folder.clone()).collect();
    units.retain(|unit| !(unit.role.starts_with("consolidated") && saved.contains(&unit.folder)));
}

pub(super) fn incomplete(unit: &Unit) -> Error {
    let (by, what) = unit.missing.as_ref().map_or_else(Default::default, |(by, what)| (by.to_string(), what.clone()));
    Error::new(Kind::Corrupt, format!("the weights are not complete: {by} needs {what}, which is not there"))
        .retry_as(Retry::No)
        .hint("wait until the upload is complete, or tell its owner; look at what is there with `hubferry ls`")
}

fn nothing(preset: &Preset, listing: &Manifest, allowed: &[Format]) -> Error {
    let there: BTreeSet<&str> = listing.entries.keys().filter_map(Format::of).map(Format::name).collect();
    let there = if there.is_empty() { "there are no weights at all".to_owned() } else { format!("there are: {}", join(there)) };
    let wanted = join(allowed.iter().map(|format| format.name()));
    let what = preset.purpose.map_or_else(
        || format!("there are no weights in {wanted}"),
        |purpose| format!("there are no weights that {purpose} loads ({wanted})"),
    );
    Error::not_found(format!("{what}; {there}")).hint("choose another --for or --format, or leave it out")
}

pub(super) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
