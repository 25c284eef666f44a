//! What is noted of an upload in parts, so that another run can go on with it.
//!
//! The first line says which upload it is and with which links it goes on; every further line is one part that is stored, or a
//! hash state. So a note grows by a short line per part, however many parts there are. Lines name the upload they belong to: where
//! two processes send the same object, only those of the upload in the first line count. A note is checked like an answer of the
//! server: a file can be as wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hubferry_core::digest::{Fingerprint, Prefix};
use hubferry_core::manifest::Blob;
use hubferry_core::transfer::journal::Journal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::Lfs;
use super::answer::{Actions, Answers};
use crate::http::expiry;

/// No storage keeps an unfinished upload longer.
const KEEP: Duration = Duration::from_hours(7 * 24);
/// Longer tags are no tags.
const LONGEST_TAG: usize = 1 << 10;

/// A part that the storage has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    /// The tag by which the parts are joined.
    pub(super) etag: String,
    /// What was sent, by the seed of the note.
    pub(super) is: Fingerprint,
}

/// What an earlier run noted.
pub(super) struct Earlier {
    pub(super) actions: Actions,
    pub(super) seed: u64,
    pub(super) stored: BTreeMap<usize, Stored>,
    /// The hash of the first parts; every one of them is stored.
    pub(super) prefix: Option<Prefix>,
}

/// The note of one object.
pub(super) struct Note {
    journal: Arc<dyn Journal>,
    key: String,
    /// The upload whose first line is written; its short name.
    begun: Mutex<Option<String>>,
}

#[derive(Serialize, Deserialize)]
struct First {
    layout: u32,
    /// When the links were handed out, in seconds since 1970.
    at: u64,
    seed: u64,
    object: Value,
}

/// Another layout gets another number, and old notes are then ignored.
const LAYOUT: u32 = 1;

#[derive(Serialize, Deserialize, Default)]
struct Line {
    /// The short name of the upload.
    of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<Prefix>,
    /// The bytes sent so far are doubtful: the whole did not have its hash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubt: bool,
}

impl Note {
    /// The note of `blob` at this endpoint and repository.
    pub(super) fn new(lfs: &Lfs, blob: &Blob) -> Self {
        let key = format!("lfs {} {} {}", lfs.batch, blob.oid, blob.size);
        Self { journal: lfs.journal.clone(), key, begun: Mutex::default() }
    }

    /// What an earlier run left, if it can be of use.
    pub(super) async fn load(&self, lfs: &Lfs, blob: &Blob) -> Option<Earlier> {
        let (journal, key) = (self.journal.clone(), self.key.clone());
        let text = tokio::task::spawn_blocking(move || journal.load(&key)).await.ok()??;
        let earlier = read(&text, lfs, blob);
        if let Some(earlier) = &earlier {
            *self.begun.lock().await = Some(short(&earlier.actions));
            tracing::debug!(oid = %blob.oid, parts = earlier.stored.len(), "goes on with an upload");
        }
        earlier
    }

    /// Notes that part `number` is stored, and the hash of everything before the first part that is not.
    pub(super) async fn add(&self, blob: &Blob, actions: &Actions, seed: u64, part: Option<(usize, &Stored)>, prefix: Option<Prefix>) {
        if part.is_none() && prefix.is_none() {
            return;
        }
        let name = short(actions);
        let line = Line {
            of: name.clone(),
            part: part.map(|(number, _)| number),
            etag: part.map(|(_, stored)| stored.etag.clone()),
            is: part.map(|(_, stored)| stored.is.to_string()),
            prefix,
            doubt: false,
        };
        let mut begun = self.begun.lock().await;
        if begun.as_ref() == Some(&name) {
            self.write(line, None).await;
            return;
        }
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let first = First { layout: LAYOUT, at, seed, object: actions.object(blob) };
        self.write(line, Some(first)).await;
        *begun = Some(name);
    }

    /// Notes that nobody knows which of the parts are right.
    pub(super) async fn doubt(&self) {
        let begun = self.begun.lock().await;
        if let Some(name) = begun.as_ref() {
            self.write(Line { of: name.clone(), doubt: true, ..Line::default() }, None).await;
        }
    }

    pub(super) async fn remove(&self) {
        *self.begun.lock().await = None;
        let (journal, key) = (self.journal.clone(), self.key.clone());
        let _ = tokio::task::spawn_blocking(move || journal.remove(&key)).await;
    }

    async fn write(&self, line: Line, first: Option<First>) {
        let (journal, key) = (self.journal.clone(), self.key.clone());
        // The line end in front closes a line that a crash cut short.
        let work = move || {
            let Ok(line) = serde_json::to_string(&line) else { return };
            match first.map(|first| serde_json::to_string(&first)) {
                None => journal.append(&key, &format!("\n{line}\n")),
                Some(Ok(first)) => journal.save(&key, &format!("{first}\n{line}\n")),
                Some(Err(_)) => {}
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// A short name for an upload: lines carry it.
fn short(actions: &Actions) -> String {
    Fingerprint::of(0, actions.name().as_bytes()).to_string()
}

fn read(text: &str, lfs: &Lfs, blob: &Blob) -> Option<Earlier> {
    let mut lines = text.lines();
    let first: First = serde_json::from_str(lines.next()?).ok().filter(|first: &First| first.layout == LAYOUT)?;
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(first.at.min(u64::MAX >> 4))).ok()?;
    let answers = Answers::read(&json!({"objects": [first.object]}), &lfs.batch, lfs.mirrored.as_ref()).ok()?;
    let actions = answers.upload(blob).ok()??;
    let size = actions.part_size()?;
    if age > KEEP || has_expired(&actions.upload.url) || actions.parts().first().is_some_and(has_expired) {
        return None;
    }
    let name = short(&actions);
    let mut earlier = Earlier { actions, seed: first.seed, stored: BTreeMap::new(), prefix: None };
    for line in lines.filter_map(|line| serde_json::from_str::<Line>(line).ok()).filter(|line| line.of == name) {
        earlier.take(line);
    }
    earlier.prefix = earlier.prefix.take().filter(|prefix| fits(prefix, &earlier.stored, size, blob));
    Some(earlier)
}

impl Earlier {
    fn take(&mut self, line: Line) {
        if let (Some(part), Some(etag), Some(Ok(is))) = (line.part, line.etag, line.is.map(|is| is.parse()))
            && part < self.actions.parts().len()
            && is_tag(&etag)
        {
            self.stored.insert(part, Stored { etag, is });
        }
        if line.doubt {
            self.prefix = None;
        } else if line.prefix.as_ref().map(Prefix::at) > self.prefix.as_ref().map(Prefix::at) {
            self.prefix = line.prefix;
        }
    }
}

/// Whether a hash state ends where a part ends, with all parts before it stored.
fn fits(prefix: &Prefix, stored: &BTreeMap<usize, Stored>, size: u64, blob: &Blob) -> bool {
    let whole = prefix.at() == blob.size;
    if prefix.at() > blob.size || (!whole && !prefix.at().is_multiple_of(size)) || (whole && prefix.oid() != blob.oid) {
        return false;
    }
    let parts = usize::try_from(prefix.at().div_ceil(size)).unwrap_or(usize::MAX);
    stored.range(..parts).count() == parts
}

pub(super) fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_TAG && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn has_expired(link: &Url) -> bool {
    expiry::of(link).is_some_and(|until| until <= SystemTime::now())
}
