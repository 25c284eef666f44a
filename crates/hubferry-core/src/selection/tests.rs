//! Listings as the hubs have them, and what is taken of each.

use proptest::prelude::*;

use super::*;
use crate::digest::Digests;
use crate::error::Kind;
use crate::filter::Filter;
use crate::manifest::{Entry, Revision};

fn listing(paths: &[&str]) -> Manifest {
    let entry = Entry::new(10, Digests::default());
    Manifest::new(Revision::new("r").unwrap(), paths.iter().map(|path| (RepoPath::new(*path).unwrap(), entry))).unwrap()
}

fn ends(path: &str, ending: &str) -> bool {
    path.rsplit('.').next() == Some(ending)
}

fn index(shards: &[&str]) -> Vec<u8> {
    let map: serde_json::Map<String, serde_json::Value> =
        shards.iter().enumerate().map(|(n, shard)| (format!("t{n}"), (*shard).into())).collect();
    serde_json::json!({"weight_map": map}).to_string().into_bytes()
}

fn preset(words: &str) -> Preset {
    let mut preset = Preset::default();
    let mut words = words.split_whitespace();
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag {
            "for" => preset.purpose = Purpose::from_word(value),
            "format" => preset.formats.push(Format::from_word(value).unwrap()),
            "quant" => preset.quants.push(value.to_owned()),
            _ => preset.variant = Some(value.to_owned()),
        }
    }
    preset
}

fn try_take(words: &str, paths: &[&str], contents: &[(&str, Vec<u8>)]) -> Result<Vec<String>> {
    let (mut listing, preset) = (listing(paths), preset(words));
    preset.check()?;
    let contents = contents.iter().map(|(path, content)| (RepoPath::new(*path).unwrap(), content.clone())).collect();
    let chosen = preset.choose(&listing, &contents)?;
    Filter::default().resolved(chosen).apply(&mut listing);
    Ok(listing.entries.keys().map(ToString::to_string).collect())
}

#[track_caller]
fn take(words: &str, paths: &[&str], contents: &[(&str, Vec<u8>)]) -> Vec<String> {
    try_take(words, paths, contents).unwrap()
}

const LLAMA: [&str; 15] = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "onnx/model.onnx",
    "original/consolidated.00.pth",
    "original/params.json",
    "pytorch_model-00001-of-00001.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "tokenizer.json",
];

fn llama() -> [(&'static str, Vec<u8>); 2] {
    [
        ("model.safetensors.index.json", index(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])),
        ("pytorch_model.bin.index.json", index(&["pytorch_model-00001-of-00001.bin"])),
    ]
}

const KEPT: [&str; 9] = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "original/params.json",
    "tokenizer.json",
];

#[test]
fn programs_take_safetensors_once_and_all_that_is_no_weights() {
    for program in ["for transformers", "for vllm", "for transformers format safetensors"] {
        assert_eq!(take(program, &LLAMA, &llama()), KEPT, "{program}");
    }
    let pickles = take("for transformers format pytorch", &LLAMA, &llama());
    assert!(pickles.contains(&"pytorch_model.bin.index.json".to_owned()) && !pickles.iter().any(|path| ends(path, "safetensors")));
    assert!(take("for onnx", &LLAMA, &llama()).contains(&"onnx/model.onnx".to_owned()));
}

#[test]
fn shards_that_are_not_all_there_are_not_taken() {
    let without: Vec<&str> = LLAMA.into_iter().filter(|path| *path != "model-00002-of-00002.safetensors").collect();
    let taken = take("for vllm", &without, &llama());
    assert!(
        taken.contains(&"pytorch_model-00001-of-00001.bin".to_owned()) && !taken.iter().any(|path| path.contains("safetensors")),
        "{taken:?}"
    );
    for words in ["for vllm format safetensors", "format safetensors"] {
        let error = try_take(words, &without, &llama()).unwrap_err();
        assert!(error.kind() == Kind::Corrupt && error.message().contains("needs model-00002-of-00002.safetensors"), "{words}: {error}");
    }
    let unnamed = ["model-00001-of-00002.safetensors", "config.json"];
    assert_eq!(try_take("for transformers", &unnamed, &[]).unwrap_err().kind(), Kind::Corrupt, "the names say that one is missing");
}

#[test]
fn other_weights_in_pickles_are_no_duplicates() {
    let paths =
        ["adapter_model.safetensors", "pytorch_model.bin", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "training_args.bin"];
    let taken = take("for transformers", &paths, &[]);
    assert_eq!(taken, ["2_Dense/model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "training_args.bin"]);
}

#[test]
fn the_checkpoint_of_mistral_is_left_out_only_beside_the_converted_one() {
    assert_eq!(
        take("for vllm", &["consolidated.safetensors", "model.safetensors", "params.json"], &[]),
        ["model.safetensors", "params.json"]
    );
    assert_eq!(take("for vllm", &["consolidated.safetensors", "params.json"], &[]), ["consolidated.safetensors", "params.json"]);
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let error = try_take("for transformers", &["a.Q4_K_M.gguf", "README.md"], &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message().contains("there are: gguf"), "{error}");
    let error = try_take("quant Q3_K_L", &["a.Q4_K_M.gguf", "a.Q8_0.gguf"], &[]).unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.message().ends_with("there are: Q4_K_M, Q8_0"), "{error}");
    let error = try_take("for diffusers variant int8", &PIPELINE, &pipeline()).unwrap_err();
    assert!(error.message().ends_with("there are: fp16"), "{error}");
}

#[test]
fn wishes_that_contradict_each_other_are_refused() {
    for words in ["for vllm format gguf", "for transformers quant Q4_K_M", "format onnx quant Q8_0", "for llama.cpp variant fp16"] {
        assert_eq!(preset(words).check().unwrap_err().kind(), Kind::Invalid, "{words}");
    }
    for words in ["", "quant q8_0", "format gguf format safetensors quant Q8_0", "variant fp16", "for diffusers variant fp16"] {
        preset(words).check().unwrap();
    }
}

const GGUF: [&str; 11] = [
    "BF16/m-BF16-00001-of-00002.gguf",
    "BF16/m-BF16-00002-of-00002.gguf",
    "README.md",
    "config.json",
    "imatrix.gguf",
    "m-Q4_K_M.gguf",
    "m-UD-Q4_K_XL.gguf",
    "m-q8_0-00001-of-00002.gguf",
    "m-q8_0-00002-of-00002.gguf",
    "mmproj-BF16.gguf",
    "mmproj-F32.gguf",
];

#[test]
fn quantisations_come_with_all_parts_and_one_projector() {
    let weights = |words: &str| take(words, &GGUF, &[]).into_iter().filter(|path| ends(path, "gguf")).collect::<Vec<_>>();
    assert_eq!(weights("quant q4_k_m"), ["m-Q4_K_M.gguf", "mmproj-BF16.gguf"]);
    assert_eq!(weights("quant Q8_0"), ["m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf", "mmproj-BF16.gguf"]);
    assert_eq!(weights("quant Q4_K_XL quant BF16").len(), 4);
    assert_eq!(weights("for llama.cpp"), ["m-Q4_K_M.gguf", "mmproj-BF16.gguf"], "what llama.cpp takes when nobody says");
    assert_eq!(weights("format gguf").len(), 9);
    assert_eq!(take("for llama.cpp", &["b-Q8_0.gguf", "a-F16.gguf"], &[]), ["b-Q8_0.gguf"]);
    assert_eq!(take("for llama.cpp", &["b-F32.gguf", "a-F16.gguf"], &[]), ["a-F16.gguf"]);
    let cut = ["m-Q8_0-00001-of-00002.gguf", "m-Q4_0.gguf"];
    assert_eq!(try_take("quant Q8_0", &cut, &[]).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(take("quant Q4_0", &cut, &[]), ["m-Q4_0.gguf"], "what is not asked for need not be complete");
}

const PIPELINE: [&str; 13] = [
    "model_index.json",
    "sd_xl_base_1.0.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.safetensors",
];

fn pipeline() -> [(&'static str, Vec<u8>); 1] {
    let index = serde_json::json!({
        "_class_name": "P", "scheduler": ["diffusers", "S"], "text_encoder": ["transformers", "T"], "unet": ["diffusers", "U"],
        "vae": ["diffusers", "V"], "vae_1_0": [null, null], "requires_safety_checker": true,
    });
    [("model_index.json", index.to_string().into_bytes())]
}

#[test]
fn pipelines_are_taken_by_their_parts() {
    let weights = |words: &str| {
        let taken = take(words, &PIPELINE, &pipeline());
        assert!(taken.contains(&"scheduler/scheduler_config.json".to_owned()));
        taken.into_iter().filter(|path| !ends(path, "json")).collect::<Vec<_>>()
    };
    assert_eq!(
        weights("for diffusers"),
        ["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    );
    assert_eq!(
        weights("for diffusers variant fp16"),
        ["text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    );
    assert_eq!(try_take("for diffusers", &["model.safetensors"], &[]).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn weights_that_only_the_destination_has_are_left_alone() {
    let chosen = preset("for vllm").choose(&listing(&["model.safetensors", "config.json"]), &BTreeMap::new()).unwrap();
    let takes = |path: &str| chosen.takes(&RepoPath::new(path).unwrap());
    assert!(takes("old-notes.md") && takes("model.safetensors"));
    assert!(!takes("pytorch_model.bin") && !takes("mine.gguf"));
}

#[test]
fn a_preset_is_written_as_it_was_typed() {
    let written = serde_json::to_string(&preset("for llama.cpp quant Q8_0")).unwrap();
    assert_eq!(written, r#"{"for":"llama.cpp","quant":["Q8_0"]}"#);
    assert_eq!(serde_json::from_str::<Preset>(&written).unwrap(), preset("for llama.cpp quant Q8_0"));
    assert_eq!(serde_json::to_string(&Preset::default()).unwrap(), "{}");
    assert!(serde_json::from_str::<Preset>(r#"{"quants":["Q8_0"]}"#).is_err());
}

proptest! {
    /// Whatever is listed: nothing panics, and everything that is no weights is taken.
    #[test]
    fn configurations_are_always_taken(
        names in prop::collection::btree_set("(model|pytorch_model|a|unet/model|m-Q4_K_M|mmproj)(-0000[12]-of-00002)?(\\.fp16)?\\.(safetensors|bin|gguf|json|onnx|md)", 0..12),
        words in prop::sample::select(vec!["for transformers", "for vllm", "for llama.cpp", "for onnx", "format gguf", "quant Q4_K_M", "variant fp16"]),
    ) {
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Ok(taken) = try_take(words, &paths, &[]) {
            for path in paths.iter().filter(|path| ends(path, "md") || ends(path, "json")) {
                prop_assert!(taken.iter().any(|one| one == path));
            }
            let weights = taken.iter().map(|path| RepoPath::new(path.clone()).unwrap()).filter(|path| Format::of(path).is_some());
            for shard in weights.filter_map(|path| names::Shard::of(&path)) {
                prop_assert!(words == "variant fp16" || (1..=shard.of).all(|number| taken.contains(&shard.sibling(number))), "all parts or none");
            }
        }
    }
}
