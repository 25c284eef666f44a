//! What each protocol asks for to do its work, as plain numbers, and from them the requests that a plan will take.
//!
//! The numbers say what the remotes beside this file do; how large the pieces are in which a file is read or stored is decided while
//! it travels, so an estimate is one.

use std::collections::HashSet;

use hubferry_core::plan::Plan;
use hubferry_core::remote::Visibility;

use crate::registry::Protocol;

/// A large file is read in pieces, whose size is found by measuring; this many bytes are usual on a long way.
const PIECE: u64 = 16 << 20;
/// A large file is stored in parts, whose size the hub says when it is asked; this many bytes are usual.
const PART: u64 = 64 << 20;

/// What one protocol takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// Requests for a listing before its first page.
    look: u64,
    /// Files on a page of a listing; 0 where a listing is one answer.
    page: u64,
    /// Requests for a link to a large file, before its bytes are asked for.
    link: u64,
    /// Requests to read one piece of a file.
    read: u64,
    /// Files up to this size (bytes) travel inside the commit, as a rule.
    inline: u64,
    /// Small files per question about how they are stored; 0 where nobody is asked.
    per_path_question: u64,
    /// Large files per question about what is missing; 0 where nobody is asked.
    per_blob_question: u64,
    /// Requests to store a large file in one piece.
    store: u64,
    /// Whether a large file is stored in several parts.
    in_parts: bool,
    /// Requests to create a repository.
    create: u64,
    /// Requests around a commit, itself among them.
    commit: u64,
    /// Operations in one commit.
    operations: u64,
}

impl Costs {
    /// A directory: nobody is asked for anything.
    pub const DIRECTORY: Self = Self {
        look: 0,
        page: 0,
        link: 0,
        read: 0,
        inline: 0,
        per_path_question: 0,
        per_blob_question: 0,
        store: 0,
        in_parts: false,
        create: 0,
        commit: 0,
        operations: u64::MAX,
    };

    /// Of a hub that speaks like this.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            // The commit of the branch, then pages of its tree; a link for what is in LFS.
            Protocol::HuggingFace => Self {
                look: 1,
                page: 1000,
                link: 1,
                read: 1,
                inline: 10_000_000,
                per_path_question: 256,
                per_blob_question: 256,
                store: 1,
                in_parts: true,
                create: 3,
                commit: 1,
                operations: 20_000,
            },
            // The facts, the newest commit, then the tree of a model in one answer; what is large comes from a CDN.
            Protocol::ModelScope => Self {
                look: 2,
                page: 0,
                link: 1,
                read: 1,
                inline: 64 << 10,
                per_path_question: 0,
                per_blob_question: 64,
                store: 1,
                in_parts: false,
                create: 3,
                commit: 2,
                operations: 2000,
            },
        }
    }

    /// Requests to list this many files.
    fn list(&self, files: u64) -> u64 {
        if self.look == 0 { 0 } else { self.look + pages(files, self.page).max(1) }
    }
}

/// What a plan moves, as far as requests depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Whether the destination has to be created first.
    pub create: Option<Visibility>,
    /// Files that are listed at the source.
    pub source_files: u64,
    /// Files that are listed at the destination.
    pub destination_files: u64,
}

/// About how many requests it takes to carry out a plan, listing both sides again included.
pub fn requests(job: &Job<'_>, from: &Costs, to: &Costs) -> u64 {
    let listing = from.list(job.source_files) + to.list(job.destination_files);
    if job.plan.is_empty() && job.create.is_none() {
        return listing;
    }
    let mut seen = HashSet::new();
    let blobs: Vec<u64> = job
        .plan
        .puts()
        .filter(|(_, entry)| entry.size > 0 && entry.digests.sha256.is_none_or(|oid| seen.insert(oid)))
        .map(|(_, entry)| entry.size)
        .collect();
    let large = blobs.iter().filter(|size| **size > to.inline).count() as u64;
    let reading: u64 = blobs.iter().map(|size| read(*size, from)).sum();
    let storing: u64 = blobs.iter().map(|size| store(*size, to)).sum();
    let asking = pages(blobs.len() as u64 - large, to.per_path_question) + pages(large, to.per_blob_question);
    let creating = if job.create.is_some() { to.create + to.list(0) } else { 0 };
    let commits = if to.commit == 0 { 0 } else { to.commit * pages(job.plan.steps.len() as u64, to.operations) };
    let after = job.destination_files + job.plan.puts().count() as u64;
    listing + creating + reading + asking + storing + commits + to.list(after)
}

fn read(size: u64, from: &Costs) -> u64 {
    let is_large = size > from.inline;
    from.read * size.div_ceil(PIECE) + if is_large { from.link } else { 0 }
}

fn store(size: u64, to: &Costs) -> u64 {
    let parts = if to.in_parts { size.div_ceil(PART) } else { 1 };
    match (size > to.inline, parts) {
        (false, _) => 0,
        (true, 1) => to.store,
        // The parts, and the word that all are there.
        (true, parts) => to.store * parts + 1,
    }
}

/// Groups of `size` that `count` things make; none where nothing is grouped.
fn pages(count: u64, size: u64) -> u64 {
    if size == 0 { 0 } else { count.div_ceil(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::digest::{Digests, Oid};
    use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
    use hubferry_core::plan::{Policy, plan};
    use hubferry_core::remote::Limits;

    fn made(sizes: &[u64]) -> Plan {
        let file = |(n, size): (usize, &u64)| {
            (RepoPath::new(format!("f{n}")).unwrap(), Entry::new(*size, Digests::sha256(Oid::of(n.to_string().as_bytes()))))
        };
        let source = Manifest::new(Revision::new("r").unwrap(), sizes.iter().enumerate().map(file)).unwrap();
        plan(&source, None, &Limits::unlimited(), Policy::default()).unwrap()
    }

    fn job(plan: &Plan) -> Job<'_> {
        Job { plan, create: None, source_files: plan.steps.len() as u64, destination_files: 0 }
    }

    #[test]
    fn a_plan_without_steps_only_lists_and_directories_ask_nobody() {
        let (hf, ms) = (Costs::of(Protocol::HuggingFace), Costs::of(Protocol::ModelScope));
        let nothing = made(&[]);
        assert_eq!(requests(&job(&nothing), &Costs::DIRECTORY, &Costs::DIRECTORY), 0);
        assert_eq!(requests(&Job { source_files: 2500, ..job(&nothing) }, &hf, &ms), 4 + 3);
        assert_eq!(requests(&job(&made(&[1, 2, 1 << 40])), &Costs::DIRECTORY, &Costs::DIRECTORY), 0);
    }

    #[test]
    fn every_file_piece_and_question_counts() {
        let (hf, ms) = (Costs::of(Protocol::HuggingFace), Costs::of(Protocol::ModelScope));
        let small = made(&vec![10; 300]);
        // Two listings, two questions, one commit, and the listing after it.
        assert_eq!(requests(&job(&small), &Costs::DIRECTORY, &hf), 2 + 2 + 1 + 2);
        assert_eq!(requests(&job(&small), &hf, &Costs::DIRECTORY), 2 + 300);
        let large = made(&[200 << 20]);
        let to_hub = requests(&job(&large), &Costs::DIRECTORY, &hf);
        assert_eq!(to_hub, 2 + 1 + (4 + 1) + 1 + 2, "a question, four parts and their end, a commit");
        assert_eq!(requests(&job(&large), &hf, &ms), 2 + 3 + (1 + 13) + 1 + 1 + 2 + 3);
        let new = Job { create: Some(Visibility::Private), ..job(&large) };
        assert!(requests(&new, &Costs::DIRECTORY, &hf) > to_hub);
    }
}
