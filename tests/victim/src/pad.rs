//! Padding that is a function of the event's number, so that bytes of another event, or of an earlier lap, give themselves
//! away.

/// What padding is made of: letters, and everything that JSON escapes or that takes several bytes.
const ALPHABET: [char; 16] =
    ['a', 'b', 'c', 'd', 'e', 'f', 'g', '"', '\\', '\n', '\u{1}', 'ä', '€', '\u{2028}', '🦀', ' '];

/// Fills `pad` with the padding of the event with this number: at most `bytes_max` bytes, most often fewer.
pub fn pad(seq: u64, bytes_max: usize, pad: &mut String) {
    pad.clear();
    let length = usize::try_from(mix(seq) >> 32).unwrap_or_default() % (bytes_max + 1);
    pad.extend(letters(seq).take_while({
        let mut bytes = 0;
        move |letter| {
            bytes += letter.len_utf8();
            bytes <= length
        }
    }));
}

/// Whether this is padding of the event with this number, of whatever length.
pub(crate) fn is_pad_of(seq: u64, pad: &str) -> bool {
    letters(seq).zip(pad.chars()).all(|(expected, found)| expected == found)
}

fn letters(seq: u64) -> impl Iterator<Item = char> {
    (0_u64..).map(move |at| {
        let word = mix(seq ^ ((at / 16) << 40));
        let index = usize::try_from((word >> (at % 16 * 4)) & 15).unwrap_or_default();
        ALPHABET.get(index).copied().unwrap_or(' ')
    })
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_belongs_to_one_number() {
        let (mut one, mut two) = (String::new(), String::new());
        for seq in 0..1000 {
            pad(seq, 500, &mut one);
            assert!(one.len() <= 500);
            assert!(is_pad_of(seq, &one));
            pad(seq + 1, 500, &mut two);
            assert!(one.len() < 8 || !is_pad_of(seq + 1, &one), "{seq}");
        }
    }
}
