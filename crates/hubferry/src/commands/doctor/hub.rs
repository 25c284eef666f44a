//! One remote: where it is, whether it answers, what time it has, who we are there and what we may.

use std::time::{Duration, Instant, SystemTime};

use hubferry_core::error::{Error, Kind};
use hubferry_remotes::registry::{Identity, Protocol, RemotePlace, RemoteSettings};
use serde_json::json;

use super::cache;
use super::finding::Finding;
use crate::args::Need;
use crate::session::Session;

/// A clock this far off breaks signed links.
const CLOCK: Duration = Duration::from_mins(5);

/// What somebody wants to do there.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// What the token must be good for.
    pub(super) need: Option<Need>,
    /// A trial follows, which needs to write.
    pub(super) transfer: bool,
}

/// Whether a trial is worth it: the hub does not say that it would be refused.
pub(super) fn may_try(who: &Identity) -> bool {
    who.writes.as_ref().is_none_or(|places| !places.is_empty())
}

/// What is known of a remote.
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// Whom the token belongs to, if it was accepted.
    pub(super) identity: Option<Identity>,
}

/// Checks one remote.
pub(super) async fn check(remote: &RemoteSettings, wish: Wish, session: &Session) -> Checked {
    let about = &remote.name;
    let hub = match &remote.place {
        RemotePlace::Hub { hub, .. } => hub,
        RemotePlace::Cache(cache) => return Checked { findings: cache::check(about, cache), identity: None },
    };
    let endpoint = format!("endpoint {} (from {})", hub.endpoint, hub.endpoint_from);
    let mut checked = Checked { findings: vec![Finding::fine(about, endpoint)], identity: None };
    let findings = &mut checked.findings;
    if let Some(setting) = &hub.offline {
        findings.push(Finding::notice(about, format!("{setting} forbids every request"), "unset it to use this remote"));
        return checked;
    }
    match reach(remote, session).await {
        Ok(finding) => findings.push(finding),
        Err(error) => {
            findings.push(Finding::broken(about, "not reachable", error, "check the address, the proxy variables and the network"));
            return checked;
        }
    }
    let (finding, identity) = credential(remote, wish, session).await;
    findings.push(finding);
    checked.identity = identity;
    checked
}

/// Asks twice: the second answer comes over a connection that is open, and its time is that of the hub alone.
async fn reach(remote: &RemoteSettings, session: &Session) -> Result<Finding, Error> {
    let about = &remote.name;
    session.remotes.clock(about).await?;
    let begun = Instant::now();
    let theirs = session.remotes.clock(about).await?;
    let took = begun.elapsed();
    let latency = took.as_millis();
    let Some(theirs) = theirs else {
        let text = format!("reachable in {latency} ms; it does not tell its time");
        return Ok(Finding::fine(about, text).with(json!({"latency_ms": latency})));
    };
    // The time was told on the way back, and in whole seconds.
    let now = SystemTime::now().checked_sub(took / 2).unwrap_or_else(SystemTime::now);
    let apart = now.duration_since(theirs).unwrap_or_else(|ahead| ahead.duration());
    let finding = if apart > CLOCK {
        let text = format!("reachable in {latency} ms; its clock and ours are {} s apart", apart.as_secs());
        Finding::notice(about, text, "set this machine's clock: signed links expire by it")
    } else {
        Finding::fine(about, format!("reachable in {latency} ms, clocks agree"))
    };
    Ok(finding.with(json!({"latency_ms": latency, "clock_seconds_apart": apart.as_secs()})))
}

async fn credential(remote: &RemoteSettings, wish: Wish, session: &Session) -> (Finding, Option<Identity>) {
    let about = &remote.name;
    let need = if wish.transfer { Some(Need::Write) } else { wish.need };
    let Some(from) = remote.hub().and_then(|hub| hub.credential_from.as_ref()) else { return (no_token(remote, need), None) };
    let who = match session.remotes.whoami(about).await {
        Ok(who) => who,
        Err(error) => {
            // Trouble on the way says nothing about the token.
            let refused = matches!(error.kind(), Kind::Unauthenticated | Kind::Denied);
            let what = if refused {
                format!("the token from {from} is not accepted")
            } else {
                format!("the token from {from} could not be checked")
            };
            return (Finding::broken(about, &what, error, "make a new token on the hub's settings page"), None);
        }
    };
    let finding = rights(about, &who, from, need, wish.transfer);
    (finding, Some(who))
}

/// How somebody sets a token here.
fn setting(remote: &RemoteSettings) -> String {
    let variable = match remote.protocol() {
        Some(Protocol::HuggingFace) => "HF_TOKEN",
        _ => "MODELSCOPE_API_TOKEN",
    };
    let about = &remote.name;
    if about == "hf" || about == "ms" { format!("set {variable}") } else { format!("add token_env to remotes.{about}") }
}

fn no_token(remote: &RemoteSettings, need: Option<Need>) -> Finding {
    let (about, hint) = (&remote.name, setting(remote));
    if need.is_some() {
        return Finding::broken(about, "", Error::new(Kind::Unauthenticated, "no token is set").hint(&hint), &hint);
    }
    Finding::notice(about, "no token: only public repositories can be read".to_owned(), &hint)
}

/// What a token may, against what is needed.
fn rights(about: &str, who: &Identity, from: &str, need: Option<Need>, transfer: bool) -> Finding {
    let organisations = if who.organisations.is_empty() { String::new() } else { format!(", member of {}", who.organisations.join(", ")) };
    let signed_in = format!("signed in as {}{organisations} (token from {from})", who.name);
    // `read` and `write` are what the sentence says anyway.
    let role = who.role.as_deref().filter(|role| !matches!(*role, "read" | "write")).map_or(String::new(), |role| format!(" ({role})"));
    let data = json!({"user": who.name, "organisations": who.organisations, "role": who.role, "may_write_to": who.writes});
    let finding = match (&who.writes, need) {
        (Some(places), _) if !places.is_empty() => Finding::fine(about, format!("{signed_in}; may write to {}{role}", places.join(", "))),
        (Some(_), Some(Need::Write)) => {
            let error = Error::new(Kind::Denied, format!("{signed_in}; may only read{role}"));
            Finding::broken(about, "", error, "make a token with write rights on the hub's settings page")
        }
        (Some(_), Some(Need::Read)) => Finding::fine(about, format!("{signed_in}; may only read{role}")),
        (Some(_), None) => {
            Finding::notice(about, format!("{signed_in}; may only read{role}"), "make a token with write rights to publish there")
        }
        (None, Some(Need::Write)) if !transfer => Finding::notice(
            about,
            format!("{signed_in}; the hub does not tell whether it may write{role}"),
            "add --transfer to try it with a small private repository",
        ),
        (None, _) => Finding::fine(about, format!("{signed_in}; the hub does not tell whether it may write{role}")),
    };
    finding.with(data)
}
