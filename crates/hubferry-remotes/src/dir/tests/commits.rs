//! Commits that meet, and commits that their process did not live to complete.

use super::*;

#[test]
fn the_gate_lets_one_pass_at_a_time() {
    let place = Place::new();
    let own = place.own();
    let inside = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let run = Run::guest(&own).unwrap();
                for _ in 0..10 {
                    let gate = Gate::enter(&run).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(gate);
                }
            });
        }
    });
    // A gate whose holder died keeps nobody out.
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join(format!("gate-{}", dead())), b"").unwrap();
    let silent = own.join(format!("gate-{}", foreign()));
    std::fs::write(&silent, b"").unwrap();
    File::options().write(true).open(&silent).unwrap().set_modified(SystemTime::now() - Duration::from_mins(16)).unwrap();
    let run = Run::guest(&own).unwrap();
    drop(Gate::enter(&run).unwrap());
    drop(run);
    assert!(!own.exists());
}

/// A folder as a crash between two renames leaves it: `a` is in place, `b` and both `c` are not, nothing is deleted yet.
fn half_committed(place: &Place, id: &str) -> PathBuf {
    let folder = place.own().join(format!("{RUN}{id}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(place.root.path().join("a"), "AAA").unwrap();
    std::fs::write(place.root.path().join("old"), "old").unwrap();
    for bytes in ["BB", "C"] {
        std::fs::write(folder.join(Oid::of(bytes.as_bytes()).to_string()), bytes).unwrap();
    }
    let put =
        |name: &str, bytes: &str| serde_json::json!({"path": name, "oid": Oid::of(bytes.as_bytes()).to_string(), "size": bytes.len()});
    let puts = [put("a", "AAA"), put("sub/b", "BB"), put("c1", "C"), put("sub/c2", "C")];
    std::fs::write(folder.join(JOURNAL), serde_json::json!({"first": [], "puts": puts, "last": ["old"]}).to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_commit_is_completed_once_however_many_come() {
    for round in 0..20 {
        let place = Place::new();
        half_committed(&place, &dead());
        let (one, two, three) = (place.target(), place.target(), place.target());
        let begin = async {
            let wanted = wanted(b"more");
            three.put(&wanted, &Wire::new(b"more")).await
        };
        let (first, second, third) = tokio::join!(tokio::spawn(async move { one.head().await }), two.head(), begin);
        third.unwrap();
        for head in [first.unwrap(), second] {
            let head = head.unwrap().unwrap();
            let names: Vec<&str> = head.entries.keys().map(RepoPath::as_str).collect();
            assert_eq!(names, ["a", "c1", "sub/b", "sub/c2"], "round {round}");
        }
        drop((two, three));
        assert!(!place.names().iter().any(|name| name.starts_with("gate-")));
    }
}

#[tokio::test]
async fn a_commit_of_the_living_is_not_completed_by_others() {
    let place = Place::new();
    let folder = half_committed(&place, &foreign());
    assert!(committing(&folder));
    // A run may begin and store things meanwhile.
    let target = place.target();
    target.put(&wanted(b"more"), &Wire::new(b"more")).await.unwrap();
    assert!(committing(&folder) && !place.root.path().join("c1").exists());
    quiet(&folder, Duration::from_mins(16));
    assert_eq!(target.head().await.unwrap().unwrap().entries.len(), 4);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_commit_with_names_of_tools_is_refused() {
    let place = Place::new();
    let folder = half_committed(&place, &dead());
    let evil = r#"{"first": [], "puts": [], "last": [".ms_upload_cache"]}"#;
    std::fs::write(folder.join(JOURNAL), evil).unwrap();
    std::fs::write(place.root.path().join(".ms_upload_cache"), "mine").unwrap();
    for _ in 0..2 {
        let error = place.target().head().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
    }
    assert!(place.root.path().join(".ms_upload_cache").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commits_at_the_same_time_one_wins_whole() {
    for round in 0..15 {
        let place = Arc::new(Place::new());
        let won = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..4_u64 {
            let (place, won) = (Arc::clone(&place), Arc::clone(&won));
            tasks.spawn(async move {
                let target = place.target();
                let mut ops = Vec::new();
                for n in 0..10 {
                    // Some of it everybody has.
                    let bytes = content(if n < 3 { n } else { 100 * (writer + 1) + n }, if n == 9 { SIZE } else { 1000 });
                    let path = RepoPath::new(format!("folder/{n}")).unwrap();
                    target.put(&Wanted { blob: blob(&bytes), paths: vec![path.clone()] }, &Wire::new(&bytes)).await.unwrap();
                    ops.push((path, bytes));
                }
                let puts = ops.iter().map(|(path, bytes)| Op::Put { path: path.clone(), staged: Staged::stored(blob(bytes)) }).collect();
                match target.commit(Commit { parent: None, message: String::new(), ops: puts }).await {
                    Ok(_) => drop(won.lock().unwrap().insert(writer, ops)),
                    Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let won = std::mem::take(&mut *won.lock().unwrap());
        assert_eq!(won.len(), 1, "round {round}");
        for (path, bytes) in won.values().flatten() {
            assert!(std::fs::read(place.root.path().join(path.as_str())).unwrap() == *bytes, "round {round} {path}");
        }
    }
}
