//! Splices into a front matter, and the proof that they did what they should.

use std::ops::Range;

use granit_parser::ScalarStyle;

use super::front::Front;
use super::outline::{self, Entry, Outline, Text, Value};
use super::{Change, Key, Refusal};

/// Edits that are collected before they are made.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    yaml: &'a str,
    newline: &'static str,
    outline: &'a Outline<'a>,
    splices: Vec<(Range<usize>, String)>,
    changes: Vec<Change>,
    /// What the texts of each edited key shall be.
    meant: Vec<(Key, Vec<String>)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(front: &Front<'a>, outline: &'a Outline<'a>) -> Self {
        let (yaml, newline) = (front.yaml, front.newline);
        Self { yaml, newline, outline, splices: Vec::new(), changes: Vec::new(), meant: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.splices.is_empty()
    }

    /// Writes `to` where `text` stands, which is the value of `key` or an item of it.
    pub(super) fn replace(&mut self, key: Key, text: &Text<'_>, to: &str) -> Result<(), Refusal> {
        let entry = self.outline.entry(key).ok_or(Refusal::Layout(key))?;
        if self.outline.is_shared(entry) {
            return Err(Refusal::Shared(key));
        }
        let old = self.yaml.get(text.at.clone()).ok_or(Refusal::Layout(key))?;
        let new = match text.style {
            ScalarStyle::Plain => scalar(to),
            ScalarStyle::SingleQuoted => format!("'{}'", to.replace('\'', "''")),
            ScalarStyle::DoubleQuoted => quoted(to),
            // The position of a block inside a list is not known.
            _ if matches!(entry.value, Value::List(_)) => return Err(Refusal::Layout(key)),
            _ => format!("{}{}", scalar(to), header_comment(old)),
        };
        self.splices.push((text.at.clone(), new));
        if !self.meant.iter().any(|(meant, _)| *meant == key) {
            self.meant.push((key, self.outline.texts(key)?.into_iter().map(|text| text.value.into_owned()).collect()));
        }
        for (_, texts) in self.meant.iter_mut().filter(|(meant, _)| *meant == key) {
            for meant in texts.iter_mut().filter(|meant| *meant == &*text.value) {
                to.clone_into(meant);
            }
        }
        self.changes.push(Change { key, from: Some(text.value.to_string()), to: to.to_owned() });
        Ok(())
    }

    /// Makes `to` the value of `key`, in the place of whatever is there.
    pub(super) fn set(&mut self, key: Key, to: &str) -> Result<(), Refusal> {
        let mut from = None;
        match self.outline.entry(key) {
            None => {
                let (at, line) = self.new_line(key, to)?;
                self.splices.push((at..at, line));
            }
            Some(entry) if self.outline.is_shared(entry) => return Err(Refusal::Shared(key)),
            Some(entry) => {
                let old = self.yaml.get(entry.at.clone()).ok_or(Refusal::Layout(key))?;
                let new = match &entry.value {
                    Value::Text(text) if text.at.is_empty() => format!(" {}", scalar(to)),
                    Value::Text(text) => match text.style {
                        ScalarStyle::SingleQuoted => format!("'{}'", to.replace('\'', "''")),
                        ScalarStyle::DoubleQuoted => quoted(to),
                        ScalarStyle::Plain => scalar(to),
                        _ => format!("{}{}", scalar(to), header_comment(old)),
                    },
                    Value::List(_) | Value::Other => format!("{}{}", self.padding(entry), scalar(to)),
                };
                from = Some(old.trim().to_owned()).filter(|old| !old.is_empty());
                self.splices.push((entry.at.clone(), new));
            }
        }
        self.meant.push((key, vec![to.to_owned()]));
        self.changes.push(Change { key, from, to: to.to_owned() });
        Ok(())
    }

    /// A line for a key that is not there yet, and its place: behind another key of the licence, else at the end.
    fn new_line(&self, key: Key, to: &str) -> Result<(usize, String), Refusal> {
        let refusal = || Refusal::Layout(key);
        let indent = match self.outline.entries.first() {
            Some(first) => self.indent(first.start).ok_or_else(refusal)?,
            None => "",
        };
        let neighbours = match key {
            Key::License => [Key::LicenseName, Key::LicenseLink],
            Key::LicenseName => [Key::License, Key::LicenseLink],
            Key::LicenseLink => [Key::LicenseName, Key::License],
        };
        let at = match neighbours.into_iter().find_map(|key| self.outline.entry(key)) {
            Some(entry) => {
                let rest = self.yaml.get(entry.at.end..).ok_or_else(refusal)?;
                let line = rest.split_inclusive('\n').next().unwrap_or_default();
                // Something else on this line, as in a map in braces.
                if !matches!(line.trim_start().chars().next(), None | Some('#')) {
                    return Err(refusal());
                }
                entry.at.end + line.len()
            }
            None => self.yaml.len(),
        };
        Ok((at, format!("{indent}{key}: {}{}", scalar(to), self.newline)))
    }

    /// The blanks before `at`, when nothing else stands before it on its line.
    fn indent(&self, at: usize) -> Option<&'a str> {
        let before = self.yaml.get(..at)?;
        let line = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
        line.chars().all(|c| c == ' ').then_some(line)
    }

    /// What a text needs before it in the place of a list that begins a line: a list may stand as far left as its key, a text may not.
    fn padding(&self, entry: &Entry<'_>) -> &'static str {
        let key = self.indent(entry.start).map_or(0, str::len);
        if self.indent(entry.at.start).is_some_and(|indent| indent.len() <= key) { "  " } else { "" }
    }

    /// Makes the edits and reads the result: the edited keys say what was meant, all others have the values they had.
    pub(super) fn finish(mut self) -> Result<(String, Vec<Change>), Refusal> {
        check_disputed(self.yaml)?;
        let key = self.changes.first().map_or(Key::License, |change| change.key);
        self.splices.sort_by_key(|(at, _)| at.start);
        let (mut text, mut done) = (String::new(), 0);
        for (at, new) in &self.splices {
            text.push_str(self.yaml.get(done..at.start).ok_or(Refusal::Layout(key))?);
            text.push_str(new);
            done = at.end;
        }
        text.push_str(self.yaml.get(done..).ok_or(Refusal::Layout(key))?);
        let after = outline::read(&text).map_err(|_| Refusal::Layout(key))?;
        for (key, meant) in &self.meant {
            let texts = after.texts(*key).map_err(|_| Refusal::Layout(*key))?;
            if !texts.iter().map(|text| &*text.value).eq(meant.iter().map(String::as_str)) {
                return Err(Refusal::Layout(*key));
            }
        }
        let is_edited = |entry: &&Entry<'_>| Key::find(&entry.key).is_some_and(|key| self.meant.iter().any(|(meant, _)| *meant == key));
        let others = |outline: &Outline<'_>| -> Vec<(String, u64)> {
            outline.entries.iter().filter(|entry| !is_edited(entry)).map(|entry| (entry.key.clone(), entry.digest)).collect()
        };
        if others(self.outline) != others(&after) {
            return Err(Refusal::Layout(key));
        }
        Ok((text, self.changes))
    }
}

/// Looks for what readers of YAML understand in several ways.
fn check_disputed(yaml: &str) -> Result<(), Refusal> {
    for (index, line) in yaml.split('\n').enumerate() {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        let is_blank = line.trim().is_empty();
        if (indent.contains('\t') && !is_blank) || line.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
            // The opening line comes before the first one.
            return Err(Refusal::Disputed { line: index + 2 });
        }
    }
    Ok(())
}

/// `text` as a scalar that every reader takes for a text, plain where that is safe.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_alphabetic())
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/' | ' ' | ':'))
        && !text.contains(": ")
        && !text.ends_with([' ', ':']);
    let means_else = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_plain && !means_else { text.to_owned() } else { quoted(text) }
}

/// `text` in double quotes. JSON is YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The comment behind the `|` or `>` of a block.
fn header_comment(block: &str) -> &str {
    let header = block.lines().next().unwrap_or_default();
    header.find(" #").map_or("", |at| header[at..].trim_end())
}
