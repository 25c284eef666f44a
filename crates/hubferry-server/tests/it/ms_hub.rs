//! A hub that serves the ModelScope face on a free loopback port, and raw HTTP to ask it with.

use std::sync::Arc;

use hubferry_server::testing::Script;
use hubferry_server::{Running, ServeConfig, User, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const ALICE: &str = "ms-alice-0123456789";
pub const BOB: &str = "ms-bob-0123456789";
pub const RITA: &str = "ms-rita-0123456789";

/// A served hub; it ends with this value.
pub struct Hub {
    pub running: Running,
    pub script: Arc<Script>,
    address: String,
    _data: tempfile::TempDir,
}

impl Hub {
    /// Both faces. Alice and Bob may write, Rita may read.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        let mut config = ServeConfig::new(data.path());
        let users = [format!("alice:{ALICE}"), format!("bob:{BOB}"), format!("rita:{RITA}:read")];
        config.users = users.iter().map(|user| User::parse(user).unwrap()).collect();
        config.faults = Some(script.clone());
        change(&mut config);
        let running = serve(config).await.unwrap();
        let address = running.ms_url().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { running, script, address, _data: data }
    }

    pub fn url(&self) -> String {
        self.running.ms_url().unwrap()
    }

    /// Host and port of the ModelScope face.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: Ask<'_>) -> Reply {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", request.method, request.path, self.address);
        if let Some(token) = request.token {
            head.extend(["Cookie: other=1; m_session_id=", token, "\r\n"]);
        }
        for (name, value) in request.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.extend(["Content-Length: ", &request.body.len().to_string(), "\r\n\r\n"]);
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refusal may come, and the connection end, before the body was taken.
        let _ = stream.write_all(request.body).await;
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw).await;
        Reply::parse(&raw)
    }
}

/// What to ask.
#[derive(Clone, Copy, Default)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

pub fn get<'a>(path: &'a str, token: Option<&'a str>) -> Ask<'a> {
    Ask { method: "GET", path, token, ..Ask::default() }
}

pub fn send<'a>(method: &'a str, path: &'a str, token: Option<&'a str>, body: &'a [u8]) -> Ask<'a> {
    Ask { method, path, token, body, ..Ask::default() }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(raw)));
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
        let mut body = raw[end + 4..].to_vec();
        if headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked") {
            body = unchunk(&body);
        }
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and business code.
    pub fn code(&self) -> (u16, u64) {
        let json = self.json();
        assert_eq!(json["Success"], Value::Bool(self.status == 200), "{json}");
        (self.status, json["Code"].as_u64().unwrap())
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
