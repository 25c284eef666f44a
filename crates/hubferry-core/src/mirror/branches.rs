//! Which branch goes to which: the default branch to the default branch, the others by their names, unless told otherwise.

use std::collections::BTreeMap;

use crate::address::check_ref;
use crate::error::{Error, Result};
use crate::refs::Ref;

/// Branches that go to another name than usual, by the name at the source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BranchMap(BTreeMap<String, String>);

impl BranchMap {
    /// Reads `FROM=TO` pairs. `Invalid` for anything else, and for a branch that is named twice.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut map = BTreeMap::new();
        for pair in pairs {
            let hint = "write FROM=TO with a branch of the source and one of the destination, such as --branch-map dev=develop";
            let (from, to) = pair.split_once('=').ok_or_else(|| Error::invalid(format!("{pair:?} is no pair of branches")).hint(hint))?;
            for name in [from, to] {
                check_ref(name).map_err(|error| Error::invalid(error.message()).hint(hint))?;
            }
            if map.insert(from.to_owned(), to.to_owned()).is_some() {
                return Err(Error::invalid(format!("the branch {from:?} is mapped twice")).hint("give each branch one place to go to"));
            }
        }
        Ok(Self(map))
    }

    /// The destination of every branch, the one for `default_to` first. Fails where two would go to one, and for a branch that is mapped
    /// and not there.
    pub(super) fn pair(&self, branches: &[Ref], default_from: &str, default_to: &str) -> Result<Vec<(Ref, String)>> {
        if let Some(missing) = self.0.keys().find(|name| !branches.iter().any(|branch| branch.name == **name)) {
            let names: Vec<&str> = branches.iter().take(10).map(|branch| branch.name.as_str()).collect();
            return Err(Error::not_found(format!("the source has no branch {missing:?}")).hint(format!("it has {}", names.join(", "))));
        }
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        let mut pairs = Vec::new();
        for branch in branches {
            let to = match self.0.get(&branch.name) {
                Some(to) => to.clone(),
                None if branch.name == default_from => default_to.to_owned(),
                None => branch.name.clone(),
            };
            if let Some(other) = taken.insert(to.clone(), &branch.name) {
                return Err(Error::invalid(format!("the branches {other:?} and {:?} would both go to {to:?}", branch.name))
                    .hint(format!("give one of them another name, as in --branch-map {}=OTHER", branch.name)));
            }
            pairs.push((branch.clone(), to));
        }
        pairs.sort_by_key(|(branch, to)| (to != default_to, branch.name.clone()));
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Revision;

    fn pair(map: &[&str], branches: &[&str]) -> Result<Vec<String>> {
        let branches: Vec<Ref> = branches.iter().map(|name| Ref::new(*name, Revision::new("r").unwrap()).unwrap()).collect();
        let pairs = BranchMap::parse(map.iter().copied())?.pair(&branches, "main", "master")?;
        Ok(pairs.into_iter().map(|(branch, to)| format!("{}={to}", branch.name)).collect())
    }

    #[test]
    fn the_default_goes_to_the_default_and_first() {
        assert_eq!(pair(&[], &["dev", "main"]).unwrap(), ["main=master", "dev=dev"]);
        assert_eq!(pair(&["dev=develop"], &["dev", "main"]).unwrap(), ["main=master", "dev=develop"]);
        assert_eq!(pair(&["main=old", "dev=master"], &["dev", "main"]).unwrap(), ["dev=master", "main=old"]);
    }

    #[test]
    fn collisions_and_mistakes_are_refused() {
        assert!(pair(&[], &["main", "master"]).unwrap_err().to_string().contains("would both go to \"master\""));
        assert_eq!(pair(&["master=elder"], &["main", "master"]).unwrap(), ["main=master", "master=elder"]);
        assert!(pair(&["none=x"], &["main"]).unwrap_err().hint_text().unwrap().contains("it has main"));
        for bad in ["main", "=x", "main=", "main=a b", "main=a..b"] {
            assert!(pair(&[bad], &["main"]).is_err(), "{bad}");
        }
        assert!(pair(&["main=a", "main=b"], &["main"]).is_err());
    }
}
