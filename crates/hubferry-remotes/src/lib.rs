//! The places hubferry moves repositories between.

pub mod hf;
pub mod http;
pub mod lfs;

#[cfg(test)]
mod testing;
