//! LFS objects on their way in: which are missing, and taking one.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use hubferry_core::digest::Oid;
use hubferry_core::error::Kind;
use hubferry_core::manifest::Blob;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::body::from_json;
use super::envelope::{Answer, Data, Refusal};
use super::face::Face;

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
pub(super) async fn batch(State(face): State<Face>, access: Access, body: Bytes) -> Answer {
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
    let missing = wanted.iter().filter(|blob| !known.contains(blob)).map(|blob| upload_action(face.base_url(), &access, blob));
    Ok(Data(json!({"objects": missing.collect::<Vec<_>>(), "reused-objects": []})))
}

fn upload_action(base: &str, access: &Access, blob: &Blob) -> Value {
    let (kind, id) = (access.repo.kind.plural(), access.repo.full_name());
    let href = format!("{base}/api/v1/repos/{kind}/{id}/blobs/{}/{}", blob.oid, blob.size);
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
pub(super) async fn upload(
    State(face): State<Face>,
    access: Access,
    Path(address): Path<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    if access.caller.0.is_none() {
        return Err(Refusal::blob_not_signed_in());
    }
    access.writer(&face)?;
    let part = |name: &str| address.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let oid: Oid = part("sha256").parse()?;
    let size: u64 = part("size").parse().map_err(|_| Refusal::invalid("the size in the address is not a number"))?;
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::invalid("an object is uploaded whole"));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != size) {
        return Err(Refusal::invalid(format!("the body does not have the {size} bytes of its address")));
    }
    let blob = Blob { oid, size };
    face.store().put_blob(blob, body.into_data_stream()).await.map_err(|error| match error.kind() {
        Kind::Corrupt => Refusal::invalid(format!("the object does not match its address: {}", error.message())),
        _ => error.into(),
    })?;
    face.store().link_blob(&access.repo, oid).await?;
    Ok(Data(json!({})))
}
