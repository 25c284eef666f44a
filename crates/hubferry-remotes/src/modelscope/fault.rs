//! What refusals mean: by route, status and code together, because one code means different things on different routes.

use hubferry_core::error::{Error, Kind, Retry};
use serde_json::Value;

use crate::http::clean;

/// Which call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Repository facts.
    Info,
    /// Branches, tags, history.
    History,
    /// Files of a revision.
    List,
    /// A file's bytes.
    Read,
    /// A new repository.
    Create,
    /// Which objects are stored.
    Batch,
    /// An object's bytes.
    Blob,
    /// A commit.
    Commit,
    /// A new tag.
    Tag,
    /// Who we are.
    Whoami,
    /// A session.
    Login,
    /// The end of a repository.
    Delete,
}

impl Route {
    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Batch | Self::Blob | Self::Commit | Self::Delete | Self::Tag)
    }
}

/// "Branch changed" on a commit, "not logged in" on a blob.
const BRANCH_CHANGED_OR_NOT_LOGGED_IN: i64 = 10_030_000_001;
const BAD_TOKEN: i64 = 10_010_103_009;
/// Model and dataset names that are taken, on either site.
const TAKEN: [i64; 3] = [10_010_101_001, 10_020_101_001, 10_010_202_004];
const NO_RECORD: i64 = 10_010_205_001;
const NO_FILE: i64 = 10_990_101_007;

/// What a body says about a failure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Said {
    pub(super) code: Option<i64>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

impl Said {
    /// Reads either envelope; numbers may be written as text.
    pub(super) fn of(body: &Value) -> Self {
        let field = |names: [&str; 3]| names.iter().find_map(|name| body.get(*name)).filter(|value| !value.is_null());
        let text = |value: &Value| value.as_str().map(|text| clean(text, 300)).filter(|text| !text.is_empty());
        Self {
            code: field(["Code", "code", "StatusCode"]).and_then(integer),
            message: field(["Message", "message", "msg"]).and_then(text),
            request_id: field(["RequestId", "request_id", "requestId"]).and_then(text),
        }
    }

    /// Whether an answer with status 200 is a failure all the same.
    pub(super) fn is_failure(&self, body: &Value) -> bool {
        let success = body.get("Success").or_else(|| body.get("success")).and_then(Value::as_bool);
        success == Some(false) || (success.is_none() && self.code.is_some_and(|code| code != 200 && code != 0)) || {
            // A success that carries an error code contradicts itself: it is not believed.
            success == Some(true) && self.code.is_some_and(|code| code != 200 && code != 0)
        }
    }
}

/// A whole number, also as text.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Whether a creation was refused because the name is taken.
pub(super) fn is_taken(said: &Said) -> bool {
    said.code.is_some_and(|code| TAKEN.contains(&code))
}

/// The error of a refusal, where this hub means something else than the status says anywhere; `None` leaves it to the status.
pub(super) fn fault(route: Route, status: u16, said: &Said) -> Option<Error> {
    let error =
        |kind: Kind, what: &str| Error::new(kind, said.message.as_ref().map_or_else(|| what.to_owned(), |m| format!("{what}: {m}")));
    Some(match (route, status, said.code) {
        // Seen with 400 and with 401: "the current token no longer supports deletion operations".
        (Route::Delete, 400 | 401 | 403, _) => error(Kind::Unsupported, "ModelScope lets no token delete a repository"),
        (Route::Delete, 404, _) => error(Kind::NotFound, "no such repository"),
        (Route::Create, ..) if is_taken(said) => error(Kind::Conflict, "the name is taken")
            .hint("the repository exists and this token may not see it: take another name, or a token of its owner"),
        (Route::Commit, 409, _) | (Route::Commit, _, Some(BRANCH_CHANGED_OR_NOT_LOGGED_IN)) => {
            // The hub says so for concurrent commits and for bursts; the same commit may well succeed in a moment.
            error(Kind::Conflict, "ModelScope does not take the commit now").retry_as(Retry::Backoff)
        }
        (_, 401, _) | (_, _, Some(BAD_TOKEN)) | (Route::Blob, _, Some(BRANCH_CHANGED_OR_NOT_LOGGED_IN)) => {
            error(Kind::Unauthenticated, "ModelScope does not accept the token").hint(TOKEN_HINT)
        }
        (route, 403, _) if route.writes() => error(Kind::Denied, "ModelScope refuses to write")
            .hint("the token needs write rights, and its owner must be allowed to write to that namespace"),
        (_, 403, _) => error(Kind::Denied, "ModelScope refuses access"),
        (Route::Commit, 422, _) => error(Kind::Invalid, "ModelScope finds the commit too large"),
        (Route::Read, 404, _) | (Route::Read, _, Some(NO_FILE)) => error(Kind::NotFound, "no such file in that revision"),
        (Route::Info, 404, _) | (Route::Info, _, Some(NO_RECORD)) => error(Kind::NotFound, "no such repository"),
        _ => return None,
    })
}

/// The next step when a token is missing or wrong.
pub(super) const TOKEN_HINT: &str = "set MODELSCOPE_API_TOKEN to an access token of that site, from its page /my/myaccesstoken";

/// The error of a failure that came with status 200.
pub(super) fn fault_in_success(route: Route, said: &Said) -> Error {
    let status = said.code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)).unwrap_or(200);
    fault(route, status, said).unwrap_or_else(|| {
        let kind = match (status, route) {
            (_, Route::Whoami) => Kind::Unauthenticated,
            (404, _) => Kind::NotFound,
            (409, _) => Kind::Conflict,
            (429, _) => Kind::RateLimited,
            // A blob that was not taken is sent again whole: nothing is lost by that.
            (500.., _) | (_, Route::Blob) => Kind::Unavailable,
            _ => Kind::Invalid,
        };
        let code = said.code.map_or_else(String::new, |code| format!(" with code {code}"));
        let message = said.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
        Error::new(kind, format!("ModelScope refused{code}{message}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_code_means_different_things() {
        let said = Said::of(&json!({"Code": "10030000001", "Message": "branch changed, please retry"}));
        let commit = fault(Route::Commit, 400, &said).unwrap();
        assert_eq!((commit.kind(), commit.retry()), (Kind::Conflict, Retry::Backoff));
        let blob = fault(Route::Blob, 400, &said).unwrap();
        assert_eq!((blob.kind(), blob.retry()), (Kind::Unauthenticated, Retry::No));
        assert!(fault(Route::List, 400, &said).is_none());
    }

    #[test]
    fn a_failure_may_come_as_a_success() {
        for (body, failed) in [
            (json!({"Code": 200, "Success": true, "Data": {}}), false),
            (json!({"Code": "200"}), false),
            (json!({"Data": {}}), false),
            (json!({"Code": 404, "Message": "x"}), true),
            (json!({"Success": false}), true),
            (json!({"Code": 10_990_101_007_i64, "Success": true}), true),
            (json!({"success": false, "code": "InvalidAuthentication"}), true),
        ] {
            assert_eq!(Said::of(&body).is_failure(&body), failed, "{body}");
        }
        let kind = |route, body: Value| fault_in_success(route, &Said::of(&body)).kind();
        assert_eq!(kind(Route::Read, json!({"Code": 10_990_101_007_i64})), Kind::NotFound);
        assert_eq!(kind(Route::Blob, json!({"Success": false})), Kind::Unavailable);
        assert_eq!(kind(Route::Commit, json!({"Success": false})), Kind::Invalid);
        assert_eq!(kind(Route::List, json!({"Code": 429})), Kind::RateLimited);
    }
}
