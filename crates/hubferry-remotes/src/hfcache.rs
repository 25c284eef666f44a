//! The `hfcache` remote: the cache of `huggingface_hub` as source and target, shared with the Python programs that use it.

pub mod chain;
pub mod clear;
pub mod layout;
mod locks;
pub mod marks;
pub mod scan;
pub mod stock;
#[cfg(test)]
mod testing;
pub mod tree;
