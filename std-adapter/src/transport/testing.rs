//! Batches for the tests of transports, made the way a client makes them.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "only tests use it")]

use core::time::Duration;

use quillet_core::{Action, Batch, Envelope, Flusher, Instant, Policy, Ring};

/// An event of `bytes` bytes, number `n`.
pub(crate) fn event(n: usize, bytes: usize) -> String {
    let head = format!("{{\"uuid\":\"00000000-0000-7000-8000-{n:012}\",\"event\":\"");
    let fill = "x".repeat(bytes.saturating_sub(head.len() + 2));
    format!("{head}{fill}\"}}")
}

/// Puts `events` events of `bytes` bytes into a ring and hands out the batch that a flusher makes of them; with a
/// deadline, the one of a flusher that shuts down `until` this time on the core's clock.
pub(crate) fn with_batch<T>(
    events: usize,
    bytes: usize,
    until: Option<Duration>,
    then: impl FnOnce(&Batch<'_>) -> T,
) -> T {
    let mut memory = vec![0; Ring::bytes_for((4 * events * (bytes + 8)).next_power_of_two())];
    let (mut producer, consumer) = Ring::format(&mut memory).unwrap().split();
    for n in 0..events {
        let frame = event(n, bytes) + ",\n";
        let mut grant = producer.grant(frame.len()).unwrap();
        grant.bytes_mut()[..frame.len()].copy_from_slice(frame.as_bytes());
        grant.commit(frame.len());
    }
    let mut policy = Policy::default();
    (policy.max_batch_events, policy.max_batch_bytes) = (usize::MAX, usize::MAX);
    let mut flusher = Flusher::new([consumer], Envelope::new("phc_test", false).unwrap(), policy, [1, 2]);
    flusher.flush();
    if let Some(until) = until {
        flusher.shutdown(Instant::ZERO.after(until));
    }
    match flusher.poll(Instant::ZERO) {
        Action::Send(batch) => {
            assert_eq!(batch.events(), events);
            then(&batch)
        }
        _ => panic!("a flush has something to send"),
    }
}

/// The body of the request that carries such events, under the key `phc_test`.
pub(crate) fn body_of(events: usize, bytes: usize) -> Vec<u8> {
    let events: Vec<_> = (0..events).map(|n| event(n, bytes)).collect();
    format!("{{\"api_key\":\"phc_test\",\"batch\":[{}]}}", events.join(",\n")).into_bytes()
}
