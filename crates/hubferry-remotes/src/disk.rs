//! How much room a file system has left.

use std::path::Path;

use hubferry_core::error::{Error, Result};

/// Bytes that this user may still write in the file system of `folder`.
pub fn free_space(folder: &Path) -> Result<u64> {
    fs4::available_space(folder).map_err(|e| Error::io("ask for the free space of", folder, e))
}
