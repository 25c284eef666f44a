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
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, Method};
use tokio::time::Instant;
use url::Url;

mod budget;
mod credential;
pub(crate) mod expiry;
mod fault;
mod page;
mod pause;
mod pool;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

pub use budget::Allowance;
pub use credential::{Credential, Origin};
pub use fault::{Classifier, Refusal, clean, safe_url};
pub use page::Pages;
pub use request::{Again, Redirects, Request};
pub use response::Response;

pub use hubferry_core::transfer::retry;

use budget::{Budgets, Turn};
use pause::Pauses;
use pool::{Pool, Waiting};

/// Bodies from this size on should have a connection for themselves ([`Request::bulk`]).
pub const BULK: u64 = 1 << 20;

/// How long a broken body is remembered: longer than the usual pause before the next try.
const HESITATE_FOR: Duration = Duration::from_mins(1);

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
    pool: Pool,
    config: HttpConfig,
    pauses: Pauses,
    /// Where a body broke off lately.
    broken: Pauses,
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
        let pool = Pool::new(&config, roots)?;
        Ok(Self(Arc::new(Inner { pool, config, pauses: Pauses::default(), broken: Pauses::default(), budgets: Budgets::default() })))
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

    fn client(&self, bulk: bool) -> Client {
        self.0.pool.client(bulk, &self.0.config)
    }

    /// Whoever waits for the server says so: given up after a while in vain, the next request has a fresh connection.
    fn waiting(&self) -> Waiting<'_> {
        self.0.pool.waiting()
    }

    /// Everybody who talks to `origin` waits this long before the next request.
    fn pause(&self, origin: &Origin, wait: Duration) {
        self.0.pauses.set(origin, wait);
    }

    /// Whether `origin` gets its bodies hesitantly: it broke one off, and what it had to say of that may be lost with the connection.
    fn hesitates(&self, origin: &Origin) -> bool {
        self.0.broken.left(origin).is_some()
    }

    /// `origin` did not take a body to its end.
    fn breaks_off(&self, origin: &Origin) {
        self.0.broken.set(origin, HESITATE_FOR);
    }

    /// `origin` took a body.
    fn takes(&self, origin: &Origin) {
        self.0.broken.end(origin);
    }

    /// Takes what an answer from `origin` says of the requests that are left.
    fn learn(&self, origin: &Origin, url: &Url, headers: &HeaderMap) {
        self.0.budgets.learn(origin, url, headers, Instant::now());
    }

    /// What the server of `url` still allows, as far as it has said so.
    pub fn allowances(&self, url: &Url) -> Vec<Allowance> {
        Origin::of(url).map(|origin| self.0.budgets.left(&origin, Instant::now())).unwrap_or_default()
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
