//! The faces of the hub, and what they share.

pub mod modelscope;

use std::sync::Arc;

use crate::store::Store;
use crate::users::Users;

/// What every request handler of every face needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    users: Users,
    urls: Urls,
    signing_key: [u8; 32],
}

/// Where the hub is reached, without a trailing slash. `None` for a face that is not served.
#[derive(Clone, Debug, Default)]
pub struct Urls {
    /// The Hugging Face API.
    pub hf: Option<String>,
    /// The ModelScope API.
    pub ms: Option<String>,
    /// The separate storage origin, if there is one.
    pub cdn: Option<String>,
}

impl HubState {
    /// Puts the parts together.
    pub fn new(store: Store, users: Users, urls: Urls, signing_key: [u8; 32]) -> Self {
        Self(Arc::new(Shared { store, users, urls, signing_key }))
    }

    /// The repositories and bytes.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Who may do what.
    pub fn users(&self) -> &Users {
        &self.0.users
    }

    /// Where the hub is reached.
    pub fn urls(&self) -> &Urls {
        &self.0.urls
    }

    /// For links that carry their own permission.
    pub fn signing_key(&self) -> &[u8; 32] {
        &self.0.signing_key
    }
}
