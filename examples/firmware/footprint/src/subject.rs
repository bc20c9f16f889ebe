//! What is measured: everything of quillet that a device needs to capture, and with the feature `delivery` to deliver.

use crate::meter::{Meter, say};
use core::hint::black_box;
use quillet_core::{CaptureError, Common, Envelope, Event, Lane, Stamper, StaticRing, Timestamp, Uuid, event, props};

/// Bytes of the ring; the memory formula of the README adds what else is needed.
const RING_BYTES: usize = 4096;
/// Captures whose cost is averaged: together they take fewer ticks than the counter has.
const CAPTURES: u32 = 8;

pub fn run(meter: &mut Meter) {
    static mut RING: StaticRing<RING_BYTES> = StaticRing::new();
    // SAFETY: called once, and nothing else names it.
    #[allow(clippy::deref_addrof, reason = "a reference to a `static mut` is refused where it is seen to be one")]
    let (producer, mut consumer) = unsafe { (*(&raw mut RING)).split() };
    let mut lane = Lane::new(producer, Stamper::new(black_box([0x5eed, 42])), 32, 512);
    let Ok(envelope) = Envelope::new(black_box("phc_footprint"), false) else { return };
    say("ring_bytes", size_of::<StaticRing<RING_BYTES>>() as u32);
    say("lane_bytes", size_of::<Lane<'_>>() as u32);
    say("envelope_bytes", size_of::<Envelope>() as u32);
    say("event_bytes", size_of::<Event<'_>>() as u32);

    // The first capture writes the text of a new second, as one capture in every second does.
    let mut clock = 1_795_000_000_000_000;
    let first = meter.measure(|| clock = capture_some(&mut lane, clock, 1));
    let more = meter.measure(|| clock = capture_some(&mut lane, clock, CAPTURES));
    say("first_ticks", first.ticks);
    say("captures", CAPTURES);
    say("captures_ticks", more.ticks);
    say("capture_stack", first.stack.max(more.stack));
    let read = consumer.read();
    say("captured", read.events() as u32);
    say("captured_bytes", (read.slices().0.len() + read.slices().1.len()) as u32);
    read.keep();

    #[cfg(feature = "delivery")]
    delivery::run(meter, consumer, envelope);
    #[cfg(not(feature = "delivery"))]
    black_box((&mut consumer, &envelope));
}

#[inline(never)]
fn capture_some(lane: &mut Lane<'_>, mut micros: u64, count: u32) -> u64 {
    for n in 0..count {
        micros += 1_000;
        let _ = black_box(capture(lane, black_box("device-7f3a"), black_box(n), Timestamp::from_unix_micros(micros)));
    }
    micros
}

/// The event of the figures: a literal name, three properties with literal keys, a new uuid, a fresh timestamp.
#[inline(never)]
fn capture(lane: &mut Lane<'_>, device: &str, seats: u32, now: Timestamp) -> Result<Uuid, CaptureError> {
    let properties = props! { "plan": black_box("pro"), "seats": seats, "trial": black_box(false) };
    lane.capture(&event!("checkout completed", device).properties(properties), &Common::default(), now)
}

#[cfg(feature = "delivery")]
mod delivery {
    use super::*;
    use core::convert::Infallible;
    use embedded_io::{ErrorType, Read, Write};
    use quillet_core::http::{Http, Link};
    use quillet_core::{Action, Clock, Consumer, Flusher, Instant, Policy, Transport};

    pub fn run(meter: &mut Meter, consumer: Consumer<'_>, envelope: Envelope) {
        let mut flusher = Flusher::new([consumer], envelope, Policy::default(), black_box([1, 2]));
        let Ok(mut http) = Http::new(Loopback { said: 0 }, Frozen, black_box("us.i.posthog.com")) else { return };
        say("flusher_bytes", size_of::<Flusher<'_, 1>>() as u32);
        say("http_bytes", size_of::<Http<'_, Loopback, Frozen>>() as u32);
        flusher.flush();
        let cost = meter.measure(|| {
            if let Action::Send(batch) = flusher.poll(Instant::ZERO) {
                let outcome = http.send(&batch);
                flusher.handle_outcome(Instant::ZERO, outcome);
            }
        });
        say("delivery_ticks", cost.ticks);
        say("delivery_stack", cost.stack);
        say("delivered", flusher.counters().delivered as u32);
    }

    struct Frozen;

    impl Clock for Frozen {
        fn now(&self) -> Instant {
            Instant::ZERO
        }
    }

    /// Takes everything and answers yes.
    struct Loopback {
        said: usize,
    }

    const REPLY: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"status\":1}";

    impl ErrorType for Loopback {
        type Error = Infallible;
    }

    impl Read for Loopback {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
            let rest = REPLY.get(self.said..).unwrap_or_default();
            let pairs = bytes.iter_mut().zip(rest);
            self.said += pairs.map(|(to, from)| *to = *from).count();
            Ok(rest.len().min(bytes.len()))
        }
    }

    impl Write for Loopback {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            black_box(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    impl Link for Loopback {
        fn open(&mut self, _: Instant) -> Result<(), Infallible> {
            Ok(())
        }

        fn close(&mut self) {}
    }
}
