//! Patience with a library that has more of it than we: what neither ends nor gets on is given up.

use std::time::{Duration, Instant};

use hubferry_core::error::{Error, Kind, Result};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A part of the time after which the engine replaces a silent stream: whoever is silent is given up here before that, by name.
pub(super) fn patience(idle: Duration) -> Duration {
    idle.mul_f64(0.7)
}

/// Waits for `work` as long as `progress` grows within `patience`, which may change meanwhile.
pub(super) async fn watched<T>(patience: impl Fn() -> Duration, progress: impl Fn() -> u64, work: impl Future<Output = T>) -> Result<T> {
    tokio::pin!(work);
    let (mut seen, mut since) = (progress(), Instant::now());
    loop {
        let longest = patience();
        if let Ok(done) = tokio::time::timeout(longest.min(LOOK), &mut work).await {
            return Ok(done);
        }
        let now = progress();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= longest {
            return Err(Error::new(Kind::Unavailable, format!("nothing moved for {} s", longest.as_secs_f64().ceil())));
        }
    }
}

/// Somebody waits for bytes: given up by others after a while in vain, it tells.
pub(super) struct Waiting<F: FnMut()> {
    since: Instant,
    long: Duration,
    tell: Option<F>,
}

impl<F: FnMut()> Waiting<F> {
    /// Begins to wait; `tell` is called when this is dropped after `long` without [`Waiting::end`].
    pub(super) fn new(long: Duration, tell: F) -> Self {
        Self { since: Instant::now(), long, tell: Some(tell) }
    }

    /// Something came.
    pub(super) fn end(mut self) {
        self.tell = None;
    }
}

impl<F: FnMut()> Drop for Waiting<F> {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.as_mut().filter(|_| self.since.elapsed() >= self.long) {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn slow_work_is_waited_for_and_silence_is_not() {
        let moved = AtomicU64::new(0);
        let step = Duration::from_millis(20);
        let slow = async {
            for _ in 0..8 {
                tokio::time::sleep(step).await;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            7
        };
        assert_eq!(watched(|| 4 * step, || moved.load(Ordering::Relaxed), slow).await.unwrap(), 7);
        let silent = watched(|| step, || 0, std::future::pending::<()>()).await;
        assert_eq!(silent.unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn only_those_who_waited_in_vain_tell() {
        let told = AtomicU64::new(0);
        let tell = || {
            told.fetch_add(1, Ordering::Relaxed);
        };
        Waiting::new(Duration::ZERO, tell).end();
        drop(Waiting::new(Duration::from_mins(1), tell));
        assert_eq!(told.load(Ordering::Relaxed), 0);
        drop(Waiting::new(Duration::ZERO, tell));
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
