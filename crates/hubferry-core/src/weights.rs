//! What weights say of themselves: headers of safetensors and GGUF files, index files, `config.json`, and names. Pure: whoever has the
//! bytes feeds them; `ops::headers` fetches them.
//!
//! Everything here is a stranger's word. A reader takes any bytes without a panic, and holds no more memory than the limits allow that
//! stand beside each format.

pub mod config;
mod ggml;
mod gguf;
pub mod index;
pub mod names;
mod safetensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::error::{Error, Kind, Result, Retry};
use crate::pointer;

pub use ggml::layout;
pub use names::Format;

/// How much of a file is asked for first. Most headers of safetensors are shorter; those of GGUF hold the vocabulary as well.
pub const FIRST: u64 = 128 << 10;
/// How much is asked for at once where nobody knows how long the header is.
const STEP: u64 = 32 << 20;

/// How much of a file has one type of element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Share {
    /// Tensors of that type.
    pub tensors: u64,
    /// Elements in them.
    pub parameters: u64,
}

/// Which part of a model a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Split {
    /// Counted from zero.
    pub number: u64,
    /// How many parts there are.
    pub of: u64,
    /// Tensors in all parts together.
    pub tensors: Option<u64>,
}

/// What the header of one file says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Header {
    /// The format of the file.
    pub format: Format,
    /// How many tensors it holds.
    pub tensors: u64,
    /// How many elements all of them have; saturates.
    pub parameters: u64,
    /// The same by type of element, in the spelling of the format.
    pub dtypes: BTreeMap<String, Share>,
    /// Fewest bytes with which the file is whole.
    pub least: u64,
    /// Most bytes it may have; `None` where readers ignore what follows.
    pub most: Option<u64>,
    /// Such as `Q4_K_M`.
    pub quantization: Option<String>,
    /// Such as `llama`.
    pub architecture: Option<String>,
    /// Longest input in tokens.
    pub context_length: Option<u64>,
    /// Where the model is in several files that know of each other.
    pub split: Option<Split>,
    /// Names of the tensors, in order; empty for a format whose index files name none.
    #[serde(skip)]
    pub names: Vec<String>,
}

impl Header {
    fn new(format: Format) -> Self {
        Self {
            format,
            tensors: 0,
            parameters: 0,
            dtypes: BTreeMap::new(),
            least: 0,
            most: None,
            quantization: None,
            architecture: None,
            context_length: None,
            split: None,
            names: Vec::new(),
        }
    }

    fn count(&mut self, dtype: &str, elements: u64) {
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(elements);
        if !self.dtypes.contains_key(dtype) {
            self.dtypes.insert(dtype.to_owned(), Share::default());
        }
        if let Some(share) = self.dtypes.get_mut(dtype) {
            share.tensors += 1;
            share.parameters = share.parameters.saturating_add(elements);
        }
    }

    /// Fails with `Corrupt` when a file of `size` bytes is not what its header describes.
    pub fn check_size(&self, size: u64) -> Result<()> {
        let expected = self.least;
        let found = |how: &str| broken(format!("{how}: its header describes {expected} bytes, and it has {size}"));
        if size < expected {
            return Err(found("the file is cut off")
                .hint(format!("{} bytes are missing; whoever published it has to upload it again", expected - size)));
        }
        match self.most {
            Some(most) if size > most => {
                Err(found("the file is longer than it says").hint("no loader takes it; it has to be uploaded again"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads one header, fed with the bytes of the file in order.
#[derive(Debug)]
pub struct Reader {
    size: u64,
    /// Bytes taken so far.
    at: u64,
    parser: Parser,
}

#[derive(Debug)]
enum Parser {
    Safetensors(safetensors::Parser),
    Gguf(Box<gguf::Parser>),
}

impl Reader {
    /// For a file of `size` bytes; `None` for a format that has no header that is read here.
    pub fn new(format: Format, size: u64) -> Option<Self> {
        let parser = match format {
            Format::Safetensors => Parser::Safetensors(safetensors::Parser::new(size)),
            Format::Gguf => Parser::Gguf(Box::new(gguf::Parser::new(size))),
            _ => return None,
        };
        Some(Self { size, at: 0, parser })
    }

    /// Which bytes are needed next. Fewer may be fed, and more that follow.
    pub fn wants(&self) -> Range<u64> {
        let end = match &self.parser {
            _ if self.at == 0 => FIRST,
            Parser::Safetensors(parser) => parser.end(),
            Parser::Gguf(_) => self.at.saturating_add(STEP),
        };
        self.at..end.min(self.size).max(self.at)
    }

    /// Takes bytes that follow those taken before. Gives the header once it is whole; `Corrupt` for bytes that are none, `Unsupported`
    /// for versions that are not read here.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Header>> {
        if self.at == 0 && bytes.starts_with(POINTER) {
            return Err(is_pointer(bytes));
        }
        self.at = self.at.saturating_add(bytes.len() as u64);
        let header = match &mut self.parser {
            Parser::Safetensors(parser) => parser.feed(bytes)?,
            Parser::Gguf(parser) => parser.feed(bytes)?,
        };
        if header.is_none() && self.at >= self.size {
            return Err(broken(format!("the file is cut off: it has {} bytes and ends inside of its header", self.size))
                .hint("whoever published it has to upload it again"));
        }
        Ok(header)
    }
}

/// How every pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether the whole content of a small file is an LFS pointer where weights should be.
pub fn pointer_in_place(content: &[u8]) -> Option<Error> {
    content.starts_with(POINTER).then(|| is_pointer(content))
}

fn is_pointer(content: &[u8]) -> Error {
    let meant = pointer::parse(content).map_or(String::new(), |blob| format!(" for {} bytes", blob.size));
    broken(format!("the file is the text of a Git LFS pointer{meant}, not the weights"))
        .hint("it was committed without git-lfs: run `git lfs install`, then `git lfs push --all` where it came from")
}

/// A failure that reading again does not mend.
pub(crate) fn broken(message: impl Into<String>) -> Error {
    Error::new(Kind::Corrupt, message).retry_as(Retry::No)
}
