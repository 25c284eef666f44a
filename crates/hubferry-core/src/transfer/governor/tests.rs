//! The queue, the marks and the clock around the control.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;

use super::*;

fn exactly(streams: usize) -> Arc<Governor> {
    Governor::new(Bounds { start: streams, most: streams })
}

fn busy() -> Error {
    Error::new(Kind::RateLimited, "slow down")
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let governor = exactly(1);
    let held = governor.permit().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (governor, order) = (governor.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let _permit = governor.permit().await;
            order.lock().unwrap().push(number);
            tokio::task::yield_now().await;
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(governor.snapshot(), Snapshot { limit: 1, active: 1, waiting: 20, refused: 0 });
    assert!(governor.spare().is_none());
    drop(held);
    futures_util::future::join_all(tasks).await;
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(governor.snapshot().active, 0);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_holds_up_nobody() {
    let governor = exactly(1);
    let held = governor.permit().await;
    let mut first = Box::pin(governor.permit());
    let mut second = Box::pin(governor.permit());
    let mut third = Box::pin(governor.permit());
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    drop(first);
    drop(held);
    // The second has been given it and goes without having looked.
    assert!(governor.spare().is_none());
    drop(second);
    let permit = third.now_or_never().unwrap();
    assert_eq!(governor.snapshot(), Snapshot { limit: 1, active: 1, waiting: 0, refused: 0 });
    drop(permit);
    assert!(governor.spare().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_spare_stream_never_passes_a_waiting_one() {
    let governor = exactly(2);
    let (one, two) = (governor.permit().await, governor.spare().unwrap());
    let mut waiting = Box::pin(governor.permit());
    assert!((&mut waiting).now_or_never().is_none());
    drop(two);
    assert!(governor.spare().is_none(), "the slot belongs to who waits");
    let three = waiting.now_or_never().unwrap();
    drop(one);
    assert!(governor.spare().is_some());
    drop(three);
}

#[tokio::test(start_paused = true)]
async fn a_retreat_recalls_the_newest() {
    let governor = exactly(8);
    let mut permits: Vec<_> = (0..8).map(|_| governor.spare().unwrap()).collect();
    let newest = permits.pop().unwrap();
    let recalled = tokio::spawn(async move {
        newest.recalled().await;
        newest
    });
    tokio::task::yield_now().await;
    governor.refused();
    governor.refused();
    assert_eq!(governor.snapshot(), Snapshot { limit: 4, active: 8, waiting: 0, refused: 1 });
    let surplus: Vec<bool> = permits.iter().map(Permit::is_surplus).collect();
    assert_eq!(surplus, [false, false, false, false, true, true, true]);
    let mut waiting = Box::pin(governor.permit());
    drop(recalled.await.unwrap());
    // An old one that ends by itself saves a newer one.
    drop(permits.remove(0));
    let surplus: Vec<bool> = permits.iter().map(Permit::is_surplus).collect();
    assert_eq!(surplus, [false, false, false, false, true, true]);
    permits.truncate(4);
    assert!((&mut waiting).now_or_never().is_none());
    permits.truncate(3);
    assert!(waiting.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_not_a_refusal_but_a_second_one_is() {
    let governor = exactly(8);
    let permits: Vec<_> = (0..8).map(|_| governor.spare().unwrap()).collect();
    let paused = busy().retry_as(Retry::After(Duration::from_secs(5)));
    for _ in &permits {
        governor.failed(&paused);
    }
    assert_eq!((governor.limit(), governor.snapshot().refused), (8, 0), "a quota says nothing about streams");
    tokio::time::sleep(Duration::from_secs(6)).await;
    governor.failed(&paused);
    assert_eq!((governor.limit(), governor.snapshot().refused), (4, 1));
    tokio::time::sleep(Duration::from_mins(1)).await;
    governor.failed(&Error::new(Kind::NotFound, "gone"));
    assert_eq!(governor.limit(), 4);
    governor.failed(&Error::new(Kind::Unavailable, "busy").context("status", 503));
    assert_eq!(governor.limit(), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    governor.failed(&busy());
    tokio::time::sleep(Duration::from_secs(2)).await;
    governor.failed(&busy());
    assert_eq!(governor.limit(), 1, "never nothing");
}

#[tokio::test(start_paused = true)]
async fn a_dead_network_is_not_taken_for_a_busy_host() {
    let governor = exactly(16);
    let permits: Vec<_> = (0..16).map(|_| governor.spare().unwrap()).collect();
    let cut = Error::new(Kind::Unavailable, "cannot connect");
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for _ in &permits {
            governor.failed(&cut);
        }
        assert_eq!(governor.limit(), 16, "nothing works at all");
    }
    permits[0].received(1000);
    permits[1].answered(Duration::from_millis(10));
    governor.failed(&cut);
    assert_eq!(governor.limit(), 16, "one of sixteen");
    for _ in 0..8 {
        governor.failed(&cut);
    }
    assert_eq!((governor.limit(), governor.snapshot().refused), (8, 1), "others are served, many are not");
}

#[tokio::test(start_paused = true)]
async fn silent_holders_do_not_lock_others_out() {
    let governor = exactly(2);
    let held = [governor.permit().await, governor.permit().await];
    let started = Instant::now();
    let third = governor.permit().await;
    assert!(started.elapsed() <= PATIENCE * 2);
    let fourth = governor.permit().await;
    assert_eq!(governor.snapshot().active, 4);
    assert!(!third.is_surplus() && !fourth.is_surplus());
    // At most as many again.
    assert!(tokio::time::timeout(PATIENCE * 20, governor.permit()).await.is_err());
    drop(held);
    drop((third, fourth));
    let again = [governor.permit().await, governor.permit().await];
    assert!(governor.spare().is_none(), "what was overdrawn is forgotten");
    // While bytes come, waiting is right.
    let reading = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            again[0].received(1000);
        }
    };
    tokio::select! {
        () = reading => {}
        _ = governor.permit() => panic!("more than the host bears"),
        () = tokio::time::sleep(PATIENCE * 5) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_a_trial_silences_is_given_its_peace_again() {
    let governor = Governor::new(Bounds::default());
    let permits: Vec<_> = (0..8).map(|_| governor.spare().unwrap()).collect();
    for permit in &permits {
        permit.answered(Duration::from_millis(20));
    }
    let mut more = Vec::new();
    while more.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        for permit in &permits {
            permit.received(50_000);
        }
        more.extend(governor.spare());
    }
    while let Some(permit) = governor.spare() {
        more.push(permit);
    }
    assert_eq!(governor.limit(), 16);
    // From now on nothing comes at all; only the clock can end the trial.
    let last = more.pop().unwrap();
    tokio::time::timeout(Duration::from_secs(2), last.recalled()).await.unwrap();
    assert_eq!(governor.limit(), 8);
    assert!(permits.iter().all(|permit| !permit.is_surplus()) && more.iter().all(Permit::is_surplus));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wakeup_is_lost_in_a_crowd() {
    let governor = Governor::new(Bounds { start: 3, most: 5 });
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..64).map(|task| {
        let (governor, inside, most) = (governor.clone(), inside.clone(), most.clone());
        tokio::spawn(async move {
            for round in 0..50 {
                let patience = Duration::from_micros(fastrand::u64(0..300));
                let permit = if (task + round) % 3 == 0 {
                    let Ok(permit) = tokio::time::timeout(patience, governor.permit()).await else { continue };
                    permit
                } else {
                    governor.permit().await
                };
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                permit.answered(Duration::from_micros(10));
                permit.received(100);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                permit.completed();
                if fastrand::u8(..) == 0 {
                    governor.refused();
                }
            }
        })
    });
    let all = futures_util::future::join_all(tasks);
    for ended in tokio::time::timeout(Duration::from_mins(1), all).await.unwrap() {
        ended.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 5);
    let end = governor.snapshot();
    assert_eq!((end.active, end.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn hosts_are_told_apart_and_reports_are_sparse() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<Event>>);
    impl Reporter for Heard {
        fn event(&self, event: &Event) {
            self.0.lock().unwrap().push(event.clone());
        }
    }
    let heard = Arc::new(Heard::default());
    let governors = Governors::reporting(Bounds::up_to(16), heard.clone());
    let one = governors.clone().of("one.example");
    assert!(Arc::ptr_eq(&one, &governors.of("one.example")) && !Arc::ptr_eq(&one, &governors.of("two.example")));
    let permits: Vec<_> = (0..8).map(|_| one.spare().unwrap()).collect();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        one.refused();
    }
    assert_eq!(one.limit(), 1);
    let heard = heard.0.lock().unwrap();
    assert!((1..=4).contains(&heard.len()), "{heard:?}");
    assert!(matches!(&heard[0], Event::Streams { host, streams: 2 | 4, .. } if host == "one.example"), "{heard:?}");
    let names: Vec<_> = governors.snapshots().into_iter().map(|(host, now)| (host, now.limit, now.active)).collect();
    assert_eq!(names, [("one.example".to_owned(), 1, 8), ("two.example".to_owned(), 8, 0)]);
    assert_eq!((Bounds::up_to(0), Bounds::up_to(3)), (Bounds { start: 1, most: 1 }, Bounds { start: 3, most: 3 }));
    drop(permits);
}
