//! The `ssh` program: how it is called, what it is told of the environment, and what its complaints mean.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hubferry_core::address::SshAddress;
use hubferry_core::error::{Error, Kind, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::SshTool;
use crate::http::clean;

/// How much of what `ssh` complains about is kept, in bytes; the end says most.
const COMPLAINTS: usize = 16 << 10;
/// Most that a command on the host may print.
const MOST_PRINTED: u64 = 64 << 20;
/// `ssh` adds a random end to the name while it makes its socket, and addresses of sockets end at 104 bytes on some systems.
const LONGEST_SOCKET: usize = 80;

/// How one host is called.
#[derive(Debug)]
pub(super) struct Program {
    tool: SshTool,
    address: SshAddress,
    stall: Duration,
    /// The socket by which commands share the connection of the channel; removed with this value.
    socket: Option<PathBuf>,
    /// The user's configuration would not check the key of the host.
    strict: bool,
}

/// What a command on the host left.
pub(super) struct Printed {
    pub(super) success: bool,
    pub(super) out: Vec<u8>,
    pub(super) complaint: String,
}

impl Program {
    /// Asks `ssh` what its configuration says of the host; connects nowhere.
    pub(super) async fn new(tool: &SshTool, address: &SshAddress, stall: Duration) -> Result<Self> {
        let mut program = Self { tool: tool.clone(), address: address.clone(), stall, socket: None, strict: false };
        let mut asked = program.command(&["-G"]);
        asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let answer = tokio::time::timeout(stall, started(asked.spawn())?.wait_with_output())
            .await
            .map_err(|_| Error::new(Kind::Unavailable, "`ssh -G` did not come to an end"))?
            .map_err(|error| Error::new(Kind::Io, "cannot wait for the program `ssh`").caused_by(error))?;
        if !answer.status.success() {
            return Err(program.complaint(&String::from_utf8_lossy(&answer.stderr)));
        }
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default();
        // With a file that forgets everything, every host is met for the first time.
        let forgets = value("userknownhostsfile").split(' ').all(|file| matches!(file, "/dev/null" | "none"));
        program.strict = matches!(value("stricthostkeychecking"), "no" | "false" | "off") || forgets;
        if matches!(value("controlpath"), "" | "none") && cfg!(unix) {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|error| Error::new(Kind::Io, "no random numbers").caused_by(error))?;
            let socket = tool.temporary.join(format!("hubferry-{:016x}", u64::from_be_bytes(random)));
            let is_plain = socket.to_str().is_some_and(|path| path.len() <= LONGEST_SOCKET && !path.contains(['%', '"', '$', '~']));
            program.socket = Some(socket).filter(|_| is_plain);
        }
        Ok(program)
    }

    /// `ssh` with everything that never differs, then `more`, then the host.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.tool.program);
        command.env_clear().envs(self.tool.environment.iter().map(|(name, value)| (name, value))).env("LC_ALL", "C");
        command.args(self.arguments()).args(more).arg("--").arg(&self.address.host).kill_on_drop(true);
        command
    }

    /// Whoever is named first wins, so what must hold comes before what a user may set.
    fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        if let Some(file) = &self.address.config {
            all.extend(["-F".into(), file.into()]);
        }
        // Nobody can be asked, nothing but the copy passes, and no program is started on either side.
        let fixed = [
            "BatchMode=yes",
            "ClearAllForwardings=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "PermitLocalCommand=no",
            "RemoteCommand=none",
            "RequestTTY=no",
            "EscapeChar=none",
            "LogLevel=ERROR",
        ];
        let mut set = |text: &str| all.extend(["-o".into(), text.into()]);
        fixed.into_iter().for_each(&mut set);
        if self.strict {
            set("StrictHostKeyChecking=yes");
        }
        self.address.settings.iter().for_each(|(name, value)| set(&format!("{name}={value}")));
        let stall = self.stall.as_secs().max(1);
        set(&format!("ConnectTimeout={stall}"));
        set(&format!("ServerAliveInterval={}", stall.div_ceil(3)));
        set("ServerAliveCountMax=3");
        let options = [
            ("-i", self.address.key.clone()),
            ("-J", self.address.jump.clone()),
            ("-l", self.address.user.clone()),
            ("-p", self.address.port.map(|port| port.to_string())),
        ];
        for (name, value) in options {
            all.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
        }
        all
    }

    fn shared(&self, master: &str) -> Vec<String> {
        let Some(socket) = &self.socket else { return Vec::new() };
        let path = format!("ControlPath={}", socket.display());
        ["-o", &path, "-o", master, "-o", "ControlPersist=no"].map(str::to_owned).to_vec()
    }

    /// Starts the channel. Its complaints gather in the second value.
    pub(super) fn sftp(&self) -> Result<(Child, Complaints)> {
        let mut more = self.shared("ControlMaster=yes");
        more.push("-s".to_owned());
        let mut command = self.command(&more.iter().map(String::as_str).collect::<Vec<_>>());
        command.arg("sftp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = started(command.spawn())?;
        let complaints = Complaints::of(child.stderr.take());
        Ok((child, complaints))
    }

    /// Starts a command on the host. It dies with the handle, or at least finds its input at an end.
    pub(super) fn start(&self, line: &str) -> Result<Child> {
        let more = self.shared("ControlMaster=no");
        let mut command = self.command(&more.iter().map(String::as_str).collect::<Vec<_>>());
        command.arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        started(command.spawn())
    }

    /// Runs a command on the host to its end.
    pub(super) async fn run(&self, line: &str, input: &[u8], patience: Duration) -> Result<Printed> {
        let mut child = self.start(line)?;
        let complaints = Complaints::of(child.stderr.take());
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let feed = async {
            if let Some(mut to) = to {
                // A command that has ended reads no more, and says so by its exit.
                drop(to.write_all(input).await);
            }
        };
        let read = async {
            let mut out = Vec::new();
            match from {
                Some(from) => from.take(MOST_PRINTED).read_to_end(&mut out).await.map(|_| out),
                None => Ok(out),
            }
        };
        let all = async {
            let ((), out) = tokio::join!(feed, read);
            (child.wait().await, out)
        };
        let (status, out) = tokio::time::timeout(patience, all)
            .await
            .map_err(|_| Error::new(Kind::Unavailable, format!("a command on the host took longer than {} s", patience.as_secs())))?;
        let failed = |error| Error::new(Kind::Io, "cannot wait for the program `ssh`").caused_by(error);
        let (status, out) = (status.map_err(failed)?, out.map_err(failed)?);
        let complaint = complaints.text().await;
        // 255 is what `ssh` itself fails with.
        if status.code() == Some(255) || status.code().is_none() {
            return Err(self.complaint(&complaint));
        }
        Ok(Printed { success: status.success(), out, complaint })
    }

    /// What `ssh` failed with, by its own words: they are in English, because it is told so.
    pub(super) fn complaint(&self, text: &str) -> Error {
        let name = self.address.authority();
        let said =
            text.lines().map(str::trim).rfind(|line| !line.is_empty()).map_or("it gave no reason".to_owned(), |line| clean(line, 300));
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key for"]) {
            return Error::new(Kind::Unauthenticated, format!("{name} shows another host key than the one that is known: {said}"))
                .hint("somebody may be in between; when you know why it changed, remove the old key with `ssh-keygen -R`");
        }
        if has(&["Host key verification failed", "No ED25519 host key is known", "host key is known for"]) {
            return Error::new(Kind::Unauthenticated, format!("the host key of {name} is not known: {said}"))
                .hint("connect once with `ssh` and compare it, or put ?o=StrictHostKeyChecking=accept-new behind the address");
        }
        if has(&["Permission denied (", "Too many authentication failures"]) {
            return Error::new(Kind::Unauthenticated, format!("{name} lets nobody in with the keys at hand: {said}"))
                .hint("add a key with `ssh-add`, or name its file: ?key=FILE behind ssh://…, or -i FILE; passwords are never asked for");
        }
        if has(&["subsystem request failed"]) {
            return Error::new(Kind::Unsupported, format!("{name} has no SFTP: {said}")).hint("switch on the subsystem sftp of its sshd");
        }
        if has(&["Bad configuration option", "command-line", "Can't open user config file", "keyword", "bad permissions", "Bad owner"]) {
            return Error::invalid(format!("`ssh` cannot be used for {name}: {said}"))
                .hint("try the same with `ssh`; look at its configuration");
        }
        Error::new(Kind::Unavailable, format!("{name} cannot be reached: {said}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // `ssh` removes it when it ends by itself.
            drop(std::fs::remove_file(socket));
        }
    }
}

fn started(spawned: std::io::Result<Child>) -> Result<Child> {
    spawned.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::Unsupported, "the program `ssh` is not there, and hosts are reached with it")
            .hint("install the OpenSSH client"),
        _ => Error::new(Kind::Io, "cannot start the program `ssh`").caused_by(error),
    })
}

/// What a program says on its standard error.
#[derive(Clone, Default)]
pub(super) struct Complaints {
    text: Arc<Mutex<Vec<u8>>>,
    over: Arc<tokio::sync::Notify>,
}

impl Complaints {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let complaints = Self::default();
        let Some(mut pipe) = pipe else { return complaints };
        let kept = complaints.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 4 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut piece).await {
                let mut text = kept.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(piece.get(..count).unwrap_or_default());
                let over = text.len().saturating_sub(COMPLAINTS);
                text.drain(..over);
            }
            kept.over.notify_one();
        });
        complaints
    }

    /// What was said, once there is nothing more to come; not for long, because a shared connection may keep the pipe open.
    pub(super) async fn text(&self) -> String {
        drop(tokio::time::timeout(Duration::from_secs(1), self.over.notified()).await);
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        let address = SshAddress::parse(text).unwrap().0;
        let tool = SshTool { program: "ssh".into(), environment: Vec::new(), temporary: "/tmp".into() };
        Program { tool, address, stall: Duration::from_secs(30), socket: None, strict: false }
    }

    #[test]
    fn what_must_hold_comes_before_what_a_user_sets() {
        let program = program("ssh -p 7 -i k -J j -o StrictHostKeyChecking=accept-new me@h");
        let all = program.arguments().into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ");
        let at = |what: &str| all.find(what).unwrap_or_else(|| panic!("{what} is not among {all}"));
        assert!(at("BatchMode=yes") < at("StrictHostKeyChecking=accept-new"));
        assert!(all.ends_with("-i k -J j -l me -p 7"), "{all}");
        assert!(!all.contains("StrictHostKeyChecking=no"));
    }

    #[test]
    fn complaints_are_understood() {
        let program = program("ssh://h/x");
        for (said, kind) in [
            ("root@h: Permission denied (publickey).", Kind::Unauthenticated),
            ("No ED25519 host key is known for h.\nHost key verification failed.", Kind::Unauthenticated),
            ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", Kind::Unauthenticated),
            ("ssh: connect to host h port 22: Connection refused", Kind::Unavailable),
            ("ssh: Could not resolve hostname h: Name or service not known", Kind::Unavailable),
            ("subsystem request failed on channel 0", Kind::Unsupported),
            ("Can't open user config file x: No such file or directory", Kind::Invalid),
            ("", Kind::Unavailable),
        ] {
            assert_eq!(program.complaint(said).kind(), kind, "{said}");
        }
        let changed = program.complaint("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.");
        assert!(changed.hint_text().unwrap().contains("ssh-keygen -R"));
    }
}
