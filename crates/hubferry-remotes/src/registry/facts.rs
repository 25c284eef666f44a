//! What is known of a place without asking it anything: where it is, what its protocol takes, and what it still allows.

use hubferry_core::address::Address;

use super::{RemoteSettings, Remotes};
use crate::costs::Costs;
use crate::http::{Allowance, authority};

impl Remotes {
    fn remote_of(&self, address: &Address) -> Option<&RemoteSettings> {
        let Address::Repo(repo) = address else { return None };
        self.list.iter().find(|remote| remote.name == repo.remote)
    }

    /// The URL of the hub that an address means; `None` for a directory. It holds no credential: the settings refuse one.
    pub fn endpoint(&self, address: &Address) -> Option<String> {
        self.remote_of(address).map(|remote| remote.hub.endpoint.to_string())
    }

    /// Who answers for a place: host and port, or `None` for this machine.
    pub fn host(&self, address: &Address) -> Option<String> {
        if let Address::Ssh(place) = address {
            return Some(place.authority());
        }
        self.remote_of(address).and_then(|remote| authority(&remote.hub.endpoint))
    }

    /// What its protocol takes.
    pub fn costs(&self, address: &Address) -> Costs {
        self.remote_of(address).map_or(Costs::DIRECTORY, |remote| Costs::of(remote.protocol))
    }

    /// The requests that it still allows, as its answers in this run said.
    pub fn allowances(&self, address: &Address) -> Vec<Allowance> {
        let Some(remote) = self.remote_of(address) else { return Vec::new() };
        let mut known = self.http.allowances(&remote.hub.endpoint);
        for more in self.http1.allowances(&remote.hub.endpoint) {
            if !known.iter().any(|allowance| allowance.account == more.account) {
                known.push(more);
            }
        }
        known
    }
}
