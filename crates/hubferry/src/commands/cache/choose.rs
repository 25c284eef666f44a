//! From what was typed to repositories and revisions of a cache: names, filters, orders.

use std::cmp::Ordering;
use std::time::SystemTime;

use globset::{Glob, GlobMatcher};
use hubferry_core::address::{Address, Grammar, Names, RemoteName, RepoKind};
use hubferry_core::error::{Error, Result};
use hubferry_core::prune::RevisionAt;
use hubferry_core::transfer::throttle::parse_size;
use hubferry_remotes::hfcache::layout::{Holds, folder_name};
use hubferry_remotes::hfcache::stock::Inventory;

use crate::args::cache::parse_age;

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    /// Which repository of the inventory.
    pub(super) repo: usize,
    /// A branch, tag or commit, where one was named.
    pub(super) rev: Option<String>,
}

/// Finds a repository by its name: `org/model`, `datasets/org/data`, also with `hfcache:` or `hf:` before it or a revision behind it,
/// `model/org/name` as the Python client writes it, or a commit of at least seven digits.
pub(super) fn find(inventory: &Inventory, text: &str) -> Result<Named> {
    if text.len() >= 7 && text.len() <= 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        let is_it = |at: &RevisionAt| inventory.revision(*at).commit.as_str().starts_with(text);
        let found: Vec<RevisionAt> = inventory.stock.revisions().filter(is_it).collect();
        match &found[..] {
            [] => {}
            [one] => return Ok(Named { repo: one.repo, rev: Some(inventory.revision(*one).commit.to_string()) }),
            _ => {
                return Err(
                    Error::invalid(format!("{text} could be several revisions")).hint("write more of its digits, or org/model@COMMIT")
                );
            }
        }
    }
    let bare = ["hfcache:", "hf:"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let bare = bare.strip_prefix("//").unwrap_or(bare);
    let bare = match bare.split_once('/') {
        // The Python client prints `model/org/name`; an owner called `model` has one slash only.
        Some((word, rest)) if rest.contains('/') => {
            RepoKind::from_word(word).map_or_else(|| bare.to_owned(), |kind| format!("{}/{rest}", kind.plural()))
        }
        _ => bare.to_owned(),
    };
    let names = Names(vec![RemoteName {
        name: "hfcache".into(),
        aliases: Vec::new(),
        grammar: Grammar::Hub,
        hosts: Vec::new(),
        bare_url_kind: None,
    }]);
    let not_one =
        || Error::invalid(format!("{text:?} does not name a repository")).hint("write org/model, datasets/org/data or org/model@v1");
    let Address::Repo(address) = Address::parse(&format!("hfcache:{bare}"), &names)? else { return Err(not_one()) };
    if address.path.is_some() {
        return Err(not_one());
    }
    let kinds = address.kind.map_or(RepoKind::ALL.to_vec(), |kind| vec![kind]);
    let found = kinds.into_iter().find_map(|kind| inventory.repo(&folder_name(Holds::Repo(kind), &address.id).ok()?));
    let repo = found.ok_or_else(|| {
        Error::not_found(format!("{} is not in the cache at {}", address.id, inventory.cache.root().display()))
            .hint("see what is there with `hubferry cache list`")
    })?;
    Ok(Named { repo, rev: address.rev })
}

/// The revisions that a name stands for: all of the repository, or the one that its ref or commit names.
pub(super) fn revisions(inventory: &Inventory, named: &Named) -> Result<Vec<RevisionAt>> {
    let repo = &inventory.repos[named.repo];
    let is_it = |(revision, place): (usize, &hubferry_remotes::hfcache::stock::RevisionPlace)| {
        let fits = named
            .rev
            .as_ref()
            .is_none_or(|rev| place.refs.contains(rev) || place.commit.as_str().starts_with(rev.as_str()) && rev.len() >= 7);
        fits.then_some(RevisionAt { repo: named.repo, revision })
    };
    let found: Vec<RevisionAt> = repo.revisions.iter().enumerate().filter_map(is_it).collect();
    match (&named.rev, found.is_empty()) {
        (Some(rev), true) => Err(Error::not_found(format!("the cache has no {rev} of {}", repo.id))
            .hint("see what is there with `hubferry cache list --revisions`")),
        _ => Ok(found),
    }
}

/// One line of a list, as filters and orders see it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: Named,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) bytes: u64,
    pub(super) used: Option<SystemTime>,
    pub(super) refs: Vec<String>,
    pub(super) pinned: bool,
}

/// A condition on lines.
#[derive(Debug)]
pub(super) enum Filter {
    Size(Comparison, u64),
    /// How long ago it was used.
    Used(Comparison, SystemTime),
    Kind(bool, String),
    Refs(bool, GlobMatcher),
    Name(bool, GlobMatcher),
    Pinned(bool),
}

/// How two values have to stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Less,
    AtMost,
    Equal,
    Different,
    AtLeast,
    More,
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::Different => order.is_ne(),
            Self::AtLeast => order.is_ge(),
            Self::More => order.is_gt(),
        }
    }
}

const FILTERS: &str = "write one of 'size>1GB', 'used>30d', type=dataset, refs=main, name=org/*, pinned=yes";

impl Filter {
    /// Reads a condition such as `size>1GB`. `now` is what times are counted from.
    pub(super) fn parse(text: &str, now: SystemTime) -> Result<Self> {
        let bad = |why: String| Error::invalid(format!("the filter {text:?}: {why}")).hint(FILTERS);
        let operators = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("!=", Comparison::Different),
            ("==", Comparison::Equal),
            (">", Comparison::More),
            ("<", Comparison::Less),
            ("=", Comparison::Equal),
        ];
        let at = text.find(['>', '<', '=', '!']).ok_or_else(|| bad("it compares nothing".into()))?;
        let (key, rest) = text.split_at(at);
        let (operator, comparison) =
            operators.into_iter().find(|(operator, _)| rest.starts_with(operator)).ok_or_else(|| bad("it compares nothing".into()))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), rest[operator.len()..].trim());
        let equal = || match comparison {
            Comparison::Equal => Ok(true),
            Comparison::Different => Ok(false),
            _ => Err(bad(format!("{key} can only be compared with = and !="))),
        };
        let glob = || Glob::new(value).map(|glob| glob.compile_matcher()).map_err(|error| bad(error.to_string()));
        Ok(match key.as_str() {
            "size" => Self::Size(comparison, parse_size(value).map_err(|error| bad(error.message().to_owned()))?),
            // `accessed` is the word of the Python client.
            "used" | "accessed" => {
                let age = parse_age(value).map_err(bad)?;
                Self::Used(comparison, now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
            }
            "type" | "kind" => Self::Kind(equal()?, value.to_ascii_lowercase()),
            "refs" => Self::Refs(equal()?, glob()?),
            "name" => Self::Name(equal()?, glob()?),
            "pinned" => {
                let wanted = match value {
                    "yes" | "true" | "1" => true,
                    "no" | "false" | "0" => false,
                    _ => return Err(bad("pinned is yes or no".into())),
                };
                Self::Pinned(wanted == equal()?)
            }
            _ => return Err(bad(format!("nothing is called {key:?}"))),
        })
    }

    pub(super) fn fits(&self, line: &Line) -> bool {
        match self {
            Self::Size(comparison, bytes) => comparison.holds(line.bytes.cmp(bytes)),
            // Longer ago is earlier.
            Self::Used(comparison, when) => line.used.is_some_and(|used| comparison.holds(when.cmp(&used))),
            Self::Kind(same, kind) => (line.kind == kind || format!("{}s", line.kind) == *kind) == *same,
            Self::Refs(same, glob) => line.refs.iter().any(|name| glob.is_match(name)) == *same,
            Self::Name(same, glob) => glob.is_match(&line.name) == *same,
            Self::Pinned(pinned) => line.pinned == *pinned,
        }
    }
}

/// Sorts lines by `size`, `used` or `name`, also `key:asc` or `key:desc`. The largest and the last used come first unless said otherwise.
pub(super) fn sort(lines: &mut [Line], by: &str) -> Result<()> {
    let bad = || Error::invalid(format!("{by:?} is no order")).hint("write size, used or name, with :asc or :desc");
    let (key, order) = by.split_once(':').map_or((by, None), |(key, order)| (key, Some(order)));
    let descending = match (order, key) {
        (Some("asc"), _) | (None, "name") => false,
        (Some("desc") | None, _) => true,
        _ => return Err(bad()),
    };
    match key {
        "size" => lines.sort_by_key(|line| line.bytes),
        "used" | "accessed" => lines.sort_by_key(|line| line.used),
        "name" => lines.sort_by(|a, b| (&a.name, a.kind, &a.at.rev).cmp(&(&b.name, b.kind, &b.at.rev))),
        _ => return Err(bad()),
    }
    if descending {
        lines.reverse();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(name: &str, bytes: u64, days: u64) -> Line {
        Line {
            at: Named { repo: 0, rev: None },
            name: name.into(),
            kind: "model",
            bytes,
            used: Some(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * (1000 - days))),
            refs: vec!["main".into()],
            pinned: false,
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 1000)
    }

    #[test]
    fn filters_say_what_they_say() {
        let line = line("org/model", 2_000_000_000, 40);
        let fits = |text: &str| Filter::parse(text, now()).unwrap().fits(&line);
        for text in
            ["size>1GB", "size >= 2GB", "used>30d", "accessed<2mo", "type=model", "kind!=dataset", "refs=ma*", "name=org/*", "pinned=no"]
        {
            assert!(fits(text), "{text}");
        }
        for text in ["size<1GB", "size!=2GB", "used>60d", "type=datasets", "refs=v1", "name!=org/*", "pinned=yes", "pinned!=no"] {
            assert!(!fits(text), "{text}");
        }
        for text in ["size", "size>lots", "used>soon", "colour=red", "type>model", "pinned=maybe", "name=[", ""] {
            assert!(Filter::parse(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_come_in_the_order_asked_for() {
        let names = |by: &str| {
            let mut lines = vec![line("b", 1, 9), line("a", 3, 1), line("c", 2, 5)];
            sort(&mut lines, by).unwrap();
            lines.into_iter().map(|line| line.name).collect::<String>()
        };
        assert_eq!(
            [names("size"), names("size:asc"), names("used"), names("name"), names("name:desc")],
            ["acb", "bca", "acb", "abc", "cba"]
        );
        assert!(sort(&mut [], "colour").is_err() && sort(&mut [], "size:up").is_err());
    }
}
