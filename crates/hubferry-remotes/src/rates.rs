//! How fast files went from one host to another in earlier runs: a small file, so that a plan can say how long it will take.
//!
//! Two rates are kept per pair of hosts, because they have nothing to do with each other: bytes per second of large files, and
//! small files per second. Losing the file costs an estimate and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Files from this size on, in bytes, count by their bytes, smaller ones by their number.
pub const LARGE: u64 = 1 << 20;
/// Fewer bytes say nothing about a rate.
const ENOUGH_BYTES: u64 = 4 << 20;
/// Fewer files say nothing about a rate.
const ENOUGH_FILES: u64 = 16;
/// A file beyond this size was not written by us.
const LARGEST: u64 = 1 << 20;
/// Pairs that are kept; the one that was measured longest ago goes first.
const MOST: usize = 500;
/// What a new measurement counts, beside what was known.
const WEIGHT: f64 = 0.5;

/// What moves, or moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Files from [`LARGE`] on.
    pub large_bytes: u64,
    /// Smaller ones.
    pub small_files: u64,
}

impl Load {
    /// Of files with these sizes.
    pub fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        sizes.into_iter().fold(Self::default(), |load, size| {
            if size >= LARGE {
                Self { large_bytes: load.large_bytes.saturating_add(size), ..load }
            } else {
                Self { small_files: load.small_files + 1, ..load }
            }
        })
    }
}

/// Rates by pair of hosts.
#[derive(Debug)]
pub struct Rates {
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Rate {
    bytes_per_second: Option<f64>,
    files_per_second: Option<f64>,
    /// Number of the measurement, to know the oldest.
    number: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u64,
    pairs: BTreeMap<String, Rate>,
}

impl Rates {
    /// Rates in `<folder>/rates.json`, which is made when there is something to keep; without a folder nothing is known or kept.
    pub fn at(folder: Option<&Path>) -> Self {
        Self { file: folder.map(|folder| folder.join("rates.json")) }
    }

    /// How long it took to move this much before; `None` when nothing like it was measured between these hosts.
    pub fn time(&self, from: Option<&str>, to: Option<&str>, load: Load) -> Option<Duration> {
        let rate = *self.read().pairs.get(&name(from, to))?;
        let part = |amount: u64, rate: Option<f64>| match (amount, rate.filter(|rate| rate.is_normal() && *rate > 0.0)) {
            (0, _) => Some(0.0),
            (amount, rate) => rate.map(|rate| amount as f64 / rate),
        };
        let by_bytes = part(load.large_bytes, rate.bytes_per_second);
        let by_files = part(load.small_files, rate.files_per_second);
        let seconds = match (by_bytes, by_files) {
            (Some(bytes), Some(files)) => bytes + files,
            // A few small files beside large ones, or the other way round, do not decide.
            (Some(bytes), None) if load.small_files < ENOUGH_FILES && load.large_bytes > 0 => bytes,
            (None, Some(files)) if load.large_bytes < ENOUGH_BYTES && load.small_files > 0 => files,
            _ => return None,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Takes a measurement: this much moved in this time. What says too little is not kept.
    pub fn learn(&self, from: Option<&str>, to: Option<&str>, load: Load, took: Duration) {
        let seconds = took.as_secs_f64();
        let (bytes, files) = (load.large_bytes as f64 / seconds, load.small_files as f64 / seconds);
        // Mixed runs teach only what took most of their time, as far as anybody can tell.
        let by_bytes = load.large_bytes >= ENOUGH_BYTES && load.large_bytes / LARGE >= load.small_files;
        let by_files = load.small_files >= ENOUGH_FILES && load.large_bytes == 0;
        if took.is_zero() || !(by_bytes || by_files) {
            return;
        }
        let mut kept = self.read();
        let number = kept.pairs.values().map(|rate| rate.number).max().unwrap_or(0).saturating_add(1);
        let rate = kept.pairs.entry(name(from, to)).or_default();
        let mix = |known: Option<f64>, new: f64| Some(known.map_or(new, |known| known + WEIGHT * (new - known)));
        if by_bytes {
            rate.bytes_per_second = mix(rate.bytes_per_second, bytes);
        } else {
            rate.files_per_second = mix(rate.files_per_second, files);
        }
        rate.number = number;
        while kept.pairs.len() > MOST {
            let oldest = kept.pairs.iter().min_by_key(|(_, rate)| rate.number).map(|(pair, _)| pair.clone());
            kept.pairs.retain(|pair, _| Some(pair) != oldest.as_ref());
        }
        if let Err(error) = self.write(&kept) {
            tracing::debug!(%error, "cannot keep the rates of this run");
        }
    }

    fn read(&self) -> Kept {
        let read = || -> Option<Kept> {
            let file = File::open(self.file.as_ref()?).ok()?;
            let mut text = Vec::new();
            file.take(LARGEST).read_to_end(&mut text).ok()?;
            serde_json::from_slice(&text).ok()
        };
        read().filter(|kept| kept.version == 1).unwrap_or(Kept { version: 1, pairs: BTreeMap::new() })
    }

    /// Beside its place and then renamed: another run reads the old file or the new one.
    fn write(&self, kept: &Kept) -> std::io::Result<()> {
        let Some((at, folder)) = self.file.as_ref().and_then(|at| Some((at, at.parent()?))) else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let unfinished = at.with_extension(format!("{:016x}", fastrand::u64(..)));
        let written = File::create_new(&unfinished).and_then(|mut file| file.write_all(&serde_json::to_vec(kept)?));
        let result = written.and_then(|()| std::fs::rename(&unfinished, at));
        if result.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        result
    }
}

fn name(from: Option<&str>, to: Option<&str>) -> String {
    let host = |host: Option<&str>| host.unwrap_or("this machine").to_owned();
    format!("{} -> {}", host(from), host(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bytes(large_bytes: u64) -> Load {
        Load { large_bytes, small_files: 0 }
    }

    fn files(small_files: u64) -> Load {
        Load { large_bytes: 0, small_files }
    }

    #[test]
    fn what_was_measured_tells_the_time_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let rates = Rates::at(Some(&folder.path().join("new")));
        let (hub, here) = (Some("hub:443"), None);
        assert_eq!(rates.time(hub, here, bytes(1 << 30)), None);
        rates.learn(hub, here, bytes(ENOUGH_BYTES - 1), SECOND);
        rates.learn(hub, here, files(ENOUGH_FILES - 1), SECOND);
        rates.learn(hub, here, bytes(1 << 30), Duration::ZERO);
        assert_eq!(rates.time(hub, here, bytes(1 << 30)), None, "too little, or no time at all");
        rates.learn(hub, here, bytes(100 << 20), SECOND);
        assert_eq!(rates.time(hub, here, bytes(1000 << 20)), Some(10 * SECOND));
        assert_eq!(rates.time(here, hub, bytes(1000 << 20)), None, "the other way is another rate");
        assert_eq!(rates.time(hub, here, files(1000)), None, "bytes say nothing of small files");
        assert_eq!(rates.time(hub, here, Load { large_bytes: 200 << 20, small_files: 3 }), Some(2 * SECOND));
        rates.learn(hub, here, files(50), SECOND);
        let again = Rates::at(Some(&folder.path().join("new")));
        assert_eq!(again.time(hub, here, Load { large_bytes: 200 << 20, small_files: 100 }), Some(4 * SECOND));
        assert_eq!(again.time(hub, here, Load::default()), Some(Duration::ZERO));
        again.learn(hub, here, bytes(300 << 20), SECOND);
        assert_eq!(rates.time(hub, here, bytes(200 << 20)), Some(SECOND), "half of what was known, half of the new");
    }

    #[test]
    fn a_damaged_file_is_begun_anew_and_it_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let rates = Rates::at(Some(folder.path()));
        for broken in [&b"\xff"[..], b"{\"version\": 2, \"pairs\": {}}", b"{\"version\": 1, \"pairs\": {\"a -> b\": {\"number\": 1, "] {
            std::fs::write(folder.path().join("rates.json"), broken).unwrap();
            assert_eq!(rates.time(Some("a"), Some("b"), bytes(1 << 30)), None);
        }
        let forged = "{\"version\":1,\"pairs\":{\"a -> b\":{\"bytes_per_second\":0.0,\"files_per_second\":-1.0,\"number\":1}}}";
        std::fs::write(folder.path().join("rates.json"), forged).unwrap();
        assert_eq!(rates.time(Some("a"), Some("b"), bytes(1 << 30)), None);
        for number in 0..MOST + 10 {
            rates.learn(Some(&number.to_string()), None, files(100), SECOND);
        }
        assert_eq!(rates.read().pairs.len(), MOST);
        assert_eq!(rates.time(Some("3"), None, files(100)), None, "the oldest went");
        assert!(rates.time(Some("509"), None, files(100)).is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        for rates in [Rates::at(None), Rates::at(Some(Path::new("/proc/none/such")))] {
            rates.learn(None, None, files(100), SECOND);
            assert_eq!(rates.time(None, None, files(100)), None);
        }
    }
}
