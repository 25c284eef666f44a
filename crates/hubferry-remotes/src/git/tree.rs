//! What a revision holds, as Git lists it: hostile names, symbolic links, submodules, and files that are pointers to large ones.

use hubferry_core::digest::{Digests, GitOid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::events::Event;
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::pointer;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::blobs::Objects;
use super::program::{Program, complaint};
use super::{GitConfig, Submodules};
use crate::http::clean;

/// More files than any repository may hold, by a wide margin.
const MOST_FILES: usize = 2_000_000;
/// Longest line of a listing that is read, in bytes; paths end at 4096.
const LONGEST_LINE: u64 = 8 << 10;
/// No pointer is shorter: its fixed words, a hash and one digit.
const SHORTEST_POINTER: u64 = 120;

/// One line of a listing.
#[derive(PartialEq, Eq, Debug)]
enum Item {
    File { path: RepoPath, id: GitOid, size: u64, is_link: bool },
    Submodule(String),
}

/// Reads `<mode> <type> <id> <size>\t<path>`. Known from Git's `git-ls-tree`.
fn item(line: &[u8]) -> Result<Item> {
    let broken =
        || Error::invalid("git lists a file in a form that is not known").context("line", clean(&String::from_utf8_lossy(line), 120));
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(broken)?;
    let (facts, name) = (&line[..tab], &line[tab + 1..]);
    let facts = std::str::from_utf8(facts).map_err(|_| broken())?;
    let mut words = facts.split_ascii_whitespace();
    let (Some(mode), Some(kind), Some(id), Some(size), None) = (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(broken());
    };
    if kind == "commit" {
        return Ok(Item::Submodule(clean(&String::from_utf8_lossy(name), 200)));
    }
    let name = std::str::from_utf8(name).map_err(|_| {
        Error::invalid("the repository has a file whose name is not UTF-8").context("path", clean(&String::from_utf8_lossy(name), 200))
    })?;
    let (true, Ok(size)) = (kind == "blob", size.parse()) else { return Err(broken()) };
    Ok(Item::File { path: RepoPath::new(name)?, id: id.parse()?, size, is_link: mode == "120000" })
}

/// Lists a commit that was fetched.
pub(super) async fn manifest(program: &Program, commit: &str, config: &GitConfig) -> Result<Manifest> {
    let mut child = program.start(&["ls-tree", "-r", "-z", "-l", "--full-tree", commit], false)?;
    let pipe = child.stdout.take().ok_or_else(|| Error::new(Kind::Bug, "git has no output"))?;
    let mut lines = BufReader::new(pipe);
    let (mut files, mut links, mut line) = (Vec::new(), 0_u64, Vec::new());
    loop {
        line.clear();
        let count = (&mut lines).take(LONGEST_LINE).read_until(0, &mut line).await;
        if count.map_err(|e| Error::new(Kind::Io, "cannot read what git lists").caused_by(e))? == 0 {
            break;
        }
        if line.pop() != Some(0) {
            return Err(Error::invalid("git lists a name that does not end"));
        }
        match item(&line)? {
            Item::File { path, id, size, is_link } => {
                links += u64::from(is_link);
                files.push((path, Entry::new(size, Digests::git(id)), is_link));
            }
            Item::Submodule(path) if config.submodules == Submodules::Refuse => {
                return Err(Error::new(Kind::Unsupported, "the repository has a submodule, which cannot be copied").context("path", path));
            }
            Item::Submodule(_) => {}
        }
        if files.len() > MOST_FILES {
            return Err(Error::invalid(format!("the revision has more than {MOST_FILES} files")));
        }
    }
    let mut complained = String::new();
    if let Some(pipe) = child.stderr.take() {
        // What cannot be read is not said.
        let _ = pipe.take(LONGEST_LINE).read_to_string(&mut complained).await;
    }
    let status = child.wait().await.map_err(|e| Error::new(Kind::Io, "cannot wait for git").caused_by(e))?;
    if !status.success() {
        return Err(complaint(&complained));
    }
    if links > 0 {
        config.reporter.event(&Event::Note(format!(
            "{links} of the files of {} are symbolic links: each is taken as a small file that holds the name of its target, as the API gives it",
            config.id
        )));
    }
    resolve_pointers(program, &mut files).await?;
    Manifest::new(Revision::new(commit)?, files.into_iter().map(|(path, entry, _)| (path, entry)))
}

/// Puts the real size and hash of large files in the place of their pointers.
async fn resolve_pointers(program: &Program, files: &mut [(RepoPath, Entry, bool)]) -> Result<()> {
    let may_be = |entry: &Entry, is_link: bool| !is_link && (SHORTEST_POINTER..=pointer::LONGEST as u64).contains(&entry.size);
    let asked: Vec<(usize, GitOid)> = files
        .iter()
        .enumerate()
        .filter(|(_, (_, entry, is_link))| may_be(entry, *is_link))
        .filter_map(|(at, (_, entry, _))| Some((at, entry.digests.git?)))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut objects = Objects::of(program, asked.iter().map(|(_, id)| *id).collect())?;
    for (at, id) in asked {
        let bytes = objects.next(&id).await?;
        if let Some(blob) = pointer::parse(&bytes) {
            files[at].1 = Entry { size: blob.size, digests: Digests::sha256(blob.oid), lfs: true };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    #[test]
    fn names_are_taken_as_bytes_and_checked() {
        for name in ["a, b;'\"`$(x).txt", "*?[x]", "ü/日本", "-rf", ".gitattributes", "--upload-pack=x"] {
            let read = item(format!("100644 blob {ID}      12\t{name}").as_bytes()).unwrap();
            let path = RepoPath::new(name).unwrap();
            assert_eq!(read, Item::File { path, id: ID.parse().unwrap(), size: 12, is_link: false });
        }
        for bad in ["../x", "/etc/passwd", "a/.git/config", "a\\b", "x\ny", "a\tb", ""] {
            assert!(item(format!("100644 blob {ID} 1\t{bad}").as_bytes()).is_err(), "{bad:?}");
        }
        assert!(item(&[format!("100644 blob {ID} 1\t").as_bytes(), b"\xff\xfe"].concat()).is_err());
    }

    #[test]
    fn what_is_no_file_is_known_as_such() {
        let link = item(format!("120000 blob {ID}       4\tlink").as_bytes()).unwrap();
        assert!(matches!(link, Item::File { is_link: true, size: 4, .. }));
        assert_eq!(item(format!("160000 commit {ID}       -\tsub").as_bytes()).unwrap(), Item::Submodule("sub".into()));
        for bad in [format!("100644 blob {ID} -\tx"), format!("100644 tag {ID} 1\tx"), "100644 blob zz 1\tx".into(), "nonsense".into()] {
            assert!(item(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
