//! A host in virtual time: streams with a round trip, a rate each and together, and a temper; and what the control makes of it.

use std::fmt::Write as _;
use std::time::Duration;

use super::Bounds;
use super::control::Control;

/// One step of virtual time.
const STEP: f64 = 0.001;

/// What a host is like. Rates in bytes per second, times in seconds.
pub(super) struct Host {
    pub(super) round_trip: f64,
    pub(super) each: f64,
    /// All streams together: by time, streams, and a memory of its own.
    pub(super) together: fn(f64, usize, &mut f64) -> f64,
    /// What a new connection takes before it can be asked.
    pub(super) connecting: f64,
    /// Time to the first byte beside the round trip, by streams.
    pub(super) thinking: fn(usize) -> f64,
    /// More streams than this are refused.
    pub(super) refuses_above: usize,
    /// Rates vary by this share, up and down.
    pub(super) jitter: f64,
    /// The host's own rates vary by this share, for some tenths of a second each.
    pub(super) weather: f64,
    /// Seconds until a new connection is at its full rate.
    pub(super) slow_start: f64,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            round_trip: 0.05,
            connecting: 0.05,
            each: f64::INFINITY,
            together: |_, _, _| f64::INFINITY,
            thinking: |_| 0.0,
            refuses_above: usize::MAX,
            jitter: 0.1,
            weather: 0.0,
            slow_start: 0.0,
        }
    }
}

/// What is to be moved.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub(super) bytes: f64,
    pub(super) range: f64,
    pub(super) piece: f64,
    /// Most streams that there is work for.
    pub(super) parallel: usize,
}

impl Job {
    /// One file in ranges of 8 MiB.
    pub(super) fn file(bytes: f64) -> Self {
        Self { bytes, range: f64::from(8 << 20), piece: f64::from(64 << 10), parallel: usize::MAX }
    }

    pub(super) fn small(files: u32) -> Self {
        Self { bytes: f64::from(files) * 2048.0, range: 2048.0, piece: 2048.0, parallel: usize::MAX }
    }
}

/// What happened.
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) refusals: u64,
    /// The limit at every step.
    pub(super) limits: Vec<usize>,
    /// Bytes that had come by every step.
    pub(super) moved: Vec<f64>,
}

impl Run {
    /// Seconds until the limit was `limit` for the first time.
    pub(super) fn reaches(&self, limit: usize) -> f64 {
        self.limits.iter().position(|now| *now >= limit).map_or(f64::INFINITY, |at| at as f64 * STEP)
    }

    pub(super) fn mean_limit(&self, from: f64, to: f64) -> f64 {
        let span = self.span(from, to);
        span.iter().sum::<usize>() as f64 / span.len().max(1) as f64
    }

    pub(super) fn most(&self, from: f64, to: f64) -> usize {
        self.span(from, to).iter().copied().max().unwrap_or(0)
    }

    /// Seconds until the limit was as low as `limit` for the first time.
    pub(super) fn reaches_down(&self, limit: usize) -> f64 {
        self.limits.iter().position(|now| *now <= limit).map_or(f64::INFINITY, |at| at as f64 * STEP)
    }

    fn span(&self, from: f64, to: f64) -> &[usize] {
        let end = index(to).min(self.limits.len());
        &self.limits[index(from).min(end)..end]
    }

    pub(super) fn least(&self, from: f64, to: f64) -> usize {
        self.span(from, to).iter().copied().min().unwrap_or(0)
    }

    /// Seconds with more than `limit`.
    pub(super) fn time_above(&self, limit: usize, from: f64, to: f64) -> f64 {
        self.span(from, to).iter().filter(|now| **now > limit).count() as f64 * STEP
    }

    /// How often the limit was another one than before.
    pub(super) fn changes(&self, from: f64, to: f64) -> usize {
        self.span(from, to).windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// When the limit was what, for people who look for the reason of a failure.
    pub(super) fn story(&self) -> String {
        let mut story = format!("{:.2} s:", self.seconds);
        let mut last = 0;
        for (step, limit) in self.limits.iter().enumerate().filter(|(_, limit)| **limit > 0) {
            if *limit != last && story.len() < 800 {
                let _ = write!(story, " {:.2} {limit},", step as f64 * STEP);
                last = *limit;
            }
        }
        story
    }

    /// Bytes per second between two moments.
    pub(super) fn rate(&self, from: f64, to: f64) -> f64 {
        let (from, to) = (index(from), index(to).min(self.moved.len() - 1));
        (self.moved[to] - self.moved[from]) / ((to - from) as f64 * STEP)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test")]
fn index(seconds: f64) -> usize {
    (seconds / STEP).round() as usize
}

enum State {
    Asking { since: f64, until: f64, refused: bool, range: f64 },
    Coming { left: f64, credit: f64 },
    Resting { until: f64 },
}

/// Moves `job` from `host`, at most `patience` seconds long; `fixed` streams instead of the control's.
pub(super) fn run(host: &Host, job: Job, bounds: Bounds, fixed: Option<usize>, patience: f64, seed: u64) -> Run {
    let mut simulation = Simulation {
        host,
        job,
        dice: fastrand::Rng::with_seed(seed),
        control: Control::new(bounds),
        streams: Vec::new(),
        left: job.bytes,
        now: 0.0,
        memory: 0.0,
        sky: (1.0, 0.0),
        bytes: 0.0,
    };
    let mut run = Run { seconds: patience, refusals: 0, limits: Vec::new(), moved: Vec::new() };
    while simulation.now < patience {
        simulation.step(fixed);
        run.limits.push(fixed.unwrap_or(simulation.control.limit()));
        run.moved.push(simulation.bytes);
        if simulation.bytes >= job.bytes - 1.0 {
            run.seconds = simulation.now;
            break;
        }
    }
    run.refusals = simulation.control.refusals();
    run
}

struct Simulation<'a> {
    host: &'a Host,
    job: Job,
    dice: fastrand::Rng,
    control: Control,
    streams: Vec<(State, f64)>,
    /// Bytes that nobody has asked for yet.
    left: f64,
    now: f64,
    memory: f64,
    /// The weather, and until when.
    sky: (f64, f64),
    bytes: f64,
}

impl Simulation<'_> {
    fn at(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    fn noise(&mut self) -> f64 {
        1.0 + self.host.jitter * (2.0 * self.dice.f64() - 1.0)
    }

    fn step(&mut self, fixed: Option<usize>) {
        self.now += STEP;
        let at = self.at();
        if let Some(deadline) = self.control.deadline()
            && at >= deadline
        {
            self.control.tick(at);
        }
        let limit = fixed.unwrap_or(self.control.limit());
        while self.streams.len() < limit.min(self.job.parallel) && self.left > 0.0 {
            let state = self.ask(true);
            let now = self.now;
            self.streams.push((state, now));
            self.control.occupied(at, self.streams.len());
        }
        if self.now >= self.sky.1 {
            self.sky = (1.0 + self.host.weather * (2.0 * self.dice.f64() - 1.0), self.now + 0.1 + 0.4 * self.dice.f64());
        }
        let coming = self.streams.iter().filter(|(state, _)| matches!(state, State::Coming { .. })).count();
        let together = (self.host.together)(self.now, self.present(), &mut self.memory) * self.sky.0;
        let mut ended = Vec::new();
        for number in 0..self.streams.len() {
            let surplus = number >= limit;
            if self.advance(number, together / coming.max(1) as f64, surplus) {
                ended.push(number);
            }
        }
        for number in ended.iter().rev() {
            self.streams.remove(*number);
        }
        if !ended.is_empty() {
            self.control.occupied(at, self.streams.len());
        }
    }

    /// Streams that the host sees.
    fn present(&self) -> usize {
        self.streams.iter().filter(|(state, _)| !matches!(state, State::Resting { .. })).count()
    }

    /// The next request of a stream; a new connection takes a round trip more.
    fn ask(&mut self, new: bool) -> State {
        let refused = self.present() + usize::from(new) > self.host.refuses_above;
        let connecting = if new { self.host.connecting } else { 0.0 };
        let thinking = (self.host.thinking)(self.present() + usize::from(new));
        let time = (connecting + self.host.round_trip + thinking) * self.noise();
        let range = self.job.range.min(self.left);
        self.left -= range;
        State::Asking { since: self.now, until: self.now + time, refused, range }
    }

    /// Moves one stream on; true when it gives its slot back.
    fn advance(&mut self, number: usize, share: f64, surplus: bool) -> bool {
        let at = self.at();
        let (state, born) = &mut self.streams[number];
        let (now, age) = (self.now, self.now - *born);
        match state {
            State::Resting { until } => return now >= *until,
            State::Asking { range, .. } if surplus => {
                self.left += *range;
                return true;
            }
            State::Asking { until, .. } if now < *until => {}
            State::Asking { since, refused, range, .. } => {
                let (latency, range) = (Duration::from_secs_f64(now - *since), *range);
                if *refused {
                    self.left += range;
                    *state = State::Resting { until: now + 0.2 };
                    self.control.refused(at);
                } else {
                    *state = State::Coming { left: range, credit: 0.0 };
                    self.control.answered(at, latency);
                }
            }
            State::Coming { left, credit } => {
                let ready = if self.host.slow_start > 0.0 { (age / self.host.slow_start).clamp(0.05, 1.0) } else { 1.0 };
                let rate = (self.host.each * self.sky.0).min(share) * ready * (1.0 + self.host.jitter * (2.0 * self.dice.f64() - 1.0));
                *credit = (*credit + rate * STEP).min(*left);
                let pieces = if *credit >= *left { (*left / self.job.piece).ceil() } else { (*credit / self.job.piece).floor() };
                let came = (pieces * self.job.piece).min(*left);
                *credit -= came;
                *left -= came;
                let left = *left;
                if came > 0.0 {
                    self.bytes += came;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a step")]
                    self.control.received(at, came as u64, pieces as u64);
                }
                if left < 1.0 {
                    self.control.completed(at);
                    if surplus || self.left <= 0.0 {
                        return true;
                    }
                    let next = self.ask(false);
                    self.streams[number].0 = next;
                } else if surplus {
                    // Given back in the middle: the rest of the range is asked for by another.
                    self.left += left;
                    return true;
                }
            }
        }
        false
    }
}
