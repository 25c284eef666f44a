//! Requests that a server still allows, as its `RateLimit` headers say: one account for everybody who talks to it, so that nobody
//! sends what would be refused.
//!
//! A server may keep several accounts (`"api"`, `"resolvers"`, `"pages"`) and names them in its answers; which one a request
//! belongs to is learnt from the answers to requests of its kind.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use tokio::time::Instant;
use url::Url;

use super::credential::Origin;
use super::pause::LONGEST;

/// Two answers about one window differ by this much at most in when it ends.
const SAME: Duration = Duration::from_secs(5);
/// Requests are spread once fewer than this share of the account is left.
const SCARCE_SHARE: u64 = 20;
/// What counts as scarce where the server does not say how large the account is.
const SCARCE: u64 = 10;
/// Longest pause between requests that are spread.
const LONGEST_SPREAD: Duration = Duration::from_secs(1);
/// No server has more accounts; one that names a new one each time must not cost memory.
const MOST_ACCOUNTS: usize = 16;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Requests that are counted alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Class {
    Api,
    Files,
    Other,
}

impl Class {
    fn of(url: &Url) -> Self {
        let path = url.path();
        if path.contains("/resolve/") || path.contains("/resolve-cache/") {
            Self::Files
        } else if path.contains("/api/") {
            Self::Api
        } else {
            Self::Other
        }
    }
}

/// One item of a `RateLimit` header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) name: String,
    /// Requests left.
    pub(super) left: u64,
    /// Until the window ends.
    pub(super) reset: Duration,
}

/// The items of a `RateLimit` header: `"api";r=12;t=55`, perhaps several separated by commas.
pub(super) fn items(headers: &HeaderMap) -> Vec<Item> {
    parsed(headers, &RATE_LIMIT, |item| {
        // The window ends somewhere inside its last second.
        let reset = Duration::from_secs(number(item, "t=")?.saturating_add(1)).min(LONGEST);
        Some(Item { name: name(item)?, left: number(item, "r=")?, reset })
    })
}

/// The sizes of accounts in a `RateLimit-Policy` header: `"fixed window";"api";q=500;w=300`.
fn quotas(headers: &HeaderMap) -> Vec<(String, u64)> {
    parsed(headers, &POLICY, |item| Some((name(item)?, number(item, "q=")?)))
}

fn parsed<T>(headers: &HeaderMap, name: &HeaderName, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).filter_map(read).take(MOST_ACCOUNTS).collect()
}

/// The last word of an item that is no parameter: a policy names its kind first.
fn name(item: &str) -> Option<String> {
    let mut words = item.rsplit(';').map(str::trim).filter(|word| !word.is_empty() && !word.contains('='));
    words.next().map(|word| word.trim_matches('"').to_owned()).filter(|word| word.len() <= 64)
}

fn number(item: &str, key: &str) -> Option<u64> {
    item.split(';').find_map(|part| part.trim().strip_prefix(key)?.trim().parse().ok())
}

#[derive(Debug)]
struct Account {
    left: u64,
    ends: Instant,
    quota: Option<u64>,
    /// When the next request may go, while they are spread.
    next: Instant,
}

/// The accounts at every origin.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<Origin, Place>>);

#[derive(Debug, Default)]
struct Place {
    accounts: HashMap<String, Account>,
    /// Which accounts the last answer to a request of a class named.
    classes: HashMap<Class, Vec<String>>,
}

impl Budgets {
    fn places(&self) -> MutexGuard<'_, HashMap<Origin, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an answer to a request for `url` says of its accounts.
    pub(super) fn learn(&self, origin: &Origin, url: &Url, headers: &HeaderMap, now: Instant) {
        let items = items(headers);
        if items.is_empty() {
            return;
        }
        let quotas = quotas(headers);
        let mut places = self.places();
        let place = places.entry(origin.clone()).or_default();
        place.classes.insert(Class::of(url), items.iter().map(|item| item.name.clone()).collect());
        for item in items {
            let quota = quotas.iter().find(|(name, _)| *name == item.name).map(|(_, quota)| *quota);
            place.learn(item, quota, now);
        }
    }

    /// What is left of each account at `origin`, by name.
    pub(super) fn left(&self, origin: &Origin, now: Instant) -> Vec<Allowance> {
        let places = self.places();
        let accounts = places.get(origin).into_iter().flat_map(|place| &place.accounts).filter(|(_, account)| account.ends > now);
        let mut left: Vec<Allowance> = accounts
            .map(|(name, account)| Allowance {
                account: name.clone(),
                left: account.left,
                quota: account.quota,
                ends_in: account.ends - now,
            })
            .collect();
        left.sort_by(|a, b| a.account.cmp(&b.account));
        left
    }

    /// When a request for `url` may go, if nobody is to wait longer than `patience`. One that may go is counted.
    pub(super) fn turn(&self, origin: &Origin, url: &Url, now: Instant, patience: Duration) -> Turn {
        let mut places = self.places();
        let Some(place) = places.get_mut(origin) else { return Turn::In(Duration::ZERO) };
        place.accounts.retain(|_, account| account.ends > now);
        let names = place.classes.get(&Class::of(url)).map_or(&[][..], Vec::as_slice);
        let mut wait = Duration::ZERO;
        for account in names.iter().filter_map(|name| place.accounts.get(name)) {
            if account.left == 0 {
                return Turn::Not(account.ends - now);
            }
            wait = wait.max(account.next.saturating_duration_since(now));
        }
        if wait > patience {
            return Turn::Not(wait);
        }
        for name in names {
            if let Some(account) = place.accounts.get_mut(name) {
                account.count(now + wait);
            }
        }
        Turn::In(wait)
    }
}

/// Requests that a server still allows, as it last said and what was sent since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// How the server calls the account.
    pub account: String,
    /// Requests left.
    pub left: u64,
    /// Requests in a whole window, where it says so.
    pub quota: Option<u64>,
    /// Until the window ends.
    pub ends_in: Duration,
}

/// When a request may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// After this long, surely.
    In(Duration),
    /// Not before it has asked again, after this long.
    Not(Duration),
}

impl Place {
    fn learn(&mut self, item: Item, quota: Option<u64>, now: Instant) {
        let ends = now + item.reset;
        if !self.accounts.contains_key(&item.name) && self.accounts.len() >= MOST_ACCOUNTS {
            return;
        }
        let account = self.accounts.entry(item.name).or_insert(Account { left: item.left, ends, quota, next: now });
        let is_later = ends > account.ends + SAME;
        // Answers overtake each other: inside one window the lowest number is the newest.
        account.left = if is_later { item.left } else { account.left.min(item.left) };
        account.ends = if is_later { ends } else { account.ends.max(ends) };
        account.quota = quota.or(account.quota);
    }
}

impl Account {
    fn is_scarce(&self) -> bool {
        self.left <= self.quota.map_or(SCARCE, |quota| quota / SCARCE_SHARE)
    }

    /// One request goes at `at`.
    fn count(&mut self, at: Instant) {
        if self.is_scarce() {
            let share = u32::try_from(self.left).unwrap_or(u32::MAX).max(1);
            self.next = at + (self.ends.saturating_duration_since(at) / share).min(LONGEST_SPREAD);
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(limit: &str, policy: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(RATE_LIMIT, limit.parse().unwrap());
        headers.insert(POLICY, policy.parse().unwrap());
        headers
    }

    fn url(path: &str) -> Url {
        Url::parse("https://hub.example").unwrap().join(path).unwrap()
    }

    fn origin() -> Origin {
        Origin::of(&url("/")).unwrap()
    }

    #[test]
    fn headers_in_every_form() {
        let read = |limit: &str| items(&headers(limit, "x")).into_iter().map(|i| (i.name, i.left, i.reset.as_secs())).collect::<Vec<_>>();
        assert_eq!(read("\"api\";r=12;t=55"), [("api".to_owned(), 12, 56)]);
        assert_eq!(read("\"pages\"; r=0; t=5, api;r=9;t=9999999"), [("pages".to_owned(), 0, 6), ("api".to_owned(), 9, 3600)]);
        for bad in ["nonsense", "\"api\";r=-1;t=5", "\"api\";r=1", "r=1;t=5", ""] {
            assert!(read(bad).is_empty(), "{bad}");
        }
        assert_eq!(quotas(&headers("", "\"fixed window\";\"api\";q=500;w=300")), [("api".to_owned(), 500)]);
    }

    const NOW: Turn = Turn::In(Duration::ZERO);

    /// A clock of our own: budgets at so many seconds.
    struct Clock(Budgets, Instant);

    impl Clock {
        fn learn(&self, at: f64, path: &str, limit: &str, policy: &str) {
            self.0.learn(&origin(), &url(path), &headers(limit, policy), self.1 + Duration::from_secs_f64(at));
        }

        fn turn(&self, at: f64, path: &str) -> Turn {
            self.0.turn(&origin(), &url(path), self.1 + Duration::from_secs_f64(at), Duration::from_secs(2))
        }
    }

    fn clock() -> Clock {
        Clock(Budgets::default(), Instant::now())
    }

    #[test]
    fn what_is_used_up_waits_for_the_next_window() {
        let clock = clock();
        let (api, file) = ("/api/models/o/n", "/o/n/resolve/main/x");
        assert_eq!(clock.turn(0.0, api), NOW);
        clock.learn(0.0, api, "\"api\";r=2;t=59", "\"fixed window\";\"api\";q=20;w=300");
        clock.learn(0.0, file, "\"resolvers\";r=1000;t=9", "\"fixed window\";\"resolvers\";q=3000;w=300");
        assert_eq!((clock.turn(0.0, api), clock.turn(0.0, api)), (NOW, NOW));
        assert_eq!(clock.turn(10.0, api), Turn::Not(Duration::from_secs(50)));
        assert_eq!(clock.turn(1.0, file), NOW, "another account");
        assert_eq!(clock.turn(1.0, "/o/n"), NOW, "nothing is known of pages");
        // A late answer does not give back what is spent; the next window does.
        clock.learn(2.0, api, "\"api\";r=1;t=57", "x");
        assert!(matches!(clock.turn(2.0, api), Turn::Not(_)));
        assert_eq!(clock.turn(61.0, api), NOW);
        clock.learn(61.0, api, "\"api\";r=0;t=299", "x");
        assert_eq!(clock.turn(61.0, api), Turn::Not(Duration::from_mins(5)));
        clock.learn(62.0, api, "\"api\";r=0;t=99999999999", "x");
        assert!(matches!(clock.turn(62.0, api), Turn::Not(left) if left <= LONGEST));
    }

    #[test]
    fn the_last_requests_are_spread_and_plenty_is_not() {
        let clock = clock();
        clock.learn(0.0, "/api/x", "\"api\";r=100;t=99", "\"fixed window\";\"api\";q=1000;w=300");
        let at_once = (0..100).take_while(|_| clock.turn(0.0, "/api/x") == NOW).count();
        assert_eq!(at_once, 51, "and the first of the last fifty");
        // Everybody who comes now gets a time of his own, as long as that is soon.
        assert_eq!(clock.turn(0.5, "/api/x"), Turn::In(Duration::from_millis(1500)));
        assert!(matches!(clock.turn(0.5, "/api/x"), Turn::Not(_)));
        assert_eq!(clock.turn(10.0, "/api/x"), NOW);
    }

    #[test]
    fn what_is_left_is_told_until_its_window_ends() {
        let clock = clock();
        assert_eq!(clock.0.left(&origin(), clock.1), []);
        clock.learn(0.0, "/api/x", "\"api\";r=7;t=59", "\"fixed window\";\"api\";q=500;w=300");
        clock.learn(0.0, "/o/n/resolve/main/x", "\"resolvers\";r=1;t=9", "x");
        assert_eq!(clock.turn(0.0, "/api/x"), NOW);
        let told = |at| {
            let left = clock.0.left(&origin(), clock.1 + Duration::from_secs(at));
            left.into_iter().map(|a| (a.account, a.left, a.quota, a.ends_in.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(told(5), [("api".to_owned(), 6, Some(500), 55), ("resolvers".to_owned(), 1, None, 5)]);
        assert_eq!(told(30).len(), 1);
        assert_eq!(told(60).len(), 0);
    }

    #[test]
    fn names_without_end_cost_nothing() {
        let clock = clock();
        for number in 0..1000 {
            clock.learn(0.0, "/api/x", &format!("\"a{number}\";r=0;t=9"), "x");
        }
        assert!(clock.0.places()[&origin()].accounts.len() <= MOST_ACCOUNTS);
    }
}
