//! What a client asks for, in both forms of the protocol: commands since version 2, one want list before.
//!
//! Known from Git's `gitprotocol-v2` and `gitprotocol-pack`.

use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Result};

use super::graph::Deepen;
use super::pkt::{Line, Lines};

/// Most objects one request may want. A client that left out the files of a clone wants them all at once.
const MOST_WANTS: usize = 100_000;
/// Most commits one request may name as its own. Git stops far below.
const MOST_HAVES: usize = 100_000;
/// Most refs whose history one request may leave out.
const MOST_EXCLUDED: usize = 100;
/// With more prefixes than this, all refs are listed; Git's own server has such a limit too.
const MOST_PREFIXES: usize = 1000;

/// A command of version 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// Lists refs.
    Refs(RefQuery),
    /// Sends a pack.
    Fetch(Fetch),
    /// Nothing: clients ask so to see whether they are let in.
    Nothing,
}

/// Which refs, with what.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct RefQuery {
    /// Say what `HEAD` stands for.
    pub(super) symrefs: bool,
    /// Only names that begin with one of these; empty means all.
    pub(super) prefixes: Vec<String>,
}

/// Which files a client does without until it asks for them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Filter {
    /// It takes all.
    #[default]
    Nothing,
    /// None of them.
    Blobs,
    /// Those of this many bytes or more.
    BlobsFrom(u64),
}

/// What is wanted and what is there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Fetch {
    /// What is wanted: commits as a rule.
    pub(super) wants: Vec<GitOid>,
    /// What the client has, newest first as a rule.
    pub(super) haves: Vec<GitOid>,
    /// Where the client's history ends now.
    pub(super) shallow: Vec<GitOid>,
    /// Where it should end.
    pub(super) deepen: Deepen,
    /// What to leave out.
    pub(super) filter: Filter,
    /// Send the pack, whatever is known by now.
    pub(super) done: bool,
    /// Before version 2: the request ends behind the wants. The client only asks where its history would end.
    pub(super) only_wants: bool,
    /// Before version 2: what the client can do.
    pub(super) can: Abilities,
}

/// What a client before version 2 can do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Abilities {
    /// Take a pack in side-band lines.
    pub(super) side_band: bool,
    /// Understand which commits are common.
    pub(super) acks: bool,
    /// Take a pack without saying `done`, once enough is common.
    pub(super) no_done: bool,
}

impl Command {
    /// Reads a request of version 2.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let mut lines = Lines::new(body);
        let Some(first) = lines.next().transpose()? else { return Ok(Self::Nothing) };
        let command = match first {
            Line::Flush => return Ok(Self::Nothing),
            Line::Text(text) => text.strip_prefix("command=").unwrap_or(text),
            Line::Delimiter => "",
        };
        let mut arguments = false;
        let mut refs = RefQuery::default();
        let mut fetch = Fetch::default();
        for line in lines {
            match line? {
                Line::Flush => break,
                Line::Delimiter => arguments = true,
                Line::Text(text) if !arguments => check_capability(text)?,
                Line::Text(text) if command == "ls-refs" => refs.take(text),
                Line::Text(text) => fetch.take(text)?,
            }
        }
        match command {
            "ls-refs" => Ok(Self::Refs(refs)),
            "fetch" => Ok(Self::Fetch(fetch)),
            _ => Err(Error::invalid("the command is unknown")),
        }
    }
}

fn check_capability(text: &str) -> Result<()> {
    match text.strip_prefix("object-format=") {
        Some(format) if format != "sha1" => Err(Error::invalid("the only object format is sha1")),
        _ => Ok(()),
    }
}

impl RefQuery {
    fn take(&mut self, text: &str) {
        match text.split_once(' ') {
            // One more than can be used says that there were too many.
            Some(("ref-prefix", prefix)) if self.prefixes.len() <= MOST_PREFIXES => self.prefixes.push(prefix.to_owned()),
            _ => self.symrefs |= text == "symrefs",
        }
    }

    /// Whether a ref of this name is asked for.
    pub(super) fn fits(&self, name: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.len() > MOST_PREFIXES || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

impl Fetch {
    /// Reads a request of the versions before 2: wants, an empty line, then what is there. `None` when nothing is wanted.
    pub(super) fn parse(body: &[u8]) -> Result<Option<Self>> {
        let mut fetch = Self::default();
        let mut lines = Lines::new(body);
        for line in lines.by_ref() {
            match line? {
                Line::Text(text) => {
                    let argument = fetch.take_abilities(text);
                    fetch.take(argument)?;
                }
                Line::Flush => break,
                Line::Delimiter => return Err(Error::invalid("the request has a section where there is none")),
            }
        }
        if fetch.wants.is_empty() {
            return Ok(None);
        }
        fetch.only_wants = true;
        for line in lines {
            fetch.only_wants = false;
            match line? {
                Line::Text(text) if !fetch.done => fetch.take(text)?,
                _ => break,
            }
        }
        Ok(Some(fetch))
    }

    /// Takes what stands behind the first want, and returns the want.
    fn take_abilities<'a>(&mut self, text: &'a str) -> &'a str {
        let Some((want, words)) = text.strip_prefix("want ").and_then(|rest| rest.split_once(' ')) else { return text };
        for word in words.split(' ') {
            self.can.side_band |= word == "side-band-64k";
            self.can.acks |= word == "multi_ack_detailed";
            self.can.no_done |= word == "no-done";
            // Not an ability, but before version 2 it stands here.
            self.deepen.relative |= word == "deepen-relative";
        }
        &text[..want.len() + "want ".len()]
    }

    /// One argument, the same in all versions. What changes nothing here is passed over: deltas and progress are never sent.
    fn take(&mut self, text: &str) -> Result<()> {
        let (word, value) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "want" => add(&mut self.wants, value, MOST_WANTS)?,
            "have" => add(&mut self.haves, value, MOST_HAVES)?,
            "shallow" => add(&mut self.shallow, value, MOST_HAVES)?,
            "done" => self.done = true,
            "deepen" => self.deepen.commits = Some(number(value)?).filter(|commits| *commits > 0),
            "deepen-relative" => self.deepen.relative = true,
            "deepen-since" => self.deepen.since = Some(number(value)?),
            "deepen-not" if self.deepen.without.len() < MOST_EXCLUDED => self.deepen.without.push(value.to_owned()),
            "deepen-not" => return Err(Error::invalid(format!("at most {MOST_EXCLUDED} refs can be left out"))),
            "filter" => self.filter = Filter::parse(value)?,
            "thin-pack" | "no-progress" | "include-tag" | "ofs-delta" => {}
            _ => return Err(Error::invalid(format!("the argument {:?} is unknown", clip(word)))),
        }
        Ok(())
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let unknown = || Error::invalid(format!("the filter {:?} is not supported: use blob:none or blob:limit=<size>", clip(text)));
        if text == "blob:none" {
            return Ok(Self::Blobs);
        }
        let size = text.strip_prefix("blob:limit=").ok_or_else(unknown)?;
        let (digits, unit) = match size.as_bytes().last().map(u8::to_ascii_lowercase) {
            Some(b'k') => (&size[..size.len() - 1], 1 << 10),
            Some(b'm') => (&size[..size.len() - 1], 1 << 20),
            Some(b'g') => (&size[..size.len() - 1], 1 << 30),
            _ => (size, 1),
        };
        let size: u64 = digits.parse().map_err(|_| unknown())?;
        Ok(Self::BlobsFrom(size.saturating_mul(unit)))
    }
}

fn add(list: &mut Vec<GitOid>, id: &str, most: usize) -> Result<()> {
    if list.len() == most {
        return Err(Error::invalid(format!("a request may name {most} objects of a kind, no more")));
    }
    list.push(id.parse()?);
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("{:?} is not a number that can be used here", clip(text))))
}

/// As much of a stranger's word as is repeated to them.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::git::pkt::{DELIMITER, FLUSH, put};

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    /// Lines of text; `|` and an empty string stand for the two separators.
    fn body(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            match *line {
                "|" => out.extend_from_slice(DELIMITER),
                "" => out.extend_from_slice(FLUSH),
                text => put(&mut out, text),
            }
        }
        out
    }

    fn old(lines: &[&str]) -> Fetch {
        Fetch::parse(&body(lines)).unwrap().unwrap()
    }

    #[test]
    fn commands_are_read() {
        let refs =
            Command::parse(&body(&["command=ls-refs", "agent=git/2", "|", "peel", "symrefs", "ref-prefix refs/heads/", ""])).unwrap();
        let Command::Refs(query) = refs else { panic!("{refs:?}") };
        assert!(query.symrefs && query.fits("refs/heads/main") && !query.fits("refs/tags/v1"));

        let (want, have) = (format!("want {ONE}"), format!("have {TWO}"));
        let fetch =
            body(&["command=fetch", "object-format=sha1", "|", "thin-pack", &want, &have, "deepen 3", "filter blob:none", "done", ""]);
        let Command::Fetch(fetch) = Command::parse(&fetch).unwrap() else { panic!("no fetch") };
        assert_eq!((fetch.wants, fetch.haves), (vec![ONE.parse().unwrap()], vec![TWO.parse().unwrap()]));
        assert_eq!((fetch.deepen.commits, fetch.filter, fetch.done), (Some(3), Filter::Blobs, true));
        assert_eq!(Command::parse(b"0000").unwrap(), Command::Nothing);
        assert_eq!(Command::parse(b"").unwrap(), Command::Nothing);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["command=push", "|", ""][..],
            &["command=fetch", "object-format=sha256", "|", ""],
            &["command=fetch", "|", "want 12", ""],
            &["command=fetch", "|", "deepen many", ""],
            &["command=fetch", "|", "filter sparse:oid=1", ""],
            &["command=fetch", "|", "surprise", ""],
            &["|"],
        ] {
            assert!(Command::parse(&body(bad)).is_err(), "{bad:?}");
        }
        assert!(Command::parse(b"what").is_err());
        assert!(Fetch::parse(b"what").is_err());
    }

    #[test]
    fn no_list_grows_without_end() {
        let lines = |word: &str, count: usize| {
            let mut out = body(&["command=fetch", "|"]);
            (0..count).for_each(|_| put(&mut out, word));
            out
        };
        assert!(Command::parse(&lines(&format!("want {ONE}"), MOST_WANTS)).is_ok());
        assert!(Command::parse(&lines(&format!("want {ONE}"), MOST_WANTS + 1)).is_err());
        assert!(Command::parse(&lines(&format!("have {ONE}"), MOST_HAVES + 1)).is_err());
        assert!(Command::parse(&lines("deepen-not main", MOST_EXCLUDED + 1)).is_err());
        let mut refs = body(&["command=ls-refs", "|"]);
        (0..MOST_PREFIXES * 2).for_each(|n| put(&mut refs, &format!("ref-prefix {n}")));
        let Command::Refs(query) = Command::parse(&refs).unwrap() else { panic!("no refs") };
        assert!(query.prefixes.len() <= MOST_PREFIXES + 1 && query.fits("anything"));
    }

    #[test]
    fn old_requests_are_read() {
        let want = format!("want {ONE} multi_ack_detailed no-done side-band-64k ofs-delta agent=git/1");
        let (second, have) = (format!("want {TWO}"), format!("have {TWO}"));
        let fetch = old(&[&want, &second, "deepen 1", "", &have, "done"]);
        assert_eq!((fetch.wants.len(), fetch.haves.len(), fetch.deepen.commits), (2, 1, Some(1)));
        assert!(fetch.done && !fetch.only_wants && fetch.can.side_band && fetch.can.acks && fetch.can.no_done);
        let fetch = old(&[&want, "", &have, ""]);
        assert!(!fetch.done && !fetch.only_wants && fetch.haves.len() == 1);
        assert!(old(&[&want, "deepen 1", ""]).only_wants);
        assert_eq!(old(&[&second, "", "done"]).can, Abilities::default());
        assert_eq!(Fetch::parse(b"0000").unwrap(), None);
        assert_eq!(Fetch::parse(b"").unwrap(), None);
    }

    #[test]
    fn filters_have_units() {
        for (text, size) in [("blob:limit=0", 0), ("blob:limit=10k", 10 << 10), ("blob:limit=1M", 1 << 20), ("blob:limit=2g", 2 << 30)] {
            assert_eq!(Filter::parse(text).unwrap(), Filter::BlobsFrom(size), "{text}");
        }
        for bad in ["blob:limit=", "blob:limit=k", "blob:limit=-1", "tree:0", "blob:limit=ü"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
