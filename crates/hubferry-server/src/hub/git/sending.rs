//! A pack on its way: objects are read, compressed and handed on piece by piece, as fast as the client takes them.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::ByteStream;

use super::pack::{ObjectType, PackWriter};
use crate::store::{Content, Store, blocking};

/// How much is collected before it is handed on.
const PIECE: usize = 64 * 1024;
/// More than this is compressed where it may take its time.
const QUICK: usize = 16 * 1024;
/// How many small files are read at once.
const FILES: usize = 32;

/// The objects of a pack.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) commits: Vec<GitOid>,
    pub(super) trees: Vec<GitOid>,
    pub(super) blobs: Vec<GitOid>,
}

impl Contents {
    fn count(&self) -> Result<u32> {
        let count = self.commits.len() + self.trees.len() + self.blobs.len();
        u32::try_from(count).map_err(|_| Error::new(Kind::Unsupported, "there are more objects than a pack can hold"))
    }
}

/// The bytes of a pack.
pub(super) fn pack(store: Store, contents: Contents) -> Result<BoxStream<'static, Result<Bytes>>> {
    let writer = Some(PackWriter::new(contents.count()?));
    let commits = contents.commits.into_iter().map(|id| (ObjectType::Commit, id));
    let trees = contents.trees.into_iter().map(|id| (ObjectType::Tree, id));
    let sending = Sending {
        store,
        writer,
        objects: Box::new(commits.chain(trees)),
        files: contents.blobs.into_iter(),
        read: VecDeque::new(),
        open: None,
    };
    let pieces = stream::try_unfold(sending, |mut sending| async move { Ok(sending.next().await?.map(|piece| (piece, sending))) });
    Ok(pieces.boxed())
}

struct Sending {
    store: Store,
    /// Gone once the end was sent.
    writer: Option<PackWriter>,
    /// Commits and trees.
    objects: Box<dyn Iterator<Item = (ObjectType, GitOid)> + Send>,
    files: std::vec::IntoIter<GitOid>,
    /// Files that come next.
    read: VecDeque<Content>,
    /// The large file that is being sent.
    open: Option<ByteStream>,
}

impl Sending {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(writer) = &mut self.writer {
            if writer.ready() >= PIECE {
                return Ok(Some(writer.take()));
            }
            if !self.step().await? {
                return Ok(self.writer.take().map(|writer| writer.finish().into()));
            }
        }
        Ok(None)
    }

    /// Packs a little more; false when there is nothing more.
    async fn step(&mut self) -> Result<bool> {
        if let Some(stream) = &mut self.open {
            match stream.next().await.transpose()? {
                Some(piece) => self.work(piece.len(), move |writer| writer.add(&piece)).await?,
                None if self.writer.as_ref().is_some_and(PackWriter::is_complete) => self.open = None,
                None => return Err(Error::new(Kind::Bug, "a stored file is shorter than its size")),
            }
        } else if let Some((kind, id)) = self.objects.next() {
            let bytes = self.store.object(id).await?;
            self.work(bytes.len(), move |writer| writer.object(kind, &bytes)).await?;
        } else if let Some(content) = self.read.pop_front() {
            self.file(content).await?;
        } else if self.files.len() > 0 {
            let ids: Vec<GitOid> = self.files.by_ref().take(FILES).collect();
            self.read = self.store.contents(&ids).await?.into();
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    async fn file(&mut self, content: Content) -> Result<()> {
        match content {
            Content::Bytes(bytes) => self.work(bytes.len(), move |writer| writer.object(ObjectType::Blob, &bytes)).await,
            Content::Stored(blob) if blob.size == 0 => self.work(0, |writer| writer.object(ObjectType::Blob, b"")).await,
            Content::Stored(blob) => {
                self.work(0, move |writer| {
                    writer.begin(ObjectType::Blob, blob.size);
                    Ok(())
                })
                .await?;
                self.open = Some(self.store.open_blob(blob.oid, None).await?.stream);
                Ok(())
            }
        }
    }

    /// Compresses so many bytes: at once, or on a thread for what takes longer.
    async fn work(&mut self, size: usize, work: impl FnOnce(&mut PackWriter) -> Result<()> + Send + 'static) -> Result<()> {
        let gone = || Error::new(Kind::Bug, "a pack goes on behind its end");
        if size <= QUICK {
            return work(self.writer.as_mut().ok_or_else(gone)?);
        }
        let mut writer = self.writer.take().ok_or_else(gone)?;
        let done = blocking(move || work(&mut writer).map(|()| writer)).await?;
        self.writer = Some(done);
        Ok(())
    }
}
