//! The client against scripted streams: what is written, what is made of every kind of reply, and when it gives up.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
use super::*;
use crate::{Action, Consumer, Envelope, Flusher, Policy, Producer, Ring};
use std::boxed::Box;
use std::cell::Cell;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

/// Time that passes with every look at it.
struct TickingClock(Cell<u64>);

impl Clock for TickingClock {
    fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1_000);
        Instant::from_micros(self.0.get())
    }
}

#[derive(Clone, Copy, Debug)]
struct Kind(ErrorKind);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Kind {}

impl embedded_io::Error for Kind {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// What a connection does when it is read from, step by step; at the end it closes.
#[derive(Clone, Copy)]
enum Step {
    Say(&'static str),
    Fail(ErrorKind),
}

/// Connections by script. Writes are taken some bytes at a time.
#[derive(Default)]
struct Script {
    connections: VecDeque<Vec<Step>>,
    steps: VecDeque<Step>,
    is_open: bool,
    written: Vec<u8>,
    opened: usize,
    breaks_after: Option<usize>,
    /// Read from without end once the steps are through.
    hangs: bool,
}

impl embedded_io::ErrorType for Script {
    type Error = Kind;
}

impl Read for Script {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Kind> {
        assert!(self.is_open, "read from a closed connection");
        match self.steps.pop_front() {
            None if self.hangs => Err(Kind(ErrorKind::Interrupted)),
            None => Ok(0),
            Some(Step::Fail(kind)) => Err(Kind(kind)),
            Some(Step::Say(text)) => {
                let len = text.len().min(bytes.len());
                bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
                if len < text.len() {
                    self.steps.push_front(Step::Say(&text[len..]));
                }
                Ok(len)
            }
        }
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Kind> {
        assert!(self.is_open, "written to a closed connection");
        if self.breaks_after.is_some_and(|limit| self.written.len() >= limit) {
            return Err(Kind(ErrorKind::BrokenPipe));
        }
        let len = bytes.len().min(7);
        self.written.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), Kind> {
        Ok(())
    }
}

impl Link for Script {
    fn open(&mut self, _: Instant) -> Result<(), Kind> {
        let steps = self.connections.pop_front().ok_or(Kind(ErrorKind::ConnectionRefused))?;
        (self.steps, self.is_open) = (steps.into(), true);
        self.opened += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.is_open = false;
    }
}

#[cfg(feature = "embedded-io-async")]
mod awaited {
    use super::*;

    impl embedded_io_async::Read for Script {
        async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Kind> {
            Read::read(self, bytes)
        }
    }

    impl embedded_io_async::Write for Script {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Kind> {
            Write::write(self, bytes)
        }

        async fn flush(&mut self) -> Result<(), Kind> {
            Ok(())
        }
    }

    impl AsyncLink for Script {
        async fn open(&mut self, by: Instant) -> Result<(), Kind> {
            Link::open(self, by)
        }

        async fn close(&mut self) {
            Link::close(self);
        }
    }

    /// Nothing here ever waits, so one poll is enough.
    pub(super) fn now<F: Future>(future: F) -> F::Output {
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        match Box::pin(future).as_mut().poll(&mut context) {
            core::task::Poll::Ready(output) => output,
            core::task::Poll::Pending => panic!("a scripted stream never waits"),
        }
    }
}

fn ring() -> (Producer<'static>, Consumer<'static>) {
    let memory = std::vec![0; Ring::bytes_for(1024)];
    Ring::format(Box::leak(memory.into_boxed_slice())).unwrap().split()
}

type Scripted<'h> = Http<'h, Script, TickingClock>;

fn http(connections: &[&[Step]]) -> Scripted<'static> {
    let connections = connections.iter().map(|steps| steps.to_vec()).collect();
    let link = Script { connections, ..Script::default() };
    Http::new(link, TickingClock(Cell::new(0)), "example.com").unwrap().with_timeout(Duration::from_secs(5))
}

/// Sends a batch of one event as often as there are outcomes to see; over both kinds of streams, which must agree.
fn outcomes(count: usize, make: impl Fn() -> Scripted<'static>) -> (Vec<Outcome>, Script) {
    let told = send(count, make(), |http, batch| http.send(batch));
    #[cfg(feature = "embedded-io-async")]
    {
        let awaited = send(count, make(), |http, batch| awaited::now(http.send_async(batch)));
        assert_eq!(told.0, awaited.0);
        assert_eq!(told.1.written, awaited.1.written);
        assert_eq!((told.1.opened, told.1.is_open), (awaited.1.opened, awaited.1.is_open));
    }
    told
}

fn send(
    count: usize,
    mut http: Scripted<'static>,
    mut send: impl FnMut(&mut Scripted<'static>, &Batch<'_>) -> Outcome,
) -> (Vec<Outcome>, Script) {
    let (mut producer, consumer) = ring();
    let envelope = Envelope::new("phc_key", false).unwrap();
    let mut flusher = Flusher::new([consumer], envelope, Policy::default(), [1, 2]);
    let outcomes = (0..count).map(|_| {
        let mut grant = producer.grant(4).unwrap();
        grant.bytes_mut().copy_from_slice(b"{},\n");
        grant.commit(4);
        flusher.flush();
        let Action::Send(batch) = flusher.poll(Instant::ZERO) else { panic!("nothing to send") };
        let outcome = send(&mut http, &batch);
        flusher.handle_outcome(Instant::ZERO, Outcome::status(200));
        outcome
    });
    let outcomes = outcomes.collect();
    (outcomes, http.link)
}

use Step::{Fail, Say};

const OK: Step = Say("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"status\":1}");
const REQUEST: &str = concat!(
    "POST /batch/ HTTP/1.1\r\nHost: example.com\r\nUser-Agent: quillet/",
    env!("CARGO_PKG_VERSION"),
    "\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"api_key\":\"phc_key\",\"batch\":[{}]}"
);

#[test]
fn a_batch_goes_out_to_the_byte_and_the_connection_stays() {
    let (told, link) = outcomes(2, || http(&[&[OK, OK]]));
    assert_eq!(told, [Outcome::status(200), Outcome::status(200)]);
    assert_eq!(String::from_utf8(link.written).unwrap(), REQUEST.repeat(2));
    assert_eq!((link.opened, link.is_open), (1, true));
}

#[test]
fn a_server_that_closes_is_connected_to_again() {
    let close = Say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let (told, link) = outcomes(2, || http(&[&[close], &[OK]]));
    assert_eq!(told, [Outcome::status(200), Outcome::status(200)]);
    assert_eq!((link.opened, link.is_open), (2, true));
}

#[test]
fn a_kept_connection_that_died_is_no_attempt() {
    // Closed or reset behind our back, before a byte of an answer: the same request goes out once more.
    for death in [&[OK][..], &[OK, Fail(ErrorKind::ConnectionReset)]] {
        let (told, link) = outcomes(2, || http(&[death, &[OK]]));
        assert_eq!(told, [Outcome::status(200), Outcome::status(200)]);
        assert_eq!(String::from_utf8(link.written).unwrap(), REQUEST.repeat(3));
        assert_eq!(link.opened, 2);
    }
    // With a byte of it, the server has seen the request.
    let (told, link) = outcomes(2, || http(&[&[OK, Say("HTT")], &[OK]]));
    assert_eq!(told, [Outcome::status(200), Outcome::NoAnswer]);
    assert_eq!((link.opened, link.is_open), (1, false));
    // And a new connection gets one try only.
    let (told, link) = outcomes(1, || http(&[&[], &[OK]]));
    assert_eq!((told.as_slice(), link.opened), (&[Outcome::NoAnswer][..], 1));
}

#[test]
fn no_connection_is_unreachable() {
    let (told, link) = outcomes(1, || http(&[]));
    assert_eq!((told.as_slice(), link.written.len()), (&[Outcome::Unreachable][..], 0));
}

#[test]
fn half_an_answer_is_none_but_a_whole_head_is_one() {
    for (steps, expected) in [
        (&[Say("HTTP/1.1 200 OK\r\nContent-Le")][..], Outcome::NoAnswer),
        (&[Say("SSH-2.0-dropbear\r\n")], Outcome::NoAnswer),
        (&[Say("HTTP/1.1 200 OK\r\n"), Fail(ErrorKind::TimedOut)], Outcome::NoAnswer),
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Fail(ErrorKind::ConnectionReset)],
            Outcome::status(200),
        ),
        (&[Fail(ErrorKind::Interrupted), OK], Outcome::status(200)),
        (&[Say("HTTP/1.1 503 x\r\n\r\n")], Outcome::status(503)),
    ] {
        let (told, _) = outcomes(1, || http(&[steps]));
        assert_eq!(told, [expected]);
    }
}

#[test]
fn an_answer_before_all_was_written_counts() {
    let (told, link) = outcomes(1, || {
        let mut http = http(&[&[Say("HTTP/1.1 413 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")]]);
        http.link.breaks_after = Some(100);
        http
    });
    assert_eq!(told, [Outcome::status(413)]);
    assert!(link.written.len() < REQUEST.len());
}

#[test]
fn a_stream_that_says_nothing_costs_the_timeout_and_no_more() {
    let make = || {
        let mut http = http(&[&[]]);
        http.link.hangs = true;
        http
    };
    let (told, link) = outcomes(1, make);
    assert_eq!(told, [Outcome::NoAnswer]);
    assert!(!link.is_open, "what comes late must not be taken for the next answer");
    let mut http = make();
    let began = http.clock.now();
    assert_eq!(http.learn_time(), None);
    assert!(http.clock.now().since(began) < Duration::from_millis(5_100));
}

#[test]
fn the_time_is_learned_from_a_reply_without_a_body_and_said_with_the_next_batch() {
    let date = "HTTP/1.1 405 x\r\nDate: Fri, 13 Nov 2026 12:30:01 GMT\r\nContent-Length: 99\r\n\r\n";
    let mut http = http(&[&[Say(date), OK]]).with_sent_at(true);
    assert_eq!(http.wall_time(), None);
    let learned = http.learn_time().unwrap();
    assert_eq!(Some(learned), Timestamp::from_civil(2026, 11, 13, 12, 30, 1));
    assert!(http.wall_time().unwrap() > learned, "the clock goes on");
    let asked = String::from_utf8(core::mem::take(&mut http.link.written)).unwrap();
    assert!(
        asked.starts_with("HEAD /batch/ HTTP/1.1\r\nHost: example.com\r\n") && asked.ends_with("\r\n\r\n"),
        "{asked}"
    );
    let (told, link) = send(1, http, |http, batch| http.send(batch));
    assert_eq!((told.as_slice(), link.opened), (&[Outcome::status(200)][..], 1));
    let text = String::from_utf8(link.written).unwrap();
    assert!(text.contains(r#"[{}],"sent_at":"2026-11-13T12:30:01."#), "{text}");
}

#[cfg(feature = "embedded-io-async")]
#[test]
fn the_time_is_learned_over_an_asynchronous_stream_too() {
    let date = "HTTP/1.1 200 x\r\nDate: Fri, 13 Nov 2026 12:30:01 GMT\r\nContent-Length: 5\r\n\r\n";
    let mut http = http(&[&[Say(date)]]);
    assert_eq!(awaited::now(http.learn_time_async()), Timestamp::from_civil(2026, 11, 13, 12, 30, 1));
}

#[test]
fn nothing_slips_into_the_head() {
    for bad in ["", "a b", "a\r\nX: y", "ä"] {
        assert_eq!(Http::new((), TickingClock(Cell::new(0)), bad).unwrap_err(), HttpError::BadHost);
        let http = Http::new((), TickingClock(Cell::new(0)), "x:1").unwrap();
        assert_eq!(http.with_path(bad).unwrap_err(), HttpError::BadPath);
    }
    let http = Http::new((), TickingClock(Cell::new(0)), "x:1").unwrap();
    assert!(http.with_path("/ingest/batch/?x=1").is_ok());
}

#[test]
fn a_body_goes_into_any_sink() {
    let (mut producer, consumer) = ring();
    let mut flusher = Flusher::new([consumer], Envelope::new("k", false).unwrap(), Policy::default(), [1, 2]);
    let mut grant = producer.grant(4).unwrap();
    grant.bytes_mut().copy_from_slice(b"{},\n");
    grant.commit(4);
    flusher.flush();
    let Action::Send(batch) = flusher.poll(Instant::ZERO) else { panic!("nothing to send") };
    let mut room = [0; 64];
    let mut sink = room.as_mut_slice();
    batch.body(None).write_to(&mut sink).unwrap();
    let left = sink.len();
    assert_eq!(&room[..64 - left], br#"{"api_key":"k","batch":[{}]}"#);
    assert!(batch.body(None).write_to(&mut [0; 8].as_mut_slice()).is_err());
}
