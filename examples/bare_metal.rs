//! What firmware does with the core alone: a ring in a `static`, capturing in one place, delivering in another.
//!
//! ```text
//! cargo run --release --example bare_metal
//! ```
//!
//! The module `firmware` is what a device would copy: it uses `quillet_core`, `heapless` and `core`, and neither an
//! allocator nor a clock nor a socket. What a board brings, it is given as a [`Board`](firmware::Board). Below it stands
//! a board made of software, on which two minutes pass in no time, the first 40 seconds of them without a network.

use std::cell::Cell;
use std::error::Error;
use std::mem::size_of;
use std::time::Duration;

use firmware::{Board, Delivery, Sensors};
use quillet_core::{Clock, Envelope, Event, Instant, Outcome, Property, StaticRing, Timestamp};

mod firmware {
    //! The device's program, as far as it concerns events.

    use core::fmt::Write as _;
    use core::time::Duration;

    use heapless::String;
    use quillet_core::{
        Action, Batch, CaptureError, Clock, Common, Consumer, Counters, Envelope, Flusher, Instant, Lane, Outcome,
        Overflow, Policy, Producer, Stamper, Timestamp, Transport, Uuid, event, props,
    };

    /// Bytes of the ring: room for some sixteen events of this device.
    pub const RING_BYTES: usize = 4096;
    /// Bytes for what every event says.
    pub const COMMON_BYTES: usize = 160;
    /// Longest event, in bytes of JSON. At most a quarter of the ring.
    const EVENT_BYTES_MAX: usize = 512;
    /// Events that may wait; the bytes are the tighter limit.
    const EVENTS_MAX: usize = 32;

    /// What only the board can do.
    pub trait Board: Clock {
        /// Wall time, as good as it is known: requests say when they were sent, so the server corrects a wrong one.
        fn wall_time(&self) -> Timestamp;
        /// Opens a connection; `false` if there is none to be had.
        fn connect(&mut self) -> bool;
        /// Sends bytes.
        fn write(&mut self, bytes: &[u8]);
        /// Reads the answer's status line.
        fn answer(&mut self) -> Outcome;
    }

    /// The capturing half: for a task, or for the one interrupt handler that owns it.
    pub struct Sensors<'m> {
        lane: Lane<'m>,
        common: Common<'m>,
        device: &'static str,
    }

    impl<'m> Sensors<'m> {
        /// `seed` makes the uuids: a true random number, or the chip's serial number beside a boot counter. `None` if
        /// [`COMMON_BYTES`] are too few.
        pub fn new(
            producer: Producer<'m>,
            common: &'m mut [u8; COMMON_BYTES],
            device: &'static str,
            seed: [u64; 2],
        ) -> Option<Self> {
            let everywhere = props! { "firmware": "2.4.0", "board": "rev-c" };
            let common = Common::render(common, everywhere).ok()?;
            let lane = Lane::new(producer, Stamper::new(seed), EVENTS_MAX, EVENT_BYTES_MAX);
            Some(Self { lane, common, device })
        }

        /// A reading. In the ring when this returns, or refused with a reason; it never waits.
        pub fn temperature(&mut self, celsius: f32, now: Timestamp) -> Result<Uuid, CaptureError> {
            let reading = props! { "celsius": celsius };
            self.lane.capture(&event!("temperature", self.device).properties(reading), &self.common, now)
        }
    }

    /// The delivering half: for the main loop.
    pub struct Delivery<'m> {
        flusher: Flusher<'m, 1>,
    }

    impl<'m> Delivery<'m> {
        pub fn new(consumer: Consumer<'m>, envelope: Envelope, seed: [u64; 2]) -> Self {
            let policy = Policy {
                flush_at: 4,
                flush_interval: Duration::from_secs(60),
                max_batch_bytes: 2048,
                queue_events_max: EVENTS_MAX,
                // The newest readings are worth more than the oldest.
                overflow: Overflow::DropOldest,
                ..Policy::default()
            };
            Self { flusher: Flusher::new([consumer], envelope, policy, seed) }
        }

        /// Sends what is due and says when to come back. Between two calls the device may sleep.
        pub fn run(&mut self, board: &mut impl Board) -> Instant {
            loop {
                match self.flusher.poll(board.now()) {
                    Action::Send(batch) => {
                        let outcome = Modem(&mut *board).send(&batch);
                        self.flusher.handle_outcome(board.now(), outcome);
                    }
                    Action::Wait(until) => return until,
                    Action::Done => return Instant::NEVER,
                }
            }
        }

        pub fn counters(&self) -> &Counters {
            self.flusher.counters()
        }

        pub fn pending(&self) -> usize {
            self.flusher.pending()
        }
    }

    /// HTTP over whatever the board has. The body goes out of the ring in pieces; its length is known beforehand.
    struct Modem<'b, B>(&'b mut B);

    impl<B: Board> Transport for Modem<'_, B> {
        fn send(&mut self, batch: &Batch<'_>) -> Outcome {
            if !self.0.connect() {
                return Outcome::Unreachable;
            }
            let body = batch.body(Some(self.0.wall_time()));
            let mut head = String::<160>::new();
            let written = write!(
                head,
                "POST /batch/ HTTP/1.1\r\nHost: us.i.posthog.com\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            if written.is_err() {
                return Outcome::OutOfMemory;
            }
            self.0.write(head.as_bytes());
            for chunk in body.chunks() {
                self.0.write(chunk);
            }
            self.0.answer()
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // On a board: `static RING: StaticCell<StaticRing<RING_BYTES>>`, or a `static mut` inside of the entry function.
    let ring: &'static mut StaticRing<{ firmware::RING_BYTES }> = Box::leak(Box::new(StaticRing::new()));
    let common: &'static mut [u8; firmware::COMMON_BYTES] = Box::leak(Box::new([0; firmware::COMMON_BYTES]));
    let (producer, consumer) = ring.split();
    let mut sensors = Sensors::new(producer, common, "greenhouse-3", [0x5eed, 1]).ok_or("COMMON_BYTES are too few")?;
    let mut delivery = Delivery::new(consumer, Envelope::new("phc_device", false)?, [0x5eed, 2]);
    let mut board = SimulatedBoard { micros: Cell::new(0), network_from: Duration::from_secs(40), requests: 0 };

    let (mut captured, mut refused) = (0, 0);
    let mut next = Instant::ZERO;
    for second in 0..=120 {
        board.micros.set(second * 1_000_000);
        if second % 10 == 0 {
            match sensors.temperature(21.5 + second as f32 / 40.0, board.wall_time()) {
                Ok(_) => captured += 1,
                Err(_) => refused += 1,
            }
            next = board.now(); // there may be something to do earlier than was said
        }
        if next <= board.now() {
            next = delivery.run(&mut board);
        }
    }
    // One minute more, so that the last readings need not wait for company any longer.
    board.micros.set(180 * 1_000_000);
    delivery.run(&mut board);

    let counters = delivery.counters();
    println!("\ncaptured {captured}, refused {refused}; {counters:?}; pending {}", delivery.pending());
    println!("\nbytes, on this machine of {} bits:", usize::BITS);
    for (bytes, what) in [
        (size_of::<StaticRing<{ firmware::RING_BYTES }>>(), "the ring and its header, static"),
        (firmware::COMMON_BYTES, "what every event says, static"),
        (size_of::<Sensors<'_>>(), "the capturing half: producer, uuids, timestamps"),
        (size_of::<Delivery<'_>>(), "the delivering half: consumer, batches, back-off, counters and the envelope"),
        (size_of::<Envelope>(), "  of which the envelope"),
        (size_of::<Event<'_>>(), "an event while it is captured, on the stack"),
        (size_of::<Property<'_>>(), "each of its properties, on the stack"),
    ] {
        println!("{bytes:>6}  {what}");
    }
    if counters.delivered == captured && refused == 0 { Ok(()) } else { Err("a reading is missing".into()) }
}

/// A board in software: its time is set, its network comes late, and its server says yes.
struct SimulatedBoard {
    micros: Cell<u64>,
    network_from: Duration,
    requests: usize,
}

impl SimulatedBoard {
    fn seconds(&self) -> u64 {
        self.micros.get() / 1_000_000
    }
}

impl Clock for SimulatedBoard {
    fn now(&self) -> Instant {
        Instant::from_micros(self.micros.get())
    }
}

impl Board for SimulatedBoard {
    fn wall_time(&self) -> Timestamp {
        Timestamp::from_unix_micros(1_795_424_400_000_000 + self.micros.get())
    }

    fn connect(&mut self) -> bool {
        let is_up = self.now().since(Instant::ZERO) >= self.network_from;
        println!("{:>4} s  {}", self.seconds(), if is_up { "connected" } else { "no network" });
        is_up
    }

    fn write(&mut self, bytes: &[u8]) {
        // The first request as it goes out; of later ones only the length.
        match self.requests {
            0 => print!("{}", String::from_utf8_lossy(bytes)),
            _ => print!("[{} bytes]", bytes.len()),
        }
    }

    fn answer(&mut self) -> Outcome {
        self.requests += 1;
        println!("\n{:>4} s  HTTP 200", self.seconds());
        Outcome::status(200)
    }
}
