//! JSON that the caller already has as text: checked here once, so that `wire::event` may copy it into a frame.
//!
//! One bad value would make the server refuse the whole batch, and a raw newline would tear a frame in two; so a
//! [`RawJson`] is proof that neither can happen. What the grammar allows and PostHog is known to damage, an escape of a
//! character that needs none, is put right on the way into the frame.

mod validator;

use core::fmt;

pub(crate) use validator::Validator;

/// One complete JSON value (RFC 8259) as borrowed text, checked for all that a frame requires.
///
/// Beyond the grammar: at most [`DEPTH_MAX`](crate::limits::DEPTH_MAX) levels, every number within the range of an `f64`,
/// and no escape that is half a surrogate pair. Whitespace may be in it, and escapes of characters that need none (`\u00e9`,
/// `\/`); written into a frame it has neither. What the check does *not* cover: an object's duplicate keys (the last one
/// wins), and integers beyond 2⁵³, which lose digits on the server.
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
        match validator.whole_text() {
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

    /// Bytes that [`write_minified`](Self::write_minified) emits in all, never more than the text has. Found by reading the
    /// text once more.
    pub fn minified_len(&self) -> usize {
        let mut len = 0_usize;
        self.write_minified(&mut |run| len = len.saturating_add(run.len()));
        len
    }

    /// Emits the value without whitespace between its tokens, and with no escape of a character that needs none, in as few
    /// runs as that takes.
    ///
    /// Such an escape means the same, but a clean-up pass of some servers takes it for damage and replaces the character: of
    /// those with digits only control characters keep theirs. No control byte is ever emitted: in strings they only occur
    /// escaped, and elsewhere they are whitespace.
    pub fn write_minified(&self, sink: &mut impl FnMut(&[u8])) {
        let (mut rest, mut in_string) = (self.text.as_bytes(), false);
        while !rest.is_empty() {
            let piece = next_piece(rest, &mut in_string);
            let (run, after) = rest.split_at_checked(piece.run).unwrap_or_default();
            for bytes in [run, piece.instead.get(..piece.instead_len).unwrap_or_default()] {
                if !bytes.is_empty() {
                    sink(bytes);
                }
            }
            rest = after.get(piece.skipped..).unwrap_or_default();
        }
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
    /// More than [`DEPTH_MAX`](crate::limits::DEPTH_MAX) arrays and objects within each other.
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

const fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// A stretch of checked JSON that may be written as it is, and what stands behind it.
struct Piece {
    run: usize,
    /// Bytes behind the run that are not written: whitespace between tokens, or an escape.
    skipped: usize,
    /// What is written in place of the escape, and how long it is.
    instead: [u8; 4],
    instead_len: usize,
}

/// The first piece of what is left of a text, `in_string` saying where that begins.
#[inline(never)]
fn next_piece(rest: &[u8], in_string: &mut bool) -> Piece {
    let mut piece = Piece { run: 0, skipped: 0, instead: [0; 4], instead_len: 0 };
    while let Some(&byte) = rest.get(piece.run) {
        if byte == b'\\' {
            let (len, character) = read_escape(rest.get(piece.run..).unwrap_or_default());
            if let Some(character) = character {
                (piece.instead, piece.instead_len) = without_need(character);
                piece.skipped = len;
                break;
            }
            piece.run += len;
            continue;
        }
        *in_string ^= byte == b'"';
        if !*in_string && is_whitespace(byte) {
            piece.skipped = 1;
            break;
        }
        piece.run += 1;
    }
    piece
}

/// Length of the escape that checked text begins with, both halves of a surrogate pair together, and its character, if that
/// should have been written otherwise.
fn read_escape(text: &[u8]) -> (usize, Option<u32>) {
    match text {
        [_, b'/', ..] => (2, Some(u32::from(b'/'))),
        [_, b'u', digits @ ..] => match (hex_quad(digits), digits) {
            (0..0x20, _) => (6, None),
            (high @ 0xd800..=0xdbff, [_, _, _, _, _, _, digits @ ..]) => {
                (12, Some(0x1_0000 + ((high & 0x3ff) << 10 | hex_quad(digits) & 0x3ff)))
            }
            (unit, _) => (6, Some(unit)),
        },
        _ => (2, None),
    }
}

/// The value of four hexadecimal digits.
#[inline(never)]
fn hex_quad(digits: &[u8]) -> u32 {
    let value = |digit: u8| u32::from(digit & 0x0f) + 9 * u32::from(digit >> 6);
    digits.iter().take(4).fold(0, |quad, &digit| quad << 4 | value(digit))
}

/// What stands for a character that is no control character: itself, unless it is the quote or the backslash. And its length.
fn without_need(character: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| (character >> shift) as u8 & 0x3f | 0x80;
    match character {
        0x22 | 0x5c => ([b'\\', character as u8, 0, 0], 2),
        0..0x80 => ([character as u8, 0, 0, 0], 1),
        0x80..0x800 => ([(character >> 6) as u8 | 0xc0, tail(0), 0, 0], 2),
        0x800..0x1_0000 => ([(character >> 12) as u8 | 0xe0, tail(6), tail(0), 0], 3),
        _ => ([(character >> 18) as u8 | 0xf0, tail(12), tail(6), tail(0)], 4),
    }
}

#[cfg(test)]
mod tests;
