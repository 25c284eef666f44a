//! Storing a large file by Xet: its bytes go through the library's chunker into the store, with the SHA-256 that our pointer will name.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Body, Visibility, Wanted};
use xet::XetError;
use xet::xet_session::{Sha256Policy, XetStreamUpload, XetUploadCommit};

use super::grant::{self, Grant, Right};
use super::session::{failure, headers};
use super::watch::{patience, watched};
use super::{SMALLEST, Way, Xet};
use crate::hf::Place;
use crate::hf::api::Repo;

/// The library is called once for this many bytes: each call is a task.
const PIECE: usize = 1 << 20;

/// How long the store may check in silence what it was given.
const CHECKING: Duration = Duration::from_mins(2);

/// How the other way is called.
const INSTEAD: &str = "Git LFS";

/// The store, as a repository is written to.
pub(super) struct Store {
    grant: Grant,
    /// Whether the store may be asked about chunks. It answers with those of others, and learns hashes of ours: fine for what
    /// everybody may read, and for nothing else.
    asks: bool,
}

/// Why an upload ended.
enum Failure {
    /// The bytes could not be had: no other way would help.
    Body(Error),
    /// Xet failed.
    Xet(Error),
}

impl Place {
    /// Stores a blob by Xet. `false` when it has to go by Git LFS: the hub has no Xet, there is too little memory, or it failed,
    /// which is said. An error is one of `body`.
    pub(in crate::hf) async fn put_by_xet(&self, repo: &Repo, branch: &str, wanted: &Wanted, body: &dyn Body) -> Result<bool> {
        let Some(way) = self.xet.as_ref().filter(|way| way.xet.uploads() && way.trust.is_on()) else { return Ok(false) };
        let Some(path) = wanted.paths.first().filter(|path| wanted.blob.size >= SMALLEST && way.trust.allows(path)) else {
            return Ok(false);
        };
        // Each upload holds a good deal of memory.
        let Ok(_permit) = way.xet.0.uploads.acquire().await else { return Ok(false) };
        let store = way.writing.get_or_try_init(|| self.store(way, repo, branch)).await;
        let store = match store {
            Ok(Some(store)) => store,
            Ok(None) => return Ok(false),
            Err(error) => {
                way.trust.switch_off(error.message(), INSTEAD, &*self.api.reporter);
                return Ok(false);
            }
        };
        match self.send(way, store, &wanted.blob, body).await {
            Ok(()) => {
                way.trust.worked(path);
                Ok(true)
            }
            Err(Failure::Body(error)) => Err(error),
            Err(Failure::Xet(error)) => {
                way.trust.give_up(path, error.message(), INSTEAD, &*self.api.reporter);
                Ok(false)
            }
        }
    }

    /// Asks once per run whether the hub takes Xet.
    async fn store(&self, way: &Way, repo: &Repo, branch: &str) -> Result<Option<Store>> {
        let Some(grant) = grant::ask(&self.api, way.token.as_ref(), repo, branch, Right::Write).await? else { return Ok(None) };
        let (_, info) = self.look(None, true).await?;
        Ok(Some(Store { grant, asks: info.visibility() == Some(Visibility::Public) }))
    }

    async fn send(&self, way: &Way, store: &Store, blob: &Blob, body: &dyn Body) -> Result<(), Failure> {
        let http = self.api.http.config();
        let commit = begin(way, store, http).await.map_err(Failure::Xet)?;
        let upload = Upload { xet: way.xet.clone(), commit, patience: patience(http.idle_timeout) };
        let result = upload.run(blob, body, self).await;
        if result.is_err() {
            let _ = upload.commit.abort();
        }
        result
    }
}

async fn begin(way: &Way, store: &Store, http: &crate::http::HttpConfig) -> Result<XetUploadCommit> {
    let grant = store.grant.clone();
    let builder = way.xet.session(store.asks, http)?.new_upload_commit().map_err(|e| failure(&e))?;
    let build = builder
        .with_endpoint(grant.store)
        .with_token_info(grant.token.expose(), grant.until)
        .with_token_refresh_url(grant.again, grant.again_headers)
        .with_custom_headers(headers(http))
        .build();
    watched(|| patience(http.idle_timeout), || 0, way.xet.run(build)).await?
}

/// The hash under which the store links the file to its pointer. The library would take a hash that it cannot read for none, and
/// hash by itself; that would go unnoticed.
fn policy(blob: &Blob) -> Result<Sha256Policy> {
    match Sha256Policy::from_hex(&blob.oid.to_string()) {
        policy @ Sha256Policy::Provided(_) => Ok(policy),
        _ => Err(Error::new(Kind::Bug, "Xet does not take the SHA-256 of a file")),
    }
}

struct Upload {
    xet: Xet,
    commit: XetUploadCommit,
    patience: Duration,
}

impl Upload {
    async fn run(&self, blob: &Blob, body: &dyn Body, place: &Place) -> Result<(), Failure> {
        let policy = policy(blob).map_err(Failure::Xet)?;
        let commit = self.commit.clone();
        let stream = self.xet.run(async move { commit.upload_stream(None, policy).await }).await.map_err(Failure::Xet)?;
        let mut pieces = body.read(0..blob.size).await.map_err(Failure::Body)?;
        let mut held = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            held.extend_from_slice(&piece.map_err(Failure::Body)?);
            if held.len() >= PIECE {
                self.write(&stream, held.split().freeze(), place).await?;
            }
        }
        self.write(&stream, held.freeze(), place).await?;
        let file = self.call(async move { stream.finish().await }).await?.xet_info;
        let commit = self.commit.clone();
        let report = self.call(async move { commit.commit().await }).await?;
        place.api.http.wire().add_sent(report.progress.total_transfer_bytes_completed);
        if file.file_size.is_some_and(|size| size != blob.size) {
            return Err(Failure::Xet(Error::new(Kind::Unavailable, "Xet stored another size than it was given")));
        }
        Ok(())
    }

    async fn write(&self, stream: &XetStreamUpload, bytes: Bytes, place: &Place) -> Result<(), Failure> {
        if let Some(pace) = &place.api.http.config().upload_pace {
            pace.take(bytes.len() as u64).await;
        }
        let stream = stream.clone();
        self.call(async move { stream.write(bytes).await }).await
    }

    /// One call of the library, given up when nothing gets on.
    async fn call<T: Send + 'static>(&self, call: impl Future<Output = Result<T, XetError>> + Send + 'static) -> Result<T, Failure> {
        watched(|| self.patience(), || self.moved(), self.xet.run(call)).await.flatten().map_err(Failure::Xet)
    }

    /// Once everything is on the other side, the store looks at it in silence.
    fn patience(&self) -> Duration {
        let report = self.commit.progress();
        let all_sent = report.total_transfer_bytes_completed >= report.total_transfer_bytes;
        if all_sent { self.patience.max(CHECKING) } else { self.patience }
    }

    /// Grows while anything goes on.
    fn moved(&self) -> u64 {
        let report = self.commit.progress();
        let shard = report.shard.map_or(0, |shard| {
            shard.total_shard_bytes_upload_completed
                + shard.total_shard_validation_entries_completed
                + u64::from(shard.total_shards_uploaded_to_store)
        });
        report.total_bytes_completed + report.total_transfer_bytes_completed + shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::digest::Oid;

    #[test]
    fn the_hash_of_the_pointer_is_the_one_that_is_stored() {
        let blob = Blob { oid: Oid::of(b"x"), size: 1 };
        assert!(matches!(policy(&blob), Ok(Sha256Policy::Provided(_))));
    }
}
