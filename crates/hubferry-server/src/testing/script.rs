//! Rules that say which request meets which fault, and the log of all requests.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use super::{Fault, FaultHook, Method, Seen};

/// A fault and the requests it befalls.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Only this method.
    pub method: Option<Method>,
    /// Only where path and query, as `path?query`, contain this.
    pub path: &'static str,
    /// Only requests for a range that holds this byte of the file. The fault's position then counts from that byte.
    pub byte: Option<u64>,
    /// Which of the requests that fit, counted from 1.
    pub nth: RangeInclusive<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// `fault` for the first request whose path and query contain `path`.
    pub fn once(method: Method, path: &'static str, fault: Fault) -> Self {
        Self { method: Some(method), path, byte: None, nth: 1..=1, fault }
    }

    /// The same for every request that fits.
    #[must_use]
    pub fn always(self) -> Self {
        Self { nth: 1..=u64::MAX, ..self }
    }

    /// The same for requests for a range that holds this byte of the file.
    #[must_use]
    pub fn at(self, byte: u64) -> Self {
        Self { byte: Some(byte), ..self }
    }

    /// Whether a request fits, and with which fault.
    fn fits(&self, seen: &Seen) -> Option<Fault> {
        if self.method.as_ref().is_some_and(|method| *method != seen.method) || !seen.target().contains(self.path) {
            return None;
        }
        let Some(byte) = self.byte else { return Some(self.fault.clone()) };
        let (first, last) = asked(seen.range.as_deref());
        (first..=last).contains(&byte).then(|| self.fault.clone().shifted(byte - first))
    }
}

/// First and last byte of a range header; without one, everything.
fn asked(range: Option<&str>) -> (u64, u64) {
    let range = range.and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'));
    let number = |text: &str, otherwise| text.trim().parse().unwrap_or(otherwise);
    range.map_or((0, u64::MAX), |(first, last)| (number(first, 0), number(last, u64::MAX)))
}

/// Plays rules and logs every request. The first rule that fits a request and its turn decides.
#[derive(Debug, Default)]
pub struct Script(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    rules: Vec<(Rule, u64)>,
    seen: Vec<Seen>,
    played: u64,
}

impl Script {
    /// A script of these rules.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule, 0)).collect();
        Self(Mutex::new(Record { rules, ..Record::default() }))
    }

    /// Adds a rule while the server runs.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// Forgets all rules and all requests.
    pub fn reset(&self) {
        *self.lock() = Record::default();
    }

    /// Every request so far, in order of arrival. What they moved goes on counting while they run.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests met a fault.
    pub fn played(&self) -> u64 {
        self.lock().played
    }

    /// How many requests of this method had `path` in their path and query.
    pub fn count(&self, method: &Method, path: &str) -> usize {
        self.sum(method, path, |_| 1).try_into().unwrap_or(usize::MAX)
    }

    /// Bytes that were sent in answer to requests of this method with `path` in their path and query.
    pub fn sent(&self, method: &Method, path: &str) -> u64 {
        self.sum(method, path, Seen::sent)
    }

    /// Bytes that were taken of the bodies of requests of this method with `path` in their path and query.
    pub fn received(&self, method: &Method, path: &str) -> u64 {
        self.sum(method, path, Seen::received)
    }

    fn sum(&self, method: &Method, path: &str, of: impl Fn(&Seen) -> u64) -> u64 {
        self.lock().seen.iter().filter(|seen| seen.method == method && seen.target().contains(path)).map(of).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultHook for Script {
    fn on_request(&self, seen: &Seen) -> Fault {
        let mut record = self.lock();
        record.seen.push(seen.clone());
        let mut chosen = Fault::None;
        for (rule, count) in &mut record.rules {
            let Some(fault) = rule.fits(seen) else { continue };
            *count += 1;
            if chosen == Fault::None && rule.nth.contains(count) {
                chosen = fault;
            }
        }
        record.played += u64::from(chosen != Fault::None);
        chosen
    }
}
