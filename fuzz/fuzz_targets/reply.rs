//! The firmware's HTTP client against a server that says anything at all, in pieces of any size.
#![no_main]

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use libfuzzer_sys::fuzz_target;
use quillet_core::http::{Http, Link};
use quillet_core::{Action, Clock, Envelope, Flusher, Instant, Outcome, Policy, Ring, Transport};
use std::cell::Cell;

struct Server<'d> {
    says: &'d [u8],
    piece: usize,
}

impl ErrorType for Server<'_> {
    type Error = ErrorKind;
}

impl Read for Server<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let (piece, rest) = self.says.split_at(self.piece.min(bytes.len()).min(self.says.len()));
        bytes[..piece.len()].copy_from_slice(piece);
        self.says = rest;
        Ok(piece.len())
    }
}

impl Write for Server<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Link for Server<'_> {
    fn open(&mut self, _: Instant) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn close(&mut self) {}
}

/// Time that passes with every look at it, so that nothing lasts for ever.
struct Ticking(Cell<u64>);

impl Clock for Ticking {
    fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1);
        Instant::from_micros(self.0.get())
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, says) = input;
    let mut memory = [0; Ring::bytes_for(256)];
    let Ok(ring) = Ring::format(&mut memory) else { return };
    let (mut producer, consumer) = ring.split();
    let Ok(mut grant) = producer.grant(4) else { return };
    grant.bytes_mut().copy_from_slice(b"{},\n");
    grant.commit(4);
    let Ok(envelope) = Envelope::new("phc_fuzz", false) else { return };
    let mut flusher = Flusher::new([consumer], envelope, Policy::default(), [1, 2]);
    flusher.flush();
    let server = Server { says, piece: usize::from(piece).max(1) };
    let Ok(mut http) = Http::new(server, Ticking(Cell::new(0)), "x") else { return };
    // What is left over is read as the next reply.
    let learned = http.learn_time();
    assert_eq!(learned.is_some(), http.wall_time().is_some());
    if let Action::Send(batch) = flusher.poll(Instant::ZERO) {
        let outcome = http.send(&batch);
        if let Outcome::Answered(answer) = outcome {
            assert!((100..1000).contains(&answer.status), "{answer:?}");
        }
        flusher.handle_outcome(Instant::ZERO, outcome);
    }
});
