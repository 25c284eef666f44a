//! A plan as a file: written when it is made, read when it is carried out. What is read is checked like anything from a stranger.
//!
//! The format is JSON and described in `docs/plan-files.md`. A file of another version is refused, and so is a field that is not
//! known: nobody is to believe that it was heeded. A file holds names, sizes and hashes, never a credential.

mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Compare, Plan, Policy, Step};
use crate::address::RepoKind;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::manifest::{Manifest, Revision};
use crate::remote::Visibility;
use crate::selection::Preset;

/// The version of the format that is written and read.
pub const VERSION: u64 = 1;
/// A larger file is neither written nor read: bytes, enough for about a million steps.
pub const LARGEST: u64 = 256 << 20;

/// More copies than one command makes, by a wide margin.
const MOST_COPIES: usize = 100_000;
/// Longest text of any field, in bytes.
const LONGEST: usize = 64 << 10;
/// Most globs or addresses of one kind.
const MOST_TEXTS: usize = 10_000;

/// Copies that were planned and not made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// [`VERSION`].
    hubferry_plan: u64,
    /// Name and version of the tool that made it.
    pub tool: String,
    /// When it was made (RFC 3339, UTC). For people: nothing depends on it.
    pub made: String,
    /// What to do, each for one destination.
    pub copies: Vec<PlannedCopy>,
}

/// One copy that was planned, with everything that decides what it does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCopy {
    /// Where from.
    pub source: PlannedSource,
    /// Where to.
    pub destination: PlannedDestination,
    /// The kind of both, unless the address of the destination says another; `None` between directories.
    pub kind: Option<RepoKind>,
    /// Who may read the destination that has to be created; `None` where it existed when the plan was made.
    pub create: Option<Visibility>,
    /// What was asked for.
    pub settings: Settings,
    /// Files of the source that the globs leave out.
    pub left_out: usize,
    /// Files that were equal already.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// What to do, in path order.
    #[serde(with = "steps")]
    pub steps: Vec<Step>,
}

/// The source of a planned copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSource {
    /// As an address.
    pub address: String,
    /// URL of the hub that the remote of the address meant; `None` for a directory.
    pub endpoint: Option<String>,
    /// What the address stood for.
    pub revision: Revision,
}

/// The destination of a planned copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDestination {
    /// As an address.
    pub address: String,
    /// URL of the hub that the remote of the address meant; `None` for a directory.
    pub endpoint: Option<String>,
    /// Its head; `None` where there was none.
    pub revision: Option<Revision>,
}

/// What was asked for when a copy was planned: the flags of the command.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Settings {
    /// Globs of `--include`.
    pub include: Vec<String>,
    /// Globs of `--exclude`.
    pub exclude: Vec<String>,
    /// Further places to read equal bytes from.
    pub also: Vec<String>,
    /// Delete what the source does not have.
    pub delete: bool,
    /// Delete also what the globs leave out.
    pub delete_excluded: bool,
    /// Refuse more deletions than this.
    pub max_delete: Option<usize>,
    /// Take paths that differ only in letter case.
    pub allow_case_collisions: bool,
    /// Who may read a destination that has to be created, where it was said.
    pub visibility: Option<Visibility>,
    /// The copy of a gated or private repository may be public.
    pub allow_public: bool,
    /// Let tokens and keys that are found in text files be public.
    pub allow_secrets: bool,
    /// Summary of the commit, where it was said.
    pub message: Option<String>,
    /// The card is left as it is.
    pub raw: bool,
    /// Which weights take part; absent where nobody said.
    #[serde(default, skip_serializing_if = "Preset::is_empty")]
    pub preset: Preset,
}

impl Settings {
    /// What of it the planner needs.
    pub fn policy(&self) -> Policy {
        Policy {
            delete: self.delete,
            delete_excluded: self.delete_excluded,
            max_delete: self.max_delete,
            allow_case_collisions: self.allow_case_collisions,
            compare: Compare::Hash,
        }
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.include, &self.exclude, &self.also].into_iter().flatten().chain(&self.message)
    }
}

impl PlannedCopy {
    /// The plan itself.
    pub fn plan(&self) -> Plan {
        Plan {
            source: self.source.revision.clone(),
            parent: self.destination.revision.clone(),
            steps: self.steps.clone(),
            kept_files: self.kept_files,
            kept_bytes: self.kept_bytes,
            // Plans that are written down compare hashes.
            trusted_files: 0,
            trusted_bytes: 0,
        }
    }

    /// Fails unless it is one that a planner can have made.
    fn check(&self) -> Result<()> {
        let Self { source, destination, settings, .. } = self;
        for revision in destination.revision.iter().chain([&source.revision]) {
            Revision::new(revision.as_str())?;
        }
        let texts = [&source.address, &destination.address].into_iter().chain(&source.endpoint).chain(&destination.endpoint);
        if texts.chain(settings.texts()).any(|text| text.len() > LONGEST) {
            return Err(Error::invalid(format!("a text has more than {LONGEST} bytes")));
        }
        if [&settings.include, &settings.exclude, &settings.also].iter().any(|list| list.len() > MOST_TEXTS) {
            return Err(Error::invalid(format!("a list has more than {MOST_TEXTS} texts")));
        }
        Filter::new(&settings.include, &settings.exclude)?;
        settings.preset.check()?;
        if let Some(pair) = self.steps.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return Err(Error::invalid(format!("the steps are not in order at {:?}", pair[1].path)));
        }
        let plan = self.plan();
        // What would be there afterwards must be a possible tree.
        Manifest::new(source.revision.clone(), plan.puts().map(|(path, entry)| (path.clone(), *entry)))?;
        let deletions = plan.deletes().count();
        if self.create.is_some() && (destination.revision.is_some() || deletions > 0 || self.kept_files > 0) {
            return Err(Error::invalid("a destination that has to be created has nothing in it"));
        }
        if settings.max_delete.is_some_and(|most| deletions > most) {
            return Err(Error::invalid(format!("the plan deletes {deletions} files, more than it allows itself")));
        }
        Ok(())
    }
}

impl PlanFile {
    /// A file of these copies.
    pub fn new(tool: impl Into<String>, made: impl Into<String>, copies: Vec<PlannedCopy>) -> Self {
        Self { hubferry_plan: VERSION, tool: tool.into(), made: made.into(), copies }
    }

    /// As it is written; fails when it would be too large to be read again.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::invalid("the plan cannot be written as JSON").caused_by(e))?;
        text.push('\n');
        if text.len() as u64 > LARGEST {
            return Err(Error::invalid(format!("the plan is larger than {} MiB", LARGEST >> 20))
                .hint("plan fewer repositories at once, or narrow the files with --include"));
        }
        Ok(text)
    }

    /// Reads what [`PlanFile::to_json`] wrote, and checks everything that can be checked without asking anybody.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        if text.len() as u64 > LARGEST {
            return Err(too_large());
        }
        let broken = |error| Error::invalid("the file is not a plan of hubferry").caused_by(error).hint(MAKE_ONE);
        // The version first: what else is in a file of another one, nobody here can say.
        let Version { hubferry_plan: version } = serde_json::from_slice(text).map_err(broken)?;
        if version != VERSION {
            return Err(Error::invalid(format!("the plan has the format {version}, and this version reads {VERSION}")).hint(MAKE_ONE));
        }
        let file: Self = serde_json::from_slice(text).map_err(broken)?;
        if file.copies.is_empty() || file.copies.len() > MOST_COPIES {
            return Err(Error::invalid(format!("a plan holds 1 to {MOST_COPIES} copies, not {}", file.copies.len())).hint(MAKE_ONE));
        }
        if file.tool.len() > LONGEST || file.made.len() > LONGEST {
            return Err(Error::invalid(format!("a text has more than {LONGEST} bytes")).hint(MAKE_ONE));
        }
        let mut places = BTreeSet::new();
        for copy in &file.copies {
            if !places.insert(&copy.destination.address) {
                return Err(Error::invalid(format!("two copies go to {:?}", copy.destination.address)).hint(MAKE_ONE));
            }
            copy.check().map_err(|e| e.context("destination", &copy.destination.address).hint(MAKE_ONE))?;
        }
        Ok(file)
    }
}

const MAKE_ONE: &str = "make the plan anew with `hubferry copy … --plan FILE`; a plan file is not edited by hand";

/// The refusal of a file that is too large.
pub fn too_large() -> Error {
    Error::invalid(format!("a plan file has {} MiB at most", LARGEST >> 20)).hint(MAKE_ONE)
}

#[derive(Deserialize)]
struct Version {
    hubferry_plan: u64,
}
