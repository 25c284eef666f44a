//! Users, their tokens, and who may do what.
//!
//! A namespace that is the name of a user belongs to that user. Every other namespace is shared, like an organisation all users
//! are members of: each user with the write role may create and change repositories there, and every user may read its private
//! ones. Without any configured user everybody may read what is public and nobody may write.

use hmac::{Hmac, KeyInit, Mac};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::Visibility;
use hubferry_core::secret::Token;
use sha2::Sha256;

use crate::store::Repo;

/// What a user may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Read, also what is private to them.
    Read,
    /// Read and write.
    Write,
}

impl Role {
    /// The word both hubs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Somebody with a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The name, which is also a namespace.
    pub name: String,
    /// What proves it.
    pub token: Token,
    /// What it may do.
    pub role: Role,
}

impl User {
    /// Reads `NAME:TOKEN` or `NAME:TOKEN:read`.
    pub fn parse(text: &str) -> Result<Self> {
        let usage = || Error::invalid("a user is written NAME:TOKEN, or NAME:TOKEN:read");
        let (name, rest) = text.split_once(':').ok_or_else(usage)?;
        let (token, role) = match rest.rsplit_once(':') {
            Some((token, "read")) => (token, Role::Read),
            Some((token, "write")) => (token, Role::Write),
            _ => (rest, Role::Write),
        };
        hubferry_core::address::RepoId::new(None, name).map_err(|_| usage())?;
        let visible = token.bytes().all(|b| b.is_ascii_graphic());
        let token = Token::new(token).filter(|_| visible).ok_or_else(usage)?;
        Ok(Self { name: name.to_owned(), token, role })
    }
}

/// Everybody who is known.
#[derive(Clone, Debug, Default)]
pub struct Users(Vec<User>);

impl Users {
    /// Takes the configured users; names and tokens must be different.
    pub fn new(users: Vec<User>) -> Result<Self> {
        for (n, user) in users.iter().enumerate() {
            if users[..n].iter().any(|other| other.name.eq_ignore_ascii_case(&user.name)) {
                return Err(Error::invalid(format!("the user {} is given twice", user.name)));
            }
            if users[..n].iter().any(|other| other.token == user.token) {
                return Err(Error::invalid(format!("the user {} has the token of another user", user.name)));
            }
        }
        Ok(Self(users))
    }

    /// Whether nobody is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The user with this token. Takes the same time whoever it is, and however much of a token is right.
    pub fn by_token(&self, token: &str) -> Option<&User> {
        self.0.iter().fold(None, |found, user| if same(token.as_bytes(), user.token.expose().as_bytes()) { Some(user) } else { found })
    }

    fn is_user(&self, namespace: &str) -> bool {
        self.0.iter().any(|user| user.name.eq_ignore_ascii_case(namespace))
    }

    fn is_member(&self, user: &User, namespace: &str) -> bool {
        user.name.eq_ignore_ascii_case(namespace) || !self.is_user(namespace)
    }

    /// Whether a repository may be seen at all. Who may not see it must not learn that it exists.
    pub fn may_see(&self, user: Option<&User>, repo: &Repo) -> bool {
        match repo.visibility {
            Visibility::Public => true,
            Visibility::Internal => user.is_some(),
            _ => user.is_some_and(|user| self.is_member(user, &repo.owner)),
        }
    }

    /// Whether the files of a repository that may be seen can be read although it is gated.
    pub fn may_pass_gate(&self, user: Option<&User>, repo: &Repo) -> bool {
        repo.gated == crate::store::Gated::No || user.is_some_and(|user| self.is_member(user, &repo.owner))
    }

    /// Fails unless this user may write in this namespace: `Unauthenticated` without a user, else `Denied` with the reason.
    pub fn check_write(&self, user: Option<&User>, namespace: &str) -> Result<()> {
        let Some(user) = user else {
            let error = Error::new(Kind::Unauthenticated, "writing needs a token");
            let open = "this hub was started without users, so it is read only; start it with --user NAME:TOKEN";
            return Err(if self.is_empty() { error.hint(open) } else { error });
        };
        if user.role != Role::Write {
            return Err(Error::new(Kind::Denied, format!("the token of {} may only read", user.name)));
        }
        if !self.is_member(user, namespace) {
            return Err(Error::new(Kind::Denied, format!("{} may not write to the namespace of {namespace}", user.name)));
        }
        Ok(())
    }
}

/// Compares without telling by its time where a difference is: both sides are keyed hashes of equal length by then.
fn same(a: &[u8], b: &[u8]) -> bool {
    let tag = |bytes: &[u8]| {
        let mut mac = Hmac::<Sha256>::new(&[0; 64].into());
        mac.update(bytes);
        mac
    };
    tag(a).verify_slice(&tag(b).finalize().into_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users::new(["alice:a-token", "bob:b-token", "carol:c-token:read"].iter().map(|u| User::parse(u).unwrap()).collect()).unwrap()
    }

    #[test]
    fn tokens_name_their_user() {
        let users = users();
        assert_eq!(users.by_token("b-token").unwrap().name, "bob");
        assert_eq!(users.by_token("c-token").unwrap().role, Role::Read);
        for wrong in ["", "b-toke", "b-token2", "c-token:read"] {
            assert!(users.by_token(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn names_and_tokens_are_unique() {
        let parse = |texts: &[&str]| Users::new(texts.iter().map(|u| User::parse(u).unwrap()).collect());
        assert!(parse(&["a:1", "A:2"]).is_err());
        assert!(parse(&["a:1", "b:1"]).is_err());
        for bad in ["a", "a:", ":t", "a b:t", "a:t u"] {
            assert!(User::parse(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", User::parse("a:secret").unwrap()).contains("secret"));
    }

    #[test]
    fn writing_needs_a_role_and_a_namespace() {
        let users = users();
        let (alice, carol) = (users.by_token("a-token"), users.by_token("c-token"));
        assert!(users.check_write(alice, "alice").is_ok());
        assert!(users.check_write(alice, "some-org").is_ok());
        assert_eq!(users.check_write(alice, "Bob").unwrap_err().kind(), Kind::Denied);
        assert_eq!(users.check_write(carol, "carol").unwrap_err().kind(), Kind::Denied);
        assert_eq!(users.check_write(None, "some-org").unwrap_err().kind(), Kind::Unauthenticated);
        assert!(Users::default().check_write(None, "x").unwrap_err().hint_text().is_some());
    }
}
