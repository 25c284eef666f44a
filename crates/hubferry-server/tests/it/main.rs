//! The hub seen from outside.

mod modelscope;
mod ms_hub;
mod witness_ms;
