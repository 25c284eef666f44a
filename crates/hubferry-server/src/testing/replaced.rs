//! An object that is another one now: other bytes under another tag, as after a replacement behind the same address.

use std::io;
use std::ops::Range;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::play::handle;
use crate::hub::file::{Wanted, parse_range};

/// Answers for the other object, which has `size` bytes, or as many as the real one.
pub(super) async fn answer(router: Router, mut request: Request, size: Option<u64>) -> io::Result<Response> {
    let headers = request.headers_mut();
    let range = headers.remove(RANGE);
    let (pinned, ranged_if) = (headers.remove(IF_MATCH).is_some(), headers.remove(IF_RANGE).is_some());
    let real = handle(router, request).await;
    if real.status() != StatusCode::OK {
        return Ok(real);
    }
    if pinned {
        return Ok(status(StatusCode::PRECONDITION_FAILED, real));
    }
    let length = real.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let size = size.or(length).unwrap_or(0);
    let wanted = range.filter(|_| !ranged_if).and_then(|value| value.to_str().ok().map(|text| parse_range(text, size)));
    let mut response = match wanted.unwrap_or(Wanted::Whole) {
        Wanted::Whole => filled(StatusCode::OK, real, 0..size),
        Wanted::Part(part) => {
            let label = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            labelled(filled(StatusCode::PARTIAL_CONTENT, real, part), &label)
        }
        Wanted::Outside => labelled(status(StatusCode::RANGE_NOT_SATISFIABLE, real), &format!("bytes */{size}")),
    };
    response.headers_mut().insert(ETAG, HeaderValue::from_static("\"another\""));
    Ok(response)
}

fn status(status: StatusCode, real: Response) -> Response {
    let mut response = real.map(|_| Body::empty());
    *response.status_mut() = status;
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

fn filled(code: StatusCode, real: Response, part: Range<u64>) -> Response {
    let mut response = status(code, real);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    response.map(|_| content(part))
}

fn labelled(mut response: Response, range: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(range) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

/// The other object's bytes.
fn content(part: Range<u64>) -> Body {
    const PIECE: u64 = 64 << 10;
    let starts = std::iter::successors(Some(part.start), |at| Some(at + PIECE)).take_while(move |at| *at < part.end);
    let pieces = starts.map(move |at| {
        let piece = at..part.end.min(at + PIECE);
        Ok::<_, io::Error>(piece.map(|n| u8::try_from(n % 251).unwrap_or(0)).collect::<Bytes>())
    });
    Body::from_stream(stream::iter(pieces))
}
