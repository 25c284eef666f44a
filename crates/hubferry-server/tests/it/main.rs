//! The hub seen from outside.

mod conformance_hf;
