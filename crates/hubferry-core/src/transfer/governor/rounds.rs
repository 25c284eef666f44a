//! The first growth at a host that answers swiftly: one more stream per answered request doubles them per round trip, and a round
//! whose quickest answer is slow ends it.

use std::time::Duration;

/// Answers that are enough to call a round slow.
const ENOUGH: usize = 4;

/// A round is as many requests as were allowed when it began.
#[derive(Debug)]
pub(super) struct Rounds {
    size: usize,
    seen: usize,
    quickest: Option<Duration>,
    /// The quickest answer of the first round.
    base: Option<Duration>,
    /// The largest size of a round that was not slow.
    good: usize,
}

impl Rounds {
    /// The first round has `size` requests.
    pub(super) fn new(size: usize) -> Self {
        Self { size, seen: 0, quickest: None, base: None, good: size }
    }

    /// An answer began after `latency`. The quickest one counts: new connections take longer, a busy host makes all wait.
    pub(super) fn answered(&mut self, latency: Duration) {
        self.quickest = Some(self.quickest.map_or(latency, |quickest| quickest.min(latency)));
    }

    /// A request ended while `limit` were allowed. Gives the size to go back to when the host has become slow.
    pub(super) fn completed(&mut self, limit: usize) -> Option<usize> {
        self.seen += 1;
        if self.seen >= ENOUGH && self.is_slow() {
            return Some(self.good);
        }
        if self.seen >= self.size {
            self.base = self.base.or(self.quickest);
            self.good = self.size;
            (self.size, self.seen, self.quickest) = (limit, 0, None);
        }
        None
    }

    /// Twice as slow means that the last doubling brought nothing. A few milliseconds are noise.
    fn is_slow(&self) -> bool {
        self.base.zip(self.quickest).is_some_and(|(base, quickest)| quickest > base.mul_f64(1.8) + Duration::from_millis(5))
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
        for (limit, latency) in [(5, 50), (6, 150), (7, 150), (8, 150)] {
            rounds.answered(ms(latency));
            assert_eq!(rounds.completed(limit), None);
        }
        for limit in 9..=11 {
            rounds.answered(ms(200));
            assert_eq!(rounds.completed(limit), None);
        }
        rounds.answered(ms(180));
        assert_eq!(rounds.completed(12), Some(4));
    }
}
