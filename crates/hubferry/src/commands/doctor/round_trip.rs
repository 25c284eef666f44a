//! `doctor --transfer`: a private repository of our own making, two files there and back, and nothing left of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hubferry_core::digest::{Digests, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Blob, Entry, RepoPath};
use hubferry_core::remote::{Commit, MemoryBody, Op, Wanted};
use hubferry_core::transfer::body::{SourceBody, Wish};
use hubferry_core::transfer::retry::retrying;
use hubferry_remotes::registry::{Identity, RemoteSettings};
use hubferry_remotes::scratch::Scratch;
use serde_json::json;

use super::finding::Finding;
use crate::commands::serve::signal;
use crate::output::size;
use crate::session::Session;

/// A file that every hub puts into its large storage, and long enough for its time to say something.
const LARGE: usize = 12 << 20;
/// What the removal may take, tries included.
const REMOVAL: Duration = Duration::from_mins(1);

/// Times and rates of one round trip.
struct Measured {
    create: Duration,
    up: Duration,
    commit: Duration,
    down: Duration,
}

/// Makes, writes, reads, removes. The removal follows whatever happened before, a signal included; a second signal ends it too.
pub(super) async fn run(remote: &RemoteSettings, who: &Identity, session: &Session) -> Vec<Finding> {
    let about = format!("{} transfer", remote.name);
    let scratch = match session.remotes.scratch(&remote.name, owner(who)) {
        Ok(scratch) => scratch,
        Err(error) => return vec![Finding::broken(&about, "not tried", error, "check the name of the account")],
    };
    session.output.say(&format!("{}: trying a transfer with the private repository {}", remote.name, scratch.id()));
    let measured = tokio::select! {
        measured = measure(&scratch, session) => measured,
        () = signal() => Err(Error::new(Kind::Interrupted, "interrupted")),
    };
    let mut findings = vec![match measured {
        Ok(measured) => measured.finding(&about),
        Err(error) => Finding::broken(&about, "the trial failed", error, "check the rights of the token on the hub's settings page"),
    }];
    if scratch.is_made() {
        findings.push(remove(&about, remote, &scratch, session).await);
    }
    findings
}

/// A namespace that the token may make repositories in: the user's own, if it is among them.
fn owner(who: &Identity) -> &str {
    let namespaces = || who.writes.iter().flatten().filter(|place| !place.contains('/'));
    if namespaces().any(|place| *place == who.name) { &who.name } else { namespaces().next().unwrap_or(&who.name) }
}

async fn remove(about: &str, remote: &RemoteSettings, scratch: &Scratch, session: &Session) -> Finding {
    let (context, id) = (&session.context, scratch.id());
    let removal = retrying(&context.retry, &*context.reporter, "removing the trial repository", || scratch.remove());
    let removed = tokio::select! {
        removed = tokio::time::timeout(REMOVAL, removal) => {
            removed.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the hub takes too long to remove it")))
        }
        () = signal() => Err(Error::new(Kind::Interrupted, "interrupted")),
    };
    let left = format!("delete the private model {id} on its page at {}", page(remote, scratch));
    match removed {
        Ok(()) => Finding::fine(about, format!("{id} was removed")).with(json!({"removed": true, "repository": id})),
        // The hub's way, not a fault.
        Err(error) if error.kind() == Kind::Unsupported => {
            Finding::notice(about, format!("{id} is left there: {}", error.message()), &left)
                .with(json!({"removed": false, "repository": id}))
        }
        Err(error) => {
            let (kind, text) = (error.kind(), error.to_string());
            let error = Error::new(kind, format!("{id} may be left there: {text}"));
            Finding::broken(about, "", error, &left).with(json!({"removed": false, "repository": id}))
        }
    }
}

/// Where somebody finds it.
fn page(remote: &RemoteSettings, scratch: &Scratch) -> String {
    let base = remote.hub().map_or("", |hub| hub.endpoint.as_str()).trim_end_matches('/');
    match remote.protocol() {
        Some(hubferry_remotes::registry::Protocol::HuggingFace) => format!("{base}/{}/settings", scratch.id()),
        _ => format!("{base}/models/{}/settings", scratch.id()),
    }
}

/// A file of the trial.
struct File {
    path: RepoPath,
    bytes: Bytes,
    blob: Blob,
}

impl File {
    fn new(path: &str, bytes: Vec<u8>) -> Result<Self> {
        let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
        Ok(Self { path: RepoPath::new(path)?, bytes: bytes.into(), blob })
    }

    fn wanted(&self) -> Wanted {
        Wanted { blob: self.blob, paths: vec![self.path.clone()] }
    }
}

async fn measure(scratch: &Scratch, session: &Session) -> Result<Measured> {
    let (target, source, context) = (scratch.target(), scratch.source(), &session.context);
    let retry = (&context.retry, &*context.reporter);
    let small = File::new("trial.txt", format!("A trial of hubferry, to be removed: {}\n", scratch.id()).into_bytes())?;
    // New every time: what a hub has already it does not take again.
    let mut content = vec![0; LARGE];
    fastrand::Rng::new().fill(&mut content);
    let large = File::new("trial.bin", content)?;
    let files = [small, large];
    let begun = Instant::now();
    retrying(retry.0, retry.1, "creating the trial repository", || scratch.create()).await?;
    let create = begun.elapsed();
    let head = retrying(retry.0, retry.1, "listing the trial repository", || target.head()).await?;
    let wanted: Vec<Wanted> = files.iter().map(File::wanted).collect();
    retrying(retry.0, retry.1, "asking what is missing", || target.missing(&wanted)).await?;
    let (mut ops, mut up) = (Vec::new(), Duration::ZERO);
    for file in &files {
        let (begun, wanted, body) = (Instant::now(), file.wanted(), MemoryBody(file.bytes.clone()));
        let staged = retrying(retry.0, retry.1, "storing a file", || target.put(&wanted, &body)).await?;
        up = begun.elapsed();
        ops.push(Op::Put { path: file.path.clone(), staged });
    }
    let begun = Instant::now();
    let change = Commit { parent: head.map(|head| head.revision), message: "Trial".to_owned(), ops };
    target.commit(change).await?;
    let commit = begun.elapsed();
    let listed = retrying(retry.0, retry.1, "listing the trial repository", || source.manifest()).await?;
    let mut down = Duration::ZERO;
    for file in &files {
        let there = listed.entries.get(&file.path).filter(|entry| entry.size == file.blob.size);
        there.ok_or_else(|| Error::new(Kind::Corrupt, "the hub lists a file otherwise than it was sent").context("file", &file.path))?;
        let begun = Instant::now();
        let entry = Entry::new(file.blob.size, Digests::sha256(file.blob.oid));
        let wish = Wish { at: listed.revision.clone(), path: file.path.clone(), entry };
        // Reading compares with the hash of what was sent.
        SourceBody::content(&Arc::clone(source), &wish, context).await?;
        down = begun.elapsed();
    }
    Ok(Measured { create, up, commit, down })
}

impl Measured {
    fn finding(&self, about: &str) -> Finding {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let rate = |time: Duration| LARGE as u64 * 1000 / ms(time).max(1);
        let (up, down) = (rate(self.up), rate(self.down));
        let text = format!(
            "two files went there and came back with their hashes: {} up at {}/s, down at {}/s; created in {} ms, committed in {} ms",
            size(LARGE as u64),
            size(up),
            size(down),
            ms(self.create),
            ms(self.commit)
        );
        Finding::fine(about, text).with(json!({
            "bytes": LARGE,
            "up_bytes_per_second": up,
            "down_bytes_per_second": down,
            "create_ms": ms(self.create),
            "commit_ms": ms(self.commit),
        }))
    }
}
