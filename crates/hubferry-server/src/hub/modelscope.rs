//! The ModelScope face: the routes of `/api/v1` and `/openapi/v1` that the stock clients of both generations use.
//!
//! Its habits, as measured on the real hub: the default branch is called `master` (the store's `main`); reads with an unknown token
//! are anonymous; what a caller may not see does not exist; a listing of a model ends silently at 3000 entries; objects that any
//! repository has need not be uploaded again; deletion routes answer no token.

mod access;
mod actions;
mod commit;
mod download;
mod envelope;
mod face;
mod fields;
mod history;
mod lists;
mod objects;
mod openapi;
mod repos;
mod session;
mod settings;
mod template;
mod tree;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{any, delete, get, post, put};
use serde_json::json;

use super::{HubState, body, git, storage};
use access::Access;
use envelope::{Answer, Data, Refusal};
use face::Face;

/// Every route of the ModelScope API.
pub fn router(state: HubState) -> Router {
    Router::new()
        .merge(legacy())
        .merge(writing())
        .merge(open())
        .route("/{kind}/{owner}/{name}/resolve/{revision}/{*path}", get(download::by_path))
        .route("/-/{*path}", any(stored))
        .fallback(nowhere)
        .method_not_allowed_fallback(nowhere)
        .layer(DefaultBodyLimit::max(body::JSON_LIMIT))
        .layer(axum::middleware::from_fn(envelope::wrap))
        // Git reads no envelopes.
        .layer(axum::middleware::from_fn_with_state(state.clone(), git_first))
        .with_state(Face::new(state))
}

/// `/api/v1`: sessions, repositories, listings, history, downloads.
fn legacy() -> Router<Face> {
    let models = post(repos::create_model).put(lists::models);
    let datasets = post(repos::create_dataset).get(lists::datasets);
    let one = get(repos::info).put(repos::change).delete(refuse_deletion);
    Router::new()
        .route("/api/v1/login", post(session::login))
        .route("/api/v1/models", models.clone())
        .route("/api/v1/models/", models)
        .route("/api/v1/datasets", datasets.clone())
        .route("/api/v1/datasets/", datasets)
        .route("/api/v1/dolphin/models", put(lists::search))
        .route("/api/v1/{kind}/{owner}", one.clone())
        .route("/api/v1/{kind}/{owner}/{name}", one)
        .route("/api/v1/{kind}/{owner}/repo/tree", get(tree::pages))
        .route("/api/v1/{kind}/{owner}/{name}/repo", get(download::by_query).delete(refuse_deletion))
        .route("/api/v1/{kind}/{owner}/{name}/repo/files", get(tree::files))
        .route("/api/v1/{kind}/{owner}/{name}/repo/tree", get(tree::pages))
        .route("/api/v1/{kind}/{owner}/{name}/repo/tag", post(history::create_tag))
        .route("/api/v1/{kind}/{owner}/{name}/file", delete(refuse_deletion))
        .route("/api/v1/{kind}/{owner}/{name}/revisions", get(history::revisions))
        .route("/api/v1/{kind}/{owner}/{name}/commits", get(history::commits))
        .route("/api/v1/{kind}/{owner}/{name}/download/increase", post(counted))
        .route("/api/v1/{kind}/{owner}/{name}/download/uv/{channel}", post(counted))
}

/// `/api/v1/repos`: the write path. Objects and commits stream their bodies and have limits of their own.
fn writing() -> Router<Face> {
    Router::new()
        .route("/api/v1/repos/internalAccelerationInfo", get(no_acceleration))
        .route("/api/v1/repos/{kind}/{owner}/{name}/info/lfs/objects/batch", post(objects::batch))
        .route("/api/v1/repos/{kind}/{owner}/{name}/blobs/{sha256}/{size}", put(objects::upload))
        .route("/api/v1/repos/{kind}/{owner}/{name}/commit/{*branch}", post(commit::commit))
}

/// `/openapi/v1`: what is public, and who one is.
fn open() -> Router<Face> {
    Router::new()
        .route("/openapi/v1/users/me", get(session::whoami))
        .route("/openapi/v1/{kind}", get(openapi::list))
        .route("/openapi/v1/{kind}/{owner}/{name}", get(openapi::detail))
}

/// Git and Git LFS, at the paths of the repositories' pages.
async fn git_first(State(hub): State<HubState>, request: Request, next: Next) -> Response {
    match git::route(git::Face::ModelScope, &request) {
        Some(route) => git::handle(&hub, route, request).await,
        None => next.run(request).await,
    }
}

/// The storage behind the links this face gives out, when it has no origin of its own.
async fn stored(State(face): State<Face>, request: Request) -> Response {
    storage::handle(face.hub(), request).await
}

/// No token deletes anything here; only the web pages of the real hub do.
async fn refuse_deletion() -> Refusal {
    Refusal::deletion()
}

/// Clients report downloads. Nothing is counted, so nothing is kept.
async fn counted(_: Access) -> Answer {
    Ok(Data(json!({})))
}

/// There is no intra-cloud network to take a detour through.
async fn no_acceleration() -> Data {
    Data(json!({"InternalRegionQueryAddress": ""}))
}

/// No such route. Reading below `repos/` is what the real hub's mirrors take for a loop.
async fn nowhere(method: Method, uri: Uri) -> Refusal {
    if method.is_safe() && uri.path().starts_with("/api/v1/repos/") { Refusal::wrong_route() } else { Refusal::no_route() }
}
