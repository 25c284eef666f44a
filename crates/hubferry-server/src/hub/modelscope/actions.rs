//! Reads a commit request action by action, so that one of hundreds of megabytes never lies in memory.

use std::cell::Cell;
use std::fmt;
use std::io::{BufReader, Read};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::envelope::Refusal;

/// Most actions one commit may hold.
pub(super) const MAX_ACTIONS: usize = 2000;
/// Largest whole request: the base64 the classic client may put into one commit (256 files of 1 MiB), with room to spare.
pub(super) const MAX_BODY: u64 = 1 << 30;
/// Largest single action: what one request can make the server hold in memory, a few times over.
const MAX_ACTION: u64 = 24 << 20;
/// Actions read ahead of the one being stored.
const AHEAD: usize = 1;

/// One action as the client sent it; nothing of it is checked yet except that inline content can be decoded.
#[derive(Debug)]
pub(super) struct Action {
    /// `create`, `update` or `delete`.
    pub(super) verb: String,
    pub(super) path: String,
    /// `lfs` or `normal`.
    pub(super) kind: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) content: Bytes,
}

/// What is known once the whole request was read.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) message: String,
    /// All actions of the request, those past [`MAX_ACTIONS`] included.
    pub(super) count: usize,
}

/// Starts to read. Actions come out of the receiver in their order; the handle then tells how it ended. Dropping the receiver
/// stops the reading.
pub(super) fn read(body: impl Read + Send + 'static) -> (mpsc::Receiver<Action>, JoinHandle<Result<Summary, Refusal>>) {
    let (send, receive) = mpsc::channel(AHEAD);
    (receive, tokio::task::spawn_blocking(move || parse(body, send)))
}

fn parse(body: impl Read, send: mpsc::Sender<Action>) -> Result<Summary, Refusal> {
    let meter = Meter::default();
    let reader = BufReader::with_capacity(64 << 10, Metered { inner: body, meter: meter.clone() });
    let mut json = serde_json::Deserializer::from_reader(reader);
    let parsed = Request { send, meter: meter.clone() }.deserialize(&mut json);
    match parsed {
        Ok(summary) => Ok(summary),
        Err(_) if meter.0.get() > MAX_ACTION => Err(Refusal::too_large(MAX_ACTION)),
        Err(error) => Err(Refusal::invalid(format!("the commit request is not understood: {error}"))),
    }
}

/// Bytes read since the last complete action.
#[derive(Clone, Default)]
struct Meter(Rc<Cell<u64>>);

struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(into)?;
        self.meter.0.set(self.meter.0.get() + count as u64);
        if self.meter.0.get() > MAX_ACTION {
            return Err(std::io::Error::other("the action is too large"));
        }
        Ok(count)
    }
}

/// The request object: its actions are handed out as they are read.
struct Request {
    send: mpsc::Sender<Action>,
    meter: Meter,
}

impl<'de> DeserializeSeed<'de> for Request {
    type Value = Summary;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Summary, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request {
    type Value = Summary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with commit_message and actions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Summary, A::Error> {
        let mut summary = Summary { message: String::new(), count: 0 };
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "commit_message" => summary.message = map.next_value::<Option<String>>()?.unwrap_or_default(),
                "actions" if seen => return Err(serde::de::Error::duplicate_field("actions")),
                "actions" => {
                    seen = true;
                    summary.count = map.next_value_seed(Actions(&self))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(summary)
    }
}

/// The list of actions; yields how many there were.
struct Actions<'a>(&'a Request);

impl<'de> DeserializeSeed<'de> for Actions<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Actions<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of actions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
        use serde::de::Error as _;
        for count in 0..MAX_ACTIONS {
            let Some(wire) = list.next_element::<WireAction>()? else { return Ok(count) };
            self.0.meter.0.set(0);
            let action = wire.decode().map_err(A::Error::custom)?;
            self.0.send.blocking_send(action).map_err(|_| A::Error::custom("an earlier action was refused"))?;
        }
        let mut count = MAX_ACTIONS;
        while list.next_element::<IgnoredAny>()?.is_some() {
            self.0.meter.0.set(0);
            count += 1;
        }
        Ok(count)
    }
}

#[derive(Deserialize)]
struct WireAction {
    action: String,
    path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
    content: Option<String>,
    encoding: Option<String>,
}

impl WireAction {
    fn decode(self) -> Result<Action, String> {
        let content = self.content.unwrap_or_default();
        let content = match self.encoding.as_deref() {
            Some("base64") => STANDARD.decode(content).map_err(|_| format!("the content of {:?} is not base64", self.path))?,
            None | Some("" | "text") => content.into_bytes(),
            Some(other) => return Err(format!("unknown encoding {other:?}")),
        };
        Ok(Action {
            verb: self.action,
            path: self.path,
            kind: self.kind.unwrap_or_else(|| "normal".into()),
            size: self.size.unwrap_or_default(),
            sha256: self.sha256.unwrap_or_default(),
            content: content.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(body: String) -> (Vec<Action>, Result<Summary, Refusal>) {
        let (mut receive, end) = read(std::io::Cursor::new(body));
        let mut actions = Vec::new();
        while let Some(action) = receive.recv().await {
            actions.push(action);
        }
        (actions, end.await.unwrap())
    }

    #[tokio::test]
    async fn actions_come_one_by_one_in_order() {
        let (actions, end) = all(
            r#"{"extra":[1],"actions":[{"action":"create","path":"a","type":"normal","size":2,"sha256":"","content":"aGk=","encoding":"base64"},
               {"action":"delete","path":"b"}],"commit_message":"why"}"#
                .into(),
        )
        .await;
        let end = end.unwrap();
        assert_eq!((end.message.as_str(), end.count), ("why", 2));
        assert_eq!((actions[0].path.as_str(), &actions[0].content[..]), ("a", &b"hi"[..]));
        assert_eq!((actions[1].verb.as_str(), actions[1].kind.as_str()), ("delete", "normal"));
    }

    #[tokio::test]
    async fn more_actions_than_allowed_are_counted_but_not_handed_out() {
        let list = vec![r#"{"action":"delete","path":"b"}"#; MAX_ACTIONS + 7].join(",");
        let (actions, end) = all(format!(r#"{{"commit_message":"m","actions":[{list}]}}"#)).await;
        assert_eq!((actions.len(), end.unwrap().count), (MAX_ACTIONS, MAX_ACTIONS + 7));
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for body in ["", "[]", r#"{"actions":{}}"#, r#"{"actions":[{"path":"x"}]}"#, r#"{"actions":[],"actions":[]}"#] {
            assert!(all(body.into()).await.1.is_err(), "{body}");
        }
        let huge = format!(r#"{{"actions":[{{"action":"create","path":"x","content":"{}"}}]}}"#, "a".repeat(50 << 20));
        assert!(all(huge).await.1.is_err());
    }
}
