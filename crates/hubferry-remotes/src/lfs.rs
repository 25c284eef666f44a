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
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::http::{Classifier, Credential, Http, Origin, Request, Response};
use hubferry_core::transfer::retry::{RetryPolicy, retrying};

mod answer;
mod parts;

pub use answer::Action;
use answer::{Actions, Answers};

/// Objects per batch call that every server takes.
const BATCH: usize = 256;
/// The media type of the protocol.
const MEDIA: &str = "application/vnd.git-lfs+json";
/// How long the actions of one answer are used before they are asked for again; servers sign them for an hour or more.
const FRESH: Duration = Duration::from_mins(15);
/// A server may hash or copy a large object before it answers.
const SLOW: Duration = Duration::from_mins(5);

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
}

/// Upload actions by object, as they came with the answer what is missing.
#[derive(Debug, Default)]
pub struct Kept(Mutex<HashMap<Oid, (Instant, Actions)>>);

impl Kept {
    fn keep(&self, oid: Oid, actions: Actions) {
        // A very large object has thousands of links; those are cheaper to ask for again than to hold.
        if actions.links() <= 64 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(oid, (Instant::now(), actions));
        }
    }

    fn take(&self, oid: &Oid) -> Option<Actions> {
        let (at, actions) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(oid)?;
        (at.elapsed() < FRESH).then_some(actions)
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
                    self.kept.keep(blob.oid, actions);
                }
            }
        }
        Ok(missing)
    }

    /// Stores one object; nothing is sent when the server holds it already.
    pub async fn upload(&self, blob: &Blob, body: &dyn Body) -> Result<()> {
        let mut actions = match self.kept.take(&blob.oid) {
            Some(actions) => actions,
            None => match self.ask("upload", std::slice::from_ref(blob)).await?.upload(blob)? {
                Some(actions) => actions,
                None => return Ok(()),
            },
        };
        let mut done = HashMap::new();
        let mut renewed = false;
        loop {
            let result = match actions.part_size() {
                Some(size) => parts::send(self, blob, body, &actions, size, &mut done).await,
                None => self.send_whole(blob, body, &actions.upload).await,
            };
            match result {
                Ok(()) => break,
                Err(error) if is_expired(&error) && !renewed => {
                    renewed = true;
                    let Some(fresh) = self.ask("upload", std::slice::from_ref(blob)).await?.upload(blob)? else { return Ok(()) };
                    // Parts belong to one upload on the server; another upload starts with none.
                    if fresh.upload.url != actions.upload.url || fresh.part_size() != actions.part_size() {
                        done.clear();
                    }
                    actions = fresh;
                }
                Err(error) => return Err(error),
            }
        }
        match &actions.verify {
            Some(action) => self.verify(blob, action).await,
            None => Ok(()),
        }
    }

    /// Where the bytes of one object can be read.
    pub async fn download(&self, blob: &Blob) -> Result<Action> {
        self.ask("download", std::slice::from_ref(blob)).await?.download(blob)
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

    async fn send_whole(&self, blob: &Blob, body: &dyn Body, action: &Action) -> Result<()> {
        let stream = body.read(0..blob.size).await?;
        let response = self.storage_put(action).stream(blob.size, stream).send().await?;
        // The bytes are there; what the storage says about it in a body is of no interest.
        let _ = response.discard().await;
        Ok(())
    }

    /// A `PUT` to the storage: with the headers it was handed out with, never with our credential.
    fn storage_put(&self, action: &Action) -> Request {
        let request = self.http.put(action.url.clone()).answer_within(SLOW).classify(&storage_classifier());
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
const EXPIRED: &str = "the link is no longer accepted";

fn is_expired(error: &Error) -> bool {
    error.message().starts_with(EXPIRED)
}

/// Storage refuses signed links, not people: nothing of it is about our rights.
fn storage_classifier() -> Classifier {
    Arc::new(|refusal| {
        let said = refusal.message().map(|text| format!(": {text}")).unwrap_or_default();
        match refusal.status.as_u16() {
            400 if refusal.body.contains("RequestTimeout") || refusal.body.contains("ExpiredToken") => {
                Some(Error::new(Kind::Unavailable, format!("{EXPIRED}{said}")))
            }
            401 | 403 | 404 | 410 => Some(Error::new(Kind::Unavailable, format!("{EXPIRED}{said}"))),
            400 | 409 | 422 => Some(Error::new(Kind::Unavailable, format!("the storage did not take the bytes{said}"))),
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
