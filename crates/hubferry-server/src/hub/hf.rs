//! The Hugging Face face: which request goes where.
//!
//! Paths are taken apart by hand, because file paths and revisions arrive percent-encoded in one segment (`refs%2Fpr%2F1`) and a
//! repository may be addressed with and without its kind. Every answer leaves through `reply::finish`.

mod access;
mod account;
mod attributes;
mod call;
mod commit;
mod info;
mod lfs;
mod listing;
mod preupload;
mod pulls;
mod refs;
mod reply;
mod resolve;
mod tree;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use hubferry_core::address::RepoKind;

use super::body::drain;
use super::{HubState, git, storage};
use access::Target;
use call::{Call, SharedBody};
use reply::Refusal;

/// Every route of the Hugging Face API.
pub fn router(state: HubState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

async fn handle(State(state): State<HubState>, request: Request) -> Response {
    if request.uri().path().starts_with(storage::PREFIX) {
        return storage::handle(&state, request).await;
    }
    if let Some(route) = git::route(git::Face::HuggingFace, &request) {
        return reply::finish(git::handle(&state, route, request).await, false);
    }
    let resolver = request.uri().path().contains("/resolve/");
    let (parts, body) = request.into_parts();
    let body = SharedBody::new(body);
    let answer = match Call::new(state, parts, body.clone()) {
        Ok(call) => dispatch(call).await,
        Err(refusal) => Err(refusal),
    };
    let response = match answer {
        Ok(response) => response,
        Err(refusal) => {
            drain(body.take()).await;
            refusal.respond()
        }
    };
    reply::finish(response, resolver)
}

async fn dispatch(call: Call) -> Result<Response, Refusal> {
    let segments = call.segments.clone();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (call.method.clone(), parts.as_slice()) {
        (Method::GET, ["api", "whoami-v2"]) => account::whoami(&call),
        (Method::POST, ["api", "repos", "create"]) => account::create(call).await,
        (Method::DELETE, ["api", "repos", "delete"]) => account::delete(call).await,
        (Method::POST, ["api", "repos", "move"]) => account::rename(call).await,
        (Method::POST, ["api", "validate-yaml"]) => account::validate_yaml(call).await,
        (Method::POST, ["api", "complete_multipart"]) => lfs::complete(call).await,
        (Method::GET, ["api", kind]) if plural(kind).is_some() => listing::repos(call, plural(kind)).await,
        (_, ["api", kind, owner, name, rest @ ..]) => match plural(kind) {
            Some(kind) => api(call, Target::new(kind, owner, name), rest).await,
            None => Err(Refusal::unknown_route()),
        },
        // A single name would be one of the few legacy repositories, and those cannot exist here.
        (_, ["api", kind, name]) if plural(kind).is_some() => Err(Refusal::no_repository(call.user.is_some(), name)),
        (_, [kind, owner, name, rest @ ..]) if plural(kind).is_some_and(|k| k != RepoKind::Model) => {
            let kind = plural(kind).unwrap_or(RepoKind::Model);
            pages(call, Target::new(kind, owner, name), rest).await
        }
        (_, [owner, name, rest @ ..]) => pages(call, Target::new(RepoKind::Model, owner, name), rest).await,
        _ => Err(Refusal::unknown_route()),
    }
}

fn plural(word: &str) -> Option<RepoKind> {
    RepoKind::ALL.into_iter().find(|kind| kind.plural() == word)
}

/// `/api/{kind}/{owner}/{name}/…`
async fn api(call: Call, target: Target, rest: &[&str]) -> Result<Response, Refusal> {
    match (call.method.clone(), rest) {
        (Method::GET, []) => info::info(call, target, None).await,
        (Method::GET, ["revision", rev]) => info::info(call, target, Some(rev)).await,
        (Method::GET, ["auth-check", rest @ ..]) => account::auth_check(&call, &target, rest).await,
        (Method::PUT, ["settings"]) => account::settings(call, target).await,
        (Method::GET, ["tree", rev, path @ ..]) => tree::list(call, target, rev, &path.join("/")).await,
        (Method::POST, ["paths-info", rev]) => tree::paths_info(call, target, rev).await,
        (Method::GET, ["refs"]) => refs::list(call, target).await,
        (Method::GET, ["commits", rev]) => refs::commits(call, target, rev).await,
        (Method::POST, ["branch", name @ ..]) => refs::create_branch(call, target, &name.join("/")).await,
        (Method::DELETE, ["branch", name @ ..]) => refs::delete_branch(&call, &target, &name.join("/")).await,
        (Method::POST, ["tag", rev]) => refs::create_tag(call, target, rev).await,
        (Method::DELETE, ["tag", name @ ..]) => refs::delete_tag(&call, &target, &name.join("/")).await,
        (Method::GET, ["discussions"]) => pulls::list(call, target).await,
        (Method::POST, ["discussions"]) => pulls::open(call, target).await,
        (Method::GET, ["discussions", num]) => pulls::details(call, target, num).await,
        (Method::POST, ["discussions", num, "status"]) => pulls::set_status(call, target, num).await,
        (Method::POST, ["discussions", num, "merge"]) => pulls::merge(call, target, num).await,
        (Method::POST, ["super-squash", branch]) => refs::squash(call, target, branch).await,
        (Method::POST, ["preupload", rev]) => preupload::preupload(call, target, rev).await,
        (Method::POST, ["commit", rev]) => commit::commit(call, target, rev).await,
        (Method::GET, ["resolve", rev, path @ ..]) => resolve::resolve(call, target, rev, &path.join("/")).await,
        (Method::GET, ["xet-read-token" | "xet-write-token", ..]) => Err(Refusal::no_xet()),
        _ => Err(Refusal::unknown_route()),
    }
}

/// `/{owner}/{name}/…`: downloads and Git LFS.
async fn pages(call: Call, target: Target, rest: &[&str]) -> Result<Response, Refusal> {
    match (call.method.clone(), rest) {
        (Method::GET | Method::HEAD, ["resolve", rev, path @ ..]) => resolve::resolve(call, target, rev, &path.join("/")).await,
        (Method::GET | Method::HEAD, ["raw", rev, path @ ..]) => resolve::raw(call, target, rev, &path.join("/")).await,
        (Method::POST, ["info", "lfs", "objects", "batch"]) => lfs::batch(call, target.without_git()?).await.map_err(Refusal::for_git_lfs),
        (Method::POST, ["info", "lfs", "objects", "verify"]) => {
            lfs::verify(call, target.without_git()?).await.map_err(Refusal::for_git_lfs)
        }
        _ => Err(Refusal::unknown_route()),
    }
}
