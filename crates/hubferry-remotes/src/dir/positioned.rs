//! Reads and writes at a place in a file, several pieces in one call where the system can.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;

/// Reads exactly `range`.
pub(super) fn read_at(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    read_exact_at(file, range.start, &mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// Writes pieces one behind the other from `at` on.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn write_all_at(file: &File, mut at: u64, pieces: &[Bytes]) -> io::Result<()> {
    /// Most pieces that one call takes.
    const MOST: usize = 1024;
    for pieces in pieces.chunks(MOST) {
        let mut slices: Vec<io::IoSlice<'_>> =
            pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| io::IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let written = match rustix::io::pwritev(file, left, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            io::IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(())
}

/// Writes pieces one behind the other from `at` on.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "freebsd"))))]
pub(super) fn write_all_at(file: &File, mut at: u64, pieces: &[Bytes]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    for piece in pieces {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(unix)]
fn read_exact_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.read_exact_at(bytes, at)
}

/// Writes pieces one behind the other from `at` on.
#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut at: u64, pieces: &[Bytes]) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    for mut piece in pieces.iter().map(Bytes::as_ref) {
        while !piece.is_empty() {
            let written = file.seek_write(piece, at)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
            piece = &piece[written..];
        }
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !bytes.is_empty() {
        let read = file.seek_read(bytes, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += read as u64;
        bytes = &mut bytes[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_land_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("file");
        let file = File::options().read(true).write(true).create_new(true).open(&at).unwrap();
        write_all_at(&file, 4, &["ab", "", "cde"].map(|piece| Bytes::from_static(piece.as_bytes()))).unwrap();
        write_all_at(&file, 0, &vec![Bytes::from_static(b"x"); 2]).unwrap();
        assert_eq!(std::fs::read(&at).unwrap(), b"xx\0\0abcde");
        assert_eq!(read_at(&file, 3..7).unwrap(), &b"\0abc"[..]);
        assert_eq!(read_at(&file, 3..10).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        write_all_at(&file, 0, &vec![Bytes::from_static(b"y"); 3000]).unwrap();
        assert_eq!(std::fs::read(&at).unwrap(), vec![b'y'; 3000]);
    }
}
