//! Recovery of memory that nobody vouches for: what comes out is whole events, and only such as were captured.
//!
//! In: a story of a ring over several laps whose pages are mixed, as after a power cut; or an image as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quillet_core::ring_splice::{check, play};
use quillet_core::{Checkpoint, Ring, Trust};

fuzz_target!(|data: &[u8]| {
    play(data);

    // The same bytes as an image: with a right header, or nothing would ever be looked at.
    let mut memory = vec![0; Ring::bytes_for(4096)];
    if Ring::format(&mut memory).is_err() {
        return;
    }
    let aligned = memory.as_ptr().align_offset(Ring::ALIGN);
    let image = &mut memory[aligned..][..Ring::HEADER_BYTES + 4096];
    let header = Ring::header_of(4096, data.len().min(4096), 0);
    image[..Ring::HEADER_BYTES].copy_from_slice(&header);
    for (to, from) in image[Ring::HEADER_BYTES..].iter_mut().zip(data) {
        *to = *from;
    }
    let whole = Checkpoint::of(0, &image[Ring::HEADER_BYTES..][..data.len().min(4096)]);
    check(&mut image.to_vec(), Trust::Checkpoints(&[whole]), None);
    check(image, Trust::Positions, None);
});
