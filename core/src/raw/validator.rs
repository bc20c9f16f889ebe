//! Whether a text is JSON that a frame may hold.
//!
//! In: bytes. Out: yes, or the first thing that is wrong and where. One pass, without recursion and without memory of its
//! own: what encloses a value is a bit per level.

use super::{RawJsonErrorKind, is_whitespace};
use crate::limits::DEPTH_MAX;

/// The kinds of the open levels, a bit each.
type Levels = u64;

const _: () = assert!(DEPTH_MAX <= Levels::BITS as usize, "the validator keeps a bit for each open level");

/// What may come next, between two tokens.
#[derive(Clone, Copy)]
enum Expect {
    /// A value.
    Value,
    /// A value, or the end of the array that was just opened.
    ValueOrEnd,
    /// A key.
    Key,
    /// A key, or the end of the object that was just opened.
    KeyOrEnd,
    /// After a value inside an array or object: a comma or the end.
    CommaOrEnd,
    /// After the outermost value: nothing.
    Nothing,
}

/// One pass over a text. Invariant: `depth <= DEPTH_MAX`.
pub(crate) struct Validator<'t> {
    text: &'t [u8],
    /// The next byte to read; after an error, the byte at fault.
    pub(crate) at: usize,
    depth: usize,
    /// The lowest bit is the innermost open level: 1 for an object, 0 for an array.
    levels: Levels,
}

impl<'t> Validator<'t> {
    pub(crate) const fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, depth: 0, levels: 0 }
    }

    /// One value with whitespace around it, and nothing else.
    pub(super) fn whole_text(&mut self) -> Result<(), RawJsonErrorKind> {
        self.value()?;
        self.skip_whitespace();
        if self.peek().is_none() { Ok(()) } else { Err(RawJsonErrorKind::UnexpectedByte) }
    }

    /// One whole value, and nothing behind it.
    pub(crate) fn value(&mut self) -> Result<(), RawJsonErrorKind> {
        let mut expect = Expect::Value;
        while !matches!(expect, Expect::Nothing) {
            self.skip_whitespace();
            let byte = self.peek().ok_or(RawJsonErrorKind::Incomplete)?;
            expect = match (expect, byte) {
                (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(false)?,
                (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(true)?,
                (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => self.close(),
                (Expect::CommaOrEnd, b']') if !self.in_object() => self.close(),
                (Expect::CommaOrEnd, b'}') if self.in_object() => self.close(),
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    if self.in_object() { Expect::Key } else { Expect::Value }
                }
                (Expect::Key | Expect::KeyOrEnd, b'"') => {
                    self.string()?;
                    self.skip_whitespace();
                    self.require(b':')?;
                    Expect::Value
                }
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    self.scalar(byte)?;
                    self.after_value()
                }
                _ => return Err(RawJsonErrorKind::UnexpectedByte),
            };
        }
        Ok(())
    }

    fn open(&mut self, object: bool) -> Result<Expect, RawJsonErrorKind> {
        if self.depth == DEPTH_MAX {
            return Err(RawJsonErrorKind::TooDeep);
        }
        self.at += 1;
        self.depth += 1;
        self.levels = self.levels << 1 | Levels::from(object);
        Ok(if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd })
    }

    /// Only reached with a level open: outside of one, nothing expects its end.
    fn close(&mut self) -> Expect {
        self.at += 1;
        self.depth = self.depth.saturating_sub(1);
        self.levels >>= 1;
        self.after_value()
    }

    fn after_value(&self) -> Expect {
        if self.depth == 0 { Expect::Nothing } else { Expect::CommaOrEnd }
    }

    fn in_object(&self) -> bool {
        self.levels & 1 == 1
    }

    fn scalar(&mut self, first: u8) -> Result<(), RawJsonErrorKind> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(RawJsonErrorKind::UnexpectedByte),
        }
    }

    pub(crate) fn literal(&mut self, literal: &[u8]) -> Result<(), RawJsonErrorKind> {
        literal.iter().try_for_each(|&byte| self.require(byte))
    }

    /// From the opening quote to behind the closing one.
    pub(crate) fn string(&mut self) -> Result<(), RawJsonErrorKind> {
        self.require(b'"')?;
        loop {
            match self.peek().ok_or(RawJsonErrorKind::Incomplete)? {
                b'"' => break,
                b'\\' => self.escape()?,
                0..0x20 => return Err(RawJsonErrorKind::ControlByte),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// One escape sequence; two for a surrogate pair. An error points to its backslash.
    fn escape(&mut self) -> Result<(), RawJsonErrorKind> {
        let start = self.at;
        let outcome = self.escape_from_backslash();
        if outcome.is_err() {
            self.at = start;
        }
        outcome
    }

    fn escape_from_backslash(&mut self) -> Result<(), RawJsonErrorKind> {
        self.at += 1;
        match self.take_in_string()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex_quad()? {
                0xd800..=0xdbff => {
                    let backslash = self.take_in_string()?;
                    if backslash != b'\\' || self.take_in_string()? != b'u' {
                        return Err(RawJsonErrorKind::LoneSurrogate);
                    }
                    match self.hex_quad()? {
                        0xdc00..=0xdfff => Ok(()),
                        _ => Err(RawJsonErrorKind::LoneSurrogate),
                    }
                }
                0xdc00..=0xdfff => Err(RawJsonErrorKind::LoneSurrogate),
                _ => Ok(()),
            },
            _ => Err(RawJsonErrorKind::InvalidEscape),
        }
    }

    fn hex_quad(&mut self) -> Result<u32, RawJsonErrorKind> {
        (0..4).try_fold(0, |value, _| {
            let digit = char::from(self.take_in_string()?).to_digit(16).ok_or(RawJsonErrorKind::InvalidEscape)?;
            Ok(value << 4 | digit)
        })
    }

    fn take_in_string(&mut self) -> Result<u8, RawJsonErrorKind> {
        let byte = self.peek().ok_or(RawJsonErrorKind::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number, which must be finite as an `f64`. An error of size points to its start.
    fn number(&mut self) -> Result<(), RawJsonErrorKind> {
        let start = self.at;
        let mut magnitude = Magnitude::default();
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits(|digit| magnitude.integer_digit(digit))?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits(|digit| magnitude.fraction_digit(digit))?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let sign = self.peek().filter(|byte| matches!(byte, b'+' | b'-'));
            self.at += usize::from(sign.is_some());
            let mut exponent = 0_i64;
            self.digits(|digit| exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit)))?;
            magnitude.scale(if sign == Some(b'-') { -exponent } else { exponent });
        }
        if magnitude.is_finite() {
            Ok(())
        } else {
            self.at = start;
            Err(RawJsonErrorKind::NumberTooLarge)
        }
    }

    /// One or more decimal digits.
    fn digits(&mut self, mut each: impl FnMut(u8)) -> Result<(), RawJsonErrorKind> {
        let start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            each(byte & 0x0f);
            self.at += 1;
        }
        if self.at == start { self.unexpected() } else { Ok(()) }
    }

    pub(crate) fn require(&mut self, byte: u8) -> Result<(), RawJsonErrorKind> {
        if self.peek() != Some(byte) {
            return self.unexpected();
        }
        self.at += 1;
        Ok(())
    }

    fn unexpected(&self) -> Result<(), RawJsonErrorKind> {
        Err(if self.peek().is_none() { RawJsonErrorKind::Incomplete } else { RawJsonErrorKind::UnexpectedByte })
    }

    fn skip_whitespace(&mut self) {
        while self.peek().is_some_and(is_whitespace) {
            self.at += 1;
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// The size of a decimal number, as far as it takes to tell whether an `f64` can hold it.
///
/// Not left to `str::parse::<f64>`, which is exact to the last bit and would bring 10 KiB of powers of five into a
/// microcontroller's flash.
#[derive(Default)]
struct Magnitude {
    /// The first 20 significant digits as a number; saturates, which only values beyond the limit can reach.
    digits: u64,
    /// How many digits are in `digits`.
    digit_count: u32,
    /// Where the decimal point lies, counted in digits from the first significant one.
    point: i64,
}

impl Magnitude {
    const DIGITS_MAX: u32 = 20;

    /// The largest `f64` is 1.797…e308, so its point lies behind 309 digits.
    const POINT_MAX: i64 = 309;

    /// From 1.797693134862315807937…e308 on, a number is rounded up to infinity. Only twenty digits are compared, so
    /// the sliver between these twenty and that exact point counts as too large; nobody writes such numbers.
    const DIGITS_END: u64 = 17_976_931_348_623_158_079;

    fn integer_digit(&mut self, digit: u8) {
        // The first digit of an integer of several is not 0, so every one moves the point.
        self.point = self.point.saturating_add(1);
        self.significant_digit(digit);
    }

    fn fraction_digit(&mut self, digit: u8) {
        if self.digit_count == 0 && digit == 0 {
            self.point = self.point.saturating_sub(1);
        } else {
            self.significant_digit(digit);
        }
    }

    fn significant_digit(&mut self, digit: u8) {
        if self.digit_count < Self::DIGITS_MAX {
            self.digits = self.digits.saturating_mul(10).saturating_add(u64::from(digit));
            self.digit_count += 1;
        }
    }

    fn scale(&mut self, exponent: i64) {
        self.point = self.point.saturating_add(exponent);
    }

    fn is_finite(&self) -> bool {
        if self.digits == 0 || self.point < Self::POINT_MAX {
            return true;
        }
        let missing = Self::DIGITS_MAX - self.digit_count;
        let digits = 10_u64.checked_pow(missing).and_then(|power| self.digits.checked_mul(power));
        self.point == Self::POINT_MAX && digits.is_some_and(|digits| digits < Self::DIGITS_END)
    }
}
