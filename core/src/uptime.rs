//! Devices that do not know the time: events are captured with the uptime, and put right once, before they are sent.
//!
//! In: a monotonic clock, later the wall time, and some bytes of RAM that a reset does not clear. Out: frames with true
//! timestamps, changed in place.
//!
//! # What stands in a frame meanwhile
//!
//! A timestamp and a uuid's milliseconds have a fixed width, so an event without a time of its own holds a *place-holder* of
//! the same form: a time before the year 2000, which is a boot's number and the uptime.
//!
//! ```text
//!  1970-01-01 … 1972-03-26   boot 0, uptime 0 … 2⁴⁶ µs (two years and three months)
//!  1972-03-26 … 1974-06-19   boot 1
//!  …                                                     1999 and later: true times
//! ```
//!
//! So an event's own timestamp (as for [`Event::timestamp`](crate::Event::timestamp)) before 1999 cannot be told from a
//! place-holder; nor can one after the year 9000. Everything in between is never touched.
//!
//! # What becomes of it
//!
//! [`Flusher::settle_times`](crate::Flusher::settle_times) looks at each event that was never given out:
//!
//! | its place-holder is of | it becomes |
//! |---|---|
//! | a boot whose wall time is known, this one or an earlier one | the exact time |
//! | an earlier boot whose wall time was never known | that of the reset, so far as is known: when this boot began |
//!
//! Events that carry the super property [`MARK`] say which of both happened to them. The uuid keeps its random bits; its
//! milliseconds follow the timestamp, so the uuid that `capture` returned is that of the event but for its first twelve digits.
//!
//! A reset in the middle of a change is noticed: the first digit of the year is made a 9 before, and what it shall be after
//! all others. Such an event counts as one of an earlier boot whose time is not known. Every state in between is a valid
//! timestamp, so that [`Ring::recover`](crate::Ring::recover) finds a whole event whenever the reset comes.
//!
//! # Devices that never learn the time
//!
//! They send place-holders, and say in `sent_at` what their clock (of place-holders) shows then: the server moves both by the
//! same amount. This is right for events of the present boot.

use crate::{Instant, Timestamp};
use core::sync::atomic::{Ordering, compiler_fence};

/// A super property for events captured without a clock: once settled, its value says `exact`, or `reset` if the time is
/// that of the reset after the event.
pub const MARK: (&str, &str) = ("event_time", "unset");

const MARK_OPEN: &[u8] = b"\"event_time\":\"";
const MARK_UNSET: &[u8; 5] = b"unset";
const MARK_EXACT: &[u8; 5] = b"exact";
const MARK_RESET: &[u8; 5] = b"reset";

/// Boots that place-holders can tell apart.
pub const BOOTS_MAX: u8 = 13;

/// Microseconds of a boot that place-holders can tell apart.
const SPAN: u64 = 1 << 46;

/// True times lie behind this.
const PLACEHOLDERS_END: u64 = SPAN * BOOTS_MAX as u64;

const _: () = assert!(PLACEHOLDERS_END < 946_684_800_000_000, "a place-holder's year begins with 19");

/// Which boot this is, and when it and the earlier ones began: a record in RAM that a reset does not clear.
///
/// ```
/// use quillet_core::uptime::Boots;
/// use quillet_core::{Instant, Timestamp};
///
/// let mut retained = [0xff; Boots::BYTES]; // what a cold start left there
/// let mut boots = Boots::begin(&mut retained, true);
/// let uptime = Instant::from_micros(1_500_000);
/// let captured_with = boots.timestamp(uptime);
/// assert_eq!(captured_with.to_string(), "1970-01-01T00:00:01.500000Z");
///
/// boots.set_wall_time(Timestamp::from_unix_ms(1_795_000_000_000), Instant::from_micros(2_000_000));
/// assert_eq!(boots.timestamp(uptime), Timestamp::from_unix_ms(1_794_999_999_500));
/// ```
#[derive(Debug)]
pub struct Boots<'m> {
    record: Record,
    memory: &'m mut [u8; Boots::BYTES],
}

/// What the retained bytes hold.
#[derive(Clone, Copy, Debug)]
struct Record {
    boot: u8,
    /// Several boots share the last number.
    crowded: bool,
    /// Wall time at uptime zero of each boot, in microseconds; 0 where it is not known.
    began: [u64; BOOTS_MAX as usize],
}

/// How many events [`Flusher::settle_times`](crate::Flusher::settle_times) changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Settled {
    /// They have their exact time.
    pub exact: usize,
    /// They have the time of the reset after them.
    pub reset: usize,
    /// They have their place-holders still: the wall time of this boot is not known.
    pub unset: usize,
}

impl<'m> Boots<'m> {
    /// Bytes of the record.
    pub const BYTES: usize = MAGIC.len() + 4 + BOOTS_MAX as usize * 8 + 4;

    /// Begins a boot. What earlier ones wrote is believed if it is whole.
    ///
    /// `nothing_pending` says that no event of an earlier boot waits in a ring: numbers then begin anew. They end at 13:
    /// after that many resets without a delivery, the last boots are no longer told apart, and all of them count as unknown.
    pub fn begin(memory: &'m mut [u8; Boots::BYTES], nothing_pending: bool) -> Self {
        let record = match Record::read(memory) {
            Some(mut record) if !nothing_pending => {
                record.crowded = record.boot >= BOOTS_MAX - 1;
                record.boot = record.boot.saturating_add(1).min(BOOTS_MAX - 1);
                record.set_began(0);
                record
            }
            // Events that wait came with a record that is lost: they must not be taken for events of this boot.
            None if !nothing_pending => Record { boot: 1, ..Record::EMPTY },
            _ => Record::EMPTY,
        };
        record.write(memory);
        Self { record, memory }
    }

    /// What to capture with at this uptime: the wall time if it is known, else a place-holder.
    ///
    /// For interrupt handlers, [`EventClock`] is the same as a value to copy.
    pub fn timestamp(&self, uptime: Instant) -> Timestamp {
        self.clock().timestamp(uptime)
    }

    /// The present state of [`timestamp`](Boots::timestamp), to be kept where captures happen. It does not learn the time by
    /// itself: take another one after [`set_wall_time`](Boots::set_wall_time).
    pub fn clock(&self) -> EventClock {
        EventClock {
            began: self.record.began().unwrap_or(u64::from(self.record.boot) * SPAN),
            known: self.is_time_known(),
        }
    }

    /// How many boots lie between this one and the last at which nothing was pending; 12 at most.
    pub fn number(&self) -> u8 {
        self.record.boot
    }

    /// Whether the wall time is known in this boot.
    pub fn is_time_known(&self) -> bool {
        self.record.began().is_some()
    }

    /// Tells what the wall time is at this uptime, and writes it down for later boots. One before 1999 is not believed.
    ///
    /// It may be told again, to correct a drift; what was settled stays.
    pub fn set_wall_time(&mut self, wall: Timestamp, uptime: Instant) {
        let began = wall.as_unix_micros().saturating_sub(uptime.as_micros());
        if began >= PLACEHOLDERS_END {
            self.record.set_began(began);
            self.record.write(self.memory);
        }
    }

    /// The true time behind a place-holder, and whether it is exact.
    fn resolve(&self, placeholder: Placeholder) -> Option<(Timestamp, bool)> {
        let now_began = self.record.began();
        let began_exactly = match placeholder {
            Placeholder::Torn => None,
            Placeholder::Boot(boot, _) if self.record.crowded && boot == BOOTS_MAX - 1 => None,
            Placeholder::Boot(boot, _) if boot == self.record.boot => Some(now_began?),
            Placeholder::Boot(boot, _) => self.record.began.get(usize::from(boot)).copied().filter(|&began| began != 0),
        };
        match (began_exactly, placeholder) {
            (Some(began), Placeholder::Boot(_, uptime)) => {
                Some((Timestamp::from_unix_micros(began.saturating_add(uptime)), true))
            }
            _ => now_began.map(|began| (Timestamp::from_unix_micros(began), false)),
        }
    }
}

/// A boot's time as a value: small enough to be copied into every place that captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventClock {
    /// The time, or place-holder, at uptime zero.
    began: u64,
    known: bool,
}

impl EventClock {
    /// Before anything is known: boot 0.
    pub const UNSET: Self = Self { began: 0, known: false };

    /// See [`Boots::timestamp`].
    pub const fn timestamp(&self, uptime: Instant) -> Timestamp {
        let uptime = uptime.as_micros();
        // A place-holder must not run into the next boot's, whatever the clock says.
        let uptime = if !self.known && uptime >= SPAN { SPAN - 1 } else { uptime };
        Timestamp::from_unix_micros(self.began.saturating_add(uptime))
    }

    /// Whether these are true times.
    pub const fn is_time_known(&self) -> bool {
        self.known
    }
}

const MAGIC: [u8; 4] = *b"QBT1";

impl Record {
    const EMPTY: Self = Self { boot: 0, crowded: false, began: [0; BOOTS_MAX as usize] };

    fn began(&self) -> Option<u64> {
        self.began.get(usize::from(self.boot)).copied().filter(|&began| began != 0)
    }

    fn set_began(&mut self, began: u64) {
        if let Some(slot) = self.began.get_mut(usize::from(self.boot)) {
            *slot = began;
        }
    }

    fn read(memory: &[u8; Boots::BYTES]) -> Option<Self> {
        let (body, check) = memory.split_last_chunk::<4>()?;
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (&[boot, crowded, ..], words) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || u32::from_le_bytes(*check) != checksum(body) || boot >= BOOTS_MAX {
            return None;
        }
        let mut began = [0; BOOTS_MAX as usize];
        for (slot, word) in began.iter_mut().zip(words.as_chunks::<8>().0) {
            *slot = u64::from_le_bytes(*word);
        }
        Some(Self { boot, crowded: crowded != 0, began })
    }

    fn write(&self, memory: &mut [u8; Boots::BYTES]) {
        let numbers = [self.boot, u8::from(self.crowded), 0, 0];
        let words = self.began.iter().flat_map(|began| began.to_le_bytes());
        let bytes = MAGIC.into_iter().chain(numbers).chain(words);
        for (slot, byte) in memory.iter_mut().zip(bytes) {
            *slot = byte;
        }
        if let Some((body, check)) = memory.split_last_chunk_mut::<4>() {
            *check = checksum(body).to_le_bytes();
        }
    }
}

/// FNV-1a: what a cold start leaves in RAM is not random, but neither is it this.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What stands in a frame instead of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    /// A boot, and its uptime in microseconds.
    Boot(u8, u64),
    /// A reset came while it was being changed.
    Torn,
}

const UUID: core::ops::Range<usize> = crate::stamp::UUID_AT..crate::stamp::UUID_AT + 36;
const TIME: core::ops::Range<usize> = crate::stamp::TIMESTAMP_AT..crate::stamp::TIMESTAMP_AT + Timestamp::TEXT_BYTES;
/// The year of a timestamp that is being changed begins with this.
const TORN: u8 = b'9';

/// The order in which the characters of a timestamp are changed, between the first two and the last one. The day is in the
/// teens (`day_tens`) while month and year change, so that no month is too short for it.
///
/// ```text
///  0123456789…
///  yyyy-mm-ddThh:mm:ss.ffffffZ
/// ```
const CHANGES: [(usize, Change); 22] = {
    use Change::{Final, One, Zero};
    [
        (8, One),
        (1, Final),
        (2, Final),
        (3, Final),
        (6, One),
        (5, Final),
        (6, Final),
        (9, Final),
        (8, Final),
        (11, Zero),
        (12, Final),
        (11, Final),
        (14, Final),
        (15, Final),
        (17, Final),
        (18, Final),
        (20, Final),
        (21, Final),
        (22, Final),
        (23, Final),
        (24, Final),
        (25, Final),
    ]
};

/// What a character becomes.
#[derive(Clone, Copy)]
enum Change {
    Zero,
    One,
    /// What it shall be.
    Final,
}

impl Settled {
    /// Settles one frame, if it holds a place-holder.
    pub(crate) fn settle(&mut self, frame: &mut [u8], boots: &Boots<'_>) {
        // Recovering a ring leaves blanks where there was no whole event.
        let blanks = frame.iter().take_while(|&&byte| byte == b' ').count();
        let frame = frame.get_mut(blanks..).unwrap_or_default();
        let Some(placeholder) = placeholder(frame) else { return };
        let Some((time, is_exact)) = boots.resolve(placeholder) else {
            self.unset += 1;
            return;
        };
        if is_exact {
            self.exact += 1;
        } else {
            self.reset += 1;
        }
        set_uuid_ms(frame, time.as_unix_ms());
        set_mark(frame, if is_exact { MARK_EXACT } else { MARK_RESET });
        if let Some(slots) = frame.get_mut(TIME) {
            set_time(slots, &time.text(), |_| {});
        }
    }
}

/// Changes a timestamp's text one character after the other; `look` sees every state.
fn set_time(slots: &mut [u8], text: &[u8; Timestamp::TEXT_BYTES], mut look: impl FnMut(&[u8])) {
    let mut put = |at: usize, byte: u8| {
        if let Some(slot) = slots.get_mut(at) {
            *slot = byte;
        }
        // The order is for a reset, which stops this processor anywhere; the compiler must not find a better one.
        compiler_fence(Ordering::SeqCst);
        look(slots);
    };
    let is_to_be = |at: usize| text.get(at).copied().unwrap_or(b'0');
    put(0, TORN);
    for (at, change) in CHANGES {
        put(
            at,
            match change {
                Change::Zero => b'0',
                Change::One => b'1',
                Change::Final => is_to_be(at),
            },
        );
    }
    put(0, is_to_be(0));
}

fn placeholder(frame: &[u8]) -> Option<Placeholder> {
    let text = frame.get(TIME)?;
    match text {
        [TORN, ..] => Some(Placeholder::Torn),
        [b'1', ..] => {
            let micros = Timestamp::parse(core::str::from_utf8(text).ok()?)?.as_unix_micros();
            if micros >= PLACEHOLDERS_END {
                return None;
            }
            // Below 13, so it fits.
            Some(Placeholder::Boot((micros / SPAN) as u8, micros % SPAN))
        }
        _ => None,
    }
}

/// Sets the milliseconds of a uuid of version 7 that holds those of a place-holder. Any other is the caller's own.
fn set_uuid_ms(frame: &mut [u8], ms: u64) {
    let Some(text) = frame.get_mut(UUID) else { return };
    let old = text.iter().take(13).filter_map(|&byte| char::from(byte).to_digit(16));
    let old_ms = old.fold(0_u64, |ms, digit| ms << 4 | u64::from(digit));
    if text.get(14) != Some(&b'7') || old_ms >= PLACEHOLDERS_END / 1000 {
        return;
    }
    let digits = (0..12).rev().map(|place| (ms >> (4 * place)) as u8 & 0xf);
    let slots = text.iter_mut().enumerate().filter(|(at, _)| *at != 8).map(|(_, slot)| slot);
    for (slot, digit) in slots.zip(digits) {
        *slot = if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
    }
}

/// Sets the value of [`MARK`] where the event has it. Quotes inside of a text are escaped, so none can look like it.
fn set_mark(frame: &mut [u8], value: &[u8; 5]) {
    let found = frame
        .windows(MARK_OPEN.len() + MARK_UNSET.len())
        .position(|window| window.strip_prefix(MARK_OPEN).is_some_and(|rest| rest == MARK_UNSET));
    if let Some(slots) = found.and_then(|at| frame.get_mut(at + MARK_OPEN.len()..)) {
        for (slot, byte) in slots.iter_mut().zip(value) {
            *slot = *byte;
        }
    }
}

#[cfg(test)]
mod tests;
