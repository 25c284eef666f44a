//! Branches, tags and history.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hubferry_core::error::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Target, Want, commit_at};
use super::call::Call;
use super::reply::{Refusal, date, page, quoted};
use crate::store::{Author, BRANCHES, DEFAULT_BRANCH, Ref, TAGS};

const COMMITS_PAGE: usize = 50;

/// `GET /api/{kind}/{id}/refs`
pub(super) async fn list(call: Call, target: Target) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let all = call.state.store().refs(&repo, "refs/").await?;
    let under = |prefix: &str| all.iter().filter_map(|r| one(r, prefix)).collect::<Vec<_>>();
    let mut body = json!({ "branches": under(BRANCHES), "converts": under("refs/convert/"), "tags": under(TAGS) });
    if call.is_on("include_prs") {
        body["pullRequests"] = under("refs/pr/").into();
    }
    Ok(axum::Json(body).into_response())
}

fn one(r: &Ref, prefix: &str) -> Option<Value> {
    let name = r.name.strip_prefix(prefix)?;
    Some(json!({ "name": name, "ref": r.name, "targetCommit": r.target.to_string() }))
}

/// `GET /api/{kind}/{id}/commits/{rev}`
pub(super) async fn commits(call: Call, target: Target, rev: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::See).await?;
    let from = commit_at(&call, &repo, rev).await?;
    let limit = call.limit(COMMITS_PAGE, 1000)?;
    let number: usize = call.param("p").unwrap_or("0").parse().map_err(|_| Refusal::bad_request("p must be a number"))?;
    let store = call.state.store();
    let total = store.count_commits(&repo, from).await?;
    let found = store.commits(&repo, from, number.saturating_mul(limit), limit).await?;
    let formatted = call.params("expand").any(|field| field == "formatted");
    let body: Vec<Value> = found
        .iter()
        .map(|commit| {
            let mut value = json!({
                "id": commit.id.to_string(),
                "title": commit.title(),
                "message": commit.description(),
                "authors": [{ "user": commit.author_name(), "avatar": "" }],
                "date": date(commit.time),
            });
            if formatted {
                value["formatted"] = json!({ "title": commit.title(), "message": commit.description() });
            }
            value
        })
        .collect();
    let seen = (number as u64).saturating_add(1).saturating_mul(limit as u64);
    let next = (seen < total).then(|| {
        let others = call.query.iter().filter(|(name, _)| name != "p");
        let mut query: Vec<String> = others.map(|(name, value)| format!("{}={}", quoted(name), quoted(value))).collect();
        query.push(format!("p={}", number + 1));
        format!("{}{}?{}", call.origin(), call.uri.path(), query.join("&"))
    });
    let mut response = page(&body.into(), next);
    super::reply::set(response.headers_mut(), axum::http::HeaderName::from_static("x-total-count"), &total.to_string());
    Ok(response)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewBranch {
    #[serde(default)]
    starting_point: Option<String>,
    #[serde(default)]
    empty_branch: bool,
    #[serde(default)]
    overwrite: bool,
}

/// `POST /api/{kind}/{id}/branch/{name}`
pub(super) async fn create_branch(mut call: Call, target: Target, name: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let wanted: NewBranch = call.json().await?;
    let store = call.state.store();
    let done = if wanted.empty_branch {
        let author = Author::user(call.user.as_ref().map_or("", |user| &user.name));
        store.create_empty_branch(&repo, name, author, wanted.overwrite).await.map(drop)
    } else {
        let at = commit_at(&call, &repo, wanted.starting_point.as_deref().unwrap_or(DEFAULT_BRANCH)).await?;
        store.create_branch(&repo, name, at, wanted.overwrite).await
    };
    match done {
        Ok(()) => Ok(axum::Json(json!({})).into_response()),
        Err(error) if error.kind() == Kind::Conflict => {
            Err(Refusal::new(StatusCode::CONFLICT, format!("Reference already exists: {BRANCHES}{name}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /api/{kind}/{id}/branch/{name}`
pub(super) async fn delete_branch(call: &Call, target: &Target, name: &str) -> Result<Response, Refusal> {
    let repo = target.open(call, Want::Write).await?;
    let done = call.state.store().delete_branch(&repo, name).await;
    done.map_err(|error| missing_ref(error, name))?;
    Ok(axum::Json(json!({})).into_response())
}

#[derive(Deserialize)]
struct NewTag {
    tag: String,
    #[serde(default)]
    message: Option<String>,
}

/// `POST /api/{kind}/{id}/tag/{rev}`
pub(super) async fn create_tag(mut call: Call, target: Target, rev: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let wanted: NewTag = call.json().await?;
    let at = commit_at(&call, &repo, rev).await?;
    match call.state.store().create_tag(&repo, &wanted.tag, at, wanted.message.as_deref()).await {
        Ok(()) => Ok(axum::Json(json!({})).into_response()),
        Err(error) if error.kind() == Kind::Conflict => {
            Err(Refusal::new(StatusCode::CONFLICT, format!("Tag reference exists already: {}", wanted.tag)))
        }
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /api/{kind}/{id}/tag/{name}`
pub(super) async fn delete_tag(call: &Call, target: &Target, name: &str) -> Result<Response, Refusal> {
    let repo = target.open(call, Want::Write).await?;
    let done = call.state.store().delete_tag(&repo, name).await;
    done.map_err(|error| missing_ref(error, name))?;
    Ok(axum::Json(json!({})).into_response())
}

fn missing_ref(error: hubferry_core::error::Error, name: &str) -> Refusal {
    match error.kind() {
        Kind::NotFound => Refusal::no_revision(name),
        _ => Refusal::from(error),
    }
}

#[derive(Deserialize)]
struct Squash {
    #[serde(default)]
    message: Option<String>,
}

/// `POST /api/{kind}/{id}/super-squash/{branch}`
pub(super) async fn squash(mut call: Call, target: Target, branch: &str) -> Result<Response, Refusal> {
    let repo = target.open(&call, Want::Write).await?;
    let wanted: Squash = call.json().await?;
    let author = Author::user(call.user.as_ref().map_or("", |user| &user.name));
    let message = wanted.message.unwrap_or_else(|| "Super-squash branch".to_owned());
    let done = call.state.store().squash(&repo, branch, author, &message).await;
    let commit = done.map_err(|error| missing_ref(error, branch))?;
    Ok(axum::Json(json!({ "commitId": commit.to_string() })).into_response())
}
