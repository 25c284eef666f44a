//! Rates by time of the week, in the notation of rclone: `08:00,512k 23:00,off`, `Mon-08:00,20M Fri-18:00,off`, or one rate.

use std::str::FromStr;

use crate::error::{Error, Result};

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const HINT: &str = "write a rate such as 20M, or times with rates such as \"08:00,20M 23:00,off\" or \"Mon-08:00,512k Sat-00:00,off\"";

/// Which rate is in force when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timetable {
    /// From which minute of the week (from Monday, 00:00) on which rate, in order, no minute twice, never empty. Before the first
    /// entry the last one is still in force.
    entries: Vec<(u32, Option<u64>)>,
}

impl Timetable {
    /// The rate on `weekday` (0 is Monday) at `minute` of the day, in bytes per second; `None` is no limit.
    pub fn at(&self, weekday: u32, minute: u32) -> Option<u64> {
        let now = weekday % 7 * DAY + minute % DAY;
        let entry = self.entries.iter().rev().find(|(from, _)| *from <= now).or(self.entries.last());
        entry.and_then(|(_, rate)| *rate)
    }

    /// The one rate of a timetable that never changes.
    pub fn constant(&self) -> Option<Option<u64>> {
        let (_, first) = self.entries.first()?;
        self.entries.iter().all(|(_, rate)| rate == first).then_some(*first)
    }
}

impl FromStr for Timetable {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(|c: char| c.is_whitespace() || c == ';').filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err(Error::invalid("the rate is empty").hint(HINT));
        }
        if !text.contains(',') {
            return Ok(Self { entries: vec![(0, rate(text.trim())?)] });
        }
        let mut entries = Vec::new();
        for word in words {
            let bad = |why: &str| Error::invalid(format!("{word:?} {why}")).hint(HINT);
            let (time, amount) = word.split_once(',').ok_or_else(|| bad("is not a time and a rate joined by a comma"))?;
            let (days, time) = match time.split_once('-') {
                Some((name, time)) => {
                    let day = weekday(name).ok_or_else(|| bad("does not begin with a day of the week"))?;
                    (day..day + 1, time)
                }
                None => (0..7, time),
            };
            let minute = minute(time).ok_or_else(|| bad("has no time between 00:00 and 23:59"))?;
            let rate = rate(amount)?;
            entries.extend(days.map(|day| (day * DAY + minute, rate)));
        }
        entries.sort_by_key(|(from, _)| *from);
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1) {
            let (day, minute) = (twice[0].0 / DAY, twice[0].0 % DAY);
            let name = DAYS.get(day as usize).copied().unwrap_or_default();
            return Err(Error::invalid(format!("two rates begin on {name} at {:02}:{:02}", minute / 60, minute % 60)).hint(HINT));
        }
        entries.dedup_by_key(|(from, _)| *from);
        debug_assert!(entries.last().is_some_and(|(from, _)| *from < WEEK));
        Ok(Self { entries })
    }
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A day by its English name or the first three letters of it.
fn weekday(name: &str) -> Option<u32> {
    let found = DAYS.iter().position(|day| name.eq_ignore_ascii_case(day) || name.eq_ignore_ascii_case(&day[..3]))?;
    u32::try_from(found).ok()
}

/// `08:30` as minutes of the day.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let (hour, minute) = (number(hour).filter(|_| hour.len() <= 2)?, number(minute).filter(|_| minute.len() == 2)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn rate(text: &str) -> Result<Option<u64>> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    parse_size(text).map(Some).map_err(|error| match text {
        "0" => Error::invalid("the rate is nothing").hint("write off for no limit"),
        _ if minute(text).is_some() => Error::invalid(format!("{text:?} is a time without a rate")).hint(HINT),
        _ if text.contains(':') => {
            Error::invalid(format!("{text:?} is two rates; one holds for each direction by itself")).hint("write one rate, such as 20M")
        }
        _ => Error::invalid(error.message()).hint(HINT),
    })
}

/// `20M`, `1.5GiB`, `4096`: powers of 1024 with `i`, of 1000 otherwise.
pub fn parse_size(text: &str) -> Result<u64> {
    let bad = || Error::invalid(format!("{text:?} is not a size")).hint("write 500k, 20M or 1.5GiB");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| bad())?;
    let unit = text[split..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("/s").unwrap_or(&unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let (base, power) = match unit {
        "" => (1000_f64, 0),
        "k" => (1000.0, 1),
        "m" => (1000.0, 2),
        "g" => (1000.0, 3),
        "t" => (1000.0, 4),
        "ki" => (1024.0, 1),
        "mi" => (1024.0, 2),
        "gi" => (1024.0, 3),
        "ti" => (1024.0, 4),
        _ => return Err(bad()),
    };
    let bytes = number * base.powi(power);
    if !(1.0..1e15).contains(&bytes) {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie between 1 and 10^15")]
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Timetable {
        text.parse().unwrap()
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("20M").unwrap(), 20_000_000);
        assert_eq!(parse_size("1.5GiB").unwrap(), 1_610_612_736);
        assert_eq!(parse_size("512KiB/s").unwrap(), 524_288);
        for bad in ["", "x", "0", "-1", "1T2", "1e99", "1.2.3M", "nan", "2000T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_rate_holds_always() {
        assert_eq!(table("20M").constant(), Some(Some(20_000_000)));
        assert_eq!(table(" off ").constant(), Some(None));
        assert_eq!(table("08:00,1M 23:00,1M").constant(), Some(Some(1_000_000)));
        assert_eq!(table("08:00,1M").at(3, 0), Some(1_000_000), "one entry holds before it, too");
    }

    #[test]
    fn times_of_the_day_wrap_over_midnight() {
        let day = table("23:00,off 08:00,20M;12:30,10M");
        for weekday in 0..7 {
            let at = |hour: u32, minute: u32| day.at(weekday, hour * 60 + minute);
            assert_eq!(
                [at(7, 59), at(8, 0), at(12, 29), at(12, 30), at(22, 59)],
                [None, Some(20_000_000), Some(20_000_000), Some(10_000_000), Some(10_000_000)]
            );
            assert_eq!([at(23, 0), at(0, 0)], [None, None]);
        }
        assert_eq!(day.constant(), None);
    }

    #[test]
    fn days_of_the_week_wrap_over_sunday() {
        let week = table("Mon-00:00,512 fri-23:59,10M Saturday-10:00,1M Sun-20:00,off");
        assert_eq!(week.at(0, 0), Some(512));
        assert_eq!(week.at(4, 23 * 60 + 58), Some(512));
        assert_eq!(week.at(4, 23 * 60 + 59), Some(10_000_000));
        assert_eq!(week.at(5, 599), Some(10_000_000));
        assert_eq!(week.at(6, 0), Some(1_000_000));
        assert_eq!(week.at(6, 1439), None);
        let mixed = table("Wed-06:00,1k 12:00,1M");
        assert_eq!([mixed.at(2, 400), mixed.at(2, 720), mixed.at(0, 0)], [Some(1000), Some(1_000_000), Some(1_000_000)]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "empty"),
            (" ; ", "empty"),
            ("fast", "not a size"),
            ("0", "nothing"),
            ("10M:1M", "each direction"),
            ("08:00", "without a rate"),
            ("08:00,20M 23:00", "comma"),
            ("24:00,1M", "between 00:00"),
            ("8:5,1M", "between 00:00"),
            ("+8:00,1M", "between 00:00"),
            ("Foo-08:00,1M", "day of the week"),
            ("08:00,fast", "not a size"),
            ("08:00,1M 08:00,2M", "two rates begin on Monday at 08:00"),
        ] {
            let error = text.parse::<Timetable>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.hint_text().is_some(), "{text}");
        }
    }
}
