//! Wall time on the wire: microseconds since 1970 in, RFC 3339 text in UTC out.
//!
//! And the other way round, for the timestamps that a caller or a server hands us as text. Every event carries such a
//! text, but captures of one second share it but for the fraction: `stamp` keeps it. Nothing here reads a clock.

use core::fmt;

use super::digits::{divide, three_digits, two_digits};

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// Days from 1 March of the year 0 to 1 January 1970, both in the Gregorian calendar.
///
/// Counting years from March puts the leap day last, so that neither direction of the conversion has a special case.
const DAYS_BEFORE_1970: u32 = 719_468;

/// A point of wall time, in microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Lies between 1970 and the end of the year 9999, the years PostHog stores and four digits can say.
/// Monotonic time, for waiting, is an [`Instant`](crate::Instant).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// Length of [`text`](Self::text), in bytes; always the same.
    pub const TEXT_BYTES: usize = 27;

    /// The point `micros` microseconds after the start of 1970; what lies beyond [`Timestamp::MAX`] becomes that.
    #[inline]
    pub const fn from_unix_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// The point `micros` later, for a clock that carries a reading on for a little while and has to do it fast. Past the end
    /// of time only the text of the year is wrong.
    #[doc(hidden)]
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub const fn carried_on(self, micros: u64) -> Self {
        Self(self.0.wrapping_add(micros))
    }

    /// The point `ms` milliseconds after the start of 1970; what lies beyond [`Timestamp::MAX`] becomes that.
    #[inline]
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self::from_unix_micros(ms.saturating_mul(1000))
    }

    /// A date of the Gregorian calendar and a time of day, in UTC.
    ///
    /// A leap second, `second == 60`, becomes the last microsecond before it. `None` when a field is out of its range
    /// (30 February, hour 24) or the year is not within 1970 to 9999.
    pub const fn from_civil(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<Self> {
        match unix_micros(year, month, day, hour, minute, second) {
            Some(micros) => Self::from_signed_micros(micros),
            None => None,
        }
    }

    /// Microseconds since the start of 1970.
    #[inline]
    pub const fn as_unix_micros(&self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start of 1970.
    #[inline]
    pub const fn as_unix_ms(&self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC with six fraction digits: `2026-03-01T12:00:05.250000Z`. ASCII, nothing in it needs escaping.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub fn text(&self) -> [u8; Self::TEXT_BYTES] {
        let (ms, micros) = divide(self.0, 1_000);
        let (seconds, ms) = divide(ms, 1_000);
        let mut text = *b"1970-01-01T00:00:00.000000Z";
        put_second(seconds, &mut text);
        let [.., a, b, c, d, e, f, _] = &mut text;
        ([*a, *b, *c], [*d, *e, *f]) = (three_digits(ms), three_digits(micros));
        text
    }

    /// Reads RFC 3339: date, `T` or a space, time, an optional fraction of any length, `Z` or an offset.
    ///
    /// Letters in either case; digits beyond the microsecond are cut off; a leap second becomes the last microsecond
    /// before it. `None` for everything else: no offset (whose midnight would it be?), spaces around it, a date that
    /// does not exist, and points before 1970 or after 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Reader(text.as_bytes());
        let year = rest.number::<4>()?;
        rest.one_of(b"-")?;
        let month = rest.number::<2>()?;
        rest.one_of(b"-")?;
        let day = rest.number::<2>()?;
        rest.one_of(b"Tt ")?;
        let hour = rest.number::<2>()?;
        rest.one_of(b":")?;
        let minute = rest.number::<2>()?;
        rest.one_of(b":")?;
        let second = rest.number::<2>()?;
        let fraction = rest.fraction()?;
        let offset_minutes = rest.offset_minutes()?;
        if !rest.0.is_empty() {
            return None;
        }
        let local = unix_micros(year, month, day, hour, minute, second)?;
        // The clamped leap second already ends in .999999.
        let local = if second < 60 { local + i64::from(fraction) } else { local };
        Self::from_signed_micros(local - offset_minutes * 60 * MICROS_PER_SECOND as i64)
    }

    const fn from_signed_micros(micros: i64) -> Option<Self> {
        if micros < 0 || micros as u64 > Self::MAX.0 { None } else { Some(Self(micros as u64)) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is ASCII, so this cannot fail; saying so with `Result` costs nothing here.
        f.write_str(core::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// Writes date and time of day, to the second, over those of a text as [`Timestamp::text`] gives it.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn put_second(seconds: u64, text: &mut [u8]) {
    let (hours, of_hour) = divide(seconds, 3_600);
    // Until the year 9999 there are 70 million hours.
    let hours = hours as u32;
    let (year, month, day) = civil_date(hours / 24);
    let (mut rest, mut step) = (text, 2);
    // Two digits each, and from the second on what separates them from the next.
    for pair in [year / 100, year % 100, month, day, hours % 24, of_hour / 60, of_hour % 60] {
        if let Some((slots, _)) = rest.split_first_chunk_mut() {
            *slots = two_digits(pair);
        }
        rest = rest.get_mut(step..).unwrap_or_default();
        step = 3;
    }
}

/// Year, month and day of the day that begins `unix_days` days after 1970-01-01, up to the year 9999.
fn civil_date(unix_days: u32) -> (u32, u32, u32) {
    // 400 years are 146,097 days and 4 years are 1,461. Working in quarters of a day makes the average lengths of a
    // century and of a year whole numbers, and the `+ 3` puts the leap day at the end of its group.
    let days = unix_days + DAYS_BEFORE_1970;
    let century = (4 * days + 3) / 146_097;
    let day_of_century = days - century * 146_097 / 4;
    let year_of_century = (4 * day_of_century + 3) / 1_461;
    let day_of_year = day_of_century - year_of_century * 1_461 / 4;
    // From March on, months alternate 31 and 30 days with a period of 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let after_new_year = month_from_march >= 10;
    let month = if after_new_year { month_from_march - 9 } else { month_from_march + 3 };
    let year = century * 100 + year_of_century + u32::from(after_new_year);
    (year, month, day)
}

/// Microseconds since 1970 of a civil time in UTC, for the years 1969 to 9999; `None` when a field is out of its range.
///
/// One year earlier than a [`Timestamp`] reaches, because an offset can carry the last hours of 1969 into 1970.
const fn unix_micros(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<i64> {
    if year < 1969 || year > 9999 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month_from_march + 2) / 5 + day - 1;
    let seconds =
        (days as i64 - DAYS_BEFORE_1970 as i64) * SECONDS_PER_DAY as i64 + (hour * 3600 + minute * 60 + second) as i64;
    // A leap second's number is that of the second after it; one microsecond less is still the right minute.
    Some(seconds * MICROS_PER_SECOND as i64 - (second == 60) as i64)
}

const fn days_in_month(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What is left to read of a text.
struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    /// One byte, which must be one of `allowed`.
    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (&byte, rest) = self.0.split_first().filter(|(byte, _)| allowed.contains(byte))?;
        self.0 = rest;
        Some(byte)
    }

    /// The value of one decimal digit.
    fn digit(&mut self) -> Option<u32> {
        self.one_of(b"0123456789").map(|byte| u32::from(byte & 0x0f))
    }

    /// Exactly `N` decimal digits; `N` is at most 4 here, so the sum fits.
    fn number<const N: usize>(&mut self) -> Option<u32> {
        (0..N).try_fold(0, |sum, _| Some(sum * 10 + self.digit()?))
    }

    /// An optional fraction of a second, in microseconds. `None` for a point without digits.
    fn fraction(&mut self) -> Option<u32> {
        if self.one_of(b".").is_none() {
            return Some(0);
        }
        let mut micros = self.digit()? * 100_000;
        let mut unit = 10_000;
        while let Some(digit) = self.digit() {
            // From the seventh digit on the unit is 0, and nothing is added.
            micros += digit * unit;
            unit /= 10;
        }
        Some(micros)
    }

    /// `Z`, or an offset from UTC in minutes, less than a day in either direction.
    fn offset_minutes(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number::<2>().filter(|&hours| hours < 24)?;
        self.one_of(b":")?;
        let minutes = self.number::<2>().filter(|&minutes| minutes < 60)?;
        Some(sign * i64::from(hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use std::format;
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

    fn text(timestamp: Timestamp) -> String {
        String::from_utf8(timestamp.text().to_vec()).unwrap()
    }

    /// Counts days as a wall calendar does, one by one, and so shares nothing with the arithmetic it checks.
    fn every_day(mut each: impl FnMut(u32, u32, u32, u32)) {
        let mut unix_days = 0;
        for year in 1970..=9999 {
            let february = if year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(lengths) {
                for day in 1..=length {
                    each(unix_days, year, month, day);
                    unix_days += 1;
                }
            }
        }
    }

    #[test]
    fn every_day_until_9999_is_the_calendars() {
        every_day(|unix_days, year, month, day| {
            assert_eq!(civil_date(unix_days), (year, month, day));
            let micros = i64::try_from(u64::from(unix_days) * DAY).unwrap();
            assert_eq!(unix_micros(year, month, day, 0, 0, 0), Some(micros));
        });
    }

    #[test]
    fn the_text_around_every_turn_of_a_month_is_right() {
        let mut last = (1969, 12, 31);
        every_day(|unix_days, year, month, day| {
            if day == 1 && unix_days > 0 {
                let start = Timestamp(u64::from(unix_days) * DAY);
                assert_eq!(text(start), format!("{year:04}-{month:02}-01T00:00:00.000000Z"));
                let before = Timestamp(u64::from(unix_days) * DAY - 1);
                assert_eq!(text(before), format!("{:04}-{:02}-{:02}T23:59:59.999999Z", last.0, last.1, last.2));
            }
            last = (year, month, day);
        });
        assert_eq!(text(Timestamp::MAX), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_second_of_a_day_is_written() {
        for second in 0..SECONDS_PER_DAY {
            let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
            let expected = format!("1970-01-01T{hour:02}:{minute:02}:{rest:02}.000042Z");
            assert_eq!(text(Timestamp(second * MICROS_PER_SECOND + 42)), expected);
        }
    }

    #[test]
    fn what_lies_after_9999_becomes_the_last_microsecond() {
        assert_eq!(Timestamp::from_unix_micros(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_ms(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_ms(1_772_366_405_250).as_unix_micros(), 1_772_366_405_250_000);
        assert_eq!(Timestamp::from_unix_micros(1999).as_unix_ms(), 1);
    }

    #[test]
    fn display_and_debug_show_the_text() {
        let timestamp = Timestamp::from_unix_ms(1_772_366_405_250);
        assert_eq!(timestamp.to_string(), "2026-03-01T12:00:05.250000Z");
        assert_eq!(format!("{timestamp:?}"), "Timestamp(2026-03-01T12:00:05.250000Z)");
    }

    #[test]
    fn rfc_3339_in_its_variants_is_read() {
        for (given, expected) in [
            ("2026-03-01T12:00:05Z", "2026-03-01T12:00:05.000000Z"),
            ("2026-03-01t12:00:05z", "2026-03-01T12:00:05.000000Z"),
            ("2026-03-01 12:00:05.25Z", "2026-03-01T12:00:05.250000Z"),
            ("2026-03-01T12:00:05.123456789Z", "2026-03-01T12:00:05.123456Z"),
            ("2026-03-01T12:00:05.99999999999999999999999999999999Z", "2026-03-01T12:00:05.999999Z"),
            ("2026-03-01T12:00:05.250+00:00", "2026-03-01T12:00:05.250000Z"),
            ("2026-03-01T12:00:05-00:00", "2026-03-01T12:00:05.000000Z"),
            ("2026-03-01T01:30:00+05:45", "2026-02-28T19:45:00.000000Z"),
            ("2026-12-31T23:30:00-23:59", "2027-01-01T23:29:00.000000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("1969-12-31T23:30:00-01:00", "1970-01-01T00:30:00.000000Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
            ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59.999999Z"),
            ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:59.999999Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp::parse(given).map(text).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for given in [
            "",
            "2026-03-01",
            "2026-03-01T12:00:05",
            "2026-03-01T12:00Z",
            "2026-03-01T12:00:05.Z",
            "2026-03-01T12:00:05,5Z",
            "2026-03-01T12:00:05Zx",
            " 2026-03-01T12:00:05Z",
            "2026-03-01_12:00:05Z",
            "2026-3-01T12:00:05Z",
            "+2026-03-01T12:00:05Z",
            "20260301T120005Z",
            "2026-03-01T12:00:05+01",
            "2026-03-01T12:00:05+0100",
            "2026-03-01T12:00:05+24:00",
            "2026-03-01T12:00:05+00:60",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z",
            "2026-03-01T12:00:61Z",
            "2026-00-01T12:00:05Z",
            "2026-13-01T12:00:05Z",
            "2026-04-31T12:00:05Z",
            "2026-04-00T12:00:05Z",
            "2025-02-29T12:00:05Z",
            "2100-02-29T12:00:05Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:30:00+01:00",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "２０２６-03-01T12:00:05Z",
        ] {
            assert_eq!(Timestamp::parse(given), None, "{given}");
        }
    }

    #[test]
    fn civil_fields_are_checked() {
        assert_eq!(Timestamp::from_civil(1970, 1, 1, 0, 0, 0), Some(Timestamp(0)));
        assert_eq!(Timestamp::from_civil(1994, 11, 6, 8, 49, 37), Some(Timestamp(784_111_777_000_000)));
        assert_eq!(Timestamp::from_civil(2016, 12, 31, 23, 59, 60), Timestamp::parse("2016-12-31T23:59:59.999999Z"));
        assert_eq!(Timestamp::from_civil(1969, 12, 31, 23, 59, 59), None);
        assert_eq!(Timestamp::from_civil(10_000, 1, 1, 0, 0, 0), None);
        assert_eq!(Timestamp::from_civil(2000, 2, 29, 0, 0, 0).map(text).unwrap(), "2000-02-29T00:00:00.000000Z");
        let huge = u32::MAX;
        assert_eq!(Timestamp::from_civil(huge, huge, huge, huge, huge, huge), None);
        assert_eq!(Timestamp::from_civil(2026, 1, huge, 0, 0, 0), None);
    }

    proptest! {
        #[test]
        fn a_text_reads_back_as_its_timestamp(micros in 0..=Timestamp::MAX.0) {
            let timestamp = Timestamp(micros);
            prop_assert_eq!(Timestamp::parse(&text(timestamp)), Some(timestamp));
        }

        #[test]
        fn texts_order_like_their_timestamps(a in 0..=Timestamp::MAX.0, b in 0..=Timestamp::MAX.0) {
            prop_assert_eq!(Timestamp(a).cmp(&Timestamp(b)), text(Timestamp(a)).cmp(&text(Timestamp(b))));
        }

        #[test]
        fn an_offset_moves_the_instant_by_itself(
            micros in 0..=Timestamp::MAX.0,
            hours in 0..24u64,
            minutes in 0..60u64,
        ) {
            let local = text(Timestamp(micros));
            let offset = (hours * 60 + minutes) * 60 * MICROS_PER_SECOND;
            let east = Timestamp::parse(&local.replace('Z', &format!("+{hours:02}:{minutes:02}")));
            prop_assert_eq!(east, micros.checked_sub(offset).map(Timestamp));
            let west = Timestamp::parse(&local.replace('Z', &format!("-{hours:02}:{minutes:02}")));
            let expected = Some(micros + offset).filter(|&sum| sum <= Timestamp::MAX.0).map(Timestamp);
            prop_assert_eq!(west, expected);
        }

        #[test]
        fn any_text_is_read_or_refused(
            text in r"\PC{0,40}",
            almost in r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9](:[0-6][0-9]){2}(\.[0-9]{0,30})?[Z+-][0-9:]{0,6}",
        ) {
            let _ = Timestamp::parse(&text);
            if let Some(timestamp) = Timestamp::parse(&almost) {
                prop_assert!(timestamp <= Timestamp::MAX);
            }
        }
    }
}
