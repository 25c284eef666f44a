//! Many repositories in one address: a glob where they come from (`hf:org/llama-*`), a template where they go (`ms:org/{name}`).

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use super::{RepoAddress, RepoId, RepoKind};
use crate::error::{Error, Result};

/// Repositories of one owner. An empty name means all of them as a source, and the same name as a destination: `ms:org/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// The remote's canonical name.
    pub remote: String,
    /// The kind, when written.
    pub kind: Option<RepoKind>,
    /// The owner, or a template of one.
    pub owner: String,
    /// A glob or a template; may be empty.
    pub name: String,
}

/// Whether a part of an id stands for many.
pub(super) fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '[', '{'])
}

impl Pattern {
    /// Checks what can be checked without knowing whether it is a source or a destination.
    pub(super) fn new(remote: &str, kind: Option<RepoKind>, owner: &str, name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.~*?[]{}!^".contains(c);
        if owner.is_empty() || !owner.chars().chain(name.chars()).all(allowed) {
            return Err(Error::invalid(format!("{owner}/{name} is neither a repository nor a pattern for some")).hint(format!(
                "write {remote}:org/* or {remote}:org/llama-* for many repositories, {remote}:org/{{name}} for where they go"
            )));
        }
        Ok(Self { remote: remote.to_owned(), kind, owner: owner.to_owned(), name: name.to_owned() })
    }

    /// What it matches as a source: names of repositories of its owner.
    pub fn globs(&self) -> Result<GlobMatcher> {
        RepoId::new(None, &self.owner).map_err(|e| e.hint(format!("name the owner, as in {}:org/*", self.remote)))?;
        if self.name.contains(['{', '}']) {
            return Err(Error::invalid(format!("{self} says where repositories go, not where they come from"))
                .hint(format!("write {}:{}/* for all of them", self.remote, self.owner)));
        }
        let text = if self.name.is_empty() { "*" } else { &self.name };
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        Ok(glob.map_err(|e| Error::invalid(format!("{text:?} is not a glob")).caused_by(e))?.compile_matcher())
    }

    /// Where a repository of this id and kind goes.
    pub fn fill(&self, id: &RepoId, kind: Option<RepoKind>) -> Result<RepoAddress> {
        let name = if self.name.is_empty() { "{name}" } else { &self.name };
        let owner = fill(&self.owner, id, kind)?;
        let id = RepoId::new(Some(&owner), &fill(name, id, kind)?).map_err(|e| e.context("destination", self))?;
        Ok(RepoAddress { remote: self.remote.clone(), kind: self.kind.or(kind), id, rev: None, path: None })
    }
}

/// Puts the parts of an id into a template: `{owner}`, `{name}` and `{kind}`.
pub fn fill(template: &str, id: &RepoId, kind: Option<RepoKind>) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let (word, after) =
            tail.split_once('}').ok_or_else(|| Error::invalid(format!("{template:?} has a {{ without its }}")).hint(PLACEHOLDERS))?;
        text.push_str(before);
        match word {
            "name" => text.push_str(id.name()),
            "owner" => text.push_str(id.owner().ok_or_else(|| {
                Error::invalid(format!("{id} has no owner to put into {template:?}")).hint("write the owner of the destination")
            })?),
            "kind" => text.push_str(kind.map_or("model", RepoKind::singular)),
            other => return Err(Error::invalid(format!("{{{other}}} stands for nothing")).hint(PLACEHOLDERS)),
        }
        rest = after;
    }
    text.push_str(rest);
    if text.contains(['*', '?', '[', ']', '}']) {
        return Err(Error::invalid(format!("{template:?} does not say where each repository goes")).hint(PLACEHOLDERS));
    }
    Ok(text)
}

const PLACEHOLDERS: &str = "a destination for many is written ms:org/ or with {name}, {owner} and {kind}, as in ms:org/{owner}-{name}";

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.remote)?;
        if let Some(kind) = self.kind {
            write!(f, "{}/", kind.plural())?;
        }
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(owner: &str, name: &str) -> Pattern {
        Pattern::new("ms", None, owner, name).unwrap()
    }

    #[test]
    fn globs_match_names() {
        let takes = |glob: &str, name: &str| pattern("org", glob).globs().unwrap().is_match(name);
        assert!(takes("", "anything") && takes("*", "a.b-c") && takes("llama-?b*", "llama-7b-chat") && takes("[ab]*", "b1"));
        assert!(!takes("llama-*", "Llama-7b") && !takes("*-gguf", "model"));
        assert!(pattern("org", "{name}").globs().is_err());
        assert!(pattern("{owner}", "").globs().is_err());
    }

    #[test]
    fn templates_are_filled() {
        let id: RepoId = "org/model".parse().unwrap();
        let fills = |owner: &str, name: &str| pattern(owner, name).fill(&id, Some(RepoKind::Dataset)).map(|to| to.to_string());
        assert_eq!(fills("new", "").unwrap(), "ms:datasets/new/model");
        assert_eq!(fills("new", "{owner}-{name}").unwrap(), "ms:datasets/new/org-model");
        assert_eq!(fills("{owner}", "{name}.{kind}").unwrap(), "ms:datasets/org/model.dataset");
        for bad in ["{nam}", "{name", "x*", "{name}}", "[a]"] {
            assert!(fills("new", bad).is_err(), "{bad}");
        }
        assert!(Pattern::new("ms", None, "", "*").is_err());
    }
}
