//! The embedded hub of hubferry: one content store that speaks the APIs of Hugging Face and ModelScope.
//!
//! [`serve`](serve::serve) starts it. [`store`] keeps repositories and bytes, [`users`] says who may do what, [`hub`] holds the
//! faces, and [`testing`] injects faults and counts requests.

pub mod hub;
pub mod serve;
pub mod store;
pub mod testing;
pub mod users;

pub use serve::{Running, ServeConfig, serve};
pub use users::{Role, User};
