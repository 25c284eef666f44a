//! Weights in small: files that are whole by the rules of their format.

use serde_json::{Map, Value, json};

/// A safetensors file of F32 tensors with so many elements each.
pub(crate) fn safetensors(tensors: &[(&str, usize)]) -> Vec<u8> {
    let (mut header, mut at) = (Map::new(), 0);
    for (name, elements) in tensors {
        let end = at + elements * 4;
        header.insert((*name).to_owned(), json!({"dtype": "F32", "shape": [elements], "data_offsets": [at, end]}));
        at = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(super::bytes(at as u64, at));
    file
}

/// A GGUF file with one F32 tensor of 32 elements, filled with `seed`.
pub(crate) fn gguf(seed: u8) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([1_u64, 1].iter().flat_map(|count| count.to_le_bytes()));
    file.extend([text("general.architecture"), 8_u32.to_le_bytes().to_vec(), text("llama")].concat());
    file.extend([text("output.weight"), 1_u32.to_le_bytes().to_vec(), 32_u64.to_le_bytes().to_vec()].concat());
    file.extend([&0_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.resize(file.len() + 128, seed);
    file
}

/// The index of shards: tensor, shard.
pub(crate) fn index(tensors: &[(&str, &str)]) -> Vec<u8> {
    let map: Map<String, Value> = tensors.iter().map(|(tensor, shard)| ((*tensor).to_owned(), json!(shard))).collect();
    json!({"metadata": {}, "weight_map": map}).to_string().into_bytes()
}
