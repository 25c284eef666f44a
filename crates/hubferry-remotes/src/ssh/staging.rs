//! How blobs get to a host: into `.hubferry` beside the files, several parts of a large one at once, then checked there.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use hubferry_core::digest::Oid;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::Blob;
use hubferry_core::remote::{Body, pass};

use super::known::UNSURE;
use super::listing::read_back;
use super::note::{Note, new_name};
use super::session::Session;
use super::sftp::File;
use super::walk::Stamp;
use super::{Place, join, space};

/// Blobs up to this size are hashed there all at once, with the commit; larger ones one by one, so that a bad one is sent again.
const LARGE: u64 = 8 << 20;
/// Larger blobs are gone on with after a kill. Those that are smaller are hashed by two algorithms, which no note can hold.
const NOTED: u64 = 10 << 20;
/// Where a host runs no commands, larger blobs are not read back: the way back may be as long as the way there.
pub(super) const READ_BACK: u64 = 64 << 20;
/// Blobs up to this size are not forced onto the disk one by one.
const LAZY: u64 = 128 << 10;
/// Parts of one file that are sent side by side: the reading of one goes on while another is confirmed.
const LANES: usize = 2;
/// Requests of one part that wait for their confirmation.
const AHEAD: usize = 64;

/// A blob that lies in `.hubferry`.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) at: String,
    pub(super) stamp: Stamp,
    /// The host, or a reading back, has confirmed its hash.
    pub(super) checked: bool,
}

/// One blob on its way.
struct Sending<'a> {
    place: &'a Place,
    session: &'a Session,
    own: &'a str,
    blob: Blob,
    body: &'a dyn Body,
}

/// Brings a blob to the folder `own` of a host.
pub(super) async fn store(place: &Place, session: &Session, own: &str, blob: Blob, body: &dyn Body) -> Result<Stage> {
    let sending = Sending { place, session, own, blob, body };
    let sent = if blob.size > NOTED { sending.large().await } else { sending.small().await };
    match sent {
        Ok(stage) => Ok(stage),
        Err(error) => Err(space::explain(session, own, blob.size, error).await),
    }
}

impl Sending<'_> {
    async fn small(&self) -> Result<Stage> {
        let at = join(self.own, &new_name(self.blob.oid));
        let stored = async {
            let file = self.session.sftp.create(&at).await?;
            self.send(&file, 0..self.blob.size).await?;
            self.finish(file, &at).await
        };
        let stored = stored.await;
        if stored.is_err() {
            drop(self.session.sftp.remove(&at).await);
        }
        stored
    }

    async fn large(&self) -> Result<Stage> {
        let mut note = Note::of(&self.place.host.config().journal, &self.place.label, self.blob.oid);
        let (file, at, from) = if let Some(begun) = self.go_on(&note).await? {
            begun
        } else {
            let name = new_name(self.blob.oid);
            let at = join(self.own, &name);
            let file = self.session.sftp.create(&at).await?;
            note.begin(&name);
            (file, at, 0)
        };
        let stored = async {
            self.send_parts(&file, from, &mut note).await?;
            self.finish(file, &at).await
        };
        let stored = stored.await;
        if stored.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt) {
            // Nobody knows which of its bytes are wrong.
            note.forget();
            drop(self.session.sftp.remove(&at).await);
        }
        stored
    }

    /// What an earlier run left of it, as far as the host really has it.
    async fn go_on(&self, note: &Note) -> Result<Option<(File, String, u64)>> {
        let Some((name, prefix)) = note.read() else { return Ok(None) };
        let at = join(self.own, &name);
        let there = self.session.sftp.lstat(&at).await?.filter(|attrs| attrs.is_file()).and_then(|attrs| attrs.size);
        let usable = there.is_some_and(|size| size >= prefix.at() && size <= self.blob.size) && prefix.at() <= self.blob.size;
        let proven = usable && {
            let oid = match &self.session.shell {
                Some(shell) => shell.prefix(&at, prefix.at()).await?,
                None => Some(read_back(self.session, &at, prefix.at()).await?),
            };
            oid == Some(prefix.oid())
        };
        if !proven {
            if there.is_some() {
                drop(self.session.sftp.remove(&at).await);
            }
            return Ok(None);
        }
        let file = self.session.sftp.open_write(&at).await?;
        let from = self.body.resume(prefix);
        Ok(Some((file, at, from)))
    }

    async fn send_parts(&self, file: &File, from: u64, note: &mut Note) -> Result<()> {
        let size = self.blob.size;
        if from == size {
            // Everything was there; the hash has its say all the same.
            return pass(self.body, size..size).await;
        }
        let step = (size / 256).clamp(4 << 20, 32 << 20);
        let end = |start: u64| size.min(start + step);
        let starts: Vec<u64> = (0..(size - from).div_ceil(step)).map(|n| from + n * step).collect();
        let parts: Vec<_> = starts.iter().map(|start| self.part(file, *start, end(*start)).boxed()).collect();
        let mut parts = stream::iter(parts).buffer_unordered(LANES);
        let mut open: BTreeSet<u64> = starts.iter().copied().collect();
        let mut marks: Vec<u64> = Vec::new();
        while let Some(start) = parts.try_next().await? {
            open.remove(&start);
            // Whatever lies before the first open part is there.
            let whole = open.first().copied().unwrap_or(size);
            marks.extend(
                starts
                    .iter()
                    .map(|start| end(*start))
                    .filter(|end| *end <= whole && marks.last().is_none_or(|last| end > last))
                    .collect::<Vec<_>>(),
            );
            // The hash may be a little behind what was sent.
            if let Some(prefix) = marks.iter().rev().take(LANES * 2).find_map(|mark| self.body.prefix(*mark)) {
                note.add(&prefix, open.is_empty());
            }
        }
        Ok(())
    }

    async fn part(&self, file: &File, start: u64, end: u64) -> Result<u64> {
        self.send(file, start..end).await.map(|()| start)
    }

    /// Sends a range, several requests at once, and waits until all are confirmed.
    async fn send(&self, file: &File, range: Range<u64>) -> Result<()> {
        let most = file.piece() as usize;
        let pace = self.place.host.config().pace.as_ref();
        let mut at = range.start;
        let mut stream = self.body.read(range).await?;
        let mut waiting = VecDeque::new();
        while let Some(bytes) = stream.next().await {
            let mut bytes = bytes?;
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(most));
                let length = piece.len();
                if let Some(pace) = pace {
                    pace.take(length as u64).await;
                }
                let room = file.room(length).await?;
                waiting.push_back(file.write(at, piece, room)?);
                at += length as u64;
                if waiting.len() >= AHEAD
                    && let Some(first) = waiting.pop_front()
                {
                    file.confirmed(first).await?;
                }
            }
        }
        for piece in waiting {
            file.confirmed(piece).await?;
        }
        Ok(())
    }

    /// Closes a whole file and checks what the host has of it.
    async fn finish(&self, file: File, at: &str) -> Result<Stage> {
        let size = self.blob.size;
        let seen = Stamp::of(&file.stat().await?)?;
        if seen.size != size {
            return Err(Error::new(Kind::Io, format!("the host has {} of {size} bytes of a file", seen.size)));
        }
        let stamp = Stamp { size, modified: seen.modified.saturating_sub(UNSURE) };
        file.set_modified(stamp.modified).await?;
        if size > LAZY {
            file.sync().await?;
        }
        drop(file);
        let checked = match &self.session.shell {
            Some(shell) if size > LARGE => {
                let name = at.rsplit('/').next().unwrap_or(at).to_owned();
                let hashes = shell.hashes(self.own, &[(name.clone(), size)]).await?;
                check(self.blob.oid, hashes.get(&name).copied())?;
                true
            }
            None if size <= READ_BACK => {
                check(self.blob.oid, Some(read_back(self.session, at, size).await?))?;
                true
            }
            // With the commit, or not at all.
            _ => false,
        };
        Ok(Stage { at: at.to_owned(), stamp, checked })
    }
}

/// Whether the host has what was sent.
pub(super) fn check(wanted: Oid, there: Option<Oid>) -> Result<()> {
    if there == Some(wanted) {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, "the host has stored other bytes than it was sent")
        .context("sha256", wanted)
        .hint("run the same command again; if it happens again, look after the disk and the memory of the host"))
}
