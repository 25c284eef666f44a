//! What must never be printed. The remotes keep their tokens to themselves; this is the last door, for a server that sends back
//! what it was told in some corner nobody thought of.

use std::borrow::Cow;
use std::io::Write;
use std::sync::OnceLock;

use hubferry_core::secret::Token;

/// Shorter ones would tear holes into everything that is printed, and are no secrets.
const SHORTEST: usize = 8;

static SECRETS: OnceLock<Vec<String>> = OnceLock::new();

/// Names the tokens of this run. Only the first call counts: configuration is read once.
pub(crate) fn keep<'a>(tokens: impl Iterator<Item = &'a Token>) {
    let long = tokens.map(Token::expose).filter(|token| token.len() >= SHORTEST);
    // As it is, and as JSON writes it.
    let forms = long.flat_map(|token| [token.to_owned(), serde_json::json!(token).to_string().trim_matches('"').to_owned()]);
    let _ = SECRETS.set(forms.collect());
}

/// The text without any token.
pub(crate) fn scrub(text: &str) -> Cow<'_, str> {
    without(SECRETS.get().map_or(&[], Vec::as_slice), text)
}

/// Whether a text that is to be kept holds a token.
pub(crate) fn is_in(text: &str) -> bool {
    matches!(scrub(text), Cow::Owned(_))
}

fn without<'a>(secrets: &[String], text: &'a str) -> Cow<'a, str> {
    let mut clean = Cow::Borrowed(text);
    for secret in secrets {
        if clean.contains(secret.as_str()) {
            clean = Cow::Owned(clean.replace(secret.as_str(), "***"));
        }
    }
    clean
}

/// Standard error for logs: one event is one write.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().lock().write_all(scrub(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_wherever_they_stand() {
        let secrets = ["hf_secret1".to_owned(), "ms-secret2".to_owned()];
        assert_eq!(without(&secrets, "Bearer hf_secret1, /x/ms-secret2?hf_secret1"), "Bearer ***, /x/***?***");
        assert!(matches!(without(&secrets, "nothing"), Cow::Borrowed("nothing")));
    }
}
