//! Directories as places: damage that is found and mended, a disk that is full, nothing outside that is touched.

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
