//! The hub seen from outside.

mod modelscope;
mod ms_hub;
mod remote_ms;
mod witness_ms;
