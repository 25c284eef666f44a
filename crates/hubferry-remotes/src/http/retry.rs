//! Trying an API call again: growing pauses with jitter, bounded in number and time, for errors that say it can help.

use std::future::Future;
use std::time::Duration;

use hubferry_core::error::{Error, Result, Retry};
use hubferry_core::events::{Event, Reporter};
use tokio::time::{Instant, sleep};

/// How often and how long one call is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Most tries, the first included.
    pub tries: u32,
    /// The first pause; each further one is twice as long.
    pub base: Duration,
    /// The longest pause that is our own choice.
    pub cap: Duration,
    /// No further try begins after this long.
    pub total: Duration,
}

impl Default for RetryPolicy {
    /// Six tries within a quarter of an hour: long enough to sit out the five-minute windows of rate limits.
    fn default() -> Self {
        Self { tries: 6, base: Duration::from_millis(500), cap: Duration::from_secs(20), total: Duration::from_mins(15) }
    }
}

impl RetryPolicy {
    /// The pause after failure number `failed`, or `None` when there is nothing left to try.
    fn pause(&self, error: &Error, failed: u32, spent: Duration) -> Option<Duration> {
        if failed >= self.tries || error.is_ambiguous() {
            return None;
        }
        let own = self.base.saturating_mul(2_u32.saturating_pow(failed - 1)).min(self.cap);
        let pause = match error.retry() {
            Retry::No => return None,
            Retry::Backoff => own.mul_f64(0.5 + fastrand::f64() / 2.0),
            // Late enough for the server, and not all of us in the same instant.
            Retry::After(wait) => wait + Duration::from_millis(fastrand::u64(0..250)),
        };
        (spent + pause < self.total).then_some(pause)
    }
}

/// Calls `op` until it succeeds, fails for good, or the policy is spent. A failure whose effect is unknown is never repeated.
pub async fn retrying<T, F>(policy: &RetryPolicy, reporter: &dyn Reporter, what: &str, mut op: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut failed = 0;
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failed += 1;
        let Some(pause) = policy.pause(&error, failed, start.elapsed()) else {
            return Err(if failed > 1 { error.context("tries", failed) } else { error });
        };
        reporter.event(&Event::Retrying { what: what.to_owned(), why: error.to_string(), pause, attempt: failed });
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::error::Kind;
    use hubferry_core::events::Silent;
    use std::cell::Cell;

    async fn tries(policy: RetryPolicy, error: impl Fn() -> Error) -> u32 {
        let count = Cell::new(0);
        let result: Result<()> = retrying(&policy, &Silent, "test", || {
            count.set(count.get() + 1);
            let error = error();
            async { Err(error) }
        })
        .await;
        assert!(result.is_err());
        count.get()
    }

    #[tokio::test]
    async fn asks_the_error_whether_to_try_again() {
        let quick = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
        assert_eq!(tries(quick, || Error::new(Kind::Unavailable, "x")).await, 6);
        assert_eq!(tries(quick, || Error::not_found("x")).await, 1);
        assert_eq!(tries(quick, || Error::new(Kind::Unavailable, "x").ambiguous()).await, 1);
        let hour = Retry::After(Duration::from_hours(1));
        assert_eq!(tries(quick, || Error::new(Kind::RateLimited, "x").retry_as(hour)).await, 1);
        let soon = Retry::After(Duration::from_millis(2));
        assert_eq!(tries(quick, || Error::new(Kind::RateLimited, "x").retry_as(soon)).await, 6);
    }
}
