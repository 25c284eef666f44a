//! For all pairs of repositories: plan, run, plan again = nothing to do, and the bytes are right.

use std::collections::BTreeMap;
use std::sync::Arc;

use hubferry_core::ops::copy;
use hubferry_core::plan::Policy;
use hubferry_core::remote::Limits;
use hubferry_core::testing::conformance::request;
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::quick_context;
use proptest::prelude::*;

fn tree() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    prop::collection::btree_map("[ab]{1,2}(/[c-e]{1,2}){0,2}", prop::collection::vec(any::<u8>(), 0..24), 0..10).prop_map(|mut files| {
        let names: Vec<String> = files.keys().cloned().collect();
        // A path cannot be a file and a folder.
        files.retain(|path, _| !names.iter().any(|other| other.starts_with(&format!("{path}/"))));
        files
    })
}

fn repo(publishes: Publishes, files: &BTreeMap<String, Vec<u8>>) -> MemoryRepo {
    let list: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    MemoryRepo::with_files(publishes, &list)
}

fn publishes() -> impl Strategy<Value = Publishes> {
    prop::sample::select(vec![Publishes::Sha256, Publishes::Mixed, Publishes::Nothing])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_copy_converges(source in tree(), target in tree(), from in publishes(), to in publishes(), delete in any::<bool>(), few in any::<bool>()) {
        prop_assume!(!(delete && source.is_empty()));
        let mut limits = Limits::unlimited();
        limits.ops_per_commit = if few { 2 } else { 1000 };
        let (a, b) = (repo(from, &source), repo(to, &target).limited(limits));
        let mut ask = request(Arc::new(a), Arc::new(b.clone()));
        ask.policy = Policy { delete, ..Policy::default() };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            copy(&ask, &quick_context()).await.unwrap();
            let found = b.files();
            for (path, content) in &source {
                assert_eq!(&found[path], content, "{path}");
            }
            if delete {
                assert_eq!(found.len(), source.len());
            }
            let puts = b.puts();
            let distinct: std::collections::HashSet<_> = puts.iter().collect();
            assert_eq!(puts.len(), distinct.len(), "each oid is put once per run");
            let made = b.revisions();
            let again = copy(&ask, &quick_context()).await.unwrap();
            // A target that publishes nothing cannot be compared; everything else must be recognised.
            if to != Publishes::Nothing {
                assert!(again.plan.is_empty(), "{:?}", again.plan);
                assert_eq!(b.revisions(), made);
            }
        });
    }
}
