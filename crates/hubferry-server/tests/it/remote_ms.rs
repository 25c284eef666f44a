//! Our own ModelScope remote against the ModelScope face: the conformance suite, and what only both ends together show.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hubferry_core::address::RepoKind;
use hubferry_core::error::Kind;
use hubferry_core::events::Silent;
use hubferry_core::ops::copy;
use hubferry_core::remote::{RepoSpec, Source as _, Target as _, Visibility};
use hubferry_core::secret::Token;
use hubferry_core::testing::conformance::{self, Place, request};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;
use hubferry_remotes::http::{Http, HttpConfig};
use hubferry_remotes::modelscope::{MsConfig, MsRemote};
use hubferry_server::testing::{Face, Fault, FaultHook, Seen};

use super::ms_hub::{ALICE, BOB, Hub, RITA};

fn config(hub: &Hub, token: Option<&str>) -> MsConfig {
    MsConfig {
        endpoint: hub.url().parse().unwrap(),
        token: token.and_then(Token::new),
        http: Http::new(HttpConfig::default()).unwrap(),
        reporter: Arc::new(Silent),
    }
}

fn remote(hub: &Hub, token: &str, kind: Option<RepoKind>, id: &str) -> MsRemote {
    MsRemote::new(&config(hub, Some(token)), kind, id.parse().unwrap(), None).unwrap()
}

/// Objects come from an origin of their own.
async fn hub_with_cdn() -> Hub {
    Hub::start_with(|config| config.cdn = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await
}

async fn keeps_the_contract(kind: RepoKind, generated: Vec<&'static str>) {
    let hub = hub_with_cdn().await;
    let id = format!("alice/conform-{kind}");
    let (target, source) = (remote(&hub, ALICE, Some(kind), &id).target(), remote(&hub, ALICE, None, &id).source());
    conformance::target(&Place { target: Arc::new(target), source: Arc::new(source), generated }).await.unwrap();
    for seen in hub.script.seen().into_iter().filter(|seen| seen.face == Face::Cdn) {
        assert!(!seen.authorization && !seen.cookie, "a token reached another origin: {seen:?}");
    }
}

#[tokio::test]
async fn models_keep_the_contract() {
    keeps_the_contract(RepoKind::Model, vec!["README.md", ".gitattributes", "configuration.json"]).await;
}

#[tokio::test]
async fn datasets_keep_the_contract() {
    keeps_the_contract(RepoKind::Dataset, vec!["README.md", ".gitattributes", "dataset_infos.json"]).await;
}

#[tokio::test]
async fn what_others_may_not_see_is_not_there() {
    let hub = Hub::start().await;
    let mine = remote(&hub, ALICE, Some(RepoKind::Model), "alice/secret");
    mine.target().create(&RepoSpec::new(Visibility::Private)).await.unwrap();
    mine.target().create(&RepoSpec::new(Visibility::Public)).await.unwrap();
    assert_eq!(mine.source().info().await.unwrap().visibility, Some(Visibility::Private), "the second creation changed nothing");
    let theirs = remote(&hub, BOB, None, "alice/secret");
    assert_eq!(theirs.source().manifest().await.unwrap_err().kind(), Kind::NotFound);
    assert!(theirs.target().head().await.unwrap().is_none());
    assert!(theirs.target().create(&RepoSpec::new(Visibility::Public)).await.is_err());
    let typo = remote(&hub, "ms-nobody", None, "alice/secret");
    assert_eq!(typo.source().manifest().await.unwrap_err().kind(), Kind::Unauthenticated);
    let reader = remote(&hub, RITA, Some(RepoKind::Model), "rita/new");
    let denied = reader.target().create(&RepoSpec::new(Visibility::Public)).await.unwrap_err();
    assert!(matches!(denied.kind(), Kind::Denied | Kind::Unauthenticated), "{denied}");
    assert_eq!(config(&hub, Some(ALICE)).whoami().await.unwrap(), "alice");
    assert_eq!(config(&hub, Some("ms-nobody")).whoami().await.unwrap_err().kind(), Kind::Unauthenticated);
}

/// Plays one fault on the first request with this method whose path contains a word.
#[derive(Debug)]
struct Once {
    method: &'static str,
    word: &'static str,
    fault: Fault,
    fired: AtomicBool,
}

impl Once {
    fn new(method: &'static str, word: &'static str, fault: Fault) -> Arc<Self> {
        Arc::new(Self { method, word, fault, fired: AtomicBool::new(false) })
    }

    fn fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }
}

impl FaultHook for Once {
    fn on_request(&self, seen: &Seen) -> Fault {
        let hit = seen.method == self.method && seen.path.contains(self.word) && !self.fired.swap(true, Ordering::Relaxed);
        if hit { self.fault.clone() } else { Fault::None }
    }
}

fn sample() -> MemoryRepo {
    let weights = vec![7; 200_000];
    MemoryRepo::with_files(Publishes::Sha256, &[("model.safetensors", &weights), ("a/b.txt", b"text"), ("README.md", b"# card\n")])
}

#[tokio::test]
async fn one_failure_anywhere_ends_in_one_right_commit() {
    let busy = Fault::Answer(429, vec![("Retry-After", "0".to_owned())], r#"{"Code":429,"Success":false}"#.to_owned());
    let moved = r#"{"Code":10030000001,"Success":false,"Message":"branch changed, please retry"}"#;
    for (method, word, fault) in [
        ("POST", "/commit/", Fault::LoseAnswer),
        ("POST", "/commit/", busy.clone()),
        ("POST", "/commit/", Fault::Answer(400, Vec::new(), moved.to_owned())),
        ("POST", "/commit/", Fault::Answer(503, Vec::new(), "<html>".to_owned())),
        ("PUT", "/blobs/", Fault::LoseAnswer),
        ("PUT", "/blobs/", Fault::Answer(500, Vec::new(), String::new())),
        ("POST", "/objects/batch", Fault::LoseAnswer),
        ("GET", "/repo/files", Fault::Cut(20)),
        ("GET", "/repo/files", busy),
        ("GET", "/api/v1/models", Fault::LoseAnswer),
        ("POST", "/api/v1/models", Fault::LoseAnswer),
    ] {
        let name = format!("{fault:?} at {method} {word}");
        let once = Once::new(method, word, fault);
        let hook = once.clone();
        let hub = Hub::start_with(|config| config.faults = Some(hook)).await;
        let place = remote(&hub, ALICE, Some(RepoKind::Model), "alice/once");
        let report = copy(&request(Arc::new(sample()), Arc::new(place.target())), &quick_context()).await.expect(&name);
        assert!(once.fired(), "{name}");
        let head = place.source().manifest().await.unwrap();
        assert_eq!(report.head.as_ref(), Some(&head.revision), "{name}");
        assert_eq!(head.entries["model.safetensors"].size, 200_000, "{name}");
        let commits: serde_json::Value =
            hub.ask(super::ms_hub::get("/api/v1/models/alice/once/commits?Ref=master&PageNumber=1&PageSize=50", Some(ALICE))).await.json();
        assert_eq!(commits["Data"]["Commit"].as_array().unwrap().len(), 2, "{name}: one commit on top of the first");
    }
}

#[tokio::test]
async fn a_link_that_expired_is_asked_for_again() {
    let expired = Once::new("GET", "/-/objects/", Fault::ExpireLink);
    let hook = expired.clone();
    let hub = Hub::start_with(|config| {
        config.cdn = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.faults = Some(hook);
    })
    .await;
    let place = remote(&hub, ALICE, Some(RepoKind::Model), "alice/links");
    copy(&request(Arc::new(sample()), Arc::new(place.target())), &quick_context()).await.unwrap();
    let back = MemoryRepo::new(Publishes::Sha256);
    copy(&request(Arc::new(place.source()), Arc::new(back.clone())), &quick_context()).await.unwrap();
    assert!(expired.fired());
    assert_eq!(back.manifest().await.unwrap().entries["model.safetensors"].size, 200_000);
}

#[tokio::test]
async fn more_files_than_one_listing_or_one_commit_holds() {
    let hub = Hub::start().await;
    let files: Vec<(String, Vec<u8>)> = (0..3200).map(|n| (format!("part-{}/{n}.txt", n % 3), n.to_string().into_bytes())).collect();
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    for kind in [RepoKind::Model, RepoKind::Dataset] {
        let place = remote(&hub, ALICE, Some(kind), "alice/many");
        let source = Arc::new(MemoryRepo::with_files(Publishes::Sha256, &borrowed));
        let report = copy(&request(source.clone(), Arc::new(place.target())), &quick_context()).await.unwrap();
        assert_eq!(report.outcome.commits.len(), 2, "the hub takes 2000 operations at once");
        let head = place.source().manifest().await.unwrap();
        assert!(files.iter().all(|(path, content)| head.entries[path.as_str()].size == content.len() as u64));
        let again = copy(&request(source, Arc::new(place.target())), &quick_context()).await.unwrap();
        assert!(again.plan.is_empty());
    }
}
