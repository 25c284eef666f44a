//! What has to go from a cache so that it fits: pure. Where things lie, what protects them and how they are removed is the cache's business.

use std::time::SystemTime;

#[cfg(test)]
mod tests;

/// What a cache holds. Everything that occupies room is a file here, a folder and a link as well, and is counted once, however many names it has.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// Bytes that each file occupies, by index.
    pub files: Vec<u64>,
    /// Files that no removal touches.
    pub fixed: Vec<usize>,
    /// Every repository.
    pub repos: Vec<RepoStock>,
    /// Every blob.
    pub blobs: Vec<BlobStock>,
}

/// One repository of a cache.
#[derive(Clone, Debug, Default)]
pub struct RepoStock {
    /// Files that go with its last revision, when nothing of it has to stay.
    pub files: Vec<usize>,
    /// Somebody works there: it stays, whatever else goes.
    pub busy: bool,
    /// Its revisions.
    pub revisions: Vec<RevisionStock>,
}

/// One revision of a repository in a cache.
#[derive(Clone, Debug)]
pub struct RevisionStock {
    /// When it was last of use.
    pub used: SystemTime,
    /// Whether a branch or tag names it.
    pub named: bool,
    /// Whether it has to stay in any case: pinned, or being worked with.
    pub kept: bool,
    /// Files of its own.
    pub files: Vec<usize>,
    /// Blobs it needs, each once.
    pub blobs: Vec<usize>,
}

/// Bytes that revisions share.
#[derive(Clone, Debug)]
pub struct BlobStock {
    /// The repository it lies in; `None` for what all of them share.
    pub repo: Option<usize>,
    /// What it consists of.
    pub files: Vec<usize>,
    /// The blob that it is only a link to: that one stays as long as this one.
    pub leads_to: Option<usize>,
    /// When it was stored or last read.
    pub used: SystemTime,
    /// Somebody writes it, or may be about to name it.
    pub kept: bool,
}

/// What has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// So much may stay: what was not used for longest goes first, and no more than it takes.
    pub max_size: Option<u64>,
    /// What was not used since then goes.
    pub unused_since: Option<SystemTime>,
    /// What no branch or tag names goes.
    pub unnamed: bool,
    /// What a branch or tag names may go as well, if another rule wants it; the name goes with it.
    pub named_too: bool,
}

/// Why something goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No branch or tag names it.
    Unnamed,
    /// It was not used for too long.
    Old,
    /// There has to be room, and everything else that may go was used later.
    Room,
    /// It was asked for.
    Asked,
}

/// A revision by the indexes of its repository and of itself there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RevisionAt {
    /// The repository.
    pub repo: usize,
    /// Which of its revisions.
    pub revision: usize,
}

/// What goes, and what that brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// Revisions, in the order in which they were chosen.
    pub revisions: Vec<(RevisionAt, Reason)>,
    /// Blobs that nothing needs any more, in ascending order.
    pub blobs: Vec<usize>,
    /// Repositories of which nothing stays, in ascending order.
    pub repos: Vec<usize>,
    /// Bytes that everything occupied.
    pub before: u64,
    /// Bytes that what stays occupies.
    pub after: u64,
}

impl Removal {
    /// Bytes that come free.
    pub fn freed(&self) -> u64 {
        self.before - self.after
    }

    /// Bytes that come free with each of its revisions, in their order: what several share comes free with the last of them. What comes
    /// free beyond their sum are blobs and repositories that no revision needed.
    pub fn shares(&self, stock: &Stock) -> Vec<u64> {
        let mut state = State::new(stock);
        let share = |(at, _): &(RevisionAt, Reason)| {
            let before = state.bytes;
            state.remove(*at);
            before - state.bytes
        };
        self.revisions.iter().map(share).collect()
    }

    /// Whether what stays fits into `max_size`.
    pub fn fits(&self, max_size: u64) -> bool {
        self.after <= max_size
    }
}

/// Chooses what goes.
pub fn choose(stock: &Stock, rules: &Rules) -> Removal {
    let mut state = State::new(stock);
    let before = state.bytes;
    let mut chosen: Vec<(RevisionAt, Reason)> = Vec::new();
    let mut candidates = candidates(stock, rules);
    let old = |used: SystemTime| rules.unused_since.is_some_and(|since| used < since);
    candidates.retain(|&at| {
        let revision = stock.revision(at);
        let reason = if rules.unnamed && !revision.named {
            Reason::Unnamed
        } else if old(revision.used) {
            Reason::Old
        } else {
            return true;
        };
        state.remove(at);
        chosen.push((at, reason));
        false
    });
    let is_over = |state: &State| rules.max_size.is_some_and(|most| state.bytes > most);
    let over = is_over(&state);
    if rules.unnamed || over {
        state.drop_orphans(|_| true);
        state.settle_empty();
    } else {
        state.drop_orphans(|blob| old(blob.used));
    }
    let mut for_room = Vec::new();
    for at in candidates {
        if !is_over(&state) {
            break;
        }
        state.remove(at);
        for_room.push(at);
    }
    // Some of them brought little, and what came after them brought enough: what was used last comes back first.
    let mut gone = Vec::new();
    for at in for_room.into_iter().rev() {
        state.restore(at);
        if is_over(&state) {
            state.remove(at);
            gone.push((at, Reason::Room));
        }
    }
    chosen.extend(gone.into_iter().rev());
    Removal { revisions: chosen, blobs: state.gone_blobs(), repos: state.gone_repos(), before, after: state.bytes }
}

/// The removal of exactly these revisions and of these repositories that have none, and of what nothing needs any more after them.
pub fn remove(stock: &Stock, revisions: &[RevisionAt], empty: &[usize]) -> Removal {
    let mut state = State::new(stock);
    let before = state.bytes;
    for &at in revisions {
        state.remove(at);
    }
    for &repo in empty {
        state.settle(repo);
    }
    let chosen = revisions.iter().map(|&at| (at, Reason::Asked)).collect();
    Removal { revisions: chosen, blobs: state.gone_blobs(), repos: state.gone_repos(), before, after: state.bytes }
}

/// What may go, least recently used first.
fn candidates(stock: &Stock, rules: &Rules) -> Vec<RevisionAt> {
    let mut candidates: Vec<RevisionAt> = stock
        .revisions()
        .filter(|&at| {
            let revision = stock.revision(at);
            !revision.kept && (rules.named_too || !revision.named)
        })
        .collect();
    candidates.sort_by_key(|&at| (stock.revision(at).used, at));
    candidates
}

impl Stock {
    /// Every revision.
    pub fn revisions(&self) -> impl Iterator<Item = RevisionAt> {
        self.repos
            .iter()
            .enumerate()
            .flat_map(|(repo, stock)| (0..stock.revisions.len()).map(move |revision| RevisionAt { repo, revision }))
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// When it is of another stock.
    pub fn revision(&self, at: RevisionAt) -> &RevisionStock {
        &self.repos[at.repo].revisions[at.revision]
    }

    /// Bytes that everything occupies.
    pub fn bytes(&self) -> u64 {
        State::new(self).bytes
    }
}

/// What is still there while it is chosen.
struct State<'a> {
    stock: &'a Stock,
    /// How many holders each file has.
    holders: Vec<usize>,
    /// How many revisions need each blob.
    needed: Vec<usize>,
    blobs: Vec<bool>,
    repos: Vec<bool>,
    /// How many revisions each repository has.
    left: Vec<usize>,
    /// By repository: the blobs that lie there.
    inside: Vec<Vec<usize>>,
    bytes: u64,
}

impl<'a> State<'a> {
    fn new(stock: &'a Stock) -> Self {
        let mut state = Self {
            stock,
            holders: vec![0; stock.files.len()],
            needed: vec![0; stock.blobs.len()],
            blobs: vec![true; stock.blobs.len()],
            repos: vec![true; stock.repos.len()],
            left: stock.repos.iter().map(|repo| repo.revisions.len()).collect(),
            inside: vec![Vec::new(); stock.repos.len()],
            bytes: 0,
        };
        for (index, blob) in stock.blobs.iter().enumerate() {
            if let Some(repo) = blob.repo {
                state.inside[repo].push(index);
            }
        }
        let revisions = stock.repos.iter().flat_map(|repo| &repo.revisions);
        let files = stock.fixed.iter().chain(stock.repos.iter().flat_map(|repo| &repo.files));
        let files =
            files.chain(stock.blobs.iter().flat_map(|blob| &blob.files)).chain(revisions.clone().flat_map(|revision| &revision.files));
        state.hold(files);
        let led_to = stock.blobs.iter().filter_map(|blob| blob.leads_to.as_ref());
        for &blob in revisions.flat_map(|revision| &revision.blobs).chain(led_to) {
            state.needed[blob] += 1;
        }
        state
    }

    fn hold<'f>(&mut self, files: impl IntoIterator<Item = &'f usize>) {
        for &file in files {
            if self.holders[file] == 0 {
                self.bytes += self.stock.files[file];
            }
            self.holders[file] += 1;
        }
    }

    fn release<'f>(&mut self, files: impl IntoIterator<Item = &'f usize>) {
        for &file in files {
            self.holders[file] -= 1;
            if self.holders[file] == 0 {
                self.bytes -= self.stock.files[file];
            }
        }
    }

    fn drop_blob(&mut self, index: usize) {
        let blob = &self.stock.blobs[index];
        if self.blobs[index] && self.needed[index] == 0 && !blob.kept {
            self.blobs[index] = false;
            self.release(&blob.files);
            if let Some(next) = blob.leads_to {
                self.needed[next] -= 1;
                self.drop_blob(next);
            }
        }
    }

    fn bring_blob(&mut self, index: usize) {
        if !self.blobs[index] {
            self.blobs[index] = true;
            let stock = self.stock;
            self.hold(&stock.blobs[index].files);
            if let Some(next) = stock.blobs[index].leads_to {
                self.needed[next] += 1;
                self.bring_blob(next);
            }
        }
    }

    /// A repository goes when it has no revision and nothing that has to stay; what nothing needs in it goes with it.
    fn settle(&mut self, repo: usize) {
        let stock = &self.stock.repos[repo];
        if !self.repos[repo] || self.left[repo] > 0 {
            return;
        }
        for at in 0..self.inside[repo].len() {
            self.drop_blob(self.inside[repo][at]);
        }
        if !stock.busy && self.inside[repo].iter().all(|&blob| !self.blobs[blob]) {
            self.repos[repo] = false;
            self.release(&stock.files);
        }
    }

    fn remove(&mut self, at: RevisionAt) {
        let revision = self.stock.revision(at);
        self.release(&revision.files);
        for &blob in &revision.blobs {
            self.needed[blob] -= 1;
            self.drop_blob(blob);
        }
        self.left[at.repo] -= 1;
        self.settle(at.repo);
    }

    /// Takes back the removal of a revision.
    fn restore(&mut self, at: RevisionAt) {
        let stock = self.stock;
        let revision = stock.revision(at);
        self.hold(&revision.files);
        for &blob in &revision.blobs {
            self.needed[blob] += 1;
            self.bring_blob(blob);
        }
        self.left[at.repo] += 1;
        if !self.repos[at.repo] {
            self.repos[at.repo] = true;
            self.hold(&stock.repos[at.repo].files);
        }
    }

    /// Removes blobs that no revision needs.
    fn drop_orphans(&mut self, goes: impl Fn(&BlobStock) -> bool) {
        let stock = self.stock;
        for (index, blob) in stock.blobs.iter().enumerate() {
            if goes(blob) {
                self.drop_blob(index);
            }
        }
    }

    /// Removes repositories that have no revision.
    fn settle_empty(&mut self) {
        for repo in 0..self.repos.len() {
            self.settle(repo);
        }
    }

    fn gone_blobs(&self) -> Vec<usize> {
        (0..self.blobs.len()).filter(|&index| !self.blobs[index]).collect()
    }

    fn gone_repos(&self) -> Vec<usize> {
        (0..self.repos.len()).filter(|&index| !self.repos[index]).collect()
    }
}
