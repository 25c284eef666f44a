//! Every fault on every path between two places: each run ends in a correct copy, or in the documented exit code with nothing
//! visible. What was found is written down in `docs/faults.md`, and must be what is written there.

mod page;
mod play;
mod table;

use std::sync::Mutex;
use std::time::Duration;

use hubferry_server::testing::{Fault, Method, Rule};

use crate::harness::{ALICE, Hub};
use page::Cell;
use play::Stage;

/// Cells that are played at once: most of their time they wait.
const LANES: usize = 12;

#[test]
fn every_fault_on_every_path() {
    let rows = table::rows();
    let cells = rows.iter().enumerate().flat_map(|(row, faults)| table::COLUMNS.iter().map(move |column| (row, faults, *column)));
    let mut cells: Vec<_> = cells.filter(|(_, row, column)| row.occurs(*column)).enumerate().collect();
    // Those that wait longest begin first: what never stops, then uploads.
    cells.sort_by_key(|(number, (_, row, _))| (row.exits == [0], usize::MAX - number));
    let cells = Mutex::new(cells.into_iter());
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut stage = Stage::new();
                loop {
                    let Some((number, (row, faults, column))) = cells.lock().unwrap().next() else { return };
                    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play(number, faults, column)));
                    if played.is_err() {
                        // Whatever state the failure left, the next cell starts without it.
                        stage = Stage::new();
                    }
                    found.lock().unwrap().push(Cell { row, column, end: played.ok() });
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let failed: Vec<String> =
        found.iter().filter(|cell| cell.end.is_none()).map(|cell| format!("{} ({})", rows[cell.row].what, cell.column)).collect();
    assert!(failed.is_empty(), "{} of {} cells failed:\n{}", failed.len(), found.len(), failed.join("\n"));
    page::compare(&rows, &found);
}

/// Somebody else commits while ours is on its way.
#[test]
fn a_moved_head() {
    for place in ["hf", "ms"] {
        let hub = Hub::start();
        let world = hub.world(ALICE);
        world.tree("model", &[("model.bin", b"ours"), ("shared.txt", b"ours")]);
        world.tree("other", &[("other.bin", b"theirs"), ("shared.txt", b"theirs")]);
        world.tree("seed", &[("seed.txt", b"seed")]);
        let destination = format!("{place}:alice/copy");
        world.run(&["copy", "./seed", &destination, "-q"]).ok();
        let before = hub.commits("alice/copy").len();
        hub.script.reset();
        let done = world.home().join("done");
        hub.script.add(Rule::once(Method::POST, "/commit/", Fault::Until(done.clone())));
        let ours = world.start(&["copy", "./model", &destination, "--json", "-q"]);
        while hub.script.count(&Method::POST, "/commit/") == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        world.run(&["copy", "./other", &destination, "-q"]).ok();
        std::fs::write(done, "").unwrap();
        let report = ours.wait().ok().json();
        assert_eq!(report["commits"].as_array().unwrap().len(), 1, "{place}: {report}");
        assert_eq!(hub.commits("alice/copy").len(), before + 2, "{place}: one commit each");
        for (file, content) in [("model.bin", "ours"), ("shared.txt", "ours"), ("other.bin", "theirs"), ("seed.txt", "seed")] {
            assert_eq!(world.run(&["cat", &format!("{destination}/{file}")]).ok().stdout, content, "{place}: {file}");
        }
    }
}
