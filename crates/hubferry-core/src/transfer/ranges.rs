//! Sets of byte offsets, kept as ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Offsets in ranges that neither touch nor overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range; says how many of its offsets are new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        let Range { mut start, mut end } = range;
        if start >= end {
            return 0;
        }
        let mut new = end - start;
        while let Some((from, to)) = self.0.range(..=end).next_back().map(|(from, to)| (*from, *to)).filter(|(_, to)| *to >= start) {
            new -= to.min(range.end).saturating_sub(from.max(range.start));
            (start, end) = (start.min(from), end.max(to));
            self.0.remove(&from);
        }
        self.0.insert(start, end);
        new
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<_> =
            self.0.range(..range.end).rev().map(|(from, to)| (*from, *to)).take_while(|(_, to)| *to > range.start).collect();
        for (from, to) in touched {
            self.0.remove(&from);
            if from < range.start {
                self.0.insert(from, range.start);
            }
            if to > range.end {
                self.0.insert(range.end, to);
            }
        }
    }

    /// Where the run of offsets that holds `at` ends; `None` when `at` is not in the set.
    pub(super) fn end_of_run(&self, at: u64) -> Option<u64> {
        self.0.range(..=at).next_back().map(|(_, end)| *end).filter(|end| *end > at)
    }

    /// The first range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.0.first_key_value().map(|(start, end)| *start..*end)
    }

    /// What of `within` is not in the set.
    pub(super) fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        let from = self.0.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (start, end) in self.0.range(from..within.end) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < within.end {
            gaps.push(at..within.end);
        }
        gaps
    }

    /// How many offsets are in the set.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in proptest::collection::vec((0usize..60, 0usize..20, any::<bool>()), 0..40)) {
            let mut ranges = RangeSet::default();
            let mut model = [false; 80];
            for (start, length, add) in steps {
                let range = start as u64..(start + length) as u64;
                let cells = &mut model[start..start + length];
                if add {
                    let new = cells.iter().filter(|held| !**held).count() as u64;
                    prop_assert_eq!(ranges.insert(range), new);
                } else {
                    ranges.remove(range);
                }
                cells.fill(add);
                prop_assert_eq!(ranges.len(), model.iter().filter(|held| **held).count() as u64);
                let gaps: Vec<u64> = ranges.gaps(3..77).into_iter().flatten().collect();
                let expected: Vec<u64> = (3..77).filter(|at| !model[*at]).map(|at| at as u64).collect();
                prop_assert_eq!(gaps, expected);
                for at in 0..79 {
                    let run = model[at..].iter().take_while(|held| **held).count() as u64;
                    prop_assert_eq!(ranges.end_of_run(at as u64), (run > 0).then_some(at as u64 + run));
                }
                prop_assert_eq!(ranges.first().map(|first| first.start), model.iter().position(|held| *held).map(|at| at as u64));
            }
        }
    }
}
