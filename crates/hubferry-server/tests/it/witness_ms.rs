//! The real ModelScope clients of both generations, unmodified, against the hub.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::http::Method;
use hubferry_server::testing::{Face, Fault, Rule};
use tokio::process::Command;

use crate::ms_hub::{ALICE, BOB, Hub, RITA};
use crate::support::python;

/// Runs a script of `tests/witness` and fails with what it printed unless it ends in `ok`.
async fn testify(hub: &Hub, environment: &str, script: &str, arguments: &[&str]) {
    let work = tempfile::tempdir().unwrap();
    let host = hub.address().to_owned();
    let output = Command::new(python(environment))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness").join(script))
        .args(arguments)
        .env_clear()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", work.path())
        .env("WITNESS_HUB", hub.url())
        .env("WITNESS_HF", hub.running.hf_url().unwrap())
        .env("WITNESS_OWNER_TOKEN", ALICE)
        .env("WITNESS_STRANGER_TOKEN", BOB)
        .env("WITNESS_READER_TOKEN", RITA)
        .env("WITNESS_WORK", work.path())
        .env("MODELSCOPE_ENDPOINT", hub.url())
        .env("MODELSCOPE_DOMAIN", if environment == "ms" { hub.url() } else { host })
        .env("MODELSCOPE_DOWNLOAD_PARALLELS", "4")
        .env("MODELSCOPE_CACHE", work.path().join("cache"))
        .env("HF_HUB_DISABLE_XET", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(3), output).await.expect("the client hangs").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("ok"), "{script}: {}\n{out}\n{err}", output.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_client_publishes_and_reads() {
    testify(&Hub::start().await, "ms", "ms_new.py", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classic_client_publishes_and_reads() {
    testify(&Hub::start().await, "ms-classic", "ms_classic.py", &[]).await;
}

/// A connection that breaks is taken up again where it broke, and what arrives is what was published.
#[tokio::test(flavor = "multi_thread")]
async fn broken_downloads_are_resumed_by_both_clients() {
    let hub = Hub::start().await;
    testify(&hub, "ms", "cross.py", &["publish", "ms", "model", "alice/cut"]).await;
    for client in ["ms", "ms-classic"] {
        hub.script.reset();
        // Only one file of the sample is that long; the clients keep whole mebibytes of what arrived.
        hub.script.add(Rule { nth: 1..=u64::MAX, ..Rule::once(Method::GET, "/-/objects", Fault::Cut(2_500_000)) });
        testify(&hub, client, "cross.py", &["read", client, "model", "alice/cut"]).await;
        let resumed = hub.script.seen().into_iter().filter(|seen| seen.path.starts_with("/-/objects"));
        assert!(resumed.filter_map(|seen| seen.range).any(|range| !range.starts_with("bytes=0-")), "{client} did not resume");
    }
}

/// What one client publishes is there, byte for byte, for the clients of the other hub.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_through_one_face_is_there_through_the_other() {
    let hub = Hub::start().await;
    for kind in ["model", "dataset"] {
        for (writer, readers) in [("hf", &["ms", "ms-classic"][..]), ("ms", &["hf", "ms-classic"]), ("ms-classic", &["hf", "ms"])] {
            let repo = format!("alice/from.{writer}");
            testify(&hub, writer, "cross.py", &["publish", writer, kind, &repo]).await;
            for reader in readers {
                testify(&hub, reader, "cross.py", &["read", reader, kind, &repo]).await;
            }
        }
    }
}

/// The storage behind the links is another host here and refuses whoever shows a credential; both clients read from it. Only Linux
/// answers on every loopback address.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_the_storage_without_credential() {
    let hub = Hub::start_with(|config| config.cdn = Some(([127, 0, 0, 2], 0).into())).await;
    testify(&hub, "ms", "cross.py", &["publish", "ms", "model", "alice/linked"]).await;
    for client in ["ms", "ms-classic"] {
        hub.script.reset();
        testify(&hub, client, "cross.py", &["read", client, "model", "alice/linked"]).await;
        let stored: Vec<_> = hub.script.seen().into_iter().filter(|seen| seen.face == Face::Cdn).collect();
        assert!(!stored.is_empty() && stored.iter().all(|seen| !seen.cookie && !seen.authorization), "{client}: {stored:?}");
    }
}
