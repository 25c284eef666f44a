//! The journal of an unfinished blob: a line that names it, then one line per note. It is only ever added to; a line that a crash
//! cut short, or that makes no sense, is as if it were not there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::Range;
use std::path::Path;

use hubferry_core::digest::{Fingerprint, Oid, Prefix};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Kept, Note};
use serde::{Deserialize, Serialize};

/// Another layout gets another number, and a journal of another layout is not used.
const LAYOUT: u32 = 1;
/// A journal is read up to here and one part in [`SPARSE`] of its blob. No run of ours writes so much.
const LONGEST: u64 = 64 << 20;
const SPARSE: u64 = 512;

#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Header {
    layout: u32,
    oid: Oid,
    size: u64,
}

impl Header {
    fn of(blob: &Blob) -> Self {
        Self { layout: LAYOUT, oid: blob.oid, size: blob.size }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Block { from: u64, to: u64, xxh3: String },
    Prefix(Prefix),
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Where a block ends and its fingerprint, by where it begins. Blocks do not overlap.
    blocks: BTreeMap<u64, (u64, Fingerprint)>,
    prefixes: BTreeMap<u64, Prefix>,
    /// Bytes of the journal up to the end of its last whole line.
    pub(super) whole: u64,
}

impl Notes {
    /// Reads the journal of `blob`; `None` when there is none or it belongs to something else.
    pub(super) fn read(at: &Path, blob: &Blob) -> Result<Option<Self>> {
        let read = |error| Error::io("read", at, error);
        let file = match File::open(at) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let mut lines = BufReader::new(file.take(LONGEST + blob.size / SPARSE));
        let mut notes = Self::default();
        let mut line = Vec::new();
        let mut first = true;
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line).map_err(read)?;
            if !line.ends_with(b"\n") {
                return Ok((!first).then_some(notes));
            }
            notes.whole += length as u64;
            if first && serde_json::from_slice(&line).ok() != Some(Header::of(blob)) {
                return Ok(None);
            }
            if !first && let Some(note) = parse(&line, blob.size) {
                notes.add(note);
            }
            first = false;
        }
    }

    /// Takes a note; what was noted of the same bytes before is forgotten.
    pub(super) fn add(&mut self, note: Note) {
        match note {
            Note::Prefix(prefix) => drop(self.prefixes.insert(prefix.at(), prefix)),
            Note::Block { range, fingerprint } => {
                if self.blocks.get(&range.start) == Some(&(range.end, fingerprint)) {
                    return;
                }
                let before: Vec<u64> = self.overlapping(&range).map(|(start, _)| *start).collect();
                for start in &before {
                    self.blocks.remove(start);
                }
                if !before.is_empty() {
                    // The bytes are not what they were, nor is the hash of anything with them in it.
                    self.prefixes.split_off(&(range.start + 1));
                }
                self.blocks.insert(range.start, (range.end, fingerprint));
            }
        }
    }

    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (&u64, &(u64, Fingerprint))> {
        let from = range.start;
        self.blocks.range(..range.end).rev().take_while(move |(_, (end, _))| *end > from)
    }

    /// Whether any of these bytes is noted.
    pub(super) fn touches(&self, range: &Range<u64>) -> bool {
        self.overlapping(range).next().is_some()
    }

    /// Forgets what lies behind the end of the file.
    pub(super) fn cut(&mut self, length: u64) {
        self.blocks.retain(|_, (end, _)| *end <= length);
        self.prefixes.split_off(&(length.saturating_add(1)));
    }

    /// How many bytes are noted.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(start, (end, _))| end - start).sum()
    }

    /// The noted ranges with their fingerprints, in order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (Range<u64>, Fingerprint)> {
        self.blocks.iter().map(|(start, (end, fingerprint))| (*start..*end, *fingerprint))
    }

    /// The same as the contract has it.
    pub(super) fn kept(&self) -> Kept {
        Kept { blocks: self.blocks().collect(), prefixes: self.prefixes.values().cloned().collect() }
    }
}

fn parse(line: &[u8], size: u64) -> Option<Note> {
    match serde_json::from_slice(line).ok()? {
        Line::Block { from, to, xxh3 } => {
            let fingerprint = xxh3.parse().ok()?;
            (from < to && to <= size).then_some(Note::Block { range: from..to, fingerprint })
        }
        Line::Prefix(prefix) => (prefix.at() > 0 && prefix.at() <= size).then_some(Note::Prefix(prefix)),
    }
}

/// The first line of the journal of `blob`.
pub(super) fn header(blob: &Blob) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    write(&mut text, &Header::of(blob))?;
    Ok(text)
}

/// Adds lines for notes.
pub(super) fn lines(text: &mut Vec<u8>, notes: &[Note]) -> Result<()> {
    notes.iter().try_for_each(|note| match note {
        Note::Block { range, fingerprint } => write(text, &Line::Block { from: range.start, to: range.end, xxh3: fingerprint.to_string() }),
        Note::Prefix(prefix) => write(text, &Line::Prefix(prefix.clone())),
    })
}

fn write(text: &mut Vec<u8>, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *text, line).map_err(|error| Error::new(Kind::Bug, "cannot write down a note").caused_by(error))?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100;

    fn blob() -> Blob {
        Blob { oid: Oid::of(b"the blob"), size: SIZE }
    }

    fn block(range: Range<u64>, content: &[u8]) -> Note {
        Note::Block { range, fingerprint: Fingerprint::of(0, content) }
    }

    fn prefix(length: usize) -> Prefix {
        let mut prefix = Prefix::default();
        prefix.update(&vec![7; length]);
        prefix
    }

    fn journal(notes: &[Note], more: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("journal");
        let mut text = header(&blob()).unwrap();
        lines(&mut text, notes).unwrap();
        text.extend_from_slice(more);
        std::fs::write(&at, text).unwrap();
        (folder, at)
    }

    fn ranges(notes: &Notes) -> Vec<(u64, u64)> {
        notes.blocks().map(|(range, _)| (range.start, range.end)).collect()
    }

    #[test]
    fn what_is_noted_comes_back_in_order() {
        let (_folder, at) = journal(&[block(50..60, b"b"), block(0..10, b"a"), Note::Prefix(prefix(10))], b"");
        let notes = Notes::read(&at, &blob()).unwrap().unwrap();
        let kept = notes.kept();
        assert_eq!(kept.blocks, [(0..10, Fingerprint::of(0, b"a")), (50..60, Fingerprint::of(0, b"b"))]);
        assert_eq!(kept.prefixes.len(), 1);
        assert_eq!((kept.prefixes[0].at(), kept.prefixes[0].oid()), (10, Oid::of(&[7; 10])));
        assert_eq!((notes.bytes(), notes.whole), (20, std::fs::metadata(&at).unwrap().len()));
    }

    #[test]
    fn torn_and_senseless_lines_are_as_if_they_were_not_there() {
        let senseless = b"\0\0\0\n{\"block\":{\"from\":9,\"to\":3,\"xxh3\":\"00\"}}\n\xff\n{\"prefix\":{\"at\":3,\"state\":\"zz\"}}\n";
        let past_the_end = "{\"block\":{\"from\":90,\"to\":101,\"xxh3\":\"00000000000000000000000000000000\"}}\n".as_bytes();
        let more = [senseless, past_the_end, b"{\"block\":{\"from\":20,"].concat();
        let (_folder, at) = journal(&[block(0..10, b"a")], &more);
        let notes = Notes::read(&at, &blob()).unwrap().unwrap();
        assert_eq!(ranges(&notes), [(0, 10)]);
        assert_eq!(notes.whole, std::fs::metadata(&at).unwrap().len() - 20, "up to the torn line");
    }

    #[test]
    fn a_journal_of_something_else_is_not_used() {
        let (_folder, at) = journal(&[block(0..10, b"a")], b"");
        for other in [Blob { size: SIZE + 1, ..blob() }, Blob { oid: Oid::EMPTY, ..blob() }] {
            assert!(Notes::read(&at, &other).unwrap().is_none());
        }
        let text = std::fs::read_to_string(&at).unwrap();
        for wrong in [text.replace("\"layout\":1", "\"layout\":2"), text.replacen('\n', "", 1), String::new()] {
            std::fs::write(&at, wrong).unwrap();
            assert!(Notes::read(&at, &blob()).unwrap().is_none());
        }
        std::fs::remove_file(&at).unwrap();
        assert!(Notes::read(&at, &blob()).unwrap().is_none());
    }

    #[test]
    fn later_notes_of_the_same_bytes_count() {
        let mut notes = Notes::default();
        for note in [block(0..10, b"a"), block(10..20, b"b"), block(20..30, b"c"), Note::Prefix(prefix(10)), Note::Prefix(prefix(30))] {
            notes.add(note);
        }
        notes.add(block(10..20, b"b"));
        assert_eq!(notes.prefixes.len(), 2, "nothing new was said");
        notes.add(block(15..25, b"other"));
        assert_eq!(ranges(&notes), [(0, 10), (15, 25)]);
        assert_eq!(notes.prefixes.keys().copied().collect::<Vec<_>>(), [10], "the hash up to 30 was of other bytes");
        assert!(notes.touches(&(24..90)) && !notes.touches(&(10..15)));
        notes.cut(24);
        assert_eq!(ranges(&notes), [(0, 10)]);
    }
}
