//! The strangers: real Python clients and a real model, installed by `scripts/witnesses`. A missing one fails the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ran, Started, World};

/// Where `scripts/witnesses` put them.
pub(super) fn place() -> PathBuf {
    let chosen = std::env::var_os("HUBFERRY_WITNESSES").map(PathBuf::from);
    chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witnesses"))
}

/// The files of sentence-transformers/all-MiniLM-L6-v2.
pub(crate) fn minilm() -> PathBuf {
    let folder = place().join("minilm");
    assert!(folder.join("model.safetensors").is_file(), "the witness {} is not there: run scripts/witnesses", folder.display());
    folder
}

/// Runs a script of `tests/witness` with the Python of `environment`, in the environment variables of `world`.
pub(crate) fn python(world: &World, environment: &str, script: &str, args: &[&str]) -> Ran {
    let (line, mut command) = scripted(world, environment, script, args);
    command.env("HF_HUB_DISABLE_XET", "1");
    Started::new(line, command).wait()
}

/// The same before it is started, and with Xet where the client has it.
pub(super) fn scripted(world: &World, environment: &str, script: &str, args: &[&str]) -> (String, Command) {
    let python = place().join(environment).join("bin/python");
    assert!(python.exists(), "the witness {} is not installed: run scripts/witnesses", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/witness").join(script);
    let line = format!("{environment}/python {} {}", script.display(), args.join(" "));
    let mut command = Command::new(python);
    command.arg("-B").arg(script);
    let mut command = world.dress(command, args);
    command.env("HF_HUB_DISABLE_TELEMETRY", "1").env("MODELSCOPE_CACHE", world.home().join("ms-cache"));
    (line, command)
}

/// Runs the real git with git-lfs in the working directory; `args` are separated by blanks.
pub(crate) fn git(world: &World, args: &str) -> Ran {
    let lfs = place().join("git-lfs");
    assert!(lfs.join("git-lfs").exists(), "the witness {} is not installed: run scripts/witnesses", lfs.display());
    let filters = "[filter \"lfs\"]\n clean = git-lfs clean -- %f\n smudge = git-lfs smudge -- %f\n process = git-lfs filter-process\n required = true\n";
    std::fs::write(world.home().join(".gitconfig"), filters).unwrap();
    let list: Vec<&str> = args.split(' ').collect();
    let mut command = world.dress(Command::new("git"), &list);
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", lfs.display()));
    command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("LC_ALL", "C.UTF-8")]);
    Started::new(format!("git {args}"), command).wait()
}

/// Runs one of the unpacked tools (rsync, btrfs-progs) in the working directory of `world`.
pub(crate) fn tool(world: &World, args: &[&str]) -> Ran {
    let command = world.dress(Command::new(tools()), args);
    Started::new(args.join(" "), command).wait()
}

/// What must stand in front of the unpacked tools.
pub(crate) fn tools() -> PathBuf {
    let run = place().join("tools/run");
    assert!(run.exists(), "the witness {} is not installed: run scripts/witnesses", run.display());
    run
}
