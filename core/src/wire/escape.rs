//! Which bytes of a string JSON wants escaped, and as what.
//!
//! In: UTF-8 text. Out: runs that may be copied as they are, and the escapes between them. The fast scan, 16 bytes at a
//! time, is in [`writer`](super::writer), which copies while it scans; this is the plain twin it falls back to and is
//! tested against.

/// What is written in place of a byte: two bytes, or six.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escape {
    text: [u8; 6],
    len: u8,
}

impl Escape {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len as usize).unwrap_or_default()
    }
}

/// The escape of `byte`, if it needs one; the short form where JSON has one.
///
/// Only quote, backslash and U+0000..U+001F are escaped: an escape JSON does not ask for was seen to be damaged by a
/// clean-up pass of older servers. Made here and not taken from a table, which has four times as many bytes.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn of(byte: u8) -> Option<Escape> {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => b'u',
        _ => return None,
    };
    let last = byte & 0x0f;
    let last = if last < 10 { b'0' + last } else { b'a' - 10 + last };
    Some(Escape {
        text: [b'\\', letter, b'0', b'0', b'0' + (byte >> 4), last],
        len: if letter == b'u' { 6 } else { 2 },
    })
}

/// Whether `byte` needs an escape.
#[inline(always)]
pub(crate) const fn is_due(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Bytes of a word that holds what is written of a byte, and its length.
pub(crate) const WORD_BYTES: usize = 8;

/// What is written of every byte, as words: the text first in memory, its length in the last place. For processors that have
/// two kilobytes to spare. Words and not bytes, so that each is loaded and stored as one.
static WORDS: [u64; 256] = words();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler; a mistake is its error")]
const fn words() -> [u64; 256] {
    let mut words = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let Escape { text, len } = match of(byte as u8) {
            Some(escape) => escape,
            None => Escape { text: [byte as u8, 0, 0, 0, 0, 0], len: 1 },
        };
        let mut word = [0; WORD_BYTES];
        word[WORD_BYTES - 1] = len;
        let mut at = 0;
        while at < len as usize {
            word[at] = text[at];
            at += 1;
        }
        words[byte] = u64::from_le_bytes(word);
        byte += 1;
    }
    words
}

/// What is written of `byte`, itself or its escape, at the beginning of a little-endian word; and its length, at most 6.
#[inline(always)]
pub(crate) fn word(byte: u8) -> (u64, usize) {
    let word = WORDS.get(byte as usize).copied().unwrap_or_default();
    (word, (word >> 56) as usize)
}

/// Length of the prefix of `text` that may be copied as it is, and the escape of the byte behind it, if there is one.
pub(crate) fn next_run(text: &[u8]) -> (usize, Option<Escape>) {
    for (at, &byte) in text.iter().enumerate() {
        if is_due(byte) {
            return (at, of(byte));
        }
    }
    (text.len(), None)
}

/// Whether any byte of a word needs an escape: below 0x20, a quote or a backslash. Bit tricks of the usual kind: a byte
/// is zero where subtracting one borrows into its highest bit. A false alarm beside a true one does no harm.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn word_needs_escape(word: u64) -> bool {
    escapes_in_word(word) != 0
}

/// The same as a word that is not zero: several may be joined before one question is asked of them all.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn escapes_in_word(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGHS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn exactly_quote_backslash_and_controls_are_escaped() {
        for byte in 0..=255u8 {
            let expected = byte == b'"' || byte == b'\\' || byte < 0x20;
            assert_eq!((of(byte).is_some(), is_due(byte)), (expected, expected), "byte {byte:#x}");
        }
    }

    #[test]
    fn the_table_of_words_agrees_with_the_escapes() {
        for byte in 0..=255u8 {
            let (word, len) = word(byte);
            let escape = of(byte);
            assert_eq!(
                &word.to_le_bytes()[..len],
                escape.as_ref().map_or(&[byte][..], Escape::as_bytes),
                "byte {byte:#x}"
            );
            assert!(len <= 6);
        }
    }

    #[test]
    fn every_escape_reads_back_as_its_byte() {
        for byte in 0..0x80u8 {
            let Some(escape) = of(byte) else { continue };
            let text = std::format!("\"{}\"", core::str::from_utf8(escape.as_bytes()).unwrap());
            let read: std::string::String = serde_json::from_str(&text).unwrap();
            assert_eq!(read.as_bytes(), [byte]);
            let has_short_form = matches!(byte, b'"' | b'\\' | 8..=10 | 12 | 13);
            assert_eq!(escape.as_bytes().len(), if has_short_form { 2 } else { 6 });
        }
    }

    #[test]
    fn the_word_test_agrees_with_the_table_in_every_position() {
        for byte in 0..=255u8 {
            for position in 0..8 {
                let mut bytes = [b'a'; 8];
                bytes[position] = byte;
                assert_eq!(word_needs_escape(u64::from_le_bytes(bytes)), of(byte).is_some(), "{byte:#x} at {position}");
            }
        }
    }

    #[test]
    fn runs_end_where_an_escape_is_due() {
        assert_eq!(next_run(b"plain"), (5, None));
        assert_eq!(next_run(b"a\"b"), (1, of(b'"')));
        assert_eq!(next_run(b"\n"), (0, of(b'\n')));
    }
}
