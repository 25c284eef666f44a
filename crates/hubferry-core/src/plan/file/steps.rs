//! The steps of a plan file: flat objects in which every field is known, so that one too many is noticed.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digests, GitOid, Oid};
use crate::manifest::{Entry, RepoPath};
use crate::plan::{Action, Reason, Step};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    action: Verb,
    path: RepoPath,
    reason: Why,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Oid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<GitOid>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lfs: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_size: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Put,
    Delete,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    New,
    SizeDiffers,
    HashDiffers,
    HashUnknown,
    NotInSource,
    Repair,
}

impl From<&Step> for Written {
    fn from(step: &Step) -> Self {
        let (reason, target_size) = match step.reason {
            Reason::New => (Why::New, None),
            Reason::SizeDiffers { target_size } => (Why::SizeDiffers, Some(target_size)),
            Reason::HashDiffers => (Why::HashDiffers, None),
            Reason::HashUnknown => (Why::HashUnknown, None),
            Reason::NotInSource => (Why::NotInSource, None),
            Reason::Repair => (Why::Repair, None),
        };
        let (action, entry) = match &step.action {
            Action::Put { entry } => (Verb::Put, Some(entry)),
            Action::Delete => (Verb::Delete, None),
        };
        let digests = entry.map(|entry| entry.digests).unwrap_or_default();
        Self {
            action,
            path: step.path.clone(),
            reason,
            size: entry.map(|entry| entry.size),
            sha256: digests.sha256,
            git: digests.git,
            lfs: entry.is_some_and(|entry| entry.lfs),
            target_size,
        }
    }
}

impl TryFrom<Written> for Step {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { action, path, reason, size, sha256, git, lfs, target_size } = written;
        let reason = match (reason, target_size) {
            (Why::SizeDiffers, Some(target_size)) => Reason::SizeDiffers { target_size },
            (Why::New, None) => Reason::New,
            (Why::HashDiffers, None) => Reason::HashDiffers,
            (Why::HashUnknown, None) => Reason::HashUnknown,
            (Why::NotInSource, None) => Reason::NotInSource,
            // A repair is made on what a reading found, which nobody can know beforehand.
            _ => return Err(format!("the reason for {path:?} cannot be")),
        };
        let action = match (action, size) {
            (Verb::Put, Some(size)) if reason != Reason::NotInSource => {
                let mut entry = Entry::new(size, Digests { sha256, git });
                entry.lfs = lfs;
                Action::Put { entry }
            }
            (Verb::Delete, None) if reason == Reason::NotInSource && sha256.is_none() && git.is_none() && !lfs => Action::Delete,
            _ => return Err(format!("what is to be done with {path:?} contradicts itself")),
        };
        Ok(Self { path, action, reason })
    }
}

pub(super) fn serialize<S: Serializer>(steps: &[Step], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(steps.iter().map(Written::from))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Step>, D::Error> {
    let written = Vec::<Written>::deserialize(from)?;
    written.into_iter().map(|step| Step::try_from(step).map_err(D::Error::custom)).collect()
}
