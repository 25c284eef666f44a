//! Pull requests, as the clients of the Hub open, list, close and merge them. Discussions without commits are not kept here.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hubferry_core::error::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Target, Want, page_url};
use super::call::Call;
use super::reply::{Refusal, date};
use crate::store::{Author, DEFAULT_BRANCH, Pull, PullStatus, Repo};

/// Entries of one page of the list.
const PAGE: usize = 25;
/// Longest title and description that are kept.
const TITLE_LIMIT: usize = 200;
const TEXT_LIMIT: usize = 65_536;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    pull_request: bool,
}

/// `POST /api/{kind}/{id}/discussions`
pub(super) async fn open(mut call: Call, target: Target) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let new: New = call.json().await?;
    if !new.pull_request {
        return Err(Refusal::bad_request("this hub keeps no discussions, only pull requests"));
    }
    let pull = start(&call, &repo, &new.title, &new.description, PullStatus::Draft).await?;
    Ok(axum::Json(json!({ "num": pull.num, "pullRequest": true, "url": url(&call, &repo, &pull) })).into_response())
}

/// Opens a pull request in the name of the caller.
pub(super) async fn start(call: &Call, repo: &Repo, title: &str, description: &str, status: PullStatus) -> Result<Pull, Refusal> {
    let title = title.lines().next().unwrap_or_default().trim();
    if title.chars().count() < 3 || title.chars().count() > TITLE_LIMIT {
        return Err(Refusal::bad_request(format!("the title of a pull request has 3 to {TITLE_LIMIT} characters")));
    }
    if description.len() > TEXT_LIMIT {
        return Err(Refusal::too_large("the description is too long"));
    }
    Ok(call.state.store().open_pull(repo, user(call), title, description.trim(), status).await?)
}

/// Where people look at it.
pub(super) fn url(call: &Call, repo: &Repo, pull: &Pull) -> String {
    format!("{}/discussions/{}", page_url(call, repo), pull.num)
}

/// `GET /api/{kind}/{id}/discussions`
pub(super) async fn list(call: Call, target: Target) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let page: usize = call.param("p").unwrap_or("0").parse().map_err(|_| Refusal::bad_request("p must be a number"))?;
    let mut found = call.state.store().pulls(&repo).await?;
    found.retain(|pull| {
        let of_kind = !matches!(call.param("type"), Some("discussion"));
        let of_author = call.param("author").is_none_or(|author| author == pull.author);
        let is_open = matches!(pull.status, PullStatus::Open | PullStatus::Draft);
        let of_status = match call.param("status") {
            Some("open") => is_open,
            Some("closed") => !is_open,
            _ => true,
        };
        of_kind && of_author && of_status
    });
    let start = page.saturating_mul(PAGE);
    let shown: Vec<Value> = found.iter().skip(start).take(PAGE).map(|pull| summary(&repo, pull)).collect();
    let closed = found.iter().filter(|pull| matches!(pull.status, PullStatus::Closed | PullStatus::Merged)).count();
    let body = json!({ "discussions": shown, "count": found.len(), "start": start, "numClosedDiscussions": closed });
    Ok(axum::Json(body).into_response())
}

/// `GET /api/{kind}/{id}/discussions/{num}`
pub(super) async fn details(call: Call, target: Target, num: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let pull = find(&call, &repo, num).await?;
    let mut body = summary(&repo, &pull);
    body["changes"] = json!({ "base": format!("refs/heads/{DEFAULT_BRANCH}") });
    if let Some(commit) = pull.merged {
        body["changes"]["mergeCommitId"] = commit.to_string().into();
    }
    body["filesWithConflicts"] = json!([]);
    body["diff"] = "".into();
    let mut events = vec![json!({
        "id": event_id(&pull, 0), "type": "comment", "createdAt": date(pull.created), "author": { "name": pull.author },
        "data": { "edited": false, "hidden": false, "latest": { "raw": pull.description } },
    })];
    let store = call.state.store();
    let head = store.resolve(&repo, &pull.reference()).await?;
    let mut commits = store.commits(&repo, head, 0, usize::MAX >> 1).await?;
    commits.truncate(commits.iter().position(|commit| commit.id == pull.base).unwrap_or(commits.len()));
    for commit in commits.iter().rev() {
        events.push(json!({
            "id": event_id(&pull, events.len()), "type": "commit", "createdAt": date(commit.time), "author": { "name": commit.author_name() },
            "data": { "subject": commit.title(), "oid": commit.id.to_string() },
        }));
    }
    if pull.status != PullStatus::Draft {
        events.push(status_change(&pull, events.len(), pull.status));
    }
    body["events"] = events.into();
    Ok(axum::Json(body).into_response())
}

#[derive(Deserialize)]
struct NewStatus {
    status: String,
}

/// `POST /api/{kind}/{id}/discussions/{num}/status`
pub(super) async fn set_status(mut call: Call, target: Target, num: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let pull = find(&call, &repo, num).await?;
    let wanted: NewStatus = call.json().await?;
    let status = match wanted.status.as_str() {
        "open" => PullStatus::Open,
        "closed" => PullStatus::Closed,
        other => return Err(Refusal::bad_request(format!("a pull request cannot become {other:?}"))),
    };
    call.state.store().set_pull_status(&repo, pull.num, status).await.map_err(refused)?;
    Ok(axum::Json(json!({ "newStatus": status_change(&pull, 1, status) })).into_response())
}

/// `POST /api/{kind}/{id}/discussions/{num}/merge`
pub(super) async fn merge(call: Call, target: Target, num: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let pull = find(&call, &repo, num).await?;
    let commit = call.state.store().merge_pull(&repo, pull.num, Author::user(user(&call))).await.map_err(refused)?;
    Ok(axum::Json(json!({ "mergeCommitId": commit.to_string() })).into_response())
}

/// The pull request whose commits a revision names, if it still takes any.
pub(super) async fn of_revision(call: &Call, repo: &Repo, rev: &str) -> Result<Option<Pull>, Refusal> {
    let Some(num) = rev.strip_prefix(crate::store::PULLS) else { return Ok(None) };
    let pull = find(call, repo, num).await.map_err(|_| Refusal::no_revision(rev))?;
    match pull.status {
        PullStatus::Draft | PullStatus::Open => Ok(Some(pull)),
        PullStatus::Closed | PullStatus::Merged => Err(Refusal::bad_request(format!("the pull request is {}", pull.status.word()))),
    }
}

fn event_id(pull: &Pull, number: usize) -> String {
    format!("{:012x}{number:012x}", pull.num)
}

fn status_change(pull: &Pull, number: usize, status: PullStatus) -> Value {
    json!({
        "id": event_id(pull, number), "type": "status-change", "createdAt": date(pull.created), "author": { "name": pull.author },
        "data": { "status": status.word() },
    })
}

async fn find(call: &Call, repo: &Repo, num: &str) -> Result<Pull, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "Discussion not found");
    let num: i64 = num.parse().map_err(|_| missing())?;
    call.state.store().pull(repo, num).await?.ok_or_else(missing)
}

fn summary(repo: &Repo, pull: &Pull) -> Value {
    json!({
        "num": pull.num,
        "title": pull.title,
        "author": { "name": pull.author },
        "createdAt": date(pull.created),
        "status": pull.status.word(),
        "isPullRequest": true,
        "repo": { "name": repo.full_name(), "type": repo.kind.to_string() },
    })
}

fn user(call: &Call) -> &str {
    call.user.as_ref().map_or("", |user| &user.name)
}

fn refused(error: hubferry_core::error::Error) -> Refusal {
    match error.kind() {
        Kind::Conflict => Refusal::new(StatusCode::CONFLICT, error.message().to_owned()),
        _ => Refusal::from(error),
    }
}
