//! Dates as people write them into filters and properties: absolute, with or without an offset, or some time ago.
//!
//! In: text, and for what is relative the time now. Out: microseconds since 1970, negative before it.
//!
//! A date without an offset means midnight somewhere: PostHog's clients assume UTC, its servers the project's time zone.
//! So a date knows whether it had one, and who compares decides what that is worth.

use crate::wire::timestamp::Timestamp;

/// A point of time, as far as its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Microseconds since 1970 in UTC, or in an unknown zone.
    pub(super) micros: i64,
    /// Whether the text said which zone.
    pub(super) zoned: bool,
}

/// A date in a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterDate {
    /// A point of time.
    At(Date),
    /// So long before now.
    Before(Ago),
}

/// A stretch of time, counted as the calendar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ago {
    Hours(u32),
    Days(u32),
    Months(u32),
}

/// Numbers of relative dates end here.
const AGO_END: u32 = 10_000;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl FilterDate {
    /// Reads `-7d`, `30d`, an RFC 3339 timestamp, a date, or a date and a time. `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Ago::parse(text).map(Self::Before).or_else(|| Date::parse(text).map(Self::At))
    }

    /// The point of time it means at `now`.
    pub(super) fn resolve(self, now: Timestamp) -> Option<Date> {
        match self {
            Self::At(date) => Some(date),
            Self::Before(ago) => ago.before(now).map(|micros| Date { micros, zoned: true }),
        }
    }
}

impl Ago {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('-').unwrap_or(text);
        let unit = text.chars().next_back()?;
        let digits = text.get(..text.len().checked_sub(unit.len_utf8())?)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse::<u32>().ok().filter(|number| *number < AGO_END)?;
        Some(match unit {
            'h' => Self::Hours(number),
            'd' => Self::Days(number),
            'w' => Self::Days(number * 7),
            'm' => Self::Months(number),
            'y' => Self::Months(number * 12),
            _ => return None,
        })
    }

    fn before(self, now: Timestamp) -> Option<i64> {
        let now = i64::try_from(now.as_unix_micros()).ok()?;
        let seconds = match self {
            Self::Hours(hours) => i64::from(hours) * 3600,
            Self::Days(days) => i64::from(days) * SECONDS_PER_DAY,
            Self::Months(months) => {
                let day_micros = SECONDS_PER_DAY * MICROS_PER_SECOND;
                let (year, month, day) = civil_date(now.div_euclid(day_micros));
                let month = year * 12 + i64::from(month) - 1 - i64::from(months);
                let (year, month) = (month.div_euclid(12), month.rem_euclid(12) as u32 + 1);
                // 31 March less a month is the last day of February.
                let day = day.min(month_days(year, month));
                return Some(unix_days(year, month, day) * day_micros + now.rem_euclid(day_micros));
            }
        };
        now.checked_sub(seconds.checked_mul(MICROS_PER_SECOND)?)
    }
}

impl Date {
    /// Reads a date, or a date and a time with `T` or a space between them, with or without seconds, fraction and offset.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = Reader(text.as_bytes());
        let year = rest.number(4)?;
        rest.byte(b"-")?;
        let month = rest.number(2)?;
        rest.byte(b"-")?;
        let day = rest.number(2)?;
        if !(1..=12).contains(&month) || day == 0 || day > month_days(i64::from(year), month) {
            return None;
        }
        let days = unix_days(i64::from(year), month, day);
        let midnight = days.checked_mul(SECONDS_PER_DAY * MICROS_PER_SECOND)?;
        if rest.0.is_empty() {
            return Some(Self { micros: midnight, zoned: false });
        }
        rest.byte(b"Tt ")?;
        let hour = rest.number(2).filter(|hour| *hour < 24)?;
        rest.byte(b":")?;
        let minute = rest.number(2).filter(|minute| *minute < 60)?;
        let (mut second, mut fraction) = (0, 0);
        if rest.byte(b":").is_some() {
            second = rest.number(2).filter(|second| *second < 60)?;
            if rest.byte(b".").is_some() {
                fraction = rest.fraction()?;
            }
        }
        let of_day = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
        let local = midnight.checked_add(of_day * MICROS_PER_SECOND)?.checked_add(i64::from(fraction))?;
        if rest.0.is_empty() {
            return Some(Self { micros: local, zoned: false });
        }
        let offset_minutes = rest.offset_minutes()?;
        if !rest.0.is_empty() {
            return None;
        }
        Some(Self { micros: local.checked_sub(offset_minutes * 60 * MICROS_PER_SECOND)?, zoned: true })
    }
}

/// Text that is read from its front.
struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    fn byte(&mut self, among: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| among.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    /// Exactly so many digits.
    fn number(&mut self, digits: u32) -> Option<u32> {
        (0..digits).try_fold(0, |number, _| Some(number * 10 + u32::from(self.byte(b"0123456789")? & 15)))
    }

    /// One or more digits as millionths; further ones are cut off.
    fn fraction(&mut self) -> Option<u32> {
        let (mut micros, mut digits) = (0, 0_u32);
        while let Some(digit) = self.byte(b"0123456789") {
            if digits < 6 {
                micros = micros * 10 + u32::from(digit & 15);
                digits += 1;
            }
        }
        (digits > 0).then(|| micros * 10_u32.pow(6 - digits))
    }

    /// `Z`, `+01:00` or `+0100`.
    fn offset_minutes(&mut self) -> Option<i64> {
        let sign = match self.byte(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        self.byte(b":");
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (i64::from(hours) * 60 + i64::from(minutes)))
    }
}

const fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn month_days(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years count from March, so that leap days come last.
fn unix_days(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let century_days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    century_days + (153 * i64::from(month) + 2) / 5 + i64::from(day) - 1 - 719_468
}

/// Year, month and day of the day that begins `unix_days` days after 1970-01-01.
fn civil_date(unix_days: i64) -> (i64, u32, u32) {
    let days = unix_days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * month + 2) / 5 + 1) as u32;
    let year = year + era * 400;
    if month < 10 { (year, month as u32 + 3, day) } else { (year + 1, month as u32 - 9, day) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_is_found_again() {
        for day in unix_days(1600, 1, 1)..unix_days(2600, 1, 1) {
            let (year, month, of_month) = civil_date(day);
            assert_eq!(unix_days(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=month_days(year, month)).contains(&of_month));
        }
        assert_eq!(unix_days(1970, 1, 1), 0);
    }

    #[test]
    fn absolute_dates_are_read() {
        let second = |seconds: i64| seconds * MICROS_PER_SECOND;
        for (text, micros, zoned) in [
            ("1970-01-01", 0, false),
            ("1969-12-31", second(-86_400), false),
            ("1970-01-02T00:00Z", second(86_400), true),
            ("1970-01-01 00:01", second(60), false),
            ("1970-01-01T00:00:01.5", second(1) + 500_000, false),
            ("1970-01-01t00:00:01.1234567z", second(1) + 123_456, true),
            ("1970-01-01T01:00:00+01:00", 0, true),
            ("1969-12-31T22:30:00-0130", 0, true),
            ("2026-03-01T12:00:05Z", second(1_772_366_405), true),
        ] {
            assert_eq!(Date::parse(text), Some(Date { micros, zoned }), "{text}");
            assert_eq!(FilterDate::parse(text), Some(FilterDate::At(Date { micros, zoned })), "{text}");
        }
        for text in [
            "",
            "1970",
            "1970-1-1",
            "1970-02-29",
            "1970-13-01",
            "1970-01-00",
            "1970-01-01T",
            "1970-01-01T24:00",
            "1970-01-01T00:60",
            "1970-01-01T00:00:60",
            "1970-01-01T00:00:00.",
            "1970-01-01T00:00:00ZZ",
            "1970-01-01T00:00:00+1",
            " 1970-01-01",
            "1970-01-01T00:00:00+01:00x",
            "tomorrow",
        ] {
            assert_eq!(Date::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn relative_dates_follow_the_calendar() {
        let now = Timestamp::parse("2026-03-31T12:00:00Z").unwrap();
        for (text, expected) in [
            ("-1h", "2026-03-31T11:00:00Z"),
            ("7d", "2026-03-24T12:00:00Z"),
            ("-2w", "2026-03-17T12:00:00Z"),
            ("1m", "2026-02-28T12:00:00Z"),
            ("-25m", "2024-02-29T12:00:00Z"),
            ("1y", "2025-03-31T12:00:00Z"),
            ("9999d", "1998-11-14T12:00:00Z"),
            ("-9999y", "-7973"),
        ] {
            let date = FilterDate::parse(text).unwrap().resolve(now).unwrap();
            match Date::parse(expected) {
                Some(expected) => assert_eq!(date, expected, "{text}"),
                None => assert!(date.micros < -300_000_000_000_000_000, "{text}"),
            }
        }
        for text in ["10000d", "-d", "d", "7", "--7d", "7D", "7s", "+7d", " 7d", "7.5d", "99999999999h"] {
            assert_eq!(FilterDate::parse(text), None, "{text:?}");
        }
    }
}
