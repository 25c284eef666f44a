//! Large files by many streams: whatever breaks, stalls, lies or is killed, the bytes end right and little is read twice.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use hubferry_core::digest::{Digests, Oid};
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::manifest::{Entry, Manifest, RepoPath, Revision};
use hubferry_core::remote::{Body, ByteStream, RepoInfo, Source};
use hubferry_core::testing::memory::{MemoryRepo, Publishes};
use hubferry_core::testing::partial::MemoryPartial;
use hubferry_core::testing::quick_context;
use hubferry_core::transfer::body::{SourceBody, Wish};
use hubferry_core::transfer::governor::{Bounds, Governors};
use hubferry_core::transfer::memory::Budget;
use hubferry_core::transfer::{Context, Mirror};

const SIZE: usize = 24 << 20;

fn content() -> Bytes {
    static CONTENT: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let noise = || {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).to_le_bytes()[0]
        };
        (0..SIZE).map(|_| next()).collect()
    };
    CONTENT.get_or_init(noise).clone()
}

/// What a place does to a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trick {
    /// Breaks after this many bytes.
    Cut(u64),
    /// Says nothing any more after this many bytes.
    Stall(u64),
    /// Flips this byte of the file.
    Flip(u64),
    /// Answers 404.
    Gone,
    /// This long for every piece.
    Slow(Duration),
}

type Tricks = Arc<dyn Fn(usize, &Range<u64>) -> Vec<Trick> + Send + Sync>;

/// A place behind a network that plays tricks and counts what it sends.
#[derive(Clone)]
struct Place {
    repo: MemoryRepo,
    host: &'static str,
    tricks: Tricks,
    reads: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
    most_open: Arc<AtomicUsize>,
    seekable: bool,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.host)
    }
}

fn place(host: &'static str, tricks: impl Fn(usize, &Range<u64>) -> Vec<Trick> + Send + Sync + 'static) -> Place {
    Place {
        repo: MemoryRepo::with_files(Publishes::Sha256, &[("model.bin", &content())]),
        host,
        tricks: Arc::new(tricks),
        reads: Arc::default(),
        sent: Arc::default(),
        open: Arc::default(),
        most_open: Arc::default(),
        seekable: true,
    }
}

fn honest(host: &'static str) -> Place {
    place(host, |_, _| Vec::new())
}

/// Notes the end of a stream.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Source for Place {
    async fn info(&self) -> Result<RepoInfo> {
        self.repo.info().await
    }
    async fn manifest(&self) -> Result<Manifest> {
        self.repo.manifest().await
    }
    async fn read(&self, at: &Revision, path: &RepoPath, range: Range<u64>) -> Result<ByteStream> {
        let tricks = (self.tricks)(self.reads.fetch_add(1, Ordering::Relaxed), &range);
        if tricks.contains(&Trick::Gone) {
            return Err(Error::not_found("it is gone"));
        }
        let now = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(now, Ordering::Relaxed);
        let open = Open(self.open.clone());
        let stream = self.repo.read(at, path, range.clone()).await?;
        let sent = self.sent.clone();
        let mut at = range.start;
        let start = range.start;
        let stream = stream.then(move |piece| {
            let (tricks, sent, _open) = (tricks.clone(), sent.clone(), &open);
            let from = at;
            at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            async move {
                let mut piece = piece?;
                for trick in tricks {
                    match trick {
                        Trick::Cut(after) if at - start > after => return Err(Error::new(Kind::Unavailable, "cut")),
                        Trick::Stall(after) if at - start > after => std::future::pending().await,
                        Trick::Flip(byte) if (from..at).contains(&byte) => {
                            let mut copy = piece.to_vec();
                            copy[usize::try_from(byte - from).unwrap()] ^= 4;
                            piece = copy.into();
                        }
                        Trick::Slow(pause) => tokio::time::sleep(pause).await,
                        _ => {}
                    }
                }
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(piece)
            }
        });
        Ok(stream.boxed())
    }
    fn host(&self) -> Option<String> {
        Some(self.host.to_owned())
    }
    fn is_seekable(&self, _: &RepoPath) -> bool {
        self.seekable
    }
}

fn context() -> Context {
    let mut context = quick_context();
    context.governors = Governors::new(Bounds { start: 6, most: 16 });
    context
}

async fn wish(place: &Place) -> Wish {
    let at = place.manifest().await.unwrap().revision;
    let entry = Entry::new(SIZE as u64, Digests::sha256(Oid::of(&content())));
    Wish { at, path: RepoPath::new("model.bin").unwrap(), entry }
}

async fn body(place: &Place, mirrors: &[&Place], context: &Context) -> SourceBody {
    let mut listed = Vec::new();
    for mirror in mirrors {
        listed.push(Mirror::new(Arc::new((*mirror).clone()), mirror.host, mirror.manifest().await.unwrap()));
    }
    SourceBody::with_mirrors(Arc::new(place.clone()), &listed, wish(place).await, context.clone())
}

async fn fill(place: &Place, mirrors: &[&Place], partial: &MemoryPartial) -> Result<()> {
    let body = body(place, mirrors, &context()).await;
    let filled = tokio::time::timeout(Duration::from_mins(1), body.fill(SIZE as u64, Arc::new(partial.clone())));
    filled.await.unwrap()?;
    assert_eq!(body.digests().and_then(|found| found.sha256), Some(Oid::of(&content())));
    assert!(partial.content() == content(), "the hash says one thing and the bytes another");
    Ok(())
}

fn sent(place: &Place) -> f64 {
    place.sent.load(Ordering::Relaxed) as f64 / SIZE as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_filled_by_several_streams() {
    let place = place("a", |_, _| vec![Trick::Slow(Duration::from_millis(1))]);
    let partial = MemoryPartial::new(SIZE as u64);
    fill(&place, &[], &partial).await.unwrap();
    // The piece that is on its way when the rest of a chunk is given to another stream comes in vain: 1/768 of the file.
    assert!(sent(&place) < 1.005, "{}", sent(&place));
    assert!(place.most_open.load(Ordering::Relaxed) > 2);
    assert_eq!(partial.noted(), SIZE as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_fill_goes_on() {
    let place = place("a", |_, _| vec![Trick::Slow(Duration::from_micros(300))]);
    let partial = MemoryPartial::new(SIZE as u64);
    let mut kills: u32 = 0;
    loop {
        let body = body(&place, &[], &context()).await;
        let run = body.fill(SIZE as u64, Arc::new(partial.clone()));
        // Each run first checks what it takes over: on a busy machine that alone would outlast a short life, again and again.
        let life = Duration::from_millis(fastrand::u64(20..250)) * (1 + kills / 10);
        match tokio::time::timeout(life, run).await {
            Ok(done) => break done.unwrap(),
            Err(_) => kills += 1,
        }
    }
    assert!(partial.content() == content());
    // In memory nothing is in flight but what the streams hold: at most a block each.
    let lost = sent(&place) - 1.0;
    assert!(lost <= f64::from(kills) * 6.0 * 0.3 / 24.0 + 0.001, "{lost} lost in {kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_not_believed() {
    let place = place("a", |_, _| vec![Trick::Slow(Duration::from_micros(300))]);
    for lost in [0..100, 5_000_000..9_000_000, SIZE - 1..SIZE, 0..SIZE] {
        let partial = MemoryPartial::new(SIZE as u64);
        fill(&place, &[], &partial).await.unwrap();
        partial.lose(lost.clone());
        place.sent.store(0, Ordering::Relaxed);
        fill(&place, &[], &partial).await.unwrap();
        let expected = (lost.end - lost.start) as f64 / SIZE as f64;
        assert!(sent(&place) <= expected + 0.05, "{lost:?}: {} read again", sent(&place));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_costs_at_most_the_file_once_more() {
    let mut total = 0.0;
    let positions = [0, 1_000_000, SIZE as u64 / 2, 3 * SIZE as u64 / 4, SIZE as u64 - 1];
    for position in positions {
        let flipped = Arc::new(AtomicUsize::new(0));
        let place = place("a", move |_, range| {
            let first = range.contains(&position) && flipped.fetch_add(1, Ordering::Relaxed) == 0;
            if first { vec![Trick::Flip(position)] } else { Vec::new() }
        });
        fill(&place, &[], &MemoryPartial::new(SIZE as u64)).await.unwrap();
        assert!(sent(&place) <= 2.01, "{position}: {}", sent(&place));
        total += sent(&place) - 1.0;
    }
    let average = total / positions.len() as f64;
    assert!(average <= 0.75, "{average}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_always_lies_is_found_out_soon() {
    let always = place("a", |_, _| vec![Trick::Flip(9_999_999)]);
    let partial = MemoryPartial::new(SIZE as u64);
    let error = fill(&always, &[], &partial).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(sent(&always) <= 2.01, "{}", sent(&always));
    let each_time = place("b", |read, _| (0..24).map(|n| Trick::Flip((n << 20) + read as u64)).collect());
    let error = fill(&each_time, &[], &MemoryPartial::new(SIZE as u64)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(sent(&each_time) <= 3.01, "{}", sent(&each_time));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_and_silent_streams_are_replaced() {
    let tricks: [fn(usize) -> Vec<Trick>; 4] = [
        |n| if n % 3 == 0 { vec![Trick::Cut(700_000)] } else { vec![] },
        |n| if n == 1 { vec![Trick::Stall(100_000)] } else { vec![Trick::Slow(Duration::from_millis(1))] },
        |n| if n < 3 { vec![Trick::Stall(0)] } else { vec![] },
        |n| vec![if n % 2 == 0 { Trick::Cut(1_000_000) } else { Trick::Slow(Duration::from_millis(1)) }],
    ];
    for trick in tricks {
        let place = place("a", move |n, _| trick(n));
        fill(&place, &[], &MemoryPartial::new(SIZE as u64)).await.unwrap();
        assert!(sent(&place) <= 1.2, "{}", sent(&place));
        let place = self::place("a", move |n, _| trick(n));
        let all: Vec<Bytes> = body(&place, &[], &context()).await.read(0..SIZE as u64).await.unwrap().try_collect().await.unwrap();
        assert!(all.concat() == content());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_the_fault_of_the_source() {
    let (place, other) = (honest("a"), honest("b"));
    let partial = MemoryPartial::new(SIZE as u64);
    partial.full_after(4);
    assert_eq!(fill(&place, &[&other], &partial).await.unwrap_err().kind(), Kind::Io);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_share_the_work() {
    let slow = |_: usize, _: &Range<u64>| vec![Trick::Slow(Duration::from_millis(2))];
    let (a, b, c) = (place("a", slow), place("b", slow), place("c", slow));
    fill(&a, &[&b, &c], &MemoryPartial::new(SIZE as u64)).await.unwrap();
    for place in [&a, &b, &c] {
        assert!((0.15..0.55).contains(&sent(place)), "{}: {}", place.host, sent(place));
    }
    assert!(sent(&a) + sent(&b) + sent(&c) <= 1.05);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_mirror_is_dropped_and_a_dead_source_replaced() {
    let slow = || vec![Trick::Slow(Duration::from_millis(1))];
    let dies = move |n: usize, _: &Range<u64>| if n < 4 { slow() } else { vec![Trick::Gone] };
    for main_dies in [false, true] {
        let (dying, honest) = (place("dying", dies), place("honest", move |_, _| slow()));
        let (main, mirror) = if main_dies { (&dying, &honest) } else { (&honest, &dying) };
        fill(main, &[mirror], &MemoryPartial::new(SIZE as u64)).await.unwrap();
        let all = body(main, &[mirror], &context()).await.read(0..SIZE as u64).await.unwrap();
        assert!(all.try_collect::<Vec<_>>().await.unwrap().concat() == content());
    }
    let gone = place("gone", |_, _| vec![Trick::Gone]);
    let error = fill(&gone, &[&gone.clone()], &MemoryPartial::new(SIZE as u64)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_mirror_is_found_and_dropped() {
    let lies = |n: usize, _: &Range<u64>| {
        (0..24).map(|m| Trick::Flip((m << 20) + n as u64)).chain([Trick::Slow(Duration::from_millis(1))]).collect()
    };
    for main_lies in [false, true] {
        let (liar, honest) = (place("liar", lies), place("honest", |_, _| vec![Trick::Slow(Duration::from_millis(1))]));
        let (main, mirror) = if main_lies { (&liar, &honest) } else { (&honest, &liar) };
        fill(main, &[mirror], &MemoryPartial::new(SIZE as u64)).await.unwrap();
        assert!(sent(&liar) + sent(&honest) <= 3.1, "{} {}", sent(&liar), sent(&honest));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_begin_in_the_middle_is_read_from_the_start() {
    let mut place = place("a", |_, _| vec![Trick::Slow(Duration::from_micros(200))]);
    place.seekable = false;
    fill(&place, &[], &MemoryPartial::new(SIZE as u64)).await.unwrap();
    assert!(place.reads.load(Ordering::Relaxed) <= 3);
}

/// Reads parts side by side, as an upload in parts does; each part that `fails` says is dropped in the middle and read again.
async fn in_parts(body: &SourceBody, part: u64, side_by_side: usize, fails: impl Fn(u64) -> bool) -> Result<Vec<u8>> {
    let starts = (0..SIZE as u64).step_by(usize::try_from(part).unwrap());
    let got: Mutex<HashMap<u64, Vec<u8>>> = Mutex::default();
    let reads = starts.map(|start| {
        let (got, fails) = (&got, &fails);
        async move {
            let range = start..(start + part).min(SIZE as u64);
            if fails(start) {
                let mut stream = body.read(range.clone()).await?;
                for _ in 0..5 {
                    stream.try_next().await?;
                }
            }
            let pieces: Vec<Bytes> = body.read(range).await?.try_collect().await?;
            got.lock().unwrap().insert(start, pieces.concat());
            Ok::<_, Error>(())
        }
    });
    let all = futures_util::stream::iter(reads).buffer_unordered(side_by_side).try_collect::<Vec<()>>();
    tokio::time::timeout(Duration::from_mins(1), all).await.unwrap()?;
    let mut got: Vec<_> = got.into_inner().unwrap().into_iter().collect();
    got.sort_unstable();
    Ok(got.into_iter().flat_map(|(_, bytes)| bytes).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_side_by_side_fit_into_little_memory() {
    for (memory, permits, part) in [(64 << 20, 16, 5_000_000), (1 << 20, 2, 5_000_000), (1 << 10, 1, 3_000_001), (4 << 20, 4, 1_000_000)] {
        let place = honest("a");
        let mut context = context();
        context.memory = Budget::new(memory);
        context.governors = Governors::new(Bounds { start: permits, most: permits });
        let body = body(&place, &[], &context).await;
        let all = in_parts(&body, part, 4, |start| start % 3 == 0).await.unwrap();
        assert!(all == content(), "{memory} {permits} {part}");
        assert_eq!(body.digests().unwrap().sha256, Some(Oid::of(&content())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reading_of_a_part_must_bring_the_same_bytes() {
    // The first reading of the second part is good, the second one is not.
    let place = place("a", |n, range| if n > 6 && range.start >= 5_000_000 { vec![Trick::Flip(5_000_100)] } else { vec![] });
    let body = body(&place, &[], &context()).await;
    let error = in_parts(&body, 5_000_000, 1, |start| start == 5_000_000).await;
    assert!(error.is_err() || error.unwrap() == content());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_from_a_noted_prefix() {
    let place = honest("a");
    let first = body(&place, &[], &context()).await;
    let part = 4 << 20;
    first.read(0..part).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let mut prefix = first.prefix(part);
    while prefix.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        prefix = first.prefix(part);
    }
    place.sent.store(0, Ordering::Relaxed);
    let second = body(&place, &[], &context()).await;
    assert_eq!(second.resume(prefix.unwrap()), part);
    let rest: Vec<Bytes> = second.read(part..SIZE as u64).await.unwrap().try_collect().await.unwrap();
    assert!(rest.concat() == content()[usize::try_from(part).unwrap()..]);
    assert_eq!(second.digests().unwrap().sha256, Some(Oid::of(&content())));
    assert!(sent(&place) < 0.84);
}
