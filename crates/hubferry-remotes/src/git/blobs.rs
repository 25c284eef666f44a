//! Files that Git itself holds, read from the fetched pack: small ones from one process that serves them all, each large one from a
//! process of its own, so that who reads slowly holds up nobody.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::remote::ByteStream;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::program::Program;

/// Files up to this size are read whole; larger ones are streamed.
pub(super) const SMALL: u64 = 256 << 10;
/// Pieces of a streamed file.
const PIECE: usize = 64 << 10;

/// Reading from a repository.
#[derive(Debug)]
pub(super) struct Blobs {
    program: Program,
    /// Taken out while it answers: one that was given up in the middle of an answer is not asked again.
    process: Mutex<Option<Server>>,
}

impl Blobs {
    pub(super) fn new(program: Program) -> Self {
        Self { program, process: Mutex::default() }
    }

    /// A part of a file of `size` bytes, which the range does not exceed.
    pub(super) async fn read(&self, id: GitOid, size: u64, range: Range<u64>) -> Result<ByteStream> {
        if size > SMALL {
            return self.stream(id, range);
        }
        let whole = self.whole(id).await?;
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(whole.len());
        let part = whole.slice(index(range.start)..index(range.end));
        Ok(stream::iter((!part.is_empty()).then_some(Ok(part))).boxed())
    }

    async fn whole(&self, id: GitOid) -> Result<Bytes> {
        let mut place = self.process.lock().await;
        let mut server = match place.take() {
            Some(server) => server,
            None => Server::start(&self.program)?,
        };
        server.ask(&id).await?;
        let bytes = server.output.object(&id).await?;
        *place = Some(server);
        Ok(bytes)
    }

    fn stream(&self, id: GitOid, range: Range<u64>) -> Result<ByteStream> {
        let mut child = self.program.start(&["cat-file", "blob", &id.to_string()], false)?;
        let output = child.stdout.take().ok_or_else(no_pipe)?;
        let part = Part { _child: child, output, skip: range.start, left: range.end - range.start };
        Ok(stream::try_unfold(part, |mut part| async move { Ok(part.next().await?.map(|piece| (piece, part))) }).boxed())
    }
}

/// A large file on its way; its process ends with it.
struct Part {
    _child: Child,
    output: ChildStdout,
    skip: u64,
    left: u64,
}

impl Part {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        while self.left > 0 {
            let wanted = if self.skip > 0 { self.skip } else { self.left };
            let most = usize::try_from(wanted).unwrap_or(PIECE).min(PIECE);
            let count = self.output.read(&mut piece[..most]).await.map_err(broken)?;
            if count == 0 {
                return Err(Error::new(Kind::Corrupt, "git gives less of a file than it has"));
            }
            if self.skip > 0 {
                self.skip -= count as u64;
                continue;
            }
            self.left -= count as u64;
            piece.truncate(count);
            return Ok(Some(piece.into()));
        }
        Ok(None)
    }
}

/// A process that answers one question after the other.
#[derive(Debug)]
struct Server {
    _child: Child,
    input: ChildStdin,
    output: Output,
}

impl Server {
    fn start(program: &Program) -> Result<Self> {
        let mut child = program.start(&["cat-file", "--batch"], true)?;
        let (input, output) = (child.stdin.take().ok_or_else(no_pipe)?, Output::of(&mut child)?);
        Ok(Self { _child: child, input, output })
    }

    async fn ask(&mut self, id: &GitOid) -> Result<()> {
        self.input.write_all(format!("{id}\n").as_bytes()).await.map_err(broken)?;
        self.input.flush().await.map_err(broken)
    }
}

/// Many small objects, asked for ahead of the answers.
pub(super) struct Objects {
    _child: Child,
    output: Output,
    asking: JoinHandle<()>,
}

impl Objects {
    /// Asks for all of them, in this order.
    pub(super) fn of(program: &Program, ids: Vec<GitOid>) -> Result<Self> {
        let mut child = program.start(&["cat-file", "--batch"], true)?;
        let (mut input, output) = (child.stdin.take().ok_or_else(no_pipe)?, Output::of(&mut child)?);
        let asking = tokio::spawn(async move {
            for some in ids.chunks(512) {
                let lines = some.iter().map(ToString::to_string).chain([String::new()]).collect::<Vec<_>>().join("\n");
                // A process that has ended is noticed where its answers are read.
                if input.write_all(lines.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { _child: child, output, asking })
    }

    /// The next one, which must be `id`.
    pub(super) async fn next(&mut self, id: &GitOid) -> Result<Bytes> {
        self.output.object(id).await
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// What `cat-file --batch` prints: `<id> <type> <size>`, the bytes, a line end. Known from Git's `git-cat-file`.
#[derive(Debug)]
struct Output(BufReader<ChildStdout>);

impl Output {
    fn of(child: &mut Child) -> Result<Self> {
        Ok(Self(BufReader::with_capacity(PIECE, child.stdout.take().ok_or_else(no_pipe)?)))
    }

    async fn object(&mut self, id: &GitOid) -> Result<Bytes> {
        let mut head = String::new();
        (&mut self.0).take(200).read_line(&mut head).await.map_err(broken)?;
        let size = head.strip_prefix(&format!("{id} blob ")).and_then(|size| size.trim_end().parse::<u64>().ok());
        let Some(size) = size.filter(|size| *size <= SMALL) else {
            return Err(Error::new(Kind::Corrupt, "git does not have a file that it has listed").context("id", id));
        };
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX) + 1];
        self.0.read_exact(&mut bytes).await.map_err(broken)?;
        bytes.pop();
        Ok(bytes.into())
    }
}

fn no_pipe() -> Error {
    Error::new(Kind::Bug, "git was started without its pipes")
}

fn broken(error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, "the program `git` ended in the middle of an answer").caused_by(error)
}
