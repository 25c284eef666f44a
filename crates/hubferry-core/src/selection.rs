//! Presets: what a program loads of a repository, or the weights of one format or quantisation. Pure: the few small files that decide
//! are read by `ops::selecting`.
//!
//! A preset chooses among weights. Whatever is none (configurations, tokenizers, code, the licence, the card) always takes part.

mod choose;
mod gguf;
mod units;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, RepoPath};
use crate::weights::names::{self, Format};

/// The file that names the parts of a diffusers pipeline.
pub const MODEL_INDEX: &str = "model_index.json";
/// Larger small files are not read, in bytes.
pub const LARGEST: u64 = crate::weights::index::LARGEST;

/// A program that loads models.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Purpose {
    /// `from_pretrained` of transformers, and what builds on it
    #[serde(rename = "transformers")]
    Transformers,
    /// vLLM
    #[serde(rename = "vllm")]
    Vllm,
    /// llama.cpp, as `-hf` downloads
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// `DiffusionPipeline.from_pretrained` of diffusers
    #[serde(rename = "diffusers")]
    Diffusers,
    /// ONNX Runtime
    #[serde(rename = "onnx")]
    Onnx,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Transformers, Self::Vllm, Self::LlamaCpp, Self::Diffusers, Self::Onnx];

    /// The word used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformers => "transformers",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama.cpp",
            Self::Diffusers => "diffusers",
            Self::Onnx => "onnx",
        }
    }

    /// The program with this name, whatever its letter case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name().eq_ignore_ascii_case(word))
    }

    /// The formats it loads, the one it prefers first.
    ///
    /// transformers looks for safetensors and then for pickles (`modeling_utils.py`); vLLM takes the first of `*.safetensors`, `*.bin`,
    /// `*.pt` of which there is any (`default_loader.py`); diffusers ignores pickles where every part has safetensors
    /// (`pipeline_loading_utils.py`).
    fn formats(self) -> &'static [Format] {
        match self {
            Self::Transformers | Self::Vllm | Self::Diffusers => &[Format::Safetensors, Format::Pytorch],
            Self::LlamaCpp => &[Format::Gguf],
            Self::Onnx => &[Format::Onnx],
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which weights are wanted. Without any wish, all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What this program loads.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// Weights of these formats.
    #[serde(rename = "format", default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<Format>,
    /// GGUF files of these quantisations, whatever their letter case.
    #[serde(rename = "quant", default, skip_serializing_if = "Vec::is_empty")]
    pub quants: Vec<String>,
    /// The variant that a library saved, such as `fp16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Most formats or quantisations, and the longest name of one: a preset may come from a file.
const MOST: usize = 64;

impl Preset {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Fails with `Invalid` for wishes that contradict each other.
    pub fn check(&self) -> Result<()> {
        let texts = self.quants.iter().chain(&self.variant);
        if self.formats.len() > MOST || self.quants.len() > MOST || texts.clone().any(|text| text.is_empty() || text.len() > MOST) {
            return Err(Error::invalid("a preset has an empty or too long name in it, or too many"));
        }
        if let Some(purpose) = self.purpose
            && let Some(format) = self.formats.iter().find(|format| !purpose.formats().contains(format))
        {
            let loads: Vec<&str> = purpose.formats().iter().map(|format| format.name()).collect();
            let error = Error::invalid(format!("{purpose} does not load {format}"));
            return Err(error.hint(format!("it loads {}; leave out --for or --format", loads.join(" and "))));
        }
        if !self.quants.is_empty() && !self.allowed().contains(&Format::Gguf) {
            return Err(Error::invalid("--quant chooses among GGUF files, and those are left out")
                .hint("leave out --quant, or use --for llama.cpp"));
        }
        if self.variant.is_some() && !self.allowed().iter().any(|format| matches!(format, Format::Safetensors | Format::Pytorch)) {
            return Err(Error::invalid("--variant chooses among safetensors and pickles, and those are left out")
                .hint("leave out --variant, or use --for diffusers"));
        }
        Ok(())
    }

    /// The formats that may be taken, the preferred one first.
    fn allowed(&self) -> Vec<Format> {
        match self.purpose {
            Some(purpose) if self.formats.is_empty() => purpose.formats().to_vec(),
            Some(purpose) => purpose.formats().iter().copied().filter(|format| self.formats.contains(format)).collect(),
            None if !self.formats.is_empty() => self.formats.clone(),
            None if !self.quants.is_empty() => vec![Format::Gguf],
            None => vec![Format::Safetensors, Format::Pytorch],
        }
    }

    /// The small files of a listing whose content decides.
    pub fn asks(&self, listing: &Manifest) -> Vec<RepoPath> {
        let allowed = self.allowed();
        let index = |path: &&RepoPath| names::index_of(path).is_some_and(|format| allowed.contains(&format));
        let mut asked: Vec<RepoPath> = listing.entries.keys().filter(index).cloned().collect();
        if self.purpose == Some(Purpose::Diffusers) {
            asked.extend(listing.entries.get_key_value(MODEL_INDEX).map(|(path, _)| path.clone()));
        }
        asked
    }

    /// Chooses. `contents` has what [`Preset::asks`] named. `NotFound` where there is nothing of what was asked for, with what there is;
    /// `Corrupt` where weights are there in part.
    pub fn choose(&self, listing: &Manifest, contents: &BTreeMap<RepoPath, Vec<u8>>) -> Result<Chosen> {
        choose::choose(self, listing, contents)
    }
}

/// What a preset chose in one listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chosen {
    /// Files of the listing that are left out.
    left: BTreeSet<RepoPath>,
    /// Weights of the listing that take part.
    taken: BTreeSet<RepoPath>,
}

impl Chosen {
    /// Whether a file takes part. Weights that the listing does not have are left alone, wherever they are.
    pub fn takes(&self, path: &RepoPath) -> bool {
        !self.left.contains(path) && (self.taken.contains(path) || Format::of(path).is_none())
    }
}
