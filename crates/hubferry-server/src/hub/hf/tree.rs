//! Lists files: a folder page by page, or the paths a client names.

use std::collections::HashMap;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hubferry_core::digest::GitOid;
use hubferry_core::error::Kind;
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Target, Want, commit_at};
use super::call::Call;
use super::listing::next_page;
use super::reply::{Refusal, date, page};
use crate::store::{CommitInfo, ListQuery, Listing, Repo, Store, TreeEntry};

const PAGE: usize = 1000;
/// With commits, as on the Hub.
const EXPANDED_PAGE: usize = 50;
const MOST_PATHS: usize = 1000;

/// `GET /api/{kind}/{id}/tree/{rev}[/{path}]`
pub(super) async fn list(call: Call, target: Target, rev: &str, path: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let commit = commit_at(&call, &repo, rev).await?;
    let expand = call.is_on("expand");
    let most = if expand { EXPANDED_PAGE } else { PAGE };
    let no_entry = || Refusal::no_entry(Some(commit.to_string()));
    let folder = match path.trim_matches('/') {
        "" => None,
        path => Some(RepoPath::new(path).map_err(|_| no_entry())?),
    };
    let query = ListQuery {
        folder,
        recursive: call.is_on("recursive"),
        after: call.param("cursor").map(str::to_owned),
        limit: call.limit(most, most)?,
    };
    let store = call.state.store();
    let listed = store.list(commit, &query).await.map_err(|error| match error.kind() {
        Kind::NotFound => no_entry(),
        _ => Refusal::from(error),
    })?;
    let entries = describe(store, &repo, commit, &listed.entries, expand).await?;
    Ok(page(&entries.into(), listed.next.map(|next| next_page(&call, &next))))
}

#[derive(Deserialize)]
struct Paths {
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    expand: bool,
}

/// `POST /api/{kind}/{id}/paths-info/{rev}`
pub(super) async fn paths_info(mut call: Call, target: Target, rev: &str) -> Result<Response, Refusal> {
    let wanted = paths(&mut call).await?;
    if wanted.paths.len() > MOST_PATHS {
        return Err(Refusal::too_large("too many parameters"));
    }
    let repo = target.open(&call, Want::See).await?;
    let commit = commit_at(&call, &repo, rev).await?;
    // A path that cannot exist is as unknown as one that does not.
    let paths: Vec<RepoPath> = wanted.paths.iter().filter_map(|p| RepoPath::new(p.trim_end_matches('/')).ok()).collect();
    let store = call.state.store();
    let found = store.entries(commit, &paths).await?;
    let entries = describe(store, &repo, commit, &found, wanted.expand).await?;
    Ok(axum::Json(entries).into_response())
}

/// The Python client sends a form, the Rust client JSON.
async fn paths(call: &mut Call) -> Result<Paths, Refusal> {
    let json = call.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    if json {
        return call.json().await;
    }
    let body = call.bytes().await?;
    let mut wanted = Paths { paths: Vec::new(), expand: false };
    for (name, value) in url::form_urlencoded::parse(&body) {
        match &*name {
            "paths" | "paths[]" => wanted.paths.push(value.into_owned()),
            "expand" => wanted.expand = matches!(&*value, "true" | "True" | "1"),
            _ => {}
        }
    }
    Ok(wanted)
}

async fn describe(store: &Store, repo: &Repo, commit: GitOid, listed: &[Listing], expand: bool) -> Result<Vec<Value>, Refusal> {
    let last = if expand { store.last_commits(repo, commit, listed.iter().map(|l| l.path.as_str())).await? } else { HashMap::new() };
    Ok(listed.iter().map(|listing| entry(listing, last.get(&listing.path))).collect())
}

fn entry(listing: &Listing, last: Option<&CommitInfo>) -> Value {
    let mut value = match listing.entry {
        TreeEntry::Folder(id) => json!({ "type": "directory", "oid": id.to_string(), "size": 0, "path": listing.path }),
        TreeEntry::File(file) => {
            let mut value = json!({ "type": "file", "oid": file.git.to_string(), "size": file.size, "path": listing.path });
            if file.lfs {
                value["lfs"] = json!({ "oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size() });
            }
            value
        }
    };
    if let Some(last) = last {
        value["lastCommit"] = json!({ "id": last.id.to_string(), "title": last.title(), "date": date(last.time) });
    }
    value
}
