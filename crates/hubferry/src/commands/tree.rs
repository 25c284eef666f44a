//! A listing as a tree of folders.

use std::collections::BTreeMap;

use hubferry_core::manifest::{Entry, Manifest};

use super::look::short_hash;
use crate::output::{count, printable, size, table};

/// A folder: what is in it by name, and what all of that is together.
#[derive(Default)]
struct Folder<'a> {
    folders: BTreeMap<&'a str, Folder<'a>>,
    files: BTreeMap<&'a str, &'a Entry>,
    all: u64,
    bytes: u64,
}

/// Draws a listing. `long` adds sizes and hashes.
pub(super) fn tree(place: &str, manifest: &Manifest, long: bool) -> String {
    let mut root = Folder::default();
    for (path, entry) in &manifest.entries {
        let mut folder = &mut root;
        let mut names = path.as_str().split('/').peekable();
        while let Some(name) = names.next() {
            folder.all += 1;
            folder.bytes = folder.bytes.saturating_add(entry.size);
            if names.peek().is_none() {
                folder.files.insert(name, entry);
                break;
            }
            folder = folder.folders.entry(name).or_default();
        }
    }
    let mut rows = Vec::new();
    row(&mut rows, root.bytes, &count(root.all, "file"), printable(place), long);
    draw(&root, "", long, &mut rows);
    table(&rows)
}

fn row(rows: &mut Vec<Vec<String>>, bytes: u64, what: &str, name: String, long: bool) {
    rows.push(if long { vec![format!("{:>9}", size(bytes)), what.to_owned(), name] } else { vec![name] });
}

fn draw(folder: &Folder<'_>, before: &str, long: bool, rows: &mut Vec<Vec<String>>) {
    let last = folder.folders.len() + folder.files.len();
    let mut at = 0;
    let mut lines = || {
        at += 1;
        if at == last { ("└── ", "    ") } else { ("├── ", "│   ") }
    };
    for (name, inner) in &folder.folders {
        let (line, below) = lines();
        row(rows, inner.bytes, &count(inner.all, "file"), format!("{before}{line}{}/", printable(name)), long);
        draw(inner, &format!("{before}{below}"), long, rows);
    }
    for (name, entry) in &folder.files {
        let (line, _) = lines();
        row(rows, entry.size, &short_hash(entry), format!("{before}{line}{}", printable(name)), long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::digest::Digests;
    use hubferry_core::manifest::{RepoPath, Revision};

    #[test]
    fn folders_come_first_and_sum_up() {
        let entry = |size| Entry::new(size, Digests::default());
        let files = [("a/b/c", 1000), ("a/d", 24), ("z", 5)].map(|(path, size)| (RepoPath::new(path).unwrap(), entry(size)));
        let manifest = Manifest::new(Revision::new("r").unwrap(), files).unwrap();
        assert_eq!(tree("x", &manifest, false), "x\n├── a/\n│   ├── b/\n│   │   └── c\n│   └── d\n└── z\n");
        let long = tree("x", &manifest, true);
        assert!(long.contains(" 1.00 KiB  2 files  ├── a/\n"), "{long}");
    }
}
