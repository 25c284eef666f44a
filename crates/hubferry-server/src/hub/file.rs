//! Answers with the bytes of a stored object: conditions, ranges and streaming, the same for every face.

use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use hubferry_core::digest::Oid;
use hubferry_core::error::Result;

use crate::store::Store;

/// What to send.
#[derive(Clone, Debug)]
pub struct StoredFile<'a> {
    /// The object.
    pub oid: Oid,
    /// Its size.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: &'a str,
    /// Its type; never one that a browser would run.
    pub content_type: &'static str,
}

/// Answers a GET or HEAD: 200, 206, 304 or 416, as the request's conditions and range say.
pub async fn answer(store: &Store, file: &StoredFile<'_>, method: &Method, request: &HeaderMap) -> Result<Response> {
    let mut headers = HeaderMap::new();
    let etag = format!("\"{}\"", file.etag);
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches_etag(request, file.etag) {
        return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty()));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    let wanted = request.get(RANGE).filter(|_| if_range_holds(request, &etag)).and_then(|v| v.to_str().ok());
    let (status, range) = match wanted.map_or(Wanted::Whole, |text| parse_range(text, file.size)) {
        Wanted::Whole => (StatusCode::OK, 0..file.size),
        Wanted::Part(range) => {
            headers.insert(CONTENT_RANGE, text(&format!("bytes {}-{}/{}", range.start, range.end - 1, file.size)));
            (StatusCode::PARTIAL_CONTENT, range)
        }
        Wanted::Outside => {
            headers.insert(CONTENT_RANGE, text(&format!("bytes */{}", file.size)));
            return Ok(respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty()));
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let body = if method == Method::HEAD { Body::empty() } else { Body::from_stream(store.open_blob(file.oid, Some(range)).await?.stream) };
    Ok(respond(status, headers, body))
}

/// Whether the client has these very bytes already.
pub fn matches_etag(request: &HeaderMap, etag: &str) -> bool {
    let tags = request.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    tags.map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == etag)
}

fn if_range_holds(request: &HeaderMap, etag: &str) -> bool {
    request.get(IF_RANGE).is_none_or(|v| v.as_bytes() == etag.as_bytes())
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What a range header asks for.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Everything.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that is there.
    Outside,
}

/// One range of bytes. Several ranges, or anything that is not understood, mean the whole, as HTTP allows.
pub(crate) fn parse_range(text: &str, size: u64) -> Wanted {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else { return Wanted::Whole };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if last.contains(',') || !digits(first) || !digits(last) {
        return Wanted::Whole;
    }
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= size => Wanted::Outside,
        (Ok(first), Ok(last)) if last < first => Wanted::Whole,
        (Ok(first), Ok(last)) => Wanted::Part(first..last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) => Wanted::Part(first..size),
        (Err(_), Ok(0)) => Wanted::Outside,
        (Err(_), Ok(_)) if size == 0 => Wanted::Outside,
        (Err(_), Ok(count)) => Wanted::Part(size.saturating_sub(count)..size),
        (Err(_), Err(_)) => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_http() {
        for (text, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-99", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(parse_range(text, 10), wanted, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Wanted::Outside);
        assert_eq!(parse_range("bytes=-5", 0), Wanted::Outside);
    }
}
