//! What every remote is tested with: a reference remote in memory, a decorator that fails on purpose, and the conformance suite.
//! Behind the feature `testing`, for the tests of this crate and of whoever writes a remote.

pub mod conformance;
pub mod faults;
pub mod memory;
pub mod partial;

use std::sync::Arc;

use crate::events::Silent;
use crate::transfer::Context;
use crate::transfer::retry::RetryPolicy;

/// A context that reports nothing and does not pause.
pub fn quick_context() -> Context {
    let mut context = Context::new(Arc::new(Silent));
    context.retry = RetryPolicy::quick();
    context.idle = std::time::Duration::from_millis(300);
    context
}
