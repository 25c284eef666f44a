//! A plan that was made before: carried out only while both sides are as they were then.

use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Revision};
use crate::plan::{Action, Comparison, Plan, Step, compare};
use crate::remote::Visibility;

/// What was planned, to be held against what is there now.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// Who may read the destination that has to be created; `None` where it was there.
    pub create: Option<Visibility>,
}

impl Prepared {
    /// Fails when the source is at another revision, or when the destination is gone.
    pub(super) fn check_listed(&self, source: &Manifest, head: Option<&Manifest>) -> Result<()> {
        if source.revision != self.plan.source {
            return Err(changed("source", Some(&source.revision), Some(&self.plan.source)));
        }
        if head.is_none() && self.create.is_none() {
            return Err(stale("the destination is gone: it was there when the plan was made"));
        }
        Ok(())
    }

    /// Fails when what would be done now is not what was planned. A destination that shows everything already is no failure: a
    /// run that was killed after its commit may be run again.
    pub(super) fn check_made(&self, made: &Plan, head: Option<&Manifest>, create: Option<Visibility>) -> Result<()> {
        let is_done = head.is_some() && made.is_empty();
        if is_done {
            return Ok(());
        }
        if head.is_some() && self.create.is_some() {
            return Err(stale("the destination exists now: it did not when the plan was made").context("at", made_on(made)));
        }
        if made.parent != self.plan.parent {
            return Err(changed("destination", made.parent.as_ref(), self.plan.parent.as_ref()));
        }
        if create != self.create {
            let name = |visibility: Option<Visibility>| visibility.map_or("unknown", Visibility::name);
            let (now, then) = (name(create), name(self.create));
            return Err(stale(format!("the source changed who may read it: the destination would be {now}, and {then} was planned")));
        }
        match self.plan.steps.iter().zip(&made.steps).find(|(then, now)| !is_same(then, now)) {
            Some((then, now)) => Err(other_step(then.path.as_str().min(now.path.as_str()))),
            None if self.plan.steps.len() == made.steps.len() => Ok(()),
            None => {
                let longer = if made.steps.len() > self.plan.steps.len() { &made.steps } else { &self.plan.steps };
                Err(other_step(longer[made.steps.len().min(self.plan.steps.len())].path.as_str()))
            }
        }
    }
}

fn made_on(plan: &Plan) -> String {
    plan.parent.as_ref().map_or_else(|| "none".to_owned(), |parent| parent.short().to_owned())
}

/// Whether two steps do the same. One of them may know more of a file than the other.
fn is_same(then: &Step, now: &Step) -> bool {
    then.path == now.path
        && match (&then.action, &now.action) {
            (Action::Put { entry: a }, Action::Put { entry: b }) => compare(a, b) == Comparison::Same,
            (Action::Delete, Action::Delete) => true,
            _ => false,
        }
}

fn changed(side: &str, now: Option<&Revision>, then: Option<&Revision>) -> Error {
    let name = |revision: Option<&Revision>| revision.map_or("empty", Revision::short).to_owned();
    stale(format!("the {side} changed since the plan was made: it is at {}, planned was {}", name(now), name(then)))
}

fn other_step(path: &str) -> Error {
    stale(format!("what would be done now is not what was planned, beginning with {path:?}"))
}

fn stale(message: impl Into<String>) -> Error {
    Error::new(Kind::Conflict, message).hint("nothing was written; plan anew with --plan and look at what is different")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digests, GitOid, Oid};
    use crate::manifest::{Entry, RepoPath};
    use crate::plan::{Policy, plan};
    use crate::remote::Limits;

    fn manifest(revision: &str, files: &[(&str, &[u8])]) -> Manifest {
        let entry = |(path, bytes): &(&str, &[u8])| {
            (RepoPath::new(*path).unwrap(), Entry::new(bytes.len() as u64, Digests::sha256(Oid::of(bytes))))
        };
        Manifest::new(Revision::new(revision).unwrap(), files.iter().map(entry)).unwrap()
    }

    fn make(source: &Manifest, head: Option<&Manifest>) -> Plan {
        plan(source, head, &Limits::unlimited(), Policy { delete: true, ..Policy::default() }).unwrap()
    }

    fn why(result: Result<()>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.hint_text().unwrap().contains("plan anew"), "{error}");
        error.to_string()
    }

    #[test]
    fn a_plan_holds_only_for_what_it_was_made_on() {
        let source = manifest("source-one", &[("a", b"1"), ("b", b"2")]);
        let head = manifest("head-one", &[("a", b"0"), ("c", b"3")]);
        let made = make(&source, Some(&head));
        let prepared = Prepared { plan: made.clone(), create: None };
        prepared.check_listed(&source, Some(&head)).unwrap();
        prepared.check_made(&made, Some(&head), None).unwrap();

        let moved = manifest("source-two", &[("a", b"1"), ("b", b"2")]);
        assert_eq!(
            why(prepared.check_listed(&moved, Some(&head))),
            "the source changed since the plan was made: it is at source-two, planned was source-one"
        );
        assert!(why(prepared.check_listed(&source, None)).contains("is gone"));
        let other = manifest("head-two", &[("a", b"0")]);
        assert!(why(prepared.check_made(&make(&source, Some(&other)), Some(&other), None)).contains("at head-two, planned was head-one"));
        // Somebody, perhaps a run that was killed, has done it all.
        let done = manifest("head-three", &[("a", b"1"), ("b", b"2")]);
        prepared.check_made(&make(&source, Some(&done)), Some(&done), None).unwrap();
    }

    #[test]
    fn a_destination_to_create_must_still_be_missing_and_as_closed_as_planned() {
        let source = manifest("s", &[("a", b"1")]);
        let prepared = Prepared { plan: make(&source, None), create: Some(Visibility::Public) };
        prepared.check_made(&make(&source, None), None, Some(Visibility::Public)).unwrap();
        assert!(why(prepared.check_made(&make(&source, None), None, Some(Visibility::Private))).contains("would be private, and public"));
        let empty = manifest("new", &[]);
        assert!(why(prepared.check_made(&make(&source, Some(&empty)), Some(&empty), None)).contains("exists now"));
    }

    #[test]
    fn steps_that_were_tampered_with_are_noticed() {
        let source = manifest("s", &[("a", b"1"), ("b", b"2")]);
        let head = manifest("h", &[]);
        let made = make(&source, Some(&head));
        let check = |change: fn(&mut Plan)| {
            let mut plan = made.clone();
            change(&mut plan);
            Prepared { plan, create: None }.check_made(&made, Some(&head), None)
        };
        assert!(why(check(|plan| drop(plan.steps.pop()))).contains("\"b\""));
        assert!(why(check(|plan| plan.steps[0].action = Action::Delete)).contains("\"a\""));
        let forge = |plan: &mut Plan| plan.steps[1].action = Action::Put { entry: Entry::new(1, Digests::sha256(Oid::of(b"x"))) };
        assert!(why(check(forge)).contains("\"b\""));
        let unknown = |plan: &mut Plan| plan.steps[1].action = Action::Put { entry: Entry::new(1, Digests::git(GitOid::of(b"2"))) };
        assert!(why(check(unknown)).contains("\"b\""), "a hash that cannot be held against anything proves nothing");
        let more = |plan: &mut Plan| {
            let Action::Put { entry } = &mut plan.steps[1].action else { return };
            entry.digests.git = Some(GitOid::of(b"2"));
        };
        check(more).unwrap();
    }
}
