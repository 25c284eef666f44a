//! The `ssh` remote: a folder on a host as source and target, over the user's own `ssh` program with its configuration, agent and
//! known hosts.
//!
//! One process of `ssh` carries one SFTP channel with many requests in flight. Where the host also runs commands, `sha256sum` hashes
//! there, over the same connection where `ssh` can share it. Nothing is installed on the host, and nothing passes through the disk here.
//!
//! SFTP is spoken by this folder, not by a library: of the two that are kept well, `russh-sftp` (3.0) turns handles and names into
//! UTF-8 with losses, although handles are any bytes, and `openssh-sftp-client` (0.15) cannot ask for free space and brings twenty
//! crates. The protocol is version 3 of draft-ietf-secsh-filexfer-02 with the extensions in OpenSSH's file PROTOCOL.
//!
//! On the host, a target keeps blobs in `.hubferry/` beside the files until the commit: `<oid>.<process>`. How far each has come is
//! noted on this machine, and compared with the host by hash before it counts.

mod commit;
mod deploy;
mod known;
mod listing;
mod note;
mod packet;
mod program;
mod session;
mod sftp;
mod shell;
mod source;
mod space;
mod staging;
mod target;
mod walk;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hubferry_core::address::{SshAddress, SshPath};
use hubferry_core::error::{Error, Result};
use hubferry_core::events::{Event, Reporter, Wire};
use hubferry_core::transfer::journal::Journal;
use hubferry_core::transfer::throttle::Throttle;

pub use self::deploy::Ended;
pub use self::session::Facts;
pub use self::source::SshSource;
pub use self::target::SshTarget;

use self::known::Known;
use self::session::Host;

/// The `ssh` program.
#[derive(Clone, Debug)]
pub struct SshTool {
    /// Its name or path.
    pub program: OsString,
    /// All of the environment that it gets: no token is among it, because configurations can send variables to hosts.
    pub environment: Vec<(String, OsString)>,
    /// A folder for sockets, by which several channels share a connection. Its path should be short.
    pub temporary: PathBuf,
}

/// What every host is reached with.
#[derive(Clone)]
pub struct SshConfig {
    /// The program.
    pub tool: SshTool,
    /// Longest silence of a host that was asked something.
    pub stall: Duration,
    /// Counts what passes.
    pub wire: Arc<Wire>,
    /// Paces what is sent; what comes is paced by who reads it.
    pub pace: Option<Arc<Throttle>>,
    /// Takes what a user should know.
    pub reporter: Arc<dyn Reporter>,
    /// Notes of unfinished files.
    pub journal: Arc<dyn Journal>,
    /// A folder for digests that are known from before.
    pub known: Option<PathBuf>,
}

impl fmt::Debug for SshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshConfig").field("tool", &self.tool).field("stall", &self.stall).finish_non_exhaustive()
    }
}

/// Every host of this run. What is opened twice shares its connection.
#[derive(Debug)]
pub struct SshHosts {
    config: SshConfig,
    hosts: Mutex<BTreeMap<SshAddress, Arc<Host>>>,
    /// By place: digests that are known.
    known: Mutex<BTreeMap<String, Arc<Known>>>,
    /// By place: what was sent and could not be checked there.
    unverified: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl SshHosts {
    /// Connects nowhere yet.
    pub fn new(config: SshConfig) -> Self {
        Self { config, hosts: Mutex::default(), known: Mutex::default(), unverified: Arc::default() }
    }

    fn place(&self, address: &SshAddress) -> Result<Place> {
        if address.path == SshPath::Unnamed {
            return Err(Error::invalid(format!("{address} names no folder"))
                .hint("put the path behind the host: ssh://host/srv/model, or ssh://host/~/model for the home folder"));
        }
        let key = address.with_path(SshPath::Unnamed);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(key.clone()).or_insert_with(|| Arc::new(Host::new(key, self.config.clone()))).clone();
        let label = address.to_string();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(label.clone()).or_insert_with(|| Arc::new(Known::at(self.config.known.as_deref(), &label))).clone();
        Ok(Place { host, path: address.path.clone(), label, known, unverified: self.unverified.clone() })
    }

    /// Opens a folder or a file to read from.
    pub fn source(&self, address: &SshAddress) -> Result<SshSource> {
        self.place(address).map(SshSource::new)
    }

    /// Opens a folder to write to.
    pub fn target(&self, address: &SshAddress) -> Result<SshTarget> {
        self.place(address).map(SshTarget::new)
    }

    /// Looks at a host: whether it lets us in, what it can do, and how much room there is.
    pub async fn look(&self, address: &SshAddress) -> Result<Facts> {
        let path = if address.path == SshPath::Unnamed { SshPath::Home(String::new()) } else { address.path.clone() };
        let place = self.place(&address.with_path(path))?;
        let (session, root) = place.open().await?;
        session.facts(&root).await
    }

    /// Files that were sent to a place in this run and that could not be checked there.
    pub fn unverified(&self, address: &SshAddress) -> Vec<String> {
        let all = self.unverified.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&address.to_string()).map(|paths| paths.iter().cloned().collect()).unwrap_or_default()
    }
}

/// A folder or file on a host.
#[derive(Clone, Debug)]
struct Place {
    host: Arc<Host>,
    path: SshPath,
    /// The address, for people and as the key of what is kept of it.
    label: String,
    known: Arc<Known>,
    unverified: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Place {
    /// The connection, and the path of the place as the host knows it.
    async fn open(&self) -> Result<(Arc<session::Session>, String)> {
        let session = self.host.session().await?;
        let root = match &self.path {
            SshPath::Absolute(path) => path.clone(),
            SshPath::Home(path) if path.is_empty() => session.home.clone(),
            SshPath::Home(path) => format!("{}/{path}", session.home.trim_end_matches('/')),
            SshPath::Unnamed => return Err(Error::invalid("the address names no folder")),
        };
        Ok((session, root))
    }

    fn note(&self, text: String) {
        self.host.config().reporter.event(&Event::Note(text));
    }

    fn detail(&self, text: String) {
        self.host.config().reporter.event(&Event::Detail(text));
    }

    /// Says once for each file that nobody could look whether it arrived.
    fn could_not_verify(&self, paths: &[String]) {
        let fresh: Vec<&String> = {
            let mut all = self.unverified.lock().unwrap_or_else(PoisonError::into_inner);
            let there = all.entry(self.label.clone()).or_default();
            paths.iter().filter(|path| there.insert((*path).clone())).collect()
        };
        if let Some(first) = fresh.first() {
            let more = if fresh.len() > 1 { format!(" and {} more", fresh.len() - 1) } else { String::new() };
            let name = self.host.name();
            self.note(format!(
                "{name} runs no commands, so what arrived of {first}{more} was checked by its size only; every write was confirmed"
            ));
        }
    }
}

/// Where `path` lies below `root`.
fn join(root: &str, path: &str) -> String {
    format!("{}/{path}", root.trim_end_matches('/'))
}

/// The folder that holds `path`.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| if parent.is_empty() { "/" } else { parent })
}
