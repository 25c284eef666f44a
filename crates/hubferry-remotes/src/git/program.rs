//! The `git` program: started with next to nothing of the environment, watched while it works, and its complaints read.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hubferry_core::error::{Error, Kind, Result, Retry};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::GitTool;
use crate::http::clean;

/// How much of what Git complains about is kept, in bytes; the end says most.
const COMPLAINTS: usize = 16 << 10;
/// Most that a command may print that is not read as a stream.
const MOST_PRINTED: usize = 16 << 20;
/// How often a working Git is looked at.
const TICK: Duration = Duration::from_millis(500);

/// Git for one repository.
#[derive(Clone, Debug)]
pub(super) struct Program {
    tool: GitTool,
    repository: PathBuf,
    /// Longest time without a sign of life.
    patience: Duration,
}

impl Program {
    pub(super) fn new(tool: &GitTool, repository: &Path, patience: Duration) -> Self {
        Self { tool: tool.clone(), repository: repository.to_owned(), patience }
    }

    /// Starts a command. It dies with the handle.
    pub(super) fn start(&self, args: &[&str], input: bool) -> Result<Child> {
        let mut command = Command::new(&self.tool.program);
        command
            .args(args)
            .env_clear()
            .envs(self.tool.environment.iter().map(|(name, value)| (name, value)))
            // No configuration but the repository's own: what stands in others may run programs or send secrets.
            .env("HOME", &self.repository)
            .env("XDG_CONFIG_HOME", &self.repository)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_DIR", &self.repository)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("LC_ALL", "C")
            .current_dir(&self.repository)
            .stdin(if input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Kind::Unsupported, "the program `git` is not there, and without it nothing can be read by Git")
                    .hint("install git, or put it on the PATH")
            }
            _ => Error::new(Kind::Io, "cannot start the program `git`").caused_by(error),
        })
    }

    /// Runs a command to its end and returns what it printed. `moved` counts what it does elsewhere: neither that nor anything
    /// printed for too long, and it is given up.
    pub(super) async fn run(&self, args: &[&str], moved: &(dyn Fn() -> u64 + Sync)) -> Result<Vec<u8>> {
        let mut child = self.start(args, false)?;
        let (signs, mut seen) = mpsc::unbounded_channel();
        let out = child.stdout.take().map(|pipe| tokio::spawn(read(pipe, MOST_PRINTED, signs.clone())));
        let complaints = child.stderr.take().map(|pipe| tokio::spawn(read(pipe, COMPLAINTS, signs)));
        let (mut last, mut count) = (Instant::now(), moved());
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(|e| Error::new(Kind::Io, "cannot wait for git").caused_by(e))?,
                Some(()) = seen.recv() => last = Instant::now(),
                () = tokio::time::sleep(TICK) => {
                    let now = moved();
                    if now != count {
                        (last, count) = (Instant::now(), now);
                    } else if last.elapsed() > self.patience {
                        // A dead program needs no further word; the handle kills it.
                        return Err(Error::new(Kind::Unavailable, format!("git did nothing for {} s", self.patience.as_secs())));
                    }
                }
            }
        };
        let (printed, complained) = (collected(out).await, collected(complaints).await);
        if status.success() { Ok(printed) } else { Err(complaint(&String::from_utf8_lossy(&complained))) }
    }
}

/// Reads to the end and keeps the last `most` bytes.
async fn read(mut pipe: impl AsyncRead + Unpin, most: usize, signs: mpsc::UnboundedSender<()>) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(most));
        // Nobody listens any more once the program has ended.
        let _ = signs.send(());
    }
    kept
}

async fn collected(reading: Option<tokio::task::JoinHandle<Vec<u8>>>) -> Vec<u8> {
    match reading {
        Some(reading) => reading.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

/// What Git failed with, by its own words: they are in English, because it is told to be.
pub(super) fn complaint(text: &str) -> Error {
    let lines = || text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let telling = lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:")).or_else(|| lines().next_back());
    let said = clean(telling.unwrap_or("it gave no reason"), 300);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["No space left on device", "Disk quota exceeded"]) {
        return Error::new(Kind::Io, format!("git has no room left: {said}"))
            .hint("free some space where the cache is, or name another place for it with HUBFERRY_CACHE");
    }
    if has(&["not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"]) {
        return Error::not_found(format!("the hub does not give that revision by Git: {said}"));
    }
    if has(&["remote-http' is not a git command", "remote helper 'http'"]) {
        return Error::new(Kind::Unsupported, "the program `git` that is installed cannot speak HTTP")
            .hint("install git with its support for curl");
    }
    // Broken packs and connections, servers in trouble: another try may find a better moment.
    Error::new(Kind::Unavailable, format!("git failed: {said}")).retry_as(Retry::Backoff)
}
