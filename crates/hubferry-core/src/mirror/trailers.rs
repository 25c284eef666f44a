//! What commit messages say of where a commit comes from, written and read.

use crate::manifest::Revision;
use crate::ops::Message;
use crate::refs::PastCommit;

/// Longer messages are cut: hubs refuse them.
const LONGEST: usize = 16 << 10;

/// The message of a replayed commit: its own words, then who made it when, then where it comes from.
pub(super) fn replayed(commit: &PastCommit, message: &Message) -> String {
    let mut own: String = commit.message.trim().chars().take(LONGEST).filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect();
    if own.is_empty() {
        own = format!("Copy {}@{}", message.source, commit.revision.short());
    }
    let line = |name: &str, value: &Option<String>| {
        let value = value.as_ref().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|value| !value.is_empty());
        value.map_or_else(String::new, |value| format!("{name}: {value}\n"))
    };
    let (author, date) = (line("Author", &commit.author), line("Date", &commit.date));
    format!("{own}\n\n{author}{date}{}", message.trailers(&commit.revision))
}

/// The first line of a message.
pub(super) fn title(message: &str) -> String {
    message.trim().lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The revision that a commit was copied from, if it was copied from `source`. Only the last paragraph counts: messages are kept
/// when they are replayed, and those of an earlier hop stand above.
pub(super) fn origin(message: &str, source: &str) -> Option<Revision> {
    let last = message.trim().rsplit("\n\n").next().unwrap_or_default();
    let value = |name: &str| last.lines().rev().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if plain(value("Source:")?) != plain(source) {
        return None;
    }
    Revision::new(value("Source-Revision:")?).ok()
}

/// An address without the kind that may be left out.
fn plain(source: &str) -> String {
    source.replacen(":models/", ":", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message { summary: None, source: "hf:a/b".into(), tool: "hubferry/1".into() }
    }

    #[test]
    fn what_is_written_is_found_again() {
        let revision = Revision::new("c0ffee").unwrap();
        let commit = PastCommit {
            revision: revision.clone(),
            message: "Title\n\nBody\n\nSource: ms:x/y\nSource-Revision: 123\n".into(),
            author: Some("Ada\nLovelace".into()),
            date: Some("1843-07-10".into()),
        };
        let text = replayed(&commit, &message());
        let want = "Title\n\nBody\n\nSource: ms:x/y\nSource-Revision: 123\n\nAuthor: Ada Lovelace\nDate: 1843-07-10\nSource: hf:a/b\nSource-Revision: \
                    c0ffee\nTool: hubferry/1\n";
        assert_eq!(text, want);
        assert_eq!(origin(&text, "hf:models/a/b"), Some(revision.clone()));
        assert_eq!(origin(&text, "ms:x/y"), None, "an earlier hop is not this one");
        assert_eq!(origin(&commit.message, "ms:x/y"), Revision::new("123").ok());
        assert_eq!(origin(&message().text(&revision), "hf:a/b"), Some(revision.clone()));
        assert_eq!(origin("Source-Revision: 1", "hf:a/b"), None);
        assert_eq!(origin("", ""), None);
        let silent = PastCommit { message: String::new(), author: None, date: None, revision };
        assert!(replayed(&silent, &message()).starts_with("Copy hf:a/b@c0ffee\n\nSource: hf:a/b\n"));
    }
}
