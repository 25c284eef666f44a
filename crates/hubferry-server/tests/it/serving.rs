//! The life of a server: restart, stop, one owner, many readers, hostile clients.

use std::time::{Duration, Instant};

use hubferry_core::error::Kind;
use hubferry_server::{ServeConfig, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{ALICE, hub, hub_with};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_there_after_a_restart() {
    let hub = hub().await;
    let bytes = hub.with_weights(300_000).await;
    let link = hub.link().await;
    let (_, query) = link.split_once("/-/").unwrap();
    let hub_folder = hub.folder;
    hub.running.shutdown().await;
    let again = serve(ServeConfig::new(hub_folder.path())).await.unwrap();
    let url = again.hf_url().unwrap();
    // Links that were handed out before are still good.
    let got = hub.http.get(format!("{url}/-/{query}")).send().await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
    let tree: Value = hub.http.get(format!("{url}/api/models/alice/m/tree/main")).send().await.unwrap().json().await.unwrap();
    assert_eq!(tree.as_array().unwrap().len(), 2);
    assert_eq!(serve(ServeConfig::new(hub_folder.path())).await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_it_is_read_only_and_says_why() {
    let hub = hub_with(|config| config.users.clear()).await;
    let body = json!({ "name": "m", "organization": "alice" });
    let answer = hub.post("/api/repos/create").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.text().await.unwrap().contains("--user NAME:TOKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_answers_finish_and_then_ends() {
    let hub = hub().await;
    let bytes = hub.with_weights(8_000_000).await;
    let link = hub.link().await;
    let mut slow = hub.http.get(&link).send().await.unwrap();
    let mut got = slow.chunk().await.unwrap().unwrap().to_vec();
    let stopping = tokio::spawn(hub.running.shutdown());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(hub.http.get(&link).send().await.is_err(), "it still takes connections");
    while let Some(piece) = slow.chunk().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, bytes);
    let start = Instant::now();
    stopping.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let hub = hub().await;
    hub.create("m").await;
    let oid = hubferry_core::digest::Oid::of(b"whatever");
    let ask = json!({ "operation": "upload", "transfers": ["basic"], "objects": [{ "oid": oid, "size": 1_000_000 }] });
    let href = hub.batch("alice/m", &ask).await["objects"][0]["actions"]["upload"]["href"].as_str().unwrap().to_owned();
    let at = href.strip_prefix("http://").unwrap();
    let (host, path) = at.split_once('/').unwrap();
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!("PUT /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1000000\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&vec![7; 600_000]).await.unwrap();
    let incoming = hub.folder.path().join("incoming");
    wait_for(|| std::fs::read_dir(&incoming).unwrap().count() == 1).await;
    drop(socket);
    wait_for(|| std::fs::read_dir(&incoming).unwrap().count() == 0).await;
}

async fn wait_for(done: impl Fn() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it did not come to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_and_forgotten() {
    let hub = hub().await;
    let host = hub.running.hf_url().unwrap().strip_prefix("http://").unwrap().to_owned();
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\u{ff} HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut socket = tokio::net::TcpStream::connect(&host).await.unwrap();
        socket.write_all(garbage.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(2), socket.read_to_end(&mut answer)).await;
    }
    for (path, body) in
        [("/api/repos/create", "[]"), ("/api/repos/create", "{"), ("/api/repos/move", "{}"), ("/a/b.git/info/lfs/objects/batch", "null")]
    {
        let answer = hub.post(path).bearer_auth(ALICE).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{path} {body}");
    }
    assert_eq!(hub.get("/").send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_at_once_get_the_same_bytes() {
    let hub = hub().await;
    let bytes = hub.with_weights(2_000_000).await;
    let link = hub.link().await;
    let all = (0..64).map(|_| {
        let (http, link) = (hub.http.clone(), link.clone());
        tokio::spawn(async move { http.get(link).send().await.unwrap().bytes().await.unwrap() })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), bytes);
    }
}
