//! Until when a signed link is good, where the link itself says so.

use std::time::{Duration, SystemTime};

use url::Url;

/// When `link` ends: S3's date and length of life, or one of the plain times that CDNs use. `None` when it does not say.
pub(crate) fn of(link: &Url) -> Option<SystemTime> {
    let value = |name: &str| link.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.into_owned());
    if let (Some(date), Some(life)) = (value("x-amz-date"), value("x-amz-expires")) {
        return at(amazon_date(&date)?.checked_add(life.parse().ok()?)?);
    }
    if let Some(seconds) = value("expires").and_then(|text| text.parse().ok()) {
        return at(seconds);
    }
    // `auth_key=<time>-<random>-<user>-<signature>`: a time that lies ahead is the end; one that is past says when it was made.
    let seconds = value("auth_key")?.split('-').next()?.parse().ok()?;
    at(seconds).filter(|end| *end > SystemTime::now())
}

fn at(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// `20261121T083000Z` as seconds since 1970.
fn amazon_date(text: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let sound = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
    if !sound || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_say_when_they_end() {
        let seconds = |query: &str| {
            let end = of(&Url::parse(&format!("https://h/x?{query}")).unwrap())?;
            Some(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-Signature=a"), Some(1_767_225_600 + 3600));
        assert_eq!(seconds("X-Amz-Date=20240229T123456Z&X-Amz-Expires=0"), Some(1_709_210_096));
        assert_eq!(seconds("X-Amz-Date=19700101T000001Z&X-Amz-Expires=0"), Some(1));
        assert_eq!(seconds("Expires=1700000000&Signature=x"), Some(1_700_000_000));
        assert_eq!(seconds("expires=1700000000&signature=x"), Some(1_700_000_000));
        assert_eq!(seconds("auth_key=4102444800-0-0-abc"), Some(4_102_444_800));
        for silent in [
            "",
            "auth_key=1700000000-0-0-abc",
            "auth_key=x",
            "Expires=soon",
            "Expires=-5",
            "X-Amz-Date=20261301T000000Z&X-Amz-Expires=1",
            "X-Amz-Date=2026010%C3%BC000000Z&X-Amz-Expires=1",
            "X-Amz-Date=20260101T000000Z&X-Amz-Expires=18446744073709551615",
        ] {
            assert_eq!(seconds(silent), None, "{silent}");
        }
    }
}
