//! Every interleaving, and every stale value the memory model allows, of the two ends of a tiny ring.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p quillet-core --release --test ring_loom`
//!
//! loom complains when bytes are read without the commit that wrote them happening before, or written while they may
//! still be read. With `Relaxed` in the place of any `Acquire` or `Release` of the ring one of these tests fails.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use loom::thread;
use quillet_core::{Consumer, GrantError, Producer, Ring};

const CAPACITY: usize = 8;

/// A ring of [`CAPACITY`] bytes whose positions start at `position`, for ever: loom's threads are `'static`.
fn ends(position: usize) -> (Producer<'static>, Consumer<'static>) {
    let memory = Box::leak(vec![0_u8; Ring::bytes_for(CAPACITY)].into_boxed_slice());
    let skip = memory.as_ptr().align_offset(Ring::ALIGN);
    let memory = &mut memory[skip..][..Ring::bytes_for(CAPACITY) - (Ring::ALIGN - 1)];
    Ring::format_at(memory, position).unwrap().split()
}

/// A frame whose bytes are not those of the one before it.
fn frame(number: usize, len: usize) -> Vec<u8> {
    (1..len).map(|_| b'a' + number as u8).chain([b'\n']).collect()
}

/// Commits frames of these lengths, the first one being frame `number`, as long as there is room. Returns how many.
fn produce(producer: &mut Producer<'_>, number: usize, lens: &[usize]) -> usize {
    for (done, &len) in lens.iter().enumerate() {
        // As a lane does: what is known to be free, if it is enough, and else what is looked up, in one way and in the other.
        if done % 2 == 1 {
            producer.find_run(len);
        }
        let mut known = producer.grant_run();
        if let Some(bytes) = known.bytes_mut().get_mut(..len) {
            bytes.copy_from_slice(&frame(number + done, len));
            known.commit(len);
            continue;
        }
        drop(known);
        match producer.grant(len) {
            Ok(mut grant) => {
                grant.bytes_mut().copy_from_slice(&frame(number + done, len));
                grant.commit(len);
            }
            Err(error) => {
                assert_eq!(error, GrantError::Full);
                return done;
            }
        }
    }
    lens.len()
}

/// Reads what is there, which must continue `expected` at `done`, and releases it. Returns how far that came.
fn consume(consumer: &mut Consumer<'_>, expected: &[u8], done: usize) -> usize {
    let head = consumer.head();
    let (first, second) = consumer.slices(consumer.tail(), head);
    let found = [first, second].concat();
    assert!(expected[done..].starts_with(&found), "{found:?} in {expected:?} at {done}");
    consumer.release(head, found.iter().filter(|&&byte| byte == b'\n').count());
    done + found.len()
}

/// Every execution with up to three preemptions, which is what loom's authors found to be enough, in bounded time.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// From `position` on, `before` is committed; then one thread commits `lens` while another reads twice. No loops that
/// wait: they would be most of what loom explores. What is left is read when both are done.
fn explore(position: usize, before: &'static [usize], lens: &'static [usize]) {
    model(move || {
        let (mut producer, mut consumer) = ends(position);
        assert_eq!(produce(&mut producer, 0, before), before.len());
        let writer = thread::spawn(move || produce(&mut producer, before.len(), lens));
        let frames = before.iter().chain(lens).enumerate();
        let expected: Vec<u8> = frames.flat_map(|(number, &len)| frame(number, len)).collect();
        let done = (0..2).fold(0, |done, _| consume(&mut consumer, &expected, done));
        let committed = before.len() + writer.join().unwrap();
        let done = consume(&mut consumer, &expected, done);
        assert_eq!(done, before.iter().chain(lens).take(committed).sum());
        assert_eq!((consumer.pending(), consumer.released()), (0, committed));
    });
}

#[test]
fn a_commit_brings_its_bytes() {
    explore(0, &[], &[2, 3]);
}

#[test]
fn a_release_ends_the_reading_before_the_bytes_are_written_again() {
    explore(0, &[4, 4], &[4, 3]);
}

#[test]
fn a_watermark_arrives_with_the_head_that_needs_it() {
    // 3 bytes from offset 4, a gap of 1, and around: also where positions wrap around.
    explore(4, &[], &[3, 2]);
    explore(0_usize.wrapping_sub(4), &[3], &[4]);
}

#[test]
fn a_later_watermark_waits_until_the_earlier_one_is_used() {
    // Offset 5: 2, a gap of 1, 4, and 3 more that end this lap too early for the last 2.
    explore(5, &[2, 4], &[3, 2]);
}

#[test]
fn a_lap_that_ends_exactly_needs_no_gap() {
    explore(6, &[2], &[3, 3]);
}

#[test]
fn a_grant_without_room_finds_what_was_released_or_changes_nothing() {
    model(|| {
        let (mut producer, mut consumer) = ends(0);
        produce(&mut producer, 0, &[4, 4]);
        let reader = thread::spawn(move || {
            let to = consumer.position_after(consumer.tail(), 4);
            assert_eq!(consumer.slices(consumer.tail(), to).0, frame(0, 4));
            consumer.release(to, 1);
            consumer
        });
        let has_room = producer.has_room_for_event(2);
        let granted = producer.grant(4).map(|mut grant| {
            grant.bytes_mut().copy_from_slice(b"new\n");
            grant.commit(4);
        });
        // The released count is stored before the tail, so only one of the four cases cannot be.
        assert!(has_room || granted.is_err() || producer.has_room_for_event(3));
        let consumer = reader.join().unwrap();
        let (tail, head) = (consumer.tail(), consumer.head());
        let (first, second) = consumer.slices(tail, head);
        let rest = if granted.is_ok() { &b"new\n"[..] } else { b"" };
        assert_eq!([first, second].concat(), [&frame(1, 4), rest].concat());
    });
}

#[test]
fn a_gauge_never_sees_more_released_than_committed() {
    model(|| {
        let (mut producer, mut consumer) = ends(0);
        let gauge = producer.gauge();
        let writer = thread::spawn(move || {
            produce(&mut producer, 0, &[2]);
            producer
        });
        let watcher = thread::spawn(move || {
            assert!(gauge.pending() <= 1);
            assert!(gauge.bytes_used() <= 2);
        });
        let head = consumer.head();
        // The count comes before the head it belongs to.
        assert!(consumer.pending() * 2 >= consumer.bytes_between(consumer.tail(), head));
        consumer.release(head, 1);
        watcher.join().unwrap();
        let producer = writer.join().unwrap();
        assert_eq!(producer.committed(), 1);
    });
}
