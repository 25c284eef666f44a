//! Reading a range of a file by Xet, one window after the other.
//!
//! The library gathers everything it is asked for in memory before it is sure that somebody takes it. So each reader asks for a
//! window at a time, as large as its share of the memory: a window costs a question to the store (which xorbs hold these bytes?)
//! and one request per xorb, and the engine, whose chunks grow with the time to the first byte, has other readers busy meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Entry, RepoPath, Revision};
use hubferry_core::remote::ByteStream;
use tokio::sync::mpsc;
use xet::xet_session::{XetDownloadStreamGroup, XetFileInfo};

use super::grant::{self, Right};
use super::session::{failure, headers};
use super::watch::{Waiting, patience};
use super::{Reader, SMALLEST, Way};
use crate::hf::Place;

/// The largest window: with a few readers, more would not be faster.
const LARGEST: u64 = 16 << 20;
/// The smallest: below, questions would be most of the work.
const LEAST: u64 = 1 << 20;
/// A window is in memory as it came and unpacked.
const COPIES: u64 = 2;
/// A reader that others give up after waiting this long counts as silent.
const IN_VAIN: Duration = Duration::from_secs(5);

/// How the other way is called.
const INSTEAD: &str = "plain HTTP";

/// Connections to the store for one revision.
pub(super) struct Group {
    at: Revision,
    group: XetDownloadStreamGroup,
}

impl Place {
    /// A stream of `range` by Xet; `None` when the file does not go that way. Only files whose SHA-256 is known do: the library
    /// checks nothing.
    pub(in crate::hf) fn read_by_xet(
        self: &Arc<Self>,
        at: &Revision,
        path: &RepoPath,
        entry: Option<Entry>,
        range: &Range<u64>,
    ) -> Option<ByteStream> {
        let way = self.xet.as_ref().filter(|way| way.trust.allows(path))?;
        let entry = entry.filter(|entry| entry.size >= SMALLEST && entry.digests.sha256.is_some())?;
        let hash = self.api.listed.get(at, path)?;
        let reading = Reading {
            place: self.clone(),
            at: at.clone(),
            path: path.clone(),
            file: XetFileInfo::new(hash, entry.size),
            range: range.clone(),
            window: None,
            reader: way.xet.reader(),
        };
        Some(
            stream::try_unfold(reading, |mut reading| async move {
                let piece = reading.next().await?;
                Ok(piece.map(|piece| (piece, reading)))
            })
            .boxed(),
        )
    }

    /// The engine found bytes of a file wrong.
    pub(in crate::hf) fn doubt_xet(&self, path: &RepoPath) {
        if let Some(way) = self.xet.as_ref().filter(|way| way.trust.has_worked(path)) {
            way.trust.give_up(path, "wrong bytes arrived", INSTEAD, &*self.api.reporter);
        }
    }
}

struct Reading {
    place: Arc<Place>,
    at: Revision,
    path: RepoPath,
    file: XetFileInfo,
    /// What is still to come.
    range: Range<u64>,
    /// What is being read, and where it ends.
    window: Option<(mpsc::Receiver<Result<Bytes>>, u64)>,
    reader: Reader,
}

impl Reading {
    /// The next piece. After a failure the file is not read by Xet any more, so whoever asks again gets the other way.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let place = self.place.clone();
        let Some(way) = &place.xet else { return Err(Error::new(Kind::Bug, "a file is read by Xet without Xet")) };
        let idle = place.api.http.config().idle_timeout;
        let path = self.path.clone();
        let give_up = |why: &str| way.trust.give_up(&path, why, INSTEAD, &*place.api.reporter);
        let waiting = Waiting::new(IN_VAIN.min(patience(idle)), || give_up("no byte came for a while"));
        let answer = tokio::time::timeout(patience(idle), self.pull(way)).await;
        waiting.end();
        let error = match answer {
            Ok(Ok(piece)) => {
                way.trust.worked(&self.path);
                place.api.http.wire().add_received(piece.len() as u64);
                return Ok(Some(piece));
            }
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Unavailable, format!("no byte came for {} s", patience(idle).as_secs_f64().ceil())),
        };
        self.window = None;
        // A group that failed once refuses everything from then on.
        *way.reading.lock().await = None;
        give_up(error.message());
        // Whatever it was, asking again is right: the hub itself answers then, and if it refuses, it says why.
        Err(Error::new(Kind::Unavailable, error.message().to_owned()).context("file", &self.path))
    }

    async fn pull(&mut self, way: &Way) -> Result<Bytes> {
        loop {
            let (mut pieces, end) = match self.window.take() {
                Some(window) => window,
                None => self.open(way).await?,
            };
            let left = end - self.range.start;
            match pieces.recv().await.transpose()? {
                Some(piece) if piece.is_empty() => self.window = Some((pieces, end)),
                Some(piece) if piece.len() as u64 > left => {
                    return Err(Error::new(Kind::Unavailable, "Xet brought more bytes than it was asked for"));
                }
                Some(piece) => {
                    self.range.start += piece.len() as u64;
                    if self.range.start < end {
                        self.window = Some((pieces, end));
                    }
                    return Ok(piece);
                }
                None => return Err(Error::new(Kind::Unavailable, format!("Xet ended {left} bytes early"))),
            }
        }
    }

    async fn open(&self, way: &Way) -> Result<(mpsc::Receiver<Result<Bytes>>, u64)> {
        let length = (self.reader.share() / COPIES).clamp(LEAST, LARGEST);
        let end = self.range.end.min(self.range.start.saturating_add(length));
        let group = self.group(way).await?;
        // One piece on its way is enough: the others wait in the library.
        let (sender, pieces) = mpsc::channel(1);
        way.xet.runtime()?.spawn(pass(group, self.file.clone(), self.range.start..end, sender));
        Ok((pieces, end))
    }

    /// The connections to the store, made once however many readers there are. The library renews its token by itself.
    async fn group(&self, way: &Way) -> Result<XetDownloadStreamGroup> {
        let mut known = way.reading.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at == self.at) {
            return Ok(known.group.clone());
        }
        let api = &self.place.api;
        let repo = self.place.repo(false).await?;
        let grant = grant::ask(api, way.token.as_ref(), &repo, self.at.as_str(), Right::Read).await?;
        let grant = grant.ok_or_else(|| Error::new(Kind::Unavailable, "the hub gives no token for its Xet store"))?;
        let http = api.http.config();
        let builder = way.xet.session(false, http)?.new_download_stream_group().map_err(|e| failure(&e))?;
        let builder = builder
            .with_endpoint(grant.store)
            .with_token_info(grant.token.expose(), grant.until)
            .with_token_refresh_url(grant.again, grant.again_headers)
            .with_custom_headers(headers(http));
        let group = way.xet.run(builder.build()).await?;
        *known = Some(Group { at: self.at.clone(), group: group.clone() });
        Ok(group)
    }
}

/// Hands on what the library brings, on its own threads, until nobody wants it any more.
async fn pass(group: XetDownloadStreamGroup, file: XetFileInfo, range: Range<u64>, to: mpsc::Sender<Result<Bytes>>) {
    let reading = async {
        let mut stream = group.download_stream(file, Some(range)).await?;
        while let Some(piece) = stream.next().await? {
            if to.send(Ok(piece)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = reading => ended,
        () = to.closed() => Ok(()),
    };
    if let Err(error) = ended {
        // Whoever is gone need not hear of it.
        let _ = to.send(Err(failure(&error))).await;
    }
}
