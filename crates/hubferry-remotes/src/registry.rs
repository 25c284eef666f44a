//! From an address to an open remote: the table of remotes, and how each protocol is opened as source and as target.

mod caches;
mod facts;
mod ssh;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hubferry_core::address::{Address, Grammar, Names, RemoteName, RepoAddress, RepoId, RepoKind};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Reporter;
use hubferry_core::license::Vocabulary;
use hubferry_core::remote::{Source, Target};
use hubferry_core::secret::Token;
use hubferry_core::subtree::{SubSource, SubTarget};
use hubferry_core::transfer::journal::{Journal, MemoryJournal};
use url::Url;

use crate::dir::{DirOptions, DirSource, DirTarget, HashCache};
use crate::git::{GitTool, Via, Ways};
use crate::hf::{HfConfig, HfRemote};
use crate::http::{Http, HttpConfig, Redirects};
use crate::journal::FileJournal;
use crate::modelscope::{MsConfig, MsRemote};
use crate::names::Rules;
use crate::scratch::{Hub, Scratch};
use crate::ssh::{SshConfig, SshHosts, SshTool};

/// How a hub speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// The Hugging Face Hub API.
    HuggingFace,
    /// The ModelScope API.
    ModelScope,
}

/// Where a hub is and who we are there.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Its URL.
    pub endpoint: Url,
    /// Where that came from, for people.
    pub endpoint_from: String,
    /// Our token.
    pub token: Option<Token>,
    /// Where that came from, for people; never the token.
    pub credential_from: Option<String>,
    /// The setting that forbids every request.
    pub offline: Option<String>,
}

/// A remote by name.
#[derive(Clone, Debug)]
pub struct RemoteSettings {
    /// What addresses start with.
    pub name: String,
    /// Other prefixes that mean the same.
    pub aliases: Vec<String>,
    /// What and where it is.
    pub place: RemotePlace,
    /// Hosts of its pages.
    pub hosts: Vec<String>,
    /// The kind that a page URL without a kind word means.
    pub bare_url_kind: Option<RepoKind>,
}

/// What a remote is.
#[derive(Clone, Debug)]
pub enum RemotePlace {
    /// A hub, which is asked over the network.
    Hub {
        /// How it speaks.
        protocol: Protocol,
        /// Where it is.
        hub: HubSettings,
    },
    /// The cache of a hub's client, in a folder of this machine.
    Cache(CacheSettings),
}

/// Whose cache it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheOf {
    /// `huggingface_hub`: blobs, and snapshots that link to them.
    HuggingFace,
    /// `modelscope`: plain files.
    ModelScope,
}

/// Where a cache is.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Whose it is.
    pub of: CacheOf,
    /// Its top folder, which need not exist.
    pub root: PathBuf,
    /// Where that came from, for people.
    pub root_from: String,
    /// The setting that forbids symbolic links.
    pub no_symlinks: Option<String>,
}

impl RemoteSettings {
    /// The hub that it is; `None` for a cache.
    pub fn hub(&self) -> Option<&HubSettings> {
        match &self.place {
            RemotePlace::Hub { hub, .. } => Some(hub),
            RemotePlace::Cache(_) => None,
        }
    }

    /// How the hub speaks; `None` for a cache.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.place {
            RemotePlace::Hub { protocol, .. } => Some(*protocol),
            RemotePlace::Cache(_) => None,
        }
    }
}

/// A hub that may be asked.
#[derive(Clone, Copy)]
struct Online<'a> {
    name: &'a str,
    protocol: Protocol,
    hub: &'a HubSettings,
}

/// How the token of a remote is set, for hints: where it came from, or else by the variable that is `usual` for a built-in one.
fn set_token(remote: Online<'_>, usual: &str) -> String {
    let is_variable = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    match &remote.hub.credential_from {
        Some(name) if is_variable(name) => format!("set {name} to"),
        Some(file) => format!("set {usual} to, or put into {file},"),
        None if remote.name == "hf" => format!("set {usual} to"),
        None => format!("name with token_env or token_file in remotes.{} of the configuration", remote.name),
    }
}

/// A repository without the part of it that is meant.
fn whole(repo: &RepoAddress) -> String {
    Address::Repo(RepoAddress { path: None, ..repo.clone() }).to_string()
}

/// Who a token belongs to and what it may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User name.
    pub name: String,
    /// Organisations the user belongs to, as far as the hub tells.
    pub organisations: Vec<String>,
    /// The right of the token in the words of the hub, as far as it tells.
    pub role: Option<String>,
    /// Namespaces and single repositories the token may write to, as far as the hub tells; empty when it may only read.
    pub writes: Option<Vec<String>>,
}

/// How a directory is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Directory {
    /// What is compared there is sizes and times.
    pub unhashed: bool,
    /// Names that Windows cannot hold are refused wherever it lies.
    pub windows_names: bool,
    /// It is switched as a whole, and so many snapshots are kept.
    pub snapshots: Option<usize>,
}

/// Every remote that addresses can name.
pub struct Remotes {
    list: Vec<RemoteSettings>,
    http: Http,
    /// HTTP/2 was measured slower for ModelScope's blob uploads.
    http1: Http,
    reporter: Arc<dyn Reporter>,
    hashes: Option<PathBuf>,
    journal: Arc<dyn Journal>,
    ways: Ways,
    ssh: Option<SshHosts>,
    #[cfg(feature = "xet")]
    xet: Option<crate::hf::Xet>,
}

impl Remotes {
    /// Prepares the remotes; connects nowhere. `cache` is a folder for what is known between runs.
    pub fn new(list: Vec<RemoteSettings>, http: HttpConfig, reporter: Arc<dyn Reporter>, cache: Option<&Path>) -> Result<Self> {
        let http1 = Http::new(HttpConfig { http1_only: true, ..http.clone() })?;
        let journal: Arc<dyn Journal> = match cache {
            Some(folder) => Arc::new(FileJournal::at(folder.join("uploads"))),
            None => Arc::new(MemoryJournal::default()),
        };
        Ok(Self {
            list,
            http: Http::new(http)?,
            http1,
            reporter,
            hashes: cache.map(|folder| folder.join("hashes")),
            journal,
            ways: Ways::default(),
            ssh: None,
            #[cfg(feature = "xet")]
            xet: None,
        })
    }

    /// The same, reading repositories as `via` says. Without this they are read by their API only.
    #[must_use]
    pub fn reading(self, via: Via, tool: GitTool) -> Self {
        Self { ways: Ways::new(via, tool), ..self }
    }

    /// The same with hosts that are reached by SSH, as patient and as fast as `http` says.
    #[must_use]
    pub fn with_ssh(self, tool: SshTool, http: &HttpConfig, cache: Option<&Path>) -> Self {
        let config = SshConfig {
            tool,
            stall: http.idle_timeout,
            wire: http.wire.clone(),
            pace: http.upload_pace.clone(),
            reporter: self.reporter.clone(),
            journal: self.journal.clone(),
            known: cache.map(|folder| folder.join("hosts")),
        };
        Self { ssh: Some(SshHosts::new(config)), ..self }
    }

    /// The same with Xet, for the hubs that have it.
    #[cfg(feature = "xet")]
    #[must_use]
    pub fn with_xet(self, xet: Option<crate::hf::Xet>) -> Self {
        Self { xet, ..self }
    }
}

impl Remotes {
    /// Every remote, built-in ones first.
    pub fn list(&self) -> &[RemoteSettings] {
        &self.list
    }

    /// What addresses may start with.
    pub fn names(&self) -> Names {
        let name = |remote: &RemoteSettings| RemoteName {
            name: remote.name.clone(),
            aliases: remote.aliases.clone(),
            grammar: Grammar::Hub,
            hosts: remote.hosts.clone(),
            bare_url_kind: remote.bare_url_kind,
        };
        Names(self.list.iter().map(name).collect())
    }

    /// Opens a place to read from. `kind` is used where the address says none; without either it is found by asking.
    pub fn source(&self, address: &Address, kind: Option<RepoKind>) -> Result<Arc<dyn Source>> {
        match address {
            Address::Dir(path) => Ok(Arc::new(DirSource::new(path, self.dir_options()))),
            Address::Ssh(place) => Ok(Arc::new(self.hosts()?.source(place)?)),
            Address::Many(_) => {
                Err(Error::invalid(format!("{address} may be many repositories")).hint("name one of them, such as hf:org/model"))
            }
            Address::Repo(repo) => {
                let whole = self.repo_source(repo, repo.kind.or(kind))?;
                Ok(match &repo.path {
                    Some(path) => Arc::new(SubSource::new(whole, path.clone())),
                    None => whole,
                })
            }
        }
    }

    /// Opens a directory to write to, in another way than by its address alone.
    pub fn directory(&self, path: impl AsRef<Path>, how: Directory) -> Result<Arc<dyn Target>> {
        let options = self.dir_options().with_hash(!how.unhashed);
        let options = if how.windows_names { options.with_names(Rules::Windows) } else { options };
        Ok(match how.snapshots {
            Some(keep) => Arc::new(DirTarget::atomic(path, keep, options)?),
            None => Arc::new(DirTarget::new(path.as_ref(), options)),
        })
    }

    /// Opens a directory to read from, whose files are hashed only where somebody asks for it.
    pub fn unhashed_source(&self, path: impl Into<PathBuf>) -> Arc<dyn Source> {
        Arc::new(DirSource::new(path, self.dir_options().with_hash(false)))
    }

    fn repo_source(&self, repo: &RepoAddress, kind: Option<RepoKind>) -> Result<Arc<dyn Source>> {
        if let Some(cache) = self.cache(&repo.remote) {
            return Ok(self.cache_source(cache, repo, kind));
        }
        let remote = self.online(&repo.remote)?;
        let (id, rev) = (repo.id.clone(), repo.rev.clone());
        match remote.protocol {
            Protocol::HuggingFace => {
                let hub = self.hf(remote);
                let api = Arc::new(self.hf_remote(remote, kind, repo)?.source());
                self.ways.choose(whole(repo), api, &self.reporter, |tool| hub.git(kind, id, rev, tool))
            }
            Protocol::ModelScope => {
                let hub = self.ms(remote);
                let api = Arc::new(MsRemote::new(&hub, kind, id.clone(), rev.clone())?.source());
                self.ways.choose(whole(repo), api, &self.reporter, |tool| hub.git(kind, id, rev, tool))
            }
        }
    }

    /// By which way a place was read so far; `None` for what is not a repository on a hub.
    pub fn via(&self, address: &Address) -> Option<&'static str> {
        let Address::Repo(repo) = address else { return None };
        Some(if self.ways.is_by_git(&whole(repo)) { "git" } else { "api" })
    }

    /// Opens a place to write to. `kind` is used where the address says none.
    pub fn target(&self, address: &Address, kind: RepoKind) -> Result<Arc<dyn Target>> {
        match address {
            Address::Dir(path) => Ok(Arc::new(DirTarget::new(path, self.dir_options()))),
            Address::Ssh(place) => Ok(Arc::new(self.hosts()?.target(place)?)),
            Address::Many(_) => {
                Err(Error::invalid(format!("{address} may be many repositories")).hint("name one of them, such as hf:org/model"))
            }
            Address::Repo(repo) => {
                let whole = self.repo_target(repo, repo.kind.unwrap_or(kind))?;
                Ok(match &repo.path {
                    Some(path) => Arc::new(SubTarget::new(whole, path.clone())),
                    None => whole,
                })
            }
        }
    }

    fn repo_target(&self, repo: &RepoAddress, kind: RepoKind) -> Result<Arc<dyn Target>> {
        if let Some(cache) = self.cache(&repo.remote) {
            return self.cache_target(cache, repo, kind);
        }
        let remote = self.online(&repo.remote)?;
        Ok(match remote.protocol {
            Protocol::HuggingFace => Arc::new(self.hf_remote(remote, Some(kind), repo)?.target()?),
            Protocol::ModelScope => Arc::new(MsRemote::new(&self.ms(remote), Some(kind), repo.id.clone(), repo.rev.clone())?.target()),
        })
    }

    /// Every repository of a kind that an owner has on a remote and we may see, in order.
    pub async fn repos(&self, name: &str, kind: RepoKind, owner: &str) -> Result<Vec<RepoId>> {
        if let Some(cache) = self.cache(name) {
            return caches::repos(cache, kind, owner).await;
        }
        let remote = self.online(name)?;
        match remote.protocol {
            Protocol::HuggingFace => self.hf(remote).repos(kind, owner).await,
            Protocol::ModelScope => self.ms(remote).repos(kind, owner).await,
        }
    }

    /// The words for licences that cards have at a place; `None` where nobody reads them, and for a part of a repository.
    pub fn vocabulary(&self, address: &Address) -> Option<Vocabulary> {
        let Address::Repo(RepoAddress { remote, path: None, .. }) = address else { return None };
        let remote = self.list.iter().find(|known| known.name == *remote)?;
        Some(match remote.protocol()? {
            Protocol::HuggingFace => Vocabulary::HuggingFace,
            Protocol::ModelScope => Vocabulary::ModelScope,
        })
    }

    /// The kinds of repositories that can be written to a place.
    pub fn writable(&self, remote: &str) -> &'static [RepoKind] {
        match self.list.iter().find(|known| known.name == remote).and_then(RemoteSettings::protocol) {
            // Studios are made on its pages only.
            Some(Protocol::ModelScope) => &[RepoKind::Model, RepoKind::Dataset],
            _ => &RepoKind::ALL,
        }
    }

    /// Whom the token of a remote belongs to.
    pub async fn whoami(&self, name: &str) -> Result<Identity> {
        let remote = self.online(name)?;
        match remote.protocol {
            Protocol::HuggingFace => {
                let account = self.hf(remote).whoami().await?;
                Ok(Identity { name: account.name, organisations: account.organisations, role: account.role, writes: account.writes })
            }
            Protocol::ModelScope => {
                let config = self.ms(remote);
                let name = config.whoami().await?;
                let writes = config.may_write().await.ok().map(|may| if may { vec![name.clone()] } else { Vec::new() });
                Ok(Identity { name, organisations: Vec::new(), role: None, writes })
            }
        }
    }

    /// A trial repository in the namespace of `owner`, not made yet.
    pub fn scratch(&self, name: &str, owner: &str) -> Result<Scratch> {
        let remote = self.online(name)?;
        let hub = match remote.protocol {
            Protocol::HuggingFace => Hub::HuggingFace(self.hf(remote)),
            Protocol::ModelScope => Hub::ModelScope(self.ms(remote)),
        };
        Scratch::new(hub, owner)
    }

    /// What time a remote thinks it is, when it says; proves that it can be reached. Any answer will do, a refusal as well.
    pub async fn clock(&self, name: &str) -> Result<Option<SystemTime>> {
        let remote = self.online(name)?;
        // A short public listing: it needs no token and answers with success, whose head has the date.
        let (path, query): (&[&str], &[(&str, &str)]) = match remote.protocol {
            Protocol::HuggingFace => (&["api", "models"], &[("limit", "1")]),
            Protocol::ModelScope => (&["openapi", "v1", "models"], &[("page_number", "1"), ("page_size", "1")]),
        };
        let mut url = remote.hub.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        match self.http.get(url).query(query.iter().copied()).redirects(Redirects::Keep).send().await {
            Ok(response) => Ok(response.header("date").and_then(|text| httpdate::parse_http_date(text).ok())),
            Err(error) if error.contexts().iter().any(|(key, _)| *key == "status") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn online(&self, name: &str) -> Result<Online<'_>> {
        let remote = self
            .list
            .iter()
            .find(|remote| remote.name == name)
            .ok_or_else(|| Error::new(Kind::Bug, format!("an address names the remote {name:?}, which is not in the table")))?;
        let RemotePlace::Hub { protocol, hub } = &remote.place else {
            return Err(Error::new(Kind::Unsupported, format!("{name} is a folder of this machine, not a hub")));
        };
        match &hub.offline {
            Some(setting) => {
                Err(Error::new(Kind::Unsupported, format!("{setting} forbids requests to {name}")).hint(format!("unset {setting}")))
            }
            None => Ok(Online { name: &remote.name, protocol: *protocol, hub }),
        }
    }

    fn hf(&self, remote: Online<'_>) -> HfConfig {
        HfConfig {
            endpoint: remote.hub.endpoint.clone(),
            token: remote.hub.token.clone(),
            set_token: set_token(remote, "HF_TOKEN"),
            http: self.http.clone(),
            reporter: self.reporter.clone(),
            journal: self.journal.clone(),
        }
    }

    fn hf_remote(&self, remote: Online<'_>, kind: Option<RepoKind>, repo: &RepoAddress) -> Result<HfRemote> {
        let opened = HfRemote::new(&self.hf(remote), kind, repo.id.clone(), repo.rev.clone())?;
        #[cfg(feature = "xet")]
        let opened = opened.with_xet(self.xet.as_ref(), remote.hub.token.as_ref());
        Ok(opened)
    }

    fn ms(&self, remote: Online<'_>) -> MsConfig {
        MsConfig {
            endpoint: remote.hub.endpoint.clone(),
            token: remote.hub.token.clone(),
            http: self.http1.clone(),
            reporter: self.reporter.clone(),
        }
    }

    fn dir_options(&self) -> DirOptions {
        let cache = self.hashes.as_ref().map_or_else(HashCache::memory, HashCache::at);
        DirOptions::default().with_cache(cache).with_reporter(self.reporter.clone())
    }
}

impl fmt::Debug for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remotes").field("list", &self.list).finish_non_exhaustive()
    }
}
