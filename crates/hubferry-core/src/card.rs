//! The licence in a card, which is a README.md that begins with YAML between two `---` lines: read, and put into the words of a hub.
//!
//! Only what must change changes. The front matter is parsed for the positions of the values, the few bytes of a value are replaced
//! or a line is inserted, and the result is parsed again: unless every other key still has its value and the edited ones have the
//! value that was meant, the edit is refused and the caller keeps the file as it is. Comments, order, quotes, line ends and the body
//! are never written anew.
//!
//! `license` may be one word or a list. What the hub has no word for becomes `other`, and its name goes to `license_name`, as
//! <https://huggingface.co/docs/hub/model-cards#specifying-a-license> has it. `license_link` is added when the licence was stated as
//! an address; one that is there is never touched.

mod edit;
mod front;
mod outline;
#[cfg(test)]
mod properties;
mod source;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use crate::license::{self, Vocabulary};
use edit::Draft;
use front::Front;
use outline::{Outline, Text};

pub use source::CardSource;

/// The file that holds the card of a repository.
pub const FILE: &str = "README.md";

/// The keys of a card that speak of its licence. Only these are ever edited, and only at the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// `license`: one word or a list of them.
    License,
    /// `license_name`: what a licence without a word is called.
    LicenseName,
    /// `license_link`: where its text is, a file of the repository or a URL.
    LicenseLink,
}

impl Key {
    /// As it stands in a card.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::License => "license",
            Self::LicenseName => "license_name",
            Self::LicenseLink => "license_link",
        }
    }

    fn find(text: &str) -> Option<Self> {
        [Self::License, Self::LicenseName, Self::LicenseLink].into_iter().find(|key| key.as_str() == text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a card says of its licence. Absent, `null` and empty are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stated {
    /// The items of `license`, as they are spelt, without blanks around them.
    pub license: Vec<String>,
    /// `license_name`.
    pub license_name: Option<String>,
    /// `license_link`.
    pub license_link: Option<String>,
}

/// One value that was replaced or added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Where.
    pub key: Key,
    /// The text before, with nothing normalised; `None` when the key was absent or empty.
    pub from: Option<String>,
    /// The text now.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{}: {from:?} became {:?}", self.key, self.to),
            None => write!(f, "{}: {:?} was added", self.key, self.to),
        }
    }
}

/// A card after an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edited<'a> {
    /// The whole file; borrowed when nothing had to change.
    pub bytes: Cow<'a, [u8]>,
    /// What changed, in words for a report; empty when nothing did.
    pub changes: Vec<Change>,
}

/// Why a card is not edited. The file stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no front matter to set a key in.
    NoFrontMatter,
    /// The front matter is not UTF-8.
    NotText,
    /// The front matter is longer than 2 MiB.
    TooLong,
    /// The front matter is not YAML, or nested too deeply. Lines are those of the file, from 1.
    Invalid {
        /// Where.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key stands twice in the same map: readers differ in which one counts.
    Duplicate {
        /// Where it stands for the second time.
        line: usize,
        /// Which.
        key: String,
    },
    /// A tab that indents, or a line break of YAML 1.1 (U+0085, U+2028, U+2029): readers differ in what it means.
    Disputed {
        /// Where.
        line: usize,
    },
    /// The front matter is not a map with words as keys.
    NoMap,
    /// The value is neither text nor a list of at most 100 texts.
    Shape(Key),
    /// Another value refers to this one by its anchor, and would change with it.
    Shared(Key),
    /// The new value would not fit into the way the front matter is written.
    Layout(Key),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrontMatter => write!(f, "the card has no front matter"),
            Self::NotText => write!(f, "the front matter of the card is not UTF-8"),
            Self::TooLong => write!(f, "the front matter of the card is longer than {} MiB", outline::LIMIT >> 20),
            Self::Invalid { line, reason } => write!(f, "the front matter of the card is not valid YAML in line {line}: {reason}"),
            Self::Duplicate { line, key } => write!(f, "the key {key:?} stands again in line {line} of the card"),
            Self::Disputed { line } => write!(f, "a tab or a rare line break in line {line} of the card may be read in several ways"),
            Self::NoMap => write!(f, "the front matter of the card is not a map with words as keys"),
            Self::Shape(key) => write!(f, "{key} in the card is neither a text nor a short list of texts"),
            Self::Shared(key) => write!(f, "another value in the card refers to that of {key}"),
            Self::Layout(key) => write!(f, "{key} cannot be changed safely in the way the card is written"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a card says of its licence; nothing when it has no front matter.
pub fn read(text: &[u8]) -> Result<Stated, Refusal> {
    let Some(front) = front::find(text)? else { return Ok(Stated::default()) };
    let outline = outline::read(front.yaml)?;
    let texts = |key| Ok(outline.texts(key)?.iter().map(|text| text.value.trim().to_owned()).collect::<Vec<_>>());
    Ok(Stated {
        license: texts(Key::License)?,
        license_name: texts(Key::LicenseName)?.into_iter().next(),
        license_link: texts(Key::LicenseLink)?.into_iter().next(),
    })
}

/// What follows the front matter of a card: all of it when there is none.
pub fn body(text: &str) -> &str {
    match front::find(text.as_bytes()) {
        Ok(Some(front)) => {
            // `after` begins with the closing line.
            let after = &text[text.len() - front.after.len()..];
            after.split_once('\n').map_or("", |(_, body)| body)
        }
        _ => text,
    }
}

/// Sets one key to one text: its value is replaced whole, whatever its form was, or the key is added. Every other byte stays.
pub fn set<'a>(text: &'a [u8], key: Key, value: &str) -> Result<Edited<'a>, Refusal> {
    let Some(front) = front::find(text)? else { return Err(Refusal::NoFrontMatter) };
    let outline = outline::read(front.yaml)?;
    let mut draft = Draft::new(&front, &outline);
    let before = outline.texts(key).unwrap_or_default();
    if !matches!(&before[..], [only] if only.value == value && !outline.is_list(key)) {
        draft.set(key, value)?;
    }
    finish(text, &front, draft)
}

/// The card as `to` takes it: each licence in its words, `other` and a `license_name` for those it has no word for. A card that
/// states no licence, or states it in words that the hub takes, comes back unchanged.
pub fn for_hub(text: &[u8], to: Vocabulary) -> Result<Edited<'_>, Refusal> {
    let unchanged = Edited { bytes: Cow::Borrowed(text), changes: Vec::new() };
    let Some(front) = front::find(text)? else { return Ok(unchanged) };
    let outline = outline::read(front.yaml)?;
    let mut draft = Draft::new(&front, &outline);
    let (mut nameless, mut is_other) = (Vec::new(), false);
    for item in outline.texts(Key::License)? {
        let word = to.word(&item.value);
        if word.is_none() {
            nameless.push(item.value.to_string());
        }
        is_other |= word.is_none_or(|word| word == to.other());
        if !to.accepts(&item.value) {
            draft.replace(Key::License, &item, word.unwrap_or(to.other()))?;
        }
    }
    if is_other {
        name_it(&mut draft, &outline, &nameless, to)?;
    }
    finish(text, &front, draft)
}

/// Gives `other` its name and its link.
fn name_it(draft: &mut Draft<'_>, outline: &Outline<'_>, nameless: &[String], to: Vocabulary) -> Result<(), Refusal> {
    match outline.texts(Key::LicenseName)?.first() {
        Some(Text { value, .. }) if to == Vocabulary::HuggingFace && !license::is_name(value) => {
            if let Some(name) = license::name(value) {
                draft.set(Key::LicenseName, &name)?;
            }
        }
        Some(_) => {}
        None => {
            let names: Vec<String> = nameless.iter().filter_map(|text| license::name(text)).collect();
            if let Some(name) = license::name(&names.join(" and ")) {
                draft.set(Key::LicenseName, &name)?;
            }
        }
    }
    let is_address = |text: &&String| {
        (text.starts_with("https://") || text.starts_with("http://")) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match nameless.iter().find(is_address) {
        Some(address) if outline.texts(Key::LicenseLink)?.is_empty() => draft.set(Key::LicenseLink, address),
        _ => Ok(()),
    }
}

fn finish<'a>(text: &'a [u8], front: &Front<'a>, draft: Draft<'_>) -> Result<Edited<'a>, Refusal> {
    if draft.is_empty() {
        return Ok(Edited { bytes: Cow::Borrowed(text), changes: Vec::new() });
    }
    let (yaml, changes) = draft.finish()?;
    Ok(Edited { bytes: Cow::Owned([front.before, yaml.as_bytes(), front.after].concat()), changes })
}
