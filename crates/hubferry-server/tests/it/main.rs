//! The hub seen from outside.

#![allow(clippy::unwrap_used, reason = "a failed assumption in a test helper should panic where it stands")]

mod modelscope;
mod ms_hub;
mod witness_ms;
