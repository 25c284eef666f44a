//! Tests of the remotes against real folders, scripted servers and our own hub: one binary, so that it links once.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test helper should panic where it stands")]

mod dir;
mod mscache;
#[cfg(unix)]
mod snapshots;
mod ssh;
mod sshd;
mod taking;
