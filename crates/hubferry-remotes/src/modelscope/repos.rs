//! The repositories of an owner, page by page.

use std::collections::BTreeSet;

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::transfer::retry::{RetryPolicy, retrying};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Answer, Api};
use super::fault::Route;
use super::listing::is_past_the_end;
use crate::http::Request;

/// The most that the hub puts on one page.
const PAGE: usize = 100;
/// More pages than any owner fills.
const MOST_PAGES: usize = 2000;

/// Every repository of `kind` that `owner` has and that our token may see, in order.
pub(super) async fn repos(api: &Api, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
    let mut found = BTreeSet::new();
    for number in 1..=MOST_PAGES {
        let ask = || async { api.call(Route::List, question(api, kind, owner, number)?).await };
        let policy = RetryPolicy::default();
        let answer = retrying(&policy, &*api.reporter, &format!("listing the {} of {owner}", kind.plural()), ask).await;
        let Answer { data, total } = match answer {
            Ok(answer) => answer,
            Err(error) if number > 1 && is_past_the_end(&error) => break,
            Err(error) => return Err(error),
        };
        let rows = data.get("Models").unwrap_or(&data);
        let rows = match rows {
            Value::Null => &[][..],
            Value::Array(rows) => rows,
            _ => return Err(Error::invalid(format!("the {} of {owner} are not listed as a list", kind.plural()))),
        };
        let before = found.len();
        for row in rows {
            let text = |names: &[&str]| names.iter().find_map(|name| row.get(*name)?.as_str());
            let name = text(&["Name"]).ok_or_else(|| Error::invalid("the listing has a repository without a name"))?;
            let whose = text(&["Path", "Namespace", "Owner"]).unwrap_or(owner);
            // The search behind the listing may be wider than what was asked for.
            if whose.eq_ignore_ascii_case(owner) {
                found.insert(RepoId::new(Some(whose), name)?);
            }
        }
        let all = total.is_some_and(|total| (number * PAGE) as u64 >= total);
        if rows.is_empty() || all || (total.is_none() && rows.len() < PAGE) {
            break;
        }
        if found.len() == before {
            return Err(Error::new(
                Kind::Invalid,
                format!("the pages of the listing of {owner} repeat: it cannot be trusted to be complete"),
            ));
        }
        if number == MOST_PAGES {
            return Err(Error::invalid(format!("{owner} is listed with more than {} {}", MOST_PAGES * PAGE, kind.plural())));
        }
    }
    Ok(found.into_iter().collect())
}

/// The one that the official client asks: it sees what is private to us as well.
fn question(api: &Api, kind: RepoKind, owner: &str, number: usize) -> Result<Request> {
    let (page, size) = (number.to_string(), PAGE.to_string());
    if kind == RepoKind::Dataset {
        let query = [("owner", owner), ("PageNumber", &page), ("PageSize", &size)];
        return Ok(api.http.get(api.url(["api", "v1", "datasets"])?).query(query));
    }
    // A question in spite of its method.
    let body = json!({"Path": owner, "PageNumber": number, "PageSize": PAGE});
    Ok(api.http.request(Method::PUT, api.url(["api", "v1", "models", ""])?).repeatable(true).json(&body))
}
