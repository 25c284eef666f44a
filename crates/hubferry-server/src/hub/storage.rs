//! The storage behind signed links: objects out, objects and parts in. It speaks like S3 and asks nobody who they are.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, ETAG, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;

use super::links::Claims;
use super::{HubState, body, file};
use crate::store::Upload;
use crate::testing::ExpiredLink;

/// The first segment of every storage path. No namespace can be called so.
pub const PREFIX: &str = "/-/";

/// A separate storage origin. It refuses requests that carry credentials of another origin, so that a leak is seen.
pub fn router(state: HubState) -> Router {
    Router::new().fallback(strict).with_state(state)
}

async fn strict(State(state): State<HubState>, request: Request) -> Response {
    // Cookies know hosts, not ports: a client that has one for another port of this host cannot but send it.
    let own_host = state.urls().cdn.map(|at| at.ip());
    let cookies_stray = [state.urls().hf, state.urls().ms].into_iter().flatten().any(|face| Some(face.ip()) == own_host);
    if request.headers().contains_key(AUTHORIZATION) || (request.headers().contains_key(COOKIE) && !cookies_stray) {
        body::drain(request.into_body()).await;
        return xml(StatusCode::BAD_REQUEST, "InvalidArgument", "Only one auth mechanism allowed: the link is signed already");
    }
    handle(&state, request).await
}

/// Where an object can be read until the link expires. On the hub's own origin the answer repeats `commit`, because clients follow
/// redirects that stay on the origin and read the metadata there.
pub fn download_link(state: &HubState, origin: &str, blob: Blob, commit: Option<GitOid>) -> String {
    let mut claims = vec![("size", blob.size.to_string())];
    if let Some(commit) = commit.filter(|_| state.urls().cdn.is_none()) {
        claims.push(("commit", commit.to_string()));
    }
    format!("{origin}{}", state.links().sign(&Method::GET, &format!("{PREFIX}objects/{}", blob.oid), &claims))
}

/// Where an object can be read until the link expires. The answer repeats its SHA-256 on any origin, as the storage of ModelScope
/// does.
pub fn hashed_link(state: &HubState, origin: &str, blob: Blob) -> String {
    let claims = [("size", blob.size.to_string()), ("hashed", "1".to_owned())];
    format!("{origin}{}", state.links().sign(&Method::GET, &format!("{PREFIX}objects/{}", blob.oid), &claims))
}

/// Where an object can be put, for the repository with this number.
pub fn upload_link(state: &HubState, origin: &str, repo: i64, blob: Blob) -> String {
    let claims = [("repo", repo.to_string()), ("size", blob.size.to_string())];
    format!("{origin}{}", state.links().sign(&Method::PUT, &format!("{PREFIX}objects/{}", blob.oid), &claims))
}

/// Where one part of a multipart upload can be put.
pub fn part_link(state: &HubState, origin: &str, upload: &Upload, number: u64) -> String {
    format!("{origin}{}", state.links().sign(&Method::PUT, &format!("{PREFIX}uploads/{}/{number}", upload.name), &upload_claims(upload)))
}

/// The claims by which a link carries a multipart upload.
pub fn upload_claims(upload: &Upload) -> [(&'static str, String); 3] {
    [("oid", upload.blob.oid.to_string()), ("size", upload.blob.size.to_string()), ("part", upload.part_size.to_string())]
}

/// The multipart upload a link carries.
pub fn claimed_upload(name: &str, claims: &Claims) -> Result<Upload> {
    let blob = Blob { oid: claims.get("oid")?, size: claims.get("size")? };
    Ok(Upload { name: name.to_owned(), blob, part_size: claims.get("part")? })
}

/// Answers a request below [`PREFIX`].
pub async fn handle(state: &HubState, request: Request) -> Response {
    let (parts, content) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let checked = if parts.extensions.get::<ExpiredLink>().is_some() {
        Err(Error::new(Kind::Changed, "request has expired"))
    } else {
        state.links().check(&parts.method, &path, parts.uri.query().unwrap_or(""))
    };
    let claims = match checked {
        Ok(claims) => claims,
        Err(error) => {
            body::drain(content).await;
            return refuse(&error);
        }
    };
    let segments: Vec<&str> = path.strip_prefix(PREFIX).unwrap_or("").split('/').collect();
    let done = match (&parts.method, segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["objects", oid]) => get_object(state, oid, &claims, &parts.method, &parts.headers).await,
        (&Method::PUT, ["objects", oid]) => put_object(state, oid, &claims, &parts.headers, content).await,
        (&Method::PUT, ["uploads", name, number]) => put_part(state, (name, number), &claims, &parts.headers, content).await,
        _ => Err(Error::not_found("the specified key does not exist")),
    };
    done.unwrap_or_else(|error| refuse(&error))
}

async fn get_object(state: &HubState, oid: &str, claims: &Claims, method: &Method, headers: &HeaderMap) -> Result<Response> {
    let oid: Oid = oid.parse()?;
    let size: u64 = claims.get("size")?;
    // Not the SHA-256: the storage behind the real hubs has tags of its own, and nobody should come to rely on them.
    let etag = format!("{:.32}-1", Oid::of(oid.to_string().as_bytes()));
    let stored = file::StoredFile { oid, size, etag: &etag, content_type: "application/octet-stream" };
    let mut response = file::answer(state.store(), &stored, method, headers).await?;
    if let Ok(commit) = claims.get::<GitOid>("commit") {
        for (name, value) in
            [("x-repo-commit", commit.to_string()), ("x-linked-etag", format!("\"{oid}\"")), ("x-linked-size", size.to_string())]
        {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
    if claims.get::<u8>("hashed").is_ok()
        && let Ok(value) = HeaderValue::from_str(&format!("\"{oid}\""))
    {
        response.headers_mut().insert("x-linked-etag", value);
    }
    Ok(response)
}

async fn put_object(state: &HubState, oid: &str, claims: &Claims, headers: &HeaderMap, content: Body) -> Result<Response> {
    let blob = Blob { oid: oid.parse()?, size: claims.get("size")? };
    check_length(headers, blob.size)?;
    let repo = state.store().find_repo_by_number(claims.get("repo")?).await?;
    let repo = repo.ok_or_else(|| Error::not_found("the specified bucket does not exist"))?;
    state.store().put_blob(blob, content.into_data_stream()).await?;
    state.store().link_blob(&repo, blob.oid).await?;
    Ok(with_etag(&blob.oid.to_string()))
}

async fn put_part(state: &HubState, at: (&str, &str), claims: &Claims, headers: &HeaderMap, content: Body) -> Result<Response> {
    let upload = claimed_upload(at.0, claims)?;
    let number = at.1.parse().map_err(|_| Error::invalid("the part number is no number"))?;
    if headers.get(TRANSFER_ENCODING).is_some() {
        check_length(headers, 0)?;
    }
    let tag = state.store().put_part(&upload, number, content.into_data_stream()).await?;
    Ok(with_etag(&tag))
}

/// S3 wants to know the length before; so do we, because a lie is refused before a byte is written.
fn check_length(headers: &HeaderMap, size: u64) -> Result<()> {
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    match length {
        None => Err(Error::new(Kind::Unsupported, "you must provide the Content-Length HTTP header")),
        Some(length) if length == size => Ok(()),
        Some(length) => Err(Error::invalid(format!("the object has {size} bytes, not {length}"))),
    }
}

fn with_etag(tag: &str) -> Response {
    let mut response = StatusCode::OK.into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

fn refuse(error: &Error) -> Response {
    let message = error.to_string();
    let (status, code) = match error.kind() {
        Kind::Denied => (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"),
        Kind::Changed => return xml(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "NoSuchKey"),
        Kind::Corrupt => (StatusCode::BAD_REQUEST, "BadDigest"),
        Kind::Unsupported => (StatusCode::LENGTH_REQUIRED, "MissingContentLength"),
        Kind::Invalid => (StatusCode::BAD_REQUEST, "InvalidRequest"),
        Kind::Unavailable => (StatusCode::BAD_REQUEST, "RequestTimeout"),
        _ => {
            tracing::error!(%error, "storage failed");
            let full = error.hint_text().is_some();
            let status = if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR };
            return xml(status, "InternalError", "We encountered an internal error. Please try again.");
        }
    };
    xml(status, code, &message)
}

fn xml(status: StatusCode, code: &str, message: &str) -> Response {
    let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    (status, [(CONTENT_TYPE, "application/xml")], text).into_response()
}
