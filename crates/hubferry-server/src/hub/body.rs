//! Request bodies with a limit: small ones in memory, large ones on disk and read line by line.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hubferry_core::error::{Error, Result};

use crate::store::next_piece;

/// Most bytes of an ordinary JSON request.
pub const JSON_LIMIT: usize = 8 * 1024 * 1024;

/// Why a body was not taken.
#[derive(Debug)]
pub enum BodyFault {
    /// It has more bytes than this.
    TooLarge(usize),
    /// It ended early, or could not be kept.
    Broken(Error),
}

impl From<Error> for BodyFault {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// Reads a whole body of at most `limit` bytes. Of a longer one the rest is read away for a moment, so that the refusal arrives.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes, BodyFault> {
    let mut all = BytesMut::new();
    let mut stream = body.into_data_stream();
    while let Some(piece) = next_piece(&mut stream).await? {
        if all.len() + piece.len() > limit {
            drain(Body::from_stream(stream)).await;
            return Err(BodyFault::TooLarge(limit));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// Reads on for a moment before a refusal is answered: a client that is still sending would otherwise see a broken connection
/// instead of the answer.
pub async fn drain(body: Body) {
    const MOST: usize = 16 * 1024 * 1024;
    let read = async {
        let mut seen = 0;
        let mut stream = body.into_data_stream();
        while let Some(Ok(piece)) = stream.next().await {
            seen += piece.len();
            if seen > MOST {
                break;
            }
        }
    };
    // Whoever sends slower than this gets the connection closed on them.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
}
