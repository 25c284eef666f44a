//! What SFTP packets are made of. Everything that a host says is looked at here before it is used.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use hubferry_core::error::{Error, Kind, Result};

/// Kinds of packets: section 3 of the draft.
pub(super) mod kind {
    pub(in crate::ssh) const INIT: u8 = 1;
    pub(in crate::ssh) const VERSION: u8 = 2;
    pub(in crate::ssh) const OPEN: u8 = 3;
    pub(in crate::ssh) const CLOSE: u8 = 4;
    pub(in crate::ssh) const READ: u8 = 5;
    pub(in crate::ssh) const WRITE: u8 = 6;
    pub(in crate::ssh) const LSTAT: u8 = 7;
    pub(in crate::ssh) const FSTAT: u8 = 8;
    pub(in crate::ssh) const FSETSTAT: u8 = 10;
    pub(in crate::ssh) const OPENDIR: u8 = 11;
    pub(in crate::ssh) const READDIR: u8 = 12;
    pub(in crate::ssh) const REMOVE: u8 = 13;
    pub(in crate::ssh) const MKDIR: u8 = 14;
    pub(in crate::ssh) const RMDIR: u8 = 15;
    pub(in crate::ssh) const REALPATH: u8 = 16;
    pub(in crate::ssh) const STAT: u8 = 17;
    pub(in crate::ssh) const RENAME: u8 = 18;
    pub(in crate::ssh) const STATUS: u8 = 101;
    pub(in crate::ssh) const HANDLE: u8 = 102;
    pub(in crate::ssh) const DATA: u8 = 103;
    pub(in crate::ssh) const NAME: u8 = 104;
    pub(in crate::ssh) const ATTRS: u8 = 105;
    pub(in crate::ssh) const EXTENDED: u8 = 200;
    pub(in crate::ssh) const EXTENDED_REPLY: u8 = 201;
}

/// Codes of a status: section 7.
pub(super) mod status {
    pub(in crate::ssh) const OK: u32 = 0;
    pub(in crate::ssh) const END: u32 = 1;
    pub(in crate::ssh) const NO_SUCH_FILE: u32 = 2;
    pub(in crate::ssh) const PERMISSION_DENIED: u32 = 3;
    pub(in crate::ssh) const FAILURE: u32 = 4;
    pub(in crate::ssh) const UNSUPPORTED: u32 = 8;
}

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// A packet in the making.
pub(super) struct Packet(BytesMut);

impl Packet {
    pub(super) fn new(kind: u8, id: u32) -> Self {
        let mut bytes = BytesMut::with_capacity(128);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        bytes.put_u32(id);
        Self(bytes)
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(super) fn string(mut self, value: &[u8]) -> Self {
        self.0.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
        self
    }

    /// Attributes that say the mode, the time or neither.
    pub(super) fn attrs(self, mode: Option<u32>, modified: Option<u32>) -> Self {
        let flags = mode.map_or(0, |_| HAS_MODE) | modified.map_or(0, |_| HAS_TIMES);
        let mut packet = self.u32(flags);
        if let Some(mode) = mode {
            packet = packet.u32(mode);
        }
        if let Some(modified) = modified {
            packet = packet.u32(modified).u32(modified);
        }
        packet
    }

    /// The bytes to send; `more` bytes follow that are not copied in here.
    pub(super) fn finish(mut self, more: usize) -> Bytes {
        let length = u32::try_from(self.0.len() - 4 + more).unwrap_or(u32::MAX);
        if let Some(head) = self.0.get_mut(..4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        self.0.freeze()
    }
}

/// The fields of an answer, taken one after the other.
pub(super) struct Fields(pub(super) Bytes);

fn torn() -> Error {
    Error::new(Kind::Invalid, "the host sent an answer that is no SFTP")
}

impl Fields {
    pub(super) fn u32(&mut self) -> Result<u32> {
        self.0.try_get_u32().map_err(|_| torn())
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.0.try_get_u64().map_err(|_| torn())
    }

    pub(super) fn string(&mut self) -> Result<Bytes> {
        let length = self.u32()? as usize;
        if length > self.0.len() { Err(torn()) } else { Ok(self.0.split_to(length)) }
    }

    pub(super) fn attrs(&mut self) -> Result<Attrs> {
        let flags = self.u32()?;
        let size = if flags & HAS_SIZE == 0 { None } else { Some(self.u64()?) };
        if flags & HAS_OWNER != 0 {
            self.u64()?;
        }
        let mode = if flags & HAS_MODE == 0 { None } else { Some(self.u32()?) };
        let modified = if flags & HAS_TIMES == 0 { None } else { Some((self.u32()?, self.u32()?).1) };
        if flags & HAS_MORE != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(Attrs { size, mode, modified })
    }
}

/// What a host says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Attrs {
    pub(super) size: Option<u64>,
    /// The type in its upper bits, as in POSIX.
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<u32>,
}

impl Attrs {
    fn is(self, kind: u32) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == kind)
    }

    pub(super) fn is_dir(self) -> bool {
        self.is(0o040_000)
    }

    pub(super) fn is_file(self) -> bool {
        self.is(0o100_000)
    }

    pub(super) fn is_link(self) -> bool {
        self.is(0o120_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = Packet::new(kind::OPEN, 7).string("a\0b".as_bytes()).u64(5).attrs(Some(0o644), Some(9)).finish(3);
        let mut fields = Fields(bytes.slice(9..));
        assert_eq!(bytes.len() - 4 + 3, u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize);
        assert_eq!(fields.string().unwrap(), "a\0b");
        assert_eq!(fields.u64().unwrap(), 5);
        assert_eq!(fields.attrs().unwrap(), Attrs { size: None, mode: Some(0o644), modified: Some(9) });
        assert!(fields.u32().is_err());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let torn = |bytes: &'static [u8]| Fields(Bytes::from_static(bytes));
        assert!(torn(&[0xff, 0xff, 0xff, 0xff, 1]).string().is_err());
        assert!(torn(&[0, 0, 0, 1]).attrs().is_err());
        // Four billion pairs of nothing.
        assert!(torn(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]).attrs().is_err());
    }

    #[test]
    fn types_are_those_of_posix() {
        let of = |mode| Attrs { mode: Some(mode), ..Attrs::default() };
        assert!(of(0o100_644).is_file() && of(0o040_755).is_dir() && of(0o120_777).is_link());
        assert!(!of(0o140_000).is_file() && !Attrs::default().is_file());
    }
}
