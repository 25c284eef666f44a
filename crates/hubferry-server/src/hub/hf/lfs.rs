//! Git LFS: which objects to send where, in one piece or in parts, and whether they arrived.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::digest::Oid;
use hubferry_core::error::Kind;
use hubferry_core::manifest::Blob;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::git::lfs::{Batch, Object, downloads, no_oid, reply};
use super::super::storage::{claimed_upload, part_link, upload_claims, upload_link};
use super::access::{Target, Want, prefix};
use super::call::Call;
use super::reply::Refusal;
use crate::store::{Repo, Upload};

/// What S3 takes; larger files get larger parts.
const MOST_PARTS: u64 = 10_000;

/// `POST /{id}.git/info/lfs/objects/batch`
pub(super) async fn batch(mut call: Call, target: Target) -> Result<Response, Refusal> {
    let wanted: Batch = call.json().await?;
    let upload = match wanted.operation.as_str() {
        "upload" => true,
        "download" => false,
        other => return Err(Refusal::bad_request(format!("unknown operation {other:?}"))),
    };
    let repo = target.open(&call, if upload { Want::Write } else { Want::Read }).await?;
    if let Some((status, message)) = wanted.fault() {
        return Err(Refusal::new(status, message));
    }
    if !upload {
        return Ok(downloads(&call.state, &repo, &wanted, &storage_origin(&call)).await?);
    }
    let blobs = wanted.blobs();
    let known = call.state.store().linked(&repo, &blobs.iter().flatten().copied().collect::<Vec<_>>()).await?;
    let parts = wanted.transfers.iter().any(|t| t == "multipart");
    let mut multipart = false;
    let mut objects = Vec::with_capacity(blobs.len());
    for (object, blob) in wanted.objects.iter().zip(blobs) {
        let mut answer = json!({ "oid": object.oid, "size": object.size });
        match blob {
            None => answer["error"] = no_oid(),
            Some(blob) if known.contains(&blob) => {}
            Some(blob) => {
                let in_parts = parts && blob.size > call.state.part_size();
                multipart |= in_parts;
                answer["actions"] = upload_actions(&call, &repo, blob, in_parts).await?;
            }
        }
        objects.push(answer);
    }
    let transfer = if multipart { "multipart" } else { "basic" };
    Ok(reply(StatusCode::OK, &json!({ "transfer": transfer, "objects": objects, "hash_algo": "sha256" })))
}

fn storage_origin(call: &Call) -> String {
    call.state.storage_origin(call.state.urls().hf, &call.headers)
}

async fn upload_actions(call: &Call, repo: &Repo, blob: Blob, in_parts: bool) -> Result<Value, Refusal> {
    let verify = format!("{}/{}{}.git/info/lfs/objects/verify", call.origin(), prefix(repo.kind), repo.full_name());
    let upload = if in_parts {
        parts_action(call, repo, blob).await?
    } else {
        json!({ "href": upload_link(&call.state, &storage_origin(call), repo.id, blob) })
    };
    Ok(json!({ "upload": upload, "verify": { "href": verify } }))
}

async fn parts_action(call: &Call, repo: &Repo, blob: Blob) -> Result<Value, Refusal> {
    let part_size = call.state.part_size().max(blob.size.div_ceil(MOST_PARTS));
    let upload = call.state.store().begin_upload(blob, part_size).await?;
    let origin = storage_origin(call);
    let mut header = Map::new();
    header.insert("chunk_size".to_owned(), part_size.to_string().into());
    for number in 1..=upload.parts() {
        header.insert(format!("{number:05}"), part_link(&call.state, &origin, &upload, number).into());
    }
    Ok(json!({ "href": complete_link(call, repo, &upload), "header": header }))
}

const COMPLETE: &str = "/api/complete_multipart";

fn complete_link(call: &Call, repo: &Repo, upload: &Upload) -> String {
    let mut claims = vec![("uploadId", upload.name.clone()), ("repo", repo.id.to_string())];
    claims.extend(upload_claims(upload));
    format!("{}{}", call.origin(), call.state.links().sign(&Method::POST, COMPLETE, &claims))
}

#[derive(Deserialize)]
struct Complete {
    oid: Oid,
    parts: Vec<PartTag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartTag {
    part_number: u64,
    etag: String,
}

/// `POST /api/complete_multipart`: allowed by its signature. Said twice, it is answered twice: the first answer may have been lost.
pub(super) async fn complete(mut call: Call) -> Result<Response, Refusal> {
    let query = call.uri.query().unwrap_or("").to_owned();
    let claims = call.state.links().check(&Method::POST, COMPLETE, &query).map_err(|error| match error.kind() {
        Kind::Changed | Kind::Denied => Refusal::new(StatusCode::FORBIDDEN, error.to_string()),
        _ => Refusal::from(error),
    })?;
    let upload = claimed_upload(&claims.get::<String>("uploadId")?, &claims)?;
    let wanted: Complete = call.json().await?;
    if wanted.oid != upload.blob.oid {
        return Err(Refusal::bad_request("the oid is not that of the upload"));
    }
    let store = call.state.store();
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "the repository does not exist any more");
    let repo = store.find_repo_by_number(claims.get("repo")?).await?.ok_or_else(gone)?;
    let tags: Vec<(u64, String)> = wanted.parts.into_iter().map(|p| (p.part_number, p.etag)).collect();
    store.complete_upload(&repo, &upload, tags).await?;
    Ok(axum::Json(json!({ "success": true })).into_response())
}

/// `POST /{id}.git/info/lfs/objects/verify`
pub(super) async fn verify(mut call: Call, target: Target) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let object: Object = call.json().await?;
    let blob = Blob { oid: object.oid.parse()?, size: object.size };
    if call.state.store().linked(&repo, &[blob]).await?.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "Object does not exist, or has another size"));
    }
    Ok(reply(StatusCode::OK, &json!({ "success": true })))
}
