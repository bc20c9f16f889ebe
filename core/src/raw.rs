//! JSON that the caller already has as text: checked here once, so that `wire::event` may copy it into a frame.
//!
//! One bad value would make the server refuse the whole batch, and a raw newline would tear a frame in two; so a
//! [`RawJson`] is proof that neither can happen. Checking is one pass, without recursion and without memory of its own:
//! what encloses a value is a bit per level.

use core::fmt;

use crate::limits::DEPTH_MAX;

/// The kinds of the open levels, a bit each.
type Levels = u64;

const _: () = assert!(DEPTH_MAX <= Levels::BITS as usize, "the validator keeps a bit for each open level");

/// One complete JSON value (RFC 8259) as borrowed text, checked for all that a frame requires.
///
/// Beyond the grammar: at most [`DEPTH_MAX`] levels, every number within the range of an `f64`, and no escape that is
/// half a surrogate pair. Whitespace may be in it; writing it into a frame leaves that out. What the check does *not*
/// cover: an object's duplicate keys (the last one wins), and integers beyond 2⁵³, which lose digits on the server.
///
/// ```
/// # use quillet_core::RawJson;
/// let plan = RawJson::parse(r#"{ "name": "pro", "seats": [1, 2] }"#)?;
/// assert_eq!(plan.depth(), 2);
/// assert!(RawJson::parse("{'name': 1}").is_err());
/// # Ok::<(), quillet_core::RawJsonError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawJson<'a> {
    // The text and nothing else: every word here would be one more in each `Value`, whatever it holds.
    text: &'a str,
}

impl<'a> RawJson<'a> {
    /// Checks that `text` is one JSON value and nothing else but whitespace. Linear in its length.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where.
    pub fn parse(text: &'a str) -> Result<Self, RawJsonError> {
        let mut validator = Validator::new(text.as_bytes());
        match validator.run() {
            Ok(()) => Ok(Self { text }),
            Err(kind) => Err(RawJsonError { kind, offset: validator.at }),
        }
    }

    /// The text as it was given, whitespace included.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// How many arrays and objects lie within each other at the deepest point; 0 for a value that is neither. Found by
    /// reading the text once more.
    pub fn depth(&self) -> usize {
        // It was checked, so brackets outside of strings are all there is to know.
        let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
        for byte in self.text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_string,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = depth.max(deepest);
        }
        deepest
    }

    /// Bytes that [`write_minified`](Self::write_minified) emits in all. Found by reading the text once more.
    pub fn minified_len(&self) -> usize {
        self.text.len().saturating_sub(self.read_again().whitespace)
    }

    /// Emits the value without whitespace between its tokens, in as few runs as that takes.
    ///
    /// No control byte is ever emitted: in strings they only occur escaped, and elsewhere they are whitespace.
    pub fn write_minified(&self, sink: &mut impl FnMut(&[u8])) {
        let mut rest = self.text.as_bytes();
        while let Some(skipped) = rest.iter().position(|&byte| !is_whitespace(byte)) {
            let (_, tokens) = rest.split_at_checked(skipped).unwrap_or_default();
            let (run, after) = tokens.split_at_checked(tokens_len(tokens)).unwrap_or_default();
            sink(run);
            rest = after;
        }
    }

    fn read_again(&self) -> Validator<'a> {
        let mut validator = Validator::new(self.text.as_bytes());
        let _ = validator.run();
        validator
    }
}

/// Why a text is no [`RawJson`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct RawJsonError {
    /// What is wrong.
    pub kind: RawJsonErrorKind,
    /// Where, in bytes from the start of the text.
    pub offset: usize,
}

impl fmt::Display for RawJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind.as_str(), self.offset)
    }
}

impl core::error::Error for RawJsonError {}

/// What is wrong with a text that is no [`RawJson`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RawJsonErrorKind {
    /// The text ends inside a value, or holds none.
    Incomplete,
    /// This byte cannot stand here; also what follows a complete value.
    UnexpectedByte,
    /// A control byte inside a string; JSON wants it escaped.
    ControlByte,
    /// After a backslash, something JSON does not know.
    InvalidEscape,
    /// A `\u` escape that is half a surrogate pair, which is no character.
    LoneSurrogate,
    /// More than [`DEPTH_MAX`] arrays and objects within each other.
    TooDeep,
    /// A number that would be infinite as an `f64`. Send it as a string.
    NumberTooLarge,
}

impl RawJsonErrorKind {
    /// A short description, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "JSON ends before its value does",
            Self::UnexpectedByte => "unexpected byte in JSON",
            Self::ControlByte => "raw control byte in a JSON string",
            Self::InvalidEscape => "invalid escape in a JSON string",
            Self::LoneSurrogate => "half a surrogate pair in a JSON string",
            Self::TooDeep => "JSON nested too deeply",
            Self::NumberTooLarge => "number beyond the range of a 64-bit float in JSON",
        }
    }
}

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

/// One pass over a text. Invariant: `depth <= depth_seen <= DEPTH_MAX`.
pub(crate) struct Validator<'t> {
    text: &'t [u8],
    /// The next byte to read; after an error, the byte at fault.
    pub(crate) at: usize,
    /// Whitespace bytes between tokens so far.
    whitespace: usize,
    depth: usize,
    depth_seen: usize,
    /// The lowest bit is the innermost open level: 1 for an object, 0 for an array.
    levels: Levels,
}

impl<'t> Validator<'t> {
    pub(crate) const fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, whitespace: 0, depth: 0, depth_seen: 0, levels: 0 }
    }

    fn run(&mut self) -> Result<(), RawJsonErrorKind> {
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
        self.depth_seen = self.depth_seen.max(self.depth);
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
            self.whitespace += 1;
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

const fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Length of the part of checked JSON before the next whitespace outside a string. Begins outside a string.
fn tokens_len(tokens: &[u8]) -> usize {
    let mut in_string = false;
    let mut escaped = false;
    let end = tokens.iter().position(|&byte| {
        let done = !in_string && is_whitespace(byte);
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        done
    });
    end.unwrap_or(tokens.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;

    fn minified(text: &str) -> String {
        let raw = RawJson::parse(text).unwrap();
        let mut written = Vec::new();
        raw.write_minified(&mut |run| written.extend_from_slice(run));
        assert_eq!(written.len(), raw.minified_len(), "{text}");
        assert!(written.iter().all(|&byte| byte >= 0x20), "{text}");
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn every_kind_of_value_is_accepted() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-12",
            "0.5",
            "-0.0",
            "1e5",
            "1E+5",
            "1.5e-05",
            "\"\"",
            "[]",
            "{}",
            "[1]",
            "[1,[2,[3]],{}]",
            "{\"a\":{\"b\":[]},\"\":null}",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "\"\\u0000\\uD83D\\ude00\\uffff\"",
            "\"\u{7f}\u{2028}é😀\"",
            "{\"a\":1,\"a\":2}",
            "1e-999",
            "0e999999999999999999999",
            "123456789012345678901234567890",
        ] {
            let raw = RawJson::parse(text).unwrap();
            assert_eq!((raw.as_str(), raw.minified_len()), (text, text.len()));
            assert_eq!(minified(text), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        use RawJsonErrorKind::*;
        for (text, kind, offset) in [
            ("", Incomplete, 0),
            ("  ", Incomplete, 2),
            ("[1", Incomplete, 2),
            ("[1,", Incomplete, 3),
            ("{\"a\"", Incomplete, 4),
            ("{\"a\":", Incomplete, 5),
            ("\"a", Incomplete, 2),
            ("\"a\\", Incomplete, 2),
            ("\"\\u12", Incomplete, 1),
            ("tru", Incomplete, 3),
            ("-", Incomplete, 1),
            ("1.", Incomplete, 2),
            ("1e", Incomplete, 2),
            ("1e+", Incomplete, 3),
            ("\u{feff}1", UnexpectedByte, 0),
            ("trve", UnexpectedByte, 2),
            ("nulll", UnexpectedByte, 4),
            ("1 2", UnexpectedByte, 2),
            ("01", UnexpectedByte, 1),
            ("+1", UnexpectedByte, 0),
            (".5", UnexpectedByte, 0),
            ("1.e5", UnexpectedByte, 2),
            ("0x10", UnexpectedByte, 1),
            ("--1", UnexpectedByte, 1),
            ("NaN", UnexpectedByte, 0),
            ("-Infinity", UnexpectedByte, 1),
            ("[1,]", UnexpectedByte, 3),
            ("[,1]", UnexpectedByte, 1),
            ("[1 2]", UnexpectedByte, 3),
            ("[1}", UnexpectedByte, 2),
            ("{]", UnexpectedByte, 1),
            ("]", UnexpectedByte, 0),
            ("{\"a\"1}", UnexpectedByte, 4),
            ("{\"a\":}", UnexpectedByte, 5),
            ("{\"a\":1,}", UnexpectedByte, 7),
            ("{a:1}", UnexpectedByte, 1),
            ("{1:1}", UnexpectedByte, 1),
            ("'a'", UnexpectedByte, 0),
            ("\u{a0}1", UnexpectedByte, 0),
            ("\"a\nb\"", ControlByte, 2),
            ("\"\u{0}\"", ControlByte, 1),
            ("\"\u{1f}\"", ControlByte, 1),
            ("\"\\x41\"", InvalidEscape, 1),
            ("\"\\u12g4\"", InvalidEscape, 1),
            ("\"\\u+123\"", InvalidEscape, 1),
            ("\"\\U0041\"", InvalidEscape, 1),
            ("\"\\ud83d\"", LoneSurrogate, 1),
            ("\"\\ud83dx\"", LoneSurrogate, 1),
            ("\"\\ud83d\\n\"", LoneSurrogate, 1),
            ("\"\\ude00\"", LoneSurrogate, 1),
            ("\"\\ud83d\\ud83d\\ude00\"", LoneSurrogate, 1),
            ("[1e309]", NumberTooLarge, 1),
            ("-1e999999999999999999999999", NumberTooLarge, 0),
            ("/* */1", UnexpectedByte, 0),
        ] {
            assert_eq!(RawJson::parse(text), Err(RawJsonError { kind, offset }), "{text:?}");
        }
        let error = RawJson::parse("[1,]").unwrap_err();
        assert_eq!(error.to_string(), "unexpected byte in JSON at byte 3");
    }

    #[test]
    fn depth_counts_levels_up_to_the_limit() {
        for (text, depth) in [("1", 0), ("[]", 1), ("[[],[[1]],[]]", 3), ("{\"a\":[{}]}", 3)] {
            assert_eq!(RawJson::parse(text).unwrap().depth(), depth);
        }
        let mixed = |levels: usize| -> String {
            let half = levels / 2;
            "[{\"a\":".repeat(half)
                + &"[]".repeat(levels % 2)
                + if levels.is_multiple_of(2) { "0" } else { "" }
                + &"}]".repeat(half)
        };
        for levels in [DEPTH_MAX - 1, DEPTH_MAX] {
            assert_eq!(RawJson::parse(&mixed(levels)).unwrap().depth(), levels);
        }
        assert_eq!(RawJson::parse(&mixed(DEPTH_MAX + 1)).unwrap_err().kind, RawJsonErrorKind::TooDeep);
        assert_eq!(RawJson::parse(&"[".repeat(1_000_000)).unwrap_err().offset, DEPTH_MAX);
    }

    #[test]
    fn minifying_keeps_what_strings_contain() {
        for (text, expected) in [
            (" [ 1 ,\t2 ,\r\n3 ] ", "[1,2,3]"),
            ("{ \"a b\" : \" c \\\" d \" }", "{\"a b\":\" c \\\" d \"}"),
            ("[ \"\\\\\" , \" \" ]", "[\"\\\\\",\" \"]"),
            ("  null\n", "null"),
            ("[\n\n]", "[]"),
        ] {
            assert_eq!(minified(text), expected);
        }
    }

    /// Numbers around the largest `f64`, in many spellings.
    #[test]
    fn a_number_is_refused_from_where_it_would_be_infinite() {
        let digits = [
            "1.7976931348623157",
            "1.7976931348623158",
            "1.7976931348623158078",
            "1.7976931348623158080",
            "1.7976931348623159",
        ];
        for digits in
            digits.into_iter().chain(["1", "9.99999999999999999999999999", "1.8", "17", "0.1", "0.017976931348623157"])
        {
            let plain = digits.replace('.', "");
            let plain = plain.trim_start_matches('0');
            for exponent in 285..=320 {
                for text in [
                    format!("{digits}e{exponent}"),
                    format!("-{digits}E+{exponent}"),
                    format!("{plain}e{exponent}"),
                    format!("{plain}{}", "0".repeat(exponent)),
                    format!("{plain}{}.0", "0".repeat(exponent)),
                    format!("0.{}{plain}e{}", "0".repeat(400), exponent + 400),
                    format!("{plain}{}e-{}", "0".repeat(400), 400 - exponent),
                    format!("{plain}{}.{}e-5", "0".repeat(exponent), "9".repeat(50)),
                ] {
                    let finite = text.parse::<f64>().unwrap().is_finite();
                    assert_eq!(RawJson::parse(&text).is_ok(), finite, "{text}");
                }
            }
        }
    }

    /// Accepts and refuses as serde_json does, except that its depth limit is 127 levels.
    fn agrees_with_serde_json(text: &str) -> Result<(), TestCaseError> {
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        match RawJson::parse(text) {
            Ok(raw) => {
                let value = theirs.map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
                let minified = minified(text);
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&minified).unwrap(), value);
                let again = RawJson::parse(&minified).unwrap();
                prop_assert_eq!((again.depth(), again.minified_len()), (raw.depth(), minified.len()));
            }
            Err(error) => {
                prop_assert!(error.offset <= text.len());
                prop_assert!(theirs.is_err() || error.kind == RawJsonErrorKind::TooDeep, "{:?}: {}", text, error);
            }
        }
        Ok(())
    }

    /// What JSON is made of, and what it is often damaged with.
    const PIECES: [&str; 44] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\n",
        "\"a\"",
        "\"b\":",
        "{\"k\":",
        "[[",
        "]]",
        "null",
        "true",
        "false",
        "nul",
        "0",
        "-",
        "1",
        "12",
        "00",
        ".",
        ".5",
        "1.5",
        "e",
        "E+",
        "e-3",
        "e308",
        "e309",
        "1e400",
        "\\u0041",
        "\\ud800",
        "\\ude00",
        "\"\\ud83d\\ude00\"",
        "\\n",
        "\\x",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "é",
        "😀",
    ];

    fn value() -> impl Strategy<Value = String> {
        let space = prop::sample::select(vec!["", "", " ", "\n", "\t ", "\r\n"]);
        let scalar = prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "17",
            "-1.25",
            "1e3",
            "2E-7",
            "1e308",
            "\"\"",
            "\" a \"",
            "\"\\\\\"",
            "\"\\\" \"",
            "\"\\u00e9\\ud83d\\ude00\"",
            "\"é\"",
        ]);
        scalar.prop_map(String::from).prop_recursive(8, 64, 5, move |inner| {
            let spaced = (space.clone(), inner, space.clone()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
            let key = (space.clone(), space.clone()).prop_map(|(a, b)| format!("{a}\"k y\"{b}:"));
            prop_oneof![
                prop::collection::vec(spaced.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec((key, spaced).prop_map(|(key, value)| key + &value), 0..5)
                    .prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn pieces_of_json_are_judged_as_serde_json_judges(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12),
        ) {
            agrees_with_serde_json(&pieces.concat())?;
        }

        #[test]
        fn random_text_is_judged_as_serde_json_judges(text in "[\\[\\]{}:,\"\\\\u0-9eE.+\\- tfnrd\u{0}-\u{20}]{0,16}") {
            agrees_with_serde_json(&text)?;
        }

        #[test]
        fn valid_json_is_accepted(text in value()) {
            prop_assert!(RawJson::parse(&text).is_ok(), "{}", text);
            agrees_with_serde_json(&text)?;
        }

        #[test]
        fn damaged_json_is_judged_as_serde_json_judges(
            text in value(),
            at: prop::sample::Index,
            piece in prop::sample::select(&PIECES[..]),
            cut in 0..3_usize,
        ) {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len() + 1);
            chars.splice(at..(at + cut).min(chars.len()), piece.chars());
            agrees_with_serde_json(&chars.into_iter().collect::<String>())?;
        }
    }
}
