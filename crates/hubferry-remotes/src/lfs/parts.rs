//! One object in parts: each is streamed and tried again alone, then all are joined.

use std::collections::HashMap;
use std::ops::Range;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use hubferry_core::error::{Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::Body;
use serde_json::{Value, json};

use super::answer::{Action, Actions};
use super::{Lfs, MEDIA, SLOW, is_expired, storage_classifier};
use hubferry_core::transfer::retry::retrying;

/// Sends the parts that are not in `done` yet, `size` bytes each, and completes the upload. `done` grows with every part, so that
/// an upload continued with fresh links sends none twice.
pub(super) async fn send(
    lfs: &Lfs,
    blob: &Blob,
    body: &dyn Body,
    actions: &Actions,
    size: u64,
    done: &mut HashMap<usize, String>,
) -> Result<()> {
    let open: Vec<usize> = (0..actions.parts().len()).filter(|number| !done.contains_key(number)).collect();
    let sending = open.into_iter().map(|number| async move {
        let start = number as u64 * size;
        let range = start..start.saturating_add(size).min(blob.size);
        let action = Action { url: actions.parts()[number].clone(), headers: Vec::new() };
        Ok::<_, hubferry_core::error::Error>((number, part(lfs, body, &action, range, number).await?))
    });
    let mut sent = stream::iter(sending).buffer_unordered(lfs.parallel_parts.max(1));
    while let Some((number, etag)) = sent.try_next().await? {
        done.insert(number, etag);
    }
    drop(sent);
    complete(lfs, blob, actions, done).await
}

/// Sends one part and gives the tag the storage answers with.
async fn part(lfs: &Lfs, body: &dyn Body, action: &Action, range: Range<u64>, number: usize) -> Result<String> {
    let what = format!("sending part {}", number + 1);
    let call = || {
        let range = range.clone();
        async move {
            let stream = body.read(range.clone()).await?;
            let response = lfs.storage_put(action).stream(range.end - range.start, stream).send().await?;
            let etag = response.header("etag").map(str::trim).filter(|etag| !etag.is_empty()).map(str::to_owned);
            let missing = response.error(Kind::Unavailable, "the storage took a part but did not name it");
            let _ = response.discard().await;
            etag.ok_or(missing)
        }
    };
    // A refused link is not worth a second try: fresh ones are asked for at once.
    let call = || async {
        match call().await {
            Err(error) if is_expired(&error) => Err(error.retry_as(hubferry_core::error::Retry::No)),
            other => other,
        }
    };
    retrying(&lfs.retry, &*lfs.reporter, &what, call).await
}

async fn complete(lfs: &Lfs, blob: &Blob, actions: &Actions, done: &HashMap<usize, String>) -> Result<()> {
    let parts: Vec<Value> = (0..actions.parts().len()).map(|number| json!({"partNumber": number + 1, "etag": done.get(&number)})).collect();
    let body = json!({"oid": blob.oid, "parts": parts});
    let call = || async {
        // The link is signed; the protocol wants no credential here.
        let request = lfs.http.post(actions.upload.url.clone()).repeatable(true).answer_within(SLOW);
        let request = actions.upload.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.header("accept", MEDIA).header("content-type", MEDIA).json(&body);
        request.classify(&storage_classifier()).send().await?.discard().await
    };
    retrying(&lfs.retry, &*lfs.reporter, "joining the parts of a large object", call).await
}
