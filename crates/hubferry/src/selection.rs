//! The flags that choose files, as the core knows them.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use hubferry_core::filter::{Filter, LeftOut};
use hubferry_core::selection::{Preset, Purpose};
use hubferry_core::weights::Format;

use crate::args::Selection;
use crate::exit::Failure;
use crate::output::{count, size};

/// Takes the name of a program that loads models.
pub(crate) fn programs() -> impl TypedValueParser<Value = Purpose> {
    let unknown = |word: String| Purpose::from_word(&word).ok_or("this is no program that is known here");
    PossibleValuesParser::new(Purpose::ALL.map(Purpose::name)).try_map(unknown)
}

/// Takes the name of a format of weights.
pub(crate) fn formats() -> impl TypedValueParser<Value = Format> {
    let unknown = |word: String| Format::from_word(&word).ok_or("this is no format that is known here");
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(unknown)
}

impl Selection {
    /// As a plan or a lock file has it.
    pub(crate) fn from_parts(include: Vec<String>, exclude: Vec<String>, preset: Preset) -> Self {
        let Preset { purpose, formats, quants, variant } = preset;
        Self { include, exclude, purpose, formats, quants, variant }
    }

    /// What of it chooses among weights.
    pub(crate) fn preset(&self) -> Preset {
        Preset { purpose: self.purpose, formats: self.formats.clone(), quants: self.quants.clone(), variant: self.variant.clone() }
    }

    /// As the core takes it. A preset in it is resolved by the operations themselves.
    pub(crate) fn filter(&self) -> Result<Filter, Failure> {
        let preset = self.preset();
        preset.check().map_err(Failure::usage)?;
        Ok(Filter::new(&self.include, &self.exclude).map_err(Failure::usage)?.with_preset(preset))
    }
}

/// A line that says what was left out; nothing where that is nothing.
pub(crate) fn left_out(left: LeftOut) -> String {
    if left.files == 0 { String::new() } else { format!("left out: {} ({})\n", count(left.files as u64, "file"), size(left.bytes)) }
}
