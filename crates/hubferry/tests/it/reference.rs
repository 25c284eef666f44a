//! The full command reference, as one snapshot: a change of the interface shows in review.

use crate::harness::{World, snapshot};

#[test]
fn the_whole_command_reference() {
    let world = World::new();
    let mut runs = vec![world.run(&["--help"]).ok()];
    let listed = runs[0].stdout.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    for line in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        runs.push(world.run(&[name, "--help"]).ok());
    }
    assert!(runs.len() > 12, "{listed}");
    snapshot("reference", &world, &runs);
    assert!(world.run(&["--version"]).ok().stdout.starts_with("hubferry 0."));
}
