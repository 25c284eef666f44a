//! The first growth at a host that answers swiftly: one more stream per answered request doubles them per round trip, and a round
//! whose quickest answer is slow ends it.

use std::time::Duration;

/// Answers that are enough to call a round slow.
const ENOUGH: usize = 8;

/// A round is as many requests as were allowed when it began.
#[derive(Debug)]
pub(super) struct Rounds {
    size: usize,
    seen: usize,
    latencies: Vec<Duration>,
    /// What the first round took.
    base: Option<Duration>,
    /// The largest size of a round that was not slow.
    good: usize,
}

impl Rounds {
    /// The first round has `size` requests.
    pub(super) fn new(size: usize) -> Self {
        Self { size, seen: 0, latencies: Vec::new(), base: None, good: size }
    }

    /// An answer began after `latency`.
    pub(super) fn answered(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    /// A request ended while `limit` were allowed. Gives the size to go back to when the host has become slow.
    pub(super) fn completed(&mut self, limit: usize) -> Option<usize> {
        self.seen += 1;
        let over = self.seen >= self.size;
        if (over || self.seen == ENOUGH) && self.is_slow() {
            return Some(self.good);
        }
        if over {
            self.base = self.base.or(self.quick());
            self.good = self.size;
            self.latencies.clear();
            (self.size, self.seen) = (limit, 0);
        }
        None
    }

    /// What a quick answer takes: new connections take longer and one straggler of the round before may be quicker, so it is the
    /// best quarter that counts. A busy host makes all of them wait.
    fn quick(&mut self) -> Option<Duration> {
        self.latencies.sort_unstable();
        self.latencies.get(self.latencies.len() / 4).copied()
    }

    /// Twice as slow means that the last doubling brought nothing. A few milliseconds are noise.
    fn is_slow(&mut self) -> bool {
        let quick = self.quick();
        self.base.zip(quick).is_some_and(|(base, quick)| quick > base.mul_f64(1.8) + Duration::from_millis(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_ends_the_growth() {
        let ms = Duration::from_millis;
        let mut rounds = Rounds::new(2);
        for limit in 3..=4 {
            rounds.answered(ms(50));
            assert_eq!(rounds.completed(limit), None);
        }
        // New connections are slow, the others are not.
        for (limit, latency) in [(5, 50), (6, 50), (7, 150), (8, 150)] {
            rounds.answered(ms(latency));
            assert_eq!(rounds.completed(limit), None);
        }
        rounds.answered(ms(50));
        assert_eq!(rounds.completed(9), None);
        for limit in 10..=15 {
            rounds.answered(ms(200));
            assert_eq!(rounds.completed(limit), None);
        }
        rounds.answered(ms(180));
        assert_eq!(rounds.completed(16), Some(4));
    }
}
