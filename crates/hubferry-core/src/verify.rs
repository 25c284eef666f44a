//! Reads what a place holds and says of every file whether it is what it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::digest::Digests;
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Phase};
use crate::manifest::{Entry, Manifest, RepoPath};
use crate::remote::Source;
use crate::transfer::Context;
use crate::transfer::body::{SourceBody, Wish};

/// What was found of one file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Every byte was read and has the expected hash.
    Matched,
    /// Every byte was read and is what the source becomes on its way to this hub.
    Transformed,
    /// A hub wrote it by itself, here or at the source; what stands here stays.
    Generated,
    /// It has other bytes, or another size, than expected.
    Mismatched {
        /// What differs.
        why: String,
    },
    /// It should be there and is not.
    Missing,
    /// It is there and was not expected. Does not fail a verification.
    Extra,
    /// It was read, but neither side publishes a hash to compare it with.
    Unverifiable,
}

/// The findings of a verification, by path.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Findings {
    /// One verdict per file.
    pub files: BTreeMap<RepoPath, Verdict>,
    /// Bytes that were read and hashed.
    pub bytes_read: u64,
}

impl Findings {
    /// How many files have a verdict that `test` accepts.
    pub fn count(&self, test: impl Fn(&Verdict) -> bool) -> usize {
        self.files.values().filter(|verdict| test(verdict)).count()
    }

    /// Files whose bytes must be replaced.
    pub fn bad(&self) -> Vec<RepoPath> {
        let bad = |verdict: &Verdict| matches!(verdict, Verdict::Mismatched { .. } | Verdict::Missing);
        self.files.iter().filter(|(_, verdict)| bad(verdict)).map(|(path, _)| path.clone()).collect()
    }

    /// Files that a hub wrote by itself.
    pub fn generated(&self) -> Vec<RepoPath> {
        self.files.iter().filter(|(_, verdict)| **verdict == Verdict::Generated).map(|(path, _)| path.clone()).collect()
    }

    /// Whether everything expected was found and proven.
    pub fn is_ok(&self) -> bool {
        let is_bad = |verdict: &Verdict| matches!(verdict, Verdict::Mismatched { .. } | Verdict::Missing | Verdict::Unverifiable);
        !self.files.values().any(is_bad)
    }

    /// Notes that a file which matched is not the source's own, but what it becomes on its way.
    pub fn mark_transformed(&mut self, path: &RepoPath) {
        if let Some(verdict) = self.files.get_mut(path).filter(|verdict| **verdict == Verdict::Matched) {
            *verdict = Verdict::Transformed;
        }
    }
}

/// Reads every file of `place` and checks it against `expected`, or against what the place itself publishes.
///
/// `held` is the listing of `place`. A listing says nothing about bytes, so each file is read to its end whatever the listing
/// promises.
pub async fn verify(place: &Arc<dyn Source>, held: &Manifest, expected: Option<&Manifest>, context: &Context) -> Result<Findings> {
    context.reporter.event(&Event::Phase(Phase::Verifying));
    let mut findings = Findings::default();
    let mut to_read = Vec::new();
    let want = expected.unwrap_or(held);
    for (path, entry) in &want.entries {
        match held.entries.get(path) {
            None => drop(findings.files.insert(path.clone(), Verdict::Missing)),
            Some(there) if there.size != entry.size => {
                let why = format!("{} bytes, expected {}", there.size, entry.size);
                findings.files.insert(path.clone(), Verdict::Mismatched { why });
            }
            Some(there) => to_read.push((path.clone(), *there, *entry)),
        }
    }
    for path in held.entries.keys().filter(|path| !want.entries.contains_key(*path)) {
        findings.files.insert(path.clone(), Verdict::Extra);
    }
    context.reporter.event(&Event::Planned { files: to_read.len() as u64, bytes: to_read.iter().map(|(_, there, _)| there.size).sum() });
    let work = futures_util::stream::iter(to_read).map(|(path, _, entry)| {
        let (place, at, context) = (place.clone(), held.revision.clone(), context.clone());
        async move { Ok::<_, Error>((path.clone(), check(&place, &at, &path, entry, &context).await?, entry.size)) }
    });
    let checked: Vec<_> = work.buffer_unordered(context.transfers.max(1)).try_collect().await?;
    for (path, verdict, size) in checked {
        findings.bytes_read += size;
        findings.files.insert(path, verdict);
    }
    Ok(findings)
}

async fn check(
    place: &Arc<dyn Source>,
    at: &crate::manifest::Revision,
    path: &RepoPath,
    expected: Entry,
    context: &Context,
) -> Result<Verdict> {
    context.reporter.event(&Event::Started { path: path.clone(), size: expected.size });
    // The body checks nothing here, so that a wrong hash is a finding about the place and not a failed transfer. It computes both
    // digests when no SHA-256 is promised.
    let unpromised = Entry::new(expected.size, Digests::default());
    let wish = Wish { at: at.clone(), path: path.clone(), entry: unpromised };
    let found = match SourceBody::identify(place, &wish, context).await {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Changed | Kind::NotFound) => {
            return Ok(Verdict::Mismatched { why: error.to_string() });
        }
        Err(error) => return Err(error),
    };
    context.reporter.event(&Event::Finished { path: path.clone(), size: expected.size, moved: true });
    Ok(match expected.digests.agree(&found) {
        Some(true) => Verdict::Matched,
        None if expected.size == 0 => Verdict::Matched,
        None => Verdict::Unverifiable,
        Some(false) => Verdict::Mismatched { why: difference(&expected.digests, &found) },
    })
}

fn difference(expected: &Digests, found: &Digests) -> String {
    match (expected.sha256.zip(found.sha256), expected.git.zip(found.git)) {
        (Some((want, got)), _) => format!("sha256 {got}, expected {want}"),
        (None, Some((want, got))) => format!("git id {got}, expected {want}"),
        (None, None) => "nothing to compare".to_owned(),
    }
}
