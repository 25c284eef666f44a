//! The one error type: what kind of failure, whether trying again can help, where it happened and what to do next.
//!
//! Rules. Public functions return [`Error`]. Whoever adds knowledge adds it with [`Error::context`] or [`Error::hint`] and
//! passes the same error on; nobody wraps one `Error` in another. Retrying asks [`Error::retry`], never a status code.
//! The exit code and the last `hint:` line are chosen by the binary from [`Kind`].

use std::fmt;
use std::time::Duration;

/// The result of everything in hubferry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The repository, revision, file or blob is not there (or is hidden from us).
    NotFound,
    /// We are known, and may not.
    Denied,
    /// No credential, or one the far side does not accept.
    Unauthenticated,
    /// The repository exists and its terms have not been accepted.
    Gated,
    /// Somebody else changed the place in the meantime, or the name is taken.
    Conflict,
    /// Too many requests for now.
    RateLimited,
    /// Bytes that do not have the hash or size they were promised with.
    Corrupt,
    /// The source no longer has the bytes the plan was made on.
    Changed,
    /// The far side, or this build, cannot do that at all.
    Unsupported,
    /// Input that can never work: an address, a path, an answer that breaks the protocol.
    Invalid,
    /// Network trouble or a server that is down for now.
    Unavailable,
    /// Text files hold tokens or keys that would become public.
    Leak,
    /// The local file system refused.
    Io,
    /// The user or a signal stopped the run.
    Interrupted,
    /// A mistake in hubferry.
    Bug,
}

impl Kind {
    /// The name used in `--json` output.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Gated => "gated",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Corrupt => "corrupt",
            Self::Changed => "changed",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Leak => "leak",
            Self::Io => "io",
            Self::Interrupted => "interrupted",
            Self::Bug => "bug",
        }
    }
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never: the answer will be the same.
    No,
    /// Yes, after the usual growing pause.
    Backoff,
    /// Yes, but not before this long: the far side said so.
    After(Duration),
}

/// A failure with its kind, its retry class, where it happened and what to do next. One pointer wide.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    retry: Retry,
    message: String,
    ambiguous: bool,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind` described by `message` (lower case, no final period, no secret). The retry class follows from
    /// the kind: rate limits and unavailability may pass, corruption is worth one more read, the rest is final.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retry = match kind {
            Kind::RateLimited | Kind::Unavailable | Kind::Corrupt => Retry::Backoff,
            _ => Retry::No,
        };
        Self(Box::new(Inner { kind, retry, message: message.into(), ambiguous: false, context: Vec::new(), hint: None, source: None }))
    }

    /// An [`Kind::Invalid`] failure.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A [`Kind::NotFound`] failure.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// A file system failure while doing `what` at `path`.
    pub fn io(what: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let full = matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let error = Self::new(Kind::Io, format!("cannot {what} {}", path.display())).caused_by(source);
        if full { error.hint("free some space there, then run the same command again: what is stored already is kept") } else { error }
    }

    /// Replaces the retry class.
    #[must_use]
    pub fn retry_as(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Marks a failure after which nobody knows whether the request took effect: the answer was lost.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.0.ambiguous = true;
        self
    }

    /// Adds where it happened: `("url", …)`, `("path", …)`, `("status", …)`, `("request_id", …)`. Values must hold no secret.
    /// What is known already is not said twice.
    #[must_use]
    pub fn context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let pair = (key, value.to_string());
        if !self.0.context.contains(&pair) {
            self.0.context.push(pair);
        }
        self
    }

    /// Sets the next step to offer, unless a more specific one is set already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.0.hint.is_none() {
            self.0.hint = Some(hint.into());
        }
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether the request may have taken effect although it failed.
    pub fn is_ambiguous(&self) -> bool {
        self.0.ambiguous
    }

    /// The sentence, without context and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened, in the order it was added.
    pub fn contexts(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The next step to offer.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// A copy that can be reported in several places; the cause becomes part of the message.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut message = self.0.message.clone();
        if let Some(cause) = self.cause_text() {
            message = format!("{message}: {cause}");
        }
        Self(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            message,
            ambiguous: self.0.ambiguous,
            context: self.0.context.clone(),
            hint: self.0.hint.clone(),
            source: None,
        }))
    }

    /// The chain of causes as one text, innermost last, without repetitions.
    pub fn cause_text(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> = self.0.source.as_deref().map(|e| e as _);
        while let Some(error) = next {
            let text = error.to_string();
            if !parts.iter().any(|seen| seen.contains(&text)) {
                parts.push(text);
            }
            next = error.source();
        }
        (!parts.is_empty()).then(|| parts.join(": "))
    }
}

impl fmt::Display for Error {
    /// `message: cause (key value, key value)` on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(cause) = self.cause_text() {
            write!(f, ": {cause}")?;
        }
        for (n, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key} {value}", if n == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}: {self}", self.0.kind, self.0.retry)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_cause_and_place_once() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::new(Kind::Unavailable, "cannot read the listing").caused_by(cause).context("status", 503).context("status", 503);
        assert_eq!(error.to_string(), "cannot read the listing: connection reset (status 503)");
        assert_eq!(error.retry(), Retry::Backoff);
        assert_eq!(error.duplicate().to_string(), error.to_string());
    }

    #[test]
    fn the_first_hint_wins() {
        let error = Error::invalid("x").hint("specific").hint("general");
        assert_eq!(error.hint_text(), Some("specific"));
    }
}
