//! Plays the fault of a request around its handling: before it, instead of it, and on the answer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, COOKIE, IF_RANGE, RANGE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use super::line::{Line, Wire};
use super::{Face, Fault, FaultHook, Interruption, Misplace, Network, Seen, Tally, replaced, spoil};

/// The beginning of a TLS alert: no HTTP.
const GARBAGE: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46\xff\xfe garbage\r\n\r\n";

/// Marks a request whose link counts as expired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiredLink;

/// What a test has the server do beside answering.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    hook: Option<Arc<dyn FaultHook>>,
    network: Arc<Network>,
}

impl Stage {
    /// `None` when there is no test to play for.
    pub(crate) fn new(hook: Option<Arc<dyn FaultHook>>, network: Option<Arc<Network>>) -> Option<Self> {
        (hook.is_some() || network.is_some()).then(|| Self { hook, network: network.unwrap_or_default() })
    }

    /// A new connection to `face`.
    pub(crate) fn connect(&self, face: Face, stream: TcpStream) -> Line {
        Line::new(stream, self.network.open(face), self.network.side(face).clone())
    }

    /// Answers a request that came by `wire`. An error ends the connection.
    pub(crate) async fn answer(&self, face: Face, wire: &Arc<Wire>, router: Router, request: Request) -> io::Result<Response> {
        let tally = wire.begin();
        let stream = wire.side.stream();
        let seen = seen(face, wire, &request, tally.clone());
        tokio::time::sleep(wire.side.latency()).await;
        let fault = self.hook.as_ref().map_or(Fault::None, |hook| hook.on_request(&seen));
        let request = request.map(|body| counted(body, tally));
        let Some(stream) = stream else { return Ok(scripted(503, &[], "too many at once")) };
        let response = play(wire, router, request, fault).await?;
        Ok(response.map(|body| Body::new(spoil::Guarded::new(body, stream, wire.clone()))))
    }
}

async fn play(wire: &Wire, router: Router, mut request: Request, fault: Fault) -> io::Result<Response> {
    match &fault {
        Fault::Answer(status, headers, body) => {
            crate::hub::body::drain(request.into_body()).await;
            return Ok(scripted(*status, headers, body));
        }
        Fault::Garbage => {
            crate::hub::body::drain(request.into_body()).await;
            wire.last_words(GARBAGE);
            return Err(ended());
        }
        Fault::Upload(bytes, then) => return interrupt(wire, request.into_body(), *bytes, *then).await,
        Fault::Replaced(size) => return replaced::answer(router, request, *size).await,
        Fault::Delay(pause) => tokio::time::sleep(*pause).await,
        Fault::Until(file) => {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Fault::ExpireLink => {
            request.extensions_mut().insert(ExpiredLink);
        }
        Fault::IgnoreRange => {
            request.headers_mut().remove(RANGE);
            request.headers_mut().remove(IF_RANGE);
        }
        Fault::Misplace(Misplace::Elsewhere(bytes)) => move_range(&mut request, *bytes),
        Fault::SlowUpload(rate) => request = request.map(|body| spoil::slow(body, *rate)),
        _ => {}
    }
    let response = handle(router, request).await;
    if fault == Fault::LoseAnswer {
        return Err(ended());
    }
    Ok(spoil::spoil(response, &fault, wire))
}

/// The honest answer.
pub(super) async fn handle(router: Router, request: Request) -> Response {
    let answered: Result<Response, Infallible> = TowerToHyperService::new(router).call(request).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Takes some of an upload and ends it.
async fn interrupt(wire: &Wire, body: Body, bytes: u64, then: Interruption) -> io::Result<Response> {
    let mut stream = body.into_data_stream();
    let mut taken = 0;
    while taken < bytes {
        let Some(Ok(piece)) = stream.next().await else { break };
        taken += piece.len() as u64;
    }
    match then {
        Interruption::Answer(status) => return Ok(scripted(status, &[], "")),
        Interruption::Silence(pause) => tokio::time::sleep(pause).await,
        Interruption::Reset => wire.reset(),
    }
    Err(ended())
}

fn move_range(request: &mut Request, bytes: u64) {
    let text = request.headers().get(RANGE).and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("bytes="));
    let Some((first, last)) = text.and_then(|range| range.split_once('-')) else { return };
    let moved = |text: &str| text.parse::<u64>().map(|at| (at + bytes).to_string()).unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes={}-{}", moved(first), moved(last))) {
        request.headers_mut().insert(RANGE, value);
    }
}

fn ended() -> io::Error {
    io::Error::other("a scripted fault")
}

fn counted(body: Body, tally: Arc<Tally>) -> Body {
    // An absent body must stay one: handlers ask.
    if axum::body::HttpBody::is_end_stream(&body) {
        return body;
    }
    Body::from_stream(body.into_data_stream().inspect(move |piece| {
        if let Ok(piece) = piece {
            tally.add_received(piece.len() as u64);
        }
    }))
}

fn seen(face: Face, wire: &Wire, request: &Request, tally: Arc<Tally>) -> Seen {
    let headers = request.headers();
    Seen {
        face,
        connection: wire.number,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        authorization: headers.contains_key(AUTHORIZATION),
        cookie: headers.contains_key(COOKIE),
        range: headers.get(RANGE).and_then(|v| v.to_str().ok()).map(str::to_owned),
        tally,
    }
}

/// An answer a fault gives by itself.
fn scripted(status: u16, headers: &[(&'static str, String)], body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
