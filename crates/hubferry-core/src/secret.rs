//! A credential that cannot print itself.

use std::fmt;

/// A secret string. `Debug` and `Display` show `***`; it is never serialised. Only the code that puts it into a header calls
/// [`Token::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// Takes a token as the user or a file gave it; surrounding blanks and line ends are dropped, and an empty value is none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let token = Token::new(" hf_secret\r\n").unwrap();
        assert_eq!(token.expose(), "hf_secret");
        assert_eq!(format!("{token} {token:?} {:?}", Some(&token)), "*** *** Some(***)");
        assert!(Token::new(" \n").is_none());
    }
}
