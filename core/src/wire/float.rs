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
    use crate::wire::digits::divide;

    /// The longest text: a sign, nine digits, a point, and an exponent of three digits with its sign; or a sign, `0.`, up to
    /// four zeros and nine digits.
    const TEXT_BYTES: usize = 17;

    const DIGITS: u32 = 9;
    /// Ten to the power of `DIGITS`.
    const LIMIT: u64 = 1_000_000_000;

    /// Beyond this many digits before the point, and as many zeros behind it, a text has an exponent.
    const PLAIN: core::ops::Range<i32> = -4..16;

    pub(crate) struct Buffer {
        text: heapless::String<TEXT_BYTES>,
    }

    impl Buffer {
        pub(crate) fn new() -> Self {
            Self { text: heapless::String::new() }
        }

        /// The value, rounded to nine significant digits, without zeros at its end. Not for NaN and the infinities.
        pub(crate) fn format_finite(&mut self, value: impl Into<f64>) -> &str {
            self.text.clear();
            self.write(value.into());
            &self.text
        }

        fn write(&mut self, value: f64) {
            if value.is_sign_negative() {
                self.put(b'-');
            }
            let Some((mut digits, mut power)) = decimal(value.to_bits() & (u64::MAX >> 1)) else {
                self.put(b'0');
                return;
            };
            let mut count = DIGITS as i32;
            while digits.is_multiple_of(10) {
                (digits, power, count) = (digits / 10, power + 1, count - 1);
            }
            // The value is 0.digits times ten to the `point`.
            let point = power + count;
            match point {
                _ if !PLAIN.contains(&(point - 1)) => {
                    self.digits(digits, count, 1);
                    self.put(b'e');
                    self.exponent(point - 1);
                }
                ..=0 => {
                    self.put(b'0');
                    self.put(b'.');
                    (point..0).for_each(|_| self.put(b'0'));
                    self.digits(digits, count, count);
                }
                _ => {
                    self.digits(digits, count, point);
                    (count..point).for_each(|_| self.put(b'0'));
                }
            }
        }

        /// The digits of a number of `count` digits, with a point behind the first `point` of them if more follow.
        fn digits(&mut self, mut digits: u32, count: i32, point: i32) {
            let mut text = [0; DIGITS as usize];
            for slot in text.iter_mut().take(count as usize).rev() {
                *slot = b'0' + (digits % 10) as u8;
                digits /= 10;
            }
            for (at, digit) in (0..count).zip(text) {
                if at == point {
                    self.put(b'.');
                }
                self.put(digit);
            }
        }

        fn exponent(&mut self, power: i32) {
            if power < 0 {
                self.put(b'-');
            }
            let power = power.unsigned_abs();
            let count = if power < 10 {
                1
            } else if power < 100 {
                2
            } else {
                3
            };
            self.digits(power, count, count);
        }

        fn put(&mut self, byte: u8) {
            // There is room for the longest text.
            let _ = self.text.push(char::from(byte));
        }
    }

    /// The bits of a positive float as nine digits and the power of ten they are multiplied with; `None` for zero.
    ///
    /// Multiplies or divides by ten until nine digits stand before the point. A 64-bit fraction loses at most one part in
    /// 2⁶⁰ by a step, so that after the 340 steps of the smallest float more than fifteen digits are still right.
    fn decimal(bits: u64) -> Option<(u32, i32)> {
        let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i32);
        let (fraction, exponent) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 52, exponent) };
        if fraction == 0 {
            return None;
        }
        // The value is `word` times two to the `-shift`, with the highest bit of the word set.
        let zeros = fraction.leading_zeros();
        let (mut word, mut shift) = (fraction << zeros, 1075 - exponent + zeros as i32);
        let mut power = 0;
        loop {
            let whole = word.checked_shr(shift.max(0) as u32).unwrap_or(0);
            if shift < 0 || whole >= LIMIT {
                (word, power) = (divide(word, 10).0, power + 1);
            } else if whole < LIMIT / 10 {
                (word, shift, power) = ((word >> 4) * 10, shift - 4, power - 1);
            } else {
                break;
            }
            let zeros = word.leading_zeros();
            (word, shift) = (word << zeros, shift + zeros as i32);
        }
        // Nine digits are 27 to 30 bits, so at least 34 are shifted out.
        let rounded = ((word >> (shift - 1)) + 1) >> 1;
        // Rounding up can make a tenth digit: 1 followed by zeros.
        Some(if rounded == LIMIT { (LIMIT as u32 / 10, power + 1) } else { (rounded as u32, power) })
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
