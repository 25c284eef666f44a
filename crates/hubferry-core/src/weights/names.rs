//! What the name of a file says of weights: its format, its shard, its quantisation, its variant.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::RepoPath;

/// A format of weights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// `*.safetensors`
    Safetensors,
    /// `*.gguf`
    Gguf,
    /// Pickled tensors: `*.bin`, `*.pt`, `*.pth`, `*.ckpt`
    Pytorch,
    /// `*.onnx`, with data beside it
    Onnx,
    /// `*.h5`, `*.tflite`, saved models
    Tensorflow,
    /// `*.msgpack`
    Flax,
    /// `openvino_*.xml` and `.bin`
    Openvino,
    /// `*.mlmodel`, `*.mlpackage`
    Coreml,
    /// `rust_model.ot`
    Rust,
}

impl Format {
    /// All of them, in the order in which they are named to people.
    pub const ALL: [Self; 9] =
        [Self::Safetensors, Self::Gguf, Self::Pytorch, Self::Onnx, Self::Tensorflow, Self::Flax, Self::Openvino, Self::Coreml, Self::Rust];

    /// The word used on the command line and in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Pytorch => "pytorch",
            Self::Onnx => "onnx",
            Self::Tensorflow => "tensorflow",
            Self::Flax => "flax",
            Self::Openvino => "openvino",
            Self::Coreml => "coreml",
            Self::Rust => "rust",
        }
    }

    /// The format with this name, whatever its letter case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(word))
    }

    /// The format of a file of weights, or of the index of several; `None` for everything else. `training_args.bin` and the like are
    /// no weights.
    pub fn of(path: &RepoPath) -> Option<Self> {
        let name = path.name().to_ascii_lowercase();
        let inside = |ending: &str| path.parents().any(|folder| folder.to_ascii_lowercase().ends_with(ending));
        if inside(".mlpackage") || inside(".mlmodelc") {
            return Some(Self::Coreml);
        }
        if let Some(format) = index_of(path) {
            return Some(format);
        }
        if name.contains(".onnx") && (name.contains(".onnx_data") || name.ends_with(".onnx.data")) {
            return Some(Self::Onnx);
        }
        let (stem, ending) = name.rsplit_once('.')?;
        match ending {
            "safetensors" => Some(Self::Safetensors),
            "gguf" => Some(Self::Gguf),
            "onnx" => Some(Self::Onnx),
            "h5" | "tflite" => Some(Self::Tensorflow),
            "pb" if stem == "saved_model" => Some(Self::Tensorflow),
            "msgpack" => Some(Self::Flax),
            "mlmodel" => Some(Self::Coreml),
            "ot" => Some(Self::Rust),
            "xml" | "bin" if stem.starts_with("openvino") => Some(Self::Openvino),
            "bin" if ["training_args", "optimizer", "scheduler", "tokenizer", "spiece", "rng_state"].contains(&stem) => None,
            "bin" | "pt" | "pth" | "ckpt" if stem.starts_with("rng_state") || stem == "optimizer" || stem == "scheduler" => None,
            "bin" | "pt" | "pth" | "ckpt" => Some(Self::Pytorch),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The format whose shards an index file names; `None` for any other file. A variant stands before the last ending:
/// `model.safetensors.index.fp16.json`.
pub fn index_of(path: &RepoPath) -> Option<Format> {
    let name = path.name().to_ascii_lowercase();
    let rest = name.strip_suffix(".json")?;
    let has = |part: &str| rest.ends_with(part) || rest.contains(&format!("{part}."));
    if has(".safetensors.index") {
        return Some(Format::Safetensors);
    }
    if has(".bin.index") {
        return Some(Format::Pytorch);
    }
    has(".msgpack.index").then_some(Format::Flax)
}

/// Which part of several a file is, by its name: `model-00002-of-00003.safetensors`, `model-Q8_0-00001-of-00002.gguf`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shard {
    /// What comes before the number.
    pub before: String,
    /// Counted from one.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// What comes behind.
    pub after: String,
}

impl Shard {
    /// Reads it from a path; `None` for a file that is whole.
    pub fn of(path: &RepoPath) -> Option<Self> {
        let path = path.as_str();
        let from = path.rfind('/').map_or(0, |at| at + 1);
        for (at, _) in path[from..].match_indices("-of-") {
            let at = from + at;
            let (before, after) = (&path[..at], &path[at + 4..]);
            let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            let (Some(number), Some(of)) = (before.get(before.len().saturating_sub(5)..), after.get(..5)) else { continue };
            let Some(before) = before.get(..before.len().saturating_sub(5)).and_then(|text| text.strip_suffix('-')) else { continue };
            if !digits(number) || !digits(of) {
                continue;
            }
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            return (1 <= number && number <= of).then(|| Self { before: before.to_owned(), number, of, after: after[5..].to_owned() });
        }
        None
    }

    /// The path of another part.
    pub fn sibling(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}{}", self.before, self.of, self.after)
    }
}

/// What a GGUF file was quantised to, by its name, in capitals: `Q4_K_M`, `UD-IQ2_XXS`, `BF16`; else by its folder. `None` for helpers
/// such as projectors, and where the name does not say.
pub fn quant(path: &RepoPath) -> Option<String> {
    if Format::of(path) != Some(Format::Gguf) || is_helper(path) {
        return None;
    }
    let name = match Shard::of(path) {
        Some(shard) => shard.before,
        None => path.as_str().rsplit_once('.')?.0.to_owned(),
    };
    // The name itself first, from its end, then the folders, innermost first.
    name.rsplit('/').find_map(|part| {
        let part = part.to_ascii_uppercase();
        let words: Vec<&str> = part.split(['-', '.']).collect();
        let at = words.iter().rposition(|word| is_quant(word))?;
        let prefix = at.checked_sub(1).map(|before| words[before]);
        Some(if prefix == Some("UD") { format!("UD-{}", words[at]) } else { words[at].to_owned() })
    })
}

/// Whether a word is the name of a quantisation, as llama.cpp and those who publish GGUF files write it.
fn is_quant(word: &str) -> bool {
    if ["F16", "BF16", "F32", "FP16", "FP32", "F64", "MXFP4", "NVFP4"].contains(&word) || word.starts_with("MXFP4_") {
        return true;
    }
    let rest = ["IQ", "TQ", "Q"].iter().find_map(|prefix| word.strip_prefix(prefix));
    let Some(rest) = rest else { return false };
    let mut parts = rest.split('_');
    let bits = parts.next().unwrap_or_default();
    bits.len() == 1
        && bits.bytes().all(|b| b.is_ascii_digit())
        && parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether a GGUF file goes with a model and is none: the projectors, matrices and drafts that llama.cpp knows by these words
/// (`common/download.cpp`).
pub fn is_helper(path: &RepoPath) -> bool {
    let name = path.name().to_ascii_lowercase();
    ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"].iter().any(|word| name.contains(word))
}

/// The variant in the name of a file that a library saved, such as `fp16` in `model.fp16.safetensors`,
/// `model.fp16-00001-of-00002.safetensors` and `model.safetensors.index.fp16.json`. Known from `_add_variant` of transformers and
/// `variant_compatible_siblings` of diffusers.
pub fn variant(path: &RepoPath) -> Option<String> {
    const SAVED: [&str; 5] = ["model", "pytorch_model", "diffusion_pytorch_model", "diffusion_flax_model", "adapter_model"];
    let name = path.name();
    if index_of(path).is_some() {
        let (_, rest) = name.split_once(".index.")?;
        return rest.strip_suffix("json")?.strip_suffix('.').map(str::to_owned);
    }
    let whole = match Shard::of(path) {
        Some(shard) => format!("{}{}", shard.before.rsplit('/').next().unwrap_or_default(), shard.after),
        None => name.to_owned(),
    };
    let (stem, _) = whole.rsplit_once('.')?;
    let (saved, variant) = stem.split_once('.')?;
    (SAVED.contains(&saved) && !variant.is_empty()).then(|| variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> RepoPath {
        RepoPath::new(path).unwrap()
    }

    #[test]
    fn formats_by_name() {
        for (path, format) in [
            ("model.safetensors", Some(Format::Safetensors)),
            ("unet/model.safetensors.index.fp16.json", Some(Format::Safetensors)),
            ("pytorch_model.bin.index.json", Some(Format::Pytorch)),
            ("original/consolidated.00.pth", Some(Format::Pytorch)),
            ("a.Q4_K_M.GGUF", Some(Format::Gguf)),
            ("onnx/model_q4.onnx_data", Some(Format::Onnx)),
            ("onnx/model.onnx_data_1", Some(Format::Onnx)),
            ("tf_model.h5", Some(Format::Tensorflow)),
            ("flax_model.msgpack", Some(Format::Flax)),
            ("openvino/openvino_model.bin", Some(Format::Openvino)),
            ("coreml/x.mlpackage/Data/weights/weight.bin", Some(Format::Coreml)),
            ("rust_model.ot", Some(Format::Rust)),
            ("training_args.bin", None),
            ("tokenizer.json", None),
            ("README.md", None),
            ("LICENSE", None),
        ] {
            assert_eq!(Format::of(&at(path)), format, "{path}");
        }
        assert_eq!(Format::from_word("GGUF"), Some(Format::Gguf));
    }

    #[test]
    fn shards_by_name() {
        let shard = Shard::of(&at("a-of-b/model-00002-of-00003.safetensors")).unwrap();
        assert_eq!((shard.number, shard.of, shard.sibling(3).as_str()), (2, 3, "a-of-b/model-00003-of-00003.safetensors"));
        for whole in
            ["model.gguf", "one-of-us.gguf", "x-0001-of-00002.gguf", "x-00003-of-00002.gguf", "x-00000-of-00002.gguf", "é-of-00002"]
        {
            assert_eq!(Shard::of(&at(whole)), None, "{whole}");
        }
    }

    #[test]
    fn quantisations_by_name() {
        for (path, quantised) in [
            ("llama-2-7b.Q4_K_M.gguf", Some("Q4_K_M")),
            ("model-q8_0-00001-of-00002.gguf", Some("Q8_0")),
            ("Qwen3-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("UD-IQ1_S/DeepSeek-R1-UD-IQ1_S-00001-of-00003.gguf", Some("UD-IQ1_S")),
            ("Q6_K/model-00001-of-00003.gguf", Some("Q6_K")),
            ("model-BF16.gguf", Some("BF16")),
            ("gpt-oss-20b-MXFP4.gguf", Some("MXFP4")),
            ("phi-4-q4.gguf", Some("Q4")),
            ("model.gguf", None),
            ("mmproj-model-F16.gguf", None),
            ("Q4_K_M.safetensors", None),
        ] {
            assert_eq!(quant(&at(path)).as_deref(), quantised, "{path}");
        }
    }

    #[test]
    fn variants_by_name() {
        for (path, found) in [
            ("unet/diffusion_pytorch_model.fp16.safetensors", Some("fp16")),
            ("text_encoder/model.fp16-00001-of-00002.safetensors", Some("fp16")),
            ("model-00001-of-00002.bf16.safetensors", Some("bf16")),
            ("model.safetensors.index.fp16.json", Some("fp16")),
            ("model.safetensors.index.json", None),
            ("model.safetensors", None),
            ("v1.5.safetensors", None),
        ] {
            assert_eq!(variant(&at(path)).as_deref(), found, "{path}");
        }
    }
}
