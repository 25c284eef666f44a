//! The engine against the reference remote: conformance, faults, and "plan, run, plan again" for arbitrary repositories.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test should panic where it stands")]

mod commits;
mod doubt;
mod engine;
mod faults;
mod properties;

use std::sync::Arc;

use hubferry_core::testing::conformance::{Place, target};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};

#[tokio::test]
async fn the_reference_remote_keeps_the_contract() {
    for publishes in [Publishes::Sha256, Publishes::Mixed] {
        let repo = MemoryRepo::new(publishes);
        target(&Place { target: Arc::new(repo.clone()), source: Arc::new(repo), generated: vec![] }).await.unwrap();
    }
}
