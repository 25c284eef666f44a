//! Well-known tokens and keys in text files, found before everybody can read them.
//!
//! [`rules`] says what they look like, [`scanner`] looks for them while bytes pass, [`gate`] remembers what was found in a run.
//! A secret itself is never kept: what is left of it is where it stands, what it is and how long it is.

pub mod gate;
pub mod rules;
pub mod scanner;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::manifest::RepoPath;

pub use gate::Gate;
pub use scanner::{Match, Scanner};

/// Files up to this size in bytes are looked through. Larger ones are not written by hand, and a hub shows none of them as text.
pub const SCAN_UP_TO: u64 = 16 << 20;

/// Findings that an error names in its one line; all of them are in its cause.
const NAMED: usize = 3;

/// A secret in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leak {
    /// The file.
    pub path: RepoPath,
    /// Where and what.
    #[serde(flatten)]
    pub found: Match,
}

impl fmt::Display for Leak {
    /// `path:line:column: rule, excerpt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Match { line, column, rule, excerpt } = &self.found;
        write!(f, "{}:{line}:{column}: {rule}, {excerpt}", self.path)
    }
}

/// Why a run ended before its commit: the cause inside of an error of [`Kind::Leak`], with every finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaks(pub Vec<Leak>);

impl Leaks {
    /// What an error was caused by, if it is this.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// The failure to report.
    pub fn refusal(self) -> Error {
        let what = if self.0.len() == 1 { "a secret was found".to_owned() } else { format!("{} secrets were found", self.0.len()) };
        Error::new(Kind::Leak, format!("{what} in files that everybody could read; nothing was committed"))
            .caused_by(self)
            .hint("take it out and revoke it, or leave the file out with --exclude; add --allow-secrets if it may be public")
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.0.iter().take(NAMED).map(Leak::to_string).collect();
        f.write_str(&named.join("; "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Leaks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_every_finding_and_names_a_few() {
        let found = Match { line: 3, column: 7, rule: "github-token".into(), excerpt: "ghp_*** (40 characters)".into() };
        let leak = |n: u32| Leak { path: RepoPath::new(format!("f{n}")).unwrap(), found: found.clone() };
        let error = Leaks((0..5).map(leak).collect()).refusal();
        assert_eq!(Leaks::of(&error).unwrap().0.len(), 5);
        let text = error.to_string();
        assert!(text.contains("5 secrets") && text.contains("f0:3:7: github-token, ghp_*** (40 characters); f1:3:7"), "{text}");
        assert!(text.ends_with("and 2 more"), "{text}");
        assert!(Leaks::of(&Error::invalid("x")).is_none());
    }
}
