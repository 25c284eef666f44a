//! Are weights whole? Decided from headers, index files and sizes, before a byte of a tensor travels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::headers::{content, has_header, headers, pointer};
use crate::error::{Error, Kind, Result, Retry};
use crate::events::Event;
use crate::manifest::{Manifest, RepoPath};
use crate::plan::Plan;
use crate::remote::Source;
use crate::transfer::Context;
use crate::weights::index::{self, Index};
use crate::weights::names::{self, Format, Shard};
use crate::weights::{Header, broken};

/// Most findings that one message names.
const SHOWN: usize = 5;

/// Looks at the weights among `files`, all of them in `listing`, and at the index files that name them. Gives what is wrong with which
/// file: cut off, longer than its header says, not where its index says, a pointer of Git LFS. A header of a version that is not read
/// here is told as a note.
pub async fn damaged_weights(
    source: &Arc<dyn Source>,
    listing: &Manifest,
    files: &BTreeSet<RepoPath>,
    context: &Context,
) -> Result<BTreeMap<RepoPath, Error>> {
    let mut damaged = BTreeMap::new();
    let weights: Vec<&RepoPath> = files.iter().filter(|path| names::index_of(path).is_none() && Format::of(path).is_some()).collect();
    if weights.is_empty() && !files.iter().any(|path| names::index_of(path).is_some()) {
        return Ok(damaged);
    }
    for path in &weights {
        let found = match listing.entries.get(*path) {
            Some(entry) if entry.size == 0 => Some(broken("the file is empty").hint("whoever published it has to upload it again")),
            _ => pointer(source, listing, path, context).await?,
        };
        damaged.extend(found.map(|error| ((*path).clone(), error)));
    }
    let readable = weights.iter().filter(|path| has_header(path) && !damaged.contains_key(**path)).map(|path| (*path).clone());
    let mut known: BTreeMap<RepoPath, Header> = BTreeMap::new();
    for (path, found) in headers(source, listing, readable, context).await {
        let size = listing.entries.get(&path).map_or(0, |entry| entry.size);
        match found.and_then(|header| header.check_size(size).map(|()| header)) {
            Ok(header) => drop(known.insert(path, header)),
            Err(error) if error.kind() == Kind::Corrupt => drop(damaged.insert(path, error)),
            Err(error) if error.kind() == Kind::Unsupported => {
                context.reporter.event(&Event::Note(format!("{path} was not looked at: {}", error.message())));
            }
            Err(error) => return Err(error),
        }
    }
    for path in listing.entries.keys().filter(|path| names::index_of(path).is_some()) {
        let index = match content(source, listing, path, index::LARGEST, context).await.and_then(|content| Index::parse(path, &content)) {
            Ok(index) => index,
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Invalid) => {
                if files.contains(path) {
                    damaged.insert(path.clone(), error);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if files.contains(path) || index.shards.keys().any(|shard| files.contains(shard)) {
            against(path, &index, listing, &known, &mut damaged);
        }
    }
    parts(&weights, listing, &known, &mut damaged);
    Ok(damaged)
}

/// Fails with `Corrupt` where weights that `plan` brings from `listing` are not whole.
pub(crate) async fn whole_weights(source: &Arc<dyn Source>, listing: &Manifest, plan: &Plan, context: &Context) -> Result<()> {
    let files = plan.puts().map(|(path, _)| path.clone()).collect();
    let damaged = damaged_weights(source, listing, &files, context).await?;
    let number = damaged.len();
    let mut told: Vec<String> = damaged.iter().take(SHOWN).map(|(path, error)| format!("{path}: {}", error.message())).collect();
    if number > SHOWN {
        told.push(format!("and {} more", number - SHOWN));
    }
    let told = told.join("; ");
    match damaged.into_iter().next() {
        None => Ok(()),
        Some((path, error)) if number == 1 => Err(error.context("file", path)),
        Some((_, error)) => {
            let error = Error::new(Kind::Corrupt, format!("{number} files of weights are not whole: {told}"))
                .retry_as(Retry::No)
                .hint(error.hint_text().unwrap_or("they have to be uploaded again"));
            Err(error)
        }
    }
}

/// Holds an index against its shards.
fn against(
    path: &RepoPath,
    index: &Index,
    listing: &Manifest,
    known: &BTreeMap<RepoPath, Header>,
    damaged: &mut BTreeMap<RepoPath, Error>,
) {
    let absent: Vec<&RepoPath> = index.shards.keys().filter(|shard| !listing.entries.contains_key(*shard)).collect();
    if let Some(first) = absent.first() {
        let more = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
        let error = broken(format!("it names {first}{more}, which is not there"));
        damaged.insert(path.clone(), error.hint("wait until the upload is complete, or tell its owner"));
    }
    for (shard, tensors) in &index.shards {
        // Only safetensors tell the names of their tensors here.
        let Some(header) = known.get(shard).filter(|header| header.format == Format::Safetensors) else { continue };
        let held: BTreeSet<&str> = header.names.iter().map(String::as_str).collect();
        let lacks = tensors.iter().find(|tensor| !held.contains(tensor.as_str()));
        let extra = held.iter().find(|tensor| !tensors.contains(**tensor));
        let error = match (lacks, extra) {
            (Some(tensor), _) => format!("{path} says that it holds the tensor {tensor:?}, and it does not"),
            (None, Some(tensor)) => format!("it holds the tensor {tensor:?}, and {path} says otherwise"),
            (None, None) => continue,
        };
        damaged
            .entry(shard.clone())
            .or_insert_with(|| broken(error).hint("the index and the shards are of different uploads: they have to be uploaded again"));
    }
}

/// Looks whether all parts of split files are there, and agree.
fn parts(weights: &[&RepoPath], listing: &Manifest, known: &BTreeMap<RepoPath, Header>, damaged: &mut BTreeMap<RepoPath, Error>) {
    let mut sums: BTreeMap<String, (u64, u32, u64)> = BTreeMap::new();
    for path in weights {
        let Some(shard) = Shard::of(path).filter(|_| Format::of(path) == Some(Format::Gguf)) else { continue };
        let absent = (1..=shard.of).map(|number| shard.sibling(number)).find(|path| !listing.entries.contains_key(path.as_str()));
        if let Some(absent) = absent {
            let error = broken(format!("it is one of {} parts, and {absent} is not there", shard.of));
            damaged.entry((*path).clone()).or_insert_with(|| error.hint("wait until the upload is complete, or tell its owner"));
            continue;
        }
        let Some(header) = known.get(*path) else { continue };
        let Some(split) = header.split else { continue };
        if (split.number + 1, split.of) != (u64::from(shard.number), u64::from(shard.of)) {
            let error = broken(format!(
                "its name says part {} of {}, and its header part {} of {}",
                shard.number,
                shard.of,
                split.number + 1,
                split.of
            ));
            damaged.entry((*path).clone()).or_insert_with(|| error.hint("it was renamed, or belongs to another model"));
        }
        let sum = sums.entry(shard.sibling(1)).or_insert((0, 0, split.tensors.unwrap_or(0)));
        sum.0 = sum.0.saturating_add(header.tensors);
        sum.1 += 1;
        if sum.1 == shard.of && sum.2 > 0 && sum.0 != sum.2 {
            let error = broken(format!("its parts hold {} tensors together, and the first one says {}", sum.0, sum.2));
            damaged
                .entry((*path).clone())
                .or_insert_with(|| error.hint("the parts are of different uploads: they have to be uploaded again"));
        }
    }
}
