//! The places hubferry moves repositories between.

pub mod http;

#[cfg(test)]
mod testing;
