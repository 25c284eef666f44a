//! Uploads in parts that are killed, refused, doubted and continued.

use std::collections::{BTreeMap, BTreeSet};

use hubferry_core::digest::Prefix;

use super::*;
use crate::http::HttpConfig;
use crate::journal::FileJournal;

const SIZE: usize = 95;
const PART: usize = 10;
/// Bytes that a read may be ahead of the hash.
const WINDOW: usize = 40;

fn content() -> Vec<u8> {
    (0..SIZE).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()
}

fn large() -> Blob {
    Blob { oid: Oid::of(&content()), size: SIZE as u64 }
}

/// A body as the engine makes them: hashed in order, with little room for what is ahead of the hash.
struct Engine {
    content: Vec<u8>,
    state: Mutex<Hashing>,
}

struct Hashing {
    seen: BTreeSet<usize>,
    /// Everything that was asked for.
    read: Vec<Range<u64>>,
    resumed: u64,
}

impl Engine {
    fn over(content: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { content, state: Mutex::new(Hashing { seen: BTreeSet::new(), read: Vec::new(), resumed: 0 }) })
    }

    fn new() -> Arc<Self> {
        Self::over(content())
    }

    /// One whose byte `at` is wrong.
    fn flipped(at: usize) -> Arc<Self> {
        let mut content = content();
        content[at] ^= 1;
        Self::over(content)
    }

    fn hashed(&self) -> usize {
        let state = self.state.lock().unwrap();
        (0..SIZE).find(|at| !state.seen.contains(at)).unwrap_or(SIZE)
    }

    fn prefix_of(&self, at: usize) -> Prefix {
        let mut prefix = Prefix::default();
        prefix.update(&self.content[..at]);
        prefix
    }

    fn resumed(&self) -> u64 {
        self.state.lock().unwrap().resumed
    }

    fn bytes_read(&self) -> u64 {
        self.state.lock().unwrap().read.iter().map(|range| range.end - range.start).sum()
    }
}

/// What the tests hand out as a body.
struct Shared(Arc<Engine>);

#[async_trait]
impl Body for Shared {
    async fn read(&self, range: Range<u64>) -> Result<ByteStream> {
        let engine = self.0.clone();
        engine.state.lock().unwrap().read.push(range.clone());
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        let pieces: Vec<(usize, Bytes)> =
            (start..end).step_by(4).map(|at| (at, Bytes::copy_from_slice(&engine.content[at..end.min(at + 4)]))).collect();
        Ok(stream::iter(pieces)
            .then(move |(at, piece)| {
                let engine = engine.clone();
                async move {
                    while at > engine.hashed() + WINDOW {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    engine.state.lock().unwrap().seen.extend(at..at + piece.len());
                    if engine.hashed() == SIZE && Oid::of(&engine.content) != large().oid {
                        return Err(Error::new(Kind::Corrupt, "the whole is wrong"));
                    }
                    Ok(piece)
                }
            })
            .boxed())
    }

    fn prefix(&self, at: u64) -> Option<Prefix> {
        let at = usize::try_from(at).unwrap();
        (at <= self.0.hashed()).then(|| self.0.prefix_of(at))
    }

    fn resume(&self, prefix: Prefix) -> u64 {
        let mut state = self.0.state.lock().unwrap();
        state.seen.extend(0..usize::try_from(prefix.at()).unwrap());
        state.resumed = prefix.at();
        prefix.at()
    }
}

/// A hub that takes parts. Every question makes a new upload, unless told otherwise.
#[derive(Default)]
struct Storage {
    uploads: AtomicUsize,
    /// Whether all questions get the same upload.
    one: bool,
    parts: Mutex<BTreeMap<(String, usize), Vec<u8>>>,
    held: std::sync::atomic::AtomicBool,
    /// Part requests, in order.
    sent: Mutex<Vec<usize>>,
}

type Fault = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

fn part_of(seen: &Seen) -> Option<usize> {
    seen.path().strip_prefix("/part/")?.parse().ok()
}

fn upload_of(seen: &Seen) -> String {
    seen.target.split("uploadId=").nth(1).unwrap().split('&').next().unwrap().to_owned()
}

impl Storage {
    fn answer(&self, seen: &Seen) -> Reply {
        if let Some(part) = part_of(seen) {
            self.sent.lock().unwrap().push(part);
            if !seen.complete {
                return Reply::silent();
            }
            self.parts.lock().unwrap().insert((upload_of(seen), part), seen.body.clone());
            return Reply::new(200, "").header("ETag", &format!("\"{}\"", Oid::of(&seen.body)));
        }
        if seen.path() == "/complete" {
            return self.complete(seen);
        }
        if self.held.load(Ordering::Relaxed) {
            return Reply::json(&json!({"objects": [{"oid": large().oid, "size": SIZE}]}));
        }
        let (question, base) = (self.uploads.fetch_add(1, Ordering::Relaxed), base(seen));
        let upload = if self.one { 0 } else { question };
        let mut header = json!({"chunk_size": PART});
        for number in 1..=SIZE.div_ceil(PART) {
            header[number.to_string()] = json!(format!("{base}/part/{number}?uploadId={upload}&signature={question}"));
        }
        let href = format!("{base}/complete?uploadId={upload}&signature={question}");
        Reply::json(&json!({"objects": [{"oid": large().oid, "size": SIZE, "actions": {"upload": {"href": href, "header": header}}}]}))
    }

    fn complete(&self, seen: &Seen) -> Reply {
        let (mut parts, upload) = (self.parts.lock().unwrap(), upload_of(seen));
        let mut whole = Vec::new();
        for (index, named) in seen.json()["parts"].as_array().unwrap().iter().enumerate() {
            let Some(part) = parts.get(&(upload.clone(), index + 1)) else { return Reply::new(404, "<Error>NoSuchUpload</Error>") };
            if named["etag"] != json!(format!("\"{}\"", Oid::of(part))) {
                return Reply::new(400, "<Error>InvalidPart</Error>");
            }
            whole.extend_from_slice(part);
        }
        if Oid::of(&whole) != large().oid {
            return Reply::new(422, "BadDigest");
        }
        parts.clear();
        self.held.store(true, Ordering::Relaxed);
        Reply::json(&json!({}))
    }

    fn sent(&self) -> Vec<usize> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

async fn hub(one: bool, fault: Fault) -> (Arc<Storage>, Script) {
    let storage = Arc::new(Storage { one, ..Storage::default() });
    let behind = storage.clone();
    let script = Script::start(move |seen| fault(seen).unwrap_or_else(|| behind.answer(seen))).await;
    (storage, script)
}

fn with(script: &Script, journal: Arc<dyn Journal>) -> Lfs {
    // A busy machine must not make a stall of every pause.
    let http = Http::new(HttpConfig { idle_timeout: Duration::from_secs(10), ..HttpConfig::default() }).unwrap();
    Lfs { http, parallel_parts: 4, journal, ..lfs(script) }
}

/// Uploads and drops everything in the middle: as a process that is killed. That is once `enough` parts are noted and `hang` requests
/// more have come whole, so that none of this process is taken for one of the next.
async fn killed(lfs: &Lfs, script: &Script, body: &Arc<Engine>, enough: usize, hang: usize) {
    let note = Note::new(lfs, &large());
    let (blob, shared) = (large(), Shared(body.clone()));
    let upload = lfs.upload(&blob, &shared);
    let noted = async {
        let asked = || script.seen().iter().filter(|seen| part_of(seen).is_some()).count();
        while note.load(lfs, &large()).await.is_none_or(|earlier| earlier.stored.len() < enough) || asked() < enough + hang {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        result = upload => panic!("it was to hang: {result:?}"),
        () = noted => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("the parts are not noted"),
    }
}

/// Never answers parts from `first` on while `on` is set.
fn hangs(first: usize, on: &Arc<std::sync::atomic::AtomicBool>) -> Fault {
    let on = on.clone();
    Box::new(move |seen| (part_of(seen)? >= first && on.load(Ordering::Relaxed)).then(Reply::never))
}

fn flag() -> Arc<std::sync::atomic::AtomicBool> {
    Arc::new(std::sync::atomic::AtomicBool::new(true))
}

fn sorted(mut parts: Vec<usize>) -> Vec<usize> {
    parts.sort_unstable();
    parts
}

#[tokio::test]
async fn a_killed_upload_sends_only_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let on = flag();
    let (storage, script) = hub(false, hangs(6, &on)).await;
    let first = Engine::new();
    let lfs = with(&script, Arc::new(FileJournal::at(folder.path())));
    lfs.missing(&[large()]).await.unwrap();
    killed(&lfs, &script, &first, 5, 4).await;
    on.store(false, Ordering::Relaxed);
    storage.sent();
    let before = script.seen().len();
    // Another process: nothing but the folder is left.
    let lfs = with(&script, Arc::new(FileJournal::at(folder.path())));
    let second = Engine::new();
    lfs.upload(&large(), &Shared(second.clone())).await.unwrap();
    assert_eq!(sorted(storage.sent()), [6, 7, 8, 9, 10]);
    assert_eq!((second.resumed(), second.bytes_read()), (50, 45), "nothing before is read again");
    let asked = script.asked();
    assert!(asked[before..].iter().all(|asked| !asked.contains("/batch")), "{asked:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the note is gone with the upload");
    assert!(storage.held.load(Ordering::Relaxed));
}

#[tokio::test]
async fn parts_beyond_the_hash_are_looked_at_and_not_sent_again() {
    let on = flag();
    let fault = on.clone();
    // The first part never arrives, its neighbours do.
    let (storage, script) =
        hub(false, Box::new(move |seen| (part_of(seen)? == 1 && fault.load(Ordering::Relaxed)).then(Reply::never))).await;
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    killed(&with(&script, journal.clone()), &script, &Engine::new(), 3, 1).await;
    on.store(false, Ordering::Relaxed);
    let lfs = with(&script, journal);
    let noted: Vec<usize> = Note::new(&lfs, &large()).load(&lfs, &large()).await.unwrap().stored.keys().map(|index| index + 1).collect();
    storage.sent();
    let body = Engine::new();
    lfs.upload(&large(), &Shared(body.clone())).await.unwrap();
    let sent = storage.sent();
    assert!(sent.contains(&1) && !sent.iter().any(|part| noted.contains(part)), "{sent:?} {noted:?}");
    assert_eq!((body.resumed(), body.bytes_read()), (0, 95));
}

#[tokio::test]
async fn parts_go_side_by_side_in_their_order_and_not_too_many() {
    let (storage, script) = hub(false, hangs(1, &flag())).await;
    let lfs = with(&script, Arc::new(MemoryJournal::default()));
    let (blob, body) = (large(), Shared(Engine::new()));
    let asked = || script.seen().iter().filter_map(part_of).collect::<BTreeSet<usize>>();
    let four = async {
        while asked().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        _ = lfs.upload(&blob, &body) => panic!("nothing is answered"),
        () = four => {}
    }
    assert_eq!(asked(), BTreeSet::from([1, 2, 3, 4]));
    assert!(storage.sent().is_empty());
}

#[tokio::test]
async fn parts_that_end_in_any_order_make_one_whole() {
    let slow: Fault = Box::new(|seen| {
        let part = part_of(seen)?;
        let tag = format!("\"{}\"", Oid::of(&seen.body));
        (part == 1 || part == 5).then(|| Reply::new(200, "").header("ETag", &tag).delay(Duration::from_millis(100)))
    });
    let (storage, script) = hub(false, slow).await;
    // The slow answers do not store: they are put there now.
    for part in [1, 5] {
        let bytes = content()[(part - 1) * PART..part * PART].to_vec();
        storage.parts.lock().unwrap().insert(("0".to_owned(), part), bytes);
    }
    let lfs = with(&script, Arc::new(MemoryJournal::default()));
    lfs.upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert!(storage.held.load(Ordering::Relaxed));
}

#[tokio::test]
async fn refused_links_of_an_earlier_run_are_renewed() {
    let on = flag();
    let (hang, old) = (hangs(6, &on), on.clone());
    // Once the process is dead, the links of its question are refused.
    let fault: Fault = Box::new(move |seen| {
        let expired = !old.load(Ordering::Relaxed) && seen.target.ends_with("signature=0");
        if expired { Some(Reply::new(403, "<Error>Request has expired</Error>")) } else { hang(seen) }
    });
    let (storage, script) = hub(true, fault).await;
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    killed(&with(&script, journal.clone()), &script, &Engine::new(), 5, 4).await;
    on.store(false, Ordering::Relaxed);
    storage.sent();
    let before = script.seen().len();
    with(&script, journal).upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert_eq!(sorted(storage.sent()), [6, 7, 8, 9, 10]);
    let questions = script.asked()[before..].iter().filter(|asked| asked.contains("/batch")).count();
    assert_eq!(questions, 1, "four parts were refused, one asked");
}

#[tokio::test]
async fn an_upload_that_the_server_forgot_starts_over() {
    let on = flag();
    let (hang, old) = (hangs(6, &on), on.clone());
    let fault: Fault = Box::new(move |seen| {
        let gone = !old.load(Ordering::Relaxed) && seen.target.contains("uploadId=0");
        if gone { Some(Reply::new(404, "<Error>NoSuchUpload</Error>")) } else { hang(seen) }
    });
    let (storage, script) = hub(false, fault).await;
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    killed(&with(&script, journal.clone()), &script, &Engine::new(), 5, 4).await;
    on.store(false, Ordering::Relaxed);
    storage.sent();
    let lfs = with(&script, journal);
    let error = lfs.upload(&large(), &Shared(Engine::new())).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, Retry::Backoff), "this body has not hashed the beginning: {error}");
    let before = script.seen().len();
    lfs.upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert_eq!(sorted(storage.sent()), (1..=10).collect::<Vec<_>>());
    assert!(script.asked()[before..].iter().all(|asked| !asked.contains("/batch")), "the answer of the first try serves the second");
}

#[tokio::test]
async fn a_part_that_was_wrong_is_replaced_and_the_others_stay() {
    for kills in [false, true] {
        let (storage, script) = hub(false, Box::new(|_| None)).await;
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let lfs = with(&script, journal.clone());
        let error = lfs.upload(&large(), &Shared(Engine::flipped(33))).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Corrupt, Retry::Backoff));
        let sent = storage.sent();
        assert!(sorted(sent.clone()).windows(2).all(|two| two[0] < two[1]), "a corrupt part is not tried alone: {sent:?}");
        let mut noted: Vec<usize> = Note::new(&lfs, &large()).load(&lfs, &large()).await.unwrap().stored.keys().map(|at| at + 1).collect();
        assert!(noted.len() >= 5 && noted.contains(&4), "{noted:?}");
        noted.retain(|part| *part != 4);
        let lfs = if kills { with(&script, journal) } else { lfs };
        let body = Engine::new();
        lfs.upload(&large(), &Shared(body.clone())).await.unwrap();
        let again = storage.sent();
        assert!(again.contains(&4) && again.iter().all(|part| !noted.contains(part)), "{again:?} after {noted:?}");
        assert_eq!(body.resumed(), 0, "what was hashed is doubtful as well");
        assert!(storage.held.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_completion_is_found_out() {
    let lost = AtomicUsize::new(0);
    let storage = Arc::new(Storage::default());
    let behind = storage.clone();
    let script = Script::start(move |seen| {
        let reply = behind.answer(seen);
        if seen.path() == "/complete" && lost.fetch_add(1, Ordering::Relaxed) == 0 { Reply::silent() } else { reply }
    })
    .await;
    let journal = Arc::new(MemoryJournal::default());
    let lfs = with(&script, journal.clone());
    lfs.upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert_eq!(script.asked().iter().filter(|asked| asked.contains("/batch")).count(), 2, "the server says that it holds the object");
    assert!(Note::new(&lfs, &large()).load(&lfs, &large()).await.is_none());
    assert_eq!(storage.sent().len(), 10);
}

#[tokio::test]
async fn parts_the_storage_does_not_join_are_sent_anew() {
    let refused = AtomicUsize::new(0);
    let fault: Fault = Box::new(move |seen| {
        (seen.path() == "/complete" && refused.fetch_add(1, Ordering::Relaxed) < 6).then(|| Reply::new(400, "<Error>InvalidPart</Error>"))
    });
    let (storage, script) = hub(false, fault).await;
    let lfs = with(&script, Arc::new(MemoryJournal::default()));
    assert_eq!(lfs.upload(&large(), &Shared(Engine::new())).await.unwrap_err().kind(), Kind::Unavailable);
    storage.sent();
    lfs.upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert_eq!(storage.sent().len(), 10);
}

#[tokio::test]
async fn two_uploads_of_one_object_do_not_disturb_each_other() {
    for shared in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (storage, script) = hub(false, Box::new(|_| None)).await;
        let one = with(&script, Arc::new(FileJournal::at(folder.path())));
        let other = with(&script, Arc::new(FileJournal::at(folder.path())));
        let second = if shared { &one } else { &other };
        let (blob, a, b) = (large(), Shared(Engine::new()), Shared(Engine::new()));
        let (first, second) = tokio::join!(one.upload(&blob, &a), second.upload(&blob, &b));
        first.unwrap();
        second.unwrap();
        assert!(storage.held.load(Ordering::Relaxed));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn notes_are_not_believed() {
    let on = flag();
    let (storage, script) = hub(false, hangs(6, &on)).await;
    let evil = Script::start(|_| Reply::new(200, "").header("ETag", "x")).await;
    let journal = Arc::new(MemoryJournal::default());
    let lfs = with(&script, journal.clone());
    killed(&lfs, &script, &Engine::new(), 5, 4).await;
    on.store(false, Ordering::Relaxed);
    let key = format!("lfs {} {} {}", lfs.batch, large().oid, SIZE);
    let note = journal.load(&key).unwrap();
    assert!(!note.contains("hf_secret"), "the token is not noted");
    let (first, rest) = note.split_once('\n').unwrap();
    let changed = |from: &str, to: &str| format!("{}\n{rest}", first.replacen(from, to, 1));
    let mut tampered = Prefix::default();
    tampered.update(&[0; 90]);
    let tampered = serde_json::to_string(&tampered).unwrap();
    let name = rest.split("\"of\":\"").nth(1).unwrap().split('"').next().unwrap();
    for bad in [
        String::new(),
        "nonsense".to_owned(),
        "{}".to_owned(),
        "[1]\n{".to_owned(),
        changed("\"layout\":1", "\"layout\":2"),
        changed("\"at\":1", "\"at\":9"),
        changed("\"at\":1", "\"at\":0"),
        changed("\"chunk_size\":10", "\"chunk_size\":11"),
        changed("\"chunk_size\":10", "\"chunk_size\":0"),
        changed("http://127.0.0.1", "file://127.0.0.1"),
        changed(&large().oid.to_string(), &Oid::EMPTY.to_string()),
        changed("\"size\":95", "\"size\":96"),
        changed("signature=0", "signature=0&Expires=1"),
    ] {
        journal.save(&key, &bad);
        assert!(Note::new(&lfs, &large()).load(&lfs, &large()).await.is_none(), "{bad}");
    }
    // Lines that cannot be are left out one by one.
    let lines = format!(
        "{first}\n{{\"of\":\"{name}\",\"part\":99,\"etag\":\"x\",\"is\":\"{:032x}\"}}\n{{\"of\":\"{name}\",\"part\":2,\"etag\":\"a\\nb\",\"is\":\"{:032x}\"}}\n\
         {{\"of\":\"{name}\",\"prefix\":{tampered}}}\n{{\"of\":\"other\",\"part\":1,\"etag\":\"x\",\"is\":\"{:032x}\"}}\n{{\"of\":\"{name}\",\"pa\n\0\n",
        1, 1, 1
    );
    journal.save(&key, &lines);
    let earlier = Note::new(&lfs, &large()).load(&lfs, &large()).await.unwrap();
    assert!(earlier.stored.is_empty() && earlier.prefix.is_none(), "a hash of parts that are not stored is no help");
    storage.sent();
    lfs.upload(&large(), &Shared(Engine::new())).await.unwrap();
    assert!(storage.held.load(Ordering::Relaxed) && evil.seen().is_empty());
}

#[tokio::test]
async fn fresh_links_that_are_refused_end_soon() {
    let (storage, script) = hub(false, Box::new(|seen| part_of(seen).map(|_| Reply::new(403, "<Error>AccessDenied</Error>")))).await;
    let lfs = with(&script, Arc::new(MemoryJournal::default()));
    let error = lfs.upload(&large(), &Shared(Engine::new())).await.unwrap_err();
    assert_eq!(error.retry(), Retry::No, "{error}");
    assert!(script.seen().len() <= 10, "{:?}", script.asked());
    assert!(storage.sent().is_empty());
}
