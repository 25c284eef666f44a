//! Bytes on their way in: collected into pieces, worked on by a blocking thread while the next ones arrive, and sent to the disk
//! before the end asks for it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt};
use hubferry_core::error::{Error, Kind, Result};
use tokio::task::JoinHandle;

/// How much arrives before it is worked on.
const PIECE: usize = 256 * 1024;
/// How much is written before the disk is asked to begin.
const BEHIND: u64 = 32 * 1024 * 1024;
/// A client that sends nothing for this long has gone, whatever its connection says.
const PATIENCE: Duration = Duration::from_mins(2);

/// The next bytes of a request; `Unavailable` when it breaks off or stands still.
pub(crate) async fn next_piece<E>(body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin)) -> Result<Option<Bytes>>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stalled = |_| Error::new(Kind::Unavailable, "the request stands still");
    let piece = tokio::time::timeout(PATIENCE, body.next()).await.map_err(stalled)?;
    piece.transpose().map_err(|e| Error::new(Kind::Unavailable, "the request broke off").caused_by(e))
}

/// What becomes of the bytes. It runs where it may block.
pub(super) trait Sink: Send + 'static {
    /// Takes the next bytes.
    fn take(&mut self, piece: &[u8]) -> Result<()>;
}

/// Feeds a sink: one piece is worked on while the next one arrives.
pub(super) struct Intake<S> {
    pending: BytesMut,
    work: Work<S>,
}

enum Work<S> {
    Idle(S),
    Busy(JoinHandle<Result<S>>),
    /// The sink failed and is gone.
    Lost,
}

impl<S: Sink> Intake<S> {
    pub(super) fn new(sink: S) -> Self {
        Self { pending: BytesMut::new(), work: Work::Idle(sink) }
    }

    /// Takes what arrived, and waits while the sink is behind.
    pub(super) async fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(piece);
        if self.pending.len() >= PIECE { self.pass_on().await } else { Ok(()) }
    }

    /// The sink, once it took everything.
    pub(super) async fn finish(mut self) -> Result<S> {
        self.pass_on().await?;
        self.sink().await
    }

    /// Waits until nothing works on the sink any more, and drops it.
    pub(super) async fn abandon(mut self) {
        drop(self.sink().await);
    }

    async fn pass_on(&mut self) -> Result<()> {
        let mut sink = self.sink().await?;
        let piece = self.pending.split();
        self.work = Work::Busy(tokio::task::spawn_blocking(move || sink.take(&piece).map(|()| sink)));
        Ok(())
    }

    async fn sink(&mut self) -> Result<S> {
        let lost = || Error::new(Kind::Bug, "a storage task ended without an answer");
        match std::mem::replace(&mut self.work, Work::Lost) {
            Work::Idle(sink) => Ok(sink),
            Work::Busy(work) => work.await.map_err(|e| lost().caused_by(e))?,
            Work::Lost => Err(lost()),
        }
    }
}

/// Has the disk write what arrived while more arrives, so that the last wait for it is short.
pub(super) struct WriteBehind {
    path: PathBuf,
    waiting: u64,
    busy: Arc<AtomicBool>,
}

impl WriteBehind {
    /// For the file at `path`, which somebody else writes.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, waiting: 0, busy: Arc::default() }
    }

    /// So many more bytes were written. To be called where a runtime is.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.waiting += bytes as u64;
        if self.waiting < BEHIND || self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        self.waiting = 0;
        let (path, busy) = (self.path.clone(), self.busy.clone());
        tokio::task::spawn_blocking(move || {
            // A handle of its own: an error that the system tells here is told once more to the one that asks at the end.
            let _ = File::open(&path).and_then(|file| file.sync_data());
            busy.store(false, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen(Vec<u8>);

    impl Sink for Seen {
        fn take(&mut self, piece: &[u8]) -> Result<()> {
            if piece.contains(&9) {
                return Err(Error::new(Kind::Io, "full"));
            }
            self.0.extend_from_slice(piece);
            Ok(())
        }
    }

    #[tokio::test]
    async fn everything_arrives_in_order() {
        let mut intake = Intake::new(Seen(Vec::new()));
        let pieces: Vec<Vec<u8>> = (0..7_u8).map(|i| vec![i; PIECE / 3]).collect();
        for piece in &pieces {
            intake.push(piece).await.unwrap();
        }
        assert_eq!(intake.finish().await.unwrap().0, pieces.concat());
    }

    #[tokio::test]
    async fn a_failed_sink_takes_nothing_more() {
        let mut intake = Intake::new(Seen(Vec::new()));
        intake.push(&vec![9; PIECE]).await.unwrap();
        assert_eq!(intake.push(&vec![1; PIECE]).await.unwrap_err().kind(), Kind::Io);
        assert_eq!(intake.push(&vec![1; PIECE]).await.unwrap_err().kind(), Kind::Bug);
        intake.abandon().await;
    }
}
