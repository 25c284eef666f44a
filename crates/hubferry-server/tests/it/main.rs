//! The hub seen from outside.

mod conformance_hf;
mod modelscope;
mod ms_hub;
mod remote_ms;
mod witness_ms;
