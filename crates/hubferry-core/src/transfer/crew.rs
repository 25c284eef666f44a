//! Several streams at one range: as many as the hosts bear, each with a chunk at a time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::body::Job;
use super::governor::Permit;
use super::reading::Reading;
use super::work::{Chunk, Length, Work};
use crate::error::{Error, Kind, Result};

/// How often the crew looks whether more streams are allowed and whether one is stuck.
const TICK: Duration = Duration::from_millis(25);
/// Where the chunks of a crew go.
pub(super) trait Sinks: Send + Sync {
    /// A chunk begins; its bytes come in order. `origin` brings them.
    fn begin(&self, start: u64, origin: usize) -> Box<dyn Sink>;

    /// The offset that somebody waits for right now.
    fn needed(&self) -> Option<u64> {
        None
    }

    /// Whether putting bytes away may wait for other streams. The right to a stream is then not kept meanwhile, since they may need
    /// it.
    fn may_wait(&self) -> bool {
        false
    }
}

/// Where one chunk goes.
#[async_trait]
pub(super) trait Sink: Send {
    /// Takes the next bytes.
    async fn take(&mut self, piece: Bytes) -> Result<()>;
    /// No more come. Says up to where everything was put away.
    async fn end(&mut self) -> Result<u64>;
}

/// How a stream ended.
type Ended = Result<(), Failure>;

/// Why a stream ended early.
enum Failure {
    /// An origin does not deliver.
    Origin(usize, Error),
    /// What it delivers cannot be put away.
    Sink(Error),
}

/// Reads everything in `work` into `sinks`. Dropped, it stops all streams.
pub(super) async fn run(job: &Arc<Job>, work: &Arc<Work>, sinks: &Arc<dyn Sinks>) -> Result<()> {
    let mut crew = Crew { job, work, sinks, streams: JoinSet::new(), queue: None, held_up: Arc::default() };
    loop {
        crew.hire();
        if work.is_done() {
            return Ok(());
        }
        crew.wait().await?;
        work.review(sinks.needed());
    }
}

struct Crew<'a> {
    job: &'a Arc<Job>,
    work: &'a Arc<Work>,
    sinks: &'a Arc<dyn Sinks>,
    streams: JoinSet<Ended>,
    /// Standing in line for a first permit.
    queue: Option<BoxFuture<'static, (usize, Option<Permit>)>>,
    /// Streams that wait until their bytes can be put away.
    held_up: Arc<AtomicUsize>,
}

impl Crew<'_> {
    /// Begins as many streams as there is work and permission for.
    fn hire(&mut self) {
        while self.work.first_todo().is_some() || (!self.streams.is_empty() && self.work.has_begun() && self.may_split()) {
            // Until the first answer is there, a second stream would only ask for the same link.
            if !self.streams.is_empty() && (!self.work.has_begun() || self.is_far_ahead()) {
                return;
            }
            let Some((origin, permit)) = self.spare() else { break };
            self.queue = None;
            if !self.begin(origin, permit) {
                return;
            }
        }
        if self.streams.is_empty() && self.queue.is_none() && self.work.first_todo().is_some() {
            self.queue = Some(self.job.clone().first_permit().boxed());
        }
    }

    /// Whoever takes the bytes is slower than those who bring them: more streams would only fill the memory. What he waits for right
    /// now is read in any case.
    fn is_far_ahead(&self) -> bool {
        let awaited = self.sinks.needed().is_some_and(|needed| self.work.first_todo().is_some_and(|first| first <= needed));
        self.held_up.load(Ordering::Relaxed) > 0 && !awaited
    }

    /// Splitting is only worth it when somebody is free for the other half.
    fn may_split(&self) -> bool {
        self.job.has_spare() && self.job.origins.usable().iter().all(|number| self.job.is_seekable(*number)) && self.work.split()
    }

    /// A permit that is free now, of any origin that may be asked; for a place on this machine one stream is enough.
    fn spare(&self) -> Option<(usize, Option<Permit>)> {
        let usable = self.job.origins.usable();
        let turn = self.streams.len();
        (0..usable.len()).map(|n| usable[(n + turn) % usable.len()]).find_map(|number| match &self.job.origins.get(number)?.governor {
            Some(governor) => governor.spare().map(|permit| (number, Some(permit))),
            None => self.streams.is_empty().then_some((number, None)),
        })
    }

    fn begin(&mut self, origin: usize, permit: Option<Permit>) -> bool {
        let whole = !self.job.is_seekable(origin) || self.job.origins.get(origin).is_some_and(|origin| origin.governor.is_none());
        let length = match &permit {
            _ if whole => Length::Whole,
            Some(permit) if permit.is_on_trial() => Length::Short,
            _ => Length::Usual,
        };
        let Some(chunk) = self.work.claim(origin, length) else { return false };
        let sink = self.sinks.begin(chunk.range.start, origin);
        let reading = Reading::new(self.job.clone(), origin, permit, chunk.range.clone());
        let held_up = self.sinks.may_wait().then(|| self.held_up.clone());
        self.streams.spawn(stream(reading, self.work.clone(), chunk, sink, held_up));
        true
    }

    /// Waits until a stream has ended, the work has changed, or it is time to look again.
    async fn wait(&mut self) -> Result<()> {
        let queue = async {
            match &mut self.queue {
                Some(queue) => queue.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.streams.join_next(), if !self.streams.is_empty() => {
                match ended.map_err(|lost| Error::new(Kind::Bug, "a stream ended abnormally").caused_by(lost))? {
                    Ok(()) => Ok(()),
                    Err(Failure::Origin(origin, error)) => self.job.origins.give_up(origin, error, &self.job.context),
                    Err(Failure::Sink(error)) => Err(error),
                }
            }
            (origin, permit) = queue => {
                self.queue = None;
                self.begin(origin, permit);
                Ok(())
            }
            () = self.work.changed() => Ok(()),
            () = tokio::time::sleep(TICK) => Ok(()),
        }
    }
}

/// One stream: one chunk. What it cannot finish it gives back.
async fn stream(mut reading: Reading, work: Arc<Work>, chunk: Chunk, mut sink: Box<dyn Sink>, held_up: Option<Arc<AtomicUsize>>) -> Ended {
    let result = read(&mut reading, &work, &chunk, &mut *sink, held_up.as_deref()).await;
    // Others may have the right to a stream while the last bytes are put away.
    drop(reading);
    let settled = sink.end().await;
    let all = settled.as_ref().is_ok_and(|settled| *settled >= chunk.orders.end());
    if all {
        work.finish(&chunk);
    } else {
        work.give_back(&chunk, *settled.as_ref().unwrap_or(&chunk.range.start));
    }
    result.and(settled.map(drop).map_err(Failure::Sink))
}

/// Reads until the chunk ends or is taken away.
async fn read(reading: &mut Reading, work: &Work, chunk: &Chunk, sink: &mut dyn Sink, held_up: Option<&AtomicUsize>) -> Ended {
    let mut answered = false;
    loop {
        work.wait(chunk);
        let recalled = reading.recalled();
        let piece = {
            let mut next = pin!(reading.next());
            tokio::select! {
                biased;
                piece = &mut next => Some(piece),
                () = chunk.orders.stopped() => None,
                () = recalled => if work.ends_soon(chunk) {
                    tokio::select! {
                        piece = next => Some(piece),
                        () = chunk.orders.stopped() => None,
                    }
                } else { None },
            }
        };
        let Some(piece) = piece else { return Ok(()) };
        let piece = piece.map_err(|error| Failure::Origin(reading.origin(), error))?;
        let Some(mut piece) = piece else { return Ok(()) };
        if !answered && let Some(latency) = reading.latency() {
            answered = true;
            work.answered(chunk, latency);
        }
        let length = piece.len() as u64;
        let own = work.advance(chunk, length);
        piece.truncate(usize::try_from(own).unwrap_or(usize::MAX));
        if !piece.is_empty() {
            let mut taking = sink.take(piece);
            let taken = if let Some(taken) = (&mut taking).now_or_never() {
                taken
            } else {
                let _held_up = held_up.map(|count| {
                    reading.rest();
                    HeldUp::new(count)
                });
                taking.await
            };
            taken.map_err(Failure::Sink)?;
        }
        // What is on its way already would be sent once more.
        if own < length || (reading.is_surplus() && !work.ends_soon(chunk)) {
            return Ok(());
        }
    }
}

/// Counts a stream while it is held up.
struct HeldUp<'a>(&'a AtomicUsize);

impl<'a> HeldUp<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
