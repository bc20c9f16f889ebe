//! Sixteen bytes at a time, by target: copying text while it is searched for bytes that JSON wants escaped, and the digits
//! of a uuid.
//!
//! In: addresses and words. Out: bytes at an address, and whether an escape is due. SSE2 where it is part of the target,
//! words of 64 bits everywhere else; the tests hold one half to the other.

#![allow(unsafe_code, reason = "vector instructions and unaligned stores; every caller vouches for the addresses")]

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
pub(super) use portable::*;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(super) use sse2::*;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod sse2 {
    use core::arch::x86_64::*;

    /// Copies 16 bytes; returns whether one of them needs an escape.
    ///
    /// # Safety
    ///
    /// 16 bytes can be read at `from` and written at `to`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in super::super) unsafe fn copy_16(from: *const u8, to: *mut u8) -> bool {
        // SAFETY: the caller's promise; SSE2 is part of the target, or there is no such module.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            _mm_storeu_si128(to.cast(), bytes);
            needs_escape(bytes)
        }
    }

    /// Whether a byte of two words needs an escape.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in super::super) fn pair_needs_escape(low: u64, high: u64) -> bool {
        // SAFETY: SSE2 is part of the target, or there is no such module.
        unsafe { needs_escape(_mm_set_epi64x(high as i64, low as i64)) }
    }

    /// # Safety
    ///
    /// SSE2, which the target has.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    unsafe fn needs_escape(bytes: __m128i) -> bool {
        // SAFETY: as this function's contract.
        unsafe {
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))) != 0
        }
    }

    /// What was copied so far, as far as escapes go. Asked once per event, not once per text: that is what makes it worth
    /// having.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Seen {
        /// The least byte of each column, one bit of it flipped: that puts the quote, 0x22, where the space was, right behind
        /// the controls, and moves nothing else across that line.
        least: __m128i,
        /// Zero where a column had a backslash.
        backslash: __m128i,
    }

    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    impl Seen {
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn nothing() -> Self {
            // SAFETY: SSE2 is part of the target, or there is no such module.
            let all = unsafe { _mm_set1_epi8(-1) };
            Self { least: all, backslash: all }
        }

        /// Copies 16 bytes.
        ///
        /// # Safety
        ///
        /// 16 bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_16(&mut self, from: *const u8, to: *mut u8) {
            // SAFETY: the caller's promise; SSE2 is part of the target, or there is no such module.
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                _mm_storeu_si128(to.cast(), bytes);
                self.add(bytes);
            }
        }

        /// Copies 16 bytes, and 16 bytes `last` bytes behind their beginning.
        ///
        /// # Safety
        ///
        /// `last + 16` bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_both_16(&mut self, from: *const u8, to: *mut u8, last: usize) {
            // SAFETY: the caller's promise; SSE2 is part of the target, or there is no such module.
            unsafe {
                let (a, b) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(last).cast()));
                _mm_storeu_si128(to.cast(), a);
                _mm_storeu_si128(to.add(last).cast(), b);
                self.add(a);
                self.add(b);
            }
        }

        /// Copies 8 to 16 bytes, as their first 8 and their last 8.
        ///
        /// # Safety
        ///
        /// `len` is at least 8, and as many bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_8_to_16(&mut self, from: *const u8, to: *mut u8, len: usize) {
            // SAFETY: the caller's promise; SSE2 is part of the target, or there is no such module.
            unsafe {
                // As floating-point numbers, which are loaded and stored in either half of a vector; as whole numbers they
                // would go through other registers.
                let (first, last) = (from.cast::<f64>(), from.add(len - 8).cast::<f64>());
                let bytes = _mm_set_pd(last.read_unaligned(), first.read_unaligned());
                to.cast::<f64>().write_unaligned(_mm_cvtsd_f64(bytes));
                to.add(len - 8).cast::<f64>().write_unaligned(_mm_cvtsd_f64(_mm_unpackhi_pd(bytes, bytes)));
                self.add(_mm_castpd_si128(bytes));
            }
        }

        /// Copies 4 to 8 bytes, as their first 4 and their last 4.
        ///
        /// # Safety
        ///
        /// `len` is at least 4, and as many bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_4_to_8(&mut self, from: *const u8, to: *mut u8, len: usize) {
            // SAFETY: the caller's promise; SSE2 is part of the target, or there is no such module.
            unsafe {
                // As floating-point numbers: see above.
                let first = from.cast::<f32>().read_unaligned();
                let last = from.add(len - 4).cast::<f32>().read_unaligned();
                to.cast::<f32>().write_unaligned(first);
                to.add(len - 4).cast::<f32>().write_unaligned(last);
                self.add(_mm_castps_si128(_mm_set_ps(last, first, last, first)));
            }
        }

        /// Takes note of four bytes that were copied.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn add_4(&mut self, bytes: u32) {
            // SAFETY: SSE2 is part of the target, or there is no such module.
            unsafe { self.add(_mm_set1_epi32(bytes as i32)) }
        }

        /// Whether any byte so far needs an escape.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn needs_escape(self) -> bool {
            // SAFETY: SSE2 is part of the target, or there is no such module.
            unsafe {
                let above = _mm_subs_epu8(self.least, _mm_set1_epi8(0x20));
                _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(above, self.backslash), _mm_setzero_si128())) != 0
            }
        }

        #[cfg_attr(target_pointer_width = "64", inline(always))]
        fn add(&mut self, bytes: __m128i) {
            // SAFETY: SSE2 is part of the target, or there is no such module.
            unsafe {
                let flipped = _mm_xor_si128(bytes, _mm_set1_epi8(0x02));
                self.least = _mm_min_epu8(self.least, flipped);
                // A difference and not another bit flipped, which the compiler would flip in a copy of the bytes.
                let beyond = _mm_sub_epi8(flipped, _mm_set1_epi8((b'\\' ^ 0x02) as i8));
                self.backslash = _mm_min_epu8(self.backslash, beyond);
            }
        }
    }

    /// Writes the 16 hexadecimal digits of the second half of a uuid at `to`, in groups of 4 and 12, with the dash between
    /// them. The word holds its bytes, the first in memory first.
    ///
    /// # Safety
    ///
    /// 17 bytes can be written at `to`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    pub(in super::super) unsafe fn put_uuid_low(half: u64, to: *mut u8) {
        // SAFETY: every store ends at or before offset 17; SSE2 is part of the target, or there is no such module.
        unsafe {
            let bytes = _mm_cvtsi64_si128(half as i64);
            let mask = _mm_set1_epi8(0x0f);
            let upper = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
            let digits = hex(_mm_unpacklo_epi8(upper, _mm_and_si128(bytes, mask)));
            // All of them where the second group wants them; then the first group and the dash over the first four.
            _mm_storeu_si128(to.add(1).cast(), digits);
            to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(digits));
            *to.add(4) = b'-';
        }
    }

    /// # Safety
    ///
    /// SSE2, which the target has.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    unsafe fn hex(nibbles: __m128i) -> __m128i {
        // SAFETY: as this function's contract.
        unsafe {
            let letters = _mm_and_si128(_mm_cmpgt_epi8(nibbles, _mm_set1_epi8(9)), _mm_set1_epi8(39));
            _mm_add_epi8(_mm_add_epi8(nibbles, _mm_set1_epi8(b'0' as i8)), letters)
        }
    }
}

/// Two words at a time, for every other target.
#[cfg(any(not(all(target_arch = "x86_64", target_feature = "sse2")), test))]
mod portable {
    use super::super::escape::{escapes_in_word, word_needs_escape};
    use crate::uuid::hex_digits;

    /// Copies 16 bytes; returns whether one of them needs an escape.
    ///
    /// # Safety
    ///
    /// 16 bytes can be read at `from` and written at `to`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in super::super) unsafe fn copy_16(from: *const u8, to: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let low = from.cast::<u64>().read_unaligned();
            let high = from.add(8).cast::<u64>().read_unaligned();
            to.cast::<u64>().write_unaligned(low);
            to.add(8).cast::<u64>().write_unaligned(high);
            pair_needs_escape(low, high)
        }
    }

    /// Whether a byte of two words needs an escape.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in super::super) fn pair_needs_escape(low: u64, high: u64) -> bool {
        word_needs_escape(low) | word_needs_escape(high)
    }

    /// What was copied so far, as far as escapes go: not zero if a byte needs an escape.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Seen(u64);

    impl Seen {
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn nothing() -> Self {
            Self(0)
        }

        /// Copies 16 bytes.
        ///
        /// # Safety
        ///
        /// 16 bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_16(&mut self, from: *const u8, to: *mut u8) {
            // SAFETY: the caller's promise.
            unsafe { self.copy_8_to_16(from, to, 16) }
        }

        /// Copies 16 bytes, and 16 bytes `last` bytes behind their beginning.
        ///
        /// # Safety
        ///
        /// `last + 16` bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_both_16(&mut self, from: *const u8, to: *mut u8, last: usize) {
            // SAFETY: the caller's promise.
            unsafe {
                self.copy_16(from, to);
                self.copy_16(from.add(last), to.add(last));
            }
        }

        /// Copies 8 to 16 bytes, as their first 8 and their last 8.
        ///
        /// # Safety
        ///
        /// `len` is at least 8, and as many bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_8_to_16(&mut self, from: *const u8, to: *mut u8, len: usize) {
            // SAFETY: the caller's promise.
            unsafe {
                let first = from.cast::<u64>().read_unaligned();
                let last = from.add(len - 8).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(first);
                to.add(len - 8).cast::<u64>().write_unaligned(last);
                self.0 |= escapes_in_word(first) | escapes_in_word(last);
            }
        }

        /// Copies 4 to 8 bytes, as their first 4 and their last 4.
        ///
        /// # Safety
        ///
        /// `len` is at least 4, and as many bytes can be read at `from` and written at `to`.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) unsafe fn copy_4_to_8(&mut self, from: *const u8, to: *mut u8, len: usize) {
            // SAFETY: the caller's promise.
            unsafe {
                let first = from.cast::<u32>().read_unaligned();
                let last = from.add(len - 4).cast::<u32>().read_unaligned();
                to.cast::<u32>().write_unaligned(first);
                to.add(len - 4).cast::<u32>().write_unaligned(last);
                self.0 |= escapes_in_word(u64::from(first) | u64::from(last) << 32);
            }
        }

        /// Takes note of four bytes that were copied.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn add_4(&mut self, bytes: u32) {
            self.0 |= escapes_in_word(u64::from(bytes) | u64::from(bytes) << 32);
        }

        /// Whether any byte so far needs an escape.
        #[cfg_attr(target_pointer_width = "64", inline(always))]
        pub(in super::super) fn needs_escape(self) -> bool {
            self.0 != 0
        }
    }

    /// Writes the 16 hexadecimal digits of the second half of a uuid at `to`, in groups of 4 and 12, with the dash between
    /// them. The word holds its bytes, the first in memory first.
    ///
    /// # Safety
    ///
    /// 17 bytes can be written at `to`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in super::super) unsafe fn put_uuid_low(half: u64, to: *mut u8) {
        let value = u64::from_be(half);
        let ([a, b, c, d, e, f, g, h], last) = (hex_digits((value >> 32) as u32), hex_digits(value as u32));
        // SAFETY: the offsets and widths below end at 17.
        unsafe {
            to.cast::<[u8; 4]>().write_unaligned([a, b, c, d]);
            *to.add(4) = b'-';
            to.add(5).cast::<[u8; 4]>().write_unaligned([e, f, g, h]);
            to.add(9).cast::<[u8; 8]>().write_unaligned(last);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::super::escape;
    use super::portable;
    use crate::uuid::{Prng, Uuid};

    #[test]
    fn both_halves_write_the_same_uuid() {
        let mut prng = Prng::new([5, 6]);
        for _ in 0..10_000 {
            let half = prng.next();
            let (mut fast, mut plain) = ([0; 17], [0; 17]);
            // SAFETY: both are 17 bytes long.
            unsafe {
                super::put_uuid_low(half, fast.as_mut_ptr());
                portable::put_uuid_low(half, plain.as_mut_ptr());
            }
            assert_eq!(fast, plain);
            assert_eq!(fast, Uuid::from_halves([0, half]).hyphenated()[19..]);
        }
    }

    #[test]
    fn both_halves_copy_and_judge_alike() {
        for byte in 0..=255u8 {
            for at in 0..16 {
                let mut text = [b'a'; 16];
                text[at] = byte;
                let (mut fast, mut plain) = ([0; 16], [0; 16]);
                // SAFETY: each is 16 bytes long.
                let found = unsafe {
                    (
                        super::copy_16(text.as_ptr(), fast.as_mut_ptr()),
                        portable::copy_16(text.as_ptr(), plain.as_mut_ptr()),
                    )
                };
                let expected = escape::of(byte).is_some();
                assert_eq!((found, fast, plain), ((expected, expected), text, text), "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn both_halves_copy_two_pieces_alike() {
        for (byte, len) in
            [b'a', b'"', b'\\', 0x1f, 0x20, 0x7f, 0xff].into_iter().flat_map(|b| (16..=32).map(move |len| (b, len)))
        {
            for at in 0..len {
                let mut text = [b'a'; 32];
                text[at] = byte;
                let (mut fast, mut plain) = (super::Seen::nothing(), portable::Seen::nothing());
                let (mut to_fast, mut to_plain) = ([0; 32], [0; 32]);
                // SAFETY: all are 32 bytes long, and `len` is at most that.
                unsafe {
                    fast.copy_both_16(text.as_ptr(), to_fast.as_mut_ptr(), len - 16);
                    plain.copy_both_16(text.as_ptr(), to_plain.as_mut_ptr(), len - 16);
                }
                let expected = escape::of(byte).is_some();
                assert_eq!((fast.needs_escape(), plain.needs_escape()), (expected, expected), "{byte:#x} at {at}");
                assert_eq!((&to_fast[..len], &to_plain[..len]), (&text[..len], &text[..len]));
            }
        }
    }

    #[test]
    fn both_halves_remember_what_they_have_seen() {
        for byte in 0..=255u8 {
            for len in 4..=16 {
                for at in 0..len {
                    let mut text = [b'a'; 16];
                    text[at] = byte;
                    let (mut fast, mut plain) = (super::Seen::nothing(), portable::Seen::nothing());
                    let (mut to_fast, mut to_plain) = ([0; 16], [0; 16]);
                    let word = u32::from_le_bytes(text[..4].try_into().unwrap());
                    // SAFETY: all are 16 bytes long, and `len` is what each wants.
                    unsafe {
                        if len == 16 {
                            fast.copy_both_16(text.as_ptr(), to_fast.as_mut_ptr(), 0);
                            plain.copy_both_16(text.as_ptr(), to_plain.as_mut_ptr(), 0);
                        } else if len <= 8 {
                            fast.copy_4_to_8(text.as_ptr(), to_fast.as_mut_ptr(), len);
                            plain.copy_4_to_8(text.as_ptr(), to_plain.as_mut_ptr(), len);
                        } else {
                            fast.copy_8_to_16(text.as_ptr(), to_fast.as_mut_ptr(), len);
                            plain.copy_8_to_16(text.as_ptr(), to_plain.as_mut_ptr(), len);
                        }
                    }
                    fast.add_4(word);
                    plain.add_4(word);
                    // What comes later changes nothing about it.
                    fast.add_4(u32::from_le_bytes([b'~'; 4]));
                    plain.add_4(u32::from_le_bytes([b'~'; 4]));
                    let expected = escape::of(byte).is_some();
                    assert_eq!((fast.needs_escape(), plain.needs_escape()), (expected, expected), "{byte:#x} at {at}");
                    assert_eq!((&to_fast[..len], &to_plain[..len]), (&text[..len], &text[..len]));
                }
            }
        }
    }
}
