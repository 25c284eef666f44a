//! The `hf` remote keeps the contract, shown through the hub's Hugging Face face: whole, in parts, with storage elsewhere, and
//! with faults on the wire.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Kind, Result};
use hubferry_core::events::Silent;
use hubferry_core::manifest::{Manifest, Revision};
use hubferry_core::ops::{CopyReport, copy};
use hubferry_core::remote::{Body, Commit, Drafts, Limits, RepoSpec, Source as _, Staged, Target, Visibility, Wanted};
use hubferry_core::secret::Token;
use hubferry_core::testing::conformance::{self, Place};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::transfer::Context;
use hubferry_core::transfer::retry::RetryPolicy;
use hubferry_remotes::hf::{HfConfig, HfRemote};
use hubferry_remotes::http::{Http, HttpConfig};
use hubferry_remotes::journal::FileJournal;
use hubferry_server::testing::{Face, Fault, Rule, Script};
use hubferry_server::{Running, ServeConfig, User, serve};

const ALICE: &str = "hf_alice_0123456789";
const RITA: &str = "hf_rita_0123456789";
/// What the paths of stored objects begin with.
const STORAGE: &str = "/-/";
/// Small enough that the samples of the suite travel in parts.
const PART: u64 = 100_000;

struct Hub {
    running: Running,
    script: Arc<Script>,
    data: tempfile::TempDir,
}

impl Hub {
    async fn start(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        let mut config = ServeConfig::new(data.path());
        config.users = [format!("alice:{ALICE}"), format!("rita:{RITA}:read")].iter().map(|user| User::parse(user).unwrap()).collect();
        config.faults = Some(script.clone());
        config.cdn = Some(([127, 0, 0, 1], 0).into());
        config.part_size = PART;
        change(&mut config);
        Self { running: serve(config).await.unwrap(), script, data }
    }

    fn config(&self, token: Option<&str>) -> HfConfig {
        let http = Http::new(HttpConfig { idle_timeout: Duration::from_secs(5), ..HttpConfig::default() }).unwrap();
        let endpoint = self.running.hf_url().unwrap().parse().unwrap();
        let journal = Arc::new(FileJournal::at(self.data.path().join("client/uploads")));
        HfConfig {
            endpoint,
            token: token.and_then(Token::new),
            set_token: "set HF_TOKEN to".into(),
            http,
            reporter: Arc::new(Silent),
            journal,
        }
    }

    fn remote(&self, kind: Option<RepoKind>, token: Option<&str>, rev: Option<&str>) -> HfRemote {
        let config = self.config(token);
        let id: RepoId = "alice/conformance".parse().unwrap();
        HfRemote::new(&config, kind, id, rev.map(str::to_owned)).unwrap()
    }

    fn place(&self, kind: RepoKind) -> Place {
        let remote = self.remote(Some(kind), Some(ALICE), None);
        Place { target: Arc::new(remote.target().unwrap()), source: Arc::new(remote.source()), generated: vec![".gitattributes"] }
    }

    /// Copies the sample of the suite, plus `extra`, into the model.
    async fn publish(&self, extra: &[(&'static str, Vec<u8>)]) -> Result<CopyReport> {
        let mut files = conformance::sample();
        files.extend(extra.iter().cloned());
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
        let from = Arc::new(MemoryRepo::with_files(Publishes::Mixed, &files));
        let mut context = Context::new(Arc::new(Silent));
        context.retry = RetryPolicy { total: Duration::from_mins(1), ..RetryPolicy::quick() };
        copy(&conformance::request(from, self.place(RepoKind::Model).target), &context).await
    }

    fn commits(&self) -> usize {
        self.script.count(&Method::POST, "/commit/main")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_in_parts_with_storage_elsewhere() {
    let hub = Hub::start(|_| {}).await;
    conformance::target(&hub.place(RepoKind::Model)).await.unwrap();
    let seen = hub.script.seen();
    let stored: Vec<_> = seen.iter().filter(|seen| seen.face == Face::Cdn).collect();
    assert!(stored.iter().any(|seen| seen.method == Method::PUT) && stored.iter().any(|seen| seen.method == Method::GET));
    assert!(stored.iter().all(|seen| !seen.authorization && !seen.cookie), "the token stays at the hub");
    assert!(hub.script.count(&Method::POST, "complete_multipart") > 0, "large files go in parts");
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_in_one_piece_with_storage_at_the_hub() {
    let hub = Hub::start(|config| {
        config.cdn = None;
        config.part_size = 64 << 20;
    })
    .await;
    conformance::target(&hub.place(RepoKind::Dataset)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_end_in_one_right_commit() {
    let busy = |status, wait: &str| Fault::Answer(status, vec![("retry-after", wait.to_owned())], "{}".to_owned());
    let rules = [
        ("a lost commit answer", Rule::once(Method::POST, "/commit/", Fault::LoseAnswer), 1),
        ("a commit that is asked to wait", Rule::once(Method::POST, "/commit/", busy(429, "1")), 2),
        ("a gateway that gave up on a commit", Rule::once(Method::POST, "/commit/", Fault::Answer(504, vec![], "<html>".into())), 2),
        ("a busy batch", Rule::once(Method::POST, "/objects/batch", busy(429, "1")), 1),
        ("a lost batch answer", Rule::once(Method::POST, "/objects/batch", Fault::LoseAnswer), 1),
        ("a busy preupload", Rule::once(Method::POST, "/preupload/", busy(503, "1")), 1),
        ("a part that fails", Rule { nth: 2..=3, ..Rule::once(Method::PUT, "", busy(503, "0")) }, 1),
        ("a part whose answer is lost", Rule::once(Method::PUT, "", Fault::LoseAnswer), 1),
        ("a link that expired", Rule { nth: 2..=2, ..Rule::once(Method::PUT, "", Fault::ExpireLink) }, 1),
        ("a lost completion", Rule::once(Method::POST, "complete_multipart", Fault::LoseAnswer), 1),
        ("a lost creation", Rule::once(Method::POST, "/repos/create", Fault::LoseAnswer), 1),
        ("a cut listing", Rule::once(Method::GET, "/tree/", Fault::Cut(20)), 1),
    ];
    for (what, rule, sent) in rules {
        let hub = Hub::start(|_| {}).await;
        hub.script.add(rule);
        hub.publish(&[]).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(hub.commits(), sent, "{what}");
        let history = hub.publish(&[]).await.unwrap();
        assert!(history.plan.is_empty(), "{what}: everything is there");
        assert_eq!(hub.commits(), sent, "{what}: and nothing is committed twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_goes_on_where_it_was() {
    let large = ("more/large.bin", (0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    let parts = |hub: &Hub| hub.script.count(&Method::PUT, "/uploads/");
    let untroubled = Hub::start(|_| {}).await;
    untroubled.publish(std::slice::from_ref(&large)).await.unwrap();
    let all = parts(&untroubled);
    let hub = Hub::start(|_| {}).await;
    let rule = Rule { nth: 13..=1000, ..Rule::once(Method::PUT, "/uploads/", Fault::Delay(Duration::from_mins(1))) };
    hub.script.add(rule);
    {
        let extra = std::slice::from_ref(&large);
        let mut copying = std::pin::pin!(hub.publish(extra));
        let killed = async {
            while parts(&hub) < 13 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            result = &mut copying => panic!("it was to hang: {result:?}"),
            () = killed => {}
        }
    }
    hub.script.reset();
    hub.publish(&[large]).await.unwrap();
    assert!(parts(&hub) <= all - 12, "{} of {all} parts were sent again although 12 were stored", parts(&hub));
    assert_eq!(std::fs::read_dir(hub.data.path().join("client/uploads")).unwrap().count(), 0);
    assert!(hub.publish(&[]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_heals_cuts_and_expired_links() {
    let hub = Hub::start(|_| {}).await;
    hub.publish(&[]).await.unwrap();
    let busy = Fault::Answer(503, vec![("retry-after", "1".to_owned())], String::new());
    let limited = Fault::Answer(429, vec![("retry-after", "1".to_owned())], String::new());
    let stall = Fault::Stall(1000, Duration::from_secs(30));
    for fault in [Fault::Cut(60_000), Fault::ExpireLink, Fault::Flip(5000), busy, limited, stall, Fault::LoseAnswer] {
        hub.script.reset();
        let shown = format!("{fault:?}");
        hub.script.add(Rule::once(Method::GET, STORAGE, fault));
        let from = Arc::new(hub.remote(Some(RepoKind::Model), None, None).source());
        let into = Arc::new(MemoryRepo::with_files(Publishes::Sha256, &[]));
        let mut context = Context::new(Arc::new(Silent));
        context.retry = RetryPolicy::quick();
        context.idle = Duration::from_secs(2);
        copy(&conformance::request(from, into), &context).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(hub.script.count(&Method::GET, STORAGE), 3, "two large files and one more try: {shown}");
        assert!(hub.script.seen().iter().all(|seen| !seen.authorization), "nobody has a token here");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lies_every_time_is_corrupt() {
    let hub = Hub::start(|_| {}).await;
    hub.publish(&[]).await.unwrap();
    hub.script.add(Rule::once(Method::GET, STORAGE, Fault::Flip(7)).always());
    let from = Arc::new(hub.remote(Some(RepoKind::Model), None, None).source());
    let into = Arc::new(MemoryRepo::with_files(Publishes::Sha256, &[]));
    let mut context = Context::new(Arc::new(Silent));
    context.retry = RetryPolicy::quick();
    let error = copy(&conformance::request(from, into), &context).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so() {
    let hub = Hub::start(|_| {}).await;
    let head = |token| {
        let remote = hub.remote(Some(RepoKind::Model), token, None);
        async move { remote.target().unwrap().head().await }
    };
    assert_eq!(head(Some(ALICE)).await.unwrap(), None);
    assert_eq!(head(Some("hf_wrong")).await.unwrap_err().kind(), Kind::Unauthenticated);
    assert_eq!(head(None).await.unwrap_err().kind(), Kind::Unauthenticated);
    let reader = hub.remote(Some(RepoKind::Model), Some(RITA), None).target().unwrap();
    let spec = RepoSpec::new(Visibility::Public);
    assert_eq!(reader.create(&spec).await.unwrap_err().kind(), Kind::Denied);
    hub.publish(&[]).await.unwrap();
    let anonymous = hub.remote(None, None, None).source();
    assert!(anonymous.manifest().await.unwrap().entries.len() > 8, "what is public is read without a token, and its kind is found");
    let nowhere = hub.remote(None, None, Some("no-such-branch")).source().manifest().await.unwrap_err();
    assert!(nowhere.kind() == Kind::NotFound && nowhere.to_string().contains("revision"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_content_and_awkward_names_arrive() {
    let hub = Hub::start(|_| {}).await;
    let picture = b"\x89PNG\r\n\x1a\n\0\0".repeat(100);
    hub.publish(&[("sample picture", picture.clone()), ("a+b & c=d?.txt", b"x".to_vec()), ("100%/~'(1)'.json", b"{}".to_vec())])
        .await
        .unwrap();
    let source = hub.remote(Some(RepoKind::Model), Some(RITA), None).source();
    let manifest = source.manifest().await.unwrap();
    let (_, entry) = manifest.entries.iter().find(|(path, _)| path.as_str() == "sample picture").unwrap();
    assert!(entry.lfs && entry.size == picture.len() as u64);
    let account = hub.config(Some(ALICE)).whoami().await.unwrap();
    assert_eq!((account.name.as_str(), account.role.as_deref()), ("alice", Some("write")));
}

/// The same target, as if the hub took few operations in one commit.
#[derive(Debug)]
struct Narrow(Arc<dyn Target>);

#[async_trait]
impl Target for Narrow {
    fn limits(&self) -> Limits {
        let mut limits = self.0.limits();
        limits.ops_per_commit = 3;
        limits
    }

    async fn head(&self) -> Result<Option<Manifest>> {
        self.0.head().await
    }

    async fn create(&self, spec: &RepoSpec) -> Result<()> {
        self.0.create(spec).await
    }

    async fn missing(&self, wanted: &[Wanted]) -> Result<HashSet<Oid>> {
        self.0.missing(wanted).await
    }

    async fn put(&self, wanted: &Wanted, body: &dyn Body) -> Result<Staged> {
        self.0.put(wanted, body).await
    }

    async fn commit(&self, change: Commit) -> Result<Revision> {
        self.0.commit(change).await
    }

    fn drafts(&self) -> Option<&dyn Drafts> {
        self.0.drafts()
    }
}

impl Hub {
    /// Copies eight files, of which three fit into one commit.
    async fn publish_narrow(&self) -> Result<CopyReport> {
        let names: Vec<String> = (0..8).map(|n| format!("part-{n}.bin")).collect();
        let large = vec![7_u8; 150_000];
        let files: Vec<(&str, &[u8])> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), if n == 0 { &large[..] } else { name.as_bytes() })).collect();
        let from = Arc::new(MemoryRepo::with_files(Publishes::Mixed, &files));
        let mut context = Context::new(Arc::new(Silent));
        context.retry = RetryPolicy { total: Duration::from_mins(1), ..RetryPolicy::quick() };
        copy(&conformance::request(from, Arc::new(Narrow(self.place(RepoKind::Model).target))), &context).await
    }

    /// The titles of the commits that readers see, newest first, and what became of the pull requests.
    async fn told(&self) -> (Vec<String>, Vec<String>) {
        let url = self.running.hf_url().unwrap();
        let get = async |path: &str| -> serde_json::Value {
            let answer = reqwest::Client::new().get(format!("{url}{path}")).bearer_auth(ALICE).send().await.unwrap();
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let commits = get("/api/models/alice/conformance/commits/main").await;
        let pulls = get("/api/models/alice/conformance/discussions").await;
        (
            commits.as_array().unwrap().iter().map(|commit| text(&commit["title"])).collect(),
            pulls["discussions"].as_array().unwrap().iter().map(|pull| text(&pull["status"])).collect(),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_too_large_for_one_commit_is_merged_as_one() {
    let hub = Hub::start(|_| {}).await;
    let report = hub.publish_narrow().await.unwrap();
    assert_eq!(report.outcome.commits.len(), 1);
    let (commits, pulls) = hub.told().await;
    assert_eq!((commits.len(), pulls), (2, vec!["merged".to_owned()]), "{commits:?}");
    assert!(commits[0].starts_with("Copy memory:sample@") && commits[0].ends_with("(#1)"), "{commits:?}");
    assert_eq!(hub.commits(), 0, "nothing was committed where readers look");
    assert!(hub.publish_narrow().await.unwrap().outcome.commits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_around_a_pull_request_make_no_second_one() {
    for (path, nth) in [("/discussions?", 1), ("/commit/refs%2Fpr%2F1", 2), ("/merge", 1), ("/status", 1)] {
        let hub = Hub::start(|_| {}).await;
        hub.script.add(Rule { nth: nth..=nth, ..Rule::once(Method::POST, path, Fault::LoseAnswer) });
        let report = hub.publish_narrow().await.unwrap();
        assert_eq!((hub.script.played(), report.outcome.commits.len()), (1, 1), "{path}");
        assert_eq!(hub.told().await.1, ["merged"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_that_cannot_be_merged_is_closed() {
    let hub = Hub::start(|_| {}).await;
    hub.script.add(Rule::once(Method::POST, "/commit/refs%2Fpr%2F1", Fault::Answer(401, Vec::new(), "{}".into())).always());
    hub.publish_narrow().await.unwrap_err();
    assert_eq!(hub.told().await.1, ["closed"]);
    // Where there are none, the order of several commits keeps every state readable.
    hub.script.reset();
    hub.script.add(Rule::once(Method::POST, "/discussions?", Fault::Answer(403, Vec::new(), "{}".into())).always());
    let report = hub.publish_narrow().await.unwrap();
    assert_eq!((report.outcome.commits.len(), hub.commits()), (3, 3));
    let (commits, _) = hub.told().await;
    assert!(commits[0].ends_with("(3/3)"), "{commits:?}");
}
