//! Pkt-lines, the framing of Git's protocol: four hexadecimal digits say how long a line is, themselves included.
//!
//! Known from Git's `gitprotocol-common` and `gitprotocol-v2`. Our own, because requests lie in memory whole and answers are bytes: what
//! is left of a framing library then is this page.

use hubferry_core::error::{Error, Result};

/// Longest line, with its four digits.
const LONGEST: usize = 65520;
/// Most bytes of a pack that one side-band line carries.
pub(super) const BAND: usize = LONGEST - 5;

/// Ends a message.
pub(super) const FLUSH: &[u8] = b"0000";
/// Separates the sections of a message.
pub(super) const DELIMITER: &[u8] = b"0001";

/// One line of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'a> {
    /// Text without its line end.
    Text(&'a str),
    /// The end of a message.
    Flush,
    /// The end of a section.
    Delimiter,
}

/// The lines of a request. `Invalid` where the framing is broken, and the lines end there.
#[derive(Debug)]
pub(super) struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What follows the lines that were read.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    fn read(&mut self) -> Result<Line<'a>> {
        let broken = || Error::invalid("the request is not made of pkt-lines");
        let digits = self.0.get(..4).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(broken)?;
        // A sign would be taken as part of a number.
        let length = usize::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')).ok_or_else(broken)?;
        let (line, used) = match length {
            0 => (Line::Flush, 4),
            1 => (Line::Delimiter, 4),
            4..=LONGEST => {
                let bytes = self.0.get(4..length).ok_or_else(broken)?;
                let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
                (Line::Text(text.strip_suffix('\n').unwrap_or(text)), length)
            }
            _ => return Err(broken()),
        };
        self.0 = &self.0[used..];
        Ok(line)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let line = self.read();
        if line.is_err() {
            self.0 = &[];
        }
        Some(line)
    }
}

/// Adds a line of text with its line end. What does not fit into a line is cut off.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(LONGEST - 5)];
    put_head(out, text.len() + 1);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Adds bytes of a pack, as many side-band lines as they need.
pub(super) fn put_band(out: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(BAND) {
        put_head(out, piece.len() + 1);
        out.push(1);
        out.extend_from_slice(piece);
    }
}

/// Adds the reason why a pack ends here; Git shows it and gives up.
pub(super) fn put_failure(out: &mut Vec<u8>, why: &str) {
    put_head(out, why.len() + 2);
    out.push(3);
    out.extend_from_slice(why.as_bytes());
    out.push(b'\n');
}

fn put_head(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(format!("{:04x}", length + 4).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive() {
        let mut bytes = Vec::new();
        put(&mut bytes, "command=fetch");
        bytes.extend_from_slice(DELIMITER);
        bytes.extend_from_slice(b"0004");
        bytes.extend_from_slice(b"0006hi");
        bytes.extend_from_slice(FLUSH);
        let lines: Vec<Line<'_>> = Lines::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(lines, [Line::Text("command=fetch"), Line::Delimiter, Line::Text(""), Line::Text("hi"), Line::Flush]);
    }

    #[test]
    fn broken_framing_is_an_error_and_the_end() {
        for bad in ["00", "zzzz", "0003", "0002", "0008abc", "+004", "ffffx", "0005\u{ff}", "fff1"] {
            let mut lines = Lines::new(bad.as_bytes());
            assert!(lines.next().unwrap().is_err(), "{bad}");
            assert!(lines.next().is_none(), "{bad}");
        }
    }

    #[test]
    fn packs_are_cut_into_bands() {
        let mut out = Vec::new();
        put_band(&mut out, &vec![7; BAND + 1]);
        assert_eq!(&out[..6], [b'f', b'f', b'f', b'0', 1, 7]);
        assert_eq!(&out[LONGEST..], [b'0', b'0', b'0', b'6', 1, 7]);
    }
}
