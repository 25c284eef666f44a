//! Everything that can be typed. The doc comments here are the manual.

pub(crate) mod cache;
mod directories;
mod local;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use hubferry_core::address::RepoKind;
use hubferry_core::error::Error;
use hubferry_core::remote::Visibility;
use hubferry_core::selection::Purpose;
use hubferry_core::transfer::throttle::{Timetable, parse_size};
use hubferry_core::weights::Format;
use hubferry_remotes::git::Via;

pub(crate) use directories::{Deleting, Directories};
pub(crate) use local::{AdoptArgs, DownloadArgs, LockArgs};

use crate::machine::LEAST;
use crate::selection::{formats, programs};

const AFTER: &str = "\
Addresses:
  hf:org/model            a repository on Hugging Face   (also huggingface:, or a page URL)
  ms:org/model            a repository on ModelScope     (also modelscope:, or a page URL)
  hf:datasets/org/data    a dataset                      (models/ may be left out)
  hf:org/model@v1.0       a branch, tag or commit        (a slash inside is written %2F)
  hf:org/model/onnx       a folder or file in it
  hfcache:org/model       a repository in the cache of huggingface_hub on this machine
  mscache:org/model       the same in the cache of modelscope
  ./path, /path           a directory on this machine
  ssh://me@host:22/path   a folder on a host, by your own ssh    (/~/path: in the home folder)
  'ssh -p 7 me@host /x'   the same, as a provider shows it       (without /x: the home folder)
  team:org/model          a remote from the configuration file
  'hf:org/llama-*'        many repositories of an owner; hf:org/ is all of them
  ms:org/                 where many go: also ms:org/{owner}-{name} and ./mirror/{owner}/{name}

Exit codes:
  0 done, 1 failed, 2 usage, 3 partly done, 4 verification failed, 5 not authorised,
  6 not found, 7 temporary (try again), 8 differs, 130 interrupted";

/// The version, and what this build has that not every one has.
pub(crate) const VERSION: &str =
    if cfg!(feature = "xet") { concat!(env!("CARGO_PKG_VERSION"), " (xet)") } else { env!("CARGO_PKG_VERSION") };

/// Moves, mirrors, verifies and serves AI model and dataset repositories between any two places.
#[derive(Debug, Parser)]
#[command(name = "hubferry", version = VERSION, after_help = AFTER, max_term_width = 110, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that mean the same in every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shared options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Shared {
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true, env = "HUBFERRY_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) json: bool,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value = "auto", env = "HUBFERRY_PROGRESS")]
    pub(crate) progress: ProgressMode,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for the details of every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Configuration file instead of ./hubferry.toml or the user's own
    #[arg(long, global = true, env = "HUBFERRY_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Most files at once, and most streams from one host; how many help is found by measuring
    #[arg(long, global = true, env = "HUBFERRY_TRANSFERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) transfers: Option<u16>,
    /// Most bytes per second in each direction, such as 20M, or a timetable: "08:00,20M 23:00,off"
    #[arg(long, global = true, env = "HUBFERRY_BWLIMIT", value_name = "RATE", value_parser = parse_timetable)]
    pub(crate) bwlimit: Option<Timetable>,
    /// Most memory of the program, such as 128MiB; unless given, 64 MiB or a quarter of the container's
    #[arg(long, global = true, env = "HUBFERRY_MAX_MEMORY", value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) max_memory: Option<u64>,
    /// Replace a connection that delivers nothing for this many seconds
    #[arg(long, global = true, env = "HUBFERRY_STALL_TIMEOUT", value_name = "SECS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) stall_timeout: u16,
    /// How hubs are read
    #[arg(long, global = true, value_enum, default_value = "auto", env = "HUBFERRY_VIA")]
    pub(crate) via: Way,
    /// Take a remote from standard input, and end when that ends
    #[arg(long, global = true, hide = true)]
    pub(crate) given: bool,
    /// The same as --via git, as hf2ms wrote it
    #[arg(long, global = true, hide = true, conflicts_with = "via")]
    pub(crate) use_git: bool,
}

impl Shared {
    /// How hubs are read.
    pub(crate) fn way(&self) -> Via {
        if self.use_git { Via::Git } else { self.via.into() }
    }
}

/// How hubs are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Way {
    /// By their API, and by Git where the API refuses (403)
    Auto,
    /// By their API only
    Api,
    /// By Git and Git LFS
    Git,
    /// By the host of the destination itself, with this program, which is brought there: the bytes take the direct way
    Host,
}

impl From<Way> for Via {
    fn from(way: Way) -> Self {
        match way {
            // The host itself decides how it reads.
            Way::Auto | Way::Host => Self::Auto,
            Way::Api => Self::Api,
            Way::Git => Self::Git,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// A bar for each active file and one for all
    Bar,
    /// A line per file and one every ten seconds
    Plain,
    /// One JSON object per line
    Json,
    /// Nothing
    None,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add and update: brings what is missing or different at the destination, deletes nothing unless told to
    Copy(CopyArgs),
    /// Make the destination equal to the source: deletes too
    Sync(SyncArgs),
    /// Carry out a plan that was written to a file; exit 8 when a side has changed since
    Apply(ApplyArgs),
    /// Pin what repositories hold now, every file by its SHA-256; --check says what has changed since
    Lock(LockArgs),
    /// Bring a repository into the cache that Python programs use, and print where it is
    Download(DownloadArgs),
    /// Take files that are on this machine already into that cache, without copying them
    Adopt(AdoptArgs),
    /// Compare two places by their published hashes; exit 8 when they differ
    Diff(DiffArgs),
    /// Re-read every byte of a place and check its hash
    Verify(VerifyArgs),
    /// List the files of a repository or directory
    Ls(LsArgs),
    /// Show what a place says of a repository
    Info(InfoArgs),
    /// Write one file to stdout, verified
    Cat(CatArgs),
    /// Show how many bytes a place holds, by folder
    Du(PlaceArgs),
    /// List, verify, prune and pin what is in the Hugging Face cache of this machine
    Cache(cache::CacheArgs),
    /// Check endpoints, credentials, rights, clock, proxy, certificates and disk; one hint per finding
    Doctor(DoctorArgs),
    /// Run a hub that speaks the Hugging Face and the ModelScope API over one store
    Serve(ServeArgs),
    /// Run the main job on two embedded hubs: publish, copy, verify, copy again; leaves nothing behind
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Which files take part.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only files that match a gitignore glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leave out files that match a gitignore glob; may be repeated, wins over --include
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Of the weights, only what this program loads
    #[arg(long = "for", value_name = "PROGRAM", value_parser = programs(), ignore_case = true)]
    pub(crate) purpose: Option<Purpose>,
    /// Of the weights, only those of a format; may be repeated
    #[arg(long = "format", value_name = "FORMAT", value_parser = formats(), ignore_case = true)]
    pub(crate) formats: Vec<Format>,
    /// Of the GGUF files, only those of a quantisation such as Q4_K_M, with all their parts; may be repeated
    #[arg(long = "quant", value_name = "NAME")]
    pub(crate) quants: Vec<String>,
    /// Of the weights that were saved in several variants, this one, such as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
}

/// What copy and sync share.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Transfer {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Read from this place as well: what of it has the same hash is the same; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) also: Vec<String>,
    /// Show the exact plan and write nothing anywhere
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Write the plan to a file and nothing anywhere else: `hubferry apply FILE` carries it out
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "dry_run")]
    pub(crate) plan: Option<PathBuf>,
    /// Write what was done to a file, as an in-toto statement: every path with its hashes, and both revisions
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["dry_run", "plan"])]
    pub(crate) receipt: Option<PathBuf>,
    /// The kind, when the addresses do not say it and it cannot be found
    #[arg(long, visible_alias = "repo-type", value_parser = parse_kind, value_name = "KIND")]
    pub(crate) kind: Option<RepoKind>,
    /// Write as this kind, whatever the source is: a space can go to ModelScope as a model
    #[arg(long = "as", value_parser = parse_kind, value_name = "KIND")]
    pub(crate) as_kind: Option<RepoKind>,
    /// Who may read a destination that has to be created: as the source, unless given
    #[arg(long, value_parser = parse_visibility, value_name = "public|private|internal")]
    pub(crate) visibility: Option<Visibility>,
    /// Let the copy of a gated or private repository be public
    #[arg(long)]
    pub(crate) allow_public: bool,
    /// Let tokens and keys that are found in text files be public
    #[arg(long)]
    pub(crate) allow_secrets: bool,
    /// Summary line of the commit
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Take paths that differ only in letter case
    #[arg(long)]
    pub(crate) allow_case_collisions: bool,
    /// Change nothing on the way: neither the licence of a card, nor what becomes of files that hubs write themselves
    #[arg(long)]
    pub(crate) raw: bool,
    /// Read the headers of weights first, and refuse what is cut off or does not belong together
    #[arg(long)]
    pub(crate) check_weights: bool,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) refs: WholeRepository,
}

/// More of a repository than one revision.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Whole repositories")]
pub(crate) struct WholeRepository {
    /// All branches and tags; the default branch goes to the default branch (main to master), the others keep their names
    #[arg(long)]
    pub(crate) all_refs: bool,
    /// With --all-refs: a branch goes to another name; may be repeated
    #[arg(long, value_name = "FROM=TO", requires = "all_refs")]
    pub(crate) branch_map: Vec<String>,
    /// With --all-refs: move tags that are there with other content
    #[arg(long, requires = "all_refs")]
    pub(crate) force_tags: bool,
    /// Replay the commits of a branch one by one, with their messages, instead of making one
    #[arg(long, conflicts_with = "message")]
    pub(crate) history: bool,
}

/// `copy`
#[derive(Debug, Args)]
#[command(override_usage = "hubferry copy [OPTIONS] <SRC>... <DST>\n       hubferry copy [OPTIONS] <SRC>... --to <REMOTE>")]
pub(crate) struct CopyArgs {
    /// Sources, and at last the destination; several sources go to a namespace such as ms:org/
    #[arg(value_name = "PLACE")]
    pub(crate) places: Vec<String>,
    /// A source, written as hf2ms took it; without a destination it goes to the other of the two great hubs
    #[arg(long, value_name = "PLACE", hide_short_help = true)]
    pub(crate) source: Vec<String>,
    /// Go to the repository of the same name on this remote; then every place is a source, and names without a remote are on the other hub
    #[arg(long, value_name = "REMOTE")]
    pub(crate) to: Option<String>,
    /// With --to: another name there, such as org/name, or org/ for many
    #[arg(long, value_name = "NAME")]
    pub(crate) dest: Option<String>,
    /// Copy exactly what a lock file pins, and refuse anything else: `hubferry copy --locked FILE DST`, or a source before DST
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["source", "to", "dest", "from_file", "plan", "all_refs", "history", "delete"])]
    pub(crate) locked: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) deleting: Deleting,
    #[command(flatten)]
    pub(crate) transfer: Transfer,
    // Last: what follows would stand under its heading.
    #[command(flatten)]
    pub(crate) many: Many,
}

/// Which repositories take part, when there are many.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many repositories")]
pub(crate) struct Many {
    /// Read more sources from a file, one on each line, or from `-`; a second word on a line is the destination of that one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from_file: Option<PathBuf>,
    /// Only repositories whose owner/name matches a glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include_repo: Vec<String>,
    /// Leave out repositories whose owner/name matches a glob; may be repeated, wins over --include-repo
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude_repo: Vec<String>,
    /// Take at most this many repositories
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Most repositories at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

/// `sync`
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Where from
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Where to
    #[arg(value_name = "DST")]
    pub(crate) destination: String,
    /// Refuse when more files than this would be deleted; with --all-refs, also more branches and tags
    #[arg(long, value_name = "N")]
    pub(crate) max_delete: Option<usize>,
    /// Delete also what --include and --exclude leave out; otherwise it stays at the destination
    #[arg(long)]
    pub(crate) delete_excluded: bool,
    /// Delete without asking on a terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
    // Last: what follows would stand under its heading.
    #[command(flatten)]
    pub(crate) transfer: Transfer,
}

/// `apply`
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A plan that `copy --plan` or `sync --plan` wrote
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Show the plan, look whether both sides are still as they were, and write nothing anywhere
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Write what was done to a file, as an in-toto statement: every path with its hashes, and both revisions
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "dry_run")]
    pub(crate) receipt: Option<PathBuf>,
    /// Most repositories at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

/// `diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// One place
    pub(crate) left: String,
    /// The other place
    pub(crate) right: String,
    /// Change nothing on the way: neither the licence of a card, nor what becomes of files that hubs write themselves
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The place whose bytes are read
    pub(crate) place: String,
    /// Compare with this place instead of the hashes that PLACE itself publishes
    #[arg(long, value_name = "SRC")]
    pub(crate) against: Option<String>,
    /// Replace what is bad or missing from --against
    #[arg(long, requires = "against")]
    pub(crate) repair: bool,
    /// Also read the headers of weights, and name what is cut off or does not belong together; needs no hashes
    #[arg(long, conflicts_with = "repair")]
    pub(crate) check_weights: bool,
    /// Change nothing on the way: neither the licence of a card, nor what becomes of files that hubs write themselves
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `du`
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The place
    pub(crate) place: String,
}

/// `info`
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The place
    pub(crate) place: String,
    /// Read the header of every file of weights, and show every file
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Read no headers: ask for the listing only
    #[arg(long, conflicts_with = "all")]
    pub(crate) no_weights: bool,
}

/// `ls`
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// The place
    pub(crate) place: String,
    /// Also sizes and hashes
    #[arg(short, long)]
    pub(crate) long: bool,
    /// As a tree of folders
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `cat`
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// A file: hf:org/model/config.json, or ./dir/config.json
    pub(crate) file: String,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Which remotes, or hosts such as ssh://me@host/path; all remotes when none is named
    pub(crate) remotes: Vec<String>,
    /// What the tokens must be good for: ends in exit 5 where one is missing or may not
    #[arg(long, value_enum)]
    pub(crate) need: Option<Need>,
    /// Send two files to a private repository made for it, read them back, and remove it (ModelScope lets no token remove one: it stays, and is named)
    #[arg(long)]
    pub(crate) transfer: bool,
    /// A repository or directory to probe for reading
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) read: Option<String>,
    /// A directory to probe for writing
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Option<PathBuf>,
}

/// What a token must be good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Need {
    /// Reading: a token that is accepted
    Read,
    /// Publishing: a token that may write
    Write,
}

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the store; created when absent
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// Where the Hugging Face API listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) hf: SocketAddr,
    /// Where the ModelScope API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) ms: SocketAddr,
    /// Serve large files from an origin of their own, as the real hubs do
    #[arg(long, value_name = "ADDR")]
    pub(crate) cdn: Option<SocketAddr>,
    /// A user who may write, or with :read only read; may be repeated. A token file is safer: NAME:@FILE
    #[arg(long = "user", value_name = "NAME:TOKEN[:read]", env = "HUBFERRY_SERVE_USERS", value_delimiter = ' ', hide_env_values = true)]
    pub(crate) users: Vec<String>,
    /// Written once it listens: {"hf": URL, "ms": URL, "pid": N}
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ready_file: Option<PathBuf>,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Use the model in this directory instead of a small sample
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) model: Option<PathBuf>,
}

fn parse_kind(text: &str) -> Result<RepoKind, String> {
    RepoKind::from_word(text).ok_or_else(|| format!("{text:?} is not a kind; use model, dataset or space"))
}

fn parse_visibility(text: &str) -> Result<Visibility, String> {
    match text {
        "public" => Ok(Visibility::Public),
        "private" => Ok(Visibility::Private),
        "internal" => Ok(Visibility::Internal),
        _ => Err(format!("{text:?} is not public, private or internal")),
    }
}

fn parse_timetable(text: &str) -> Result<Timetable, String> {
    text.parse().map_err(|error: Error| explained(&error))
}

/// A total for the whole program; less than it needs is refused, because it could not be kept.
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| explained(&error))?;
    if bytes < LEAST {
        return Err(format!("{text} is less than the program needs; give it at least {} MiB", LEAST >> 20));
    }
    Ok(bytes)
}

/// The message and the hint on one line.
pub(crate) fn explained(error: &Error) -> String {
    error.hint_text().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_has_a_least() {
        assert_eq!(parse_memory("64MiB"), Ok(64 << 20));
        assert!(parse_memory("16M").unwrap_err().contains("at least 32 MiB"));
        assert!(parse_memory("lots").unwrap_err().contains("is not a size; write"));
    }
}
