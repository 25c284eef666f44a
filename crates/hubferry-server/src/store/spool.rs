//! A request body of unknown size that is read line by line: small in memory, otherwise on disk until it is worked on.

use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hubferry_core::error::{Error, Kind, Result};

use super::blobs::TempFile;
use super::intake::next_piece;
use super::{Store, blocking, random_name};

/// Bodies up to this size stay in memory.
const IN_MEMORY: usize = 1024 * 1024;

/// A body that arrived whole.
pub struct Spool {
    reader: Option<Box<dyn BufRead + Send>>,
    // Removed when the spool is dropped.
    _file: Option<TempFile>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").finish_non_exhaustive()
    }
}

impl Store {
    /// Takes a whole body of at most `limit` bytes; `None` when it is larger.
    pub async fn spool<E>(&self, body: impl Stream<Item = Result<Bytes, E>> + Send, limit: u64) -> Result<Option<Spool>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = std::pin::pin!(body);
        let mut pending = BytesMut::new();
        let mut file: Option<TempFile> = None;
        let mut seen = 0;
        while let Some(piece) = next_piece(&mut body).await? {
            seen += piece.len() as u64;
            if seen > limit {
                return Ok(None);
            }
            pending.extend_from_slice(&piece);
            if pending.len() > IN_MEMORY {
                file = Some(self.spill(file, pending.split()).await?);
            }
        }
        let Some(file) = file else {
            return Ok(Some(Spool { reader: Some(Box::new(Cursor::new(pending.freeze()))), _file: None }));
        };
        let file = self.spill(Some(file), pending).await?;
        let mut again = file.file()?.try_clone().map_err(|e| Error::io("open", &file.path, e))?;
        again.seek(SeekFrom::Start(0)).map_err(|e| Error::io("read", &file.path, e))?;
        Ok(Some(Spool { reader: Some(Box::new(BufReader::new(again))), _file: Some(file) }))
    }

    async fn spill(&self, file: Option<TempFile>, bytes: BytesMut) -> Result<TempFile> {
        let path = self.folder.incoming(&random_name()?);
        blocking(move || {
            let file = match file {
                Some(file) => file,
                None => TempFile::create(path)?,
            };
            file.write(&bytes)?;
            Ok(file)
        })
        .await
    }
}

impl Spool {
    /// The next line without its end; `None` after the last. `Invalid` when it is longer than `limit`.
    pub async fn line(&mut self, limit: usize) -> Result<Option<Bytes>> {
        let mut reader = self.reader.take().ok_or_else(|| Error::new(Kind::Bug, "a request body is read twice at once"))?;
        let (reader, line) = blocking(move || {
            let mut line = Vec::new();
            let got = reader.by_ref().take(limit as u64 + 1).read_until(b'\n', &mut line);
            got.map_err(|e| Error::new(Kind::Io, "cannot read a request back").caused_by(e))?;
            Ok((reader, line))
        })
        .await?;
        self.reader = Some(reader);
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() > limit {
            return Err(Error::invalid(format!("a line of the request has more than {limit} bytes")));
        }
        let end = line.strip_suffix(b"\n").unwrap_or(&line).len();
        Ok(Some(Bytes::from(line).slice(..end)))
    }
}

/// The whole body, for blocking code.
impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read(buffer))
    }
}
