//! Credentials and the one origin each of them belongs to.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hubferry_core::error::{Error, Result};
use hubferry_core::secret::Token;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

/// Scheme, host and port: the boundary no credential crosses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a URL; `Invalid` for anything but `http` and `https` with a host.
    pub fn of(url: &Url) -> Result<Self> {
        match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            (scheme @ ("http" | "https"), Some(host), Some(port)) if !host.is_empty() => {
                Ok(Self { scheme: scheme.to_owned(), host: host.to_ascii_lowercase(), port })
            }
            _ => Err(Error::invalid("only http:// and https:// URLs with a host are followed").context("scheme", url.scheme())),
        }
    }

    /// Whether `url` lies in this origin.
    pub fn holds(&self, url: &Url) -> bool {
        Self::of(url).is_ok_and(|other| other == *self)
    }

    /// Whether what travels there is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Headers that prove who we are, and the only origin that may see them.
#[derive(Clone)]
pub struct Credential {
    origin: Origin,
    headers: Vec<(HeaderName, HeaderValue)>,
    secrets: Vec<Token>,
}

impl Credential {
    /// A credential for the origin of `url` that proves nothing yet.
    pub fn new(url: &Url) -> Result<Self> {
        Ok(Self { origin: Origin::of(url)?, headers: Vec::new(), secrets: Vec::new() })
    }

    /// Adds `Authorization: Bearer …`.
    pub fn bearer(self, token: &Token) -> Result<Self> {
        self.with(AUTHORIZATION, &format!("Bearer {}", token.expose()), token)
    }

    /// Adds `Cookie: name=…`.
    pub fn cookie(self, name: &str, token: &Token) -> Result<Self> {
        if token.expose().contains(';') {
            return Err(unusable());
        }
        self.with(COOKIE, &format!("{name}={}", token.expose()), token)
    }

    /// Adds `Authorization: Basic …`: what Git and Git LFS send.
    pub fn basic(self, user: &str, token: &Token) -> Result<Self> {
        let coded = STANDARD.encode(format!("{user}:{}", token.expose()));
        let mut credential = self.with(AUTHORIZATION, &format!("Basic {coded}"), token)?;
        credential.secrets.extend(Token::new(&coded));
        Ok(credential)
    }

    fn with(mut self, name: HeaderName, value: &str, token: &Token) -> Result<Self> {
        let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        self.secrets.push(token.clone());
        Ok(self)
    }

    /// The origin it belongs to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Puts the headers on a request, if it goes to the right origin.
    pub(super) fn attach(&self, url: &Url, headers: &mut HeaderMap) {
        if self.origin.holds(url) {
            for (name, value) in &self.headers {
                headers.insert(name.clone(), value.clone());
            }
        }
    }

    /// Removes its own secrets from a text that a server sent back.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"))
    }
}

fn unusable() -> Error {
    Error::invalid("the token has characters that cannot be sent").hint("copy the token again: it is one line of visible ASCII characters")
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential for {}", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn only_its_own_origin_gets_it() {
        let token = Token::new("hf_secret").unwrap();
        let credential = Credential::new(&url("https://hub.example")).unwrap().bearer(&token).unwrap().cookie("sid", &token).unwrap();
        let sent = |to: &str| {
            let mut headers = HeaderMap::new();
            credential.attach(&url(to), &mut headers);
            headers.len()
        };
        assert_eq!(sent("https://HUB.example:443/api?x"), 2);
        for other in [
            "http://hub.example/",
            "https://hub.example:8443/",
            "https://hub.example.evil/",
            "https://a.hub.example/",
            "ftp://hub.example/",
        ] {
            assert_eq!(sent(other), 0, "{other}");
        }
        assert!(!format!("{credential:?}").contains("secret"));
        assert_eq!(credential.redact("bad token hf_secret"), "bad token ***");
    }

    #[test]
    fn what_git_is_told_is_not_repeated_in_either_form() {
        let token = Token::new("hf_secret").unwrap();
        let credential = Credential::new(&url("https://hub.example")).unwrap().basic("user", &token).unwrap();
        let mut headers = HeaderMap::new();
        credential.attach(&url("https://hub.example/o/n.git"), &mut headers);
        assert_eq!(headers["authorization"], "Basic dXNlcjpoZl9zZWNyZXQ=");
        assert_eq!(credential.redact("hf_secret, Basic dXNlcjpoZl9zZWNyZXQ="), "***, Basic ***");
    }

    #[test]
    fn unsendable_tokens_and_urls_are_refused() {
        let base = Credential::new(&url("http://h")).unwrap();
        assert!(base.clone().bearer(&Token::new("a\nb").unwrap()).is_err());
        assert!(base.cookie("sid", &Token::new("a; b=c").unwrap()).is_err());
        assert!(Origin::of(&url("file:///etc/passwd")).is_err());
        assert!(Origin::of(&url("data:text/plain,x")).is_err());
    }
}
