//! Other ways to hand the bytes of a finished event to another thread.
//!
//! In: the frame of a reference event. Out: cases. The queues are as large as quillet's, and emptied between two bursts.

use std::hint::black_box;
use std::io::Write;

use bbqueue::BBQueue;
use bbqueue::traits::coordination::cas::AtomicCoord;
use bbqueue::traits::notifier::polling::Polling;
use bbqueue::traits::storage::BoxedSlice;
use quillet_support::measure::Case;

use crate::cases::{MARGIN, RING_BYTES, reference_frame};

/// A contiguous grant larger than needed, as quillet takes it, committed at its true length.
pub fn bbqueue() -> Case<'static> {
    let frame = reference_frame();
    let queue: &'static BBQueue<BoxedSlice, AtomicCoord, Polling> =
        Box::leak(Box::new(BBQueue::new_with_storage(BoxedSlice::new(RING_BYTES))));
    let (producer, consumer) = (queue.stream_producer(), queue.stream_consumer());
    let work = move |count| {
        for _ in 0..count {
            let frame = black_box(frame);
            let mut grant = producer.grant_exact(frame.len() + MARGIN).unwrap();
            grant[..frame.len()].copy_from_slice(frame);
            grant.commit(frame.len());
        }
    };
    Case::new("bbqueue, finished bytes", frame.len(), work).with_rest(move || {
        while let Ok(grant) = consumer.read() {
            let bytes = grant.len();
            grant.release(bytes);
        }
    })
}

/// Bytes are its elements: no contiguity, and the length is known before.
pub fn rtrb() -> Case<'static> {
    let frame = reference_frame();
    let (mut producer, mut consumer) = rtrb::RingBuffer::<u8>::new(RING_BYTES);
    let work = move |count| {
        for _ in 0..count {
            producer.push_entire_slice(black_box(frame)).unwrap();
        }
    };
    Case::new("rtrb, finished bytes", frame.len(), work).with_rest(move || {
        let bytes = consumer.slots();
        consumer.read_chunk(bytes).unwrap().commit_all();
    })
}

/// A log line to a thread that writes it, which it does meanwhile.
pub fn tracing_appender() -> Case<'static> {
    let frame = reference_frame();
    let (mut writer, guard) = tracing_appender::non_blocking::NonBlocking::new(std::io::sink());
    Case::new("tracing-appender non-blocking, finished bytes", frame.len(), move |count| {
        let _guard = &guard;
        for _ in 0..count {
            writer.write_all(black_box(frame)).unwrap();
        }
    })
}
