//! Branches, tags and commits.

use axum::extract::{Query, State};
use bytes::Bytes;
use hubferry_core::error::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::envelope::{Answer, Data, Page, Paged, Refusal};
use super::face::{Face, MASTER};
use super::fields::from_json;
use crate::store::{BRANCHES, CommitInfo, Ref, TAGS, swap_default_branch};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Until {
    end_time: Option<i64>,
}

/// `GET …/revisions`. Tags come newest first, because clients take the first one that is old enough for them.
pub(super) async fn revisions(State(face): State<Face>, access: Access, Query(until): Query<Until>) -> Answer {
    let mut branches = face.store().refs(&access.repo, BRANCHES).await?;
    let mut tags = face.store().refs(&access.repo, TAGS).await?;
    tags.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| b.name.cmp(&a.name)));
    tags.retain(|tag| until.end_time.is_none_or(|end| tag.changed <= end));
    branches.sort_by_key(|branch| (short(branch, BRANCHES) != MASTER, branch.name.clone()));
    let lines = |refs: &[Ref], prefix: &str| -> Vec<Value> {
        refs.iter().map(|r| json!({"Revision": short(r, prefix), "CreatedAt": r.changed, "CommitId": r.target})).collect()
    };
    Ok(Data(json!({"RevisionMap": {"Branches": lines(&branches, BRANCHES), "Tags": lines(&tags, TAGS)}})))
}

/// The name this face gives a ref.
fn short<'a>(reference: &'a Ref, prefix: &str) -> &'a str {
    let name = reference.name.strip_prefix(prefix).unwrap_or(&reference.name);
    if prefix == BRANCHES { swap_default_branch(name) } else { name }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NewTag {
    tag_name: String,
    #[serde(rename = "Ref")]
    reference: Option<String>,
}

/// `POST …/repo/tag`.
pub(super) async fn create_tag(State(face): State<Face>, access: Access, body: Bytes) -> Answer {
    access.writer(&face)?;
    let tag: NewTag = from_json(&body)?;
    if matches!(tag.tag_name.to_lowercase().as_str(), "main" | MASTER) {
        return Err(Refusal::invalid(format!("{:?} is reserved for a branch", tag.tag_name)));
    }
    let commit = face.commit(&access.repo, tag.reference.as_deref()).await?;
    face.store().create_tag(&access.repo, &tag.tag_name, commit, None).await.map_err(|error| match error.kind() {
        Kind::Conflict => Refusal::invalid(format!("the tag {:?} already exists", tag.tag_name)),
        _ => error.into(),
    })?;
    Ok(Data(json!({"TagName": tag.tag_name, "Revision": commit})))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Log {
    #[serde(rename = "Ref")]
    reference: Option<String>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

/// `GET …/commits`, newest first.
pub(super) async fn commits(State(face): State<Face>, access: Access, Query(log): Query<Log>) -> Answer<Paged> {
    let page = Page::new(log.page_number, log.page_size, 50, 100);
    let head = face.commit(&access.repo, log.reference.as_deref()).await?;
    let total = face.store().count_commits(&access.repo, head).await?;
    let commits = face.store().commits(&access.repo, head, page.start(), page.size).await?;
    let lines: Vec<Value> = commits.iter().map(line).collect();
    Ok(Paged { data: json!({"Commit": lines}), total: usize::try_from(total).unwrap_or(usize::MAX), page })
}

fn line(commit: &CommitInfo) -> Value {
    let id = commit.id.to_string();
    let mail = commit.author.rsplit_once('<').map_or("", |(_, mail)| mail.trim_end_matches('>'));
    json!({
        "Id": id,
        "ShortId": &id[..8],
        "Title": commit.title(),
        "Message": commit.message,
        "AuthorName": commit.author_name(),
        "AuthorEmail": mail,
        "AuthoredDate": commit.time,
        "CommitterName": commit.author_name(),
        "CommitterEmail": mail,
        "CommittedDate": commit.time,
        "CreatedAt": commit.time,
    })
}
