//! The hub from outside: real clients, our own remotes and hand-made requests against a hub in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "nothing outside uses a test binary")]

mod conformance_hf;
mod faults_hf;
mod faults_wire;
mod git;
mod modelscope;
mod ms_hub;
mod protocol_hf;
mod remote_ms;
mod serving;
mod support;
mod witness_hf;
mod witness_ms;
