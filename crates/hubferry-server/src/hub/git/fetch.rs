//! Fetching: what both sides have in common, where the history ends, and the pack with the rest.

use std::collections::HashSet;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hubferry_core::digest::GitOid;
use hubferry_core::error::{Error, Kind, Result};

use super::super::HubState;
use super::Face;
use super::graph::{Edge, Graph};
use super::pkt::{DELIMITER, FLUSH, put, put_band, put_failure};
use super::request::{Fetch, Filter};
use super::sending::{Contents, pack};
use super::walk::{Walk, find};
use crate::store::git::Node;
use crate::store::{Repo, Store};

/// A fetch, held against the history of the repository.
struct Session<'a> {
    store: &'a Store,
    graph: Graph,
    /// The wanted commits.
    tips: Vec<GitOid>,
    /// What is wanted besides commits.
    nodes: Vec<Node>,
    /// Commits that both sides have, as the client named them.
    common: Vec<GitOid>,
    /// Where the client's history ends now.
    shallow: HashSet<GitOid>,
    /// Where it ends then, when the client wants that to change.
    edge: Option<Edge>,
    filter: Filter,
}

/// Answers a fetch of version 2.
pub(super) async fn answer(hub: &HubState, repo: &Repo, face: Face, wanted: Fetch) -> Result<Body> {
    if wanted.wants.is_empty() {
        return Ok(Body::empty());
    }
    let _place = place(hub).await?;
    let session = match Session::new(hub.store(), repo, face, &wanted).await? {
        Ok(session) => session,
        Err(refused) => return Ok(refusal(&refused)),
    };
    let mut out = Vec::new();
    if !wanted.done && !wanted.haves.is_empty() {
        put(&mut out, "acknowledgments");
        if session.common.is_empty() {
            put(&mut out, "NAK");
        }
        session.common.iter().for_each(|id| put(&mut out, &format!("ACK {id}")));
        if !session.is_enough() {
            out.extend_from_slice(FLUSH);
            return Ok(Body::from(out));
        }
        put(&mut out, "ready");
        out.extend_from_slice(DELIMITER);
    }
    if let Some(edge) = &session.edge {
        put(&mut out, "shallow-info");
        put_edge(&mut out, edge);
        out.extend_from_slice(DELIMITER);
    }
    put(&mut out, "packfile");
    session.send(out, true).await
}

/// Answers a fetch of the versions before 2, as one of the requests that a client without memory on the other side makes.
pub(super) async fn answer_old(hub: &HubState, repo: &Repo, face: Face, wanted: Fetch) -> Result<Body> {
    let _place = place(hub).await?;
    let session = match Session::new(hub.store(), repo, face, &wanted).await? {
        Ok(session) => session,
        Err(refused) => return Ok(refusal(&refused)),
    };
    let mut out = Vec::new();
    if let Some(edge) = &session.edge {
        put_edge(&mut out, edge);
        out.extend_from_slice(FLUSH);
    }
    if wanted.only_wants {
        return Ok(Body::from(out));
    }
    let last = session.common.last();
    if wanted.can.acks {
        session.common.iter().for_each(|id| put(&mut out, &format!("ACK {id} common")));
    } else if let Some(first) = session.common.first() {
        put(&mut out, &format!("ACK {first}"));
    }
    let mut send = wanted.done;
    match last {
        Some(last) if wanted.can.acks && wanted.done => put(&mut out, &format!("ACK {last}")),
        Some(last) if wanted.can.acks => {
            let ready = session.is_enough();
            if ready {
                put(&mut out, &format!("ACK {last} ready"));
            }
            put(&mut out, "NAK");
            send = ready && wanted.can.no_done;
            if send {
                put(&mut out, &format!("ACK {last}"));
            }
        }
        // Without detailed answers the first common commit is all that is said.
        Some(_) => {}
        None => put(&mut out, "NAK"),
    }
    if send { session.send(out, wanted.can.side_band).await } else { Ok(Body::from(out)) }
}

async fn place(hub: &HubState) -> Result<tokio::sync::SemaphorePermit<'_>> {
    hub.walks().acquire().await.map_err(|_| Error::new(Kind::Interrupted, "the hub is stopping"))
}

/// A refusal in the protocol: Git shows it as what the remote said.
fn refusal(why: &str) -> Body {
    let mut out = Vec::new();
    put(&mut out, &format!("ERR {why}"));
    Body::from(out)
}

fn put_edge(out: &mut Vec<u8>, edge: &Edge) {
    edge.shallow.iter().for_each(|id| put(out, &format!("shallow {id}")));
    edge.unshallow.iter().for_each(|id| put(out, &format!("unshallow {id}")));
}

impl<'a> Session<'a> {
    /// `Err` inside holds what the client is told when it wants what is not there.
    async fn new(store: &'a Store, repo: &Repo, face: Face, wanted: &Fetch) -> Result<std::result::Result<Self, String>> {
        let graph = Graph::new(store.history(repo).await?);
        let (tips, others): (Vec<GitOid>, Vec<GitOid>) = wanted.wants.iter().partition(|id| graph.get(id).is_some());
        let nodes = if others.is_empty() {
            Vec::new()
        } else {
            let heads: Vec<GitOid> = store.refs(repo, "refs/").await?.into_iter().map(|reference| reference.target).collect();
            match find(store, &graph, &heads, &others).await? {
                Ok(nodes) => nodes,
                Err(unknown) => return Ok(Err(format!("upload-pack: not our ref {unknown}"))),
            }
        };
        let mut named = HashSet::new();
        let common = wanted.haves.iter().copied().filter(|id| graph.get(id).is_some() && named.insert(*id)).collect();
        let shallow: HashSet<GitOid> = wanted.shallow.iter().copied().filter(|id| graph.get(id).is_some()).collect();
        let mut edge = None;
        if wanted.deepen.is_wanted() {
            let mut excluded = Vec::new();
            for name in &wanted.deepen.without {
                match store.resolve(repo, &face.name(name)).await {
                    Ok(commit) => excluded.push(commit),
                    Err(error) if error.kind() == Kind::NotFound => {
                        return Ok(Err(format!("git upload-pack: deepen-not is not a ref: {name}")));
                    }
                    Err(error) => return Err(error),
                }
            }
            edge = graph.edge(&tips, &shallow, &wanted.deepen, &excluded);
            if edge.is_none() {
                return Ok(Err("no commits selected for shallow requests".to_owned()));
            }
        }
        Ok(Ok(Self { store, graph, tips, nodes, common, shallow, edge, filter: wanted.filter }))
    }

    /// Whether asking the client for more could make the pack smaller.
    fn is_enough(&self) -> bool {
        !self.common.is_empty() && self.graph.all_lead_to(&self.tips, &self.common.iter().copied().collect())
    }

    /// `out`, and behind it the pack with what the client lacks.
    async fn send(self, out: Vec<u8>, banded: bool) -> Result<Body> {
        let contents = self.contents().await?;
        let pieces = pack(self.store.clone(), contents)?;
        let pack = if banded { in_bands(pieces) } else { pieces };
        let head = stream::once(std::future::ready(Ok(Bytes::from(out))));
        Ok(Body::from_stream(head.chain(pack)))
    }

    async fn contents(&self) -> Result<Contents> {
        let common: HashSet<GitOid> = self.common.iter().copied().collect();
        let after = self.edge.as_ref().map_or(&self.shallow, |edge| &edge.ends);
        let difference = self.graph.difference(&self.tips, &common, &self.shallow, after);
        let roots = |commits: &[GitOid]| commits.iter().filter_map(|id| self.graph.get(id)).map(|step| step.tree).collect::<Vec<_>>();
        let mut walk = Walk::new(self.store, self.filter);
        let mut asked = HashSet::new();
        for node in &self.nodes {
            match *node {
                Node::File(id) => {
                    asked.insert(id);
                    walk.add_blob(id);
                }
                Node::Folder(id) => walk.add(id).await?,
            }
        }
        for tree in roots(&difference.beside) {
            walk.skip(tree).await?;
        }
        for tree in roots(&difference.send) {
            walk.add(tree).await?;
        }
        let (trees, blobs) = walk.finish(self.filter, &asked).await?;
        Ok(Contents { commits: difference.send, trees, blobs })
    }
}

/// The pack in side-band lines. A failure becomes a line too: the connection is all there is to say it by.
fn in_bands(pieces: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let lines = pieces.map(|piece| {
        let mut out = Vec::new();
        match piece {
            Ok(piece) => put_band(&mut out, &piece),
            Err(error) => {
                tracing::error!(%error, "a pack broke off");
                put_failure(&mut out, "the hub could not read what it stores");
            }
        }
        Ok(Bytes::from(out))
    });
    lines.chain(stream::once(std::future::ready(Ok(Bytes::from_static(FLUSH))))).boxed()
}
