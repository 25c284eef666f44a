//! The real ModelScope clients of both generations, unmodified, against the hub.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::ms_hub::{ALICE, BOB, Hub, RITA};

/// Where the Python environments are: a missing one fails the test.
fn python(environment: &str) -> PathBuf {
    let folder = std::env::var_os("HUBFERRY_WITNESSES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witnesses"), PathBuf::from);
    let python = folder.join(environment).join("bin/python");
    assert!(python.exists(), "the witness {} is not installed", python.display());
    python
}

/// Runs a script of `tests/witness` and fails with what it printed unless it ends in `ok`.
async fn testify(hub: &Hub, environment: &str, script: &str, arguments: &[&str]) {
    let work = tempfile::tempdir().unwrap();
    let host = hub.address().to_owned();
    let output = Command::new(python(environment))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness").join(script))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", work.path())
        .env("WITNESS_HUB", hub.url())
        .env("WITNESS_OWNER_TOKEN", ALICE)
        .env("WITNESS_STRANGER_TOKEN", BOB)
        .env("WITNESS_READER_TOKEN", RITA)
        .env("WITNESS_WORK", work.path())
        .env("MODELSCOPE_ENDPOINT", hub.url())
        .env("MODELSCOPE_DOMAIN", if environment == "ms" { hub.url() } else { host })
        .env("MODELSCOPE_DOWNLOAD_PARALLELS", "4")
        .env("MODELSCOPE_CACHE", work.path().join("cache"))
        .output()
        .await
        .unwrap();
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
