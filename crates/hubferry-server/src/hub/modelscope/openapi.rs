//! The OpenAPI surface: snake_case, bearer tokens, and only what is public.

use axum::extract::{Path, Query, State};
use hubferry_core::address::RepoId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::kind;
use super::envelope::{Answer, Data, Page, Refusal};
use super::face::Face;
use super::lists::collect;
use crate::store::{Gated, Repo, RepoQuery};

/// Most lines per page, and how far one can page.
const MAX_PAGE: usize = 50;
const WINDOW: usize = 3000;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(alias = "author")]
    owner: Option<String>,
    search: Option<String>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

/// `GET /openapi/v1/{models|datasets}`.
pub(super) async fn list(State(face): State<Face>, Path(segment): Path<String>, Query(wanted): Query<Wanted>) -> Answer {
    let kind = kind(&segment).ok_or_else(Refusal::no_route)?;
    let page = Page::new(wanted.page_number, wanted.page_size, 10, MAX_PAGE);
    if page.number.saturating_mul(page.size) > WINDOW {
        return Err(Refusal::invalid(format!("page_number * page_size must be <= {WINDOW}")));
    }
    let query = RepoQuery { kind: Some(kind), owner: wanted.owner, search: wanted.search };
    let found = collect(&face, &query, |repo| face.users().may_see(None, repo)).await?;
    let total = found.len();
    let lines: Vec<Value> = page.of(found).iter().map(about).collect();
    Ok(Data(json!({segment: lines, "total_count": total, "page_number": page.number, "page_size": page.size})))
}

/// `GET /openapi/v1/{models|datasets}/{owner}/{name}`. Private repositories are not there, not even for their owner; clients then
/// ask the legacy surface.
pub(super) async fn detail(State(face): State<Face>, Path((segment, owner, name)): Path<(String, String, String)>) -> Answer {
    let kind = kind(&segment).ok_or_else(Refusal::no_route)?;
    let id = RepoId::new(Some(&owner), &name).map_err(|_| Refusal::no_record())?;
    let found = face.store().find_repo(kind, &id).await?.map(|found| found.repo);
    let repo = found.filter(|repo| face.users().may_see(None, repo)).ok_or_else(Refusal::no_record)?;
    let mut about = about(&repo);
    about["file_size"] = face.storage_size(&repo).await?.into();
    about["readme"] = face.card(&repo).await?.into();
    Ok(Data(about))
}

fn about(repo: &Repo) -> Value {
    let kept = |name: &str| repo.details.get(name).and_then(Value::as_str).unwrap_or_default();
    let display = Some(kept("ChineseName")).filter(|name| !name.is_empty()).unwrap_or(&repo.name);
    json!({
        "id": repo.full_name(),
        "display_name": display,
        "description": kept("Description"),
        "downloads": 0,
        "likes": 0,
        "license": repo.license,
        "tasks": [],
        "tags": [],
        "created_at": iso(repo.created),
        "last_modified": iso(repo.modified),
        "private": false,
        "gated": repo.gated != Gated::No,
    })
}

fn iso(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
