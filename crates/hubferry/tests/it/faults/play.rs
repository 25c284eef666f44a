//! Plays one fault on one path: two hubs, one command, and what a reader finds afterwards.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use hubferry_core::digest::{GitOid, Oid};
use serde_json::Value;

use super::table::{Column, Place, Row, Trouble};
use crate::harness::{ALICE, Hub, Ran, Started, World, bytes, files_below, full, get, on_small_disk, shim};

/// How a run ended that met a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) code: i32,
    /// What the user reads, where it is not a success.
    pub(super) said: Option<String>,
}

/// Two hubs; one of them holds a model.
pub(super) struct Stage {
    source: Hub,
    destination: Hub,
    files: BTreeMap<String, Vec<u8>>,
}

const FREE_SPACE: &str = "free some space there, then run the same command again: what is stored already is kept";

/// Bytes of the large file.
fn large() -> usize {
    if full() { 32_000_000 } else { 1_200_000 }
}

fn files(seed: u64) -> BTreeMap<String, Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    BTreeMap::from([
        ("model.safetensors".to_owned(), bytes(seed, large())),
        ("sub/other.bin".to_owned(), bytes(11, 100_000)),
        ("config.json".to_owned(), text("{\"a\": 1}")),
        ("README.md".to_owned(), text("# Model\n")),
    ])
}

fn write(world: &World, name: &str, files: &BTreeMap<String, Vec<u8>>) {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    world.tree(name, &files);
}

fn hub() -> Hub {
    Hub::start_with(|config| {
        config.part_size = if full() { 4 << 20 } else { 512 << 10 };
        config.cdn = Some(([127, 0, 0, 2], 0).into());
    })
}

impl Stage {
    pub(super) fn new() -> Self {
        let stage = Self { source: hub(), destination: hub(), files: files(10) };
        let author = stage.source.world(ALICE);
        write(&author, "model", &stage.files);
        author.run(&["copy", "./model", "hf:alice/model", "-q"]).ok();
        stage
    }

    /// Plays cell `number`. Panics when the run does not end as it must.
    pub(super) fn play(&mut self, number: usize, row: &Row, column: Column) -> End {
        let what = format!("{} ({column})", row.what);
        if column.to == Place::Ms {
            // ModelScope takes a blob that it has from anywhere as had.
            self.destination = hub();
        }
        for hub in [&self.source, &self.destination] {
            hub.script.reset();
        }
        let cell = Cell::new(self, number, row, column);
        let rules = row.rules(column, large() as u64);
        let hub = if matches!(row.trouble, Trouble::AtSource(_)) { &self.source } else { &self.destination };
        rules.iter().cloned().for_each(|rule| hub.script.add(rule));
        let ran = cell.run();
        assert!(rules.is_empty() || hub.script.played() > 0, "{what}: the fault did not happen\n{}", ran.shown());
        hub.script.reset();
        assert!(!ran.stderr.contains("panicked at"), "{what}: a panic\n{}", ran.shown());
        assert!(row.exits.contains(&ran.code), "{what}: exit {:?} was expected\n{}", row.exits, ran.shown());
        if ran.code == 0 {
            cell.check(&what);
            return End { code: 0, said: None };
        }
        assert!(ran.stderr.contains("hint: "), "{what}: no hint\n{}", ran.shown());
        assert!(cell.shows_nothing(), "{what}: something is visible\n{}", ran.shown());
        let said = cell.said(&ran.json()["error"]);
        // Once the trouble has passed, the same command does the job.
        cell.healthy.run(&cell.command()).ok();
        cell.check(&what);
        End { code: ran.code, said: Some(said) }
    }
}

/// One command from one place to another.
struct Cell<'a> {
    stage: &'a Stage,
    row: &'a Row,
    column: Column,
    /// The machine with its trouble, and the same home without.
    healthy: World,
    from: String,
    to: String,
    name: String,
}

impl<'a> Cell<'a> {
    fn new(stage: &'a Stage, number: usize, row: &'a Row, column: Column) -> Self {
        let (source, destination) = (&stage.source, &stage.destination);
        let hf = if column.from == Place::Hf { &source.hf } else { &destination.hf };
        let ms = if column.from == Place::Ms { &source.ms } else { &destination.ms };
        let healthy = World::new().at(hf, ms, ALICE);
        if column.from == Place::Dir {
            write(&healthy, "model", &stage.files);
        }
        let at = |place, name: &str| match place {
            Place::Hf => format!("hf:alice/{name}"),
            Place::Ms => format!("ms:alice/{name}"),
            Place::Dir => format!("./{name}"),
        };
        let mut model = "model".to_owned();
        if matches!(row.trouble, Trouble::NewCommit) {
            model = format!("moving-{number}");
            let author = source.world(ALICE);
            write(&author, "model", &stage.files);
            author.run(&["copy", "./model", &format!("hf:alice/{model}"), "-q"]).ok();
        }
        let name = format!("copy-{number}");
        Self { stage, row, column, healthy, from: at(column.from, &model), to: at(column.to, &name), name }
    }

    fn command(&self) -> Vec<&str> {
        // Alone a large file is read first, so that a fault for the first reading meets it.
        vec!["copy", &self.from, &self.to, "--transfers", "1", "--stall-timeout", "2", "--json", "-q", "--exclude", "/.gitattributes"]
    }

    fn start(&self, more: &[&str], settings: &[(&str, &str)]) -> Started {
        let args = [self.command(), more.to_vec()].concat();
        let mut command = self.healthy.command(&args);
        if !settings.is_empty() {
            command.env("LD_PRELOAD", shim()).envs(settings.iter().copied());
        }
        Started::new(format!("hubferry {}", args.join(" ")), command)
    }

    /// Runs the command in its trouble.
    fn run(&self) -> Ran {
        match self.row.trouble {
            Trouble::AtSource(_) | Trouble::AtDestination(_) => self.start(&[], &[]).wait(),
            Trouble::DiskFull => on_small_disk(&self.healthy, &self.name, large() as u64 / 2048, &self.command()),
            Trouble::NotesFull => on_small_disk(&self.healthy, "../.cache", 4, &self.command()),
            Trouble::Clock(seconds) => {
                self.start(&["--bwlimit", &self.rate(1.0)], &[("SHIM_CLOCK", &seconds.to_string()), ("SHIM_CLOCK_AFTER", "400")]).wait()
            }
            Trouble::NewCommit => {
                let run = self.start(&["--bwlimit", &self.rate(1.5)], &[]);
                let hub = &self.stage.source.script;
                while hub.sent(&hubferry_server::testing::Method::GET, "/-/objects") < 10_000 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let author = self.stage.source.world(ALICE);
                write(&author, "model", &files(77));
                author.run(&["copy", "./model", &format!("hf:{}", &self.from[3..]), "-q"]).ok();
                run.wait()
            }
            Trouble::Killed => {
                for _ in 0..if full() { 20 } else { 3 } {
                    let mut run = self.start(&["--bwlimit", &self.rate(1.0)], &[]);
                    let chance = RandomState::new().build_hasher().finish() % 1300;
                    std::thread::sleep(Duration::from_millis(chance));
                    run.kill();
                    run.wait();
                }
                self.start(&[], &[]).wait()
            }
        }
    }

    /// A rate by which the whole takes about this many seconds.
    fn rate(&self, seconds: f64) -> String {
        let bytes: usize = self.stage.files.values().map(Vec::len).sum();
        format!("{:.0}", bytes as f64 / seconds)
    }

    fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.stage.files
    }

    /// Fails unless a reader finds the whole model, put there by one commit.
    fn check(&self, what: &str) {
        if self.column.to == Place::Dir {
            let mut found = files_below(&self.healthy.work().join(&self.name));
            found.retain(|path, _| !path.starts_with(".hubferry/"));
            assert!(&found == self.files(), "{what}: found {:?}", found.keys());
            return;
        }
        let commits = self.stage.destination.commits(&format!("alice/{}", self.name));
        let copies = commits.iter().filter(|(_, message)| message.contains("Source-Revision: ")).count();
        assert_eq!(copies, 1, "{what}: exactly one commit");
        let url = format!("{}/api/models/alice/{}/tree/main?recursive=true", self.stage.destination.hf, self.name);
        let (status, listed) = get(&url, ALICE);
        assert_eq!(status, 200, "{what}: {listed}");
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let listed: BTreeMap<&str, &Value> = listed.iter().map(|entry| (entry["path"].as_str().unwrap(), entry)).collect();
        for (path, content) in self.files() {
            let entry = listed.get(path.as_str()).unwrap_or_else(|| panic!("{what}: {path} is not there"));
            let right = match entry["lfs"]["oid"].as_str() {
                Some(oid) => oid == Oid::of(content).to_string(),
                None => entry["oid"] == GitOid::of(content).to_string(),
            };
            assert!(right, "{what}: {path} is {entry}");
        }
        if full() {
            let mut from = self.from.clone();
            if matches!(self.row.trouble, Trouble::NewCommit) {
                // The one before the newest was there when the run began.
                let (_, repository) = from.split_once(':').unwrap();
                let (revision, _) = self.stage.source.commits(repository).swap_remove(1);
                from = format!("{from}@{revision}");
            }
            self.healthy.run(&["verify", &self.to, "--against", &from, "--exclude", "/.gitattributes", "-q"]).ok();
        }
    }

    fn shows_nothing(&self) -> bool {
        if self.column.to == Place::Dir {
            let found = files_below(&self.healthy.work().join(&self.name));
            return found.keys().all(|path| path.starts_with(".hubferry/"));
        }
        let listed = self.healthy.run(&["ls", &self.to]);
        listed.code == 6 || !listed.stdout.contains("config.json")
    }

    /// Message and hint, without what differs from run to run.
    fn said(&self, error: &Value) -> String {
        let text = format!("{}. *hint:* {}", error["message"].as_str().unwrap(), error["hint"].as_str().unwrap());
        let home = self.healthy.home().to_str().unwrap();
        let hubs = [&self.stage.source, &self.stage.destination];
        let text = hubs.iter().flat_map(|hub| [&hub.hf, &hub.ms]).fold(text, |text, url| text.replace(url.as_str(), "https://hub"));
        let text = text.replace(home, "~").replace(&self.name, "copy");
        // What a full disk says, where nothing may be mounted for a test.
        let text = match text.split_once("File too large (os error 27)") {
            Some((before, _)) => format!("{before}No space left on device (os error 28). *hint:* {FREE_SPACE}"),
            None => text,
        };
        // Sizes depend on the size of the file; whose staging name it is, on the run.
        let words: Vec<&str> = text.split(' ').collect();
        let shown = words.iter().enumerate().map(|(at, word)| {
            let number = word.trim_end_matches(['.', ',']);
            let is_size = number.len() > 3 || words.get(at + 1).is_some_and(|unit| unit.starts_with("MiB"));
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            if digits && is_size { word.replace(number, "N") } else { (*word).to_owned() }
        });
        let text = shown.collect::<Vec<_>>().join(" ");
        match text.split_once("/.hubferry/staging/") {
            Some((before, after)) => format!("{before}/.hubferry/staging/…{}", after.find(": ").map_or("", |at| &after[at..])),
            None => text,
        }
    }
}
