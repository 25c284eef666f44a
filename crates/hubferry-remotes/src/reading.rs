//! Reads files to their end into a verifier, one after another or several side by side, and stops when nobody waits any more.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::digest::Verifier;
use hubferry_core::error::{Error, Kind, Result};

/// Large enough that calls cost nothing beside hashing, small enough to stay in the processor's cache.
const PIECE: usize = 256 << 10;

/// Stops the threads of work nobody waits for any more.
#[derive(Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Feeds the rest of `file` to `verifier`, and tells `read` of every piece. The inner error is that the bytes cannot be what they
/// should be, and nothing more of them was read; the outer one that they could not be read, or that nobody waits for them.
pub(crate) fn feed(file: &mut File, at: &Path, verifier: &mut Verifier, stop: &AtomicBool, read: impl Fn(u64)) -> Result<Result<()>> {
    let left = verifier.size().saturating_sub(verifier.seen());
    // One byte more than is expected: a file that has grown shows it.
    let mut piece = vec![0; usize::try_from(left).map_or(PIECE, |left| left.saturating_add(1).min(PIECE))];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "nobody waits for this any more"));
        }
        let length = match file.read(&mut piece) {
            Ok(0) => return Ok(Ok(())),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", at, error)),
        };
        if let Err(wrong) = verifier.update(&piece[..length]) {
            return Ok(Err(wrong));
        }
        read(length as u64);
    }
}

/// Threads that keep this machine's processors busy with hashing.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

/// Does `work` on every item on so many threads, and gives the results in no particular order. After an error nothing new is begun.
pub(crate) fn spread<'a, T: Sync, R: Send>(items: &'a [T], threads: usize, work: impl Fn(&'a T) -> Result<R> + Sync) -> Vec<Result<R>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let thread = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            let result = work(item);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(thread);
        }
        thread();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hubferry_core::digest::{Digests, Oid};

    use super::*;

    #[test]
    fn files_are_read_whole_and_what_has_grown_or_is_unwanted_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("file");
        let bytes = vec![7; PIECE * 2 + 1];
        std::fs::write(&at, &bytes).unwrap();
        let run = |size: u64, stop: bool| {
            let mut verifier = Verifier::new(size, Digests::sha256(Oid::of(&bytes)), false);
            let result = feed(&mut File::open(&at).unwrap(), &at, &mut verifier, &AtomicBool::new(stop), |_| {});
            (result, verifier)
        };
        let (result, verifier) = run(bytes.len() as u64, false);
        result.unwrap().unwrap();
        verifier.finish().unwrap();
        assert_eq!(run(bytes.len() as u64 - 1, false).0.unwrap().unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(run(0, false).0.unwrap().unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(run(bytes.len() as u64, true).0.unwrap_err().kind(), Kind::Interrupted);
    }

    #[test]
    fn every_item_is_worked_on_once_until_one_fails() {
        let items: Vec<u32> = (0..1000).collect();
        let mut all: Vec<u32> = spread(&items, 4, |n| Ok(*n)).into_iter().map(Result::unwrap).collect();
        all.sort_unstable();
        assert_eq!(all, items);
        let some = spread(&items, 1, |n| if *n == 3 { Err(Error::invalid("three")) } else { Ok(()) });
        assert_eq!((some.len(), some[3].is_err()), (4, true));
        assert!(spread(&[], 4, |(): &()| Ok(())).is_empty());
    }
}
