//! Room on the host: looked for before bytes travel, and when a write fails.

use hubferry_core::error::{Error, Kind, Result};

use super::parent;
use super::session::Session;

/// Bytes that may still be written where a folder is, or where it would be made; `None` where nobody says.
pub(super) async fn free(session: &Session, folder: &str) -> Result<Option<u64>> {
    let mut at = folder;
    while session.sftp.stat(at).await?.is_none() && at != "/" && !at.is_empty() {
        at = parent(at);
    }
    let at = if at.is_empty() { "." } else { at };
    match (session.sftp.free_space(at).await?, &session.shell) {
        (None, Some(shell)) => shell.free_space(at).await,
        (free, _) => Ok(free),
    }
}

/// Refuses what cannot fit.
pub(super) async fn check(session: &Session, folder: &str, needed: u64) -> Result<()> {
    match free(session, folder).await? {
        Some(free) if free < needed => Err(full(folder, free, needed)),
        _ => Ok(()),
    }
}

fn full(folder: &str, free: u64, needed: u64) -> Error {
    Error::new(Kind::Io, format!("{folder} on the host has room for {}, and {} more have to be stored there", size(free), size(needed)))
        .hint(format!("free {} there, then run the same command again: what is stored already is kept", size(needed.saturating_sub(free))))
}

/// Why a write failed: SFTP has no word for a full disk, so it is looked at.
pub(super) async fn explain(session: &Session, folder: &str, left: u64, error: Error) -> Error {
    if error.kind() != Kind::Io {
        return error;
    }
    match free(session, folder).await {
        Ok(Some(free)) if free < left => full(folder, free, left),
        Ok(_) => error.hint("there is free space, so a quota or a limit of file sizes may stand in the way: look on the host"),
        Err(_) => error,
    }
}

/// For people: rounded up to MiB.
fn size(bytes: u64) -> String {
    let mebibytes = bytes.div_ceil(1 << 20);
    if mebibytes < 10 << 10 { format!("{mebibytes} MiB") } else { format!("{:.1} GiB", mebibytes as f64 / 1024.0) }
}
