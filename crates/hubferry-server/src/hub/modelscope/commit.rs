//! Commits: actions are checked one by one as they arrive, contents go to the store, and then everything becomes visible at once.

use std::collections::HashSet;
use std::io::Read;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind};
use hubferry_core::manifest::RepoPath;
use serde_json::json;

use super::access::Access;
use super::actions::{self, Action, MAX_ACTIONS, MAX_BODY, Summary};
use super::envelope::{Answer, Data, Refusal};
use super::face::Face;
use crate::hub::body;
use crate::store::{Author, Change, Op, Repo, Staging, swap_default_branch};

/// Longest commit message, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// `POST /api/v1/repos/{kind}/{owner}/{name}/commit/{branch}`.
pub(super) async fn commit(State(face): State<Face>, request: Request) -> Answer {
    let (mut parts, content) = request.into_parts();
    let wanted = match admit(&face, &mut parts).await {
        Ok(wanted) => wanted,
        Err(refusal) => {
            body::drain(content).await;
            return Err(refusal);
        }
    };
    let spooled = face.store().spool(content.into_data_stream(), MAX_BODY).await?.ok_or_else(|| Refusal::too_large(MAX_BODY))?;
    // From here on megabytes are in memory: a few requests at a time. None of them waits for its client any more.
    let _turn = face.hub().commits().acquire().await;
    let (ops, summary) = collect(&face, spooled).await?;
    if summary.count > MAX_ACTIONS {
        return Err(Refusal::too_many_actions(summary.count, MAX_ACTIONS));
    }
    if summary.message.len() > MAX_MESSAGE {
        return Err(Refusal::invalid(format!("commit_message has more than {MAX_MESSAGE} bytes")));
    }
    if ops.is_empty() {
        return Err(Refusal::invalid_action("there is none"));
    }
    let message = if summary.message.trim().is_empty() { "Update files" } else { summary.message.as_str() };
    // A commit that changes nothing is answered with the head, as if it had been made.
    let change = Change { allow_empty: false, ..Change::new(&wanted.branch, wanted.author, message, ops) };
    let done = face.store().commit(&wanted.repo, change).await.map_err(|error| refused(&error))?;
    Ok(Data(json!({"oid": done.commit})))
}

/// Where a commit goes, and who makes it.
struct Wanted {
    repo: Repo,
    branch: String,
    author: Author,
}

/// Everything that can be refused before the body is read.
async fn admit(face: &Face, parts: &mut Parts) -> Answer<Wanted> {
    let access = Access::from_request_parts(parts, face).await?;
    let author = Author::user(&access.writer(face)?.name);
    let Path((_, _, _, branch)): Path<(String, String, String, String)> =
        Path::from_request_parts(parts, face).await.map_err(|_| Refusal::not_a_branch())?;
    let branch = swap_default_branch(&branch).to_owned();
    if !face.store().is_branch(&access.repo, &branch).await? {
        return Err(Refusal::not_a_branch());
    }
    Ok(Wanted { repo: access.repo, branch, author })
}

/// Reads all actions. The first bad one ends the reading and refuses the commit.
async fn collect(face: &Face, body: impl Read + Send + 'static) -> Answer<(Vec<Op>, Summary)> {
    let (mut actions, end) = actions::read(body);
    let mut staging = face.store().staging();
    let mut seen = HashSet::new();
    let mut ops = Vec::new();
    while let Some(action) = actions.recv().await {
        let op = check(&mut staging, action).await?;
        if let Op::Put { path, .. } | Op::PutLfs { path, .. } | Op::DeleteFile { path } = &op
            && !seen.insert(path.clone())
        {
            return Err(Refusal::invalid_action(format!("{path:?} is named twice")));
        }
        ops.push(op);
    }
    let summary = end.await.map_err(|e| Error::new(Kind::Bug, "reading a commit ended without an answer").caused_by(e))??;
    Ok((ops, summary))
}

/// Turns one action into an operation. `create` and `update` are the same: both put a file, whether or not there was one.
async fn check(staging: &mut Staging<'_>, action: Action) -> Answer<Op> {
    let path = RepoPath::new(action.path).map_err(|error| Refusal::invalid_action(error.message()))?;
    match (action.verb.as_str(), action.kind.as_str()) {
        ("delete", "normal" | "lfs") => Ok(Op::DeleteFile { path }),
        ("create" | "update", "lfs") => {
            let oid: Oid = action.sha256.parse().map_err(|_| Refusal::invalid_action(format!("{path:?} has no sha256")))?;
            Ok(Op::PutLfs { path, oid, size: Some(action.size) })
        }
        ("create" | "update", "normal") => {
            let content = staging.put(action.content).await?;
            if content.blob.size != action.size {
                let why = format!("{path:?} has {} bytes, not {}", content.blob.size, action.size);
                return Err(Refusal::invalid_action(why));
            }
            if !action.sha256.is_empty() && action.sha256.parse().ok() != Some(content.blob.oid) {
                return Err(Refusal::invalid_action(format!("{path:?} does not have the sha256 it names")));
            }
            Ok(Op::Put { path, content })
        }
        (verb, kind) => Err(Refusal::invalid_action(format!("{verb:?} of type {kind:?}"))),
    }
}

/// Why the store did not take the commit: an absent path, an object that was not uploaded, a file where a folder is.
fn refused(error: &Error) -> Refusal {
    match error.kind() {
        Kind::NotFound | Kind::Invalid => {
            let place = error.contexts().iter().find(|(key, _)| matches!(*key, "path" | "oid"));
            let place = place.map(|(key, value)| format!(" ({key} {value})")).unwrap_or_default();
            Refusal::invalid_action(format!("{}{place}", error.message()))
        }
        _ => error.duplicate().into(),
    }
}
