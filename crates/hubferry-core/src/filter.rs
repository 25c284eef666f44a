//! `--include` and `--exclude`: gitignore globs over repository paths.

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, RepoPath};

/// Which paths take part in a run. Exclusion wins over inclusion; with no inclusion everything is included.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<Gitignore>,
    exclude: Gitignore,
    within: Option<RepoPath>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { include: None, exclude: Gitignore::empty(), within: None }
    }
}

impl Filter {
    /// Compiles the globs; a bad one is named.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let include = if include.is_empty() { None } else { Some(globs(include)?) };
        Ok(Self { include, exclude: globs(exclude)?, within: None })
    }

    /// Narrows to one file or folder, as an address with a path does.
    #[must_use]
    pub fn within(mut self, path: Option<RepoPath>) -> Self {
        self.within = path;
        self
    }

    /// Whether `path` takes part.
    pub fn takes(&self, path: &RepoPath) -> bool {
        let hit = |set: &Gitignore| set.matched_path_or_any_parents(path.as_str(), false).is_ignore();
        self.within.as_ref().is_none_or(|folder| path.is_within(folder)) && !hit(&self.exclude) && self.include.as_ref().is_none_or(hit)
    }

    /// Drops what does not take part; returns how many entries went.
    pub fn apply(&self, manifest: &mut Manifest) -> usize {
        let before = manifest.entries.len();
        manifest.entries.retain(|path, _| self.takes(path));
        before - manifest.entries.len()
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
