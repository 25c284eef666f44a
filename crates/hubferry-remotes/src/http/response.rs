//! An answer: its headers, its JSON within bounds, and what is said when it is something else.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::ByteStream;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::credential::Credential;
use super::fault::{clean, located, lost, request_id};
use super::{Http, stream};

/// An answer whose body is still on the way.
pub struct Response {
    pub(super) http: Http,
    method: Method,
    url: Url,
    inner: reqwest::Response,
    secrets: Option<Credential>,
}

impl Response {
    pub(super) fn new(http: &Http, method: Method, url: Url, inner: reqwest::Response, secrets: Option<Credential>) -> Self {
        Self { http: http.clone(), method, url, inner, secrets }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Every header.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// One header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The URL that answered, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where a redirect that was not followed leads.
    pub fn location(&self) -> Option<Url> {
        self.status().is_redirection().then(|| self.url.join(self.header(LOCATION.as_str())?).ok()).flatten()
    }

    /// An error about this answer, with its place.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        let error = located(Error::new(kind, message), &self.method, &self.url).context("status", self.status().as_u16());
        match request_id(self.headers()) {
            Some(id) => error.context("request_id", id),
            None => error,
        }
    }

    /// The next piece of the body, or `Unavailable` after too long without a byte.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let idle = self.http.config().idle_timeout;
        let waiting = self.http.waiting();
        match tokio::time::timeout(idle, self.inner.chunk()).await {
            Ok(Ok(chunk)) => {
                waiting.end();
                Ok(chunk)
            }
            Ok(Err(error)) => Err(lost(error, &self.method, &self.url, true)),
            Err(_) => Err(self.error(Kind::Unavailable, format!("no byte came for {} s", idle.as_secs()))),
        }
    }

    /// Refuses a body that was encoded although only the content itself was asked for.
    pub(super) fn check_encoding(&self) -> Result<()> {
        match self.header(CONTENT_ENCODING.as_str()) {
            None => Ok(()),
            Some(encoding) if encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity") => Ok(()),
            Some(encoding) => Err(self
                .error(Kind::Invalid, format!("the answer is encoded as {:?} although that was not asked for", clean(encoding, 40)))
                .hint("a proxy between may compress answers: exempt this server from it")),
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes> {
        self.check_encoding()?;
        self.collect(limit).await
    }

    async fn collect(&mut self, limit: usize) -> Result<Bytes> {
        let announced = self.inner.content_length().unwrap_or(0);
        let mut body = BytesMut::new();
        if announced <= limit as u64 {
            while let Some(chunk) = self.chunk().await? {
                if body.len() + chunk.len() > limit {
                    return Err(self.too_large(limit));
                }
                body.extend_from_slice(&chunk);
            }
            return Ok(body.freeze());
        }
        Err(self.too_large(limit))
    }

    fn too_large(&self, limit: usize) -> Error {
        self.error(Kind::Invalid, format!("the answer is larger than the {limit} bytes that are taken"))
    }

    /// The body as JSON. Anything else is an error that says what came instead.
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T> {
        self.check_encoding()?;
        let body = self.collect(self.http.config().max_json).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_json(&body, &error))
    }

    fn not_json(&self, body: &[u8], error: &serde_json::Error) -> Error {
        let start = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default()).into_owned();
        let content_type = clean(self.header(CONTENT_TYPE.as_str()).unwrap_or("none"), 60);
        if error.is_data() && !content_type.contains("html") {
            return self.error(
                Kind::Invalid,
                format!("the answer is not what the protocol says: {}", self.redact(&clean(&error.to_string(), 200))),
            );
        }
        if error.is_eof() && !body.is_empty() {
            return self.error(Kind::Unavailable, "the answer ends in the middle of its JSON");
        }
        let start = self.redact(&clean(&start, 60));
        self.error(Kind::Unavailable, format!("the answer is not JSON but {content_type}, and begins {start:?}"))
            .hint("a proxy or login page may stand between, or the endpoint may be wrong: open it in a browser")
    }

    fn redact(&self, text: &str) -> String {
        self.secrets.as_ref().map_or_else(|| text.to_owned(), |secrets| secrets.redact(text))
    }

    /// Hears the end of a body whose bytes have all been read, so that the connection can be used again: where the length was
    /// announced nothing more comes, else a word that says so. Whatever goes wrong, only the connection is lost.
    pub(super) async fn close(&mut self, patience: Duration) {
        if self.inner.content_length().is_none() {
            let _ = tokio::time::timeout(patience, self.inner.chunk()).await;
        }
    }

    /// Reads the body to its end and drops it, so that the connection can be used again.
    pub async fn discard(mut self) -> Result<()> {
        self.collect(1 << 20).await.map(drop)
    }

    /// The beginning of an error body; whatever goes wrong, what came so far is enough.
    pub(super) async fn snippet(mut self, most: usize) -> String {
        let mut body = Vec::new();
        let reading = async {
            while let Ok(Some(chunk)) = self.chunk().await {
                let room = most.saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                if body.len() >= most {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), reading).await;
        self.redact(&String::from_utf8_lossy(&body))
    }

    /// The body, whatever it is and however long, counted as file bytes. It ends in an error when it breaks or falls silent.
    pub fn into_body(self) -> Result<ByteStream> {
        self.check_encoding()?;
        Ok(stream::whole(self))
    }

    /// The body as the bytes `asked` of a file of `size` bytes: exactly those, or an error, whatever the server made of the range.
    pub fn into_stream(self, asked: Range<u64>, size: Option<u64>) -> Result<ByteStream> {
        stream::ranged(self, asked, size)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.status(), self.method, super::safe_url(&self.url))
    }
}
