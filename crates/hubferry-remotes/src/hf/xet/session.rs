//! The library, set up for a program that keeps to a memory limit, prints nothing and reports nothing.

use std::time::Duration;

use hubferry_core::error::{Error, Kind, Result};
use xet::XetError;
use xet::xet_session::{HeaderMap, HeaderValue, XetConfig, XetSession, XetSessionBuilder, header};

use super::Xet;
use crate::http::{HttpConfig, clean};

/// The library's own pause of 3 s, doubled each time, would outlast our patience before its second try.
const FIRST_PAUSE: &str = "500ms";

/// More than is ever on its way. The library bounds all readers together, and a reader that nobody polls keeps its share: whoever has
/// the first byte that everybody waits for could wait for it for ever. We bound what each asks for instead.
const NEVER_FULL: &str = "64gb";

/// What is known of chunks on this disk.
const KNOWN_CHUNKS: &str = "256mb";

impl Xet {
    /// The session, made on the first call. `asks` lets uploads ask the store whether it has chunks
    /// already.
    pub(super) fn session(&self, asks: bool, http: &HttpConfig) -> Result<XetSession> {
        let cell = &self.0.sessions[usize::from(asks)];
        if let Some(session) = cell.get() {
            return Ok(session.clone());
        }
        let config = settings(asks, self.0.uploads.available_permits(), http.connect_timeout, http.idle_timeout)?;
        let session = XetSessionBuilder::new_with_config(config)
            .with_cache_dir(&self.0.folder)
            .with_tokio_handle(self.runtime()?.clone())
            .build()
            .map_err(|e| failure(&e))?;
        Ok(cell.get_or_init(|| session).clone())
    }
}

/// Our defaults, then what `HF_XET_*` says, then what is promised elsewhere and therefore not for the environment to change.
fn settings(asks: bool, uploads: usize, connect: Duration, idle: Duration) -> Result<XetConfig> {
    let seconds = |time: Duration| format!("{}s", time.as_secs().max(1));
    let set = |config: XetConfig, pairs: &[(&str, String)]| {
        pairs.iter().try_fold(config, |config, (name, value)| {
            config.with_config(name, value).map_err(|e| Error::new(Kind::Bug, format!("the Xet setting {name} is not taken")).caused_by(e))
        })
    };
    let usual = [
        ("client.retry_base_delay", FIRST_PAUSE.to_owned()),
        ("client.connect_timeout", seconds(connect)),
        ("client.read_timeout", seconds(idle)),
        ("shard.cache_size_limit", KNOWN_CHUNKS.to_owned()),
    ];
    let uploads = uploads.max(1).to_string();
    let fixed = [
        ("telemetry.enabled", "false".to_owned()),
        ("deduplication.global_dedup_query_enabled", asks.to_string()),
        ("reconstruction.download_buffer_size", NEVER_FULL.to_owned()),
        ("reconstruction.download_buffer_limit", NEVER_FULL.to_owned()),
        ("client.ac_min_upload_concurrency", "1".to_owned()),
        ("client.ac_initial_upload_concurrency", uploads.clone()),
        ("client.ac_max_upload_concurrency", uploads),
    ];
    set(set(XetConfig::default(), &usual)?.with_env_overrides(), &fixed)
}

/// Sent with every request of the library; nothing secret.
pub(super) fn headers(http: &HttpConfig) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(agent) = HeaderValue::from_str(&http.user_agent) {
        headers.insert(header::USER_AGENT, agent);
    }
    headers
}

/// An error of the library as one of ours. Trying again is right: the file takes the other way then.
pub(super) fn failure(error: &XetError) -> Error {
    Error::new(Kind::Unavailable, format!("Xet failed: {}", clean(&error.to_string(), 200)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reported_and_questions_about_chunks_are_asked_only_where_allowed() {
        for asks in [false, true] {
            let config = settings(asks, 2, Duration::from_secs(10), Duration::from_secs(30)).unwrap();
            let get = |name: &str| config.get(name).unwrap();
            assert_eq!(get("telemetry.enabled"), "false");
            assert_eq!(get("deduplication.global_dedup_query_enabled"), asks.to_string());
            assert_eq!(get("client.ac_max_upload_concurrency"), "2");
        }
    }
}
