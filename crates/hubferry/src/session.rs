//! What every command works with: settings, remotes, the engine's context, output and progress.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hubferry_core::address::{Address, RepoKind, SshAddress};
use hubferry_core::card::{self, CardSource};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::{Event, Reporter, Wire};
use hubferry_core::generated::Generated;
use hubferry_core::license::Vocabulary;
use hubferry_core::manifest::{Entry, RepoPath};
use hubferry_core::ops::Message;
use hubferry_core::remote::{Source, Target};
use hubferry_core::transfer::Context;
use hubferry_core::transfer::governor::{Bounds, Governors};
use hubferry_core::transfer::memory::Budget;
use hubferry_remotes::digests::FilePairs;
use hubferry_remotes::hfcache::layout::Cache;
use hubferry_remotes::http::HttpConfig;
use hubferry_remotes::registry::{RemotePlace, Remotes};
use indicatif::MultiProgress;

use crate::args::{ProgressMode, Shared, Way};
use crate::config::{self, Settings};
use crate::exit::Failure;
use crate::given;
use crate::machine;
use crate::output::Output;
use crate::progress::Progress;
use crate::secrets;

/// A place to read from, and its card where that may be edited on the way.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    card: Option<Arc<CardSource>>,
}

impl Opened {
    /// What was changed in the card, for people; nothing if the card is among those `left` as they are.
    pub(crate) fn changes(&self, left: &[RepoPath]) -> Vec<String> {
        let is_left = left.iter().any(|path| path.as_str() == card::FILE);
        self.card.iter().filter(|_| !is_left).flat_map(|card| card.changes()).map(|change| change.to_string()).collect()
    }

    /// The card as its place has it, if it was changed.
    pub(crate) fn original(&self) -> Option<Entry> {
        self.card.as_ref().and_then(|card| card.original())
    }

    /// The same for every revision that was read.
    pub(crate) fn all_changes(&self) -> Vec<String> {
        self.card.iter().flat_map(|card| card.all_changes()).map(|change| change.to_string()).collect()
    }
}

/// One run of the program.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) remotes: Remotes,
    pub(crate) context: Context,
    pub(crate) output: Output,
    pub(crate) progress: Arc<Progress>,
    pub(crate) wire: Arc<Wire>,
    /// The host of the destination reads by itself.
    pub(crate) by_host: bool,
}

impl Session {
    /// Reads configuration and environment; connects nowhere.
    pub(crate) fn new(shared: &Shared, output: Output, bars: Arc<MultiProgress>) -> Result<Self, Failure> {
        let mut settings = config::load(shared.config.as_deref()).map_err(Failure::usage)?;
        if shared.given {
            given::take(&mut settings.remotes).map_err(Failure::usage)?;
        }
        Self::with_settings(shared, settings, output, bars)
    }

    /// The same over settings made elsewhere.
    pub(crate) fn with_settings(shared: &Shared, settings: Settings, output: Output, bars: Arc<MultiProgress>) -> Result<Self, Failure> {
        secrets::keep(settings.remotes.iter().filter_map(|remote| remote.hub()?.token.as_ref()));
        let progress = Arc::new(Progress::new(shared.progress, shared.quiet, shared.verbose > 0, bars));
        let reporter: Arc<dyn Reporter> = progress.clone();
        let wire = Wire::new();
        let idle = Duration::from_secs(u64::from(shared.stall_timeout));
        let timetable = shared.bwlimit.as_ref().or(settings.defaults.bwlimit.as_ref());
        // Each direction has the whole rate for itself.
        let pace = || timetable.and_then(machine::throttle);
        let http = HttpConfig {
            idle_timeout: idle,
            root_certificates: settings.certificates.iter().map(|(_, pem)| pem.clone()).collect(),
            wire: wire.clone(),
            upload_pace: pace(),
            ..HttpConfig::default()
        };
        let remotes = Remotes::new(settings.remotes.clone(), http.clone(), reporter.clone(), settings.cache.as_deref())?;
        let remotes = remotes.with_ssh(settings.ssh.clone(), &http, settings.cache.as_deref());
        let remotes = remotes.reading(shared.way(), settings.git.clone());
        let memory = machine::buffers(shared.max_memory.or(settings.defaults.max_memory).unwrap_or_else(machine::usual_memory));
        #[cfg(feature = "xet")]
        let (remotes, memory) = crate::xet::add(remotes, &settings, memory);
        let mut context = Context::new(reporter.clone());
        context.idle = idle;
        let mut bounds = Bounds::default();
        if let Some(transfers) = shared.transfers.or(settings.defaults.transfers) {
            context.transfers = usize::from(transfers.max(1));
            bounds = Bounds::up_to(context.transfers);
        }
        context.governors = Governors::reporting(bounds, reporter);
        context.memory = Budget::new(memory);
        context.throttle = pace();
        if let Some(cache) = &settings.cache {
            context.pairs = Arc::new(FilePairs::open(&cache.join("digests")));
        }
        Ok(Self { settings, remotes, context, output, progress, wire, by_host: shared.via == Way::Host })
    }

    /// Reads what a user typed.
    pub(crate) fn address(&self, text: &str) -> Result<Address, Failure> {
        let address = Address::parse(text, &self.remotes.names()).map_err(Failure::usage)?;
        if matches!(address, Address::Ssh(_)) {
            let (_, ignored) = SshAddress::parse(text.trim()).map_err(Failure::usage)?;
            for option in ignored {
                self.context.reporter.event(&Event::Note(format!("{option} is left out: a copy has no use for it")));
            }
        }
        Ok(address)
    }

    /// Opens a place to read from; an address that names nothing readable is a usage error.
    pub(crate) fn source(&self, address: &Address, kind: Option<RepoKind>) -> Result<Arc<dyn Source>, Failure> {
        self.remotes.source(address, kind).map_err(mistyped)
    }

    /// Opens a place for those who only look: a directory need not be read for that, unless hashes are shown.
    pub(crate) fn source_to_look(&self, address: &Address, hashes: bool) -> Result<Arc<dyn Source>, Failure> {
        match address {
            Address::Dir(path) if !hashes => Ok(self.remotes.unhashed_source(path)),
            _ => self.source(address, None),
        }
    }

    /// Opens `place` to be read for `other`. Hugging Face takes no card whose licence is not in its own words, so one that comes from
    /// a hub with others is put into them. ModelScope shows the words of Hugging Face as they are.
    pub(crate) fn source_for(&self, place: &Address, other: &Address, kind: Option<RepoKind>, raw: bool) -> Result<Opened, Failure> {
        let source = self.source(place, kind)?;
        let (from, to) = (self.remotes.vocabulary(place), self.remotes.vocabulary(other));
        if raw || to != Some(Vocabulary::HuggingFace) || from.is_none_or(|from| from == Vocabulary::HuggingFace) {
            return Ok(Opened { source, card: None });
        }
        let card = Arc::new(CardSource::new(source, Vocabulary::HuggingFace, self.context.reporter.clone()));
        Ok(Opened { source: card.clone(), card: Some(card) })
    }

    /// How files that hubs generate are treated on the way from one place to another, which `there` reads.
    pub(crate) fn generated(&self, from: &Address, to: &Address, there: Arc<dyn Source>, raw: bool) -> Option<Generated> {
        let (ours, theirs) = (self.remotes.vocabulary(from), self.remotes.vocabulary(to));
        (!raw && theirs.is_some()).then(|| Generated { foreign: ours.is_some() && ours != theirs, there })
    }

    /// The Hugging Face cache in a folder, or that which the environment names; and whether symbolic links may be made there.
    pub(crate) fn cache(&self, folder: Option<&Path>) -> Result<(Cache, bool), Failure> {
        let settings = self.settings.remotes.iter().find_map(|remote| match &remote.place {
            RemotePlace::Cache(settings) if remote.name == "hfcache" => Some(settings),
            _ => None,
        });
        let links = settings.is_none_or(|settings| settings.no_symlinks.is_none());
        match folder.or(settings.map(|settings| settings.root.as_path())) {
            Some(root) => Ok((Cache::new(root), links)),
            None => Err(usage("nothing says where the cache is", "name it with --cache-dir, HF_HUB_CACHE or HF_HOME")),
        }
    }

    /// Opens a place to write to. `kind` is used where the address says none.
    pub(crate) fn target(&self, address: &Address, kind: Option<RepoKind>) -> Result<Arc<dyn Target>, Failure> {
        self.remotes.target(address, kind.unwrap_or(RepoKind::Model)).map_err(mistyped)
    }
}

impl Drop for Session {
    /// After a signal, tasks that hold something of Git may not come to their own end.
    fn drop(&mut self) {
        self.settings.git.tidy();
    }
}

/// Opening asks nobody, so what is invalid then was typed so.
pub(crate) fn mistyped(error: Error) -> Failure {
    if error.kind() == Kind::Invalid { Failure::usage(error) } else { error.into() }
}

/// Name and version of the tool, as commits, plans and receipts have it.
pub(crate) const TOOL: &str = concat!("hubferry/", env!("CARGO_PKG_VERSION"));

/// The time as RFC 3339 has it, in UTC.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The commit message for a copy from `source`.
pub(crate) fn message(source: &Address, summary: Option<&str>) -> Message {
    let source = match source {
        Address::Repo(repo) => Address::Repo(hubferry_core::address::RepoAddress { rev: None, ..repo.clone() }).to_string(),
        // The name of a local folder, not the path of somebody's machine.
        Address::Dir(path) => format!("dir:{}", folder_name(Path::new(path))),
        // The same of a folder on a host.
        Address::Ssh(place) => format!("ssh:{}", place.folder()),
        Address::Many(_) => source.to_string(),
    };
    Message { summary: summary.map(str::to_owned), source, tool: TOOL.to_owned() }
}

fn folder_name(path: &Path) -> String {
    let full: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    full.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A mistake in the use of a command.
pub(crate) fn usage(message: &str, hint: &str) -> Failure {
    Failure::usage(Error::invalid(message).hint(hint))
}

/// Whether bars may be drawn at all.
pub(crate) fn plain(mode: ProgressMode) -> bool {
    !matches!(mode, ProgressMode::Auto | ProgressMode::Bar)
}
