//! The hub seen from outside.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test should panic where it stands")]

mod conformance_hf;
mod modelscope;
mod ms_hub;
mod remote_ms;
mod witness_ms;
