//! What a server says about waiting, and the pause that all tasks talking to one origin share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

use super::budget;
use super::credential::Origin;

/// Nobody is made to wait longer than this by a header.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// How long the server asks us to wait: `Retry-After` in seconds or as a date, else an account without anything left.
pub(super) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
    Some(after.or_else(|| exhausted(headers))?.min(LONGEST))
}

/// The longest time until an account that is used up is filled again.
pub(super) fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    budget::items(headers).iter().filter(|item| item.left == 0).map(|item| item.reset).max()
}

fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Until when something holds for each origin, such as its wish to be left alone.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<Origin, Instant>>);

impl Pauses {
    /// Holds for `origin` and this time, or longer if it did.
    pub(super) fn set(&self, origin: &Origin, wait: Duration) {
        let until = Instant::now() + wait;
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pauses.entry(origin.clone()).or_insert(until);
        *known = until.max(*known);
    }

    /// Ends what held for `origin`.
    pub(super) fn end(&self, origin: &Origin) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(origin);
    }

    /// What is left of it.
    pub(super) fn left(&self, origin: &Origin) -> Option<Duration> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(origin).map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(name: &'static str, value: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        asked_wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn both_headers_in_every_form() {
        assert_eq!(wait("retry-after", "7"), Some(7));
        assert_eq!(wait("retry-after", " 1.5 "), Some(1));
        assert_eq!(wait("retry-after", "99999999999"), Some(3600));
        assert_eq!(wait("retry-after", "-3"), None);
        assert_eq!(wait("retry-after", "soon"), None);
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((98..=100).contains(&wait("retry-after", &later).unwrap()));
        assert_eq!(wait("ratelimit", "\"api\";r=0;t=55"), Some(56));
        assert_eq!(wait("ratelimit", "\"api\";r=3;t=55"), None);
        assert_eq!(wait("ratelimit", "\"pages\"; r=0; t=5, \"api\";r=0;t=9"), Some(10));
        assert_eq!(wait("ratelimit", "nonsense"), None);
    }
}
