//! What an outcome means, and how long to wait before the next attempt.
//!
//! In: an [`Outcome`], or the text of a `Retry-After` header. Out: a [`Verdict`], or a wait. Pure functions and one small
//! counter; *when* something happens is decided by the [`Flusher`](crate::Flusher).

use crate::{Answer, Outcome, Prng, Timestamp};
use core::time::Duration;

/// What is to become of the events of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Verdict {
    /// The server has them.
    Delivered,
    /// The same request may succeed later, `after` this time at the earliest if the server named one.
    Retry {
        /// The server's `Retry-After`, not yet clamped.
        after: Option<Duration>,
    },
    /// The server did not take the request as a whole, but may take parts of it.
    Split {
        /// Whether it was too many bytes (413) rather than a malformed event (400).
        too_large: bool,
    },
    /// The server will never take these events.
    Rejected,
    /// The server will not take anything for now: the key, the address or the route is wrong.
    Paused,
    /// The server was not reached; the events are as good as before.
    Unreachable,
}

/// What an outcome means.
///
/// | outcome | verdict |
/// |---|---|
/// | 2xx | delivered; with an HTML page: retry, that was not PostHog |
/// | 400, 413 | split |
/// | 401, 403, 404, 405, 407, 3xx | paused |
/// | 408, 429, 5xx | retry |
/// | any other 4xx | rejected |
/// | any other status, no answer, out of memory | retry |
/// | unreachable | unreachable |
pub fn classify(outcome: &Outcome) -> Verdict {
    let Answer { status, retry_after, html } = match outcome {
        Outcome::Answered(answer) => *answer,
        Outcome::Unreachable => return Verdict::Unreachable,
        Outcome::NoAnswer | Outcome::OutOfMemory => return Verdict::Retry { after: None },
    };
    match status {
        200..=299 if !html => Verdict::Delivered,
        300..=399 | 401 | 403..=405 | 407 => Verdict::Paused,
        400 => Verdict::Split { too_large: false },
        413 => Verdict::Split { too_large: true },
        200..=299 | 408 | 429 | 500..=599 => Verdict::Retry { after: retry_after },
        402..=499 => Verdict::Rejected,
        // 1xx is no final answer, and the rest is no HTTP status at all.
        _ => Verdict::Retry { after: None },
    }
}

/// Waits that double: `base · 2ⁿ`, at most `max`, and 0 to 25 % of that on top.
///
/// The jitter only lengthens, so that the wait a reader computes is the shortest there is. Devices that lost the same
/// network at the same moment should have different seeds.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    prng: Prng,
}

/// Shortest wait: with a base of zero, a network that is down would otherwise be tried in a tight loop.
const WAIT_MIN: Duration = Duration::from_millis(10);

impl Backoff {
    /// Starts without failures. A `base` under 10 ms becomes 10 ms, a `max` under `base` becomes `base`.
    pub fn new(base: Duration, max: Duration, seed: [u64; 2]) -> Self {
        let base = base.max(WAIT_MIN);
        Self { base, max: max.max(base), failures: 0, prng: Prng::new(seed) }
    }

    /// Counts one more failure and says how long to wait after it; at least `retry_after`, as far as that is believed,
    /// which is up to `max`.
    pub fn fail(&mut self, retry_after: Option<Duration>) -> Duration {
        // A shift beyond the width would be a wrong wait; 2³¹ times the base is beyond every sensible `max`.
        let doubled = self.base.saturating_mul(1 << self.failures.min(31)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.saturating_add(self.jitter(doubled));
        wait.max(retry_after.unwrap_or_default().min(self.max))
    }

    /// Forgets the failures: the server answered in a way that is no reason to wait.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last [`reset`](Self::reset).
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait that the first failure would bring, without jitter.
    pub(crate) fn base(&self) -> Duration {
        self.base
    }

    fn jitter(&mut self, wait: Duration) -> Duration {
        // A quarter in microseconds as 32 bits (71 minutes), so that the product with 32 random bits fits 64.
        let quarter = u32::try_from(wait.as_micros() / 4).unwrap_or(u32::MAX);
        let random = self.prng.next() >> 32;
        Duration::from_micros((u64::from(quarter) * random) >> 32)
    }
}

/// Reads a `Retry-After` header: whole seconds, or a date in one of HTTP's three forms (IMF-fixdate, RFC 850, asctime),
/// which needs the wall time `now`.
///
/// `None` for zero, a date that has passed, a date without `now`, and everything else. Not clamped: seconds without end
/// become [`u64::MAX`] of them. What separates the parts of a date is not checked, nor is its weekday.
pub fn parse_retry_after(value: &[u8], now: Option<Timestamp>) -> Option<Duration> {
    let value = value.trim_ascii();
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        let seconds = value.iter().fold(0_u64, |n, &digit| n.saturating_mul(10).saturating_add(digit_value(digit)));
        return if seconds == 0 { None } else { Some(Duration::from_secs(seconds)) };
    }
    let now = now?;
    let wait = http_date(value, now)?.as_unix_micros().checked_sub(now.as_unix_micros())?;
    if wait == 0 { None } else { Some(Duration::from_micros(wait)) }
}

/// Reads a date as HTTP writes it, in one of its three forms; a year of two digits lies within 50 years of 2026.
///
/// A server's `Date` header is how a device without a clock learns the time.
pub fn parse_date(value: &[u8]) -> Option<Timestamp> {
    const MID_2026: Timestamp = Timestamp::from_unix_ms(1_782_000_000_000);
    http_date(value.trim_ascii(), MID_2026)
}

/// ```text
/// IMF-fixdate  Sun, 06 Nov 1994 08:49:37 GMT
/// RFC 850      Sunday, 06-Nov-94 08:49:37 GMT
/// asctime      Sun Nov  6 08:49:37 1994
/// ```
fn http_date(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    let mut parts = text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let mut next = || parts.next();
    let (_weekday, second, third) = (next()?, next()?, next()?);
    let asctime = second.iter().all(u8::is_ascii_alphabetic);
    let (day, month, mut year) = if asctime { (third, second, None) } else { (second, third, next()) };
    let (hour, minute, sec) = (next()?, next()?, next()?);
    let zone = if asctime {
        year = next();
        None
    } else {
        Some(next()?)
    };
    // HTTP's dates are always in GMT; another zone is not read as if it were.
    if zone.is_some_and(|zone| !zone.eq_ignore_ascii_case(b"GMT")) || parts.next().is_some() {
        return None;
    }
    let year = year?;
    let date = |year| {
        Timestamp::from_civil(year, month_number(month)?, number(day)?, number(hour)?, number(minute)?, number(sec)?)
    };
    match year.len() {
        4 => date(number(year)?),
        2 => two_digit_year(number(year)?, now, date),
        _ => None,
    }
}

/// RFC 9110: a date that appears to be more than 50 years in the future lies in the past.
fn two_digit_year(year: u32, now: Timestamp, date: impl Fn(u32) -> Option<Timestamp>) -> Option<Timestamp> {
    const MICROS_PER_YEAR: u64 = 31_556_952 * 1_000_000;
    let this_year = 1970 + u32::try_from(now.as_unix_micros() / MICROS_PER_YEAR).ok()?;
    // The next occurrence that is not long past; `this_year` may be off by one around New Year, hence the slack.
    let mut full = this_year - this_year % 100 + year;
    if full + 50 <= this_year {
        full += 100;
    } else if full > this_year + 50 {
        full -= 100;
    }
    date(full)
}

fn month_number(name: &[u8]) -> Option<u32> {
    const NAMES: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let index = NAMES.chunks_exact(3).position(|month| month.eq_ignore_ascii_case(name))?;
    u32::try_from(index + 1).ok()
}

/// One to four digits.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, &digit| n * 10 + digit_value(digit) as u32))
}

fn digit_value(digit: u8) -> u64 {
    u64::from(digit.wrapping_sub(b'0'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn every_status_has_the_verdict_of_the_table() {
        for status in 0..=u16::MAX {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                300..=399 => Verdict::Paused,
                400 => Verdict::Split { too_large: false },
                413 => Verdict::Split { too_large: true },
                401 | 403 | 404 | 405 | 407 => Verdict::Paused,
                402 | 406 | 415 | 422 | 431 | 451 => Verdict::Rejected,
                408 | 429 => Verdict::Retry { after: None },
                409..=499 => Verdict::Rejected,
                _ => Verdict::Retry { after: None },
            };
            assert_eq!(classify(&Outcome::status(status)), expected, "status {status}");
        }
    }

    #[test]
    fn outcomes_without_an_answer_are_retried_and_only_no_connection_is_unreachable() {
        assert_eq!(classify(&Outcome::NoAnswer), Verdict::Retry { after: None });
        assert_eq!(classify(&Outcome::OutOfMemory), Verdict::Retry { after: None });
        assert_eq!(classify(&Outcome::Unreachable), Verdict::Unreachable);
    }

    #[test]
    fn an_html_page_is_no_delivery_and_changes_no_other_status() {
        let page = |status| classify(&Outcome::Answered(Answer { html: true, ..Answer::new(status) }));
        assert_eq!(page(200), Verdict::Retry { after: None });
        assert_eq!(page(204), Verdict::Retry { after: None });
        assert_eq!(page(403), Verdict::Paused);
        assert_eq!(page(502), Verdict::Retry { after: None });
        assert_eq!(page(400), Verdict::Split { too_large: false });
    }

    #[test]
    fn retry_after_is_carried_by_every_answer_that_is_retried() {
        let after = Duration::from_secs(3);
        for status in [408, 429, 500, 503, 599] {
            let answer = Outcome::Answered(Answer::new(status).with_retry_after(after));
            assert_eq!(classify(&answer), Verdict::Retry { after: Some(after) }, "status {status}");
        }
        let rejected = Outcome::Answered(Answer::new(402).with_retry_after(after));
        assert_eq!(classify(&rejected), Verdict::Rejected);
    }

    #[test]
    fn waits_double_up_to_the_limit_and_jitter_adds_at_most_a_quarter() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), [seed, !seed]);
            for expected in [1, 2, 4, 8, 16, 30, 30, 30] {
                let wait = backoff.fail(None);
                let least = Duration::from_secs(expected);
                assert!(wait >= least && wait <= least * 5 / 4, "{wait:?} for {expected} s");
            }
            assert_eq!(backoff.failures(), 8);
            backoff.reset();
            assert!(backoff.fail(None) < Duration::from_millis(1251));
        }
    }

    #[test]
    fn jitter_differs_between_seeds_and_between_draws() {
        let mut waits = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), [seed, 1]);
            waits.extend([backoff.fail(None), backoff.fail(None)]);
        }
        assert!(waits.len() > 95, "{} different waits of 100", waits.len());
    }

    #[test]
    fn retry_after_is_a_minimum_and_believed_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), [1, 2]);
        assert_eq!(backoff.fail(Some(Duration::from_secs(3))), Duration::from_secs(3));
        let second = backoff.fail(Some(Duration::from_millis(1)));
        assert!(second >= Duration::from_secs(2), "a short Retry-After does not shorten: {second:?}");
        assert_eq!(backoff.fail(Some(Duration::MAX)), Duration::from_secs(30));
    }

    #[test]
    fn no_setting_makes_the_wait_zero_or_overflows() {
        let mut tiny = Backoff::new(Duration::ZERO, Duration::ZERO, [3, 4]);
        let mut huge = Backoff::new(Duration::MAX, Duration::MAX, [5, 6]);
        for _ in 0..100 {
            assert!(tiny.fail(None) >= WAIT_MIN);
            assert_eq!(huge.fail(Some(Duration::MAX)), Duration::MAX);
        }
    }

    fn at(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<Timestamp> {
        Some(Timestamp::from_civil(year, month, day, hour, minute, second).unwrap())
    }

    #[test]
    fn retry_after_in_seconds() {
        let cases: &[(&str, Option<u64>)] = &[
            ("3", Some(3)),
            (" 120\t", Some(120)),
            ("007", Some(7)),
            ("0", None),
            ("000", None),
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("5 s", None),
            ("soon", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999999999", Some(u64::MAX)),
        ];
        for &(text, seconds) in cases {
            for now in [None, at(2026, 3, 1, 12, 0, 0)] {
                assert_eq!(parse_retry_after(text.as_bytes(), now), seconds.map(Duration::from_secs), "{text:?}");
            }
        }
    }

    #[test]
    fn retry_after_as_a_date_in_all_three_forms() {
        let now = at(1994, 11, 6, 8, 49, 0);
        let wait = Some(Duration::from_secs(37));
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "sun, 06 nov 1994 08:49:37 gmt",
        ] {
            assert_eq!(parse_retry_after(text.as_bytes(), now), wait, "{text}");
            assert_eq!(parse_retry_after(text.as_bytes(), None), None, "no wall time, no difference");
            assert_eq!(parse_retry_after(text.as_bytes(), at(1994, 11, 6, 8, 49, 37)), None, "now is not later");
            assert_eq!(parse_retry_after(text.as_bytes(), at(1995, 1, 1, 0, 0, 0)), None, "past");
        }
    }

    #[test]
    fn two_digit_years_lie_within_fifty_years_of_now() {
        let later = |text: &str, now| parse_retry_after(text.as_bytes(), now).is_some();
        assert!(later("Friday, 01-Jan-27 00:00:00 GMT", at(2026, 12, 31, 23, 0, 0)));
        assert!(later("Wednesday, 01-Jan-70 00:00:00 GMT", at(2026, 12, 31, 23, 0, 0)));
        assert!(!later("Monday, 01-Jan-90 00:00:00 GMT", at(2026, 12, 31, 23, 0, 0)));
        assert!(later("Friday, 01-Jan-00 00:00:10 GMT", at(2099, 12, 31, 23, 59, 0)));
    }

    #[test]
    fn what_is_no_date_is_no_wait() {
        let now = at(2026, 3, 1, 12, 0, 0);
        for text in [
            "Sun, 30 Feb 2027 08:49:37 GMT",
            "Sun, 06 Nov 2027 25:49:37 GMT",
            "Sun, 06 Nov 2027 08:49:37 CET",
            "Sun, 06 Nov 2027 08:49:37",
            "Sun, 06 Nov 2027 08:49:37 GMT GMT",
            "Sun, 06 Foo 2027 08:49:37 GMT",
            "Sun, 06 Nov 12027 08:49:37 GMT",
            "Sun, 06 Nov 127 08:49:37 GMT",
            "Sun Nov  6 08:49:37",
            "2027-11-06T08:49:37Z",
            ", , , ,",
            "\u{fe0f}",
        ] {
            assert_eq!(parse_retry_after(text.as_bytes(), now), None, "{text}");
        }
        assert_eq!(parse_retry_after(&[0xff; 64], now), None);
    }
}
