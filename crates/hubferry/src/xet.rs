//! Xet in a run: whether it is used, and its part of the memory.

use hubferry_remotes::hf::{UPLOAD_MEMORY, XET_THREADS, Xet};
use hubferry_remotes::registry::Remotes;

use crate::config::Settings;

/// What the engine keeps for itself where Xet may have more than half: as much as it has in a usual run.
const ENGINE: u64 = 26 << 20;

/// Lets the remotes use Xet, unless the user forbids it or there is no folder for what it notes. `memory` is what is left for bytes in
/// flight; gives what is left of it for the engine.
pub(crate) fn add(remotes: Remotes, settings: &Settings, memory: u64) -> (Remotes, u64) {
    let Some(cache) = settings.cache.as_deref().filter(|_| settings.no_xet.is_none()) else { return (remotes, memory) };
    hush();
    let engine = engine(memory);
    (remotes.with_xet(Some(Xet::new(cache, memory - engine))), engine)
}

/// A panic on the library's own threads is told as an error where it matters; what Rust prints of it would only frighten.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some(XET_THREADS) {
                usual(panic);
            }
        }));
    });
}

/// Half for each, until uploads by Xet are possible; then what is left over is the engine's.
fn engine(memory: u64) -> u64 {
    if memory < UPLOAD_MEMORY + ENGINE { memory / 2 } else { (memory - UPLOAD_MEMORY).min(memory / 2) }
}

/// What `doctor` says.
pub(crate) fn described(settings: &Settings) -> String {
    match &settings.no_xet {
        Some(name) => format!("switched off by {name}"),
        None if settings.cache.is_none() => "not used: there is no folder for its notes".to_owned(),
        None => "used for large files on hubs that have it; for uploads with --max-memory 288MiB or more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::buffers;

    const MIB: u64 = 1 << 20;

    #[test]
    fn uploads_are_possible_from_the_memory_that_the_help_names() {
        let xet = |total: u64| buffers(total) - engine(buffers(total));
        assert!(xet(64 * MIB) < UPLOAD_MEMORY && xet(287 * MIB) < UPLOAD_MEMORY);
        for total in [288, 300, 512, 4096] {
            assert!(xet(total * MIB) >= UPLOAD_MEMORY, "{total}");
            assert!(engine(buffers(total * MIB)) >= 26 * MIB, "{total}");
        }
    }
}
