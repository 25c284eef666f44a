//! The places hubferry moves repositories between. Each is a folder with the same file names and keeps the contract in
//! [`hubferry_core::remote`].

pub mod costs;
pub mod digests;
pub mod dir;
pub mod disk;
pub mod git;
mod gitrefs;
pub mod hf;
pub mod hfcache;
pub mod http;
pub mod journal;
pub mod lfs;
pub mod linking;
mod links;
mod listed;
pub mod modelscope;
pub mod mscache;
pub mod names;
pub mod rates;
mod reading;
pub mod registry;
pub mod scratch;
pub mod ssh;

#[cfg(test)]
mod testing;
