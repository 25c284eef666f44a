//! Git's own forms, pure: trees and commits as bytes and as values, their ids, and LFS pointers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hubferry_core::digest::GitOid;
use hubferry_core::error::Result;
pub use hubferry_core::pointer::{parse as parse_pointer, text as pointer};
use sha1_checked::{Digest as _, Sha1};

use super::database::damaged;

/// What a name in a tree stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    /// A file, by its Git blob id.
    File(GitOid),
    /// A folder, by its tree id.
    Folder(GitOid),
}

/// One folder: names and what they stand for, in Git's order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tree(pub BTreeMap<Key, Node>);

/// A name as Git sorts it: folders as if their name ended in `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key(String);

impl Key {
    /// The sort key of a name.
    pub fn new(name: &str, folder: bool) -> Self {
        Self(if folder { format!("{name}/") } else { name.to_owned() })
    }

    /// The name itself.
    pub fn name(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }

    /// The key as text: the name, with `/` behind a folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tree {
    /// What `name` stands for here.
    pub fn get(&self, name: &str) -> Option<Node> {
        self.0.get(&Key::new(name, false)).or_else(|| self.0.get(&Key::new(name, true))).copied()
    }

    /// Git's bytes of this tree.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 48);
        for (key, node) in &self.0 {
            let (mode, id) = match node {
                Node::File(id) => ("100644 ", id),
                Node::Folder(id) => ("40000 ", id),
            };
            bytes.extend_from_slice(mode.as_bytes());
            bytes.extend_from_slice(key.name().as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&id.0);
        }
        bytes
    }

    /// Reads what [`Tree::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut tree = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == 0).ok_or_else(|| damaged("a tree ends early"))?;
            let head = std::str::from_utf8(&bytes[..end]).map_err(|_| damaged("a tree has a name outside of UTF-8"))?;
            let (mode, name) = head.split_once(' ').ok_or_else(|| damaged("a tree has an entry without mode"))?;
            let id = bytes.get(end + 1..end + 21).and_then(|id| id.try_into().ok()).ok_or_else(|| damaged("a tree ends early"))?;
            let folder = mode == "40000";
            tree.insert(Key::new(name, folder), if folder { Node::Folder(GitOid(id)) } else { Node::File(GitOid(id)) });
            bytes = &bytes[end + 21..];
        }
        Ok(Self(tree))
    }
}

/// A commit with at most one parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitObject<'a> {
    /// The root folder.
    pub tree: GitOid,
    /// The commit before.
    pub parent: Option<GitOid>,
    /// Who, as `Name <mail>`.
    pub author: &'a str,
    /// Seconds since 1970.
    pub time: i64,
    /// Summary, and after an empty line the rest.
    pub message: &'a str,
}

impl CommitObject<'_> {
    /// Git's bytes of this commit. The message ends in a line end, as `git commit` leaves it.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("tree {}\n", self.tree);
        if let Some(parent) = &self.parent {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "parent {parent}");
        }
        let (author, time) = (self.author, self.time);
        let _ = write!(text, "author {author} {time} +0000\ncommitter {author} {time} +0000\n\n{}", self.message);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// The id Git gives an object of this type (`blob`, `tree`, `commit`).
pub fn object_id(kind: &str, bytes: &[u8]) -> GitOid {
    let mut hasher = Sha1::new();
    hasher.update(format!("{kind} {}\0", bytes.len()).as_bytes());
    hasher.update(bytes);
    GitOid(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_tree_has_its_well_known_id() {
        assert_eq!(object_id("tree", &Tree::default().encode()).to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn trees_survive_and_sort_as_git_does() {
        let id = GitOid::of(b"x");
        let mut tree = Tree::default();
        for (name, folder) in [("foo", true), ("foo.txt", false), ("foo-bar", false), ("ü", false)] {
            tree.0.insert(Key::new(name, folder), if folder { Node::Folder(id) } else { Node::File(id) });
        }
        assert_eq!(Tree::decode(&tree.encode()).unwrap(), tree);
        assert_eq!(tree.0.keys().map(Key::name).collect::<Vec<_>>(), ["foo-bar", "foo.txt", "foo", "ü"]);
        assert!(Tree::decode(b"100644 a\0short").is_err());
        assert!(Tree::decode(b"nonsense").is_err());
    }
}
