//! Which bytes of a string JSON wants escaped, and as what.
//!
//! In: UTF-8 text. Out: runs that may be copied as they are, and the escapes between them. The fast scan, 16 bytes at a
//! time, is in [`writer`](super::writer), which copies while it scans; this is the plain twin it falls back to and is
//! tested against.

/// The escapes of U+0000..U+001F; short forms where JSON has them.
///
/// Only these, the quote and the backslash are escaped: an escape JSON does not ask for was seen to be damaged by a
/// clean-up pass of older servers.
const CONTROLS: [&[u8]; 32] = [
    b"\\u0000", b"\\u0001", b"\\u0002", b"\\u0003", b"\\u0004", b"\\u0005", b"\\u0006", b"\\u0007", b"\\b", b"\\t",
    b"\\n", b"\\u000b", b"\\f", b"\\r", b"\\u000e", b"\\u000f", b"\\u0010", b"\\u0011", b"\\u0012", b"\\u0013",
    b"\\u0014", b"\\u0015", b"\\u0016", b"\\u0017", b"\\u0018", b"\\u0019", b"\\u001a", b"\\u001b", b"\\u001c",
    b"\\u001d", b"\\u001e", b"\\u001f",
];

/// The escape of `byte`, if it needs one.
#[inline]
pub(crate) fn of(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"\\\""),
        b'\\' => Some(b"\\\\"),
        control => CONTROLS.get(control as usize).copied(),
    }
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
        let itself = [byte as u8];
        let text = match byte as u8 {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0..0x20 => CONTROLS[byte],
            _ => &itself,
        };
        assert!(text.len() < WORD_BYTES, "what is stored for a byte is no longer than a word");
        let mut word = [0; WORD_BYTES];
        word[WORD_BYTES - 1] = text.len() as u8;
        let mut at = 0;
        while at < text.len() {
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
pub(crate) fn next_run(text: &[u8]) -> (usize, Option<&'static [u8]>) {
    for (at, &byte) in text.iter().enumerate() {
        if let Some(escape) = of(byte) {
            return (at, Some(escape));
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
            assert_eq!(of(byte).is_some(), expected, "byte {byte:#x}");
        }
    }

    #[test]
    fn the_table_of_words_agrees_with_the_escapes() {
        for byte in 0..=255u8 {
            let (word, len) = word(byte);
            assert_eq!(&word.to_le_bytes()[..len], of(byte).unwrap_or(&[byte]), "byte {byte:#x}");
            assert!(len <= 6);
        }
    }

    #[test]
    fn every_escape_reads_back_as_its_byte() {
        for byte in 0..0x80u8 {
            let Some(escape) = of(byte) else { continue };
            assert!(escape.len() <= 6);
            let text = std::format!("\"{}\"", core::str::from_utf8(escape).unwrap());
            let read: std::string::String = serde_json::from_str(&text).unwrap();
            assert_eq!(read.as_bytes(), [byte]);
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
        assert_eq!(next_run(b"a\"b"), (1, Some(&b"\\\""[..])));
        assert_eq!(next_run(b"\n"), (0, Some(&b"\\n"[..])));
    }
}
