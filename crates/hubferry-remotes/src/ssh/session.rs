//! A host, connected once for everything that this run does there, and again after the connection was lost.

use std::sync::Arc;

use hubferry_core::address::SshAddress;
use hubferry_core::error::{Error, Kind, Result};
use tokio::process::Child;
use tokio::sync::Mutex;

use super::program::{Complaints, Program};
use super::sftp::Sftp;
use super::shell::Shell;
use super::{SshConfig, space};

/// A host and the connection to it, when there is one.
#[derive(Debug)]
pub(super) struct Host {
    address: SshAddress,
    config: SshConfig,
    current: Mutex<Option<Arc<Session>>>,
}

impl Host {
    pub(super) fn new(address: SshAddress, config: SshConfig) -> Self {
        Self { address, config, current: Mutex::default() }
    }

    pub(super) fn config(&self) -> &SshConfig {
        &self.config
    }

    /// Login, host and port, for people.
    pub(super) fn name(&self) -> String {
        self.address.authority()
    }

    /// The connection; made where there is none, or where it ended.
    pub(super) async fn session(&self) -> Result<Arc<Session>> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.sftp.is_dead()) {
            return Ok(session.clone());
        }
        *current = None;
        let opening = Session::open(&self.address, &self.config);
        let session = Arc::new(opening.await.map_err(|error| error.context("host", self.name()))?);
        *current = Some(session.clone());
        Ok(session)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sftp: Arc<Sftp>,
    /// Where a login begins.
    pub(super) home: String,
    /// Where the host runs commands that see the same files.
    pub(super) shell: Option<Shell>,
}

impl Session {
    async fn open(address: &SshAddress, config: &SshConfig) -> Result<Self> {
        let program = Arc::new(Program::new(&config.tool, address, config.stall).await?);
        let (mut child, complaints) = program.sftp()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(Kind::Bug, "a program was started without its pipes"));
        };
        let ended = ended(program.clone(), child, complaints);
        let opening = Sftp::open(from, to, config.stall, config.wire.clone(), ended);
        // `ssh` bounds the connection; this bounds a host that takes it and then says nothing.
        let sftp = tokio::time::timeout(config.stall * 2, opening)
            .await
            .map_err(|_| Error::new(Kind::Unavailable, "the host did not answer in time"))??;
        let home = sftp.realpath(".").await?;
        let shell = match Shell::find(&program, &home).await {
            Ok(shell) => shell,
            Err(error) => {
                tracing::debug!(%error, "the host runs no commands");
                None
            }
        };
        Ok(Self { sftp: Arc::new(sftp), home, shell })
    }

    /// What there is to know of a host and of a folder on it.
    pub(super) async fn facts(&self, folder: &str) -> Result<Facts> {
        Ok(Facts {
            folder: folder.to_owned(),
            is_there: self.sftp.stat(folder).await?.is_some(),
            system: self.shell.as_ref().map(|shell| shell.system.clone()),
            free: space::free(self, folder).await?,
        })
    }
}

/// Waits until `ssh` is gone and says why.
async fn ended(program: Arc<Program>, mut child: Child, complaints: Complaints) -> Error {
    let text = complaints.text().await;
    drop(child.start_kill());
    program.complaint(&text)
}

/// What was seen of a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The path that was looked at, as the host has it.
    pub folder: String,
    /// Whether something is there.
    pub is_there: bool,
    /// System and processor, as `uname -sm` has them; `None` where the host runs no commands, or none that hash.
    pub system: Option<String>,
    /// Bytes that may still be written there; `None` where nobody says.
    pub free: Option<u64>,
}
