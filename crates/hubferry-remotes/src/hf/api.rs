//! The Hub's HTTP API, call by call: URLs, bodies, answers. No decisions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::{Digests, Oid};
use hubferry_core::error::{Error, Kind, Result, Retry};
use hubferry_core::events::{Event, Reporter};
use hubferry_core::manifest::{Entry, RepoPath, Revision};
use hubferry_core::remote::{RepoInfo, Visibility};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::HfConfig;
use super::fault::Asked;
use crate::http::{Again, Credential, Http, Origin, Pages, Request, Response, clean};
use crate::lfs::{Kept, Lfs, PARALLEL_PARTS};
use hubferry_core::transfer::journal::Journal;
use hubferry_core::transfer::retry::{RetryPolicy, retrying};

/// What Python's `quote(…, safe="")` leaves alone.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// More files than any repository may hold, by a wide margin: a listing beyond it does not end.
const MOST_FILES: usize = 2_000_000;

/// The most that the hub puts on one page.
const REPOS_PER_PAGE: &str = "1000";

/// More repositories than any owner has, by a wide margin.
const MOST_REPOS: usize = 200_000;

/// A listing of more than this many pages has more than `THIN` files on each, or it is a trap.
const THIN_PAGES: usize = 500;
const THIN: usize = 10;

/// Files per preupload call, the server's limit.
pub(super) const PREUPLOAD: usize = 256;

/// How much of a file the server wants to see.
const SAMPLE: usize = 512;

/// The Hub gives a commit about a minute; a gateway may add to it.
pub(super) const COMMIT_TIME: Duration = Duration::from_mins(2);

/// One hub and who we are there.
pub(super) struct Api {
    pub(super) http: Http,
    pub(super) endpoint: Url,
    pub(super) credential: Option<Credential>,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) retry: RetryPolicy,
    journal: Arc<dyn Journal>,
    set_token: String,
    warned: Mutex<HashSet<String>>,
    /// The Xet hashes of the last listing.
    #[cfg(feature = "xet")]
    pub(super) listed: super::xet::Listed,
}

/// A repository as the API names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Repo {
    pub(super) kind: RepoKind,
    pub(super) id: RepoId,
}

/// What the hub says of a repository at one revision.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    sha: Value,
    #[serde(default)]
    private: Value,
    #[serde(default)]
    gated: Value,
    #[serde(default)]
    tags: Value,
    #[serde(default, rename = "cardData")]
    card: Value,
}

impl Info {
    /// The commit; `None` for a repository without any.
    pub(super) fn revision(&self) -> Result<Option<Revision>> {
        match &self.sha {
            Value::Null => Ok(None),
            Value::String(sha) => Revision::new(sha.as_str()).map(Some),
            _ => Err(Error::invalid("the hub names a commit that is no text")),
        }
    }

    /// The id in the spelling of the hub.
    pub(super) fn id(&self) -> Option<RepoId> {
        self.id.as_str()?.parse().ok()
    }

    pub(super) fn visibility(&self) -> Option<Visibility> {
        self.private.as_bool().map(|private| if private { Visibility::Private } else { Visibility::Public })
    }

    fn gated(&self) -> bool {
        !matches!(&self.gated, Value::Null | Value::Bool(false))
    }

    fn license(&self) -> Option<String> {
        let card = &self.card["license"];
        let named = card.as_str().or_else(|| card.get(0)?.as_str());
        let tagged = || self.tags.as_array()?.iter().find_map(|tag| tag.as_str()?.strip_prefix("license:"));
        named.or_else(tagged).map(|license| clean(license, 100))
    }
}

/// One repository in a listing of many. Older servers say only `modelId`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: Option<String>,
    model_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    r#type: String,
    path: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    lfs: Option<Pointer>,
    #[serde(default, rename = "xetHash")]
    xet: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pointer {
    oid: String,
    #[serde(default)]
    size: Option<u64>,
}

/// How the hub wants a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// It says so only when it sees the content.
    Unsaid,
    /// Inside the commit.
    Regular,
    /// As a large object.
    Lfs,
}

impl Api {
    pub(super) fn new(config: &HfConfig, endpoint: Url, credential: Option<Credential>) -> Self {
        // Whole operations are repeated by their callers; in here only single calls of long series are.
        let retry = RetryPolicy { tries: 3, cap: Duration::from_secs(5), total: Duration::from_mins(2), ..RetryPolicy::default() };
        let (http, reporter, journal) = (config.http.clone(), config.reporter.clone(), config.journal.clone());
        Self {
            http,
            endpoint,
            credential,
            reporter,
            retry,
            journal,
            set_token: config.set_token.clone(),
            warned: Mutex::default(),
            #[cfg(feature = "xet")]
            listed: super::xet::Listed::default(),
        }
    }

    /// A URL below the endpoint; every segment stays one segment.
    fn url(&self, segments: &[&str]) -> Result<Url> {
        let mut text = self.endpoint.as_str().trim_end_matches('/').to_owned();
        for segment in segments {
            text.push('/');
            text.extend(utf8_percent_encode(segment, QUOTED));
        }
        Url::parse(&text).map_err(|e| Error::new(Kind::Bug, "a URL of the hub cannot be built").caused_by(e))
    }

    pub(super) fn repo_url(&self, repo: &Repo, tail: &[&str]) -> Result<Url> {
        let mut segments = vec!["api", repo.kind.plural()];
        segments.extend(repo.id.owner());
        segments.push(repo.id.name());
        segments.extend(tail);
        self.url(&segments)
    }

    /// The page of a repository, and the base of its file URLs.
    pub(super) fn page(&self, repo: &Repo, tail: &[&str]) -> Result<Url> {
        self.page_as(repo, repo.id.name(), tail)
    }

    fn page_as(&self, repo: &Repo, name: &str, tail: &[&str]) -> Result<Url> {
        let mut segments = Vec::new();
        if repo.kind != RepoKind::Model {
            segments.push(repo.kind.plural());
        }
        segments.extend(repo.id.owner());
        segments.push(name);
        segments.extend(tail);
        self.url(&segments)
    }

    pub(super) fn file_url(&self, repo: &Repo, at: &str, path: &RepoPath) -> Result<Url> {
        let mut tail = vec!["resolve", at];
        tail.extend(path.as_str().split('/'));
        self.page(repo, &tail)
    }

    /// How refusals of a request about `repo` are read.
    pub(super) fn asked(&self, repo: &Repo, writes: bool) -> Asked {
        let page = self.page(repo, &[]).map_or_else(|_| String::new(), |url| crate::http::safe_url(&url));
        self.asked_about(format!("{} {}", repo.kind, repo.id), page, writes)
    }

    fn asked_about(&self, repo: String, page: String, writes: bool) -> Asked {
        Asked { signed_in: self.credential.is_some(), writes, repo, page, set_token: self.set_token.clone(), tokens: self.tokens() }
    }

    fn tokens(&self) -> String {
        self.url(&["settings", "tokens"]).map_or_else(|_| String::new(), |url| crate::http::safe_url(&url))
    }

    /// Sends a request with our credential and reads refusals as being about `repo`.
    pub(super) async fn send(&self, request: Request, repo: &Repo, writes: bool) -> Result<Response> {
        let response = request.credential(self.credential.as_ref()).classify(&self.asked(repo, writes).classifier()).send().await?;
        self.note_warning(&response);
        Ok(response)
    }

    /// Passes on what the hub wants its users to know, once per topic.
    pub(super) fn note_warning(&self, response: &Response) {
        let Some(text) = response.header("x-hf-warning").map(|text| clean(text, 500)) else { return };
        let (topic, message) = text.split_once(';').map_or((text.as_str(), text.as_str()), |(topic, message)| (topic, message.trim()));
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned()) {
            self.reporter.event(&Event::Note(format!("the hub says: {message}")));
        }
    }

    /// What the hub says of a repository, and the repository in the hub's own spelling if it was moved.
    pub(super) async fn info(&self, repo: &Repo, rev: Option<&str>, writes: bool) -> Result<(Repo, Info)> {
        let tail: Vec<&str> = rev.map(|rev| ["revision", rev]).into_iter().flatten().collect();
        let asked = self.repo_url(repo, &tail)?;
        let response = self.send(self.http.get(asked.clone()), repo, writes).await?;
        let moved = *response.url() != asked;
        let landed = response.url().path().to_owned();
        let stranger = response.error(Kind::Invalid, "the answer does not describe a repository");
        let info: Info = response.json().await?;
        // Something else answers there; taken for a repository it would be an empty one.
        if info.id().is_none() && !info.sha.is_string() {
            return Err(stranger.hint("check that the endpoint is a hub: `hubferry doctor hf`"));
        }
        let there = match info.id() {
            Some(id) if moved && landed.contains(&format!("/{id}")) => Repo { kind: repo.kind, id },
            _ => repo.clone(),
        };
        Ok((there, info))
    }

    pub(super) fn describe(&self, repo: &Repo, info: &Info) -> RepoInfo {
        RepoInfo {
            kind: Some(repo.kind),
            id: Some(info.id().unwrap_or_else(|| repo.id.clone())),
            visibility: info.visibility(),
            gated: info.gated(),
            license: info.license(),
            default_branch: Some("main".to_owned()),
            url: self.page(repo, &[]).ok().map(|url| crate::http::safe_url(&url)),
            revision: info.sha.as_str().and_then(|sha| Revision::new(sha).ok()),
        }
    }

    /// Every file of a commit.
    pub(super) async fn tree(&self, repo: &Repo, at: &Revision, writes: bool) -> Result<Vec<(RepoPath, Entry)>> {
        let mut url = self.repo_url(repo, &["tree", at.as_str()])?;
        url.query_pairs_mut().append_pair("recursive", "true").append_pair("expand", "false");
        let mut pages = Pages::new(&url)?;
        let mut files: BTreeMap<RepoPath, Entry> = BTreeMap::new();
        #[cfg(feature = "xet")]
        self.listed.begin(at);
        for number in 1.. {
            let page = || async {
                let response = self.send(self.http.get(url.clone()), repo, writes).await?;
                let (at, headers) = (response.url().clone(), response.headers().clone());
                Ok((at, headers, response.json::<Vec<Item>>().await?))
            };
            let (at, headers, items) = retrying(&self.retry, &*self.reporter, "listing the files", page).await?;
            #[cfg(feature = "xet")]
            items.iter().filter(|item| item.lfs.is_some()).for_each(|item| self.listed.note(&item.path, item.size, item.xet.as_deref()));
            for (path, entry) in items.into_iter().filter_map(|item| file(item).transpose()).collect::<Result<Vec<_>>>()? {
                // Said now and not after the last page, which may never come.
                if files.contains_key(&path) {
                    return Err(Error::invalid(format!("the listing names {path:?} twice")).context("url", crate::http::safe_url(&at)));
                }
                files.insert(path, entry);
            }
            if number > THIN_PAGES && files.len() < number * THIN {
                return Err(Error::invalid(format!("the listing has {number} pages with next to nothing in them and does not end")));
            }
            if files.len() > MOST_FILES {
                return Err(Error::invalid(format!("the listing has more than {MOST_FILES} files and does not end")));
            }
            match pages.next(&at, &headers)? {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(files.into_iter().collect())
    }

    /// How the hub wants these files. Where their contents are not known yet, `sample` is empty, and names and sizes decide.
    pub(super) async fn preupload(
        &self,
        repo: &Repo,
        branch: &str,
        files: &[(RepoPath, u64)],
        sample: &[u8],
    ) -> Result<HashMap<String, Mode>> {
        let sample = STANDARD.encode(sample.get(..SAMPLE).unwrap_or(sample));
        let listed: Vec<Value> = files.iter().map(|(path, size)| json!({"path": path, "size": size, "sample": sample})).collect();
        let body = json!({"files": listed});
        let call = || async {
            let request = self.http.post(self.repo_url(repo, &["preupload", branch])?).repeatable(true).json(&body);
            self.send(request, repo, true).await?.json::<Value>().await
        };
        let answer = retrying(&self.retry, &*self.reporter, "asking how files are stored", call).await?;
        let mut modes = HashMap::new();
        for file in answer["files"].as_array().into_iter().flatten() {
            let (Some(path), Some(mode)) = (file["path"].as_str(), file["uploadMode"].as_str()) else {
                return Err(Error::invalid("the answer how files are stored lacks a path or mode"));
            };
            modes.insert(path.to_owned(), if mode == "regular" { Mode::Regular } else { Mode::Lfs });
        }
        match files.iter().find(|(path, _)| !modes.contains_key(path.as_str())) {
            None => Ok(modes),
            Some((path, _)) => Err(Error::invalid("the answer how files are stored leaves one out").context("file", path)),
        }
    }

    /// Creates a repository; `false` when it was there.
    pub(super) async fn create(&self, repo: &Repo, visibility: Visibility) -> Result<bool> {
        let word = if visibility == Visibility::Public { "public" } else { "private" };
        let body = json!({"name": repo.id.name(), "organization": repo.id.owner(), "type": repo.kind.singular(), "visibility": word});
        // A second try finds the repository of the first and is content.
        let request = self.http.post(self.url(&["api", "repos", "create"])?).repeatable(true).json(&body);
        match self.send(request, repo, true).await {
            Ok(response) => response.discard().await.map(|()| true),
            Err(error) if error.kind() != Kind::Conflict => Err(error),
            Err(error) if error.message().contains("conflicting operation") => Err(error.retry_as(Retry::Backoff)),
            Err(_) => Ok(false),
        }
    }

    /// Deletes a repository. Nothing asks for it but a trial that made it.
    pub(super) async fn delete(&self, repo: &Repo) -> Result<()> {
        let body = json!({"name": repo.id.name(), "organization": repo.id.owner(), "type": repo.kind.singular()});
        let request = self.http.request(Method::DELETE, self.url(&["api", "repos", "delete"])?).json(&body);
        self.send(request, repo, true).await?.discard().await
    }

    pub(super) async fn set_private(&self, repo: &Repo) -> Result<()> {
        let request = self.http.put(self.repo_url(repo, &["settings"])?).json(&json!({"private": true, "visibility": "private"}));
        self.send(request, repo, true).await?.discard().await
    }

    pub(super) async fn create_branch(&self, repo: &Repo, branch: &str) -> Result<()> {
        let request = self.http.post(self.repo_url(repo, &["branch", branch])?).repeatable(true).json(&json!({}));
        match self.send(request, repo, true).await {
            Ok(response) => response.discard().await,
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends one commit once and gives its id.
    pub(super) async fn commit(&self, repo: &Repo, branch: &str, len: u64, lines: Again) -> Result<Revision> {
        let request = self.http.post(self.repo_url(repo, &["commit", branch])?).repeatable(false).answer_within(COMMIT_TIME);
        let request = request.header("content-type", "application/x-ndjson").stream_again(len, lines);
        let response = self.send(request, repo, true).await?;
        let unclear = response.error(Kind::Unavailable, "the hub took the commit but did not name it").ambiguous();
        // The status says that it happened: nothing that goes wrong from here may be taken for a failed commit.
        let answer: Value = response.json().await.map_err(|error| error.retry_as(Retry::Backoff).ambiguous())?;
        if answer["success"] == Value::Bool(false) {
            return Err(Error::invalid("the hub did not take the commit").context("answer", clean(&answer.to_string(), 300)));
        }
        answer["commitOid"].as_str().and_then(|oid| Revision::new(oid).ok()).ok_or(unclear)
    }

    /// Every repository of a kind that an owner has and we may see. An owner that is not there has none.
    pub(super) async fn repos(&self, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
        let page = self.url(&[owner]).map_or_else(|_| String::new(), |url| crate::http::safe_url(&url));
        let classifier = self.asked_about(format!("the {} of {owner}", kind.plural()), page, false).classifier();
        let mut url = self.url(&["api", kind.plural()])?;
        url.query_pairs_mut().append_pair("author", owner).append_pair("limit", REPOS_PER_PAGE);
        let mut pages = Pages::new(&url)?;
        let mut found = BTreeSet::new();
        loop {
            let page = || async {
                let response = self.http.get(url.clone()).credential(self.credential.as_ref()).classify(&classifier).send().await?;
                let (at, headers) = (response.url().clone(), response.headers().clone());
                Ok((at, headers, response.json::<Vec<Listed>>().await?))
            };
            let (at, headers, listed) = retrying(&self.retry, &*self.reporter, "listing the repositories", page).await?;
            for Listed { id, model_id } in listed {
                let id = id.or(model_id).ok_or_else(|| Error::invalid("the listing has a repository without an id"))?;
                let id: RepoId = id.parse()?;
                // A mirror that does not know the filter answers with everybody's.
                if id.owner().is_some_and(|name| name.eq_ignore_ascii_case(owner)) {
                    found.insert(id);
                }
            }
            if found.len() > MOST_REPOS {
                return Err(Error::invalid(format!("{owner} is listed with more than {MOST_REPOS} {}", kind.plural())));
            }
            match pages.next(&at, &headers)? {
                Some(next) => url = next,
                None => return Ok(found.into_iter().collect()),
            }
        }
    }

    /// Who the token belongs to.
    pub(super) async fn whoami(&self) -> Result<Value> {
        let asked = self.asked_about("the account".to_owned(), crate::http::safe_url(&self.endpoint), false);
        let request = self.http.get(self.url(&["api", "whoami-v2"])?).credential(self.credential.as_ref());
        request.classify(&asked.classifier()).send().await?.json().await
    }

    /// The address of a repository for Git.
    pub(super) fn git_url(&self, repo: &Repo) -> Result<Url> {
        self.page_as(repo, &format!("{}.git", repo.id.name()), &[])
    }

    /// The hub that this one may be a mirror of, and this one.
    pub(super) fn mirrored(&self) -> Option<(Origin, Url)> {
        let original = Url::parse("https://huggingface.co").ok().and_then(|url| Origin::of(&url).ok());
        original.filter(|origin| !origin.holds(&self.endpoint)).map(|origin| (origin, self.endpoint.clone()))
    }

    /// The LFS side of a repository.
    pub(super) fn lfs(&self, repo: &Repo, branch: Option<&str>) -> Result<Lfs> {
        let git = format!("{}.git", repo.id.name());
        Ok(Lfs {
            http: self.http.clone(),
            batch: self.page_as(repo, &git, &["info", "lfs", "objects", "batch"])?,
            credential: self.credential.clone(),
            classifier: self.asked(repo, true).classifier(),
            branch: branch.map(str::to_owned),
            reporter: self.reporter.clone(),
            retry: self.retry,
            mirrored: self.mirrored(),
            parallel_parts: PARALLEL_PARTS,
            kept: Kept::default(),
            journal: self.journal.clone(),
        })
    }
}

/// One line of a listing as a file; `None` for a directory.
fn file(item: Item) -> Result<Option<(RepoPath, Entry)>> {
    match item.r#type.as_str() {
        "directory" => return Ok(None),
        "file" => {}
        other => {
            return Err(Error::new(Kind::Unsupported, format!("the listing has a {:?}, which cannot be copied", clean(other, 40)))
                .context("path", clean(&item.path, 200)));
        }
    }
    let path = RepoPath::new(item.path)?;
    let size = item.size.ok_or_else(|| Error::invalid("the listing has a file without a size").context("path", &path))?;
    let Some(pointer) = item.lfs else {
        // The Git id of a pointer file says nothing about the content behind it.
        let git = item.oid.filter(|_| item.xet.is_none()).and_then(|oid| oid.parse().ok());
        return Ok(Some((path, Entry::new(size, Digests { sha256: None, git }))));
    };
    let oid: Oid = pointer.oid.strip_prefix("sha256:").unwrap_or(&pointer.oid).parse().map_err(|e: Error| e.context("path", &path))?;
    if pointer.size.is_some_and(|real| real != size) {
        return Err(Error::invalid("the listing gives a large file two sizes").context("path", &path));
    }
    Ok(Some((path, Entry { size, digests: Digests::sha256(oid), lfs: true })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(item: &Value) -> Result<Option<(RepoPath, Entry)>> {
        file(serde_json::from_value(item.clone()).unwrap())
    }

    #[test]
    fn listings_are_read_strictly() {
        let oid = "a".repeat(64);
        let git = "b".repeat(40);
        let (path, entry) = read(&json!({"type": "file", "path": "a b/c", "size": 3, "oid": git})).unwrap().unwrap();
        assert_eq!((path.as_str(), entry.size, entry.digests), ("a b/c", 3, Digests::git(git.parse().unwrap())));
        let large = json!({"type": "file", "path": "m", "size": 9, "oid": git, "lfs": {"oid": oid, "size": 9, "pointerSize": 134}});
        let (_, entry) = read(&large).unwrap().unwrap();
        assert!(entry.lfs && entry.digests == Digests::sha256(oid.parse().unwrap()));
        assert!(read(&json!({"type": "directory", "path": "..", "oid": git, "size": 0})).unwrap().is_none());
        let xet = json!({"type": "file", "path": "m", "size": 9, "oid": git, "xetHash": oid});
        assert!(read(&xet).unwrap().unwrap().1.digests.is_empty(), "the id of a pointer is not that of the content");
        for bad in [
            json!({"type": "file", "path": "../x", "size": 1}),
            json!({"type": "file", "path": "/etc/passwd", "size": 1}),
            json!({"type": "file", "path": "a\0b", "size": 1}),
            json!({"type": "file", "path": "x"}),
            json!({"type": "file", "path": "x", "size": 9, "lfs": {"oid": oid, "size": 8}}),
            json!({"type": "file", "path": "x", "size": 9, "lfs": {"oid": "junk"}}),
            json!({"type": "commit", "path": "sub"}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
