//! The hash of one file: bytes come in any order and are hashed in order, on a thread of their own while more arrive.
//!
//! What comes early waits here, in memory that is counted. States are kept at marks, so that a part can be continued by another
//! run and a repair need not hash the whole again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::memory::Share;
use crate::digest::{Digests, GitHasher, Prefix};
use crate::error::{Error, Kind, Result};
use crate::leaks::Scanner;

/// A file up to this size is hashed where its bytes arrive: it takes less than waking a thread.
const AT_ONCE: u64 = 256 << 10;

/// Bytes that may wait for a busy hash before those who bring more have to wait as well.
const BACKLOG: usize = 2 << 20;

/// Bytes with the share of the memory budget that they occupy, if they had to have one.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) share: Option<Arc<Share>>,
}

impl Piece {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Without its first `count` bytes.
    fn skip(mut self, count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.bytes.len());
        let _ = self.bytes.split_to(count);
        self
    }
}

/// The hash of everything before an offset.
#[derive(Clone)]
pub(super) struct State {
    pub(super) prefix: Prefix,
    git: Option<GitHasher>,
}

impl State {
    /// Of nothing; `git` is the size of the file if its Git id is wanted too.
    pub(super) fn new(git: Option<u64>) -> Self {
        Self { prefix: Prefix::default(), git: git.map(GitHasher::new) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.prefix.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    fn digests(&self) -> Digests {
        Digests { sha256: Some(self.prefix.oid()), git: self.git.clone().map(GitHasher::finish) }
    }
}

/// The line that bytes stand in before they are hashed.
pub(super) struct Line {
    size: u64,
    expected: Digests,
    inner: Mutex<Inner>,
    /// Something was hashed or handed over.
    moved: Notify,
}

struct Inner {
    /// Everything before this was handed to the hash.
    next: u64,
    /// Handed over and not hashed yet.
    ready: VecDeque<Piece>,
    ready_bytes: usize,
    /// Came early, by offset.
    ahead: BTreeMap<u64, Piece>,
    /// Absent while a thread works on it.
    state: Option<State>,
    /// Sees what the hash sees; absent with it, and where nothing is looked for.
    scanner: Option<Scanner>,
    /// Offsets whose state is kept once the hash gets there.
    marks: BTreeMap<u64, Option<State>>,
    digests: Option<Digests>,
}

impl Line {
    /// A file of `size` bytes that must have the digests `expected`, as far as they are known.
    pub(super) fn new(size: u64, expected: Digests, git: bool) -> Self {
        Self::from_state(size, expected, State::new(git.then_some(size)))
    }

    /// Goes on from a state in the middle of the file.
    pub(super) fn from_state(size: u64, expected: Digests, state: State) -> Self {
        let next = state.prefix.at();
        let digests = (next == size).then(|| state.digests());
        let inner = Inner {
            next,
            ready: VecDeque::new(),
            ready_bytes: 0,
            ahead: BTreeMap::new(),
            marks: BTreeMap::from([(next, Some(state.clone()))]),
            state: Some(state),
            scanner: None,
            digests,
        };
        Self { size, expected, inner: Mutex::new(inner), moved: Notify::new() }
    }

    /// The same; what passes is looked through as well.
    pub(super) fn scanned(self, scanner: Option<Scanner>) -> Self {
        self.lock().scanner = scanner;
        self
    }

    /// The scanner, if it has seen the whole file.
    pub(super) fn take_scanner(&self) -> Option<Scanner> {
        let mut inner = self.lock();
        if inner.digests.is_some() { inner.scanner.take() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything before this offset was handed to the hash.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Resolves when the line has moved since it was called.
    pub(super) fn moved(&self) -> tokio::sync::futures::Notified<'_> {
        self.moved.notified()
    }

    /// Keeps the state at `at` from when the hash gets there.
    pub(super) fn mark(&self, at: u64) {
        let mut inner = self.lock();
        let here = inner.state.as_ref().filter(|state| state.prefix.at() == at).cloned();
        inner.marks.entry(at).or_insert(here);
    }

    /// The state at exactly `at`, if it was marked and the hash has passed it.
    pub(super) fn state_at(&self, at: u64) -> Option<State> {
        self.lock().marks.get(&at).cloned().flatten()
    }

    /// The furthest kept state at or before `at`.
    pub(super) fn state_before(&self, at: u64) -> Option<State> {
        self.lock().marks.range(..=at).rev().find_map(|(_, state)| state.clone())
    }

    /// Starts at a prefix that was hashed before. Only a line that nothing was handed to can; says whether it did.
    pub(super) fn resume(&self, prefix: &Prefix) -> bool {
        let mut inner = self.lock();
        let fresh = inner.next == 0 && inner.ahead.is_empty() && inner.state.as_ref().is_some_and(|state| state.git.is_none());
        if !fresh || prefix.at() > self.size {
            return false;
        }
        let state = State { prefix: prefix.clone(), git: None };
        inner.next = prefix.at();
        inner.digests = (prefix.at() == self.size).then(|| state.digests());
        inner.marks.insert(prefix.at(), Some(state.clone()));
        inner.state = Some(state);
        // It would miss what stands before; the file is read once more for it.
        inner.scanner = None;
        true
    }

    /// Hands over the bytes at `at`; what was handed over before is left out. Waits while the hash is behind. True once the line
    /// has every byte of the file.
    pub(super) async fn feed(self: &Arc<Self>, at: u64, piece: Piece) -> bool {
        loop {
            let moved = self.moved();
            {
                let mut inner = self.lock();
                if at > inner.next || inner.ready_bytes < BACKLOG {
                    inner.accept(at, piece);
                    let whole = inner.next == self.size;
                    self.start(inner);
                    return whole;
                }
            }
            moved.await;
        }
    }

    /// Lets the hash run if it rests and there is something to do.
    fn start(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if inner.ready.is_empty() {
            return;
        }
        let Some(state) = inner.state.take() else { return };
        let scanner = inner.scanner.take();
        if self.size <= AT_ONCE {
            self.hash(inner, state, scanner);
        } else {
            drop(inner);
            let line = self.clone();
            tokio::task::spawn_blocking(move || line.hash(line.lock(), state, scanner));
        }
        self.moved.notify_waiters();
    }

    /// Hashes until nothing is ready any more, then lays the state down.
    fn hash<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, mut state: State, mut scanner: Option<Scanner>) {
        while !inner.ready.is_empty() {
            let pieces = std::mem::take(&mut inner.ready);
            let marks: Vec<u64> = inner.marks.range(state.prefix.at()..).filter(|(_, kept)| kept.is_none()).map(|(at, _)| *at).collect();
            drop(inner);
            let (mut bytes, mut kept) = (0, Vec::new());
            let mut marks = marks.into_iter().peekable();
            for piece in pieces {
                bytes += piece.bytes.len();
                if let Some(scanner) = &mut scanner {
                    scanner.update(&piece.bytes);
                }
                let mut rest = &piece.bytes[..];
                while let Some(mark) = marks.next_if(|mark| *mark <= state.prefix.at() + rest.len() as u64) {
                    let (before, after) = rest.split_at(usize::try_from(mark - state.prefix.at()).unwrap_or_default());
                    state.update(before);
                    kept.push((mark, state.clone()));
                    rest = after;
                }
                state.update(rest);
            }
            inner = self.lock();
            inner.ready_bytes -= bytes;
            inner.marks.extend(kept.into_iter().map(|(at, state)| (at, Some(state))));
            if state.prefix.at() == self.size {
                inner.digests = Some(state.digests());
                inner.scanner = scanner.take();
            }
            self.moved.notify_waiters();
        }
        inner.state = Some(state);
        if scanner.is_some() {
            inner.scanner = scanner;
        }
    }

    /// Waits for the hash of the whole and compares it with what was promised.
    pub(super) async fn verdict(&self) -> Result<Digests> {
        loop {
            let moved = self.moved();
            if let Some(found) = self.digests() {
                return self.judge(found);
            }
            moved.await;
        }
    }

    /// The digests of the whole, right or wrong, once it was hashed.
    fn digests(&self) -> Option<Digests> {
        self.lock().digests
    }

    /// The digests of the whole, if it was hashed and is what was promised.
    pub(super) fn verified(&self) -> Option<Digests> {
        self.digests().filter(|found| self.judge(*found).is_ok())
    }

    fn judge(&self, found: Digests) -> Result<Digests> {
        let differs = |want: Option<String>, got: Option<String>| want.zip(got).filter(|(want, got)| want != got);
        let text = |digests: &Digests| (digests.sha256.map(|oid| oid.to_string()), digests.git.map(|git| git.to_string()));
        let ((want_sha256, want_git), (got_sha256, got_git)) = (text(&self.expected), text(&found));
        match differs(want_sha256, got_sha256).or_else(|| differs(want_git, got_git)) {
            None => Ok(found),
            Some((want, got)) => Err(Error::new(Kind::Corrupt, "the bytes that arrived do not have the hash that the source publishes")
                .context("expected", want)
                .context("got", got)),
        }
    }
}

impl Inner {
    fn accept(&mut self, at: u64, piece: Piece) {
        if at > self.next {
            let known = self.ahead.get(&at).is_some_and(|known| known.len() >= piece.len());
            if !known {
                self.ahead.insert(at, piece);
            }
            return;
        }
        self.hand_over(at, piece);
        while let Some(early) = self.ahead.first_entry().filter(|early| *early.key() <= self.next) {
            let (at, piece) = early.remove_entry();
            self.hand_over(at, piece);
        }
    }

    /// Takes what of a piece begins at or before `next` and is new.
    fn hand_over(&mut self, at: u64, piece: Piece) {
        let Range { start, end } = at..at + piece.len();
        if end > self.next {
            let piece = piece.skip(self.next - start);
            self.next = end;
            self.ready_bytes += piece.bytes.len();
            self.ready.push_back(piece);
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("size", &self.size).field("next", &self.next()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Oid;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect()
    }

    fn piece(bytes: &[u8]) -> Piece {
        Piece { bytes: Bytes::copy_from_slice(bytes), share: None }
    }

    #[tokio::test]
    async fn any_order_gives_one_hash() {
        for size in [10, 100_000, 3_000_000] {
            let content = content(size);
            let line = Arc::new(Line::new(size as u64, Digests::of(&content), true));
            line.mark(size as u64 / 2);
            let step = size / 7 + 1;
            let mut starts: Vec<usize> = (0..size).step_by(step).collect();
            fastrand::shuffle(&mut starts);
            let mut whole = false;
            for start in starts {
                // Overlaps and repetitions change nothing.
                let begin = start.saturating_sub(3);
                whole = line.feed(begin as u64, piece(&content[begin..size.min(start + step)])).await;
            }
            assert!(whole);
            assert_eq!(line.verdict().await.unwrap(), Digests::of(&content));
            assert_eq!(line.state_at(size as u64 / 2).unwrap().prefix.oid(), Oid::of(&content[..size / 2]));
        }
    }

    #[tokio::test]
    async fn a_line_goes_on_from_a_prefix() {
        let content = content(1_000_000);
        let mut prefix = Prefix::default();
        prefix.update(&content[..400_000]);
        let line = Arc::new(Line::new(1_000_000, Digests::sha256(Oid::of(&content)), false));
        assert!(line.resume(&prefix));
        assert!(line.feed(400_000, piece(&content[400_000..])).await);
        line.verdict().await.unwrap();
        assert!(!line.resume(&prefix), "too late");
    }

    #[tokio::test]
    async fn other_bytes_are_corrupt() {
        let line = Arc::new(Line::new(3, Digests::of(b"abc"), true));
        assert!(line.feed(0, piece(b"abd")).await);
        assert_eq!(line.verdict().await.unwrap_err().kind(), Kind::Corrupt);
        assert!(line.verified().is_none());
        let empty = Arc::new(Line::new(0, Digests::of(b""), true));
        empty.verdict().await.unwrap();
    }
}
