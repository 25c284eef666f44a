//! A library that is loaded into the program under test and makes the machine behave badly: see `tests/shim/shim.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The library, compiled once per run of the tests: for `LD_PRELOAD`.
pub(crate) fn shim() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/shim.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (fresh, library) = (folder.join(format!("shim-{}.so", std::process::id())), folder.join("shim.so"));
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&fresh).arg(&source).arg("-ldl").output().unwrap();
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(&fresh, &library).unwrap();
        library
    })
}
