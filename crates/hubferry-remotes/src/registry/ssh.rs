//! Hosts that are reached by SSH.

use hubferry_core::address::{Address, SshAddress};
use hubferry_core::error::{Error, Kind, Result};

use super::Remotes;
use crate::ssh::{Facts, SshHosts};

impl Remotes {
    pub(super) fn hosts(&self) -> Result<&SshHosts> {
        self.ssh.as_ref().ok_or_else(|| Error::new(Kind::Unsupported, "hosts cannot be reached here: there is no program for it"))
    }

    /// Looks at a host: whether it lets us in, what it can do, and how much room there is.
    pub async fn look(&self, host: &SshAddress) -> Result<Facts> {
        self.hosts()?.look(host).await
    }

    /// Files that were sent in this run and that the place could not be asked to check; `None` for places that always can.
    pub fn unverified(&self, address: &Address) -> Option<Vec<String>> {
        let Address::Ssh(place) = address else { return None };
        self.ssh.as_ref().map(|hosts| hosts.unverified(place))
    }
}
