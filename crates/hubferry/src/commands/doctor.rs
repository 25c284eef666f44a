//! `doctor`: looks at everything a transfer rests on and says one hint per finding.

use std::path::Path;
use std::time::{Duration, SystemTime};

use hubferry_core::error::{Error, Kind};
use hubferry_remotes::registry::RemoteSettings;
use serde_json::{Value, json};

use super::Outcome;
use crate::args::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::output::{printable, size};
use crate::session::{Session, usage};

/// A clock this far off breaks signed links.
const CLOCK: Duration = Duration::from_mins(5);
/// Less free space than this deserves a warning.
const LITTLE: u64 = 1 << 30;

/// How one check went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fine,
    Notice,
    Broken,
}

/// One line of the report.
struct Finding {
    about: String,
    state: State,
    text: String,
    hint: Option<String>,
    exit: Exit,
}

/// `hubferry doctor`
pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Outcome {
    let chosen = choose(&args.remotes, session)?;
    let mut findings = surroundings(session);
    for remote in chosen {
        findings.extend(hub(remote, session).await);
    }
    if let Some(text) = &args.read {
        findings.push(read_probe(text, session).await?);
    }
    if let Some(folder) = &args.write {
        findings.push(write_probe(folder));
    }
    session.progress.finish();
    session.output.json(&json!({"findings": findings.iter().map(Finding::json).collect::<Vec<_>>(), "ok": findings.iter().all(|f| f.state != State::Broken)}));
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

/// What lies outside the hubs: configuration, proxy, certificates, disk.
fn surroundings(session: &Session) -> Vec<Finding> {
    let settings = &session.settings;
    let mut findings = vec![match &settings.file {
        Some(path) => Finding::fine("configuration", path.display().to_string()),
        None => Finding::fine("configuration", "no file, built-in remotes only".to_owned()),
    }];
    let proxies = if settings.proxies.is_empty() { "none".to_owned() } else { format!("set by {}", settings.proxies.join(", ")) };
    findings.push(Finding::fine("proxy", proxies));
    let mut trusted = vec!["those of the system".to_owned()];
    trusted.extend(settings.certificates.iter().map(|(path, _)| path.display().to_string()));
    findings.push(Finding::fine("certificates", trusted.join(", ")));
    #[cfg(feature = "xet")]
    findings.push(Finding::fine("xet", crate::xet::described(settings)));
    findings.push(disk(Path::new(".")));
    findings
}

fn disk(folder: &Path) -> Finding {
    match hubferry_remotes::disk::free_space(folder) {
        Ok(free) if free < LITTLE => {
            Finding::notice("disk", format!("only {} are free here", size(free)), "free some space before downloading here")
        }
        Ok(free) => Finding::fine("disk", format!("{} free here", size(free))),
        Err(error) => Finding::notice("disk", error.to_string(), "check the permissions of this directory"),
    }
}

async fn hub(remote: &RemoteSettings, session: &Session) -> Vec<Finding> {
    let about = remote.name.clone();
    let mut findings = vec![Finding::fine(&about, format!("endpoint {} (from {})", remote.hub.endpoint, remote.hub.endpoint_from))];
    if let Some(setting) = &remote.hub.offline {
        findings.push(Finding::notice(&about, format!("{setting} forbids every request"), "unset it to use this remote"));
        return findings;
    }
    match session.remotes.clock(&remote.name).await {
        Ok(Some(theirs)) => findings.push(clock(&about, theirs)),
        Ok(None) => findings.push(Finding::fine(&about, "reachable; it does not tell its time".to_owned())),
        Err(error) => {
            findings.push(Finding::broken(&about, "not reachable", error, "check the address, the proxy variables and the network"));
            return findings;
        }
    }
    findings.push(credential(remote, session).await);
    findings
}

fn clock(about: &str, theirs: SystemTime) -> Finding {
    let now = SystemTime::now();
    let apart = now.duration_since(theirs).unwrap_or_else(|ahead| ahead.duration());
    if apart > CLOCK {
        let text = format!("reachable; its clock and ours are {} s apart", apart.as_secs());
        return Finding::notice(about, text, "set this machine's clock: signed links expire by it");
    }
    Finding::fine(about, "reachable, clocks agree".to_owned())
}

async fn credential(remote: &RemoteSettings, session: &Session) -> Finding {
    let about = &remote.name;
    let Some(from) = &remote.hub.credential_from else {
        let variable = match remote.protocol {
            hubferry_remotes::registry::Protocol::HuggingFace => "HF_TOKEN",
            hubferry_remotes::registry::Protocol::ModelScope => "MODELSCOPE_API_TOKEN",
        };
        let hint = if about == "hf" || about == "ms" { format!("set {variable}") } else { format!("add token_env to remotes.{about}") };
        return Finding::notice(about, "no token: only public repositories can be read".to_owned(), &hint);
    };
    match session.remotes.whoami(about).await {
        Ok(who) => {
            let role = who.role.as_ref().map_or(String::new(), |role| format!(", token may {role}"));
            let organisations =
                if who.organisations.is_empty() { String::new() } else { format!(", member of {}", who.organisations.join(", ")) };
            let text = format!("signed in as {}{role}{organisations} (token from {from})", who.name);
            if who.role.as_deref() == Some("read") {
                return Finding::notice(about, text, "make a token with write rights to publish there");
            }
            Finding::fine(about, text)
        }
        Err(error) => {
            Finding::broken(about, &format!("the token from {from} is not accepted"), error, "make a new token on the hub's settings page")
        }
    }
}

async fn read_probe(text: &str, session: &Session) -> Result<Finding, Failure> {
    let address = session.address(text)?;
    let source = session.source(&address, None)?;
    Ok(match source.manifest().await {
        Ok(manifest) => {
            Finding::fine("read", format!("{address} can be listed: {} files, {}", manifest.entries.len(), size(manifest.bytes())))
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

impl Finding {
    fn fine(about: &str, text: String) -> Self {
        Self { about: about.to_owned(), state: State::Fine, text, hint: None, exit: Exit::Done }
    }

    fn notice(about: &str, text: String, hint: &str) -> Self {
        Self { about: about.to_owned(), state: State::Notice, text, hint: Some(hint.to_owned()), exit: Exit::Done }
    }

    fn broken(about: &str, what: &str, error: Error, hint: &str) -> Self {
        let text = if what.is_empty() { error.to_string() } else { format!("{what}: {error}") };
        // Who asks the doctor is not sent to the doctor.
        let hint = error.hint_text().filter(|hint| !hint.contains("hubferry doctor")).unwrap_or(hint).to_owned();
        let failure = Failure::from(error);
        // A hub that cannot be reached may be there tomorrow, whatever the reason looks like.
        let exit = if failure.error.kind() == Kind::Invalid { Exit::Failed } else { failure.exit };
        Self { about: about.to_owned(), state: State::Broken, text, hint: Some(hint), exit }
    }

    fn json(&self) -> Value {
        let state = match self.state {
            State::Fine => "ok",
            State::Notice => "notice",
            State::Broken => "broken",
        };
        json!({"about": self.about, "state": state, "text": self.text, "hint": self.hint})
    }

    fn text(&self) -> String {
        let mark = match self.state {
            State::Fine => "ok    ",
            State::Notice => "notice",
            State::Broken => "BROKEN",
        };
        let line = format!("{mark}  {}: {}\n", self.about, printable(&self.text));
        self.hint.as_ref().map_or(line.clone(), |hint| format!("{line}        hint: {}\n", printable(hint)))
    }
}
