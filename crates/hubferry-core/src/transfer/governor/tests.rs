//! What the control makes of every kind of host, in virtual time.

use super::Bounds;
use super::simulation::{Host, Job, Run, run};

const MB: f64 = 1e6;

fn governed(host: &Host, job: Job, seed: u64) -> Run {
    run(host, job, Bounds::default(), None, 120.0, seed)
}

fn fixed(host: &Host, job: Job, streams: usize) -> Run {
    run(host, job, Bounds::default(), Some(streams), 600.0, 1)
}

fn show(name: &str, run: &Run) {
    let mut line = String::new();
    let mut last = 0;
    for (n, limit) in run.limits.iter().enumerate() {
        if *limit != last {
            line.push_str(&format!(" {:.2}:{limit}", n as f64 / 1000.0));
            last = *limit;
        }
    }
    line.truncate(600);
    println!("{name} {:.2} s refusals {} {line}", run.seconds, run.refusals);
}

#[test]
fn look() {
    let seed = 1;
    show("tiny", &governed(&Host::default(), Job::small(1000), seed));
    show("tiny-fixed64", &fixed(&Host::default(), Job::small(1000), 64));
    let big = Host { each: 10.0 * MB, ..Host::default() };
    let file = Job::file(256.0 * 1048576.0);
    show("big", &governed(&big, file, seed));
    show("big most 16", &run(&big, file, Bounds { start: 8, most: 16 }, None, 120.0, seed));
    show("big fixed16", &fixed(&big, file, 16));
    let slow = Host { each: 10.0 * MB, slow_start: 1.0, round_trip: 0.15, ..Host::default() };
    show("slowstart", &governed(&slow, Job::file(2000.0 * MB), seed));
    show("slowstart16", &fixed(&slow, Job::file(2000.0 * MB), 16));
    for each in [12.0, 25.0, 60.0, 1000.0] {
        let link = Host { each: each * MB, together: |_, _, _| 100.0 * MB, ..Host::default() };
        show(&format!("link {each}"), &governed(&link, Job::file(3000.0 * MB), seed));
    }
    let loopback = Host { round_trip: 0.0005, together: |_, n, _| 1000.0 * MB * (1.0 - 0.02 * n as f64).max(0.2), ..Host::default() };
    show("loopback", &governed(&loopback, Job::file(20000.0 * MB), seed));
    show("loopback1", &fixed(&loopback, Job::file(20000.0 * MB), 1));
    let hosts: [(&str, fn(f64, usize, &mut f64) -> f64); 4] = [
        ("collapse", |_, n, _| 10.0 * MB * n as f64 * if n > 8 { 0.2 * 8.0 / n as f64 } else { 1.0 }),
        ("gently", |_, n, _| 10.0 * MB * if n > 8 { (8.0 - 0.4 * (n as f64 - 8.0)).max(2.0) } else { n as f64 }),
        ("slower and slower", |_, n, m| {
            *m = (*m + if n > 8 { 0.001 } else { -0.001 }).clamp(0.0, 1.0);
            10.0 * MB * n as f64 * (1.0 - 0.9 * *m)
        }),
        ("collapse 4", |_, n, _| 10.0 * MB * n as f64 * if n > 4 { 0.2 * 4.0 / n as f64 } else { 1.0 }),
    ];
    for (name, together) in hosts {
        let cdn = Host { each: 10.0 * MB, together, ..Host::default() };
        let best = if name == "collapse 4" { 4 } else { 8 };
        for (bytes, label) in [(240.0, "3 s"), (800.0, "10 s")] {
            let job = Job::file(bytes * MB * best as f64 / 8.0);
            let b = fixed(&cdn, job, best).seconds;
            for seed in 1..4 {
                let r = governed(&cdn, job, seed);
                show(&format!("{name} {label} {:.3}", b / r.seconds), &r);
            }
        }
    }
    let refusing = Host { each: 10.0 * MB, refuses_above: 8, ..Host::default() };
    for (bytes, label) in [(240.0, "3 s"), (800.0, "10 s"), (4000.0, "50")] {
        let r = governed(&refusing, Job::file(bytes * MB), seed);
        show(&format!("refusing {label} {:.3}", fixed(&refusing, Job::file(bytes * MB), 8).seconds / r.seconds), &r);
    }
    let tiny_refusing = Host { refuses_above: 20, ..Host::default() };
    show("tiny refusing", &governed(&tiny_refusing, Job::small(4000), seed));
    let tiny_collapse = Host { thinking: |n| if n > 8 { 0.4 } else { 0.0 }, ..Host::default() };
    show("tiny collapse", &governed(&tiny_collapse, Job::small(1600), seed));
    show("tiny collapse 8", &fixed(&tiny_collapse, Job::small(1600), 8));
    let tiny_flat = Host { thinking: |n| 0.01 * n as f64, round_trip: 0.001, ..Host::default() };
    show("tiny flat", &governed(&tiny_flat, Job::small(1600), seed));
    show("tiny flat 4", &fixed(&tiny_flat, Job::small(1600), 4));
    for weather in [0.3, 0.6] {
        for seed in 1..4 {
            let h = Host { each: 10.0 * MB, weather, ..Host::default() };
            let r = run(&h, Job::file(2000.0 * MB), Bounds { start: 8, most: 16 }, None, 120.0, seed);
            show(&format!("weather each {weather} {:.3}", fixed(&h, Job::file(2000.0 * MB), 16).seconds / r.seconds), &r);
            let h = Host { each: 10.0 * MB, weather, together: |_, _, _| 100.0 * MB, ..Host::default() };
            let r = governed(&h, Job::file(2000.0 * MB), seed);
            show(&format!("weather link {weather} {:.3}", fixed(&h, Job::file(2000.0 * MB), 16).seconds / r.seconds), &r);
            let cdn = Host { each: 10.0 * MB, weather, together: hosts[0].1, ..Host::default() };
            let r = governed(&cdn, Job::file(800.0 * MB), seed);
            show(&format!("weather cdn {weather} {:.3}", fixed(&cdn, Job::file(800.0 * MB), 8).seconds / r.seconds), &r);
        }
    }
    let drop = Host { each: 10.0 * MB, together: |t, _, _| if (5.0..15.0).contains(&t) { 5.0 * MB } else { 80.0 * MB }, ..Host::default() };
    show("drop", &governed(&drop, Job::file(2500.0 * MB), seed));
}
