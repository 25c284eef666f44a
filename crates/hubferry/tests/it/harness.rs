//! What the tests share: a world for the binary to run in, hubs, scripted servers and witnesses.

mod canned;
mod disk;
mod hub;
mod models;
mod run;
mod shim;
mod snapshot;
mod witness;
mod world;
#[cfg(feature = "xet")]
mod xet_hub;

pub(crate) use canned::{Asked, Canned, Reply, get, get_head, send};
pub(crate) use disk::on_small_disk;
pub(crate) use hub::{ALICE, Hub, RITA, Served};
pub(crate) use models::{gguf, index, safetensors};
pub(crate) use run::{Ran, Started, peak_memory};
pub(crate) use shim::shim;
pub(crate) use snapshot::snapshot;
pub(crate) use witness::{git, minilm, python, tool, tools};
pub(crate) use world::{World, bytes, files_below, full};
#[cfg(feature = "xet")]
pub(crate) use xet_hub::{Seen, XetHub};
