//! What a repository is and holds.

use axum::response::{IntoResponse, Response};
use hubferry_core::card;
use hubferry_core::digest::GitOid;
use hubferry_core::manifest::RepoPath;
use hubferry_core::remote::Visibility;
use serde_json::{Map, Value, json};

use super::access::{Target, Want, commit_at};
use super::account::gated_value;
use super::call::Call;
use super::reply::{Refusal, date};
use crate::store::{DEFAULT_BRANCH, ListQuery, Repo, Store, TreeEntry};

/// Cards larger than this are not looked into.
const CARD_LIMIT: u64 = 1024 * 1024;

/// `GET /api/{kind}/{id}[/revision/{rev}]`
pub(super) async fn info(call: Call, target: Target, rev: Option<&str>) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let commit = commit_at(&call, &repo, rev.unwrap_or(DEFAULT_BRANCH)).await?;
    let store = call.state.store();
    let expand: Vec<&str> = call.params("expand").collect();
    let wants = |field: &str| expand.is_empty() || expand.contains(&field);
    let mut all = summary(&repo);
    all.insert("sha".to_owned(), commit.to_string().into());
    if wants("siblings") {
        all.insert("siblings".to_owned(), siblings(store, commit, call.is_on("blobs")).await?.into());
    }
    if wants("usedStorage") {
        all.insert("usedStorage".to_owned(), store.used_storage(&repo).await?.into());
    }
    let licenses = match card_licenses(store, commit).await? {
        stated if stated.is_empty() => repo.license.iter().cloned().collect(),
        stated => stated,
    };
    if !licenses.is_empty() {
        all.insert("tags".to_owned(), licenses.iter().map(|license| format!("license:{license}").into()).collect::<Vec<Value>>().into());
        let stated = if let [only] = &licenses[..] { json!(only) } else { json!(licenses) };
        all.insert("cardData".to_owned(), json!({ "license": stated }));
    }
    if !expand.is_empty() {
        all.retain(|name, _| matches!(name.as_str(), "_id" | "id") || expand.contains(&name.as_str()));
    }
    Ok(axum::Json(all).into_response())
}

/// What is known without looking at files.
pub(super) fn summary(repo: &Repo) -> Map<String, Value> {
    let fields = json!({
        "_id": format!("{:024x}", repo.id),
        "id": repo.full_name(),
        "author": repo.owner,
        "lastModified": date(repo.modified),
        "createdAt": date(repo.created),
        "private": repo.visibility != Visibility::Public,
        "gated": gated_value(repo.gated),
        "disabled": false,
        "tags": [],
        "downloads": 0,
        "likes": 0,
    });
    let Value::Object(mut fields) = fields else { return Map::new() };
    if let Some(sdk) = repo.details.get("sdk") {
        fields.insert("sdk".to_owned(), sdk.clone());
    }
    if repo.kind == hubferry_core::address::RepoKind::Model {
        fields.insert("modelId".to_owned(), repo.full_name().into());
    }
    fields
}

async fn siblings(store: &Store, commit: GitOid, blobs: bool) -> Result<Vec<Value>, Refusal> {
    let query = ListQuery { folder: None, recursive: true, after: None, limit: usize::MAX - 1 };
    let page = store.list(commit, &query).await?;
    let files = page.entries.into_iter().filter_map(|listing| match listing.entry {
        TreeEntry::File(file) => Some((listing.path, file)),
        TreeEntry::Folder(_) => None,
    });
    Ok(files
        .map(|(path, file)| {
            let mut sibling = json!({ "rfilename": path });
            if blobs {
                sibling["size"] = file.size.into();
                sibling["blobId"] = file.git.to_string().into();
                if file.lfs {
                    sibling["lfs"] = json!({ "sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size() });
                }
            }
            sibling
        })
        .collect())
}

/// The licences a README states in its front matter.
async fn card_licenses(store: &Store, commit: GitOid) -> Result<Vec<String>, Refusal> {
    let Some(TreeEntry::File(file)) = store.entry(commit, &RepoPath::new("README.md")?).await? else { return Ok(Vec::new()) };
    if file.size > CARD_LIMIT {
        return Ok(Vec::new());
    }
    let text = store.read_blob(file.sha256, CARD_LIMIT).await?;
    // A card that cannot be read states nothing; it is its owner's to mend.
    let mut stated = card::read(&text).map(|stated| stated.license).unwrap_or_default();
    stated.retain(|license| !license.is_empty() && license.len() <= 100);
    stated.truncate(16);
    Ok(stated)
}
