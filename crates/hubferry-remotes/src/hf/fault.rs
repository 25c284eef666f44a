//! What the Hub's refusals mean: by `X-Error-Code` and `X-Error-Message` first, by status where a server sends neither.

use std::sync::Arc;

use hubferry_core::error::{Error, Kind};

use crate::http::{Classifier, Refusal, clean};

/// The repository is missing, or hidden from us.
pub(super) const REPO: &str = "RepoNotFound";
/// The repository is there, the revision is not.
pub(super) const REVISION: &str = "RevisionNotFound";
/// The revision is there, the file is not.
pub(super) const ENTRY: &str = "EntryNotFound";
/// The repository is there, its terms have not been accepted.
const GATED: &str = "GatedRepo";

/// What is known about a request when its refusal is read.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// A token went with it.
    pub(super) signed_in: bool,
    /// It is part of writing, which nobody may do without a token.
    pub(super) writes: bool,
    /// `model owner/name`, when it is about a repository.
    pub(super) repo: String,
    /// The page of the repository, or the endpoint.
    pub(super) page: String,
    /// How a token is set here, before the words "a token".
    pub(super) set_token: String,
    /// Where tokens are made.
    pub(super) tokens: String,
}

impl Asked {
    pub(super) fn classifier(self) -> Classifier {
        Arc::new(move |refusal| self.read(refusal))
    }

    fn read(&self, refusal: &Refusal<'_>) -> Option<Error> {
        let code = refusal.header("x-error-code").unwrap_or_default();
        let said = refusal.header("x-error-message").map(|text| clean(text, 300)).or_else(|| refusal.message()).unwrap_or_default();
        let status = refusal.status.as_u16();
        if status == 401 && (self.signed_in || said.contains("Invalid credentials in Authorization header")) {
            return Some(self.bad_token(&said));
        }
        if status == 401 && self.writes {
            return Some(self.needs_token());
        }
        let error = match code {
            REPO => self.no_repo(),
            GATED => self.gated(),
            REVISION => Error::not_found(format!("{} has no such revision{}", self.repo, colon(&said)))
                .hint(format!("its branches and tags are listed at {}/refs", self.page)),
            ENTRY => Error::not_found(format!("{} has no such file{}", self.repo, colon(&said))),
            _ if status == 403 && said == "Access to this resource is disabled." => {
                Error::new(Kind::Denied, format!("{} is disabled by the hub", self.repo))
                    .hint(format!("its page may say why: {}", self.page))
            }
            _ => return self.by_status(status, &said),
        };
        Some(error.context("code", clean(code, 60)))
    }

    fn by_status(&self, status: u16, said: &str) -> Option<Error> {
        match status {
            401 => Some(self.needs_token()),
            403 if self.writes => Some(
                Error::new(Kind::Denied, format!("the token may not write to {}{}", self.repo, colon(said)))
                    .hint(format!("{} a token with write access to it; tokens are made at {}", self.set_token, self.tokens)),
            ),
            403 => Some(
                Error::new(Kind::Denied, format!("access to {} is refused{}", self.repo, colon(said)))
                    .hint(format!("{} a token of somebody who may read it; tokens are made at {}", self.set_token, self.tokens)),
            ),
            404 => Some(Error::not_found(format!("{}: not found{}", self.repo, colon(said)))),
            412 => Some(
                Error::new(Kind::Conflict, format!("somebody else has changed {} in the meantime{}", self.repo, colon(said)))
                    .hint("run the same command again: it plans on the new state, and what is stored already is not sent again"),
            ),
            _ => None,
        }
    }

    fn no_repo(&self) -> Error {
        let error = Error::not_found(format!("{} does not exist, or is private", self.repo));
        if self.signed_in {
            error.hint("check the spelling; if it is private, the owner of the token in use has no access to it")
        } else {
            error.hint(format!("check the spelling; if it is private, {} a token that may read it", self.set_token))
        }
    }

    fn gated(&self) -> Error {
        let error = Error::new(Kind::Gated, format!("{} can be read only by those who accepted its terms", self.repo));
        if self.signed_in {
            error.hint(format!("accept the terms at {}, then run the same command again", self.page))
        } else {
            error.hint(format!("accept the terms at {} and {} a token of the same account", self.page, self.set_token))
        }
    }

    fn bad_token(&self, said: &str) -> Error {
        Error::new(Kind::Unauthenticated, format!("the hub does not accept the token{}", colon(said)))
            .hint(format!("{} a valid token; tokens are made at {}", self.set_token, self.tokens))
    }

    fn needs_token(&self) -> Error {
        let what = if self.writes { "writing to" } else { "reading" };
        Error::new(Kind::Unauthenticated, format!("{what} {} needs a token", self.repo))
            .hint(format!("{} a token; tokens are made at {}", self.set_token, self.tokens))
    }
}

fn colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// Whether `error` carries this code of the Hub.
pub(super) fn has_code(error: &Error, code: &str) -> bool {
    error.contexts().iter().any(|(key, value)| *key == "code" && value == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;
    use reqwest::{Method, StatusCode};

    fn read(signed_in: bool, writes: bool, status: u16, headers: &[(&'static str, &str)]) -> Option<Error> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let set_token = "set HF_TOKEN to".into();
        let asked =
            Asked { set_token, signed_in, writes, repo: "model o/n".into(), page: "https://h/o/n".into(), tokens: "https://h/t".into() };
        let url = "https://h/api".parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        asked.read(&Refusal { method: &Method::GET, url: &url, status, headers: &map, body: "" })
    }

    #[test]
    fn the_table_of_codes() {
        let code = |name| [("x-error-code", name)];
        let said = |text| [("x-error-message", text)];
        let invalid = "Invalid credentials in Authorization header";
        for (signed_in, writes, status, headers, kind, hint) in [
            (false, false, 401, &code("RepoNotFound")[..], Kind::NotFound, "set HF_TOKEN"),
            (true, false, 404, &code("RepoNotFound"), Kind::NotFound, "check the spelling"),
            (true, false, 401, &code("RepoNotFound"), Kind::Unauthenticated, "set HF_TOKEN"),
            (false, true, 401, &code("RepoNotFound"), Kind::Unauthenticated, "set HF_TOKEN"),
            (false, false, 401, &code("GatedRepo"), Kind::Gated, "accept the terms at https://h/o/n and set HF_TOKEN"),
            (true, false, 403, &code("GatedRepo"), Kind::Gated, "accept the terms at https://h/o/n"),
            (true, false, 404, &code("RevisionNotFound"), Kind::NotFound, "https://h/o/n/refs"),
            (true, false, 403, &said("Access to this resource is disabled."), Kind::Denied, "page"),
            (true, false, 401, &said(invalid), Kind::Unauthenticated, "https://h/t"),
            (false, false, 401, &said(invalid), Kind::Unauthenticated, "https://h/t"),
            (false, false, 401, &[], Kind::Unauthenticated, "set HF_TOKEN"),
            (true, true, 403, &[], Kind::Denied, "write access"),
            (true, true, 412, &[], Kind::Conflict, "again"),
        ] {
            let error = read(signed_in, writes, status, headers).unwrap();
            assert_eq!(error.kind(), kind, "{status} {headers:?}");
            assert!(error.hint_text().unwrap().contains(hint), "{error:?} {:?}", error.hint_text());
        }
        let entry = read(false, false, 404, &code("EntryNotFound")).unwrap();
        assert!(entry.kind() == Kind::NotFound && has_code(&entry, ENTRY) && !has_code(&entry, REPO));
        assert!(read(true, true, 429, &[]).is_none(), "the common table knows it");
    }
}
