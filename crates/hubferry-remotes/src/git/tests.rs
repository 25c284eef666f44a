//! The relay and the program by themselves; whole fetches are tested against a hub from outside.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubferry_core::error::{Error, Kind, Retry};
use hubferry_core::secret::Token;
use url::Url;

use super::GitTool;
use super::program::{Program, complaint};
use super::relay::{PASS, PATH, Relay};
use crate::http::{Classifier, Credential};
use crate::testing::{Reply, Script, http};

#[test]
fn the_complaints_of_git_are_told_apart() {
    for (text, kind, again) in [
        ("Receiving objects: 10%\rReceiving objects: 20%\nfatal: early EOF\nfatal: unpack-objects failed\n", Kind::Unavailable, true),
        ("fatal: remote error: upload-pack: not our ref 1111\n", Kind::NotFound, false),
        ("error: Server does not allow request for unadvertised object 11\n", Kind::NotFound, false),
        ("fatal: couldn't find remote ref refs/heads/x\n", Kind::NotFound, false),
        ("fatal: write error: No space left on device\n", Kind::Io, false),
        ("git: 'remote-http' is not a git command. See 'git --help'.\n", Kind::Unsupported, false),
        ("", Kind::Unavailable, true),
    ] {
        let error = complaint(text);
        assert_eq!((error.kind(), error.retry() != Retry::No), (kind, again), "{text:?}");
    }
    assert!(complaint("remote: hm\nfatal: early EOF\n").to_string().ends_with("fatal: early EOF"));
}

/// A program in the place of Git.
#[cfg(unix)]
fn program(folder: &Path, script: &str, patience: Duration) -> Program {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("git");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = vec![("PATH".to_owned(), "/usr/bin:/bin".into())];
    Program::new(&GitTool { program: path, environment, folder: None }, folder, patience)
}

#[cfg(unix)]
#[tokio::test]
async fn a_program_that_does_nothing_is_given_up_and_one_that_works_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let hung = program(folder.path(), "exec sleep 60", Duration::from_secs(1));
    let error = hung.run(&["fetch"], &|| 0).await.unwrap_err();
    assert!(error.kind() == Kind::Unavailable && error.message().contains("did nothing"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let slow = program(folder.path(), "for i in 1 2 3 4; do sleep 0.6; echo $i >&2; done; echo done", Duration::from_secs(1));
    assert_eq!(slow.run(&["fetch"], &|| 0).await.unwrap(), b"done\n");
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_is_told_nothing_of_our_environment() {
    let folder = tempfile::tempdir().unwrap();
    let told = program(folder.path(), "env", Duration::from_secs(10)).run(&["x"], &|| 0).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    let known = ["GIT_", "HOME=", "XDG_CONFIG_HOME=", "LC_ALL=C", "PATH=", "PWD=", "SHLVL=", "_=", "OLDPWD="];
    for line in told.lines() {
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
    let missing = Program::new(
        &GitTool { program: "no-such-git".into(), environment: Vec::new(), folder: None },
        folder.path(),
        Duration::from_secs(1),
    );
    let error = missing.run(&["x"], &|| 0).await.unwrap_err();
    assert!(error.kind() == Kind::Unsupported && error.hint_text().unwrap().contains("install git"), "{error}");
}

async fn relay(hub: &Script) -> (Relay, Url) {
    let base = hub.url("/o/n.git");
    let credential = Credential::new(&base).unwrap().basic("user", &Token::new("hf_secret").unwrap()).unwrap();
    let classifier: Classifier = Arc::new(|refusal| (refusal.status == 403).then(|| Error::new(Kind::Denied, "closed")));
    let relay = Relay::start(http(), base, Some(credential), classifier).await.unwrap();
    let url = Url::parse(&format!("http://127.0.0.1:{}{PATH}", relay.port)).unwrap();
    (relay, url)
}

fn below(url: &Url, tail: &str) -> Url {
    Url::parse(&format!("{url}{tail}")).unwrap()
}

#[tokio::test]
async fn the_relay_adds_the_credential_and_learns_where_the_repository_is() {
    let hub = Script::start(|seen| match seen.path() {
        "/o/n.git/info/refs" => Reply::to(301, "/o/new.git/info/refs?service=git-upload-pack"),
        "/o/new.git/info/refs" => Reply::new(200, "refs").header("Content-Type", "application/x-git-upload-pack-advertisement"),
        _ => Reply::new(200, "pack").header("Content-Type", "application/x-git-upload-pack-result"),
    })
    .await;
    let (relay, url) = relay(&hub).await;
    let (client, pass) = (http(), relay.pass.clone());
    let refs = client.get(below(&url, "/info/refs?service=git-upload-pack")).header(PASS, &pass).header("git-protocol", "version=2");
    assert_eq!(refs.send().await.unwrap().bytes(100).await.unwrap(), "refs");
    assert_eq!(relay.base().path(), "/o/new.git");
    let pack = client.post(below(&url, "/git-upload-pack")).header(PASS, &pass).bytes("text/plain", "0000");
    assert_eq!(pack.send().await.unwrap().bytes(100).await.unwrap(), "pack");
    let seen = hub.seen();
    assert_eq!(seen.last().unwrap().target, "/o/new.git/git-upload-pack");
    assert_eq!(seen.last().unwrap().body, b"0000");
    assert_eq!(seen[1].header("git-protocol"), Some("version=2"));
    assert!(seen.iter().all(|seen| seen.header("authorization").is_some() && seen.header("x-hubferry-pass").is_none()));
    assert_eq!(relay.moved(), 8);
}

#[tokio::test]
async fn the_relay_serves_two_requests_of_one_program_and_keeps_what_went_wrong() {
    let hub = Script::start(|seen| match seen.number {
        0 => Reply::new(200, "<html>").header("Content-Type", "text/html"),
        _ => Reply::new(403, "no"),
    })
    .await;
    let (relay, url) = relay(&hub).await;
    let client = http();
    let refs = || below(&url, "/info/refs?service=git-upload-pack");
    for pass in ["", "wrong"] {
        let error = client.get(refs()).header(PASS, pass).send().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
    }
    for tail in ["/HEAD", "/info/refs", "/info/refs?service=git-receive-pack", "/../other.git/info/refs?service=git-upload-pack"] {
        client.get(below(&url, tail)).header(PASS, &relay.pass).send().await.unwrap_err();
    }
    assert!(hub.seen().is_empty(), "none of that reached the hub");
    assert_eq!(relay.take_fault().unwrap().kind(), Kind::Bug);
    for kind in [Kind::Unsupported, Kind::Denied] {
        client.get(refs()).header(PASS, &relay.pass).send().await.unwrap_err();
        assert_eq!(relay.take_fault().unwrap().kind(), kind);
    }
}
