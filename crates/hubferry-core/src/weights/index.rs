//! Index files of weights that are in several shards: which tensor is in which file.
//!
//! Known from transformers (`modeling_utils.py`): `*.safetensors.index.json` and `*.bin.index.json` are a JSON object whose `weight_map`
//! names a file, beside the index, for each tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::broken;
use crate::error::Result;
use crate::manifest::RepoPath;

/// A larger index is not read: bytes, enough for half a million tensors.
pub const LARGEST: u64 = 64 << 20;

/// What an index says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    /// The tensors of each shard. Paths are those of the repository.
    pub shards: BTreeMap<RepoPath, BTreeSet<String>>,
}

impl Index {
    /// Reads the index that lies at `path`.
    pub fn parse(path: &RepoPath, content: &[u8]) -> Result<Self> {
        let damaged = |what: String| broken(format!("the index {path:?} is damaged: {what}")).hint("it has to be uploaded again");
        let file: File = serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
        let folder = path.parents().last();
        let mut shards = BTreeMap::new();
        for (name, tensors) in file.weight_map.0 {
            let full = folder.map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
            let shard = RepoPath::new(full).map_err(|error| damaged(format!("it names the file {name:?}: {}", error.message())))?;
            shards.insert(shard, tensors);
        }
        Ok(Self { shards })
    }
}

#[derive(Deserialize)]
struct File {
    weight_map: Shards,
}

/// `weight_map` the other way round: one copy of each name of a file.
struct Shards(BTreeMap<String, BTreeSet<String>>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Shards;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names of files by tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shards, A::Error> {
                let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    if file.is_empty() {
                        return Err(A::Error::custom(format!("tensor {tensor:?} is in no file")));
                    }
                    shards.entry(file).or_default().insert(tensor);
                }
                Ok(Shards(shards))
            }
        }
        from.deserialize_map(Map)
    }
}
