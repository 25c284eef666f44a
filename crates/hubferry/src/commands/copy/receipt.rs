//! The receipt of a copy: an in-toto statement (<https://in-toto.io/Statement/v1>) that names every file of the destination that the
//! copy answers for, with its hashes, and where it came from. Nothing in it is made up: a hash that nobody published and nobody
//! computed is not there.

use hubferry_core::address::Address;
use hubferry_core::card;
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Entry, RepoPath, Revision};
use hubferry_core::ops::CopyReport;
use hubferry_core::plan::{Comparison, Reason, compare};
use hubferry_core::remote::Visibility;
use hubferry_core::selection::Preset;
use serde::Serialize;

use crate::args::Selection;

/// What the statement is about. A name of our own, not an address: nobody needs to own a domain for it.
const PREDICATE: &str = "urn:hubferry:copy:1";

/// A finished copy, as far as a receipt speaks of it.
pub(super) struct Finished<'a> {
    pub(super) source: &'a Address,
    pub(super) destination: &'a Address,
    pub(super) report: &'a CopyReport,
    pub(super) selection: &'a Selection,
    /// The card as its place has it, where it was changed on the way, and how.
    pub(super) original: Option<Entry>,
    pub(super) changes: &'a [String],
    /// RFC 3339, UTC.
    pub(super) started: &'a str,
    pub(super) ended: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject<'a>>,
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a RepoPath,
    digest: DigestSet,
}

/// Names as in-toto has them: <https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md>.
#[derive(Clone, Copy, Serialize)]
struct DigestSet {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Oid>,
    #[serde(rename = "gitBlob", skip_serializing_if = "Option::is_none")]
    git: Option<GitOid>,
}

impl DigestSet {
    fn of(entry: &Entry) -> Self {
        Self { sha256: entry.blob().map(|blob| blob.oid), git: entry.digests.git }
    }

    fn is_empty(self) -> bool {
        self.sha256.is_none() && self.git.is_none()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    tool: Tool,
    started: &'a str,
    finished: &'a str,
    source: Side<'a>,
    destination: Side<'a>,
    /// Who may read the destination, where the copy created it.
    created: Option<Visibility>,
    commits: Vec<&'a Revision>,
    files: Vec<File<'a>>,
    deleted: Vec<&'a RepoPath>,
    left_out: LeftOut<'a>,
}

#[derive(Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Side<'a> {
    address: String,
    revision: Option<&'a Revision>,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    files: usize,
    bytes: u64,
    include: &'a [String],
    exclude: &'a [String],
    #[serde(flatten)]
    preset: Preset,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a RepoPath,
    size: u64,
    source: Option<DigestSet>,
    destination: DigestSet,
    verdict: Verdict,
    /// Whether this copy brought it.
    written: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changes: &'a [String],
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The same bytes on both sides, by their hashes.
    Same,
    /// Changed on the way, as `changes` says; what arrived is what was meant.
    Transformed,
    /// Such as hubs write by themselves, and left as the destination has it.
    Generated,
    /// Of one size; no hash is known of both sides.
    Unverifiable,
}

impl Finished<'_> {
    /// The statement as one line of JSON. Fails if a file is not at the destination as it is meant to be.
    pub(super) fn line(&self) -> Result<String> {
        let report = self.report;
        let files = self.files()?;
        let proven = files.iter().filter(|file| !file.destination.is_empty());
        let statement = Statement {
            kind: "https://in-toto.io/Statement/v1",
            subject: proven.map(|file| Subject { name: file.path, digest: file.destination }).collect(),
            predicate_type: PREDICATE,
            predicate: Predicate {
                tool: Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") },
                started: self.started,
                finished: self.ended,
                source: Side { address: self.source.to_string(), revision: Some(&report.plan.source) },
                destination: Side { address: self.destination.to_string(), revision: report.head.as_ref() },
                created: report.created,
                commits: report.outcome.commits.iter().map(|landed| &landed.revision).collect(),
                files,
                deleted: report.plan.deletes().collect(),
                left_out: LeftOut {
                    files: report.left_out.files,
                    bytes: report.left_out.bytes,
                    include: &self.selection.include,
                    exclude: &self.selection.exclude,
                    preset: self.selection.preset(),
                },
            },
        };
        let mut line =
            serde_json::to_string(&statement).map_err(|e| Error::new(Kind::Bug, "the receipt cannot be written as JSON").caused_by(e))?;
        line.push('\n');
        Ok(line)
    }

    fn files(&self) -> Result<Vec<File<'_>>> {
        let sides = &self.report.sides;
        let Some(there) = &sides.destination else { return Ok(Vec::new()) };
        let written: std::collections::HashSet<&RepoPath> = self.report.plan.puts().map(|(path, _)| path).collect();
        let mut files = Vec::with_capacity(there.entries.len());
        for (path, entry) in &there.entries {
            let Some(meant) = sides.source.entries.get(path) else {
                // Anything else in a repository that was there before is somebody's.
                if self.report.created.is_some() || self.report.generated.contains(path) {
                    let (destination, verdict) = (DigestSet::of(entry), Verdict::Generated);
                    files.push(File { path, size: entry.size, source: None, destination, verdict, written: false, changes: &[] });
                }
                continue;
            };
            let original = self.original.as_ref().filter(|_| path.as_str() == card::FILE);
            let verdict = match (compare(meant, entry), original) {
                (Comparison::Same, Some(_)) => Verdict::Transformed,
                (Comparison::Same, None) => Verdict::Same,
                (Comparison::Differs(Reason::HashUnknown), _) => Verdict::Unverifiable,
                (Comparison::Differs(_), _) => return Err(wrong(path)),
            };
            files.push(File {
                path,
                size: entry.size,
                source: Some(DigestSet::of(original.unwrap_or(meant))),
                destination: DigestSet::of(entry),
                verdict,
                written: written.contains(path),
                changes: if original.is_some() { self.changes } else { &[] },
            });
        }
        match sides.source.entries.keys().find(|path| !there.entries.contains_key(*path)) {
            Some(path) => Err(wrong(path)),
            None => Ok(files),
        }
    }
}

fn wrong(path: &RepoPath) -> Error {
    Error::new(Kind::Corrupt, format!("{path:?} is not at the destination as it was copied, so there is no receipt"))
        .hint("run `hubferry verify` on the destination")
}
