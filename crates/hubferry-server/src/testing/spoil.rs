//! Faults in the answer itself: its head, its bytes, its pace and its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::body::{Frame, SizeHint};

use super::line::Wire;
use super::network;
use super::{Fault, Misplace};

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>;

/// Long enough for what was sent to leave the machine before the connection breaks.
const LEAVES: Duration = Duration::from_millis(50);

/// Lets a fault act on an answer.
pub(super) fn spoil(mut response: Response, fault: &Fault, wire: &Wire) -> Response {
    match *fault {
        Fault::Cut(at) => response.map(|body| Body::from_stream(Broken::new(body, at, LEAVES))),
        Fault::Stall(at, pause) => response.map(|body| Body::from_stream(Broken::new(body, at, pause.max(LEAVES)))),
        Fault::Reset(at) => {
            // It only says how the connection ends, whenever it does.
            wire.reset();
            response.map(|body| Body::from_stream(Broken::new(body, at, LEAVES)))
        }
        Fault::Shorten(at) => {
            response.headers_mut().remove(CONTENT_LENGTH);
            response.map(|body| Body::from_stream(shortened(body, at)))
        }
        Fault::Excess(more) => {
            response.headers_mut().remove(CONTENT_LENGTH);
            let more = vec![0; usize::try_from(more).unwrap_or(usize::MAX)];
            response.map(|body| Body::from_stream(body.into_data_stream().chain(futures_util::stream::iter([Ok(more.into())]))))
        }
        Fault::Flip(at) => response.map(|body| Body::from_stream(flipped(body, at))),
        Fault::Slow(rate) => response.map(|body| slow(body, rate)),
        Fault::Misplace(how) => {
            misplace(&mut response, how);
            response
        }
        _ => response,
    }
}

fn flipped(body: Body, at: u64) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    let mut seen = 0;
    body.into_data_stream().map(move |piece| {
        piece.map(|piece| {
            let start = seen;
            seen += piece.len() as u64;
            flip(piece, at.checked_sub(start))
        })
    })
}

fn flip(piece: Bytes, at: Option<u64>) -> Bytes {
    let Some(at) = at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < piece.len()) else { return piece };
    let mut changed = BytesMut::from(&piece[..]);
    changed[at] ^= 1;
    changed.freeze()
}

fn shortened(body: Body, most: u64) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    let left = usize::try_from(most).unwrap_or(usize::MAX);
    body.into_data_stream().scan(left, |left, piece| {
        let piece = piece.map(|mut piece| {
            piece.truncate(*left);
            *left -= piece.len();
            piece
        });
        let ended = piece.as_ref().is_ok_and(Bytes::is_empty);
        futures_util::future::ready((!ended).then_some(piece))
    })
}

/// Twenty pieces a second, or one byte at a time.
pub(super) fn slow(body: Body, rate: u64) -> Body {
    let rate = rate.max(1);
    let most = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
    let pieces: Pieces = Box::pin(body.into_data_stream());
    Body::from_stream(futures_util::stream::try_unfold((pieces, Bytes::new()), move |(mut pieces, mut waiting)| async move {
        while waiting.is_empty() {
            let Some(next) = pieces.next().await else { return Ok(None) };
            waiting = next?;
        }
        let piece = waiting.split_to(most.min(waiting.len()));
        tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        Ok::<_, axum::Error>(Some((piece, (pieces, waiting))))
    }))
}

/// `bytes 0-499/1234` as first, last and total.
fn content_range(response: &Response) -> Option<(u64, u64, u64)> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

fn misplace(response: &mut Response, how: Misplace) {
    let Some((first, last, total)) = content_range(response) else { return };
    let text = match how {
        Misplace::Start => format!("bytes {}-{}/{}", first + 1, last + 1, total.max(last + 2)),
        Misplace::Total => format!("bytes {first}-{last}/{}", total + 1),
        Misplace::Unsaid => String::new(),
        Misplace::Elsewhere(_) => return,
    };
    response.headers_mut().remove(CONTENT_RANGE);
    if let Ok(value) = HeaderValue::from_str(&text)
        && !text.is_empty()
    {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
}

/// A body that ends in an error after some bytes and a pause.
struct Broken {
    inner: Pieces,
    left: u64,
    pause: Duration,
    end: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Broken {
    fn new(body: Body, at: u64, pause: Duration) -> Self {
        Self { inner: Box::pin(body.into_data_stream()), left: at, pause, end: None }
    }
}

impl Stream for Broken {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left > 0 {
            return self.inner.as_mut().poll_next(cx).map(|piece| match piece {
                None => None,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
                Some(Ok(mut piece)) => {
                    piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= piece.len() as u64;
                    Some(Ok(piece))
                }
            });
        }
        let pause = self.pause;
        let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        end.as_mut().poll(cx).map(|()| Some(Err(io::Error::other("a scripted fault"))))
    }
}

/// A body whose request counts as under way until its last byte has left.
pub(super) struct Guarded {
    body: Body,
    stream: Option<network::Stream>,
    wire: Arc<Wire>,
}

impl Guarded {
    pub(super) fn new(body: Body, stream: network::Stream, wire: Arc<Wire>) -> Self {
        Self { body, stream: Some(stream), wire }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.wire.finish(stream);
        }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
