//! Counts what comes by in a stretch of time, and how many streams it took. Fed with times; has no clock.

use std::time::Duration;

/// What a request is worth beside its bytes, in bytes: thousands of tiny files are work too.
pub(super) const REQUEST: f64 = 65_536.0;

/// What came by since it was last restarted.
#[derive(Debug, Default)]
pub(super) struct Meter {
    since: Duration,
    bytes: u64,
    requests: u64,
    /// Arrivals of any kind: few of them say little.
    arrivals: u64,
    active: usize,
    /// Streams in use, added up over time (stream seconds).
    used: f64,
    /// Until when `used` is added up.
    upto: Duration,
}

impl Meter {
    /// Forgets everything but the streams in use.
    pub(super) fn restart(&mut self, now: Duration) {
        *self = Self { since: now, upto: now, active: self.active, ..Self::default() };
    }

    /// This many streams are in use from now on.
    pub(super) fn occupy(&mut self, now: Duration, active: usize) {
        self.used += self.active as f64 * now.saturating_sub(self.upto).as_secs_f64();
        self.upto = self.upto.max(now);
        self.active = active;
    }

    /// `bytes` came in `arrivals` pieces.
    pub(super) fn receive(&mut self, bytes: u64, arrivals: u64) {
        self.bytes += bytes;
        self.arrivals += arrivals;
    }

    /// A request was answered to its end.
    pub(super) fn complete(&mut self) {
        self.requests += 1;
        self.arrivals += 1;
    }

    /// Time since the restart.
    pub(super) fn elapsed(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// Bytes and requests as one number.
    pub(super) fn work(&self) -> f64 {
        self.bytes as f64 + REQUEST * self.requests as f64
    }

    /// Work per second.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        self.work() / self.elapsed(now).as_secs_f64().max(1e-6)
    }

    /// Arrivals since the restart.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Work of an average arrival.
    pub(super) fn grain(&self) -> Option<f64> {
        (self.arrivals > 0).then(|| self.work() / self.arrivals as f64)
    }

    /// Whether the requests weigh more than their bytes: then waiting for answers is what takes time.
    pub(super) fn is_swift(&self) -> bool {
        self.requests > 0 && self.bytes as f64 <= 4.0 * REQUEST * self.requests as f64
    }

    /// Streams in use on average.
    pub(super) fn occupied(&self, now: Duration) -> f64 {
        let elapsed = self.elapsed(now).as_secs_f64();
        if elapsed <= 0.0 {
            return self.active as f64;
        }
        let open = self.active as f64 * now.saturating_sub(self.upto).as_secs_f64();
        (self.used + open) / elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn adds_up_over_time() {
        let mut meter = Meter::default();
        meter.restart(ms(1000));
        meter.occupy(ms(1000), 4);
        meter.receive(1_000_000, 10);
        meter.occupy(ms(1050), 2);
        assert!((meter.rate(ms(1100)) - 10_000_000.0).abs() < 1.0);
        assert!((meter.occupied(ms(1100)) - 3.0).abs() < 1e-9);
        assert!(!meter.is_swift());
        meter.restart(ms(1100));
        meter.complete();
        assert!((meter.occupied(ms(1200)) - 2.0).abs() < 1e-9 && meter.is_swift());
    }
}
