//! Who may read and write by Git, refusals that Git shows, and request bodies.

use std::io::Read;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use hubferry_core::address::RepoId;
use hubferry_core::error::{Error, Kind, Result as CoreResult};

use super::super::HubState;
use super::super::body::{BodyFault, JSON_LIMIT, collect};
use super::super::credentials::given_token;
use super::Route;
use crate::store::{Repo, blocking};
use crate::users::User;

/// Asks for a user name and a token; Git and Git LFS send them as a password.
pub(super) const CHALLENGE: &str = "Basic realm=\"hubferry\", charset=\"UTF-8\"";

/// A request that is not done, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Git LFS only reads here.
    pub(super) fn no_uploads() -> Self {
        let way = "upload with `hubferry copy`, or with the hub's own client (huggingface_hub, modelscope)";
        Self::new(StatusCode::FORBIDDEN, format!("this hub does not take files by Git: {way}"))
    }

    /// The protocol from before 2010 reads files of the server.
    pub(super) fn dumb() -> Self {
        Self::new(StatusCode::FORBIDDEN, "this hub speaks Git's smart HTTP protocol only; use a newer Git")
    }

    /// The answer. Git shows plain text only.
    pub(super) fn respond(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.message)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

impl From<Error> for Refusal {
    /// What happened inside goes to the log only: it may name paths of this machine.
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid | Kind::Unsupported | Kind::Unavailable => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            _ => {
                tracing::error!(%error, "a request of Git failed");
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
            }
        };
        Self::new(status, error.message().to_owned())
    }
}

/// The repository of a request, if its sender may read the files in it. Whoever shows no token is asked for one, also where there is
/// no such repository: otherwise the question would tell which private ones there are.
pub(super) async fn open(hub: &HubState, route: &Route, headers: &HeaderMap) -> Result<Repo, Refusal> {
    enter(hub, route, headers).await.map(|(repo, _)| repo)
}

/// The repository of a request, if its sender may write to it.
pub(super) async fn open_to_write(hub: &HubState, route: &Route, headers: &HeaderMap) -> Result<Repo, Refusal> {
    let (repo, user) = enter(hub, route, headers).await?;
    match hub.users().check_write(user, &repo.owner) {
        Ok(()) => Ok(repo),
        Err(error) if error.kind() == Kind::Unauthenticated && !hub.users().is_empty() => {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "writing needs a token: give a user name, and a token of this hub as the password"))
        }
        Err(error) => Err(Refusal::new(StatusCode::FORBIDDEN, error.message())),
    }
}

async fn enter<'a>(hub: &'a HubState, route: &Route, headers: &HeaderMap) -> Result<(Repo, Option<&'a User>), Refusal> {
    let users = hub.users();
    let user = match headers.get(AUTHORIZATION) {
        None => None,
        Some(value) => {
            let token = value.to_str().ok().and_then(given_token);
            let user = token.and_then(|token| users.by_token(&token));
            Some(
                user.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "the token is wrong: give a token of this hub as the password"))?,
            )
        }
    };
    // Where nobody has a token, asking for one leads nowhere.
    let ask = user.is_none() && !users.is_empty();
    let hidden = || {
        if ask {
            Refusal::new(StatusCode::UNAUTHORIZED, "give a user name, and a token of this hub as the password")
        } else {
            Refusal::new(StatusCode::NOT_FOUND, "there is no such repository, or you may not see it")
        }
    };
    let id = RepoId::new(Some(&route.owner), &route.name).map_err(|_| hidden())?;
    let repo = hub.store().find_repo(route.kind, &id).await?.ok_or_else(hidden)?.repo;
    if !users.may_see(user, &repo) {
        return Err(hidden());
    }
    if !users.may_pass_gate(user, &repo) {
        let status = if ask { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        return Err(Refusal::new(status, "this repository is gated: its owner has to let you in first"));
    }
    Ok((repo, user))
}

/// The whole body; Git compresses what is longer than a kilobyte.
pub(super) async fn read_body(body: Body, encoding: Option<&[u8]>) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request has more than {JSON_LIMIT} bytes"));
    let body = collect(body, JSON_LIMIT).await.map_err(|fault| match fault {
        BodyFault::TooLarge(_) => too_large(),
        BodyFault::Broken(error) => error.into(),
    })?;
    match encoding {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip" | b"x-gzip") => blocking(move || unzip(&body)).await?.ok_or_else(too_large),
        Some(_) => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the only content encoding is gzip")),
    }
}

/// `None` when more comes out than a body may have.
fn unzip(body: &[u8]) -> CoreResult<Option<Bytes>> {
    let mut plain = Vec::new();
    let most = JSON_LIMIT as u64;
    let unzipped = MultiGzDecoder::new(body).take(most + 1).read_to_end(&mut plain);
    unzipped.map_err(|e| Error::invalid("the request is not what its content encoding says").caused_by(e))?;
    Ok(Some(Bytes::from(plain)).filter(|plain| plain.len() <= JSON_LIMIT))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn bodies_are_unpacked_within_limits() {
        let read = async |body: Vec<u8>, encoding: Option<&'static [u8]>| read_body(Body::from(body), encoding).await.map_err(|r| r.status);
        assert_eq!(read(b"0000".to_vec(), None).await.unwrap(), "0000");
        assert_eq!(read(zip(b"0000"), Some(b"gzip")).await.unwrap(), "0000");
        assert_eq!(read(zip(&vec![0; JSON_LIMIT]), Some(b"gzip")).await.unwrap().len(), JSON_LIMIT);
        assert_eq!(read(zip(&vec![0; JSON_LIMIT + 1]), Some(b"gzip")).await.unwrap_err(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(vec![0; JSON_LIMIT + 1], None).await.unwrap_err(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(b"plain".to_vec(), Some(b"gzip")).await.unwrap_err(), StatusCode::BAD_REQUEST);
        assert_eq!(read(zip(b"0000")[..12].to_vec(), Some(b"gzip")).await.unwrap_err(), StatusCode::BAD_REQUEST);
        assert_eq!(read(b"x".to_vec(), Some(b"br")).await.unwrap_err(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
