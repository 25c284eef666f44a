//! The `hfcache` remote: the cache of `huggingface_hub` as source and target, shared with the Python programs that use it.

pub mod chain;
pub mod layout;
pub mod scan;
#[cfg(test)]
mod testing;
pub mod tree;
