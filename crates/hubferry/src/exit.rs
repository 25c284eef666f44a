//! From an error to an exit code and a last hint: the whole table.

use hubferry_core::error::{Error, Kind};
use hubferry_core::leaks::{Leak, Leaks};

/// The exit codes. They are a contract: scripts rest on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Partial = 3,
    VerificationFailed = 4,
    NotAuthorised = 5,
    NotFound = 6,
    Temporary = 7,
    Differs = 8,
    Interrupted = 130,
}

/// What a command ends with when it does not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) exit: Exit,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            Kind::NotFound => Exit::NotFound,
            Kind::Denied | Kind::Unauthenticated | Kind::Gated => Exit::NotAuthorised,
            Kind::Corrupt => Exit::VerificationFailed,
            Kind::RateLimited | Kind::Unavailable | Kind::Conflict | Kind::Changed => Exit::Temporary,
            Kind::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        Self { error, exit }
    }
}

impl Failure {
    /// A mistake in what was typed or configured.
    pub(crate) fn usage(error: Error) -> Self {
        Self { error, exit: Exit::Usage }
    }

    /// The secrets that ended a copy; empty when it ended for another reason.
    pub(crate) fn secrets(&self) -> &[Leak] {
        Leaks::of(&self.error).map_or(&[], |leaks| &leaks.0)
    }

    /// The line that says what to do next: the error's own, else one that fits its kind.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.error.hint_text().or(match self.error.kind() {
            Kind::Unauthenticated => Some("set HF_TOKEN or MODELSCOPE_API_TOKEN, then check it with `hubferry doctor`"),
            Kind::Denied => Some("check the rights of your token with `hubferry doctor`"),
            Kind::Gated => Some("accept the terms on the page of the repository, with the account your token belongs to"),
            Kind::NotFound => Some("check the spelling; private repositories are not found without a token that may read them"),
            Kind::RateLimited | Kind::Unavailable => Some("run the same command again later: what is stored already is not sent again"),
            Kind::Conflict | Kind::Changed => Some("run the same command again: it plans on what is there now"),
            Kind::Corrupt => Some("run the same command again; if it stays, the source itself is damaged: check it with `hubferry verify`"),
            Kind::Io => Some("check that the path exists and that you may use it"),
            _ if self.exit == Exit::Usage => Some("`hubferry --help` shows how commands and addresses are written"),
            Kind::Bug => Some("this is a mistake in hubferry: please report it with the command and this message"),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        let code = |kind| Failure::from(Error::new(kind, "x")).exit as u8;
        assert_eq!(code(Kind::NotFound), 6);
        assert_eq!([Kind::Denied, Kind::Unauthenticated, Kind::Gated].map(code), [5; 3]);
        assert_eq!([Kind::RateLimited, Kind::Unavailable, Kind::Conflict, Kind::Changed].map(code), [7; 4]);
        assert_eq!([Kind::Io, Kind::Invalid, Kind::Unsupported, Kind::Leak, Kind::Bug].map(code), [1; 5]);
        assert_eq!((code(Kind::Corrupt), code(Kind::Interrupted)), (4, 130));
        assert_eq!(Failure::usage(Error::invalid("x")).exit as u8, 2);
    }
}
