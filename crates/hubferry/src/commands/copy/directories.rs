//! Copies of directories: which flags go together, and what is said of files whose bytes were not compared and of those that are at the
//! destination under another name.

use std::collections::HashSet;

use hubferry_core::address::Address;
use hubferry_core::manifest::Entry;
use hubferry_core::ops::CopyReport;
use hubferry_core::plan::{Compare, Plan};

use super::whole;
use crate::args::{Directories, Transfer};
use crate::exit::Failure;
use crate::output::count;
use crate::session::usage;

/// Refuses flags that contradict each other: what promises hashes of every file where not all are compared, and what only directories
/// can do.
pub(super) fn check(destination: &Address, args: &Transfer) -> Result<(), Failure> {
    let Directories { atomic, windows_names, .. } = args.directories;
    if (atomic || windows_names) && !matches!(destination, Address::Dir(_)) {
        let flag = if atomic { "--atomic" } else { "--windows-names" };
        return Err(usage(&format!("{flag} is about directories, and {destination} is none"), &format!("leave out {flag}")));
    }
    if (atomic || windows_names) && args.plan.is_some() {
        return Err(usage("a plan file does not say how a directory is written", "leave out --plan, and look with --dry-run"));
    }
    let compare = Compare::from(args.directories.compare);
    if compare == Compare::Hash {
        return Ok(());
    }
    let promises = [
        ("--plan", args.plan.is_some()),
        ("--receipt", args.receipt.is_some()),
        ("--all-refs and --history", whole::is_wanted(&args.refs)),
    ];
    match promises.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(usage(
            &format!("{flag} need hashes of every file, and --compare {} leaves files unread", compare.name()),
            "leave one of them out",
        )),
        None => Ok(()),
    }
}

/// How many files are equal, and how many of them by size or time alone.
pub(super) fn kept(plan: &Plan, compare: Compare) -> String {
    let equal = count(plan.kept_files - plan.trusted_files, "file");
    if plan.trusted_files == 0 {
        return format!("{equal} equal");
    }
    let by = if compare == Compare::Mtime { "size and time" } else { "size" };
    format!("{equal} equal, {} equal by {by} alone", count(plan.trusted_files, "file"))
}

/// Of the files that a plan brings to a directory, those whose bytes it has under another name: how many, and their bytes, each content
/// once.
pub(super) fn there_already(destination: &Address, report: &CopyReport) -> (u64, u64) {
    let (Address::Dir(_), Some(there)) = (destination, &report.sides.destination) else { return (0, 0) };
    let held: HashSet<_> = there.entries.values().filter_map(Entry::blob).filter(|blob| blob.size > 0).collect();
    let mut seen = HashSet::new();
    let (mut files, mut bytes) = (0, 0_u64);
    for blob in report.plan.puts().filter_map(|(_, entry)| entry.blob()).filter(|blob| held.contains(blob)) {
        files += 1;
        if seen.insert(blob) {
            bytes = bytes.saturating_add(blob.size);
        }
    }
    (files, bytes)
}
