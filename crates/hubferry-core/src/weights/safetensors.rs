//! Headers of safetensors: eight bytes of length, then JSON that names every tensor with its type, shape and place.
//!
//! Known from the format's description (<https://huggingface.co/docs/safetensors>) and from what its library refuses: a header over
//! 100 MB, one that does not begin with a brace, tensors with holes between them or over each other, and bytes behind the last one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Format, Header, broken};
use crate::error::Result;

/// Longest header in bytes; the library of the format takes no longer one.
const LONGEST: u64 = 100_000_000;
/// Bytes that say how long the header is.
const PREFIX: usize = 8;

/// A header in the making.
#[derive(Debug)]
pub(super) struct Parser {
    size: u64,
    /// What came so far, up to the end of the header.
    held: Vec<u8>,
    /// Where the header ends, once that is known.
    end: Option<u64>,
}

impl Parser {
    pub(super) fn new(size: u64) -> Self {
        Self { size, held: Vec::new(), end: None }
    }

    /// Where the bytes end that are needed.
    pub(super) fn end(&self) -> u64 {
        self.end.unwrap_or(PREFIX as u64)
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Header>> {
        let mut rest = bytes;
        if self.end.is_none() {
            rest = self.take(rest, PREFIX);
            let Some(prefix) = self.held.first_chunk::<PREFIX>() else { return Ok(None) };
            let length = u64::from_le_bytes(*prefix);
            self.end = Some(self.check_length(length)?);
        }
        let end = usize::try_from(self.end()).unwrap_or(usize::MAX);
        self.take(rest, end);
        if self.held.len() < end {
            return Ok(None);
        }
        parse(&self.held[PREFIX..]).map(Some)
    }

    /// Takes bytes until `end` are held; gives back those behind.
    fn take<'a>(&mut self, bytes: &'a [u8], end: usize) -> &'a [u8] {
        let (mine, rest) = bytes.split_at(end.saturating_sub(self.held.len()).min(bytes.len()));
        self.held.extend_from_slice(mine);
        rest
    }

    fn check_length(&self, length: u64) -> Result<u64> {
        if length > LONGEST {
            return Err(broken(format!("it does not begin like a safetensors file: the header would have {length} bytes"))
                .hint("the file is damaged, or of another format than its name says"));
        }
        let end = length + PREFIX as u64;
        if end > self.size {
            return Err(broken(format!("the file is cut off: its header alone has {end} bytes, and it has {}", self.size))
                .hint("whoever published it has to upload it again"));
        }
        Ok(end)
    }
}

/// Bits of one element; `None` for a type that is not known here.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

fn parse(json: &[u8]) -> Result<Header> {
    let damaged = |what: String| {
        broken(format!("the header of the safetensors file is damaged: {what}")).hint("no loader takes it; it has to be uploaded again")
    };
    if json.first() != Some(&b'{') {
        return Err(damaged("it is no JSON object".to_owned()));
    }
    let Tensors(mut tensors) = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
    tensors.sort_unstable_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    let mut header = Header::new(Format::Safetensors);
    let mut next = 0;
    for tensor in tensors {
        let Tensor { name, dtype, elements, begin, end } = tensor;
        if begin != next || end < begin {
            return Err(damaged(format!("tensor {name:?} is at {begin}..{end}, and the one before it ends at {next}")));
        }
        let needed = bits(&dtype).map(|bits| u128::from(bits) * u128::from(elements));
        if needed.is_some_and(|needed| needed != u128::from(end - begin) * 8) {
            return Err(damaged(format!("tensor {name:?} has {elements} elements of {dtype} in {} bytes", end - begin)));
        }
        next = end;
        header.count(&dtype, elements);
        header.names.push(name);
    }
    header.names.sort_unstable();
    if let Some([twice, ..]) = header.names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(damaged(format!("tensor {twice:?} is there twice")));
    }
    header.least = (json.len() as u64 + PREFIX as u64).saturating_add(next);
    header.most = Some(header.least);
    Ok(header)
}

struct Tensors(Vec<Tensor>);

struct Tensor {
    name: String,
    dtype: String,
    elements: u64,
    begin: u64,
    end: u64,
}

#[derive(serde::Deserialize)]
struct Described {
    dtype: String,
    shape: Elements,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let Described { dtype, shape: Elements(elements), data_offsets: (begin, end) } = map.next_value()?;
                    tensors.push(Tensor { name, dtype, elements, begin, end });
                }
                Ok(Tensors(tensors))
            }
        }
        from.deserialize_map(Map)
    }
}

/// The product of a shape; what a stranger lists is not kept.
struct Elements(u64);

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seq;
        impl<'de> Visitor<'de> for Seq {
            type Value = Elements;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements, A::Error> {
                let mut product: u64 = 1;
                while let Some(length) = seq.next_element::<u64>()? {
                    product = product.checked_mul(length).ok_or_else(|| A::Error::custom("a shape with more than 2^64 elements"))?;
                }
                Ok(Elements(product))
            }
        }
        from.deserialize_seq(Seq)
    }
}
