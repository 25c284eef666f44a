//! `cache`: what is in a Hugging Face cache, what may go, what must stay.

mod choose;
mod keep;
mod list;
mod prune;
mod verify;

use std::time::SystemTime;

use hubferry_core::error::{Error, Result};
use hubferry_remotes::hfcache::layout::Cache;
use hubferry_remotes::hfcache::stock::Inventory;
use hubferry_remotes::registry::RemotePlace;

use super::Outcome;
use crate::args::cache::{CacheArgs, CacheVerb};
use crate::exit::Failure;
use crate::session::Session;

/// `hubferry cache …`
pub(crate) async fn run(args: CacheArgs, session: &Session) -> Outcome {
    let cache = match args.cache_dir {
        Some(folder) => Cache::new(folder),
        None => usual(session)?,
    };
    match args.verb {
        CacheVerb::List(args) => list::run(&args, cache, session).await,
        CacheVerb::Verify(args) => verify::run(args, cache, session).await,
        CacheVerb::Prune(args) => prune::prune(args, cache, session).await,
        CacheVerb::Remove(args) => prune::remove(args, cache, session).await,
        CacheVerb::Pin(args) => keep::pin(&args.places, cache, session).await,
        CacheVerb::Unpin(args) => keep::unpin(&args.places, cache, session).await,
    }
}

/// The cache that the environment names.
fn usual(session: &Session) -> Result<Cache, Failure> {
    let settings = session.settings.remotes.iter().find(|remote| remote.name == "hfcache").map(|remote| &remote.place);
    match settings {
        Some(RemotePlace::Cache(settings)) => Ok(Cache::new(&settings.root)),
        _ => {
            Err(Failure::usage(Error::invalid("nothing says where the cache is").hint("name it with --cache-dir, HF_HUB_CACHE or HF_HOME")))
        }
    }
}

/// Looks through the cache, where that may take its time.
async fn inventory(cache: &Cache) -> Result<Inventory> {
    let cache = cache.clone();
    blocking(move || Inventory::read(&cache, SystemTime::now())).await
}

/// Runs work on files where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|lost| Err(Error::new(hubferry_core::error::Kind::Bug, "file work came to a sudden end").caused_by(lost)))
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
