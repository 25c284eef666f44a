//! The demo: what a newcomer runs first.

use crate::harness::{World, files_below, minilm};

#[test]
fn the_demo_works_and_leaves_nothing_behind() {
    let world = World::new();
    let before = files_below(world.home());
    let ran = world.run(&["demo"]).ok();
    assert_eq!(files_below(world.home()), before, "{}", ran.shown());
    assert_eq!(std::fs::read_dir(world.tmp()).unwrap().count(), 0);
    for said in ["published: 5 files", "copied: ", "verified: 5 files read back", "copied again: 0 files, 0 B moved, 0 commits"] {
        assert!(ran.stdout.contains(said), "{said}\n{}", ran.shown());
    }
}

#[test]
fn the_demo_takes_a_real_model_and_speaks_json() {
    let model = minilm();
    let before: Vec<_> = files_below(&model).into_keys().collect();
    // A user's own configuration and hubs play no part.
    let world = World::new().with("HF_TOKEN", "hf_not_used").with("HF_HUB_OFFLINE", "1");
    let report = world.run(&["demo", "--model", model.to_str().unwrap(), "--json", "-q"]).ok().json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["steps"].as_array().unwrap().len(), 4, "{report}");
    assert_eq!(report["steps"][1]["commits"], 1);
    assert_eq!((&report["steps"][3]["moved_bytes"], &report["steps"][3]["commits"]), (&0.into(), &0.into()));
    assert_eq!(files_below(&model).into_keys().collect::<Vec<_>>(), before, "the model itself is only read");
    assert_eq!(std::fs::read_dir(world.tmp()).unwrap().count(), 0);
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let world = World::new();
    let started = world.start(&["demo", "--model", minilm().to_str().unwrap(), "--bwlimit", "5M"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let id = started.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ran = started.wait().exits(130);
    assert_eq!(std::fs::read_dir(world.tmp()).unwrap().count(), 0, "{}", ran.shown());
}
