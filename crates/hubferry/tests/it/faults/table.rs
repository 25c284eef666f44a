//! The table: which faults there are, where they can occur, and how a run must end that meets them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use hubferry_server::testing::{Fault, Interruption, Method, Misplace, Rule};

/// A kind of place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Hf,
    Ms,
    Dir,
}
use Place::{Dir, Hf, Ms};

/// A path: from one kind of place to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) from: Place,
    pub(super) to: Place,
}

pub(super) const COLUMNS: [Column; 6] = [
    Column { from: Hf, to: Dir },
    Column { from: Ms, to: Dir },
    Column { from: Dir, to: Hf },
    Column { from: Dir, to: Ms },
    Column { from: Hf, to: Ms },
    Column { from: Ms, to: Hf },
];

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |place| match place {
            Hf => "hf",
            Ms => "ms",
            Dir => "dir",
        };
        write!(f, "{} → {}", name(self.from), name(self.to))
    }
}

/// What a run asks a hub for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Anything,
    First,
    Listing,
    Link,
    Small,
    Large,
    Create,
    Preupload,
    Batch,
    Blob,
    Completion,
    Commit,
}

impl Step {
    fn reads(self) -> bool {
        matches!(self, Self::First | Self::Listing | Self::Link | Self::Small | Self::Large | Self::Anything)
    }

    /// How the request for it looks; `None` where there is none.
    fn request(self, place: Place) -> Option<(Method, &'static str)> {
        let (hf, ms) = match self {
            Self::Anything => ((Method::GET, "/api/"), (Method::GET, "/api/")),
            Self::First => ((Method::GET, "/api/models/alice/model"), (Method::GET, "/commits")),
            Self::Listing => ((Method::GET, "/tree/"), (Method::GET, "/repo/files")),
            Self::Link => ((Method::GET, "/model.safetensors"), (Method::GET, "FilePath=model.safetensors")),
            Self::Small => ((Method::GET, "/config.json"), (Method::GET, "FilePath=config.json")),
            Self::Large => ((Method::GET, "/-/objects"), (Method::GET, "/-/objects")),
            Self::Create => ((Method::POST, "/repos/create"), (Method::POST, "/api/v1/models")),
            Self::Preupload => ((Method::POST, "/preupload/"), (Method::POST, "")),
            Self::Batch => ((Method::POST, "objects/batch"), (Method::POST, "objects/batch")),
            Self::Blob => ((Method::PUT, "/-/"), (Method::PUT, "/blobs/")),
            Self::Completion => ((Method::POST, "complete_multipart"), (Method::POST, "")),
            Self::Commit => ((Method::POST, "/commit/"), (Method::POST, "/commit/")),
        };
        match place {
            Hf => Some(hf),
            Ms if matches!(self, Self::Preupload | Self::Completion) => None,
            Ms => Some(ms),
            Dir => None,
        }
    }
}

/// A fault at some of the requests of a step.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    step: Step,
    fault: Fault,
    nth: RangeInclusive<u64>,
    /// Only where this part of the large file is read, from 0 to 1; the fault happens there.
    at: Option<f64>,
}

impl Turn {
    fn nth(self, nth: RangeInclusive<u64>) -> Self {
        Self { nth, ..self }
    }

    fn rule(&self, place: Place, size: u64) -> Option<Rule> {
        let (method, path) = self.step.request(place)?;
        let rule = Rule { nth: self.nth.clone(), ..Rule::once(method, path, self.fault.clone()) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a size")]
        Some(self.at.map_or(rule.clone(), |part| rule.at(((size - 1) as f64 * part) as u64)))
    }
}

/// What happens to a run.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Faults of the hub that is read.
    AtSource(Vec<Turn>),
    /// Faults of the hub that is written.
    AtDestination(Vec<Turn>),
    /// A new commit at the source.
    NewCommit,
    /// `kill -9` at random moments, and the same command again.
    Killed,
    /// No space at the destination.
    DiskFull,
    /// No space for what the program notes for itself.
    NotesFull,
    /// The wall clock jumps by this many seconds.
    Clock(i64),
}

/// One fault and how a run must end that meets it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) trouble: Trouble,
    /// The exit codes that are right. Which one it is, the page says.
    pub(super) exits: &'static [i32],
}

impl Row {
    /// The rules for the hub, at this path and with a large file of this size.
    pub(super) fn rules(&self, column: Column, size: u64) -> Vec<Rule> {
        let (turns, place) = match &self.trouble {
            Trouble::AtSource(turns) => (turns, column.from),
            Trouble::AtDestination(turns) => (turns, column.to),
            _ => return Vec::new(),
        };
        turns.iter().filter_map(|turn| turn.rule(place, size)).collect()
    }

    /// Whether the fault can occur on this path.
    pub(super) fn occurs(&self, column: Column) -> bool {
        match self.trouble {
            Trouble::AtSource(_) | Trouble::AtDestination(_) => !self.rules(column, 1).is_empty(),
            Trouble::NewCommit => column.from != Dir,
            Trouble::DiskFull => column.to == Dir,
            Trouble::Killed | Trouble::NotesFull | Trouble::Clock(_) => true,
        }
    }

    /// The heading it stands under.
    pub(super) fn section(&self) -> &'static str {
        match self.trouble {
            Trouble::AtSource(_) | Trouble::NewCommit => "While reading from a hub",
            Trouble::AtDestination(_) => "While writing to a hub",
            _ => "The program and its machine",
        }
    }
}

fn turn(step: Step, fault: Fault) -> Turn {
    Turn { step, fault, nth: 1..=1, at: None }
}

/// At this part of the large file.
fn at(part: f64, fault: Fault) -> Turn {
    Turn { at: Some(part), ..turn(Step::Large, fault) }
}

/// A run that meets this ends well.
fn heals(what: &'static str, turns: impl Into<Vec<Turn>>) -> Row {
    let turns = turns.into();
    let trouble = if turns[0].step.reads() { Trouble::AtSource(turns) } else { Trouble::AtDestination(turns) };
    Row { what, trouble, exits: &[0] }
}

/// What never stops ends in this exit code.
fn ends(what: &'static str, exits: &'static [i32], turn: Turn) -> Row {
    Row { exits, ..heals(what, [turn.nth(1..=u64::MAX)]) }
}

fn other(what: &'static str, trouble: Trouble, exits: &'static [i32]) -> Row {
    Row { what, trouble, exits }
}

fn answer(status: u16) -> Fault {
    Fault::Answer(status, vec![], String::new())
}

fn busy(status: u16, wait: &str) -> Fault {
    Fault::Answer(status, vec![("retry-after", wait.to_owned())], "busy".to_owned())
}

fn page(status: u16) -> Fault {
    Fault::Answer(status, vec![("content-type", "text/html".to_owned())], "<html>a page for people</html>".to_owned())
}

/// Far longer than any patience.
const FOREVER: Duration = Duration::from_mins(2);

/// Every row of the page, in its order.
pub(super) fn rows() -> Vec<Row> {
    [streams(), ranges(), answers(), listings(), uploads(), commits(), machine()].concat()
}

/// A large file that does not flow as it should.
fn streams() -> Vec<Row> {
    let large = |fault| turn(Step::Large, fault);
    vec![
        heals("a byte is flipped", [at(0.33, Fault::Flip(0))]),
        heals("the last byte is flipped", [at(1.0, Fault::Flip(0))]),
        ends("a byte is flipped every time", &[4], at(0.0, Fault::Flip(0))),
        heals("the stream is cut", [at(0.41, Fault::Cut(0))]),
        heals("the stream is cut before its first byte", [large(Fault::Cut(0))]),
        heals("the stream is cut again and again", [large(Fault::Cut(100_000)).nth(1..=5)]),
        heals("the connection is reset", [at(0.6, Fault::Reset(0))]),
        heals("the stream stalls", [at(0.33, Fault::Stall(0, FOREVER))]),
        heals("the stream never starts", [large(Fault::Stall(0, FOREVER))]),
        heals("the stream is slow", [large(Fault::Slow(600_000))]),
        heals("the stream brings one byte per second", [large(Fault::Slow(1))]),
        heals("the answer is too short and does not say so", [at(0.5, Fault::Shorten(0))]),
        heals("more bytes come than were asked for", [at(0.5, Fault::Cut(0)), large(Fault::Excess(4096)).nth(2..=9)]),
    ]
}

/// Answers to ranges that are not what was asked for. A cut comes first, so that there is a range to ask for.
fn ranges() -> Vec<Row> {
    let second = |fault: Fault| [at(0.5, Fault::Cut(0)), turn(Step::Large, fault).nth(2..=2)];
    let all = |fault: Fault| [at(0.5, Fault::Cut(0)), turn(Step::Large, fault).nth(2..=u64::MAX)];
    vec![
        heals("ranges are ignored: 200 with the whole file", all(Fault::IgnoreRange)),
        heals("the answer says that it begins elsewhere", second(Fault::Misplace(Misplace::Start))),
        heals("the answer begins elsewhere", second(Fault::Misplace(Misplace::Elsewhere(1)))),
        heals("the answer does not say where it begins", second(Fault::Misplace(Misplace::Unsaid))),
        ends("every answer is said to be of a larger file", &[7], turn(Step::Large, Fault::Misplace(Misplace::Total))),
        heals("416 for a range that is there", second(answer(416))),
        heals("the object shows another ETag and other bytes", second(Fault::Replaced(None))),
        ends("the object shows another size", &[7], turn(Step::Large, Fault::Replaced(Some(1000)))),
        ends("the object stays another one", &[4, 7], turn(Step::Large, Fault::Replaced(None))),
        other("a new commit replaces the file", Trouble::NewCommit, &[0]),
    ]
}

/// Something else than the file.
fn answers() -> Vec<Row> {
    let large = |fault| turn(Step::Large, fault);
    vec![
        heals("nobody answers", [large(Fault::Delay(FOREVER))]),
        heals("the answer is lost", [large(Fault::LoseAnswer)]),
        heals("the answer is no HTTP", [large(Fault::Garbage)]),
        ends("an HTML page always comes instead of the file", &[7], large(page(200))),
        heals("429 with Retry-After", [large(busy(429, "1"))]),
        heals("429 without Retry-After", [large(answer(429))]),
        heals("500", [large(answer(500))]),
        heals("502 from a gateway", [large(page(502))]),
        heals("503 with Retry-After", [large(busy(503, "0"))]),
        heals("503 without Retry-After", [large(answer(503))]),
        ends("429 with an hour in Retry-After", &[7], large(busy(429, "3600"))),
        heals("the link has expired", [large(Fault::ExpireLink)]),
        ends("links are always expired", &[7], large(Fault::ExpireLink)),
        heals("503 instead of a link", [turn(Step::Link, busy(503, "0")).nth(1..=2)]),
        heals("a byte of a small file is flipped", [turn(Step::Small, Fault::Flip(3))]),
        heals("a small file is cut", [turn(Step::Small, Fault::Cut(3))]),
        ends("a byte of a small file is flipped every time", &[4], turn(Step::Small, Fault::Flip(3))),
    ]
}

fn listings() -> Vec<Row> {
    vec![
        heals("the listing is cut", [turn(Step::Listing, Fault::Cut(40))]),
        heals("502 instead of the listing", [turn(Step::Listing, page(502))]),
        heals("429 instead of the listing", [turn(Step::Listing, busy(429, "1"))]),
        heals("the listing stalls", [turn(Step::Listing, Fault::Stall(40, FOREVER))]),
        ends("an HTML page comes instead of the listing", &[1, 7], turn(Step::Listing, page(200))),
        heals("503 for the first request", [turn(Step::First, busy(503, "1"))]),
        ends("the hub is down", &[7], turn(Step::Anything, answer(503))),
    ]
}

fn uploads() -> Vec<Row> {
    let blob = |fault| turn(Step::Blob, fault);
    let upload = |then| Fault::Upload(100_000, then);
    vec![
        heals("the answer to the creation is lost", [turn(Step::Create, Fault::LoseAnswer)]),
        heals("429 for the question how files travel", [turn(Step::Preupload, busy(429, "1"))]),
        heals("503 for the question what is missing", [turn(Step::Batch, busy(503, "0"))]),
        heals("502 for the question what is missing", [turn(Step::Batch, page(502))]),
        heals("an upload fails with 500", [blob(answer(500))]),
        heals("an upload fails with 503", [blob(busy(503, "0"))]),
        heals("an upload is asked to wait with 429", [blob(busy(429, "1"))]),
        heals("an upload is asked to wait with 429 without Retry-After", [blob(answer(429))]),
        heals("the answer to an upload is lost", [blob(Fault::LoseAnswer)]),
        heals("the answer to an upload is no HTTP", [blob(Fault::Garbage)]),
        heals("the link of an upload has expired", [blob(Fault::ExpireLink)]),
        heals("nobody answers an upload", [blob(Fault::Delay(FOREVER))]),
        heals("nobody reads an upload any more", [blob(upload(Interruption::Silence(FOREVER)))]),
        heals("an upload is refused before it is complete", [blob(upload(Interruption::Answer(503)))]),
        heals("the connection of an upload is reset", [blob(upload(Interruption::Reset))]),
        heals("an upload is taken slowly", [blob(Fault::SlowUpload(600_000))]),
        ends("storage takes nothing", &[7], blob(answer(503))),
        heals("the answer to a completion is lost", [turn(Step::Completion, Fault::LoseAnswer)]),
        heals("a completion fails with 500", [turn(Step::Completion, answer(500))]),
    ]
}

fn commits() -> Vec<Row> {
    let commit = |fault| turn(Step::Commit, fault);
    // After the commit of a run, what was committed is read back.
    vec![
        heals("the answer to the commit is lost", [commit(Fault::LoseAnswer)]),
        heals("the commit is asked to wait with 429", [commit(busy(429, "1"))]),
        heals("the commit fails with 503", [commit(busy(503, "0"))]),
        heals("a gateway gives the commit up with 502", [commit(page(502))]),
        heals("the connection of the commit is reset", [commit(Fault::Upload(100, Interruption::Reset))]),
        ends("no commits for a day: 429", &[7], commit(busy(429, "86400"))),
    ]
}

fn machine() -> Vec<Row> {
    const DAYS: i64 = 3 * 24 * 3600;
    vec![
        other("`kill -9` at random moments, then the same command again", Trouble::Killed, &[0]),
        other("the disk of the destination is full", Trouble::DiskFull, &[1]),
        other("the disk of the program's own notes is full", Trouble::NotesFull, &[0]),
        other("the clock jumps three days ahead", Trouble::Clock(DAYS), &[0]),
        other("the clock jumps three days back", Trouble::Clock(-DAYS), &[0]),
    ]
}
