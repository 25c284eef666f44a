//! What places that are made of files know beside bytes: times, the executable bit, whether a file is all there. None of it is part of a
//! revision, and none of it says what bytes a file has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::digest::Digests;
use crate::error::Result;
use crate::manifest::{RepoPath, Revision};

const SECOND: i64 = 1_000_000_000;

/// What a place knows of a file beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The last change of its content, in nanoseconds since 1970 (UTC), negative before; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// Whether its owner may run it; `None` where files have no such bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// It may not be all there, whatever its size says: it has holes, or another tool marks it as unfinished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Facts by path.
pub type FactList = BTreeMap<RepoPath, Facts>;

impl Facts {
    /// Whether a file with these facts shows what one with the facts of `source` was meant to show. What either side does not know
    /// makes no difference, and a time in whole seconds is equal to one within that second: some file systems have no finer ones.
    pub fn shows(&self, source: &Self) -> bool {
        self.has_time_of(source).unwrap_or(true) && source.executable.zip(self.executable).is_none_or(|(a, b)| a == b)
    }

    /// Whether the times are equal; `None` when a side has none.
    pub fn has_time_of(&self, source: &Self) -> Option<bool> {
        let (ours, theirs) = (self.modified?, source.modified?);
        Some(ours == theirs || (ours.rem_euclid(SECOND) == 0 && ours.div_euclid(SECOND) == theirs.div_euclid(SECOND)))
    }
}

/// A source that is made of files.
#[async_trait]
pub trait Files: Send + Sync {
    /// What was listed at `at`, beside the bytes.
    async fn facts(&self, at: &Revision) -> Result<FactList>;

    /// Hashes these files of `at`, or remembers their hashes. What cannot be told is left out.
    async fn digests(&self, at: &Revision, paths: &[RepoPath]) -> Result<BTreeMap<RepoPath, Digests>>;

    /// The file that holds the bytes of `path` as they were listed. As unverified as what a stream gives: a target may share its blocks
    /// instead of reading it, and hashes them all the same.
    fn local(&self, at: &Revision, path: &RepoPath) -> Option<PathBuf>;
}

/// A target that is made of files. All of it speaks of the head that was listed last.
#[async_trait]
pub trait FileTarget: Send + Sync {
    /// What its files have beside their bytes; empty where there is no head.
    async fn facts(&self) -> Result<FactList>;

    /// Hashes these files, or remembers their hashes. What cannot be told is left out.
    async fn digests(&self, paths: &[RepoPath]) -> Result<BTreeMap<RepoPath, Digests>>;

    /// What the files of the next commit have beside their bytes.
    fn carry(&self, facts: FactList);

    /// Gives files that keep their bytes these facts. One that changed since it was listed, or whose facts may not be set, is left as
    /// it is. Returns how many were changed.
    async fn restamp(&self, facts: FactList) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64) -> Facts {
        Facts { modified: Some(nanos), ..Facts::default() }
    }

    #[test]
    fn a_coarse_clock_at_the_destination_is_no_difference_and_one_at_the_source_is() {
        assert!(at(5 * SECOND).shows(&at(5 * SECOND + 7)));
        assert!(!at(5 * SECOND + 7).shows(&at(5 * SECOND)), "the source was written again within the second");
        assert!(!at(5 * SECOND).shows(&at(6 * SECOND)));
        assert!(at(-2 * SECOND).shows(&at(-SECOND - 1)), "before 1970 a second has the same length");
        assert!(Facts::default().shows(&at(1)) && at(1).shows(&Facts::default()));
        assert_eq!(Facts::default().has_time_of(&at(1)), None);
        let run = |executable| Facts { executable: Some(executable), ..at(1) };
        assert!(run(true).shows(&run(true)) && !run(true).shows(&run(false)));
    }
}
