//! How a blob gets to ModelScope: inside the commit or through LFS, asking what is stored, and sending what is not.

use std::time::Duration;

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Body, Wanted};
use serde_json::{Value, json};
use url::Url;

use super::api::Api;
use super::fault::{Route, integer};
use crate::http::{Redirects, safe_url};

/// Most objects one question may name.
pub(super) const BATCH: usize = 64;
/// Larger files go through LFS, whatever their name.
const LARGEST_INLINE: u64 = 64 << 10;
/// Larger files go through LFS even under a name that is always inline: a commit has to fit into memory.
const LARGEST_NAMED: u64 = 8 << 20;
/// The hub hashes what it got before it answers.
const ANSWER: Duration = Duration::from_mins(10);

/// Files the platform itself reads, in any folder.
const ALWAYS_INLINE: [&str; 10] = [
    "readme.md",
    ".gitattributes",
    ".gitignore",
    "configuration.json",
    "configuration.yaml",
    "configuration.yml",
    "dataset_infos.json",
    "config.json",
    ".msc",
    ".mdl",
];

const MODEL_SUFFIXES: &str = "7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt pth rar \
                              safetensors tar tflite tgz wasm xz zip zst";
const DATASET_SUFFIXES: &str = "7z aac arrow audio bmp bin bz2 flac ftz gif gz h5 jack jpeg jpg png jsonl joblib lz4 msgpack npy npz ot \
                                parquet pb pickle pcm pkl raw rar sam tar tgz wasm wav webm webp zip zst tiff mp3 mp4 ogg";

/// Whether a blob travels inside the commit: the rule of the current SDK, so that the hub shows the files as it shows its own.
pub(super) fn is_inline(kind: RepoKind, wanted: &Wanted) -> bool {
    let size = wanted.blob.size;
    let mut names = wanted.paths.iter().map(|path| path.name().to_lowercase());
    if size <= LARGEST_NAMED && names.clone().any(|name| ALWAYS_INLINE.contains(&name.as_str())) {
        return true;
    }
    let suffixes = if kind == RepoKind::Dataset { DATASET_SUFFIXES } else { MODEL_SUFFIXES };
    let is_listed = |name: &str| name.rsplit_once('.').is_some_and(|(_, suffix)| suffixes.split(' ').any(|listed| listed == suffix));
    size <= LARGEST_INLINE && !names.any(|name| is_listed(&name))
}

/// Asks which blobs the hub wants, at most [`BATCH`] at once; with each the address to send it to.
pub(super) async fn ask(api: &Api, kind: RepoKind, id: &RepoId, blobs: &[Blob]) -> Result<Vec<(Blob, Url)>> {
    let url = api.write_url(kind, id, ["info", "lfs", "objects", "batch"])?;
    let objects: Vec<Value> = blobs.iter().map(|blob| json!({"oid": blob.oid, "size": blob.size})).collect();
    let request = api.http.post(url.clone()).json(&json!({"operation": "upload", "objects": objects})).repeatable(true);
    let answer = api.call(Route::Batch, request).await?;
    let listed = match answer.data.get("objects") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(Error::invalid("the answer about stored objects is not a list").context("url", safe_url(&url))),
    };
    let mut wanted = Vec::new();
    for object in listed {
        let Some(blob) = named(object).filter(|blob| blobs.contains(blob)) else { continue };
        if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            let message = api.redact(&crate::http::clean(message, 300));
            return Err(Error::invalid(format!("ModelScope does not take an object: {message}")).context("oid", blob.oid));
        }
        // Listed without an address to send it to means stored, as with every other LFS server.
        let Some(href) = object.pointer("/actions/upload/href").and_then(Value::as_str) else { continue };
        let href = url.join(href).map_err(|error| Error::invalid("the upload address is not a URL").caused_by(error))?;
        wanted.push((blob, href));
    }
    Ok(wanted)
}

fn named(object: &Value) -> Option<Blob> {
    let oid: Oid = object.get("oid")?.as_str()?.parse().ok()?;
    let size = u64::try_from(integer(object.get("size")?)?).ok()?;
    Some(Blob { oid, size })
}

/// Sends one blob, whole: there are no parts here, and a broken one starts over.
pub(super) async fn send(api: &Api, blob: Blob, href: Url, body: &dyn Body) -> Result<()> {
    let credential = api.blob_credential(&href)?;
    let stream = body.read(0..blob.size).await?;
    let request = api
        .blobs
        .put(href)
        .header("Content-Type", "application/octet-stream")
        .stream(blob.size, stream)
        .redirects(Redirects::SameOrigin)
        .answer_within(ANSWER);
    let response = api.send_blob(request, &credential).await?;
    if !response.status().is_success() {
        return Err(response.error(Kind::Invalid, "the upload was redirected elsewhere"));
    }
    let unclear = response.error(Kind::Unavailable, "the answer to an upload is not understood");
    let text = response.bytes(1 << 20).await?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    match serde_json::from_slice::<Value>(&text) {
        Ok(answer) => api.check(Route::Blob, &answer),
        Err(error) => Err(unclear.caused_by(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::manifest::RepoPath;

    fn inline(kind: RepoKind, path: &str, size: u64) -> bool {
        is_inline(kind, &Wanted { blob: Blob { oid: Oid::EMPTY, size }, paths: vec![RepoPath::new(path).unwrap()] })
    }

    #[test]
    fn small_text_is_inline_and_weights_are_not() {
        for (path, size, expected) in [
            ("README.md", 1 << 20, true),
            ("sub/Config.JSON", 100_000, true),
            ("config.json", 9 << 20, false),
            ("tokenizer.json", 65_536, true),
            ("tokenizer.json", 65_537, false),
            ("empty.bin", 0, false),
            ("model.SafeTensors", 10, false),
            ("model.gguf", 10, true),
            ("no-suffix", 10, true),
            ("bin", 10, true),
        ] {
            assert_eq!(inline(RepoKind::Model, path, size), expected, "{path} {size}");
        }
        assert!(!inline(RepoKind::Dataset, "a.jsonl", 1) && inline(RepoKind::Model, "a.jsonl", 1));
        assert!(inline(RepoKind::Dataset, "a.safetensors", 1), "not in the list for datasets");
    }
}
