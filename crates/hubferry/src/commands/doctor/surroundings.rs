//! What lies outside the hubs: the program, configuration, proxy, certificates, disk, Git.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hubferry_core::error::Error;
use tokio::process::Command;

use super::finding::Finding;
use crate::output::size;
use crate::session::Session;

/// Less free space than this deserves a warning.
const LITTLE: u64 = 1 << 30;
/// A program that does not say its version by then hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at all of it.
pub(super) async fn look(session: &Session) -> Vec<Finding> {
    let settings = &session.settings;
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let mut findings = vec![
        Finding::fine("version", format!("hubferry {} on {system} {processor}", env!("CARGO_PKG_VERSION"))),
        match &settings.file {
            Some(path) => Finding::fine("configuration", path.display().to_string()),
            None => Finding::fine("configuration", "no file, built-in remotes only".to_owned()),
        },
    ];
    let proxies = if settings.proxies.is_empty() { "none".to_owned() } else { format!("set by {}", settings.proxies.join(", ")) };
    findings.push(Finding::fine("proxy", proxies));
    let mut trusted = vec!["those of the system".to_owned()];
    trusted.extend(settings.certificates.iter().map(|(path, _)| path.display().to_string()));
    findings.push(Finding::fine("certificates", trusted.join(", ")));
    #[cfg(feature = "xet")]
    findings.push(Finding::fine("xet", crate::xet::described(settings)));
    findings.push(disk("disk", "here", Path::new(".")));
    findings.push(disk("temporary files", &std::env::temp_dir().display().to_string(), &std::env::temp_dir()));
    findings.push(match &settings.cache {
        Some(folder) => cache(folder),
        None => Finding::notice("cache", "none: nothing is known between runs".to_owned(), "set HUBFERRY_CACHE to a directory"),
    });
    findings.push(git().await);
    findings
}

fn disk(about: &str, place: &str, folder: &Path) -> Finding {
    match hubferry_remotes::disk::free_space(folder) {
        Ok(free) if free < LITTLE => {
            Finding::notice(about, format!("only {} are free {place}", size(free)), "free some space before downloading here")
        }
        Ok(free) => Finding::fine(about, format!("{} free {place}", size(free))),
        Err(error) => Finding::notice(about, error.to_string(), "check the permissions of this directory"),
    }
}

/// The folder is made by the first run that needs it: until then its nearest parent counts.
fn cache(folder: &Path) -> Finding {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder);
    match tempfile::NamedTempFile::new_in(there) {
        Ok(_) => disk("cache", &folder.display().to_string(), there),
        Err(error) => Finding::notice(
            "cache",
            Error::io("write to", there, error).to_string(),
            "set HUBFERRY_CACHE to a directory that can be written: without it every run starts from nothing",
        ),
    }
}

async fn git() -> Finding {
    let (git, lfs) = tokio::join!(version(&["--version"]), version(&["lfs", "version"]));
    match (git, lfs) {
        (Some(git), Some(lfs)) => Finding::fine("git", format!("{git}, {lfs}")),
        (Some(git), None) => Finding::fine("git", format!("{git}, without git-lfs")),
        (None, _) => Finding::notice("git", "not there; only needed for what hubs give out by Git alone".to_owned(), "install git"),
    }
}

/// The first line that git answers.
async fn version(args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `git-lfs/3.6.1 (GitHub; linux amd64; go 1.23)`, `git version 2.47.3`.
    Some(text.lines().next()?.split(" (").next()?.trim().to_owned())
}
