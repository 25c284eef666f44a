//! Who holds a stream of a host and who waits for one: in the order they came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::Permit;

/// What a holder is told.
#[derive(Debug, Default)]
pub(super) struct Recall {
    surplus: AtomicBool,
    changed: Notify,
}

impl Recall {
    pub(super) fn is_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }

    fn set(&self, surplus: bool) {
        if self.surplus.swap(surplus, Ordering::Relaxed) != surplus && surplus {
            self.changed.notify_waiters();
        }
    }

    /// Waits until the stream is to be given back.
    pub(super) async fn wait(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_surplus() {
                return;
            }
            changed.await;
        }
    }
}

/// A slot that was given out.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) recall: Arc<Recall>,
}

/// The slots of one host.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// By number: the oldest first.
    holders: BTreeMap<u64, Arc<Recall>>,
    queue: VecDeque<oneshot::Sender<Permit>>,
    next: u64,
    /// Given out beyond the limit because all holders were silent.
    overdrawn: usize,
    marked: bool,
    /// When something last came by a stream.
    pub(super) stirred: Duration,
}

impl Slots {
    pub(super) fn active(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.iter().filter(|waiter| !waiter.is_closed()).count()
    }

    /// Whether [`Slots::spare`] would give one.
    pub(super) fn has_spare(&self, limit: usize) -> bool {
        self.queue.iter().all(oneshot::Sender::is_closed) && self.holders.len() < limit + self.overdrawn
    }

    /// A slot, if the limit allows one more and nobody waits for it.
    pub(super) fn spare(&mut self, limit: usize) -> Option<Slot> {
        self.forget_gone();
        (self.queue.is_empty() && self.holders.len() < limit + self.overdrawn).then(|| self.take())
    }

    /// Puts somebody at the end of the queue.
    pub(super) fn queue(&mut self) -> oneshot::Receiver<Permit> {
        let (sender, receiver) = oneshot::channel();
        self.queue.push_back(sender);
        receiver
    }

    /// The next slot for who has waited longest.
    pub(super) fn grant(&mut self, limit: usize) -> Option<(oneshot::Sender<Permit>, Slot)> {
        self.forget_gone();
        if self.holders.len() >= limit + self.overdrawn {
            return None;
        }
        Some((self.queue.pop_front()?, self.take()))
    }

    /// Allows one more than the limit, at most as many again.
    pub(super) fn overdraw(&mut self, now: Duration, limit: usize) {
        self.overdrawn = (self.overdrawn + 1).min(limit);
        self.stirred = now;
    }

    /// A slot comes back.
    pub(super) fn give_back(&mut self, number: u64, limit: usize) {
        self.holders.remove(&number);
        if self.holders.len() <= limit {
            self.overdrawn = 0;
        }
    }

    /// Tells the newest holders beyond the limit to give back, and nobody else.
    pub(super) fn mark(&mut self, limit: usize) {
        let allowed = limit.saturating_add(self.overdrawn);
        if !self.marked && self.holders.len() <= allowed {
            return;
        }
        for (place, recall) in self.holders.values().enumerate() {
            recall.set(place >= allowed);
        }
        self.marked = self.holders.len() > allowed;
    }

    fn take(&mut self) -> Slot {
        let (number, recall) = (self.next, Arc::<Recall>::default());
        self.next += 1;
        self.holders.insert(number, recall.clone());
        Slot { number, recall }
    }

    fn forget_gone(&mut self) {
        while self.queue.front().is_some_and(oneshot::Sender::is_closed) {
            self.queue.pop_front();
        }
    }
}
