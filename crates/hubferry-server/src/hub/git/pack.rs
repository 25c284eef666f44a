//! The pack format: a header, objects in zlib, and a SHA-1 over all of it. No deltas: what is large in a model repository is in LFS.
//!
//! Known from Git's `gitformat-pack`.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hubferry_core::error::{Error, Kind, Result};
use sha1_checked::{Digest as _, Sha1};

/// What a pack calls the types of objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ObjectType {
    Commit = 1,
    Tree = 2,
    Blob = 3,
}

/// A pack that is being written. Take out what is finished from time to time.
pub(super) struct PackWriter {
    encoder: ZlibEncoder<Vec<u8>>,
    /// Bytes of the open object that are still to come.
    missing: u64,
    finished: Vec<u8>,
    hash: Sha1,
}

impl PackWriter {
    /// Begins a pack of so many objects.
    pub(super) fn new(objects: u32) -> Self {
        let mut finished = b"PACK\0\0\0\x02".to_vec();
        finished.extend_from_slice(&objects.to_be_bytes());
        // Fast: the reader is often near, and many may read at once.
        Self { encoder: ZlibEncoder::new(Vec::new(), Compression::fast()), missing: 0, finished, hash: Sha1::new() }
    }

    /// Begins an object of so many bytes.
    pub(super) fn begin(&mut self, kind: ObjectType, size: u64) {
        self.missing = size;
        put_head(&mut self.finished, kind, size);
    }

    /// Adds bytes of the open object, and ends it with the last of them. More than were announced are an error.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.missing = self.missing.checked_sub(bytes.len() as u64).ok_or_else(|| broken("an object is longer than its size"))?;
        self.encoder.write_all(bytes).map_err(broken)?;
        if self.missing == 0 {
            let rest = self.encoder.reset(Vec::new()).map_err(broken)?;
            self.finished.extend_from_slice(&rest);
        } else {
            self.finished.append(self.encoder.get_mut());
        }
        Ok(())
    }

    /// Whether the open object has all its bytes.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Adds a whole object.
    pub(super) fn object(&mut self, kind: ObjectType, bytes: &[u8]) -> Result<()> {
        self.begin(kind, bytes.len() as u64);
        self.add(bytes)
    }

    /// How many bytes can be taken out.
    pub(super) fn ready(&self) -> usize {
        self.finished.len()
    }

    /// Takes out what is finished.
    pub(super) fn take(&mut self) -> Bytes {
        self.hash.update(&self.finished);
        std::mem::take(&mut self.finished).into()
    }

    /// Takes out the rest, with the hash at its end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let mut rest = Vec::from(self.take());
        rest.extend_from_slice(&self.hash.finalize());
        rest
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("missing", &self.missing).field("ready", &self.finished.len()).finish_non_exhaustive()
    }
}

/// Type and size: three bits of type and four of size in the first byte, then seven bits of size in each, lowest first.
fn put_head(out: &mut Vec<u8>, kind: ObjectType, size: u64) {
    let low = |value: u64, bits: u64| value.to_le_bytes()[0] & ((1u16 << bits) - 1).to_le_bytes()[0];
    let mut byte = ((kind as u8) << 4) | low(size, 4);
    let mut rest = size >> 4;
    while rest > 0 {
        out.push(byte | 0x80);
        byte = low(rest, 7);
        rest >>= 7;
    }
    out.push(byte);
}

fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Bug, "an object could not be packed").caused_by(why)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn sizes_are_written_seven_bits_at_a_time() {
        let head = |size| {
            let mut out = Vec::new();
            put_head(&mut out, ObjectType::Blob, size);
            out
        };
        assert_eq!(head(0), [0x30]);
        assert_eq!(head(15), [0x3f]);
        assert_eq!(head(16), [0xb0, 1]);
        assert_eq!(head(1 << 11), [0xb0, 0x80, 1]);
        assert_eq!(head(u64::MAX).len(), 10);
    }

    #[test]
    fn git_reads_every_object() {
        let long: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut pack = PackWriter::new(4);
        pack.object(ObjectType::Blob, b"").unwrap();
        pack.object(ObjectType::Blob, b"hello").unwrap();
        pack.object(ObjectType::Tree, b"").unwrap();
        let mut bytes = Vec::from(pack.take());
        pack.begin(ObjectType::Blob, long.len() as u64);
        for piece in long.chunks(70_000) {
            assert!(!pack.is_complete());
            pack.add(piece).unwrap();
            bytes.extend_from_slice(&pack.take());
        }
        assert!(pack.is_complete());
        bytes.extend(pack.finish());

        let work = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.args(args).current_dir(work.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        };
        assert!(git(&["init", "-q"]).status().unwrap().success());
        let mut index = git(&["index-pack", "--stdin", "--strict"]).spawn().unwrap();
        index.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(index.wait().unwrap().success());
        let id = hubferry_core::digest::GitOid::of(&long).to_string();
        let read = git(&["cat-file", "blob", &id]).output().unwrap();
        assert!(read.status.success() && read.stdout == long);
    }

    #[test]
    fn more_bytes_than_announced_are_an_error() {
        let mut pack = PackWriter::new(1);
        pack.begin(ObjectType::Blob, 3);
        assert_eq!(pack.add(b"four").unwrap_err().kind(), Kind::Bug);
    }
}
