//! A commit as the Hub reads it: one JSON object per line, made anew while it is sent, so that it is never in memory whole.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::RepoPath;
use hubferry_core::remote::{Commit, Op, Place, Staged};
use serde_json::{Value, json};

use super::NO_COMMIT;
use crate::http::Again;

/// The lines of a commit, and their length together.
pub(super) struct Lines {
    pub(super) len: u64,
    pub(super) again: Again,
    /// File bytes inside.
    pub(super) content: u64,
}

/// Writes `change` as lines. Fails for what the Hub has no line for.
pub(super) fn lines(change: Commit) -> Result<Lines> {
    let change = Arc::new(change);
    let mut len = 0;
    let mut content = 0;
    for number in 0..=change.ops.len() {
        len += line(&change, number)?.len() as u64;
    }
    for op in &change.ops {
        if let Op::Put { staged, .. } = op {
            content += staged.inline_len();
        }
    }
    let again: Again = Arc::new(move || {
        let change = change.clone();
        stream::iter(0..=change.ops.len()).map(move |number| line(&change, number)).boxed()
    });
    Ok(Lines { len, again, content })
}

/// Line `number`: the header is line 0.
fn line(change: &Commit, number: usize) -> Result<Bytes> {
    let value = match number.checked_sub(1).and_then(|index| change.ops.get(index)) {
        None => header(change),
        Some(Op::Put { path, staged }) => file(path, staged)?,
        Some(Op::Delete { path }) => json!({"key": "deletedFile", "value": {"path": path}}),
        Some(_) => return Err(Error::new(Kind::Unsupported, "the hub cannot do one of the operations")),
    };
    let mut text = value.to_string();
    text.push('\n');
    Ok(text.into())
}

fn header(change: &Commit) -> Value {
    let (summary, description) = change.message.split_once('\n').unwrap_or((&change.message, ""));
    let mut value = json!({"summary": summary.trim(), "description": description.trim()});
    if let Some(parent) = change.parent.as_ref().filter(|parent| parent.as_str() != NO_COMMIT) {
        value["parentCommit"] = json!(parent);
    }
    json!({"key": "header", "value": value})
}

fn file(path: &RepoPath, staged: &Staged) -> Result<Value> {
    let content: &[u8] = match &staged.place {
        Place::Inline(bytes) => bytes,
        // Storage has no empty objects.
        Place::Stored if staged.blob.size == 0 => &[],
        Place::Stored => {
            let value = json!({"path": path, "algo": "sha256", "oid": staged.blob.oid, "size": staged.blob.size});
            return Ok(json!({"key": "lfsFile", "value": value}));
        }
        _ => return Err(Error::new(Kind::Unsupported, "the hub cannot take a blob from where it was staged").context("file", path)),
    };
    Ok(json!({"key": "file", "value": {"path": path, "content": STANDARD.encode(content), "encoding": "base64"}}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;
    use hubferry_core::digest::Oid;
    use hubferry_core::manifest::{Blob, Revision};

    #[tokio::test]
    async fn every_operation_has_its_line() {
        let path = |text| RepoPath::new(text).unwrap();
        let blob = |bytes: &[u8]| Blob { oid: Oid::of(bytes), size: bytes.len() as u64 };
        let ops = vec![
            Op::Delete { path: path("old") },
            Op::Put { path: path("a \"b\""), staged: Staged::inline(blob(b"hi"), Bytes::from_static(b"hi")) },
            Op::Put { path: path("w.bin"), staged: Staged::stored(blob(b"large")) },
            Op::Put { path: path("empty"), staged: Staged::stored(blob(b"")) },
        ];
        let parent = Some(Revision::new("abc123").unwrap());
        let written = lines(Commit { parent, message: "Copy\n\nfrom there\n".into(), ops }).unwrap();
        for _ in 0..2 {
            let text: Vec<Bytes> = (written.again)().try_collect().await.unwrap();
            let text = String::from_utf8(text.concat()).unwrap();
            assert_eq!((text.len() as u64, written.content), (written.len, 2));
            let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(read[0]["value"], json!({"summary": "Copy", "description": "from there", "parentCommit": "abc123"}));
            assert_eq!(read[1], json!({"key": "deletedFile", "value": {"path": "old"}}));
            assert_eq!(read[2]["value"], json!({"path": "a \"b\"", "content": "aGk=", "encoding": "base64"}));
            assert_eq!(read[3]["value"], json!({"path": "w.bin", "algo": "sha256", "oid": Oid::of(b"large"), "size": 5}));
            assert_eq!(read[4]["value"], json!({"path": "empty", "content": "", "encoding": "base64"}));
        }
    }
}
