//! The one HTTP middle of every hub: credentials that stay at home, redirects, ranges, pauses, errors with their place.
//!
//! A remote builds a [`Request`] from its [`Http`], says who it is with a [`Credential`], and gets a [`Response`] or the typed
//! error that its [`Classifier`] makes of a refusal. Nothing is tried twice in here; [`retry::retrying`] does that around whole
//! calls, and reading a file again from where it broke is the engine's business.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::events::Wire;
use hubferry_core::transfer::throttle::Throttle;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Method};
use tokio::time::Instant;
use url::Url;

mod budget;
mod credential;
pub(crate) mod expiry;
mod fault;
mod page;
mod pause;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

pub use credential::{Credential, Origin};
pub use fault::{Classifier, Refusal, clean, safe_url};
pub use page::Pages;
pub use request::{Again, Redirects, Request};
pub use response::Response;

pub use hubferry_core::transfer::retry;

use budget::{Budgets, Turn};
use pause::Pauses;

/// Bodies from this size on should have a connection for themselves ([`Request::bulk`]).
pub const BULK: u64 = 1 << 20;

/// Host and port of a URL: who answers.
pub fn authority(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// How connections are made and what may pass through them.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// Longest time to establish a connection.
    pub connect_timeout: Duration,
    /// Longest time without a single byte.
    pub idle_timeout: Duration,
    /// More trusted certificates, as PEM bundles.
    pub root_certificates: Vec<Vec<u8>>,
    /// Largest JSON answer in bytes.
    pub max_json: usize,
    /// Where requests and file bytes are counted.
    pub wire: Arc<Wire>,
    /// Never speak HTTP/2: for hubs whose uploads are slower with it.
    pub http1_only: bool,
    /// Paces the file bytes that go out; `None` is as fast as it goes. What comes in is paced by who reads it.
    pub upload_pace: Option<Arc<Throttle>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("hubferry/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            root_certificates: Vec::new(),
            max_json: 64 << 20,
            wire: Wire::new(),
            http1_only: false,
            upload_pace: None,
        }
    }
}

/// A pool of connections. Clones share it, and the pauses that servers ask for.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    client: Client,
    /// Never speaks HTTP/2, which would put all the streams of a file on one connection.
    bulk: Client,
    config: HttpConfig,
    pauses: Pauses,
    budgets: Budgets,
}

impl Http {
    /// Prepares the pool; connects nowhere. Proxies come from the usual environment variables.
    pub fn new(config: HttpConfig) -> Result<Self> {
        // The whole process uses ring; whoever came first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = Vec::new();
        for bundle in &config.root_certificates {
            let found = Certificate::from_pem_bundle(bundle)
                .map_err(|e| Error::invalid("a file of trusted certificates is not PEM").caused_by(e.without_url()))?;
            if found.is_empty() {
                return Err(Error::invalid("a file of trusted certificates has none in it")
                    .hint("it must hold one or more blocks that begin with -----BEGIN CERTIFICATE-----"));
            }
            roots.extend(found);
        }
        let client = client(&config, &roots, config.http1_only)?;
        let bulk = if config.http1_only { client.clone() } else { self::client(&config, &roots, true)? };
        Ok(Self(Arc::new(Inner { client, bulk, config, pauses: Pauses::default(), budgets: Budgets::default() })))
    }

    /// A request to be filled in.
    pub fn request(&self, method: Method, url: Url) -> Request {
        Request::new(self.clone(), method, url)
    }

    /// A `GET`.
    pub fn get(&self, url: Url) -> Request {
        self.request(Method::GET, url)
    }

    /// A `POST`; it is taken to have an effect unless [`Request::repeatable`] says otherwise.
    pub fn post(&self, url: Url) -> Request {
        self.request(Method::POST, url)
    }

    /// A `PUT`.
    pub fn put(&self, url: Url) -> Request {
        self.request(Method::PUT, url)
    }

    /// The counters that this pool adds to.
    pub fn wire(&self) -> &Arc<Wire> {
        &self.0.config.wire
    }

    /// How this pool was set up.
    pub fn config(&self) -> &HttpConfig {
        &self.0.config
    }

    fn client(&self, bulk: bool) -> &Client {
        if bulk { &self.0.bulk } else { &self.0.client }
    }

    /// Everybody who talks to `origin` waits this long before the next request.
    fn pause(&self, origin: &Origin, wait: Duration) {
        self.0.pauses.set(origin, wait);
    }

    /// Takes what an answer from `origin` says of the requests that are left.
    fn learn(&self, origin: &Origin, url: &Url, headers: &HeaderMap) {
        self.0.budgets.learn(origin, url, headers, Instant::now());
    }

    /// Waits until `origin` may be asked for `url`. A pause longer than half the idle timeout is an error with its length instead:
    /// whoever asked knows what else to do with the time, and how long to be patient.
    async fn wait_for(&self, origin: &Origin, url: &Url) -> Result<()> {
        let longest = self.0.config.idle_timeout / 2;
        loop {
            let wait = match self.0.pauses.left(origin) {
                Some(left) => left,
                None => match self.0.budgets.turn(origin, url, Instant::now(), longest) {
                    Turn::In(wait) => {
                        tokio::time::sleep(wait).await;
                        return Ok(());
                    }
                    Turn::Not(wait) => wait,
                },
            };
            if wait > longest {
                return Err(Error::new(Kind::RateLimited, format!("{} wants no requests for {} s", origin.host(), wait.as_secs() + 1))
                    .retry_as(Retry::After(wait))
                    .hint("run the same command again after that time: what is stored already is kept"));
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("config", &self.0.config).finish_non_exhaustive()
    }
}

fn client(config: &HttpConfig, roots: &[Certificate], http1_only: bool) -> Result<Client> {
    builder(config, http1_only)
        .tls_certs_merge(roots.iter().cloned())
        .build()
        // A machine without any system certificates still reaches plain-http hubs and those it was given certificates for.
        .or_else(|_| builder(config, http1_only).tls_certs_only(roots.iter().cloned()).build())
        .map_err(|e| Error::new(Kind::Unsupported, "cannot prepare HTTPS on this machine").caused_by(e.without_url()))
}

fn builder(config: &HttpConfig, http1_only: bool) -> ClientBuilder {
    let mut headers = HeaderMap::new();
    // Sizes and hashes are those of the content itself; a compressed body would have neither.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = Client::builder()
        .user_agent(&config.user_agent)
        .default_headers(headers)
        // Up to the end of the TLS handshake, and with a proxy up to the end of the one behind it.
        .connect_timeout(config.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Shorter than what servers keep: a request on a connection that is just being closed has an unknown fate.
        .pool_idle_timeout(Duration::from_secs(15))
        .tcp_nodelay(true);
    // What has left this process and is not taken by the far side: only the system sees that.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(config.idle_timeout);
    if http1_only { builder.http1_only() } else { builder.http2_adaptive_window(true) }
}
