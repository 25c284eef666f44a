//! One SFTP channel: requests go out as fast as the pipe takes them, answers find whoever asked, and silence ends it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Wire;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::packet::{Attrs, Fields, Packet, kind, status};

/// Largest answer taken: OpenSSH sends up to 256 KiB and its head.
const LARGEST: u32 = (256 << 10) + 1024;
/// What every server bears in one request: section 3 of the draft.
const SAFE: u32 = 32 << 10;
/// Most that is asked for or sent at once, where the server says that it bears so much.
const MOST: u32 = 128 << 10;
/// File bytes on their way to the host in all: enough for 1 Gbit/s over 64 ms.
const WINDOW: usize = 8 << 20;

/// An answer, without its id.
struct Reply {
    kind: u8,
    fields: Fields,
}

struct Waiting {
    answer: oneshot::Sender<Reply>,
    _sent: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u32, Waiting>,
    /// When something was last heard, or the first of those who wait began to.
    heard: Option<Instant>,
    /// Why it is over.
    dead: Option<Error>,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a channel: whoever waits gets `error`.
fn die(shared: &Shared, error: Error) {
    let mut state = lock(shared);
    state.dead.get_or_insert(error);
    state.waiting.clear();
}

/// An open channel. It ends with the value.
pub(super) struct Sftp {
    out: mpsc::UnboundedSender<(Bytes, Bytes)>,
    shared: Shared,
    next: AtomicU32,
    window: Arc<Semaphore>,
    extensions: HashSet<String>,
    /// Most bytes of a file in one request.
    pub(super) piece: u32,
    wire: Arc<Wire>,
    tasks: JoinSet<()>,
}

impl Sftp {
    /// Greets the host over a pair of pipes. `ended` says why the pipes broke, once they did.
    pub(super) async fn open<R, W, E>(from: R, to: W, stall: Duration, wire: Arc<Wire>, ended: E) -> Result<Self>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
        E: Future<Output = Error> + Send + 'static,
    {
        let shared = Shared::default();
        let (out, queue) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(write(to, queue));
        let mut from = from;
        // The version comes without an id.
        let greeting = Bytes::from_static(&[0, 0, 0, 5, kind::INIT, 0, 0, 0, 3]);
        drop(out.send((greeting, Bytes::new())));
        let mut first = match read_packet(&mut from).await {
            Ok(first) => first,
            Err(error) if error.kind() == Kind::Invalid => return Err(error),
            // The program knows better why there is no answer.
            Err(_) => return Err(ended.await),
        };
        let kind = if first.is_empty() { 0 } else { first.get_u8() };
        let mut fields = Fields(first);
        if kind != kind::VERSION || fields.u32()? < 3 {
            return Err(Error::new(Kind::Unsupported, "the host does not speak SFTP version 3"));
        }
        let mut extensions = HashSet::new();
        while !fields.0.is_empty() {
            let (name, version) = (fields.string()?, fields.string()?);
            tracing::debug!(name = %String::from_utf8_lossy(&name), version = %String::from_utf8_lossy(&version), "sftp extension");
            extensions.insert(String::from_utf8_lossy(&name).into_owned());
        }
        let listener = shared.clone();
        tasks.spawn(async move {
            let why = match listen(&mut from, &listener).await {
                Err(error) if error.kind() == Kind::Invalid => error,
                _ => ended.await,
            };
            die(&listener, why);
        });
        tasks.spawn(watch(shared.clone(), stall));
        let window = Arc::new(Semaphore::new(WINDOW));
        let mut sftp = Self { out, shared, next: AtomicU32::new(1), window, extensions, piece: SAFE, wire, tasks };
        sftp.piece = sftp.bearable().await?;
        Ok(sftp)
    }

    /// Whether nothing more can be asked.
    pub(super) fn is_dead(&self) -> bool {
        lock(&self.shared).dead.is_some()
    }

    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }

    /// How large a request may be: `limits@openssh.com` of OpenSSH's PROTOCOL, section 4.8.
    async fn bearable(&self) -> Result<u32> {
        if !self.has("limits@openssh.com") {
            return Ok(SAFE);
        }
        let mut fields = self.extended("limits@openssh.com", |packet| packet).await?;
        let (_, read, write) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let bears = |limit: u64| if limit == 0 { SAFE } else { u32::try_from(limit).unwrap_or(u32::MAX) };
        Ok(bears(read).min(bears(write)).clamp(1 << 10, MOST))
    }

    fn id(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request; the answer comes to whoever holds the other end.
    fn begin(&self, id: u32, head: Packet, body: Bytes, sent: Option<OwnedSemaphorePermit>) -> Result<oneshot::Receiver<Reply>> {
        let (answer, reply) = oneshot::channel();
        {
            let mut state = lock(&self.shared);
            if let Some(dead) = &state.dead {
                return Err(dead.duplicate());
            }
            if state.waiting.is_empty() {
                state.heard = Some(Instant::now());
            }
            state.waiting.insert(id, Waiting { answer, _sent: sent });
        }
        self.wire.add_request();
        let head = head.finish(body.len());
        // Nobody takes it once the channel is over; then the answer never comes, and says so.
        drop(self.out.send((head, body)));
        Ok(reply)
    }

    async fn wait(&self, reply: oneshot::Receiver<Reply>) -> Result<Reply> {
        let ended = || Error::new(Kind::Unavailable, "the connection to the host ended");
        reply.await.map_err(|_| lock(&self.shared).dead.as_ref().map_or_else(ended, Error::duplicate))
    }

    async fn ask(&self, id: u32, head: Packet, body: Bytes, sent: Option<OwnedSemaphorePermit>) -> Result<Reply> {
        let reply = self.begin(id, head, body, sent)?;
        self.wait(reply).await
    }

    /// A question about a path.
    async fn about(&self, kind: u8, path: &str) -> Result<Reply> {
        let id = self.id();
        self.ask(id, Packet::new(kind, id).string(path.as_bytes()), Bytes::new(), None).await
    }

    async fn extended(&self, name: &str, fill: impl FnOnce(Packet) -> Packet) -> Result<Fields> {
        let id = self.id();
        let packet = fill(Packet::new(kind::EXTENDED, id).string(name.as_bytes()));
        let reply = self.ask(id, packet, Bytes::new(), None).await?;
        if reply.kind == kind::EXTENDED_REPLY { Ok(reply.fields) } else { Err(unexpected(reply)) }
    }

    pub(super) async fn realpath(&self, path: &str) -> Result<String> {
        let reply = self.about(kind::REALPATH, path).await?;
        let mut fields = expect(reply, kind::NAME)?;
        fields.u32()?;
        let name = fields.string()?;
        String::from_utf8(name.to_vec()).map_err(|_| Error::invalid("the host's path of a folder is not UTF-8"))
    }

    /// What is there, links followed; `None` where nothing is.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<Attrs>> {
        attrs_of(self.about(kind::STAT, path).await?)
    }

    /// The same of the link itself.
    pub(super) async fn lstat(&self, path: &str) -> Result<Option<Attrs>> {
        attrs_of(self.about(kind::LSTAT, path).await?)
    }

    /// Every entry of a folder but `.` and `..`, with what its own attributes are; names may be any bytes.
    pub(super) async fn list(self: &Arc<Self>, path: &str) -> Result<Vec<(Bytes, Attrs)>> {
        let handle = expect(self.about(kind::OPENDIR, path).await?, kind::HANDLE)?.string()?;
        let folder = File { sftp: self.clone(), handle };
        let mut found = Vec::new();
        loop {
            let id = self.id();
            let reply = self.ask(id, Packet::new(kind::READDIR, id).string(&folder.handle), Bytes::new(), None).await?;
            if reply.kind != kind::NAME {
                let error = status_of(reply)?;
                return if error.code == status::END { Ok(found) } else { Err(error.error()) };
            }
            let mut fields = reply.fields;
            let count = fields.u32()?;
            if count == 0 {
                return Err(Error::invalid("the host sent an empty part of a listing"));
            }
            for _ in 0..count {
                let (name, _, attrs) = (fields.string()?, fields.string()?, fields.attrs()?);
                if name != "." && name != ".." {
                    found.push((name, attrs));
                }
            }
        }
    }

    pub(super) async fn open_read(self: &Arc<Self>, path: &str) -> Result<File> {
        self.open_file(path, 1, None).await
    }

    /// A file that must not be there yet.
    pub(super) async fn create(self: &Arc<Self>, path: &str) -> Result<File> {
        // WRITE, CREAT and EXCL.
        self.open_file(path, 0x02 | 0x08 | 0x20, Some(0o644)).await
    }

    /// A file that is there, to go on with.
    pub(super) async fn open_write(self: &Arc<Self>, path: &str) -> Result<File> {
        self.open_file(path, 0x02, None).await
    }

    async fn open_file(self: &Arc<Self>, path: &str, flags: u32, mode: Option<u32>) -> Result<File> {
        let id = self.id();
        let packet = Packet::new(kind::OPEN, id).string(path.as_bytes()).u32(flags).attrs(mode, None);
        let reply = self.ask(id, packet, Bytes::new(), None).await?;
        let handle = expect(reply, kind::HANDLE)?.string()?;
        Ok(File { sftp: self.clone(), handle })
    }

    pub(super) async fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        let id = self.id();
        done(self.ask(id, Packet::new(kind::MKDIR, id).string(path.as_bytes()).attrs(Some(mode), None), Bytes::new(), None).await?)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        done(self.about(kind::REMOVE, path).await?)
    }

    pub(super) async fn rmdir(&self, path: &str) -> Result<()> {
        done(self.about(kind::RMDIR, path).await?)
    }

    /// Renames; fails where `to` is there already.
    pub(super) async fn rename_new(&self, from: &str, to: &str) -> Result<()> {
        let id = self.id();
        let packet = Packet::new(kind::RENAME, id).string(from.as_bytes()).string(to.as_bytes());
        done(self.ask(id, packet, Bytes::new(), None).await?)
    }

    /// Renames over whatever file is there, in one step where the server can: section 3.3 of OpenSSH's PROTOCOL.
    pub(super) async fn rename_over(&self, from: &str, to: &str) -> Result<()> {
        if !self.has("posix-rename@openssh.com") {
            if self.lstat(to).await?.is_some() {
                self.remove(to).await?;
            }
            return self.rename_new(from, to).await;
        }
        let id = self.id();
        let packet = Packet::new(kind::EXTENDED, id).string(b"posix-rename@openssh.com").string(from.as_bytes()).string(to.as_bytes());
        done(self.ask(id, packet, Bytes::new(), None).await?)
    }

    /// Bytes that this user may still write in the file system of a folder; `None` where the server does not say.
    pub(super) async fn free_space(&self, folder: &str) -> Result<Option<u64>> {
        if !self.has("statvfs@openssh.com") {
            return Ok(None);
        }
        let mut fields = self.extended("statvfs@openssh.com", |packet| packet.string(folder.as_bytes())).await?;
        let (_, unit, blocks, _, free) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        Ok((blocks > 0).then(|| unit.saturating_mul(free)))
    }

    /// Copies part of a file on the host: section 4.10 of OpenSSH's PROTOCOL. Only where [`Sftp::has`] says `copy-data`.
    pub(super) async fn copy_data(&self, from: &File, to: &File, at: u64, length: u64) -> Result<()> {
        let id = self.id();
        let packet = Packet::new(kind::EXTENDED, id).string(b"copy-data").string(&from.handle).u64(at).u64(length);
        done(self.ask(id, packet.string(&to.handle).u64(at), Bytes::new(), None).await?)
    }
}

impl std::fmt::Debug for Sftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sftp").field("piece", &self.piece).field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// An open file or folder of the host; closed when dropped.
#[derive(Debug)]
pub(super) struct File {
    sftp: Arc<Sftp>,
    handle: Bytes,
}

impl File {
    pub(super) async fn stat(&self) -> Result<Attrs> {
        let id = self.sftp.id();
        let reply = self.sftp.ask(id, Packet::new(kind::FSTAT, id).string(&self.handle), Bytes::new(), None).await?;
        expect(reply, kind::ATTRS)?.attrs()
    }

    pub(super) async fn set_modified(&self, modified: u32) -> Result<()> {
        let id = self.sftp.id();
        let packet = Packet::new(kind::FSETSTAT, id).string(&self.handle).attrs(None, Some(modified));
        done(self.sftp.ask(id, packet, Bytes::new(), None).await?)
    }

    pub(super) async fn set_mode(&self, mode: u32) -> Result<()> {
        let id = self.sftp.id();
        let packet = Packet::new(kind::FSETSTAT, id).string(&self.handle).attrs(Some(mode), None);
        done(self.sftp.ask(id, packet, Bytes::new(), None).await?)
    }

    /// Reads exactly this many bytes; fewer only at the end of the file.
    pub(super) async fn read(&self, at: u64, length: u32) -> Result<Bytes> {
        let mut all = BytesMut::new();
        loop {
            let have = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let id = self.sftp.id();
            let packet = Packet::new(kind::READ, id).string(&self.handle).u64(at + u64::from(have)).u32(length - have);
            let reply = self.sftp.ask(id, packet, Bytes::new(), None).await?;
            if reply.kind != kind::DATA {
                let error = status_of(reply)?;
                return if error.code == status::END { Ok(all.freeze()) } else { Err(error.error()) };
            }
            let mut fields = reply.fields;
            let piece = fields.string()?;
            self.sftp.wire.add_received(piece.len() as u64);
            if piece.is_empty() || piece.len() as u64 > u64::from(length - have) {
                return Err(Error::invalid("the host sent another number of bytes than it was asked for"));
            }
            if all.is_empty() && piece.len() as u64 == u64::from(length) {
                return Ok(piece);
            }
            all.extend_from_slice(&piece);
            if all.len() as u64 == u64::from(length) {
                return Ok(all.freeze());
            }
        }
    }

    /// The right to send `length` bytes, when there is room for them in the window; then [`File::write`] sends them.
    pub(super) async fn room(&self, length: usize) -> Result<OwnedSemaphorePermit> {
        let length = u32::try_from(length.min(WINDOW)).unwrap_or(u32::MAX);
        let window = self.sftp.window.clone();
        window.acquire_many_owned(length).await.map_err(|_| Error::new(Kind::Bug, "the window of a channel was closed"))
    }

    /// Sends a piece of at most [`File::piece`] bytes to be written.
    pub(super) fn write(&self, at: u64, piece: Bytes, room: OwnedSemaphorePermit) -> Result<Written> {
        let id = self.sftp.id();
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let packet = Packet::new(kind::WRITE, id).string(&self.handle).u64(at).u32(length);
        self.sftp.wire.add_sent(u64::from(length));
        self.sftp.begin(id, packet, piece, Some(room)).map(Written)
    }

    /// Waits until the host has confirmed a piece.
    pub(super) async fn confirmed(&self, piece: Written) -> Result<()> {
        done(self.sftp.wait(piece.0).await?)
    }

    /// Has the host put it on its disk, where it can be told to.
    pub(super) async fn sync(&self) -> Result<()> {
        if !self.sftp.has("fsync@openssh.com") {
            return Ok(());
        }
        let id = self.sftp.id();
        let packet = Packet::new(kind::EXTENDED, id).string(b"fsync@openssh.com").string(&self.handle);
        done(self.sftp.ask(id, packet, Bytes::new(), None).await?)
    }

    /// The most bytes of one request.
    pub(super) fn piece(&self) -> u32 {
        self.sftp.piece
    }
}

/// A piece that the host has not confirmed yet.
pub(super) struct Written(oneshot::Receiver<Reply>);

impl Drop for File {
    fn drop(&mut self) {
        let id = self.sftp.id();
        // The answer finds nobody waiting, and is dropped.
        drop(self.sftp.out.send((Packet::new(kind::CLOSE, id).string(&self.handle).finish(0), Bytes::new())));
    }
}

async fn write(to: impl AsyncWrite + Unpin, mut queue: mpsc::UnboundedReceiver<(Bytes, Bytes)>) {
    let mut to = BufWriter::with_capacity(64 << 10, to);
    while let Some((head, body)) = queue.recv().await {
        let sent = async {
            to.write_all(&head).await?;
            to.write_all(&body).await?;
            if queue.is_empty() { to.flush().await } else { Ok(()) }
        };
        if sent.await.is_err() {
            // Whoever reads finds out why.
            return;
        }
    }
}

async fn read_packet(from: &mut (impl AsyncRead + Unpin)) -> Result<Bytes> {
    let broken = |error| Error::new(Kind::Unavailable, "the connection to the host broke").caused_by(error);
    let length = from.read_u32().await.map_err(broken)?;
    if length == 0 || length > LARGEST {
        return Err(Error::invalid("the host sent a packet that is no SFTP")
            .hint("a login script that prints something breaks SFTP: look at what `ssh HOST true` prints"));
    }
    let mut packet = vec![0; length as usize];
    from.read_exact(&mut packet).await.map_err(broken)?;
    Ok(Bytes::from(packet))
}

async fn listen(from: &mut (impl AsyncRead + Unpin), shared: &Shared) -> Result<()> {
    loop {
        let mut packet = read_packet(from).await?;
        let kind = packet.get_u8();
        let mut fields = Fields(packet);
        let id = fields.u32()?;
        let mut state = lock(shared);
        state.heard = Some(Instant::now());
        if let Some(waiting) = state.waiting.remove(&id) {
            // Whoever has stopped waiting does not want it.
            drop(waiting.answer.send(Reply { kind, fields }));
        }
    }
}

/// Ends a channel whose host says nothing although it was asked.
async fn watch(shared: Shared, stall: Duration) {
    loop {
        tokio::time::sleep((stall / 4).max(Duration::from_millis(50))).await;
        let silent = {
            let state = lock(&shared);
            !state.waiting.is_empty() && state.heard.is_some_and(|heard| heard.elapsed() > stall)
        };
        if silent {
            return die(&shared, Error::new(Kind::Unavailable, format!("the host was silent for {} s", stall.as_secs())));
        }
    }
}

/// A status that an answer may be.
struct Status {
    code: u32,
    message: String,
}

impl Status {
    fn error(self) -> Error {
        let said = crate::http::clean(&self.message, 200);
        match self.code {
            status::NO_SUCH_FILE => Error::not_found(format!("the host has no such file ({said})")),
            status::PERMISSION_DENIED => Error::new(Kind::Denied, format!("the host does not allow it ({said})"))
                .hint("log in as somebody who may, or choose another folder"),
            status::UNSUPPORTED => Error::new(Kind::Unsupported, format!("the host cannot do that ({said})")),
            // Version 3 has no word for a full disk: whoever wrote has to look.
            status::FAILURE => Error::new(Kind::Io, format!("the host failed ({said})")),
            6 | 7 => Error::new(Kind::Unavailable, format!("the host lost its connection ({said})")),
            code => Error::invalid(format!("the host answered with status {code} ({said})")),
        }
    }
}

fn status_of(reply: Reply) -> Result<Status> {
    if reply.kind != kind::STATUS {
        return Err(Error::invalid(format!("the host answered with a packet of kind {}", reply.kind)));
    }
    let mut fields = reply.fields;
    let code = fields.u32()?;
    // Some servers leave the words out.
    let message = fields.string().map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    Ok(Status { code, message })
}

fn unexpected(reply: Reply) -> Error {
    match status_of(reply) {
        Ok(status) => status.error(),
        Err(error) => error,
    }
}

fn expect(reply: Reply, kind: u8) -> Result<Fields> {
    if reply.kind == kind { Ok(reply.fields) } else { Err(unexpected(reply)) }
}

fn done(reply: Reply) -> Result<()> {
    let status = status_of(reply)?;
    if status.code == status::OK { Ok(()) } else { Err(status.error()) }
}

fn attrs_of(reply: Reply) -> Result<Option<Attrs>> {
    match expect(reply, kind::ATTRS) {
        Ok(mut fields) => fields.attrs().map(Some),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
