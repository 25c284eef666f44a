//! A hub in this process, plain HTTP requests, and the real Python clients.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Once};

use hubferry_core::digest::Oid;
use hubferry_server::testing::Script;
use hubferry_server::{Running, ServeConfig, User, serve};
use serde_json::{Value, json};

/// Tokens of the users every test hub has: two writers, one reader.
pub(crate) const ALICE: &str = "hf_alice";
pub(crate) const BOB: &str = "hf_bob";
pub(crate) const READER: &str = "hf_reader";

/// Larger files go in parts.
pub(crate) const PART: u64 = 1024 * 1024;

/// A running hub and its folder, which goes with it.
pub(crate) struct Hub {
    pub(crate) running: Running,
    pub(crate) script: Arc<Script>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
}

pub(crate) async fn hub() -> Hub {
    hub_with(|_| {}).await
}

/// A hub with a separate storage origin.
pub(crate) async fn hub_with_cdn() -> Hub {
    hub_with(|config| config.cdn = Some("127.0.0.1:0".parse().unwrap())).await
}

pub(crate) async fn hub_with(change: impl FnOnce(&mut ServeConfig)) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    let script = Arc::new(Script::default());
    let mut config = ServeConfig::new(folder.path());
    config.users = ["alice:hf_alice", "bob:hf_bob", "carol:hf_reader:read"].iter().map(|u| User::parse(u).unwrap()).collect();
    config.part_size = PART;
    config.faults = Some(script.clone());
    change(&mut config);
    let running = serve(config).await.unwrap();
    Hub { running, script, folder, http: client() }
}

fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Our own remotes in the same process may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

impl Hub {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.hf_url().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(self.url(path))
    }

    /// A public model of alice's.
    pub(crate) async fn create(&self, name: &str) {
        let body = json!({ "name": name, "organization": "alice", "type": "model", "visibility": "public" });
        let answer = self.post("/api/repos/create").bearer_auth(ALICE).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// Sends a commit; `lines` follow the header.
    pub(crate) async fn commit(&self, repo: &str, header: Value, lines: &[Value]) -> reqwest::Response {
        let mut text = json!({ "key": "header", "value": header }).to_string();
        for line in lines {
            text.push('\n');
            text.push_str(&line.to_string());
        }
        let to = self.post(&format!("/api/models/{repo}/commit/main")).bearer_auth(ALICE);
        to.header("content-type", "application/x-ndjson").body(text).send().await.unwrap()
    }

    /// Uploads an object by LFS in one piece and returns its id.
    pub(crate) async fn upload(&self, repo: &str, bytes: &[u8]) -> Oid {
        let oid = Oid::of(bytes);
        let body = json!({ "operation": "upload", "transfers": ["basic"], "objects": [{ "oid": oid, "size": bytes.len() }] });
        let answer = self.batch(repo, &body).await;
        let href = answer["objects"][0]["actions"]["upload"]["href"].as_str().unwrap().to_owned();
        let put = self.http.put(href).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
        oid
    }

    pub(crate) async fn batch(&self, repo: &str, body: &Value) -> Value {
        let to = self.post(&format!("/{repo}.git/info/lfs/objects/batch")).bearer_auth(ALICE);
        let answer = to.header("content-type", "application/vnd.git-lfs+json").body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Creates alice/m with one LFS file `m.bin` and returns its bytes.
    pub(crate) async fn with_weights(&self, size: usize) -> Vec<u8> {
        self.create("m").await;
        let bytes: Vec<u8> = (0..size).map(|n| (n * 31 % 253).to_le_bytes()[0]).collect();
        let oid = self.upload("alice/m", &bytes).await;
        let line = json!({ "key": "lfsFile", "value": { "path": "m.bin", "algo": "sha256", "oid": oid, "size": size } });
        assert_eq!(self.commit("alice/m", json!({ "summary": "weights" }), &[line]).await.status(), 200);
        bytes
    }

    /// Where a download of `m.bin` is sent.
    pub(crate) async fn link(&self) -> String {
        let answer = self.get("/alice/m/resolve/main/m.bin").send().await.unwrap();
        assert_eq!(answer.status(), 302);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }
}

/// The Hugging Face clients that must agree: without hf_xet, and with it but switched off.
pub(crate) const HF_CLIENTS: [&str; 2] = ["hf", "hf-xet"];

/// Runs a script of `tests/witness` with a real client; fails when the client is not installed.
pub(crate) async fn witness(client: &str, script: &str, hub: &Hub, settings: &[(&str, String)]) {
    let python = python(client);
    let home = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(python);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness").join(script))
        .current_dir(home.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .env("HF_HOME", home.path().join("hf"))
        .env("HF_ENDPOINT", hub.running.hf_url().unwrap_or_default())
        .env("MODELSCOPE_ENDPOINT", hub.running.ms_url().unwrap_or_default())
        .envs([("HF_HUB_DISABLE_XET", "1"), ("HF_HUB_DISABLE_TELEMETRY", "1"), ("HF_HUB_DISABLE_PROGRESS_BARS", "1")])
        .envs([("ALICE", ALICE), ("BOB", BOB), ("READER", READER), ("PYTHONDONTWRITEBYTECODE", "1")])
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_mins(3), command.output()).await.expect("the client hangs").unwrap();
    assert!(
        output.status.success(),
        "{client} {script}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The Python of a witness: a missing one fails the test.
pub(crate) fn python(client: &str) -> PathBuf {
    let python = witnesses().join(client).join("bin/python");
    assert!(python.exists(), "{} is missing: set HUBFERRY_WITNESSES to the folder of the Python environments", python.display());
    python
}

#[expect(clippy::disallowed_methods, reason = "the test script says by this variable where it installed the clients")]
pub(crate) fn witnesses() -> PathBuf {
    std::env::var_os("HUBFERRY_WITNESSES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witnesses"), PathBuf::from)
}
