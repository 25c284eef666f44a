//! The ModelScope face.

use axum::Router;

use super::HubState;

/// Every route of the ModelScope API.
pub fn router(state: HubState) -> Router {
    Router::new().with_state(state)
}
