//! Which files take part: `--include` and `--exclude` as gitignore globs over repository paths, and a preset.

use std::collections::BTreeSet;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, RepoPath};
use crate::selection::{Chosen, Preset};

/// What was left out of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct LeftOut {
    /// How many files.
    pub files: usize,
    /// Their bytes; saturates.
    pub bytes: u64,
}

/// Which paths take part in a run. Exclusion wins over inclusion; with no inclusion everything is included. A preset counts once
/// `ops::selecting::resolve` has seen the listing it is about.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<Gitignore>,
    exclude: Gitignore,
    within: Option<RepoPath>,
    preset: Option<Preset>,
    chosen: Option<Arc<Chosen>>,
    only: Option<Arc<BTreeSet<RepoPath>>>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { include: None, exclude: Gitignore::empty(), within: None, preset: None, chosen: None, only: None }
    }
}

impl Filter {
    /// Compiles the globs; a bad one is named.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let include = if include.is_empty() { None } else { Some(globs(include)?) };
        Ok(Self { include, exclude: globs(exclude)?, ..Self::default() })
    }

    /// Narrows to one file or folder, as an address with a path does.
    #[must_use]
    pub fn within(mut self, path: Option<RepoPath>) -> Self {
        self.within = path;
        self
    }

    /// Adds a preset, to be resolved against a listing.
    #[must_use]
    pub fn with_preset(mut self, preset: Preset) -> Self {
        self.preset = Some(preset).filter(|preset| !preset.is_empty());
        self
    }

    /// Narrows to exactly these files.
    #[must_use]
    pub fn only(mut self, paths: BTreeSet<RepoPath>) -> Self {
        self.only = Some(Arc::new(paths));
        self
    }

    /// The preset that is not resolved yet.
    pub fn preset(&self) -> Option<&Preset> {
        self.preset.as_ref().filter(|_| self.chosen.is_none())
    }

    /// The same without its preset.
    #[must_use]
    pub(crate) fn globs_only(&self) -> Self {
        Self { preset: None, chosen: None, ..self.clone() }
    }

    /// The same with what its preset chose.
    #[must_use]
    pub(crate) fn resolved(mut self, chosen: Chosen) -> Self {
        self.chosen = Some(Arc::new(chosen));
        self
    }

    /// Whether `path` takes part.
    pub fn takes(&self, path: &RepoPath) -> bool {
        if self.chosen.as_ref().is_some_and(|chosen| !chosen.takes(path)) {
            return false;
        }
        if self.only.as_ref().is_some_and(|only| !only.contains(path)) {
            return false;
        }
        let hit = |set: &Gitignore| set.matched_path_or_any_parents(path.as_str(), false).is_ignore();
        self.within.as_ref().is_none_or(|folder| path.is_within(folder)) && !hit(&self.exclude) && self.include.as_ref().is_none_or(hit)
    }

    /// Drops what does not take part; returns what went.
    pub fn apply(&self, manifest: &mut Manifest) -> LeftOut {
        let mut left = LeftOut::default();
        manifest.entries.retain(|path, entry| {
            let takes = self.takes(path);
            if !takes {
                left.files += 1;
                left.bytes = left.bytes.saturating_add(entry.size);
            }
            takes
        });
        left
    }
}

fn globs(lines: &[String]) -> Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    for line in lines {
        builder.add_line(None, line).map_err(|e| {
            Error::invalid(format!("{line:?} is not a glob"))
                .caused_by(e)
                .hint("globs are written as in .gitignore: *.safetensors, /onnx/**, !keep.bin")
        })?;
    }
    builder.build().map_err(|e| Error::invalid("the globs cannot be compiled").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Filter::new(&own(include), &own(exclude)).unwrap().takes(&RepoPath::new(path).unwrap())
    }

    #[test]
    fn gitignore_rules() {
        assert!(takes(&[], &[], "any/thing"));
        assert!(takes(&["*.safetensors"], &[], "a/b.safetensors"));
        assert!(!takes(&["*.safetensors"], &[], "a/b.bin"));
        assert!(takes(&["/onnx"], &[], "onnx/a/b"));
        assert!(!takes(&["/onnx"], &[], "x/onnx/a"));
        assert!(!takes(&["*.json"], &["config.json"], "a/config.json"));
        assert!(!takes(&[], &["a,b*.bin"], "a,b1.bin"));
        assert!(takes(&[], &["*.bin", "!keep.bin"], "keep.bin"));
    }

    #[test]
    fn a_path_narrows() {
        let filter = Filter::default().within(Some(RepoPath::new("onnx").unwrap()));
        assert!(filter.takes(&RepoPath::new("onnx/model.onnx").unwrap()));
        assert!(!filter.takes(&RepoPath::new("onnx2").unwrap()));
    }
}
