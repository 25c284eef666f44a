//! Git LFS downloads: where the objects of a repository can be read. Uploads are a matter of each face.
//!
//! Known from the batch API of Git LFS.

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::digest::Oid;
use hubferry_core::error::Result;
use hubferry_core::manifest::Blob;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::HubState;
use super::super::body::drain;
use super::super::storage::download_link;
use super::Route;
use super::access::{CHALLENGE, Refusal, open, read_body};
use crate::store::Repo;

/// Most objects of one request.
pub(in crate::hub) const MOST_OBJECTS: usize = 1000;
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");
/// How a Git LFS client that was not let in is told to show a token.
pub(in crate::hub) const CHALLENGES: [(HeaderName, &str); 2] =
    [(WWW_AUTHENTICATE, CHALLENGE), (HeaderName::from_static("lfs-authenticate"), CHALLENGE)];

/// A question about objects.
#[derive(Deserialize, Debug)]
pub(in crate::hub) struct Batch {
    pub(in crate::hub) operation: String,
    #[serde(default)]
    pub(in crate::hub) transfers: Vec<String>,
    pub(in crate::hub) objects: Vec<Object>,
    #[serde(default)]
    pub(in crate::hub) hash_algo: Option<String>,
}

/// One object as a client names it.
#[derive(Deserialize, Debug)]
pub(in crate::hub) struct Object {
    pub(in crate::hub) oid: String,
    pub(in crate::hub) size: u64,
}

impl Batch {
    /// What the objects are; `None` for what cannot be an object.
    pub(in crate::hub) fn blobs(&self) -> Vec<Option<Blob>> {
        self.objects.iter().map(|object| Some(Blob { oid: object.oid.parse::<Oid>().ok()?, size: object.size })).collect()
    }

    /// Why this cannot be answered, if it cannot.
    pub(in crate::hub) fn fault(&self) -> Option<(StatusCode, String)> {
        if self.hash_algo.as_deref().is_some_and(|algo| algo != "sha256") {
            return Some((StatusCode::CONFLICT, "the only hash algorithm is sha256".to_owned()));
        }
        let too_many = self.objects.len() > MOST_OBJECTS;
        too_many.then(|| (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MOST_OBJECTS} objects per request")))
    }
}

/// What is said of an id that is none.
pub(in crate::hub) fn no_oid() -> Value {
    json!({ "code": 422, "message": "the oid is not a sha256" })
}

/// Where each object can be read. One that does not belong to the repository, or has another size there, does not exist.
pub(in crate::hub) async fn downloads(hub: &HubState, repo: &Repo, batch: &Batch, origin: &str) -> Result<Response> {
    let blobs = batch.blobs();
    let known = hub.store().linked(repo, &blobs.iter().flatten().copied().collect::<Vec<_>>()).await?;
    let objects = batch.objects.iter().zip(blobs).map(|(object, blob)| {
        let mut answer = json!({ "oid": object.oid, "size": object.size });
        match blob {
            None => answer["error"] = no_oid(),
            Some(blob) if !known.contains(&blob) => answer["error"] = json!({ "code": 404, "message": "Object does not exist" }),
            Some(blob) => {
                // The link is signed: a client must not send its token along, which a separate storage origin would refuse.
                answer["authenticated"] = true.into();
                answer["actions"] = json!({ "download": { "href": download_link(hub, origin, blob, None) } });
            }
        }
        answer
    });
    Ok(reply(StatusCode::OK, &json!({ "transfer": "basic", "objects": objects.collect::<Vec<_>>(), "hash_algo": "sha256" })))
}

/// An answer in the type of the batch API.
pub(in crate::hub) fn reply(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    response
}

/// `POST ….git/info/lfs/objects/batch` where only downloads are answered.
pub(super) async fn batch(hub: &HubState, route: &Route, headers: &HeaderMap, body: Body) -> Response {
    match answer(hub, route, headers, body).await {
        Ok(response) => response,
        Err(refusal) => {
            let mut response = reply(refusal.status, &json!({ "message": refusal.message }));
            if refusal.status == StatusCode::UNAUTHORIZED {
                response.headers_mut().extend(CHALLENGES.map(|(name, value)| (name, HeaderValue::from_static(value))));
            }
            response
        }
    }
}

async fn answer(hub: &HubState, route: &Route, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let repo = match open(hub, route, headers).await {
        Ok(repo) => repo,
        Err(refusal) => {
            drain(body).await;
            return Err(refusal);
        }
    };
    let body = read_body(body, None).await?;
    let batch: Batch =
        serde_json::from_slice(&body).map_err(|e| Refusal { status: StatusCode::BAD_REQUEST, message: format!("invalid JSON: {e}") })?;
    if let Some((status, message)) = batch.fault() {
        return Err(Refusal { status, message });
    }
    if batch.operation != "download" {
        return Err(Refusal::no_uploads());
    }
    let origin = hub.storage_origin(hub.urls().ms, headers);
    Ok(downloads(hub, &repo, &batch, &origin).await?)
}
