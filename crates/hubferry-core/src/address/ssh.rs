//! Addresses of SSH hosts: `ssh://[user@]host[:port]/path`, and the command line that providers of machines show
//! (`ssh -p 12345 root@1.2.3.4 -i key`), read without a shell. Never a password.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use super::{RepoId, RepoKind, decode, fill};
use crate::error::{Error, Result};

mod command;

pub use command::is_command;

/// A folder or file on a host that is reached with the user's own `ssh`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SshAddress {
    /// Who logs in; else whom the configuration of `ssh` names.
    pub user: Option<String>,
    /// A name, an address, or an alias of the configuration of `ssh`. An IPv6 address has no brackets here.
    pub host: String,
    /// The port; else that of the configuration of `ssh`.
    pub port: Option<u16>,
    /// Where on the host.
    pub path: SshPath,
    /// A file with a private key (`-i`).
    pub key: Option<String>,
    /// Hosts on the way, as `-J` takes them.
    pub jump: Option<String>,
    /// A configuration file instead of the user's own (`-F`).
    pub config: Option<String>,
    /// Harmless settings (`-o`), in the order of their names.
    pub settings: Vec<(String, String)>,
}

/// A place on a host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SshPath {
    /// None was written: a repository goes to the home folder of the login, under its own name.
    Unnamed,
    /// Below the home folder of the login; empty is the folder itself.
    Home(String),
    /// From the root.
    Absolute(String),
}

impl SshPath {
    /// Reads a path as a shell shows it: `/srv/models`, `~/models`, `models`.
    fn typed(path: &str) -> Result<Self> {
        check_text("the path", path)?;
        let tidy = |path: &str| path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Ok(match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Home(tidy(rest)),
            _ if path.starts_with('/') && tidy(path).is_empty() => Self::Unnamed,
            _ if path.starts_with('/') => Self::Absolute(format!("/{}", tidy(path))),
            _ if path.is_empty() => Self::Unnamed,
            _ => Self::Home(tidy(path)),
        })
    }
}

impl SshAddress {
    /// A host, with nothing more said of it.
    fn at(user: Option<String>, host: String, port: Option<u16>) -> Self {
        Self { user, host, port, path: SshPath::Unnamed, key: None, jump: None, config: None, settings: Vec::new() }
    }

    /// Reads either form. The second value names what was left out of a command line because a copy has no use for it.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>)> {
        if is_command(text) { command::parse(text) } else { Self::from_url(text).map(|address| (address, Vec::new())) }
    }

    fn from_url(text: &str) -> Result<Self> {
        let usage = "write ssh://[user@]host[:port]/path, or ssh://host/~/path for the home folder";
        let rest = text.get(6..).unwrap_or_default();
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
        let (user, host, port) = authority_of(authority).map_err(|error| error.hint(usage))?;
        let mut address = Self::at(user, host, port);
        // Before it is decoded: a folder that is really called `~` is written %7E.
        address.path = match path.strip_prefix("/~") {
            Some(below) if below.is_empty() || below.starts_with('/') => SshPath::typed(&format!("~{}", decode(below)?))?,
            _ => match SshPath::typed(&decode(path)?)? {
                SshPath::Home(inner) => SshPath::Absolute(format!("/{inner}")),
                other => other,
            },
        };
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match name {
                "key" => address.set_key(&value)?,
                "jump" => address.set_jump(&value)?,
                "config" => address.set_config(&value)?,
                "o" => command::set(&mut address, &value, &mut Vec::new())?,
                _ => return Err(Error::invalid(format!("{name:?} is nothing that an address of a host can say")).hint(usage)),
            }
        }
        Ok(address)
    }

    fn set_key(&mut self, file: &str) -> Result<()> {
        self.key = Some(file_name("the key file", file)?);
        Ok(())
    }

    fn set_config(&mut self, file: &str) -> Result<()> {
        self.config = Some(file_name("the configuration file", file)?);
        Ok(())
    }

    fn set_jump(&mut self, hops: &str) -> Result<()> {
        for hop in hops.split(',') {
            authority_of(hop.strip_prefix("ssh://").unwrap_or(hop))?;
        }
        self.jump = Some(hops.to_owned());
        Ok(())
    }

    /// The host as one word that `ssh` takes for nothing else, without the login and the port.
    pub fn name(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// Login, host and port, for people.
    pub fn authority(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{}{port}", self.name())
    }

    /// The last part of the path: what may be told to strangers in the message of a commit.
    pub fn folder(&self) -> &str {
        match &self.path {
            SshPath::Unnamed => "",
            SshPath::Home(path) | SshPath::Absolute(path) => path.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// Whether the path is one for each repository: `ssh://host/models/{owner}/{name}`.
    pub fn is_for_each(&self) -> bool {
        matches!(&self.path, SshPath::Home(path) | SshPath::Absolute(path) if path.contains("{name}"))
    }

    /// Where a repository goes: a path that is one for each is filled in, and without a path it goes to the home folder of the login,
    /// under its own name.
    pub fn for_repo(&self, id: &RepoId, kind: Option<RepoKind>) -> Result<Self> {
        Ok(self.with_path(match &self.path {
            SshPath::Unnamed => SshPath::Home(id.name().to_owned()),
            SshPath::Home(path) if self.is_for_each() => SshPath::Home(fill(path, id, kind)?),
            SshPath::Absolute(path) if self.is_for_each() => SshPath::Absolute(fill(path, id, kind)?),
            path => path.clone(),
        }))
    }

    /// The same host with another place on it.
    #[must_use]
    pub fn with_path(&self, path: SshPath) -> Self {
        Self { path, ..self.clone() }
    }
}

/// Login, host and port out of `user@host:port`.
fn authority_of(text: &str) -> Result<(Option<String>, String, Option<u16>)> {
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    if let Some(user) = user {
        check_user(user)?;
    }
    let (host, port) = match place.strip_prefix('[').map(|inner| inner.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').ok_or_else(|| bad_host(place))?)),
        Some(None) => return Err(bad_host(place)),
        // With more than one colon it is an address of IPv6 that nobody has put into brackets, and there is no port.
        None if place.matches(':').count() > 1 => (place, None),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if place.starts_with('[') && !host.contains(':') {
        return Err(bad_host(place));
    }
    check_host(host)?;
    Ok((user.map(str::to_owned), host.to_owned(), port.map(parse_port).transpose()?))
}

fn check_user(user: &str) -> Result<()> {
    if user.contains(':') {
        return Err(Error::invalid("the address holds a password")
            .hint("leave it out: hosts are entered with a key, by the agent or a file that `-i` or ?key= names"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+');
    if user.is_empty() || user.len() > 64 || user.starts_with('-') || !user.bytes().all(plain) {
        return Err(Error::invalid(format!("{user:?} cannot be a login")).hint("letters, digits, `_`, `-`, `.` and `+` are possible"));
    }
    Ok(())
}

fn bad_host(host: &str) -> Error {
    Error::invalid(format!("{host:?} cannot be a host"))
        .hint("letters, digits, `.`, `-` and `_` are possible, or an IPv6 address; a port follows as [2001:db8::1]:22")
}

fn check_host(host: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'_');
    let is_plain = !host.is_empty() && host.len() <= 255 && !host.starts_with('-') && host.bytes().all(plain);
    if is_plain && (!host.contains(':') || host.parse::<Ipv6Addr>().is_ok()) { Ok(()) } else { Err(bad_host(host)) }
}

fn parse_port(text: &str) -> Result<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| Error::invalid(format!("{text:?} cannot be a port")).hint("a port is a number from 1 to 65535"))
}

fn file_name(what: &str, file: &str) -> Result<String> {
    check_text(what, file)?;
    if file.is_empty() || file.starts_with('-') {
        return Err(Error::invalid(format!("{what} cannot be called {file:?}")));
    }
    Ok(file.to_owned())
}

/// Nothing that is handed to a host or to `ssh` may hold characters that end a line.
fn check_text(what: &str, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} has a control character")).hint("paste it without line breaks"));
    }
    Ok(())
}

/// Characters that would end a part of the address, or be lost where it is pasted.
fn encode(f: &mut fmt::Formatter<'_>, text: &str, also: &[char]) -> fmt::Result {
    for c in text.chars() {
        if matches!(c, '%' | '?' | '#' | '"' | '\'') || c.is_whitespace() || also.contains(&c) {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
        } else {
            f.write_char(c)?;
        }
    }
    Ok(())
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh://{}", self.authority())?;
        match &self.path {
            SshPath::Unnamed => {}
            SshPath::Home(path) if path.is_empty() => f.write_str("/~")?,
            SshPath::Home(path) => {
                f.write_str("/~/")?;
                encode(f, path, &[])?;
            }
            SshPath::Absolute(path) => match path.strip_prefix("/~") {
                Some(rest) => {
                    f.write_str("/%7E")?;
                    encode(f, rest, &[])?;
                }
                None => encode(f, path, &[])?,
            },
        }
        let fields = [("key", &self.key), ("jump", &self.jump), ("config", &self.config)];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let settings = self.settings.iter().map(|(name, value)| ("o", format!("{name}={value}")));
        for (n, (name, value)) in fields.chain(settings).enumerate() {
            write!(f, "{}{name}=", if n == 0 { '?' } else { '&' })?;
            encode(f, &value, &['&'])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
