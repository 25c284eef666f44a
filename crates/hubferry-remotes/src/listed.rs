//! What a source listed last, so that files are read of what was listed.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::error::Result;
use hubferry_core::manifest::{Manifest, Revision};

/// A listing, with whatever its place keeps beside the manifest.
pub(crate) trait Lists {
    /// What was listed.
    fn manifest(&self) -> &Manifest;
}

/// The last listing of a source.
#[derive(Debug)]
pub(crate) struct Listed<L>(Mutex<Option<Arc<L>>>);

impl<L> Default for Listed<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L: Lists> Listed<L> {
    /// Keeps a fresh listing.
    pub(crate) fn keep(&self, listing: L) -> Arc<L> {
        let listing = Arc::new(listing);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listing));
        listing
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Arc<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The listing of `at`: the last one, else what `list` finds, for a place that has only its present revision. When that is another
    /// one, it is the error.
    pub(crate) async fn at(&self, at: &Revision, list: impl Future<Output = Result<Arc<L>>>) -> Result<Result<Arc<L>, Arc<L>>> {
        if let Some(listing) = self.last().filter(|listing| listing.manifest().revision == *at) {
            return Ok(Ok(listing));
        }
        let listing = list.await?;
        Ok(if listing.manifest().revision == *at { Ok(listing) } else { Err(listing) })
    }
}
