//! Files made here, cut and spoilt everywhere, and bytes of any kind.

use proptest::prelude::*;

use super::*;
use crate::manifest::RepoPath;
use crate::weights::index::Index;

/// A safetensors file of tensors with a type, a shape and bytes.
pub(crate) fn safetensors(tensors: &[(&str, &str, &[u64], usize)]) -> Vec<u8> {
    let (mut json, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, bytes) in tensors {
        json.insert((*name).to_owned(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]}));
        at += bytes;
    }
    json.insert("__metadata__".to_owned(), serde_json::json!({"format": "pt"}));
    let json = serde_json::Value::Object(json).to_string();
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    file.resize(file.len() + at, 7);
    file
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF file of version 3: a vocabulary, some values, and tensors of a type and a shape.
pub(crate) fn gguf(tensors: &[(&str, u32, &[u64])]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    let vocabulary: Vec<u8> = (0..50).flat_map(|n| text(&format!("token {n}"))).collect();
    let values: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", 8, text("llama")),
        ("general.file_type", 4, 15_u32.to_le_bytes().to_vec()),
        ("llama.context_length", 4, 4096_u32.to_le_bytes().to_vec()),
        ("clip.context_length", 4, 1_u32.to_le_bytes().to_vec()),
        ("tokenizer.ggml.tokens", 9, [&8_u32.to_le_bytes()[..], &50_u64.to_le_bytes(), &vocabulary].concat()),
        ("tokenizer.ggml.scores", 9, [&6_u32.to_le_bytes()[..], &50_u64.to_le_bytes(), &[0; 200]].concat()),
        ("tokenizer.chat_template", 8, text(&"{{ x }}".repeat(100))),
        ("split.no", 2, 0_u16.to_le_bytes().to_vec()),
        ("split.count", 2, 2_u16.to_le_bytes().to_vec()),
        ("split.tensors.count", 5, 9_i32.to_le_bytes().to_vec()),
    ];
    file.extend((values.len() as u64).to_le_bytes());
    for (key, kind, value) in values {
        file.extend(text(key));
        file.extend(kind.to_le_bytes());
        file.extend(value);
    }
    let mut offset = 0;
    for (name, kind, shape) in tensors {
        file.extend(text(name));
        file.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|length| file.extend(length.to_le_bytes()));
        file.extend(kind.to_le_bytes());
        file.extend(u64::to_le_bytes(offset));
        let layout = layout(*kind).unwrap();
        offset += (shape.iter().product::<u64>() / layout.block * layout.bytes).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32) + usize::try_from(offset).unwrap(), 7);
    file
}

/// Feeds a file in pieces as a reader asks for them, at most `step` bytes at once.
fn read(format: Format, size: u64, file: &[u8], step: usize) -> Result<Option<Header>> {
    let mut reader = Reader::new(format, size).unwrap();
    for _ in 0..100_000 {
        let wanted = reader.wants();
        let from = usize::try_from(wanted.start).unwrap().min(file.len());
        let to = usize::try_from(wanted.end).unwrap().min(file.len()).min(from + step);
        if let Some(header) = reader.feed(&file[from..to])? {
            return Ok(Some(header));
        }
        if from == to {
            return Ok(None);
        }
    }
    panic!("the reader never ends");
}

fn whole(format: Format, file: &[u8]) -> Result<Header> {
    read(format, file.len() as u64, file, usize::MAX).map(Option::unwrap)
}

fn sample() -> Vec<u8> {
    safetensors(&[("a", "BF16", &[2, 3], 12), ("b", "F32", &[4], 16), ("nothing", "F32", &[0], 0), ("four", "F4", &[2, 2], 2)])
}

#[test]
fn safetensors_are_understood_in_pieces_of_any_size() {
    let file = sample();
    let header = whole(Format::Safetensors, &file).unwrap();
    assert_eq!((header.tensors, header.parameters, header.least), (4, 14, file.len() as u64));
    assert_eq!(header.dtypes["BF16"], Share { tensors: 1, parameters: 6 });
    assert_eq!(header.names, ["a", "b", "four", "nothing"]);
    header.check_size(file.len() as u64).unwrap();
    for step in [1, 7, 8, 9, 100] {
        assert_eq!(read(Format::Safetensors, file.len() as u64, &file, step).unwrap().unwrap(), header);
    }
}

#[test]
fn gguf_is_understood_in_pieces_of_any_size() {
    let file = gguf(&[("token_embd.weight", 12, &[512, 3]), ("output.weight", 0, &[5]), ("norm", 1, &[7, 2, 2])]);
    let header = whole(Format::Gguf, &file).unwrap();
    assert_eq!((header.tensors, header.parameters), (3, 1536 + 5 + 28));
    assert_eq!(header.dtypes["Q4_K"], Share { tensors: 1, parameters: 1536 });
    assert_eq!(
        (header.architecture.as_deref(), header.context_length, header.quantization.as_deref()),
        (Some("llama"), Some(4096), Some("Q4_K_M"))
    );
    assert_eq!(header.split, Some(Split { number: 0, of: 2, tensors: Some(9) }));
    // The last tensor is padded by those who write files, and need not be.
    assert_eq!(header.least.next_multiple_of(32), file.len() as u64);
    header.check_size(file.len() as u64).unwrap();
    header.check_size(file.len() as u64 + 1000).unwrap();
    assert!(header.check_size(header.least - 1).unwrap_err().message().contains("cut off"));
    for step in [1, 3, 64] {
        assert_eq!(read(Format::Gguf, file.len() as u64, &file, step).unwrap().unwrap(), header);
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_found_out() {
    for (format, file) in [(Format::Safetensors, sample()), (Format::Gguf, gguf(&[("a", 0, &[64]), ("b", 0, &[8])]))] {
        for length in 0..file.len() {
            let cut = &file[..length];
            let found = read(format, length as u64, cut, usize::MAX);
            let error = match found {
                Err(error) => error,
                Ok(Some(header)) => header.check_size(length as u64).unwrap_err(),
                Ok(None) => panic!("{format} of {length} bytes: neither a header nor an error"),
            };
            assert_eq!((error.kind(), error.retry()), (Kind::Corrupt, Retry::No), "{error}");
            assert!(error.hint_text().is_some(), "{error}");
        }
    }
}

#[test]
fn bytes_behind_the_last_tensor_are_found_in_safetensors() {
    let mut file = sample();
    file.push(0);
    let error = whole(Format::Safetensors, &file).unwrap().check_size(file.len() as u64).unwrap_err();
    assert!(error.message().contains("longer than it says"), "{error}");
}

#[test]
fn holes_overlaps_and_wrong_lengths_are_refused() {
    let with = |json: &str| {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(json.as_bytes());
        file.resize(file.len() + 16, 0);
        whole(Format::Safetensors, &file)
    };
    for (json, why) in [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, "ends at 0"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, "ends at 8"),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, "3 elements of F32 in 8 bytes"),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, "2^64"),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#, "damaged"),
        (r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, "twice"),
        (r#"{"a":{"dtype":"F32"}}"#, "damaged"),
        ("[]", "no JSON object"),
    ] {
        let error = with(json).unwrap_err();
        assert!(error.message().contains(why) && error.kind() == Kind::Corrupt, "{json}: {error}");
    }
    assert_eq!(with(r#"{"a":{"dtype":"F3_NEW","shape":[5],"data_offsets":[0,16]}}  "#).unwrap().parameters, 5, "a type of tomorrow");
}

#[test]
fn damaged_gguf_is_refused_and_other_versions_are_named() {
    let good = gguf(&[("a", 12, &[256]), ("b", 0, &[4])]);
    let spoilt = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        whole(Format::Gguf, &file).unwrap_err()
    };
    assert_eq!(spoilt(4, &1_u32.to_le_bytes()).kind(), Kind::Unsupported);
    assert!(spoilt(4, &3_u32.to_be_bytes()).message().contains("big-endian"));
    assert!(spoilt(0, b"GGML").message().contains("does not begin like"));
    assert_eq!(spoilt(16, &u64::MAX.to_le_bytes()).kind(), Kind::Corrupt, "more values than there are");
    assert_eq!(spoilt(24, &u64::MAX.to_le_bytes()).kind(), Kind::Corrupt, "an endless name");
    let name = good.windows(9).rposition(|window| window == b"\x01\0\0\0\0\0\0\0b").unwrap();
    let kind = name + 9 + 4 + 8;
    assert!(spoilt(kind + 4, &32_u64.to_le_bytes()).message().contains("not where the one before it ends"));
    assert!(spoilt(kind, &12_u32.to_le_bytes()).message().contains("no whole blocks"));
    assert!(spoilt(name + 9, &9_u32.to_le_bytes()).message().contains("9 dimensions"));
}

#[test]
fn an_unknown_type_is_counted_and_the_file_not_refused() {
    let mut file = gguf(&[("a", 0, &[4]), ("b", 0, &[4])]);
    let name = file.windows(9).rposition(|window| window == b"\x01\0\0\0\0\0\0\0b").unwrap();
    file[name + 21..name + 25].copy_from_slice(&999_u32.to_le_bytes());
    let header = whole(Format::Gguf, &file).unwrap();
    assert_eq!(header.dtypes["unknown"], Share { tensors: 1, parameters: 4 });
    header.check_size(file.len() as u64).unwrap();
}

#[test]
fn a_pointer_in_place_of_weights_is_named() {
    let pointer = pointer::text(&crate::manifest::Blob { oid: crate::digest::Oid::EMPTY, size: 5000 });
    for format in [Format::Safetensors, Format::Gguf] {
        let error = whole(format, pointer.as_bytes()).unwrap_err();
        assert!(error.message().contains("Git LFS pointer for 5000 bytes"), "{error}");
    }
    assert!(pointer_in_place(pointer.as_bytes()).is_some() && pointer_in_place(b"weights").is_none());
}

#[test]
fn indexes_name_files_beside_them_and_nothing_else() {
    let path = RepoPath::new("unet/model.safetensors.index.json").unwrap();
    let index =
        Index::parse(&path, br#"{"metadata": {"total_size": 3}, "weight_map": {"a": "x.safetensors", "b": "x.safetensors", "c": "y"}}"#)
            .unwrap();
    let shards: Vec<_> = index.shards.iter().map(|(path, tensors)| (path.as_str(), tensors.len())).collect();
    assert_eq!(shards, [("unet/x.safetensors", 2), ("unet/y", 1)]);
    for bad in [r#"{"weight_map": {"a": "../x"}}"#, r#"{"weight_map": {"a": "/etc/passwd"}}"#, r#"{"weight_map": {"a": ""}}"#, "{}", "x"] {
        assert_eq!(Index::parse(&path, bad.as_bytes()).unwrap_err().kind(), Kind::Corrupt, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), size in any::<u64>(), step in 1_usize..700) {
        for format in [Format::Safetensors, Format::Gguf] {
            let _ = read(format, size, &bytes, step);
            let _ = read(format, bytes.len() as u64, &bytes, step);
        }
        let _ = Index::parse(&RepoPath::new("i.safetensors.index.json").unwrap(), &bytes);
        let _ = config::Config::parse(&bytes);
    }

    #[test]
    fn no_spoilt_file_makes_a_reader_panic(at in 0_usize..2000, byte in any::<u8>(), wide in any::<u64>(), step in 1_usize..3000) {
        for (format, mut file) in [(Format::Safetensors, sample()), (Format::Gguf, gguf(&[("a", 12, &[256]), ("b", 0, &[4])]))] {
            let at = at % (file.len() - 8);
            file[at] = byte;
            let _ = read(format, file.len() as u64, &file, step);
            file[at..at + 8].copy_from_slice(&wide.to_le_bytes());
            let _ = read(format, file.len() as u64, &file, step);
        }
    }

    #[test]
    fn names_of_any_kind_are_read(name in "[a-zA-Z0-9._é-]{1,40}(/[a-zA-Z0-9._-]{1,20})?") {
        if let Ok(path) = RepoPath::new(name) {
            let _ = (Format::of(&path), names::quant(&path), names::variant(&path));
            if let Some(shard) = names::Shard::of(&path) {
                prop_assert_eq!(shard.sibling(shard.number), path.as_str());
            }
        }
    }

    #[test]
    fn what_was_written_is_what_is_read(shapes in prop::collection::vec((prop::collection::vec(1_u64..5, 0..4), 0_usize..3), 0..8)) {
        let kinds = [("F32", 4), ("BF16", 2), ("U8", 1)];
        let names: Vec<String> = (0..shapes.len()).map(|n| format!("t{n}")).collect();
        let tensors: Vec<_> = shapes.iter().zip(&names).map(|((shape, kind), name)| {
            let elements = usize::try_from(shape.iter().product::<u64>()).unwrap();
            (name.as_str(), kinds[*kind].0, &shape[..], elements * kinds[*kind].1)
        }).collect();
        let file = safetensors(&tensors);
        let header = whole(Format::Safetensors, &file).unwrap();
        prop_assert_eq!(header.parameters, shapes.iter().map(|(shape, _)| shape.iter().product::<u64>()).sum::<u64>());
        prop_assert!(header.check_size(file.len() as u64).is_ok());
    }
}
