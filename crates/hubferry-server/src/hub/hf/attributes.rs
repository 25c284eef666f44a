//! Which files go through LFS: the repository's `.gitattributes`, a size limit, and whether a sample looks like text.

use bytes::Bytes;
use hubferry_core::address::RepoKind;
use hubferry_core::generated::{DATASET_ATTRIBUTES, MODEL_ATTRIBUTES};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Larger files are never part of a commit request.
pub(super) const REGULAR_LIMIT: u64 = 10 * 1024 * 1024;

/// How much of a file is looked at.
const SAMPLE: usize = 512;

/// What a new repository gets, as on the Hub.
pub(super) fn default_text(kind: RepoKind) -> &'static str {
    match kind {
        RepoKind::Dataset => DATASET_ATTRIBUTES,
        RepoKind::Model | RepoKind::Space => MODEL_ATTRIBUTES,
    }
}

/// The rules of a `.gitattributes` file that say what is kept in LFS; the last one that fits decides.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<(Gitignore, bool)>);

impl Attributes {
    /// Reads the rules; lines that are not understood are left out, as Git does.
    pub(super) fn parse(text: &Bytes) -> Self {
        Self(String::from_utf8_lossy(text).lines().filter_map(rule).collect())
    }

    /// Whether a rule sends this path to LFS; `None` when no rule fits.
    pub(super) fn lfs(&self, path: &str) -> Option<bool> {
        self.0.iter().rev().find(|(pattern, _)| pattern.matched(path, false).is_ignore()).map(|(_, lfs)| *lfs)
    }
}

fn rule(line: &str) -> Option<(Gitignore, bool)> {
    let line = line.trim();
    // A macro or a comment, or a pattern that Git forbids here.
    if line.starts_with(['#', '[', '!']) {
        return None;
    }
    let (pattern, attributes) = split_pattern(line)?;
    let lfs = attributes.split_whitespace().rev().find_map(|word| match word {
        "filter=lfs" => Some(true),
        "-filter" | "!filter" => Some(false),
        word if word.starts_with("filter=") => Some(false),
        _ => None,
    })?;
    pattern_of(&pattern).map(|pattern| (pattern, lfs))
}

/// A pattern with blanks is quoted, or has its blanks written as `[[:space:]]`.
fn split_pattern(line: &str) -> Option<(String, &str)> {
    if let Some(rest) = line.strip_prefix('"') {
        let (pattern, rest) = rest.split_once('"')?;
        return Some((pattern.to_owned(), rest));
    }
    let (pattern, rest) = line.split_once(char::is_whitespace)?;
    Some((pattern.replace("[[:space:]]", "\\ "), rest))
}

fn pattern_of(pattern: &str) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    builder.add_line(None, pattern).ok()?;
    builder.build().ok()
}

/// The patterns of a `.gitignore` text, for files a client asks to leave out.
pub(super) fn ignored(text: &str) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for line in text.lines() {
        // Git skips what it does not understand.
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// Whether the beginning of a file looks like something Git should not keep.
pub(super) fn is_binary(content: &[u8]) -> bool {
    let sample = &content[..content.len().min(SAMPLE)];
    match std::str::from_utf8(sample) {
        Ok(_) => sample.contains(&0),
        // A character cut by the end of the sample is no sign of anything.
        Err(error) => error.error_len().is_some() || sample.contains(&0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rules_know_weights() {
        let rules = Attributes::parse(&Bytes::from_static(default_text(RepoKind::Model).as_bytes()));
        for path in ["model.safetensors", "a/b c/pytorch_model.bin", "saved_model/x/variables.index", "x.tar.gz", "tf/events.tfevents.1"] {
            assert_eq!(rules.lfs(path), Some(true), "{path}");
        }
        for path in ["config.json", "README.md", ".gitattributes", "bin"] {
            assert_eq!(rules.lfs(path), None, "{path}");
        }
        let rules = Attributes::parse(&Bytes::from_static(default_text(RepoKind::Dataset).as_bytes()));
        assert_eq!(rules.lfs("audio/x.mp3"), Some(true));
    }

    #[test]
    fn the_last_rule_decides() {
        let text = "*.bin filter=lfs diff=lfs\n# *.txt filter=lfs\nsmall.bin -filter\n\"with blank.dat\" filter=lfs\n/top.x filter=lfs\nbroken\na[[:space:]]b filter=lfs\n";
        let rules = Attributes::parse(&Bytes::from_static(text.as_bytes()));
        for (path, lfs) in [
            ("a.bin", Some(true)),
            ("d/small.bin", Some(false)),
            ("a.txt", None),
            ("with blank.dat", Some(true)),
            ("top.x", Some(true)),
            ("d/top.x", None),
            ("a b", Some(true)),
        ] {
            assert_eq!(rules.lfs(path), lfs, "{path}");
        }
    }

    #[test]
    fn text_is_told_from_binary() {
        assert!(!is_binary(b""));
        assert!(!is_binary("grüße".as_bytes()));
        assert!(!is_binary(&"é".repeat(300).into_bytes()[1..].iter().copied().skip(1).collect::<Vec<_>>()));
        assert!(is_binary(b"\x00"));
        assert!(is_binary(b"\xff\xfe"));
    }
}
