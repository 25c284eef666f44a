//! Hubs: one in this process whose answers can be spoilt, and one as a program that can be killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hubferry_server::testing::{Network, Script};
use hubferry_server::{Running, ServeConfig, User, serve};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Started, World};

/// Token of the user `alice`, who may write.
pub(crate) const ALICE: &str = "hf_AliceMayWrite0123456789";
/// Token of the user `rita`, who may only read.
pub(crate) const RITA: &str = "hf_RitaOnlyReads0123456789";

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap())
}

/// A hub in this process. Its requests are logged, and faults can be written into its script.
pub(crate) struct Hub {
    running: Option<Running>,
    pub(crate) script: Arc<Script>,
    pub(crate) network: Arc<Network>,
    pub(crate) hf: String,
    pub(crate) ms: String,
    _data: tempfile::TempDir,
}

impl Hub {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With storage at an origin of its own, as the real hubs have it. It is another host as well, because cookies know no ports.
    pub(crate) fn with_cdn() -> Self {
        Self::start_with(|config| config.cdn = Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0))))
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let data = tempfile::Builder::new().prefix("hub").tempdir().unwrap();
        let (script, network) = (Arc::new(Script::default()), Arc::new(Network::default()));
        let mut config = ServeConfig::new(data.path());
        config.users = users().map(|user| User::parse(&user).unwrap()).to_vec();
        config.faults = Some(script.clone());
        config.network = Some(network.clone());
        change(&mut config);
        let running = runtime().block_on(serve(config)).unwrap();
        let (hf, ms) = (running.hf_url().unwrap_or_default(), running.ms_url().unwrap_or_default());
        Self { running: Some(running), script, network, hf, ms, _data: data }
    }

    /// A world whose remotes are both faces of this hub.
    pub(crate) fn world(&self, token: &str) -> World {
        World::new().at(&self.hf, &self.ms, token)
    }

    /// Points any ref of a model at a commit that it has.
    pub(crate) fn point(&self, id: &str, name: &str, commit: &str) {
        let (kind, id) = (hubferry_core::address::RepoKind::Model, id.parse().unwrap());
        let store = self.running.as_ref().unwrap().state().store().clone();
        let (name, commit) = (name.to_owned(), commit.parse().unwrap());
        runtime().block_on(async move {
            let repo = store.find_repo(kind, &id).await.unwrap().unwrap().repo;
            store.move_ref(&repo, &name, None, Some(commit)).await.unwrap();
        });
    }

    /// Ids of the commits of a model on its default branch, newest first, as readers are told through the Hugging Face face.
    pub(crate) fn commits(&self, id: &str) -> Vec<(String, String)> {
        commits(&self.hf, id)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Its tasks end on the runtime they were started on.
        let _inside = runtime().enter();
        drop(self.running.take());
    }
}

fn users() -> [String; 2] {
    [format!("alice:{ALICE}"), format!("rita:{RITA}:read")]
}

/// A hub as its own program.
pub(crate) struct Served {
    data: PathBuf,
    ready: PathBuf,
    world: World,
    child: Option<Started>,
    pub(crate) hf: String,
    pub(crate) ms: String,
}

impl Served {
    /// Starts it and waits until it says that it listens.
    pub(crate) fn start() -> Self {
        let world = World::new();
        let (data, ready) = (world.home().join("data"), world.home().join("ready.json"));
        let mut served = Self { data, ready, world, child: None, hf: String::new(), ms: String::new() };
        served.restart();
        served
    }

    /// Starts it again over the same data, at the same addresses.
    pub(crate) fn restart(&mut self) {
        let _ = std::fs::remove_file(&self.ready);
        let at = |url: &str| url.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let [alice, rita] = users();
        let (hf, ms) = (at(&self.hf), at(&self.ms));
        let (data, ready) = (self.data.to_str().unwrap(), self.ready.to_str().unwrap());
        let args = ["serve", "--data", data, "--hf", &hf, "--ms", &ms, "--user", &alice, "--user", &rita, "--ready-file", ready];
        let mut child = self.world.start(&args);
        let begun = Instant::now();
        while !self.ready.exists() {
            assert!(child.is_running(), "the hub did not start: {}", self.world.home().display());
            assert!(begun.elapsed() < Duration::from_mins(1), "the hub is not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        let said: Value = serde_json::from_slice(&std::fs::read(&self.ready).unwrap()).unwrap();
        assert_eq!(said["pid"], child.id());
        (self.hf, self.ms) = (said["hf"].as_str().unwrap().to_owned(), said["ms"].as_str().unwrap().to_owned());
        self.child = Some(child);
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
            child.wait();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn world(&self, token: &str) -> World {
        World::new().at(&self.hf, &self.ms, token)
    }

    pub(crate) fn commits(&self, id: &str) -> Vec<(String, String)> {
        commits(&self.hf, id)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Id and whole message of each commit of a model, newest first.
fn commits(hf: &str, id: &str) -> Vec<(String, String)> {
    let (status, body) = super::canned::get(&format!("{hf}/api/models/{id}/commits/main?limit=100"), ALICE);
    assert_eq!(status, 200, "{body}");
    let listed: Value = serde_json::from_str(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let commit = |commit: &Value| (text(&commit["id"]), format!("{}\n\n{}", text(&commit["title"]), text(&commit["message"])));
    listed.as_array().unwrap().iter().map(commit).collect()
}
