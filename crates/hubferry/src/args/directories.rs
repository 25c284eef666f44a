//! Flags about directories and about what is deleted there.

use clap::{Args, ValueEnum};
use hubferry_core::plan::Compare;
use hubferry_remotes::registry::Directory;

/// How directories are compared and written.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Directories")]
pub(crate) struct Directories {
    /// When files of equal size count as equal; what is not compared by hash is reported as such
    #[arg(long, value_enum, default_value = "hash", value_name = "WHAT")]
    pub(crate) compare: CompareBy,
    /// Switch the destination as a whole: it is a link to a snapshot in DST.snapshots, replaced at the end by one rename
    #[arg(long)]
    pub(crate) atomic: bool,
    /// With --atomic: how many snapshots stay, the present one included
    #[arg(long, value_name = "N", requires = "atomic", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) keep: u16,
    /// Refuse names that Windows cannot hold; where the destination lies on a file system of Windows they are refused anyway
    #[arg(long)]
    pub(crate) windows_names: bool,
}

impl Directories {
    /// How a directory is opened to be written.
    pub(crate) fn writing(&self) -> Directory {
        Directory {
            unhashed: Compare::from(self.compare) != Compare::Hash,
            windows_names: self.windows_names,
            snapshots: self.atomic.then_some(usize::from(self.keep)),
        }
    }
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
