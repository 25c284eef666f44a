//! `cache`: what is in a Hugging Face cache, what may go, what must stay.

mod choose;
mod keep;
mod list;
mod prune;
mod repair;
mod verify;

use std::time::SystemTime;

use hubferry_core::error::Result;
use hubferry_remotes::dir::blocking;
use hubferry_remotes::hfcache::layout::Cache;
use hubferry_remotes::hfcache::stock::Inventory;

use super::Outcome;
use crate::args::cache::{CacheArgs, CacheVerb};
use crate::session::Session;

/// `hubferry cache …`
pub(crate) async fn run(args: CacheArgs, session: &Session) -> Outcome {
    let (cache, links) = session.cache(args.cache_dir.as_deref())?;
    match args.verb {
        CacheVerb::List(args) => list::run(&args, cache, session).await,
        CacheVerb::Verify(args) => verify::run(args, cache, links, session).await,
        CacheVerb::Prune(args) => prune::prune(args, cache, session).await,
        CacheVerb::Remove(args) => prune::remove(args, cache, session).await,
        CacheVerb::Pin(args) => keep::pin(&args.places, cache, session).await,
        CacheVerb::Unpin(args) => keep::unpin(&args.places, cache, session).await,
    }
}

/// Looks through the cache, where that may take its time.
async fn inventory(cache: &Cache) -> Result<Inventory> {
    let cache = cache.clone();
    blocking(move || Inventory::read(&cache, SystemTime::now())).await
}

/// `3 days ago`: how long ago something was, in one unit.
fn ago(when: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(when).unwrap_or_default().as_secs();
    let units = [(365 * 86_400, "year"), (30 * 86_400, "month"), (7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, word)) => format!("{} ago", crate::output::count(seconds / unit, word)),
        None => "just now".to_owned(),
    }
}

/// A time as programs read it.
fn stamp(when: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(when).ok().map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_in_one_unit() {
        let now = SystemTime::now();
        let shown = |seconds| ago(now - Duration::from_secs(seconds), now);
        assert_eq!(
            [5, 90, 7200, 86_400 * 3, 86_400 * 20, 86_400 * 70, 86_400 * 800].map(shown),
            ["just now", "1 minute ago", "2 hours ago", "3 days ago", "2 weeks ago", "2 months ago", "2 years ago"]
        );
        assert_eq!(ago(now + Duration::from_mins(1), now), "just now");
    }
}
