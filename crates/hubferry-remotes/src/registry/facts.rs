//! What is known of a place without asking it anything: where it is, what its protocol takes, and what it still allows.

use hubferry_core::address::Address;

use super::{HubSettings, Protocol, Remotes};
use crate::costs::Costs;
use crate::http::{Allowance, authority};

impl Remotes {
    fn hub_of(&self, address: &Address) -> Option<(Protocol, &HubSettings)> {
        let Address::Repo(repo) = address else { return None };
        let remote = self.list.iter().find(|remote| remote.name == repo.remote)?;
        Some((remote.protocol()?, remote.hub()?))
    }

    /// The URL of the hub that an address means; `None` for a folder of this machine. It holds no credential: the settings refuse one.
    pub fn endpoint(&self, address: &Address) -> Option<String> {
        self.hub_of(address).map(|(_, hub)| hub.endpoint.to_string())
    }

    /// Who answers for a place: host and port, or `None` for this machine.
    pub fn host(&self, address: &Address) -> Option<String> {
        if let Address::Ssh(place) = address {
            return Some(place.authority());
        }
        self.hub_of(address).and_then(|(_, hub)| authority(&hub.endpoint))
    }

    /// What its protocol takes.
    pub fn costs(&self, address: &Address) -> Costs {
        self.hub_of(address).map_or(Costs::DIRECTORY, |(protocol, _)| Costs::of(protocol))
    }

    /// The requests that it still allows, as its answers in this run said.
    pub fn allowances(&self, address: &Address) -> Vec<Allowance> {
        let Some((_, hub)) = self.hub_of(address) else { return Vec::new() };
        let mut known = self.http.allowances(&hub.endpoint);
        for more in self.http1.allowances(&hub.endpoint) {
            if !known.iter().any(|allowance| allowance.account == more.account) {
                known.push(more);
            }
        }
        known
    }
}
