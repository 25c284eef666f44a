//! The heart of hubferry: the words, the contract, the planner and the engine. No HTTP, no SQL, no terminal, no environment.
//!
//! In reading order:
//!
//! 1. [`address`]: what a user typed, as a value.
//! 2. [`manifest`] and [`digest`]: a revision, its entries, and how bytes are named.
//! 3. [`remote`]: the contract that every place keeps.
//! 4. [`plan`]: two manifests become steps with reasons; pure.
//! 5. [`transfer`]: the steps are carried out; all the I/O.
//! 6. [`verify`]: what arrived is read back.
//! 7. [`ops`]: copy, diff and verify as every front end calls them.
//!
//! [`refs`] are branches, tags and history, which only some places have; [`mirror`] brings them over.
//!
//! [`card`] edits what a README says of its licence, in the words that [`license`] has for each hub; [`generated`] knows the files that
//! a hub wrote by itself.
//!
//! [`prune`] chooses what has to go from a cache so that it fits.
//!
//! [`leaks`] finds tokens and keys in text before everybody can read them.
//!
//! [`events`] tells what happens, [`error`] what went wrong, [`filter`] what takes part, [`secret`] keeps tokens quiet,
//! [`pointer`](mod@pointer) reads what Git holds in place of a large file, and `testing` (a feature) has the memory remote, the fault
//! decorator and the conformance suite.

pub mod address;
pub mod card;
pub mod digest;
pub mod error;
pub mod events;
pub mod filter;
pub mod generated;
pub mod leaks;
pub mod license;
pub mod manifest;
pub mod mirror;
pub mod ops;
pub mod plan;
pub mod pointer;
pub mod prune;
pub mod refs;
pub mod remote;
pub mod secret;
pub mod subtree;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;
pub mod verify;
