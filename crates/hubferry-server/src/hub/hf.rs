//! The Hugging Face face.

use axum::Router;

use super::HubState;

/// Every route of the Hugging Face API.
pub fn router(state: HubState) -> Router {
    Router::new().with_state(state)
}
