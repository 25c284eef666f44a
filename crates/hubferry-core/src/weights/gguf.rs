//! Headers of GGUF, versions 2 and 3: a magic, counts, metadata, and where each tensor lies behind them.
//!
//! Known from the specification (`docs/gguf.md` of ggml) and from what `gguf.cpp` of ggml refuses. Read item by item: vocabularies and
//! chat templates are passed over, so that memory does not grow with them.

use super::ggml::{file_type, layout};
use super::{Format, Header, Split, broken};
use crate::error::{Error, Kind, Result};

/// Longest header in bytes. The largest vocabularies make some ten MiB of one.
const LONGEST: u64 = 256 << 20;
/// Longest name of a value; the specification says so.
const LONGEST_KEY: u64 = 65_535;
/// Longest name of a tensor; ggml takes 63 bytes, and others may take more.
const LONGEST_NAME: u64 = 4096;
/// A text value up to this length is looked at; a longer one is none that is shown.
const LONGEST_TEXT: u64 = 256;
/// Most dimensions; ggml has no more.
const DIMENSIONS: u32 = 4;
/// Where tensors begin, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// A header in the making.
#[derive(Debug)]
pub(super) struct Parser {
    size: u64,
    /// Bytes that came and were not understood yet: less than one item.
    held: Vec<u8>,
    /// Bytes of the file that were passed over or understood.
    done: u64,
    /// Bytes to pass over before the next item.
    skip: u64,
    state: State,
    values_left: u64,
    tensors_left: u64,
    alignment: u64,
    /// Where the data of the next tensor must begin, counted from the first; `None` behind one of an unknown type.
    next: Option<u64>,
    /// Where the data of the last tensor ends, as far as is known.
    end: u64,
    facts: Facts,
    header: Header,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    Values,
    /// Texts of an array that are still to come.
    Texts(u64),
    Tensors,
}

/// Values that are told of a file.
#[derive(Debug, Default)]
struct Facts {
    file_type: Option<u64>,
    split_number: Option<u64>,
    split_of: Option<u64>,
    split_tensors: Option<u64>,
}

impl Parser {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            held: Vec::new(),
            done: 0,
            skip: 0,
            state: State::Start,
            values_left: 0,
            tensors_left: 0,
            alignment: ALIGNMENT,
            next: Some(0),
            end: 0,
            facts: Facts::default(),
            header: Header::new(Format::Gguf),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Header>> {
        let passed = self.skip.min(bytes.len() as u64);
        // What is passed over fits into the bytes at hand.
        let bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
        self.skip -= passed;
        self.done += passed;
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut cursor = Cursor { bytes: &held, at: 0 };
        let header = loop {
            let before = cursor.at;
            if self.is_complete() {
                break Some(self.finish(self.done + before as u64)?);
            }
            if self.done + before as u64 > LONGEST {
                return Err(damaged(&format!("it has no end within {LONGEST} bytes")));
            }
            match self.item(&mut cursor) {
                Ok(()) => {}
                Err(Stop::Short) => {
                    cursor.at = before;
                    break None;
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
            let passed = self.skip.min((held.len() - cursor.at) as u64);
            cursor.at += usize::try_from(passed).unwrap_or(0);
            self.skip -= passed;
            if self.skip > 0 {
                self.check_skip(cursor.at)?;
                break None;
            }
        };
        self.done += cursor.at as u64;
        self.held = held[cursor.at..].to_vec();
        Ok(header)
    }

    fn is_complete(&self) -> bool {
        self.skip == 0 && matches!(self.state, State::Tensors) && self.tensors_left == 0
    }

    /// Refuses lengths that lead out of the file before anybody reads so far.
    fn check_skip(&self, at: usize) -> Result<()> {
        let end = (self.done + at as u64).checked_add(self.skip);
        match end {
            Some(end) if end <= self.size.min(LONGEST) => Ok(()),
            Some(end) if end <= LONGEST => {
                Err(broken(format!("the file is cut off: its header has more than {end} bytes, and it has {}", self.size))
                    .hint("whoever published it has to upload it again"))
            }
            _ => Err(damaged("a value in it is longer than any header")),
        }
    }

    /// Understands the next item.
    fn item(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        match self.state {
            State::Start => self.start(cursor),
            State::Values if self.values_left == 0 => {
                self.state = State::Tensors;
                Ok(())
            }
            State::Values => self.value(cursor),
            State::Texts(0) => {
                self.state = State::Values;
                Ok(())
            }
            State::Texts(left) => {
                self.skip = cursor.u64()?;
                self.state = State::Texts(left - 1);
                Ok(())
            }
            State::Tensors => self.tensor(cursor),
        }
    }

    fn start(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let unsupported = |what: String| {
            let error = Error::new(Kind::Unsupported, format!("GGUF {what} is not read here"));
            Stop::Failed(error.hint("versions 2 and 3 in little-endian order are; convert the file with the tools of llama.cpp"))
        };
        if cursor.take(4)? != b"GGUF" {
            return Err(broken("it does not begin like a GGUF file")
                .hint("the file is damaged, or of another format than its name says")
                .into());
        }
        match cursor.u32()? {
            2 | 3 => {}
            version if version.trailing_zeros() >= 16 => return Err(unsupported("in big-endian order".to_owned())),
            version => return Err(unsupported(format!("version {version}"))),
        }
        (self.tensors_left, self.values_left) = (cursor.u64()?, cursor.u64()?);
        self.state = State::Values;
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let key = cursor.text(LONGEST_KEY, "name")?;
        match cursor.u32()? {
            TEXT => {
                let length = cursor.u64()?;
                if length <= LONGEST_TEXT {
                    // A length this small fits anywhere.
                    let text = cursor.take(usize::try_from(length).unwrap_or(0))?;
                    self.text(&key, text);
                } else {
                    self.skip = length;
                }
            }
            ARRAY => {
                let (kind, count) = (cursor.u32()?, cursor.u64()?);
                if kind == TEXT {
                    self.state = State::Texts(count);
                } else {
                    let wide = width(kind).ok_or_else(|| damaged(&format!("{key:?} is an array of an unknown type")))?;
                    self.skip = count.checked_mul(wide as u64).ok_or_else(|| damaged(&format!("{key:?} is longer than any file")))?;
                }
            }
            kind => {
                let wide = width(kind).ok_or_else(|| damaged(&format!("{key:?} is of an unknown type")))?;
                let bytes = cursor.take(wide)?;
                self.number(&key, kind, bytes)?;
            }
        }
        self.values_left -= 1;
        Ok(())
    }

    fn text(&mut self, key: &str, text: &[u8]) {
        if key == "general.architecture" {
            self.header.architecture = std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }

    fn number(&mut self, key: &str, kind: u32, bytes: &[u8]) -> Result<()> {
        let is_float = matches!(kind, 6 | 12);
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let number = u64::from_le_bytes(wide);
        if is_float {
            return Ok(());
        }
        match key {
            "general.alignment" => {
                if !number.is_power_of_two() || number > 1 << 30 {
                    return Err(damaged(&format!("the alignment would be {number}")));
                }
                self.alignment = number;
            }
            "general.file_type" => self.facts.file_type = Some(number),
            "split.no" => self.facts.split_number = Some(number),
            "split.count" => self.facts.split_of = Some(number),
            "split.tensors.count" => self.facts.split_tensors = Some(number),
            _ if key.ends_with(".context_length") && self.is_of_model(key) => self.header.context_length = Some(number),
            _ => {}
        }
        Ok(())
    }

    /// Whether a key is one of the architecture of this file.
    fn is_of_model(&self, key: &str) -> bool {
        self.header.architecture.as_deref().is_some_and(|name| key.split_once('.').is_some_and(|(first, _)| first == name))
    }

    fn tensor(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let name = cursor.text(LONGEST_NAME, "tensor")?;
        let dimensions = cursor.u32()?;
        if dimensions > DIMENSIONS {
            return Err(damaged(&format!("tensor {name:?} has {dimensions} dimensions")).into());
        }
        let (mut elements, mut row) = (1_u64, 1);
        for at in 0..dimensions {
            let length = cursor.u64()?;
            row = if at == 0 { length } else { row };
            elements = elements.checked_mul(length).ok_or_else(|| damaged(&format!("tensor {name:?} has more than 2^64 elements")))?;
        }
        let (kind, offset) = (cursor.u32()?, cursor.u64()?);
        let layout = layout(kind);
        if self.next.is_some_and(|next| next != offset) || offset % self.alignment != 0 {
            return Err(damaged(&format!("tensor {name:?} is at {offset}, not where the one before it ends")).into());
        }
        let length = match layout {
            Some(layout) if row % layout.block != 0 => {
                return Err(damaged(&format!("the rows of tensor {name:?} are no whole blocks of {}", layout.name)).into());
            }
            Some(layout) => Some((elements / layout.block).checked_mul(layout.bytes)),
            None => None,
        };
        let beyond = || damaged(&format!("tensor {name:?} is longer than any file"));
        let end = offset.checked_add(length.unwrap_or(Some(0)).ok_or_else(beyond)?).ok_or_else(beyond)?;
        self.end = self.end.max(end);
        self.next = if length.is_some() { Some(end.checked_next_multiple_of(self.alignment).ok_or_else(beyond)?) } else { None };
        self.header.count(layout.map_or("unknown", |layout| layout.name), elements);
        self.tensors_left -= 1;
        Ok(())
    }

    fn finish(&mut self, end: u64) -> Result<Header> {
        let mut header = std::mem::replace(&mut self.header, Header::new(Format::Gguf));
        let beyond = || damaged("the tensors are longer than any file");
        // Without tensors nobody writes the padding that would come before them.
        let start = if header.tensors == 0 { end } else { end.checked_next_multiple_of(self.alignment).ok_or_else(beyond)? };
        header.least = start.checked_add(self.end).ok_or_else(beyond)?;
        header.quantization = self.facts.file_type.and_then(file_type).map(str::to_owned);
        header.split = match (self.facts.split_number, self.facts.split_of) {
            (Some(number), Some(of)) if of > 1 => Some(Split { number, of, tensors: self.facts.split_tensors }),
            _ => None,
        };
        Ok(header)
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of one value of a type that is neither text nor array.
fn width(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn damaged(what: &str) -> Error {
    broken(format!("the header of the GGUF file is damaged: {what}")).hint("no loader takes it; it has to be uploaded again")
}

/// Why an item was not understood.
enum Stop {
    /// More bytes are needed.
    Short,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Bytes that are read from front to back.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(Stop::Short)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        let bytes = self.take(4)?;
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Stop::Short)
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        let bytes = self.take(8)?;
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Stop::Short)
    }

    fn text(&mut self, longest: u64, what: &str) -> Result<String, Stop> {
        let length = self.u64()?;
        if length > longest {
            return Err(damaged(&format!("the name of a {what} has {length} bytes")).into());
        }
        let bytes = self.take(usize::try_from(length).unwrap_or(0))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}
