//! Results to stdout, everything else to stderr: the only file that prints (the bars of progress.rs aside).

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::secrets::scrub;

/// Where a command says what it found.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    colour: bool,
    /// Bars that must make room for lines.
    bars: Arc<MultiProgress>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool, plain: bool, bars: Arc<MultiProgress>) -> Self {
        Self { json, quiet, colour: !plain && std::io::stderr().is_terminal(), bars }
    }

    /// Whether the result is one JSON object.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The result for machines: printed with `--json` only.
    pub(crate) fn json(&self, value: &Value) {
        if self.json {
            self.raw(scrub(&format!("{value:#}\n")).as_bytes());
        }
    }

    /// The result for people: printed without `--json` only.
    pub(crate) fn text(&self, text: impl FnOnce() -> String) {
        if !self.json {
            // Of many copies one may be done while others still draw their bars.
            self.bars.suspend(|| self.raw(scrub(&text()).as_bytes()));
        }
    }

    /// Bytes to stdout; false once nobody reads any more.
    #[expect(clippy::unused_self, reason = "everything that prints goes through an Output")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// A line of news on stderr.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.stderr(line);
        }
    }

    /// A question on stderr, without a line end.
    pub(crate) fn ask(&self, question: &str) {
        self.bars.suspend(|| {
            let _ = write!(std::io::stderr().lock(), "{}", scrub(question));
        });
    }

    /// A failure that ends the command: message and hint, and with `--json` one object on stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.failure_text(failure);
        let error = &failure.error;
        let context: serde_json::Map<String, Value> = error.contexts().iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let message = error.cause_text().map_or(error.message().to_owned(), |cause| format!("{}: {cause}", error.message()));
        let described = json!({"kind": error.kind().name(), "message": message, "context": context, "hint": failure.hint()});
        let mut value = json!({"error": described, "exit": failure.exit as u8});
        if !failure.secrets().is_empty() {
            value["error"]["secrets"] = json!(failure.secrets());
        }
        self.json(&value);
    }

    /// The message and the hint of a failure on stderr.
    pub(crate) fn failure_text(&self, failure: &Failure) {
        let paint = |code: &str, text: &str| if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let secrets = failure.secrets();
        // Each on a line of its own is read more easily than all in one sentence.
        let text = if secrets.is_empty() { failure.error.to_string() } else { failure.error.message().to_owned() };
        self.stderr(&format!("{} {}", paint("1;31", "error:"), printable(&text)));
        for secret in secrets {
            self.stderr(&format!("  {}", printable(&secret.to_string())));
        }
        if let Some(hint) = failure.hint() {
            self.stderr(&format!("{} {}", paint("1;36", "hint:"), printable(hint)));
        }
    }

    fn stderr(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{}", scrub(line));
        });
    }
}

/// Text from a stranger must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1.4 GiB`, `312 B`: three significant digits, a unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{bytes} B"),
        (_, v) if v < 9.995 => format!("{v:.2} {}", UNITS[unit]),
        (_, v) if v < 99.95 => format!("{v:.1} {}", UNITS[unit]),
        (_, v) => format!("{v:.0} {}", UNITS[unit]),
    }
}

/// `4.2 s`, `3 min 05 s`, `2 h 14 min`.
pub(crate) fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = (time + std::time::Duration::from_millis(500)).as_secs();
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// `1 file`, `3 files`, `2 repositories`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    match thing.strip_suffix("ory") {
        _ if number == 1 => format!("{number} {thing}"),
        Some(stem) => format!("{number} {stem}ories"),
        None => format!("{number} {thing}s"),
    }
}

/// Left-aligned columns, the last one as long as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().enumerate().map(|(n, cell)| if n + 1 == row.len() { cell.clone() } else { format!("{cell:<w$}  ", w = widths[n]) });
        let line: String = cells.collect();
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn figures_fit() {
        assert_eq!(
            [0, 999, 1000, 1536, 15_000_000, 2_147_483_648].map(size),
            ["0 B", "999 B", "0.98 KiB", "1.50 KiB", "14.3 MiB", "2.00 GiB"]
        );
        assert_eq!(
            [59_940, 59_990, 61_000, 3_599_900, 7_260_000].map(|ms| duration(Duration::from_millis(ms))),
            ["59.9 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 01 min"]
        );
        // The word for a time is one that a clock could show: no 60 seconds, no 60 minutes.
        for ms in (0..7_300_000).step_by(7).chain([59_949, 59_950, 59_999, 60_000, 119_499, 119_500, 3_599_499, 3_599_500, 7_199_999]) {
            let shown = duration(Duration::from_millis(ms));
            assert!(!shown.contains("60"), "{ms} ms is shown as {shown}");
        }
        assert_eq!(
            [0, 59_949, 59_950, 119_499, 119_500, 3_599_499, 3_599_500, 7_199_999].map(|ms| duration(Duration::from_millis(ms))),
            ["0.0 s", "59.9 s", "1 min 00 s", "1 min 59 s", "2 min 00 s", "59 min 59 s", "1 h 00 min", "2 h 00 min"]
        );
        assert_eq!(table(&[vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]]), "a    bb\nccc  d\n");
        assert_eq!(printable("a\x1b[31mb"), "a\u{fffd}[31mb");
        assert_eq!([0, 1, 2].map(|number| count(number, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!([1, 2].map(|number| count(number, "repository")), ["1 repository", "2 repositories"]);
    }
}
