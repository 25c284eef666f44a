//! How much room a file system has left.

use std::path::Path;

use hubferry_core::error::{Error, Kind, Result};

/// Bytes that this user may still write in the file system of `folder`.
pub fn free_space(folder: &Path) -> Result<u64> {
    fs4::available_space(folder).map_err(|e| Error::io("ask for the free space of", folder, e))
}

/// Refuses `needed` more bytes below `folder` if they cannot fit.
pub fn check_room(folder: &Path, needed: u64) -> Result<()> {
    let free = free_space(folder)?;
    // Some file systems do not say how large they are, and then not how much is free either.
    if needed <= free || fs4::total_space(folder).is_ok_and(|total| total == 0) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Io,
        format!("{} has room for {}, and {} more have to be stored there", folder.display(), size(free), size(needed)),
    )
    .hint(format!("free {} there, then run the same command again: what is stored already is kept", size(needed - free))))
}

/// For people: rounded up to MiB, because advice that is a little short is no help.
fn size(bytes: u64) -> String {
    let mebibytes = bytes.div_ceil(1 << 20);
    if mebibytes < 10 << 10 { format!("{mebibytes} MiB") } else { format!("{:.1} GiB", mebibytes as f64 / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_sizes() {
        let folder = tempfile::tempdir().unwrap();
        check_room(folder.path(), 1).unwrap();
        let error = check_room(folder.path(), 1 << 60).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.message().contains("1073741824.0 GiB more"), "{error}");
        assert!(error.hint_text().unwrap().starts_with("free "), "{error}");
        assert_eq!([0, 1, 3 << 20, 10 << 30].map(size), ["0 MiB", "1 MiB", "3 MiB", "10.0 GiB"]);
    }
}
