//! The faces of the hub, and what they share.

pub mod body;
pub mod credentials;
pub mod file;
pub mod git;
pub mod hf;
pub mod links;
pub mod modelscope;
pub mod storage;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use tokio::sync::Semaphore;

use crate::store::Store;
use crate::users::Users;
use links::Links;

/// How many commit requests are read into memory at once; the others wait on disk.
const COMMITS_AT_ONCE: usize = 2;
/// How many Git clients the hub works out an answer for at once: each may need a list of all objects of a repository.
const WALKS_AT_ONCE: usize = 4;

/// What every request handler of every face needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    users: Users,
    urls: Urls,
    links: Links,
    part_size: u64,
    commits: Semaphore,
    walks: Semaphore,
}

/// Where the hub listens. `None` for a face that is not served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Urls {
    /// The Hugging Face API.
    pub hf: Option<SocketAddr>,
    /// The ModelScope API.
    pub ms: Option<SocketAddr>,
    /// The separate storage origin, if there is one.
    pub cdn: Option<SocketAddr>,
}

impl HubState {
    /// Puts the parts together. Files above `part_size` are uploaded in parts of that size by clients that can.
    pub fn new(store: Store, users: Users, urls: Urls, links: Links, part_size: u64) -> Self {
        let (commits, walks) = (Semaphore::new(COMMITS_AT_ONCE), Semaphore::new(WALKS_AT_ONCE));
        Self(Arc::new(Shared { store, users, urls, links, part_size, commits, walks }))
    }

    /// The repositories and bytes.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Who may do what.
    pub fn users(&self) -> &Users {
        &self.0.users
    }

    /// Where the hub listens.
    pub fn urls(&self) -> &Urls {
        &self.0.urls
    }

    /// Makes and checks links that carry their own permission.
    pub fn links(&self) -> &Links {
        &self.0.links
    }

    /// Above this size files are uploaded in parts.
    pub fn part_size(&self) -> u64 {
        self.0.part_size
    }

    /// Taken while a commit request is worked on: it may hold megabytes per line.
    pub fn commits(&self) -> &Semaphore {
        &self.0.commits
    }

    /// Taken while it is worked out what a Git client lacks, not while it is sent.
    pub fn walks(&self) -> &Semaphore {
        &self.0.walks
    }

    /// The origin under which this client reached `face`, without a trailing slash: what it wrote as host, because links to another
    /// name of the same server would be another origin to it. Only the plain form of a host is taken over.
    pub fn origin(face: Option<SocketAddr>, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).filter(|h| is_plain_host(h));
        match (host, face) {
            (Some(host), _) => format!("http://{host}"),
            (None, Some(address)) => format!("http://{address}"),
            (None, None) => String::new(),
        }
    }

    /// Where this client finds stored objects: the separate storage origin if there is one, else the face itself.
    pub fn storage_origin(&self, face: Option<SocketAddr>, headers: &HeaderMap) -> String {
        let Some(cdn) = self.0.urls.cdn else { return Self::origin(face, headers) };
        if !cdn.ip().is_unspecified() {
            return format!("http://{cdn}");
        }
        let origin = Self::origin(face, headers);
        let host = origin.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(&*origin, |(host, _)| host);
        format!("{host}:{}", cdn.port())
    }
}

fn is_plain_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_hosts_are_taken_over() {
        let face: Option<SocketAddr> = Some("127.0.0.1:80".parse().unwrap());
        let seen = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            HubState::origin(face, &headers)
        };
        assert_eq!(seen("hub.local:8080"), "http://hub.local:8080");
        assert_eq!(seen("[::1]:8080"), "http://[::1]:8080");
        assert_eq!(seen("evil/\"<x>"), "http://127.0.0.1:80");
        assert_eq!(HubState::origin(face, &HeaderMap::new()), "http://127.0.0.1:80");
    }
}
