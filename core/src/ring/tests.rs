//! The whole ring: every small state, long random runs, two threads, every point of death, and bytes from hell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

extern crate std;

use std::collections::{HashSet, VecDeque};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::header::{CAPACITY_MIN, HEADER_BYTES, LINE, word};
use super::model::{self, Op, Oracle};
use super::*;

const WORD: usize = size_of::<usize>();

/// Memory whose header starts at its first byte, also after a copy.
#[derive(Clone)]
#[repr(align(128))]
struct Memory([u8; 512]);

impl Memory {
    fn formatted(capacity: usize, position: usize) -> Self {
        let mut memory = Self([0; 512]);
        Ring::format_at(&mut memory.0[..HEADER_BYTES + capacity], position).unwrap();
        memory
    }

    fn ring(&mut self) -> Ring<'_> {
        Ring::attach(&mut self.0).unwrap()
    }

    fn word(&self, index: usize) -> usize {
        usize::from_ne_bytes(*self.0[index * WORD..].first_chunk().unwrap())
    }

    fn set_word(&mut self, index: usize, value: usize) {
        self.0[index * WORD..][..WORD].copy_from_slice(&value.to_ne_bytes());
    }
}

/// Commits `text` as one frame.
fn put(producer: &mut Producer<'_>, text: &[u8]) {
    let mut grant = producer.grant(text.len()).unwrap();
    grant.bytes_mut().copy_from_slice(text);
    grant.commit(text.len());
}

/// Commits `text` as one frame if there is room for it in the run.
fn put_in_run(producer: &mut Producer<'_>, text: &[u8]) -> bool {
    let mut run = producer.grant_run();
    let is_room = run.bytes_mut().len() >= text.len();
    if is_room {
        run.bytes_mut()[..text.len()].copy_from_slice(text);
        run.commit(text.len());
    }
    is_room
}

fn pending_bytes(consumer: &Consumer<'_>) -> Vec<u8> {
    let (first, second) = consumer.slices(consumer.tail(), consumer.head());
    [first, second].concat()
}

/// xorshift64*: enough for tests, and a seed fits in a message.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

#[test]
fn every_state_of_a_tiny_ring_behaves_like_a_queue() {
    const CAPACITY: usize = 8;
    let commits = (0..=5).flat_map(|granted| (0..=granted).map(move |len| Op::Commit { granted, len }));
    let ops: Vec<Op> = commits
        .chain((0..=5).map(|granted| Op::Abort { granted }))
        .chain([Op::Release { frames: 1 }, Op::Release { frames: 2 }, Op::ReadAll, Op::Keep])
        .collect();
    // Three laps before positions wrap around; which side of that the two are on is part of a state.
    let start = 0_usize.wrapping_sub(3 * CAPACITY);
    let mut todo = VecDeque::from([(Memory::formatted(CAPACITY, start), Oracle::new(CAPACITY, 0))]);
    let mut seen = HashSet::new();
    while let Some((memory, oracle)) = todo.pop_front() {
        for op in &ops {
            let (mut memory, mut oracle) = (memory.clone(), oracle.clone());
            let (mut producer, mut consumer) = memory.ring().split();
            oracle.apply(*op, &mut producer, &mut consumer);
            let wraps = [word::TAIL, word::HEAD].map(|index| (memory.word(index) as isize) < 0);
            let laps = (memory.word(word::HEAD).wrapping_sub(start) / CAPACITY).min(4);
            if seen.insert((oracle.shape(), wraps, laps)) {
                todo.push_back((memory, oracle));
            }
        }
    }
    assert!(seen.len() > 1000, "{} states", seen.len());
}

#[test]
fn every_short_sequence_of_operations_behaves_like_a_queue() {
    let ops = [
        Op::Commit { granted: 1, len: 1 },
        Op::Commit { granted: 4, len: 2 },
        Op::Commit { granted: 3, len: 3 },
        Op::Commit { granted: 4, len: 4 },
        Op::Abort { granted: 4 },
        Op::Release { frames: 1 },
        Op::ReadAll,
        Op::Reattach,
    ];
    let depth = if cfg!(debug_assertions) { 5 } else { 7 };
    for number in 0..ops.len().pow(depth) {
        let digits = (0..depth).map(|digit| ops[number / ops.len().pow(digit) % ops.len()]);
        model::run(8, 0_usize.wrapping_sub(13), digits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_runs_behave_like_a_queue(
        log2 in 3_u32..13, before_wrap in 0_usize..20_000, bytes in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let capacity = 1 << log2;
        model::run(capacity, 0_usize.wrapping_sub(before_wrap), Op::decode(&bytes, capacity));
    }
}

/// The frame number `number` of the thread test: its length and every byte follow from the number.
fn numbered_frame(number: usize) -> impl Iterator<Item = u8> {
    let len = 9 + number % 23;
    (0..len).map(move |i| match i {
        0..8 => b"0123456789abcdef"[number >> (4 * i) & 15],
        _ if i + 1 == len => b'\n',
        _ => b'A' + (number % 26) as u8,
    })
}

#[test]
fn two_threads_move_frames_in_order_and_whole() {
    let frames = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let position = 0_usize.wrapping_sub(70_000);
    // The tiny ring is full or empty all the time: every few frames cost a switch of threads.
    move_frames(Memory::formatted(64, position).ring(), frames / 20);
    move_frames(Ring::format_at(&mut vec![0; Ring::bytes_for(4096)], position).unwrap(), frames);
}

fn move_frames(ring: Ring<'_>, frames: usize) {
    let (producer, consumer) = ring.split();
    let gauge = producer.gauge();
    std::thread::scope(|scope| {
        scope.spawn(move || produce(producer, frames));
        scope.spawn(move || consume(consumer, frames));
        scope.spawn(move || {
            for _ in 0..frames / 10 {
                assert!(gauge.pending() <= frames, "{gauge:?}");
                assert!(gauge.bytes_used() <= gauge.capacity(), "{gauge:?}");
                std::thread::yield_now();
            }
        });
    });
    assert_eq!((gauge.committed(), gauge.pending(), gauge.bytes_used()), (frames, 0, 0));
}

fn produce(mut producer: Producer<'_>, frames: usize) {
    for number in 0..frames {
        let mut grant = loop {
            match producer.grant(31 + number % 2) {
                Ok(grant) => break grant,
                Err(error) => assert_eq!(error, GrantError::Full),
            }
            std::thread::yield_now();
        };
        let len = grant.bytes_mut().iter_mut().zip(numbered_frame(number)).map(|(to, byte)| *to = byte).count();
        // An aborted grant now and then: what it scribbled must never be seen.
        if number % 5 == 0 {
            drop(grant);
            grant = producer.grant(len).unwrap();
            grant.bytes_mut().iter_mut().zip(numbered_frame(number)).for_each(|(to, byte)| *to = byte);
        }
        grant.commit(len);
    }
}

/// Reads everything, checks it, then keeps, releases half or releases all of it.
fn consume(mut consumer: Consumer<'_>, frames: usize) {
    let (mut next, mut round) = (0, 0_usize);
    while next < frames {
        let (tail, head) = (consumer.tail(), consumer.head());
        let (first, second) = consumer.slices(tail, head);
        let mut seen = 0;
        for frame in [first, second].iter().flat_map(|part| part.split_inclusive(|&byte| byte == b'\n')) {
            assert!(frame.iter().copied().eq(numbered_frame(next + seen)), "frame {}: {frame:?}", next + seen);
            seen += 1;
        }
        round += 1;
        let settled = [0, seen / 2, seen, seen][round % 4];
        let bytes = (next..next + settled).map(|number| 9 + number % 23).sum();
        consumer.release(consumer.position_after(tail, bytes), settled);
        next += settled;
        if settled == 0 {
            std::thread::yield_now();
        }
    }
}

/// Frames by either way in any order, at every offset.
#[test]
fn runs_and_grants_take_turns_without_leaving_or_losing_a_byte() {
    for (capacity, seed) in [8, 16, 64, 256].into_iter().flat_map(|capacity| (1..200u64).map(move |s| (capacity, s))) {
        let (mut state, mut expected) = (seed, VecDeque::<Vec<u8>>::new());
        let mut memory = Memory::formatted(capacity, 0_usize.wrapping_sub(seed as usize % (2 * capacity)));
        let (mut producer, mut consumer) = Ring::attach(&mut memory.0).unwrap().split();
        for number in 0..300 {
            let len = 1 + random(&mut state) as usize % (capacity / 2);
            let frame: Vec<u8> = numbered_frame(number).chain(core::iter::repeat(b'x')).take(len - 1).collect();
            let frame = [&frame[..], b"\n"].concat();
            let is_in = match random(&mut state) % 4 {
                0 => {
                    let frames = random(&mut state) as usize % 3;
                    for frame in expected.drain(..frames.min(expected.len())) {
                        consumer.release(consumer.position_after(consumer.tail(), frame.len()), 1);
                    }
                    false
                }
                1 => producer.grant(len).is_ok_and(|mut grant| {
                    grant.bytes_mut().copy_from_slice(&frame);
                    grant.commit(len);
                    true
                }),
                2 => put_in_run(&mut producer, &frame),
                _ => {
                    producer.find_run(len);
                    put_in_run(&mut producer, &frame)
                }
            };
            if is_in {
                expected.push_back(frame);
            }
            let all: Vec<u8> = expected.iter().flatten().copied().collect();
            assert_eq!(pending_bytes(&consumer), all, "capacity {capacity}, seed {seed}, step {number}");
            assert_eq!(consumer.pending(), expected.len());
        }
    }
}

#[test]
fn a_dropped_grant_leaves_no_trace() {
    let mut memory = Memory::formatted(64, 0_usize.wrapping_sub(33));
    let (mut producer, mut consumer) = memory.ring().split();
    for text in [b"one\n".as_slice(), b"two and more\n", b"three\n"] {
        put(&mut producer, text);
    }
    let before = pending_bytes(&consumer);
    // 10 bytes are left in this lap; that a grant had to skip them must not be remembered either.
    for granted in [0, 1, 10, 11, 31] {
        producer.grant(granted).unwrap().bytes_mut().fill(b'\n');
        assert_eq!((pending_bytes(&consumer), consumer.pending()), (before.clone(), 3));
    }
    put(&mut producer, b"ten bytes\n");
    assert_eq!(consumer.read().slices().1, [] as [u8; 0], "they still fit in the lap");
}

#[test]
fn a_commit_of_nothing_publishes_nothing() {
    let mut memory = Memory::formatted(64, 0);
    let (mut producer, mut consumer) = memory.ring().split();
    producer.grant(0).unwrap().commit(0);
    producer.grant(9).unwrap().commit(0);
    assert!(consumer.read().is_empty());
    assert_eq!((consumer.pending(), producer.committed()), (0, 0));
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "more than was granted"))]
fn committing_more_than_was_granted_publishes_nothing() {
    let mut memory = Memory::formatted(64, 0);
    let (mut producer, mut consumer) = memory.ring().split();
    for len in [5, 64, usize::MAX] {
        producer.grant(4).unwrap().commit(len);
    }
    assert!(consumer.read().is_empty());
    assert_eq!(consumer.pending(), 0);
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "not between tail and head"))]
fn releasing_what_is_not_there_releases_nothing() {
    let (mut memory, mut other) = (Memory::formatted(64, 0), Memory::formatted(64, 1000));
    let (mut producer, mut consumer) = memory.ring().split();
    let (mut further, beyond) = other.ring().split();
    put(&mut further, b"elsewhere\n");
    put(&mut producer, b"one\n");
    let past = consumer.tail();
    consumer.release(consumer.head(), 1);
    put(&mut producer, b"two\n");
    for position in [past, beyond.tail(), beyond.head()] {
        consumer.release(position, 1);
        assert_eq!((pending_bytes(&consumer), consumer.pending()), (b"two\n".to_vec(), 1));
    }
}

#[test]
fn positions_of_another_ring_lead_nowhere() {
    let (mut memory, mut other) = (Memory::formatted(64, 0), Memory::formatted(64, 1000));
    let (mut producer, consumer) = memory.ring().split();
    let (_, beyond) = other.ring().split();
    put(&mut producer, b"one\n");
    let (tail, head) = (consumer.tail(), consumer.head());
    for (from, to) in [(head, tail), (tail, beyond.head()), (beyond.head(), head), (beyond.tail(), beyond.head())] {
        assert_eq!(consumer.slices(from, to), (&[][..], &[][..]));
        assert_eq!(consumer.bytes_between(from, to), 0);
    }
    assert_eq!(consumer.position_after(beyond.head(), 3), beyond.head());
    assert_eq!(consumer.position_after(tail, usize::MAX), head);
}

#[test]
fn released_events_are_never_more_than_were_pending() {
    let mut memory = Memory::formatted(64, 0);
    let (mut producer, mut consumer) = memory.ring().split();
    put(&mut producer, b"one\n");
    consumer.release(consumer.head(), usize::MAX);
    assert_eq!((consumer.pending(), consumer.released(), producer.pending()), (0, 1, 0));
}

#[test]
fn the_limit_of_pending_events_is_exact_and_follows_releases() {
    let mut memory = Memory::formatted(64, 0);
    let (mut producer, mut consumer) = memory.ring().split();
    for pending in 0..8 {
        assert!((0..10).all(|limit| producer.has_room_for_event(limit) == (pending < limit)));
        put(&mut producer, b"x\n");
    }
    consumer.read().release();
    assert!(producer.has_room_for_event(1) && !producer.has_room_for_event(0));
}

#[test]
fn a_full_ring_refuses_until_something_is_released() {
    let mut memory = Memory::formatted(16, 0);
    let (mut producer, mut consumer) = memory.ring().split();
    assert_eq!(producer.grant(9).unwrap_err(), GrantError::TooLarge);
    assert_eq!(producer.grant(usize::MAX).unwrap_err(), GrantError::TooLarge);
    put(&mut producer, b"1234567\n");
    put(&mut producer, b"7654321\n");
    assert_eq!(producer.grant(1).unwrap_err(), GrantError::Full);
    assert_eq!(producer.grant(9).unwrap_err(), GrantError::TooLarge);
    consumer.release(consumer.position_after(consumer.tail(), 8), 1);
    assert!(producer.grant(8).is_ok());
}

#[test]
fn memory_of_any_size_and_alignment_is_used_as_far_as_it_goes() {
    for capacity in [1, 8, 9, 64, 1000, 4096] {
        let needed = Ring::bytes_for(capacity);
        let mut memory = vec![0_u8; needed + LINE];
        for skip in 0..LINE {
            let capacity = capacity.max(CAPACITY_MIN).next_power_of_two();
            assert!(Ring::format(&mut memory[skip..][..needed]).unwrap().capacity() >= capacity);
        }
        let aligned = memory.as_ptr().align_offset(LINE);
        let exact = &mut memory[aligned..][..needed - (LINE - 1)];
        assert_eq!(Ring::format(exact).unwrap().capacity(), capacity.max(CAPACITY_MIN).next_power_of_two());
    }
    for len in 0..HEADER_BYTES + CAPACITY_MIN {
        assert_eq!(Ring::format(&mut Memory([0; 512]).0[..len]).unwrap_err(), RingError::TooSmall);
        assert_eq!(Ring::format(&mut Memory([0; 512]).0[1..][..len]).unwrap_err(), RingError::TooSmall);
    }
    assert_eq!(Ring::bytes_for(usize::MAX), usize::MAX);
    assert_eq!(Ring::bytes_for(usize::MAX / 2 + 1), usize::MAX / 2 + HEADER_BYTES + LINE);
}

#[test]
fn a_static_ring_keeps_its_frames_for_an_attach() {
    let mut ring = StaticRing::<32>::new();
    assert_eq!(Ring::attach(ring.memory()).unwrap_err(), RingError::NotARing);
    let (mut producer, consumer) = ring.split();
    assert_eq!(consumer.capacity(), 32);
    put(&mut producer, b"kept\n");
    let (_, consumer) = Ring::attach(ring.memory()).unwrap().split();
    assert_eq!(pending_bytes(&consumer), b"kept\n");
    assert!(ring.split().1.read().is_empty(), "split formats");
}

#[test]
fn both_ends_may_move_to_other_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Copy>() {}
    is_send::<(Ring<'_>, Producer<'_>, Consumer<'_>, Grant<'_, '_>, Read<'_, '_>)>();
    is_shared::<(Gauge<'_>, Position)>();
}

/// Every image that a death inside the step from `before` to `after` can leave: each prefix of `stores`, in order.
fn images(before: &Memory, after: &Memory, stores: &[usize]) -> Vec<Memory> {
    let mut image = before.clone();
    // The payload first: half of it, then all.
    let payload: Vec<usize> = (HEADER_BYTES..512).filter(|&at| before.0[at] != after.0[at]).collect();
    let mut images = vec![before.clone()];
    for part in payload.chunks(payload.len().div_ceil(2).max(1)) {
        part.iter().for_each(|&at| image.0[at] = after.0[at]);
        images.push(image.clone());
    }
    for &store in stores {
        image.set_word(store, after.word(store));
        images.push(image.clone());
    }
    assert_eq!(image.0, after.0, "the step stored something else");
    images
}

#[test]
fn a_death_between_any_two_stores_leaves_whole_frames_and_a_right_count() {
    let mut seed = 0x5EED_0001;
    for round in 0..300 {
        let mut memory = Memory::formatted(64, 0_usize.wrapping_sub(200));
        let mut frames: VecDeque<Vec<u8>> = VecDeque::new();
        for step in 0..60 {
            let (before, old) = (memory.clone(), frames.clone());
            let number = random(&mut seed);
            let (mut producer, mut consumer) = memory.ring().split();
            let text: Vec<u8> = (1..number % 24).map(|i| b'a' + i as u8).chain([b'\n']).collect();
            let released = (number >> 8) as usize % 4;
            let stores: &[usize] = if number >> 32 & 3 != 0 && producer.grant(text.len()).is_ok() {
                producer.find_run(if number >> 40 & 1 == 0 { 0 } else { text.len() });
                if !put_in_run(&mut producer, &text) {
                    put(&mut producer, &text);
                }
                frames.push_back(text);
                &[word::WATERMARK, word::COMMITTED, word::HEAD]
            } else {
                let released = released.min(frames.len());
                let bytes = frames.drain(..released).map(|frame| frame.len()).sum();
                consumer.release(consumer.position_after(consumer.tail(), bytes), released);
                &[word::RELEASED, word::TAIL]
            };
            let images = images(&before, &memory, stores);
            for (stored, mut image) in images.into_iter().enumerate() {
                let expected = if image.word(*stores.last().unwrap()) == memory.word(*stores.last().unwrap()) {
                    [&frames; 2]
                } else {
                    [&old; 2]
                };
                let ring = image.ring();
                assert_eq!(ring.pending(), expected[0].len(), "seed 0x5EED_0001, round {round}, step {step}, {stored}");
                let (mut producer, mut consumer) = ring.split();
                assert_eq!(pending_bytes(&consumer), expected[0].iter().flatten().copied().collect::<Vec<_>>());
                // And it goes on from there.
                consumer.read().release();
                put(&mut producer, b"life goes on\n");
                assert_eq!(pending_bytes(&consumer), b"life goes on\n");
                assert_eq!(consumer.pending(), 1);
            }
        }
    }
}

/// Uses a ring found in bytes nobody vouches for as hard as it can be; only bounds and panics matter.
fn use_up(ring: Ring<'_>) {
    let capacity = ring.capacity();
    let (mut producer, mut consumer) = ring.split();
    for round in 0..40 {
        let all = pending_bytes(&consumer);
        assert!(all.len() <= capacity);
        let frames = all.iter().filter(|&&byte| byte == b'\n').count();
        assert!(round > 0 || frames == consumer.pending());
        let half = consumer.position_after(consumer.tail(), all.len() / 2);
        consumer.release(half, frames / 2);
        while let Ok(mut grant) = producer.grant(capacity / 4 + round % 3) {
            grant.bytes_mut().fill(b'\n');
            grant.commit(1 + round % (capacity / 4));
        }
        consumer.read().release();
    }
    assert!(producer.grant(capacity / 2).is_ok(), "an empty ring gives half of itself");
}

#[test]
fn attach_finds_no_ring_where_there_is_none() {
    let good = Memory::formatted(64, 77);
    let cases: [(&str, usize, usize, RingError); 11] = [
        ("another magic word", word::MAGIC, 0, RingError::NotARing),
        ("another version", word::LAYOUT, good.word(word::LAYOUT) + (1 << 16), RingError::OtherLayout),
        ("another width", word::LAYOUT, good.word(word::LAYOUT) ^ 96, RingError::OtherLayout),
        ("no capacity", word::CAPACITY, 0, RingError::Damaged),
        ("a tiny capacity", word::CAPACITY, 4, RingError::Damaged),
        ("an odd capacity", word::CAPACITY, 63, RingError::Damaged),
        ("more than the memory", word::CAPACITY, 128, RingError::Damaged),
        ("the largest capacity", word::CAPACITY, usize::MAX / 2 + 1, RingError::Damaged),
        ("a head before the tail", word::HEAD, 76, RingError::Damaged),
        ("a head too far", word::HEAD, 77 + 65, RingError::Damaged),
        ("a watermark before the tail", word::HEAD, 77 + 64, RingError::Damaged),
    ];
    for (what, index, value, error) in cases {
        let mut memory = good.clone();
        memory.set_word(index, value);
        memory.set_word(word::WATERMARK, 3);
        let before = memory.clone();
        let room = &mut memory.0[..HEADER_BYTES + 64];
        assert_eq!(Ring::attach(room).unwrap_err(), error, "{what}");
        assert_eq!(memory.0, before.0, "{what}: the memory is as it was");
    }
    for len in 0..HEADER_BYTES + 64 {
        assert!(Ring::attach(&mut good.clone().0[..len]).is_err(), "cut to {len}");
    }
    assert!(Ring::attach(&mut good.clone().0[1..]).is_err(), "moved");
}

#[test]
fn hostile_bytes_never_panic_and_never_lead_out_of_the_arena() {
    let seed: u64 = 0x5EED_0002;
    let mut state = seed;
    let (mut attached, rounds) = (0, if cfg!(debug_assertions) { 20_000 } else { 300_000 });
    for round in 0..rounds {
        let mut memory = Memory::formatted(64, random(&mut state) as usize);
        memory.0[HEADER_BYTES..].fill_with(|| random(&mut state) as u8);
        let indexes = [word::CAPACITY, word::HEAD, word::WATERMARK, word::COMMITTED, word::TAIL, word::RELEASED];
        for _ in 0..random(&mut state) % 4 {
            let index = indexes[random(&mut state) as usize % indexes.len()];
            let noise = random(&mut state) as usize;
            let near = memory.word(indexes[noise % indexes.len()]).wrapping_add((noise >> 8) % 160).wrapping_sub(80);
            let value = [near, near, near, noise, 1 << (noise % 12), usize::MAX][(noise >> 32) % 6];
            memory.set_word(index, value);
        }
        // What lies behind the memory that was lent.
        let room = HEADER_BYTES + [64, 100, 128][round % 3];
        let behind = memory.0[room..].to_vec();
        if let Ok(ring) = Ring::attach(&mut memory.0[..room]) {
            use_up(ring);
            attached += 1;
        }
        assert_eq!(memory.0[room..], behind, "seed {seed:#x}, round {round}");
    }
    assert!(attached > rounds / 4, "{attached} of {rounds} were rings");
}

#[test]
fn positions_changed_under_a_living_ring_lead_nowhere() {
    // What another process that maps the same file could do. Both ends keep their own position and check the other's.
    for value in [0, 1, 63, 64, 65, 1000, usize::MAX, usize::MAX - 63, usize::MAX / 2] {
        let mut memory = Memory::formatted(64, 100);
        let ring = memory.ring();
        ring.halves.write.header().producer.head.store(value, crate::sync::Ordering::Relaxed);
        ring.halves.write.header().producer.watermark.store(value, crate::sync::Ordering::Relaxed);
        ring.halves.write.header().consumer.tail.store(value, crate::sync::Ordering::Relaxed);
        let (mut producer, mut consumer) = ring.split();
        let all = pending_bytes(&consumer);
        assert!(all.len() <= 64);
        put(&mut producer, b"still whole\n");
        assert_eq!(pending_bytes(&consumer), b"still whole\n");
        consumer.read().release();
        put(&mut producer, b"and again, longer than before\n");
        assert_eq!(pending_bytes(&consumer), b"and again, longer than before\n");
    }
}

#[test]
fn frames_are_counted_however_many_there_are() {
    for len in [0, 1, 254, 255, 256, 511, 5000] {
        assert_eq!(header::count_frames(&vec![b'\n'; len]), len);
        assert_eq!(header::count_frames(&vec![b' '; len]), 0);
    }
}
