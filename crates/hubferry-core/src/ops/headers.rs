//! Reading the headers of weights through a source: one or two ranged reads for each file, never its tensors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, RepoPath, Revision};
use crate::remote::Source;
use crate::transfer::Context;
use crate::transfer::body::{SourceBody, Wish};
use crate::transfer::retry::retrying;
use crate::weights::config::{self, Config};
use crate::weights::names::{self, Shard};
use crate::weights::{FIRST, Format, Header, Reader, Share, broken, pointer_in_place};

/// Most headers that are read at once. Each may hold some MiB.
const AT_ONCE: usize = 8;
/// A header longer than this is read alone: a hostile one may have a hundred MB.
const LARGE: u64 = 4 << 20;
static LARGE_ONES: Semaphore = Semaphore::const_new(1);
/// Most tensors of all files that are looked at together; more than any model has.
const TENSORS: u64 = 4_000_000;
/// Where no more than this is left of an answer, it is read to its end: the connection is worth more.
const DRAIN: u64 = FIRST;

/// Reads the header of a file of `size` bytes. `Corrupt` where it is none, `Unsupported` for versions and formats that are not read.
pub async fn header(source: &Arc<dyn Source>, at: &Revision, path: &RepoPath, size: u64, context: &Context) -> Result<Header> {
    let format = Format::of(path).filter(|_| names::index_of(path).is_none());
    let read = || async {
        let reader = format.and_then(|format| Reader::new(format, size));
        let reader = reader.ok_or_else(|| Error::new(Kind::Unsupported, "weights of this format have no header that is read here"))?;
        read(source, at, path, reader).await
    };
    let what = format!("reading the header of {path}");
    retrying(&context.retry, &*context.reporter, &what, read).await.map_err(|error| error.context("file", path))
}

async fn read(source: &Arc<dyn Source>, at: &Revision, path: &RepoPath, mut reader: Reader) -> Result<Header> {
    let mut alone = None;
    loop {
        let range = reader.wants();
        let mut left = range.end - range.start;
        if left > LARGE && alone.is_none() {
            alone = LARGE_ONES.acquire().await.ok();
        }
        let mut header = None;
        if left == 0 {
            header = reader.feed(&[])?;
        } else {
            let mut stream = source.read(at, path, range).await?;
            while left > 0 && (header.is_none() || left <= DRAIN) {
                let Some(piece) = stream.next().await.transpose()? else { break };
                left = left.saturating_sub(piece.len() as u64);
                if header.is_none() {
                    header = reader.feed(&piece)?;
                }
            }
        }
        match header {
            Some(header) => return Ok(header),
            None if left > 0 => return Err(Error::new(Kind::Unavailable, "the answer ended before what was asked for")),
            None => {}
        }
    }
}

/// Reads a small file into memory, verified as far as its hash is known.
pub(crate) async fn content(
    source: &Arc<dyn Source>,
    manifest: &Manifest,
    path: &RepoPath,
    largest: u64,
    context: &Context,
) -> Result<Vec<u8>> {
    let entry = *manifest.entries.get(path).ok_or_else(|| Error::not_found(format!("{path:?} is not there")))?;
    if entry.size > largest {
        return Err(Error::invalid(format!("{path:?} is larger than any file of its kind: {} bytes", entry.size)));
    }
    let wish = Wish { at: manifest.revision.clone(), path: path.clone(), entry };
    Ok(SourceBody::content(source, &wish, context).await?.0.to_vec())
}

/// Headers of several files, in the order of their paths. One that cannot be read does not stop the others.
pub async fn headers(
    source: &Arc<dyn Source>,
    manifest: &Manifest,
    paths: impl IntoIterator<Item = RepoPath>,
    context: &Context,
) -> BTreeMap<RepoPath, Result<Header>> {
    let files = paths.into_iter().filter_map(|path| manifest.entries.get(&path).map(|entry| (path, entry.size)));
    let tensors = &AtomicU64::new(0);
    let work = futures_util::stream::iter(files).map(|(path, size)| async move {
        let found = header(source, &manifest.revision, &path, size, context).await;
        let number = found.as_ref().map_or(0, |header| header.tensors);
        let found = if tensors.fetch_add(number, Ordering::Relaxed).saturating_add(number) > TENSORS {
            Err(broken(format!("together with others it has more than {TENSORS} tensors"))
                .hint("no model has so many; choose files with --include"))
        } else {
            found
        };
        (path, found)
    });
    work.buffer_unordered(context.transfers.clamp(1, AT_ONCE)).collect().await
}

/// Whether a small file of weights holds the text of a Git LFS pointer; reads it only where it is that small.
pub(crate) async fn pointer(source: &Arc<dyn Source>, manifest: &Manifest, path: &RepoPath, context: &Context) -> Result<Option<Error>> {
    let longest = crate::pointer::LONGEST as u64;
    if manifest.entries.get(path).is_none_or(|entry| entry.size > longest) {
        return Ok(None);
    }
    let content = content(source, manifest, path, longest, context).await?;
    Ok(pointer_in_place(&content).map(|error| error.context("file", path)))
}

/// What the weights of a repository are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Survey {
    /// Each model: one file, or shards that belong together.
    pub models: Vec<Model>,
    /// What `config.json` says.
    #[serde(flatten)]
    pub config: Config,
    /// Files whose header was not asked for, because there are so many.
    pub unread: usize,
    /// What could not be looked at, and why, each reason once.
    pub notes: Vec<String>,
}

/// Weights that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// The file, or the first of them.
    pub path: RepoPath,
    /// Their format.
    pub format: Format,
    /// How many files there are.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many headers were read.
    pub read: usize,
    /// Tensors in those.
    pub tensors: u64,
    /// Elements in those; saturates.
    pub parameters: u64,
    /// The same by type of element.
    pub dtypes: BTreeMap<String, Share>,
    /// Such as `Q4_K_M`: what the header says, else the name.
    pub quantization: Option<String>,
    /// Such as `llama`, where the header says it.
    pub architecture: Option<String>,
    /// Longest input in tokens, where the header says it.
    pub context_length: Option<u64>,
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
}

impl Model {
    /// Whether the figures are those of all its files.
    pub fn is_known(&self) -> bool {
        self.read == self.files
    }

    /// Takes one more file; gives back why it could not be looked at.
    fn add(&mut self, path: &RepoPath, size: u64, found: Option<Result<Header>>) -> Option<Error> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        let header = match found? {
            Ok(header) => header,
            Err(error) if error.kind() == Kind::Corrupt => {
                self.problems.push(format!("{path}: {}", error.message()));
                return None;
            }
            Err(error) => return Some(error),
        };
        if let Err(error) = header.check_size(size) {
            self.problems.push(format!("{path}: {}", error.message()));
        }
        self.read += 1;
        self.tensors = self.tensors.saturating_add(header.tensors);
        self.parameters = self.parameters.saturating_add(header.parameters);
        for (dtype, share) in header.dtypes {
            let sum = self.dtypes.entry(dtype).or_default();
            sum.tensors = sum.tensors.saturating_add(share.tensors);
            sum.parameters = sum.parameters.saturating_add(share.parameters);
        }
        self.quantization = self.quantization.take().or(header.quantization);
        self.architecture = self.architecture.take().or(header.architecture);
        self.context_length = self.context_length.or(header.context_length);
        None
    }
}

/// Looks at the weights of a listing: `config.json`, and the headers of at most `most` files. What may not be read is told in notes.
pub async fn survey(source: &Arc<dyn Source>, manifest: &Manifest, most: usize, context: &Context) -> Survey {
    let weights: Vec<&RepoPath> =
        manifest.entries.keys().filter(|path| names::index_of(path).is_none() && Format::of(path).is_some()).collect();
    let readable: Vec<RepoPath> = weights.iter().filter(|path| has_header(path)).map(|path| (*path).clone()).collect();
    let unread = readable.len().saturating_sub(most);
    let (mut found, config) =
        tokio::join!(headers(source, manifest, readable.into_iter().take(most), context), described(source, manifest, context));
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let (config, mut failures) = match config {
        Ok(config) => (config, Vec::new()),
        Err(error) => (Config::default(), vec![error]),
    };
    for path in weights {
        let (Some(format), Some(entry)) = (Format::of(path), manifest.entries.get(path)) else { continue };
        let key = Shard::of(path).map_or_else(|| path.to_string(), |shard| shard.sibling(0));
        let model = models.entry(key).or_insert_with(|| Model {
            path: path.clone(),
            format,
            files: 0,
            bytes: 0,
            read: 0,
            tensors: 0,
            parameters: 0,
            dtypes: BTreeMap::new(),
            quantization: None,
            architecture: None,
            context_length: None,
            problems: Vec::new(),
        });
        failures.extend(model.add(path, entry.size, found.remove(path)));
    }
    for model in models.values_mut() {
        model.quantization = model.quantization.take().or_else(|| names::quant(&model.path));
    }
    let mut notes: Vec<String> = Vec::new();
    for failure in failures {
        // Terms that were not accepted are a reason for all files at once.
        if !notes.iter().any(|note| note == failure.message()) {
            notes.push(failure.message().to_owned());
        }
    }
    Survey { models: models.into_values().collect(), config, unread, notes }
}

/// Whether files of this name have a header that is read here.
pub(crate) fn has_header(path: &RepoPath) -> bool {
    names::index_of(path).is_none() && matches!(Format::of(path), Some(Format::Safetensors | Format::Gguf))
}

async fn described(source: &Arc<dyn Source>, manifest: &Manifest, context: &Context) -> Result<Config> {
    let Some((path, entry)) = manifest.entries.get_key_value(config::FILE) else { return Ok(Config::default()) };
    if entry.size > config::LARGEST {
        return Ok(Config::default());
    }
    Ok(Config::parse(&content(source, manifest, path, config::LARGEST, context).await?))
}
