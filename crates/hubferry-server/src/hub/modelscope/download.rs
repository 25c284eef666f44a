//! Downloads: small files come at once, LFS files as a short-lived link to the storage that needs no credential.

use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;

use super::access::Access;
use super::envelope::{Answer, Refusal};
use super::face::Face;
use crate::hub::file::{self, StoredFile};
use crate::store::TreeEntry;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Wanted {
    revision: Option<String>,
    file_path: Option<String>,
}

/// `GET …/repo?Revision=…&FilePath=…`.
pub(super) async fn by_query(
    State(face): State<Face>,
    access: Access,
    Query(wanted): Query<Wanted>,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    let path = wanted.file_path.filter(|path| !path.is_empty()).ok_or_else(|| Refusal::invalid("FilePath is required"))?;
    serve(&face, &access, wanted.revision.as_deref(), &path, &method, &headers).await
}

/// `GET /{models|datasets}/{owner}/{name}/resolve/{revision}/{path}`, the form of the web pages.
pub(super) async fn by_path(
    State(face): State<Face>,
    access: Access,
    Path((_, _, _, revision, path)): Path<(String, String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    serve(&face, &access, Some(&revision), &path, &method, &headers).await
}

async fn serve(face: &Face, access: &Access, revision: Option<&str>, path: &str, method: &Method, headers: &HeaderMap) -> Answer<Response> {
    access.check_contents(face)?;
    let commit = face.commit(&access.repo, revision).await?;
    let path = RepoPath::new(path).map_err(|_| Refusal::no_file())?;
    let Some(TreeEntry::File(found)) = face.store().entry(commit, &path).await? else { return Err(Refusal::no_file()) };
    if found.lfs {
        let link = face.download_link(headers, found.blob());
        return Ok((StatusCode::FOUND, [(LOCATION, link)]).into_response());
    }
    let etag = found.sha256.to_string();
    let stored = StoredFile { oid: found.sha256, size: found.size, etag: &etag, content_type: "application/octet-stream" };
    Ok(file::answer(face.store(), &stored, method, headers).await?)
}
