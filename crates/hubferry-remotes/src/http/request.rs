//! One request: what is sent, with which credential, how redirects are taken, and how its refusal is read.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::ByteStream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, multipart};
use serde::Serialize;
use url::Url;

use super::Http;
use super::credential::{Credential, Origin};
use super::fault::{Classifier, Refusal, located, lost, safe_url};
use super::pause::{asked_wait, exhausted};
use super::response::Response;
use super::upload::{Manner, Pulse, guarded};

/// Longest chain of redirects.
const MOST_REDIRECTS: usize = 10;

/// The part of an error body that is read.
const SNIPPET: usize = 64 << 10;

/// Makes the same body again, for a request that is redirected.
pub type Again = Arc<dyn Fn() -> ByteStream + Send + Sync>;

/// Which redirects are followed; the rest is returned as an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redirects {
    /// All of them; the credential stays behind when the origin changes.
    Follow,
    /// Those inside the origin of the request.
    SameOrigin,
    /// None.
    Keep,
}

enum Payload {
    None,
    Bytes(Bytes),
    Multipart(Vec<(String, String)>),
    /// The lock only makes it shareable between threads; it is never waited for.
    Once {
        len: u64,
        stream: Mutex<Option<ByteStream>>,
    },
    Again {
        len: u64,
        make: Again,
    },
}

/// A request being built. Mistakes made on the way are reported by [`Request::send`].
pub struct Request {
    http: Http,
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
    credential: Option<Credential>,
    /// Kept for cutting our secrets out of what servers say, also where they are not sent.
    secrets: Option<Credential>,
    redirects: Redirects,
    repeatable: bool,
    bulk: bool,
    answer_within: Duration,
    classifier: Option<Classifier>,
    mistake: Option<Error>,
}

impl Request {
    pub(super) fn new(http: Http, method: Method, url: Url) -> Self {
        let repeatable = method != Method::POST && method != Method::PATCH;
        let answer_within = http.config().idle_timeout;
        Self {
            http,
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::None,
            credential: None,
            secrets: None,
            redirects: Redirects::Follow,
            repeatable,
            bulk: false,
            answer_within,
            classifier: None,
            mistake: None,
        }
    }

    /// Adds pairs to the query.
    #[must_use]
    pub fn query<K: AsRef<str>, V: AsRef<str>>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        self.url.query_pairs_mut().extend_pairs(pairs);
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            _ => self.mistake = Some(Error::invalid(format!("the header {name:?} cannot be sent"))),
        }
        self
    }

    /// Says who we are; sent only if the URL lies in the credential's origin.
    #[must_use]
    pub fn credential(mut self, credential: Option<&Credential>) -> Self {
        self.credential = credential.filter(|credential| credential.origin().holds(&self.url)).cloned();
        self.secrets = credential.cloned();
        self
    }

    /// Asks for these bytes only.
    #[must_use]
    pub fn range(self, range: &Range<u64>) -> Self {
        let last = range.end.saturating_sub(1);
        self.header(RANGE.as_str(), &format!("bytes={}-{last}", range.start))
    }

    /// Sends a value as JSON.
    #[must_use]
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(text) => self.bytes("application/json", text),
            Err(error) => {
                self.mistake = Some(Error::new(Kind::Bug, "a request cannot be written as JSON").caused_by(error));
                self
            }
        }
    }

    /// Sends pairs as an HTML form.
    #[must_use]
    pub fn form<K: AsRef<str>, V: AsRef<str>>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.bytes("application/x-www-form-urlencoded", text)
    }

    /// Sends text fields as `multipart/form-data`.
    #[must_use]
    pub fn multipart(mut self, fields: impl IntoIterator<Item = (String, String)>) -> Self {
        self.payload = Payload::Multipart(fields.into_iter().collect());
        self
    }

    /// Sends bytes that are in memory. A content type set before stays.
    #[must_use]
    pub fn bytes(mut self, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        self.payload = Payload::Bytes(bytes.into());
        self
    }

    /// Streams exactly `len` bytes of a file. They are counted, and the last of them leave only after the stream has ended well.
    #[must_use]
    pub fn stream(mut self, len: u64, stream: ByteStream) -> Self {
        self.payload = Payload::Once { len, stream: Mutex::new(Some(stream)) };
        self
    }

    /// Streams `len` bytes that can be made again for a redirect. They are not counted as file bytes.
    #[must_use]
    pub fn stream_again(mut self, len: u64, make: Again) -> Self {
        self.payload = Payload::Again { len, make };
        self
    }

    /// Which redirects to follow.
    #[must_use]
    pub fn redirects(mut self, redirects: Redirects) -> Self {
        self.redirects = redirects;
        self
    }

    /// Whether sending it twice does no harm. A lost answer to any other request is ambiguous.
    #[must_use]
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// Whether it carries so much of a file that it should have a connection for itself.
    #[must_use]
    pub fn bulk(mut self, bulk: bool) -> Self {
        self.bulk = bulk;
        self
    }

    /// How long the server may think after it has the whole request; the idle timeout unless set.
    #[must_use]
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// How refusals are read.
    #[must_use]
    pub fn classify(mut self, classifier: &Classifier) -> Self {
        self.classifier = Some(classifier.clone());
        self
    }

    /// Sends it. Succeeds with a status below 300, or with a redirect that is not to be followed.
    pub async fn send(mut self) -> Result<Response> {
        if let Some(mistake) = self.mistake.take() {
            return Err(located(mistake, &self.method, &self.url));
        }
        for _ in 0..=MOST_REDIRECTS {
            let origin = Origin::of(&self.url)?;
            self.http.wait_for(&origin, &self.url).await?;
            let response = self.exchange(&origin).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(self.refused(response, &origin).await);
            }
            let target = self.target(&response)?;
            match self.redirects {
                Redirects::Keep => return Ok(response),
                Redirects::SameOrigin if !origin.holds(&target) => return Ok(response),
                _ => {
                    // The few bytes of text are read so that the connection can be used again; nothing depends on them.
                    let _ = response.discard().await;
                    self.turn_to(target, status)?;
                }
            }
        }
        Err(self.error(Kind::Invalid, format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        located(Error::new(kind, message), &self.method, &self.url)
    }

    async fn exchange(&mut self, origin: &Origin) -> Result<Response> {
        let (request, pulse) = self.prepare(origin)?;
        self.http.wire().add_request();
        let asked = std::time::Instant::now();
        let client = self.http.client(self.bulk);
        let http = self.http.clone();
        let waiting = http.waiting();
        let mut call = pin!(client.execute(request));
        let answer = loop {
            let Some(patience) = pulse.patience(self.http.config().idle_timeout, self.answer_within) else {
                let error = self.error(Kind::Unavailable, "the server stopped answering");
                return Err(if self.repeatable { error } else { error.ambiguous() });
            };
            tokio::select! {
                answer = &mut call => break answer,
                () = tokio::time::sleep(patience) => {}
            }
        };
        waiting.end();
        // What the body itself failed with explains more than what the connection made of it.
        if let Some(fault) = pulse.take_fault() {
            return Err(fault);
        }
        if pulse.is_of_stream() {
            match &answer {
                Ok(answer) if answer.status().is_success() => self.http.takes(origin),
                Ok(_) if pulse.is_done() => {}
                Err(error) if error.is_connect() => {}
                Ok(_) | Err(_) => self.http.breaks_off(origin),
            }
        }
        let answer = answer.map_err(|error| lost(error, &self.method, &self.url, self.repeatable))?;
        self.http.learn(origin, &self.url, answer.headers());
        let milliseconds = asked.elapsed().as_millis();
        tracing::debug!(method = %self.method, url = %safe_url(&self.url), status = answer.status().as_u16(), milliseconds, "answered");
        if answer.status().is_success() && !pulse.is_done() {
            return Err(self.error(Kind::Unavailable, "the server answered before it had the whole body"));
        }
        Ok(Response::new(&self.http, self.method.clone(), self.url.clone(), answer, self.secrets.clone()))
    }

    /// The request as it goes on the wire, and the pulse of its body.
    fn prepare(&mut self, origin: &Origin) -> Result<(reqwest::Request, Arc<Pulse>)> {
        let mut headers = self.headers.clone();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(credential) = &self.credential {
            credential.attach(&self.url, &mut headers);
        }
        let builder = self.http.client(self.bulk).request(self.method.clone(), self.url.clone());
        let (stream, len, counter) = match &mut self.payload {
            Payload::None => return self.built(builder.headers(headers)),
            Payload::Bytes(bytes) => {
                let bytes = bytes.clone();
                return self.built(builder.headers(headers).body(bytes));
            }
            Payload::Multipart(fields) => {
                let form = fields.iter().fold(multipart::Form::new(), |form, (name, value)| form.text(name.clone(), value.clone()));
                return self.built(builder.headers(headers).multipart(form));
            }
            Payload::Again { len, make } => (make(), *len, None),
            Payload::Once { len, stream } => match stream.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
                Some(stream) => (stream, *len, Some(self.http.wire().clone())),
                None => return Err(self.error(Kind::Unavailable, "the upload was redirected and must start again")),
            },
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        let pulse = Pulse::new(len > 0);
        let manner = Manner { counter, pace: self.http.config().upload_pace.clone(), hesitant: self.http.hesitates(origin) };
        let body = reqwest::Body::wrap_stream(guarded(stream, len, pulse.clone(), manner));
        let (request, _) = self.built(builder.headers(headers).body(body))?;
        Ok((request, pulse))
    }

    fn built(&self, builder: reqwest::RequestBuilder) -> Result<(reqwest::Request, Arc<Pulse>)> {
        let request = builder.build().map_err(|error| lost(error, &self.method, &self.url, true))?;
        Ok((request, Pulse::new(false)))
    }

    async fn refused(&self, response: Response, origin: &Origin) -> Error {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.snippet(SNIPPET).await;
        // An account that is used up holds up its own requests only; anything else is meant for all.
        if status == StatusCode::TOO_MANY_REQUESTS
            && exhausted(&headers).is_none()
            && let Some(wait) = asked_wait(&headers)
        {
            self.http.pause(origin, wait);
        }
        let refusal = Refusal { method: &self.method, url: &self.url, status, headers: &headers, body: &body };
        refusal.error(self.classifier.as_ref(), self.repeatable)
    }

    fn target(&self, response: &Response) -> Result<Url> {
        let refuse = |why: &str| self.error(Kind::Invalid, why).context("status", response.status().as_u16());
        let location = response.header(LOCATION.as_str()).ok_or_else(|| refuse("the server redirects to nowhere"))?;
        let mut target = self.url.join(location).map_err(|e| refuse("the server redirects to something that is no URL").caused_by(e))?;
        target.set_fragment(None);
        Origin::of(&target)?;
        Ok(target)
    }

    /// Follows a redirect; the credential, and headers that may hold one, stay behind when the origin changes, for good.
    fn turn_to(&mut self, target: Url, status: StatusCode) -> Result<()> {
        let origin = Origin::of(&self.url)?;
        let keeps_method = matches!(status.as_u16(), 307 | 308) || matches!(self.method, Method::GET | Method::HEAD);
        if !keeps_method {
            return Err(self
                .error(Kind::Invalid, format!("the server redirects this {} elsewhere", self.method))
                .context("location", safe_url(&target))
                .hint("give the endpoint exactly as the server wants it, including https:// and www."));
        }
        if !origin.holds(&target) {
            if !self.repeatable {
                return Err(self
                    .error(Kind::Invalid, format!("the server redirects this {} to another server; it was not followed", self.method))
                    .context("location", safe_url(&target))
                    .hint("give the endpoint exactly as the server wants it, including https:// and www."));
            }
            if self.credential.is_some() && origin.is_encrypted() && target.scheme() == "http" {
                return Err(self
                    .error(Kind::Invalid, "the server redirects from https to http; it was not followed")
                    .context("location", safe_url(&target)));
            }
            self.credential = None;
            let harmless = [RANGE, CONTENT_TYPE, ACCEPT];
            self.headers =
                self.headers.drain().filter_map(|(name, value)| Some((name?, value))).filter(|(name, _)| harmless.contains(name)).collect();
        }
        self.url = target;
        Ok(())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, safe_url(&self.url))
    }
}
