//! Flags about directories and about what is deleted there.

use clap::{Args, ValueEnum};
use hubferry_core::plan::Compare;

/// How directories are compared and written.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Directories")]
pub(crate) struct Directories {
    /// When files of equal size count as equal; what is not compared by hash is reported as such
    #[arg(long, value_enum, default_value = "hash", value_name = "WHAT")]
    pub(crate) compare: CompareBy,
}

/// When files of equal size count as equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum CompareBy {
    /// When their hashes are equal; files that have not changed are not read again
    #[default]
    Hash,
    /// Always: nothing is read to compare it, but files with holes or marked as unfinished
    Size,
    /// When their modification times are equal too; for directories on both sides
    Mtime,
}

impl From<CompareBy> for Compare {
    fn from(by: CompareBy) -> Self {
        match by {
            CompareBy::Hash => Self::Hash,
            CompareBy::Size => Self::Size,
            CompareBy::Mtime => Self::Mtime,
        }
    }
}

/// `copy` that deletes.
#[derive(Debug, Default, Args)]
pub(crate) struct Deleting {
    /// Delete at the destination what the source does not have: the same as `sync`
    #[arg(long)]
    pub(crate) delete: bool,
    /// With --delete: refuse when more files than this would be deleted
    #[arg(long, value_name = "N", requires = "delete")]
    pub(crate) max_delete: Option<usize>,
    /// With --delete: delete also what --include and --exclude leave out
    #[arg(long, requires = "delete")]
    pub(crate) delete_excluded: bool,
    /// With --delete: do not ask on a terminal
    #[arg(short, long, requires = "delete")]
    pub(crate) yes: bool,
}
