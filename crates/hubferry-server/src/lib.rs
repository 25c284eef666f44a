//! The embedded hub of hubferry: one content store that speaks the APIs of Hugging Face and ModelScope.
//!
//! [`store`] keeps repositories and bytes, [`users`] says who may do what, [`hub`] holds the faces.

pub mod hub;
pub mod store;
pub mod users;
