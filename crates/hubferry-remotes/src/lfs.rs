//! Git LFS: the batch question, uploads in one piece or in parts, download links. Shared by the hubs that speak it.
//!
//! What a batch answer says is a stranger's word: links are checked, the hub's own credential goes to none of them but the verify
//! call on the hub's own origin, and parts must cover the file exactly.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_core::manifest::Blob;
use hubferry_core::remote::Body;
use hubferry_core::transfer::journal::Journal;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::http::{BULK, Classifier, Credential, Http, Origin, Request, Response};
use hubferry_core::transfer::retry::{RetryPolicy, retrying};

mod answer;
mod grant;
mod note;
mod parts;

pub use answer::Action;
use answer::{Actions, Answers};
use grant::{Grant, Stop};
use note::Note;

/// Objects per batch call that every server takes.
const BATCH: usize = 256;
/// The media type of the protocol.
const MEDIA: &str = "application/vnd.git-lfs+json";
/// How long the actions of one answer are used before they are asked for again; servers sign them for an hour or more.
const FRESH: Duration = Duration::from_mins(15);
/// A server may hash or copy a large object before it answers.
const SLOW: Duration = Duration::from_mins(5);
/// Parts of one object that are sent at once, unless something else is wanted.
pub const PARALLEL_PARTS: usize = 4;

/// The LFS side of one repository.
pub struct Lfs {
    /// The pool.
    pub http: Http,
    /// The batch endpoint.
    pub batch: Url,
    /// Who we are at the batch endpoint.
    pub credential: Option<Credential>,
    /// How refusals of the batch endpoint and of verify are read.
    pub classifier: Classifier,
    /// The branch the objects are for, if the server wants to know.
    pub branch: Option<String>,
    /// Hears of tries that failed.
    pub reporter: Arc<dyn Reporter>,
    /// How single calls and parts are tried again.
    pub retry: RetryPolicy,
    /// For a mirror that passes on answers of the original: the original's origin, and the base URL that serves its links here.
    pub mirrored: Option<(Origin, Url)>,
    /// Parts of one object that are sent at once.
    pub parallel_parts: usize,
    /// Upload actions that a question brought and no upload has used yet.
    pub kept: Kept,
    /// Where uploads in parts are noted, so that another run can go on with them.
    pub journal: Arc<dyn Journal>,
}

/// Upload actions by object, as they came with the answer what is missing.
#[derive(Debug, Default)]
pub struct Kept(Mutex<HashMap<Oid, (Instant, Actions)>>);

impl Kept {
    fn keep(&self, oid: Oid, at: Instant, actions: Actions) {
        // A very large object has thousands of links; those are cheaper to ask for again than to hold.
        if actions.links() <= 64 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(oid, (at, actions));
        }
    }

    fn take(&self, oid: &Oid) -> Option<(Instant, Actions)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(oid)?;
        (kept.0.elapsed() < FRESH).then_some(kept)
    }
}

impl Lfs {
    /// Which of `blobs` the server does not hold for this repository.
    pub async fn missing(&self, blobs: &[Blob]) -> Result<HashSet<Oid>> {
        let questions: Vec<_> = blobs.chunks(BATCH).map(|chunk| self.ask("upload", chunk)).collect();
        let answers: Vec<Answers> = stream::iter(questions).buffered(4).try_collect().await?;
        let mut missing = HashSet::new();
        for (chunk, answers) in blobs.chunks(BATCH).zip(&answers) {
            for blob in chunk {
                if let Some(actions) = answers.upload(blob)? {
                    missing.insert(blob.oid);
                    self.kept.keep(blob.oid, Instant::now(), actions);
                }
            }
        }
        Ok(missing)
    }

    /// Stores one object; nothing is sent when the server holds it already. What an earlier run stored of it in parts is used again,
    /// as long as the server still knows that upload.
    pub async fn upload(&self, blob: &Blob, body: &dyn Body) -> Result<()> {
        let note = Note::new(self, blob);
        let mut earlier = note.load(self, blob).await;
        let granted = match &earlier {
            Some(earlier) => Some((None, earlier.actions.clone())),
            None => self.actions(blob).await?,
        };
        let Some((at, actions)) = granted else { return Ok(()) };
        let grant = Grant::new(self, blob, at, actions);
        loop {
            let result = match grant.part_size().await {
                Some(size) => parts::send(self, blob, body, &grant, size, &note, earlier.take()).await,
                None => self.send_whole(blob, body, &grant).await,
            };
            match result {
                Ok(()) => break,
                Err(Stop::Held) => {
                    note.remove().await;
                    return Ok(());
                }
                Err(Stop::Other(at, actions)) => grant.turn_to(at, *actions).await,
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        if let Some(action) = &grant.current().await.actions.verify {
            self.verify(blob, action).await?;
        }
        note.remove().await;
        Ok(())
    }

    /// What is to be done to upload `blob`, and since when that is allowed; `None` when the server holds it.
    async fn actions(&self, blob: &Blob) -> Result<Option<(Option<Instant>, Actions)>> {
        if let Some((at, actions)) = self.kept.take(&blob.oid) {
            return Ok(Some((Some(at), actions)));
        }
        let actions = self.ask("upload", std::slice::from_ref(blob)).await?.upload(blob)?;
        Ok(actions.map(|actions| (Some(Instant::now()), actions)))
    }

    /// Where the bytes of one object can be read.
    pub async fn download(&self, blob: &Blob) -> Result<Action> {
        self.ask("download", std::slice::from_ref(blob)).await?.download(blob)
    }

    /// The same for several objects in one question, in their order. What the server refuses of one says nothing of the others.
    pub async fn downloads(&self, blobs: &[Blob]) -> Result<Vec<Result<Action>>> {
        let answers = self.ask("download", blobs).await?;
        Ok(blobs.iter().map(|blob| answers.download(blob)).collect())
    }

    async fn ask(&self, operation: &str, blobs: &[Blob]) -> Result<Answers> {
        let objects: Vec<Value> = blobs.iter().map(|blob| json!({"oid": blob.oid, "size": blob.size})).collect();
        let mut question = json!({"operation": operation, "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256"});
        if let Some(branch) = &self.branch {
            question["ref"] = json!({"name": branch});
        }
        let call = || async {
            let response = self.call(self.batch.clone(), &question).await?;
            let answer: Value = response.json().await?;
            Answers::read(&answer, &self.batch, self.mirrored.as_ref())
        };
        retrying(&self.retry, &*self.reporter, "asking for large objects", call).await
    }

    /// A call of the protocol itself, with the credential where its origin allows.
    async fn call(&self, url: Url, body: &Value) -> Result<Response> {
        let request = self.http.post(url).repeatable(true).credential(self.credential.as_ref());
        let request = request.header("accept", MEDIA).header("content-type", MEDIA).json(body);
        request.classify(&self.classifier).answer_within(SLOW).send().await
    }

    async fn send_whole(&self, blob: &Blob, body: &dyn Body, grant: &Grant<'_>) -> Result<(), Stop> {
        loop {
            let granted = grant.current().await;
            let stream = body.read(0..blob.size).await?;
            match self.storage_put(&granted.actions.upload, blob.size).stream(blob.size, stream).send().await {
                Ok(response) => {
                    // The bytes are there; what the storage says about it in a body is of no interest.
                    let _ = response.discard().await;
                    return Ok(());
                }
                Err(error) if is_refused(&error) => grant.renew(&granted, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A `PUT` to the storage: with the headers it was handed out with, never with our credential.
    fn storage_put(&self, action: &Action, size: u64) -> Request {
        let request = self.http.put(action.url.clone()).answer_within(SLOW).classify(&storage_classifier()).bulk(size >= BULK);
        action.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    async fn verify(&self, blob: &Blob, action: &Action) -> Result<()> {
        let call = || async {
            let request = self.http.post(action.url.clone()).repeatable(true);
            let request = action.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let request = request.header("accept", MEDIA).header("content-type", MEDIA).credential(self.credential.as_ref());
            let body = json!({"oid": blob.oid, "size": blob.size});
            request.json(&body).classify(&self.classifier).answer_within(SLOW).send().await?.discard().await
        };
        retrying(&self.retry, &*self.reporter, "verifying a large object", call).await
    }
}

/// Marks the errors that fresh links may cure.
const REFUSED: &str = "the link is no longer accepted";
/// Marks the errors that the bytes themselves may be the cause of.
const NOT_TAKEN: &str = "the storage did not take the bytes";

fn is_refused(error: &Error) -> bool {
    error.message().starts_with(REFUSED)
}

/// Storage refuses signed links, not people: nothing of it is about our rights.
fn storage_classifier() -> Classifier {
    Arc::new(|refusal| {
        let said = refusal.message().map(|text| format!(": {text}")).unwrap_or_default();
        match refusal.status.as_u16() {
            400 if refusal.body.contains("ExpiredToken") => Some(Error::new(Kind::Unavailable, format!("{REFUSED}{said}"))),
            400 if refusal.body.contains("RequestTimeout") => {
                Some(Error::new(Kind::Unavailable, format!("the storage found the upload too slow{said}")))
            }
            401 | 403 | 404 | 410 => Some(Error::new(Kind::Unavailable, format!("{REFUSED}{said}"))),
            400 | 409 | 422 => Some(Error::new(Kind::Unavailable, format!("{NOT_TAKEN}{said}"))),
            _ => None,
        }
    })
}

impl fmt::Debug for Lfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lfs").field("batch", &self.batch.as_str()).field("branch", &self.branch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
