//! `--bwlimit`: one budget of bytes per second for everything a run reads.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Paces a run to a rate. Shared by all its streams.
#[derive(Debug)]
pub struct Throttle {
    per_second: f64,
    /// The moment until which the bytes taken so far have used up the rate.
    spent_until: Mutex<Instant>,
}

impl Throttle {
    /// A rate in bytes per second; zero counts as one.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { per_second: bytes_per_second.max(1) as f64, spent_until: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more fit into the rate. A short burst after a pause is allowed.
    pub async fn take(&self, bytes: u64) {
        let wait = {
            let mut until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let burst = Duration::from_millis(100);
            let from = (*until).max(now.checked_sub(burst).unwrap_or(now));
            *until = from + Duration::from_secs_f64(bytes as f64 / self.per_second);
            until.saturating_duration_since(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_rate() {
        let throttle = Throttle::new(1_000_000);
        let started = Instant::now();
        for _ in 0..10 {
            throttle.take(50_000).await;
        }
        // 500 kB at 1 MB/s take half a second, less the burst of a tenth.
        assert!(started.elapsed() >= Duration::from_millis(380), "{:?}", started.elapsed());
    }
}
