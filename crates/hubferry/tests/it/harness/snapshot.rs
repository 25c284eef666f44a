//! Whole runs as snapshots: what differs from run to run is replaced by a name.

use super::{Ran, World};

/// Compares runs with what was reviewed before: exit code, standard output and standard error of each.
#[track_caller]
pub(crate) fn snapshot(name: &str, world: &World, runs: &[Ran]) {
    let text: Vec<String> = runs.iter().map(Ran::shown).collect();
    let text = text.join("\n");
    assert!(!text.contains("panicked at"), "{text}");
    let home = world.home().display().to_string();
    let filters = vec![
        (home.as_str(), "[HOME]"),
        (r"127\.0\.0\.1:\d{2,5}", "127.0.0.1:[PORT]"),
        (r"\b[0-9a-f]{64}\b", "[SHA256]"),
        (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
        (r"\b[0-9a-f]{12}\b", "[SHORT]"),
        (r"request_id [^,)\s]+", "request_id [ID]"),
        (r#""request_id": "[^"]+""#, r#""request_id": "[ID]""#),
        (r#""requests": \d+"#, r#""requests": "[COUNT]""#),
        (r#""left": \d+"#, r#""left": "[COUNT]""#),
        (r#""seconds": [\d.]+"#, r#""seconds": "[TIME]""#),
        (r"\b\d+(\.\d+)? s\b", "[TIME]"),
        (r"\b\d+ ms\b", "[TIME]"),
        (r"\.tmp\w{6}", ".tmp[RANDOM]"),
        (r"hubferry/\d+\.\d+\.\d+", "hubferry/[VERSION]"),
    ];
    insta::with_settings!({filters => filters, prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "../snapshots"}, {
        insta::assert_snapshot!(name, text);
    });
}
