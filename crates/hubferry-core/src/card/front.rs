//! Where the front matter of a card begins and ends.

use super::Refusal;

/// A card, cut in three.
#[derive(Debug)]
pub(super) struct Front<'a> {
    /// A byte order mark, if any, and the opening line.
    pub(super) before: &'a [u8],
    /// What lies between: nothing, or whole lines.
    pub(super) yaml: &'a str,
    /// The closing line and the body.
    pub(super) after: &'a [u8],
    /// How the opening line ends.
    pub(super) newline: &'static str,
}

/// Finds the front matter: a line `---` at the very start, and the next one. Blanks behind the dashes are borne.
pub(super) fn find(text: &[u8]) -> Result<Option<Front<'_>>, Refusal> {
    let mark = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let Some(first) = text[mark..].split_inclusive(|&b| b == b'\n').next() else { return Ok(None) };
    if !is_rule(first) || !first.ends_with(b"\n") {
        return Ok(None);
    }
    let start = mark + first.len();
    let mut end = start;
    for line in text[start..].split_inclusive(|&b| b == b'\n') {
        if is_rule(line) {
            let yaml = std::str::from_utf8(&text[start..end]).map_err(|_| Refusal::NotText)?;
            let newline = if first.ends_with(b"\r\n") { "\r\n" } else { "\n" };
            return Ok(Some(Front { before: &text[..start], yaml, after: &text[end..], newline }));
        }
        end += line.len();
    }
    Ok(None)
}

fn is_rule(line: &[u8]) -> bool {
    line.trim_ascii_end() == b"---"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Option<&str> {
        let front = find(text.as_bytes()).unwrap()?;
        assert_eq!([front.before, front.yaml.as_bytes(), front.after].concat(), text.as_bytes());
        Some(front.yaml)
    }

    #[test]
    fn front_matter_lies_between_two_rules_at_the_very_start() {
        assert_eq!(yaml("---\na: b\n---\n# x"), Some("a: b\n"));
        assert_eq!(yaml("---\r\na: b\r\n---\r\n# x"), Some("a: b\r\n"));
        assert_eq!(yaml("\u{feff}---\na: b\n---"), Some("a: b\n"));
        assert_eq!(yaml("---  \na: b\n--- \t\n"), Some("a: b\n"));
        assert_eq!(yaml("---\n---\nlicense: mit\n---\n"), Some(""));
        assert_eq!(yaml("---\n\n---"), Some("\n"));
        for none in ["", "---", "# x\n---\na: b\n---\n", "\n---\na: b\n---\n", " ---\na: b\n---\n", "---\na: b\n", "----\na: b\n----\n"] {
            assert_eq!(yaml(none), None, "{none:?}");
        }
        assert_eq!(yaml("--- a\nb: c\n---\n"), None);
        assert_eq!(yaml("---\na: |\n  ---\n---\n"), Some("a: |\n  ---\n"));
    }

    #[test]
    fn only_the_front_matter_has_to_be_text() {
        assert_eq!(find(b"---\na: b\n---\n\xff").unwrap().map(|front| front.yaml), Some("a: b\n"));
        assert_eq!(find(b"---\na: \xff\n---\n").unwrap_err(), Refusal::NotText);
    }
}
