//! A disk of a few MiB that fills up in the middle of a blob.

use super::*;

/// A blob in the middle of which somebody else takes the rest of the disk.
struct Crowded {
    wire: Wire,
    filler: PathBuf,
}

#[async_trait]
impl Body for Crowded {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        self.wire.read(range).await
    }

    async fn fill(&self, size: u64, partial: Arc<dyn Partial>) -> Result<()> {
        assert!(self.wire.fill(size, partial.clone()).await.is_err(), "it broke in the middle");
        let filler = File::create(&self.filler).unwrap();
        let full = (0..).find_map(|n| std::os::unix::fs::FileExt::write_all_at(&filler, &[1; 4096], n * 4096).err());
        assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
        Wire::new(&self.wire.bytes).fill(size, partial).await
    }
}

#[test]
fn a_disk_that_fills_up_keeps_what_was_there() {
    const DISK: &str = "HUBFERRY_TEST_DISK";
    #[expect(clippy::disallowed_methods, reason = "says that this is the program started below")]
    if let Some(disk) = std::env::var_os(DISK) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(on_a_full_disk(Path::new(&disk)));
    }
    // A disk of its own needs a mount namespace of its own, and that a process that has no other threads yet.
    let disk = tempfile::tempdir().unwrap();
    let flags = ["-m", "-rm"]
        .into_iter()
        .find(|flags| std::process::Command::new("unshare").args([flags, "true"]).status().is_ok_and(|status| status.success()));
    let flags = flags.expect("this test needs a mount namespace of its own: root, or unprivileged user namespaces");
    let name = "dir::tests::full_disk::a_disk_that_fills_up_keeps_what_was_there";
    let script = format!("mount -t tmpfs -o size=2m none \"${DISK}\" && exec \"$0\" --exact {name} --nocapture");
    let ran = std::process::Command::new("unshare")
        .args([flags, "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DISK, disk.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

async fn on_a_full_disk(disk: &Path) {
    let place = Place { root: tempfile::tempdir_in(disk).unwrap() };
    let bytes = content(16, SIZE);
    let filler = disk.join("filler");
    let crowded = Crowded { wire: Wire { breaks_after: 6 * PIECE, ..Wire::new(&bytes) }, filler: filler.clone() };
    let target = place.target();
    let error = target.put(&wanted(&bytes), &crowded).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.hint_text().unwrap().contains("free some space"), "{error}");
    let small = target.put(&wanted(b"small"), &Wire::new(b"small")).await.unwrap_err();
    assert_eq!(small.kind(), Kind::Io);
    drop(target);
    let visible = std::fs::read_dir(place.root.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != ".hubferry");
    assert_eq!(visible.count(), 0);
    // Now it is known before anything travels.
    let error = place.target().missing(&[wanted(&bytes)]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.message().contains("has room for 0 MiB, and 1 MiB more"), "{error}");
    std::fs::remove_file(filler).unwrap();
    assert!(copy(&place, &bytes).await <= 4 * PIECE);
    assert!(place.names().is_empty());
}
