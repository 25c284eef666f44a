//! Trying again: growing pauses with jitter, the far side's own `Retry-After`, and an end. Asks the error, never a status code.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Retry};
use crate::events::{Event, Reporter};

/// How often and how long something is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Most tries, the first included.
    pub tries: u32,
    /// The first pause; each further one doubles.
    pub base: Duration,
    /// The longest pause that we choose ourselves.
    pub cap: Duration,
    /// No further try begins once this much time has passed; a `Retry-After` beyond it ends the tries at once.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: 6, base: Duration::from_millis(500), cap: Duration::from_secs(20), total: Duration::from_mins(10) }
    }
}

impl RetryPolicy {
    /// A policy without pauses worth noticing, for tests.
    pub fn quick() -> Self {
        Self { tries: 6, base: Duration::from_millis(1), cap: Duration::from_millis(5), total: Duration::from_secs(30) }
    }

    /// The pause after try number `attempt` (from one) failed with `error`; `None` when it should not be tried again.
    pub fn pause(&self, attempt: u32, started: Instant, error: &Error) -> Option<Duration> {
        if attempt >= self.tries {
            return None;
        }
        let pause = match error.retry() {
            Retry::No => return None,
            Retry::After(wait) => wait,
            Retry::Backoff => {
                let full = self.base.saturating_mul(1 << (attempt - 1).min(16)).min(self.cap);
                // Between half and all of it, so that a crowd of clients does not come back as one.
                full.mul_f64(0.5 + fastrand::f64() / 2.0)
            }
        };
        (started.elapsed() + pause <= self.total).then_some(pause)
    }
}

/// Runs `op` until it succeeds, fails for good, or the policy ends. `what` names it for people. Where the last try only lost its
/// connection, the error is what the far side said before: a refusal in words tells more than how it ended once.
pub async fn retrying<T, F, Fut>(policy: &RetryPolicy, reporter: &dyn Reporter, what: &str, mut op: F) -> Result<T>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T>> + Send,
{
    let started = Instant::now();
    let mut attempt = 1;
    let mut words: Option<Error> = None;
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(pause) = policy.pause(attempt, started, &error) else {
            let told = words.filter(|_| error.retry() != Retry::No && !error.is_ambiguous() && !is_answer(&error));
            let error = told.unwrap_or(error);
            return Err(if attempt > 1 { error.context("tries", attempt) } else { error });
        };
        reporter.event(&Event::Retrying { what: what.to_owned(), why: error.to_string(), pause, attempt });
        if is_answer(&error) {
            words = Some(error);
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// Whether the far side answered at all.
fn is_answer(error: &Error) -> bool {
    error.contexts().iter().any(|(key, _)| *key == "status")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::events::Silent;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn final_errors_are_not_tried_again() {
        let calls = AtomicU32::new(0);
        let result: Result<()> = retrying(&RetryPolicy::quick(), &Silent, "x", || async {
            calls.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(Kind::Denied, "no"))
        })
        .await;
        assert_eq!(result.unwrap_err().kind(), Kind::Denied);
        assert_eq!(calls.into_inner(), 1);
    }

    #[tokio::test]
    async fn passing_errors_are() {
        let calls = AtomicU32::new(0);
        retrying(&RetryPolicy::quick(), &Silent, "x", || async {
            if calls.fetch_add(1, Ordering::Relaxed) < 3 { Err(Error::new(Kind::Unavailable, "busy")) } else { Ok(()) }
        })
        .await
        .unwrap();
        assert_eq!(calls.into_inner(), 4);
    }

    #[tokio::test]
    async fn the_last_words_tell_more_than_a_lost_connection() {
        let calls = AtomicU32::new(0);
        let result: Result<()> = retrying(&RetryPolicy::quick(), &Silent, "x", || async {
            let error = Error::new(Kind::Unavailable, "lost");
            Err(if calls.fetch_add(1, Ordering::Relaxed) == 2 {
                Error::new(Kind::Unavailable, "full").context("status", 503)
            } else {
                error
            })
        })
        .await;
        assert_eq!(result.unwrap_err().to_string(), "full (status 503, tries 6)");
        let result: Result<()> = retrying(&RetryPolicy::quick(), &Silent, "x", || async {
            let error = Error::new(Kind::Unavailable, "lost");
            let first = calls.fetch_add(1, Ordering::Relaxed) == 6;
            Err(if first { error.context("status", 503) } else { error.ambiguous() })
        })
        .await;
        assert!(result.unwrap_err().is_ambiguous(), "what may have been done is never told as refused");
    }

    #[test]
    fn a_wait_beyond_the_budget_ends_the_tries() {
        let policy = RetryPolicy::default();
        let error = Error::new(Kind::RateLimited, "slow down").retry_as(Retry::After(Duration::from_hours(2)));
        assert!(policy.pause(1, Instant::now(), &error).is_none());
        let error = error.retry_as(Retry::After(Duration::from_secs(2)));
        assert_eq!(policy.pause(1, Instant::now(), &error), Some(Duration::from_secs(2)));
    }
}
