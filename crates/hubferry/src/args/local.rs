//! What brings repositories to this machine, and what pins them: `download`, `adopt`, `lock`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use hubferry_core::address::RepoKind;

use super::{Selection, parse_kind};

/// `download`
#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// A repository; without a remote it is one on Hugging Face: org/model
    #[arg(value_name = "REPO", required_unless_present = "locked")]
    pub(crate) place: Option<String>,
    /// Only these files, folders or gitignore globs
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// A branch, tag or commit, when the address names none
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// The kind, when the address does not say it: model unless given
    #[arg(long, visible_alias = "repo-type", value_parser = parse_kind, value_name = "KIND")]
    pub(crate) kind: Option<RepoKind>,
    /// Another cache than the usual one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Plain files in a directory instead of the cache; a file that was changed there is replaced, as `hf download` does
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "cache_dir")]
    pub(crate) local_dir: Option<PathBuf>,
    /// Read from this place as well: what of it has the same hash is the same; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) also: Vec<String>,
    /// Bring exactly what a lock file pins, of all its repositories or of REPO, and refuse anything else
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["revision", "force"])]
    pub(crate) locked: Option<PathBuf>,
    /// Show the exact plan and write nothing anywhere
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Re-read what is there already, and bring again what is damaged
    #[arg(long, visible_alias = "force-download", conflicts_with = "dry_run")]
    pub(crate) force: bool,
    /// Read the headers of weights first, and refuse what is cut off or does not belong together
    #[arg(long)]
    pub(crate) check_weights: bool,
    // Last: its heading would take in what follows.
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `adopt`
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Where the files lie, under whatever names: what another program downloaded
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// The repository that they are of, such as org/model; unless given, what DIR is a clone of, or is called like: .../org/model
    #[arg(value_name = "REPO")]
    pub(crate) place: Option<String>,
    /// A branch, tag or commit, when the address names none
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// The kind, when the address does not say it: model unless given
    #[arg(long, visible_alias = "repo-type", value_parser = parse_kind, value_name = "KIND")]
    pub(crate) kind: Option<RepoKind>,
    /// Another cache than the usual one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Bring from the hub what was not found
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) complete: bool,
    /// Copy where blocks cannot be shared, instead of making a blob the same file as the one in DIR
    #[arg(long)]
    pub(crate) copy: bool,
    /// Read and compare the files, and write nothing anywhere
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    // Last: its heading would take in what follows.
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `lock`
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Repositories, each with a ref where it is not the usual branch: hf:org/model hf:datasets/org/data@v1
    #[arg(value_name = "PLACE", required_unless_present = "check")]
    pub(crate) places: Vec<String>,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Compare a lock file with what its refs stand for now; exit 8 when something has changed
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["places", "output", "kind", "include", "exclude", "purpose", "formats", "quants", "variant"])]
    pub(crate) check: Option<PathBuf>,
    /// The kind, when an address does not say it and it cannot be found
    #[arg(long, visible_alias = "repo-type", value_parser = parse_kind, value_name = "KIND")]
    pub(crate) kind: Option<RepoKind>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}
