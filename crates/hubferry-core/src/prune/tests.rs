//! What goes and what stays, by hand and for any stock.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Builds a stock by names of sizes.
#[derive(Default)]
struct Cache(Stock);

impl Cache {
    fn file(&mut self, bytes: u64) -> usize {
        self.0.files.push(bytes);
        self.0.files.len() - 1
    }

    fn repo(&mut self) -> usize {
        self.0.repos.push(RepoStock::default());
        self.0.repos.len() - 1
    }

    fn blob(&mut self, repo: usize, bytes: u64) -> usize {
        let file = self.file(bytes);
        self.0.blobs.push(BlobStock { repo: Some(repo), files: vec![file], leads_to: None, used: at(0), kept: false });
        self.0.blobs.len() - 1
    }

    fn revision(&mut self, repo: usize, used: u64, blobs: &[usize]) -> RevisionAt {
        let revisions = &mut self.0.repos[repo].revisions;
        revisions.push(RevisionStock { used: at(used), named: false, kept: false, files: Vec::new(), blobs: blobs.to_vec() });
        RevisionAt { repo, revision: revisions.len() - 1 }
    }

    fn set(&mut self, at: RevisionAt) -> &mut RevisionStock {
        &mut self.0.repos[at.repo].revisions[at.revision]
    }
}

fn to_fit(max_size: u64) -> Rules {
    Rules { max_size: Some(max_size), ..Rules::default() }
}

fn names(removal: &Removal) -> Vec<RevisionAt> {
    removal.revisions.iter().map(|(at, _)| *at).collect()
}

#[test]
fn bytes_that_stay_in_another_revision_are_not_counted_as_freed() {
    // Four revisions of 1 MiB shared and 1 MiB own: a tool that counts 2 MiB for each stops one too early.
    let mut cache = Cache::default();
    let repo = cache.repo();
    let shared = cache.blob(repo, 1 << 20);
    for used in 0..4 {
        let own = cache.blob(repo, 1 << 20);
        cache.revision(repo, used, &[shared, own]);
    }
    let removal = choose(&cache.0, &to_fit(2 << 20));
    assert_eq!((removal.before, removal.after), (5 << 20, 2 << 20));
    assert_eq!(names(&removal).iter().map(|at| at.revision).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(removal.freed(), 3 << 20);
    assert_eq!(removal.shares(&cache.0), [1 << 20; 3]);
    // With the last of them goes what they shared.
    let all: Vec<RevisionAt> = cache.0.revisions().collect();
    assert_eq!(remove(&cache.0, &all, &[]).shares(&cache.0), [1 << 20, 1 << 20, 1 << 20, 2 << 20]);
    assert!(removal.fits(2 << 20) && removal.repos.is_empty());
}

#[test]
fn what_was_used_longest_ago_goes_first_and_no_more_than_it_takes() {
    let mut cache = Cache::default();
    let mut add = |used: u64, bytes: u64| {
        let repo = cache.repo();
        let blob = cache.blob(repo, bytes);
        cache.revision(repo, used, &[blob])
    };
    let small = add(1, 10);
    let large = add(2, 1000);
    let fresh = add(3, 500);
    let removal = choose(&cache.0, &to_fit(600));
    assert_eq!(names(&removal), [large], "the small one is older, but nothing is won by it");
    assert_eq!(removal.after, 510);
    assert_eq!(names(&choose(&cache.0, &to_fit(505))), [small, large]);
    assert_eq!(names(&choose(&cache.0, &to_fit(0))), [small, large, fresh]);
    assert_eq!(names(&choose(&cache.0, &to_fit(2000))), []);
}

#[test]
fn what_is_named_or_pinned_stays() {
    let mut cache = Cache::default();
    let repo = cache.repo();
    let blob = cache.blob(repo, 100);
    let named = cache.revision(repo, 1, &[blob]);
    cache.set(named).named = true;
    let pinned_blob = cache.blob(repo, 100);
    let pinned = cache.revision(repo, 2, &[pinned_blob]);
    cache.set(pinned).kept = true;
    let removal = choose(&cache.0, &to_fit(0));
    assert_eq!((names(&removal), removal.after), (vec![], 200));
    assert!(!removal.fits(0));
    let removal = choose(&cache.0, &Rules { named_too: true, ..to_fit(0) });
    assert_eq!((names(&removal), removal.after), (vec![named], 100));
    let old = Rules { unused_since: Some(at(9)), ..Rules::default() };
    assert_eq!(names(&choose(&cache.0, &old)), []);
}

#[test]
fn blobs_that_nothing_names_go_first_but_not_while_somebody_writes_them() {
    let mut cache = Cache::default();
    let repo = cache.repo();
    let blob = cache.blob(repo, 100);
    cache.revision(repo, 1, &[blob]);
    let orphan = cache.blob(repo, 100);
    let writing = cache.blob(repo, 100);
    cache.0.blobs[writing].kept = true;
    let removal = choose(&cache.0, &to_fit(200));
    assert_eq!((names(&removal), removal.blobs.clone(), removal.after), (vec![], vec![orphan], 200));
    assert_eq!(choose(&cache.0, &to_fit(300)).blobs, [] as [usize; 0], "it fits, so everything stays");
    let removal = choose(&cache.0, &to_fit(0));
    assert_eq!((removal.blobs.clone(), removal.repos.clone(), removal.after), (vec![blob, orphan], vec![], 100));
}

#[test]
fn a_repository_goes_with_its_last_revision() {
    let mut cache = Cache::default();
    let repo = cache.repo();
    let own = cache.file(7);
    cache.0.repos[repo].files.push(own);
    let blob = cache.blob(repo, 100);
    let revision = cache.revision(repo, 1, &[blob]);
    assert_eq!(remove(&cache.0, &[revision], &[]).repos, [repo]);
    assert_eq!(remove(&cache.0, &[revision], &[]).after, 0);
    cache.0.repos[repo].busy = true;
    let removal = remove(&cache.0, &[revision], &[]);
    assert_eq!((removal.repos.len(), removal.after), (0, 7));
}

#[test]
fn what_several_repositories_link_to_is_counted_once_and_goes_with_the_last_link() {
    let mut cache = Cache::default();
    let file = cache.file(1000);
    cache.0.blobs.push(BlobStock { repo: None, files: vec![file], leads_to: None, used: at(0), kept: false });
    let mut add = |used| {
        let repo = cache.repo();
        let link = cache.blob(repo, 1);
        cache.0.blobs[link].leads_to = Some(0);
        cache.revision(repo, used, &[link])
    };
    let (first, second) = (add(1), add(2));
    assert_eq!(cache.0.bytes(), 1002);
    assert_eq!(remove(&cache.0, &[first], &[]).after, 1001);
    assert_eq!(remove(&cache.0, &[first, second], &[]).after, 0);
    let removal = choose(&cache.0, &to_fit(500));
    assert_eq!((names(&removal), removal.blobs.len(), removal.after), (vec![first, second], 3, 0));
}

#[test]
fn one_file_under_two_names_comes_free_with_the_second() {
    let mut cache = Cache::default();
    let file = cache.file(1000);
    let mut add = || {
        let repo = cache.repo();
        cache.0.blobs.push(BlobStock { repo: Some(repo), files: vec![file], leads_to: None, used: at(0), kept: false });
        cache.revision(repo, 1, &[repo])
    };
    let (first, second) = (add(), add());
    assert_eq!(cache.0.bytes(), 1000);
    assert_eq!(remove(&cache.0, &[first], &[]).freed(), 0);
    assert_eq!(remove(&cache.0, &[first, second], &[]).freed(), 1000);
}

/// What a removal leaves, counted from nothing.
fn left(stock: &Stock, removal: &Removal) -> (u64, HashSet<usize>) {
    let gone: HashSet<_> = names(removal).into_iter().collect();
    let mut files: HashSet<usize> = stock.fixed.iter().copied().collect();
    let mut needed = HashSet::new();
    for at in stock.revisions().filter(|at| !gone.contains(at)) {
        files.extend(&stock.revision(at).files);
        needed.extend(stock.revision(at).blobs.iter().copied());
    }
    for (index, repo) in stock.repos.iter().enumerate() {
        if !removal.repos.contains(&index) {
            files.extend(&repo.files);
        }
    }
    for (index, blob) in stock.blobs.iter().enumerate() {
        if !removal.blobs.contains(&index) {
            files.extend(&blob.files);
            needed.extend(blob.leads_to);
        }
    }
    (files.iter().map(|&file| stock.files[file]).sum(), needed)
}

prop_compose! {
    fn stocks()(
        files in prop::collection::vec(0_u64..100, 1..30),
        repos in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<usize>(), 0..3)), 1..5),
        blobs in prop::collection::vec((any::<usize>(), prop::collection::vec(any::<usize>(), 1..3), any::<usize>(), 0_u64..50, prop::bool::weighted(0.1)), 0..20),
        revisions in prop::collection::vec((any::<usize>(), 0_u64..50, any::<bool>(), prop::bool::weighted(0.2), prop::collection::hash_set(any::<usize>(), 0..5)), 0..15),
        fixed in prop::collection::vec(any::<usize>(), 0..2),
    ) -> Stock {
        let file = |index: &usize| index % files.len();
        let mut stock = Stock { fixed: fixed.iter().map(file).collect(), ..Stock::default() };
        for (busy, own) in &repos {
            stock.repos.push(RepoStock { files: own.iter().map(file).collect(), busy: *busy, revisions: Vec::new() });
        }
        // The first three are shared by all repositories.
        for (index, (repo, own, next, used, kept)) in blobs.iter().enumerate() {
            let shared = index < 3;
            stock.blobs.push(BlobStock {
                repo: (!shared).then(|| repo % repos.len()),
                files: own.iter().map(file).collect(),
                leads_to: (!shared && next % 3 == 0).then_some(next / 3 % 3),
                used: at(*used),
                kept: *kept,
            });
        }
        for (repo, used, named, kept, blobs) in &revisions {
            let repo = repo % repos.len();
            let own: Vec<usize> = stock.blobs.iter().enumerate().filter(|(_, blob)| blob.repo == Some(repo)).map(|(index, _)| index).collect();
            let mut blobs: Vec<usize> = if own.is_empty() { Vec::new() } else { blobs.iter().map(|pick| own[pick % own.len()]).collect() };
            blobs.sort_unstable();
            blobs.dedup();
            stock.repos[repo].revisions.push(RevisionStock { used: at(*used), named: *named, kept: *kept, files: Vec::new(), blobs });
        }
        stock.files = files;
        stock
    }
}

prop_compose! {
    fn rules()(max_size in prop::option::of(0_u64..1500), since in prop::option::of(0_u64..50), unnamed: bool, named_too: bool) -> Rules {
        Rules { max_size, unused_since: since.map(at), unnamed, named_too }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_any_choice_it_fits_or_only_what_is_protected_remains(stock in stocks(), rules in rules()) {
        let removal = choose(&stock, &rules);
        let gone: HashSet<_> = names(&removal).into_iter().collect();
        prop_assert_eq!(gone.len(), removal.revisions.len(), "nothing goes twice");

        // The account is true, and nothing that is needed goes.
        let (bytes, needed) = left(&stock, &removal);
        prop_assert_eq!(removal.after, bytes);
        prop_assert_eq!(removal.before, stock.bytes());
        prop_assert!(removal.shares(&stock).iter().sum::<u64>() <= removal.freed());
        prop_assert!(removal.blobs.iter().all(|blob| !needed.contains(blob) && !stock.blobs[*blob].kept));
        prop_assert!(removal.repos.iter().all(|&repo| !stock.repos[repo].busy));
        for &repo in &removal.repos {
            let mut revisions = (0..stock.repos[repo].revisions.len()).map(|revision| RevisionAt { repo, revision });
            prop_assert!(revisions.all(|at| gone.contains(&at)));
            prop_assert!(stock.blobs.iter().enumerate().all(|(index, blob)| blob.repo != Some(repo) || removal.blobs.contains(&index)));
        }

        // What is protected stays.
        for at in &gone {
            let revision = stock.revision(*at);
            prop_assert!(!revision.kept && (rules.named_too || !revision.named));
        }
        if let Some(most) = rules.max_size && !removal.fits(most) {
            for at in stock.revisions().filter(|at| !gone.contains(at)) {
                let revision = stock.revision(at);
                prop_assert!(revision.kept || (revision.named && !rules.named_too), "{at:?} could have gone");
            }
            for (index, blob) in stock.blobs.iter().enumerate() {
                prop_assert!(blob.kept || needed.contains(&index) || removal.blobs.contains(&index), "blob {index} could have gone");
            }
        }

        // Nothing goes for room that could have stayed.
        if let Some(most) = rules.max_size {
            let for_room: Vec<_> = removal.revisions.iter().filter(|(_, reason)| *reason == Reason::Room).map(|(at, _)| *at).collect();
            for at in &for_room {
                let others: Vec<_> = names(&removal).into_iter().filter(|other| other != at).collect();
                let mut without = remove(&stock, &others, &[]);
                without.blobs.extend(removal.blobs.iter().filter(|blob| !stock.revision(*at).blobs.contains(blob)
                    && !stock.revision(*at).blobs.iter().any(|need| stock.blobs[*need].leads_to == Some(**blob))));
                without.repos.extend(removal.repos.iter().filter(|repo| **repo != at.repo));
                prop_assert!(left(&stock, &without).0 > most, "{at:?} need not have gone");
            }
        }
    }

    #[test]
    fn what_is_old_or_unnamed_goes_when_it_may(stock in stocks(), rules in rules()) {
        let removal = choose(&stock, &rules);
        let gone: HashSet<_> = names(&removal).into_iter().collect();
        for at in stock.revisions() {
            let revision = stock.revision(at);
            let may = !revision.kept && (rules.named_too || !revision.named);
            let wanted = (rules.unnamed && !revision.named) || rules.unused_since.is_some_and(|since| revision.used < since);
            prop_assert!(!(may && wanted) || gone.contains(&at));
        }
    }
}
