//! What `config.json` says of a model: its architecture, its longest input, how it was quantised.
//!
//! Known from transformers: `architectures` and `model_type` name the class; the longest input goes by several names, and in models of
//! several parts it is in `text_config`; `quantization_config` is that of the libraries that quantise.

use serde::Serialize;
use serde_json::Value;

/// The file.
pub const FILE: &str = "config.json";
/// A larger file is not read, in bytes.
pub const LARGEST: u64 = 4 << 20;
/// Longest text that is shown.
const LONGEST: usize = 100;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Config {
    /// Name of the class, such as `LlamaForCausalLM`, else of the kind of model.
    pub architecture: Option<String>,
    /// Longest input in tokens.
    pub context_length: Option<u64>,
    /// Such as `gptq 4-bit` or `fp8`.
    pub quantization: Option<String>,
}

impl Config {
    /// Reads the file; what is not there, or no JSON, is not known.
    pub fn parse(content: &[u8]) -> Self {
        let Ok(config) = serde_json::from_slice::<Value>(content) else { return Self::default() };
        let text = |value: &Value| value.as_str().filter(|text| text.len() <= LONGEST).map(str::to_owned);
        let lengths = ["max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length"];
        let longest = |config: &Value| lengths.iter().find_map(|name| config[name].as_u64());
        let quantization = &config["quantization_config"];
        let bits = quantization["bits"].as_u64().or_else(|| {
            let flags = [("load_in_4bit", 4), ("load_in_8bit", 8)];
            flags.into_iter().find_map(|(name, bits)| (quantization[name] == true).then_some(bits))
        });
        Self {
            architecture: text(&config["architectures"][0]).or_else(|| text(&config["model_type"])),
            context_length: longest(&config).or_else(|| longest(&config["text_config"])),
            quantization: text(&quantization["quant_method"])
                .map(|method| bits.map_or_else(|| method.clone(), |bits| format!("{method} {bits}-bit"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_places_are_known_and_nothing_is_made_up() {
        let config = br#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "text_config": {"max_position_embeddings": 4096},
            "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}"#;
        let known = Config::parse(config);
        assert_eq!(
            (known.architecture.as_deref(), known.context_length, known.quantization.as_deref()),
            (Some("LlamaForCausalLM"), Some(4096), Some("bitsandbytes 4-bit"))
        );
        for nothing in [&b"[]"[..], b"{}", b"", b"{\"architectures\": 3, \"n_positions\": -1}"] {
            assert_eq!(Config::parse(nothing), Config::default());
        }
    }
}
