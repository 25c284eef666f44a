//! Disks that are too small: a file system of its own where this machine allows one.

use std::process::Command;

use super::{Ran, Started, World};

/// Whether a file system may be mounted for one program alone.
fn may_mount() -> bool {
    Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success())
}

/// Runs the binary while `folder`, below the working directory, holds this many KiB. When the run fails and shows a file there,
/// the exit code is 99. Where nothing may be mounted, no file may become larger than that.
pub(crate) fn on_small_disk(world: &World, folder: &str, kibibytes: u64, args: &[&str]) -> Ran {
    let size = kibibytes.to_string();
    std::fs::create_dir_all(world.work().join(folder)).unwrap();
    let check = "test $code = 0 || test -z \"$(find \"$folder\" -type f ! -path '*/.hubferry/*')\" || exit 99; exit $code";
    let (program, first, limit) = if may_mount() {
        ("unshare", vec!["-Urm", "sh", "-c"], "mount -t tmpfs -o size=\"$size\"k none \"$folder\" || exit 98")
    } else {
        // The shell counts in blocks of half a KiB.
        ("sh", vec!["-c"], "trap '' XFSZ; ulimit -f $((2 * size))")
    };
    let script = format!("folder=$1; size=$2; shift 2; {limit}; \"$@\"; code=$?; {check}");
    let binary = env!("CARGO_BIN_EXE_hubferry");
    let all = [&first[..], &[script.as_str(), "sh", folder, &size, binary], args].concat();
    let line = format!("hubferry {}    (with {kibibytes} KiB in {folder})", args.join(" "));
    Started::new(line, world.dress(Command::new(program), &all)).wait()
}
