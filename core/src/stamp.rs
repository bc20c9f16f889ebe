//! Identity and time of an event: a fresh uuid v7 and a timestamp, fixed here and never changed again.
//!
//! In: the wall clock's reading and one lane's random state. Out: a [`Stamp`], which the encoder writes first.

use crate::uuid::{Prng, Uuid};
use crate::wire::timestamp::Timestamp;

/// How far a lane's timestamps may run ahead of its clock, in microseconds, to keep events of a burst apart.
const AHEAD_MICROS_MAX: u64 = 5_000;

/// The beginning of every frame: `{"uuid":"…","timestamp":"…`, with place-holders.
const HEAD: &[u8; HEAD_BYTES] =
    b"{\"uuid\":\"00000000-0000-0000-0000-000000000000\",\"timestamp\":\"1970-01-01T00:00:00.000000Z";

/// Bytes of a frame's beginning.
pub(crate) const HEAD_BYTES: usize = 87;
/// The same, padded to whole 16-byte stores.
pub(crate) const HEAD_SLOT_BYTES: usize = 96;
/// Where the uuid's text begins in every frame.
pub const UUID_AT: usize = 9;
/// Where the timestamp's text begins in every frame.
pub const TIMESTAMP_AT: usize = 60;
/// Where the digits behind the second begin.
pub(crate) const FRACTION_AT: usize = TIMESTAMP_AT + 20;

const _: () = assert!(UUID_AT + 36 <= HEAD_BYTES && FRACTION_AT + 6 < HEAD_BYTES && HEAD_BYTES <= HEAD_SLOT_BYTES);
const _: () = assert!(TIMESTAMP_AT + Timestamp::TEXT_BYTES == HEAD_BYTES, "the timestamp ends the head");

/// Makes stamps. One per lane: nothing in it is shared.
#[derive(Debug)]
pub struct Stamper {
    prng: Prng,
    last: u64,
    /// First microsecond of the second whose text is in `head`.
    second: u64,
    head: [u8; HEAD_SLOT_BYTES],
}

/// A uuid and a time, ready to be written behind one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// The uuid as two big-endian words.
    pub(crate) uuid_words: [u64; 2],
    /// Microseconds since the second began.
    pub(crate) micros: u32,
}

impl Stamp {
    pub(crate) fn uuid(&self) -> Uuid {
        let [high, low] = self.uuid_words;
        Uuid::from_words(high, low)
    }
}

impl Stamper {
    /// A stamper whose uuids follow from `seed`. Two with the same seed make the same uuids: seed each from the system's
    /// entropy, or on a device from whatever differs between boots.
    pub fn new(seed: [u64; 2]) -> Self {
        let mut head = [b' '; HEAD_SLOT_BYTES];
        for (to, from) in head.iter_mut().zip(HEAD) {
            *to = *from;
        }
        Self { prng: Prng::new(seed), last: 0, second: 0, head }
    }

    /// A stamp for `now`. Where neither uuid nor time is given by the caller, times of one lane increase: each is the
    /// clock's or one microsecond more than the last. A burst runs at most 5 ms ahead of the clock; beyond that, and
    /// after the clock was set back, times may be equal, and only the uuid tells events apart.
    #[inline(always)]
    pub(crate) fn stamp(&mut self, now: Timestamp) -> Stamp {
        let now = now.as_unix_micros();
        let micros = if now > self.last { now } else { self.ahead(now) };
        self.last = micros;
        let mut fraction = micros.wrapping_sub(self.second);
        if fraction >= 1_000_000 {
            fraction = self.turn(micros);
        }
        let ms = self.second / 1_000 + fraction / 1_000;
        let (first, second) = (self.prng.next(), self.prng.next());
        Stamp { uuid_words: [ms << 16 | 0x7000 | first & 0x0fff, second >> 2 | 1 << 63], micros: fraction as u32 }
    }

    /// A stamp as the caller wants it.
    #[cold]
    #[inline(never)]
    pub(crate) fn stamp_given(&mut self, now: Timestamp, uuid: Option<Uuid>, time: Option<Timestamp>) -> Stamp {
        let mut stamp = match time {
            None => self.stamp(now),
            Some(time) => {
                let micros = time.as_unix_micros();
                let fraction = self.turn(micros);
                let uuid = Uuid::v7(micros / 1_000, [self.prng.next(), self.prng.next()]);
                Stamp { uuid_words: uuid.words(), micros: fraction as u32 }
            }
        };
        if let Some(uuid) = uuid {
            stamp.uuid_words = uuid.words();
        }
        stamp
    }

    /// The beginning of a frame, in which only uuid and fraction are missing.
    #[inline(always)]
    pub(crate) fn head(&self) -> &[u8; HEAD_SLOT_BYTES] {
        &self.head
    }

    /// The time of an event that comes before the clock has moved, or after it was set back.
    #[inline]
    fn ahead(&self, now: u64) -> u64 {
        if self.last < now.saturating_add(AHEAD_MICROS_MAX) {
            self.last + 1
        } else if self.last == now.saturating_add(AHEAD_MICROS_MAX) {
            self.last
        } else {
            now
        }
    }

    /// Writes another second's text into the head; returns the microseconds since it began.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, micros: u64) -> u64 {
        let fraction = micros % 1_000_000;
        self.second = micros - fraction;
        let text = Timestamp::from_unix_micros(micros).text();
        for (to, from) in self.head.iter_mut().skip(TIMESTAMP_AT).zip(text) {
            *to = from;
        }
        fraction
    }
}

/// The six decimal digits of a number below 10⁶: the first four, then the last two, first digit in the lowest byte.
#[inline(always)]
pub(crate) fn six_digits(value: u32) -> (u32, u16) {
    let (first, last) = (value / 100, value % 100);
    let hundreds = (first * 5_243) >> 19;
    let pairs = hundreds | (first - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    let ten = (last * 103) >> 10;
    ((tens | (pairs - 10 * tens) << 8) + 0x3030_3030, ((ten | (last - 10 * ten) << 8) + 0x3030) as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    fn times(stamper: &mut Stamper, clock: &[u64]) -> std::vec::Vec<u64> {
        clock
            .iter()
            .map(|&now| {
                let stamp = stamper.stamp(Timestamp::from_unix_micros(now));
                stamper.second + u64::from(stamp.micros)
            })
            .collect()
    }

    #[test]
    fn six_digits_are_those_of_format() {
        for value in 0..1_000_000u32 {
            let (first, last) = six_digits(value);
            let mut text = [0; 6];
            text[..4].copy_from_slice(&first.to_le_bytes());
            text[4..].copy_from_slice(&last.to_le_bytes());
            assert_eq!(text, std::format!("{value:06}").as_bytes());
        }
    }

    #[test]
    fn times_increase_while_the_clock_stands_still() {
        let mut stamper = Stamper::new([1, 2]);
        assert_eq!(times(&mut stamper, &[7_000_000; 4]), [7_000_000, 7_000_001, 7_000_002, 7_000_003]);
    }

    #[test]
    fn a_burst_runs_five_milliseconds_ahead_and_no_further() {
        let mut stamper = Stamper::new([1, 2]);
        let seen = times(&mut stamper, &[9_000_000; 6_000]);
        assert_eq!(seen[5_000], 9_005_000);
        assert_eq!(seen[5_999], 9_005_000);
        assert_eq!(times(&mut stamper, &[9_005_001]), [9_005_001]);
    }

    #[test]
    fn a_clock_set_back_is_followed() {
        let mut stamper = Stamper::new([1, 2]);
        assert_eq!(times(&mut stamper, &[9_000_000, 2_000_000, 2_000_000]), [9_000_000, 2_000_000, 2_000_001]);
    }

    #[test]
    fn a_given_time_does_not_move_the_lanes_own() {
        let mut stamper = Stamper::new([1, 2]);
        let now = Timestamp::from_unix_micros(5_000_000);
        stamper.stamp(now);
        let given = Timestamp::from_unix_micros(99_000_000_000_123);
        let stamp = stamper.stamp_given(now, None, Some(given));
        assert_eq!(stamper.second + u64::from(stamp.micros), given.as_unix_micros());
        assert_eq!(stamp.uuid().unix_ms(), Some(99_000_000_000));
        assert_eq!(times(&mut stamper, &[5_000_000]), [5_000_001]);
    }

    #[test]
    fn uuids_are_version_seven_of_the_events_millisecond_and_differ() {
        let mut stamper = Stamper::new([3, 4]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let uuid = stamper.stamp(Timestamp::from_unix_ms(1_795_000_000_123)).uuid();
            assert!((1_795_000_000_123..1_795_000_000_129).contains(&uuid.unix_ms().unwrap()));
            assert!(seen.insert(uuid));
        }
    }
}
