//! Recovery of images that nobody could have left in order: arbitrary bytes, and pages of two laps. For tests and fuzz
//! targets.
//!
//! In: a story, decoded from arbitrary bytes. A ring is filled and drained over several laps; now and then its memory is
//! copied. The image is put together from pages of these copies, as a disk holds them after a power cut, and damaged a
//! little more. Out: nothing, or a panic, if recovery gives out anything that was never captured.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a model finds mistakes by panicking")]

extern crate std;

use core::ops::Range;
use std::collections::BTreeSet;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::{Checkpoint, Consumer, Ring, Trust};
use crate::frame::is_frame;
use crate::wire::{LIB_NAME, key};

/// Bytes of the ring. Frames take some 200 of them.
const CAPACITY: usize = 4096;

/// What a disk writes at once. Smaller than in truth, like the ring.
const PAGE: usize = 128;

/// A frame that differs from every other one in each of its parts.
fn frame(number: usize, filler: usize) -> Vec<u8> {
    let digits = format!("{number:012}");
    let text: String = digits.chars().cycle().take(filler).collect();
    format!(
        "{{\"uuid\":\"00000000-0000-7000-8000-{digits}\",\"timestamp\":\"2026-11-23T00:00:00.{:06}Z\",\"event\":\"e{digits}\",\
         \"distinct_id\":\"d{digits}\",\"properties\":{{\"{}\":\"{LIB_NAME}\",\"n\":\"{text}\"}}}},\n",
        number % 1_000_000,
        key::LIB,
    )
    .into_bytes()
}

/// Plays a story. Says how many events were recovered, of how many that were pending in the end.
///
/// # Panics
///
/// If recovery gives out what was never captured.
pub fn play(story: &[u8]) -> (usize, usize) {
    let mut story = story.iter().copied();
    let mut next = move || usize::from(story.next().unwrap_or(0));
    let mut memory = vec![0; Ring::bytes_for(CAPACITY) + Ring::ALIGN];
    let aligned = memory.as_ptr().align_offset(Ring::ALIGN);
    let memory = &mut memory[aligned..][..Ring::HEADER_BYTES + CAPACITY];
    let (mut frames, mut copies, mut checkpoints) = (BTreeSet::new(), Vec::new(), Vec::new());
    let start = next().wrapping_mul(0x0101).wrapping_neg();
    let _ = Ring::format_at(memory, start).unwrap();
    let (mut covered, mut pending) = (start, 0);
    for step in 0..24 + next() % 64 {
        let (mut producer, mut consumer) = Ring::attach(memory).unwrap().split();
        let bytes = frame(step, next() % 300);
        if let Ok(mut grant) = producer.grant(bytes.len()) {
            grant.bytes_mut().copy_from_slice(&bytes);
            grant.commit(bytes.len());
            frames.insert(bytes);
        }
        match next() % 16 {
            0..8 => release_one(&mut consumer),
            8 => consumer.read().release(),
            9..13 => {
                for (from, stretch) in consumer.stretches_since(covered) {
                    if !stretch.is_empty() {
                        checkpoints.push(Checkpoint::of(from, stretch));
                        covered = from.wrapping_add(stretch.len());
                    }
                }
            }
            _ => {}
        }
        pending = consumer.pending();
        if next() % 4 == 0 {
            copies.push(memory.to_vec());
        }
    }
    copies.push(memory.to_vec());
    // Most pages are as they were in the end; some stories have none that is not.
    let (newest, share) = (copies.len() - 1, 1 + next() % 32);
    let choice: Vec<usize> = (0..memory.len().div_ceil(PAGE))
        .map(|_| if next() % share == 1 { next() % copies.len() } else { newest })
        .collect();
    for (at, (page, copy)) in memory.chunks_mut(PAGE).zip(choice).enumerate() {
        page.copy_from_slice(&copies[copy][at * PAGE..][..page.len()]);
    }
    for _ in 0..(next() % 8).saturating_sub(5) {
        let at = next() << 8 | next();
        memory[at % CAPACITY] ^= 1 << (next() % 8);
    }
    let newest = checkpoints.len().saturating_sub(100);
    (check(memory, Trust::Checkpoints(&checkpoints[newest..]), Some(&frames)), pending)
}

/// Recovers `memory`, whatever it holds, and looks at what can be sent.
///
/// # Panics
///
/// If that is not whole frames; given all that were ever captured, if it is not some of these.
pub fn check(memory: &mut [u8], trust: Trust<'_>, captured: Option<&BTreeSet<Vec<u8>>>) -> usize {
    let mut holey = without_unused(memory, trust);
    let Ok((ring, recovered)) = Ring::recover(memory, trust) else { return 0 };
    // Nothing else mattered, so whoever gives the blocks of the rest back loses nothing.
    let rest = Ring::recover(holey.bytes(), trust).map(|(ring, _)| ring.pending());
    assert_eq!(rest, Ok(ring.pending()));
    assert_eq!(ring.pending(), recovered.events);
    let (_, mut consumer) = ring.split();
    let read = consumer.read();
    let (first, second) = read.slices();
    let mut events = 0;
    for slice in [first, second] {
        for found in slice.split_inclusive(|&byte| byte == b'\n') {
            let blank = found.iter().take_while(|&&byte| byte == b' ').count();
            let found = &found[blank..];
            if found.is_empty() {
                continue;
            }
            assert!(is_frame(found), "{}", String::from_utf8_lossy(found));
            assert!(captured.is_none_or(|all| all.contains(found)), "{}", String::from_utf8_lossy(found));
            events += 1;
        }
    }
    assert_eq!(events, recovered.events);
    read.release();
    assert_eq!(consumer.pending(), 0);
    events
}

/// A copy in which everything is zero that a recovery need not look at.
fn without_unused(memory: &[u8], trust: Trust<'_>) -> Aligned {
    let memory = memory.get(memory.as_ptr().align_offset(Ring::ALIGN)..).unwrap_or_default();
    let mut copy = aligned_copy(&vec![0; memory.len()]);
    let mut keep = |range: Range<usize>| {
        if let (Some(to), Some(from)) = (copy.bytes().get_mut(range.clone()), memory.get(range)) {
            to.copy_from_slice(from);
        }
    };
    keep(0..Ring::HEADER_BYTES);
    let _ = Ring::pending_ranges(memory, trust, keep);
    copy
}

fn release_one(consumer: &mut Consumer<'_>) {
    let (first, second) = consumer.slices(consumer.tail(), consumer.head());
    if let Some(newline) = first.iter().chain(second).position(|&byte| byte == b'\n') {
        let end = consumer.position_after(consumer.tail(), newline + 1);
        consumer.release(end, 1);
    }
}

/// Bytes where a ring finds all of them, wherever they are copied to.
struct Aligned(Vec<u8>, usize, usize);

fn aligned_copy(bytes: &[u8]) -> Aligned {
    let memory = vec![0; bytes.len() + Ring::ALIGN];
    let start = memory.as_ptr().align_offset(Ring::ALIGN);
    let mut aligned = Aligned(memory, start, bytes.len());
    aligned.bytes().copy_from_slice(bytes);
    aligned
}

impl Aligned {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[self.1..][..self.2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prng;

    /// A ring that has gone around, and its frames in order.
    fn wrapped() -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut memory = aligned_copy(&[0; Ring::HEADER_BYTES + CAPACITY]);
        let (mut producer, mut consumer) = Ring::format(memory.bytes()).unwrap().split();
        let mut frames = Vec::new();
        for number in 0..60 {
            let bytes = frame(number, number * 7 % 90);
            while producer.grant(bytes.len()).is_err() {
                release_one(&mut consumer);
                frames.remove(0);
            }
            let mut grant = producer.grant(bytes.len()).unwrap();
            grant.bytes_mut().copy_from_slice(&bytes);
            grant.commit(bytes.len());
            frames.push(bytes);
        }
        (memory.bytes().to_vec(), frames)
    }

    #[test]
    fn what_a_dead_process_left_is_all_there_and_whatever_is_spoilt_is_blank() {
        let (image, frames) = wrapped();
        for spoilt in 0..frames.len() {
            let mut copy = aligned_copy(&image);
            let memory = copy.bytes();
            let at = memory.windows(frames[spoilt].len()).position(|bytes| bytes == frames[spoilt]).unwrap();
            memory[at + 40] = 0;
            let (ring, recovered) = Ring::recover(memory, Trust::Positions).unwrap();
            assert_eq!((recovered.events, recovered.damaged), (frames.len() - 1, 1));
            let (_, mut consumer) = ring.split();
            let read = consumer.read();
            let text = [read.slices().0, read.slices().1].concat();
            let expected: Vec<u8> =
                frames.iter().enumerate().filter(|(n, _)| *n != spoilt).flat_map(|(_, f)| f.clone()).collect();
            assert_eq!(text.iter().copied().filter(|&byte| byte != b' ').collect::<Vec<_>>(), expected);
            read.release();
            // And a second look at what was blanked finds nothing wrong with it.
            assert_eq!(Ring::recover(copy.bytes(), Trust::Positions).unwrap().1.damaged, 0);
        }
    }

    #[test]
    fn an_image_written_front_to_back_is_a_ring() {
        let frames: Vec<Vec<u8>> = (0..9).map(|number| frame(number, 20)).collect();
        let bytes = frames.concat();
        let mut image = vec![0; Ring::HEADER_BYTES + CAPACITY];
        image[..Ring::HEADER_BYTES].copy_from_slice(&Ring::header_of(CAPACITY, bytes.len(), 9));
        image[Ring::HEADER_BYTES..][..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(Ring::pending_in(&image), Some(9));
        let mut copy = aligned_copy(&image);
        let (ring, recovered) = Ring::recover(copy.bytes(), Trust::Positions).unwrap();
        assert_eq!((recovered.events, recovered.damaged), (9, 0));
        let (_, mut consumer) = ring.split();
        release_one(&mut consumer);
        // How far delivery came, written into the original, is all it takes to go on there.
        let words = consumer.gauge().released_words();
        image[Ring::RELEASED_AT..][..Ring::RELEASED_BYTES].copy_from_slice(&words);
        assert_eq!(Ring::pending_in(&image), Some(8));
        assert_eq!(check(aligned_copy(&image).bytes(), Trust::Positions, None), 8);
    }

    #[test]
    fn a_checkpoint_vouches_for_its_own_place_in_its_own_lap_only() {
        let (image, frames) = wrapped();
        let mut copy = aligned_copy(&image);
        let (_, consumer) = Ring::attach(copy.bytes()).unwrap().split();
        let [first, second] = consumer.stretches_since(0);
        let good = [first, second].map(|(from, bytes)| Checkpoint::of(from, bytes));
        let events =
            |checkpoints: &[Checkpoint]| check(aligned_copy(&image).bytes(), Trust::Checkpoints(checkpoints), None);
        assert_eq!(events(&good), frames.len());
        assert_eq!(events(&[]), 0);
        let [one, two] = good;
        assert!(events(&[one]) > 0 && events(&[two]) > 0 && events(&[one]) + events(&[two]) == frames.len());
        for bad in [
            Checkpoint { from: one.from.wrapping_add(CAPACITY), ..one },
            Checkpoint { from: one.from.wrapping_sub(CAPACITY), ..one },
            Checkpoint { bytes: one.bytes - 1, ..one },
            Checkpoint { bytes: usize::MAX, ..one },
            Checkpoint { from: usize::MAX, ..one },
            Checkpoint { crc: one.crc ^ 1, ..one },
        ] {
            assert_eq!(events(&[bad]), 0, "{bad:?}");
        }
    }

    #[test]
    fn crc32c_is_the_one_everybody_means() {
        assert_eq!(crate::crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crate::crc32c(crate::crc32c(0, b"1234"), b"56789"), 0xe306_9283);
        assert_eq!(crate::crc32c(0, b""), 0);
    }

    #[test]
    fn nothing_is_recovered_that_was_never_captured() {
        let mut prng = Prng::new([5, 8]);
        let (mut recovered, mut pending) = (0, 0);
        for _ in 0..if cfg!(debug_assertions) { 300 } else { 20_000 } {
            let story: Vec<u8> = (0..512).map(|_| prng.next() as u8).collect();
            let (found, left) = play(&story);
            (recovered, pending) = (recovered + found, pending + left);
        }
        assert!(recovered > pending / 4, "{recovered} of {pending}: so little proves nothing");
    }
}
