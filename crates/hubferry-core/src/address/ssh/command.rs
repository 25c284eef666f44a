//! The command line that a provider of machines shows, taken as it is pasted: `ssh -p 12345 root@1.2.3.4 -L 8080:localhost:8080`.
//!
//! No shell sees it. What names the host is understood, what belongs to a terminal or a tunnel is left out and named, and the rest,
//! which could run programs or switch off checks, is refused.

use super::{SshAddress, SshPath, authority_of, check_text, check_user, parse_port};
use crate::error::{Error, Result};

/// Flags of a session with a terminal, of a tunnel or of its output: a copy has neither.
const IGNORED: &str = "AafgkNnqTtvXxYy";
/// The same, with a value.
const IGNORED_WITH_VALUE: &str = "LRD";
/// Settings (`-o`) that are left out for the same reason, or because a copy decides them itself.
const IGNORED_SETTINGS: [&str; 5] = ["LogLevel", "BatchMode", "ForwardAgent", "ExitOnForwardFailure", "RequestTTY"];
/// Settings that are handed on.
const SETTINGS: [(&str, Check); 10] = [
    ("AddressFamily", Check::OneOf(&["any", "inet", "inet6"])),
    ("Compression", Check::OneOf(&["yes", "no"])),
    ("ConnectTimeout", Check::Number),
    ("ConnectionAttempts", Check::Number),
    ("HostKeyAlias", Check::Host),
    ("IdentitiesOnly", Check::OneOf(&["yes", "no"])),
    ("ServerAliveCountMax", Check::Number),
    ("ServerAliveInterval", Check::Number),
    ("StrictHostKeyChecking", Check::OneOf(&["yes", "ask", "accept-new"])),
    ("UserKnownHostsFile", Check::File),
];

/// What a value has to be.
enum Check {
    OneOf(&'static [&'static str]),
    Number,
    Host,
    File,
}

/// Whether `text` is such a command line.
pub fn is_command(text: &str) -> bool {
    text.strip_prefix("ssh").is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

/// Reads it, and says what was left out.
pub(super) fn parse(text: &str) -> Result<(SshAddress, Vec<String>)> {
    check_text("the command line", &text.replace('\t', " "))?;
    let mut reader = Reader { address: SshAddress::at(None, String::new(), None), ignored: Vec::new(), words: Vec::new() };
    let mut words = split(text)?.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            Some(letters) if !letters.is_empty() => reader.options(letters, &mut words)?,
            _ => reader.words.push(word),
        }
    }
    reader.finish()
}

struct Reader {
    address: SshAddress,
    ignored: Vec<String>,
    words: Vec<String>,
}

impl Reader {
    /// A word that begins with a dash: several flags, the last of which may have a value, there or in the next word.
    fn options(&mut self, letters: &str, words: &mut impl Iterator<Item = String>) -> Result<()> {
        for (at, letter) in letters.char_indices() {
            match letter {
                '4' => set(&mut self.address, "AddressFamily=inet", &mut self.ignored)?,
                '6' => set(&mut self.address, "AddressFamily=inet6", &mut self.ignored)?,
                'C' => set(&mut self.address, "Compression=yes", &mut self.ignored)?,
                _ if IGNORED.contains(letter) => self.ignored.push(format!("-{letter}")),
                _ => {
                    let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                    if !"piJlFo".contains(letter) && !IGNORED_WITH_VALUE.contains(letter) {
                        return Err(refused(&format!("-{letter}")));
                    }
                    let value = if rest.is_empty() { words.next() } else { Some(rest.to_owned()) };
                    return self.option(letter, &value.ok_or_else(|| Error::invalid(format!("-{letter} has no value")))?);
                }
            }
        }
        Ok(())
    }

    fn option(&mut self, letter: char, value: &str) -> Result<()> {
        match letter {
            'p' => self.address.port = Some(parse_port(value)?),
            'i' => self.address.set_key(value)?,
            'J' => self.address.set_jump(value)?,
            'F' => self.address.set_config(value)?,
            'l' => {
                check_user(value)?;
                self.address.user = Some(value.to_owned());
            }
            'o' => set(&mut self.address, value, &mut self.ignored)?,
            _ => self.ignored.push(format!("-{letter} {value}")),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(SshAddress, Vec<String>)> {
        let usage = "write it as the provider shows it, and behind the host the path: ssh -p 12345 root@1.2.3.4 /workspace/model";
        let mut words = self.words.into_iter();
        let host = words.next().ok_or_else(|| Error::invalid("the command line names no host").hint(usage))?;
        let (user, host, port) = authority_of(host.strip_prefix("ssh://").unwrap_or(&host)).map_err(|error| error.hint(usage))?;
        // The first word wins with `ssh` as well: options may stand before the host and behind it.
        self.address.user = user.or(self.address.user);
        self.address.port = port.or(self.address.port);
        self.address.host = host;
        self.address.path = words.next().map_or(Ok(SshPath::Unnamed), |path| SshPath::typed(&path))?;
        if let Some(more) = words.next() {
            return Err(Error::invalid(format!("{more:?} is one word too many: behind the host stands a path and nothing else"))
                .hint("a path with spaces stands in quotes"));
        }
        self.address.settings.sort();
        Ok((self.address, self.ignored))
    }
}

/// Takes a setting as `-o` has it: `Name=value` or `Name value`.
pub(super) fn set(address: &mut SshAddress, text: &str, ignored: &mut Vec<String>) -> Result<()> {
    check_text("a setting", text)?;
    let (name, value) = text.split_once(['=', ' ']).map_or((text, ""), |(name, value)| (name.trim(), value.trim()));
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("Port") {
        address.port = Some(parse_port(value)?);
    } else if is("User") {
        check_user(value)?;
        address.user = Some(value.to_owned());
    } else if is("IdentityFile") {
        address.set_key(value)?;
    } else if is("ProxyJump") {
        address.set_jump(value)?;
    } else if let Some(known) = IGNORED_SETTINGS.iter().find(|known| is(known)) {
        ignored.push(format!("-o {known}"));
    } else if let Some((known, check)) = SETTINGS.iter().find(|(known, _)| is(known)) {
        check.value(known, value)?;
        address.settings.retain(|(there, _)| there != known);
        address.settings.push(((*known).to_owned(), value.to_owned()));
        address.settings.sort();
    } else {
        return Err(refused(&format!("-o {name}")));
    }
    Ok(())
}

impl Check {
    fn value(&self, name: &str, value: &str) -> Result<()> {
        let fits = match self {
            Self::OneOf(words) => words.contains(&value),
            Self::Number => !value.is_empty() && value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit()),
            Self::Host => super::check_host(value).is_ok(),
            Self::File => !value.is_empty() && !value.starts_with('-') && !matches!(value, "/dev/null" | "none"),
        };
        if fits {
            return Ok(());
        }
        let error = Error::invalid(format!("{name} cannot be {value:?} here"));
        Err(match name {
            "StrictHostKeyChecking" | "UserKnownHostsFile" => error.hint(
                "the key of a host is always checked; -o StrictHostKeyChecking=accept-new takes that of a host that is met for the first time",
            ),
            _ => error,
        })
    }
}

fn refused(option: &str) -> Error {
    Error::invalid(format!("{option} is no option that a copy takes from a pasted command line"))
        .hint("put it into ~/.ssh/config below a Host, and name that host; -p, -i, -l, -J, -F and harmless -o are understood")
}

/// Words as a shell would see them, without anything else that a shell does: quotes group, and nothing is expanded.
fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid("a quote in the command line has no end"));
    }
    words.extend(word);
    Ok(words)
}
