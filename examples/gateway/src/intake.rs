//! What the gateway does with a line, wherever it came from.
//!
//! In: a line and the device that sent it. Out: a captured event and an acknowledgement, or a refusal that says whether to
//! send the line again. An acknowledgement is given after the commit: from then on the event is the gateway's to keep, in a
//! spool file that outlives the process if there is a spool directory.
//!
//! Concurrency: shared by the thread of the sockets and one for each stream. Frames with a uuid are captured under a lock,
//! so that of one that comes twice at the same time, the second is known; a capture takes no time to speak of.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quillet::{CaptureError, Client, Event, Property, Uuid};

use crate::frame::{self, Fault, Frame};

/// How long a device should wait before it sends a line again that found no room.
const LATER: Duration = Duration::from_secs(1);

/// What a device is answered, as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `ok UUID`: the event is the gateway's now.
    Accepted(Uuid),
    /// `no REASON`: it never will be; sending it again does not help.
    Refused(&'static str),
    /// `later MS REASON`: not now; send it again, with the same uuid, after so many milliseconds.
    Later(Duration, &'static str),
}

impl Reply {
    /// To a device for which there is no place.
    pub const NO_PLACE: Self = Self::Later(Duration::from_secs(10), "too_many_devices");
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(uuid) => writeln!(f, "ok {uuid}"),
            Self::Refused(reason) => writeln!(f, "no {reason}"),
            Self::Later(wait, reason) => writeln!(f, "later {} {reason}", wait.as_millis()),
        }
    }
}

/// What each device may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lines a second, on average.
    pub rate: f64,
    /// Lines at once, after a silence.
    pub burst: f64,
    /// Bytes of one line.
    pub line_bytes: usize,
}

/// One device, by the name it gave itself or the address it speaks from.
#[derive(Debug)]
pub struct Device {
    pub name: String,
    tokens: f64,
    since: Instant,
}

impl Device {
    pub fn new(name: String, limits: &Limits, now: Instant) -> Self {
        Self { name, tokens: limits.burst, since: now }
    }

    /// Takes one line's worth, or says how long until there is one.
    pub fn admit(&mut self, limits: &Limits, now: Instant) -> Result<(), Duration> {
        let gained = now.saturating_duration_since(self.since).as_secs_f64() * limits.rate;
        self.tokens = (self.tokens + gained).min(limits.burst);
        self.since = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / limits.rate))
    }

    /// When it was last heard of.
    pub fn last_heard(&self) -> Instant {
        self.since
    }
}

/// Lines so far, by what became of them.
#[derive(Debug, Default)]
pub struct Tally {
    pub accepted: AtomicU64,
    pub repeated: AtomicU64,
    pub malformed: AtomicU64,
    pub refused: AtomicU64,
    pub later: AtomicU64,
}

impl Tally {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where all lines go.
pub struct Intake {
    client: Client,
    pub limits: Limits,
    pub tally: Tally,
    recent: Mutex<Recent>,
    is_closed: AtomicBool,
}

impl Intake {
    /// `remembered` frames with a uuid are known again when a device repeats itself.
    pub fn new(client: Client, limits: Limits, remembered: usize) -> Self {
        let (tally, recent) = (Tally::default(), Mutex::new(Recent::new(remembered)));
        Self { client, limits, tally, recent, is_closed: AtomicBool::new(false) }
    }

    /// From now on, devices are told to come later: nothing could be promised to them any more.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// One line of a device whose rate allows it.
    pub fn take(&self, device: &str, line: &[u8]) -> Reply {
        let frame = match frame::parse(line) {
            Ok(frame) => frame,
            Err(fault) => return self.malformed(fault),
        };
        if self.is_closed() {
            return self.later("closed");
        }
        let Some(uuid) = frame.uuid else { return self.capture(device, &frame) };
        // A device that lost the acknowledgement says it again. Without this, a frame that took its time from its arrival
        // would be two events to PostHog, which compares times as well as uuids.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = recent.identity(uuid, device, &frame);
        if recent.contains(identity) {
            Tally::count(&self.tally.repeated);
            return Reply::Accepted(uuid);
        }
        let reply = self.capture(device, &frame);
        if matches!(reply, Reply::Accepted(_)) {
            recent.insert(identity);
        }
        reply
    }

    fn capture(&self, device: &str, frame: &Frame<'_>) -> Reply {
        let mut properties: Vec<Property<'_>> = Vec::with_capacity(frame.properties.len() + 1);
        properties.push(Property::new("device", device));
        // What the gateway says is not the device's to say.
        let own = frame.properties.iter().filter(|(key, _)| key != "device" && key != "gateway");
        properties.extend(own.map(|(key, content)| Property::new(key, content.value())));
        let mut event =
            Event::new(&frame.event, frame.distinct_id.as_deref().unwrap_or(device)).properties(&properties);
        if let Some(timestamp) = frame.timestamp {
            event = event.timestamp(timestamp);
        }
        if let Some(uuid) = frame.uuid {
            event = event.uuid(uuid);
        }
        match self.client.capture(event).ok() {
            Ok(uuid) => {
                Tally::count(&self.tally.accepted);
                Reply::Accepted(uuid)
            }
            Err(reason @ (CaptureError::Full | CaptureError::Busy | CaptureError::Closed)) => {
                self.later(reason.as_str())
            }
            Err(reason) => {
                Tally::count(&self.tally.refused);
                Reply::Refused(reason.as_str())
            }
        }
    }

    /// A line that was longer than [`Limits::line_bytes`], of which nothing was kept.
    pub fn too_long(&self) -> Reply {
        Tally::count(&self.tally.malformed);
        Reply::Refused("too_long")
    }

    /// A line whose end did not come before its connection's.
    pub fn cut_off(&self) -> Reply {
        Tally::count(&self.tally.malformed);
        Reply::Refused("cut_off")
    }

    /// A line of a device that says too much.
    pub fn too_fast(&self, wait: Duration) -> Reply {
        Tally::count(&self.tally.later);
        Reply::Later(wait, "too_fast")
    }

    fn malformed(&self, fault: Fault) -> Reply {
        Tally::count(&self.tally.malformed);
        Reply::Refused(fault.as_str())
    }

    fn later(&self, reason: &'static str) -> Reply {
        Tally::count(&self.tally.later);
        Reply::Later(LATER, reason)
    }
}

/// The last so many frames with a uuid.
///
/// Devices with the same bad randomness may give the same uuid to different events. So it is not the uuid alone that is
/// known again, but what PostHog compares: the event, the person, and the time if it is the device's.
struct Recent {
    known: HashSet<Identity>,
    order: VecDeque<Identity>,
    max: usize,
    hasher: RandomState,
}

/// A uuid, and a hash of the rest.
type Identity = (Uuid, u64);

impl Recent {
    fn new(max: usize) -> Self {
        let (known, order) = (HashSet::with_capacity(max), VecDeque::with_capacity(max));
        Self { known, order, max, hasher: RandomState::new() }
    }

    fn identity(&self, uuid: Uuid, device: &str, frame: &Frame<'_>) -> Identity {
        let distinct_id = frame.distinct_id.as_deref().unwrap_or(device);
        let time = frame.timestamp.map(|time| time.as_unix_micros());
        (uuid, self.hasher.hash_one((&*frame.event, distinct_id, time)))
    }

    fn contains(&self, identity: Identity) -> bool {
        self.known.contains(&identity)
    }

    fn insert(&mut self, identity: Identity) {
        if self.max == 0 || !self.known.insert(identity) {
            return;
        }
        if self.order.len() == self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(identity);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use quillet::transport::memory::MemoryTransport;

    const LIMITS: Limits = Limits { rate: 10.0, burst: 3.0, line_bytes: 4096 };

    fn intake(memory: &MemoryTransport, queue: usize) -> Intake {
        let builder = Client::builder("phc_gateway").host("http://127.0.0.1:9").transport(memory.clone());
        Intake::new(builder.max_queue_size(queue).without_thread().build().unwrap(), LIMITS, 2)
    }

    #[test]
    fn a_babbling_device_is_held_to_its_rate() {
        let start = Instant::now();
        let mut device = Device::new("a".to_owned(), &LIMITS, start);
        for _ in 0..3 {
            assert_eq!(device.admit(&LIMITS, start), Ok(()));
        }
        assert_eq!(device.admit(&LIMITS, start), Err(Duration::from_millis(100)));
        assert_eq!(device.admit(&LIMITS, start + Duration::from_millis(110)), Ok(()));
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| device.admit(&LIMITS, later).is_ok()) && device.admit(&LIMITS, later).is_err());
    }

    #[test]
    fn a_repeated_line_is_acknowledged_and_captured_once() {
        let memory = MemoryTransport::new();
        let intake = intake(&memory, 100);
        let line = |n: u8| format!("x - #0198c0de-0000-7000-8000-00000000000{n}");
        for n in [1, 1, 2, 3, 3, 1] {
            assert!(matches!(intake.take("a", line(n).as_bytes()), Reply::Accepted(_)));
        }
        intake.client().flush(Duration::from_secs(5)).unwrap();
        // Two are remembered: the first had been forgotten when it came again.
        assert_eq!(memory.events().len(), 4);
        assert_eq!(intake.tally.repeated.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn one_uuid_for_two_events_is_two_events() {
        let memory = MemoryTransport::new();
        let intake = intake(&memory, 100);
        let id = "0198c0de-0000-7000-8000-000000000001";
        for rest in ["x a", "x b", "y a", "x a", "x a"] {
            let (event, person) = rest.split_once(' ').unwrap();
            let line = format!("{event} {person} #{id}");
            assert!(matches!(intake.take("d", line.as_bytes()), Reply::Accepted(_)), "{line}");
        }
        intake.client().flush(Duration::from_secs(5)).unwrap();
        // Two are remembered, and `x a` was not the last of these when it came again.
        assert_eq!((memory.events().len(), intake.tally.repeated.load(Ordering::Relaxed)), (4, 1));
    }

    #[test]
    fn a_device_cannot_speak_for_the_gateway_or_another_device() {
        let memory = MemoryTransport::new();
        let intake = intake(&memory, 100);
        let line = br#"{"event":"x","properties":{"device":"b","gateway":"elsewhere","n":1}}"#;
        assert!(matches!(intake.take("a", line), Reply::Accepted(_)));
        intake.client().flush(Duration::from_secs(5)).unwrap();
        let event = &memory.events()[0];
        assert!(event.contains(r#""device":"a""#) && !event.contains("elsewhere") && event.contains(r#""n":1"#));
    }

    #[test]
    fn a_closed_intake_promises_nothing() {
        let intake = intake(&MemoryTransport::new(), 100);
        intake.close();
        assert_eq!(intake.take("a", b"x").to_string(), "later 1000 closed\n");
        assert_eq!(intake.client().stats().accepted, 0);
    }

    #[test]
    fn answers_tell_whether_to_try_again() {
        let intake = intake(&MemoryTransport::new(), 1);
        assert_eq!(intake.take("a", b"{").to_string(), "no not_json\n");
        assert_eq!(intake.take("a", &[b'x'; 300]).to_string(), "no event_name_too_long\n");
        let Reply::Accepted(uuid) = intake.take("a", b"x") else { panic!("refused") };
        assert_eq!(Reply::Accepted(uuid).to_string(), format!("ok {uuid}\n"));
        assert_eq!(intake.take("a", b"x").to_string(), "later 1000 full\n");
    }
}
