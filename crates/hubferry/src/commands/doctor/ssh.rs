//! What the doctor says of a host: whether it lets us in, what it can do, and how much room there is.

use hubferry_core::address::ssh::is_command;
use hubferry_core::address::{Address, SshAddress};
use serde_json::json;

use super::finding::Finding;
use crate::exit::Failure;
use crate::output::size;
use crate::session::Session;

/// Whether a word names a host and not a remote.
pub(super) fn is_host(text: &str) -> bool {
    let text = text.trim();
    is_command(text) || text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("ssh://"))
}

pub(super) fn choose(names: &[String], session: &Session) -> Result<Vec<SshAddress>, Failure> {
    let mut hosts = Vec::new();
    for name in names {
        if let Address::Ssh(host) = session.address(name)? {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Connects and looks; writes nothing.
pub(super) async fn check(host: &SshAddress, session: &Session) -> Vec<Finding> {
    let about = host.authority();
    let facts = match session.remotes.look(host).await {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::broken(&about, "", error, "try the same with `ssh -v`")],
    };
    let data = json!({"folder": facts.folder, "exists": facts.is_there, "system": facts.system, "free": facts.free});
    let mut findings = vec![match &facts.system {
        Some(system) => Finding::fine(&about, format!("lets us in, runs commands and hashes files by itself ({system})")).with(data),
        None => Finding::notice(
            &about,
            "lets us in by SFTP only".to_owned(),
            "files are checked by reading them back, large ones by their size: allow commands with `sha256sum` and `xargs` to have all of them checked",
        )
        .with(data),
    }];
    let there = if facts.is_there { "is there" } else { "is not there yet" };
    findings.push(match facts.free {
        Some(free) => Finding::fine(&about, format!("{} {there}, {} free", facts.folder, size(free))),
        None => Finding::notice(
            &about,
            format!("{} {there}; how much is free is not told", facts.folder),
            "a full disk is noticed only when a write fails",
        ),
    });
    findings
}
