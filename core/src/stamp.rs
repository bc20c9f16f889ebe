//! Identity and time of an event: a fresh uuid v7 and a timestamp, fixed here and never changed again.
//!
//! In: the wall clock's reading and one lane's random state. Out: a [`Stamp`], which the encoder writes first.

use crate::uuid::{Prng, Uuid, hex_digits};
use crate::wire::digits::{divide, three_digits};
use crate::wire::timestamp::{Timestamp, put_second};

/// How far a lane's timestamps may run ahead of its clock, in microseconds, to keep events of a burst apart.
const AHEAD_MICROS_MAX: u64 = 5_000;

/// The beginning of every frame: `{"uuid":"…","timestamp":"…`, with place-holders, and padded.
const HEAD: [u8; HEAD_SLOT_BYTES] = {
    const TEXT: &[u8; HEAD_BYTES] =
        b"{\"uuid\":\"00000000-0000-0000-0000-000000000000\",\"timestamp\":\"1970-01-01T00:00:00.000000Z";
    let mut slot = [b' '; HEAD_SLOT_BYTES];
    let (text, _) = slot.split_at_mut(HEAD_BYTES);
    text.copy_from_slice(TEXT);
    slot
};

/// Bytes of a frame's beginning.
pub(crate) const HEAD_BYTES: usize = 87;
/// The same, padded to whole 16-byte stores.
pub(crate) const HEAD_SLOT_BYTES: usize = 96;
/// Where the uuid's text begins in every frame.
pub const UUID_AT: usize = 9;
/// Where the timestamp's text begins in every frame.
pub const TIMESTAMP_AT: usize = 60;
/// Where the digits behind the second begin.
const FRACTION_AT: usize = TIMESTAMP_AT + 20;
/// Where the digits behind the millisecond begin.
pub(crate) const MICROS_AT: usize = FRACTION_AT + 3;
/// Where the second half of the uuid's text begins, behind its third dash.
pub(crate) const UUID_LOW_AT: usize = UUID_AT + 19;

const _: () = assert!(UUID_AT + 36 <= HEAD_BYTES && MICROS_AT + 3 < HEAD_BYTES && HEAD_BYTES <= HEAD_SLOT_BYTES);
const _: () = assert!(TIMESTAMP_AT + Timestamp::TEXT_BYTES == HEAD_BYTES, "the timestamp ends the head");

/// Makes stamps. One per lane: nothing in it is shared.
#[derive(Debug)]
pub struct Stamper {
    prng: Prng,
    last: u64,
    /// First microsecond of the millisecond that `head` and `high` tell.
    ms_start: u64,
    /// Seconds since 1970 that `head` tells.
    second: u64,
    /// The first half of the uuids of this millisecond, or of the one given last, in memory order.
    high: u64,
    /// The beginning of the frames of this millisecond, or of the one that time or uuid were given for last.
    head: [u8; HEAD_SLOT_BYTES],
}

/// A uuid and a time, ready to be written over a head: what in it is an event's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// The second half of the uuid, in memory order.
    pub(crate) low: u64,
    /// Microseconds since the millisecond began, below 1000.
    pub(crate) micros: u32,
}

impl Stamper {
    /// A stamper whose uuids follow from `seed`. Two with the same seed make the same uuids: seed each from the system's
    /// entropy, or on a device from whatever differs between boots.
    pub fn new(seed: [u64; 2]) -> Self {
        Self { prng: Prng::new(seed), last: 0, ms_start: NO_MS, second: 0, high: 0, head: HEAD }
    }

    /// A stamp for `now`. Where neither uuid nor time is given by the caller, times of one lane increase: each is the
    /// clock's or one microsecond more than the last stamp's, used or not. A burst runs at most 5 ms ahead of the clock;
    /// beyond that, and after the clock was set back, times may be equal, and only the uuid tells events apart.
    ///
    /// Of a uuid's 74 random bits, 62 are drawn for each event and 12 for all of one lane's events in a millisecond: so the
    /// first half of its text belongs to the millisecond and is there when the next event comes.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn stamp(&mut self, now: Timestamp) -> Stamp {
        let now = now.as_unix_micros();
        let next = self.last.wrapping_add(1);
        let micros = if now >= next {
            now
        } else if next - now <= AHEAD_MICROS_MAX {
            next
        } else {
            self.far_ahead(now)
        };
        self.last = micros;
        let mut since = micros.wrapping_sub(self.ms_start);
        if since >= 1_000 {
            since = self.turn(micros);
        }
        // The two bits of the variant are those that RFC 9562 wants at the highest place of the ninth byte.
        let low = (self.prng.next() & !0xc0 | 0x80).to_le();
        Stamp { low, micros: since as u32 }
    }

    /// A stamp as the caller wants it.
    #[cold]
    #[inline(never)]
    pub(crate) fn stamp_given(&mut self, now: Timestamp, uuid: Option<Uuid>, time: Option<Timestamp>) -> Stamp {
        let mut stamp = match time {
            None => self.stamp(now),
            Some(time) => {
                let since = self.turn(time.as_unix_micros());
                let low = (self.prng.next() & !0xc0 | 0x80).to_le();
                Stamp { low, micros: since as u32 }
            }
        };
        if let Some(uuid) = uuid {
            // The head now tells another uuid than that of the millisecond: the next stamp makes a new one.
            self.ms_start = NO_MS;
            let [high, low] = uuid.halves();
            (self.high, stamp.low) = (high, low);
            self.put_high(u64::from_be(high));
        }
        stamp
    }

    /// The uuid of the latest stamp.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn uuid(&self, stamp: &Stamp) -> Uuid {
        Uuid::from_halves([self.high, stamp.low])
    }

    /// The beginning of a frame, in which the uuid's second half and the microseconds are missing.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn head(&self) -> &[u8; HEAD_SLOT_BYTES] {
        &self.head
    }

    /// The time of an event at the end of a long burst, or after the clock was set back: no more ahead than a burst may be. A
    /// clock that is carried on between readings corrects itself by a microsecond now and then; that must not undo the burst.
    #[inline(never)]
    fn far_ahead(&self, now: u64) -> u64 {
        let most = now.saturating_add(AHEAD_MICROS_MAX);
        if self.last.saturating_sub(most) <= AHEAD_MICROS_MAX { most } else { now }
    }

    /// Writes another millisecond into the head; returns the microseconds since it began.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, micros: u64) -> u64 {
        let mut of_second = micros.wrapping_sub(self.second.wrapping_mul(1_000_000));
        if of_second >= 1_000_000 {
            self.second = divide(divide(micros, 1_000).0, 1_000).0;
            of_second = micros.wrapping_sub(self.second.wrapping_mul(1_000_000));
            put_second(self.second, self.head.get_mut(TIMESTAMP_AT..).unwrap_or_default());
        }
        let (ms_of_second, since) = (of_second as u32 / 1_000, of_second as u32 % 1_000);
        self.ms_start = micros - u64::from(since);
        self.put(FRACTION_AT, &three_digits(ms_of_second));
        // The first half of `Uuid::v7`.
        let ms = self.second.wrapping_mul(1_000).wrapping_add(ms_of_second.into());
        let high = ms << 16 | 0x7000 | self.prng.next() >> 52;
        self.high = high.to_be();
        self.put_high(high);
        since.into()
    }

    /// Writes the first half of a uuid, its first byte in the highest bits, into the head: 8 digits, 4, 4.
    fn put_high(&mut self, high: u64) {
        let (first, [a, b, c, d, e, f, g, h]) = (hex_digits((high >> 32) as u32), hex_digits(high as u32));
        self.put(UUID_AT, &first);
        self.put(UUID_AT + 9, &[a, b, c, d]);
        self.put(UUID_AT + 14, &[e, f, g, h]);
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, at: usize, text: &[u8; N]) {
        if let Some(place) = self.head.get_mut(at..at + N) {
            place.copy_from_slice(text);
        }
    }
}

/// No millisecond: further from any time that a [`Timestamp`] can be than a millisecond is long.
const NO_MS: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    fn times(stamper: &mut Stamper, clock: &[u64]) -> std::vec::Vec<u64> {
        clock
            .iter()
            .map(|&now| {
                let stamp = stamper.stamp(Timestamp::from_unix_micros(now));
                stamper.ms_start + u64::from(stamp.micros)
            })
            .collect()
    }

    #[test]
    fn the_head_tells_the_millisecond_of_the_stamp() {
        let mut stamper = Stamper::new([1, 2]);
        let start = 1_795_424_400_000_000;
        let clock = [0, 1, 999, 1_000, 1_001, 250_000, 999_999, 1_000_000, 1_000_001, 86_400_000_000, 5, 0, 1 << 50];
        for micros in clock.map(|step| start + step) {
            let stamp = stamper.stamp(Timestamp::from_unix_micros(micros));
            let told = stamper.ms_start + u64::from(stamp.micros);
            let expected = Timestamp::from_unix_micros(told).text();
            assert_eq!(&stamper.head[TIMESTAMP_AT..MICROS_AT], &expected[..23]);
            assert_eq!(&stamper.head[UUID_AT..UUID_LOW_AT - 1], &stamper.uuid(&stamp).hyphenated()[..18]);
        }
    }

    #[test]
    fn a_given_uuid_is_in_the_head_and_not_in_the_next_one() {
        let mut stamper = Stamper::new([1, 2]);
        let now = Timestamp::from_unix_micros(0);
        let given = Uuid::from_bytes([0xab; 16]);
        let stamp = stamper.stamp_given(now, Some(given), None);
        assert_eq!(stamper.uuid(&stamp), given);
        assert_eq!(&stamper.head[UUID_AT..UUID_LOW_AT - 1], &given.hyphenated()[..18]);
        let next = stamper.stamp(now);
        assert_eq!(stamper.uuid(&next).unix_ms(), Some(0));
        assert_eq!(&stamper.head[UUID_AT..UUID_LOW_AT - 1], &stamper.uuid(&next).hyphenated()[..18]);
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
    fn a_clock_that_corrects_itself_in_a_burst_takes_times_back_by_no_more() {
        let mut stamper = Stamper::new([1, 2]);
        times(&mut stamper, &[9_000_000; 6_000]);
        let seen = times(&mut stamper, &[8_999_998, 8_999_999, 9_000_000, 9_000_001, 8_995_001]);
        assert_eq!(seen, [9_004_998, 9_004_999, 9_005_000, 9_005_001, 9_000_001]);
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
        assert_eq!(stamper.ms_start + u64::from(stamp.micros), given.as_unix_micros());
        assert_eq!(stamper.uuid(&stamp).unix_ms(), Some(99_000_000_000));
        assert_eq!(times(&mut stamper, &[5_000_000]), [5_000_001]);
    }

    #[test]
    fn uuids_are_version_seven_of_the_events_millisecond_and_differ() {
        let mut stamper = Stamper::new([3, 4]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let stamp = stamper.stamp(Timestamp::from_unix_ms(1_795_000_000_123));
            let uuid = stamper.uuid(&stamp);
            assert!((1_795_000_000_123..1_795_000_000_129).contains(&uuid.unix_ms().unwrap()));
            assert!(seen.insert(uuid));
        }
    }
}
