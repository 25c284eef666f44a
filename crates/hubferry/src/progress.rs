//! Bars, plain lines or JSON lines from the engine's events.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hubferry_core::events::{Event, Phase, Reporter};
use hubferry_core::manifest::RepoPath;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::args::ProgressMode;
use crate::output::{count, duration, printable, size};
use crate::secrets::scrub;

/// Most file bars shown at once; the total counts the rest.
const BARS: usize = 12;
/// Pause between two lines about the total.
const BEAT: Duration = Duration::from_secs(10);
/// Shortest time between two JSON lines about the bytes of one file.
const JSON_BEAT: Duration = Duration::from_millis(100);

/// Shows events in the chosen way.
pub(crate) struct Progress {
    mode: Mode,
    verbose: bool,
    quiet: bool,
    bars: Arc<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bar,
    Plain,
    Json,
    None,
}

struct State {
    /// Several runs report at once: what they plan is added up.
    many: bool,
    total: Option<ProgressBar>,
    files: HashMap<RepoPath, ProgressBar>,
    /// Bytes of a file that no JSON line has told yet, and since when.
    unsaid: HashMap<RepoPath, (u64, Instant)>,
    planned_files: u64,
    planned_bytes: u64,
    done_files: u64,
    done_bytes: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Chooses the way: `auto` is bars on a terminal and lines elsewhere.
    pub(crate) fn new(mode: ProgressMode, quiet: bool, verbose: bool, bars: Arc<MultiProgress>) -> Self {
        let mode = match mode {
            _ if quiet => Mode::None,
            ProgressMode::Auto if std::io::stderr().is_terminal() => Mode::Bar,
            ProgressMode::Auto | ProgressMode::Plain => Mode::Plain,
            ProgressMode::Bar => Mode::Bar,
            ProgressMode::Json => Mode::Json,
            ProgressMode::None => Mode::None,
        };
        if mode == Mode::Bar && !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let now = Instant::now();
        let state = State {
            many: false,
            total: None,
            files: HashMap::new(),
            unsaid: HashMap::new(),
            planned_files: 0,
            planned_bytes: 0,
            done_files: 0,
            done_bytes: 0,
            started: now,
            last_line: now,
        };
        Self { mode, verbose, quiet, bars, state: Mutex::new(state) }
    }

    /// One line per event; the bytes of a file are added up to a line per tenth of a second.
    fn json_event(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::Progress { path, bytes } => {
                state.unsaid.entry(path.clone()).or_insert((0, Instant::now())).0 += bytes;
                if let Some(sum) = waiting_sum(&mut state, path, false) {
                    json_line(&sum);
                }
            }
            Event::Finished { path, .. } => {
                if let Some(sum) = waiting_sum(&mut state, path, true) {
                    json_line(&sum);
                }
                state.unsaid.remove(path);
                json_line(event);
            }
            // What was read to hash a file is not part of what a plan moves: it is told before.
            Event::Planned { .. } => {
                for (path, (bytes, _)) in state.unsaid.drain().filter(|(_, (bytes, _))| *bytes > 0) {
                    json_line(&Event::Progress { path, bytes });
                }
                json_line(event);
            }
            _ => json_line(event),
        }
    }

    /// From now on several runs report at once.
    pub(crate) fn expect_many(&self) {
        self.state().many = true;
    }

    /// One run is over: takes the bars off the screen, unless others go on.
    pub(crate) fn finish_one(&self) {
        if !self.state().many {
            self.finish();
        }
    }

    /// Takes the bars off the screen.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        for (_, bar) in state.files.drain() {
            bar.finish_and_clear();
        }
        if let Some(total) = state.total.take() {
            total.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{}", scrub(&printable(text)));
        });
    }

    fn bar_event(&self, event: &Event) {
        let mut state = self.state();
        match event {
            // Each run has phases of its own; together they move.
            Event::Phase(_) if state.many && state.planned_files > 0 => {}
            Event::Phase(phase) => {
                let total = state.total.get_or_insert_with(|| self.bars.add(ProgressBar::new_spinner()));
                total.enable_steady_tick(Duration::from_millis(120));
                total.set_message(phase_text(*phase));
                if *phase != Phase::Moving && *phase != Phase::Verifying {
                    total.set_style(style("{spinner} {msg}"));
                }
            }
            Event::Planned { files, bytes } if state.many && state.planned_files > 0 => {
                state.planned_files += files;
                let prefix = format!("{}/{} files", state.done_files, state.planned_files);
                if let Some(total) = &state.total {
                    total.inc_length(*bytes);
                    total.set_prefix(prefix);
                }
            }
            Event::Planned { files, bytes } => {
                state.planned_files = *files;
                state.done_files = 0;
                let total = state.total.get_or_insert_with(|| self.bars.add(ProgressBar::new_spinner()));
                total.set_style(style(
                    "{msg} [{bar:28}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {prefix}",
                ));
                total.set_prefix(format!("0/{files} files"));
                total.set_length(*bytes);
                total.set_position(0);
                total.reset_eta();
            }
            Event::Started { path, size } if state.files.len() < BARS => {
                let bar = self.bars.insert_before_or_add(state.total.as_ref(), *size);
                bar.set_style(style("  {wide_msg} {bar:20} {binary_bytes:>11} of {binary_total_bytes}"));
                bar.set_message(printable(path.as_str()));
                state.files.insert(path.clone(), bar);
            }
            Event::Progress { path, bytes } => {
                if let Some(bar) = state.files.get(path) {
                    bar.inc(*bytes);
                }
                if let Some(total) = &state.total {
                    total.inc(*bytes);
                }
            }
            Event::Finished { path, .. } => {
                if let Some(bar) = state.files.remove(path) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                state.done_files += 1;
                if let Some(total) = &state.total {
                    total.set_prefix(format!("{}/{} files", state.done_files, state.planned_files));
                }
            }
            _ => {}
        }
    }

    fn plain_event(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::Phase(phase) if self.verbose || matches!(phase, Phase::Verifying) => self.line(phase_text(*phase)),
            Event::Planned { files, bytes } if state.many && state.planned_files > 0 => {
                state.planned_files += files;
                state.planned_bytes += bytes;
            }
            Event::Planned { files, bytes } => {
                let now = Instant::now();
                (state.planned_files, state.planned_bytes) = (*files, *bytes);
                (state.done_files, state.done_bytes, state.started, state.last_line) = (0, 0, now, now);
            }
            Event::Progress { bytes, .. } => {
                state.done_bytes += bytes;
                if state.last_line.elapsed() >= BEAT {
                    state.last_line = Instant::now();
                    let rate = state.done_bytes / state.started.elapsed().as_secs().max(1);
                    if state.planned_files == 0 {
                        self.line(&format!("{} read to compare, {}/s", size(state.done_bytes), size(rate)));
                        return;
                    }
                    let left = state.planned_bytes.saturating_sub(state.done_bytes) / rate.max(1);
                    self.line(&format!(
                        "{} of {}, {}/{} files, {}/s, {} left",
                        size(state.done_bytes),
                        size(state.planned_bytes),
                        state.done_files,
                        state.planned_files,
                        size(rate),
                        duration(Duration::from_secs(left))
                    ));
                }
            }
            Event::Finished { path, size: bytes, moved } => {
                state.done_files += 1;
                // Thousands of small files would bury what matters.
                if *moved && (self.verbose || *bytes >= 1 << 20 || state.planned_files <= 50) {
                    self.line(&format!("[{}/{}] {path} ({})", state.done_files, state.planned_files, size(*bytes)));
                }
            }
            _ => {}
        }
    }
}

impl Reporter for Progress {
    fn event(&self, event: &Event) {
        if self.mode != Mode::Json && !self.quiet {
            match event {
                Event::Note(text) => self.line(&format!("note: {text}")),
                Event::Detail(text) if self.verbose => self.line(text),
                Event::Streams { host, streams, why } if self.verbose => self.line(&streams_text(host, *streams, why)),
                Event::Retrying { what, why, pause, attempt } if self.verbose || *attempt > 1 || *pause > Duration::from_secs(2) => {
                    self.line(&format!("retry: {what} in {} ({why})", duration(*pause)));
                }
                _ => {}
            }
        }
        match self.mode {
            Mode::Bar => self.bar_event(event),
            Mode::Plain => self.plain_event(event),
            Mode::Json => self.json_event(event),
            Mode::None => {}
        }
    }
}

trait Insert {
    fn insert_before_or_add(&self, total: Option<&ProgressBar>, length: u64) -> ProgressBar;
}

impl Insert for MultiProgress {
    fn insert_before_or_add(&self, total: Option<&ProgressBar>, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length);
        match total {
            Some(total) => self.insert_before(total, bar),
            None => self.add(bar),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Listing => "listing",
        Phase::Identifying => "comparing small files",
        Phase::Moving => "moving",
        Phase::Committing => "committing",
        Phase::Verifying => "verifying",
        _ => "working",
    }
}

fn streams_text(host: &str, streams: usize, why: &str) -> String {
    format!("{}: {} at once ({why})", if host.is_empty() { "this machine" } else { host }, count(streams as u64, "stream"))
}

/// What was not told of a file yet, when it is time to (or when `flush` says so).
fn waiting_sum(state: &mut State, path: &RepoPath, flush: bool) -> Option<Event> {
    let (bytes, since) = state.unsaid.get_mut(path)?;
    if *bytes == 0 || !(flush || since.elapsed() >= JSON_BEAT) {
        return None;
    }
    let sum = Event::Progress { path: path.clone(), bytes: std::mem::take(bytes) };
    *since = Instant::now();
    Some(sum)
}

fn json_line(event: &Event) {
    let value = match event {
        Event::Phase(phase) => json!({"event": "phase", "phase": phase_text(*phase)}),
        Event::Planned { files, bytes } => json!({"event": "planned", "files": files, "bytes": bytes}),
        Event::Started { path, size } => json!({"event": "started", "path": path, "size": size}),
        Event::Progress { path, bytes } => json!({"event": "progress", "path": path, "bytes": bytes}),
        Event::Finished { path, size, moved } => json!({"event": "finished", "path": path, "size": size, "moved": moved}),
        Event::Retrying { what, why, pause, attempt } => {
            json!({"event": "retrying", "what": what, "why": why, "pause": pause.as_secs_f64(), "attempt": attempt})
        }
        Event::Note(text) => json!({"event": "note", "text": text}),
        Event::Detail(text) => json!({"event": "detail", "text": text}),
        _ => return,
    };
    let _ = writeln!(std::io::stderr().lock(), "{}", scrub(&value.to_string()));
}
