//! Looks for secrets in a file whose bytes come piece by piece, in memory that does not grow with it.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use serde::{Deserialize, Serialize};

use super::rules::{LONGEST, RULES, Rule, is_word};

/// So much is gathered before it is looked through.
const BLOCK: usize = 64 << 10;
/// What decides whether a file is text.
const SAMPLE: usize = 8 << 10;
/// So much of what was looked through is kept, for a secret that goes on in the next piece, or begins before its keyword.
const BEHIND: usize = 64;
/// Most findings of one file that are kept.
const MOST: usize = 100;

/// Where a secret stands and what it is; never the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Match {
    /// Line, counted from 1.
    pub line: u64,
    /// Byte in that line, counted from 1.
    pub column: u64,
    /// The rule that found it.
    pub rule: String,
    /// What all of its kind begin with, three stars for the rest, and the length.
    pub excerpt: String,
}

/// Takes a file from its first byte to its last.
#[derive(Debug, Default)]
pub struct Scanner {
    manner: Manner,
    /// What came and was not looked through, behind a little that was.
    buffer: Vec<u8>,
    /// Everything in the buffer before this was looked through.
    done: usize,
    /// Where `done` is.
    place: Place,
    found: Vec<Match>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Manner {
    /// Not enough is known of the file.
    #[default]
    Unsure,
    Text,
    /// Nothing is looked for any more.
    Over,
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
struct Place {
    line: u64,
    column: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Place {
    fn pass(&mut self, text: &[u8]) {
        match memchr::memrchr(b'\n', text) {
            None => self.column += text.len() as u64,
            Some(last) => {
                self.line += memchr::memchr_iter(b'\n', text).count() as u64;
                self.column = (text.len() - last) as u64;
            }
        }
    }
}

impl Scanner {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while self.manner != Manner::Over && !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK.saturating_sub(self.buffer.len())));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.manner == Manner::Unsure && self.buffer.len() >= SAMPLE {
                self.judge();
            }
            if self.buffer.len() >= BLOCK {
                // A secret that begins in the last bytes may end in the next piece.
                self.look(BLOCK - LONGEST - BEHIND);
            }
        }
    }

    /// Whether more bytes cannot bring anything: it is no text, or there is enough.
    pub fn is_over(&self) -> bool {
        self.manner == Manner::Over
    }

    /// The end of the file: what was found in it.
    pub fn finish(mut self) -> Vec<Match> {
        if self.manner == Manner::Unsure {
            self.judge();
        }
        if self.manner == Manner::Text {
            self.look(self.buffer.len());
        }
        self.found
    }

    fn judge(&mut self) {
        self.manner = if is_text(self.buffer.get(..SAMPLE).unwrap_or(&self.buffer)) { Manner::Text } else { Manner::Over };
        if self.manner == Manner::Over {
            self.buffer = Vec::new();
        }
    }

    /// Looks for secrets whose keyword begins before `until`, and forgets what is not needed any more.
    fn look(&mut self, until: usize) {
        let mut at = self.done;
        while let Some((number, keyword)) = keywords().hit(&self.buffer, at..self.buffer.len()).filter(|(_, found)| found.start < until) {
            at = keyword.start + 1;
            let (rule, keyword_text) = keywords().list[number];
            let Some(start) = keyword.start.checked_sub(rule.offset).filter(|start| is_start(&self.buffer[..*start], keyword_text)) else {
                continue;
            };
            let Some(length) = rule.length(&self.buffer[start..], keyword_text) else { continue };
            let mut place = self.place;
            // The secret may begin before its keyword, and then before what was looked through last, on the same line.
            place.pass(&self.buffer[self.done..keyword.start]);
            place.column = place.column.saturating_sub(rule.offset as u64).max(1);
            let excerpt = excerpt(rule, keyword_text, &self.buffer[start..start + length]);
            self.found.push(Match { line: place.line, column: place.column, rule: rule.id.to_owned(), excerpt });
            if self.found.len() >= MOST {
                self.manner = Manner::Over;
                self.buffer = Vec::new();
                return;
            }
            // What stands inside of a secret is part of it.
            at = at.max(start + length);
        }
        let until = until.max(at).min(self.buffer.len());
        self.place.pass(&self.buffer[self.done..until]);
        let forget = until.saturating_sub(BEHIND);
        self.buffer.drain(..forget);
        self.done = until - forget;
    }
}

/// No NUL, as in Git, and hardly any other control byte. Says nothing of the encoding, so that no text is missed for it; of UTF-16 it
/// says that it is none.
fn is_text(sample: &[u8]) -> bool {
    let control = |byte: &&u8| **byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    !sample.contains(&0) && sample.iter().filter(control).count() * 32 <= sample.len()
}

/// Whether a secret may begin behind `before`: not in the middle of a word, unless that is an escape such as the `\n` in a JSON text.
fn is_start(before: &[u8], keyword: &str) -> bool {
    let is_escape = matches!(before, [.., b'\\', b'n' | b'r' | b't']);
    keyword.starts_with('-') || is_escape || before.last().is_none_or(|last| !is_word(*last) && *last != b'+')
}

/// What may be shown of a secret.
fn excerpt(rule: &Rule, keyword: &str, secret: &[u8]) -> String {
    if keyword.starts_with('-') {
        // The head says which kind of key it is, up to the dashes behind it.
        let end = memchr::memmem::find(&secret[keyword.len()..], b"-----").map_or(0, |end| keyword.len() + end + 5);
        return format!("{} ***", String::from_utf8_lossy(&secret[..end]));
    }
    let shown = if rule.offset == 0 { keyword } else { "" };
    format!("{shown}*** ({} characters)", secret.len())
}

/// All keywords at once.
struct Keywords {
    search: AhoCorasick,
    list: Vec<(&'static Rule, &'static str)>,
}

impl Keywords {
    /// The first keyword that begins in `range`.
    fn hit(&self, text: &[u8], range: std::ops::Range<usize>) -> Option<(usize, std::ops::Range<usize>)> {
        let found = self.search.find(Input::new(text).range(range))?;
        Some((found.pattern().as_usize(), found.range()))
    }
}

#[expect(clippy::expect_used, reason = "the table is part of the program, and every test of this file builds it")]
fn keywords() -> &'static Keywords {
    static KEYWORDS: OnceLock<Keywords> = OnceLock::new();
    KEYWORDS.get_or_init(|| {
        let list: Vec<(&Rule, &str)> = RULES.iter().flat_map(|rule| rule.keywords.iter().map(move |keyword| (rule, *keyword))).collect();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(list.iter().map(|(_, keyword)| keyword))
            .expect("a few dozen short words");
        Keywords { search, list }
    })
}

#[cfg(test)]
mod tests;
