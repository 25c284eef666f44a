//! A hub with Xet: ours, the store that the makers of Xet test with, and `tests/witness/xet_hub.py` in front of both.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::witness::{place, scripted};
use super::{ALICE, Hub, Ran, Started, World, get, send};

/// All three, running.
pub(crate) struct XetHub {
    _hub: Hub,
    front: Option<Started>,
    store: Option<Started>,
    /// Endpoint for clients.
    pub(crate) url: String,
    home: World,
}

/// A request that somebody made.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Value,
}

impl XetHub {
    pub(crate) fn start() -> Self {
        let (hub, home) = (Hub::with_cdn(), World::new());
        let program = place().join("local-cas/bin/local_cas_server");
        assert!(program.exists(), "the witness {} is not installed: run scripts/test-xet", program.display());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = home.home().join("store");
        let args = ["--data-directory", data.to_str().unwrap(), "--port", &port.to_string()];
        let store = Started::new(format!("local_cas_server {}", args.join(" ")), home.dress(Command::new(program), &args));
        let address = format!("http://127.0.0.1:{port}");
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let ready = home.home().join("front.json");
        let (line, command) = scripted(&home, "hf-xet", "xet_hub.py", &[&hub.hf, &address, ready.to_str().unwrap()]);
        let front = Started::new(line, command);
        until(|| ready.exists());
        let said: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let url = said["hub"].as_str().unwrap().to_owned();
        Self { _hub: hub, front: Some(front), store: Some(store), url, home }
    }

    /// A world whose Hugging Face is this.
    pub(crate) fn world(&self) -> World {
        World::new().at(&self.url, "http://127.0.0.1:9", ALICE)
    }

    /// Runs a script with the Python client, Xet switched on.
    pub(crate) fn python(&self, script: &str, args: &[&str]) -> Ran {
        let (line, mut command) = scripted(&self.home, "hf-xet", script, args);
        command.env("HF_ENDPOINT", &self.url).env("HF_TOKEN", ALICE);
        Started::new(line, command).wait().ok()
    }

    /// Publishes a folder with the Python client.
    pub(crate) fn publish(&self, id: &str, folder: &Path) {
        self.python("publish_hf.py", &["model", id, folder.to_str().unwrap()]);
    }

    /// Plays these faults from now on, and no others.
    pub(crate) fn faults(&self, faults: &Value) {
        assert_eq!(send("POST", &format!("{}/double/faults", self.url), "", Some(&faults.to_string())).0, 200);
    }

    /// Requests to `hub` or `store` so far.
    pub(crate) fn seen(&self, at: &str) -> Vec<Seen> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = self.told()["seen"].as_array().unwrap().clone();
        let here = all.into_iter().filter(|one| one["at"] == *at);
        here.map(|one| Seen { method: text(&one["method"]), path: text(&one["path"]), headers: one["headers"].clone() }).collect()
    }

    /// Whether the store has a file, by its SHA-256.
    pub(crate) fn has(&self, sha256: &str) -> bool {
        self.told()["hashes"].get(sha256).is_some()
    }

    fn told(&self) -> Value {
        let (status, body) = get(&format!("{}/double/seen", self.url), "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for XetHub {
    fn drop(&mut self) {
        for mut child in [self.front.take(), self.store.take()].into_iter().flatten() {
            child.kill();
            child.wait();
        }
    }
}

fn until(ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_mins(1), "not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}
