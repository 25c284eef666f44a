//! Lists repositories.

use axum::response::Response;
use hubferry_core::address::RepoKind;
use serde_json::Value;

use super::call::Call;
use super::info::summary;
use super::reply::{Refusal, page};
use crate::store::RepoQuery;

const PAGE: usize = 1000;

/// `GET /api/{kind}`: newest first. A filter by tag finds nothing, because repositories have no tags here.
pub(super) async fn repos(call: Call, kind: Option<RepoKind>) -> Result<Response, Refusal> {
    let limit = call.limit(PAGE, PAGE)?;
    let owned = |name: &str| call.param(name).map(str::to_owned);
    let query = RepoQuery { kind, owner: owned("author"), search: owned("search") };
    let mut before = call.param("cursor").map(|c| c.parse::<i64>().map_err(|_| Refusal::bad_request("unknown cursor"))).transpose()?;
    let mut found: Vec<Value> = Vec::new();
    let filtered = call.params("filter").next().is_some();
    while found.len() < limit && !filtered {
        let repos = call.state.store().list_repos(&query, before, PAGE).await?;
        let last_page = repos.len() < PAGE;
        for repo in &repos {
            if found.len() == limit {
                return Ok(page(&found.into(), Some(next_url(&call, before))));
            }
            before = Some(repo.id);
            if call.state.users().may_see(call.user.as_ref(), repo) {
                found.push(summary(repo).into());
            }
        }
        if last_page {
            break;
        }
    }
    Ok(page(&found.into(), None))
}

fn next_url(call: &Call, before: Option<i64>) -> String {
    let cursor = before.unwrap_or_default();
    next_page(call, &cursor.to_string())
}

/// This request's URL with another cursor.
pub(super) fn next_page(call: &Call, cursor: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(call.query.iter().filter(|(name, _)| name != "cursor"));
    query.append_pair("cursor", cursor);
    format!("{}{}?{}", call.origin(), call.uri.path(), query.finish())
}
