//! Decimal digits without division: two at a time from a table, or eight at once.
//!
//! In: numbers known to be small. Out: their digits, for whoever knows where they go.

/// The two digits of each number below 100, padded so that masking an index is enough to keep it inside.
const PAIRS: [[u8; 2]; 128] = {
    let mut pairs = [[b'0'; 2]; 128];
    let mut rest: &mut [[u8; 2]] = &mut pairs;
    let mut value = 0;
    while let Some((pair, others)) = rest.split_first_mut() {
        *pair = [b'0' + value / 10 % 10, b'0' + value % 10];
        value += 1;
        rest = others;
    }
    pairs
};

/// The two digits of a number below 100.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[allow(clippy::indexing_slicing, reason = "the index is masked to the table's length")]
pub(crate) const fn pair(value: u32) -> &'static [u8; 2] {
    &PAIRS[value as usize % PAIRS.len()]
}

/// The same by value: where flash is dear, without the table.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn two_digits(value: u32) -> [u8; 2] {
    if cfg!(target_pointer_width = "64") { *pair(value) } else { two_computed(value) }
}

/// The reciprocal is exact up to 1028.
const fn two_computed(value: u32) -> [u8; 2] {
    let tens = (value * 205) >> 11;
    [b'0' + tens as u8, b'0' + (value - 10 * tens) as u8]
}

/// The four digits of a number below 10⁴.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn four_digits(value: u32) -> [u8; 4] {
    let (high, low) = by_hundred(value);
    let ([a, b], [c, d]) = (two_digits(high), two_digits(low));
    [a, b, c, d]
}

/// The quotient and the rest of a number below 10⁴ by 100.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn by_hundred(value: u32) -> (u32, u32) {
    // The reciprocal is exact up to 43,698.
    let quotient = (value * 5_243) >> 19;
    (quotient, value - 100 * quotient)
}

/// The quotient and the rest of a division by less than 2¹⁶.
///
/// Where a register has 32 bits, a division of 64 takes a kilobyte of code and hundreds of instructions; dividing 16 bits at a
/// time, as one does on paper, takes neither.
#[inline(always)]
pub(crate) const fn divide(value: u64, by: u16) -> (u64, u32) {
    if cfg!(target_pointer_width = "64") {
        return (value / by as u64, (value % by as u64) as u32);
    }
    let quotient = on_paper(value, by as u32);
    // Only the lower halves matter for a rest.
    (quotient, (value as u32).wrapping_sub((quotient as u32).wrapping_mul(by as u32)))
}

/// `by` is below 2¹⁶, so that a rest and 16 bits more fit into 32.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
const fn on_paper(value: u64, by: u32) -> u64 {
    let (mut quotient, mut rest, mut value, mut left) = (0, 0, value, 4);
    while left > 0 {
        left -= 1;
        let part = rest << 16 | (value >> 48) as u32;
        value <<= 16;
        quotient = quotient << 16 | (part / by) as u64;
        rest = part % by;
    }
    quotient
}

/// The three digits of a number below 1000.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) const fn three_digits(value: u32) -> [u8; 3] {
    // The reciprocal is exact up to 1028.
    let tens = (value * 205) >> 11;
    let [first, second] = two_digits(tens);
    [first, second, b'0' + (value - 10 * tens) as u8]
}

/// The decimal digits of a number below 10⁸, most significant in the lowest byte, and how many there are.
///
/// Divides all of it at once: two halves of four digits, four quarters of two, eight digits, by multiplying with
/// reciprocals inside one word.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn eight_digits(value: u32) -> (u64, usize) {
    let halves = (value / 10_000) as u64 | ((value % 10_000) as u64) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (quarters - 10 * tens) << 8;
    let leading = (digits | 1 << 56).trailing_zeros() as usize / 8;
    ((digits + 0x3030_3030_3030_3030) >> (leading * 8), 8 - leading)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test that fails should stop")]
    use std::format;

    use super::*;

    #[test]
    fn digits_are_those_of_format() {
        for value in 0..100 {
            assert_eq!(pair(value), format!("{value:02}").as_bytes());
            assert_eq!((two_digits(value), two_computed(value)), (*pair(value), *pair(value)));
        }
        for value in 0..1_000 {
            assert_eq!(three_digits(value), format!("{value:03}").as_bytes());
        }
        for value in 0..10_000 {
            assert_eq!(by_hundred(value), (value / 100, value % 100));
            assert_eq!(four_digits(value), format!("{value:04}").as_bytes());
        }
        for value in
            (0..100_000).chain((0..7).map(|power| 10u32.pow(power))).chain((1..1_000).map(|step| step * 99_991))
        {
            for value in [value, 99_999_999 - value] {
                let (digits, len) = eight_digits(value);
                assert_eq!(&digits.to_le_bytes()[..len], format!("{value}").as_bytes());
            }
        }
    }

    #[test]
    fn a_division_on_paper_is_a_division() {
        let values = [0, 1, 9_999, 65_535, 65_536, 1_795_000_000_123_456, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        for (value, by) in
            values.iter().flat_map(|&value| [1, 10, 24, 1_000, 3_600, 10_000, u16::MAX].map(|by| (value, by)))
        {
            let expected = (value / u64::from(by), (value % u64::from(by)) as u32);
            assert_eq!((super::on_paper(value, by.into()), super::divide(value, by)), (expected.0, expected));
        }
    }
}
