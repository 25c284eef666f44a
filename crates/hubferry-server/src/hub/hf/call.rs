//! One request, taken apart: who asks, for which path, with which body.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::super::HubState;
use super::super::body::{BodyFault, JSON_LIMIT, collect};
use super::super::credentials::given_token;
use super::reply::Refusal;
use crate::users::{User, Users};

/// A request on its way to its handler.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) state: HubState,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// The path, decoded, one string per segment.
    pub(super) segments: Vec<String>,
    /// The query, decoded, in order.
    pub(super) query: Vec<(String, String)>,
    /// Who asks; `None` is anonymous. A wrong token never comes this far.
    pub(super) user: Option<User>,
    body: SharedBody,
}

/// The body until a handler takes it. What nobody took is read away before a refusal is answered.
#[derive(Clone, Debug)]
pub(super) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    pub(super) fn take(&self) -> Body {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Call {
    pub(super) fn new(state: HubState, parts: Parts, body: SharedBody) -> Result<Self, Refusal> {
        let segments = parts.uri.path().split('/').filter(|s| !s.is_empty()).map(decode).collect::<Result<Vec<_>, _>>()?;
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes());
        let query = query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        // A signed link needs no user, and clients may send the token along because it is the same origin.
        let signed = segments.get(1).is_some_and(|s| s == "complete_multipart");
        let user = if signed { None } else { authenticate(state.users(), &parts.headers)? };
        Ok(Self { state, method: parts.method, uri: parts.uri, headers: parts.headers, segments, query, user, body })
    }

    /// The first value of a query parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a query parameter, also when it is written `name[]`.
    pub(super) fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch in the query is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.param(name).is_some_and(|v| matches!(v, "true" | "True" | "1"))
    }

    /// A number in the query, at least 1 and at most `most`; `usual` when it is not there.
    pub(super) fn limit(&self, usual: usize, most: usize) -> Result<usize, Refusal> {
        match self.param("limit") {
            None => Ok(usual),
            Some(text) => match text.parse::<usize>() {
                Ok(limit) if limit > 0 => Ok(limit.min(most)),
                _ => Err(Refusal::bad_request("limit must be a positive number")),
            },
        }
    }

    /// The origin under which the client sees this face.
    pub(super) fn origin(&self) -> String {
        HubState::origin(self.state.urls().hf, &self.headers)
    }

    /// Takes the body, for streaming.
    pub(super) fn take_body(&mut self) -> Body {
        self.body.take()
    }

    /// The whole body.
    pub(super) async fn bytes(&mut self) -> Result<Bytes, Refusal> {
        collect(self.take_body(), JSON_LIMIT).await.map_err(|fault| match fault {
            BodyFault::TooLarge(limit) => Refusal::too_large(format!("the request has more than {limit} bytes")),
            BodyFault::Broken(error) => Refusal::from(error),
        })
    }

    /// The body as JSON; an empty body is read as an empty object.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let bytes = self.bytes().await?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        serde_json::from_slice(&bytes).map_err(|e| Refusal::bad_request(format!("invalid JSON: {e}")))
    }
}

fn decode(segment: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| Refusal::bad_request("the URL is not UTF-8"))?;
    Ok(text.into_owned())
}

/// Who sent this. Git clients send the token as a password.
fn authenticate(users: &Users, headers: &HeaderMap) -> Result<Option<User>, Refusal> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(given_token);
    match token.and_then(|token| users.by_token(&token).cloned()) {
        Some(user) => Ok(Some(user)),
        None => Err(Refusal::bad_credentials()),
    }
}
