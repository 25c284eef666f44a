//! Downloads: small files at once, LFS files by a redirect to a short-lived link.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::digest::GitOid;
use hubferry_core::manifest::RepoPath;

use super::super::file::{StoredFile, answer, matches_etag};
use super::super::storage;
use super::access::{Target, Want, commit_at};
use super::call::Call;
use super::reply::{Refusal, quoted, set};
use crate::store::{TreeEntry, TreeFile, git};

const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// Text, whatever the name says: nothing a user uploads may run in a browser on this origin.
const PLAIN: &str = "text/plain; charset=utf-8";

/// `GET|HEAD /{id}/resolve/{rev}/{path}`
pub(super) async fn resolve(call: Call, target: Target, rev: &str, path: &str) -> Result<Response, Refusal> {
    let (commit, file) = find(&call, &target, rev, path).await?;
    let mut response = if file.lfs { redirect(&call, commit, &file) } else { regular(&call, &file).await? };
    set(response.headers_mut(), REPO_COMMIT, &commit.to_string());
    let name = path.rsplit('/').next().unwrap_or(path);
    let disposition = format!("inline; filename*=UTF-8''{}", quoted(name));
    set(response.headers_mut(), CONTENT_DISPOSITION, &disposition);
    Ok(response)
}

async fn find(call: &Call, target: &Target, rev: &str, path: &str) -> Result<(GitOid, TreeFile), Refusal> {
    let repo = target.open(call, Want::Read).await?;
    let commit = commit_at(call, &repo, rev).await?;
    let no_entry = || Refusal::no_entry(Some(commit.to_string()));
    let path = RepoPath::new(path).map_err(|_| no_entry())?;
    match call.state.store().entry(commit, &path).await? {
        Some(TreeEntry::File(file)) => Ok((commit, file)),
        Some(TreeEntry::Folder(_)) | None => Err(no_entry()),
    }
}

async fn regular(call: &Call, file: &TreeFile) -> Result<Response, Refusal> {
    let etag = file.git.to_string();
    let stored = StoredFile { oid: file.sha256, size: file.size, etag: &etag, content_type: PLAIN };
    Ok(answer(call.state.store(), &stored, &call.method, &call.headers).await?)
}

fn redirect(call: &Call, commit: GitOid, file: &TreeFile) -> Response {
    let etag = file.sha256.to_string();
    let mut response = if matches_etag(&call.headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let origin = call.state.storage_origin(call.state.urls().hf, &call.headers);
        let link = storage::download_link(&call.state, &origin, file.blob(), Some(commit));
        let text = format!("Found. Redirecting to {link}");
        (StatusCode::FOUND, [(LOCATION, link), (CONTENT_TYPE, PLAIN.to_owned())], text).into_response()
    };
    let headers = response.headers_mut();
    set(headers, LINKED_ETAG, &format!("\"{etag}\""));
    set(headers, LINKED_SIZE, &file.size.to_string());
    set(headers, axum::http::header::ACCEPT_RANGES, "bytes");
    set(headers, axum::http::header::CACHE_CONTROL, "no-store");
    response
}

/// `GET|HEAD /{id}/raw/{rev}/{path}`: what Git holds, which is the pointer for an LFS file.
pub(super) async fn raw(call: Call, target: Target, rev: &str, path: &str) -> Result<Response, Refusal> {
    let (commit, file) = find(&call, &target, rev, path).await?;
    let mut response = if file.lfs {
        let mut response = Response::new(Body::from(git::pointer(&file.blob())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN));
        set(response.headers_mut(), axum::http::header::ETAG, &format!("\"{}\"", file.git));
        response
    } else {
        regular(&call, &file).await?
    };
    set(response.headers_mut(), REPO_COMMIT, &commit.to_string());
    Ok(response)
}
