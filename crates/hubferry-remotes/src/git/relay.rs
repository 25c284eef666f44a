//! What stands between the `git` program and the hub: a server for that one program, which sends its two kinds of requests on as our
//! own. So Git needs no token, and proxies, certificates, redirects, stalls and refusals are those of every other request.
//!
//! It listens on this machine only, as long as a fetch takes, and answers nobody who does not know its pass.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use hubferry_core::error::{Error, Kind, Result};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::http::{Classifier, Credential, Http, Response};

/// The header that holds the pass.
pub(super) const PASS: &str = "X-Hubferry-Pass";
/// The path of the repository here.
pub(super) const PATH: &str = "/repository";

/// Where refs are asked for, and where packs, below a repository. Known from Git's `gitprotocol-http`.
const REFS: &str = "/info/refs";
const PACK: &str = "/git-upload-pack";
const SERVICE: &str = "service=git-upload-pack";
/// What an answer about refs is.
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
/// Most bytes of a request. One revision is asked for by name: that takes a few hundred.
const LONGEST_REQUEST: usize = 1 << 20;
/// A hub may put a pack together before it says a word.
const SLOW: Duration = Duration::from_mins(2);
/// Headers that pass: they say how the protocol is spoken.
const TOWARDS_HUB: [&str; 5] = ["accept", "content-encoding", "content-type", "git-protocol", "user-agent"];

/// A running relay. It ends with the value.
pub(super) struct Relay {
    pub(super) port: u16,
    pub(super) pass: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    http: Http,
    credential: Option<Credential>,
    classifier: Classifier,
    pass: String,
    /// Where the repository is, after redirects.
    base: Mutex<Url>,
    /// What went wrong first: it says more than what Git makes of it.
    fault: Mutex<Option<Error>>,
    moved: AtomicU64,
}

impl Relay {
    /// Starts one for the repository at `base`.
    pub(super) async fn start(http: Http, base: Url, credential: Option<Credential>, classifier: Classifier) -> Result<Self> {
        let failed = |e: std::io::Error| Error::new(Kind::Io, "cannot listen on this machine for git").caused_by(e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let pass = pass()?;
        let shared = Arc::new(Shared {
            http,
            credential,
            classifier,
            pass: pass.clone(),
            base: Mutex::new(base),
            fault: Mutex::default(),
            moved: AtomicU64::default(),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Ok(Self { port, pass, shared, listening })
    }

    /// Bytes that have come from the hub.
    pub(super) fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// What went wrong on the way to the hub, if that is why Git failed.
    pub(super) fn take_fault(&self) -> Option<Error> {
        lock(&self.shared.fault).take()
    }

    /// Where the repository turned out to be.
    pub(super) fn base(&self) -> Url {
        lock(&self.shared.base).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass() -> Result<String> {
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|e| Error::new(Kind::Io, "the system gives no random bytes").context("cause", e))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the set.
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.spawn(converse(stream, shared.clone()));
        while open.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { shared.answer(request).await }
    });
    // A client that goes away is no failure of ours.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    async fn answer(self: &Arc<Self>, request: hyper::Request<Incoming>) -> Result<hyper::Response<reqwest::Body>> {
        if request.headers().get(PASS).is_none_or(|pass| pass.as_bytes() != self.pass.as_bytes()) {
            return status(403, "this is for one program only");
        }
        match self.forward(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                self.note(error);
                status(502, "the hub refuses; hubferry says why")
            }
        }
    }

    fn note(&self, error: Error) {
        lock(&self.fault).get_or_insert(error);
    }

    async fn forward(self: &Arc<Self>, request: hyper::Request<Incoming>) -> Result<hyper::Response<reqwest::Body>> {
        let (head, body) = request.into_parts();
        let tail = head.uri.path().strip_prefix(PATH).unwrap_or_default();
        let base = lock(&self.base).clone();
        let mut url = base.clone();
        url.set_path(&format!("{}{tail}", base.path().trim_end_matches('/')));
        let sent = match (&head.method, tail, head.uri.query()) {
            (&hyper::Method::GET, REFS, Some(SERVICE)) => {
                url.set_query(Some(SERVICE));
                self.http.get(url)
            }
            (&hyper::Method::POST, PACK, None) => {
                let body = collect(body).await?;
                self.http.post(url).repeatable(true).bulk(true).bytes("application/x-git-upload-pack-request", body)
            }
            _ => return Err(Error::new(Kind::Bug, "git asks for something that reading does not need").context("path", head.uri.path())),
        };
        let headers = TOWARDS_HUB.iter().filter_map(|name| Some((*name, head.headers.get(*name)?.to_str().ok()?)));
        let sent = headers.fold(sent, |sent, (name, value)| sent.header(name, value));
        let answer = sent.credential(self.credential.as_ref()).classify(&self.classifier).answer_within(SLOW).send().await?;
        if tail == REFS {
            self.arrived(&answer)?;
        }
        let kind = answer.header("content-type").unwrap_or("application/octet-stream").to_owned();
        let shared = self.clone();
        let counted = answer.into_body()?.inspect(move |piece| match piece {
            Ok(piece) => drop(shared.moved.fetch_add(piece.len() as u64, Ordering::Relaxed)),
            Err(error) => shared.note(error.duplicate()),
        });
        hyper::Response::builder().header("content-type", kind).body(reqwest::Body::wrap_stream(counted)).map_err(unbuilt)
    }

    /// Takes note of where the repository is; what answers must be a Git server.
    fn arrived(&self, answer: &Response) -> Result<()> {
        let kind = answer.header("content-type").unwrap_or_default();
        let path = answer.url().path().strip_suffix(REFS);
        let (true, Some(path)) = (kind.starts_with(ADVERTISEMENT), path) else {
            return Err(answer.error(Kind::Unsupported, "what answers there is no Git server").hint("leave --via git out"));
        };
        let mut base = answer.url().clone();
        base.set_path(path);
        base.set_query(None);
        *lock(&self.base) = base;
        Ok(())
    }
}

fn status(code: u16, text: &'static str) -> Result<hyper::Response<reqwest::Body>> {
    hyper::Response::builder().status(code).body(reqwest::Body::from(text)).map_err(unbuilt)
}

fn unbuilt(error: hyper::http::Error) -> Error {
    Error::new(Kind::Bug, "an answer for git cannot be built").caused_by(error)
}

async fn collect(mut body: Incoming) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|e| Error::new(Kind::Unavailable, "git broke its request off").caused_by(e))?;
        all.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if all.len() > LONGEST_REQUEST {
            return Err(Error::new(Kind::Bug, "git asks for more than one revision takes"));
        }
    }
    Ok(all.freeze())
}
