//! How clients show their token.

use base64::Engine as _;

/// The token in an `Authorization` header: a bearer token, or the password that Git and Git LFS send, whatever the user name.
pub fn given_token(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_bearer_or_as_password() {
        assert_eq!(given_token("Bearer hf_x").as_deref(), Some("hf_x"));
        assert_eq!(given_token("bearer  hf_x ").as_deref(), Some("hf_x"));
        assert_eq!(given_token("Basic dXNlcjpoZl94").as_deref(), Some("hf_x"));
        for bad in ["hf_x", "Basic %%%", "Digest x", ""] {
            assert_eq!(given_token(bad), None, "{bad}");
        }
    }
}
