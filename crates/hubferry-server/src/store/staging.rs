//! Contents that travel inside a commit request: small ones wait in memory, the rest goes to the blob folder at once, so that a
//! commit of any size needs little memory.

use bytes::Bytes;
use hubferry_core::digest::{GitOid, Oid};
use hubferry_core::error::{Error, Result};
use hubferry_core::manifest::Blob;

use super::blobs::TempFile;
use super::database::from_size;
use super::{Store, blocking, random_name};

/// Contents up to this size live in the database: one transaction makes a thousand of them durable with one fsync.
const SMALL: usize = 32 * 1024;
/// How much one commit may keep in memory.
const IN_MEMORY: usize = 8 * 1024 * 1024;

/// A content on its way into a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inline {
    /// SHA-256 and size.
    pub blob: Blob,
    /// What Git calls it.
    pub git: GitOid,
    /// The bytes, unless the blob folder has them already.
    pub(super) bytes: Option<Bytes>,
    /// What it points to, when it is the text of an LFS pointer: then it is an LFS file, as it would be in Git.
    pub(super) pointer: Option<Blob>,
}

impl Inline {
    /// A small content kept in memory.
    pub fn new(bytes: Bytes) -> Self {
        let blob = Blob { oid: Oid::of(&bytes), size: bytes.len() as u64 };
        Self { blob, git: GitOid::of(&bytes), pointer: super::git::parse_pointer(&bytes), bytes: Some(bytes) }
    }
}

/// Collects the contents of one commit.
#[derive(Debug)]
pub struct Staging<'a> {
    store: &'a Store,
    in_memory: usize,
}

impl Store {
    /// Starts to collect the contents of one commit.
    pub fn staging(&self) -> Staging<'_> {
        Staging { store: self, in_memory: 0 }
    }
}

impl Staging<'_> {
    /// Takes one content.
    pub async fn put(&mut self, bytes: Bytes) -> Result<Inline> {
        if bytes.len() <= SMALL && self.in_memory + bytes.len() <= IN_MEMORY {
            self.in_memory += bytes.len();
            return Ok(Inline::new(bytes));
        }
        let path = self.store.folder.incoming(&random_name()?);
        let (inline, file) = blocking(move || {
            let file = TempFile::create(path)?;
            file.write(&bytes)?;
            Ok::<_, Error>((Inline { bytes: None, ..Inline::new(bytes) }, file))
        })
        .await?;
        self.store.adopt(file, inline.blob.oid, from_size(inline.blob.size)?).await?;
        Ok(inline)
    }
}
