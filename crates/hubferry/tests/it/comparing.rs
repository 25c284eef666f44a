//! When files count as equal: by hash, by size, by time; what is never believed; and what `copy --delete` deletes.

use std::fs::{File, FileTimes};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, Started, World, bytes, files_below, full, tools};

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789)
}

fn set_time(at: &Path, seconds: u64) {
    File::open(at).unwrap().set_times(FileTimes::new().set_modified(time(seconds))).unwrap();
}

fn report(world: &World, args: &[&str]) -> Value {
    world.run(&[args, &["--json", "-q"]].concat()).ok().json()
}

fn content(world: &World, path: &str) -> Vec<u8> {
    std::fs::read(world.work().join(path)).unwrap()
}

#[test]
fn d12_a_checksum_mismatch_always_updates_the_file() {
    let world = World::new();
    // The tool before believed files over 1 GiB of equal size.
    let size = if full() { (1 << 30) + 77 } else { 3 << 20 };
    let source = world.tree("source", &[("model.bin", &[])]);
    let target = world.tree("target", &[("model.bin", &[])]);
    for (folder, last) in [(&source, b"a"), (&target, b"b")] {
        let file = File::options().write(true).open(folder.join("model.bin")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, last, size - 1).unwrap();
        set_time(&folder.join("model.bin"), 1_000_000_000);
    }
    let moved = report(&world, &["copy", "./source", "./target"]);
    assert_eq!((&moved["moved_bytes"], &moved["compare"]), (&json!(size), &json!("hash")), "{moved}");
    let again = report(&world, &["copy", "./source", "./target"]);
    assert_eq!(again["moved_bytes"], 0);
    // Hashes that are known decide also where sizes are believed.
    let (one, two) = (bytes(1, 300_000), bytes(2, 300_000));
    let (source, target) = (world.tree("s", &[("m", &one)]), world.tree("t", &[("m", &two)]));
    set_time(&source.join("m"), 1_000_000_000);
    set_time(&target.join("m"), 1_000_000_000);
    std::thread::sleep(Duration::from_millis(2200));
    world.run(&["diff", "./s", "./t", "-q"]).exits(8);
    let known = report(&world, &["copy", "./s", "./t", "--compare", "size"]);
    assert_eq!((&known["moved_bytes"], &known["plan"]["trusted_files"]), (&json!(300_000), &json!(0)), "{known}");
    assert_eq!(content(&world, "t/m"), one);
}

#[test]
fn d13_a_shorter_file_is_never_appended_to_unproven() {
    let world = World::new();
    let (new, old) = (bytes(3, 500_000), bytes(4, 500_000));
    world.tree("source", &[("model.bin", &new)]);
    for compare in ["hash", "size", "mtime"] {
        for (name, there) in [("old", &old[..200_000]), ("new", &new[..200_000]), ("empty", &[][..])] {
            let folder = format!("{compare}-{name}");
            world.tree(&folder, &[("model.bin", there)]);
            world.run(&["copy", "./source", &format!("./{folder}"), "--compare", compare, "-q"]).ok();
            assert_eq!(content(&world, &format!("{folder}/model.bin")), new, "{folder}: no mix of versions");
        }
    }
}

#[test]
fn d16_a_changed_file_of_equal_size_is_updated_or_reported_as_believed() {
    let world = World::new();
    let (new, old) = (bytes(5, 100_000), bytes(6, 100_000));
    let source = world.tree("source", &[("model.bin", &new), ("same", b"same")]);
    let target = world.tree("target", &[("model.bin", &old), ("same", b"same")]);
    for file in [source.join("model.bin"), source.join("same"), target.join("model.bin"), target.join("same")] {
        set_time(&file, 1_000_000_000);
    }
    // Believed, and said so, in every form.
    for compare in ["size", "mtime"] {
        let said = report(&world, &["copy", "./source", "./target", "--compare", compare, "--dry-run"]);
        let plan = &said["plan"];
        assert_eq!((&said["compare"], &plan["trusted_files"], &plan["trusted_bytes"]), (&json!(compare), &json!(2), &json!(100_004)));
    }
    let text = world.run(&["copy", "./source", "./target", "--compare", "mtime"]).ok().stdout;
    assert!(text.contains("0 files equal, 2 files equal by size and time alone, 0 B moved"), "{text}");
    let text = world.run(&["copy", "./source", "./target", "--compare", "size"]).ok().stdout;
    assert!(text.contains("0 files equal, 2 files equal by size alone, 0 B moved"), "{text}");
    assert_eq!(content(&world, "target/model.bin"), old);
    // Another time: the bytes are compared, and only what differs moves.
    set_time(&source.join("model.bin"), 1_000_000_001);
    set_time(&source.join("same"), 1_000_000_001);
    let moved = report(&world, &["copy", "./source", "./target", "--compare", "mtime"]);
    assert_eq!(
        (&moved["moved_bytes"], &moved["restamped"], &moved["plan"]["trusted_files"]),
        (&json!(100_000), &json!(1), &json!(0)),
        "{moved}"
    );
    assert_eq!(content(&world, "target/model.bin"), new);
    let again = report(&world, &["copy", "./source", "./target", "--compare", "mtime"]);
    assert_eq!((&again["moved_bytes"], &again["restamped"], &again["plan"]["trusted_files"]), (&json!(0), &json!(0), &json!(2)), "{again}");
    // And by default nothing is believed.
    std::fs::write(target.join("model.bin"), &old).unwrap();
    set_time(&target.join("model.bin"), 1_000_000_001);
    let moved = report(&world, &["copy", "./source", "./target"]);
    assert_eq!(moved["moved_bytes"], 100_000, "{moved}");
}

#[test]
fn what_may_not_be_all_there_is_never_believed_by_its_size() {
    let hub = Hub::start();
    let world = hub.world(ALICE);
    let weights = bytes(7, 400_000);
    let files: [(&str, &[u8]); 5] =
        [("holes.bin", &weights), ("aria.bin", &weights), ("part.bin", &weights), ("whole.bin", &weights), ("x.incomplete", &weights)];
    world.tree("model", &files);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    let zeros = vec![0; weights.len()];
    for from in ["hf:alice/model", "./model"] {
        let folder = world.work().join("copy");
        let there: [(&str, &[u8]); 6] = [
            ("aria.bin", &zeros),
            ("aria.bin.aria2", b"notes"),
            ("part.bin", &zeros),
            ("part.bin.part", b""),
            ("whole.bin", &zeros),
            ("x.incomplete", &zeros),
        ];
        world.tree("copy", &there);
        File::create(folder.join("holes.bin")).unwrap().set_len(weights.len() as u64).unwrap();
        let said = report(&world, &["copy", from, "./copy", "--compare", "size"]);
        assert_eq!(said["plan"]["trusted_files"], 1, "{said}");
        for name in ["holes.bin", "aria.bin", "part.bin", "x.incomplete"] {
            assert_eq!(content(&world, &format!("copy/{name}")), weights, "{name} from {from}");
        }
        assert_eq!(content(&world, "copy/whole.bin"), zeros, "this one was believed, and the report says so");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn times_decide_only_where_both_sides_have_them() {
    let world = World::new();
    world.tree("model", &[("a", b"a")]);
    let hub = Hub::start();
    let world = world.at(&hub.hf, &hub.ms, ALICE);
    world.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
    for (from, to, side) in [("hf:alice/model", "./copy", "source"), ("./model", "hf:alice/model", "destination")] {
        let said = world.run(&["copy", from, to, "--compare", "mtime"]).exits(1).stderr;
        assert!(said.contains(&format!("the {side} has none")) && said.contains("--compare size"), "{said}");
    }
    assert!(!world.work().join("copy").exists());
    for record in ["--plan", "--receipt"] {
        let said = world.run(&["copy", "./model", "./copy", "--compare", "size", record, "file"]).exits(2).stderr;
        assert!(said.contains("hashes of every file"), "{said}");
    }
}

#[test]
fn times_and_the_executable_bit_are_carried_between_directories() {
    let world = World::new();
    let source = world.tree("source", &[("run.sh", b"#!/bin/sh\n"), ("model.bin", &bytes(8, 200_000)), ("twin.bin", &bytes(8, 200_000))]);
    std::fs::set_permissions(source.join("run.sh"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for (name, seconds) in [("run.sh", 1_000_000_000), ("model.bin", 1_100_000_000), ("twin.bin", 1_200_000_000)] {
        set_time(&source.join(name), seconds);
    }
    let first = report(&world, &["copy", "./source", "./target"]);
    assert_eq!((&first["restamped"], &first["plan"]["files"]), (&json!(0), &json!(3)));
    let target = world.work().join("target");
    for (name, seconds) in [("run.sh", 1_000_000_000), ("model.bin", 1_100_000_000), ("twin.bin", 1_200_000_000)] {
        assert_eq!(target.join(name).metadata().unwrap().modified().unwrap(), time(seconds), "{name}");
    }
    assert_eq!(target.join("run.sh").metadata().unwrap().mode() & 0o111, target.join("run.sh").metadata().unwrap().mode() >> 2 & 0o111);
    assert_eq!(target.join("model.bin").metadata().unwrap().mode() & 0o111, 0);
    // Touched and made executable, the bytes stay: nothing moves.
    set_time(&source.join("model.bin"), 1_300_000_000);
    std::fs::set_permissions(source.join("twin.bin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let inode = target.join("model.bin").metadata().unwrap().ino();
    let planned = world.run(&["copy", "./source", "./target", "--dry-run"]).ok().stdout;
    assert!(planned.contains("would set the time or mode of 2 files"), "{planned}");
    let second = report(&world, &["copy", "./source", "./target"]);
    assert_eq!((&second["moved_bytes"], &second["restamped"]), (&json!(0), &json!(2)), "{second}");
    let there = target.join("model.bin").metadata().unwrap();
    assert_eq!((there.modified().unwrap(), there.ino()), (time(1_300_000_000), inode));
    assert_ne!(target.join("twin.bin").metadata().unwrap().mode() & 0o100, 0);
    let third = world.run(&["copy", "./source", "./target"]).ok().stdout;
    assert!(third.contains("is up to date") && !third.contains("mode of"), "{third}");
    // The times are no part of what a folder holds.
    world.run(&["diff", "./source", "./target", "-q"]).ok();
}

#[test]
fn copy_that_deletes_is_sync() {
    let world = World::new();
    world.tree("source", &[("a", b"a"), ("moved/b", b"bytes of b")]);
    world.tree("target", &[("a", b"old"), ("b", b"bytes of b"), ("extra", b"x"), ("log.txt", b"kept")]);
    let before = files_below(&world.work().join("target"));
    let said = world.run(&["copy", "./source", "./target", "--delete", "--max-delete", "1", "-q"]).exits(1);
    assert!(said.stderr.contains("more than --max-delete 1"), "{}", said.shown());
    std::fs::create_dir(world.work().join("empty")).unwrap();
    assert!(world.run(&["copy", "./empty", "./target", "--delete", "-q"]).exits(1).stderr.contains("empty listing"));
    world.run(&["copy", "./none", "./target", "--delete", "-q"]).exits(6);
    let planned = report(&world, &["copy", "./source", "./target", "--delete", "--exclude", "*.txt", "--dry-run"]);
    assert_eq!(files_below(&world.work().join("target")), before, "a dry run writes nothing");
    assert_eq!((&planned["plan"]["files"], &planned["there_bytes"]), (&json!(2), &json!(10)), "{planned}");
    let done = report(&world, &["copy", "./source", "./target", "--delete", "--exclude", "*.txt"]);
    assert_eq!(done["plan"]["steps"], planned["plan"]["steps"]);
    assert_eq!((&done["moved_bytes"], &done["reused_blobs"]), (&json!(1), &json!(1)), "the renamed file did not travel: {done}");
    let now = files_below(&world.work().join("target"));
    assert_eq!(now.keys().collect::<Vec<_>>(), ["a", "log.txt", "moved/b"]);
    world.run(&["copy", "./source", "./target", "--max-delete", "1"]).exits(2);
    world.run(&["copy", "./source", "./target", "ms:org/", "--delete"]).exits(2);
}

#[test]
fn on_a_file_system_with_reflinks_copies_and_renames_share_their_blocks() {
    let world = World::new();
    let source = world.tree("source", &[("model.bin", &bytes(9, 12 << 20)), ("twin.bin", &bytes(9, 12 << 20))]);
    let disk = world.work().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"
        set -e
        truncate -s 256M image
        mkfs.btrfs -q image >/dev/null
        mount -o loop image disk
        cp -r source disk/source
        "$1" copy ./disk/source ./disk/copy -q >/dev/null
        mkdir disk/source/renamed && mv disk/source/model.bin disk/source/renamed/model.bin
        "$1" sync ./disk/source ./disk/copy --json -q --yes
        cmp disk/copy/renamed/model.bin disk/source/renamed/model.bin
        cmp disk/copy/twin.bin disk/source/twin.bin
        sync
        btrfs filesystem du --raw -s disk/copy >&2
    "#;
    let tools = tools();
    let command = world.dress(
        std::process::Command::new("unshare"),
        &["-m", tools.to_str().unwrap(), "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_hubferry")],
    );
    let ran = Started::new("on btrfs".into(), command).wait().ok();
    assert_eq!((&ran.json()["moved_bytes"], &ran.json()["reused_blobs"]), (&json!(0), &json!(1)), "{}", ran.shown());
    // Total, exclusive, set shared.
    let numbers: Vec<u64> = ran.stderr.lines().last().unwrap().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[..2], [24 << 20, 0], "two files, and not a block of their own: {}", ran.shown());
    drop(source);
}
