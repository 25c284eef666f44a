//! The top level of a front matter: each key, where its value stands, and a fingerprint of the value.
//!
//! Below the top level only the items of the licence are kept, so memory follows the number of keys, not of values.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::{Key, Refusal};

/// Most bytes of front matter that are looked at. The largest cards, of data sets with thousands of configurations, have about 1 MiB.
pub(super) const LIMIT: usize = 2 << 20;
/// Most licences that one card may list.
const ITEMS: usize = 100;

/// A front matter, as far as edits need it. Positions are bytes of the text.
#[derive(Debug)]
pub(super) struct Outline<'y> {
    pub(super) entries: Vec<Entry<'y>>,
    /// The anchors that aliases refer to.
    aliases: HashSet<usize>,
}

/// One key of the top level and its value.
#[derive(Debug)]
pub(super) struct Entry<'y> {
    pub(super) key: String,
    /// Where the key begins.
    pub(super) start: usize,
    /// Behind the colon.
    pub(super) colon: usize,
    /// Where the value stands, without anchor, tag and what follows it; nothing at the colon when there is none.
    pub(super) at: Range<usize>,
    pub(super) value: Value<'y>,
    /// Equal for equal values.
    pub(super) digest: u64,
    /// The anchors inside.
    anchors: Range<usize>,
}

/// What a value is, as far as edits need it.
#[derive(Debug)]
pub(super) enum Value<'y> {
    Text(Text<'y>),
    /// A list; `None` unless all of it are texts, and few enough.
    List(Option<Vec<Text<'y>>>),
    /// A map, an alias of what is no text, or a list that is not about the licence.
    Other,
}

/// A scalar, or an alias of one.
#[derive(Clone, Debug)]
pub(super) struct Text<'y> {
    pub(super) value: Cow<'y, str>,
    pub(super) style: ScalarStyle,
    /// Where it stands, without anchor and tag.
    pub(super) at: Range<usize>,
}

impl Text<'_> {
    fn is_empty(&self) -> bool {
        let null = self.style == ScalarStyle::Plain && matches!(&*self.value, "~" | "null" | "Null" | "NULL");
        null || self.value.trim().is_empty()
    }
}

impl<'y> Outline<'y> {
    pub(super) fn entry(&self, key: Key) -> Option<&Entry<'y>> {
        self.entries.iter().find(|entry| entry.key == key.as_str())
    }

    /// The texts of a key, without empty ones: at most one unless it is a list.
    pub(super) fn texts(&self, key: Key) -> Result<Vec<Text<'y>>, Refusal> {
        let texts = match self.entry(key).map(|entry| &entry.value) {
            None => Vec::new(),
            Some(Value::Text(text)) => vec![text.clone()],
            Some(Value::List(Some(texts))) => texts.clone(),
            Some(Value::List(None) | Value::Other) => return Err(Refusal::Shape(key)),
        };
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }

    pub(super) fn is_list(&self, key: Key) -> bool {
        matches!(self.entry(key), Some(Entry { value: Value::List(_), .. }))
    }

    /// Whether an alias stands for a part of this value.
    pub(super) fn is_shared(&self, entry: &Entry<'_>) -> bool {
        entry.anchors.clone().any(|anchor| self.aliases.contains(&anchor))
    }
}

/// Reads the front matter. It has to be one YAML document, a map without doubled keys at any level.
pub(super) fn read(yaml: &str) -> Result<Outline<'_>, Refusal> {
    if yaml.len() > LIMIT {
        return Err(Refusal::TooLong);
    }
    let mut reader = Reader::new(yaml);
    let mut parser = Parser::new_from_str(yaml);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| invalid(*e.marker(), &e.info()))?;
        reader.take(event, span)?;
    }
    Ok(Outline { entries: reader.entries, aliases: reader.aliases })
}

fn invalid(at: Marker, reason: &str) -> Refusal {
    Refusal::Invalid { line: line_of(at), reason: reason.to_owned() }
}

/// The line of the file: the opening one comes before the YAML.
fn line_of(at: Marker) -> usize {
    at.line() + 1
}

/// A list or map that is open.
struct Frame {
    /// The keys so far, for maps.
    keys: Option<HashSet<String>>,
    /// What comes next is a key.
    wants_key: bool,
}

struct Reader<'y> {
    yaml: &'y str,
    frames: Vec<Frame>,
    entries: Vec<Entry<'y>>,
    aliases: HashSet<usize>,
    /// Texts with an anchor.
    anchored: HashMap<usize, Cow<'y, str>>,
    /// The highest anchor so far; they are numbered from 1.
    anchors: usize,
    /// Behind the last token.
    end: usize,
    hasher: DefaultHasher,
    documents: usize,
}

impl<'y> Reader<'y> {
    fn new(yaml: &'y str) -> Self {
        Self {
            yaml,
            frames: Vec::new(),
            entries: Vec::new(),
            aliases: HashSet::new(),
            anchored: HashMap::new(),
            anchors: 0,
            end: 0,
            hasher: DefaultHasher::new(),
            documents: 0,
        }
    }

    fn take(&mut self, event: Event<'y>, span: Span) -> Result<(), Refusal> {
        let at = span.byte_range().unwrap_or_default();
        let Some(held) = self.yaml.get(at.clone()) else { return Err(invalid(span.start, "its position is not known")) };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(invalid(span.start, "a second document begins"));
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                (0u8, &value, style, anchor, tag.map(|tag| tag.to_string())).hash(&mut self.hasher);
                self.anchors = self.anchors.max(anchor);
                if anchor > 0 {
                    self.anchored.insert(anchor, value.clone());
                }
                // A block goes on over the empty lines behind it.
                let end = at.start + held.trim_end().len();
                self.leaf(Some(Text { value, style, at: at.start..end }), end, span.start)?;
            }
            Event::Alias(anchor) => {
                (1u8, anchor).hash(&mut self.hasher);
                self.aliases.insert(anchor);
                let text = self.anchored.get(&anchor).cloned().map(|value| Text { value, style: ScalarStyle::Plain, at: at.clone() });
                self.leaf(text, at.end, span.start)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                (2u8, style, anchor, tag.map(|tag| tag.to_string())).hash(&mut self.hasher);
                self.open(false, anchor)?;
            }
            Event::MappingStart(style, anchor, tag) => {
                (3u8, style, anchor, tag.map(|tag| tag.to_string())).hash(&mut self.hasher);
                self.open(true, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                4u8.hash(&mut self.hasher);
                // A closing bracket is a token; the end of a block is not.
                if !at.is_empty() {
                    self.end = at.end;
                }
                self.frames.pop();
                self.node_done();
            }
            _ => {}
        }
        Ok(())
    }

    /// A scalar or an alias; no text when it is an alias of a list or a map.
    fn leaf(&mut self, text: Option<Text<'y>>, end: usize, start: Marker) -> Result<(), Refusal> {
        self.end = end;
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return Err(Refusal::NoMap) };
        if frame.wants_key {
            if let (Some(keys), Some(text)) = (&mut frame.keys, &text)
                && !keys.insert(text.value.to_string())
            {
                return Err(Refusal::Duplicate { line: line_of(start), key: text.value.to_string() });
            }
            if depth == 1 {
                let Some(text) = text else { return Err(Refusal::NoMap) };
                self.begin_entry(text)?;
            }
        } else if let Some(entry) = self.entries.last_mut() {
            match (depth, &mut entry.value) {
                (1, value) => *value = text.map_or(Value::Other, Value::Text),
                (2, Value::List(items)) => match (items.as_mut(), text) {
                    (Some(items), Some(text)) if items.len() < ITEMS => items.push(text),
                    _ => *items = None,
                },
                _ => {}
            }
        }
        self.node_done();
        Ok(())
    }

    fn open(&mut self, is_map: bool, anchor: usize) -> Result<(), Refusal> {
        match self.frames.last() {
            None if !is_map => return Err(Refusal::NoMap),
            Some(Frame { wants_key: true, .. }) if self.frames.len() == 1 => return Err(Refusal::NoMap),
            _ => {}
        }
        self.anchors = self.anchors.max(anchor);
        if let Some(entry) = self.entries.last_mut() {
            let is_list = !is_map && Key::find(&entry.key).is_some();
            match (self.frames.len(), &mut entry.value) {
                (1, value) => *value = if is_list { Value::List(Some(Vec::new())) } else { Value::Other },
                (2, Value::List(items)) => *items = None,
                _ => {}
            }
        }
        self.frames.push(Frame { keys: is_map.then(HashSet::new), wants_key: is_map });
        Ok(())
    }

    fn begin_entry(&mut self, key: Text<'y>) -> Result<(), Refusal> {
        let colon = skip_blanks(self.yaml, self.end);
        if !self.yaml[colon..].starts_with(':') {
            return Err(Refusal::NoMap);
        }
        let colon = colon + 1;
        self.hasher = DefaultHasher::new();
        let anchors = self.anchors + 1..self.anchors + 1;
        let (start, key) = (key.at.start, key.value.into_owned());
        self.entries.push(Entry { key, start, colon, at: colon..colon, value: Value::Other, digest: 0, anchors });
        Ok(())
    }

    /// A key, a value or an item is complete.
    fn node_done(&mut self) {
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return };
        if frame.keys.is_some() {
            frame.wants_key = !frame.wants_key;
        }
        if depth == 1
            && frame.wants_key
            && let Some(entry) = self.entries.last_mut()
        {
            entry.digest = self.hasher.finish();
            entry.anchors.end = self.anchors + 1;
            let is_nothing = matches!(&entry.value, Value::Text(text) if text.at.is_empty());
            if !is_nothing {
                // A block and a list have no token of their own where they begin.
                entry.at = skip_properties(self.yaml, entry.colon).min(self.end)..self.end;
            }
            if let Value::Text(text) = &mut entry.value {
                text.at = entry.at.clone();
            }
        }
    }
}

/// Behind white space and comments.
fn skip_blanks(yaml: &str, from: usize) -> usize {
    let mut rest = &yaml[from..];
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if !rest.starts_with('#') {
            return yaml.len() - rest.len();
        }
        rest = rest.find('\n').map_or("", |end| &rest[end..]);
    }
}

/// Behind white space, comments, anchors and tags.
fn skip_properties(yaml: &str, from: usize) -> usize {
    let mut at = skip_blanks(yaml, from);
    while yaml[at..].starts_with(['&', '!']) {
        let len = yaml[at..].find([' ', '\t', '\r', '\n']).unwrap_or(yaml.len() - at);
        at = skip_blanks(yaml, at + len);
    }
    at
}
