//! History as a graph, pure: what a client has, what it lacks, and where a shallow history ends.

use std::collections::{HashMap, HashSet, VecDeque};

use hubferry_core::digest::GitOid;

use crate::store::Step;

/// Every commit of one repository.
#[derive(Debug)]
pub(super) struct Graph(HashMap<GitOid, Step>);

/// How far back a client wants to have the history.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Deepen {
    /// So many commits of each line.
    pub(super) commits: Option<u32>,
    /// Counted from where the client's history ends now, not from the tips.
    pub(super) relative: bool,
    /// Only commits of this second or later, since 1970.
    pub(super) since: Option<i64>,
    /// Without what these refs lead to.
    pub(super) without: Vec<String>,
}

impl Deepen {
    /// Whether the client wants its history to end elsewhere.
    pub(super) fn is_wanted(&self) -> bool {
        self.commits.is_some() || self.since.is_some() || !self.without.is_empty()
    }
}

/// Where a client's history ends from now on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Edge {
    /// Commits that become the first of their line.
    pub(super) shallow: Vec<GitOid>,
    /// Commits that were and are no longer.
    pub(super) unshallow: Vec<GitOid>,
    /// All commits whose parents the client does without.
    pub(super) ends: HashSet<GitOid>,
}

/// What to send, and what the client can be relied on to have.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Difference {
    /// Commits to send.
    pub(super) send: Vec<GitOid>,
    /// Commits of the client that lie next to those, with all their files: most of what they hold need not be sent.
    pub(super) beside: Vec<GitOid>,
}

impl Graph {
    pub(super) fn new(steps: HashMap<GitOid, Step>) -> Self {
        Self(steps)
    }

    pub(super) fn get(&self, id: &GitOid) -> Option<&Step> {
        self.0.get(id)
    }

    /// Every root folder; those of these commits first.
    pub(super) fn roots<'a>(&'a self, first: &'a [GitOid]) -> impl Iterator<Item = GitOid> + 'a {
        first.iter().filter_map(|id| self.0.get(id)).chain(self.0.values()).map(|step| step.tree)
    }

    fn parent(&self, id: &GitOid) -> Option<GitOid> {
        self.0.get(id)?.parent.filter(|parent| self.0.contains_key(parent))
    }

    /// These commits and what they lead to, not going past `ends`.
    fn lines(&self, tips: impl IntoIterator<Item = GitOid>, ends: &HashSet<GitOid>) -> HashSet<GitOid> {
        let mut found = HashSet::new();
        for tip in tips {
            let mut at = Some(tip).filter(|tip| self.0.contains_key(tip));
            while let Some(id) = at.filter(|id| found.insert(*id)) {
                at = self.parent(&id).filter(|_| !ends.contains(&id));
            }
        }
        found
    }

    /// Whether each of these commits leads to one that the client has: then asking it for more is of no use.
    pub(super) fn all_lead_to(&self, tips: &[GitOid], common: &HashSet<GitOid>) -> bool {
        let mut known: HashSet<GitOid> = HashSet::new();
        tips.iter().all(|tip| {
            let mut at = Some(*tip);
            let mut walked = Vec::new();
            while let Some(id) = at {
                if common.contains(&id) || known.contains(&id) {
                    known.extend(walked);
                    return true;
                }
                walked.push(id);
                at = self.parent(&id);
            }
            false
        })
    }

    /// Where the history ends for a client that wants `tips` and whose history ends at `shallow` now. `excluded` is what the refs in
    /// [`Deepen::without`] mean. `None` when nothing of the tips is left.
    pub(super) fn edge(&self, tips: &[GitOid], shallow: &HashSet<GitOid>, deepen: &Deepen, excluded: &[GitOid]) -> Option<Edge> {
        let excluded = self.lines(excluded.iter().copied(), &HashSet::new());
        let outside =
            |id: &GitOid| excluded.contains(id) || deepen.since.is_some_and(|since| self.0.get(id).is_some_and(|step| step.time < since));
        if !tips.is_empty() && tips.iter().all(|tip| !self.0.contains_key(tip) || outside(tip)) {
            return None;
        }
        let (starts, most) = match (deepen.commits, deepen.relative) {
            (Some(more), true) => (shallow.iter().copied().collect(), more.saturating_add(1)),
            (commits, _) => (tips.to_vec(), commits.unwrap_or(u32::MAX)),
        };
        let mut queue: VecDeque<(GitOid, u32)> = starts.into_iter().filter(|id| self.0.contains_key(id)).map(|id| (id, 1)).collect();
        let mut inside: HashSet<GitOid> = queue.iter().map(|(id, _)| *id).collect();
        let mut last = Vec::new();
        while let Some((id, depth)) = queue.pop_front() {
            match self.parent(&id) {
                Some(parent) if depth >= most || outside(&parent) => last.push((id, parent)),
                Some(parent) if inside.insert(parent) => queue.push_back((parent, depth + 1)),
                _ => {}
            }
        }
        // A line may end where another one goes on.
        let new: HashSet<GitOid> = last.into_iter().filter(|(_, parent)| !inside.contains(parent)).map(|(id, _)| id).collect();
        let unshallow: Vec<GitOid> = shallow.iter().copied().filter(|id| inside.contains(id) && !new.contains(id)).collect();
        let mut ends: HashSet<GitOid> = shallow.iter().copied().filter(|id| !unshallow.contains(id)).collect();
        let shallow = new.iter().copied().filter(|id| !shallow.contains(id)).collect();
        ends.extend(new);
        Some(Edge { shallow, unshallow, ends })
    }

    /// What a client lacks that wants `tips`, has `common`, and whose history ends at `before` now and at `after` then.
    pub(super) fn difference(
        &self,
        tips: &[GitOid],
        common: &HashSet<GitOid>,
        before: &HashSet<GitOid>,
        after: &HashSet<GitOid>,
    ) -> Difference {
        let has = self.lines(common.iter().copied(), before);
        let wanted = self.lines(tips.iter().copied(), after);
        let send: HashSet<GitOid> = wanted.difference(&has).copied().collect();
        let led_to: HashSet<GitOid> = has.iter().filter_map(|id| self.parent(id)).collect();
        let next_to = send.iter().filter_map(|id| self.parent(id)).collect::<HashSet<_>>();
        let beside = has.iter().copied().filter(|id| {
            let is_tip = !led_to.contains(id);
            is_tip || next_to.contains(id) || self.parent(id).is_some_and(|parent| send.contains(&parent))
        });
        Difference { beside: beside.collect(), send: send.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> GitOid {
        GitOid([number; 20])
    }

    fn ids(numbers: &[u8]) -> HashSet<GitOid> {
        numbers.iter().map(|n| id(*n)).collect()
    }

    fn sorted(found: impl IntoIterator<Item = GitOid>) -> Vec<u8> {
        let mut found: Vec<u8> = found.into_iter().map(|id| id.0[0]).collect();
        found.sort_unstable();
        found
    }

    /// 1 ← 2 ← 3 ← 4 ← 5, and 3 ← 8 ← 9. Commit n is of second n.
    fn graph() -> Graph {
        let step = |n: u8, parent: Option<u8>| (id(n), Step { parent: parent.map(id), tree: id(100 + n), time: n.into() });
        let line = [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(4)), (8, Some(3)), (9, Some(8))];
        Graph::new(line.into_iter().map(|(n, parent)| step(n, parent)).collect())
    }

    #[test]
    fn a_client_gets_what_it_lacks() {
        let none = HashSet::new();
        let lacks = |tips: &[u8], common: &[u8]| {
            let tips: Vec<GitOid> = tips.iter().map(|n| id(*n)).collect();
            let found = graph().difference(&tips, &ids(common), &none, &none);
            (sorted(found.send), sorted(found.beside))
        };
        assert_eq!(lacks(&[5], &[]), (vec![1, 2, 3, 4, 5], vec![]));
        assert_eq!(lacks(&[5], &[3]), (vec![4, 5], vec![3]));
        assert_eq!(lacks(&[5, 9], &[4, 2]), (vec![5, 8, 9], vec![3, 4]));
        assert_eq!(lacks(&[3], &[5]), (vec![], vec![5]));
    }

    #[test]
    fn a_shallow_client_gets_the_rest_when_it_wants_it() {
        let graph = graph();
        let before = ids(&[5]);
        let found = graph.difference(&[id(5)], &ids(&[5]), &before, &HashSet::new());
        assert_eq!((sorted(found.send), sorted(found.beside)), (vec![1, 2, 3, 4], vec![5]));
        // Without wanting more it gets no more.
        let found = graph.difference(&[id(9)], &ids(&[5]), &before, &before);
        assert_eq!(sorted(found.send), [1, 2, 3, 8, 9]);
    }

    #[test]
    fn depth_is_counted_from_the_nearest_tip() {
        let graph = graph();
        let deepen = |commits| Deepen { commits: Some(commits), ..Deepen::default() };
        let edge = |commits, tips: &[u8], shallow: &[u8]| {
            let tips: Vec<GitOid> = tips.iter().map(|n| id(*n)).collect();
            let edge = graph.edge(&tips, &ids(shallow), &deepen(commits), &[]).unwrap();
            (sorted(edge.shallow), sorted(edge.unshallow), sorted(edge.ends))
        };
        assert_eq!(edge(1, &[5], &[]), (vec![5], vec![], vec![5]));
        assert_eq!(edge(2, &[5, 9], &[]), (vec![4, 8], vec![], vec![4, 8]));
        assert_eq!(edge(2, &[5, 4], &[]), (vec![3], vec![], vec![3]));
        assert_eq!(edge(3, &[5], &[5]), (vec![3], vec![5], vec![3]));
        assert_eq!(edge(u32::MAX, &[5], &[4]), (vec![], vec![4], vec![]));
        assert_eq!(edge(9, &[5], &[9]), (vec![], vec![], vec![9]));
    }

    #[test]
    fn depth_can_be_counted_from_the_present_end() {
        let more = Deepen { commits: Some(1), relative: true, ..Deepen::default() };
        let edge = graph().edge(&[id(5)], &ids(&[4]), &more, &[]).unwrap();
        assert_eq!((sorted(edge.shallow), sorted(edge.unshallow)), (vec![3], vec![4]));
    }

    #[test]
    fn history_can_end_at_a_time_or_at_a_ref() {
        let graph = graph();
        let since = |since| Deepen { since: Some(since), ..Deepen::default() };
        assert_eq!(sorted(graph.edge(&[id(5)], &HashSet::new(), &since(3), &[]).unwrap().shallow), [3]);
        assert_eq!(graph.edge(&[id(5)], &HashSet::new(), &since(6), &[]), None);
        let without = Deepen { without: vec!["x".to_owned()], ..Deepen::default() };
        assert_eq!(sorted(graph.edge(&[id(9)], &HashSet::new(), &without, &[id(4)]).unwrap().shallow), [8]);
    }

    #[test]
    fn enough_is_known_when_every_line_was_met() {
        let graph = graph();
        assert!(graph.all_lead_to(&[id(5), id(9)], &ids(&[2])));
        assert!(!graph.all_lead_to(&[id(5), id(9)], &ids(&[4])));
        assert!(!graph.all_lead_to(&[id(5)], &HashSet::new()));
    }
}
