//! Git and Git LFS, the same on both faces: which requests are theirs, who may send them, and which answer they get.
//!
//! Smart HTTP in the versions 0, 1 and 2. Commits, trees and ids are those of the store; tags are names of commits, never objects of
//! their own. A push may create, move and delete branches and tags at commits that are there; one that brings commits is refused in words
//! that Git shows.

mod access;
mod advertise;
mod fetch;
mod graph;
pub mod lfs;
mod pack;
mod pkt;
mod receive;
mod request;
mod sending;
mod walk;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use hubferry_core::address::RepoKind;
use percent_encoding::percent_decode_str;

use super::HubState;
use super::body::drain;
use crate::store::{BRANCHES, Repo, swap_default_branch};
use access::Refusal;
use request::{Command, Fetch};

/// Which hub a client takes this one for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// `/owner/name`, `/datasets/owner/name`, `/spaces/owner/name`; the default branch is `main`.
    HuggingFace,
    /// `/owner/name.git`, `/models/…`, `/datasets/…`; the default branch is `master`.
    ModelScope,
}

impl Face {
    /// The kinds of repositories that stand in front of `owner/name` here.
    fn kind(self, segment: &str) -> Option<RepoKind> {
        let kind = RepoKind::ALL.into_iter().find(|kind| kind.plural() == segment)?;
        let named = match self {
            Self::HuggingFace => kind != RepoKind::Model,
            Self::ModelScope => kind != RepoKind::Space,
        };
        named.then_some(kind)
    }

    /// What this face calls a ref of the store, and the store a ref of this face.
    fn name(self, full: &str) -> String {
        match full.strip_prefix(BRANCHES) {
            Some(branch) if self == Self::ModelScope => format!("{BRANCHES}{}", swap_default_branch(branch)),
            _ => full.to_owned(),
        }
    }
}

/// What a request wants of Git.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    /// `GET …/info/refs`: what is there.
    Refs,
    /// `POST …/git-upload-pack`: reading.
    UploadPack,
    /// `POST …/git-receive-pack`: pushing.
    ReceivePack,
    /// `POST ….git/info/lfs/objects/batch`: where LFS objects are.
    Lfs,
}

/// A request that is for Git: which service of which repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    face: Face,
    service: Service,
    kind: RepoKind,
    owner: String,
    name: String,
}

/// The Git service a request is for; `None` when it is for something else. Git LFS has a route of its own on the Hugging Face face,
/// where it takes uploads too.
pub fn route(face: Face, request: &Request) -> Option<Route> {
    find_route(face, request.method(), request.uri().path())
}

fn find_route(face: Face, method: &Method, path: &str) -> Option<Route> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (service, repo) = match (method, segments.as_slice()) {
        (&Method::GET, [repo @ .., "info", "refs"]) => (Service::Refs, repo),
        (&Method::POST, [repo @ .., "git-upload-pack"]) => (Service::UploadPack, repo),
        (&Method::POST, [repo @ .., "git-receive-pack"]) => (Service::ReceivePack, repo),
        (&Method::POST, [repo @ .., "info", "lfs", "objects", "batch"]) if face == Face::ModelScope => (Service::Lfs, repo),
        _ => return None,
    };
    let (kind, owner, name) = match repo {
        [owner, name] => (RepoKind::Model, owner, name),
        [kind, owner, name] => (face.kind(kind)?, owner, name),
        _ => return None,
    };
    let plain = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(String::from);
    let name = plain(name)?;
    // A repository cannot be called `….git`, so this can only be Git's habit.
    let name = name.strip_suffix(".git").unwrap_or(&name).to_owned();
    Some(Route { face, service, kind, owner: plain(owner)?, name })
}

/// Answers a request of Git.
pub async fn handle(hub: &HubState, route: Route, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let service = parts.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("service=")));
    let refusal = match (route.service, service) {
        (Service::Lfs, _) => return lfs::batch(hub, &route, &parts.headers, body).await,
        (Service::UploadPack, _) => return upload_pack(hub, &route, &parts.headers, body).await,
        (Service::Refs, Some("git-upload-pack")) => return refs(hub, &route, &parts.headers).await.unwrap_or_else(Refusal::respond),
        (Service::ReceivePack, _) => return receive_pack(hub, &route, &parts.headers, body).await,
        (Service::Refs, Some("git-receive-pack")) => {
            return refs_to_write(hub, &route, &parts.headers).await.unwrap_or_else(Refusal::respond);
        }
        (Service::Refs, _) => Refusal::dumb(),
    };
    drain(body).await;
    refusal.respond()
}

/// What stands in front of the refs, and since version 2 in place of them.
async fn refs(hub: &HubState, route: &Route, headers: &HeaderMap) -> Result<Response, Refusal> {
    let repo = access::open(hub, route, headers).await?;
    let version = Version::of(headers);
    let text = match version {
        Version::Two => advertise::capabilities(),
        Version::Zero | Version::One => advertise::refs(hub.store(), &repo, route.face, version == Version::One).await?,
    };
    Ok(reply("application/x-git-upload-pack-advertisement", Body::from(text)))
}

/// What stands in front of a push.
async fn refs_to_write(hub: &HubState, route: &Route, headers: &HeaderMap) -> Result<Response, Refusal> {
    let repo = access::open_to_write(hub, route, headers).await?;
    let text = advertise::refs_to_write(hub.store(), &repo, route.face, Version::of(headers) == Version::One).await?;
    Ok(reply("application/x-git-receive-pack-advertisement", Body::from(text)))
}

/// The repository of a request and its whole body. Where it is refused the body is read away first, so that Git hears the answer.
async fn take(opened: Result<Repo, Refusal>, headers: &HeaderMap, body: Body) -> Result<(Repo, Bytes), Refusal> {
    match opened {
        Ok(repo) => Ok((repo, access::read_body(body, headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes)).await?)),
        Err(refusal) => {
            drain(body).await;
            Err(refusal)
        }
    }
}

async fn receive_pack(hub: &HubState, route: &Route, headers: &HeaderMap, body: Body) -> Response {
    let (repo, body) = match take(access::open_to_write(hub, route, headers).await, headers, body).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal.respond(),
    };
    match receive::answer(hub.store(), &repo, route.face, &body).await {
        Ok(report) => reply("application/x-git-receive-pack-result", Body::from(report)),
        Err(error) => Refusal::from(error).respond(),
    }
}

async fn upload_pack(hub: &HubState, route: &Route, headers: &HeaderMap, body: Body) -> Response {
    let (repo, body) = match take(access::open(hub, route, headers).await, headers, body).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal.respond(),
    };
    let answer = match Version::of(headers) {
        Version::Two => match Command::parse(&body) {
            Ok(Command::Refs(query)) => advertise::list(hub.store(), &repo, route.face, &query).await.map(Body::from),
            Ok(Command::Fetch(wanted)) => fetch::answer(hub, &repo, route.face, wanted).await,
            Ok(Command::Nothing) => Ok(Body::empty()),
            Err(error) => Err(error),
        },
        Version::Zero | Version::One => match Fetch::parse(&body) {
            Ok(Some(wanted)) => fetch::answer_old(hub, &repo, route.face, wanted).await,
            Ok(None) => Ok(Body::empty()),
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(body) => reply("application/x-git-upload-pack-result", body),
        Err(error) => Refusal::from(error).respond(),
    }
}

/// The version of the protocol a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    Zero,
    One,
    Two,
}

impl Version {
    /// The `Git-Protocol` header is a list of `key=value`, separated by colons. What is not known counts as 0, as in Git.
    fn of(headers: &HeaderMap) -> Self {
        let keys = headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or("");
        let has = |key| keys.split(':').any(|pair| pair == key);
        match (has("version=2"), has("version=1")) {
            (true, _) => Self::Two,
            (_, true) => Self::One,
            _ => Self::Zero,
        }
    }
}

fn reply(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(face: Face, method: &Method, path: &str) -> Option<(RepoKind, String)> {
        find_route(face, method, path).map(|route| (route.kind, format!("{}/{}", route.owner, route.name)))
    }

    #[test]
    fn repositories_have_the_paths_of_their_hub() {
        let get = Method::GET;
        for (face, path, kind, id) in [
            (Face::HuggingFace, "/org/m/info/refs", RepoKind::Model, "org/m"),
            (Face::HuggingFace, "/org/m.git/info/refs", RepoKind::Model, "org/m"),
            (Face::HuggingFace, "/datasets/org/d/info/refs", RepoKind::Dataset, "org/d"),
            (Face::HuggingFace, "/spaces/org/s.git/info/refs", RepoKind::Space, "org/s"),
            (Face::ModelScope, "/org/m.git/info/refs", RepoKind::Model, "org/m"),
            (Face::ModelScope, "/models/org/m.git/info/refs", RepoKind::Model, "org/m"),
            (Face::ModelScope, "/datasets/org/d.git/info/refs", RepoKind::Dataset, "org/d"),
        ] {
            assert_eq!(found(face, &get, path), Some((kind, id.to_owned())), "{path}");
        }
        for (face, method, path) in [
            (Face::HuggingFace, &get, "/org/m/resolve/main/info/refs"),
            (Face::HuggingFace, &get, "/m/info/refs"),
            (Face::HuggingFace, &Method::POST, "/org/m/info/refs"),
            (Face::HuggingFace, &Method::POST, "/org/m.git/info/lfs/objects/batch"),
            (Face::ModelScope, &get, "/spaces/org/m/info/refs"),
            (Face::ModelScope, &Method::POST, "/api/v1/repos/models/org/m/info/lfs/objects/batch"),
            (Face::ModelScope, &get, "/org/%ff/info/refs"),
        ] {
            assert_eq!(found(face, method, path), None, "{path}");
        }
    }

    #[test]
    fn the_default_branch_has_the_name_of_its_hub() {
        assert_eq!(Face::ModelScope.name("refs/heads/main"), "refs/heads/master");
        assert_eq!(Face::ModelScope.name("refs/heads/master"), "refs/heads/main");
        assert_eq!(Face::ModelScope.name("refs/tags/main"), "refs/tags/main");
        assert_eq!(Face::HuggingFace.name("refs/heads/main"), "refs/heads/main");
    }

    #[test]
    fn the_version_stands_among_other_keys() {
        let version =
            |text: &'static str| Version::of(&[("git-protocol".parse().unwrap(), HeaderValue::from_static(text))].into_iter().collect());
        assert_eq!(version("version=2"), Version::Two);
        assert_eq!(version("extra=1:version=1"), Version::One);
        assert_eq!(version("version=20"), Version::Zero);
        assert_eq!(Version::of(&HeaderMap::new()), Version::Zero);
    }
}
