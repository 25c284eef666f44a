//! Where ModelScope's clients keep repositories on a machine: the layout since 1.38, and the ones before it.
//!
//! Read in the code of the clients `modelscope-hub` 0.5.1 and `modelscope` 1.37.1, and measured with both.

use std::path::{Path, PathBuf};

use hubferry_core::address::{RepoId, RepoKind};
use hubferry_core::error::{Error, Result};
use hubferry_core::manifest::RepoPath;

/// The branch that both clients take when nobody names one.
pub const DEFAULT_REVISION: &str = "master";
/// Also tried by the client where there is no `master`.
const OTHER_DEFAULT: &str = "main";
/// Files that the classic client keeps beside those of a repository: its index, its id, its version.
const CLASSIC_OWN: [&str; 3] = [".msc", ".mdl", ".mv"];
/// Where the classic client keeps what is on its way.
const CLASSIC_TEMPORARY: &str = "._____temp";
/// Behind the names of files that are on their way.
const UNFINISHED: [&str; 2] = [".incomplete", ".parallel_tmp"];

/// One repository in a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    cache: PathBuf,
    kind: RepoKind,
    id: RepoId,
}

impl Layout {
    /// Of `id` in the cache at `cache`.
    pub fn new(cache: &Path, kind: RepoKind, id: &RepoId) -> Self {
        Self { cache: cache.to_path_buf(), kind, id: id.clone() }
    }

    /// The folder of the repository since 1.38: `{cache}/models/{owner}--{name}`.
    pub fn repo(&self) -> PathBuf {
        self.cache.join(self.kind.plural()).join(self.id.to_string().replace('/', "--"))
    }

    /// The folder of a revision, which is named as the user named it: nothing tells which commit it was.
    pub fn snapshot(&self, revision: &str) -> PathBuf {
        revision.split('/').fold(self.repo().join("snapshots"), |at, segment| at.join(segment))
    }

    /// Where the classic client keeps the repository, most recent first; dots in names became `___`.
    fn classic(&self) -> Vec<PathBuf> {
        let Some(owner) = self.id.owner() else { return Vec::new() };
        let (kind, name) = (self.kind.plural(), self.id.name().replace('.', "___"));
        vec![
            self.cache.join(kind).join(owner).join(&name),
            self.cache.join("hub").join(kind).join(owner).join(&name),
            // With an explicit `cache_dir` there is no folder for the kind.
            self.cache.join(owner).join(&name),
            self.cache.join("hub").join(owner).join(&name),
        ]
    }

    /// The folder of the classic client that is in use, and that clients since 1.38 go on using.
    ///
    /// They know the first two places; the others are for reading.
    fn classic_in_use(&self, places: usize) -> Option<PathBuf> {
        self.classic().into_iter().take(places).find(|at| has_entries(at))
    }

    /// Where the files of a revision lie. Without one: what the client would take.
    pub fn find(&self, revision: Option<&str>) -> Result<PathBuf> {
        let missing = |what: String| {
            Error::not_found(format!("{} {} is not in the cache {}: {what}", self.kind, self.id, self.cache.display())).hint(format!(
                "bring it there first: hubferry copy ms:{}/{} mscache:{0}/{1}",
                self.kind.plural(),
                self.id
            ))
        };
        if let Some(revision) = revision {
            let at = self.snapshot(revision);
            if has_entries(&at) {
                return Ok(at);
            }
            // The classic folder has one state, and says which.
            let classic = self.classic().into_iter().find(|at| classic_revision(at).is_some_and(|there| there == revision));
            return classic.ok_or_else(|| missing(format!("it has no revision {revision:?}")));
        }
        if let Some(classic) = self.classic_in_use(usize::MAX) {
            return Ok(classic);
        }
        for name in [DEFAULT_REVISION, OTHER_DEFAULT] {
            let at = self.snapshot(name);
            if has_entries(&at) {
                return Ok(at);
            }
        }
        let there = self.revisions();
        match &there[..] {
            [] => Err(missing("nothing of it is there".into())),
            [only] => Ok(self.snapshot(only)),
            several => Err(missing(format!("no revision was named, and there are {}", several.join(", ")))),
        }
    }

    /// Where the files of a revision are to be written, so that every client finds them.
    pub fn place(&self, revision: Option<&str>) -> PathBuf {
        let default = revision.is_none_or(|revision| revision == DEFAULT_REVISION);
        let classic = default.then(|| self.classic_in_use(2)).flatten();
        classic.unwrap_or_else(|| self.snapshot(revision.unwrap_or(DEFAULT_REVISION)))
    }

    /// Where a revision that is not there yet is put together.
    pub fn incoming(&self, revision: Option<&str>) -> PathBuf {
        let name = revision.unwrap_or(DEFAULT_REVISION).replace('%', "%25").replace('/', "%2F");
        self.repo().join(".hubferry").join(name)
    }

    /// Names of revisions that are folders right below `snapshots`, in order.
    fn revisions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.repo().join("snapshots")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter(|entry| has_entries(&entry.path())).filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// The repositories of an owner that are in a cache, in order. The first two dashes of a folder's name are between owner and name.
pub fn repos(cache: &Path, kind: RepoKind, owner: &str) -> Vec<RepoId> {
    let names = |at: &Path| {
        let entries = std::fs::read_dir(at).into_iter().flatten().flatten().filter(|entry| has_entries(&entry.path()));
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let before = format!("{owner}--");
    let new = names(&cache.join(kind.plural())).into_iter().filter_map(|name| Some(name.strip_prefix(&before)?.to_owned()));
    let classic = [cache.join(kind.plural()).join(owner), cache.join("hub").join(kind.plural()).join(owner)];
    let old = classic.iter().flat_map(|at| names(at)).map(|name| name.replace("___", "."));
    let mut ids: Vec<RepoId> = new.chain(old).filter_map(|name| RepoId::new(Some(owner), &name).ok()).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn has_entries(at: &Path) -> bool {
    std::fs::read_dir(at).is_ok_and(|mut entries| entries.next().is_some())
}

/// The revision that a classic folder says it holds: `Revision:master,CreatedAt:1700000000`, or just the name.
fn classic_revision(at: &Path) -> Option<String> {
    let text = std::fs::read_to_string(at.join(".mv")).ok()?;
    let first = text.trim().split(',').next()?;
    Some(first.strip_prefix("Revision:").unwrap_or(first).trim().to_owned()).filter(|name| !name.is_empty())
}

/// Whether a file of a snapshot folder belongs to a client, and not to the repository.
pub fn is_of_client(path: &RepoPath) -> bool {
    CLASSIC_OWN.contains(&path.as_str()) || path.as_str().split('/').next() == Some(CLASSIC_TEMPORARY) || is_unfinished(path)
}

/// Whether a file is one that a client has not finished.
pub fn is_unfinished(path: &RepoPath) -> bool {
    UNFINISHED.iter().any(|end| path.name().ends_with(end)) || is_part(path.name())
}

/// `<file>_{start}_{end}`, as parallel downloads name their parts.
fn is_part(name: &str) -> bool {
    let mut pieces = name.rsplitn(3, '_');
    let numbers: Vec<Option<u64>> = pieces.by_ref().take(2).map(|piece| piece.parse().ok()).collect();
    matches!(numbers[..], [Some(end), Some(start)] if end > start && (start % (1 << 20) == 0))
        && pieces.next().is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(cache: &Path) -> Layout {
        Layout::new(cache, RepoKind::Model, &"Qwen/Qwen3.5-0.8B".parse().unwrap())
    }

    fn write(at: PathBuf) -> PathBuf {
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("config.json"), "{}").unwrap();
        at
    }

    #[test]
    fn a_revision_lies_where_the_client_puts_it() {
        let cache = layout(Path::new("/c"));
        assert_eq!(cache.snapshot("master"), Path::new("/c/models/Qwen--Qwen3.5-0.8B/snapshots/master"));
        assert_eq!(cache.snapshot("feature/x"), Path::new("/c/models/Qwen--Qwen3.5-0.8B/snapshots/feature/x"));
        assert_eq!(cache.incoming(Some("feature/x")), Path::new("/c/models/Qwen--Qwen3.5-0.8B/.hubferry/feature%2Fx"));
    }

    #[test]
    fn what_is_found_is_what_the_client_would_take() {
        let folder = tempfile::tempdir().unwrap();
        let cache = layout(folder.path());
        assert!(cache.find(None).unwrap_err().message().contains("nothing of it is there"));
        let tag = write(cache.snapshot("v1"));
        assert_eq!(cache.find(None).unwrap(), tag, "the only one");
        let other = write(cache.snapshot("v2"));
        assert!(cache.find(None).unwrap_err().message().contains("there are v1, v2"));
        let main = write(cache.snapshot("main"));
        assert_eq!(cache.find(None).unwrap(), main);
        let master = write(cache.snapshot("master"));
        assert_eq!(cache.find(None).unwrap(), master);
        assert_eq!(cache.find(Some("v2")).unwrap(), other);
        assert!(cache.find(Some("v3")).is_err());
        write(folder.path().join("hub/models/Qwen/Old___1"));
        write(folder.path().join("models/Other--x/snapshots/master"));
        let names: Vec<String> = repos(folder.path(), RepoKind::Model, "Qwen").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["Qwen/Old.1", "Qwen/Qwen3.5-0.8B"]);
    }

    #[test]
    fn a_classic_folder_in_use_is_used_on() {
        let folder = tempfile::tempdir().unwrap();
        let cache = layout(folder.path());
        assert_eq!(cache.place(None), cache.snapshot("master"));
        let classic = write(folder.path().join("hub/models/Qwen/Qwen3___5-0___8B"));
        assert_eq!(cache.place(None), classic);
        assert_eq!(cache.find(None).unwrap(), classic);
        assert_eq!(cache.place(Some("v1")), cache.snapshot("v1"));
        assert!(cache.find(Some("v1")).is_err(), "nothing says that it is v1");
        std::fs::write(classic.join(".mv"), "Revision:v1,CreatedAt:1700000000").unwrap();
        assert_eq!(cache.find(Some("v1")).unwrap(), classic);
    }

    #[test]
    fn files_of_the_clients_are_told_from_those_of_the_repository() {
        let of_client = |path: &str| is_of_client(&RepoPath::new(path).unwrap());
        for path in [".msc", ".mdl", ".mv", "._____temp/x", "model.safetensors.incomplete", "a/model.bin_0_167772159", "x.parallel_tmp"] {
            assert!(of_client(path), "{path}");
        }
        for path in ["a/.msc", "model_1_2", "model_2024_2025", "shard_5_3", ".gitattributes", "incomplete"] {
            assert!(!of_client(path), "{path}");
        }
    }
}
