//! The plan of a copy, made of both listings, and made again when the destination has changed.

use super::beside::{self, Trusted};
use super::sides::Own;
use super::{CopyRequest, decide_rest, keep_excluded, leave_generated, list_head};
use crate::error::Result;
use crate::manifest::{Manifest, RepoPath};
use crate::plan::{self, Plan};
use crate::transfer::Context;

/// A copy that is about to be made.
pub(super) struct Planning<'a> {
    /// What is asked for.
    pub(super) request: &'a CopyRequest,
    /// The source, without generated files that stay as they are.
    pub(super) source: Manifest,
    /// The destination as it was listed last, without what the plan has nothing to do with.
    pub(super) head: Option<Manifest>,
    /// Files that a hub generated and that stay as they are.
    pub(super) generated: Vec<RepoPath>,
    /// Files that are believed unread.
    pub(super) trusted: Trusted,
    /// What the destination had of its own.
    pub(super) own: Own,
    /// Bytes read only to compare.
    pub(super) identified_bytes: u64,
}

impl<'a> Planning<'a> {
    /// Of what both sides have just shown.
    pub(super) fn new(request: &'a CopyRequest, source: Manifest, head: Option<Manifest>) -> Self {
        Self { request, source, head, generated: Vec::new(), trusted: Trusted::new(), own: Own::default(), identified_bytes: 0 }
    }

    /// The plan for what the destination shows now.
    pub(super) async fn again(&mut self, context: &Context) -> Result<Plan> {
        self.head = list_head(&self.request.ends.to, context).await?;
        self.plan(context).await
    }

    /// The plan for what was listed.
    pub(super) async fn plan(&mut self, context: &Context) -> Result<Plan> {
        let Self { request, source, head, .. } = self;
        keep_excluded(request, source, head.as_mut());
        self.own.note(head.as_ref());
        // What was found before is no longer in the listing of the source.
        if let Some(head) = head {
            head.entries.retain(|path, _| !self.generated.contains(path));
        }
        self.generated.extend(leave_generated(request, source, head.as_mut(), context).await?);
        self.trusted = beside::trust(request, source, head.as_mut()).await?;
        self.identified_bytes += decide_rest(&request.ends, source, head.as_mut(), &self.trusted, context).await?;
        plan::plan_trusting(source, head.as_ref(), &request.ends.to.limits(), request.policy, &self.trusted)
    }
}
