//! LFS objects on their way in: which are missing, and taking one.

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use hubferry_core::error::Kind;
use hubferry_core::manifest::Blob;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::envelope::{Answer, Data, Refusal};
use super::face::Face;
use super::fields::from_json;
use crate::hub::body;
use crate::store::Repo;

/// Most objects one question may name.
const MAX_OBJECTS: usize = 1000;

#[derive(Deserialize)]
struct Batch {
    operation: String,
    objects: Vec<Claimed>,
}

#[derive(Deserialize)]
struct Claimed {
    oid: String,
    size: u64,
}

/// `POST …/info/lfs/objects/batch`: names the objects to upload. One that the hub has for any repository, with this size, is left
/// out of the answer.
pub(super) async fn batch(State(face): State<Face>, access: Access, headers: HeaderMap, body: Bytes) -> Answer {
    access.writer(&face)?;
    let batch: Batch = from_json(&body)?;
    if batch.operation != "upload" {
        return Err(Refusal::invalid(format!("unknown operation {:?}", batch.operation)));
    }
    if batch.objects.len() > MAX_OBJECTS {
        return Err(Refusal::invalid(format!("more than {MAX_OBJECTS} objects")));
    }
    let mut wanted: Vec<Blob> = Vec::with_capacity(batch.objects.len());
    for claimed in batch.objects {
        let blob = Blob { oid: claimed.oid.parse()?, size: claimed.size };
        if !wanted.contains(&blob) {
            wanted.push(blob);
        }
    }
    let known = face.store().known(&wanted).await?;
    let origin = face.origin(&headers);
    let missing = wanted.iter().filter(|blob| !known.contains(blob)).map(|blob| upload_action(&origin, &access, blob));
    Ok(Data(json!({"objects": missing.collect::<Vec<_>>(), "reused-objects": []})))
}

fn upload_action(origin: &str, access: &Access, blob: &Blob) -> Value {
    let (kind, id) = (access.repo.kind.plural(), access.repo.full_name());
    let href = format!("{origin}/api/v1/repos/{kind}/{id}/blobs/{}/{}", blob.oid, blob.size);
    json!({
        "oid": blob.oid,
        "size": blob.size,
        "actions": {"upload": {
            "href": href,
            "offset": 0,
            "upload_header": {"Range": "bytes=0-"},
            "upload_parameters": {},
        }},
    })
}

/// `PUT …/blobs/{sha256}/{size}`: takes one whole object. It is kept only when it has the size and the hash of its address.
pub(super) async fn upload(State(face): State<Face>, request: Request) -> Answer {
    let (mut parts, content) = request.into_parts();
    let (repo, blob) = match admit(&face, &mut parts).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            body::drain(content).await;
            return Err(refusal);
        }
    };
    face.store().put_blob(blob, content.into_data_stream()).await.map_err(|error| match error.kind() {
        Kind::Corrupt => Refusal::invalid(format!("the object does not match its address: {}", error.message())),
        _ => error.into(),
    })?;
    face.store().link_blob(&repo, blob.oid).await?;
    Ok(Data(json!({})))
}

/// Everything that can be refused before the body is read.
async fn admit(face: &Face, parts: &mut Parts) -> Answer<(Repo, Blob)> {
    let access = Access::from_request_parts(parts, face).await?;
    if access.caller.0.is_none() {
        return Err(Refusal::blob_not_signed_in());
    }
    access.writer(face)?;
    let not_found = |_| Refusal::no_route();
    let Path((_, _, _, sha256, size)): Path<(String, String, String, String, String)> =
        Path::from_request_parts(parts, face).await.map_err(not_found)?;
    let size = size.parse().map_err(|_| Refusal::invalid("the size in the address is not a number"))?;
    let blob = Blob { oid: sha256.parse()?, size };
    if parts.headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::invalid("an object is uploaded whole"));
    }
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != size) {
        return Err(Refusal::invalid(format!("the body does not have the {size} bytes of its address")));
    }
    Ok((access.repo, blob))
}
