//! Downloads: small files come at once, LFS files as a short-lived link to the storage that needs no credential.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;

use super::access::Access;
use super::envelope::{Answer, Refusal};
use super::face::Face;
use crate::store::{TreeEntry, TreeFile};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Wanted {
    revision: Option<String>,
    file_path: Option<String>,
}

/// `GET …/repo?Revision=…&FilePath=…`.
pub(super) async fn file(State(face): State<Face>, access: Access, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Answer<Response> {
    let path = wanted.file_path.filter(|path| !path.is_empty()).ok_or_else(|| Refusal::invalid("FilePath is required"))?;
    serve(&face, &access, wanted.revision.as_deref(), &path, &headers).await
}

/// `GET /{models|datasets}/{owner}/{name}/resolve/{revision}/{path}`, the form of the web pages.
pub(super) async fn resolve(
    State(face): State<Face>,
    access: Access,
    Path((_, _, _, revision, path)): Path<(String, String, String, String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    serve(&face, &access, Some(&revision), &path, &headers).await
}

async fn serve(face: &Face, access: &Access, revision: Option<&str>, path: &str, headers: &HeaderMap) -> Answer<Response> {
    access.check_contents(face)?;
    let commit = face.commit(&access.repo, revision).await?;
    let path = RepoPath::new(path).map_err(|_| Refusal::no_file())?;
    let Some(TreeEntry::File(file)) = face.store().entry(commit, &path).await? else { return Err(Refusal::no_file()) };
    if file.lfs { redirect(face, access, &path, &file) } else { inline(face, &file, headers).await }
}

// TEMPORARY until the shared helpers exist.
async fn inline(face: &Face, file: &TreeFile, headers: &HeaderMap) -> Answer<Response> {
    let range = headers.get("range").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("bytes=")).and_then(|v| v.split_once('-'));
    let range = match range {
        None => None,
        Some((from, to)) => {
            let from: u64 = from.parse().unwrap_or(0);
            let to: u64 = to.parse().map_or(file.size, |to: u64| (to + 1).min(file.size));
            Some(from..to)
        }
    };
    let reader = face.store().open_blob(file.sha256, range.clone()).await?;
    let mut response = axum::body::Body::from_stream(reader.stream).into_response();
    let headers = response.headers_mut();
    let len = range.as_ref().map_or(file.size, |r| r.end - r.start);
    headers.insert("content-length", len.into());
    headers.insert("x-linked-etag", format!("\"{}\"", file.sha256).parse().unwrap_or_else(|_| "x".parse().unwrap()));
    if let Some(r) = range {
        headers.insert("content-range", format!("bytes {}-{}/{}", r.start, r.end - 1, file.size).parse().unwrap());
        *response.status_mut() = axum::http::StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn redirect(face: &Face, _: &Access, _: &RepoPath, file: &TreeFile) -> Answer<Response> {
    let url = format!("{}/tmp/{}/{}", face.base_url(), file.sha256, file.size);
    Ok((axum::http::StatusCode::FOUND, [("location", url)]).into_response())
}

pub(super) async fn tmp(State(face): State<Face>, Path((sha256, size)): Path<(String, u64)>, headers: HeaderMap) -> Answer<Response> {
    let file = TreeFile { git: hubferry_core::digest::GitOid([0; 20]), sha256: sha256.parse()?, size, lfs: false };
    inline(&face, &file, &headers).await
}
