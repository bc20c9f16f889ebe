//! A sink that only counts: for benches and for loads that would drown a judge.
//!
//! Bytes in, counters out. A connection's thread owns one buffer for its whole life; a request costs no allocation, one
//! look at its head, one pass over its body and one small write.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes read at once. Half of a typical second-level cache: larger buffers cost more in misses than they save in calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// Connections served at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 256;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"status\":1}";

/// How events are counted in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Raw newlines and one more: quillet's frames are separated by `,\n`.
    Lines,
    /// Occurrences of these bytes, for bodies of other clients: `"distinct_id":`, say. About a tenth of the speed.
    Pattern(&'static [u8]),
    /// Not at all.
    Nothing,
}

/// What a [`FastSink`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Events in their bodies.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Answers 200 to everything that has a `Content-Length`, and counts. Dropping it ends its threads.
#[derive(Debug)]
pub struct FastSink {
    shared: Arc<Shared>,
    addr: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl FastSink {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn start(count: Count) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(count));
        let accepting = Arc::clone(&shared);
        let acceptor =
            std::thread::Builder::new().name("fast-accept".to_owned()).spawn(move || accept(&accepting, &listener))?;
        Ok(Self { shared, addr, acceptor: Some(acceptor) })
    }

    /// What a client is given as its host.
    pub fn host(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was counted so far. The three numbers are read one after the other.
    pub fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Waits until so many events were answered; `false` if `timeout` passed first.
    pub fn wait_for_events(&self, count: u64, timeout: Duration) -> bool {
        self.shared.wait_for(|totals| totals.events >= count, timeout)
    }

    /// Waits until so many requests were answered; `false` if `timeout` passed first.
    pub fn wait_for_requests(&self, count: u64, timeout: Duration) -> bool {
        self.shared.wait_for(|totals| totals.requests >= count, timeout)
    }
}

impl Drop for FastSink {
    fn drop(&mut self) {
        {
            let connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.stopping.store(true, Ordering::SeqCst);
            for (_, stream) in connections.iter() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    count: Count,
    requests: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    /// Threads in [`Shared::wait_for`]: as long as there are none, a request takes no lock.
    waiting: AtomicUsize,
    changed: Condvar,
    turn: Mutex<()>,
    stopping: AtomicBool,
    connections: Mutex<Vec<(u64, Arc<TcpStream>)>>,
}

impl Shared {
    fn new(count: Count) -> Self {
        Self {
            count,
            requests: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            changed: Condvar::new(),
            turn: Mutex::new(()),
            stopping: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::SeqCst),
            events: self.events.load(Ordering::SeqCst),
            bytes: self.bytes.load(Ordering::SeqCst),
        }
    }

    fn wait_for(&self, condition: impl Fn(Totals) -> bool, timeout: Duration) -> bool {
        // Before the first look: whoever counts after that look then sees that somebody waits. SeqCst on both sides.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (turn, waited) = self
            .changed
            .wait_timeout_while(turn, timeout, |()| !condition(self.totals()))
            .unwrap_or_else(PoisonError::into_inner);
        drop(turn);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        !waited.timed_out()
    }

    fn add(&self, events: u64, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.events.fetch_add(events, Ordering::SeqCst);
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // With the lock, or the news could fall between another thread's look and its wait.
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.changed.notify_all();
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0_u64;
    while let Ok((stream, _)) = listener.accept() {
        threads.retain(|thread| !thread.is_finished());
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        if threads.len() >= CONNECTIONS_MAX {
            continue;
        }
        let stream = Arc::new(stream);
        connections.push((number, Arc::clone(&stream)));
        drop(connections);
        let serving = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("fast-sink".to_owned()).spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            // The answer is one small segment and the client waits for it.
            let _ = stream.set_nodelay(true);
            let _ = serve(&serving, &mut &*stream, &mut buffer);
            let mut connections = serving.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.retain(|(other, _)| *other != number);
        });
        threads.extend(thread);
        number = number.wrapping_add(1);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Reads and answers until the client closes, or sends what this sink cannot count. Allocates nothing.
fn serve(shared: &Shared, stream: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0_usize;
    loop {
        let (body_at, length) = loop {
            if let Some(head) = parse_head(buffer.get(..filled).unwrap_or_default()) {
                break head;
            }
            let room = buffer.get_mut(filled..).unwrap_or_default();
            // No room means a head larger than the buffer, and reads as a close.
            match stream.read(room)? {
                0 => return Ok(()),
                read => filled += read,
            }
        };
        let mut counter = Counter { count: shared.count, found: 0, matched: 0 };
        let here = length.min(filled - body_at);
        counter.feed(buffer.get(body_at..body_at + here).unwrap_or_default());
        let mut left = length - here;
        // What lies behind this body is the beginning of the next request.
        buffer.copy_within(body_at + here..filled, 0);
        filled -= body_at + here;
        while left > 0 {
            // Everything in the buffer was this body's, so all of it is free.
            let room = left.min(buffer.len());
            let room = buffer.get_mut(..room).unwrap_or_default();
            let read = stream.read(room)?;
            if read == 0 {
                return Ok(());
            }
            counter.feed(room.get(..read).unwrap_or_default());
            left -= read;
        }
        let events = match shared.count {
            Count::Lines if length > 0 => counter.found + 1,
            _ => counter.found,
        };
        shared.add(events, length as u64);
        stream.write_all(ANSWER)?;
    }
}

/// Where the body begins and how long it is, once the head is complete. Without a `Content-Length`: no body.
fn parse_head(bytes: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length:";
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut length = 0_usize;
    for line in bytes.get(..end)?.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_at_checked(NAME.len()) else { continue };
        if name.eq_ignore_ascii_case(NAME) {
            let digits = value.iter().filter(|byte| byte.is_ascii_digit());
            length =
                digits.fold(0, |sum: usize, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        }
    }
    Some((end + 4, length))
}

/// Counts over a body that comes in pieces.
struct Counter {
    count: Count,
    found: u64,
    /// Bytes of the pattern that the last piece ended with.
    matched: usize,
}

impl Counter {
    fn feed(&mut self, bytes: &[u8]) {
        match self.count {
            Count::Lines => self.found += count_newlines(bytes),
            Count::Pattern(pattern) => self.feed_pattern(bytes, pattern),
            Count::Nothing => {}
        }
    }

    fn feed_pattern(&mut self, bytes: &[u8], pattern: &[u8]) {
        for byte in bytes {
            while self.matched > 0 && pattern.get(self.matched) != Some(byte) {
                self.matched = border(pattern.get(..self.matched).unwrap_or_default());
            }
            self.matched += usize::from(pattern.get(self.matched) == Some(byte));
            if self.matched == pattern.len() && self.matched > 0 {
                self.found += 1;
                self.matched = 0;
            }
        }
    }
}

/// Length of the longest proper ending of `bytes` that is also their beginning.
fn border(bytes: &[u8]) -> usize {
    (0..bytes.len()).rev().find(|length| bytes.get(..*length).is_some_and(|start| bytes.ends_with(start))).unwrap_or(0)
}

/// In blocks of at most 255 bytes the sum fits one byte a lane, which the compiler turns into vector code.
fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.chunks(192).map(|block| u64::from(block.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::alloc::allocations_in;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn post(stream: &mut TcpStream, body: &[u8]) {
        write!(stream, "POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(body).unwrap();
    }

    fn answer(stream: &mut TcpStream) {
        let mut bytes = vec![0; ANSWER.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, ANSWER);
    }

    #[test]
    fn lines_are_counted_over_any_size_of_body() {
        let sink = FastSink::start(Count::Lines).unwrap();
        let mut stream = TcpStream::connect(sink.addr()).unwrap();
        let mut events = 0;
        let mut bytes = 0;
        for lines in [1, 2, 191, 5000, 300_000] {
            let body = "{\"uuid\":1},\n".repeat(lines);
            let body = body.trim_end_matches(",\n").as_bytes();
            post(&mut stream, body);
            answer(&mut stream);
            events += lines as u64;
            bytes += body.len() as u64;
        }
        assert_eq!(sink.totals(), Totals { requests: 5, events, bytes });
    }

    /// A client's side of a connection, in memory.
    struct Canned {
        requests: io::Cursor<Vec<u8>>,
        answered: usize,
    }

    impl Read for Canned {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.requests.read(room)
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.answered += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_costs_no_allocation() {
        let request = "POST / HTTP/1.1\r\ncontent-length: 1003\r\n\r\n".to_owned() + &"x".repeat(1000) + ",\ny";
        let shared = Shared::new(Count::Lines);
        let mut buffer = vec![0; 300];
        let mut stream = Canned { requests: io::Cursor::new(request.repeat(50).into_bytes()), answered: 0 };
        let (counts, served) = allocations_in(|| serve(&shared, &mut stream, &mut buffer));
        served.unwrap();
        assert_eq!((counts.allocations, stream.answered), (0, 50 * ANSWER.len()));
        assert_eq!(shared.totals(), Totals { requests: 50, events: 100, bytes: 50 * 1003 });
    }

    #[test]
    fn pipelined_requests_are_told_apart() {
        let sink = FastSink::start(Count::Lines).unwrap();
        let mut stream = TcpStream::connect(sink.addr()).unwrap();
        for _ in 0..100 {
            post(&mut stream, b"a,\nb");
        }
        assert!(sink.wait_for_requests(100, TIMEOUT));
        assert!(sink.wait_for_events(200, TIMEOUT));
        assert_eq!(sink.totals().events, 200);
        assert!(!sink.wait_for_events(201, Duration::from_millis(1)));
    }

    #[test]
    fn patterns_are_counted_across_pieces() {
        let mut counter = Counter { count: Count::Pattern(b"\"event\":"), found: 0, matched: 0 };
        for piece in ["{\"eve", "nt\":1,\"\"event\"", ":2,\"event\" :3,\"events\":4", "\"event\"event\":"] {
            counter.feed(piece.as_bytes());
        }
        assert_eq!(counter.found, 3);
        assert_eq!([border(b"\"event\""), border(b"aab"), border(b"aaa"), border(b"")], [1, 0, 2, 0]);
    }

    #[test]
    fn newlines_are_counted_in_blocks() {
        for length in [0, 1, 191, 192, 193, 384, 1000] {
            assert_eq!(count_newlines(&vec![b'\n'; length]), length as u64);
            assert_eq!(count_newlines(&vec![b'x'; length]), 0);
        }
    }

    #[test]
    fn dropping_it_ends_open_connections() {
        let sink = FastSink::start(Count::Nothing).unwrap();
        let mut stream = TcpStream::connect(sink.addr()).unwrap();
        post(&mut stream, b"x");
        answer(&mut stream);
        drop(sink);
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0);
    }
}
