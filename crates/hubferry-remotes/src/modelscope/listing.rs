//! Complete listings out of routes that cut them: models by folders, datasets by pages. When in doubt it is an error, never a
//! short list.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::Digests;
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::manifest::{Entry, RepoPath};
use serde_json::Value;

use super::api::{Answer, Api};
use super::fault::{Route, integer};
use crate::http::retry::{RetryPolicy, retrying};

/// A listing of a model with this many entries has been cut, silently.
const CAP: usize = 3000;
/// Entries asked for in one page of a dataset.
const PAGE: usize = 200;
/// More pages than any honest dataset has.
const MOST_PAGES: usize = 10_000;
/// Folders listed side by side.
const LANES: usize = 6;

/// One line of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Row {
    Folder(RepoPath),
    File(RepoPath, Entry),
}

impl Row {
    fn path(&self) -> &RepoPath {
        match self {
            Self::Folder(path) | Self::File(path, _) => path,
        }
    }
}

/// Every file of a revision; `None` when the hub does not know the revision.
pub(super) async fn list(api: &Api, kind: RepoKind, id: &RepoId, revision: &str) -> Result<Option<Vec<(RepoPath, Entry)>>> {
    let listing = Listing { api, kind, id, revision };
    let rows = if kind == RepoKind::Dataset { listing.pages().await? } else { listing.folders().await? };
    let file = |row| if let Row::File(path, entry) = row { Some((path, entry)) } else { None };
    Ok(rows.map(|rows| rows.into_iter().filter_map(file).collect()))
}

struct Listing<'a> {
    api: &'a Api,
    kind: RepoKind,
    id: &'a RepoId,
    revision: &'a str,
}

impl Listing<'_> {
    /// The whole tree at once if it is small; else folder by folder, and a folder by its children where its own tree is cut too.
    async fn folders(&self) -> Result<Option<Vec<Row>>> {
        let Some(all) = self.files(None, true).await? else { return Ok(None) };
        if all.len() < CAP {
            return Ok(Some(all));
        }
        let (mut found, mut open) = split(self.children(None).await?);
        let mut seen: HashSet<RepoPath> = open.iter().cloned().collect();
        while !open.is_empty() {
            let trees: Vec<_> = stream::iter(open).map(|folder| self.tree(folder)).buffer_unordered(LANES).try_collect().await?;
            open = Vec::new();
            for (files, folders) in trees {
                found.extend(files);
                open.extend(folders.into_iter().filter(|folder| seen.insert(folder.clone())));
            }
        }
        Ok(Some(found))
    }

    /// Everything below a folder, or its own files and the folders that must be looked at one by one.
    async fn tree(&self, folder: RepoPath) -> Result<(Vec<Row>, Vec<RepoPath>)> {
        let all = self.below(&folder, true).await?;
        if all.len() < CAP {
            return Ok((all, Vec::new()));
        }
        Ok(split(self.children(Some(&folder)).await?))
    }

    async fn children(&self, folder: Option<&RepoPath>) -> Result<Vec<Row>> {
        let rows = match folder {
            Some(folder) => self.below(folder, false).await?,
            None => self.again("the top folder", || async { self.files(None, false).await?.ok_or_else(vanished) }).await?,
        };
        let name = folder.map_or("the top folder", RepoPath::as_str);
        if rows.len() >= CAP {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} has {CAP} or more direct entries: ModelScope cannot list it completely"),
            )
            .context("repository", self.id)
            .hint("move its files into subfolders"));
        }
        let depth = folder.map_or(0, |folder| folder.parents().count() + 1);
        if let Some(deep) = rows.iter().find(|row| row.path().parents().count() != depth) {
            return Err(Error::invalid(format!("the listing of {name} alone names {:?}", deep.path())).context("repository", self.id));
        }
        Ok(rows)
    }

    async fn below(&self, folder: &RepoPath, recursive: bool) -> Result<Vec<Row>> {
        let ask = || async { self.files(Some(folder), recursive).await?.ok_or_else(vanished) };
        let rows = self.again(folder.as_str(), ask).await?;
        // A server that ignores the folder would be asked for ever.
        if let Some(other) = rows.iter().find(|row| !row.path().is_within(folder)) {
            return Err(Error::invalid(format!("the listing of {folder:?} names {:?}", other.path())).context("repository", self.id));
        }
        Ok(rows.into_iter().filter(|row| row.path() != folder).collect())
    }

    async fn files(&self, folder: Option<&RepoPath>, recursive: bool) -> Result<Option<Vec<Row>>> {
        let url = self.api.repo_url(self.kind, self.id, &["repo", "files"])?;
        let mut query = vec![("Revision", self.revision), ("Recursive", if recursive { "True" } else { "False" })];
        query.extend(folder.map(|folder| ("Root", folder.as_str())));
        let answer = self.api.call(Route::List, self.api.http.get(url).query(query)).await?;
        rows(answer.data)
    }

    /// Pages until one is short. The hub may serve smaller pages than were asked for, or the same one for ever.
    async fn pages(&self) -> Result<Option<Vec<Row>>> {
        let Some((first, total)) = self.page(1).await? else { return Ok(None) };
        let size = first.len();
        let all_said = total == Some(size as u64);
        let mut paging = Paging { rows: first, seen: HashMap::new() };
        paging.note(0)?;
        // A short first page need not be the last: the hub may have cut it to a page size of its own.
        if size == 0 || (all_said && size < PAGE) {
            return Ok(Some(paging.rows));
        }
        for number in 2..=MOST_PAGES {
            let page = self.again("a page of the listing", || self.page(number)).await;
            let page = match page {
                Ok(page) => page.ok_or_else(vanished)?.0,
                Err(error) if is_past_the_end(&error) => return Ok(Some(paging.rows)),
                Err(error) => return Err(error),
            };
            let (length, start) = (page.len(), paging.rows.len());
            let repeated = page.first().is_some_and(|row| paging.seen.contains_key(row.path()));
            if repeated && number == 2 && size < PAGE && page == paging.rows {
                // It does not page at all, so the first page was everything.
                return Ok(Some(paging.rows));
            }
            paging.rows.extend(page);
            paging.note(start)?;
            if length < size {
                return Ok(Some(paging.rows));
            }
        }
        Err(Error::invalid(format!("the listing has more than {MOST_PAGES} pages")).context("repository", self.id))
    }

    async fn page(&self, number: usize) -> Result<Option<(Vec<Row>, Option<u64>)>> {
        let url = self.api.repo_url(self.kind, self.id, &["repo", "tree"])?;
        let (number, size) = (number.to_string(), PAGE.to_string());
        let query = [
            ("Revision", self.revision),
            ("Recursive", "True"),
            ("Root", "/"),
            ("PageNumber", number.as_str()),
            ("PageSize", size.as_str()),
        ];
        let Answer { data, total } = self.api.call(Route::List, self.api.http.get(url).query(query)).await?;
        Ok(rows(data)?.map(|rows| (rows, total)))
    }

    /// Asks again for a part of a listing whose beginning came: long listings meet a 403 now and then that means nothing.
    async fn again<T, F>(&self, what: &str, mut ask: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let policy = RetryPolicy { tries: 5, cap: Duration::from_secs(8), ..RetryPolicy::default() };
        let what = format!("listing {} ({what})", self.id);
        retrying(&policy, &*self.api.reporter, &what, || {
            let asking = ask();
            async { asking.await.map_err(|error| if error.kind() == Kind::Denied { error.retry_as(Retry::Backoff) } else { error }) }
        })
        .await
    }
}

fn split(rows: Vec<Row>) -> (Vec<Row>, Vec<RepoPath>) {
    let (files, folders): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| matches!(row, Row::File(..)));
    (files, folders.into_iter().map(|row| row.path().clone()).collect())
}

/// Pages so far, and what they named.
struct Paging {
    rows: Vec<Row>,
    seen: HashMap<RepoPath, usize>,
}

impl Paging {
    fn note(&mut self, from: usize) -> Result<()> {
        for (n, row) in self.rows.iter().enumerate().skip(from) {
            if self.seen.insert(row.path().clone(), n).is_some() {
                return Err(Error::invalid(format!(
                    "the pages of the listing repeat {:?}: it cannot be trusted to be complete",
                    row.path()
                )));
            }
        }
        Ok(())
    }
}

/// "fromIndex(200) > toIndex(150)": how this hub says that there is no such page.
pub(super) fn is_past_the_end(error: &Error) -> bool {
    error.kind() == Kind::Invalid && error.message().contains("fromIndex")
}

fn vanished() -> Error {
    Error::new(Kind::Unavailable, "the revision was there and is not listed any more")
}

/// The rows of an answer; `None` when the hub answers null, as it does for a revision it does not know.
fn rows(mut data: Value) -> Result<Option<Vec<Row>>> {
    let files = match data.get_mut("Files") {
        Some(files) => files.take(),
        None => data,
    };
    match files {
        Value::Null => Ok(None),
        Value::Array(rows) => rows.iter().filter_map(|row| row_of(row).transpose()).collect::<Result<_>>().map(Some),
        _ => Err(Error::invalid("the listing is not a list")),
    }
}

fn row_of(row: &Value) -> Result<Option<Row>> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let path = RepoPath::new(text("Path").trim_end_matches('/'))?;
    match text("Type") {
        "tree" => return Ok(Some(Row::Folder(path))),
        // A submodule is a pointer into another repository, not a file of this one.
        "commit" => return Ok(None),
        _ => {}
    }
    let size = row.get("Size").and_then(integer).and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or_else(|| Error::invalid(format!("the listing gives no size for {path:?}")))?;
    let mut entry = Entry::new(size, digests(text("Sha256")));
    entry.lfs = row.get("IsLFS").and_then(Value::as_bool).unwrap_or(false);
    Ok(Some(Row::File(path, entry)))
}

/// `Sha256` now and then holds the Git id of the blob instead.
fn digests(text: &str) -> Digests {
    let text = text.trim();
    match text.len() {
        64 => text.parse().map(Digests::sha256).unwrap_or_default(),
        40 => text.parse().map(Digests::git).unwrap_or_default(),
        _ => Digests::default(),
    }
}
