//! The scripted faults do on the wire what they say.

use std::time::{Duration, Instant};

use axum::http::Method;
use hubferry_server::testing::{Fault, Rule};
use serde_json::json;

use crate::support::hub;

#[tokio::test]
async fn answers_are_cut_flipped_stalled_and_replaced() {
    let hub = hub().await;
    let bytes = hub.with_weights(1_000_000).await;
    let link = hub.link().await;
    let get = || hub.http.get(&link).send();
    let add = |fault| hub.script.add(Rule::once(Method::GET, "/-/objects/", fault));

    add(Fault::Cut(500_000));
    let mut cut = get().await.unwrap();
    let mut got = 0;
    let error = loop {
        match cut.chunk().await {
            Ok(Some(piece)) => got += piece.len(),
            Ok(None) => panic!("the answer ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(got, 500_000, "{error}");
    hub.script.reset();

    add(Fault::Flip(123_456));
    let flipped = get().await.unwrap().bytes().await.unwrap();
    let wrong: Vec<usize> = (0..bytes.len()).filter(|n| flipped[*n] != bytes[*n]).collect();
    assert_eq!(wrong, [123_456]);
    hub.script.reset();

    add(Fault::Stall(10, Duration::from_millis(400)));
    let start = Instant::now();
    assert!(get().await.unwrap().bytes().await.is_err());
    assert!(start.elapsed() >= Duration::from_millis(400));
    hub.script.reset();

    add(Fault::Answer(429, vec![("Retry-After", "3".to_owned())], "slow down".to_owned()));
    let told = get().await.unwrap();
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "3"));
    hub.script.reset();

    add(Fault::ExpireLink);
    let expired = get().await.unwrap();
    assert_eq!(expired.status(), 403);
    assert!(expired.text().await.unwrap().contains("<Message>Request has expired</Message>"));
    assert_eq!(get().await.unwrap().bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn a_lost_answer_took_effect() {
    let hub = hub().await;
    hub.create("m").await;
    let body = json!({ "key": "header", "value": { "summary": "x" } }).to_string();
    let send = || hub.post("/api/models/alice/m/commit/main").bearer_auth("hf_alice").body(body.clone()).send();
    hub.script.add(Rule::once(Method::POST, "/commit/main", Fault::LoseAnswer));
    assert!(send().await.is_err());
    let commits: serde_json::Value = hub.get("/api/models/alice/m/commits/main").send().await.unwrap().json().await.unwrap();
    assert_eq!(commits.as_array().unwrap().len(), 2);
    assert_eq!(hub.script.count(&Method::POST, "/commit/main"), 1);
    assert!(hub.script.seen().iter().any(|seen| seen.path.ends_with("/commit/main") && seen.authorization));
}
