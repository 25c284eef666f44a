//! Starts the hub: opens the data folder, binds the listeners, answers until told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use hubferry_core::error::{Error, Kind, Result};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::hub::links::Links;
use crate::hub::{HubState, Urls, hf, modelscope, storage};
use crate::store::Store;
use crate::testing::{Face, FaultHook, Network, Stage, Wire};
use crate::users::{User, Users};

/// Connections served at once; more wait in the system's queue. Each may hold about a megabyte.
const CONNECTIONS: usize = 512;
/// How long a client may take for the head of a request, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// How long answers that are on their way may take once the hub was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What to serve, where, and to whom.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeConfig {
    /// The data folder; created if it is not there.
    pub data: PathBuf,
    /// Where the Hugging Face API listens; port 0 picks a free one, `None` does not serve it.
    pub hf: Option<SocketAddr>,
    /// Where the ModelScope API listens.
    pub ms: Option<SocketAddr>,
    /// A separate origin for stored objects; `None` serves them from the face that links to them.
    pub cdn: Option<SocketAddr>,
    /// Who may do what; with nobody, everybody may read what is public and nobody may write.
    pub users: Vec<User>,
    /// Larger files are uploaded in parts of this size by clients that can.
    pub part_size: u64,
    /// How long signed links to stored objects are good.
    pub link_life: Duration,
    /// Faults to play, for tests.
    pub faults: Option<Arc<dyn FaultHook>>,
    /// What the lines to the listeners are like, for tests.
    pub network: Option<Arc<Network>>,
}

impl ServeConfig {
    /// Both faces on free loopback ports, without users.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let loopback = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self {
            data: data.into(),
            hf: loopback,
            ms: loopback,
            cdn: None,
            users: Vec::new(),
            part_size: 64 * 1024 * 1024,
            link_life: Duration::from_hours(6),
            faults: None,
            network: None,
        }
    }
}

/// A hub that answers. Dropped without [`Running::shutdown`] it stops at once, as if killed.
#[derive(Debug)]
pub struct Running {
    urls: Urls,
    state: HubState,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

/// Starts the hub. When this returns, it listens.
pub async fn serve(config: ServeConfig) -> Result<Running> {
    let users = Users::new(config.users)?;
    if config.part_size == 0 {
        return Err(Error::invalid("the part size must not be 0"));
    }
    let store = Store::open(&config.data).await?;
    let links = Links::new(store.signing_key().await?, config.link_life);
    let mut bound = Vec::new();
    for (face, address) in [(Face::Hf, config.hf), (Face::Ms, config.ms), (Face::Cdn, config.cdn)] {
        if let Some(address) = address {
            let (listener, address) = bind(address).await?;
            bound.push((face, listener, address));
        }
    }
    let at = |wanted: Face| bound.iter().find(|(face, ..)| *face == wanted).map(|(.., address)| *address);
    let urls = Urls { hf: at(Face::Hf), ms: at(Face::Ms), cdn: at(Face::Cdn) };
    let state = HubState::new(store, users, urls, links, config.part_size);
    let (stop, stopped) = watch::channel(false);
    let stage = Stage::new(config.faults, config.network);
    let mut listeners = JoinSet::new();
    for (face, listener, _) in bound {
        let router = match face {
            Face::Hf => hf::router(state.clone()),
            Face::Ms => modelscope::router(state.clone()),
            Face::Cdn => storage::router(state.clone()),
        };
        let answerer = Answerer { face, router, stage: stage.clone(), wire: None };
        listeners.spawn(listen(listener, answerer, stopped.clone()));
    }
    Ok(Running { urls, state, stop, listeners })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::Io, format!("cannot listen on {address}")).caused_by(e).hint("choose another address, or port 0 for a free one")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

impl Running {
    /// What to set as `HF_ENDPOINT`.
    pub fn hf_url(&self) -> Option<String> {
        self.urls.hf.map(url)
    }

    /// What to set as `MODELSCOPE_ENDPOINT`.
    pub fn ms_url(&self) -> Option<String> {
        self.urls.ms.map(url)
    }

    /// The separate storage origin, if there is one.
    pub fn cdn_url(&self) -> Option<String> {
        self.urls.cdn.map(url)
    }

    /// What the handlers share: tests look into the store through it.
    pub fn state(&self) -> &HubState {
        &self.state
    }

    /// Stops taking requests, lets those under way finish for a while, and closes the store.
    pub async fn shutdown(mut self) {
        // Nobody listening any more is as good as stopped.
        let _ = self.stop.send(true);
        while self.listeners.join_next().await.is_some() {}
        self.state.store().close().await;
    }
}

/// The URL of a listener; one that listens everywhere is named by its loopback address.
fn url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{}", v6.port()),
        _ => format!("http://{address}"),
    }
}

async fn listen(listener: TcpListener, answerer: Answerer, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let Some((stream, place)) = accepted else { continue };
        let connection = connect(stream, answerer.clone(), &graceful);
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    // Whoever has not finished by then is cut off when the set is dropped.
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of file handles, for instance: the next one may fare better.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn connect(stream: TcpStream, mut answerer: Answerer, graceful: &GracefulShutdown) -> BoxFuture<'static, ()> {
    // Small answers must not wait for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let Some(stage) = &answerer.stage else { return converse(stream, answerer, graceful).boxed() };
    let line = stage.connect(answerer.face, stream);
    answerer.wire = Some(line.wire());
    converse(line, answerer, graceful).boxed()
}

fn converse<S>(stream: S, answerer: Answerer, graceful: &GracefulShutdown) -> impl Future<Output = ()> + Send + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_TIMEOUT));
    let service = service_fn(move |request| answerer.clone().answer(request));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// Answers the requests of one listener, and of one connection where a test plays on it.
#[derive(Clone, Debug)]
struct Answerer {
    face: Face,
    router: Router,
    stage: Option<Stage>,
    wire: Option<Arc<Wire>>,
}

impl Answerer {
    async fn answer(self, request: Request<Incoming>) -> Result<Response, std::io::Error> {
        let mut request = request.map(Body::new);
        name_host(&mut request);
        if let (Some(stage), Some(wire)) = (&self.stage, &self.wire) {
            return stage.answer(self.face, wire, self.router, request).await;
        }
        match TowerToHyperService::new(self.router).call(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

/// HTTP/2 has no host header: the name the client used stands in the URI.
fn name_host(request: &mut Request) {
    let named = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = named.filter(|_| !request.headers().contains_key(HOST)) {
        request.headers_mut().insert(HOST, host);
    }
}
