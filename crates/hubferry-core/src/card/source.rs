//! A repository as another hub wants it: its README.md with the licence in that hub's words, everything else as it is.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{Change, FILE, Refusal, for_hub};
use crate::digest::{Digests, GitOid, Oid};
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Reporter};
use crate::license::Vocabulary;
use crate::manifest::{Entry, Manifest, RepoPath, Revision};
use crate::refs::{self, PastCommit, Ref, RefList, Refs};
use crate::remote::{ByteStream, Extent, RepoInfo, Source, check_range};

/// A longer one is left alone.
const LONGEST: u64 = 4 << 20;

/// A source whose card is put into the words of another hub while it is read. The edited file has hashes of its own, so that the
/// same copy made again finds nothing to do.
pub struct CardSource {
    inner: Arc<dyn Source>,
    to: Vocabulary,
    reporter: Arc<dyn Reporter>,
    edited: Mutex<Option<EditedCard>>,
    /// What was changed in the cards of any revision, each once.
    told: Arc<Mutex<Vec<Change>>>,
}

/// A card that had to change.
#[derive(Clone)]
struct EditedCard {
    at: Revision,
    /// As the place has it.
    before: Entry,
    bytes: Bytes,
    changes: Vec<Change>,
}

impl CardSource {
    /// Reads `inner` for a hub with this vocabulary. `reporter` hears why a card was left as it is.
    pub fn new(inner: Arc<dyn Source>, to: Vocabulary, reporter: Arc<dyn Reporter>) -> Self {
        Self { inner, to, reporter, edited: Mutex::default(), told: Arc::default() }
    }

    /// What was changed in the card that was listed last; empty before the first listing.
    pub fn changes(&self) -> Vec<Change> {
        self.edited().as_ref().map(|edited| edited.changes.clone()).unwrap_or_default()
    }

    /// The card that was listed last as its place has it, with all its digests; `None` unless it was changed.
    pub fn original(&self) -> Option<Entry> {
        self.edited().as_ref().map(|edited| edited.before)
    }

    /// What was changed in the cards of this and of every other revision that was opened from here, each once.
    pub fn all_changes(&self) -> Vec<Change> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn edited(&self) -> MutexGuard<'_, Option<EditedCard>> {
        self.edited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole card as the place has it, checked against the hash that it publishes.
    async fn card(&self, at: &Revision, path: &RepoPath, entry: &Entry) -> Result<Bytes> {
        let mut stream = self.inner.read(at, path, 0..entry.size).await?;
        let mut all = BytesMut::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        let found = digests(&all);
        if all.len() as u64 != entry.size || entry.digests.agree(&found) == Some(false) {
            let error = Error::new(Kind::Corrupt, "the card is not what the listing says").context("file", path);
            return Err(error.retry_as(crate::error::Retry::Backoff));
        }
        Ok(all.freeze())
    }
}

fn digests(bytes: &[u8]) -> Digests {
    Digests { sha256: Some(Oid::of(bytes)), git: Some(GitOid::of(bytes)) }
}

#[async_trait]
impl Source for CardSource {
    async fn info(&self) -> Result<RepoInfo> {
        self.inner.info().await
    }

    async fn manifest(&self) -> Result<Manifest> {
        let mut manifest = self.inner.manifest().await?;
        let path = RepoPath::new(FILE)?;
        let mut edited = None;
        if let Some(entry) = manifest.entries.get_mut(&path).filter(|entry| entry.size > 0 && entry.size <= LONGEST && !entry.lfs) {
            let before = self.card(&manifest.revision, &path, entry).await?;
            match for_hub(&before, self.to) {
                Ok(card) if card.changes.is_empty() => {}
                Ok(card) => {
                    let bytes = Bytes::from(card.bytes.into_owned());
                    *entry = Entry::new(bytes.len() as u64, digests(&bytes));
                    let original = Entry::new(before.len() as u64, digests(&before));
                    edited = Some(EditedCard { at: manifest.revision.clone(), before: original, bytes, changes: card.changes });
                }
                Err(Refusal::NoFrontMatter) => {}
                Err(refusal) => self.reporter.event(&Event::Note(format!("{path} is copied as it is: {refusal}"))),
            }
        }
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            for change in edited.iter().flat_map(|edited| &edited.changes) {
                if !told.contains(change) {
                    told.push(change.clone());
                }
            }
        }
        *self.edited() = edited;
        Ok(manifest)
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let edited = self.edited().clone().filter(|edited| edited.at == *at && path.as_str() == FILE);
        let Some(EditedCard { bytes, .. }) = edited else { return self.inner.read(at, path, range).await };
        check_range(&range, bytes.len() as u64)?;
        let index = |at: u64| usize::try_from(at).unwrap_or(bytes.len());
        let piece = bytes.slice(index(range.start)..index(range.end));
        Ok(futures_util::stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed())
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    fn is_seekable(&self, path: &RepoPath) -> bool {
        self.inner.is_seekable(path)
    }

    fn extent(&self) -> Extent {
        self.inner.extent()
    }

    fn doubt(&self, at: &Revision, path: &RepoPath) {
        self.inner.doubt(at, path);
    }

    fn refs(&self) -> Option<&dyn Refs> {
        self.inner.refs().map(|_| self as &dyn Refs)
    }
}

/// The refs of the place itself; what they stand for is read with its card edited.
#[async_trait]
impl Refs for CardSource {
    fn default_branch(&self) -> &str {
        self.inner.refs().map_or("", Refs::default_branch)
    }

    fn opened_at(&self) -> &str {
        self.inner.refs().map_or("", Refs::opened_at)
    }

    async fn list(&self) -> Result<RefList> {
        refs::behind(&*self.inner)?.list().await
    }

    async fn commits(&self, from: &Ref) -> Result<Vec<PastCommit>> {
        refs::behind(&*self.inner)?.commits(from).await
    }

    fn source(&self, rev: &str) -> Result<Arc<dyn Source>> {
        let inner = refs::behind(&*self.inner)?.source(rev)?;
        Ok(Arc::new(Self { told: self.told.clone(), ..Self::new(inner, self.to, self.reporter.clone()) }))
    }
}

impl fmt::Debug for CardSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardSource").field("inner", &self.inner).field("to", &self.to).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;
    use crate::testing::memory::{MemoryRepo, Publishes};

    const CARD_THERE: &[u8] = b"---\nlicense: Apache License 2.0 # ours\ntags:\n- a\n---\n# Model\n";

    fn source(files: &[(&str, &[u8])]) -> CardSource {
        CardSource::new(Arc::new(MemoryRepo::with_files(Publishes::Sha256, files)), Vocabulary::HuggingFace, Arc::new(Silent))
    }

    async fn read(source: &CardSource, path: &str, range: Range<u64>) -> Vec<u8> {
        let at = source.manifest().await.unwrap().revision;
        let mut stream = source.read(&at, &RepoPath::new(path).unwrap(), range).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn the_card_is_listed_and_read_as_edited() {
        let source = source(&[("README.md", CARD_THERE), ("sub/README.md", CARD_THERE), ("model.bin", b"weights")]);
        let want = b"---\nlicense: apache-2.0 # ours\ntags:\n- a\n---\n# Model\n";
        let listed = source.manifest().await.unwrap();
        let entry = listed.entries[&RepoPath::new(FILE).unwrap()];
        assert_eq!((entry.size, entry.digests.sha256), (want.len() as u64, Some(Oid::of(want))));
        assert_eq!(read(&source, "README.md", 0..entry.size).await, want);
        assert_eq!(read(&source, "README.md", 4..11).await, b"license");
        assert_eq!(read(&source, "sub/README.md", 0..7).await, &CARD_THERE[..7], "only the card of the repository is one");
        assert_eq!(read(&source, "model.bin", 0..7).await, b"weights");
        assert_eq!(source.changes().len(), 1);
        assert_eq!(source.original().unwrap().digests, Digests::of(CARD_THERE));
        assert!(source.read(&listed.revision, &RepoPath::new(FILE).unwrap(), 0..1000).await.is_err());
    }

    #[tokio::test]
    async fn what_needs_no_change_or_cannot_be_understood_stays() {
        for card in [&b"---\nlicense: mit\n---\n"[..], b"# no front matter\n", b"---\nlicense: [\n---\n", b""] {
            let source = source(&[("README.md", card)]);
            let entry = source.manifest().await.unwrap().entries[&RepoPath::new(FILE).unwrap()];
            assert_eq!(entry.digests.sha256, Some(Oid::of(card)));
            assert_eq!(read(&source, "README.md", 0..entry.size).await, card);
            assert!(source.changes().is_empty());
        }
    }
}
