//! A home of its own for each test: nothing of the user's environment, nothing left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ran, Started};

/// `HUBFERRY_FULL=1` runs the large forms.
pub(crate) fn full() -> bool {
    std::env::var_os("HUBFERRY_FULL").is_some_and(|value| value == "1")
}

/// Where the binary runs: an empty home, an empty working directory, an environment that holds only what the test says.
pub(crate) struct World {
    home: tempfile::TempDir,
    vars: BTreeMap<String, String>,
}

impl World {
    /// No hub is named: the addresses of both point to a port where nobody listens.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("world").tempdir().unwrap();
        for folder in ["work", "tmp"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        let world = Self { home, vars: BTreeMap::new() };
        world.with("HF_ENDPOINT", "http://127.0.0.1:9").with("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    }

    /// The same with one more variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with these endpoints and one token for both.
    pub(crate) fn at(self, hf: &str, ms: &str, token: &str) -> Self {
        let world = self.with("HF_ENDPOINT", hf).with("MODELSCOPE_ENDPOINT", ms);
        if token.is_empty() { world } else { world.with("HF_TOKEN", token).with("MODELSCOPE_API_TOKEN", token) }
    }

    /// The folder that holds everything of this world.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// What programs are told to use for temporary files.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.home.path().join("tmp")
    }

    /// Writes files below the working directory.
    pub(crate) fn tree(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        write_tree(&self.work().join(name), files)
    }

    /// The binary with this environment, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.dress(Command::new(env!("CARGO_BIN_EXE_hubferry")), args)
    }

    /// Any program in this environment.
    pub(crate) fn dress(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", self.home())
            .env("TMPDIR", self.tmp())
            .env("RUST_BACKTRACE", "0")
            .envs(&self.vars)
            .current_dir(self.work());
        command
    }

    /// Starts the binary.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        Started::new(format!("hubferry {}", args.join(" ")), self.command(args))
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.start(args).wait()
    }
}

/// Writes files below a folder.
fn write_tree(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder.to_path_buf()
}

/// Every file below a folder with its content; symbolic links show as such.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", std::fs::read_link(&path).unwrap().display()).into_bytes());
            } else if path.is_dir() {
                open.push(path);
            } else {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(size + 8);
    while all.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(size);
    all
}
