//! Answers as the Hugging Face Hub gives them: errors with their code in a header, request ids, rate limits, links to next pages.

use axum::http::header::{LINK, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hubferry_core::error::{Error, Kind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::git::lfs;
use crate::store::random_name;

/// A request that is not done, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Option<&'static str>,
    message: String,
    headers: Vec<(HeaderName, String)>,
    extra: Vec<(&'static str, Value)>,
}

const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, message: message.into(), headers: Vec::new(), extra: Vec::new() }
    }

    fn coded(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::new(status, message) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Sorry, we can't find the page you are looking for.")
    }

    /// The exact sentence by which clients tell a wrong token from a hidden repository.
    pub(super) fn bad_credentials() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid credentials in Authorization header")
    }

    /// A repository that is not there, or that must look as if it were not.
    pub(super) fn no_repository(known_user: bool, name: &str) -> Self {
        if known_user {
            Self::coded(StatusCode::NOT_FOUND, "RepoNotFound", "Repository not found")
        } else {
            tracing::debug!(name, "unknown or hidden repository");
            Self::coded(StatusCode::UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")
        }
    }

    pub(super) fn no_revision(rev: &str) -> Self {
        Self::coded(StatusCode::NOT_FOUND, "RevisionNotFound", format!("Invalid rev id: {rev}"))
    }

    pub(super) fn no_entry(commit: Option<String>) -> Self {
        let mut refusal = Self::coded(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found");
        refusal.headers.extend(commit.map(|commit| (REPO_COMMIT, commit)));
        refusal
    }

    /// A path a commit wants to delete is not there.
    pub(super) fn no_file(message: &str) -> Self {
        Self::coded(StatusCode::NOT_FOUND, "EntryNotFound", message)
    }

    pub(super) fn gated(known_user: bool, name: &str) -> Self {
        let status = if known_user { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
        Self::coded(status, "GatedRepo", format!("Access to {name} is restricted and you are not in the authorized list"))
    }

    pub(super) fn no_xet() -> Self {
        Self::new(StatusCode::NOT_FOUND, "This hub has no Xet storage: set HF_HUB_DISABLE_XET=1 in the client's environment")
    }

    /// The repository has another name by now, or is written differently.
    pub(super) fn moved(location: String) -> Self {
        let mut refusal = Self::new(StatusCode::TEMPORARY_REDIRECT, format!("Temporary Redirect. Redirecting to {location}"));
        refusal.headers.push((LOCATION, location));
        refusal
    }

    /// The same for Git LFS, which shows another field and has to be asked for a token.
    pub(super) fn for_git_lfs(mut self) -> Self {
        if self.status == StatusCode::UNAUTHORIZED {
            self.headers.extend(lfs::CHALLENGES.map(|(name, value)| (name, value.to_owned())));
        }
        let message = self.message.clone();
        self.with("message", message)
    }

    /// Adds a field to the body.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    pub(super) fn respond(self) -> Response {
        let mut body = json!({ "error": self.message });
        for (name, value) in self.extra {
            body[name] = value;
        }
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            set(headers, name, &value);
        }
        if let Some(code) = self.code {
            headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        if self.status.as_u16() >= 400 {
            set(headers, ERROR_MESSAGE, &self.message);
        }
        response
    }
}

/// Sets a header; what cannot be one is made plain before.
pub(super) fn set(headers: &mut axum::http::HeaderMap, name: HeaderName, value: &str) {
    let plain: String = value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&plain) {
        headers.insert(name, value);
    }
}

/// What the store refused. Handlers that know more (a path, a revision) say it themselves before it comes to this.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Denied | Kind::Gated => StatusCode::FORBIDDEN,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Corrupt | Kind::Invalid | Kind::Unsupported | Kind::Unavailable => StatusCode::BAD_REQUEST,
            Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => {
                tracing::error!(%error, "a request failed");
                let full = error.hint_text().is_some();
                let status = if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR };
                return Self::new(status, "Internal Error - We're working hard to fix this as soon as possible!");
            }
        };
        let message = match error.hint_text() {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        };
        Self::new(status, message)
    }
}

/// What every answer carries: an id to ask about, and limits that nobody will reach.
pub(super) fn finish(mut response: Response, resolver: bool) -> Response {
    let bucket = if resolver { "resolvers" } else { "api" };
    let headers = response.headers_mut();
    let id = random_name().unwrap_or_default();
    set(headers, HeaderName::from_static("x-request-id"), &format!("Root=1-{:.8}-{}", id, id.get(8..).unwrap_or_default()));
    set(headers, HeaderName::from_static("ratelimit"), &format!("\"{bucket}\";r=1000000;t=300"));
    set(headers, HeaderName::from_static("ratelimit-policy"), &format!("\"fixed window\";\"{bucket}\";q=1000000;w=300"));
    response
}

/// JSON with the address of the next page, if there is one.
pub(super) fn page(body: &Value, next: Option<String>) -> Response {
    let mut response = axum::Json(body).into_response();
    if let Some(next) = next {
        set(response.headers_mut(), LINK, &format!("<{next}>; rel=\"next\""));
    }
    response
}

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes a value of a query.
pub(super) fn quoted(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Seconds since 1970 as the Hub writes times: `2024-01-31T12:00:00.000Z`.
pub(super) fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_hub_writes_them() {
        assert_eq!(date(1_700_000_000), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn messages_fit_into_headers() {
        let response = Refusal::bad_request("ü\nX-Evil: 1").respond();
        assert_eq!(response.headers()[ERROR_MESSAGE], "??X-Evil: 1");
    }
}
