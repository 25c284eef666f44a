//! Decides how many streams a host gets. Pure: fed with times and counts, it has no clock and waits for nothing.
//!
//! One number, the level, is trusted, and the work per second it brings is the reference. Other numbers are tried for a moment and
//! compared with it. Where more streams bring less than their share, or fewer lose less than theirs, the two rates say where the
//! knee lies, and the level goes there. A trial that hurts is ended at once and its number remembered; the more a trial has cost,
//! the later comes the next.

mod judge;

use std::time::Duration;

use super::Bounds;
use super::meter::Meter;
use super::rounds::Rounds;

/// What the present measurement is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing is known yet.
    Opening,
    /// At the level.
    Holding,
    /// More than the level are allowed for a moment.
    Climbing,
    /// Fewer than the level are.
    Trimming,
    /// Back at the level after more of them hurt: if it recovers, that was why.
    Recovering,
}

/// How large the steps are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stride {
    /// Doubling still pays.
    Double,
    /// It does not any more, but halving may be free.
    Halve,
    /// The right level is near.
    Fine,
}

/// When the next trial of a kind is due, and the pause before the one after it.
#[derive(Clone, Copy, Debug)]
struct Timer {
    at: Duration,
    gap: Duration,
}

impl Timer {
    /// Puts the next one off; the pause doubles each time, between `least` and `most` seconds.
    fn put_off(&mut self, now: Duration, least: Duration, most: Duration) {
        self.at = now + self.gap.max(least);
        self.gap = (self.gap.max(least) * 2).min(most);
    }

    fn due(now: Duration, gap: Duration) -> Self {
        Self { at: now, gap }
    }
}

/// A number of streams that the host did not bear.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    level: usize,
    /// It refused requests: it is approached in small steps.
    refused: bool,
    /// What the level below it brought then. A line that brings much more now is another line.
    rate: f64,
}

/// The state of one host.
#[derive(Debug)]
pub(super) struct Control {
    bounds: Bounds,
    limit: usize,
    active: usize,
    level: usize,
    reference: Option<f64>,
    stage: Stage,
    /// Streams that are too many may go on until then: not at all where they do harm.
    spared: Duration,
    /// When the present stage began, how many first answers it waits for, and whether it has come to rest.
    since: Duration,
    awaited: usize,
    settled: bool,
    /// Windows measured in this stage: their number, sum and last rate; and those without enough streams in use.
    windows: u32,
    sum: f64,
    last: f64,
    void: u32,
    /// How much one window differs from the next while nothing is tried, as a share.
    noise: f64,
    /// Windows in a row that do not fit the reference, and the sum of their rates.
    strange: (u32, f64),
    /// The best level that was held for a while, and its rate.
    best: Option<(usize, f64)>,
    /// Requests weigh more than bytes.
    swift: bool,
    meter: Meter,
    /// Counts from the beginning of the stage.
    trial: Meter,
    /// Work of an average arrival.
    grain: f64,
    latency: Duration,
    /// What an answer may take at present.
    slowest: Duration,
    rounds: Rounds,
    stride: Stride,
    /// The end of the doubling was put in doubt once.
    doubted: bool,
    climb: Timer,
    trim: Timer,
    /// By level, each once.
    ceilings: Vec<Ceiling>,
    suspect: usize,
    /// Levels passed on the way up, with their rates.
    ladder: Vec<(usize, f64)>,
    /// Refusals up to this moment belong to one that was answered already.
    calm: Duration,
    /// The host wants to be left alone until then, and a pause soon after counts as a refusal.
    pause: Duration,
    relapse: Duration,
    refusals: u64,
    news: Option<&'static str>,
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const SECOND: Duration = Duration::from_secs(1);

/// How long streams that are too many without doing harm may go on.
const GENTLE: Duration = ms(500);

impl Control {
    pub(super) fn new(bounds: Bounds) -> Self {
        let most = bounds.most.max(1);
        let start = bounds.start.clamp(1, most);
        Self {
            bounds: Bounds { start, most },
            limit: start,
            active: 0,
            level: start,
            reference: None,
            stage: Stage::Opening,
            spared: Duration::ZERO,
            since: Duration::ZERO,
            awaited: start,
            settled: false,
            windows: 0,
            sum: 0.0,
            last: 0.0,
            void: 0,
            noise: 0.0,
            strange: (0, 0.0),
            best: None,
            swift: false,
            meter: Meter::default(),
            trial: Meter::default(),
            grain: 1.0,
            latency: ms(50),
            slowest: ms(50),
            rounds: Rounds::new(start),
            stride: Stride::Double,
            doubted: false,
            climb: Timer::due(Duration::ZERO, SECOND),
            trim: Timer { at: SECOND * 10, gap: SECOND * 10 },
            ceilings: Vec::new(),
            suspect: 0,
            ladder: Vec::new(),
            calm: Duration::ZERO,
            pause: Duration::ZERO,
            relapse: Duration::ZERO,
            refusals: 0,
            news: None,
        }
    }

    /// Streams allowed now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Streams beyond this many are to end now. Where fewer are only tried, or more were of no use, they have a moment to end by
    /// themselves: what is on its way when a stream is broken off is sent in vain.
    pub(super) fn recalled_above(&self, now: Duration) -> usize {
        if now >= self.spared { self.limit } else { usize::MAX }
    }

    /// Streams that are known to be good.
    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// How often the host refused, bursts counted once.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Why the level changed, once.
    pub(super) fn take_news(&mut self) -> Option<(usize, &'static str)> {
        Some((self.level, self.news.take()?))
    }

    /// This many streams are in use from now on.
    pub(super) fn occupied(&mut self, now: Duration, active: usize) {
        self.active = active;
        self.meter.occupy(now, active);
        self.trial.occupy(now, active);
    }

    /// An answer began after `latency`.
    pub(super) fn answered(&mut self, now: Duration, latency: Duration) {
        self.awaited = self.awaited.saturating_sub(1);
        // Down at once, up slowly: what a crowded host or a new connection adds is not the round trip.
        let latency = latency.min(SECOND * 2);
        self.slowest = latency.max(self.slowest * 15 / 16);
        self.latency = if latency < self.latency { (self.latency + latency) / 2 } else { (self.latency * 15 + latency) / 16 };
        if self.stage == Stage::Opening {
            self.rounds.answered(latency);
        }
        self.tick(now);
    }

    /// `bytes` came in `arrivals` pieces.
    pub(super) fn received(&mut self, now: Duration, bytes: u64, arrivals: u64) {
        self.meter.receive(bytes, arrivals);
        self.trial.receive(bytes, arrivals);
        self.tick(now);
    }

    /// A request was answered to its end.
    pub(super) fn completed(&mut self, now: Duration) {
        self.meter.complete();
        self.trial.complete();
        if self.stage == Stage::Opening && self.trial.is_swift() && 2 * self.active > self.limit {
            self.swift = true;
            self.open_wider(now);
        }
        self.tick(now);
    }

    /// One more stream per answered request, until the host becomes slower.
    fn open_wider(&mut self, now: Duration) {
        if let Some(good) = self.rounds.completed(self.limit) {
            self.bump(Ceiling { level: self.limit.max(good + 1), refused: false, rate: f64::INFINITY });
            self.found(good, None, "answers became slower");
            self.search_from(now, false);
        } else if self.limit < self.bounds.most {
            self.limit += 1;
            self.level = self.limit;
            self.settled = false;
            self.awaited = 1;
        }
    }

    /// The host refused a request for being too many. Those of one burst count once.
    pub(super) fn refused(&mut self, now: Duration) {
        if now < self.calm {
            return;
        }
        self.refusals += 1;
        self.calm = now + SECOND.max(self.slowest * 2);
        let tried = self.limit.min(self.active.max(1));
        let level = if self.stage == Stage::Climbing { self.level.min(tried.saturating_sub(1)) } else { tried / 2 };
        self.bump(Ceiling { level: tried.max(2), refused: true, rate: f64::INFINITY });
        self.stride = Stride::Fine;
        self.ladder.clear();
        self.climb.put_off(now, SECOND * 2, SECOND * 120);
        self.trim.at = self.trim.at.max(now + SECOND * 10);
        self.found(level, None, "the host refused more");
        self.enter(now, Stage::Holding, self.level);
        self.spared = now;
    }

    /// The host named a time to be left alone. That alone says nothing about the number of streams; again right after it does.
    pub(super) fn paused(&mut self, now: Duration, wait: Duration) {
        if now >= self.pause && now < self.relapse {
            self.refused(now);
        }
        self.pause = self.pause.max(now + wait);
        self.relapse = self.pause + wait.clamp(SECOND * 2, SECOND * 60);
        self.stride = if self.stride == Stride::Double { Stride::Halve } else { self.stride };
        self.enter(now, if self.stage == Stage::Opening { Stage::Opening } else { Stage::Holding }, self.level);
    }

    /// Whether the host wants to be left alone.
    pub(super) fn is_paused(&self, now: Duration) -> bool {
        now < self.pause
    }

    /// When to look again although nothing came: a trial may have silenced the host.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (self.stage == Stage::Climbing).then(|| self.since + ms(500).max(self.latency * 6))
    }

    /// Looks at what came so far.
    pub(super) fn tick(&mut self, now: Duration) {
        // Right after a refusal nobody asks as much as he may.
        if now < self.pause.max(self.calm) {
            self.meter.restart(now);
            self.trial.restart(now);
            return;
        }
        if self.stage == Stage::Climbing && self.hurts(now) {
            return self.hurt(now, self.trial.rate(now));
        }
        if !self.settled {
            return self.settle(now);
        }
        let (elapsed, window) = (self.meter.elapsed(now), self.window());
        if elapsed < window || (self.meter.arrivals() < 2 * self.limit as u64 && elapsed < window * 5) {
            return;
        }
        // Silence, like too few streams in use, says nothing about how many are right.
        if self.meter.arrivals() == 0 || !self.is_full(self.meter.occupied(now)) {
            self.void += 1;
            self.meter.restart(now);
            if self.void >= 2 {
                self.abandon(now);
            }
            return;
        }
        let rate = self.meter.rate(now);
        if let Some(grain) = self.meter.grain() {
            (self.grain, self.swift) = (grain, self.meter.is_swift());
        }
        self.meter.restart(now);
        (self.windows, self.sum, self.void) = (self.windows + 1, self.sum + rate, 0);
        match self.stage {
            Stage::Opening => self.opened(now, rate),
            Stage::Holding => self.held(now, rate),
            Stage::Climbing => self.climbed(now, rate),
            Stage::Trimming => self.trimmed(now),
            Stage::Recovering => self.recovered(now, rate),
        }
    }

    /// How long to measure: some round trips, and long enough to be more than chance.
    fn window(&self) -> Duration {
        let window = match self.stride {
            _ if self.swift => (self.latency * 4).clamp(ms(100), SECOND * 2),
            Stride::Double => self.latency.clamp(ms(60), ms(500)),
            _ => self.latency.clamp(ms(100), ms(500)),
        };
        if self.stage == Stage::Holding && self.reference.is_some() { window * 2 } else { window }
    }

    /// Whether the limit is in use; if not, what comes says nothing about it.
    fn is_full(&self, active: f64) -> bool {
        let limit = self.limit as f64;
        active >= (limit * 0.85).min(limit - 0.5)
    }

    /// Waits until the streams in use are as many as allowed and the new ones were answered.
    fn settle(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.since);
        let patience = (self.latency * 4).clamp(ms(200), SECOND * 2);
        let ready = match self.stage {
            Stage::Opening | Stage::Climbing => self.is_full(self.active as f64) && (self.awaited == 0 || elapsed >= patience),
            _ if self.active > self.limit => false,
            Stage::Holding if self.reference.is_none() => self.is_full(self.active as f64) && elapsed >= self.slowest,
            _ => elapsed >= if self.swift { self.latency.min(patience) } else { ms(20) },
        };
        if ready {
            self.settled = true;
            self.meter.restart(now);
        } else if elapsed >= patience.max(SECOND) {
            self.abandon(now);
        }
    }

    /// There is not enough to do for what is being tried.
    fn abandon(&mut self, now: Duration) {
        match self.stage {
            Stage::Opening | Stage::Holding => self.void = 0,
            Stage::Climbing => self.climb.put_off(now, SECOND, SECOND * 10),
            Stage::Trimming => self.trim.put_off(now, SECOND * 10, SECOND * 60),
            Stage::Recovering => {}
        }
        if !matches!(self.stage, Stage::Opening | Stage::Holding) {
            self.enter(now, Stage::Holding, self.level);
        }
    }

    fn enter(&mut self, now: Duration, stage: Stage, limit: usize) {
        self.stage = stage;
        self.spared = if stage == Stage::Recovering { now } else { now + GENTLE };
        self.limit = limit.clamp(1, self.bounds.most);
        self.awaited = self.limit.saturating_sub(self.active);
        (self.since, self.settled) = (now, false);
        (self.windows, self.sum, self.last, self.void, self.strange) = (0, 0.0, 0.0, 0, (0, 0.0));
        self.meter.restart(now);
        self.trial.restart(now);
    }

    /// The level and its rate are known anew.
    fn found(&mut self, level: usize, reference: Option<f64>, news: &'static str) {
        let level = level.clamp(1, self.bounds.most);
        if level != self.level || self.news.is_some() {
            self.news = Some(news);
        }
        (self.level, self.reference) = (level, reference);
    }
}
