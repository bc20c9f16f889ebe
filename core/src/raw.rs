//! JSON that the caller already has as text: checked here once, so that `wire::event` may copy it into a frame.
//!
//! One bad value would make the server refuse the whole batch, and a raw newline would tear a frame in two; so a
//! [`RawJson`] is proof that neither can happen. What the grammar allows and PostHog is known to damage, an escape of a
//! character that needs none, is put right on the way into the frame.

mod validator;

use core::fmt;

use crate::wire::escape;
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

    /// Emits the value without whitespace between its tokens and with no escape but those that the encoder writes itself,
    /// in as few runs as that takes.
    ///
    /// An escape that JSON does not ask for means the same, but a clean-up pass of some servers takes it for damage and
    /// replaces the character. No control byte is ever emitted: in strings they only occur escaped, and elsewhere they
    /// are whitespace.
    pub fn write_minified(&self, sink: &mut impl FnMut(&[u8])) {
        let mut rest = self.text.as_bytes();
        while let Some(skipped) = rest.iter().position(|&byte| !is_whitespace(byte)) {
            let (_, tokens) = rest.split_at_checked(skipped).unwrap_or_default();
            let (len, has_escapes) = scan_tokens(tokens);
            let (run, after) = tokens.split_at_checked(len).unwrap_or_default();
            if has_escapes {
                write_with_needed_escapes(run, sink);
            } else {
                sink(run);
            }
            rest = after;
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

/// Length of the part of checked JSON before the next whitespace outside a string, and whether it has escapes. Begins
/// outside a string.
fn scan_tokens(tokens: &[u8]) -> (usize, bool) {
    let (mut in_string, mut escaped, mut has_escapes) = (false, false, false);
    let end = tokens.iter().position(|&byte| {
        let done = !in_string && is_whitespace(byte);
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        has_escapes |= escaped;
        done
    });
    (end.unwrap_or(tokens.len()), has_escapes)
}

/// Emits checked tokens, each escape as the encoder would have written its character.
#[cold]
#[inline(never)]
fn write_with_needed_escapes(tokens: &[u8], sink: &mut dyn FnMut(&[u8])) {
    // `seen` bytes of what is not yet emitted may be emitted as they are.
    let (mut rest, mut seen) = (tokens, 0_usize);
    while let Some(plain) = rest.iter().skip(seen).position(|&byte| byte == b'\\') {
        let (run, tail) = rest.split_at_checked(seen + plain).unwrap_or_default();
        let (len, character) = read_escape(tail);
        let Some(character) = character else {
            seen = run.len() + len;
            continue;
        };
        if !run.is_empty() {
            sink(run);
        }
        let needed = u8::try_from(character).ok().and_then(escape::of);
        let mut utf8 = [0; 4];
        sink(needed.unwrap_or_else(|| character.encode_utf8(&mut utf8).as_bytes()));
        (rest, seen) = (tail.get(len..).unwrap_or_default(), 0);
    }
    sink(rest);
}

/// Length of the escape that checked text begins with, both halves of a surrogate pair together, and its character; none
/// for a short escape that the encoder writes too.
fn read_escape(text: &[u8]) -> (usize, Option<char>) {
    match text {
        [b'\\', b'/', ..] => (2, Some('/')),
        [b'\\', b'u', a, b, c, d, tail @ ..] => match (hex_quad([*a, *b, *c, *d]), tail) {
            (high @ 0xd800..=0xdbff, [b'\\', b'u', a, b, c, d, ..]) => {
                let low = hex_quad([*a, *b, *c, *d]);
                (12, char::from_u32(0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff)))
            }
            (unit, _) => (6, char::from_u32(unit)),
        },
        _ => (2, None),
    }
}

fn hex_quad(digits: [u8; 4]) -> u32 {
    digits.iter().fold(0, |value, &digit| value << 4 | char::from(digit).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests;
