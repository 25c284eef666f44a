//! The small model that `demo` publishes when no other is given: real formats, invented weights.

use std::path::Path;

use hubferry_core::error::{Error, Result};
use serde_json::json;

/// Bytes of invented weights.
const WEIGHTS: usize = 6 << 20;

/// Writes the sample model into an empty folder.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let put = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        }
        std::fs::write(&path, content).map_err(|e| Error::io("write", &path, e))
    };
    put(
        "README.md",
        b"---\nlicense: mit\nlibrary_name: transformers\ntags:\n- demo\n---\n\n# Sample\n\nInvented weights; nothing to be learnt here.\n",
    )?;
    put(
        "config.json",
        format!("{:#}\n", json!({"architectures": ["SampleModel"], "hidden_size": 256, "num_hidden_layers": 2})).as_bytes(),
    )?;
    let words: Vec<String> = (0..5000).map(|n| format!("token{n}")).collect();
    put("tokenizer/vocab.txt", words.join("\n").as_bytes())?;
    put("empty.txt", b"")?;
    put("model.safetensors", &safetensors())
}

/// One tensor: the length of the header, the header, the data.
fn safetensors() -> Vec<u8> {
    let header = json!({"weight": {"dtype": "F32", "shape": [WEIGHTS / 1024, 256], "data_offsets": [0, WEIGHTS]}}).to_string();
    let mut file = Vec::with_capacity(WEIGHTS + 128);
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    // A fixed sequence that does not compress: xorshift64.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..WEIGHTS / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.extend_from_slice(&state.to_le_bytes());
    }
    file
}
