//! Decides how many streams a host gets. Pure: fed with times and counts, it has no clock and waits for nothing.
//!
//! One number, the level, is trusted, and the work per second it brings is the reference. Other numbers are tried for a moment and
//! compared with it. Where more streams bring less than their share, or fewer lose less than theirs, the two rates say where the
//! knee lies, and the level goes there. A trial that hurts is ended at once and its number remembered; the more a trial has cost,
//! the later comes the next.

use std::time::Duration;

use super::Bounds;
use super::meter::Meter;
use super::rounds::Rounds;

/// Fewest streams that are tried for economy: one alone leaves the line idle between two requests.
const FLOOR: usize = 2;

/// A level that is given up when fewer do better is at least this much worse.
const FALLEN: f64 = 0.75;

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
    /// Windows in a row that do not fit the reference.
    strange: u32,
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
    /// Doubling still pays.
    ramping: bool,
    /// Halving may still be free.
    searching: bool,
    climb: Timer,
    trim: Timer,
    ceiling: Option<Ceiling>,
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

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const SECOND: Duration = Duration::from_secs(1);

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
            since: Duration::ZERO,
            awaited: start,
            settled: false,
            windows: 0,
            sum: 0.0,
            last: 0.0,
            void: 0,
            noise: 0.0,
            strange: 0,
            swift: false,
            meter: Meter::default(),
            trial: Meter::default(),
            grain: 1.0,
            latency: ms(50),
            slowest: ms(50),
            rounds: Rounds::new(start),
            ramping: true,
            searching: true,
            climb: Timer::due(Duration::ZERO, SECOND),
            trim: Timer { at: SECOND * 10, gap: SECOND * 10 },
            ceiling: None,
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
        if self.stage == Stage::Opening && self.trial.is_swift() && self.active >= self.limit {
            self.swift = true;
            self.open_wider(now);
        }
        self.tick(now);
    }

    /// One more stream per answered request, until the host becomes slower.
    fn open_wider(&mut self, now: Duration) {
        if let Some(good) = self.rounds.completed(self.limit) {
            self.ceiling = Some(Ceiling { level: self.limit.max(good + 1), refused: false });
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
        self.ceiling = Some(Ceiling { level: tried.max(2), refused: true });
        self.ramping = false;
        self.ladder.clear();
        self.climb.put_off(now, SECOND * 2, SECOND * 120);
        self.found(level, None, "the host refused more");
        self.enter(now, Stage::Holding, self.level);
    }

    /// The host named a time to be left alone. That alone says nothing about the number of streams; again right after it does.
    pub(super) fn paused(&mut self, now: Duration, wait: Duration) {
        if now >= self.pause && now < self.relapse {
            self.refused(now);
        }
        self.pause = self.pause.max(now + wait);
        self.relapse = self.pause + wait.clamp(SECOND * 2, SECOND * 60);
        self.ramping = false;
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
        if now < self.pause {
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
        if !self.is_full(self.meter.occupied(now)) {
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
        let window = match self.ramping {
            _ if self.swift => (self.latency * 4).clamp(ms(100), SECOND * 2),
            true => self.latency.clamp(ms(60), ms(500)),
            false => self.latency.clamp(ms(100), ms(500)),
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
        self.limit = limit.clamp(1, self.bounds.most);
        self.awaited = self.limit.saturating_sub(self.active);
        (self.since, self.settled) = (now, false);
        (self.windows, self.sum, self.last, self.void, self.strange) = (0, 0.0, 0.0, 0, 0);
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

    /// Begins to look for the right level from the present one.
    fn search_from(&mut self, now: Duration, ramping: bool) {
        (self.ramping, self.searching) = (ramping, true);
        self.climb = if ramping { Timer::due(now, SECOND) } else { Timer { at: now + SECOND, gap: SECOND } };
        self.trim = Timer::due(now, SECOND * 10);
        self.enter(now, Stage::Holding, self.level);
    }

    /// Begins the trial that is due.
    fn proceed(&mut self, now: Duration) {
        if self.reference.is_none() {
            return;
        }
        if now >= self.climb.at
            && let Some(limit) = self.higher()
        {
            self.enter(now, Stage::Climbing, limit);
        } else if now >= self.trim.at
            && let Some(limit) = self.lower()
        {
            self.enter(now, Stage::Trimming, limit);
        }
    }

    fn higher(&self) -> Option<usize> {
        let step = match self.ceiling {
            _ if self.ramping => self.level,
            Some(Ceiling { refused: true, .. }) => self.level / 8,
            _ => self.level / 4,
        };
        let candidate = self.level + step.max(1);
        let candidate = match self.ceiling {
            Some(ceiling) if candidate >= ceiling.level => ((self.level + ceiling.level) / 2).max(self.level + 1),
            _ => candidate,
        };
        Some(candidate.min(self.bounds.most)).filter(|candidate| *candidate > self.level)
    }

    fn lower(&self) -> Option<usize> {
        let candidate = if self.searching { self.level / 2 } else { self.level * 3 / 4 };
        Some(candidate.max(FLOOR)).filter(|candidate| *candidate < self.level)
    }

    /// The first window: streams that run long enough not to open wider by themselves.
    fn opened(&mut self, now: Duration, rate: f64) {
        if self.swift && self.limit < self.bounds.most {
            return;
        }
        self.found(self.limit, Some(rate), "many small requests");
        // Answers that stayed quick while the streams doubled have proven the level.
        self.searching = !self.swift;
        self.enter(now, Stage::Holding, self.level);
        self.proceed(now);
    }

    fn held(&mut self, now: Duration, rate: f64) {
        let Some(reference) = self.reference else {
            self.reference = Some(rate);
            return self.proceed(now);
        };
        let change = rate / reference.max(1.0);
        let usual = 1.4 + 2.0 * self.noise;
        let fits = change < usual && change * usual > 1.0;
        self.strange = if fits { 0 } else { self.strange + 1 };
        if fits {
            self.reference = Some(reference * 0.8 + rate * 0.2);
            self.noise = self.noise * 0.8 + (change - 1.0).abs() * 0.2;
        } else if self.strange >= 3 {
            return self.changed(now, rate);
        }
        if self.strange == 0 {
            self.proceed(now);
        }
    }

    /// The level brings something else than it did. Either a lower one, which did better, still does, or the line has changed.
    fn changed(&mut self, now: Duration, rate: f64) {
        self.suspect = self.level;
        if !self.fall_back(now, rate) {
            // A line that became faster bears more; whether a slower one needs as many is asked first.
            let faster = self.reference.is_some_and(|reference| rate > reference);
            self.search_from(now, faster);
            self.reference = Some(rate);
            self.proceed(now);
        }
    }

    /// Goes to the lowest level that did better than `rate`, to see whether it still does.
    fn fall_back(&mut self, now: Duration, rate: f64) -> bool {
        let better = self.ladder.iter().find(|(level, known)| *level < self.level && rate < FALLEN * known).copied();
        self.ladder.clear();
        let Some((level, known)) = better else { return false };
        self.found(level, Some(known), "throughput fell");
        self.ramping = false;
        self.enter(now, Stage::Recovering, self.level);
        true
    }

    /// Windows that tell more than chance does.
    fn enough(&self, quick: bool) -> bool {
        let least = if quick { 1.0 } else { 2.0 };
        f64::from(self.windows) >= least + (self.noise * 16.0).min(8.0)
    }

    /// Whether so little comes, from the beginning or lately, that there is no need to wait for the end of the window.
    fn hurts(&self, now: Duration) -> bool {
        let patience = if self.swift { self.latency * 3 } else { self.latency.mul_f64(1.5) }.clamp(ms(80), SECOND * 2);
        [&self.trial, &self.meter].iter().any(|meter| {
            let elapsed = meter.elapsed(now);
            let expected = self.reference.unwrap_or_default() * elapsed.as_secs_f64();
            elapsed >= patience && expected >= 8.0 * self.grain && meter.work() < 0.5 * expected
        })
    }

    fn climbed(&mut self, now: Duration, rate: f64) {
        let reference = self.reference.unwrap_or(rate).max(1.0);
        let rising = self.windows < 10 && (self.windows == 1 || rate > self.last * 1.05);
        self.last = rate;
        let rate = if self.ramping { rate } else { self.sum / f64::from(self.windows) };
        let gain = rate / reference;
        let share = (gain - 1.0) / (self.limit as f64 / self.level as f64 - 1.0);
        let enough = self.enough(self.ramping);
        if share >= 0.6 && enough {
            self.ladder.push((self.level, reference));
            self.ceiling = self.ceiling.filter(|ceiling| ceiling.level > self.limit);
            self.found(self.limit, Some(rate), "throughput grew");
            self.climb = Timer::due(now, SECOND);
            self.trim.at = self.trim.at.max(now + SECOND * 5);
            self.enter(now, Stage::Holding, self.level);
            self.proceed(now);
        } else if !enough || (rising && gain > 1.05) {
        } else if gain < 0.8 {
            self.hurt(now, rate);
        } else {
            self.knee(now, if share >= 0.3 { gain } else { 1.0 });
        }
    }

    /// More streams brought less than their share: as many as that are enough.
    fn knee(&mut self, now: Duration, gain: f64) {
        let level = scaled(self.level, gain).clamp(self.level, self.limit);
        let reference = self.reference.map(|reference| reference * gain.max(1.0));
        let longest = self.ceiling.filter(|ceiling| ceiling.level <= self.level + 1).map_or(30, |_| 120);
        self.climb.put_off(now, SECOND, SECOND * longest);
        if self.ramping {
            (self.ramping, self.searching, self.trim.at) = (false, true, now);
        }
        self.found(level, reference, "throughput grew");
        self.enter(now, Stage::Holding, self.level);
        self.proceed(now);
    }

    /// More streams did harm: back at once.
    fn hurt(&mut self, now: Duration, rate: f64) {
        let lost = self.trial.elapsed(now).mul_f64((1.0 - rate / self.reference.unwrap_or(rate).max(1.0)).clamp(0.0, 1.0));
        let close = self.limit <= self.level + 1;
        self.climb.put_off(now, (lost * 8).max(SECOND * if close { 10 } else { 1 }), SECOND * 300);
        self.suspect = self.limit;
        (self.ramping, self.searching) = (false, false);
        self.trim.at = self.trim.at.max(now + SECOND * 5);
        self.enter(now, Stage::Recovering, self.level);
    }

    fn recovered(&mut self, now: Duration, rate: f64) {
        let reference = self.reference.unwrap_or(rate);
        if rate >= 0.8 * reference {
            self.ceiling = Some(Ceiling { level: self.suspect.max(self.level + 1), refused: false });
            self.news = Some("more streams were slower");
        } else if self.windows < 2 || rate > self.last * 1.05 {
            self.last = rate;
            return;
        } else if self.fall_back(now, rate) || now.saturating_sub(self.since) < SECOND {
            return;
        } else {
            // It was not the trial: the line has become slower.
            self.reference = Some(rate);
            self.climb = Timer { at: now + SECOND, gap: SECOND };
        }
        self.enter(now, Stage::Holding, self.level);
        self.proceed(now);
    }

    fn trimmed(&mut self, now: Duration) {
        if !self.enough(self.searching) {
            return;
        }
        let rate = (self.sum / f64::from(self.windows.max(1))).max(1.0);
        let reference = self.reference.unwrap_or(rate);
        let kept = rate / reference.max(1.0);
        if kept >= 0.95 {
            if kept > 1.1 {
                self.ceiling = Some(Ceiling { level: self.level, refused: false });
            }
            self.ladder.clear();
            self.found(self.limit, Some(reference.max(rate)), "fewer are as fast");
            self.enter(now, Stage::Holding, self.level);
            if self.lower().is_none() {
                self.trimmed_out(now);
            }
        } else {
            let level = (self.limit as f64 / kept).ceil();
            let level = scaled(1, level).clamp(self.limit, self.level);
            self.found(level, Some(reference), "fewer are as fast");
            self.enter(now, Stage::Holding, self.level);
            self.trimmed_out(now);
        }
        self.proceed(now);
    }

    fn trimmed_out(&mut self, now: Duration) {
        self.searching = false;
        self.trim.put_off(now, SECOND * 10, SECOND * 60);
    }
}

/// `number` times `factor`, rounded.
fn scaled(number: usize, factor: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of streams")]
    let scaled = (number as f64 * factor.clamp(0.0, 1000.0)).round() as usize;
    scaled
}
