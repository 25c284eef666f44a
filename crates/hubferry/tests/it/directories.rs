//! Directories as places: damage that is found and mended, a disk that is full, nothing outside that is touched.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::{ALICE, Hub, Ran, Started, World, bytes, files_below, snapshot};

#[test]
fn a_flipped_byte_is_found_and_mended() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let weights = bytes(6, 300_000);
    let folder = world.tree("model", &[("model.safetensors", &weights), ("config.json", b"{}"), ("README.md", b"# Model\n")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    world.run(&["copy", "hf:alice/model", "./copy", "-q"]).ok();
    let copy = world.work().join("copy");
    let good = files_below(&copy);
    let mut bad = weights.clone();
    bad[123_456] ^= 1;
    // Same size, same time: only reading it tells.
    let time = std::fs::metadata(copy.join("model.safetensors")).unwrap().modified().unwrap();
    std::fs::write(copy.join("model.safetensors"), &bad).unwrap();
    std::fs::File::options().write(true).open(copy.join("model.safetensors")).unwrap().set_modified(time).unwrap();
    std::fs::remove_file(copy.join("config.json")).unwrap();
    let runs = [
        world.run(&["verify", "./copy", "--against", "hf:alice/model", "--transfers", "1"]),
        world.run(&["diff", "./copy", "hf:alice/model"]),
        world.run(&["verify", "./copy", "--against", "hf:alice/model", "--json", "-q"]),
        world.run(&["verify", "./copy", "--against", "hf:alice/model", "--repair", "--transfers", "1"]),
        world.run(&["verify", "./copy", "--against", "hf:alice/model", "--transfers", "1"]),
    ];
    snapshot("flipped_byte", &world, &runs);
    assert_eq!(files_below(&copy), good);
    assert_eq!(runs.map(|run| run.code), [4, 8, 4, 0, 0]);
    drop(folder);
}

#[test]
fn what_differs_is_told_by_exit_8() {
    let world = World::new();
    world.tree("left", &[("same", b"same"), ("size", b"1"), ("bytes", b"1"), ("only left", b"")]);
    world.tree("right", &[("same", b"same"), ("size", b"12"), ("bytes", b"2"), ("only right", b"")]);
    let runs = [
        world.run(&["diff", "./left", "./right"]),
        world.run(&["diff", "./left", "./right", "--json"]),
        world.run(&["diff", "./left", "./right", "--include", "same"]),
        world.run(&["diff", "./left", "./none"]),
    ];
    snapshot("diff", &world, &runs);
    assert_eq!(runs.map(|run| run.code), [8, 8, 0, 6]);
}

#[test]
fn a_copy_of_a_directory_replaces_links_and_touches_nothing_outside() {
    let world = World::new();
    let outside = world.tree("outside", &[("file", b"outside"), ("folder/file", b"outside")]);
    world.tree("source", &[("file", b"new"), ("folder/file", b"new"), ("plain", b"plain")]);
    let target = world.tree("target", &[("old", b"old")]);
    std::os::unix::fs::symlink(outside.join("file"), target.join("file")).unwrap();
    std::os::unix::fs::symlink(outside.join("folder"), target.join("folder")).unwrap();
    let before = files_below(&outside);
    let ran = world.run(&["copy", "./source", "./target", "-q"]);
    assert_eq!(files_below(&outside), before, "nothing is written through a link\n{}", ran.shown());
    assert!(ran.code == 0 || ran.stderr.contains("hint:"), "{}", ran.shown());
    // A link at the source that leads out of it is not followed into the copy in silence.
    std::os::unix::fs::symlink("/etc/passwd", world.work().join("source/leak")).unwrap();
    let ran = world.run(&["copy", "./source", "./second"]);
    let second = files_below(&world.work().join("second"));
    assert!(!second.values().any(|content| content.starts_with(b"root:")) || ran.stderr.contains("leak"), "{}", ran.shown());
}

/// A small file system of our own, in a mount namespace that ends with the shell. Root is needed, or unprivileged namespaces.
fn on_a_small_disk(world: &World, script: &str) -> Ran {
    let flags =
        ["-m", "-rm"].into_iter().find(|flags| Command::new("unshare").args([flags, "true"]).status().is_ok_and(|status| status.success()));
    let flags = flags.expect("this test needs a mount namespace of its own: root, or unprivileged user namespaces");
    let disk = world.work().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let script = format!("mount -t tmpfs -o size=3m none '{}' || exit 99\n{script}", disk.display());
    let command = world.dress(Command::new("unshare"), &[flags, "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_hubferry")]);
    Started::new("hubferry on a disk of 3 MiB".into(), command).wait()
}

#[test]
fn a_full_disk() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let (large, small) = (bytes(7, 6 << 20), bytes(8, 200_000));
    world.tree("model", &[("model.safetensors", &large), ("small.bin", &small), ("config.json", b"{}")]);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let script = r#"
        mkdir disk/copy && echo old > disk/copy/config.json
        "$1" copy hf:alice/model ./disk/copy -q --transfers 1; echo "exit $?"
        cat disk/copy/config.json; ls disk/copy
        mount -o remount,size=20m disk
        "$1" copy hf:alice/model ./disk/copy -q --transfers 1; echo "exit $?"
        "$1" diff hf:alice/model ./disk/copy -q; echo "exit $?"
        find disk -type f | sort
    "#;
    let ran = on_a_small_disk(&world, script);
    snapshot("full_disk", &world, &[ran]);
}

/// File locks that do nothing: as on file systems that have none, or only pretend. `ANSWER` is what they say.
const NO_LOCKS: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int flock(int file, int how) { ANSWER; }
int lockf(int file, int how, off_t length) { ANSWER; }

int fcntl(int file, int what, ...) {
    va_list more;
    va_start(more, what);
    void *with = va_arg(more, void *);
    va_end(more);
    if (what == F_SETLK || what == F_SETLKW || what == F_OFD_SETLK || what == F_OFD_SETLKW) { ANSWER; }
    return syscall(SYS_fcntl, file, what, with);
}

int fcntl64(int file, int what, ...) __attribute__((alias("fcntl")));
"#;

/// A world in which every attempt to lock a file is answered in this way.
fn without_locks(answer: &str) -> World {
    let world = World::new();
    let (code, library) = (world.home().join("locks.c"), world.home().join("locks.so"));
    std::fs::write(&code, format!("#define _GNU_SOURCE\n#define ANSWER {answer}\n{NO_LOCKS}")).unwrap();
    let made = Command::new("cc").args(["-w", "-shared", "-fPIC", "-o"]).args([&library, &code]).status();
    assert!(made.is_ok_and(|made| made.success()), "this test needs a C compiler");
    world.with("LD_PRELOAD", library.to_str().unwrap())
}

#[test]
fn runs_that_meet_need_no_file_locks() {
    for answer in ["return 0", "{ errno = ENOLCK; return -1; }"] {
        let world = without_locks(answer);
        let version = |number: u64| -> Vec<(String, Vec<u8>)> {
            let same = (0..3).map(|n| (format!("same/{n}"), bytes(n + 1, 200_000)));
            let own = (0..6).map(|n| (format!("{n}.bin"), bytes(100 * number + n, if n == 0 { 1_500_000 } else { 30_000 })));
            same.chain(own).collect()
        };
        for number in [1, 2] {
            let files = version(number);
            let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
            world.tree(&format!("v{number}"), &files);
        }
        let (one, two): (BTreeMap<_, _>, BTreeMap<_, _>) = (version(1).into_iter().collect(), version(2).into_iter().collect());
        for round in 0..6 {
            std::fs::remove_dir_all(world.work().join("copy")).ok();
            let sources = if round % 2 == 0 { ["./v1", "./v2"] } else { ["./v1", "./v1"] };
            let mut runs = sources.map(|source| world.start(&["copy", source, "./copy", "-q", "--bwlimit", "6M"]));
            if round > 1 {
                std::thread::sleep(std::time::Duration::from_millis(100 * round));
                runs[0].kill();
            }
            let ran = runs.map(Started::wait);
            let shown = || format!("round {round} {answer}\n{}\n{}", ran[0].shown(), ran[1].shown());
            assert_eq!(ran[1].code, 0, "{}", shown());
            let mut there = files_below(&world.work().join("copy"));
            there.retain(|path, _| !path.starts_with(".hubferry/"));
            let whole = there == one || there == two;
            assert!(whole, "one of the two, and all of it: {:?}\n{}", there.keys(), shown());
            world.run(&["copy", "./v1", "./copy", "-q"]).ok();
            // Also of the one that was killed nothing is left.
            world.run(&["sync", "./v2", "./copy", "-q", "--yes"]).ok();
            assert_eq!(files_below(&world.work().join("copy")), two, "{}", shown());
        }
    }
}
