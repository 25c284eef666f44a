//! Git LFS pointers: the small text that a Git tree holds in place of a large file.
//!
//! Known from the specification of Git LFS (`docs/spec.md`).

use crate::digest::Oid;
use crate::manifest::Blob;

/// Longest text that can be a pointer, in bytes; the specification says so.
pub const LONGEST: usize = 1024;

/// The text Git keeps in place of a file.
pub fn text(blob: &Blob) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", blob.oid, blob.size)
}

/// Reads a pointer. Only the canonical text counts: anything else is an ordinary small file.
pub fn parse(bytes: &[u8]) -> Option<Blob> {
    if bytes.len() > LONGEST {
        return None;
    }
    let rest = std::str::from_utf8(bytes).ok()?.strip_prefix("version https://git-lfs.github.com/spec/v1\noid sha256:")?;
    let (oid, rest) = rest.split_once("\nsize ")?;
    let blob = Blob { oid: oid.parse::<Oid>().ok()?, size: rest.strip_suffix('\n')?.parse().ok()? };
    (text(&blob).as_bytes() == bytes).then_some(blob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_pointers_are_pointers() {
        let blob = Blob { oid: Oid::of(b"abc"), size: 3 };
        let text = text(&blob);
        assert_eq!(parse(text.as_bytes()), Some(blob));
        for other in [text.trim_end().to_owned(), format!("{text}\n"), text.replace("size 3", "size 03"), "abc".to_owned()] {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
    }
}
