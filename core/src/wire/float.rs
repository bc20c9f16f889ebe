//! A float's decimal digits: in full with the feature `float`, else nine of them, without tables.
//!
//! In: a finite float. Out: a JSON number. The shortest text that reads back as the same float takes tables of 15 KB, half
//! of what a small microcontroller has; nine significant digits take none. They are all that a 32-bit float has, so what
//! a sensor measured survives; of a 64-bit float the digits beyond the ninth are lost.

/// Writes finite floats, `f32` or `f64`, into itself.
#[cfg(feature = "float")]
pub(crate) use zmij::Buffer;

#[cfg(not(feature = "float"))]
pub(crate) use nine::Buffer;

#[cfg(any(test, not(feature = "float")))]
mod nine {
    use crate::wire::digits::{divide, three_digits};

    /// The longest text: a sign, nine digits, a point, and an exponent of three digits with its sign; or a sign, `0.`, up to
    /// four zeros and nine digits.
    const TEXT_BYTES: usize = 17;

    const DIGITS: usize = 9;
    /// Ten to the power of `DIGITS`.
    const LIMIT: u32 = 1_000_000_000;

    /// Beyond this many digits before the point, and as many zeros behind it, a text has an exponent.
    const PLAIN: core::ops::Range<i32> = -4..16;

    /// A float in its parts: its amount is `fraction` times two to the `-shift`.
    ///
    /// Taken apart by their bits: a conversion of one float into the other would link the compiler's.
    pub(crate) struct Parts {
        is_negative: bool,
        fraction: u64,
        shift: i32,
    }

    impl From<f64> for Parts {
        fn from(value: f64) -> Self {
            let bits = value.to_bits();
            let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i32 & 0x7ff);
            let (fraction, exponent) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 52, exponent) };
            Self { is_negative: value.is_sign_negative(), fraction, shift: 1075 - exponent }
        }
    }

    impl From<f32> for Parts {
        fn from(value: f32) -> Self {
            let bits = value.to_bits();
            let (fraction, exponent) = (bits & ((1 << 23) - 1), (bits >> 23) as i32 & 0xff);
            let (fraction, exponent) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 23, exponent) };
            Self { is_negative: value.is_sign_negative(), fraction: fraction.into(), shift: 150 - exponent }
        }
    }

    pub(crate) struct Buffer {
        text: heapless::String<TEXT_BYTES>,
    }

    impl Buffer {
        pub(crate) fn new() -> Self {
            Self { text: heapless::String::new() }
        }

        /// The value, rounded to nine significant digits, without zeros at its end. Not for NaN and the infinities.
        pub(crate) fn format_finite(&mut self, value: impl Into<Parts>) -> &str {
            self.text.clear();
            self.write(&value.into());
            &self.text
        }

        #[inline(never)]
        fn write(&mut self, value: &Parts) {
            if value.is_negative {
                self.put(b'-');
            }
            let Some((digits, power)) = decimal(value) else { return self.put(b'0') };
            let (mut text, mut rest) = ([0; DIGITS], digits);
            for slot in text.iter_mut().rev() {
                *slot = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let count = text.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last as i32 + 1);
            // The value is 0.digits times ten to the `point`.
            let point = power + DIGITS as i32;
            let exponent = point - 1;
            let is_plain = PLAIN.contains(&exponent);
            let point = if is_plain { point } else { 1 };
            // Places are counted from the first digit; on both sides of the digits there are zeros.
            for at in point.min(1) - 1..count.max(point) {
                if at == point {
                    self.put(b'.');
                }
                self.put(text.get(at as usize).copied().unwrap_or(b'0'));
            }
            if !is_plain {
                self.put(b'e');
                self.exponent(exponent);
            }
        }

        fn exponent(&mut self, power: i32) {
            if power < 0 {
                self.put(b'-');
            }
            let power = power.unsigned_abs();
            let zeros = usize::from(power < 10) + usize::from(power < 100);
            three_digits(power).into_iter().skip(zeros).for_each(|digit| self.put(digit));
        }

        #[inline(never)]
        fn put(&mut self, byte: u8) {
            // There is room for the longest text.
            let _ = self.text.push(char::from(byte));
        }
    }

    /// An amount as nine digits and the power of ten they are multiplied with; `None` for zero.
    ///
    /// Multiplies or divides by ten until nine digits stand before the point. A 64-bit fraction loses at most one part in
    /// 2⁶⁰ by a step, so that after the 340 steps of the smallest float more than fifteen digits are still right.
    fn decimal(value: &Parts) -> Option<(u32, i32)> {
        let (mut word, mut shift, mut power) = (value.fraction, value.shift, 0);
        if word == 0 {
            return None;
        }
        loop {
            // The highest bit of the word set. A loop and not a count of zeros, which is one on processors without it.
            while word >> 63 == 0 {
                (word, shift) = (word << 1, shift + 1);
            }
            // Nine digits are 27 to 30 bits: for other lengths the whole part need not be known.
            let high = (word >> 32) as u32;
            let whole = match shift {
                ..34 => LIMIT,
                34..38 => high >> (shift - 32),
                _ => 0,
            };
            if whole >= LIMIT {
                (word, power) = (divide(word, 10).0, power + 1);
            } else if whole < LIMIT / 10 {
                (word, shift, power) = ((word >> 4) * 10, shift - 4, power - 1);
            } else {
                let rounded = ((high >> (shift - 33)) + 1) >> 1;
                // Rounding up can make a tenth digit: 1 followed by zeros.
                return Some(if rounded == LIMIT { (LIMIT / 10, power + 1) } else { (rounded, power) });
            }
        }
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
        use super::*;
        use proptest::prelude::*;
        use std::format;
        use std::string::{String, ToString};

        fn text(value: f64) -> String {
            Buffer::new().format_finite(value).to_string()
        }

        #[test]
        fn numbers_people_write_come_out_as_they_were_written() {
            for (value, expected) in [
                (0.0, "0"),
                (-0.0, "-0"),
                (1.0, "1"),
                (-1.5, "-1.5"),
                (21.7, "21.7"),
                (0.1, "0.1"),
                (0.1 + 0.2, "0.3"),
                (100.0, "100"),
                (1e9, "1000000000"),
                (123_456_789.0, "123456789"),
                (0.000_123, "0.000123"),
                (0.000_012_3, "1.23e-5"),
                (1e15, "1000000000000000"),
                (1e16, "1e16"),
                (-9.876_543_21e-300, "-9.87654321e-300"),
                (999_999_999.9, "1000000000"),
                (f64::MAX, "1.79769313e308"),
                (f64::MIN_POSITIVE, "2.22507386e-308"),
                (5e-324, "4.94065646e-324"),
            ] {
                assert_eq!(text(value), expected);
                assert!(text(value).len() <= TEXT_BYTES);
            }
        }

        proptest! {
            #[test]
            fn nine_digits_are_those_of_the_standard_library(bits: u64) {
                let value = f64::from_bits(bits);
                prop_assume!(value.is_finite());
                // Both rounded to nine digits: equal, unless it was within a hair of a tie.
                let ours: f64 = text(value).parse().unwrap();
                let theirs: f64 = format!("{value:.8e}").parse().unwrap();
                prop_assert!(ours == theirs || ((ours - value) / value).abs() <= 5.000_000_1e-9, "{value:e} as {ours:e}");
            }

            #[test]
            fn a_32_bit_float_survives(bits: u32) {
                let value = f32::from_bits(bits);
                prop_assume!(value.is_finite());
                let text = Buffer::new().format_finite(value).to_string();
                prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), value.to_bits());
                serde_json::from_str::<serde_json::Number>(&text).unwrap();
            }
        }
    }
}
