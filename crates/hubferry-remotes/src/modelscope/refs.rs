//! Branches, tags and history on ModelScope.
//!
//! The API lists them and makes tags. Branches are made and everything is deleted by Git only, with a token that the sign-in gives out
//! (the SDK: `login`, then `https://oauth2:<git token>@…/models/owner/name.git`).

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Revision;
use hubferry_core::refs::{PastCommit, Ref, RefChange, RefKind, RefList, RefTarget, Refs};
use hubferry_core::remote::{Source, Target};
use serde_json::{Value, json};

use super::DEFAULT_BRANCH;
use super::api::Answer;
use super::fault::{Route, integer};
use super::git::sign_in;
use super::listing::is_past_the_end;
use super::repo::Repo;
use super::source::MsSource;
use super::target::MsTarget;
use crate::gitrefs::GitRefs;
use crate::http::clean;

/// Commits asked for at once; the hub may give fewer.
const PAGE: &str = "100";

/// A longer history is a listing that does not end.
const MOST_COMMITS: usize = 200_000;

impl Repo {
    async fn ref_list(&self) -> Result<RefList> {
        let (kind, _) = self.require().await?;
        let url = self.api.repo_url(kind, &self.id, &["revisions"])?;
        let Answer { data, .. } = self.api.call(Route::History, self.api.http.get(url)).await?;
        let map = data.get("RevisionMap").unwrap_or(&data);
        let mut lists = [Vec::new(), Vec::new()];
        for (list, key) in lists.iter_mut().zip(["Branches", "Tags"]) {
            for row in map.get(key).and_then(Value::as_array).into_iter().flatten() {
                let name = row.as_str().or_else(|| row.get("Revision")?.as_str());
                let name = name.ok_or_else(|| Error::invalid("the listing has a branch or tag without a name"))?;
                let said = row.get("CommitId").and_then(Value::as_str).filter(|id| id.len() == 40);
                // Not every server says the commit in the listing.
                let target = match said {
                    Some(id) => Some(Revision::new(id)?),
                    None => self.latest(kind, name).await?,
                };
                let unclear = || Error::new(Kind::Unsupported, format!("ModelScope does not say which commit {:?} is", clean(name, 100)));
                list.push(Ref::new(name, target.ok_or_else(unclear)?)?);
            }
        }
        let [branches, tags] = lists;
        RefList::new(branches, tags)
    }

    async fn history(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        let by_id = self.history_by(from.target.as_str()).await;
        match by_id {
            // Not every server knows the history of a commit by its id.
            Ok(None) => self.history_by(&from.name).await?.ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("ModelScope does not list the commits of {}", from.name))
                    .context("repository", &self.id)
            }),
            Ok(Some(commits)) => Ok(commits),
            Err(error) => Err(error),
        }
    }

    /// Every commit behind a name, newest first; `None` when the hub does not know the name here.
    async fn history_by(&self, name: &str) -> Result<Option<Vec<PastCommit>>> {
        let kind = self.require_kind().await?;
        let (mut commits, mut seen) = (Vec::new(), HashSet::new());
        for number in 1.. {
            let url = self.api.repo_url(kind, &self.id, &["commits"])?;
            let query = [("Ref", name), ("PageNumber", &number.to_string()), ("PageSize", PAGE)];
            let Answer { data, total } = match self.api.call(Route::History, self.api.http.get(url).query(query)).await {
                Err(error) if number == 1 && matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Unsupported) => return Ok(None),
                Err(error) if is_past_the_end(&error) => break,
                other => other?,
            };
            let rows = ["Commit", "Commits", "CommitList"].iter().find_map(|key| data.get(*key)).unwrap_or(&data);
            let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
            if number == 1 && rows.is_empty() {
                return Ok(None);
            }
            let before = commits.len();
            for row in rows {
                let commit = commit(row)?;
                if seen.insert(commit.revision.clone()) {
                    commits.push(commit);
                }
            }
            let fresh = commits.len() - before;
            match total.map(|total| commits.len() as u64 >= total) {
                Some(true) => break,
                // Without a number only an empty page, or one that was there before, is the end.
                None if fresh == 0 => break,
                Some(false) if fresh == 0 => {
                    return Err(Error::invalid("the history ends before it is complete").context("repository", &self.id));
                }
                _ => {}
            }
            if commits.len() > MOST_COMMITS {
                return Err(Error::invalid(format!("the history has more than {MOST_COMMITS} commits and does not end")));
            }
        }
        Ok(Some(commits))
    }

    async fn change_ref(&self, change: &RefChange) -> Result<()> {
        self.api.require_token()?;
        let kind = self.require_kind().await?;
        if let RefChange { kind: RefKind::Tag, name, from: None, to: Some(to) } = change {
            let url = self.api.repo_url(kind, &self.id, &["repo", "tag"])?;
            let request = self.api.http.post(url).json(&json!({"TagName": name, "Ref": to}));
            match self.api.call(Route::Tag, request).await {
                Ok(_) => return Ok(()),
                // Where a tag cannot be made at a commit, or not by this name, Git may do it.
                Err(error) if matches!(error.kind(), Kind::Invalid | Kind::NotFound | Kind::Unsupported) => {
                    return self.git().await?.change(change).await.map_err(|other| other.caused_by(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.git().await?.change(change).await
    }

    /// The repository by Git. Signing in gives the token for it.
    async fn git(&self) -> Result<GitRefs> {
        let kind = self.require_kind().await?;
        let name = format!("{}.git", self.id.name());
        let segments = [kind.plural(), self.id.owner().unwrap_or_default(), &name];
        let credential = sign_in(&self.api, self.api.token()?).await?;
        Ok(GitRefs { http: self.api.http.clone(), repo: self.api.url(segments)?, credential })
    }
}

fn commit(row: &Value) -> Result<PastCommit> {
    let text = |names: &[&str]| names.iter().find_map(|name| row.get(*name)?.as_str()).filter(|text| !text.is_empty());
    let id = text(&["Id", "CommitId", "Sha"]).ok_or_else(|| Error::invalid("the history has a commit without an id"))?;
    let seconds = ["AuthoredDate", "CommittedDate", "CreatedAt"].iter().find_map(|name| integer(row.get(*name)?));
    let written = text(&["AuthoredDate", "CommittedDate"]).filter(|_| seconds.is_none()).map(|date| clean(date, 60));
    let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).map(|time| time.to_string());
    Ok(PastCommit {
        revision: Revision::new(id)?,
        message: text(&["Message", "Title"]).unwrap_or_default().to_owned(),
        author: text(&["AuthorName", "CommitterName"]).map(|name| clean(name, 100)),
        date: date.or(written),
    })
}

#[async_trait]
impl Refs for MsSource {
    fn default_branch(&self) -> &str {
        DEFAULT_BRANCH
    }

    fn opened_at(&self) -> &str {
        self.name()
    }

    async fn list(&self) -> Result<RefList> {
        self.repo().ref_list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        self.repo().history(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Self::new(Arc::clone(self.repo()), Some(rev.to_owned()))))
    }
}

#[async_trait]
impl Refs for MsTarget {
    fn default_branch(&self) -> &str {
        DEFAULT_BRANCH
    }

    fn opened_at(&self) -> &str {
        self.branch_name()
    }

    async fn list(&self) -> Result<RefList> {
        self.repo().ref_list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        self.repo().history(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MsSource::new(Arc::clone(self.repo()), Some(rev.to_owned()))))
    }
}

#[async_trait]
impl RefTarget for MsTarget {
    fn branch(&self, name: &str) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(Self::new(Arc::clone(self.repo()), Some(name.to_owned()))))
    }

    async fn change(&self, change: &RefChange) -> Result<()> {
        self.repo().change_ref(change).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modelscope::MsRemote;
    use crate::modelscope::tests::config;
    use crate::testing::{Reply, Script, Seen};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hubferry_core::address::RepoKind;
    use url::Url;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn target(script: &Script) -> MsTarget {
        MsRemote::new(&config(script.url("")), Some(RepoKind::Model), "o/n".parse().unwrap(), None).unwrap().target()
    }

    fn query(seen: &Seen, name: &str) -> String {
        let url = Url::parse(&format!("http://h{}", seen.target)).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    fn ok(data: &Value) -> Reply {
        Reply::json(&json!({"Code": 200, "Success": true, "Data": data}))
    }

    /// A hub with 120 commits that pages as it likes.
    async fn history(answer: impl Fn(&Seen, Vec<Value>) -> Reply + Send + Sync + 'static, page: usize) -> Result<usize> {
        let script = Script::start(move |seen| {
            let number: usize = query(seen, "PageNumber").parse().unwrap();
            let rows =
                (0..120).map(|n| json!({"Id": format!("{n:040x}"), "Message": format!("number {n}"), "AuthoredDate": 1_700_000_000}));
            answer(seen, rows.skip((number - 1) * page).take(page).collect())
        })
        .await;
        let from = Ref { name: "dev".into(), target: Revision::new(ONE).unwrap() };
        let commits = target(&script).commits(&from).await?;
        assert_eq!((commits[7].message.as_str(), commits[7].date.as_deref()), ("number 7", Some("2023-11-14T22:13:20Z")));
        Ok(commits.len())
    }

    #[tokio::test]
    async fn a_history_is_read_to_its_end_or_not_at_all() {
        let total = |rows: Vec<Value>| Reply::json(&json!({"Code": 200, "Success": true, "TotalCount": 120, "Data": {"Commit": rows}}));
        assert_eq!(history(move |_, rows| total(rows), 50).await.unwrap(), 120, "smaller pages than were asked for");
        assert_eq!(history(|_, rows| ok(&json!({"Commit": rows})), 30).await.unwrap(), 120, "without a number of all");
        let by_name =
            |seen: &Seen, rows| if query(seen, "Ref") == "dev" { ok(&json!({"Commit": rows})) } else { ok(&json!({"Commit": null})) };
        assert_eq!(history(by_name, 100).await.unwrap(), 120, "only names are known");
        let stuck = move |_: &Seen, rows: Vec<Value>| total(if rows.len() < 50 { Vec::new() } else { rows });
        let error = history(stuck, 50).await.unwrap_err();
        assert!(error.to_string().contains("ends before it is complete"), "{error}");
        assert_eq!(history(|_, _| ok(&Value::Null), 50).await.unwrap_err().kind(), Kind::Unsupported);
    }

    #[tokio::test]
    async fn branches_are_changed_by_git_with_its_own_token() {
        let script = Script::start(|seen| match (seen.path(), seen.header("authorization")) {
            ("/api/v1/login", _) => ok(&json!({"AccessToken": "git-secret", "Username": "o"})),
            ("/models/o/n.git/info/refs", Some(credential)) => {
                assert_eq!(credential, format!("Basic {}", STANDARD.encode("oauth2:git-secret")));
                assert!(seen.header("cookie").is_none());
                let line = format!("{ONE} refs/heads/master\0report-status delete-refs");
                Reply::new(200, format!("001f# service=git-receive-pack\n0000{:04x}{line}0000", line.len() + 4))
            }
            ("/models/o/n.git/git-receive-pack", Some(_)) => {
                let text = String::from_utf8_lossy(&seen.body).into_owned();
                if text.contains("refs/heads/guarded") {
                    return Reply::new(200, "000eunpack ok\n0032ng refs/heads/guarded it is git-secret guarded0000");
                }
                assert!(text.contains(&format!("{ZERO} {ONE} refs/heads/dev\0report-status0000PACK")), "{text}");
                Reply::new(200, "000eunpack ok\n0016ok refs/heads/dev\n0000")
            }
            other => panic!("{other:?}"),
        })
        .await;
        let change = |name: &str, from: Option<&str>, to: Option<&str>| {
            let revision = |id: Option<&str>| id.map(|id| Revision::new(id).unwrap());
            RefChange { kind: RefKind::Branch, name: name.into(), from: revision(from), to: revision(to) }
        };
        let target = target(&script);
        target.change(&change("dev", None, Some(ONE))).await.unwrap();
        target.change(&change("master", None, Some(ONE))).await.unwrap();
        let moved = target.change(&change("master", Some(ZERO), Some("2222222222222222222222222222222222222222"))).await.unwrap_err();
        assert_eq!(moved.kind(), Kind::Conflict);
        let refused = target.change(&change("guarded", None, Some(ONE))).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Denied);
        assert!(refused.to_string().contains("guarded") && !format!("{refused:?}").contains("secret"), "{refused}");
    }
}
