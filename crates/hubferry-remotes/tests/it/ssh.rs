//! The `ssh` remote against a real sshd: the contract, with and without commands on the host.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use hubferry_core::address::SshAddress;
use hubferry_core::error::Kind;
use hubferry_core::events::{Silent, Wire};
use hubferry_core::remote::{Source as _, Target as _};
use hubferry_core::testing::conformance::{self, Place};
use hubferry_core::transfer::journal::MemoryJournal;
use hubferry_remotes::ssh::{SshConfig, SshHosts, SshTool};

use crate::sshd::{Manner, Sshd};

fn hosts(wire: &Arc<Wire>) -> SshHosts {
    #[expect(clippy::disallowed_methods, reason = "the program is found where it is")]
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    SshHosts::new(SshConfig {
        tool: SshTool { program: "ssh".into(), environment: vec![("PATH".into(), path)], temporary: std::env::temp_dir() },
        stall: Duration::from_secs(20),
        wire: wire.clone(),
        pace: None,
        reporter: Arc::new(Silent),
        journal: Arc::new(MemoryJournal::default()),
        known: None,
    })
}

async fn keeps_the_contract(manner: Manner) {
    let sshd = Sshd::start(manner);
    let hosts = hosts(&Wire::new());
    let address = SshAddress::parse(&sshd.address("deep/down/it%27s%20a%20%22model%22")).unwrap().0;
    let place = Place {
        target: Arc::new(hosts.target(&address).unwrap()),
        source: Arc::new(hosts.source(&address).unwrap()),
        generated: Vec::new(),
    };
    conformance::target(&place).await.unwrap();
    let left: Vec<_> =
        std::fs::read_dir(sshd.folder().join("deep/down/it's a \"model\"")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.contains(&".hubferry".into()), "{left:?}");
    assert_eq!(hosts.unverified(&address), Vec::<String>::new());
}

#[tokio::test]
async fn a_host_with_a_shell_keeps_the_contract() {
    keeps_the_contract(Manner::default()).await;
}

#[tokio::test]
async fn a_host_with_nothing_but_sftp_keeps_the_contract() {
    keeps_the_contract(Manner { sftp_only: true, ..Manner::default() }).await;
}

#[tokio::test]
async fn a_host_says_what_it_is() {
    let sshd = Sshd::start(Manner::default());
    let hosts = hosts(&Wire::new());
    let look = |path: &str| SshAddress::parse(&sshd.address(path)).unwrap().0;
    let facts = hosts.look(&look("not/there")).await.unwrap();
    assert!(!facts.is_there && facts.free.unwrap() > 0 && facts.system.unwrap().contains(' '));
    assert!(hosts.look(&look("")).await.unwrap().is_there);
    let bare = Sshd::start(Manner { sftp_only: true, ..Manner::default() });
    let facts = hosts.look(&SshAddress::parse(&bare.address("")).unwrap().0).await.unwrap();
    assert!(facts.is_there && facts.free.is_some() && facts.system.is_none());
}

#[tokio::test]
async fn links_are_followed_by_readers_and_never_written_through() {
    let sshd = Sshd::start(Manner::default());
    let hosts = hosts(&Wire::new());
    let address = SshAddress::parse(&sshd.address("model")).unwrap().0;
    let (root, outside) = (sshd.folder().join("model"), sshd.folder().join("outside"));
    for folder in [&root, &outside] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(outside.join("file"), "outside").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("folder")).unwrap();
    let listed = hosts.source(&address).unwrap().manifest().await.unwrap();
    assert_eq!(listed.entries.keys().map(hubferry_core::manifest::RepoPath::as_str).collect::<Vec<_>>(), ["folder/file"]);
    let repo = hubferry_core::testing::memory::MemoryRepo::with_files(
        hubferry_core::testing::memory::Publishes::Sha256,
        &[("folder/file", b"inside")],
    );
    let target = Arc::new(hosts.target(&address).unwrap());
    let request = conformance::request(Arc::new(repo), target.clone());
    let error = hubferry_core::ops::copy(&request, &hubferry_core::testing::quick_context()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "outside");
    std::os::unix::fs::symlink(&root, root.join("loop")).unwrap();
    let error = target.head().await.unwrap_err();
    assert!(error.to_string().contains("leads back"), "{error}");
}

#[tokio::test]
async fn files_and_folders_may_trade_their_names_and_their_contents() {
    use hubferry_core::testing::memory::{MemoryRepo, Publishes};
    for manner in [Manner::default(), Manner { sftp_only: true, ..Manner::default() }] {
        let sshd = Sshd::start(manner);
        let hosts = hosts(&Wire::new());
        let address = SshAddress::parse(&sshd.address("model")).unwrap().0;
        let target = Arc::new(hosts.target(&address).unwrap());
        let states: [&[(&str, &[u8])]; 5] = [
            &[("a", b"one"), ("b", b"two"), ("folder/x", b"three")],
            &[("a", b"two"), ("b", b"one"), ("folder/x", b"three")],
            &[("a/inside", b"two"), ("b", b"one"), ("folder", b"three")],
            &[("a", b"two"), ("b/c/d", b"one"), ("folder/y", b"three"), ("folder/z", b"three")],
            &[("a", b"new")],
        ];
        for state in states {
            let mut request = conformance::request(Arc::new(MemoryRepo::with_files(Publishes::Sha256, state)), target.clone());
            request.policy.delete = true;
            hubferry_core::ops::copy(&request, &hubferry_core::testing::quick_context()).await.unwrap();
            let mut found = Vec::new();
            let mut open = vec![sshd.folder().join("model")];
            while let Some(folder) = open.pop() {
                for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                    if entry.path().is_dir() {
                        open.push(entry.path());
                    } else {
                        let name = entry.path().strip_prefix(sshd.folder().join("model")).unwrap().to_str().unwrap().to_owned();
                        found.push((name, std::fs::read(entry.path()).unwrap()));
                    }
                }
            }
            found.sort();
            let wanted: Vec<_> = state.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
            assert_eq!(found, wanted);
        }
    }
}
