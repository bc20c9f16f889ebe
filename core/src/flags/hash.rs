//! Which of a flag's buckets somebody falls into: SHA-1 of a text, its first 60 bits as a fraction.
//!
//! In: a flag's key, an id, a salt. Out: a number from 0 to 1, the same one that PostHog's servers and clients compute.
//!
//! SHA-1 is written out here because what is needed of it is one block function; the crates that offer it bring five
//! more with them. Nothing about this is cryptography: nobody is kept out by it.

use super::json::Text;

/// What makes the choice of a variant independent of the choice who takes part.
pub const VARIANT_SALT: &str = "variant";

/// The place of `bucketing_id` among all ids, for one flag: from 0 to 1, evenly spread.
///
/// `salt` is empty for a rollout and [`VARIANT_SALT`] for the choice of a variant. Nothing is trimmed or folded.
///
/// ```
/// use quillet_core::flags::bucket;
///
/// assert_eq!(bucket("some-flag", "some_distinct_id", ""), 0.8937694017077238);
/// ```
pub fn bucket(flag_key: &str, bucketing_id: &str, salt: &str) -> f64 {
    bucket_of(Text::from_parts(flag_key, true), bucketing_id, salt)
}

/// The same for a key that lies in JSON text.
pub(super) fn bucket_of(flag_key: Text<'_>, bucketing_id: &str, salt: &str) -> f64 {
    let mut hash = Sha1::new();
    match flag_key.as_plain() {
        Some(plain) => hash.update(plain.as_bytes()),
        None => flag_key.chars().for_each(|char| hash.update(char.encode_utf8(&mut [0; 4]).as_bytes())),
    }
    hash.update(b".");
    hash.update(bucketing_id.as_bytes());
    hash.update(salt.as_bytes());
    let [a, b, ..] = hash.finish();
    // 15 hexadecimal digits of 16. The conversion rounds to the nearest, the division by a power of two is exact.
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 4;
    bits as f64 / (1_u64 << 60) as f64
}

/// FIPS 180-4, section 6.1.
struct Sha1 {
    state: [u32; 5],
    block: [u8; 64],
    /// Bytes in `block`, less than 64.
    filled: usize,
    /// Bytes so far.
    len: u64,
}

impl Sha1 {
    const fn new() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Self { state, block: [0; 64], filled: 0, len: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let room = self.block.get_mut(self.filled..).unwrap_or_default();
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            room.iter_mut().zip(taken).for_each(|(slot, byte)| *slot = *byte);
            self.filled += taken.len();
            bytes = rest;
            if self.filled == self.block.len() {
                compress(&mut self.state, &self.block);
                self.filled = 0;
            }
        }
    }

    fn finish(mut self) -> [u32; 5] {
        let bits = self.len.wrapping_mul(8);
        self.update(&[0x80]);
        if self.filled > 56 {
            let zeros = [0; 8];
            self.update(zeros.get(..64 - self.filled).unwrap_or_default());
        }
        if let Some(pad) = self.block.get_mut(self.filled..56) {
            pad.fill(0);
        }
        if let Some(end) = self.block.last_chunk_mut() {
            *end = bits.to_be_bytes();
        }
        compress(&mut self.state, &self.block);
        self.state
    }
}

fn compress(state: &mut [u32; 5], block: &[u8; 64]) {
    let mut words = [0_u32; 80];
    let (chunks, _) = block.as_chunks::<4>();
    words.iter_mut().zip(chunks).for_each(|(word, bytes)| *word = u32::from_be_bytes(*bytes));
    for at in 16..words.len() {
        let earlier = |back: usize| words.get(at - back).copied().unwrap_or(0);
        let word = (earlier(3) ^ earlier(8) ^ earlier(14) ^ earlier(16)).rotate_left(1);
        if let Some(slot) = words.get_mut(at) {
            *slot = word;
        }
    }
    let (phases, _) = words.as_chunks::<20>();
    let mut sum = *state;
    if let [one, two, three, four] = phases {
        rounds(&mut sum, one, 0x5a82_7999, |b, c, d| d ^ b & (c ^ d));
        rounds(&mut sum, two, 0x6ed9_eba1, |b, c, d| b ^ c ^ d);
        rounds(&mut sum, three, 0x8f1b_bcdc, |b, c, d| b & c | d & (b | c));
        rounds(&mut sum, four, 0xca62_c1d6, |b, c, d| b ^ c ^ d);
    }
    state.iter_mut().zip(sum).for_each(|(word, new)| *word = word.wrapping_add(new));
}

/// Twenty rounds. Five at a time, after which every variable is back in its place: so none has to be moved.
#[inline(always)]
fn rounds(sum: &mut [u32; 5], words: &[u32; 20], constant: u32, mix: impl Fn(u32, u32, u32) -> u32) {
    let step = |a: u32, b: &mut u32, c: u32, d: u32, e: &mut u32, word: u32| {
        let new = a.rotate_left(5).wrapping_add(mix(*b, c, d)).wrapping_add(constant).wrapping_add(word);
        *e = e.wrapping_add(new);
        *b = b.rotate_left(30);
    };
    let [mut a, mut b, mut c, mut d, mut e] = *sum;
    for [one, two, three, four, five] in words.as_chunks::<5>().0 {
        step(a, &mut b, c, d, &mut e, *one);
        step(e, &mut a, b, c, &mut d, *two);
        step(d, &mut e, a, b, &mut c, *three);
        step(c, &mut d, e, a, &mut b, *four);
        step(b, &mut c, d, e, &mut a, *five);
    }
    *sum = [a, b, c, d, e];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use super::super::json::Json;
    use super::*;

    fn hex(text: &[u8]) -> String {
        let mut hash = Sha1::new();
        hash.update(text);
        hash.finish().iter().map(|word| format!("{word:08x}")).collect()
    }

    #[test]
    fn sha1_gives_the_published_digests() {
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(hex(two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        assert_eq!(hex(&[b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        assert_eq!(hex(b"some-flag.some_distinct_id"), "e4ce124e800a818c63099f95fa085dc2b620e173");
        assert_eq!(hex(b"some-flag.some_distinct_idvariant"), "441f03ab8b1c269036ac982879c03531d3caa9b2");
        assert_eq!(hex(b"simple-flag.distinct_id_0"), "c8a05362b9f414fbf273d25b2aea6d8b32da08c3");
    }

    /// Every length around the places where padding changes, cut into pieces anywhere.
    #[test]
    fn pieces_do_not_matter() {
        let text: Vec<u8> = (0..200_u8).collect();
        for len in 0..text.len() {
            for piece in [1, 7, 63, 64, 65] {
                let mut hash = Sha1::new();
                text[..len].chunks(piece).for_each(|piece| hash.update(piece));
                let pieces: String = hash.finish().iter().map(|word| format!("{word:08x}")).collect();
                assert_eq!(pieces, hex(&text[..len]), "{len} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_protocols_vectors_come_out() {
        let long = "x".repeat(200);
        for (key, id, salt, hash) in [
            ("some-flag", "some_distinct_id", "", 0.8937694017077238),
            ("some-flag", "some_distinct_id", "variant", 0.2660982412154317),
            ("simple-flag", "distinct_id_0", "", 0.7836963764220432),
            ("simple-flag", "distinct_id_1", "", 0.3397069926995401),
            ("simple-flag", "distinct_id_2", "", 0.3720434350239052),
            ("multivariate-flag", "distinct_id_0", "", 0.502037796130735),
            ("multivariate-flag", "distinct_id_0", "variant", 0.6186454537930379),
            ("multivariate-flag", "distinct_id_1", "variant", 0.6473165157302697),
            ("multivariate-flag", "distinct_id_2", "variant", 0.06390106281412483),
            ("multivariate-flag", "distinct_id_3", "variant", 0.39543050849997363),
            ("beta-ui", "user-123", "", 0.012322769931813707),
            ("checkout", "user-123", "variant", 0.8334157448386892),
            ("company-beta", "acme", "", 0.413438604590717),
            ("日本", "ユーザー", "", 0.9935213662464366),
            ("😀", "🧪", "", 0.8195952954668068),
            ("a.b", "c", "", 0.38357800263543324),
            ("a", "b.c", "", 0.38357800263543324),
            ("flag", long.as_str(), "", 0.15891341653016883),
            ("UPPER", "User-123", "", 0.4186813425572974),
            ("", "", "", 0.22782602720809858),
            ("fractional-rollout", "user-2411", "", 0.000169271192031536),
            ("fractional-rollout", "user-4106", "", 0.0007859611201188567),
            ("fractional-rollout", "user-260", "", 0.001016926026165839),
            ("multivariate-flag", "distinct_id_11", "variant", 0.8935740158403065),
            ("multivariate-flag", "distinct_id_18", "variant", 0.9136246027428971),
        ] {
            assert_eq!(bucket(key, id, salt), hash, "{key}.{id}{salt}");
        }
    }

    #[test]
    fn an_escaped_key_hashes_as_what_it_means() {
        let escaped = Json::parse(r#""\ud83d\ude00""#).unwrap().as_text().unwrap();
        assert_eq!(bucket_of(escaped, "🧪", ""), 0.8195952954668068);
    }
}
