//! Hosts that are reached by SSH.

use std::path::Path;

use hubferry_core::address::{Address, SshAddress};
use hubferry_core::error::{Error, Kind, Result};

use super::Remotes;
use crate::ssh::{Ended, Facts, SshHosts};

impl Remotes {
    pub(super) fn hosts(&self) -> Result<&SshHosts> {
        self.ssh.as_ref().ok_or_else(|| Error::new(Kind::Unsupported, "hosts cannot be reached here: there is no program for it"))
    }

    /// Looks at a host: whether it lets us in, what it can do, and how much room there is.
    pub async fn look(&self, host: &SshAddress) -> Result<Facts> {
        self.hosts()?.look(host).await
    }

    /// Brings a program to a host, unless it is there, and sees that it runs: `version` is what it says of itself. Gives its path.
    pub async fn install(&self, host: &SshAddress, program: &Path, version: &str) -> Result<String> {
        self.hosts()?.install(host, program, version).await
    }

    /// Runs a program on a host with `input` on its standard input, which then stays open for as long as this is waited for. Every line
    /// of its standard error goes to `lines`.
    pub async fn run_there(&self, host: &SshAddress, words: &[String], input: &[u8], lines: impl FnMut(&str) + Send) -> Result<Ended> {
        self.hosts()?.run_there(host, words, input, lines).await
    }

    /// Files that were sent in this run and that the place could not be asked to check; `None` for places that always can.
    pub fn unverified(&self, address: &Address) -> Option<Vec<String>> {
        let Address::Ssh(place) = address else { return None };
        self.ssh.as_ref().map(|hosts| hosts.unverified(place))
    }
}
