//! Digests of listed files: from the cache where a file looks unchanged, else read on several threads.

use std::fs::File;
use std::sync::atomic::AtomicBool;

use hubferry_core::digest::{Digests, Verifier};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Event;

use super::DirOptions;
use super::files::Stamp;
use super::walk::Found;
use crate::reading::{feed, processors, spread};

/// No hub keeps a larger file outside LFS, so nobody publishes a Git id to compare with; computing it is slower than SHA-256.
pub(crate) const LARGEST_GIT: u64 = 16 << 20;
/// Reads of a file that changes under us before we give up on it.
const TRIES: usize = 3;

/// The digests of every file, in their order. A file that changed since it was listed gets its new stamp.
pub(crate) fn digest_all(found: &mut [Found], options: &DirOptions, stop: &AtomicBool) -> Result<Vec<Digests>> {
    let mut digests: Vec<Option<Digests>> = found.iter().map(|file| options.cache.get(&file.stamp)).collect();
    let unknown: Vec<usize> = (0..found.len()).filter(|n| digests[*n].is_none()).collect();
    let read = read_all(found, &unknown, options, stop);
    // What was read before a failure is kept: the next try starts from there.
    options.cache.insert(read.iter().flatten().map(|(_, stamp, digests)| (*stamp, *digests)));
    for result in read {
        let (n, stamp, found_digests) = result?;
        found[n].stamp = stamp;
        digests[n] = Some(found_digests);
    }
    Ok(digests.into_iter().flatten().collect())
}

type Read = Result<(usize, Stamp, Digests)>;

fn read_all(found: &[Found], unknown: &[usize], options: &DirOptions, stop: &AtomicBool) -> Vec<Read> {
    spread(unknown, processors(), |&n| digest_one(&found[n], options, stop).map(|(stamp, digests)| (n, stamp, digests)))
}

fn digest_one(file: &Found, options: &DirOptions, stop: &AtomicBool) -> Result<(Stamp, Digests)> {
    for _ in 0..TRIES {
        if let Some(result) = read_once(file, options, stop)? {
            return Ok(result);
        }
        options.reporter.event(&Event::Restart { path: file.path.clone() });
    }
    Err(Error::new(Kind::Changed, format!("{} changes while it is read", file.at.display()))
        .hint("wait until the program that writes it has ended, then run the same command again"))
}

/// `None` when the file changed while it was read.
fn read_once(file: &Found, options: &DirOptions, stop: &AtomicBool) -> Result<Option<(Stamp, Digests)>> {
    let mut open = File::open(&file.at).map_err(|error| Error::io("open", &file.at, error))?;
    let stamp_now = |open: &File| open.metadata().map(|data| Stamp::of(&data)).map_err(|error| Error::io("read", &file.at, error));
    let before = stamp_now(&open)?;
    let mut verifier = Verifier::new(before.size, Digests::default(), before.size <= LARGEST_GIT);
    let told = |bytes| options.reporter.event(&Event::Progress { path: file.path.clone(), bytes });
    if feed(&mut open, &file.at, &mut verifier, stop, told)?.is_err() {
        return Ok(None);
    }
    let after = stamp_now(&open)?;
    let unchanged = before.same_content(&after) && verifier.seen() == before.size;
    if unchanged { verifier.finish().map(|digests| Some((after, digests))) } else { Ok(None) }
}
