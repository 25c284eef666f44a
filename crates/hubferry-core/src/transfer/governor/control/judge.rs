//! What a measurement means: where the knee lies, what hurt, and what is tried next.

use std::time::Duration;

use super::{Ceiling, Control, SECOND, Stage, Stride, Timer, ms};

/// Fewest streams that are tried for economy: one alone leaves the line idle between two requests.
const FLOOR: usize = 2;

/// A level that is given up when fewer do better is at least this much worse.
const FALLEN: f64 = 0.75;

/// A doubling that brings less than this has found its end.
const WORTHWHILE: f64 = 1.25;

impl Control {
    /// Begins to look for the right level from the present one.
    pub(super) fn search_from(&mut self, now: Duration, ramping: bool) {
        self.stride = if ramping { Stride::Double } else { Stride::Halve };
        self.climb = if ramping { Timer::due(now, SECOND) } else { Timer { at: now + SECOND, gap: SECOND } };
        self.trim = Timer::due(now, SECOND * 10);
        self.enter(now, Stage::Holding, self.level);
    }

    /// Begins the trial that is due.
    fn proceed(&mut self, now: Duration) {
        if self.reference.is_none() {
            return;
        }
        let higher = self.higher().filter(|_| now >= self.climb.at);
        let lower = self.lower().filter(|_| now >= self.trim.at);
        // A level that was guessed is questioned from below first: that is the cheaper question.
        let below_first = self.stride == Stride::Halve && lower.is_some();
        if let Some(limit) = higher.filter(|_| !below_first) {
            self.enter(now, Stage::Climbing, limit);
        } else if let Some(limit) = lower {
            self.enter(now, Stage::Trimming, limit);
        }
    }

    fn higher(&mut self) -> Option<usize> {
        // Where more did much better not long ago, that is tried first.
        if let (Some((level, rate)), Some(reference)) = (self.best, self.reference)
            && self.stride != Stride::Double
            && level > self.level
            && rate > 1.15 * reference
        {
            return Some(level);
        }
        let reference = self.reference.unwrap_or_default();
        self.ceilings.retain(|ceiling| reference <= 2.0 * ceiling.rate);
        let ceiling = self.ceiling();
        let step = match ceiling {
            _ if self.stride == Stride::Double => self.level,
            Some(Ceiling { refused: true, .. }) => self.level / 8,
            _ => self.level / 4,
        };
        let candidate = self.level + step.max(1);
        let candidate = match ceiling {
            Some(ceiling) if candidate >= ceiling.level => self.level.midpoint(ceiling.level).max(self.level + 1),
            _ => candidate,
        };
        Some(candidate.min(self.bounds.most)).filter(|candidate| *candidate > self.level)
    }

    /// The lowest number above the level that the host did not bear.
    fn ceiling(&self) -> Option<Ceiling> {
        self.ceilings.iter().find(|ceiling| ceiling.level > self.level).copied()
    }

    /// Keeps a number that the host did not bear.
    pub(super) fn bump(&mut self, ceiling: Ceiling) {
        self.ceilings.retain(|known| known.level != ceiling.level);
        self.ceilings.push(ceiling);
        self.ceilings.sort_unstable_by_key(|known| known.level);
    }

    fn lower(&self) -> Option<usize> {
        let candidate = if self.stride == Stride::Halve { self.level / 2 } else { self.level * 3 / 4 };
        Some(candidate.max(FLOOR)).filter(|candidate| *candidate < self.level)
    }

    /// The first window: streams that run long enough not to open wider by themselves.
    pub(super) fn opened(&mut self, now: Duration, rate: f64) {
        if self.swift && self.limit < self.bounds.most {
            return;
        }
        self.found(self.limit, Some(rate), "many small requests");
        // Answers that stayed quick while the streams doubled have proven the level.
        self.stride = if self.swift { Stride::Fine } else { Stride::Double };
        self.enter(now, Stage::Holding, self.level);
        self.proceed(now);
    }

    pub(super) fn held(&mut self, now: Duration, rate: f64) {
        let Some(reference) = self.reference else {
            self.reference = Some(rate);
            return self.proceed(now);
        };
        let change = rate / reference.max(1.0);
        let usual = 1.4 + 2.0 * self.noise;
        let fits = change < usual && change * usual > 1.0;
        if fits {
            self.noise = self.noise * 0.8 + (change - 1.0).abs() * 0.2;
            self.reference = Some(reference * 0.8 + rate * 0.2);
            self.strange = (0, 0.0);
            self.remember();
            if !self.step_back(now) {
                self.proceed(now);
            }
            return;
        }
        self.strange = (self.strange.0 + 1, self.strange.1 + rate);
        // A bad moment passes; more than was thought possible is believed sooner.
        if self.strange.0 >= if change < 1.0 { 4 } else { 3 } {
            self.changed(now, self.strange.1 / f64::from(self.strange.0));
        }
    }

    /// Keeps the best level that was held for a while.
    fn remember(&mut self) {
        let Some(reference) = self.reference.filter(|_| self.windows >= 3) else { return };
        if self.best.is_none_or(|(level, rate)| level == self.level || rate <= reference) {
            self.best = Some((self.level, reference));
        }
    }

    /// A step up that paid at first, but not for long, is taken back: some hosts answer more streams later, not at once slower.
    fn step_back(&mut self, now: Duration) -> bool {
        // The reference is an average of several windows: a third of their noise is left in it.
        let regret = 0.98 - self.noise / 3.0;
        let Some((level, known)) = self.ladder.last().copied() else { return false };
        if self.windows < 6 || level >= self.level || self.reference.is_none_or(|reference| reference > regret * known) {
            return false;
        }
        self.ladder.pop();
        self.suspect = self.level;
        self.stride = Stride::Fine;
        self.climb.put_off(now, SECOND * 4, SECOND * 300);
        self.found(level, Some(known), "throughput fell");
        self.enter(now, Stage::Recovering, self.level);
        true
    }

    /// The level brings something else than it did. Either a lower one, which did better, still does, or the line has changed.
    fn changed(&mut self, now: Duration, rate: f64) {
        self.suspect = self.level;
        if !self.fall_back(now, rate) {
            // A line that became faster bears more; whether a slower one needs as many is asked first.
            let faster = self.reference.is_some_and(|reference| rate > reference);
            self.search_from(now, faster);
            if !faster {
                self.stride = Stride::Fine;
            }
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
        self.stride = Stride::Fine;
        self.enter(now, Stage::Recovering, self.level);
        true
    }

    /// Windows that tell more than chance does.
    fn enough(&self, quick: bool) -> bool {
        let least = if quick { 1.0 } else { 2.0 };
        f64::from(self.windows) >= least + (self.noise * 16.0).min(8.0)
    }

    /// Whether so little comes, from the beginning or lately, that there is no need to wait for the end of the window.
    pub(super) fn hurts(&self, now: Duration) -> bool {
        let patience = if self.swift { self.latency * 3 } else { self.latency.mul_f64(1.5) }.clamp(ms(80), SECOND * 2);
        [&self.trial, &self.meter].iter().any(|meter| {
            let elapsed = meter.elapsed(now);
            let expected = self.reference.unwrap_or_default() * elapsed.as_secs_f64();
            elapsed >= patience && expected >= 8.0 * self.grain && meter.work() < 0.5 * expected
        })
    }

    pub(super) fn climbed(&mut self, now: Duration, rate: f64) {
        let reference = self.reference.unwrap_or(rate).max(1.0);
        let rising = self.windows < 10 && (self.windows == 1 || rate > self.last * 1.05);
        self.last = rate;
        let doubling = self.stride == Stride::Double;
        let rate = if doubling { rate } else { self.sum / f64::from(self.windows) };
        let gain = rate / reference;
        let share = (gain - 1.0) / (self.limit as f64 / self.level as f64 - 1.0);
        let enough = self.enough(doubling);
        if share >= 0.6 && enough {
            self.ladder.push((self.level, reference));
            self.ceilings.retain(|ceiling| ceiling.level > self.limit);
            self.found(self.limit, Some(rate), "throughput grew");
            self.climb = Timer::due(now, SECOND);
            self.doubted = false;
            if share >= 0.8 && self.ceilings.is_empty() {
                self.stride = Stride::Double;
            }
            self.trim.at = self.trim.at.max(now + SECOND * 5);
            self.enter(now, Stage::Holding, self.level);
            self.proceed(now);
        } else if !enough || (rising && gain > 1.05) {
        } else if gain < 0.8 {
            self.hurt(now, rate);
        } else {
            self.forget_best();
            self.knee(now, if share >= 0.3 { gain } else { 1.0 });
        }
    }

    /// What was best is not any more, once it was tried.
    fn forget_best(&mut self) {
        self.best = self.best.filter(|(level, _)| *level != self.limit);
    }

    /// More streams brought less than their share: as many as that are enough.
    fn knee(&mut self, now: Duration, gain: f64) {
        // Unless it was the reference that was wrong, since many a server gives the first bytes of a connection for nothing: it is
        // measured once more, and the same number tried again.
        if self.stride == Stride::Double && gain > WORTHWHILE && !std::mem::replace(&mut self.doubted, true) {
            self.found(self.level, None, "throughput grew");
            return self.enter(now, Stage::Holding, self.level);
        }
        let level = rounded(self.level as f64 * gain + 0.2).clamp(self.level, self.limit);
        let reference = self.reference.map(|reference| reference * gain.max(1.0));
        let longest = self.ceiling().filter(|ceiling| ceiling.level <= self.level + 1).map_or(30, |_| 120);
        self.climb.put_off(now, SECOND, SECOND * longest);
        if self.stride == Stride::Double {
            (self.stride, self.trim.at) = (Stride::Halve, now);
        }
        if let Some(known) = self.reference.filter(|_| level > self.level) {
            self.ladder.push((self.level, known));
        }
        self.found(level, reference, "throughput grew");
        self.enter(now, Stage::Holding, self.level);
        self.proceed(now);
    }

    /// More streams did harm: back at once.
    pub(super) fn hurt(&mut self, now: Duration, rate: f64) {
        self.forget_best();
        let lost = self.trial.elapsed(now).mul_f64((1.0 - rate / self.reference.unwrap_or(rate).max(1.0)).clamp(0.0, 1.0));
        let close = self.limit <= self.level + 1;
        self.climb.put_off(now, (lost * 8).max(SECOND * if close { 10 } else { 1 }), SECOND * 300);
        self.suspect = self.limit;
        // Where more were just a little worse, fewer may be better; a collapse says that the level is right.
        let gently = self.stride == Stride::Double && rate > 0.6 * self.reference.unwrap_or_default();
        self.stride = if gently { Stride::Halve } else { Stride::Fine };
        self.trim.at = if gently { now } else { self.trim.at.max(now + SECOND * 5) };
        self.enter(now, Stage::Recovering, self.level);
    }

    pub(super) fn recovered(&mut self, now: Duration, rate: f64) {
        let reference = self.reference.unwrap_or(rate);
        if rate >= 0.8 * reference {
            self.bump(Ceiling { level: self.suspect.max(self.level + 1), refused: false, rate: reference });
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

    pub(super) fn trimmed(&mut self, now: Duration) {
        if !self.enough(self.stride == Stride::Halve && self.best.is_none()) {
            return;
        }
        let rate = (self.sum / f64::from(self.windows.max(1))).max(1.0);
        let reference = self.reference.unwrap_or(rate);
        let kept = rate / reference.max(1.0);
        if kept >= 0.95 {
            if kept > 1.1 {
                self.bump(Ceiling { level: self.level, refused: false, rate });
            }
            self.ladder.clear();
            self.found(self.limit, Some(reference.max(rate)), "fewer are as fast");
            self.enter(now, Stage::Holding, self.level);
            if self.lower().is_none() {
                self.trimmed_out(now);
            }
        } else {
            let level = rounded((self.limit as f64 / kept).ceil()).clamp(self.limit, self.level);
            self.found(level, Some(reference), "fewer are as fast");
            self.enter(now, Stage::Holding, self.level);
            self.trimmed_out(now);
        }
        self.proceed(now);
    }

    fn trimmed_out(&mut self, now: Duration) {
        self.stride = Stride::Fine;
        self.trim.put_off(now, SECOND * 10, SECOND * 60);
    }
}

/// The nearest whole number of streams.
fn rounded(streams: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of streams")]
    let rounded = streams.clamp(1.0, 1e6).round() as usize;
    rounded
}
