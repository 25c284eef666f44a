//! Lock files: which files of which revisions are meant, by their SHA-256. Written so that two of them differ in few lines; what is
//! read is checked like anything from a stranger.
//!
//! The format is TOML and described in `docs/lock-files.md`. A file of another version is refused, and so is a field that is not known.

mod source;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use source::LockedSource;

use crate::address::RepoKind;
use crate::digest::Digests;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::manifest::{Blob, Entry, Manifest, RepoPath, Revision};
use crate::selection::Preset;

/// The version of the format that is written and read.
pub const VERSION: u64 = 1;
/// A larger file is neither written nor read: bytes, enough for some hundred thousand files.
pub const LARGEST: u64 = 64 << 20;
/// Longest text of any field, in bytes.
const LONGEST: usize = 4096;
/// Most globs of one repository.
const MOST_GLOBS: usize = 1000;

/// What is pinned.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LockFile {
    /// In the order of their addresses, each once.
    pub repositories: Vec<LockedRepo>,
}

/// One revision of a repository, as far as it takes part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LockedRepo {
    /// Where it was found, without kind and ref.
    pub address: String,
    /// What kind it is.
    pub kind: RepoKind,
    /// The branch, tag or commit that was asked for; `None` for the usual branch.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// What that stood for.
    pub commit: Revision,
    /// Its licence, in the spelling of the place.
    pub license: Option<String>,
    /// Globs that narrowed it.
    pub include: Vec<String>,
    /// Globs that narrowed it.
    pub exclude: Vec<String>,
    /// Which weights were wanted.
    pub preset: Preset,
    /// Every file that takes part.
    pub files: BTreeMap<RepoPath, Blob>,
}

/// What differs between what was pinned and what is there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Changes {
    /// The commits, where they differ.
    pub commit: Option<(Revision, Revision)>,
    /// The licences, where they differ.
    pub license: Option<(Option<String>, Option<String>)>,
    /// Files that are new.
    pub added: Vec<RepoPath>,
    /// Files that are gone.
    pub removed: Vec<RepoPath>,
    /// Files with other bytes.
    pub changed: Vec<RepoPath>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLock {
    version: u64,
    #[serde(default)]
    repository: Vec<WrittenRepo>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRepo {
    address: String,
    kind: RepoKind,
    #[serde(rename = "ref", default)]
    reference: Option<String>,
    commit: String,
    #[serde(default)]
    license: Option<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    preset: Preset,
    files: Vec<WrittenFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: RepoPath,
    size: u64,
    sha256: crate::digest::Oid,
}

impl LockFile {
    /// Collects what was pinned. One repository at one ref is pinned once.
    pub fn new(repositories: Vec<LockedRepo>) -> Result<Self> {
        let mut file = Self { repositories };
        file.repositories.sort_by(|a, b| a.place().cmp(&b.place()));
        let mut seen = BTreeSet::new();
        if let Some(twice) = file.repositories.iter().find(|repo| !seen.insert(repo.place())) {
            return Err(Error::invalid(format!("{} is there twice", twice.name())).hint("pin each ref of a repository once"));
        }
        file.repositories.iter().try_for_each(LockedRepo::check)?;
        Ok(file)
    }

    /// Reads a lock file.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let hint = "write it with `hubferry lock`; it is not meant to be edited";
        let broken = |what: String| Error::invalid(format!("this is no lock file that can be used: {what}")).hint(hint);
        if content.len() as u64 > LARGEST {
            return Err(broken(format!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let text = std::str::from_utf8(content).map_err(|_| broken("it is not UTF-8".to_owned()))?;
        let WrittenLock { version, repository } = toml::from_str(text).map_err(|error| broken(error.message().to_owned()))?;
        if version != VERSION {
            return Err(broken(format!("it is of version {version}, and this program knows version {VERSION}")));
        }
        let repositories = repository.into_iter().map(read).collect::<Result<_>>().map_err(|error| broken(error.message().to_owned()))?;
        Self::new(repositories).map_err(|error| broken(error.message().to_owned()))
    }

    /// As it is written; fails when it would be too large to be read again.
    pub fn text(&self) -> Result<String> {
        let text = text::write(self);
        if text.len() as u64 > LARGEST {
            return Err(Error::invalid(format!("the lock file is larger than {} MiB", LARGEST >> 20))
                .hint("pin fewer repositories, or narrow the files with --include"));
        }
        Ok(text)
    }
}

fn read(written: WrittenRepo) -> Result<LockedRepo> {
    let WrittenRepo { address, kind, reference, commit, license, include, exclude, preset, files } = written;
    let mut pinned = BTreeMap::new();
    for WrittenFile { path, size, sha256 } in files {
        if let Some(before) = pinned.insert(path, Blob { oid: sha256, size }) {
            return Err(Error::invalid(format!("{address} has a file twice, of {} bytes", before.size)));
        }
    }
    let commit = Revision::new(commit)?;
    Ok(LockedRepo { address, kind, reference, commit, license, include, exclude, preset, files: pinned })
}

impl LockedRepo {
    /// Pins a listing. Fails when the SHA-256 of a file is not known.
    pub fn pin(self, listing: &Manifest) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (path, entry) in &listing.entries {
            let blob = entry.blob().ok_or_else(|| Error::invalid(format!("the SHA-256 of {path:?} is not known")))?;
            files.insert(path.clone(), blob);
        }
        Ok(Self { commit: listing.revision.clone(), files, ..self })
    }

    /// The files as a listing.
    pub fn manifest(&self) -> Result<Manifest> {
        let entry = |blob: &Blob| Entry::new(blob.size, Digests::sha256(blob.oid));
        Manifest::new(self.commit.clone(), self.files.iter().map(|(path, blob)| (path.clone(), entry(blob))))
    }

    /// What takes part, as it was asked for.
    pub fn filter(&self) -> Result<Filter> {
        Ok(Filter::new(&self.include, &self.exclude)?.with_preset(self.preset.clone()))
    }

    /// What differs in `now`.
    pub fn compare(&self, now: &Self) -> Changes {
        let mut changes = Changes::default();
        if self.commit != now.commit {
            changes.commit = Some((self.commit.clone(), now.commit.clone()));
        }
        if self.license != now.license {
            changes.license = Some((self.license.clone(), now.license.clone()));
        }
        for (path, blob) in &self.files {
            match now.files.get(path) {
                None => changes.removed.push(path.clone()),
                Some(other) if other != blob => changes.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        changes.added = now.files.keys().filter(|path| !self.files.contains_key(*path)).cloned().collect();
        changes
    }

    /// The address with the ref, for people.
    pub fn name(&self) -> String {
        self.reference.as_ref().map_or_else(|| self.address.clone(), |reference| format!("{}@{reference}", self.address))
    }

    fn place(&self) -> (String, &'static str, Option<String>) {
        (self.address.clone(), self.kind.singular(), self.reference.clone())
    }

    fn check(&self) -> Result<()> {
        let texts = [&self.address].into_iter().chain(&self.reference).chain(&self.license).chain(&self.include).chain(&self.exclude);
        if let Some(text) = texts.clone().find(|text| text.len() > LONGEST || text.chars().any(char::is_control)) {
            let start: String = text.chars().take(40).collect();
            return Err(Error::invalid(format!("a text is too long or has a control character: {start:?}")));
        }
        if self.include.len() + self.exclude.len() > MOST_GLOBS {
            return Err(Error::invalid(format!("{} has more than {MOST_GLOBS} globs", self.address)));
        }
        self.preset.check()?;
        Filter::new(&self.include, &self.exclude)?;
        self.manifest().map(drop)
    }
}
