//! The connections themselves, and when none of those that are open is used again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hubferry_core::error::{Error, Kind, Result};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder};

use super::HttpConfig;

/// Whoever gives up earlier had other reasons than the server's silence.
const IN_VAIN: Duration = Duration::from_secs(1);

/// How often a silent HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Two kinds of connections to any number of servers.
pub(super) struct Pool {
    roots: Vec<Certificate>,
    clients: Mutex<Clients>,
}

struct Clients {
    usual: Client,
    /// Never speaks HTTP/2, which would put all the streams of a file on one connection.
    bulk: Client,
    /// Something behind an open connection has fallen silent.
    in_doubt: bool,
}

impl Pool {
    pub(super) fn new(config: &HttpConfig, roots: Vec<Certificate>) -> Result<Self> {
        let clients = Mutex::new(Clients::new(config, &roots)?);
        Ok(Self { roots, clients })
    }

    /// The connections for small things (`bulk` false) or large bodies.
    pub(super) fn client(&self, bulk: bool, config: &HttpConfig) -> Client {
        let mut clients = self.lock();
        if std::mem::take(&mut clients.in_doubt) {
            // What could be made once can be made again; if not, the old connections are better than none.
            if let Ok(fresh) = Clients::new(config, &self.roots) {
                *clients = fresh;
            }
        }
        if bulk { clients.bulk.clone() } else { clients.usual.clone() }
    }

    /// No open connection gets another request: a server that has fallen silent on one (a dead machine behind a balancer, a worker
    /// that hangs) is likely to be silent on those beside it, and a fresh connection may end elsewhere. What is under way goes on.
    pub(super) fn doubt(&self) {
        self.lock().in_doubt = true;
    }

    /// Watches somebody who waits.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        Waiting { pool: self, since: Instant::now(), is_over: false }
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a server.
pub(super) struct Waiting<'a> {
    pool: &'a Pool,
    since: Instant,
    is_over: bool,
}

impl Waiting<'_> {
    /// The server did something.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.since.elapsed() >= IN_VAIN {
            self.pool.doubt();
        }
    }
}

impl Clients {
    fn new(config: &HttpConfig, roots: &[Certificate]) -> Result<Self> {
        let usual = client(config, roots, config.http1_only)?;
        let bulk = if config.http1_only { usual.clone() } else { client(config, roots, true)? };
        Ok(Self { usual, bulk, in_doubt: false })
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
    if http1_only {
        return builder.http1_only();
    }
    // A connection that carries many requests may die without a word.
    builder.http2_adaptive_window(true).http2_keep_alive_interval(KEEP_ALIVE).http2_keep_alive_timeout(KEEP_ALIVE)
}
