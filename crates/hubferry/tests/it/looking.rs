//! Looking at repositories, choosing among weights, and weights that are not whole.

use std::collections::BTreeMap;

use hubferry_server::testing::{Fault, Method, Rule, Seen};
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, World, files_below, gguf, index, python, safetensors, snapshot};

/// A model as large ones are published: two shards with their index, the same in pickles, and what else there is.
fn published(world: &World) {
    let (first, second) = (safetensors(&[("a", 200_000), ("b", 50_000)]), safetensors(&[("c", 100_000)]));
    let both = index(&[
        ("a", "model-00001-of-00002.safetensors"),
        ("b", "model-00001-of-00002.safetensors"),
        ("c", "model-00002-of-00002.safetensors"),
    ]);
    let config = br#"{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}"#;
    world.tree(
        "model",
        &[
            ("README.md", b"---\nlicense: apache-2.0\n---\n# Model\n"),
            ("config.json", config),
            ("model-00001-of-00002.safetensors", &first),
            ("model-00002-of-00002.safetensors", &second),
            ("model.safetensors.index.json", &both),
            ("onnx/model.onnx", &[1; 3000]),
            ("original/consolidated.00.pth", &[2; 5000]),
            ("pytorch_model.bin", &[3; 4000]),
            ("tokenizer.json", b"{}"),
        ],
    );
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
}

fn quantised(world: &World) {
    let parts = [gguf(4), gguf(5)];
    world.tree(
        "gguf",
        &[
            ("README.md", b"# Model\n"),
            ("m-Q4_K_M.gguf", &gguf(1)),
            ("m-Q8_0.gguf", &gguf(2)),
            ("BF16/m-BF16-00001-of-00002.gguf", &parts[0]),
            ("BF16/m-BF16-00002-of-00002.gguf", &parts[1]),
            ("mmproj-F16.gguf", &gguf(3)),
        ],
    );
    world.run(&["copy", "./gguf", "hf:alice/gguf", "-q"]).ok();
}

fn names(world: &World, folder: &str) -> Vec<String> {
    files_below(&world.work().join(folder)).into_keys().filter(|name| !name.starts_with(".hubferry") && name != ".gitattributes").collect()
}

#[test]
fn weights_are_described_by_their_headers_alone() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    published(&world);
    hub.script.reset();
    let info = world.run(&["info", "hf:alice/model", "--json"]).ok().json();
    let model = |name: &str| info["weights"]["models"].as_array().unwrap().iter().find(|model| model["path"] == name).unwrap().clone();
    let sharded = model("model-00001-of-00002.safetensors");
    assert_eq!((&sharded["files"], &sharded["parameters"], &sharded["tensors"]), (&json!(2), &json!(350_000), &json!(3)), "{info}");
    assert_eq!(sharded["dtypes"], json!({"F32": {"tensors": 3, "parameters": 350_000}}));
    assert_eq!((&info["weights"]["architecture"], &info["weights"]["context_length"]), (&json!("LlamaForCausalLM"), &json!(4096)));
    assert_eq!((&info["license"], &info["gated"], &info["files"]), (&json!("apache-2.0"), &json!(false), &json!(10)));
    assert_eq!(info["entries"].as_array().unwrap().len(), 10);
    let read: Vec<_> =
        hub.script.seen().into_iter().filter(|seen| seen.method == Method::GET && seen.path.contains("safetensors")).collect();
    let sent: u64 = read.iter().map(Seen::sent).sum();
    assert!(sent < 600_000, "{sent} bytes of 1.4 MB were read to see two headers");
    hub.script.reset();
    world.run(&["info", "hf:alice/model", "--no-weights", "-q"]).ok();
    assert!(!hub.script.seen().iter().any(|seen| seen.path.contains("/resolve/")), "nothing of a file is read");
}

#[test]
fn what_is_shown_of_a_repository() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    published(&world);
    quantised(&world);
    world.tree("cut", &[("model.safetensors", &safetensors(&[("a", 100)])[..300]), ("old.gguf", b"GGUF\x01\0\0\0rest")]);
    let runs = [
        world.run(&["info", "hf:alice/model"]),
        world.run(&["info", "hf:alice/gguf"]),
        world.run(&["info", "./cut"]),
        world.run(&["ls", "-l", "--tree", "hf:alice/model"]),
        world.run(&["ls", "--tree", "hf:alice/gguf", "--quant", "bf16"]),
        world.run(&["copy", "hf:alice/model", "./dst", "--for", "vllm", "--dry-run"]),
        world.run(&["copy", "hf:alice/gguf", "./dst", "--quant", "Q3_K_L"]),
        world.run(&["copy", "hf:alice/gguf", "./dst", "--for", "diffusers"]),
        world.run(&["copy", "hf:alice/gguf", "./dst", "--for", "vllm", "--quant", "Q8_0"]),
        world.run(&["copy", "hf:alice/gguf", "hf:alice/x", "--for", "vllm", "--all-refs"]),
        world.run(&["ls", "hf:alice/gguf", "--for", "ollama"]),
        world.run(&["verify", "./cut", "--check-weights"]),
    ];
    snapshot("looking", &world, &runs);
}

#[test]
fn a_program_gets_what_it_loads_and_the_rest_stays_where_it_is() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    published(&world);
    let plan = world.run(&["copy", "hf:alice/model", "./dst", "--for", "transformers", "--dry-run", "--json"]).ok().json();
    assert_eq!(plan["plan"]["left_out"], json!({"files": 3, "bytes": 12_000}), "{plan}");
    let report = world.run(&["copy", "hf:alice/model", "./dst", "--for", "transformers", "--json"]).ok().json();
    assert_eq!(report["plan"]["left_out"], json!({"files": 3, "bytes": 12_000}));
    let kept = [
        "README.md",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names(&world, "dst"), kept);
    world.run(&["diff", "hf:alice/model", "./dst", "--for", "transformers", "-q", "--exclude", ".gitattributes"]).ok();
    world.run(&["diff", "hf:alice/model", "./dst", "-q"]).exits(8);
    world.run(&["verify", "./dst", "--against", "hf:alice/model", "--for", "vllm", "-q"]).ok();
    let listed = world.run(&["ls", "hf:alice/model", "--format", "onnx", "--json"]).ok().json();
    assert_eq!(listed["left_out"]["files"], 5, "{listed}");
    // What a preset leaves out is not deleted, be it at the source or not.
    world.tree("dst", &[("pytorch_model.bin", b"of an earlier copy"), ("mine.gguf", b"of mine"), ("old.txt", b"old")]);
    world.run(&["sync", "hf:alice/model", "./dst", "--for", "transformers", "--yes", "-q"]).ok();
    assert_eq!(
        names(&world, "dst"),
        [&kept[..1], &["config.json", "mine.gguf"], &kept[2..5], &["pytorch_model.bin", "tokenizer.json"]].concat()
    );
    // A plan keeps the choice.
    world.run(&["copy", "hf:alice/model", "./planned", "--for", "onnx", "--plan", "plan.json", "-q"]).ok();
    world.run(&["apply", "plan.json", "-q"]).ok();
    assert_eq!(names(&world, "planned"), ["README.md", "config.json", "onnx/model.onnx", "tokenizer.json"]);
}

#[test]
fn a_quantisation_comes_whole_or_is_named_as_absent() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    quantised(&world);
    world.run(&["copy", "hf:alice/gguf", "./q", "--quant", "bf16", "-q"]).ok();
    assert_eq!(names(&world, "q"), ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "README.md", "mmproj-F16.gguf"]);
    world.run(&["copy", "hf:alice/gguf", "./l", "--for", "llama.cpp", "-q", "--check-weights"]).ok();
    assert_eq!(names(&world, "l"), ["README.md", "m-Q4_K_M.gguf", "mmproj-F16.gguf"]);
    let ran = world.run(&["copy", "hf:alice/gguf", "./none", "--quant", "Q2_K"]).exits(6);
    assert!(ran.stderr.contains("there are: BF16, Q4_K_M, Q8_0"), "{}", ran.shown());
    assert!(!world.work().join("none").exists());
}

type Files<'a> = Vec<(&'a str, &'a [u8])>;

#[test]
fn weights_that_are_not_whole_do_not_travel() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let whole = safetensors(&[("a", 1000)]);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4096\n", "0".repeat(64));
    let elsewhere = index(&[("a", "model-00001-of-00002.safetensors"), ("z", "model-00002-of-00002.safetensors")]);
    let parts = gguf(1);
    let cases: [(&str, Files<'_>, &str); 7] = [
        ("cut", vec![("model.safetensors", &whole[..3000])], "the file is cut off"),
        ("long", vec![("model.safetensors", &[&whole[..], b"more"].concat().leak()[..])], "longer than it says"),
        ("pointer", vec![("pytorch_model.bin", pointer.as_bytes())], "Git LFS pointer for 4096 bytes"),
        ("empty", vec![("model.gguf", b"")], "the file is empty"),
        ("shard", vec![("model-00001-of-00002.safetensors", &whole), ("model.safetensors.index.json", &elsewhere)], "which is not there"),
        (
            "tensor",
            vec![
                ("model-00001-of-00002.safetensors", &whole),
                ("model-00002-of-00002.safetensors", &whole),
                ("model.safetensors.index.json", &elsewhere),
            ],
            "the tensor \"z\", and it does not",
        ),
        ("part", vec![("m-00001-of-00002.gguf", &parts)], "m-00002-of-00002.gguf is not there"),
    ];
    for (name, files, why) in cases {
        let folder = format!("./{name}");
        world.tree(name, &files);
        let repo = format!("hf:alice/{name}");
        // Nobody looks unless asked: these files may be what somebody wants to keep.
        world.run(&["copy", &folder, &repo, "-q"]).ok();
        for command in ["copy", "sync"] {
            let ran = world.run(&[command, &repo, "./dst", "--check-weights", "--json"]).exits(4);
            let error = &ran.json()["error"];
            assert!(error["message"].as_str().unwrap().contains(why) && error["hint"].is_string(), "{name}: {}", ran.shown());
            assert!(names(&world, "dst").is_empty(), "{name}: something arrived");
        }
        world.run(&["copy", &repo, "./dst", "--check-weights", "--dry-run", "-q"]).exits(4);
        let ran = world.run(&["verify", &repo, "--check-weights", "--json"]).exits(4);
        assert!(ran.stdout.contains(&why.replace('"', "\\\"")), "{name}: {}", ran.shown());
        let ran = world.run(&["verify", &folder, "--check-weights"]).exits(4);
        assert!(ran.stdout.contains(why), "{name}: {}", ran.shown());
    }
    published(&world);
    world.run(&["copy", "hf:alice/model", "./good", "--check-weights", "-q"]).ok();
    world.run(&["verify", "./good", "--check-weights", "-q"]).ok();
    world.run(&["verify", "hf:alice/model", "--check-weights", "-q"]).ok();
}

#[test]
fn the_libraries_of_the_formats_say_the_same() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let folder = world.work().join("weights");
    let said = python(&world, "weights", "weights.py", &[folder.to_str().unwrap()]).ok().json();
    for (number, layout) in said["layouts"].as_object().unwrap() {
        let known = hubferry_core::weights::layout(number.parse().unwrap());
        // Written to files by nobody, and its size differs between the package and ggml itself.
        if layout[0] != "Q8_1" {
            let known = known.unwrap_or_else(|| panic!("type {number} {layout} is not known"));
            assert_eq!(*layout, json!([known.name, known.block, known.bytes]));
        }
    }
    world.run(&["verify", "./weights", "--check-weights", "-q"]).ok();
    world.run(&["copy", "./weights", "ms:alice/weights", "-q"]).ok();
    for place in ["./weights", "ms:alice/weights"] {
        let info = world.run(&["info", place, "--json", "--all"]).ok().json();
        for model in info["weights"]["models"].as_array().unwrap() {
            let path = model["path"].as_str().unwrap();
            let prefix = path.split("-0000").next().unwrap();
            let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for (_, dtypes) in said["files"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with(prefix)) {
                for (dtype, share) in dtypes.as_object().unwrap() {
                    let sum = sums.entry(dtype.clone()).or_default();
                    *sum = (sum.0 + share[0].as_u64().unwrap(), sum.1 + share[1].as_u64().unwrap());
                }
            }
            let sums: Value = sums
                .iter()
                .map(|(dtype, (tensors, parameters))| (dtype.clone(), json!({"tensors": tensors, "parameters": parameters})))
                .collect();
            assert_eq!(model["dtypes"], sums, "{path}");
            assert_eq!(model["problems"], json!([]), "{path}");
            if path.ends_with("gguf") {
                assert_eq!(
                    (&model["quantization"], &model["architecture"], &model["context_length"]),
                    (&json!("Q8_0"), &json!("llama"), &json!(4096)),
                    "{path}"
                );
            }
        }
    }
    // One byte less of any of them is noticed.
    for (name, content) in files_below(&folder) {
        world.tree("cut", &[(&name, &content[..content.len() - 40])]);
        world.run(&["verify", "./cut", "--check-weights", "-q"]).exits(4);
        std::fs::remove_dir_all(world.work().join("cut")).unwrap();
    }
}

#[test]
fn a_gated_repository_is_described_as_far_as_it_may_be() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    published(&world);
    let refusal = r#"{"error": "Access to model alice/model is restricted."}"#.to_owned();
    let gated = vec![("x-error-code", "GatedRepo".to_owned())];
    hub.script.add(Rule::once(Method::GET, "/resolve/", Fault::Answer(403, gated, refusal)).always());
    let ran = world.run(&["info", "hf:alice/model"]).ok();
    assert!(ran.stdout.contains("not looked at:") && ran.stdout.contains("model-00001-of-00002.safetensors"), "{}", ran.shown());
    assert_eq!(ran.stdout.matches("not looked at:").count(), 1, "{}", ran.shown());
}

#[test]
fn a_download_takes_a_choice_and_the_cache_answers_with_it() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    published(&world);
    let cache = world.home().join("cache");
    let ask = ["download", "alice/model", "--for", "vllm", "--check-weights", "--cache-dir", cache.to_str().unwrap()];
    let first = world.run(&ask).ok();
    let at = std::path::Path::new(first.stdout.trim());
    assert!(at.join("model-00002-of-00002.safetensors").is_file() && !at.join("pytorch_model.bin").exists(), "{}", first.shown());
    assert_eq!(world.run(&ask).ok().stdout, first.stdout);
    let alone = hub.world(ALICE).with("HF_HUB_OFFLINE", "1");
    hub.script.reset();
    assert_eq!(alone.run(&ask).ok().stdout, first.stdout);
    assert!(hub.script.seen().is_empty(), "nobody is asked");
    let other = alone.run(&["download", "alice/model", "--for", "onnx", "--cache-dir", cache.to_str().unwrap()]);
    assert!(other.code != 0 && other.stderr.contains("HF_HUB_OFFLINE"), "{}", other.shown());
    let folder = ["download", "alice/model", "--format", "onnx", "--local-dir", "./onnx", "-q"];
    world.run(&folder).ok();
    world.run(&folder).ok();
    assert!(world.work().join("onnx/onnx/model.onnx").is_file() && !world.work().join("onnx/pytorch_model.bin").exists());
}
