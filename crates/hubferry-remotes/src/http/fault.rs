//! How failures of a request become errors: refusals by status, lost connections, and what may be said about either.

use std::sync::Arc;

use hubferry_core::error::{Error, Kind, Retry};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::pause::asked_wait;

/// An answer with a status of 400 or more, as a [`Classifier`] sees it.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// Method of the request.
    pub method: &'a Method,
    /// URL that answered.
    pub url: &'a Url,
    /// The status.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: &'a HeaderMap,
    /// The beginning of the body; our own secrets are cut out.
    pub body: &'a str,
}

/// Turns a refusal into the error it means on one hub; `None` leaves it to the default table. Method, URL, status, request id
/// and waiting time are added afterwards.
pub type Classifier = Arc<dyn Fn(&Refusal<'_>) -> Option<Error> + Send + Sync>;

impl Refusal<'_> {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON, when it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(self.body).ok()
    }

    /// What the server says about it, on one line and not too long.
    pub fn message(&self) -> Option<String> {
        let found = self.json().as_ref().and_then(message_of);
        let text = match found {
            Some(text) => text,
            None if self.body.trim_start().starts_with(['<', '{', '[']) => return None,
            None => self.body.to_owned(),
        };
        let text = clean(&text, 300);
        (!text.is_empty()).then_some(text)
    }

    /// The error this is, whatever the hub.
    fn default_error(&self) -> Error {
        let (kind, retry) = class(self.status);
        let mut text = format!("the server answered {}", self.status);
        if let Some(message) = self.message() {
            text = format!("{text}: {message}");
        }
        let error = Error::new(kind, text).retry_as(retry);
        match self.status.as_u16() {
            407 => error.hint("the proxy wants credentials: set HTTPS_PROXY to http://user:password@host:port"),
            416 => error.hint("the file there is shorter than listed, or another one by now: run the same command again"),
            507 => error.hint("the server is out of space: tell who runs it"),
            _ => error,
        }
    }

    /// The classified error with everything that is known about the request.
    pub(super) fn error(&self, classify: Option<&Classifier>, repeatable: bool) -> Error {
        let mut error = classify.and_then(|classify| classify(self)).unwrap_or_else(|| self.default_error());
        if let Some(wait) = asked_wait(self.headers)
            && error.retry() == Retry::Backoff
        {
            error = error.retry_as(Retry::After(wait));
        }
        // A gateway that gave up, or a server that failed half-way, may have done the work all the same.
        if !repeatable && self.status.is_server_error() && !matches!(self.status.as_u16(), 501 | 505 | 507) {
            error = error.ambiguous();
        }
        let error = located(error, self.method, self.url).context("status", self.status.as_u16());
        match request_id(self.headers) {
            Some(id) => error.context("request_id", id),
            None => error,
        }
    }
}

/// The kind and retry class that a status has on any server.
fn class(status: StatusCode) -> (Kind, Retry) {
    match status.as_u16() {
        401 | 407 => (Kind::Unauthenticated, Retry::No),
        402 | 403 | 451 => (Kind::Denied, Retry::No),
        404 | 410 => (Kind::NotFound, Retry::No),
        405 | 501 | 505 => (Kind::Unsupported, Retry::No),
        409 | 412 | 423 => (Kind::Conflict, Retry::No),
        // Nobody asks for a range that the listing does not promise: one of the servers behind the name is behind the others.
        416 => (Kind::Invalid, Retry::Backoff),
        429 => (Kind::RateLimited, Retry::Backoff),
        507 => (Kind::Unavailable, Retry::No),
        408 | 425 | 500.. => (Kind::Unavailable, Retry::Backoff),
        _ => (Kind::Invalid, Retry::No),
    }
}

/// Finds the sentence in the error bodies that hubs and gateways send.
fn message_of(body: &Value) -> Option<String> {
    match body {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().filter_map(message_of).map(|text| text.trim().to_owned()).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(fields) => {
            ["error", "errors", "message", "Message", "msg", "detail"].iter().find_map(|name| fields.get(*name).and_then(message_of))
        }
        _ => None,
    }
}

/// Text of a stranger on one line: control characters become blanks, blanks are joined, and the length is bounded.
pub fn clean(text: &str, most: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > most {
        line = line.chars().take(most).chain("...".chars()).collect();
    }
    line
}

/// Adds method and URL.
pub(super) fn located(error: Error, method: &Method, url: &Url) -> Error {
    error.context("method", method).context("url", safe_url(url))
}

/// A URL that may be shown: without user, password, query and fragment, because signatures and cursors live there.
pub fn safe_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both only fail for URLs that cannot have a user at all.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

/// The id that the operators of the server can look up.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "x-amzn-trace-id", "x-amz-cf-id", "x-amz-request-id"]
        .iter()
        .find_map(|name| headers.get(*name))
        .and_then(|value| value.to_str().ok())
        .map(|id| clean(id, 120))
}

/// A request that got no answer. `sent` tells whether the server may have seen it.
pub(super) fn lost(error: reqwest::Error, method: &Method, url: &Url, repeatable: bool) -> Error {
    let error = error.without_url();
    let never_sent = error.is_connect() || error.is_builder();
    let what = if error.is_builder() {
        return located(Error::invalid("the request cannot be sent").caused_by(error), method, url);
    } else if error.is_connect() {
        "cannot connect"
    } else if error.is_timeout() {
        "the server took too long"
    } else {
        "the connection broke"
    };
    let failure = located(Error::new(Kind::Unavailable, what).caused_by(error), method, url);
    let failure = if failure.cause_text().is_some_and(|text| text.contains("certificate")) {
        failure
            .retry_as(Retry::No)
            .hint("the certificate of the server, or of a proxy between, is not trusted here: point SSL_CERT_FILE at the CA certificate")
    } else {
        failure
    };
    let failure =
        if never_sent { failure.hint("check the address of the hub, the network and the proxy with `hubferry doctor`") } else { failure };
    if never_sent || repeatable { failure } else { failure.ambiguous() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(status: u16, headers: &[(&'static str, &str)], body: &str, repeatable: bool) -> Error {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let url = Url::parse("https://u:p@h.example/a/b?X-Amz-Signature=abc#f").unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        Refusal { method: &Method::POST, url: &url, status, headers: &map, body }.error(None, repeatable)
    }

    #[test]
    fn statuses_mean_what_the_table_says() {
        for (status, kind, again) in [
            (400, Kind::Invalid, false),
            (401, Kind::Unauthenticated, false),
            (403, Kind::Denied, false),
            (404, Kind::NotFound, false),
            (408, Kind::Unavailable, true),
            (409, Kind::Conflict, false),
            (412, Kind::Conflict, false),
            (413, Kind::Invalid, false),
            (416, Kind::Invalid, true),
            (429, Kind::RateLimited, true),
            (500, Kind::Unavailable, true),
            (501, Kind::Unsupported, false),
            (503, Kind::Unavailable, true),
            (507, Kind::Unavailable, false),
            (520, Kind::Unavailable, true),
        ] {
            let error = refuse(status, &[], "", true);
            assert_eq!((error.kind(), error.retry() != Retry::No), (kind, again), "{status}");
            assert!(!error.is_ambiguous());
        }
        assert!(refuse(502, &[], "", false).is_ambiguous());
        assert!(!refuse(429, &[], "", false).is_ambiguous());
    }

    #[test]
    fn shows_the_message_and_the_place_but_no_secret() {
        let error = refuse(400, &[("x-request-id", "r-1")], r#"{"error":["one\n","two"]}"#, true);
        assert_eq!(
            error.to_string(),
            "the server answered 400 Bad Request: one; two (method POST, url https://h.example/a/b, status 400, request_id r-1)"
        );
        assert!(refuse(400, &[], r#"{"errors":[{"message":"deep"}]}"#, true).to_string().contains("deep"));
        assert!(!refuse(502, &[], "<html>x</html>", true).to_string().contains("html"));
        let long = refuse(400, &[], &"\u{1b}[31m x".repeat(1000), true).message().to_owned();
        assert!(long.len() < 400 && !long.contains('\u{1b}'));
    }

    #[test]
    fn a_wait_is_kept_only_where_waiting_helps() {
        let after = |status| refuse(status, &[("retry-after", "9")], "", true).retry();
        assert_eq!(after(429), Retry::After(std::time::Duration::from_secs(9)));
        assert_eq!(after(503), Retry::After(std::time::Duration::from_secs(9)));
        assert_eq!(after(404), Retry::No);
    }
}
