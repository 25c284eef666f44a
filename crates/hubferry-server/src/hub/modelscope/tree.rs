//! Listings of files: models in one answer that ends silently at the hub's cap, datasets in pages.

use axum::extract::{Query, State};
use hubferry_core::digest::GitOid;
use hubferry_core::error::Kind;
use hubferry_core::manifest::RepoPath;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::envelope::{Answer, Data, Page, Paged, Refusal};
use super::face::{Face, PageKey};
use crate::store::{CommitInfo, ListQuery, Listing, Repo, TreeEntry};

/// Most entries the listing of a model holds, folders included. The real hub gives no sign that there are more.
const CAP: usize = 3000;
/// Lines per page of a dataset when the client names none, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// Most pages that are walked to reach one that was never reached before.
const MAX_PAGES: usize = 100_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Wanted {
    revision: Option<String>,
    root: Option<String>,
    recursive: Option<String>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

impl Wanted {
    fn recursive(&self) -> bool {
        self.recursive.as_deref().is_some_and(|word| word.eq_ignore_ascii_case("true") || word == "1")
    }

    /// The folder to start in; `None` is the root, however it is written.
    fn folder(&self) -> Answer<Option<RepoPath>> {
        let root = self.root.as_deref().unwrap_or_default().trim_matches('/');
        if root.is_empty() { Ok(None) } else { Ok(Some(RepoPath::new(root)?)) }
    }
}

/// `GET …/repo/files`: everything at once, up to the cap. An unknown revision is no error: `Files` is null then.
pub(super) async fn files(State(face): State<Face>, access: Access, Query(wanted): Query<Wanted>) -> Answer {
    let Some(commit) = face.find_commit(&access.repo, wanted.revision.as_deref()).await? else {
        return Ok(Data(json!({"Files": null})));
    };
    let query = ListQuery { folder: wanted.folder()?, recursive: wanted.recursive(), after: None, limit: CAP };
    let entries = list(&face, commit, &query).await?.0;
    Ok(Data(json!({"Files": lines(&face, &access.repo, commit, &entries).await?})))
}

/// `GET …/repo/tree`: one page. Past the end it is empty.
pub(super) async fn pages(State(face): State<Face>, access: Access, Query(wanted): Query<Wanted>) -> Answer<Paged> {
    let page = Page::new(wanted.page_number, wanted.page_size, PAGE, MAX_PAGE);
    let Some(commit) = face.find_commit(&access.repo, wanted.revision.as_deref()).await? else {
        return Ok(Paged { data: json!({"Files": null}), total: 0, page });
    };
    let folder = wanted.folder()?;
    let key = PageKey {
        commit,
        folder: folder.as_ref().map(ToString::to_string).unwrap_or_default(),
        recursive: wanted.recursive(),
        size: page.size,
        number: page.number,
    };
    let entries = walk_to(&face, folder, &key).await?;
    let total = page.start() + entries.len();
    Ok(Paged { data: json!({"Files": lines(&face, &access.repo, commit, &entries).await?}), total, page })
}

/// The entries of one page: from where the nearest earlier page is known to begin, page after page.
async fn walk_to(face: &Face, folder: Option<RepoPath>, wanted: &PageKey) -> Answer<Vec<Listing>> {
    if wanted.number > MAX_PAGES {
        return Err(Refusal::invalid("PageNumber is too large"));
    }
    let known = |number: usize| face.cursor(&PageKey { number, ..wanted.clone() }).map(|cursor| (number, Some(cursor)));
    let (mut number, mut after) = (2..=wanted.number).rev().find_map(known).unwrap_or((1, None));
    loop {
        let query = ListQuery { folder: folder.clone(), recursive: wanted.recursive, after, limit: wanted.size };
        let (entries, next) = list(face, wanted.commit, &query).await?;
        if let Some(next) = &next {
            face.remember(PageKey { number: number + 1, ..wanted.clone() }, next.clone());
        }
        if number == wanted.number {
            return Ok(entries);
        }
        let Some(next) = next else { return Ok(Vec::new()) };
        (number, after) = (number + 1, Some(next));
    }
}

/// A folder that is not there has no files.
async fn list(face: &Face, commit: GitOid, query: &ListQuery) -> Answer<(Vec<Listing>, Option<String>)> {
    match face.store().list(commit, query).await {
        Ok(page) => Ok((page.entries, page.next)),
        Err(error) if error.kind() == Kind::NotFound => Ok((Vec::new(), None)),
        Err(error) => Err(error.into()),
    }
}

async fn lines(face: &Face, repo: &Repo, commit: GitOid, entries: &[Listing]) -> Answer<Vec<Value>> {
    let last = face.store().last_commits(repo, commit, entries.iter().map(|entry| entry.path.as_str())).await?;
    Ok(entries.iter().map(|entry| line(entry, last.get(&entry.path))).collect())
}

fn line(listing: &Listing, last: Option<&CommitInfo>) -> Value {
    let name = listing.path.rsplit('/').next().unwrap_or_default();
    let (kind, mode, size, sha256, lfs) = match &listing.entry {
        TreeEntry::File(file) => ("blob", "33188", file.size, file.sha256.to_string(), file.lfs),
        TreeEntry::Folder(_) => ("tree", "16384", 0, String::new(), false),
    };
    json!({
        "Path": listing.path,
        "Name": name,
        "Type": kind,
        "Mode": mode,
        "Size": size,
        "Sha256": sha256,
        "IsLFS": lfs,
        "InCheck": false,
        "Revision": last.map(|commit| commit.id),
        "CommitId": last.map(|commit| commit.id),
        "CommitMessage": last.map(CommitInfo::title),
        "CommittedDate": last.map(|commit| commit.time),
        "CommitterName": last.map(CommitInfo::author_name),
    })
}
