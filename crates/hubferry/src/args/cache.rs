//! `cache` and its verbs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use hubferry_core::transfer::throttle::parse_size;

use super::explained;

/// `cache`
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// The Hugging Face cache in this folder, instead of that of HF_HUB_CACHE or HF_HOME
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: CacheVerb,
}

/// The verbs of `cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Show what is in it: repositories, revisions, sizes as on the disk, last use
    #[command(visible_alias = "ls")]
    List(CacheListArgs),
    /// Re-read every blob and compare it with its name; exit 4 when one is wrong
    Verify(CacheVerifyArgs),
    /// Remove what was not used for longest, until the rest fits; never what a branch, tag or pin holds, or somebody downloads
    Prune(CachePruneArgs),
    /// Remove repositories or revisions
    #[command(visible_alias = "rm")]
    Remove(CacheRemoveArgs),
    /// Keep repositories or revisions, whatever is pruned; without names, show what is pinned
    Pin(CachePinArgs),
    /// Take pins away
    Unpin(CacheUnpinArgs),
}

/// `cache list`
#[derive(Debug, Args)]
pub(crate) struct CacheListArgs {
    /// Only what fits, such as 'size>1GB', 'used>30d', type=dataset, refs=main, name=org/*, pinned=yes; may be repeated
    #[arg(short, long, value_name = "EXPR")]
    pub(crate) filter: Vec<String>,
    /// By size, used or name; with :asc or :desc
    #[arg(long, value_name = "KEY[:asc|:desc]", default_value = "name")]
    pub(crate) sort: String,
    /// One line for each revision
    #[arg(short, long)]
    pub(crate) revisions: bool,
    /// Show at most this many lines
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// `cache verify`
#[derive(Debug, Args)]
pub(crate) struct CacheVerifyArgs {
    /// Which: org/model, datasets/org/data, org/model@v1 or a commit; everything when none is named
    #[arg(value_name = "REPO")]
    pub(crate) places: Vec<String>,
    /// Bring what is wrong or missing again, each file at its own commit
    #[arg(long)]
    pub(crate) repair: bool,
    /// With --repair: from the repositories of the same names on this remote
    #[arg(long, value_name = "REMOTE", default_value = "hf", requires = "repair")]
    pub(crate) from: String,
}

/// `cache prune`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("rule").args(["max_size", "older_than", "unused"]).required(true).multiple(true)))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct CachePruneArgs {
    /// Until what stays takes at most this much on the disk, such as 50GB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// What was not used for this long, such as 30d, 12h or 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub(crate) older_than: Option<Duration>,
    /// What no branch or tag names, and what unfinished downloads left
    #[arg(long)]
    pub(crate) unused: bool,
    /// Also what a branch or tag names, if a rule wants it; the name goes with it
    #[arg(long)]
    pub(crate) refs: bool,
    /// Show the exact plan and remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Remove without asking on a terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `cache remove`
#[derive(Debug, Args)]
pub(crate) struct CacheRemoveArgs {
    /// Which: org/model, datasets/org/data, org/model@v1 or a commit
    #[arg(value_name = "REPO", required = true)]
    pub(crate) places: Vec<String>,
    /// Show what would go and remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Remove without asking on a terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `cache pin`
#[derive(Debug, Args)]
pub(crate) struct CachePinArgs {
    /// Which: org/model for all its revisions, org/model@main for what that names at any time, org/model@COMMIT or a commit for one
    #[arg(value_name = "REPO")]
    pub(crate) places: Vec<String>,
}

/// `cache unpin`
#[derive(Debug, Args)]
pub(crate) struct CacheUnpinArgs {
    /// Which, as it was pinned
    #[arg(value_name = "REPO", required = true)]
    pub(crate) places: Vec<String>,
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| explained(&error))
}

/// `30d`, `12h`, `2w`: a number and a unit.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds: Option<u64> = match unit.trim() {
        "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        "mo" => Some(30 * 86_400),
        "y" => Some(365 * 86_400),
        _ => None,
    };
    let time = number.parse::<u64>().ok().zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    time.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is not a time; write it like 30d, with s, m, h, d, w, mo or y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_number_and_a_unit() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(parse_age("2w"), Ok(Duration::from_hours(336)));
        for wrong in ["", "30", "d", "-1d", "1.5d", "30 days", "99999999999999999999y"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
