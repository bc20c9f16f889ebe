//! Identity of an event: a time and random bits in, sixteen bytes out, and their text.
//!
//! Every event gets a version 7 UUID at capture and keeps it through every retry, so that the server can recognise
//! what it has already stored. The random bits come from [`Prng`], seeded once per lane: asking the system for them
//! would cost more than all the rest of a capture.

use core::fmt;
use core::str::FromStr;

/// A UUID of any version: sixteen bytes, in the order of its text.
///
/// Ordered as its bytes, which for version 7 means by millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Sixteen zero bytes: no UUID at all.
    pub const NIL: Self = Self([0; 16]);

    /// The UUID with these bytes; nothing is checked or changed.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Version 7 of RFC 9562: 48 bits of milliseconds since 1970, then 74 random bits.
    ///
    /// Of the first random word the upper 12 bits are used, of the second the upper 62: in many generators the lower
    /// ones are the weaker. Of `unix_ms` the lower 48 bits count, which last until the year 10889.
    #[inline]
    pub const fn v7(unix_ms: u64, random: [u64; 2]) -> Self {
        let [high, low] = random;
        Self::from_words(unix_ms << 16 | 0x7000 | high >> 52, 0b10 << 62 | low >> 2)
    }

    /// Version 4 of RFC 9562: 122 random bits. For devices that do not know the time.
    pub const fn v4(random: [u64; 2]) -> Self {
        let [high, low] = random;
        Self::from_words(high & !0xf000 | 0x4000, 0b10 << 62 | low >> 2)
    }

    /// From two words, the first bytes in the first word's highest bits.
    pub(crate) const fn from_words(high: u64, low: u64) -> Self {
        Self(((high as u128) << 64 | low as u128).to_be_bytes())
    }

    /// Its bytes as two words, the first bytes in the first word's highest bits.
    #[inline]
    pub(crate) const fn words(&self) -> [u64; 2] {
        let value = u128::from_be_bytes(self.0);
        [(value >> 64) as u64, value as u64]
    }

    /// From its bytes, eight to a word, the first in memory first.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn from_halves([first, last]: [u64; 2]) -> Self {
        let mut bytes = [0; 16];
        // Two halves of a known length: nothing here can fail, and nothing is left of it but two stores.
        let (low, high) = bytes.split_at_mut(8);
        low.copy_from_slice(&first.to_ne_bytes());
        high.copy_from_slice(&last.to_ne_bytes());
        Self(bytes)
    }

    /// Its bytes, eight to a word, the first in memory first.
    #[inline]
    pub(crate) fn halves(&self) -> [u64; 2] {
        self.words().map(u64::to_be)
    }

    /// Reads 32 hexadecimal digits of either case, all together or hyphenated as 8-4-4-4-12; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hyphenated = text.len() == 36;
        if !hyphenated && text.len() != 32 {
            return None;
        }
        let mut value = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            if hyphenated && matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            // 32 digits in all, so nothing is shifted out.
            value = value << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
        Some(Self(value.to_be_bytes()))
    }

    /// Lower-case text, hyphenated as 8-4-4-4-12. ASCII.
    pub fn hyphenated(&self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let mut slots = text.iter_mut();
        for (at, byte) in self.0.into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                slots.next();
            }
            for (digit, slot) in [byte >> 4, byte & 0x0f].into_iter().zip(&mut slots) {
                *slot = hex_digit(digit);
            }
        }
        text
    }

    /// Whether all its bytes are zero.
    pub const fn is_nil(&self) -> bool {
        matches!(self.words(), [0, 0])
    }

    /// Milliseconds since 1970, if this is a version 7.
    pub const fn unix_ms(&self) -> Option<u64> {
        let [high, low] = self.words();
        let (version, variant) = (high >> 12 & 0xf, low >> 62);
        if version == 7 && variant == 0b10 { Some(high >> 16) } else { None }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is ASCII, so this cannot fail; saying so with `Result` costs nothing here.
        f.write_str(core::str::from_utf8(&self.hyphenated()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        Self::parse(text).ok_or(UuidError)
    }
}

/// A text is no UUID: not 32 hexadecimal digits, or its hyphens are missing or misplaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct UuidError;

impl fmt::Display for UuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID: 32 hexadecimal digits, together or as 8-4-4-4-12, were expected")
    }
}

impl core::error::Error for UuidError {}

/// A small, fast source of random bits for ids and jitter. **Not for secrets.**
///
/// Whoever sees a few outputs can compute the rest; ids made from it are unique, not unguessable. Its 128 bits of state
/// are the seed's, so two generators agree only if their seeds do: give each lane, and each child after a fork, a seed
/// of its own (from the system, or from a device's unique id and a boot counter).
///
/// Two algorithms, because what is cheap differs; the outputs of a seed therefore differ between targets:
///
/// - With 64-bit registers: a counter multiplied with itself under a key, both halves of the 128-bit product folded
///   together, as in wyrand. An add, two xors and a multiplication. The counter repeats after 2⁶⁴ draws. The folding
///   is no permutation: single words repeat as often as those of a fair die would, and a little over a third of all
///   words never come up for a given key.
/// - Otherwise: Chris Doty-Humphrey's small fast counting generator `sfc32`, drawn twice. Adds, shifts and xors only,
///   for cores without a wide multiplication. No cycle is shorter than 2³² draws of 32 bits, the average one is 2¹²⁷.
///
/// An event's id takes 62 bits of a draw of its own and 12 of one that its lane makes once a millisecond. Thousand ids of one
/// lane within a millisecond, which is a million a second, collide with a probability of 10⁻¹³; ids of different lanes or
/// machines differ in all 74 bits.
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 2],
}

impl Prng {
    /// A generator for this seed. Any seed will do, zeros included: it is stirred first, so that similar seeds do not
    /// give similar bits.
    pub const fn new(seed: [u64; 2]) -> Self {
        let [first, second] = seed;
        // Each word depends on both; for a fixed other word it is a permutation, so no entropy of the seed is lost.
        let first = stir(first.wrapping_add(stir(second)));
        let second = stir(second ^ first);
        Self { state: [first, second] }
    }

    /// The next 64 random bits. All of them are equally good.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    #[allow(clippy::should_implement_trait, reason = "endless: an Option around each draw would only be in the way")]
    pub fn next(&mut self) -> u64 {
        if cfg!(target_pointer_width = "64") { next_by_product(&mut self.state) } else { next_by_sfc(&mut self.state) }
    }

    /// Its state: a seed for the generator of the next boot, or for one to hand to a child, after a draw from this one.
    pub const fn state(&self) -> [u64; 2] {
        self.state
    }
}

/// Mixes the bits of a word reversibly (the finaliser of splitmix64).
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
const fn stir(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// State: a counter and a key. See [`Prng`].
#[inline]
fn next_by_product(state: &mut [u64; 2]) -> u64 {
    let [counter, key] = state;
    // Odd, so that the counter visits every word; its bits are as irregular as those of a random number.
    *counter = counter.wrapping_add(0xa076_1d64_78bd_642f);
    let product = u128::from(*counter).wrapping_mul(u128::from(*counter ^ *key));
    product as u64 ^ (product >> 64) as u64
}

/// State: the words a, b and c, d of `sfc32`, where d counts. See [`Prng`].
#[inline]
fn next_by_sfc(state: &mut [u64; 2]) -> u64 {
    let [ab, cd] = *state;
    let (mut a, mut b, mut c, mut d) = (ab as u32, (ab >> 32) as u32, cd as u32, (cd >> 32) as u32);
    let mut draw = || {
        let word = a.wrapping_add(b).wrapping_add(d);
        d = d.wrapping_add(1);
        a = b ^ b >> 9;
        b = c.wrapping_add(c << 3);
        c = c.rotate_left(21).wrapping_add(word);
        u64::from(word)
    };
    let random = draw() | draw() << 32;
    *state = [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32];
    random
}

/// The eight hexadecimal digits of a word, without a table and all at once.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) const fn hex_digits(value: u32) -> [u8; 8] {
    if !cfg!(target_pointer_width = "64") {
        return hex_by_four(value);
    }
    // One nibble a byte, the most significant in the lowest byte.
    let spread = value.swap_bytes() as u64;
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (spread >> 4 & 0x000f_000f_000f_000f) | (spread & 0x000f_000f_000f_000f) << 8;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 39).to_le_bytes()
}

/// The same in registers of 32 bits.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
const fn hex_by_four(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (four_hex(value >> 16), four_hex(value & 0xffff));
    [a, b, c, d, e, f, g, h]
}

/// The four hexadecimal digits of a number below 2¹⁶.
#[inline(always)]
const fn four_hex(value: u32) -> [u8; 4] {
    let spread = value >> 8 | (value & 0xff) << 16;
    let nibbles = (spread >> 4 & 0x000f_000f) | (spread & 0x000f_000f) << 8;
    let letters = (nibbles + 0x0606_0606) >> 4 & 0x0101_0101;
    (nibbles + 0x3030_3030 + letters * 39).to_le_bytes()
}

/// `0` to `f` for 0 to 15.
const fn hex_digit(value: u8) -> u8 {
    // Arithmetic instead of a table: it needs no bounds check and no memory.
    if value < 10 { b'0' + value } else { b'a' - 10 + (value & 0x0f) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use std::collections::HashSet;
    use std::format;
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    fn text(uuid: Uuid) -> String {
        String::from_utf8(uuid.hyphenated().to_vec()).unwrap()
    }

    #[test]
    fn version_7_is_laid_out_as_in_the_rfcs_example() {
        // RFC 9562, appendix A.6: rand_a is 0xCC3, rand_b is 0b01 and 0x8C4DC0C0C07398F.
        let uuid = Uuid::v7(0x017f_22e2_79b0, [0xcc3 << 52, 0x18c4_dc0c_0c07_398f << 2]);
        assert_eq!(text(uuid), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(uuid.unix_ms(), Some(0x017f_22e2_79b0));
    }

    #[test]
    fn version_4_is_laid_out_as_in_the_rfcs_example() {
        // RFC 9562, appendix A.3.
        let uuid = Uuid::v4([0x9191_08f7_52d1_f320, 0x1bac_f847_db41_48a8 << 2]);
        assert_eq!(text(uuid), "919108f7-52d1-4320-9bac-f847db4148a8");
        assert_eq!(uuid.unix_ms(), None);
    }

    #[test]
    fn version_and_variant_stand_whatever_the_random_bits() {
        for bits in [0, u64::MAX] {
            for (uuid, version) in [(Uuid::v7(bits, [bits; 2]), '7'), (Uuid::v4([bits; 2]), '4')] {
                let text = text(uuid);
                assert_eq!(text.chars().nth(14), Some(version), "{text}");
                assert!(matches!(text.chars().nth(19), Some('8'..='b')), "{text}");
                assert!(!uuid.is_nil());
            }
        }
        assert!(Uuid::NIL.is_nil());
        assert_eq!(Uuid::default(), Uuid::NIL);
    }

    #[test]
    fn version_7_of_later_milliseconds_is_greater() {
        assert!(Uuid::v7(1, [u64::MAX; 2]) < Uuid::v7(2, [0; 2]));
    }

    #[test]
    fn only_version_7_of_the_right_variant_tells_its_time() {
        assert!(Uuid::parse("017f22e2-79b0-7cc3-98c4-dc0c0c07398f").unwrap().unix_ms().is_some());
        assert!(Uuid::parse("017f22e2-79b0-7cc3-58c4-dc0c0c07398f").unwrap().unix_ms().is_none());
        assert!(Uuid::parse("017f22e2-79b0-6cc3-98c4-dc0c0c07398f").unwrap().unix_ms().is_none());
    }

    #[test]
    fn text_is_read_in_both_forms_and_cases_and_no_other() {
        let uuid = Uuid::from_bytes([
            0x01, 0x7f, 0x22, 0xe2, 0x79, 0xb0, 0x7c, 0xc3, 0x98, 0xc4, 0xdc, 0xc, 0xc, 7, 0x39, 0x8f,
        ]);
        for good in [
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
            "017f22e279b07cc398c4dc0c0c07398f",
        ] {
            assert_eq!(Uuid::parse(good), Some(uuid), "{good}");
            assert_eq!(good.parse(), Ok(uuid));
        }
        for bad in [
            "",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
            "017f22e27-9b0-7cc3-98c4-dc0c0c07398f",
            "017f22e2_79b0_7cc3_98c4_dc0c0c07398f",
            "{017f22e2-79b0-7cc3-98c4-dc0c0c0739}",
            "-17f22e279b07cc398c4dc0c0c07398f",
            "+17f22e279b07cc398c4dc0c0c07398f",
            "017f22e2-79b0-7cc3-98c4-dc0c0c0739é",
        ] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
            assert_eq!(bad.parse::<Uuid>(), Err(UuidError));
        }
    }

    type Next = fn(&mut [u64; 2]) -> u64;

    /// Both algorithms, whichever one this target uses.
    const GENERATORS: [(&str, Next); 2] = [("product", next_by_product), ("sfc", next_by_sfc)];

    #[test]
    fn each_bit_of_a_draw_is_set_half_of_the_time() {
        const DRAWS: u32 = 100_000;
        for (name, next) in GENERATORS {
            for seed in [[0, 0], [1, 0], [0, 1], [u64::MAX, u64::MAX], [12, 34]] {
                let mut state = Prng::new(seed).state;
                let mut set = [0_u32; 64];
                for _ in 0..DRAWS {
                    let draw = next(&mut state);
                    (0..64).for_each(|bit| set[bit] += (draw >> bit & 1) as u32);
                }
                // Six standard deviations, which are 158 each: a fair generator fails once in a thousand million bits.
                for (bit, set) in set.into_iter().enumerate() {
                    assert!(set.abs_diff(DRAWS / 2) < 950, "{name} {seed:?} bit {bit}: {set}");
                }
            }
        }
    }

    #[test]
    fn bytes_of_a_draw_are_evenly_distributed() {
        for (name, next) in GENERATORS {
            let mut state = Prng::new([5, 6]).state;
            let mut seen = [[0_u32; 256]; 8];
            for _ in 0..256_000 {
                for (at, byte) in next(&mut state).to_le_bytes().into_iter().enumerate() {
                    seen[at][usize::from(byte)] += 1;
                }
            }
            for (at, seen) in seen.into_iter().enumerate() {
                let chi_square: f64 = seen.iter().map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0).sum();
                // 255 degrees of freedom: mean 255, standard deviation 22.6.
                assert!((120.0..390.0).contains(&chi_square), "{name} byte {at}: {chi_square}");
            }
        }
    }

    #[test]
    fn a_million_draws_are_all_different() {
        for (name, next) in GENERATORS {
            let mut state = Prng::new([7, 8]).state;
            let seen: HashSet<_> = (0..1_000_000).map(|_| next(&mut state)).collect();
            assert_eq!(seen.len(), 1_000_000, "{name}");
        }
    }

    #[test]
    fn neighbouring_seeds_give_unrelated_draws() {
        for (name, next) in GENERATORS {
            let mut differing = 0;
            for seed in 0..500_u64 {
                for (a, b) in [([seed, 9], [seed + 1, 9]), ([9, seed], [9, seed + 1])] {
                    differing += (next(&mut Prng::new(a).state) ^ next(&mut Prng::new(b).state)).count_ones();
                }
            }
            // A thousand pairs, 32 bits each; the standard deviation of the sum is 126.
            assert!((31_200..32_800).contains(&differing), "{name}: {differing}");
        }
    }

    #[test]
    fn the_state_continues_where_it_was_taken() {
        let mut prng = Prng::new([1, 2]);
        prng.next();
        let mut twin = prng.clone();
        assert_eq!(prng.state(), twin.state());
        assert_eq!(prng.next(), twin.next());
        assert_ne!(prng.next(), Prng::new(twin.state()).next());
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_format_and_reads_back(bytes: [u8; 16]) {
            let uuid = Uuid::from_bytes(bytes);
            let digits = format!("{:032x}", u128::from_be_bytes(bytes));
            let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
            let expected = format!("{a}-{b}-{c}-{d}-{e}");
            prop_assert_eq!(text(uuid), expected.as_str());
            prop_assert_eq!(uuid.to_string(), expected.as_str());
            prop_assert_eq!(Uuid::parse(&expected), Some(uuid));
            prop_assert_eq!(Uuid::parse(&digits), Some(uuid));
            let [high, low] = uuid.words();
            prop_assert_eq!(Uuid::from_words(high, low), uuid);
            prop_assert_eq!(Uuid::from_halves(uuid.halves()), uuid);
            let first = hex_digits((high >> 32) as u32);
            prop_assert_eq!(&first[..], &digits.as_bytes()[..8]);
            prop_assert_eq!(hex_by_four((high >> 32) as u32), first);
        }

        #[test]
        fn version_7_keeps_its_millisecond(ms in 0..1_u64 << 48, random: [u64; 2]) {
            prop_assert_eq!(Uuid::v7(ms, random).unix_ms(), Some(ms));
        }

        #[test]
        fn any_text_is_read_or_refused(text in r"\PC{30,38}", almost in "[0-9a-gA-G-]{32,36}") {
            let _ = (Uuid::parse(&text), Uuid::parse(&almost));
        }
    }
}
