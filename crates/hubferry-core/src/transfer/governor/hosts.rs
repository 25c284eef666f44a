//! What the control makes of every kind of host, in virtual time.

use super::Bounds;
use super::simulation::{Host, Job, Run, run};

const MB: f64 = 1e6;
const SEEDS: std::ops::Range<u64> = 0..5;

fn governed(host: &Host, job: Job, seed: u64) -> Run {
    run(host, job, Bounds::default(), None, 120.0, seed)
}

fn fixed(host: &Host, job: Job, streams: usize) -> f64 {
    run(host, job, Bounds::default(), Some(streams), 600.0, 99).seconds
}

fn each(rate: f64) -> Host {
    Host { each: rate * MB, ..Host::default() }
}

fn file(megabytes: f64) -> Job {
    Job::file(megabytes * MB)
}

#[test]
fn many_tiny_files_double_the_streams_per_round_trip() {
    for seed in SEEDS {
        let host = Host { connecting: 0.0, ..Host::default() };
        let found = governed(&host, Job::small(1000), seed);
        assert!(found.seconds <= 1.2, "{}", found.story());
        let (doubled, again, reached) = (found.reaches(16), found.reaches(32), found.reaches(62));
        assert!(doubled <= 0.065 && again <= 0.12 && reached <= 0.2, "{}", found.story());
        // The same with a round trip for every new connection.
        assert!(governed(&Host::default(), Job::small(1000), seed).seconds <= 1.2);
    }
}

#[test]
fn one_large_file_climbs_while_it_pays() {
    let (host, job) = (each(10.0), Job::file(f64::from(256 << 20)));
    for seed in SEEDS {
        let found = governed(&host, job, seed);
        assert!(found.reaches(16) <= 0.5 && found.reaches(32) <= 1.0, "{}", found.story());
        assert!(found.seconds <= fixed(&host, job, 16) / 0.95, "{}", found.story());
        let few = run(&host, file(1000.0), Bounds::up_to(16), None, 60.0, seed);
        assert_eq!(few.most(0.0, few.seconds), 16, "never more than allowed");
        assert!(few.seconds <= fixed(&host, file(1000.0), 16) / 0.95, "{}", few.story());
    }
}

#[test]
fn connections_that_start_slowly_are_waited_for() {
    let host = Host { round_trip: 0.15, slow_start: 1.0, ..each(10.0) };
    for seed in SEEDS {
        let found = governed(&host, file(2000.0), seed);
        assert!(found.reaches(32) <= 2.5 && found.seconds < fixed(&host, file(2000.0), 16), "{}", found.story());
    }
}

#[test]
fn a_shared_link_is_filled_by_as_few_as_can() {
    for (rate, most) in [(1000.0, 5.0), (60.0, 5.0), (25.0, 6.0), (12.5, 10.0)] {
        for seed in SEEDS {
            let host = Host { together: |_, _, _| 100.0 * MB, ..each(rate) };
            let found = governed(&host, file(3000.0), seed);
            assert!(found.mean_limit(2.0, 30.0) <= most && found.most(2.0, 30.0) <= 13, "{rate}: {}", found.story());
            assert!(found.rate(2.0, 30.0) >= 88.0 * MB, "{rate}: {}", found.story());
            assert!(found.changes(15.0, 30.0) <= 8, "{rate}: {}", found.story());
        }
    }
}

#[test]
fn loopback_stays_small() {
    let host = Host { round_trip: 0.0005, together: |_, n, _| 1000.0 * MB * (1.0 - 0.02 * n as f64).max(0.2), ..Host::default() };
    for seed in SEEDS {
        let found = governed(&host, file(10_000.0), seed);
        assert!(found.reaches_down(4) <= 0.5 && found.most(1.0, 9.0) <= 4, "{}", found.story());
        assert!(found.seconds <= fixed(&host, file(10_000.0), 1) / 0.9, "{}", found.story());
    }
}

type Together = fn(f64, usize, &mut f64) -> f64;

/// Hosts that serve eight streams well and more of them badly.
fn delicate() -> Vec<(&'static str, Host)> {
    let together = |together: Together| Host { together, ..each(10.0) };
    vec![
        ("collapses", together(|_, n, _| if n > 8 { 16.0 * MB } else { f64::INFINITY })),
        ("collapses to nothing", together(|_, n, _| if n > 8 { 0.0 } else { f64::INFINITY })),
        ("falls gently", together(|_, n, _| if n > 8 { MB * (80.0 - 4.0 * (n as f64 - 8.0)).max(20.0) } else { f64::INFINITY })),
        (
            "becomes slower and slower",
            together(|_, n, tired| {
                *tired = (*tired + if n > 8 { 0.001 } else { -0.001 }).clamp(0.0, 1.0);
                10.0 * MB * n as f64 * (1.0 - 0.9 * *tired)
            }),
        ),
        (
            "answers late",
            Host { thinking: |n| if n > 8 { 0.2 * (n as f64 - 8.0) } else { 0.0 }, together: |_, _, _| 80.0 * MB, ..each(10.0) },
        ),
        ("refuses", Host { refuses_above: 8, ..each(10.0) }),
    ]
}

#[test]
fn hosts_that_bear_eight_get_eight() {
    for (name, host) in delicate() {
        for (job, share) in [(file(240.0), 0.8), (file(800.0), 0.9)] {
            let best = [4, 6, 7, 8, 9, 12, 16].into_iter().map(|streams| fixed(&host, job, streams)).fold(f64::INFINITY, f64::min);
            for seed in SEEDS {
                let found = governed(&host, job, seed);
                assert!(best / found.seconds >= share, "{name}: {best:.2} s, {}", found.story());
            }
        }
    }
}

#[test]
fn a_level_that_collapsed_is_probed_rarely_and_cheaply() {
    let host = Host { together: |_, n, _| if n > 8 { 16.0 * MB } else { f64::INFINITY }, ..each(10.0) };
    for seed in SEEDS {
        let found = governed(&host, file(8000.0), seed);
        let known = run(&host, file(8000.0), Bounds::default(), Some(8), 120.0, seed);
        assert!(found.rate(20.0, 100.0) >= 0.98 * known.rate(20.0, 100.0), "{}", found.story());
        assert!(found.most(4.0, 100.0) <= 9, "one more at a time: {}", found.story());
        assert!(found.time_above(8, 4.0, 100.0) <= 1.0, "{}", found.story());
    }
}

#[test]
fn a_start_that_is_too_high_is_found_out() {
    let host = Host { together: |_, n, _| if n > 4 { 8.0 * MB } else { f64::INFINITY }, ..each(10.0) };
    for seed in SEEDS {
        let found = governed(&host, file(400.0), seed);
        assert!(fixed(&host, file(400.0), 4) / found.seconds >= 0.85, "{}", found.story());
    }
}

#[test]
fn refusals_halve_at_once_and_the_way_back_is_slow() {
    let host = Host { refuses_above: 20, ..Host::default() };
    for seed in SEEDS {
        let found = governed(&host, Job::small(4000), seed);
        assert!(found.refusals <= 8, "{} refusals: {}", found.refusals, found.story());
        assert!(found.most(0.4, 2.0) <= 20 && found.most(2.0, 60.0) <= 22, "{}", found.story());
        assert!(found.seconds <= 4000.0 * 0.05 / 20.0 * 1.4, "{}", found.story());
    }
}

#[test]
fn swift_hosts_that_tire_are_not_pressed() {
    let host = Host { thinking: |n| if n > 8 { 0.4 } else { 0.0 }, ..Host::default() };
    for seed in SEEDS {
        let found = governed(&host, Job::small(3000), seed);
        assert!(found.most(0.8, 15.0) <= 10, "{}", found.story());
        assert!(fixed(&host, Job::small(3000), 8) / found.seconds >= 0.7, "{}", found.story());
    }
}

#[test]
fn longer_answers_without_gain_stop_the_climb() {
    // Every stream more makes every answer longer by what it brings.
    let tiny = Host { thinking: |n| 0.01 * n as f64, round_trip: 0.001, ..Host::default() };
    let bloat = Host { thinking: |n| 0.02 * n as f64, together: |_, _, _| 20.0 * MB, ..Host::default() };
    for seed in SEEDS {
        let found = governed(&tiny, Job::small(1500), seed);
        assert!(found.most(0.0, 10.0) <= 40 && found.mean_limit(1.0, 10.0) <= 12.0, "{}", found.story());
        let found = governed(&bloat, file(300.0), seed);
        assert!(found.most(0.0, 10.0) <= 16 && found.mean_limit(2.0, 10.0) <= 8.0, "{}", found.story());
    }
}

#[test]
fn a_line_that_becomes_slow_and_fast_again_is_followed() {
    let host = Host { together: |t, _, _| if (5.0..15.0).contains(&t) { 5.0 * MB } else { 80.0 * MB }, ..each(10.0) };
    for seed in SEEDS {
        let found = governed(&host, file(2000.0), seed);
        assert!(found.rate(5.5, 15.0) >= 4.5 * MB, "{}", found.story());
        assert!(found.least(0.0, 25.0) >= 2, "{}", found.story());
        assert!(found.rate(16.5, 25.0) >= 72.0 * MB, "{}", found.story());
    }
    // The same where every single stream becomes slower: as many are needed as before.
    let host = Host { together: |t, n, _| n as f64 * if (5.0..15.0).contains(&t) { 2.0 * MB } else { 10.0 * MB }, ..each(10.0) };
    for seed in SEEDS {
        let found = run(&host, file(2500.0), Bounds::up_to(16), None, 60.0, seed);
        assert!(found.rate(7.0, 15.0) >= 28.0 * MB && found.rate(16.5, 20.0) >= 140.0 * MB, "{}", found.story());
    }
}

#[test]
fn weather_does_not_mislead() {
    for seed in SEEDS {
        for (name, host, best, share) in [
            ("each", Host { weather: 0.3, ..each(10.0) }, 16, 0.85),
            ("link", Host { weather: 0.3, together: |_, _, _| 100.0 * MB, ..each(10.0) }, 12, 0.85),
            ("collapse", Host { weather: 0.3, together: |_, n, _| if n > 8 { 16.0 * MB } else { 1e12 }, ..each(10.0) }, 8, 0.85),
        ] {
            let job = file(1500.0);
            let found = run(&host, job, Bounds::up_to(16), None, 120.0, seed);
            let known = run(&host, job, Bounds::default(), Some(best), 120.0, seed).seconds;
            assert!(known / found.seconds >= share, "{name}: {known:.2} s, {}", found.story());
        }
    }
}

#[test]
fn too_little_to_do_changes_nothing() {
    for seed in SEEDS {
        let found = run(&each(10.0), Job { parallel: 3, ..file(300.0) }, Bounds::default(), None, 60.0, seed);
        assert_eq!((found.least(0.0, 9.0), found.most(0.0, 9.0)), (8, 8), "{}", found.story());
    }
}
