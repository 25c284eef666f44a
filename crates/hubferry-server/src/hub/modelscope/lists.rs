//! Lists of repositories on the legacy surface: an owner's models, an owner's datasets, and the search of the web pages.

use axum::extract::{Query, State};
use bytes::Bytes;
use hubferry_core::address::RepoKind;
use hubferry_core::error::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::envelope::{Answer, Data, Page, Paged, Refusal};
use super::face::Face;
use super::fields::from_json;
use super::repos::describe;
use super::session::Caller;
use crate::store::{Repo, RepoQuery};

/// Repositories read from the store at once.
const STEP: usize = 500;
/// How far the search can be paged.
const WINDOW: usize = 10_000;

/// Every repository that fits and that `visible` lets through, newest first.
pub(super) async fn collect(face: &Face, query: &RepoQuery, visible: impl Fn(&Repo) -> bool) -> Result<Vec<Repo>> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let some = face.store().list_repos(query, before, STEP).await?;
        let last = some.len() < STEP;
        before = some.last().map(|repo| repo.id);
        found.extend(some.into_iter().filter(&visible));
        if last {
            return Ok(found);
        }
    }
}

async fn seen_by(face: &Face, caller: &Caller, query: &RepoQuery) -> Result<Vec<Repo>> {
    collect(face, query, |repo| face.users().may_see(caller.0.as_ref(), repo)).await
}

fn lines(repos: &[Repo]) -> Vec<Value> {
    repos.iter().map(|repo| describe(repo).into()).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModelsWanted {
    path: Option<String>,
    name: Option<String>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

/// `PUT /api/v1/models/`, which is a question in spite of its method.
pub(super) async fn models(State(face): State<Face>, caller: Caller, body: Bytes) -> Answer {
    let wanted: ModelsWanted = from_json(&body)?;
    let page = Page::new(wanted.page_number, wanted.page_size, 10, 100);
    let query = RepoQuery { kind: Some(RepoKind::Model), owner: wanted.path, search: wanted.name };
    let found = seen_by(&face, &caller, &query).await?;
    let total = found.len();
    Ok(Data(json!({"Models": lines(&page.of(found)), "TotalCount": total})))
}

/// `PUT /api/v1/dolphin/models`: the search. Only public models, at most 100 per page, within a window.
pub(super) async fn search(State(face): State<Face>, body: Bytes) -> Answer {
    let wanted: ModelsWanted = from_json(&body)?;
    let page = Page::new(wanted.page_number, wanted.page_size, 10, 100);
    if page.start() >= WINDOW {
        return Err(Refusal::window());
    }
    let query = RepoQuery { kind: Some(RepoKind::Model), owner: wanted.path, search: wanted.name };
    let found = collect(&face, &query, |repo| face.users().may_see(None, repo)).await?;
    let total = found.len();
    Ok(Data(json!({"Model": {"Models": lines(&page.of(found)), "TotalCount": total}})))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DatasetsWanted {
    #[serde(rename = "owner", alias = "Owner")]
    owner: Option<String>,
    query: Option<String>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

/// `GET /api/v1/datasets`. A page past the end is an error here, unlike everywhere else.
pub(super) async fn datasets(State(face): State<Face>, caller: Caller, Query(wanted): Query<DatasetsWanted>) -> Answer<Paged> {
    let page = Page::new(wanted.page_number, wanted.page_size, 10, 100);
    let query = RepoQuery { kind: Some(RepoKind::Dataset), owner: wanted.owner, search: wanted.query };
    let found = seen_by(&face, &caller, &query).await?;
    let total = found.len();
    if page.start() > total {
        return Err(Refusal::past_the_end(page.start(), total));
    }
    Ok(Paged { data: lines(&page.of(found)).into(), total, page })
}
