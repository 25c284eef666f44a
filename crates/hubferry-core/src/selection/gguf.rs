//! Which GGUF files are taken: all parts of a quantisation, and the projector that goes with them.
//!
//! llama.cpp does it so (`common/download.cpp`): a tag is looked for in names, without one it is Q4_K_M, then Q8_0, then the first
//! file; all parts of a split file are taken; of the projectors, one in the same folder or above, closest in bits.

use std::collections::BTreeSet;

use super::choose::{incomplete, join};
use super::units::Unit;
use super::{Preset, Purpose};
use crate::error::{Error, Result};
use crate::manifest::RepoPath;
use crate::weights::names::{is_helper, quant};

/// What llama.cpp takes when nobody says which.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

pub(super) fn choose(preset: &Preset, units: Vec<Unit>) -> Result<BTreeSet<RepoPath>> {
    let (models, helpers): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|unit| first(unit).is_none_or(|path| !is_helper(path)));
    let chosen: Vec<&Unit> = if !preset.quants.is_empty() {
        let mut chosen = Vec::new();
        for wanted in &preset.quants {
            let found = matching(&models, wanted);
            if found.is_empty() {
                return Err(absent(&models, wanted));
            }
            chosen.extend(found);
        }
        chosen
    } else if preset.purpose == Some(Purpose::LlamaCpp) {
        let usual = USUAL.iter().map(|name| matching(&models, name)).find(|found| !found.is_empty());
        usual.unwrap_or_else(|| models.iter().collect()).into_iter().take(1).collect()
    } else {
        // Of the whole format, everything.
        models.iter().chain(&helpers).collect()
    };
    if let Some(unit) = chosen.iter().find(|unit| !unit.is_complete()) {
        return Err(incomplete(unit));
    }
    let mut taken: BTreeSet<RepoPath> = chosen.iter().flat_map(|unit| unit.files.iter().cloned()).collect();
    taken.extend(chosen.iter().filter_map(|unit| projector(unit, &helpers)).flat_map(|unit| unit.files.iter().cloned()));
    Ok(taken)
}

fn first(unit: &Unit) -> Option<&RepoPath> {
    unit.files.first()
}

/// The models of a quantisation: by the whole word, else without the mark of those who quantise dynamically (`UD-`).
fn matching<'a>(models: &'a [Unit], wanted: &str) -> Vec<&'a Unit> {
    let label = |unit: &Unit| first(unit).and_then(quant);
    let exact: Vec<&Unit> = models.iter().filter(|unit| label(unit).is_some_and(|name| name.eq_ignore_ascii_case(wanted))).collect();
    if !exact.is_empty() {
        return exact;
    }
    let plain = |name: String| name.strip_prefix("UD-").unwrap_or(&name).eq_ignore_ascii_case(wanted);
    models.iter().filter(|unit| label(unit).is_some_and(plain)).collect()
}

fn absent(models: &[Unit], wanted: &str) -> Error {
    let there: BTreeSet<String> = models.iter().filter_map(first).filter_map(quant).collect();
    let there = if there.is_empty() {
        "the names of the GGUF files say none".to_owned()
    } else {
        format!("there are: {}", join(there.iter().map(String::as_str)))
    };
    Error::not_found(format!("there is no GGUF file of the quantisation {wanted}; {there}")).hint("name one of those with --quant")
}

/// The projector that goes with a model.
fn projector<'a>(model: &Unit, helpers: &'a [Unit]) -> Option<&'a Unit> {
    let bits = |unit: &Unit| first(unit).map_or(0, |path| bits(path.name()));
    let wanted = first(model).and_then(quant).map_or_else(|| bits(model), |name| self::bits(&name));
    let fits = |unit: &&Unit| {
        let is_projector = first(unit).is_some_and(|path| path.name().to_ascii_lowercase().contains("mmproj"));
        let above = unit.folder.is_empty() || model.folder == unit.folder || model.folder.starts_with(&format!("{}/", unit.folder));
        unit.is_complete() && is_projector && above
    };
    helpers.iter().filter(fits).min_by_key(|unit| (std::cmp::Reverse(unit.folder.len()), bits(unit).abs_diff(wanted)))
}

/// Bits of a quantisation: the first number of the last word in a name that has one.
fn bits(name: &str) -> u32 {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let word = stem.rsplit(['-', '.']).find(|word| word.contains(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let digits: String = word.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
