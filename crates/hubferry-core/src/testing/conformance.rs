//! The suite that says whether a remote keeps the contract. A remote is done when a ten-line test calls [`target`] (and
//! [`source`]) on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::faults::{Fault, Faulty};
use super::memory::{MemoryRepo, Publishes};
use super::quick_context;
use crate::digest::Oid;
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use crate::manifest::{Blob, Manifest, RepoPath};
use crate::ops::{CopyReport, CopyRequest, Message, copy};
use crate::plan::Policy;
use crate::remote::{Commit, Op, RepoSpec, Source, Target, Visibility, Wanted};
use crate::transfer::Ends;

/// How the suite reaches the place under test.
#[derive(Clone, Debug)]
pub struct Place {
    /// Opens the same place again, as another process would.
    pub target: Arc<dyn Target>,
    /// Reads what was written.
    pub source: Arc<dyn Source>,
    /// Paths the place puts into a new repository by itself.
    pub generated: Vec<&'static str>,
}

/// The files the suite publishes: every awkward kind once.
pub fn sample() -> Vec<(&'static str, Vec<u8>)> {
    let noise =
        |n: u32, seed: u32| (0..n).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13).to_le_bytes()[0]).collect::<Vec<u8>>();
    vec![
        ("README.md", b"---\nlicense: mit\n---\n# Sample\n".to_vec()),
        ("config.json", b"{\"hidden_size\": 8}\n".to_vec()),
        ("empty.txt", Vec::new()),
        ("model.safetensors", noise(300_000, 1)),
        ("copy/of/model.safetensors", noise(300_000, 1)),
        ("nested/dir/with space/ünï-ço #1%.txt", "naïve\n".as_bytes().to_vec()),
        ("nested/tokens.bin", noise(70_000, 7)),
        ("one", b"1".to_vec()),
    ]
}

fn fail(why: impl Into<String>) -> Error {
    Error::new(Kind::Bug, format!("conformance: {}", why.into()))
}

fn ensure(truth: bool, why: &str) -> Result<()> {
    if truth { Ok(()) } else { Err(fail(why)) }
}

fn files(list: &[(&'static str, Vec<u8>)]) -> MemoryRepo {
    let borrowed: Vec<(&str, &[u8])> = list.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    MemoryRepo::with_files(Publishes::Mixed, &borrowed)
}

/// A copy request between two ends, with nothing special about it.
pub fn request(from: Arc<dyn Source>, to: Arc<dyn Target>) -> CopyRequest {
    CopyRequest {
        ends: Ends { from, also: Vec::new(), to },
        also: Vec::new(),
        filter: Filter::default(),
        policy: Policy::default(),
        dry_run: false,
        visibility: Some(Visibility::Public),
        allow_public: true,
        // Nothing is read beforehand, so that a source meets each of its faults where the test means it.
        allow_secrets: true,
        generated: None,
        message: Message { summary: None, source: "memory:sample".into(), tool: "conformance".into() },
        check_weights: false,
        prepared: None,
    }
}

async fn run(from: Arc<dyn Source>, place: &Place) -> Result<CopyReport> {
    copy(&request(from, place.target.clone()), &quick_context()).await
}

/// Everything a reader finds, without what the place generates.
async fn read_all(place: &Place) -> Result<BTreeMap<String, Bytes>> {
    let manifest = place.source.manifest().await?;
    let mut found = BTreeMap::new();
    for (path, entry) in &manifest.entries {
        let pieces: Vec<Bytes> = if entry.size == 0 {
            Vec::new()
        } else {
            place.source.read(&manifest.revision, path, 0..entry.size).await?.try_collect().await?
        };
        found.insert(path.to_string(), Bytes::from(pieces.concat()));
    }
    Ok(found)
}

/// Runs every check of a place that can be written. The place must be empty: its repository does not exist yet.
pub async fn target(place: &Place) -> Result<()> {
    absent(place).await?;
    let sample = sample();
    first_copy(place, &sample).await?;
    second_copy(place, &sample).await?;
    change_and_delete(place, &sample).await?;
    broken_bodies(place).await?;
    never_put(place).await?;
    moved_head(place).await?;
    Ok(())
}

async fn absent(place: &Place) -> Result<()> {
    ensure(place.target.head().await?.is_none(), "a repository that was never created has no head")?;
    let missing = place.source.manifest().await.err().map(|error| error.kind());
    ensure(missing == Some(Kind::NotFound), "listing a repository that is not there is NotFound")
}

async fn first_copy(place: &Place, sample: &[(&'static str, Vec<u8>)]) -> Result<()> {
    let repo = files(sample);
    let report = run(Arc::new(repo), place).await?;
    ensure(report.outcome.commits.len() == 1, "the sample is one commit")?;
    let found = read_all(place).await?;
    for (path, content) in sample {
        ensure(found.get(*path).is_some_and(|there| there == content), &format!("{path} is there byte for byte"))?;
    }
    let extra: Vec<_> =
        found.keys().filter(|path| !sample.iter().any(|(p, _)| p == path) && !place.generated.contains(&path.as_str())).collect();
    ensure(extra.is_empty(), &format!("nothing else is there: {extra:?}"))?;
    let manifest = place.source.manifest().await?;
    let big = manifest.entries.iter().find(|(path, _)| path.as_str() == "model.safetensors");
    let (path, entry) = big.ok_or_else(|| fail("the big file is listed"))?;
    let middle: Vec<Bytes> = place.source.read(&manifest.revision, path, 1000..1010).await?.try_collect().await?;
    ensure(middle.concat() == sample[3].1[1000..1010], "a range is exactly what was asked for")?;
    let past = place.source.read(&manifest.revision, path, 0..entry.size + 1).await;
    let past = match past {
        Ok(stream) => stream.try_collect::<Vec<Bytes>>().await.map(|_| ()),
        Err(error) => Err(error),
    };
    ensure(past.is_err(), "a range past the end fails")
}

async fn second_copy(place: &Place, sample: &[(&'static str, Vec<u8>)]) -> Result<()> {
    let before = place.source.manifest().await?;
    let report = run(Arc::new(files(sample)), place).await?;
    ensure(report.plan.is_empty(), &format!("a second copy has nothing to do: {:?}", report.plan.steps))?;
    ensure(report.outcome.moved_bytes == 0, "a second copy moves nothing")?;
    let after = place.source.manifest().await?;
    ensure(before == after, "a second copy changes nothing")
}

async fn change_and_delete(place: &Place, sample: &[(&'static str, Vec<u8>)]) -> Result<()> {
    let mut changed: Vec<_> = sample.iter().filter(|(path, _)| *path != "one" && !path.starts_with("copy/")).cloned().collect();
    for (path, content) in &mut changed {
        if *path == "config.json" {
            content[15] ^= 1;
        }
    }
    changed.push(("new/here.txt", b"new".to_vec()));
    let mut ask = request(Arc::new(files(&changed)), place.target.clone());
    ask.policy = Policy { delete: true, max_delete: Some(place.generated.len() + 2), ..Policy::default() };
    copy(&ask, &quick_context()).await?;
    let found = read_all(place).await?;
    let expected: BTreeMap<String, Bytes> = changed.into_iter().map(|(path, content)| (path.to_owned(), Bytes::from(content))).collect();
    ensure(found == expected, &format!("after a sync exactly the source is there: {:?}", found.keys()))
}

async fn broken_bodies(place: &Place) -> Result<()> {
    let before = place.source.manifest().await?;
    let content: Vec<u8> = (0..200_000_u32).map(|i| (i % 241).to_le_bytes()[0]).collect();
    let repo = MemoryRepo::with_files(Publishes::Sha256, &[("weights/new.bin", &content)]);
    let lying = Faulty::new(repo.clone()).every_read(Fault::Flip(70_000));
    let error = run(Arc::new(lying), place).await.err().ok_or_else(|| fail("a source that always lies cannot be copied"))?;
    ensure(error.kind() == Kind::Corrupt, "wrong bytes are Corrupt")?;
    ensure(place.source.manifest().await? == before, "a failed copy shows nothing")?;
    let wanted =
        Wanted { blob: Blob { oid: Oid::of(&content), size: content.len() as u64 }, paths: vec![RepoPath::new("weights/new.bin")?] };
    let missing = place.target.missing(std::slice::from_ref(&wanted)).await?;
    ensure(missing.contains(&wanted.blob.oid), "a failed put leaves the blob missing")?;
    let healing = [Fault::Cut(10_000), Fault::Flip(100_000), Fault::Truncate(5), Fault::Stall(1), Fault::Unavailable, Fault::Excess];
    let faulty = Faulty::new(repo).reads(healing.into_iter().map(Some));
    run(Arc::new(faulty), place).await?;
    let found = read_all(place).await?;
    ensure(found.get("weights/new.bin").is_some_and(|there| *there == content), "faults that pass are healed")
}

async fn never_put(place: &Place) -> Result<()> {
    let head = head(place).await?;
    let blob = Blob { oid: Oid::of(b"nobody ever sent this"), size: 200_000 };
    let staged = crate::remote::Staged::stored(blob);
    let ops = vec![Op::Put { path: RepoPath::new("ghost.bin")?, staged }];
    let result = place.target.commit(Commit { parent: Some(head.revision.clone()), message: "ghost".into(), ops }).await;
    ensure(result.is_err(), "a commit that names a blob nobody put fails")?;
    ensure(head_is(place, &head).await?, "a refused commit changes nothing")
}

async fn moved_head(place: &Place) -> Result<()> {
    if !place.target.limits().compare_and_swap {
        return Ok(());
    }
    let old = head(place).await?;
    run(Arc::new(MemoryRepo::with_files(Publishes::Sha256, &[("by-somebody-else.txt", b"hello")])), place).await?;
    let new = head(place).await?;
    let ops = vec![Op::Delete { path: RepoPath::new("by-somebody-else.txt")? }];
    let result = place.target.commit(Commit { parent: Some(old.revision), message: "late".into(), ops }).await;
    ensure(result.is_err_and(|error| error.kind() == Kind::Conflict), "a commit on a moved head is Conflict")?;
    ensure(head_is(place, &new).await?, "a commit on a moved head changes nothing")?;
    place.target.create(&RepoSpec::new(Visibility::Private)).await?;
    ensure(head_is(place, &new).await?, "creating what exists changes nothing")
}

async fn head(place: &Place) -> Result<Manifest> {
    place.target.head().await?.ok_or_else(|| fail("the repository is there"))
}

async fn head_is(place: &Place, before: &Manifest) -> Result<bool> {
    Ok(head(place).await?.entries == before.entries)
}
