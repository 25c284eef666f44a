//! `doctor`: looks at everything a transfer rests on and says one hint per finding.

mod cache;
mod finding;
mod hub;
mod round_trip;
mod ssh;
mod surroundings;

use std::path::Path;

use hubferry_core::error::Error;
use hubferry_remotes::registry::RemoteSettings;
use serde_json::{Value, json};

use super::{Outcome, interruptible};
use crate::args::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::session::{Session, usage};

use finding::{Finding, State};

/// `hubferry doctor`
pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Outcome {
    let (hosts, names): (Vec<String>, Vec<String>) = args.remotes.iter().cloned().partition(|text| ssh::is_host(text));
    let hosts = ssh::choose(&hosts, session)?;
    // Who names hosts only does not ask for the hubs.
    let chosen = if names.is_empty() && !hosts.is_empty() { Vec::new() } else { choose(&names, session)? };
    let mut findings = Vec::new();
    let mut trials = Vec::new();
    // Signals end the looking at once. The trials see to them by themselves, because they have something to remove.
    let looking = async {
        findings.extend(surroundings::look(session).await);
        for remote in chosen {
            let checked = hub::check(remote, hub::Wish { need: args.need, transfer: args.transfer }, session).await;
            findings.extend(checked.findings);
            trials.extend(checked.identity.filter(hub::may_try).map(|who| (remote, who)));
        }
        for host in &hosts {
            findings.extend(ssh::check(host, session).await);
        }
        if let Some(text) = &args.read {
            findings.push(read_probe(text, session).await?);
        }
        if let Some(folder) = &args.write {
            findings.push(write_probe(folder));
        }
        Ok(Exit::Done)
    };
    interruptible(looking).await?;
    if args.transfer {
        for (remote, who) in trials {
            findings.extend(round_trip::run(remote, &who, session).await);
            if findings.iter().any(|finding| finding.exit == Exit::Interrupted) {
                break;
            }
        }
    }
    session.progress.finish();
    let ok = findings.iter().all(|finding| finding.state != State::Broken);
    session.output.json(&json!({"findings": findings.iter().map(Finding::json).collect::<Vec<Value>>(), "ok": ok}));
    session.output.text(|| findings.iter().map(Finding::text).collect());
    Ok(findings.iter().find(|finding| finding.state == State::Broken).map_or(Exit::Done, |finding| finding.exit))
}

fn choose<'a>(names: &[String], session: &'a Session) -> Result<Vec<&'a RemoteSettings>, Failure> {
    let list = session.remotes.list();
    if names.is_empty() {
        return Ok(list.iter().collect());
    }
    let find = |name: &String| {
        let name = name.trim_end_matches(':');
        let is = |remote: &&RemoteSettings| {
            remote.name.eq_ignore_ascii_case(name) || remote.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
        };
        let known = list.iter().map(|remote| remote.name.as_str()).collect::<Vec<_>>().join(", ");
        list.iter().find(is).ok_or_else(|| usage(&format!("there is no remote {name:?}"), &format!("known are {known}")))
    };
    names.iter().map(find).collect()
}

async fn read_probe(text: &str, session: &Session) -> Result<Finding, Failure> {
    let address = session.address(text)?;
    let source = session.source(&address, None)?;
    // One question, however many files there are.
    Ok(match source.info().await {
        Ok(info) => {
            let visibility = info.visibility.map_or(String::new(), |visibility| format!(", {}", visibility.name()));
            let gated = if info.gated { ", its files only for those who accepted its terms" } else { "" };
            Finding::fine("read", format!("{address} is there{visibility}{gated}"))
        }
        Err(error) => Finding::broken("read", &format!("{address} cannot be read"), error, "check the address and the rights of the token"),
    })
}

fn write_probe(folder: &Path) -> Finding {
    let probe = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| std::io::Write::write_all(&mut file, b"hubferry"));
    match probe {
        Ok(()) => Finding::fine("write", format!("{} can be written", folder.display())),
        Err(error) => {
            Finding::broken("write", "", Error::io("write to", folder, error), "choose another directory, or change its permissions")
        }
    }
}
