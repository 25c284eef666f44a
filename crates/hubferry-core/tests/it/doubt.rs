//! A source that is told that its bytes came out wrong takes its other way, through every decorator.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use hubferry_core::error::Result;
use hubferry_core::events::Silent;
use hubferry_core::manifest::{Manifest, RepoPath, Revision};
use hubferry_core::remote::{ByteStream, RepoInfo, Source};
use hubferry_core::subtree::SubSource;
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::transfer::Context;
use hubferry_core::transfer::body::{SourceBody, Wish};

/// Wrong in one byte until it is doubted.
#[derive(Debug)]
struct TwoWays {
    repo: MemoryRepo,
    doubted: AtomicBool,
}

#[async_trait]
impl Source for TwoWays {
    async fn info(&self) -> Result<RepoInfo> {
        self.repo.info().await
    }

    async fn manifest(&self) -> Result<Manifest> {
        self.repo.manifest().await
    }

    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let stream = self.repo.read(at, path, range).await?;
        if self.doubted.load(Ordering::Relaxed) {
            return Ok(stream);
        }
        Ok(stream.map(|piece| piece.map(|piece| piece.iter().map(|byte| byte ^ 1).collect::<Bytes>())).boxed())
    }

    fn doubt(&self, _: &Revision, path: &RepoPath) {
        assert_eq!(path.as_str(), "sub/w.bin");
        self.doubted.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn wrong_bytes_make_a_source_take_its_other_way() {
    let content = vec![7; 100_000];
    let repo = MemoryRepo::with_files(Publishes::Sha256, &[("sub/w.bin", &content)]);
    let ways = Arc::new(TwoWays { repo, doubted: AtomicBool::new(false) });
    let source: Arc<dyn Source> = Arc::new(SubSource::new(ways.clone(), RepoPath::new("sub").unwrap()));
    let manifest = source.manifest().await.unwrap();
    let path = RepoPath::new("w.bin").unwrap();
    let wish = Wish { at: manifest.revision.clone(), entry: manifest.entries[&path], path };
    let (read, _) = SourceBody::content(&source, &wish, &Context::new(Arc::new(Silent))).await.unwrap();
    assert!(read == content && ways.doubted.load(Ordering::Relaxed));
}
