//! What a place may have beyond one revision: branches, tags and history. Traits that only some remotes keep.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::address::check_ref;
use crate::error::{Error, Kind, Result};
use crate::manifest::Revision;
use crate::remote::{Source, Target};

/// What a ref is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefKind {
    /// Moves with every commit on it.
    Branch,
    /// Stays where it is.
    Tag,
}

impl fmt::Display for RefKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
        })
    }
}

/// A name and the commit it stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Ref {
    /// The short name: `main`, `v1.0`, `feature/x`.
    pub name: String,
    /// The commit.
    pub target: Revision,
}

impl Ref {
    /// Takes a ref as a place lists it. `Invalid` for a name that Git would not take: it is printed and put into URLs.
    pub fn new(name: impl Into<String>, target: Revision) -> Result<Self> {
        let name = name.into();
        check_ref(&name)?;
        Ok(Self { name, target })
    }
}

/// Every branch and tag of a repository, each sort by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RefList {
    /// Branches.
    pub branches: Vec<Ref>,
    /// Tags.
    pub tags: Vec<Ref>,
}

impl RefList {
    /// Sorts a listing. A name that stands twice in one sort is refused.
    pub fn new(mut branches: Vec<Ref>, mut tags: Vec<Ref>) -> Result<Self> {
        for list in [&mut branches, &mut tags] {
            list.sort();
            if let Some(pair) = list.windows(2).find(|pair| pair[0].name == pair[1].name) {
                return Err(Error::invalid(format!("the place lists {:?} twice", pair[0].name)));
            }
        }
        Ok(Self { branches, tags })
    }

    /// The refs of one sort.
    pub fn of(&self, kind: RefKind) -> &[Ref] {
        match kind {
            RefKind::Branch => &self.branches,
            RefKind::Tag => &self.tags,
        }
    }

    /// One of them by its name.
    pub fn find(&self, kind: RefKind, name: &str) -> Option<&Ref> {
        self.of(kind).iter().find(|known| known.name == name)
    }
}

/// A commit of the past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastCommit {
    /// Its id.
    pub revision: Revision,
    /// Summary line, and the rest behind an empty line.
    pub message: String,
    /// Who made it, as far as the place says.
    pub author: Option<String>,
    /// When, as the place writes it.
    pub date: Option<String>,
}

/// Reads branches, tags and history.
#[async_trait]
pub trait Refs: Send + Sync {
    /// The branch that an address without a ref means.
    fn default_branch(&self) -> &str;

    /// The branch, tag or commit that the place was opened at.
    fn opened_at(&self) -> &str;

    /// Every branch and tag, completely. `NotFound` when there is no such repository.
    async fn list(&self) -> Result<RefList>;

    /// Every commit that leads to `from`, newest first in the order of the place, `from` itself included. Complete or an error.
    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>>;

    /// The repository at another branch, tag or commit.
    fn source(&self, rev: &str) -> Result<Arc<dyn Source>>;
}

/// The refs of a place that a decorator stands in front of. `Unsupported` where it has none.
pub fn behind(source: &dyn Source) -> Result<&dyn Refs> {
    source.refs().ok_or_else(|| Error::new(Kind::Unsupported, "the source has no branches, tags and history"))
}

/// Changes branches and tags as well.
#[async_trait]
pub trait RefTarget: Refs {
    /// The repository with another branch to write to.
    fn branch(&self, name: &str) -> Result<Arc<dyn Target>>;

    /// Creates, moves or deletes one. `Conflict` when it is not where `from` says (where the place can tell); a change that took effect
    /// already may succeed or be a conflict.
    async fn change(&self, change: &RefChange) -> Result<()>;
}

/// What is to become of a branch or tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefChange {
    /// Which sort.
    pub kind: RefKind,
    /// Which one.
    pub name: String,
    /// Where it is now; `None` when it is not there.
    pub from: Option<Revision>,
    /// Where it is to be; `None` deletes it.
    pub to: Option<Revision>,
}
