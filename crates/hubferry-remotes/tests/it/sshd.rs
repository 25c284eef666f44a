//! A real sshd on loopback: unpacked by `scripts/witnesses`, with keys, a port and a configuration of its own. As root it lives in a mount
//! namespace, so that nothing of the machine is touched.

#![allow(dead_code, reason = "two crates have tests with it, and none uses all of it")]
#![allow(clippy::disallowed_methods, reason = "a test starts programs and reads where they are")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What kind of host it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Commands are not run, whatever is asked for.
    pub(crate) sftp_only: bool,
    /// The login is locked into the folder, which then is `/` to it. Only as root.
    pub(crate) chroot: bool,
    /// The folder is a disk of this many bytes. Only as root; then [`Sshd::folder`] is seen through the process.
    pub(crate) disk: Option<u64>,
}

/// A running sshd and a folder for it; both go with the value.
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    place: tempfile::TempDir,
    manner: Manner,
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn login() -> String {
    let ran = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn witness() -> PathBuf {
    let chosen = std::env::var_os("HUBFERRY_WITNESSES").map(PathBuf::from);
    let place = chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witnesses"));
    let folder = place.join("sshd");
    assert!(folder.join("sshd").exists(), "the witness {} is not installed: run scripts/witnesses", folder.display());
    folder.canonicalize().unwrap()
}

fn make_key(at: &Path) {
    let ran = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at).status().unwrap();
    assert!(ran.success(), "ssh-keygen");
}

impl Sshd {
    pub(crate) fn start(manner: Manner) -> Self {
        let place = tempfile::Builder::new().prefix("sshd").tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        make_key(&at("host"));
        make_key(&at("key"));
        std::fs::copy(at("key.pub"), at("authorized")).unwrap();
        std::fs::create_dir(at("files")).unwrap();
        // Whoever is locked into a folder must not own a folder above it.
        for folder in [place.path(), &at("files")] {
            std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let show = |name: &str| at(name).display().to_string();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nStrictModes no\nPidFile none\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\nSubsystem sftp internal-sftp\n",
            show("host"),
            show("authorized"),
        );
        if manner.sftp_only {
            config.push_str("ForceCommand internal-sftp\n");
        }
        if manner.chroot {
            assert!(is_root(), "only root can lock a login into a folder");
            // The folder of a chroot is named by its parents too, and those of temporary files belong to everybody.
            config.push_str("ChrootDirectory /srv\n");
        }
        std::fs::write(at("config"), config).unwrap();
        let key = std::fs::read_to_string(at("host.pub")).unwrap();
        std::fs::write(at("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        let mut client = String::from("Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n  GlobalKnownHostsFile /dev/null\n");
        write!(client, "  IdentityFile {}\n  UserKnownHostsFile {}\n", show("key"), show("known")).unwrap();
        std::fs::write(at("client"), client).unwrap();
        let child = run(&place, manner);
        let mut sshd = Self { child, port, place, manner };
        sshd.wait();
        sshd
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = || std::fs::read_to_string(self.place.path().join("log")).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "sshd did not start: {}", log());
            assert!(begun.elapsed() < Duration::from_secs(30), "sshd is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The folder for files, as this process reaches it.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.place.path().join("files");
        match self.manner.disk {
            Some(_) => PathBuf::from(format!("/proc/{}/root{}", self.child.id(), folder.display())),
            None => folder,
        }
    }

    /// The same as the login sees it.
    pub(crate) fn seen(&self) -> String {
        if self.manner.chroot { String::new() } else { self.place.path().join("files").display().to_string() }
    }

    /// A file beside the folder: `client` is the configuration, `known` the known hosts, `key` the key.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of a path below the folder; it is encoded already.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}{}/{path}?config={}", login(), self.port, self.seen(), self.file("client").display())
    }

    /// The same host as a provider shows it.
    pub(crate) fn pasted(&self, path: &str) -> String {
        let (login, config) = (login(), self.file("client"));
        format!("ssh -p {} {login}@127.0.0.1 -F {} -L 8080:localhost:8080 '{}/{path}'", self.port, config.display(), self.seen())
    }

    /// Ends every login at once, as when the host dies; says how many processes that were.
    pub(crate) fn cut(&self) -> usize {
        let pids = descendants(self.child.id());
        for pid in &pids {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        pids.len()
    }

    /// The processes of every login.
    pub(crate) fn pids(&self) -> Vec<u32> {
        descendants(self.child.id())
    }

    /// Stops every login without ending it, as when a host hangs.
    pub(crate) fn hold(&self) {
        for pid in descendants(self.child.id()) {
            let _ = Command::new("kill").args(["-STOP", &pid.to_string()]).status();
        }
    }

    /// Replaces the host keys that are known.
    pub(crate) fn forget(&self, known: &str) {
        std::fs::write(self.file("known"), known).unwrap();
    }
}

fn run(place: &tempfile::TempDir, manner: Manner) -> Child {
    let witness = witness();
    let show = |name: &str| place.path().join(name).display().to_string();
    let serve = format!("exec env LD_LIBRARY_PATH={0}/lib {0}/sshd -D -e -f {1}", witness.display(), show("config"));
    let log = std::fs::File::create(place.path().join("log")).unwrap();
    let mut command = if is_root() {
        // An unprivileged user to divide its work by, a folder for that, and a login that is not locked.
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let users: String = users.lines().filter(|line| !line.starts_with("sshd:")).fold(String::new(), |all, line| all + line + "\n");
        std::fs::write(place.path().join("passwd"), users + "sshd:x:22:65534::/run/sshd:/usr/sbin/nologin\n").unwrap();
        std::fs::write(place.path().join("shadow"), "root:*::0:99999:7:::\n").unwrap();
        let mut script = format!("set -e; mount --bind {} /etc/passwd; mount --bind {} /etc/shadow; ", show("passwd"), show("shadow"));
        script.push_str("mount -t tmpfs none /run; mkdir -p /run/sshd; ");
        if let Some(bytes) = manner.disk {
            write!(script, "mount -t tmpfs -o size={bytes} none {}; ", show("files")).unwrap();
        }
        if manner.chroot {
            write!(script, "mount --bind {} /srv; ", show("files")).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &(script + &serve)]);
        command
    } else {
        assert!(manner.disk.is_none(), "only root can make a small disk for another process");
        let mut command = Command::new("sh");
        command.args(["-c", &serve]);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Everything that a process has started, and what that has started.
fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state, then the parent.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).and_then(|word| word.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (parent, child)));
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(of, _)| *of == parent).map(|(_, child)| *child));
        at += 1;
    }
    found.split_off(1)
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
