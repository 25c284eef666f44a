//! Tells a client how to send each file: inside the commit, or through LFS.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bytes::Bytes;
use hubferry_core::digest::GitOid;
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Target, Want, commit_at};
use super::attributes::{Attributes, REGULAR_LIMIT, ignored, is_binary};
use super::call::Call;
use super::reply::Refusal;
use crate::store::{Store, TreeEntry};

const MOST_FILES: usize = 1000;
/// Rules longer than this are not rules.
const RULES_LIMIT: u64 = 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    files: Vec<File>,
    #[serde(default)]
    git_ignore: Option<String>,
    #[serde(default)]
    git_attributes: Option<String>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    size: u64,
    #[serde(default)]
    sample: Option<String>,
}

/// `POST /api/{kind}/{id}/preupload/{rev}`
pub(super) async fn preupload(mut call: Call, target: Target, rev: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let wanted: Request = call.json().await?;
    if wanted.files.len() > MOST_FILES {
        return Err(Refusal::too_large(format!("at most {MOST_FILES} files per request")));
    }
    let commit = commit_at(&call, &repo, rev).await?;
    let store = call.state.store();
    let rules = match &wanted.git_attributes {
        Some(text) => Attributes::parse(&Bytes::from(text.clone())),
        None => Attributes::parse(&small_file(store, commit, ".gitattributes").await?),
    };
    let ignore = match wanted.git_ignore {
        Some(text) => ignored(&text),
        None => ignored(&String::from_utf8_lossy(&small_file(store, commit, ".gitignore").await?)),
    };
    let mut paths = Vec::with_capacity(wanted.files.len());
    for file in &wanted.files {
        paths.push(RepoPath::new(&*file.path).map_err(|error| Refusal::bad_request(error.to_string()))?);
    }
    let known = store.entries(commit, &paths).await?;
    let known: std::collections::HashMap<&str, TreeEntry> = known.iter().map(|l| (l.path.as_str(), l.entry)).collect();
    let mut files = Vec::with_capacity(wanted.files.len());
    for file in &wanted.files {
        let mode = if is_lfs(file, &rules)? { "lfs" } else { "regular" };
        let ignored = ignore.matched_path_or_any_parents(&file.path, false).is_ignore();
        let mut value = json!({ "path": file.path, "uploadMode": mode, "shouldIgnore": ignored });
        if let Some(TreeEntry::File(known)) = known.get(file.path.as_str()) {
            value["oid"] = Value::from(if known.lfs { known.sha256.to_string() } else { known.git.to_string() });
        }
        files.push(value);
    }
    Ok(axum::Json(json!({ "files": files, "commitOid": commit.to_string() })).into_response())
}

fn is_lfs(file: &File, rules: &Attributes) -> Result<bool, Refusal> {
    if file.size == 0 {
        return Ok(false);
    }
    if file.size > REGULAR_LIMIT {
        return Ok(true);
    }
    let sample = base64::engine::general_purpose::STANDARD.decode(file.sample.as_deref().unwrap_or(""));
    let sample = sample.map_err(|_| Refusal::bad_request("a sample is not base64"))?;
    Ok(rules.lfs(&file.path).unwrap_or(false) || is_binary(&sample))
}

async fn small_file(store: &Store, commit: GitOid, path: &str) -> Result<Bytes, Refusal> {
    match store.entry(commit, &RepoPath::new(path)?).await? {
        Some(TreeEntry::File(file)) if !file.lfs && file.size <= RULES_LIMIT => Ok(store.read_blob(file.sha256, RULES_LIMIT).await?),
        _ => Ok(Bytes::new()),
    }
}
