//! The commit request: one JSON object per line, read without ever holding more than a line.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bytes::Bytes;
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Kind};
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;
use serde_json::json;

use super::access::{Target, Want, page_url};
use super::attributes::{REGULAR_LIMIT, is_binary};
use super::call::Call;
use super::pulls;
use super::reply::Refusal;
use crate::store::{Author, Change, DEFAULT_BRANCH, Op, Pull, PullStatus, Repo, Spool, Staging};

/// Most bytes and operations of one commit.
const BODY_LIMIT: u64 = 1024 * 1024 * 1024;
const MOST_OPS: usize = 50_000;
/// The largest file inside a commit as base64, and its path.
const LINE_LIMIT: usize = 15 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(tag = "key", content = "value", rename_all = "camelCase")]
enum Line {
    #[serde(rename_all = "camelCase")]
    Header {
        summary: String,
        #[serde(default)]
        description: Option<String>,
        #[serde(default)]
        parent_commit: Option<String>,
    },
    File {
        path: String,
        content: String,
        #[serde(default)]
        encoding: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    LfsFile {
        path: String,
        #[serde(default)]
        algo: Option<String>,
        oid: Oid,
        #[serde(default)]
        size: Option<u64>,
    },
    DeletedFile {
        path: String,
    },
    DeletedFolder {
        path: String,
    },
}

/// What a whole request says.
#[derive(Default)]
struct Wanted {
    header: Option<(String, Option<String>)>,
    ops: Vec<Op>,
}

/// `POST /api/{kind}/{id}/commit/{rev}`
pub(super) async fn commit(mut call: Call, target: Target, rev: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let opens = call.is_on("create_pr");
    if opens && rev != DEFAULT_BRANCH {
        return Err(Refusal::bad_request(format!("a pull request can only be made for {DEFAULT_BRANCH}")));
    }
    let body = call.take_body().into_data_stream();
    let store = call.state.store();
    check_branch(&call, &repo, rev).await?;
    let spool = store.spool(body, BODY_LIMIT).await?;
    let spool = spool.ok_or_else(|| Refusal::too_large("the commit is too large: send less per commit, or large files by LFS"))?;
    let _turn = call.state.commits().acquire().await.map_err(|e| Error::new(Kind::Bug, "no turn").caused_by(e))?;
    let wanted = read(spool, store.staging()).await?;
    let (message, parent) = wanted.header.ok_or_else(|| Refusal::bad_request("the commit has no header"))?;
    let author = Author::user(call.user.as_ref().map_or("", |user| &user.name));
    let parent = parent_of(&call, &repo, parent.as_deref()).await?;
    let pull = if opens {
        let (title, description) = message.split_once('\n').unwrap_or((&message, ""));
        Some(pulls::start(&call, &repo, title, description, PullStatus::Open).await?)
    } else {
        pulls::of_revision(&call, &repo, rev).await?
    };
    let branch = pull.as_ref().map_or_else(|| rev.to_owned(), Pull::reference);
    let mut change = Change::new(&branch, author, &message, wanted.ops);
    change.own_objects_only = true;
    change.parent = parent;
    let done = store.commit(&repo, change).await.map_err(|error| refused(error, rev));
    if let (true, Err(_), Some(pull)) = (opens, &done, &pull) {
        store.set_pull_status(&repo, pull.num, PullStatus::Closed).await?;
    }
    let done = done?;
    let url = format!("{}/commit/{}", page_url(&call, &repo), done.commit);
    let mut body = json!({ "success": true, "commitOid": done.commit.to_string(), "commitUrl": url, "hookOutput": "" });
    if let Some(pull) = pull {
        body["pullRequestUrl"] = pulls::url(&call, &repo, &pull).into();
    }
    Ok(axum::Json(body).into_response())
}

async fn check_branch(call: &Call, repo: &Repo, rev: &str) -> Result<(), Refusal> {
    if pulls::of_revision(call, repo, rev).await?.is_some() {
        return Ok(());
    }
    let store = call.state.store();
    if store.is_branch(repo, rev.strip_prefix("refs/heads/").unwrap_or(rev)).await? {
        return Ok(());
    }
    super::access::commit_at(call, repo, rev).await?;
    Err(Refusal::bad_request(format!("{rev} is not a branch: commits can only be made on branches")))
}

/// The commit a client believes to be the head. One that is unknown cannot be it.
async fn parent_of(call: &Call, repo: &Repo, parent: Option<&str>) -> Result<Option<GitOid>, Refusal> {
    let Some(parent) = parent else { return Ok(None) };
    if !(5..=40).contains(&parent.len()) || !parent.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Refusal::bad_request("parentCommit must be a commit id"));
    }
    call.state.store().find_commit(repo, parent).await?.map(Some).ok_or_else(moved)
}

fn moved() -> Refusal {
    Refusal::new(StatusCode::PRECONDITION_FAILED, "A commit has happened since. Please refresh and try again.")
}

fn refused(error: Error, rev: &str) -> Refusal {
    match error.kind() {
        Kind::Conflict => moved(),
        Kind::NotFound if error.to_string().starts_with("invalid rev") => Refusal::no_revision(rev),
        Kind::NotFound => Refusal::no_file(&error.to_string()),
        _ => Refusal::from(error),
    }
}

async fn read(mut spool: Spool, mut staging: Staging<'_>) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted::default();
    let mut number = 0_usize;
    while let Some(text) = spool.line(LINE_LIMIT).await.map_err(|error| match error.kind() {
        Kind::Invalid => Refusal::too_large(error.to_string()),
        _ => Refusal::from(error),
    })? {
        number += 1;
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|e| Refusal::bad_request(format!("line {number}: {e}")))?;
        drop(text);
        wanted.take(line, &mut staging).await?;
    }
    Ok(wanted)
}

impl Wanted {
    async fn take(&mut self, line: Line, staging: &mut Staging<'_>) -> Result<(), Refusal> {
        let op = match line {
            Line::Header { summary, description, parent_commit } => {
                if self.header.is_some() {
                    return Err(Refusal::bad_request("the commit has two headers"));
                }
                self.header = Some((message(&summary, description.as_deref()), parent_commit));
                return Ok(());
            }
            Line::File { path, content, encoding } => {
                let path = checked(&path)?;
                let bytes = decode(&path, content, encoding.as_deref())?;
                Op::Put { path, content: staging.put(bytes).await? }
            }
            Line::LfsFile { algo: Some(algo), .. } if algo != "sha256" => {
                return Err(Refusal::bad_request(format!("unknown hash algorithm {algo:?}")));
            }
            Line::LfsFile { path, oid, size, .. } => Op::PutLfs { path: checked(&path)?, oid, size },
            Line::DeletedFile { path } => Op::DeleteFile { path: checked(&path)? },
            Line::DeletedFolder { path } => Op::DeleteFolder { path: checked(path.trim_end_matches('/'))? },
        };
        if self.header.is_none() {
            return Err(Refusal::bad_request("the commit's first line must be its header"));
        }
        if self.ops.len() == MOST_OPS {
            return Err(Refusal::too_large(format!("a commit takes at most {MOST_OPS} operations")));
        }
        self.ops.push(op);
        Ok(())
    }
}

fn message(summary: &str, description: Option<&str>) -> String {
    match description.map(str::trim) {
        None | Some("") => summary.to_owned(),
        Some(description) => format!("{summary}\n\n{description}"),
    }
}

fn checked(path: &str) -> Result<RepoPath, Refusal> {
    RepoPath::new(path).map_err(|error| Refusal::bad_request(error.to_string()))
}

fn decode(path: &RepoPath, content: String, encoding: Option<&str>) -> Result<Bytes, Refusal> {
    let bytes = match encoding {
        Some("base64") => base64::engine::general_purpose::STANDARD
            .decode(content)
            .map_err(|_| Refusal::bad_request(format!("the content of {path:?} is not base64")))?,
        None | Some("utf-8") => content.into_bytes(),
        Some(other) => return Err(Refusal::bad_request(format!("unknown encoding {other:?}"))),
    };
    if bytes.len() as u64 > REGULAR_LIMIT {
        return Err(Refusal::too_large(format!("{path:?} has more than 10 MiB: send it by LFS")));
    }
    if is_binary(&bytes) {
        return Err(Refusal::bad_request(format!(
            "Your push was rejected because it contains binary files. Please use https://git-lfs.github.com/ to store binary files. Offending files: - {path}"
        )));
    }
    Ok(bytes.into())
}
