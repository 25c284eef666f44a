//! A private repository for a trial, made and removed by the same run: the only thing that this crate ever deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::{RepoSpec, Source, Target, Visibility};

use crate::hf::{HfConfig, HfRemote};
use crate::modelscope::{MsConfig, MsRemote};

/// What the name of every trial repository begins with; 16 hexadecimal digits follow.
const PREFIX: &str = "hubferry-doctor-";

/// A model that this value has named itself. There is no way to give it another name, and it is deleted only after it was made here.
#[derive(Debug)]
pub struct Scratch {
    hub: Hub,
    id: RepoId,
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    made: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum Hub {
    HuggingFace(HfConfig),
    ModelScope(MsConfig),
}

impl Scratch {
    /// Makes up a name in the namespace of `owner`; asks nothing yet.
    pub(crate) fn new(hub: Hub, owner: &str) -> Result<Self> {
        let id = RepoId::new(Some(owner), &format!("{PREFIX}{:016x}", fastrand::u64(..)))?;
        let kind = Some(RepoKind::Model);
        let (source, target): (Arc<dyn Source>, Arc<dyn Target>) = match &hub {
            Hub::HuggingFace(config) => {
                let remote = HfRemote::new(config, kind, id.clone(), None)?;
                (Arc::new(remote.source()), Arc::new(remote.target()?))
            }
            Hub::ModelScope(config) => {
                let remote = MsRemote::new(config, kind, id.clone(), None)?;
                (Arc::new(remote.source()), Arc::new(remote.target()))
            }
        };
        Ok(Self { hub, id, source, target, made: AtomicBool::new(false) })
    }

    /// Its name.
    pub fn id(&self) -> &RepoId {
        &self.id
    }

    /// Reads it.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Writes it.
    pub fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    /// Makes it, private. `Conflict` when something has the name already, which then stays untouched.
    pub async fn create(&self) -> Result<()> {
        // A second try finds what the first one made.
        if !self.is_made() && self.target.head().await?.is_some() {
            return Err(Error::new(Kind::Conflict, format!("there is a repository {} already", self.id)));
        }
        // From here on it may be there, whatever the answer is.
        self.made.store(true, Ordering::Release);
        self.target.create(&RepoSpec::new(Visibility::Private)).await
    }

    /// Whether it may be there because of this value.
    pub fn is_made(&self) -> bool {
        self.made.load(Ordering::Acquire)
    }

    /// Removes it. `Unsupported` where a hub lets no token delete; that it is gone already is fine.
    pub async fn remove(&self) -> Result<()> {
        if !self.is_made() || !is_scratch(&self.id) {
            return Err(Error::new(Kind::Bug, format!("{} was not made by this run and is not deleted", self.id)));
        }
        let removed = match &self.hub {
            Hub::HuggingFace(config) => config.delete(self).await,
            Hub::ModelScope(config) => config.delete(self).await,
        };
        match removed {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether the name is one that only [`Scratch::new`] makes.
fn is_scratch(id: &RepoId) -> bool {
    let digits = id.name().strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_made_up_names_are_deleted() {
        let is = |text: &str| is_scratch(&text.parse().unwrap());
        assert!(is("alice/hubferry-doctor-0123456789abcdef"));
        for other in
            ["alice/model", "alice/hubferry-doctor-", "alice/hubferry-doctor-0123456789abcdeg", "alice/hubferry-doctor-0123456789abcdef0"]
        {
            assert!(!is(other), "{other}");
        }
    }
}
