//! Reading a stored file for sending: what the system holds in memory is handed on at once, only the disk is waited for elsewhere.
//!
//! A hop to a blocking thread and back costs more than copying a piece out of the page cache, so the hop is kept for pieces that
//! are not there. Buffers are used again as soon as the network has taken them: they are neither cleared nor allocated twice.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use hubferry_core::error::{Error, Kind, Result};

use super::blocking;

/// How much is read at once: large enough to be fast, small enough that it stays in the processor's cache until it is sent and that
/// hundreds of readers fit into memory.
pub(super) const PIECE: usize = 256 * 1024;
/// Buffers kept for the next pieces of a stream. The network rarely holds more.
const SPARE: usize = 2;

/// The bytes of a range, piece by piece. A file that ends early is an error.
pub(super) fn read(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let reader = Reader { file, at: range.start, end: range.end, spare: Arc::default(), ask_memory: cfg!(target_os = "linux") };
    stream::try_unfold(reader, |mut reader| async move {
        if reader.at == reader.end {
            return Ok(None);
        }
        let piece = if let Some(piece) = reader.read_memory() {
            piece
        } else {
            let (back, piece) = blocking(move || reader.read_disk()).await?;
            reader = back;
            piece
        };
        reader.at += piece.len() as u64;
        Ok(Some((piece, reader)))
    })
    .boxed()
}

struct Reader {
    file: File,
    at: u64,
    end: u64,
    spare: Arc<Spare>,
    /// Whether this file system can be asked for what is in memory only.
    ask_memory: bool,
}

impl Reader {
    fn buffer(&self) -> Buffer {
        let want = usize::try_from(self.end - self.at).unwrap_or(PIECE).min(PIECE);
        let mut bytes = self.spare.take().unwrap_or_default();
        bytes.resize(want, 0);
        Buffer { bytes, home: self.spare.clone() }
    }

    /// The next bytes as far as they need no disk; `None` when they do, or when nobody can say.
    #[cfg(target_os = "linux")]
    fn read_memory(&mut self) -> Option<Bytes> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        if !self.ask_memory {
            return None;
        }
        let mut buffer = self.buffer();
        let got = preadv2(&self.file, &mut [std::io::IoSliceMut::new(&mut buffer.bytes)], self.at, ReadWriteFlags::NOWAIT);
        match got {
            // Some kernels said 0 where they meant "not in memory"; a real end is found by reading.
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(got) => {
                buffer.bytes.truncate(got);
                Some(Bytes::from_owner(buffer))
            }
            Err(_) => {
                self.ask_memory = false;
                None
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_memory(&mut self) -> Option<Bytes> {
        debug_assert!(!self.ask_memory, "only Linux can be asked");
        None
    }

    fn read_disk(mut self) -> Result<(Self, Bytes)> {
        let mut buffer = self.buffer();
        let read = self.file.seek(SeekFrom::Start(self.at)).and_then(|_| self.file.read_exact(&mut buffer.bytes));
        read.map_err(|e| Error::new(Kind::Io, "cannot read a stored object").caused_by(e))?;
        Ok((self, Bytes::from_owner(buffer)))
    }
}

/// Buffers the network is done with.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, bytes: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
    }
}

/// A buffer that goes back where it came from.
struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Spare>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(file: File, range: Range<u64>) -> Result<Vec<u8>> {
        let mut stream = read(file, range);
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn every_range_has_its_bytes_read_memory_and_read_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let content: Vec<u8> = (0..PIECE * 5 + 7).map(|i| u8::try_from(i % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        let size = content.len() as u64;
        for range in [0..size, 0..0, size..size, 0..1, size - 1..size, 3..PIECE as u64 * 2 + 3, 5..PIECE as u64 + 5] {
            let wanted = &content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert_eq!(collect(File::open(&path).unwrap(), range.clone()).await.unwrap(), wanted, "{range:?}");
            let reader = |at| Reader { file: File::open(&path).unwrap(), at, end: range.end, spare: Arc::default(), ask_memory: false };
            let mut all = Vec::new();
            while range.start + (all.len() as u64) < range.end {
                all.extend_from_slice(&reader(range.start + all.len() as u64).read_disk().unwrap().1);
            }
            assert_eq!(all, wanted, "{range:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(collect(File::open(&path).unwrap(), 0..6).await.unwrap_err().kind(), Kind::Io);
    }

    #[test]
    fn buffers_are_used_again_and_not_hoarded() {
        let spare: Arc<Spare> = Arc::default();
        let lend = || Bytes::from_owner(Buffer { bytes: spare.take().unwrap_or_else(|| vec![1; 8]), home: spare.clone() });
        let many: Vec<Bytes> = (0..5).map(|_| lend()).collect();
        drop(many);
        assert_eq!(spare.0.lock().unwrap().len(), SPARE);
        let (one, two) = (lend(), lend());
        assert!(spare.0.lock().unwrap().is_empty() && one.len() == 8 && two.len() == 8);
    }
}
