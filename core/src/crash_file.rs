//! Everything that is pending, on its way out of a program that is going down: the format of a crash file.
//!
//! ```text
//!  {"quillet_crash":1,"bytes":         412,"owner":"…","person":"","common":{"$lib":"quillet", … }}  head, made in advance
//!  {"quillet_pages":"02000000…"}                                          what a signal handler wrote, if anything
//!  {"uuid":"…","timestamp":"…", … },                                      the frames of every ring, as they are
//! ```
//!
//! In: the head, the pages, stretches of frames. Out: chunks, in order, to any sink: a `writev`, a flash driver, a serial
//! line. Writing neither allocates nor formats; all that changes at the last moment is a number in the head. In the next
//! life: [`CrashFile::parse`], which believes nothing, and hands out frames that were parsed one by one.

use crate::common::Common;
use crate::frame::is_frame;
use crate::limits::{DISTINCT_ID_CHARS_MAX, EVENT_BYTES_MAX, FRAME_END_BYTES};
use crate::raw::RawJson;
use crate::wire::escape;

/// What a crash file of any version begins with.
const ANY_VERSION: &[u8] = b"{\"quillet_crash\":";
const VERSION: &[u8] = b"1";
const BEFORE_BYTES: &[u8] = b"{\"quillet_crash\":1,\"bytes\":";
const BEFORE_OWNER: &[u8] = b",\"owner\":\"";
const BEFORE_PERSON: &[u8] = b"\",\"person\":\"";
const BEFORE_COMMON: &[u8] = b"\",\"common\":{";
const HEAD_END: &[u8] = b"}}\n";
const BEFORE_PAGES: &[u8] = b"{\"quillet_pages\":\"";
const PAGES_END: &[u8] = b"\"}\n";

/// Digits of the number of bytes, padded with blanks, which JSON does not mind.
const DIGITS: usize = 12;

/// Hexadecimal digits of the owner.
const OWNER_DIGITS: usize = 32;

/// The first line of a crash file, ready before anything has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashHead {
    len: usize,
}

impl CrashHead {
    /// Bytes that are enough for a head.
    pub fn bytes_for(person: &str, common: &Common<'_>) -> usize {
        BEFORE_BYTES.len()
            + DIGITS
            + BEFORE_OWNER.len()
            + OWNER_DIGITS
            + BEFORE_PERSON.len()
            + person.len()
            + BEFORE_COMMON.len()
            + common.members().len()
            + HEAD_END.len()
    }

    /// Renders the head into `out`; `None` if it does not fit. `owner` says whose file it is: nobody else may deliver it. A
    /// `person` whose id would need escapes counts as none.
    pub fn render(out: &mut [u8], owner: u128, person: &str, common: &Common<'_>) -> Option<Self> {
        let needs_escapes = escape::next_run(person.as_bytes()).1.is_some();
        let person = if needs_escapes { "" } else { person };
        let mut len = 0;
        let blanks: &[u8] = &[b' '; DIGITS];
        let owner: [u8; OWNER_DIGITS] = core::array::from_fn(|at| hex_digit((owner >> (124 - 4 * at)) as u8));
        for part in [
            BEFORE_BYTES,
            blanks,
            BEFORE_OWNER,
            &owner,
            BEFORE_PERSON,
            person.as_bytes(),
            BEFORE_COMMON,
            common.members().as_bytes(),
            HEAD_END,
        ] {
            out.get_mut(len..)?.get_mut(..part.len())?.copy_from_slice(part);
            len += part.len();
        }
        let head = Self { len };
        head.set_total(out, len);
        Some(head)
    }

    /// Its length, in bytes.
    #[allow(clippy::len_without_is_empty, reason = "no head is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says in a rendered head how long the whole file is. Stores digits, and nothing else.
    pub fn set_total(&self, head: &mut [u8], bytes: usize) {
        let Some(digits) = head.get_mut(BEFORE_BYTES.len()..BEFORE_BYTES.len() + DIGITS) else { return };
        let mut rest = bytes;
        for (at, digit) in digits.iter_mut().rev().enumerate() {
            *digit = if rest > 0 || at == 0 { b'0' + (rest % 10) as u8 } else { b' ' };
            rest /= 10;
        }
    }
}

/// Bytes of the line that holds so many bytes of a signal handler's pages.
pub const fn crash_pages_bytes(pages: usize) -> usize {
    BEFORE_PAGES.len() + 2 * pages + PAGES_END.len()
}

/// Writes that line; returns it, or nothing if it does not fit. Async-signal-safe.
pub fn write_crash_pages<'a>(out: &'a mut [u8], pages: &[u8]) -> &'a [u8] {
    let Some(out) = out.get_mut(..crash_pages_bytes(pages.len())) else { return &[] };
    let digits = pages.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(*byte)]);
    let text = BEFORE_PAGES.iter().copied().chain(digits).chain(PAGES_END.iter().copied());
    for (to, from) in out.iter_mut().zip(text) {
        *to = from;
    }
    out
}

/// What the beginning of a file says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashKind {
    /// A crash file of this version, of this owner. The rest of it may be damaged all the same.
    Owned(u128),
    /// A crash file of another version: whoever wrote it may come for it.
    Foreign,
    /// No crash file, or one that was cut off before it says whose it is.
    Damaged,
}

/// A crash file somebody left.
#[derive(Clone, Copy, Debug)]
pub struct CrashFile<'a> {
    owner: u128,
    person: &'a str,
    common: &'a str,
    rest: &'a [u8],
}

impl<'a> CrashFile<'a> {
    /// Bytes at the beginning of a file that are enough for [`peek`](Self::peek).
    pub const PEEK_BYTES: usize = BEFORE_BYTES.len() + DIGITS + BEFORE_OWNER.len() + OWNER_DIGITS;

    /// Says whose a file is, from its first [`PEEK_BYTES`](Self::PEEK_BYTES) bytes.
    pub fn peek(bytes: &[u8]) -> CrashKind {
        let owner = |bytes: &[u8]| {
            let (_, rest) = bytes.strip_prefix(BEFORE_BYTES)?.split_at_checked(DIGITS)?;
            let owner = rest.strip_prefix(BEFORE_OWNER)?.get(..OWNER_DIGITS)?;
            u128::from_str_radix(core::str::from_utf8(owner).ok()?, 16).ok()
        };
        let is_foreign = || {
            let version = bytes.strip_prefix(ANY_VERSION)?;
            let digits = version.iter().position(|byte| !byte.is_ascii_digit())?;
            Some(digits > 0 && version.get(..digits) != Some(VERSION))
        };
        match owner(bytes) {
            Some(owner) => CrashKind::Owned(owner),
            None if is_foreign() == Some(true) => CrashKind::Foreign,
            None => CrashKind::Damaged,
        }
    }

    /// Reads the head. `None` if these bytes are no crash file of this version.
    ///
    /// A file that is shorter than its head says was cut while it was written: what is there is taken. What lies behind the
    /// length belongs to an earlier, longer one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head = core::str::from_utf8(bytes.get(..end)?).ok()?;
        RawJson::parse(head).ok()?;
        let rest = head.as_bytes().strip_prefix(BEFORE_BYTES)?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let total: usize = core::str::from_utf8(digits).ok()?.trim_start().parse().ok()?;
        let (owner, rest) = rest.strip_prefix(BEFORE_OWNER)?.split_at_checked(OWNER_DIGITS)?;
        let owner = u128::from_str_radix(core::str::from_utf8(owner).ok()?, 16).ok()?;
        let rest = core::str::from_utf8(rest.strip_prefix(BEFORE_PERSON)?).ok()?;
        let person = rest.split('"').next()?;
        let common = rest.get(person.len()..)?.strip_prefix(core::str::from_utf8(BEFORE_COMMON).ok()?)?;
        let common = common.strip_suffix("}}")?;
        let whole = bytes.get(..total).unwrap_or(bytes);
        let is_usable = person.chars().nth(DISTINCT_ID_CHARS_MAX).is_none() && !person.contains('\\');
        Some(Self { owner, person: if is_usable { person } else { "" }, common, rest: whole.get(end + 1..)? })
    }

    /// Whose file it is.
    pub fn owner(&self) -> u128 {
        self.owner
    }

    /// The person of the program's crash events; empty for none.
    pub fn person(&self) -> &'a str {
        self.person
    }

    /// What every event of the program said, as [`Common::adopt`] takes it.
    pub fn common(&self) -> &'a str {
        self.common
    }

    /// Writes a signal handler's pages, if there are any, into `out`; returns how many bytes.
    pub fn pages(&self, out: &mut [u8]) -> usize {
        let digits = self.rest.strip_prefix(BEFORE_PAGES).unwrap_or_default();
        let value = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
        let mut len = 0;
        for (to, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair.first(), pair.last()].map(|digit| digit.and_then(|digit| value(*digit)));
            let (Some(high), Some(low)) = (high, low) else { break };
            *to = high << 4 | low;
            len += 1;
        }
        len
    }

    /// The frames, each an event's JSON without the comma and newline behind it. What is no event is left out.
    pub fn frames(&self) -> impl Iterator<Item = &'a str> {
        self.rest.split_inclusive(|byte| *byte == b'\n').filter_map(frame)
    }

    /// Lines that should be frames and are none.
    pub fn damaged(&self) -> usize {
        let lines = self.rest.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(BEFORE_PAGES));
        lines.filter(|line| frame(line).is_none()).count()
    }
}

/// The event in a line, if it is one.
fn frame(line: &[u8]) -> Option<&str> {
    let is_one = is_frame(line) && line.len() <= EVENT_BYTES_MAX + FRAME_END_BYTES;
    core::str::from_utf8(line.strip_suffix(b",\n")?).ok().filter(|_| is_one)
}

fn hex_digit(nibble: u8) -> u8 {
    let nibble = nibble & 0x0f;
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::{Event, Property, Stamper, Timestamp};
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn frames(count: u64) -> Vec<u8> {
        let mut stamper = Stamper::new([1, 2]);
        let mut bytes = Vec::new();
        for n in 0..count {
            let mut out = [0; 512];
            let now = Timestamp::from_unix_ms(1_795_000_000_000 + n);
            let event = Event::new("before the end", "somebody");
            let len = event.encode(&mut stamper, &Common::default(), now, &mut out).unwrap().len;
            bytes.extend_from_slice(&out[..len]);
            bytes.extend_from_slice(b",\n");
        }
        bytes
    }

    /// A file with so many frames and these pages.
    fn file(person: &str, pages: &[u8], count: u64) -> Vec<u8> {
        let mut memory = [0; 256];
        let common = Common::render(&mut memory, &[Property::new("release", "1.2.3")]).unwrap();
        let mut file = std::vec![0; CrashHead::bytes_for(person, &common)];
        let head = CrashHead::render(&mut file, 0xa1_0007, person, &common).unwrap();
        file.truncate(head.len());
        let mut line = std::vec![0; crash_pages_bytes(pages.len())];
        if !pages.is_empty() {
            file.extend_from_slice(write_crash_pages(&mut line, pages));
        }
        file.extend(frames(count));
        let total = file.len();
        head.set_total(&mut file, total);
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let mut bytes = file("somebody-é", &[1, 2, 0xff], 3);
        bytes.extend_from_slice(b"{\"of\":\"an earlier, longer file\"},\n");
        let found = CrashFile::parse(&bytes).unwrap();
        assert_eq!((found.owner(), found.person()), (0xa1_0007, "somebody-é"));
        assert!(Common::adopt(&mut [0; 256], found.common()).is_some());
        let mut pages = [0; 16];
        let len = found.pages(&mut pages);
        assert_eq!(pages[..len], [1, 2, 0xff]);
        let expected = frames(3);
        let read: String = found.frames().map(|frame| frame.to_string() + ",\n").collect();
        assert_eq!((read.as_bytes(), found.damaged()), (&expected[..], 0));
    }

    #[test]
    fn the_first_bytes_say_whose_a_file_is() {
        let bytes = file("somebody", &[], 1);
        assert_eq!(CrashFile::peek(&bytes[..CrashFile::PEEK_BYTES]), CrashKind::Owned(0xa1_0007));
        assert_eq!(CrashFile::peek(&bytes), CrashKind::Owned(0xa1_0007));
        for end in 0..CrashFile::PEEK_BYTES {
            assert_eq!(CrashFile::peek(&bytes[..end]), CrashKind::Damaged, "{end}");
        }
        assert!(bytes.starts_with(&[ANY_VERSION, VERSION, b","].concat()));
        assert_eq!(CrashFile::peek(b"{\"quillet_crash\":2,\"of\":\"the future\"}\n"), CrashKind::Foreign);
        assert_eq!(CrashFile::peek(&[0xff; 200]), CrashKind::Damaged);
    }

    #[test]
    fn a_file_that_was_cut_gives_what_is_whole() {
        let bytes = file("", &[7; 32], 5);
        for end in 0..bytes.len() {
            if let Some(found) = CrashFile::parse(&bytes[..end]) {
                assert!(found.frames().count() <= 5);
                assert!(found.damaged() <= 1);
            }
        }
        assert_eq!(CrashFile::parse(&bytes[..bytes.len() - 1]).unwrap().frames().count(), 4);
    }

    #[test]
    fn a_damaged_line_costs_itself_alone() {
        let good = file("", &[], 3);
        let found = CrashFile::parse(&good).unwrap();
        let second = good.len() - found.rest.len() + found.rest.len() / 3;
        for byte in [b'\n', b'"', 0, 0xff] {
            let mut bad = good.clone();
            bad[second + 20] = byte;
            let found = CrashFile::parse(&bad).unwrap();
            assert_eq!(found.frames().count(), 2, "{byte}");
            assert!(found.damaged() > 0);
        }
    }

    #[test]
    fn whatever_the_head_says_nothing_is_read_beyond_the_file() {
        let good = file("p", &[1; 8], 2);
        for at in 0..good.len().min(200) {
            for byte in [0, b' ', b'9', b'"', b'\\', b'\n', 0xc3] {
                let mut bad = good.clone();
                bad[at] = byte;
                if let Some(found) = CrashFile::parse(&bad) {
                    let _ = (found.frames().count(), found.pages(&mut [0; 64]), found.damaged());
                    let _ = Common::adopt(&mut [0; 512], found.common());
                }
            }
        }
        let mut bad = good.clone();
        bad[BEFORE_BYTES.len()..BEFORE_BYTES.len() + DIGITS].copy_from_slice(b"999999999999");
        assert_eq!(CrashFile::parse(&bad).unwrap().frames().count(), 2);
    }

    #[test]
    fn a_person_in_need_of_escapes_counts_as_none() {
        let bytes = file("a\"b", &[], 0);
        assert_eq!(CrashFile::parse(&bytes).unwrap().person(), "");
    }
}
