//! A ring whose memory was damaged while nobody ran: attaching to it may fail, but never panics or leaves the memory.
//!
//! In: some frames, then any bytes anywhere in the header or the arena. AddressSanitizer watches the ends of the memory.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use quillet_core::{GrantError, Ring};

#[derive(Arbitrary, Debug)]
struct Story {
    capacity: u16,
    /// Where the positions start: damage near the wrap is another story than damage near zero.
    position: usize,
    /// Lengths of frames, each released before the next if it says so.
    before: Vec<(u8, bool)>,
    damage: Vec<(u16, u8)>,
    words: Vec<(u8, usize)>,
    after: Vec<u8>,
}

fuzz_target!(|story: Story| {
    let mut memory = vec![0; Ring::bytes_for(usize::from(story.capacity) % 4096)];
    {
        let Ok(ring) = Ring::format_at(&mut memory, story.position) else { return };
        let (mut producer, mut consumer) = ring.split();
        for (len, release) in story.before {
            if let Ok(mut grant) = producer.grant(usize::from(len)) {
                fill(grant.bytes_mut());
                grant.commit(usize::from(len));
            }
            if release {
                consumer.read().release();
            }
        }
    }

    for (at, byte) in story.damage {
        let at = usize::from(at) % memory.len();
        memory[at] = byte;
    }
    // Whole words as well, for positions and counts that are only just wrong.
    for (at, word) in story.words {
        let words = memory.len() / size_of::<usize>();
        if let Some(place) = memory.chunks_exact_mut(size_of::<usize>()).nth(usize::from(at) % words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }

    let len = memory.len();
    let Ok(ring) = Ring::attach(&mut memory) else { return };
    let (capacity, recovered) = (ring.capacity(), ring.pending());
    assert!(capacity.is_power_of_two() && capacity < len);
    let (mut producer, mut consumer) = ring.split();
    {
        let read = consumer.read();
        let (first, second) = read.slices();
        assert!(first.len() + second.len() <= capacity);
        assert_eq!(read.events(), recovered, "recovered is what can be read");
        read.release();
    }
    assert_eq!(consumer.pending(), 0);

    // It works again, whatever it was.
    for frame in story.after {
        let frame = usize::from(frame);
        match producer.grant(frame) {
            Ok(mut grant) => {
                fill(grant.bytes_mut());
                grant.commit(frame);
            }
            Err(GrantError::TooLarge) => assert!(frame > capacity / 2),
            Err(_) => consumer.read().release(),
        }
    }
    consumer.read().release();
    assert_eq!(consumer.pending(), 0);
});

/// A frame: anything, and a newline at its end.
fn fill(frame: &mut [u8]) {
    frame.fill(b'x');
    if let Some(last) = frame.last_mut() {
        *last = b'\n';
    }
}
