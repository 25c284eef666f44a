//! The places hubferry moves repositories between. Each is a folder with the same file names and keeps the contract in
//! [`hubferry_core::remote`].

pub mod dir;
pub mod hf;
pub mod http;
pub mod lfs;
pub mod modelscope;

#[cfg(test)]
mod testing;
