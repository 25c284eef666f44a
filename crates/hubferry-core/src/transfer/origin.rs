//! The places a file can be read from: its source and the mirrors that hold the same bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Context;
use super::governor::Governor;
use crate::digest::Digests;
use crate::error::{Error, Result, Retry};
use crate::events::Event;
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::remote::Source;

/// A further source of a run. Equal SHA-256 means equal bytes, so whatever of it has the right hash may stand in for the source.
#[derive(Clone)]
pub struct Mirror {
    source: Arc<dyn Source>,
    label: Arc<str>,
    manifest: Arc<Manifest>,
    by_digest: Arc<std::collections::HashMap<(Digests, u64), RepoPath>>,
    distrusted: Arc<AtomicBool>,
}

impl Mirror {
    /// A place that was listed, under the name that people know it by.
    pub fn new(source: Arc<dyn Source>, label: &str, manifest: Manifest) -> Self {
        let keys = |digests: Digests| {
            let sha256 = digests.sha256.map(Digests::sha256);
            [sha256, digests.git.map(Digests::git)].into_iter().flatten()
        };
        let entries = manifest.entries.iter();
        let by_digest = entries.flat_map(|(path, entry)| keys(entry.digests).map(|key| ((key, entry.size), path.clone()))).collect();
        Self { source, label: label.into(), manifest: Arc::new(manifest), by_digest: Arc::new(by_digest), distrusted: Arc::default() }
    }

    /// Where it has the bytes of `entry`, as far as published hashes tell.
    fn find(&self, entry: &Entry) -> Option<&RepoPath> {
        let keys = [entry.digests.sha256.map(Digests::sha256), entry.digests.git.map(Digests::git)];
        keys.into_iter().flatten().find_map(|key| self.by_digest.get(&(key, entry.size)))
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("label", &self.label).finish_non_exhaustive()
    }
}

/// One place that has the file.
pub(super) struct Origin {
    pub(super) source: Arc<dyn Source>,
    pub(super) at: Revision,
    pub(super) path: RepoPath,
    /// `None` is the source of the run itself.
    label: Option<Arc<str>>,
    /// `None` for a place on this machine.
    pub(super) governor: Option<Arc<Governor>>,
    /// No longer asked for this file.
    failed: AtomicBool,
    /// No longer asked in this run.
    distrusted: Arc<AtomicBool>,
}

impl Origin {
    /// The source of the run.
    pub(super) fn main(source: Arc<dyn Source>, at: Revision, path: RepoPath, context: &Context) -> Self {
        let governor = source.host().map(|host| context.governors.of(&host));
        Self { source, at, path, label: None, governor, failed: AtomicBool::new(false), distrusted: Arc::default() }
    }

    /// A mirror, if it has the bytes of `entry`.
    pub(super) fn mirror(mirror: &Mirror, entry: &Entry, context: &Context) -> Option<Self> {
        let path = mirror.find(entry)?.clone();
        let governor = mirror.source.host().map(|host| context.governors.of(&host));
        Some(Self {
            source: mirror.source.clone(),
            at: mirror.manifest.revision.clone(),
            path,
            label: Some(mirror.label.clone()),
            governor,
            failed: AtomicBool::new(false),
            distrusted: mirror.distrusted.clone(),
        })
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && !self.distrusted.load(Ordering::Relaxed)
    }

    fn name(&self) -> &str {
        self.label.as_deref().unwrap_or("the source")
    }
}

/// All of them, the source of the run first.
pub(super) struct Origins(Vec<Origin>);

impl Origins {
    pub(super) fn new(main: Origin, mirrors: impl IntoIterator<Item = Origin>) -> Self {
        Self(std::iter::once(main).chain(mirrors).collect())
    }

    pub(super) fn get(&self, number: usize) -> Option<&Origin> {
        self.0.get(number)
    }

    /// Numbers of those that may be asked.
    pub(super) fn usable(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|number| self.0[*number].is_usable()).collect()
    }

    /// What they brought is wrong, whoever it was: those with another way to the file take it from now on.
    pub(super) fn doubt(&self) {
        for origin in &self.0 {
            origin.source.doubt(&origin.at, &origin.path);
        }
    }

    /// Whether `number` is the only one left.
    pub(super) fn is_last(&self, number: usize) -> bool {
        self.usable().iter().all(|usable| *usable == number)
    }

    /// Gives an origin up for this file after `error`; the error itself when no other is left.
    pub(super) fn give_up(&self, number: usize, error: Error, context: &Context) -> Result<()> {
        if self.is_last(number) {
            return Err(error.retry_as(Retry::No));
        }
        if let Some(origin) = self.get(number).filter(|origin| !origin.failed.swap(true, Ordering::Relaxed)) {
            context.reporter.event(&Event::Note(format!("{} is not asked for {} any more: {error}", origin.name(), origin.path)));
        }
        Ok(())
    }

    /// Stops using an origin for the whole run: it brought bytes that were proven wrong.
    pub(super) fn distrust(&self, number: usize, context: &Context) {
        let Some(origin) = self.get(number) else { return };
        if !origin.distrusted.swap(true, Ordering::Relaxed) {
            context.reporter.event(&Event::Note(format!(
                "{} brought wrong bytes of {} and is not used any more",
                origin.name(),
                origin.path
            )));
        }
    }
}
