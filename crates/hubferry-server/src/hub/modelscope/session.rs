//! Who asks: the session cookie and the bearer token, signing in, and whoami.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::envelope::{Answer, Data, Refusal};
use super::face::Face;
use super::fields::from_json;
use crate::store::Author;
use crate::users::{Role, User};

/// The cookie that holds the token.
const COOKIE: &str = "m_session_id";
/// How long clients keep it: thirty days, as on the real hub.
const COOKIE_LIFE: u32 = 30 * 24 * 3600;

/// Who asks on the legacy surface. A token nobody has counts as none: reads then see what the public sees, writes are refused.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Option<User>);

impl Caller {
    /// The user, for what needs one.
    pub(super) fn known(&self) -> Answer<&User> {
        self.0.as_ref().ok_or_else(Refusal::not_signed_in)
    }
}

impl FromRequestParts<Face> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, Self::Rejection> {
        let users = face.users();
        let user = cookies(&parts.headers).chain(bearer(&parts.headers)).find_map(|token| users.by_token(token));
        Ok(Self(user.cloned()))
    }
}

/// Who asks on the OpenAPI surface, which looks at the bearer token only.
#[derive(Clone, Debug)]
pub(super) struct OpenCaller(pub(super) Option<User>);

impl FromRequestParts<Face> for OpenCaller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, Self::Rejection> {
        Ok(Self(bearer(&parts.headers).and_then(|token| face.users().by_token(token)).cloned()))
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.trim_matches('"'))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    access_token: String,
}

/// `POST /api/v1/login`: turns a token with write rights into the session cookie. A read-only one is refused in the same words as a
/// wrong one; clients then ask whoami which it was.
pub(super) async fn login(State(face): State<Face>, body: Bytes) -> Answer<Response> {
    let login: Login = from_json(&body)?;
    let user = face.users().by_token(login.access_token.trim()).filter(|user| user.role == Role::Write);
    let user = user.ok_or_else(Refusal::bad_login)?;
    // The Git token, which clients put into addresses of Git: the same token is the password there.
    let data = json!({"AccessToken": login.access_token.trim(), "Username": user.name, "Email": email(user)});
    let mut response = Data(data).into_response();
    let cookie = format!("{COOKIE}={}; Path=/; Max-Age={COOKIE_LIFE}; HttpOnly; SameSite=Lax", login.access_token.trim());
    // A token that a header cannot carry is never sent back as a cookie either, so this cannot fail for one that was found.
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Refusal::bad_login())?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// `GET /openapi/v1/users/me`.
pub(super) async fn whoami(OpenCaller(user): OpenCaller) -> Answer {
    let user = user.ok_or_else(Refusal::not_signed_in)?;
    Ok(Data(json!({"username": user.name, "nickname": user.name, "email": email(&user)})))
}

/// Clients want an address: the one that stands in the user's commits.
fn email(user: &User) -> String {
    Author::user(&user.name).mail
}
