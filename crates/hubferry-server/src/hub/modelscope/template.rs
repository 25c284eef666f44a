//! The files every new repository starts with, as the real hub writes them: its card begins and ends with the words by which a card
//! without content is known there.

use bytes::Bytes;
use hubferry_core::address::RepoKind;
use hubferry_core::error::Result;
use hubferry_core::manifest::RepoPath;

use crate::store::Inline;

/// File endings that Git would keep in LFS, by kind: the lists the hub's clients carry.
const MODEL_ENDINGS: &str = "7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt \
                             pth rar safetensors tar tflite tgz wasm xz zip zst";
const DATASET_ENDINGS: &str = "7z aac arrow audio bmp bin bz2 flac ftz gif gz h5 jack jpeg jpg png jsonl joblib lz4 msgpack npy npz \
                               ot parquet pb pickle pcm pkl raw rar sam tar tgz wasm wav webm webp zip zst tiff mp3 mp4 ogg";
const DATASET_INFOS: &str = "{\n    \"default\": {\n        \"features\": {},\n        \"splits\": {}\n    }\n}\n";

/// The first commit of a repository.
pub(super) fn first_files(kind: RepoKind, name: &str, license: &str) -> Result<Vec<(RepoPath, Inline)>> {
    let endings = if kind == RepoKind::Dataset { DATASET_ENDINGS } else { MODEL_ENDINGS };
    let attributes: Vec<String> = endings.split_whitespace().map(|end| format!("*.{end} filter=lfs diff=lfs merge=lfs -text\n")).collect();
    // As JSON, which is YAML: a licence cannot break out of the front matter.
    let license = serde_json::Value::from(license);
    let card = format!(
        "---\nlicense: {license}\n---\n### You are viewing the default Readme template of {name}: nobody has described this {kind} yet.\n\n\
         <p>If it is yours, replace this text: <a href=\"https://modelscope.cn/docs/models/upload\">the model contribution documentation</a>.</p>\n"
    );
    let mut files = vec![(".gitattributes", attributes.concat()), ("README.md", card)];
    if kind == RepoKind::Dataset {
        files.push(("dataset_infos.json", DATASET_INFOS.into()));
    }
    files.into_iter().map(|(path, text)| Ok((RepoPath::new(path)?, Inline::new(Bytes::from(text))))).collect()
}
