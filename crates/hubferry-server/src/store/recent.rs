//! What was read of late and can never change, kept in memory: trees, the root of a commit, what a file's id means.
//!
//! A client that fetches a repository asks for one file after the other, and each answer needs the same few trees. Ids are hashes of
//! content, so what is remembered cannot be outdated; who may ask for it is decided before anybody looks here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use hubferry_core::digest::GitOid;

use super::git::Tree;
use super::trees::TreeFile;

/// Members of trees; one takes about a hundred bytes.
const MEMBERS: usize = 40_000;
const ROOTS: usize = 1000;
const FILES: usize = 20_000;

#[derive(Debug)]
pub(super) struct Recent {
    pub(super) trees: Remembered<Arc<Tree>>,
    pub(super) roots: Remembered<GitOid>,
    pub(super) files: Remembered<TreeFile>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { trees: Remembered::new(MEMBERS), roots: Remembered::new(ROOTS), files: Remembered::new(FILES) }
    }
}

/// Values by id in two generations: what nobody asked for while the younger one filled up is forgotten.
#[derive(Debug)]
pub(super) struct Remembered<V>(Mutex<Generations<GitOid, V>>);

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
    most: usize,
}

impl<V: Clone> Remembered<V> {
    /// Keeps at most twice this weight.
    fn new(most: usize) -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), weight: 0, most }))
    }

    pub(super) fn get(&self, id: &GitOid) -> Option<V> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, _)) = known.young.get(id) {
            return Some(value.clone());
        }
        let (value, weight) = known.old.remove(id)?;
        known.put(*id, value.clone(), weight);
        Some(value)
    }

    /// What is heavier than a generation may be is not kept.
    pub(super) fn put(&self, id: GitOid, value: V, weight: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(id, value, weight);
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn put(&mut self, key: K, value: V, weight: usize) {
        if weight > self.most {
            return;
        }
        if self.weight + weight > self.most {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.old.remove(&key);
        if self.young.insert(key, (value, weight)).is_none() {
            self.weight += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let id = |number: u8| GitOid([number; 20]);
        let known = Remembered::new(4);
        known.put(id(0), 0, 1);
        for number in 1..100 {
            known.put(id(number), number, 1);
            assert_eq!(known.get(&id(0)), Some(0), "after {number}");
        }
        assert_eq!(known.get(&id(99)), Some(99));
        assert_eq!(known.get(&id(50)), None);
        known.put(id(101), 1, 5);
        assert_eq!(known.get(&id(101)), None);
        let kept = known.0.lock().unwrap();
        assert!(kept.young.len() + kept.old.len() <= 8);
    }
}
