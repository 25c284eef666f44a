//! A file on its way in: exactly the bytes that were asked for, or an error, whatever the server makes of the range.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::remote::ByteStream;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};

use super::response::Response;

/// Yields the bytes `asked`. A partial answer must begin where it was asked to, a whole answer is read up to that place, and one
/// that says another size than `size` is `Changed`. The stream ends in `Unavailable` when it breaks early.
pub(super) fn ranged(response: Response, asked: Range<u64>, size: Option<u64>) -> Result<ByteStream> {
    response.check_encoding()?;
    let skip = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            check_part(&response, &asked, size)?;
            0
        }
        StatusCode::OK => {
            check_whole(&response, &asked, size)?;
            asked.start
        }
        _ => return Err(response.error(Kind::Invalid, "the answer is no file")),
    };
    let reading = Reading { response, skip, left: asked.end.saturating_sub(asked.start), failed: false };
    Ok(stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await?;
        reading.failed = item.is_err();
        Some((item, reading))
    })
    .boxed())
}

/// Yields the body to its end; after an error nothing more.
pub(super) fn whole(response: Response) -> ByteStream {
    stream::unfold(Some(response), |response| async move {
        let mut response = response?;
        match response.chunk().await {
            Ok(Some(chunk)) => {
                response.http.wire().add_received(chunk.len() as u64);
                Some((Ok(chunk), Some(response)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

fn check_part(response: &Response, asked: &Range<u64>, size: Option<u64>) -> Result<()> {
    let text = response.header(CONTENT_RANGE.as_str()).unwrap_or_default();
    let Some((first, last, total)) = content_range(text) else {
        return Err(misplaced(response, "the answer does not say which part of the file it is".to_owned()));
    };
    if first != asked.start || last >= asked.end {
        let wanted = format!("{} to {}", asked.start, asked.end.saturating_sub(1));
        return Err(misplaced(response, format!("bytes {first} to {last} came instead of {wanted}")));
    }
    same_size(response, total, size)
}

/// A proxy or cache on the way is confused. The next answer may come by another way.
fn misplaced(response: &Response, message: String) -> Error {
    response
        .error(Kind::Invalid, message)
        .retry_as(Retry::Backoff)
        .hint("something on the way answers for another range: try without the proxy")
}

fn check_whole(response: &Response, asked: &Range<u64>, size: Option<u64>) -> Result<()> {
    let length = response.header(CONTENT_LENGTH.as_str()).and_then(|text| text.trim().parse::<u64>().ok());
    same_size(response, length, size)?;
    if length.is_some_and(|length| length < asked.end) {
        return Err(response.error(Kind::Invalid, format!("the range {}..{} is past the end of the file", asked.start, asked.end)));
    }
    Ok(())
}

fn same_size(response: &Response, said: Option<u64>, expected: Option<u64>) -> Result<()> {
    match said.zip(expected) {
        Some((said, expected)) if said != expected => {
            Err(response.error(Kind::Changed, format!("the file has {said} bytes now, not {expected}")))
        }
        _ => Ok(()),
    }
}

/// `bytes 0-499/1234` or `bytes 0-499/*` as first, last and total.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

/// How long the end of a body may take when all its bytes are there.
const LAST_WORD: Duration = Duration::from_millis(100);

struct Reading {
    response: Response,
    skip: u64,
    left: u64,
    failed: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while self.left > 0 && !self.failed {
            let mut chunk = match self.response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Some(Err(self.ended_early())),
                Err(error) => return Some(Err(error)),
            };
            self.response.http.wire().add_received(chunk.len() as u64);
            let dropped = self.skip.min(chunk.len() as u64);
            self.skip -= dropped;
            let start = usize::try_from(dropped).unwrap_or(chunk.len());
            let _ = chunk.split_to(start);
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            chunk.truncate(most);
            if !chunk.is_empty() {
                self.left -= chunk.len() as u64;
                if self.left == 0 {
                    self.response.close(LAST_WORD).await;
                }
                return Some(Ok(chunk));
            }
        }
        None
    }

    fn ended_early(&self) -> Error {
        self.response.error(Kind::Unavailable, format!("the stream ended {} bytes early", self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 0-4/10"), Some((0, 4, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["", "bytes */10", "bytes 4-0/10", "bytes 0-10/10", "bytes 0-4", "items 0-4/10", "bytes 0-99999999999999999999/*"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
