//! Carries out a plan: identify what has no name yet, ask what is missing, put it, commit once. All the I/O of a run.
//!
//! The memory in flight is bounded by the streams that run at once, never by the size of a file.

pub mod body;
mod commit;
mod crew;
mod fill;
pub mod governor;
mod identify;
mod inspect;
pub mod journal;
mod ledger;
mod line;
pub mod memory;
mod origin;
pub mod pairs;
mod ranges;
mod reading;
mod repair;
pub mod retry;
mod stage;
mod stream;
pub mod throttle;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use commit::Landed;
pub(crate) use commit::shows;
use governor::Governors;
pub use identify::identify;
pub use inspect::inspect;
use memory::Budget;
pub use origin::Mirror;
use pairs::DigestPairs;
use retry::RetryPolicy;

use crate::error::Result;
use crate::events::{Event, Phase, Reporter};
use crate::leaks::{Gate, Leak};
use crate::plan::Plan;
use crate::remote::{Source, Target};

/// What every part of a run shares.
#[derive(Clone)]
pub struct Context {
    /// Takes the events.
    pub reporter: Arc<dyn Reporter>,
    /// Pairs of digests known from before; new ones are added.
    pub pairs: Arc<dyn DigestPairs>,
    /// Most files that travel at once.
    pub transfers: usize,
    /// How many streams each host bears.
    pub governors: Governors,
    /// For bytes that wait in memory.
    pub memory: Budget,
    /// How often things are tried.
    pub retry: RetryPolicy,
    /// A stream without a byte for this long is replaced.
    pub idle: Duration,
    /// Paces what is read; `None` is as fast as it goes.
    pub throttle: Option<Arc<throttle::Throttle>>,
    /// Looks for secrets in what everybody will be able to read; `None` where that is nobody.
    pub secrets: Option<Arc<Gate>>,
}

impl Context {
    /// The defaults: as many files at once as the places bear, 30 seconds of patience.
    pub fn new(reporter: Arc<dyn Reporter>) -> Self {
        Self {
            reporter,
            pairs: Arc::new(pairs::MemoryPairs::default()),
            transfers: 64,
            governors: Governors::default(),
            memory: Budget::default(),
            retry: RetryPolicy::default(),
            idle: Duration::from_secs(30),
            throttle: None,
            secrets: None,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("transfers", &self.transfers)
            .field("retry", &self.retry)
            .field("idle", &self.idle)
            .field("governors", &self.governors)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// The ends of a run.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Where the bytes come from.
    pub from: Arc<dyn Source>,
    /// Further places that hold some of the same bytes.
    pub also: Vec<Mirror>,
    /// Where they go.
    pub to: Arc<dyn Target>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Blobs whose bytes travelled.
    pub moved_blobs: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Blobs that the target held already.
    pub reused_blobs: u64,
    /// The commits made, in order. One, unless the target could not take everything at once.
    pub commits: Vec<Landed>,
    /// Secrets that were found and let pass.
    pub leaks: Vec<Leak>,
}

/// Carries out `plan`. On failure nothing is visible at the target (unless it had to be split into several commits); what was
/// staged is found again by the next run.
pub async fn run(plan: &Plan, ends: &Ends, message: &str, context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if plan.is_empty() {
        return Ok(outcome);
    }
    context.reporter.event(&Event::Phase(Phase::Moving));
    context.reporter.event(&Event::Planned { files: plan.puts().count() as u64, bytes: plan.bytes() });
    let staged = stage::stage(plan, ends, context, &mut outcome).await?;
    context.reporter.event(&Event::Phase(Phase::Committing));
    outcome.commits = commit::commit(plan, staged, &*ends.to, message, context).await?;
    Ok(outcome)
}
