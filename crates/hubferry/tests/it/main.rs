//! The binary from outside: whole commands against hubs, directories and strangers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a failed assumption in a test should panic where it stands; a test starts programs and reads where they are"
)]

mod adopt;
mod atomic;
mod caching;
mod cards;
mod comparing;
mod crash;
mod demo;
mod directories;
mod doctor;
mod faults;
mod generated;
mod git_safety;
mod git_way;
mod harness;
mod hfcache;
mod hostile;
mod leaks;
mod locks;
mod looking;
mod main_job;
mod many;
mod messages;
mod mirrors;
mod mscache;
mod never_again;
mod plans;
mod pruning;
mod reference;
mod resume;
mod rsync;
mod secrets;
mod serving;
mod ssh;
#[path = "../../../hubferry-remotes/tests/it/sshd.rs"]
mod sshd;
mod streaming;
mod whole;
#[cfg(feature = "xet")]
mod xet;

/// A file that nobody names above would never run.
#[test]
fn no_test_file_is_forgotten() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let runner = std::fs::read_to_string(here.join("main.rs")).unwrap();
    for file in std::fs::read_dir(&here).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
        assert!(runner.contains(&format!("\nmod {module};")), "{name} is not part of main.rs");
    }
}
