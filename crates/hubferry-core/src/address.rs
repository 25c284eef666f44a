//! What a user types to name a place: `remote:[kind/]owner/name[@ref][/path]`, a hub URL, or a directory. Parse ⇄ print.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

mod pattern;
pub mod ssh;

pub use pattern::{Pattern, fill};
pub use ssh::{SshAddress, SshPath};

use crate::error::{Error, Result};
use crate::manifest::RepoPath;

/// What a repository holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepoKind {
    /// Weights and their configuration.
    Model,
    /// Data.
    Dataset,
    /// An application.
    Space,
}

impl RepoKind {
    /// Every kind, in the order in which an address without one is probed.
    pub const ALL: [Self; 3] = [Self::Model, Self::Dataset, Self::Space];

    /// `models`, `datasets`, `spaces`: the word in addresses and URLs.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// `model`, `dataset`, `space`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Space => "space",
        }
    }

    /// Reads either form.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| word.eq_ignore_ascii_case(kind.plural()) || word.eq_ignore_ascii_case(kind.singular()))
    }
}

impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.singular())
    }
}

/// `owner/name`, or a single name (`gpt2`), checked against what every hub accepts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RepoId {
    owner: Option<String>,
    name: String,
}

impl RepoId {
    /// Checks both parts: 1 to 96 of letters, digits, `_`, `-`, `.`, `~`; not starting or ending with `.` or `-`; without `..`.
    pub fn new(owner: Option<&str>, name: &str) -> Result<Self> {
        for part in owner.into_iter().chain([name]) {
            if let Some(why) = Self::fault(part) {
                return Err(Error::invalid(format!("{part:?} cannot be part of a repository id: {why}"))
                    .hint("write owner/name with letters, digits, `_`, `-` and `.`, for example hf:openai-community/gpt2"));
            }
        }
        Ok(Self { owner: owner.map(str::to_owned), name: name.to_owned() })
    }

    // ModelScope also takes `~` and names ending in `-`, `--` inside is legal there: only what is dangerous anywhere is refused here.
    fn fault(part: &str) -> Option<&'static str> {
        if part.is_empty() {
            return Some("it is empty");
        }
        if part.len() > 96 {
            return Some("it is longer than 96 characters");
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~')) {
            return Some("only letters, digits, `_`, `-`, `.` and `~` are possible");
        }
        if part.starts_with('.') || part.ends_with('.') || part.contains("..") {
            return Some("dots may not lead, end or repeat");
        }
        if part.starts_with('-') {
            return Some("it starts with a dash");
        }
        None
    }

    /// The namespace; `None` for the few single-segment ids.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The name without its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for RepoId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('/') {
            None => Self::new(None, text),
            Some((owner, name)) => Self::new(Some(owner), name),
        }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = &self.owner {
            write!(f, "{owner}/")?;
        }
        f.write_str(&self.name)
    }
}

impl Serialize for RepoId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepoId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How the part behind the scheme of a remote is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grammar {
    /// `[kind/]owner/name[@ref][/path]`.
    Hub,
    /// A file system path.
    Path,
}

/// One known remote name: what addresses may start with, and which URLs belong to it.
#[derive(Clone, Debug)]
pub struct RemoteName {
    /// The canonical name, lower case: `hf`, `ms`, or a configured one.
    pub name: String,
    /// Other prefixes that mean the same.
    pub aliases: Vec<String>,
    /// How the rest is read.
    pub grammar: Grammar,
    /// `host` or `host:port` of its web pages: URLs there are addresses of this remote.
    pub hosts: Vec<String>,
    /// The kind a page URL without a kind word means: `huggingface.co/owner/name` is a model.
    pub bare_url_kind: Option<RepoKind>,
}

/// All remote names an address may use.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Vec<RemoteName>);

impl Names {
    fn by_prefix(&self, prefix: &str) -> Option<&RemoteName> {
        self.0.iter().find(|r| r.name.eq_ignore_ascii_case(prefix) || r.aliases.iter().any(|a| a.eq_ignore_ascii_case(prefix)))
    }

    fn by_host(&self, host: &str) -> Option<&RemoteName> {
        let bare = host.strip_prefix("www.").unwrap_or(host);
        self.0.iter().find(|r| r.hosts.iter().any(|h| h == host || h.strip_prefix("www.").unwrap_or(h) == bare))
    }

    fn list(&self) -> String {
        self.0.iter().map(|r| format!("{}:", r.name)).collect::<Vec<_>>().join(", ")
    }
}

/// A place, as typed. What is not written (kind, ref) is decided by whoever opens it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A repository, or a file or folder in it, on a hub.
    Repo(RepoAddress),
    /// Many repositories of an owner: `hf:org/llama-*`, `ms:org/`, `ms:org/{name}`.
    Many(Pattern),
    /// A directory or file on this machine.
    Dir(String),
    /// A folder or file on a host that is reached by SSH.
    Ssh(SshAddress),
}

/// A repository on a hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepoAddress {
    /// The remote's canonical name.
    pub remote: String,
    /// The kind, when written; else found by asking.
    pub kind: Option<RepoKind>,
    /// Which repository.
    pub id: RepoId,
    /// Branch, tag or commit, when written.
    pub rev: Option<String>,
    /// A file or folder inside, when written.
    pub path: Option<RepoPath>,
}

impl Address {
    /// Reads what a user typed. Anything that names a known remote or one of its URLs is an address of it; anything that looks
    /// like a path (`/…`, `./…`, `../…`, `~/…`, `.`, a drive letter, `file:` or `dir:`) is a directory.
    pub fn parse(text: &str, names: &Names) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(
                Error::invalid("the address is empty").hint(format!("write REMOTE:owner/name with one of {}, or ./path", names.list()))
            );
        }
        if text.contains('\0') {
            return Err(Error::invalid("the address has a NUL character"));
        }
        if let Some(path) = as_path(text) {
            return Ok(Self::Dir(path.to_owned()));
        }
        if ssh::is_command(text) || text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("ssh://")) {
            return SshAddress::parse(text).map(|(address, _)| Self::Ssh(address));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Self::from_url(text, names);
        }
        let Some((prefix, rest)) = text.split_once(':') else {
            let hint = if text.contains('/') {
                format!("for a repository write hf:{text} or ms:{text}; for a directory write ./{text}")
            } else {
                format!("for a repository write hf:owner/{text}; for a directory write ./{text}")
            };
            return Err(Error::invalid(format!("{text:?} does not say where it is")).hint(hint));
        };
        let Some(remote) = names.by_prefix(prefix) else {
            return Err(Error::invalid(format!("unknown remote {prefix:?}"))
                .hint(format!("known are {}; a directory is written ./{text}", names.list())));
        };
        match remote.grammar {
            Grammar::Path => Ok(Self::Dir(rest.to_owned())),
            Grammar::Hub => Self::from_hub(rest.strip_prefix("//").unwrap_or(rest), remote, text),
        }
    }

    fn from_hub(rest: &str, remote: &RemoteName, whole: &str) -> Result<Self> {
        let usage = || format!("write {}:[kind/]owner/name[@ref][/path]", remote.name);
        // The ref is everything between the `@` and the next `/`; a ref with slashes is written with %2F, as the hubs do.
        let (kind, rest) = match rest.split_once('/') {
            Some((word, tail)) if !tail.is_empty() => match plural_kind(word) {
                Some(kind) => (Some(kind), tail),
                None => (None, rest),
            },
            _ => (None, rest),
        };
        if let Some((owner, name)) = rest.split_once('/')
            && !owner.contains('@')
            && !name.contains(['/', '@'])
            && (name.is_empty() || pattern::is_pattern(owner) || pattern::is_pattern(name))
        {
            if !pattern::is_pattern(owner) {
                RepoId::new(None, owner).map_err(|e| e.hint(usage()))?;
            }
            return Pattern::new(&remote.name, kind, owner, name).map(Self::Many);
        }
        let mut segments: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        // `name@ref/path` of a single-segment id carries its `@` in the first segment.
        let id_segments = if segments[0].contains('@') { 1 } else { segments.len().min(2) };
        let mut path_segments = segments.split_off(id_segments);
        let last = segments.last().copied().unwrap_or_default();
        let (last, mut rev) = match last.split_once('@') {
            Some((name, rev)) => (name, Some(decode(rev)?)),
            None => (last, None),
        };
        // Full ref names are also taken as they stand: `@refs/pr/1` is unmistakable.
        if rev.as_deref() == Some("refs") && path_segments.len() >= 2 && ["pr", "heads", "tags", "convert"].contains(&path_segments[0]) {
            let full: Vec<&str> = path_segments.drain(..2).collect();
            rev = Some(format!("refs/{}", full.join("/")));
        }
        let owner = (segments.len() == 2).then(|| segments[0]);
        let id = RepoId::new(owner, last).map_err(|e| e.context("address", whole).hint(usage()))?;
        let path = if path_segments.is_empty() { None } else { Some(typed_path(&path_segments.join("/"), whole)?) };
        let rev = rev.map(|rev| check_ref(&rev).map(|()| rev)).transpose()?;
        Ok(Self::Repo(RepoAddress { remote: remote.name.clone(), kind, id, rev, path }))
    }

    /// Page URLs: `EP/[kind/]owner/name[/(tree|blob|resolve|raw|file/view|files)/ref[/path]]`.
    fn from_url(text: &str, names: &Names) -> Result<Self> {
        let url = Url::parse(text).map_err(|e| Error::invalid(format!("{text:?} is not a URL")).caused_by(e))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid("the URL holds a user name or password")
                .hint("give the token by environment or configuration, never in an address"));
        }
        let host = url.host_str().unwrap_or_default().to_lowercase();
        let host = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
        let Some(remote) = names.by_host(&host) else {
            return Err(Error::invalid(format!("no remote has its pages at {host:?}"))
                .hint(format!("known are {}; add others to the configuration", names.list())));
        };
        let mut segments = Vec::new();
        for segment in url.path_segments().into_iter().flatten().filter(|s| !s.is_empty()) {
            segments.push(decode(segment)?);
        }
        let kind = segments.first().and_then(|word| plural_kind(word));
        if kind.is_some() {
            segments.remove(0);
        }
        let page = |word: &str| matches!(word, "tree" | "blob" | "resolve" | "raw" | "files" | "file" | "summary" | "discussions");
        let id_len = if segments.get(1).is_none_or(|second| page(second)) { 1 } else { 2 };
        if segments.is_empty() {
            return Err(Error::invalid(format!("{text:?} names no repository")));
        }
        let tail = segments.split_off(id_len.min(segments.len()));
        let owner = (segments.len() == 2).then(|| segments[0].as_str());
        let name = segments.last().map(String::as_str).unwrap_or_default();
        let id = RepoId::new(owner, name.strip_suffix(".git").unwrap_or(name)).map_err(|e| e.context("address", text))?;
        let mut tail = tail.into_iter();
        let (rev, path) = match tail.next().as_deref() {
            Some("tree" | "blob" | "resolve" | "raw") => {
                let rev = tail.next();
                let path = tail.collect::<Vec<_>>().join("/");
                (rev, (!path.is_empty()).then(|| typed_path(&path, text)).transpose()?)
            }
            _ => (None, None),
        };
        if let Some(rev) = &rev {
            check_ref(rev)?;
        }
        Ok(Self::Repo(RepoAddress { remote: remote.name.clone(), kind: kind.or(remote.bare_url_kind), id, rev, path }))
    }
}

/// The kind word of addresses and URLs. Only the plural: `model/x` may be an owner called "model".
fn plural_kind(word: &str) -> Option<RepoKind> {
    RepoKind::ALL.into_iter().find(|kind| word.eq_ignore_ascii_case(kind.plural()))
}

fn as_path(text: &str) -> Option<&str> {
    for prefix in ["file://", "dir://", "file:", "dir:"] {
        if let Some(head) = text.get(..prefix.len())
            && head.eq_ignore_ascii_case(prefix)
        {
            return Some(&text[prefix.len()..]);
        }
    }
    let drive = text.as_bytes();
    let has_drive = drive.len() >= 3
        && drive[0].is_ascii_alphabetic()
        && drive[1] == b':'
        && matches!(drive[2], b'\\' | b'/')
        && drive.get(3) != Some(&b'/');
    let is_path = text == "." || text == ".." || text == "~" || ["/", "./", "../", "~/", ".\\", "..\\"].iter().any(|p| text.starts_with(p));
    (is_path || has_drive).then_some(text)
}

fn decode(segment: &str) -> Result<String> {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|e| Error::invalid(format!("{segment:?} is not UTF-8 once decoded")).caused_by(e))
}

/// A path that somebody typed: the advice for one from a listing would mislead.
fn typed_path(path: &str, address: &str) -> Result<RepoPath> {
    RepoPath::new(path).map_err(|e| {
        Error::invalid(e.message())
            .context("address", address)
            .hint("write the path of a file or folder inside the repository, such as hf:owner/name/onnx/model.onnx")
    })
}

/// The rules of `git check-ref-format` that matter for what is put into URLs and shown to people.
pub(crate) fn check_ref(rev: &str) -> Result<()> {
    let bad = rev.is_empty()
        || rev.len() > 250
        || rev.contains("..")
        || rev.contains("//")
        || rev.contains("@{")
        || rev.starts_with(['/', '-'])
        || rev.ends_with(['/', '.'])
        || rev.chars().any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'));
    if bad {
        return Err(Error::invalid(format!("{rev:?} cannot be a branch, tag or commit"))
            .hint("write @main, @v1.0 or @<commit>; a slash inside a ref is written %2F, as in @refs%2Fpr%2F1"));
    }
    Ok(())
}

impl fmt::Display for Address {
    /// The canonical form; parsing it again gives the same address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repo(repo) => repo.fmt(f),
            Self::Many(pattern) => pattern.fmt(f),
            Self::Dir(path) if as_path(path) == Some(path.as_str()) => f.write_str(path),
            Self::Dir(path) => write!(f, "dir:{path}"),
            Self::Ssh(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for RepoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.remote)?;
        if let Some(kind) = self.kind {
            write!(f, "{}/", kind.plural())?;
        }
        write!(f, "{}", self.id)?;
        if let Some(rev) = &self.rev {
            write!(f, "@{}", rev.replace('%', "%25").replace('/', "%2F"))?;
        } else if self.id.owner().is_none() && self.path.is_some() {
            // A single-segment id with a path needs the `@` to be told from owner/name; nothing else is lost by naming HEAD.
            f.write_str("@HEAD")?;
        }
        if let Some(path) = &self.path {
            write!(f, "/{path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    fn names() -> Names {
        let hub = |name: &str, aliases: &[&str], hosts: &[&str], bare| RemoteName {
            name: name.into(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
            grammar: Grammar::Hub,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            bare_url_kind: bare,
        };
        Names(vec![
            hub("hf", &["huggingface"], &["huggingface.co", "hf.co"], Some(RepoKind::Model)),
            hub("ms", &["modelscope"], &["modelscope.cn", "www.modelscope.cn"], None),
        ])
    }

    fn parse(text: &str) -> Result<Address> {
        Address::parse(text, &names())
    }

    fn show(text: &str) -> String {
        parse(text).unwrap().to_string()
    }

    #[test]
    fn every_documented_form() {
        for (typed, canonical) in [
            ("hf:org/model", "hf:org/model"),
            ("HF:org/model", "hf:org/model"),
            ("huggingface:org/model", "hf:org/model"),
            ("modelscope:datasets/o/d", "ms:datasets/o/d"),
            ("hf://models/org/model", "hf:models/org/model"),
            ("hf:gpt2", "hf:gpt2"),
            ("hf:gpt2@main/config.json", "hf:gpt2@main/config.json"),
            ("hf:org/model@v1.0", "hf:org/model@v1.0"),
            ("hf:org/model@refs%2Fpr%2F1/a/b.json", "hf:org/model@refs%2Fpr%2F1/a/b.json"),
            ("hf:org/model@refs/pr/1/a/b.json", "hf:org/model@refs%2Fpr%2F1/a/b.json"),
            ("hf:org/model/a/b.json", "hf:org/model/a/b.json"),
            ("ms:u/r.v1~x", "ms:u/r.v1~x"),
            ("ms:org/", "ms:org/"),
            ("ms:datasets/org/", "ms:datasets/org/"),
            ("hf:org/llama-*", "hf:org/llama-*"),
            ("HF:datasets/org/*", "hf:datasets/org/*"),
            ("ms:{owner}/{name}-mirror", "ms:{owner}/{name}-mirror"),
            ("hf:org/model/*.json", "hf:org/model/*.json"),
            ("https://huggingface.co/org/model", "hf:models/org/model"),
            ("https://hf.co/gpt2", "hf:models/gpt2"),
            ("https://huggingface.co/gpt2/tree/main", "hf:models/gpt2@main"),
            ("https://huggingface.co/datasets/o/d/resolve/refs%2Fpr%2F3/x%20y.csv", "hf:datasets/o/d@refs%2Fpr%2F3/x y.csv"),
            ("https://www.modelscope.cn/models/o/m/summary", "ms:models/o/m"),
            ("https://modelscope.cn/models/o/m/files", "ms:models/o/m"),
            ("./x:y", "./x:y"),
            ("dir:x", "dir:x"),
            ("file:///srv/models", "/srv/models"),
            ("/srv/models", "/srv/models"),
            ("C:\\models", "C:\\models"),
        ] {
            assert_eq!(show(typed), canonical, "{typed}");
            assert_eq!(parse(canonical).unwrap(), parse(typed).unwrap(), "{typed} must survive printing");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for bad in [
            "",
            "org/model",
            "gpt2",
            "xx:org/model",
            "hf:",
            "hf:/",
            "hf:org//x",
            "hf:org/../x",
            "hf:org/model/../x",
            "hf:org/mo del",
            "hf:org/model@a..b",
            "hf:org/model@",
            "hf:-x/y",
            "https://example.org/a/b",
            "https://user:pw@huggingface.co/a/b",
            "hf:org/model@a b",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{bad}");
        }
        assert!(parse("org/model").unwrap_err().hint_text().unwrap().contains("hf:org/model"));
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(
            kind in prop::sample::select(vec![None, Some(RepoKind::Model), Some(RepoKind::Dataset), Some(RepoKind::Space)]),
            owner in prop::option::of("[a-zA-Z0-9_][a-zA-Z0-9_~-]{0,8}"), name in "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,8}",
            rev in prop::option::of("[a-z0-9]{1,4}(/[a-z0-9%]{1,4}){0,2}"), path in prop::option::of("[a-z @#ü]{1,5}x(/[a-z.]{1,5}x){0,2}"),
        ) {
            let word = |w: &str| plural_kind(w).is_some();
            prop_assume!(!owner.as_deref().is_some_and(word));
            let id = RepoId::new(owner.as_deref(), &name).unwrap();
            let path = path.map(|p| RepoPath::new(p.trim()).unwrap());
            let rev = if id.owner().is_none() && path.is_some() { Some(rev.unwrap_or("HEAD".into())) } else { rev };
            let address = Address::Repo(RepoAddress { remote: "hf".into(), kind, id, rev, path });
            prop_assert_eq!(parse(&address.to_string()).unwrap(), address);
        }

        #[test]
        fn no_input_panics(text in ".{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("hf:{text}"));
            let _ = parse(&format!("https://huggingface.co/{text}"));
        }
    }
}
