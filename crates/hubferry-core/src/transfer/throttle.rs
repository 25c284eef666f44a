//! `--bwlimit`: a budget of bytes per second for one direction of a run, which may follow a timetable.

mod timetable;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use timetable::{Timetable, parse_size};

/// What a pause may save up, as time at the rate. It also pays for timers that fire late, so that the rate is met on average.
const BURST: f64 = 0.1;

/// A rate is asked for again after this long, and nobody sleeps longer at once: a change takes effect within a second.
const CHECK: Duration = Duration::from_millis(500);

/// The rate at present in bytes per second; `None` is as fast as it goes.
type Rate = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// Paces one direction of a run. Shared by all its streams: what each of them takes is let through in the order it was taken.
pub struct Throttle {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    per_second: Option<f64>,
    checked: Instant,
    /// Bytes taken so far.
    taken: f64,
    /// Bytes that were allowed by `upto`. At most a burst ahead of `taken`, or behind by what is being waited for.
    allowed: f64,
    upto: Instant,
}

impl Throttle {
    /// A rate in bytes per second; zero counts as one.
    pub fn new(bytes_per_second: u64) -> Self {
        Self::following(move || Some(bytes_per_second))
    }

    /// A rate that changes: `rate` is asked now and then, and tells bytes per second or `None` for no limit. It must not block.
    pub fn following(rate: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        let now = Instant::now();
        let per_second = rate().map(positive);
        let state = State { per_second, checked: now, taken: 0.0, allowed: per_second.map_or(0.0, |rate| rate * BURST), upto: now };
        Self { rate: Box::new(rate), state: Mutex::new(state) }
    }

    /// Waits until `bytes` more fit into the rate. Bytes taken by somebody who stops waiting stay taken: they have come or gone.
    pub async fn take(&self, bytes: u64) {
        let mut mine = None;
        loop {
            let wait = {
                let mut state = self.advanced();
                let mine = *mine.get_or_insert_with(|| {
                    state.taken += bytes as f64;
                    state.taken
                });
                let Some(per_second) = state.per_second else { return };
                let missing = mine - state.allowed;
                if missing <= 0.0 {
                    return;
                }
                Duration::from_secs_f64((missing / per_second).min(CHECK.as_secs_f64()))
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// How many bytes at once keep the flow even at the present rate: a tenth of a second of it, at most `most`.
    pub fn portion(&self, most: usize) -> usize {
        let Some(per_second) = self.advanced().per_second else { return most };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number below `most`")]
        let portion = (per_second / 10.0).clamp(1024.0, (most as f64).max(1024.0)) as usize;
        portion.min(most)
    }

    /// The state as of now.
    fn advanced(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(state.upto).as_secs_f64();
        state.upto = now;
        state.allowed = match state.per_second {
            Some(rate) => (state.allowed + rate * passed).min(state.taken + rate * BURST),
            None => state.taken,
        };
        if now.saturating_duration_since(state.checked) >= CHECK {
            state.checked = now;
            state.per_second = (self.rate)().map(positive);
        }
        state
    }
}

fn positive(rate: u64) -> f64 {
    rate.max(1) as f64
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    async fn seconds(work: impl Future<Output = ()>) -> f64 {
        let started = Instant::now();
        work.await;
        started.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_of_many_streams_with_large_pieces() {
        let throttle = Arc::new(Throttle::new(1_000_000_000));
        let took = seconds(async {
            let streams = (0..8).map(|_| {
                let throttle = throttle.clone();
                tokio::spawn(async move {
                    for _ in 0..64 {
                        throttle.take(8 << 20).await;
                    }
                })
            });
            futures_util::future::join_all(streams).await;
        })
        .await;
        let expected = 8.0 * 64.0 * f64::from(8 << 20) / 1e9;
        assert!((took - expected).abs() < 0.15, "{took} {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_at_a_low_rate_flow_evenly() {
        let throttle = Throttle::new(10_000);
        let mut longest = 0.0_f64;
        let took = seconds(async {
            for _ in 0..50 {
                longest = longest.max(seconds(throttle.take(1000)).await);
            }
        })
        .await;
        assert!((4.8..5.1).contains(&took) && longest < 0.11, "{took} {longest}");
        assert_eq!((throttle.portion(65_536), Throttle::new(1 << 30).portion(65_536)), (1024, 65_536));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let throttle = Throttle::new(1000);
        throttle.take(100).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(seconds(throttle.take(100)).await < 0.01);
        assert!(seconds(throttle.take(1000)).await > 0.9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_counts_within_a_second() {
        let rate = Arc::new(AtomicU64::new(1));
        let seen = rate.clone();
        let throttle = Throttle::following(move || Some(seen.load(Ordering::Relaxed)).filter(|rate| *rate > 0));
        let waiting = throttle.take(1_000_000);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut waiting).await.is_err());
        rate.store(0, Ordering::Relaxed);
        assert!(seconds(waiting).await <= 1.0, "no limit any more");
        rate.store(100, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        throttle.take(1).await;
        let took = seconds(throttle.take(1000)).await;
        assert!((9.0..11.0).contains(&took), "{took}");
    }
}
