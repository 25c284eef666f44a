//! One run of a program: bounded in time, its memory and disk writes watched from outside.

use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A run that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_mins(4);

/// A program that was started and has not been waited for.
pub(crate) struct Started {
    line: String,
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    begun: Instant,
}

/// A program that ended.
pub(crate) struct Ran {
    /// What was run, for people.
    pub(crate) line: String,
    /// Its exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// Most memory it held, in bytes, as the kernel counted.
    pub(crate) peak: u64,
    /// Bytes it caused to be sent to a disk, as the kernel counted.
    pub(crate) disk: u64,
}

impl Started {
    pub(crate) fn new(line: String, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        Self { line, child, stdout, stderr, begun: Instant::now() }
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end; a run beyond the limit is killed and fails the test.
    pub(crate) fn wait(self) -> Ran {
        self.wait_within(LIMIT)
    }

    pub(crate) fn wait_within(mut self, limit: Duration) -> Ran {
        let (mut peak, mut disk) = (0, 0);
        let status = loop {
            peak = peak.max(peak_memory(self.child.id()));
            disk = disk.max(disk_writes(self.child.id()));
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if self.begun.elapsed() > limit {
                self.kill();
                self.child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.begun.elapsed();
        let text = |pipe: JoinHandle<Vec<u8>>| String::from_utf8_lossy(&pipe.join().unwrap()).into_owned();
        let (stdout, stderr) = (text(self.stdout), text(self.stderr));
        let Some(status) = status else {
            panic!("{} still ran after {limit:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.line);
        };
        Ran { line: self.line, code: status.code().unwrap_or(-1), stdout, stderr, took, peak, disk }
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        all
    })
}

impl Ran {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code == code, "exit code {code} was expected\n{}", self.shown());
        assert!(!self.stderr.contains("panicked at"), "a panic\n{}", self.shown());
        self
    }

    /// Any exit code will do, but it must be one, and no panic behind it.
    #[track_caller]
    pub(crate) fn exits_any(self) -> Self {
        let code = self.code;
        assert!(code >= 0, "a signal ended it\n{}", self.shown());
        self.exits(code)
    }

    /// Fails the test unless the run succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Standard output as one JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error})\n{}", self.shown()))
    }

    /// Everything a user sees.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("$ {}\nexit {}\n", self.line, self.code);
        for (name, content) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !content.is_empty() {
                let _ = write!(text, "--- {name}\n{content}");
            }
        }
        text
    }
}

/// The high-water mark of a process; 0 once it is gone.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    field(pid, "status", "VmHWM:") * 1024
}

fn disk_writes(pid: u32) -> u64 {
    field(pid, "io", "write_bytes:")
}

fn field(pid: u32, file: &str, name: &str) -> u64 {
    let path: PathBuf = format!("/proc/{pid}/{file}").into();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
