//! The real Hugging Face client writes and reads.

use axum::http::Method;

use crate::support::{HF_CLIENTS, hub, hub_with_cdn, witness};

#[tokio::test(flavor = "multi_thread")]
async fn publishes_and_reads_back() {
    for client in HF_CLIENTS {
        let hub = hub().await;
        witness(client, "hf_publish.py", &hub, &[]).await;
        // Both ways of uploading were really taken.
        assert!(hub.script.count(&Method::PUT, "/-/objects/") > 0, "{client}: no upload in one piece");
        assert!(hub.script.count(&Method::PUT, "/-/uploads/") > 2, "{client}: no upload in parts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_separate_storage_origin_never_sees_a_token() {
    for client in HF_CLIENTS {
        let hub = hub_with_cdn().await;
        witness(client, "hf_publish.py", &hub, &[]).await;
        let stored: Vec<_> = hub.script.seen().into_iter().filter(|seen| seen.face == hubferry_server::testing::Face::Cdn).collect();
        assert!(stored.len() > 5);
        assert!(stored.iter().all(|seen| !seen.authorization && !seen.cookie));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_branches_and_history() {
    for client in HF_CLIENTS {
        witness(client, "hf_change.py", &hub().await, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_only_what_it_may() {
    for client in HF_CLIENTS {
        witness(client, "hf_access.py", &hub().await, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_through_a_large_repository() {
    witness("hf", "hf_large.py", &hub().await, &[]).await;
}

/// Pull requests: opened first or by a commit, filled, merged as one commit, closed, refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_opens_and_merges_pull_requests() {
    for client in HF_CLIENTS {
        witness(client, "hf_pulls.py", &hub().await, &[]).await;
    }
}
