//! Large files pass through: bounded memory, nothing spooled, however many at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::harness::{ALICE, Served, World, bytes, full, get_head, peak_memory};

/// Most memory a client or a server may ever hold.
const MOST_MEMORY: u64 = 128 << 20;

/// A file of many MiB, written piece by piece. Every MiB of it is different.
fn write_large(path: &Path, mebibytes: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    let mut piece = bytes(9, 1 << 20);
    for number in 0..mebibytes {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&piece).unwrap();
    }
}

/// Bytes in all files below a folder, by what they are said to hold.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

#[test]
fn a_large_file_goes_from_hub_to_hub_through_memory_alone() {
    let mebibytes = if full() { 2048 } else { 256 };
    let (a, b, c) = (Served::start(), Served::start(), Served::start());
    let author = World::new().at(&a.hf, &a.ms, ALICE);
    write_large(&author.work().join("model/model.safetensors"), mebibytes);
    let published = author.run(&["copy", "./model", "hf:alice/large", "-q"]).ok();
    assert!(published.peak < MOST_MEMORY, "publishing held {} bytes", published.peak);

    for (from, to, source, destination) in [(&a, &b, "hf:alice/large", "ms:alice/large"), (&b, &c, "ms:alice/large", "hf:alice/large")] {
        let (hf, ms) = if source.starts_with("hf:") { (&from.hf, &to.ms) } else { (&to.hf, &from.ms) };
        let world = World::new().at(hf, ms, ALICE);
        let ran = world.run(&["copy", source, destination, "--json", "-q"]).ok();
        let report = ran.json();
        eprintln!("{mebibytes} MiB in {:.1} s, {} MiB of memory, {} bytes to disk", ran.took.as_secs_f64(), ran.peak >> 20, ran.disk);
        assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{report}");
        for count in [&report["moved_bytes"], &report["wire"]["sent"], &report["wire"]["received"]] {
            let more = count.as_u64().unwrap().checked_sub(mebibytes << 20);
            assert!(more.is_some_and(|more| more < 10_000), "the large file moved once: {report}");
        }
        assert!(ran.peak > 0 && ran.peak < MOST_MEMORY, "the client held {} bytes", ran.peak);
        assert!(ran.disk < 1 << 20, "the client wrote {} bytes to a disk", ran.disk);
        assert!(bytes_below(world.home()) < 1 << 20, "nothing is left in the home of the client");
    }
    let last = World::new().at(&c.hf, &c.ms, ALICE);
    let read = last.run(&["verify", "hf:alice/large", "-q", "--include", "model.safetensors"]).ok();
    assert!(read.peak < MOST_MEMORY, "verifying held {} bytes", read.peak);
    let model = author.work().join("model");
    last.run(&["diff", model.to_str().unwrap(), "hf:alice/large", "-q", "--include", "model.safetensors"]).ok();
    for hub in [&a, &b, &c] {
        assert!(peak_memory(hub.pid()) < MOST_MEMORY, "a hub held {} bytes", peak_memory(hub.pid()));
    }
}

/// Downloads without keeping; gives the number of bytes that came.
fn download(url: &str) -> u64 {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nhost: {host}\r\n\r\n").unwrap();
    let mut buffer = vec![0; 1 << 18];
    let mut head = Vec::new();
    let end = loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "no answer to {url}");
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    assert!(head.starts_with(b"HTTP/1.0 200") || head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..end]));
    let mut total = (head.len() - end) as u64;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return total,
            count => total += count as u64,
        }
    }
}

#[test]
fn a_hub_bears_64_downloads_at_once() {
    let mebibytes = if full() { 256 } else { 64 };
    let hub = Served::start();
    let world = hub.world(ALICE);
    write_large(&world.work().join("model/model.safetensors"), mebibytes);
    world.run(&["copy", "./model", "hf:alice/large", "-q", "--visibility", "public"]).ok();
    let (status, head) = get_head(&format!("{}/alice/large/resolve/main/model.safetensors", hub.hf));
    assert_eq!(status, 302, "{head}");
    let link = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim().to_owned();
    let link = if link.starts_with('/') { format!("{}{link}", hub.hf) } else { link };
    let begun = std::time::Instant::now();
    let readers: Vec<_> = (0..64).map(|_| link.clone()).map(|link| std::thread::spawn(move || download(&link))).collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), mebibytes << 20);
    }
    let held = peak_memory(hub.pid());
    eprintln!("64 x {mebibytes} MiB in {:.1} s, {} MiB of memory", begun.elapsed().as_secs_f64(), held >> 20);
    assert!(held > 0 && held < MOST_MEMORY, "the hub held {held} bytes");
    world.run(&["verify", "hf:alice/large", "--against", "./model", "--include", "model.safetensors", "-q"]).ok();
}
